//! Many virtual processors, and a walker, on one group and one page, as fast as they can.

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{process, thread};

use power::hcall::flags as f;
use power::{HostReal, HpteR, PteIndex};

use crate::crowded::{AT, Quiet, RW, Shared, v};
use crate::*;

const HOST: HostReal = HostReal(0x10_0000);
const STEPS: u64 = 20_000;

/// One that makes entries, changes their rights, and removes them, its own or others'.
fn virtual_processor(shared: &Shared, n: u64) {
    for step in 0..STEPS {
        // No two orders are alike, and every run has the same.
        let at = PteIndex(step.wrapping_mul(0x9e37_79b9 + 2 * n) >> 7 & 7);
        shared.with(|mmu| match step.wrapping_mul(n + 3) % 5 {
            0 | 1 => drop(mmu.enter(&Quiet, 0, at, v(n), HpteR(RW))),
            2 => drop(mmu.protect(&Quiet, 2 + (step & 1), at, 0)),
            3 => drop(mmu.remove(&Quiet, 0, at, 0)),
            _ => {
                let mut words = [1 << 62 | at.0, 0, 1 << 62 | (at.0 ^ 1), 0, 3 << 62, 0, 0, 0];
                let _ = mmu.bulk_remove(&Quiet, &mut words);
            }
        });
    }
}

/// Who fails leaves locks held, and others wait for them for ever: so the whole test ends with it, with a word past the test harness.
fn or_abort(body: impl FnOnce()) {
    if let Err(why) = panic::catch_unwind(AssertUnwindSafe(body)) {
        let why = why.downcast_ref::<String>().map_or("failed", String::as_str);
        let _ = writeln!(io::stderr(), "a_crowd_leaves_order_behind: {why}");
        process::abort();
    }
}

#[test]
fn a_crowd_leaves_order_behind() {
    let shared = Shared::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let walker = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                shared.with(|mmu| {
                    mmu.make_shared(&Quiet, AT).unwrap();
                    mmu.harvest(&Quiet, AT).unwrap();
                    mmu.make_private(&Quiet, AT, HOST).unwrap();
                    mmu.discard(&Quiet, AT).unwrap();
                    mmu.populate(AT, PageState::Private, HOST).unwrap();
                });
            }
        });
        let crowd = [0, 1, 2].map(|n| {
            let shared = &shared;
            scope.spawn(move || or_abort(|| virtual_processor(shared, n)))
        });
        crowd.into_iter().for_each(|thread| thread.join().unwrap());
        done.store(true, Ordering::Relaxed);
        walker.join().unwrap();
        shared.check();
    });
    shared.with(|mmu| {
        for at in 0..8 {
            let _ = mmu.remove(&Quiet, 0, PteIndex(at), 0);
        }
        assert_eq!(mmu.enter(&Quiet, f::EXACT, PteIndex(7), v(0), HpteR(RW)), Ok(PteIndex(7)));
    });
    shared.check();
}
