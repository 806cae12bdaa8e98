//! Virtual processors that stay in one state each, for whoever stops, pauses, resumes or resets the partition meanwhile.
//!
//! The first processor says `@ ready NAME` and then listens on the console: `a` is answered with `@ alive NAME` and a
//! number that grows, `q` ends the program. The others take the states of [`STATES`] in turn, or all the one that
//! `state=` names. `busy` makes the first one spin between looks at the console, instead of sleeping.
#![no_std]
#![no_main]

use guests::cpu::{TB_HZ, delay};
use guests::mem::write64;
use guests::space::{READ_WRITE, Segment};
use guests::team::{self, MAX};
use guests::{Hcall, Report, hcall, platform, println, status};
use power::PageSize;
use power::slb::SegmentSize;

guests::main!(run);

/// What a processor does for ever.
type State = fn(usize);

/// All states, by name. One that is not started has none.
const STATES: [(&str, State); 9] = [
    ("running", running),
    ("calling", calling),
    ("ceded", ceded),
    ("timer", timer),
    ("joined", joined),
    ("conferring", conferring),
    ("waiting", waiting),
    ("faulting", faulting),
    ("printing", printing),
];

fn running(_: usize) {
    delay(TB_HZ);
}

fn calling(_: usize) {
    hcall(Hcall::READ, &[0, 0]);
    hcall(Hcall(0x7c), &[]);
}

fn ceded(_: usize) {
    team::cede(u64::MAX);
}

fn timer(_: usize) {
    team::cede(TB_HZ / 2000);
}

fn joined(_: usize) {
    status(Hcall::JOIN, &[]);
}

fn conferring(_: usize) {
    status(Hcall::CONFER, &[u64::MAX, 0]);
}

/// For a prod that never comes.
fn waiting(index: usize) {
    status(Hcall::CONFER, &[u64::from(team::server(index)), 0]);
}

/// First touches of all memory, and then translations that come and go.
fn faulting(index: usize) {
    const FREE: u64 = 0x400_0000;
    for at in (FREE..platform::memory()).step_by(0x1_0000) {
        write64(at + 8 * index as u64, at);
    }
    let segment = Segment {
        ea: 0x5000_0000,
        vsid: 0x500 + index as u64,
        size: SegmentSize::M256,
        base: PageSize::K4,
        flags: 0,
    };
    for n in 0..1000 {
        if let Ok(slot) = segment.enter(segment.ea + n * 0x1000, FREE + n * 0x1000, PageSize::K4, READ_WRITE)
        {
            status(Hcall::REMOVE, &[0, slot, 0]);
        }
    }
}

/// As fast as the console takes it, for 4 KiB at a time: a console of an emulator takes all.
fn printing(index: usize) {
    let word = u64::from_be_bytes([b'0' + index as u8, b'.', b'.', b'.', b'.', b'.', b'\r', b'\n']);
    for _ in 0..256 {
        status(Hcall::PUT_TERM_CHAR, &[0, 16, word, word]);
    }
    team::cede(TB_HZ / 50);
}

fn chosen(index: usize) -> Option<State> {
    match platform::argument("state") {
        Some("unstarted") => None,
        Some(name) => STATES.iter().find(|(other, _)| *other == name).map(|(_, state)| *state),
        None => STATES.get((index - 1) % (STATES.len() + 1)).map(|(_, state)| *state),
    }
}

fn other(index: u64) -> ! {
    status(Hcall::CPPR, &[0xff]);
    let index = index as usize;
    if let Some(state) = chosen(index) {
        loop {
            state(index);
        }
    }
    team::stop_self()
}

/// The next byte from the console.
fn typed(busy: bool) -> u8 {
    loop {
        let answer = hcall(Hcall::GET_TERM_CHAR, &[0]);
        if answer.r4() != 0 {
            // What is typed here is typed byte by byte.
            return (answer.r5() >> 56) as u8;
        }
        if busy {
            delay(TB_HZ / 1000);
        } else {
            team::cede(TB_HZ / 200);
        }
    }
}

fn run(t: &mut Report) {
    let n = team::assemble();
    let name = platform::argument("name").unwrap_or("guest");
    for index in (1..n.min(MAX)).filter(|&index| chosen(index).is_some()) {
        if team::start(index, other) != 0 {
            team::give_up("a processor to start");
        }
    }
    // Short enough for one call: the others may be printing.
    println!("@ ready {name}");
    let busy = platform::says("busy");
    let mut alive = 0;
    loop {
        match typed(busy) {
            b'a' => {
                alive += 1;
                println!("@ alive {name} {alive}");
            }
            b'q' => break,
            _ => {}
        }
    }
    t.is_true("asked-to-end", true);
}
