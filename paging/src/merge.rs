//! Equal pages become one.
//!
//! A [`Merger`] looks at the pages of the partitions that it is given, a few at a time. It remembers a checksum of each: a page that changed since it was last looked at is
//! left alone. Pages of zeroes become the zero page at once. Any other that has kept is write-protected where it is, so that its contents stand still, and looked up by their
//! hash in a table of pages that were merged. If one there has the same contents, byte for byte, the page is moved to it and its own memory given
//! back. If there is none with the same hash, this page is the first of its kind: it stays shared, with a mark that lets the merge add references, and a store to it takes it back where it is, without
//! a copy.
//!
//! The table may be out of date: what it names may have gone, or be something else by now. [`crate::Shares::add_if_merged`] and the
//! comparison that follows take care of that. A lost entry costs a chance to merge, no more.
//!
//! Pages that a notifier is armed for are not touched, nor partitions with units of 16 MiB.

use alloc::vec::Vec;

use hpt::{Machine, PageState};
use power::HostReal;

use crate::host::Host;
use crate::state::{Error, Memory, Spot, vector};

/// Entries that a hash may be found in.
const WAYS: usize = 4;

/// For each page that a step may look at, it may pass over so many.
const EMPTY: u64 = 64;

/// What one step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Pages looked at.
    pub looked: u64,
    /// The partition's last page was passed: the next step begins at its first.
    pub done: bool,
}

/// What the merge has done, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MergeFigures {
    /// Looked at.
    pub looked: u64,
    /// Found to change, and left alone.
    pub changing: u64,
    /// Turned into the zero page.
    pub zeroed: u64,
    /// Moved to memory with the same contents.
    pub merged: u64,
    /// Found to be the first of their kind.
    pub first: u64,
    /// With the hash of another page, but not its contents.
    pub unequal: u64,
}

#[derive(Clone, Copy, Default)]
struct Candidate {
    hash: u64,
    /// 0: no candidate. Guests have no memory at 0.
    at: HostReal,
}

/// A set of memory, a bit for each 64 KiB from 0 up to the last that was added.
#[derive(Default)]
struct Known(Vec<u64>);

impl Known {
    fn place(at: HostReal) -> (usize, u64) {
        ((at.0 >> 22) as usize, 1 << (at.0 >> 16 & 63))
    }

    fn has(&self, at: HostReal) -> bool {
        let (word, bit) = Known::place(at);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Without memory for it, it is not added: the page will be looked at once more.
    fn add(&mut self, at: HostReal) {
        let (word, bit) = Known::place(at);
        let more = (word + 1).saturating_sub(self.0.len());
        if self.0.try_reserve(more).is_ok() {
            self.0.resize(self.0.len() + more, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= bit;
        }
    }
}

/// What is remembered of a partition.
struct Progress {
    key: u64,
    /// The next page.
    next: usize,
    /// A checksum of each page, or 0.
    sums: Vec<u32>,
}

/// Looks for equal pages.
pub struct Merger {
    table: Vec<Candidate>,
    /// Memory that was put into the table, be it there still or not.
    known: Known,
    partitions: Vec<Progress>,
    figures: MergeFigures,
}

impl Merger {
    /// With room for so many different pages in its table, which is made a power of two.
    pub fn new(entries: usize) -> Result<Merger, Error> {
        let entries = entries.max(WAYS).next_power_of_two();
        let mut table = vector(entries)?;
        table.resize(entries, Candidate::default());
        Ok(Merger {
            table,
            known: Known::default(),
            partitions: Vec::new(),
            figures: MergeFigures::default(),
        })
    }

    /// What it has done.
    pub const fn figures(&self) -> MergeFigures {
        self.figures
    }

    /// Forgets a partition that goes.
    pub fn forget(&mut self, key: u64) {
        self.partitions.retain(|p| p.key != key);
    }

    /// Forgets everything but the figures. Pages that are merged stay so.
    pub fn off(&mut self) {
        self.partitions = Vec::new();
        self.table.fill(Candidate::default());
        self.known = Known::default();
    }

    /// Looks at the next pages of a partition: at most `budget` of them that have memory, and passes over some that have none. `key` names the partition among all that this is given.
    pub fn step<H: Host, M: Machine>(
        &mut self,
        key: u64,
        memory: &Memory<'_, H, M>,
        budget: u64,
    ) -> Result<Step, Error> {
        let (mut looked, mut passed) = (0, 0);
        if !memory.has_zero_page() {
            return Ok(Step { looked, done: true });
        }
        let mut progress = self.progress(key, memory.pages())?;
        let mut done = true;
        while let Some(spot) = memory.numbered(progress.next) {
            let empty = spot.page.view().host().is_none_or(|at| memory.is_zero_page(at));
            if !empty && looked == budget || passed == budget.saturating_mul(EMPTY) {
                done = false;
                break;
            }
            passed += 1;
            progress.next += 1;
            if empty {
                continue;
            }
            looked += 1;
            if let Some(sum) = progress.sums.get_mut(spot.index) {
                *sum = self.look(memory, &spot, *sum);
            }
        }
        if done {
            progress.next = 0;
        }
        self.partitions.push(progress);
        self.figures.looked += looked;
        Ok(Step { looked, done })
    }

    /// Takes what is remembered of a partition, with room for one to put back.
    fn progress(&mut self, key: u64, pages: usize) -> Result<Progress, Error> {
        self.partitions.try_reserve(1).map_err(|_| Error::Exhausted)?;
        let known = self.partitions.iter().position(|p| p.key == key);
        let mut progress = match known {
            Some(at) => self.partitions.swap_remove(at),
            None => Progress { key, next: 0, sums: Vec::new() },
        };
        let more = pages.saturating_sub(progress.sums.len());
        progress.sums.try_reserve_exact(more).map_err(|_| Error::Exhausted)?;
        progress.sums.resize(pages, 0);
        Ok(progress)
    }

    /// Looks at one page, whose checksum was `old`; answers what it is now.
    fn look<H: Host, M: Machine>(&mut self, memory: &Memory<'_, H, M>, spot: &Spot<'_>, old: u32) -> u32 {
        let _stripe = memory.paging.stripe(spot.index);
        let view = spot.page.view();
        let Some(at) = view.host().filter(|at| !memory.is_zero_page(*at)) else { return 0 };
        if memory.is_watched(spot) {
            return 0;
        }
        let unit = memory.unit();
        let private = view.state() == PageState::Private;
        if !private && self.known.has(at) && memory.host.shares().is_merged(at) {
            // Looked at already, here or in another partition: it does not change.
            return old;
        }
        let zero = memory.host.is_zero(at, unit);
        let sum = if zero { 0 } else { fold(memory.host.hash(at, unit)) };
        // What is shared does not change.
        if !zero && private && sum != old {
            self.figures.changing += u64::from(old != 0);
            return sum;
        }
        if private && !memory.share_in_place(spot, at) {
            return sum;
        }
        // From here on nobody stores to it.
        let kept = if zero {
            let still = memory.host.is_zero(at, unit);
            if still {
                self.figures.zeroed += 1;
                memory.merge_into(spot, at, memory.host.zero_page());
            }
            still
        } else {
            let hash = memory.host.hash(at, unit);
            fold(hash) == sum && self.find(memory, spot, at, hash)
        };
        if private && !kept && memory.host.shares().take_exclusive(at) {
            // The stripe is held and the page was just made shared: no error.
            let _ = memory.make_private(spot, at);
        }
        sum
    }

    /// Looks a page up whose contents stand still. Does it stay shared?
    fn find<H: Host, M: Machine>(
        &mut self,
        memory: &Memory<'_, H, M>,
        spot: &Spot<'_>,
        at: HostReal,
        hash: u64,
    ) -> bool {
        let (shares, unit) = (memory.host.shares(), memory.unit());
        let buckets = self.table.len() / WAYS;
        let bucket = (hash as usize & (buckets - 1)) * WAYS;
        let Some(ways) = self.table.get_mut(bucket..bucket + WAYS) else { return false };
        for way in ways.iter_mut().filter(|way| way.at.0 != 0 && way.hash == hash) {
            if way.at == at && shares.is_merged(at) {
                self.known.add(at);
                return true;
            }
            if way.at == at || !shares.add_if_merged(way.at) {
                *way = Candidate::default();
                continue;
            }
            // With a reference to it, its contents stand still, too.
            if memory.host.same(way.at, at, unit) {
                self.figures.merged += 1;
                memory.merge_into(spot, at, way.at);
                return true;
            }
            if shares.drop_ref(way.at) {
                memory.host.release(way.at, unit);
            }
            self.figures.unequal += 1;
            return false;
        }
        if !shares.mark_merged(at) {
            return false;
        }
        self.known.add(at);
        self.figures.first += 1;
        let free = ways.iter().position(|way| way.at.0 == 0 || !shares.is_merged(way.at));
        if let Some(way) = ways.get_mut(free.unwrap_or((hash >> 62) as usize)) {
            *way = Candidate { hash, at };
        }
        true
    }
}

/// A checksum that is not 0.
fn fold(hash: u64) -> u32 {
    ((hash >> 32) as u32 ^ hash as u32).max(1)
}

impl<H: Host, M: Machine> Memory<'_, H, M> {
    /// Does anybody want to hear of a page, whose stripe is held?
    fn is_watched(&self, spot: &Spot<'_>) -> bool {
        self.paging.registry.is_armed(self.page_number(spot.real))
    }

    /// Makes a private page shared, with the one reference that is its own.
    fn share_in_place(&self, spot: &Spot<'_>, at: HostReal) -> bool {
        if !self.host.shares().add(at, 1) {
            return false;
        }
        if self.mmu.make_shared(self.machine, spot.real).is_err() {
            self.host.shares().take_exclusive(at);
            return false;
        }
        self.paging.backing_changed(spot.index);
        true
    }

    /// Moves a shared page to other memory with the same contents, to which the caller has a reference for it, and lets go of what it had.
    fn merge_into(&self, spot: &Spot<'_>, from: HostReal, to: HostReal) {
        let old = spot.page.view();
        if self.mmu.move_shared(self.machine, spot.real, to).is_err() {
            return;
        }
        debug_assert_eq!(old.host(), Some(from));
        if self.is_zero_page(to) {
            self.paging.uncharge(1);
        }
        self.paging.backing_changed(spot.index);
        self.let_go(old);
    }
}
