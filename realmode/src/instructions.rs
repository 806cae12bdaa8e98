//! The instructions that have no other name in Rust.
#![allow(unsafe_code)] // every function here is one instruction, or one sequence the ISA demands

use core::arch::asm;

/// Reads a special purpose register.
///
/// # Safety
/// The register exists and reading it is harmless in the CPU's state.
#[inline(always)]
pub unsafe fn mfspr<const SPR: u32>() -> u64 {
    let value: u64;
    // SAFETY: the caller's.
    unsafe { asm!("mfspr {}, {}", out(reg) value, const SPR, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a special purpose register.
///
/// # Safety
/// The register exists and the value keeps the hypervisor running.
#[inline(always)]
pub unsafe fn mtspr<const SPR: u32>(value: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mtspr {}, {}", const SPR, in(reg) value, options(nostack, preserves_flags)) };
}

/// The timebase: 512 million ticks a second.
#[inline(always)]
pub fn timebase() -> u64 {
    let value: u64;
    // SAFETY: reads a counter.
    unsafe { asm!("mfspr {}, 268", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// `isync`.
#[inline(always)]
pub fn isync() {
    // SAFETY: only orders.
    unsafe { asm!("isync", options(nostack, preserves_flags)) };
}

/// `ptesync`: all earlier page table updates are seen by all.
#[inline(always)]
pub fn ptesync() {
    // SAFETY: only orders.
    unsafe { asm!("ptesync", options(nostack, preserves_flags)) };
}

/// A random number from `darn` (Power ISA 3.0C, book I, 3.3.9), conditioned 64 bits; `None` when the source failed.
#[inline(always)]
pub fn darn() -> Option<u64> {
    let value: u64;
    // darn RT,1. The caller has seen to it that the processor has it; the word keeps the assembler out of it.
    // SAFETY: only writes r3.
    unsafe { asm!(".long 0x7c6105e6", out("r3") value, options(nomem, nostack)) };
    (value != u64::MAX).then_some(value)
}

/// `slbfee.`: the VSID dword of the segment that translates an address (POWER8 and later); `None` if none does.
#[inline(always)]
pub fn slbfee(ea: u64) -> Option<u64> {
    let (value, cr): (u64, u64);
    // SAFETY: reads the SLB.
    unsafe {
        asm!("slbfee. {}, {}", "mfcr {}", out(reg) value, in(reg) ea, out(reg) cr, out("cr0") _,
             options(nomem, nostack));
    }
    (cr & 0x2000_0000 != 0).then_some(value)
}

/// `yield`: lets the other threads of the core, or the emulator's other CPUs, get on while this one waits.
#[inline(always)]
pub fn pause() {
    // SAFETY: a hint (Power ISA 3.0C, book II, 3.2).
    unsafe { asm!("or 27, 27, 27", options(nomem, nostack, preserves_flags)) };
}
