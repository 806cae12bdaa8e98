//! Memory like that of others, to be merged with it: patterns that each such partition has, zeroes that were stored, pages of its own, and pages
//! that change all the time. Each time that it is typed a byte it looks whether all is as it was, and says so; after the first time
//! it stores to some of what has been merged, after the second one to all. `name=` on the command line makes it different; with
//! `sleeps` it sleeps for some seconds before the first look, and waits once more.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guests::copies::hold;
use guests::cpu::{TB_HZ, timebase};
use guests::mem::{read64, write64};
use guests::{Hcall, Report, platform, status, team};

guests::main!(run);

const PAGE: u64 = 0x1_0000;
const BASE: u64 = 0x100_0000;
/// How many there are of each, one after the other.
const PATTERN: u64 = 100;
const ZERO: u64 = 30;
const OWN: u64 = 20;
const BUSY: u64 = 5;
/// How many of the pattern's pages each stores to after the first look.
const SOME: u64 = 25;

static ROUND: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicBool = AtomicBool::new(false);

const fn page(n: u64) -> u64 {
    BASE + n * PAGE
}

/// A pattern: with differences at the start and at the end of a page only between some of them.
const fn pattern(n: u64, at: u64) -> u64 {
    match at {
        0 => n / 10,
        0xfff8 => n % 10,
        _ => 0x0123_4567_89ab_cdef ^ at,
    }
}

/// Looks at all of a page, or fills it.
fn matches(n: u64, content: impl Fn(u64) -> u64) -> bool {
    (0..PAGE).step_by(8).all(|at| read64(page(n) + at) == content(at))
}

fn fill(n: u64, content: impl Fn(u64) -> u64) {
    (0..PAGE).step_by(8).for_each(|at| write64(page(n) + at, content(at)));
}

/// Stores to the busy pages without end, each time the same all over, and looks whether that is what stands there.
fn busy(_: u64) -> ! {
    status(Hcall::CPPR, &[0xff]);
    loop {
        let round = ROUND.fetch_add(1, SeqCst);
        for n in PATTERN + ZERO + OWN..PATTERN + ZERO + OWN + BUSY {
            // Mostly zeroes: it looks like a page to be merged for a moment.
            let value = |round: u64| if round.is_multiple_of(3) { 0 } else { round };
            for at in (0..PAGE).step_by(0x400) {
                let old = read64(page(n) + at);
                if round > 0 && old != value(round - 1) {
                    WRONG.store(true, SeqCst);
                }
                write64(page(n) + at, value(round));
            }
        }
        team::cede(TB_HZ / 2000);
    }
}

fn run(t: &mut Report) {
    t.same("processors", team::assemble(), 2);
    let name = platform::argument("name").unwrap_or("");
    let own = name.bytes().fold(1, |sum, byte| sum << 8 | u64::from(byte));
    (0..PATTERN).for_each(|n| fill(n, |at| pattern(n, at)));
    (PATTERN..PATTERN + ZERO).for_each(|n| fill(n, |at| at));
    (PATTERN..PATTERN + ZERO).for_each(|n| fill(n, |_| 0));
    (PATTERN + ZERO..PATTERN + ZERO + OWN).for_each(|n| fill(n, |at| own << 32 | n << 16 | at));
    t.same("started", team::start_others(busy), 1);
    hold("first");
    if platform::says("sleeps") {
        team::sleep_until(timebase() + 8 * TB_HZ);
        hold("slept");
    }
    look(t, own, 0);
    let changed = |n: u64, at: u64| if at == 0x1000 { own << 16 | n } else { pattern(n, at) };
    (0..SOME).for_each(|n| write64(page(n) + 0x1000, changed(n, 0x1000)));
    t.is_true("stored", (0..SOME).all(|n| matches(n, |at| changed(n, at))));
    write64(page(PATTERN) + 0x100, own);
    hold("second");
    t.same("zero-stored", read64(page(PATTERN) + 0x100), own);
    write64(page(PATTERN) + 0x100, 0);
    t.is_true("still-stored", (0..SOME).all(|n| matches(n, |at| changed(n, at))));
    look(t, own, SOME);
    for n in 0..PATTERN + ZERO {
        write64(page(n) + 0x1008, own << 16 | n);
    }
    hold("third");
    let now = |n: u64| {
        read64(page(n) + 0x1008) == own << 16 | n
            && read64(page(n) + 0x1010) == if n < PATTERN { pattern(n, 0x1010) } else { 0 }
    };
    t.is_true("all-stored", (0..PATTERN + ZERO).all(now));
    t.is_true("busy", ROUND.load(SeqCst) > 100);
    t.is_true("busy-in-order", !WRONG.load(SeqCst));
}

fn look(t: &mut Report, own: u64, from: u64) {
    t.is_true("pattern", (from..PATTERN).all(|n| matches(n, |at| pattern(n, at))));
    t.is_true("zeroes", (PATTERN..PATTERN + ZERO).all(|n| matches(n, |_| 0)));
    let mut owned = PATTERN + ZERO..PATTERN + ZERO + OWN;
    t.is_true("own", owned.all(|n| matches(n, |at| own << 32 | n << 16 | at)));
}
