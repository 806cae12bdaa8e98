//! Snapshots and clones: references to all pages of a partition at one moment, and the way back.
//!
//! Both make every page shared in one pass of `hpt`'s, while no processor is in the partition. What is to be done for each page is to count references. A snapshot also
//! keeps where every page was. From then on each page whose backing changes is put on a list, once; the way back is to put back what is on
//! the list. What the snapshot saved was shared when it was saved, so that no store can have got to it: it takes a change of backing first.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hpt::machine::Quiesced;
use hpt::{Machine, PageView};
use power::HostReal;

use crate::host::Host;
use crate::notify::What;
use crate::state::{Error, Memory, Spot, bits, vector};
use crate::sync::{AtomicU64, Ordering};

/// A partition's memory at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// What backed each page: nothing, or shared memory to which this has a reference.
    saved: Vec<PageView>,
    /// Which pages are on the list of those that changed since.
    noted: Box<[AtomicU64]>,
    changed: Vec<u32>,
    /// Those that the last revert put back.
    reverted: Vec<u32>,
}

impl Snapshot {
    /// With room for so many pages.
    fn new(pages: usize) -> Result<Snapshot, Error> {
        Ok(Snapshot {
            saved: vector(pages)?,
            noted: bits(pages)?,
            changed: vector(pages)?,
            reverted: vector(pages)?,
        })
    }

    /// Puts a page on the list.
    pub(crate) fn note(&mut self, index: usize) {
        let Some(word) = self.noted.get(index / 64) else { return };
        let bit = 1 << (index % 64);
        if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 && self.changed.len() < self.changed.capacity() {
            self.changed.push(index as u32);
        }
    }
}

impl<'a, H: Host, M: Machine> Memory<'a, H, M> {
    /// Runs `hpt`'s pass over a partition in which no processor is, which makes every page shared: for a clone, or for a snapshot. It is given
    /// what to call for each populated page: with where it is, and whether it was shared before. Nothing else changes what backs any page meanwhile.
    pub fn share_everything<R>(&self, pass: impl FnOnce(&mut dyn FnMut(HostReal, bool)) -> R) -> R {
        let result = {
            let _stripes = self.paging.all_stripes();
            pass(&mut |host, was_shared| self.refer(host, was_shared))
        };
        if !self.paging.registry.is_empty() {
            self.tell_all_shared();
        }
        result
    }

    /// One more refers to the memory of a page.
    fn refer(&self, host: HostReal, was_shared: bool) {
        if !self.is_zero_page(host) {
            self.host.shares().add(host, if was_shared { 1 } else { 2 });
        }
    }

    /// Takes a snapshot, in place of an earlier one. No processor is in the partition; `pass` makes every page
    /// shared and calls back for each, as with [`Memory::share_everything`].
    pub fn snapshot(&self, pass: impl FnOnce(&mut dyn FnMut(HostReal, bool))) -> Result<(), Error> {
        let mut new = Snapshot::new(self.pages())?;
        self.drop_snapshot();
        {
            let _stripes = self.paging.all_stripes();
            pass(&mut |host, was_shared| self.refer(host, was_shared));
            new.saved.extend(self.spots().map(|spot| spot.page.view()));
            *self.paging.snapshot.lock() = Some(new);
            self.paging.has_snapshot.store(true, Ordering::Relaxed);
        }
        if !self.paging.registry.is_empty() {
            self.tell_all_shared();
        }
        Ok(())
    }

    /// Forgets the snapshot, and lets go of its memory. `false` if there is none.
    pub fn drop_snapshot(&self) -> bool {
        let old = {
            let _stripes = self.paging.all_stripes();
            self.paging.has_snapshot.store(false, Ordering::Relaxed);
            self.paging.snapshot.lock().take()
        };
        let Some(old) = old else { return false };
        old.saved.iter().for_each(|view| self.let_go(*view));
        true
    }

    /// Puts the partition's memory back to what it was when the snapshot was taken; answers how many pages had to be, or `None` if there is
    /// no snapshot. No processor is in the partition, and its TLBs
    /// are flushed before one is. The limits of notifiers stay as they are. The cost is that of the pages that have changed, however many there are.
    pub fn revert(&self) -> Option<u64> {
        let count = {
            let _stripes = self.paging.all_stripes();
            let mut snapshot = self.paging.snapshot.lock();
            let snapshot = snapshot.as_mut()?;
            core::mem::swap(&mut snapshot.changed, &mut snapshot.reverted);
            snapshot.changed.clear();
            let Snapshot { saved, noted, reverted, .. } = snapshot;
            reverted.retain(|&index| {
                let index = index as usize;
                if let Some(word) = noted.get(index / 64) {
                    word.fetch_and(!(1 << (index % 64)), Ordering::Relaxed);
                }
                let saved = saved.get(index);
                self.numbered(index).zip(saved).is_some_and(|(spot, saved)| self.put_back(&spot, *saved))
            });
            snapshot.reverted.len()
        };
        for n in 0..count {
            if self.paging.registry.is_empty() {
                break;
            }
            if let Some(spot) = self.reverted(n) {
                self.tell(spot.real, What::Reverted, None);
            }
        }
        Some(count as u64)
    }

    fn reverted(&self, n: usize) -> Option<Spot<'a>> {
        let index = self.paging.snapshot.lock().as_ref()?.reverted.get(n).copied()?;
        self.numbered(index as usize)
    }

    /// Backs a page by what backed it at the snapshot. `false` if it does already.
    fn put_back(&self, spot: &Spot<'_>, saved: PageView) -> bool {
        let now = spot.page.view();
        if (now.state(), now.host()) == (saved.state(), saved.host()) {
            return false;
        }
        if let Some(host) = saved.host().filter(|host| !self.is_zero_page(*host)) {
            self.host.shares().add(host, 1);
        }
        if self.is_charged(saved) {
            self.paging.charge_beyond_limit(1);
        }
        // Nobody is in the partition: its TLBs are flushed before anybody is.
        let machine = Quiesced(self.machine);
        let backing = saved.with_protection(now.protection());
        let done = self.mmu.restore(&machine, spot.real, backing);
        debug_assert!(done.is_ok());
        if self.is_charged(now) {
            self.paging.uncharge(1);
        }
        self.paging.mark_dirty(spot.index);
        self.let_go(now);
        true
    }
}
