//! Single instructions as functions.
#![allow(unsafe_code)] // instructions

use core::arch::asm;
use power::spr;

/// Reads a special purpose register.
#[inline(always)]
pub fn mfspr<const N: u32>() -> u64 {
    let value;
    // SAFETY: reading a register changes nothing.
    unsafe { asm!("mfspr {}, {}", out(reg) value, const N, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a special purpose register. Those that the compiler relies on (CTR, LR, SPRG0 here) are not for this.
#[inline(always)]
pub fn mtspr<const N: u32>(value: u64) {
    // SAFETY: the register is none that compiled code uses.
    unsafe { asm!("mtspr {}, {}", const N, in(reg) value, options(nostack, preserves_flags)) };
}

/// The timebase.
#[inline(always)]
pub fn timebase() -> u64 {
    mfspr::<{ spr::TB }>()
}

/// The machine state register.
#[inline(always)]
pub fn mfmsr() -> u64 {
    let value;
    // SAFETY: reading it changes nothing.
    unsafe { asm!("mfmsr {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Makes the instruction at a real address as it was just stored visible to fetches.
pub fn sync_code(address: u64) {
    // SAFETY: cache management of memory that exists.
    unsafe {
        asm!("dcbst 0, {0}", "sync", "icbi 0, {0}", "sync", "isync", in(reg) address, options(nostack))
    };
}

/// `slbie`: forgets the 256 MiB segment that an address is in, and what has been translated through it. Writing over its entry does not.
pub fn slbie(ea: u64) {
    // SAFETY: forgets; who goes on there finds the next entry, or an interrupt.
    unsafe { asm!("isync", "slbie {}", "isync", in(reg) ea & !0xfff_ffff, options(nostack)) };
}

/// `slbmte`: one SLB entry.
pub fn slbmte(vsid_dword: u64, esid_dword: u64) {
    // SAFETY: programs run in real mode; translations matter to code under test alone.
    unsafe {
        asm!("isync", "slbmte {}, {}", "isync", in(reg) vsid_dword, in(reg) esid_dword, options(nostack))
    };
}

/// Orders everything.
pub fn sync() {
    // SAFETY: a barrier.
    unsafe { asm!("sync", options(nostack, preserves_flags)) };
}

/// Waits this many timebase ticks.
pub fn delay(ticks: u64) {
    let start = timebase();
    while timebase() - start < ticks {
        core::hint::spin_loop();
    }
}

/// Ticks of the timebase in a second.
pub const TB_HZ: u64 = 512_000_000;

/// Which processor this is.
pub fn generation() -> power::Generation {
    let features = power::CpuFeatures::from_pvr(mfspr::<{ spr::PVR }>() as u32);
    features.map_or(power::Generation::Power8, |f| f.generation)
}
