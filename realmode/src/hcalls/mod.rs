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
/// It leaves `gpr[3]` alone: the call's number, which chooses its counter.
type Handler = extern "C" fn(&mut Vcpu, u64, u64, u64, u64, u64, u64, u64) -> i64;

/// A function of the vCPU and of so many arguments, as a [`Handler`].
macro_rules! handler {
    (@ $function:path, $($used:ident)*; $($unused:tt)*) => {{
        extern "C" fn handler(vcpu: &mut Vcpu, $($used: u64,)* $($unused: u64),*) -> i64 {
            $function(vcpu $(, $used)*)
        }
        handler as Handler
    }};
    ($function:path) => { handler!(@ $function, ; _ _ _ _ _ _ _) };
    ($function:path, 1) => { handler!(@ $function, a; _ _ _ _ _ _) };
    ($function:path, 2) => { handler!(@ $function, a b; _ _ _ _ _) };
    ($function:path, 3) => { handler!(@ $function, a b c; _ _ _ _) };
    ($function:path, 4) => { handler!(@ $function, a b c d; _ _ _) };
}

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
    let mut table = [handler!(unknown); ENTRIES];
    let handlers: &[(Hcall, Handler)] = &[
        (Hcall::ENTER, handler!(pages::enter, 4)),
        (Hcall::REMOVE, handler!(pages::remove, 3)),
        (Hcall::READ, handler!(pages::read, 2)),
        (Hcall::PROTECT, handler!(pages::protect, 3)),
        (Hcall::BULK_REMOVE, handler!(pages::bulk_remove)),
        (Hcall::CLEAR_MOD, handler!(pages::clear_mod, 2)),
        (Hcall::CLEAR_REF, handler!(pages::clear_ref, 2)),
        (Hcall::PAGE_INIT, handler!(pages::page_init, 3)),
        (Hcall::XIRR, handler!(interrupts::xirr)),
        (Hcall::XIRR_X, handler!(interrupts::xirr_x)),
        (Hcall::CPPR, handler!(interrupts::cppr, 1)),
        (Hcall::EOI, handler!(interrupts::eoi, 1)),
        (Hcall::IPI, handler!(interrupts::ipi, 2)),
        (Hcall::IPOLL, handler!(interrupts::ipoll, 1)),
        (Hcall::CEDE, handler!(cpu::cede)),
        (Hcall::CONFER, handler!(cpu::confer, 1)),
        (Hcall::PROD, handler!(cpu::prod, 1)),
        (Hcall::RANDOM, handler!(cpu::random)),
        (Hcall::SET_SPRG0, handler!(cpu::set_sprg0, 1)),
        (Hcall::SET_DABR, handler!(cpu::set_dabr, 1)),
        (Hcall::SET_XDABR, handler!(cpu::set_xdabr, 2)),
        (Hcall::LOGICAL_CI_LOAD, handler!(memory::load, 2)),
        (Hcall::LOGICAL_CI_STORE, handler!(memory::store, 3)),
        (Hcall::LOGICAL_CACHE_LOAD, handler!(memory::load, 2)),
        (Hcall::LOGICAL_CACHE_STORE, handler!(memory::store, 3)),
        (Hcall::LOGICAL_ICBI, handler!(memory::icbi, 1)),
        (Hcall::LOGICAL_DCBF, handler!(memory::dcbf, 1)),
        // Virtual mode's.
        (Hcall::REGISTER_VPA, handler!(too_hard)),
        (Hcall::SET_MODE, handler!(too_hard)),
        (Hcall::GET_TERM_CHAR, handler!(too_hard)),
        (Hcall::PUT_TERM_CHAR, handler!(too_hard)),
        (Hcall::GET_CPU_CHARACTERISTICS, handler!(too_hard)),
        (Hcall::HOME_NODE_ASSOCIATIVITY, handler!(too_hard)),
        (Hcall::REGISTER_PROC_TBL, handler!(too_hard)),
        (Hcall::RESIZE_HPT_PREPARE, handler!(too_hard)),
        (Hcall::RESIZE_HPT_COMMIT, handler!(too_hard)),
        (Hcall::JOIN, handler!(too_hard)),
    ];
    let mut n = 0;
    while n < handlers.len() {
        table[(handlers[n].0.0 / 4) as usize] = handlers[n].1;
        n += 1;
    }
    table
};

fn unknown(_: &mut Vcpu) -> i64 {
    Status::FUNCTION.0
}

fn too_hard(_: &mut Vcpu) -> i64 {
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
