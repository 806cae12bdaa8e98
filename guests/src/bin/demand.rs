//! Memory that a partition only has when it stores to it. The words of the command line say what it does, one after the other:
//!
//! - `ends`: touches a few pages at both ends of all it could have;
//! - `steps`: loads from 32 pages, then stores to 10 of them and to 10 others, and waits after each, so that the monitor can tell how much
//!   memory that took; and again with one of 16 MiB;
//! - `eats`: stores to all it could have, which it is not to survive;
//! - `lives`: works until it is typed a `q`.
#![no_std]
#![no_main]

use guests::copies::{hold, typed};
use guests::mem::{read64, write64};
use guests::{Report, platform, println, team};

guests::main!(run);

const FIRST: u64 = 0x100_0000;
const PAGE: u64 = 0x1_0000;

fn run(t: &mut Report) {
    team::assemble();
    if platform::says("ends") {
        ends(t);
    }
    if platform::says("steps") {
        steps(t);
    }
    if platform::says("eats") {
        println!("@ eats");
        for at in (FIRST..platform::memory()).step_by(PAGE as usize) {
            write64(at, at);
        }
        t.is_true("starved", false);
    }
    if platform::says("lives") {
        println!("@ lives");
        while typed() != b'q' {}
        t.is_true("lived", true);
    }
}

fn ends(t: &mut Report) {
    let end = platform::memory();
    let middle = end / 2;
    let places = || (0..10).flat_map(|n| [FIRST + n * PAGE, middle + n * PAGE, end - (n + 1) * PAGE]);
    t.is_true("zero", places().all(|at| read64(at) == 0 && read64(at + 0xfff8) == 0));
    places().for_each(|at| write64(at + 0xfff8, !at));
    t.is_true("kept", places().all(|at| read64(at) == 0 && read64(at + 0xfff8) == !at));
    hold("ends");
}

fn steps(t: &mut Report) {
    let pages = |from: u64, n: u64| (FIRST + from * PAGE..FIRST + (from + n) * PAGE).step_by(PAGE as usize);
    hold("start");
    t.is_true("zero", pages(0, 32).all(|at| read64(at + 0x18) == 0));
    hold("loaded");
    for at in pages(0, 10).chain(pages(100, 10)) {
        write64(at, at);
    }
    hold("stored");
    t.is_true("kept", pages(0, 10).chain(pages(100, 10)).all(|at| read64(at) == at));
    t.is_true("still-zero", pages(10, 22).all(|at| read64(at) == 0));
    hold("looked");
}
