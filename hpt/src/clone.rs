//! A partition's memory and table for another one as well. The cost goes by the entries and populated pages that there are, not by memory.
//!
//! Here no processor is in either partition, nobody else uses their tables or pages, and the source's TLBs are flushed before it runs again: nothing has
//! to be locked or invalidated.

use power::{HostReal, HpteR};

use crate::access::read_only;
use crate::entry::{ABSENT, GROUP, Hpte, IN_USE, LOCK, RevEntry, VALID};
use crate::mmu::{GuestMmu, RC};
use crate::page::{MAX_SLOTS, Page};
use crate::sync::{Ordering, fence};

/// Why a partition was not cloned. Nothing has been changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloneError {
    /// Size or layout of the tables, or slots of RAM differ, or the new table is not empty.
    NotAlike,
    /// The new table's reserve has fewer groups than the source has used.
    NoGroups,
}

impl GuestMmu<'_> {
    /// Makes every populated page shared, and all entries of RAM read-only, whose R and C are harvested. `each` hears of every populated page: where
    /// it is, and whether it was shared before.
    pub fn share_all(&self, each: &mut dyn FnMut(HostReal, bool)) {
        for (host, was_shared) in self.slots.pages().filter_map(Page::share_quiesced) {
            each(host, was_shared);
        }
        self.hpt.groups_with_entries().for_each(|(_, group, revs)| {
            for slot in 0..GROUP {
                if group.0[slot].v.load_raw(Ordering::Relaxed) & VALID != 0 {
                    self.reduce_quiesced(&group.0[slot], &revs.0[slot]);
                }
            }
        });
        fence(Ordering::SeqCst);
    }

    /// Gives an empty partition the same memory and entries: [`GuestMmu::share_all`], and a copy. Its pages are shared and not protected. Devices do not
    /// come along: their entries become absent. The new table is all zero, and so are the new pages.
    pub fn clone_into(
        &self,
        new: &GuestMmu<'_>,
        each: &mut dyn FnMut(HostReal, bool),
    ) -> Result<(), CloneError> {
        let alike = self.shape() == new.shape()
            && self.hpt.len() == new.hpt.len()
            && self.hpt.format() == new.hpt.format()
            && self.slots.unit_shift() == new.slots.unit_shift()
            && new.hpt.groups_used() == 0
            && !new.hpt.is_frozen();
        let (true, Some(reserve)) = (alike, new.hpt.reserve()) else { return Err(CloneError::NotAlike) };
        if (reserve.groups.left() as usize) < self.hpt.groups_used() {
            return Err(CloneError::NoGroups);
        }
        for ((_, pages), (_, copies)) in self.slots.ram().zip(new.slots.ram()) {
            for (page, copy) in pages.iter().zip(copies) {
                if let Some((host, was_shared)) = page.share_quiesced() {
                    each(host, was_shared);
                } else if !page.is_mapped() {
                    continue;
                }
                copy.clone_from_quiesced(page);
            }
        }
        let mut groups = reserve.groups.feed();
        self.hpt.groups_with_entries().for_each(|(n, group, revs)| {
            // Both are there: there are as many groups, and enough in the reserve.
            let (Some((copy, copy_word)), Some(copy_revs)) = (new.hpt.at(n), groups.take()) else { return };
            copy_word.0.set(Some(copy_revs), true);
            for slot in 0..GROUP {
                if group.0[slot].v.load_raw(Ordering::Relaxed) & IN_USE != 0 {
                    self.clone_entry((&group.0[slot], &revs.0[slot]), (&copy.0[slot], &copy_revs.0[slot]));
                }
            }
        });
        drop(groups);
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Copies an entry in use.
    #[inline(never)]
    fn clone_entry(&self, (hpte, rev): (&Hpte, &RevEntry), (copy, copy_rev): (&Hpte, &RevEntry)) {
        let raw_v = hpte.v.load_raw(Ordering::Relaxed) & !LOCK;
        let (raw_v, r) = self.shared_entry(hpte, rev, raw_v);
        copy_rev.set_guest(rev.guest());
        copy_rev.forward.store(rev.forward.load(Ordering::Relaxed), Ordering::Relaxed);
        copy_rev.back.store(rev.back.load(Ordering::Relaxed), Ordering::Relaxed);
        copy.r.store(r, Ordering::Relaxed);
        copy.v.store_raw(raw_v, Ordering::Relaxed);
    }

    /// Makes an entry in use what two partitions can have: raw dword 0, and dword 1 as in memory, for the other.
    #[inline]
    fn shared_entry(&self, hpte: &Hpte, rev: &RevEntry, raw_v: u64) -> (u64, u64) {
        if raw_v & VALID == 0 {
            return (raw_v, hpte.r.load(Ordering::Relaxed));
        }
        if let Some(r) = self.reduce_quiesced(hpte, rev) {
            return (raw_v, r);
        }
        let (v, r) = self.hpt.decode(hpte);
        (raw_v & !VALID | ABSENT, self.absent_memory_r(v, r, rev.guest()))
    }

    /// Harvests R and C of a valid entry, and makes one of RAM read-only; answers its dword 1 as in memory. `None` for a device's.
    #[inline]
    fn reduce_quiesced(&self, hpte: &Hpte, rev: &RevEntry) -> Option<u64> {
        let r = hpte.r.load(Ordering::Relaxed);
        if r & RC != 0 {
            if let Some(page) = self.page_of(rev) {
                page.note_usage(r);
            }
            rev.set_guest(HpteR(rev.guest().0 | r & RC));
        }
        if !rev.is_linked() {
            return None;
        }
        // PP, R and C are in the same place in both layouts.
        let reduced = read_only(r) & !RC;
        if reduced != r {
            hpte.r.store(reduced, Ordering::Relaxed);
        }
        Some(reduced)
    }

    /// The slots of RAM: where, and how many pages.
    fn shape(&self) -> [(u64, usize); MAX_SLOTS] {
        let mut shape = [(0, 0); MAX_SLOTS];
        for (place, (base, pages)) in shape.iter_mut().zip(self.slots.ram()) {
            *place = (base.0, pages.len());
        }
        shape
    }
}
