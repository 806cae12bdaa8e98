//! Hypercalls that end in real mode: the table by number and what is common to them.
#![allow(unsafe_code)] // the table is linked to by the assembly

mod console;
mod cpu;
mod interrupts;
mod leaf;
mod memory;
mod pages;

pub use console::UNHURRIED;
use hpt::HptError;
use power::{Hcall, Status};

use crate::deliver::deliver_pending;
use crate::layout::{ExitCode, Vcpu};
use crate::partition::Partition;

/// The address of a handler: a function of the vCPU and of the guest's r4 to r7. It answers the status for r3 or one of the codes below, and leaves
/// `gpr[3]` alone: the call's number, which chooses its counter. Its [`Kind`] is added to the address.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Handler(*const u8);

// SAFETY: the address of a function.
unsafe impl Sync for Handler {}

/// What hcall.S has to save for a handler. The processor ignores the last two bits of an address in a branch.
///
/// The first two cannot be said in Rust. The compiler keeps to them because the functions are small and call nothing, and
/// `cargo xtask check-realmode` finds out if it does not.
#[derive(Clone, Copy)]
enum Kind {
    /// What a function may use.
    General,
    /// r0, r3 to r12 and CR: no stack, no call, neither CTR nor XER.
    Leaf,
    /// The same, and a stack, on which it saves r14 to r31 if it uses them.
    Framed,
}

impl Kind {
    /// As hcall.S knows it.
    const fn mark(self) -> usize {
        match self {
            Kind::General => 0,
            Kind::Leaf => 1,
            // Counting invalidations takes the TOC pointer, which is saved for general ones alone.
            Kind::Framed if cfg!(feature = "count") => 0,
            Kind::Framed => 2,
        }
    }
}

/// A function of the vCPU and of so many arguments, as a [`Handler`].
macro_rules! handler {
    (@ $function:path, $kind:expr, $($used:ident)*; $($unused:tt)*) => {{
        extern "C" fn handler(vcpu: &mut Vcpu, $($used: u64,)* $($unused: u64),*) -> i64 {
            $function(vcpu $(, $used)*)
        }
        Handler((handler as *const u8).wrapping_add($kind.mark()))
    }};
    ($function:path $(, $n:tt)?) => { handler!(General $function $(, $n)?) };
    ($kind:ident $function:path) => { handler!(@ $function, Kind::$kind, ; _ _ _ _) };
    ($kind:ident $function:path, 1) => { handler!(@ $function, Kind::$kind, a; _ _ _) };
    ($kind:ident $function:path, 2) => { handler!(@ $function, Kind::$kind, a b; _ _) };
    ($kind:ident $function:path, 3) => { handler!(@ $function, Kind::$kind, a b c; _) };
    ($kind:ident $function:path, 4) => { handler!(@ $function, Kind::$kind, a b c d; ) };
}

/// Answers below this are not for the guest.
pub const RM_SPECIAL: i64 = -0x7000;
/// Virtual mode does the call.
pub const RM_TOO_HARD: i64 = RM_SPECIAL - 1;
/// The call has succeeded, and raised an interrupt for this very vCPU: it may have to be delivered before the guest goes on.
const RM_DELIVER: i64 = RM_SPECIAL - 2;
/// The handler is the call's short way, and that does not do: [`in_full`].
const RM_IN_FULL: i64 = RM_SPECIAL - 3;
/// H_CEDE.
const RM_CEDE: i64 = RM_SPECIAL - 4;
/// H_CONFER, to somebody.
const RM_CONFER: i64 = RM_SPECIAL - 5;

/// Entries of the table: one for each multiple of 4.
const ENTRIES: usize = (Hcall::MAX / 4 + 1) as usize;

/// In the first 32 KiB of memory, where one instruction reaches it.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".vectors.table")]
static HCALL_TABLE: [Handler; ENTRIES] = {
    let mut table = [handler!(Leaf leaf::unknown); ENTRIES];
    let handlers: &[(Hcall, Handler)] = &[
        (Hcall::ENTER, handler!(Framed pages::enter_plainly, 4)),
        (Hcall::REMOVE, handler!(Framed pages::remove_plainly, 3)),
        (Hcall::READ, handler!(Leaf leaf::read, 2)),
        (Hcall::PROTECT, handler!(Framed pages::protect_plainly, 3)),
        (Hcall::BULK_REMOVE, handler!(pages::bulk_remove)),
        (Hcall::CLEAR_MOD, handler!(pages::clear_mod, 2)),
        (Hcall::CLEAR_REF, handler!(pages::clear_ref, 2)),
        (Hcall::PAGE_INIT, handler!(pages::page_init, 3)),
        (Hcall::XIRR, handler!(Leaf leaf::xirr)),
        (Hcall::XIRR_X, handler!(interrupts::xirr_x)),
        (Hcall::CPPR, handler!(Leaf leaf::cppr, 1)),
        (Hcall::EOI, handler!(Leaf leaf::eoi, 1)),
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
        (Hcall::GET_TERM_CHAR, handler!(console::get_term_char, 1)),
        (Hcall::PUT_TERM_CHAR, handler!(console::put_term_char, 4)),
        // Virtual mode's.
        (Hcall::REGISTER_VPA, handler!(too_hard)),
        (Hcall::SET_MODE, handler!(too_hard)),
        (Hcall::GET_CPU_CHARACTERISTICS, handler!(too_hard)),
        (Hcall::HOME_NODE_ASSOCIATIVITY, handler!(too_hard)),
        (Hcall::REGISTER_PROC_TBL, handler!(too_hard)),
        (Hcall::RESIZE_HPT_PREPARE, handler!(too_hard)),
        (Hcall::RESIZE_HPT_COMMIT, handler!(too_hard)),
        (Hcall::JOIN, handler!(too_hard)),
        (Hcall::GET_TCE, handler!(too_hard)),
        (Hcall::PUT_TCE, handler!(too_hard)),
        (Hcall::PUT_TCE_INDIRECT, handler!(too_hard)),
        (Hcall::STUFF_TCE, handler!(too_hard)),
    ];
    let mut n = 0;
    while n < handlers.len() {
        table[(handlers[n].0.0 / 4) as usize] = handlers[n].1;
        n += 1;
    }
    table
};

fn too_hard(_: &mut Vcpu) -> i64 {
    RM_TOO_HARD
}

/// After a handler that answered with a code: 0 to return to the guest, or an [`ExitCode`]. `gpr[3]` is the call's number until there is a status.
pub(crate) fn special(vcpu: &mut Vcpu, code: i64) -> u64 {
    let code = if code == RM_IN_FULL { in_full(vcpu) } else { code };
    match code {
        RM_TOO_HARD => return ExitCode::Hcall as u64,
        RM_CEDE => return cpu::cede_now(vcpu),
        RM_CONFER => {
            vcpu.gpr[3] = Status::SUCCESS.0 as u64;
            return ExitCode::Yield as u64;
        }
        RM_DELIVER => {
            vcpu.gpr[3] = Status::SUCCESS.0 as u64;
            deliver_pending(vcpu);
        }
        status => vcpu.gpr[3] = status as u64,
    }
    0
}

/// Makes the whole of a call whose short way does not do.
fn in_full(vcpu: &mut Vcpu) -> i64 {
    let [.., number, a, b, c, d] = *vcpu.gpr.first_chunk::<8>().unwrap_or(&[0; 8]);
    match Hcall(number) {
        Hcall::ENTER => pages::enter(vcpu, a, b, c, d),
        Hcall::REMOVE => pages::remove(vcpu, a, b, c),
        Hcall::READ => pages::read(vcpu, a, b),
        Hcall::PROTECT => pages::protect(vcpu, a, b, c),
        Hcall::XIRR => interrupts::xirr(vcpu),
        Hcall::CPPR => interrupts::cppr(vcpu, a),
        Hcall::EOI => interrupts::eoi(vcpu, a),
        _ => Status::FUNCTION.0,
    }
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
