//! A partition's memory and table for another one as well. The cost goes by the entries and populated pages that there are, not by memory.
//!
//! Here no processor is in either partition, nobody else uses their tables or pages, and the source's TLBs are flushed before it runs again: nothing has
//! to be locked or invalidated.

use power::{HostReal, HpteR};

use crate::access::read_only;
use crate::entry::{ABSENT, Hpte, IN_USE, LOCK, RevEntry, VALID};
use crate::mmu::{GuestMmu, RC};
use crate::page::{MAX_SLOTS, Page, SlotKind};
use crate::reserve::Stock;
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
    pub fn share_all(&self, mut each: impl FnMut(HostReal, bool)) {
        for page in self.all_pages() {
            if let Some((host, was_shared)) = page.share_quiesced() {
                each(host, was_shared);
            }
        }
        for (_, group, revs) in self.hpt.groups_with_entries() {
            for (hpte, rev) in group.0.iter().zip(&revs.0) {
                if hpte.v.load_raw(Ordering::Relaxed) & VALID != 0 {
                    self.reduce_quiesced(hpte, rev);
                }
            }
        }
        fence(Ordering::SeqCst);
    }

    /// Gives an empty partition the same memory and entries: [`GuestMmu::share_all`], and a copy. Its pages are shared and not protected. Devices do not
    /// come along: their entries become absent. The new table is all zero, and so are the new pages.
    pub fn clone_into(
        &self,
        new: &GuestMmu<'_>,
        mut each: impl FnMut(HostReal, bool),
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
        for (page, copy) in self.all_pages().zip(new.all_pages()) {
            let shared = page.share_quiesced();
            if let Some((host, was_shared)) = shared {
                each(host, was_shared);
            }
            if shared.is_some() || page.is_mapped() {
                copy.clone_from_quiesced(page);
            }
        }
        self.clone_entries(new, &reserve.groups);
        fence(Ordering::SeqCst);
        Ok(())
    }

    fn clone_entries<const N: usize>(&self, new: &GuestMmu<'_>, groups: &Stock<crate::entry::RevGroup, N>) {
        for ((group, word), (copy, copy_word)) in self.hpt.all().zip(new.hpt.all()) {
            let Some(revs) = word.0.get() else { continue };
            let Some(copy_revs) = groups.take() else { return };
            copy_word.0.set(Some(copy_revs), true);
            let entries = group.0.iter().zip(&revs.0);
            let copies = copy.0.iter().zip(&copy_revs.0);
            for ((hpte, rev), (copy, copy_rev)) in entries.zip(copies) {
                let raw_v = hpte.v.load_raw(Ordering::Relaxed) & !LOCK;
                if raw_v & IN_USE == 0 {
                    // The memory may have been another group's.
                    copy_rev.forward.store(0, Ordering::Relaxed);
                    continue;
                }
                let (raw_v, r) = self.shared_entry(hpte, rev, raw_v);
                copy_rev.set_guest(rev.guest());
                copy_rev.forward.store(rev.forward.load(Ordering::Relaxed), Ordering::Relaxed);
                copy_rev.back.store(rev.back.load(Ordering::Relaxed), Ordering::Relaxed);
                copy.r.store(r, Ordering::Relaxed);
                copy.v.store_raw(raw_v, Ordering::Relaxed);
            }
        }
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

    /// The slots of RAM: where, and how long.
    fn shape(&self) -> [(u64, u64); MAX_SLOTS] {
        let mut shape = [(0, 0); MAX_SLOTS];
        let slots = self.slots.iter().filter(|slot| matches!(slot.kind, SlotKind::Ram(_)));
        for (place, slot) in shape.iter_mut().zip(slots) {
            *place = (slot.base.0, slot.len);
        }
        shape
    }

    /// All pages of RAM.
    pub(crate) fn all_pages(&self) -> impl Iterator<Item = &Page> {
        self.slots.iter().flat_map(|slot| match slot.kind {
            SlotKind::Ram(pages) => pages,
            SlotKind::Device { .. } => &[],
        })
    }
}
