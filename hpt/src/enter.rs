//! H_ENTER (PAPR 14.5.4.1.2): an entry in a group, or at an exact place.
//!
//! What the hardware gets depends on what backs the page: a writable entry for a private page, a read-only one for a shared or
//! write-protected one, none (absent) for a page that is not populated or may not be accessed, and for
//! an address where there is nothing. RAM is always mapped cacheable; a device only with its own cache attribute.

use power::hcall::flags as f;
use power::{HostReal, HpteR, HpteV, PteIndex};

use crate::access::{GUEST_RESERVED, absent_r, pp_defined, ram_r};
use crate::entry::{IN_USE, Pteg};
use crate::error::HptError;
use crate::hash::{actual_shift, small_page};
use crate::machine::Machine;
use crate::mmu::{Backing, GuestMmu};
use crate::page::{Page, PageView};
use crate::sync::{Ordering, fence};
use crate::table::Entry;

/// Flags that act on the page's contents.
const CONTENTS: u64 = f::ZERO_PAGE | f::ICACHE_INVALIDATE | f::ICACHE_SYNCHRONIZE;

impl<'a> GuestMmu<'a> {
    /// H_ENTER: adds an entry, and answers where.
    #[inline]
    pub fn enter<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        v: HpteV,
        r: HpteR,
    ) -> Result<PteIndex, HptError> {
        match self.enter_plainly(m, flags, index, v, r) {
            Some(index) => Ok(index),
            None => self.enter_in_full(m, flags, index, v, r),
        }
    }

    /// The short way of H_ENTER: see [`crate::hcall`]. It is for pages of 4 and 64 KiB, which are never misaligned and fit in any unit.
    #[inline(always)]
    pub fn enter_plainly<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        v: HpteV,
        r: HpteR,
    ) -> Option<PteIndex> {
        let low = small_page(v, r)?;
        if flags & (CONTENTS | f::COPY_PAGE) != 0 || v.any(self.hpt.unusable_v()) || !pp_defined(r.0) {
            return None;
        }
        let guest = r.0 & !GUEST_RESERVED;
        let (group, word) = self.hpt.group(index)?;
        let real = guest & HpteR::RPN & !low;
        let page = self.slots.low_page(real)?;
        let offset = real & ((1 << (self.slots.unit_shift() & 63)) - 1);
        let revs = word.0.flagged()?;
        let exact = flags & f::EXACT != 0;
        let slot = self.hpt.claim_at_once(group, if exact { (index.0 & 7) as usize } else { 0 }, exact)?;
        let (hpte, rev) = (group.0.get(slot)?, revs.0.get(slot)?);
        let Some(view) = page.try_lock() else {
            hpte.unlock(0);
            return None;
        };
        let entry = Entry { index: PteIndex((index.0 & !7) | slot as u64), hpte, rev };
        Some(self.install_ram(m, &entry, v, guest, low, (page, view, offset)))
    }

    /// Puts an entry for RAM, which is claimed and whose page is locked, in its place.
    #[inline(always)]
    fn install_ram<M: Machine>(
        &self,
        m: &M,
        entry: &Entry<'_>,
        v: HpteV,
        guest: u64,
        low: u64,
        (page, view, offset): (&Page, PageView, u64),
    ) -> PteIndex {
        // --- point of no return ---
        self.link(page, entry);
        let (bit, hardware) = if view.is_present() {
            (HpteV::V, ram_r(guest, low, view.host_bits() | offset, view))
        } else {
            (HpteV::ABSENT, absent_r(guest, low))
        };
        self.install(m, entry, v, guest, (bit, hardware), || page.unlock_behind_fence(view))
    }

    /// Fills in an entry and unlocks it, behind a release fence and behind `unlock`. The hardware's dword 1 comes with the bit that says whether it sees it.
    #[inline(always)]
    fn install<M: Machine>(
        &self,
        m: &M,
        entry: &Entry<'_>,
        v: HpteV,
        guest: u64,
        (bit, hardware): (u64, u64),
        unlock: impl FnOnce(),
    ) -> PteIndex {
        let v = HpteV(v.0 & !(HpteV::HVLOCK | HpteV::ABSENT | HpteV::V) | bit);
        entry.rev.set_guest(HpteR(guest));
        entry.hpte.r.store(self.hpt.memory_r(v, hardware), Ordering::Relaxed);
        fence(Ordering::Release);
        unlock();
        entry.hpte.unlock_value_behind_fence(self.hpt.memory_v(v));
        m.pte_sync();
        entry.index
    }

    #[cold]
    #[inline(never)]
    fn enter_in_full<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        v: HpteV,
        r: HpteR,
    ) -> Result<PteIndex, HptError> {
        let shift = actual_shift(v, r);
        let low = (1u64 << shift) - 1;
        // LP takes the low bits of RPN, eight at most; what is left below the actual size has to be zero.
        let misaligned = r.0 & low & HpteR::RPN & !0xf_f000 != 0;
        if misaligned
            || v.any(self.hpt.unusable_v())
            || !pp_defined(r.0)
            || flags & f::COPY_PAGE != 0
            // 0 is no size at all, and not below any unit when one is taken off.
            || shift.wrapping_sub(1) >= self.slots.unit_shift()
        {
            return Err(HptError::Parameter);
        }
        let guest = r.0 & !GUEST_RESERVED;
        let (group, _) = self.hpt.group(index).ok_or(HptError::Parameter)?;
        let backing = self.backing(HpteR(guest), low)?;
        if flags & f::ZERO_PAGE != 0 && !matches!(backing, Backing::Ram(..)) {
            return Err(HptError::Parameter);
        }
        let revs = self.hpt.opened(index)?;
        let slot = if flags & f::EXACT == 0 {
            self.hpt.claim(group)
        } else {
            claim_exactly(group, (index.0 & 7) as usize)
        };
        let slot = slot.map_err(|full| if full { HptError::PtegFull } else { HptError::TooHard })?;
        let (Some(hpte), Some(rev)) = (group.0.get(slot), revs.0.get(slot)) else {
            return Err(HptError::Parameter);
        };
        let entry = Entry { index: PteIndex((index.0 & !7) | slot as u64), hpte, rev };
        match backing {
            Backing::Ram(page, offset) => {
                let Some(view) = page.lock() else {
                    hpte.unlock(0);
                    return Err(HptError::TooHard);
                };
                if let Err(error) = self.contents(m, flags, view, offset, low + 1) {
                    page.unlock(view);
                    hpte.unlock(0);
                    return Err(error);
                }
                // --- point of no return ---
                if flags & f::ZERO_PAGE != 0 {
                    page.note_usage(HpteR::C);
                }
                Ok(self.install_ram(m, &entry, v, guest, low, (page, view, offset)))
            }
            // --- point of no return, also here ---
            Backing::Device(host) => {
                let hardware = (guest & (!HpteR::RPN | low)) | host;
                Ok(self.install(m, &entry, v, guest, (HpteV::V, hardware), || {}))
            }
            Backing::Nothing => {
                let hardware = absent_r(guest, low);
                Ok(self.install(m, &entry, v, guest, (HpteV::ABSENT, hardware), || {}))
            }
        }
    }

    /// Zeroes and synchronizes a page that is to be entered, if the flags say so; the page is locked.
    fn contents<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        view: PageView,
        offset: u64,
        len: u64,
    ) -> Result<(), HptError> {
        if flags & CONTENTS == 0 {
            return Ok(());
        }
        let zero = flags & f::ZERO_PAGE != 0;
        if !view.is_present() || len > M::BULK_LIMIT || (zero && !view.is_writable()) {
            return Err(HptError::TooHard);
        }
        let at = HostReal(view.host_bits() | offset);
        if zero {
            m.zero(at, len);
        }
        if flags & (f::ICACHE_INVALIDATE | f::ICACHE_SYNCHRONIZE) != 0 {
            m.icache_sync(at, len);
        }
        Ok(())
    }
}

/// Locks the one entry that H_ENTER may use.
fn claim_exactly(group: &Pteg, slot: usize) -> Result<usize, bool> {
    let hpte = group.0.get(slot).ok_or(true)?;
    let v = hpte.lock().ok_or(false)?;
    if v & IN_USE == 0 {
        Ok(slot)
    } else {
        hpte.unlock(v);
        Err(true)
    }
}
