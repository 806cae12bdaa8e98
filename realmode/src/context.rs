//! The registers that stay in the machine until another vCPU runs there: vector and floating point state and the switched
//! special purpose registers.
#![allow(unsafe_code)] // vector instructions by number: the hypervisor itself is soft-float

use core::arch::asm;

use power::regs::Msr;
use power::{Generation, spr};

use crate::instructions::{mfspr, mtspr};
use crate::layout::{Context, MMCR0_FC};
use crate::sprs;

// The words of `stxvd2x n,0,r4` and `lxvd2x n,0,r4`, for n from 0 to 63, r4 going up.
macro_rules! vsx_all {
    ($xo:literal) => {
        concat!(
            ".set .Lvsx, 0\n",
            ".rept 64\n",
            ".long (31 << 26) | ((.Lvsx & 31) << 21) | (4 << 11) | (",
            $xo,
            " << 1) | (.Lvsx >> 5)\n",
            "addi 4, 4, 16\n",
            ".set .Lvsx, .Lvsx + 1\n",
            ".endr\n",
        )
    };
}

/// Makes vector and floating point instructions available for the length of a closure.
///
/// # Safety
/// The closure leaves the registers as their owner should find them.
unsafe fn with_vectors(body: impl FnOnce()) {
    let bits = (Msr::FP | Msr::VEC | Msr::VSX).bits();
    let old: u64;
    // SAFETY: only makes facilities available.
    unsafe {
        asm!("mfmsr {o}", "or {n}, {o}, {b}", "mtmsrd {n}", "isync", o = out(reg) old, n = out(reg) _, b = in(reg) bits);
    }
    body();
    // SAFETY: as it was before.
    unsafe { asm!("mtmsrd {}", "isync", in(reg) old) };
}

/// Saves what the vCPU that owns the machine's registers has in them, and stops its counters. The registers themselves stay as they
/// are: if nobody else runs here before it does again, [`thaw`] is enough.
///
/// # Safety
/// In hypervisor state on a CPU of that generation.
pub unsafe fn save(generation: Generation, to: &mut Context) {
    // SAFETY: stores to the context only; mffs and mfvscr read. FPSCR and VSCR go through VSR 0 and 32, which have been stored and
    // get back what they had.
    unsafe {
        with_vectors(|| {
            asm!(
                vsx_all!("972"),
                ".long 0xfc00048e",    // mffs f0
                "mr 4, 5",
                ".long 0x7c002798",    // stxvd2x vs0,0,r4
                ".long 0x10000604",    // mfvscr v0
                "addi 4, 5, 16",
                ".long 0x7c002799",    // stxvd2x vs32,0,r4
                ".long 0x7c003698",    // lxvd2x vs0,0,r6
                "addi 4, 6, 32 * 16",
                ".long 0x7c002699",    // lxvd2x vs32,0,r4
                inout("r4") to.vsx.as_mut_ptr() => _, in("r5") &raw mut to.fpscr, in("r6") to.vsx.as_ptr(),
            );
        });
        to.mmcr0 = mfspr::<{ spr::MMCR0 }>();
        mtspr::<{ spr::MMCR0 }>(MMCR0_FC);
        sprs::save(generation, &mut to.sprs);
    }
}

/// Loads a vCPU's registers.
///
/// # Safety
/// As for [`save`]; what was in the registers has been saved.
pub unsafe fn load(generation: Generation, from: &mut Context) {
    // SAFETY: loads from the context only, the status registers through VSR 0 and 32 before these are loaded.
    unsafe {
        mtspr::<{ spr::MMCR0 }>(MMCR0_FC);
        // clrbhrb: which branches the one before took is nobody's business.
        asm!(".long 0x7c00035c", options(nostack, preserves_flags));
        sprs::load(generation, &from.sprs);
        mtspr::<{ spr::MMCR0 }>(from.mmcr0);
        with_vectors(|| {
            asm!(
                "mr 4, 5",
                ".long 0x7c002698",    // lxvd2x vs0,0,r4
                ".long 0xfffe058e",    // mtfsf 0xff,f0 with L=1: all of FPSCR
                "addi 4, 5, 16",
                ".long 0x7c002699",    // lxvd2x vs32,0,r4
                ".long 0x10000644",    // mtvscr v0
                "mr 4, 6",
                vsx_all!("844"),
                out("r4") _, in("r5") &raw mut from.fpscr, in("r6") from.vsx.as_mut_ptr(),
            );
        });
    }
}

/// Lets the counters run on for a vCPU whose registers have been saved and are still in the machine.
///
/// # Safety
/// As for [`save`]; nobody has used the registers since.
pub unsafe fn thaw(saved: &Context) {
    // SAFETY: the caller's.
    unsafe { mtspr::<{ spr::MMCR0 }>(saved.mmcr0) };
}

/// One vector-scalar register of the vCPU whose registers are in the machine.
///
/// # Safety
/// As for [`set_vsr`].
pub unsafe fn vsr(generation: Generation, own: &mut Context, number: u8) -> [u64; 2] {
    // SAFETY: the caller's; nothing has used the registers since they were saved.
    unsafe {
        save(generation, own);
        thaw(own);
    }
    own.vsx[usize::from(number & 63)]
}

/// Changes one vector-scalar register of the vCPU whose registers are in the machine.
///
/// # Safety
/// As for [`save`]; `own` is that vCPU's context.
pub unsafe fn set_vsr(generation: Generation, own: &mut Context, number: u8, value: [u64; 2]) {
    // SAFETY: the caller's; what is loaded is what was just saved, but for the one register.
    unsafe {
        save(generation, own);
        own.vsx[usize::from(number & 63)] = value;
        load(generation, own);
    }
}
