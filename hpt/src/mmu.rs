//! A partition's view of its table and memory, and the steps that all operations are made of.

use power::{GuestReal, HpteR, HpteV};

use crate::entry::{ABSENT, END, IN_USE, LINKED, LOCK, RevEntry, VALID};
use crate::error::HptError;
use crate::machine::Machine;
use crate::page::{Page, PageView, SLOT_ALIGN, SlotKind, Slots};
use crate::sync::{Ordering, fence};
use crate::table::{Entry, Hpt};

/// A partition's page table together with what backs its real addresses. As cheap as two pointers.
#[derive(Clone, Copy, Debug)]
pub struct GuestMmu<'a> {
    pub(crate) hpt: &'a Hpt<'a>,
    pub(crate) slots: &'a Slots<'a>,
}

/// What is behind an entry.
#[derive(Clone, Copy)]
pub(crate) enum Backing<'a> {
    /// RAM, and the offset in the page.
    Ram(&'a Page, u64),
    /// A device, at this address of the host.
    Device(u64),
    /// No slot: emulated MMIO.
    Nothing,
}

pub(crate) const RC: u64 = HpteR::R | HpteR::C;

/// Dword 0 as the guest may see it: absent entries are valid, nobody has a lock.
#[inline]
pub(crate) const fn guest_v(v: HpteV) -> HpteV {
    if v.any(HpteV::V | HpteV::ABSENT) { guest_v_in_use(v) } else { HpteV(0) }
}

/// The same of an entry that is in use.
#[inline]
pub(crate) const fn guest_v_in_use(v: HpteV) -> HpteV {
    HpteV((v.0 & !(HpteV::HVLOCK | HpteV::ABSENT)) | HpteV::V)
}

impl<'a> GuestMmu<'a> {
    /// Over this table and these slots.
    #[inline]
    pub const fn new(hpt: &'a Hpt<'a>, slots: &'a Slots<'a>) -> GuestMmu<'a> {
        GuestMmu { hpt, slots }
    }

    /// The table.
    pub const fn hpt(&self) -> &'a Hpt<'a> {
        self.hpt
    }

    /// The slots.
    pub const fn slots(&self) -> &'a Slots<'a> {
        self.slots
    }

    /// What is behind a page of the guest; `Parameter` if a cache attribute is wrong or a large page does not fit.
    /// `low` is the actual page size less one; it is not above the unit.
    #[inline(always)]
    pub(crate) fn backing(&self, guest: HpteR, low: u64) -> Result<Backing<'a>, HptError> {
        let real = guest.0 & HpteR::RPN & !low;
        let Some((slot, offset)) = self.slots.slot(real) else {
            // Slots are aligned to 64 KiB, so only a larger page might reach into one; and none is of use where there is nothing.
            return if low >= SLOT_ALIGN { Err(HptError::Parameter) } else { Ok(Backing::Nothing) };
        };
        match slot.kind {
            SlotKind::Ram(pages) => {
                let shift = self.slots.unit_shift();
                let page = pages.get((offset >> shift) as usize).ok_or(HptError::Parameter)?;
                Ok(Backing::Ram(page, offset & ((1 << shift) - 1)))
            }
            SlotKind::Device { host, attribute } => {
                let at = host.0.wrapping_add(offset);
                let fits = at & low == 0 && slot.len - offset > low;
                let attribute = attribute & (HpteR::W | HpteR::I);
                if fits && crate::access::cache_attribute(guest.0) == attribute {
                    Ok(Backing::Device(at & HpteR::RPN))
                } else {
                    Err(HptError::Parameter)
                }
            }
        }
    }

    /// Puts a locked entry on the chain of a locked page.
    #[inline(always)]
    pub(crate) fn link(&self, page: &Page, entry: &Entry<'_>) {
        let me = entry.index.0 as u32 | LINKED;
        let head = page.head();
        let next = match self.follow(head) {
            Some(first) => {
                first.back.store(me, Ordering::Relaxed);
                head
            }
            None => END,
        };
        entry.rev.forward.store(next, Ordering::Relaxed);
        entry.rev.back.store(END, Ordering::Relaxed);
        page.set_head(me);
    }

    /// Takes a locked entry off the chain of a locked page.
    #[inline(always)]
    pub(crate) fn unlink(&self, page: &Page, entry: &Entry<'_>) {
        let next = entry.rev.forward.load(Ordering::Relaxed);
        let previous = entry.rev.back.load(Ordering::Relaxed);
        if previous & next == END {
            page.set_head(0);
        } else {
            match self.follow(previous) {
                Some(rev) => rev.forward.store(next, Ordering::Relaxed),
                None => page.set_head(next),
            }
            if let Some(rev) = self.follow(next) {
                rev.back.store(previous, Ordering::Relaxed);
            }
        }
        entry.rev.forward.store(0, Ordering::Relaxed);
    }

    /// Where a link leads.
    #[inline(always)]
    pub(crate) fn follow(&self, link: u32) -> Option<&'a RevEntry> {
        if link & LINKED == 0 { None } else { self.hpt.rev(link & !LINKED) }
    }

    /// The page on whose chain a locked entry is.
    #[inline(always)]
    pub(crate) fn page_of(&self, rev: &RevEntry) -> Option<&'a Page> {
        if rev.is_linked() { self.slots.page(GuestReal(Self::real_of(rev))) } else { None }
    }

    /// The same; the error says that it is not a [`Slots::low_page`].
    #[inline(always)]
    pub(crate) fn low_page_of(&self, rev: &RevEntry) -> Result<Option<&'a Page>, HptError> {
        if !rev.is_linked() {
            return Ok(None);
        }
        self.slots.low_page(Self::real_of(rev)).map(Some).ok_or(HptError::TooHard)
    }

    /// The real address of the page of an entry: bits of RPN below the actual page size encode it; they do not reach the next unit.
    #[inline(always)]
    fn real_of(rev: &RevEntry) -> u64 {
        rev.guest().0 & HpteR::RPN
    }

    /// Starts to take a valid, locked entry from the hardware. It looks absent, and locked, until it is unlocked.
    #[inline(always)]
    pub(crate) fn start_invalidate<M: Machine>(
        &self,
        m: &M,
        entry: &Entry<'_>,
        raw_v: u64,
        v: HpteV,
        r: HpteR,
    ) {
        Self::hide(entry, raw_v);
        m.tlb_invalidate(entry.index, v, r);
    }

    /// Takes a valid, locked entry from the hardware.
    #[inline(always)]
    pub(crate) fn invalidate_only<M: Machine>(
        &self,
        m: &M,
        entry: &Entry<'_>,
        raw_v: u64,
        v: HpteV,
        r: HpteR,
    ) {
        Self::hide(entry, raw_v);
        m.tlb_invalidate_one(entry.index, v, r);
    }

    /// Makes a locked entry one that the hardware does not find any more.
    #[inline(always)]
    fn hide(entry: &Entry<'_>, raw_v: u64) {
        // It was valid, not absent, and `raw_v` is without the lock: all three change.
        entry.hpte.v.store_raw(raw_v ^ (VALID | ABSENT | LOCK), Ordering::Relaxed);
    }

    /// Takes a valid, locked entry from the hardware and answers its final R and C.
    #[inline(always)]
    pub(crate) fn invalidate<M: Machine>(
        &self,
        m: &M,
        entry: &Entry<'_>,
        raw_v: u64,
        v: HpteV,
        r: HpteR,
    ) -> u64 {
        self.invalidate_only(m, entry, raw_v, v, r);
        entry.hpte.r.load(Ordering::Relaxed) & RC
    }

    /// Frees a locked entry that the hardware does not see any more, and answers the guest's view of dword 1 with R and C.
    /// `raw_v` is what dword 0 was, and is again, when its page stays locked: that is the error.
    #[inline(always)]
    pub(crate) fn finish_remove<const PLAIN: bool>(
        &self,
        entry: &Entry<'_>,
        raw_v: u64,
    ) -> Result<HpteR, HptError> {
        // An absent entry has neither.
        let rc = entry.hpte.r.load(Ordering::Relaxed) & RC;
        let page = if PLAIN { self.low_page_of(entry.rev) } else { Ok(self.page_of(entry.rev)) };
        let locked = page.map(|page| page.map(|page| (page, page.lock_or_try::<PLAIN>())));
        match locked {
            Ok(Some((page, Some(view)))) => {
                self.unlink(page, entry);
                page.note_usage(rc);
                let guest = HpteR(entry.rev.guest().0 | rc);
                // One barrier for both locks.
                fence(Ordering::Release);
                page.unlock_behind_fence(view);
                entry.hpte.unlock_behind_fence(0);
                return Ok(guest);
            }
            Ok(None) => {}
            Ok(Some((_, None))) | Err(_) => {
                entry.hpte.unlock(raw_v);
                return Err(HptError::TooHard);
            }
        }
        let guest = HpteR(entry.rev.guest().0 | rc);
        entry.hpte.unlock(0);
        Ok(guest)
    }

    /// Drops all entries, chains, the reverse map and the log, for a partition that starts anew; the table is not frozen then. No processor is in
    /// the partition, and its TLBs are flushed before it runs again. What backs each page stays, and so does the memory in the reserve.
    pub fn clear(&self) {
        for (_, group, _) in self.hpt.groups_with_entries() {
            for hpte in &group.0 {
                if hpte.v.load_raw(Ordering::Relaxed) & (IN_USE | LOCK) != 0 {
                    hpte.v.store_raw(0, Ordering::Relaxed);
                }
            }
        }
        self.hpt.forget_all();
        self.slots.pages().for_each(|page| page.set_head(0));
        fence(Ordering::SeqCst);
    }

    /// The state of the page at a real address.
    pub fn page_view(&self, real: GuestReal) -> Option<PageView> {
        Some(self.slots.page(real)?.view())
    }
}
