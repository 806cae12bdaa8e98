//! A partition that is copied in the middle of its work, on four processors: one sends interprocessor interrupts, one answers them, one counts
//! through translations of its own, one sleeps by its decrementer. Who hears by an interrupt that it is a copy looks who it is now; who is
//! typed a `q` looks whether it still is who it was. Both then fill all memory with what only they have, and end by themselves.
//!
//! `name=` on the command line is the original's name. With `reverted` there it is not copied, but put back to a snapshot: then it is told too
//! that it is another one, though of the same name.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guests::copies::{Identity, identity};
use guests::counting::Counter;
use guests::cpu::{TB_HZ, timebase};
use guests::mem::{is_filled, read8, read64, write64};
use guests::team::{self, MAX};
use guests::{Hcall, Report, hcall, platform, println, rtas, space, status};
use power::interrupt::Vector;

guests::main!(run);

/// Who does what.
const COUNTS: usize = 1;
const SLEEPS: usize = 2;
const ANSWERS: usize = 3;

static DONE: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
/// Who has seen something that cannot be, as bits.
static WRONG: AtomicU64 = AtomicU64::new(0);

fn other(index: u64) -> ! {
    let index = index as usize;
    status(Hcall::CPPR, &[0xff]);
    space::install_standard();
    let mut counter = Counter::translated(index);
    loop {
        let fine = match index {
            COUNTS => counter.go(500),
            SLEEPS => team::doze(TB_HZ / 5000),
            // An IPI: nothing else interrupts it, but its decrementer if there is none for four seconds.
            _ => {
                let start = timebase();
                match team::cede(u64::MAX) {
                    Vector::EXTERNAL => team::accept() == 0xff00_0000 | team::IPI,
                    _ => timebase() - start >= 0x7fff_ffff,
                }
            }
        };
        if !fine {
            WRONG.fetch_or(1 << index, SeqCst);
        }
        DONE[index].fetch_add(1, SeqCst);
    }
}

/// Sends an IPI and waits for what comes of it, and for the others to get on.
fn work() {
    let before = [COUNTS, SLEEPS, ANSWERS].map(|index| (index, DONE[index].load(SeqCst)));
    team::ipi(ANSWERS);
    for (index, before) in before {
        team::until("the others to get on", || DONE[index].load(SeqCst) > before);
    }
}

/// What the device tree has of the identity: its page, and its interrupt's source.
struct Node {
    page: u64,
    source: u64,
}

fn node() -> Option<Node> {
    let node = platform::tree().find_compatible(&["microsoft,vmgenid"])?;
    let page = u64::from_be_bytes(node.property("reg")?.value.get(..8)?.try_into().ok()?);
    let source = u32::from_be_bytes(node.property("interrupts")?.value.get(..4)?.try_into().ok()?);
    Some(Node { page, source: u64::from(source) })
}

impl Node {
    /// Is the page as the identity says?
    fn shows(&self, t: &mut Report, who: &Identity) {
        let word = |at: u64| u64::from_be(read64(self.page + at));
        t.equal("page-id", [word(0), word(8)], who.id);
        t.same("page-count", word(128), who.count);
        t.is_true("page-rest", is_filled(self.page + 136, 0x1_0000 - 136, 0));
    }

    /// The name in it.
    fn name<'a>(&self, bytes: &'a mut [u8; 64]) -> &'a str {
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = read8(self.page + 64 + n as u64);
        }
        core::str::from_utf8(bytes).unwrap_or("?").trim_end_matches('\0')
    }
}

/// Takes an external interrupt, if there is one: its source.
fn interrupt() -> Option<u64> {
    let xirr = hcall(Hcall::XIRR, &[]).r4();
    let source = xirr & 0xff_ffff;
    if source == 0 {
        return None;
    }
    status(Hcall::EOI, &[xirr]);
    Some(source)
}

fn asked_to_end() -> bool {
    let answer = hcall(Hcall::GET_TERM_CHAR, &[0]);
    answer.r4() != 0 && (answer.r5() >> 56) as u8 == b'q'
}

/// Everything above the program and its areas holds what nobody else would write, and still does after the others have had time to.
fn fill_all(t: &mut Report, id: u64) {
    const FIRST: u64 = 0x100_0000;
    let places = || (FIRST..platform::memory()).step_by(0x1000);
    t.same("memory-before", places().filter(|&at| read64(at) != FIRST ^ at).count(), 0);
    for round in 0..2 {
        let mark = |at: u64| id.rotate_left(round) ^ at;
        places().for_each(|at| write64(at, mark(at)));
        for _ in 0..50 {
            work();
        }
        t.same("memory-own", places().filter(|&at| read64(at) != mark(at)).count(), 0);
    }
}

fn run(t: &mut Report) {
    t.same("processors", team::assemble(), 4);
    space::standard();
    let Some(node) = node() else {
        return t.is_true("identity-node", false);
    };
    let original = platform::argument("name").unwrap_or("");
    let Some(before) = identity() else {
        return t.is_true("identity", false);
    };
    node.shows(t, &before);
    t.equal("name", node.name(&mut [0; 64]), original);
    t.equal("number", Some(before.number), platform::cell("/", "ibm,partition-no", 0).map(u64::from));
    t.same("count", before.count, 0);
    let source = node.source as u32;
    t.equal("source", rtas::call("ibm,set-xive", &[source, 0, 5], &mut []), 0);
    for at in (0x100_0000..platform::memory()).step_by(0x1000) {
        write64(at, 0x100_0000 ^ at);
    }
    t.same("started", team::start_others(other), 3);
    println!("@ at work");
    let is_another = loop {
        work();
        match interrupt() {
            Some(source) if source == node.source => break true,
            Some(other) => t.same("interrupt", other, node.source),
            None if asked_to_end() => break false,
            None => {}
        }
    };
    let Some(now) = identity() else {
        return t.is_true("identity-now", false);
    };
    node.shows(t, &now);
    let mut name = [0; 64];
    let name = node.name(&mut name);
    println!("@ named {name} {} {:016x}{:016x}", now.number, now.id[0], now.id[1]);
    if is_another {
        t.is_true("other-id", now.id[0] != before.id[0] && now.id[1] != before.id[1]);
        t.same("other-count", now.count, 1);
        let same = platform::says("reverted");
        t.equal("other-number", now.number == before.number, same);
        t.equal("other-name", name == original, same);
    } else {
        t.equal("original", now, before);
        t.equal("original-name", name, original);
    }
    fill_all(t, now.id[0] ^ now.id[1] ^ now.number);
    t.equal("interrupted-once", interrupt(), None);
    t.same("in-order", WRONG.load(SeqCst), 0);
}
