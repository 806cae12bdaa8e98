//! The floating point and vector registers, all at once.

use crate::context::{MSR_REAL, place_at};
use crate::insn::{self, NOP, mfspr, x};
use crate::mem::{read64, write64};
use crate::{Context, run};
use power::regs::Msr;
use power::spr;

/// Code that spins until r22 ticks have gone by.
pub const SPIN: [u32; 5] = [
    mfspr(6, spr::TB),
    mfspr(7, spr::TB),
    x(31, 7, 6, 7, 40),                                // subf r7, r6, r7
    31 << 26 | 1 << 21 | 7 << 16 | 22 << 11 | 32 << 1, // cmpld r7, r22
    0x4180_fff4,                                       // blt -12
];

/// Loads or stores of VSX register `t` at the address in r5.
const fn vsx(form: u32, t: u32) -> u32 {
    form | (t & 31) << 21 | 5 << 11 | t >> 5
}

/// Loads all 64 VSX registers (the FP and VMX registers among them) with what the seed gives, lets something happen,
/// and stores them. `code` and `buffer` are free memory; r6 to r19 and r22 to r31 are for the code in the middle, and
/// are set up by the last argument. How many of the 128 doublewords came out wrong; or, if an interrupt ended it,
/// 1000 and where that arrived.
pub fn across(code: u64, buffer: u64, seed: u64, middle: &[u32], set_up: impl Fn(&mut Context)) -> u64 {
    let (from, to) = (buffer, buffer + 0x1000);
    let mut words = [NOP; 300];
    let mut n = 0;
    let mut emit = |word| {
        words[n] = word;
        n += 1;
    };
    emit(x(31, 20, 5, 20, 444)); // mr r5, r20
    for r in 0..64 {
        emit(vsx(insn::lxvd2x(0, 0, 0), r));
        emit(insn::addi(5, 5, 16));
    }
    for &word in middle {
        emit(word);
    }
    emit(x(31, 21, 5, 21, 444)); // mr r5, r21
    for r in 0..64 {
        emit(vsx(insn::stxvd2x(0, 0, 0), r));
        emit(insn::addi(5, 5, 16));
    }
    for i in 0..128 {
        write64(from + 8 * i, (0x0123_4567_89ab_cdef * seed).wrapping_mul(2 * i + 1));
        write64(to + 8 * i, 0);
    }
    let mut c = Context { nip: place_at(code, &words[..n]), msr: MSR_REAL, ..Context::ZERO };
    c.msr |= (Msr::FP | Msr::VEC | Msr::VSX).bits();
    c.gpr[20] = from;
    c.gpr[21] = to;
    set_up(&mut c);
    run(&mut c);
    if !c.finished() {
        return 1000 + c.arrival;
    }
    (0..128).filter(|i| read64(from + 8 * i) != read64(to + 8 * i)).count() as u64
}
