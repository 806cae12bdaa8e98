//! What a kernel fuzzer does: a snapshot of itself, and then over and over a hundred pages written, and back. Each time all is as it was, and
//! it costs the same. `rounds=` on the command line (1000); it waits in the tenth and the last, so that the monitor can see that
//! the host's memory is the same.
#![no_std]
#![no_main]

use guests::copies::{hold, revert, snapshot};
use guests::cpu::timebase;
use guests::insn::{addi, std};
use guests::mem::{read64, write64};
use guests::space::{self, READ_WRITE, Segment, run_virtual};
use guests::{Report, Status, platform, println, rtas, team};
use power::PageSize::K64;
use power::slb::SegmentSize;

guests::main!(run);

const SEGMENT: Segment =
    Segment { ea: 0x2000_0000, vsid: 0x2b3, size: SegmentSize::M256, base: K64, flags: 0 };
const PAGES: u64 = 0x100_0000;
const PAGE: u64 = 0x1_0000;
const COUNT: u64 = 400;
/// Of them, each round writes so many.
const DIRTY: u64 = 100;
/// What going back from them may cost, in instructions.
const BUDGET: u64 = 400_000;
/// Of so many rounds one may cost more: a look at the console falls in, which comes every 10 ms and takes POWER8's firmware 105,000.
const LOOKS: u64 = 20;
/// Instructions counted are nanoseconds; the timebase has 512 ticks to a microsecond.
const fn instructions(ticks: u64) -> u64 {
    ticks * 1000 / 512
}
/// What a revert is told: when it began, in ticks, and above that how many before it took longer than they may.
const SHIFT: u32 = 40;

/// What stands in a page, at two places.
const fn content(page: u64) -> u64 {
    // Every other one is zero.
    if page % 8 < 4 { 0 } else { page << 32 | 0x600d }
}

fn write(round: u64) {
    let first = round % 4;
    if round % 8 < 4 {
        for page in (first..COUNT).step_by(4) {
            write64(PAGES + page * PAGE + 0x100, !round);
            write64(PAGES + page * PAGE + 0xff00, !round);
        }
        return;
    }
    // Through translations: r5 is the next page, in steps of four.
    let code = [
        0x7c89_03a6, // mtctr r4
        std(3, 0x100, 3),
        0x3c63_0001, // addis r3, r3, 1
        std(3, -0x100, 3),
        0x3c63_0003,
        0x4200_fff0, // bdnz -16
        addi(5, 5, 0),
    ];
    let c = run_virtual(&code, true, SEGMENT.ea + first * PAGE, DIRTY);
    if !c.finished() {
        wrong(round, "a store");
    }
}

fn wrong(round: u64, what: &str) -> ! {
    println!("@ check round fail {what} in round {round}");
    rtas::power_off()
}

fn run(t: &mut Report) {
    let rounds = platform::number("rounds", 1000);
    team::assemble();
    space::standard();
    SEGMENT.install(space::FREE_SLOT);
    for page in 0..COUNT {
        let at = PAGES + page * PAGE;
        if content(page) != 0 {
            write64(at + 0x100, content(page));
            write64(at + 0xff00, content(page));
        }
        SEGMENT.enter(SEGMENT.ea + page * PAGE, at, K64, READ_WRITE).expect("an entry");
    }
    let taken = snapshot();
    let now = timebase();
    if taken.status != Status::SUCCESS {
        wrong(0, "no snapshot");
    }
    let (round, mask) = (taken.r4(), (1 << SHIFT) - 1);
    let took = now.wrapping_sub(taken.r5()) & mask;
    let over = if round == 0 { 0 } else { (taken.r5() >> SHIFT) + u64::from(instructions(took) > BUDGET) };
    for page in 0..COUNT {
        let at = PAGES + page * PAGE;
        if read64(at + 0x100) != content(page) || read64(at + 0xff00) != content(page) {
            wrong(round, "a page");
        }
    }
    if [1, 10, 100, rounds].contains(&round) {
        println!("@ note round {round}: {} instructions, {over} took too long", instructions(took));
        // Waiting writes it out; going back would, too, and take longer for it.
        team::cede(100);
    }
    if round == 10 {
        hold("tenth");
    }
    if round < rounds {
        write(round);
        revert(over << SHIFT | timebase() & mask);
        wrong(round, "no way back");
    }
    t.within("within-budget", over, 0, rounds / LOOKS);
    t.equal("rounds", round, rounds);
    hold("last");
}
