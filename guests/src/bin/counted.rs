//! A known number of hypercalls, and what each costs by the timebase: a profile of this program must say the same.
#![no_std]
#![no_main]

use guests::insn::{addi, li, mfspr, sc};
use guests::{Context, Hcall, MSR_REAL, Report, Status, place, println, run as run_context};
use power::spr;

guests::main!(run);

/// No hypervisor knows it.
const NUMBER: Hcall = Hcall(0x7c);
const ROUNDS: u64 = 1000;
const RUNS: u64 = 3;
/// The loop, with the instruction that calls.
const LOOP: [u32; 5] = [
    li(3, NUMBER.0 as i32),
    sc(1),
    addi(21, 21, -1),
    0x2c35_0000, // cmpdi r21, 0
    0x4082_fff0, // bne -16
];

fn run(t: &mut Report) {
    let [a, b, c, d, e] = LOOP;
    let code = [mfspr(20, spr::TB), a, b, c, d, e, mfspr(23, spr::TB)];
    let mut least = u64::MAX;
    for _ in 0..RUNS {
        let mut c = Context { nip: place(&code), msr: MSR_REAL, ..Context::ZERO };
        c.gpr[21] = ROUNDS;
        run_context(&mut c);
        t.is_true("ended", c.finished());
        t.equal("answer", Status(c.gpr[3] as i64), Status::FUNCTION);
        // One that an interrupt of the host's came into is not the least.
        least = least.min(c.gpr[23] - c.gpr[20]);
    }
    // With a nanosecond for each instruction, a tick of the timebase is 1.953125.
    let each = (least * 1_953_125 / 1_000_000 + ROUNDS / 2) / ROUNDS;
    println!("@ counted {} {each} {}", ROUNDS * RUNS, LOOP.len());
}
