//! Hypercalls that end in real mode: the table by number and what is common to them.
#![allow(unsafe_code)] // the table is linked to by the assembly

mod cpu;
mod interrupts;
mod memory;
mod pages;

use hpt::HptError;
use power::{Hcall, Status};

use crate::deliver::deliver_pending;
use crate::layout::{ExitCode, Vcpu};
use crate::partition::Partition;

/// A handler: the vCPU, then the guest's r4 to r10. Answers the status for r3 or one of the codes below.
type Handler = extern "C" fn(&mut Vcpu, u64, u64, u64, u64, u64, u64, u64) -> i64;

/// Answers below this are not for the guest.
pub const RM_SPECIAL: i64 = -0x7000;
/// Virtual mode does the call.
pub const RM_TOO_HARD: i64 = RM_SPECIAL - 1;
/// r3 has been set; an interrupt may have to be delivered before the guest goes on.
const RM_DELIVER: i64 = RM_SPECIAL - 2;

/// Entries of the table: one for each multiple of 4.
const ENTRIES: usize = (Hcall::MAX / 4 + 1) as usize;

#[unsafe(no_mangle)]
static HCALL_TABLE: [Handler; ENTRIES] = {
    let mut table = [unknown as Handler; ENTRIES];
    let handlers: &[(Hcall, Handler)] = &[
        (Hcall::ENTER, pages::enter),
        (Hcall::REMOVE, pages::remove),
        (Hcall::READ, pages::read),
        (Hcall::PROTECT, pages::protect),
        (Hcall::BULK_REMOVE, pages::bulk_remove),
        (Hcall::CLEAR_MOD, pages::clear_mod),
        (Hcall::CLEAR_REF, pages::clear_ref),
        (Hcall::PAGE_INIT, pages::page_init),
        (Hcall::XIRR, interrupts::xirr),
        (Hcall::XIRR_X, interrupts::xirr_x),
        (Hcall::CPPR, interrupts::cppr),
        (Hcall::EOI, interrupts::eoi),
        (Hcall::IPI, interrupts::ipi),
        (Hcall::IPOLL, interrupts::ipoll),
        (Hcall::CEDE, cpu::cede),
        (Hcall::CONFER, cpu::confer),
        (Hcall::PROD, cpu::prod),
        (Hcall::RANDOM, cpu::random),
        (Hcall::SET_SPRG0, cpu::set_sprg0),
        (Hcall::SET_DABR, cpu::set_dabr),
        (Hcall::SET_XDABR, cpu::set_xdabr),
        (Hcall::LOGICAL_CI_LOAD, memory::ci_load),
        (Hcall::LOGICAL_CI_STORE, memory::ci_store),
        (Hcall::LOGICAL_CACHE_LOAD, memory::ci_load),
        (Hcall::LOGICAL_CACHE_STORE, memory::ci_store),
        (Hcall::LOGICAL_ICBI, memory::icbi),
        (Hcall::LOGICAL_DCBF, memory::dcbf),
        // Virtual mode's.
        (Hcall::REGISTER_VPA, too_hard),
        (Hcall::SET_MODE, too_hard),
        (Hcall::GET_TERM_CHAR, too_hard),
        (Hcall::PUT_TERM_CHAR, too_hard),
        (Hcall::GET_CPU_CHARACTERISTICS, too_hard),
        (Hcall::HOME_NODE_ASSOCIATIVITY, too_hard),
        (Hcall::REGISTER_PROC_TBL, too_hard),
    ];
    let mut n = 0;
    while n < handlers.len() {
        table[(handlers[n].0.0 / 4) as usize] = handlers[n].1;
        n += 1;
    }
    table
};

extern "C" fn unknown(_: &mut Vcpu, _: u64, _: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> i64 {
    Status::FUNCTION.0
}

extern "C" fn too_hard(_: &mut Vcpu, _: u64, _: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> i64 {
    RM_TOO_HARD
}

/// After a handler that answered with a code: 0 to return to the guest, or an [`ExitCode`].
pub(crate) fn special(vcpu: &mut Vcpu) -> u64 {
    if vcpu.gpr[3] == Hcall::CEDE.0 {
        return cpu::cede_now(vcpu);
    }
    if vcpu.gpr[3] == Hcall::CONFER.0 {
        vcpu.gpr[3] = Status::SUCCESS.0 as u64;
        return ExitCode::Yield as u64;
    }
    // Calls that raised or unveiled an interrupt for this very vCPU have succeeded.
    vcpu.gpr[3] = Status::SUCCESS.0 as u64;
    deliver_pending(vcpu);
    0
}

#[inline(always)]
fn partition(vcpu: &Vcpu) -> &'static Partition {
    // SAFETY: a partition outlives its vCPUs and is only changed through atomics.
    unsafe { &*vcpu.partition }
}

#[inline(always)]
fn answer(error: HptError) -> i64 {
    match error {
        HptError::TooHard => RM_TOO_HARD,
        other => Status::from(other).0,
    }
}
