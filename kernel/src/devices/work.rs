//! Whose devices have something to do: a bit for each partition, set from anywhere and looked at by each CPU before it enters a guest or
//! sleeps. Whoever takes a bit lets that partition's devices work for a bounded time, with no other lock held, so partitions take turns.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use phb::Doorbell;
use power::Lpid;
use realmode::instructions::timebase;

use super::bus::Owner;
use crate::mmu::LPIDS;
use crate::partition::{Partition, TIMEBASE_HZ};
use crate::partitions;

/// A bit for each partition, by LPID.
static WAITING: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
/// A bit for each of these words that has one.
static SUMMARY: AtomicU64 = AtomicU64::new(0);
const WORDS: usize = LPIDS as usize / 64;
const _: () = assert!(WORDS <= 64);
/// Where to look next, so that nobody has two turns before others have one.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How many turns a CPU gives before it goes on with what it was about.
const TURNS: usize = 8;
/// How long a guest runs when something is left to do.
pub const PERIOD: u64 = TIMEBASE_HZ / 20_000;

/// A partition's doorbell.
pub struct Bell {
    lpid: Lpid,
    rung: AtomicBool,
}

impl Bell {
    /// Of a partition.
    pub const fn new(lpid: Lpid) -> Bell {
        Bell { lpid, rung: AtomicBool::new(false) }
    }

    /// What has been begun is to be gone on with.
    pub fn more(&self) {
        let (word, bit) = (self.lpid.0 as usize / 64, self.lpid.0 % 64);
        if let Some(waiting) = WAITING.get(word) {
            waiting.fetch_or(1 << bit, Ordering::SeqCst);
            SUMMARY.fetch_or(1 << word, Ordering::SeqCst);
        }
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.more();
    }
}

/// Has anybody something to do?
#[inline(always)]
pub fn is_waiting() -> bool {
    SUMMARY.load(Ordering::Relaxed) != 0
}

/// Lets devices that have something to do work, some of them, for a while. Whoever runs on this CPU pays for its own partition's; other
/// partitions owe the time that theirs took. The answer is how much that was, in ticks.
#[inline(always)]
pub fn serve(running: Option<&Partition>) -> u64 {
    if is_waiting() { some_turns(running) } else { 0 }
}

#[inline(never)]
fn some_turns(running: Option<&Partition>) -> u64 {
    let mut others = 0;
    for _ in 0..TURNS {
        let Some(lpid) = take() else { break };
        let Some(partition) = partitions::of(lpid) else { continue };
        let began = timebase();
        turn(&partition);
        if running.is_none_or(|running| !core::ptr::eq(running, &*partition)) {
            let took = timebase() - began;
            partition.owe(took);
            others += took;
        }
    }
    others
}

/// Takes the next bit that is set.
fn take() -> Option<Lpid> {
    let summary = SUMMARY.load(Ordering::SeqCst);
    if summary == 0 {
        return None;
    }
    let next = NEXT.load(Ordering::Relaxed);
    let from = (next / 64) as u32 % 64;
    // The words in the order of their turns; the one that the last turn was in may have more behind it.
    for n in 0..=64 {
        let word = (from + n) % 64;
        if summary >> word & 1 == 0 {
            continue;
        }
        let waiting = WAITING.get(word as usize)?;
        let behind = if n == 0 { !0 << (next % 64) } else { !0 };
        let bits = waiting.load(Ordering::SeqCst);
        if bits == 0 {
            SUMMARY.fetch_and(!(1 << word), Ordering::SeqCst);
            // Whoever set a bit of it meanwhile may have set this one before.
            if waiting.load(Ordering::SeqCst) != 0 {
                SUMMARY.fetch_or(1 << word, Ordering::SeqCst);
            }
            continue;
        }
        if bits & behind == 0 {
            continue;
        }
        let bit = (bits & behind).trailing_zeros();
        if waiting.fetch_and(!(1 << bit), Ordering::SeqCst) >> bit & 1 == 0 {
            // Another CPU was faster.
            continue;
        }
        let lpid = word * 64 + bit;
        NEXT.store(u64::from(lpid) + 1, Ordering::Relaxed);
        return Some(Lpid(lpid));
    }
    None
}

/// One turn of a partition's devices.
fn turn(partition: &Partition) {
    let Some(devices) = &partition.pci else { return };
    let mut bridge = devices.bridge.lock();
    // Closed by whoever is about to have it stand still: he takes the lock after this look. It is rung for when it goes on.
    if partition.core().gate.is_closed() {
        return;
    }
    let rung = devices.bell.rung.swap(false, Ordering::SeqCst);
    if bridge.work(rung, &Owner(partition)) {
        devices.bell.more();
    }
}
