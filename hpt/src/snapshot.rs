//! A frozen table: what the guest sees of a group is logged before it changes for the first time, so that all can be as it was.
//!
//! # Opening a group
//! An operation by which the guest would see something else of a group looks at the flag in the group's word of the reverse map first. Without
//! it the group has to be opened: under the reserve's lock it gets a part in the reverse map, if it has none, and if the table is frozen,
//! its entries go to the log; then the flag is set. Whoever sees the flag may change the group, which stays open until the table is
//! frozen again. Memory for either comes from the [`Reserve`]; if there is none, the operation is `TooHard` and has changed nothing.
//!
//! What only the hardware sees (entries that become valid, absent or read-only, R and C that are harvested) opens nothing. A group that is not
//! in the log has the same entries as when the table was frozen, but their R and C may have been set since.

use power::hpte::page_sizes;
use power::{HpteR, HpteV, PteIndex};

use crate::access::{absent_r, ram_r};
use crate::entry::{Hpte, IN_USE, RevEntry, RevGroup, VALID};
use crate::error::HptError;
use crate::mmu::{Backing, GuestMmu, RC, guest_v};
use crate::reserve::{LogEntry, Reserve};
use crate::sync::{Ordering, fence};
use crate::table::{Entry, Hpt};

impl Hpt<'_> {
    /// Makes a group one that may be changed, and answers its part in the reverse map. `TooHard` when there is no memory for that, or
    /// others hold the reserve for long.
    #[cold]
    #[inline(never)]
    pub(crate) fn open(&self, index: PteIndex) -> Result<&'static RevGroup, HptError> {
        let (group, word) = self.group(index).ok_or(HptError::Parameter)?;
        let reserve = self.reserve().ok_or(HptError::TooHard)?;
        let opened = reserve.locked(|| {
            if let Some(revs) = word.0.flagged() {
                // Somebody else was faster.
                return Ok(revs);
            }
            let known = word.0.get();
            if known.is_none() && reserve.groups.left() == 0 {
                return Err(HptError::TooHard);
            }
            if reserve.is_frozen() {
                let log = reserve.log.take().ok_or(HptError::TooHard)?;
                log.set_group(index.0 >> 3, known.is_none());
                for (slot, hpte) in group.0.iter().enumerate() {
                    let rev = known.and_then(|revs| revs.0.get(slot));
                    let (v, r) = rev.map_or((HpteV(0), HpteR(0)), |rev| self.seen_by_guest(hpte, rev));
                    log.set(slot, v, r);
                }
            }
            let revs = match known {
                Some(revs) => revs,
                None => reserve.groups.take().ok_or(HptError::TooHard)?,
            };
            word.0.set(Some(revs), true);
            Ok(revs)
        });
        opened.unwrap_or(Err(HptError::TooHard))
    }

    /// The part of a group in the reverse map, once it is one that may be changed.
    pub(crate) fn opened(&self, index: PteIndex) -> Result<&'static RevGroup, HptError> {
        let (_, word) = self.group(index).ok_or(HptError::Parameter)?;
        match word.0.flagged() {
            Some(revs) => Ok(revs),
            None => self.open(index),
        }
    }

    /// Both dwords of an entry as the guest sees them; zeroes when it is not in use. For who has the entry locked, or knows that
    /// what the guest sees does not change.
    pub(crate) fn seen_by_guest(&self, hpte: &Hpte, rev: &RevEntry) -> (HpteV, HpteR) {
        let (v, r) = self.decode(hpte);
        if !v.any(HpteV::V | HpteV::ABSENT) {
            return (HpteV(0), HpteR(0));
        }
        let rc = if v.any(HpteV::V) { r.0 & RC } else { 0 };
        (guest_v(v), HpteR(rev.guest().0 | rc))
    }

    /// From now on what the guest sees of each group is logged before it changes. A log that there is begins anew. No processor is in the partition, and
    /// nobody uses the table.
    pub fn freeze_all(&self) {
        self.set_frozen(true);
    }

    /// Changes are not logged any more, and the log is forgotten. As for [`Hpt::freeze_all`].
    pub fn unfreeze_all(&self) {
        if self.is_frozen() {
            self.set_frozen(false);
        }
    }

    /// Are changes logged?
    #[inline]
    pub fn is_frozen(&self) -> bool {
        self.reserve().is_some_and(Reserve::is_frozen)
    }

    fn set_frozen(&self, frozen: bool) {
        if let Some(reserve) = self.reserve() {
            reserve.log.reset();
            reserve.set_frozen(frozen);
            // A group without a part in the reverse map is opened in any case.
            self.words().iter().for_each(|word| word.0.flag(!frozen));
            fence(Ordering::SeqCst);
        }
    }

    /// Takes back all that was given to the reverse map and to the log.
    pub(crate) fn forget_all(&self) {
        if let Some(reserve) = self.reserve() {
            self.words().iter().for_each(|word| word.0.set(None, false));
            reserve.groups.each(RevGroup::reset);
            reserve.groups.reset();
            reserve.log.reset();
            reserve.set_frozen(false);
        }
    }
}

impl GuestMmu<'_> {
    /// Makes what the guest sees as it was when the table was frozen, but for R and C of groups that have not been changed. The table is frozen
    /// again then, with an empty log.
    ///
    /// What the hardware sees is what the pages allow as they are now, so their backing is brought back before
    /// ([`GuestMmu::restore`]). R and C of entries that go are added to their pages. No processor is in the partition, its
    /// TLBs are flushed before one enters, and nobody uses the table or the pages.
    pub fn revert(&self) {
        if let Some(reserve) = self.hpt.reserve() {
            reserve.log.each(|saved| self.revert_group(saved));
            reserve.rewind();
            fence(Ordering::SeqCst);
        }
    }

    fn revert_group(&self, saved: &LogEntry) {
        let first = saved.group() << 3;
        let Some((group, word)) = self.hpt.group(PteIndex(first)) else { return };
        let Some(revs) = word.0.get() else { return };
        for (slot, (hpte, rev)) in group.0.iter().zip(&revs.0).enumerate() {
            let (v, r) = saved.get(slot);
            let in_use = hpte.v.load_raw(Ordering::Relaxed) & IN_USE != 0;
            if v.0 == 0 && !in_use {
                continue;
            }
            let entry = Entry { index: PteIndex(first | slot as u64), hpte, rev };
            if in_use {
                let (seen_v, seen_r) = self.hpt.seen_by_guest(hpte, rev);
                if seen_v == v && (seen_r.0 ^ r.0) & !RC == 0 {
                    self.take_usage_quiesced(&entry);
                    rev.set_guest(r);
                    continue;
                }
                self.drop_quiesced(&entry);
            }
            if v.0 != 0 {
                self.install_quiesced(&entry, v, r);
            }
        }
        if saved.is_new() {
            // It is empty, and gives back what it got: else the reverse map would grow each time.
            revs.reset();
            word.0.set(None, false);
        } else {
            word.0.flag(false);
        }
    }

    /// Adds R and C of an entry to its page, and clears them for the hardware. Nobody uses the entry.
    fn take_usage_quiesced(&self, entry: &Entry<'_>) {
        if entry.hpte.v.load_raw(Ordering::Relaxed) & VALID == 0 {
            return;
        }
        let r = entry.hpte.r.load(Ordering::Relaxed);
        if r & RC != 0 {
            if let Some(page) = self.page_of(entry.rev) {
                page.note_usage(r);
            }
            entry.hpte.r.store(r & !RC, Ordering::Relaxed);
        }
    }

    /// Frees an entry. Nobody uses it or its page.
    fn drop_quiesced(&self, entry: &Entry<'_>) {
        self.take_usage_quiesced(entry);
        if let Some(page) = self.page_of(entry.rev) {
            self.unlink(page, entry);
        }
        entry.hpte.v.store_raw(0, Ordering::Relaxed);
    }

    /// Makes a free entry what the guest sees of it, as far as its page allows it to the hardware. Nobody uses either.
    pub(crate) fn install_quiesced(&self, entry: &Entry<'_>, v: HpteV, guest: HpteR) {
        let low = page_sizes(v, guest).map_or(0xfff, |(_, actual)| actual.bytes() - 1);
        let (bit, hardware) = match self.backing(guest, low) {
            Ok(Backing::Ram(page, offset)) => {
                self.link(page, entry);
                let view = page.view();
                if view.is_present() {
                    (HpteV::V, ram_r(guest.0 & !RC, low, view.host_bits() | offset, view))
                } else {
                    (HpteV::ABSENT, absent_r(guest.0, low))
                }
            }
            Ok(Backing::Device(host)) => (HpteV::V, (guest.0 & (!HpteR::RPN | low)) | host),
            Ok(Backing::Nothing) | Err(_) => (HpteV::ABSENT, absent_r(guest.0, low)),
        };
        entry.rev.set_guest(guest);
        entry.hpte.r.store(self.hpt.memory_r(v, hardware), Ordering::Relaxed);
        let v = HpteV((v.0 & !HpteV::V) | bit);
        entry.hpte.v.store(self.hpt.memory_v(v), Ordering::Relaxed);
    }
}
