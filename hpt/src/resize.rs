//! A table of another size for the same memory (PAPR 14.5.4.2, H_RESIZE_HPT_COMMIT).
//!
//! Bolted entries come along, the others need not, and do not: the guest takes a fault and enters them again. An entry goes to the group
//! that its hash selects in the new table, the secondary one if it was found by that, and to the place it had in its group if
//! that is free.

use power::hpte::page_sizes;
use power::{HpteV, PteIndex};

use crate::entry::{GROUP, IN_USE, VALID};
use crate::error::HptError;
use crate::hash::hash_of;
use crate::mmu::GuestMmu;
use crate::sync::{Ordering, fence};
use crate::table::Entry;

/// The smallest table there is, in entries: 2^11 groups. The number of a group gives all bits of an address that dword 0 lacks.
const LEAST: u64 = (GROUP as u64) << 11;

impl GuestMmu<'_> {
    /// Moves all bolted entries to another table, which is empty and has the same slots; pages have their chains there then. No processor is in the
    /// partition, its TLBs are flushed before one enters, and nobody uses the tables or the pages.
    ///
    /// On an error the old table is as it was and the new one of no use: `PtegFull` if a group cannot hold the entries that belong there,
    /// `TooHard` if the new reserve has too few groups, `Parameter` if a table is below 2^11 groups or the new one not empty or of another layout.
    /// Done, the old table is of no use, with its log.
    pub fn rehash_into(&self, new: &GuestMmu<'_>) -> Result<(), HptError> {
        let (old, to) = (self.hpt, new.hpt);
        let fits = old.len().min(to.len()) >= LEAST
            && old.format() == to.format()
            && core::ptr::eq(self.slots, new.slots)
            && to.groups_used() == 0
            && !to.is_frozen();
        if !fits {
            return Err(HptError::Parameter);
        }
        for (n, group, revs) in old.groups_with_entries() {
            for (slot, (hpte, rev)) in group.0.iter().zip(&revs.0).enumerate() {
                let (v, guest) = old.seen_by_guest(hpte, rev);
                let Some((base, _)) = page_sizes(v, guest) else { continue };
                if v.0 == 0 || !v.any(HpteV::BOLTED) {
                    continue;
                }
                let index = PteIndex((n * GROUP + slot) as u64);
                let hash = hash_of(v, base, index);
                let hash = if v.any(HpteV::H) { !hash } else { hash };
                let group = hash & ((to.len() >> 3) - 1);
                let place = new.place(PteIndex(group << 3 | slot as u64))?;
                // As one that leads nowhere, until nothing can go wrong any more.
                place.rev.set_guest(guest);
                place.hpte.r.store(new.absent_memory_r(v, guest, guest), Ordering::Relaxed);
                let v = HpteV((v.0 & !HpteV::V) | HpteV::ABSENT);
                place.hpte.v.store(to.memory_v(v), Ordering::Relaxed);
            }
        }
        // --- point of no return ---
        self.leave_pages();
        for (n, group, revs) in to.groups_with_entries() {
            for (slot, (hpte, rev)) in group.0.iter().zip(&revs.0).enumerate() {
                let (v, guest) = to.seen_by_guest(hpte, rev);
                if v.0 != 0 {
                    let index = PteIndex((n * GROUP + slot) as u64);
                    new.install_quiesced(&Entry { index, hpte, rev }, v, guest);
                }
            }
        }
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// A free entry of a group: this one, if it is.
    fn place(&self, wanted: PteIndex) -> Result<Entry<'_>, HptError> {
        self.hpt.open(wanted)?;
        let free = |slot: u64| {
            let entry = self.hpt.entry(PteIndex(wanted.0 & !7 | slot)).ok()?;
            (entry.hpte.v.load_raw(Ordering::Relaxed) & IN_USE == 0).then_some(entry)
        };
        free(wanted.0 & 7).or_else(|| (0..GROUP as u64).find_map(free)).ok_or(HptError::PtegFull)
    }

    /// Adds R and C of all entries to their pages, which have no entries then.
    fn leave_pages(&self) {
        for (_, group, revs) in self.hpt.groups_with_entries() {
            for (hpte, rev) in group.0.iter().zip(&revs.0) {
                if hpte.v.load_raw(Ordering::Relaxed) & VALID != 0
                    && let Some(page) = self.page_of(rev)
                {
                    page.note_usage(hpte.r.load(Ordering::Relaxed));
                }
            }
        }
        self.slots.pages().for_each(|page| page.set_head(0));
    }
}
