//! The hypervisor calls on single entries (PAPR 14.5.4.1).
//!
//! Each checks its arguments, locks what it needs, and changes nothing before it cannot fail any more. `TooHard` therefore always
//! means that the same call can be made again.

use power::hcall::flags as f;
use power::{HostReal, HpteR, HpteV, PteIndex};

use crate::access::{GUEST_RESERVED, absent_r, pp_defined, pp_writable, ram_r, read_only};
use crate::entry::{IN_USE, VALID};
use crate::error::HptError;
use crate::hash::actual_shift;
use crate::machine::Machine;
use crate::mmu::{Backing, GuestMmu, RC, guest_v};
use crate::page::PageView;
use crate::sync::Ordering;
use crate::table::Entry;

/// Entries that one H_BULK_REMOVE can name.
pub const BULK_MAX: usize = 4;

/// H_ENTER flags that act on the page's contents.
const CONTENTS: u64 = f::ZERO_PAGE | f::ICACHE_INVALIDATE | f::ICACHE_SYNCHRONIZE;
/// Dword 1 bits that H_PROTECT sets.
const PROTECT: u64 = HpteR::PP0 | HpteR::PP | HpteR::N | HpteR::KEY_HI | HpteR::KEY_LO;

/// H_PROTECT's flags as dword 1 bits. PP0 is bit 55 of the flags and the key bits 50 to 54, in IBM numbering; N, PP and the
/// key's low part are in the place where dword 1 has them.
#[inline]
const fn protect_bits(flags: u64) -> u64 {
    (if flags & f::PP0 != 0 { HpteR::PP0 } else { 0 })
        | ((flags << 48) & HpteR::KEY_HI)
        | (flags & (HpteR::PP | HpteR::N | HpteR::KEY_LO))
}

/// Do H_REMOVE's conditions hold for a dword 0 that is in use?
#[inline]
const fn condition(flags: u64, v: HpteV, avpn: u64) -> bool {
    (flags & f::AVPN == 0 || v.0 & !0x7f == avpn) && (flags & f::ANDCOND == 0 || v.0 & avpn == 0)
}

/// An H_BULK_REMOVE entry that the hardware may not have forgotten yet.
struct Pending<'a> {
    entry: Entry<'a>,
    raw_v: u64,
    at: usize,
}

/// H_BULK_REMOVE's translation specifiers (PAPR 14.5.4.1.8): the type, the return code, R and C, the conditions, and the index.
mod bulk {
    pub const TYPE: u64 = 3 << 62;
    pub const REQUEST: u64 = 1 << 62;
    pub const RESPONSE: u64 = 2 << 62;
    pub const END: u64 = 3 << 62;
    pub const NOT_FOUND: u64 = 1 << 60;
    pub const PARAMETER: u64 = 2 << 60;
    pub const HARDWARE: u64 = 3 << 60;
    pub const RC_SHIFT: u32 = 51;
    pub const CONDITIONS: u64 = 3 << 56;
    pub const ANDCOND: u64 = 1 << 56;
    pub const AVPN: u64 = 2 << 56;
    pub const INDEX: u64 = (1 << 56) - 1;
}

impl<'a> GuestMmu<'a> {
    /// H_ENTER (PAPR 14.5.4.1.2): adds an entry to a group, or at an exact place, and answers where.
    ///
    /// What the hardware gets depends on what backs the page: a writable entry for a private page, a read-only one for a shared or
    /// write-protected one, none (absent) for a page that is not populated or may not be accessed, and for
    /// an address where there is nothing. RAM is always mapped cacheable; a device only with its own cache attribute.
    #[inline]
    pub fn enter<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        v: HpteV,
        r: HpteR,
    ) -> Result<PteIndex, HptError> {
        if flags & (CONTENTS | f::EXACT | f::COPY_PAGE) == 0 {
            self.enter_with::<M, true>(m, flags, index, v, r)
        } else {
            self.enter_specially(m, flags, index, v, r)
        }
    }

    #[cold]
    #[inline(never)]
    fn enter_specially<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        v: HpteV,
        r: HpteR,
    ) -> Result<PteIndex, HptError> {
        self.enter_with::<M, false>(m, flags, index, v, r)
    }

    /// H_ENTER; `PLAIN` when no flag asks for anything. That path has no loops and no calls but the ones that begin again without it, when there is no
    /// room or somebody holds a lock: it needs few registers and no frame.
    #[inline(always)]
    fn enter_with<M: Machine, const PLAIN: bool>(
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
            || (!PLAIN && flags & f::COPY_PAGE != 0)
            // 0 is no size at all, and not below any unit when one is taken off.
            || shift.wrapping_sub(1) >= self.slots.unit_shift()
        {
            return Err(HptError::Parameter);
        }
        let v = HpteV(v.0 & !(HpteV::HVLOCK | HpteV::ABSENT | HpteV::V));
        let guest = r.0 & !GUEST_RESERVED;
        let (group, word) = self.hpt.group(index).ok_or(HptError::Parameter)?;
        let backing = self.backing(HpteR(guest), low)?;
        if !PLAIN && flags & f::ZERO_PAGE != 0 && !matches!(backing, Backing::Ram(..)) {
            return Err(HptError::Parameter);
        }
        let revs = match word.0.flagged() {
            Some(revs) => revs,
            None if PLAIN => return self.enter_specially(m, flags, index, v, r),
            None => self.hpt.open(index)?,
        };

        let slot = if PLAIN {
            match self.hpt.claim_at_once(group) {
                Some(slot) => Ok(slot),
                None => return self.enter_specially(m, flags, index, v, r),
            }
        } else if flags & f::EXACT == 0 {
            self.hpt.claim(group)
        } else {
            claim_exactly(group, (index.0 & 7) as usize)
        };
        let slot = slot.map_err(|full| if full { HptError::PtegFull } else { HptError::TooHard })? & 7;
        let (Some(hpte), Some(rev)) = (group.0.get(slot), revs.0.get(slot)) else {
            return Err(HptError::Parameter);
        };
        let entry = Entry { index: PteIndex((index.0 & !7) | slot as u64), hpte, rev };

        let (bit, hardware) = match backing {
            Backing::Ram(page, offset) => {
                let view = if PLAIN { page.try_lock() } else { page.lock() };
                let Some(view) = view else {
                    hpte.unlock(0);
                    if PLAIN {
                        return self.enter_specially(m, flags, index, v, HpteR(guest));
                    }
                    return Err(HptError::TooHard);
                };
                if !PLAIN
                    && flags & CONTENTS != 0
                    && let Err(error) = self.contents(m, flags, view, offset, low + 1)
                {
                    page.unlock(view);
                    hpte.unlock(0);
                    return Err(error);
                }
                // --- point of no return ---
                if !PLAIN && flags & f::ZERO_PAGE != 0 {
                    page.note_usage(HpteR::C);
                }
                self.link(page, &entry);
                page.unlock(view);
                if view.is_present() {
                    (HpteV::V, ram_r(guest, low, view.host_bits() | offset, view))
                } else {
                    (HpteV::ABSENT, absent_r(guest, low))
                }
            }
            // --- point of no return, also here ---
            Backing::Device(host) => (HpteV::V, (guest & (!HpteR::RPN | low)) | host),
            Backing::Nothing => (HpteV::ABSENT, absent_r(guest, low)),
        };
        rev.set_guest(HpteR(guest));
        hpte.r.store(self.hpt.memory_r(v, hardware), Ordering::Relaxed);
        hpte.unlock_value(self.hpt.memory_v(HpteV(v.0 | bit)));
        m.pte_sync();
        Ok(entry.index)
    }

    /// Zeroes and synchronizes a page that is to be entered; the page is locked.
    fn contents<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        view: PageView,
        offset: u64,
        len: u64,
    ) -> Result<(), HptError> {
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

    /// Locks an entry that is in use and meets the conditions; answers its raw dword 0.
    #[inline(always)]
    pub(crate) fn lock_in_use(
        &self,
        entry: &Entry<'_>,
        flags: u64,
        avpn: u64,
    ) -> Result<(u64, HpteV, HpteR), HptError> {
        let raw_v = entry.hpte.lock().ok_or(HptError::TooHard)?;
        let (v, r) = self.hpt.decode(entry.hpte);
        if raw_v & IN_USE == 0 || !condition(flags, guest_v(v), avpn) {
            entry.hpte.unlock(raw_v);
            return Err(HptError::NotFound);
        }
        Ok((raw_v, v, r))
    }

    /// H_REMOVE (PAPR 14.5.4.1.1): removes an entry and answers what the guest had there, R and C included.
    pub fn remove<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        avpn: u64,
    ) -> Result<(HpteV, HpteR), HptError> {
        let entry = self.hpt.entry_to_change(index)?;
        let (raw_v, v, r) = self.lock_in_use(&entry, flags, avpn)?;
        if raw_v & VALID != 0 {
            self.start_invalidate(m, &entry, raw_v, v, r);
            m.tlb_sync();
        }
        // Comes back from here unchanged, or not at all.
        Ok((guest_v(v), self.finish_remove(&entry, raw_v)?))
    }

    /// H_BULK_REMOVE (PAPR 14.5.4.1.8): up to four H_REMOVEs, whose specifiers are answered in place; `Parameter` and `Hardware` are answers
    /// too, with the specifiers before the bad one done.
    pub fn bulk_remove<M: Machine>(
        &self,
        m: &M,
        specifiers: &mut [u64; 2 * BULK_MAX],
    ) -> Result<(), HptError> {
        if self.hpt.is_frozen() {
            // Before anything is removed, for then there would be no way back.
            self.open_all(specifiers)?;
        }
        let mut answer = *specifiers;
        let mut result = Ok(());
        let mut removed = false;
        let mut batch: [Option<Pending<'a>>; BULK_MAX] = [const { None }; BULK_MAX];
        for at in 0..BULK_MAX {
            let (Some(&request), Some(&avpn)) = (specifiers.get(2 * at), specifiers.get(2 * at + 1)) else {
                break;
            };
            if request & bulk::TYPE == bulk::END {
                break;
            }
            let conditions = request & bulk::CONDITIONS;
            let bare = bulk::RESPONSE | conditions | request & bulk::INDEX;
            let understood = request & bulk::TYPE == bulk::REQUEST && conditions != bulk::CONDITIONS;
            let entry = match self.hpt.entry(PteIndex(request & bulk::INDEX)) {
                Ok(entry) if understood => entry,
                Err(HptError::NotFound) if understood => {
                    set(&mut answer, at, bare | bulk::NOT_FOUND);
                    continue;
                }
                _ => {
                    set(&mut answer, at, bare | bulk::PARAMETER);
                    result = Err(HptError::Parameter);
                    break;
                }
            };
            let flags = match conditions {
                bulk::ANDCOND => f::ANDCOND,
                bulk::AVPN => f::AVPN,
                _ => 0,
            };
            // Entries of the batch are locked: never wait for another with them in hand.
            let raw_v = match entry.hpte.try_lock() {
                Some(raw_v) => Some(raw_v),
                None => {
                    self.finish_batch(m, &mut batch, &mut answer, &mut removed, &mut result);
                    entry.hpte.lock()
                }
            };
            let Some(raw_v) = raw_v else {
                set(&mut answer, at, bare | bulk::HARDWARE);
                result = result.and(Err(HptError::Hardware));
                break;
            };
            let (v, r) = self.hpt.decode(entry.hpte);
            if raw_v & IN_USE == 0 || !condition(flags, guest_v(v), avpn) {
                entry.hpte.unlock(raw_v);
                set(&mut answer, at, bare | bulk::NOT_FOUND);
                continue;
            }
            set(&mut answer, at, bare);
            if raw_v & VALID != 0 {
                self.start_invalidate(m, &entry, raw_v, v, r);
            }
            if let Some(place) = batch.get_mut(at) {
                *place = Some(Pending { entry, raw_v, at });
            }
        }
        self.finish_batch(m, &mut batch, &mut answer, &mut removed, &mut result);
        if result == Err(HptError::Hardware) && !removed {
            return Err(HptError::TooHard);
        }
        *specifiers = answer;
        result
    }

    /// Opens the groups of all entries that H_BULK_REMOVE names, as far as they are to be found.
    #[cold]
    #[inline(never)]
    fn open_all(&self, specifiers: &[u64; 2 * BULK_MAX]) -> Result<(), HptError> {
        for request in specifiers.iter().step_by(2).take_while(|request| *request & bulk::TYPE != bulk::END) {
            if self.hpt.entry_to_change(PteIndex(request & bulk::INDEX)).err() == Some(HptError::TooHard) {
                return Err(HptError::TooHard);
            }
        }
        Ok(())
    }

    /// Completes the invalidations of a batch and frees its entries.
    fn finish_batch<M: Machine>(
        &self,
        m: &M,
        batch: &mut [Option<Pending<'a>>; BULK_MAX],
        answer: &mut [u64; 2 * BULK_MAX],
        removed: &mut bool,
        result: &mut Result<(), HptError>,
    ) {
        if batch.iter().flatten().any(|p| p.raw_v & VALID != 0) {
            m.tlb_sync();
        }
        for pending in batch.iter_mut().filter_map(Option::take) {
            let code = match self.finish_remove(&pending.entry, pending.raw_v) {
                Ok(r) => {
                    *removed = true;
                    (r.0 & RC) << bulk::RC_SHIFT
                }
                Err(_) => {
                    *result = Err(HptError::Hardware);
                    bulk::HARDWARE
                }
            };
            if let Some(word) = answer.get_mut(2 * pending.at) {
                *word |= code;
            }
        }
    }

    /// H_READ (PAPR 14.5.4.1.3): one entry as the guest has it; zeroes for one that is not in use.
    pub fn read(&self, index: PteIndex) -> Result<(HpteV, HpteR), HptError> {
        let entry = match self.hpt.entry(index) {
            Ok(entry) => entry,
            Err(HptError::NotFound) => return Ok((HpteV(0), HpteR(0))),
            Err(error) => return Err(error),
        };
        let raw_v = entry.hpte.lock().ok_or(HptError::TooHard)?;
        let (v, r) = self.hpt.decode(entry.hpte);
        let rc = if raw_v & VALID != 0 { r.0 & RC } else { 0 };
        let guest = entry.rev.guest();
        entry.hpte.unlock(raw_v);
        if raw_v & IN_USE == 0 {
            return Ok((HpteV(0), HpteR(0)));
        }
        Ok((guest_v(v), HpteR(guest.0 | rc)))
    }

    /// H_READ with READ_4: the aligned four entries around one.
    pub fn read_4(&self, index: PteIndex) -> Result<[(HpteV, HpteR); 4], HptError> {
        let mut all = [(HpteV(0), HpteR(0)); 4];
        for (i, place) in all.iter_mut().enumerate() {
            *place = self.read(PteIndex((index.0 & !3) | i as u64))?;
        }
        Ok(all)
    }

    /// H_PROTECT (PAPR 14.5.4.1.4): changes PP, N and the key of an entry.
    ///
    /// The hardware's entry becomes writable only for a page that is private and unprotected at this moment.
    pub fn protect<M: Machine>(&self, m: &M, flags: u64, index: PteIndex, avpn: u64) -> Result<(), HptError> {
        let bits = protect_bits(flags);
        if !pp_defined(bits) {
            return Err(HptError::Parameter);
        }
        let entry = self.hpt.entry_to_change(index)?;
        let (raw_v, v, r) = self.lock_in_use(&entry, flags & f::AVPN, avpn)?;
        // --- point of no return ---
        let guest = (entry.rev.guest().0 & !PROTECT) | bits;
        if raw_v & VALID != 0 {
            let mut new = (r.0 & !PROTECT) | bits;
            if guest & !r.0 & HpteR::G != 0 {
                new |= HpteR::N;
            }
            if pp_writable(new) && !pp_writable(r.0) && !self.may_write(&entry) {
                new = read_only(new);
            }
            if (new ^ r.0) & PROTECT != 0 {
                let rc = self.invalidate(m, &entry, raw_v, v, r);
                entry.hpte.r.store(self.hpt.memory_r(v, new | rc), Ordering::Relaxed);
            }
        }
        entry.rev.set_guest(HpteR(guest));
        entry.hpte.unlock(raw_v);
        Ok(())
    }

    /// May the hardware write to the page behind a locked entry? Who changes that locks every entry of the page afterwards, so the
    /// answer holds until this one is unlocked, or is corrected then.
    #[inline(always)]
    fn may_write(&self, entry: &Entry<'_>) -> bool {
        match self.page_of(entry.rev) {
            Some(page) => page.view().is_writable(),
            // A device: the guest's own business.
            None => !entry.rev.is_linked(),
        }
    }

    /// H_CLEAR_REF (PAPR 14.5.4.1.6): clears R and answers dword 1 as it was.
    pub fn clear_ref<M: Machine>(&self, m: &M, index: PteIndex) -> Result<HpteR, HptError> {
        self.clear_usage(m, index, HpteR::R)
    }

    /// H_CLEAR_MOD (PAPR 14.5.4.1.5): clears C and answers dword 1 as it was.
    pub fn clear_mod<M: Machine>(&self, m: &M, index: PteIndex) -> Result<HpteR, HptError> {
        self.clear_usage(m, index, HpteR::C)
    }

    fn clear_usage<M: Machine>(&self, m: &M, index: PteIndex, bit: u64) -> Result<HpteR, HptError> {
        let entry = self.hpt.entry_to_change(index)?;
        let (raw_v, v, r) = self.lock_in_use(&entry, 0, 0)?;
        // --- point of no return ---
        let mut guest = entry.rev.guest().0;
        if raw_v & VALID != 0 {
            let mut rc = r.0 & RC;
            if rc & bit != 0 {
                rc = self.invalidate(m, &entry, raw_v, v, r);
                if let Some(page) = self.page_of(entry.rev) {
                    page.note_usage(rc);
                }
                // Who looks at both sees the bit in one of them: `usage_now`.
                entry.hpte.r.store(self.hpt.memory_r(v, (r.0 & !RC) | (rc & !bit)), Ordering::Release);
            }
            guest |= rc;
        }
        entry.rev.set_guest(HpteR(guest & !bit));
        entry.hpte.unlock(raw_v);
        Ok(HpteR(guest))
    }
}

/// Locks the one entry that H_ENTER may use.
fn claim_exactly(group: &crate::entry::Pteg, slot: usize) -> Result<usize, bool> {
    let hpte = group.0.get(slot).ok_or(true)?;
    let v = hpte.lock().ok_or(false)?;
    if v & IN_USE == 0 {
        Ok(slot)
    } else {
        hpte.unlock(v);
        Err(true)
    }
}

fn set(answer: &mut [u64; 2 * BULK_MAX], at: usize, value: u64) {
    if let Some(word) = answer.get_mut(2 * at) {
        *word = value;
    }
}
