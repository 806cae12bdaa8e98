//! How many refer to a block of shared memory.
//!
//! A block that pages of several partitions (or several pages of one, or a snapshot) refer to is in state shared in all of them, and nobody stores to it. Each of
//! these is one reference. Memory that is not shared has no references: its one page has it as private. The last one to refer to a shared block may take it as it
//! is ([`Shares::take_exclusive`]), and whoever lets go of the last reference gives the memory back.
//!
//! The merge finds shared blocks by their contents, in a table that nobody keeps up to date. So it may only refer to blocks that carry a mark, which goes with the last
//! reference: what it finds is then shared for as long as it holds that reference, and it can see whether the contents are what it looked for.

use power::HostReal;

use crate::sync::{AtomicU32, Ordering};

/// The merge may add references.
const MERGED: u32 = 1 << 31;
/// More than a machine has pages, and below the mark.
const MOST: u32 = 1 << 30;
/// log2 of the memory that has a count of its own: 64 KiB.
const FRAME_SHIFT: u32 = 16;

/// Counts for a range of the machine's memory.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// Where it starts: a multiple of 64 KiB.
    pub base: HostReal,
    /// One for each 64 KiB, zero at first. A larger unit has the count of its first.
    pub counts: &'a [AtomicU32],
}

/// All counts of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Shares<'a> {
    stretches: &'a [Stretch<'a>],
}

impl<'a> Shares<'a> {
    /// Of these ranges. Memory elsewhere cannot be shared: no reference to it is ever added, nor the last.
    pub const fn new(stretches: &'a [Stretch<'a>]) -> Shares<'a> {
        Shares { stretches }
    }

    fn word(&self, at: HostReal) -> Option<&'a AtomicU32> {
        self.stretches.iter().find_map(|s| {
            let frame = at.0.checked_sub(s.base.0)? >> FRAME_SHIFT;
            s.counts.get(usize::try_from(frame).ok()?)
        })
    }

    /// Replaces a block's word by what `new` makes of it, if anything; answers what it was.
    fn update(&self, at: HostReal, new: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        self.word(at)?.fetch_update(Ordering::AcqRel, Ordering::Acquire, new).ok()
    }

    /// Adds references. The caller has one, or has the memory to itself. `false` if it has no count. More than can be counted are not
    /// counted any more: the memory is then never given back.
    pub fn add(&self, at: HostReal, references: u32) -> bool {
        self.update(at, |n| Some((n & MERGED) | (n & !MERGED).saturating_add(references).min(MOST))).is_some()
    }

    /// Adds a reference if the block is shared and the merge may.
    pub fn add_if_merged(&self, at: HostReal) -> bool {
        self.update(at, |n| if n & MERGED == 0 || n & !MERGED >= MOST { None } else { Some(n + 1) }).is_some()
    }

    /// Lets the merge add references. The caller has one.
    pub fn mark_merged(&self, at: HostReal) -> bool {
        self.update(at, |n| if n == 0 { None } else { Some(n | MERGED) }).is_some()
    }

    /// Takes a reference off. `true` if it was the last: the memory is the caller's, who gives it back.
    pub fn drop_ref(&self, at: HostReal) -> bool {
        let less = |n: u32| match n & !MERGED {
            0 | MOST.. => None,
            1 => Some(0),
            _ => Some(n - 1),
        };
        self.update(at, less).is_some_and(|n| n & !MERGED == 1)
    }

    /// If the caller's reference is the only one, the block is not shared any more but the caller's own.
    pub fn take_exclusive(&self, at: HostReal) -> bool {
        self.update(at, |n| if n & !MERGED == 1 { Some(0) } else { None }).is_some()
    }

    /// How many refer to it.
    pub fn count(&self, at: HostReal) -> u32 {
        self.word(at).map_or(0, |w| w.load(Ordering::Relaxed) & !MERGED)
    }

    /// How many blocks are referred to, and how many references that are.
    pub fn totals(&self) -> (u64, u64) {
        let counts =
            self.stretches.iter().flat_map(|s| s.counts).map(|w| w.load(Ordering::Relaxed) & !MERGED);
        counts
            .filter(|count| *count > 0)
            .fold((0, 0), |(blocks, all), count| (blocks + 1, all + u64::from(count)))
    }

    /// May the merge add references?
    pub fn is_merged(&self, at: HostReal) -> bool {
        self.word(at).is_some_and(|w| w.load(Ordering::Relaxed) & MERGED != 0)
    }
}
