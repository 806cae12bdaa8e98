//! Writing the trace and the statistics. Hypercalls, guest entry and full exit do it in assembly: macros.S, `record`.
#![allow(unsafe_code)] // stores through the pointers that the assembly shares

use core::sync::atomic::AtomicPtr;

use ::trace::Ring;
#[cfg(target_arch = "powerpc64")]
use ::trace::{Subject, What, event::STAMP_SHIFT};

#[cfg(target_arch = "powerpc64")]
use crate::instructions::timebase;
#[cfg(target_arch = "powerpc64")]
use crate::layout::Vcpu;

/// Where a CPU writes its next event: the address of a slot of its ring.
#[repr(transparent)]
pub struct Writer(AtomicPtr<()>);

impl Writer {
    /// For a CPU that has none yet, and records nothing.
    pub const fn none() -> Writer {
        Writer(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// For a ring that no other CPU writes to.
    pub const fn new(ring: &'static Ring) -> Writer {
        Writer(AtomicPtr::new(core::ptr::from_ref(ring).cast_mut().cast()))
    }

    /// Records an event with a ready tag ([`::trace::tag`]; with 0 it is forgotten), with translation on or off. Only on the
    /// CPU whose writer it is.
    #[cfg(target_arch = "powerpc64")]
    #[inline(always)]
    pub fn record(&self, tag: u64, what: What) {
        let (bits, a, b) = what.encode();
        // SAFETY: the address is a slot's of a ring that lives for ever: it was to begin with, and its low 16 bits wrap within the
        // ring; a slot is 32 bytes. Who reads them meanwhile expects it. In order: macros.S says which and why.
        unsafe {
            core::arch::asm!(
                "ld {slot}, 0({writer})",
                "std {time}, 0({slot})",
                "std {a}, 16({slot})",
                "std {b}, 24({slot})",
                "add {next}, {slot}, {tag}",
                "rldimi {tag}, {time}, {shift}, 48-{shift}",
                "or {tag}, {tag}, {bits}",
                "std {tag}, 8({slot})",
                "sth {next}, 0({writer})",
                writer = in(reg_nonzero) self.0.as_ptr(), time = in(reg) timebase(), a = in(reg) a, b = in(reg) b,
                bits = in(reg) bits, tag = inout(reg) tag => _, slot = out(reg_nonzero) _, next = out(reg) _,
                shift = const STAMP_SHIFT, options(nostack, preserves_flags),
            );
        }
    }
}

/// Records an event of a vCPU that is loaded, or has just been left or is about to be entered, on its CPU.
#[cfg(target_arch = "powerpc64")]
#[inline(always)]
pub fn record(vcpu: &Vcpu, what: What) {
    // SAFETY: set by the entry that loaded it, to the CPU's own structure, which lives for ever.
    let writer = unsafe { &(*vcpu.percpu).trace };
    writer.record(vcpu.trace_tag.load(core::sync::atomic::Ordering::Relaxed), what);
}

/// Counts what the guest was left for, with the time since. Only on the CPU that has the vCPU.
#[cfg(target_arch = "powerpc64")]
#[inline(always)]
pub fn count(vcpu: &Vcpu, subject: Subject) {
    // SAFETY: a vCPU's counters live as long as it does.
    unsafe { &*vcpu.stats }.add(subject, timebase().wrapping_sub(vcpu.left_at));
}
