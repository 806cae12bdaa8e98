//! What this hypervisor has of its own: a snapshot that a partition takes of itself, the stores after it, and the way back.

use crate::faults::{MEDIUM, STORE};
use crate::measure::{Row, print};
use guests::copies::{identity, revert, snapshot};
use guests::cpu::timebase;
use guests::mem::write64;
use guests::space::READ_WRITE;
use guests::{MSR_VIRTUAL, Report, Status};
use power::PageSize::K64;

const PAGE: u64 = 0x1_0000;
/// What is stored to between a snapshot and what comes then.
const PAGES: u64 = 64;
const MEMORY: u64 = 0x380_0000;
const EA: u64 = MEDIUM.ea + 0xc00_0000;
/// Snapshots, and ways back.
const TIMES: u64 = 6;

fn store() {
    (0..PAGES).for_each(|n| write64(MEMORY + n * PAGE, n));
}

/// All of them; none under another hypervisor.
pub fn rows(t: &mut Report) {
    if identity().is_none() {
        return t.note(format_args!("snapshots are not this hypervisor's"));
    }
    for n in 0..PAGES {
        MEDIUM.enter(EA + n * PAGE, MEMORY + n * PAGE, K64, READ_WRITE).expect("an entry");
    }
    unshare(t);
    to_and_fro(t);
}

/// The first store to each page after a snapshot: it is copied.
fn unshare(t: &mut Report) {
    let row = Row { rounds: PAGES, batches: 4, msr: MSR_VIRTUAL, ..Row::new("unshare", &STORE) };
    row.measure(t, |_, gpr| {
        store();
        snapshot();
        (gpr[3], gpr[6]) = (EA, PAGE);
    });
}

/// A snapshot after some pages were stored to; and back to it, after as many. What the first half has measured is gone by then but
/// for what is printed.
fn to_and_fro(t: &mut Report) {
    let mut best = u64::MAX;
    for _ in 0..TIMES {
        store();
        let before = timebase();
        let taken = snapshot();
        let now = timebase();
        if taken.status != Status::SUCCESS {
            return t.equal("snapshot", taken.status, Status::SUCCESS);
        }
        if taken.r4() == 0 {
            best = best.min(now - before);
        }
    }
    t.is_true("snapshot", true);
    print("snapshot", best, 1, 0);
    store();
    let taken = snapshot();
    let now = timebase();
    // Each time all is as it was here: what is known by then has to come with the answer.
    let (began, mut best) = (taken.r5() & ((1 << BEST) - 1), taken.r5() >> BEST);
    if taken.r4() > 0 {
        best = best.min(now - began);
    } else {
        best = u64::MAX >> BEST;
    }
    if taken.r4() < TIMES {
        store();
        let refused = revert(best << BEST | timebase());
        return t.equal("revert", refused, Status::SUCCESS);
    }
    t.is_true("revert", true);
    print("revert", best, 1, 0);
}

/// Where the best time stands beside the timebase in the word that comes back.
const BEST: u32 = 40;
