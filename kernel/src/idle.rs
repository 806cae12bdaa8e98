//! Sleeping until the decrementer or an interrupt that LPCR lets through: `nap` on POWER8, `stop` on later ones.
#![allow(unsafe_code)] // leaves translation for the time, and writes PSSCR

use core::arch::asm;

use power::regs::Msr;
use power::{CpuFeatures, spr};
use realmode::instructions::mtspr;
use realmode::world;

/// PSSCR (Power ISA 3.0C, book III, 3.3.1): wake through the system reset vector, by what LPCR enables (EC, with which goes ESL: general
/// purpose registers may be lost), from the shallowest level.
const PSSCR: u64 = 1 << 21 | 1 << 20;

/// Sleeps. DEC has been set to wake the CPU.
pub fn sleep(features: &CpuFeatures) {
    // SAFETY: the linear map makes the same addresses good in real mode; EE is off; the CPU's PerCpu is in HSPRG0.
    unsafe {
        if features.partition_table {
            mtspr::<{ spr::PSSCR }>(PSSCR);
        }
        set_relocation(false);
        world::sleep(features.partition_table);
        set_relocation(true);
    }
}

/// Turns instruction and data relocation on or off and goes on at the same address.
///
/// # Safety
/// What is running and its stack are in the linear map.
unsafe fn set_relocation(on: bool) {
    let both = (Msr::IR | Msr::DR).bits();
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "mfmsr {m}", "andc {m}, {m}, {both}", "or {m}, {m}, {new}",
            "bcl 20, 31, 2f", "2: mflr {t}", "addi {t}, {t}, 20", "mtspr 26, {t}", "mtspr 27, {m}", "rfid",
            m = out(reg) _, t = out(reg_nonzero) _, both = in(reg) both, new = in(reg) if on { both } else { 0 }, out("lr") _,
        );
    }
}
