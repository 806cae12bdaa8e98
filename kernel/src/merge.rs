//! Equal pages become one, across partitions, while CPUs have nothing else to do: when and of whom. How is the crate `paging`'s.
//!
//! One CPU at a time, a few pages at a time, and then not again until nine times as long has gone by. A pass over all partitions is followed by
//! a rest.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use paging::{MergeFigures, Merger};
use realmode::instructions::timebase;

use crate::partition::life::Doing;
use crate::partition::{Partition, TIMEBASE_HZ};
use crate::partitions;
use crate::sync::{Lock, Rank};

/// Different pages that can be found again: 16 MiB of small ones to each MiB of the table; a table of 1 MiB.
const ENTRIES: usize = 64 << 10;
/// Pages in one go while a CPU is idle: some hundred microseconds.
const PIECE: u64 = 4;
/// Of the time of the CPUs that are idle, one part in so many.
const SHARE: u64 = 10;
/// Between two passes: a second.
const REST: u64 = TIMEBASE_HZ;

struct Pass {
    merger: Merger,
    /// The partition whose turn it is, by number; all below have had theirs.
    lpid: u32,
    /// Passes that are complete.
    passes: u64,
}

static PASS: Lock<Option<Pass>> = Lock::new(Rank::Merge, None);
static ON: AtomicBool = AtomicBool::new(false);
/// When a CPU may go on.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Merges in idle time from now on, or not any more. What has been merged stays so.
pub fn set(on: bool) {
    ON.store(on, Ordering::Relaxed);
    if !on && let Some(pass) = &mut *PASS.lock() {
        pass.merger.off();
    }
}

/// Is it on?
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// A CPU has nothing to run: it may merge a little. When it should look again; `None`: not for this.
pub fn idle() -> Option<u64> {
    if !is_on() {
        return None;
    }
    let began = timebase();
    let next = NEXT.load(Ordering::Relaxed);
    if began < next {
        return Some(next);
    }
    let mut pass = PASS.try_lock()?;
    // Without memory it is tried again when a pass would be.
    let complete = step(&mut pass, PIECE).unwrap_or(true);
    let now = timebase();
    let rest = if complete { REST } else { (now - began) * (SHARE - 1) };
    NEXT.store(now + rest, Ordering::Relaxed);
    Some(now + rest)
}

/// Looks at some pages at once. `None` if there is no memory to begin with it.
pub fn hurry(pages: u64) -> Option<()> {
    step(&mut PASS.lock(), pages).map(drop)
}

/// Looks at the next pages; true at the end of a pass. `None` if there is no memory to begin with it.
fn step(pass: &mut Option<Pass>, pages: u64) -> Option<bool> {
    if pass.is_none() {
        *pass = Some(Pass { merger: Merger::new(ENTRIES).ok()?, lpid: 0, passes: 0 });
    }
    let pass = pass.as_mut()?;
    let all = partitions::all();
    let wanted = |partition: &&Arc<Partition>| takes_part(partition) && partition.core().lpid.0 >= pass.lpid;
    let Some(partition) = all.iter().filter(wanted).min_by_key(|partition| partition.core().lpid.0) else {
        pass.lpid = 0;
        pass.passes += 1;
        return Some(true);
    };
    let lpid = partition.core().lpid.0;
    // Held, so that it neither ends nor stands still meanwhile. Whoever has it for long starts the partition anew.
    let Some(life) = partition.life.try_lock() else { return Some(false) };
    let done = match life.doing {
        Doing::Running | Doing::Paused | Doing::Ending(_) => {
            let step = partition.memory().pages(|memory| pass.merger.step(u64::from(lpid), memory, pages));
            step.map_or(true, |step| step.done)
        }
        Doing::Defined | Doing::Starting | Doing::Still | Doing::Stopped => true,
    };
    pass.lpid = if done { lpid + 1 } else { lpid };
    Some(false)
}

fn takes_part(partition: &Partition) -> bool {
    // Devices reach pages where they are.
    partition.table.merge && partition.devices.is_empty() && !partition.core().slots.is_huge()
}

/// A partition is no more: its number may be another's.
pub fn forget(partition: &Partition) {
    if let Some(pass) = &mut *PASS.lock() {
        pass.merger.forget(u64::from(partition.core().lpid.0));
    }
}

/// What has been done, and how many passes that were.
pub fn figures() -> (MergeFigures, u64) {
    PASS.lock().as_ref().map_or_else(Default::default, |pass| (pass.merger.figures(), pass.passes))
}
