//! The hypervisor calls on entries that there are (PAPR 14.5.4.1); [`crate::enter`] has the one that makes them.
//!
//! Each checks its arguments, locks what it needs, and changes nothing before it cannot fail any more. `TooHard` therefore always
//! means that the same call can be made again.
//!
//! # The short way
//! H_ENTER, H_REMOVE, H_READ and H_PROTECT each have a short way, `..._plainly`, for what nearly all calls are: RAM, no rare flag, and locks that
//! are free. It tries each lock once, calls nothing, and answers `None` for anything else, having changed nothing: then the whole call is made, which is
//! also what says why it is refused. So the short way needs few registers and no stack. Both are one function: `PLAIN` says which.

use power::hcall::flags as f;
use power::{HpteR, HpteV, PteIndex};

use crate::access::{pp_defined, pp_writable, read_only};
use crate::entry::VALID;
use crate::error::HptError;
use crate::machine::Machine;
use crate::mmu::{GuestMmu, RC, guest_v_in_use};
use crate::sync::Ordering;
use crate::table::Entry;

/// Entries that one H_BULK_REMOVE can name.
pub const BULK_MAX: usize = 4;

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
    if flags & f::AVPN != 0 && v.0 & !0x7f != avpn {
        return false;
    }
    flags & f::ANDCOND == 0 || v.0 & avpn == 0
}

/// H_BULK_REMOVE's translation specifiers (PAPR 14.5.4.1.8): the type, the return code, R and C, the conditions, and the index.
mod bulk {
    pub const TYPE: u64 = 3 << 62;
    pub const REQUEST: u64 = 1 << 62;
    pub const RESPONSE: u64 = 2 << 62;
    pub const END: u64 = 3 << 62;
    pub const NOT_FOUND: u64 = 1 << 60;
    pub const PARAMETER: u64 = 2 << 60;
    pub const RC_SHIFT: u32 = 51;
    pub const CONDITIONS: u64 = 3 << 56;
    const IF_ANDCOND: u64 = REQUEST | 1 << 56;
    const IF_AVPN: u64 = REQUEST | 2 << 56;
    pub const INDEX: u64 = (1 << 56) - 1;

    /// A request that can be understood, or its answer, names this entry.
    pub const fn index(word: u64) -> super::PteIndex {
        super::PteIndex(word & INDEX)
    }

    /// H_REMOVE's flags for the conditions of a request; `None` for what is no request.
    pub const fn flags(word: u64) -> Option<u64> {
        match word & (TYPE | CONDITIONS) {
            REQUEST => Some(0),
            IF_ANDCOND => Some(super::f::ANDCOND),
            IF_AVPN => Some(super::f::AVPN),
            _ => None,
        }
    }

    /// The answer, without a code and R and C.
    pub const fn answer(word: u64) -> u64 {
        RESPONSE | word & (CONDITIONS | INDEX)
    }
}

impl<'a> GuestMmu<'a> {
    /// Finds and locks an entry that is in use and meets the conditions, for a change of what the guest sees of it; answers the raw dword 0, and both as
    /// the hardware has them.
    #[inline(always)]
    fn lock_in_use<const PLAIN: bool>(
        &self,
        index: PteIndex,
        flags: u64,
        avpn: u64,
    ) -> Result<(Entry<'a>, u64, HpteV, HpteR), HptError> {
        let entry = if PLAIN { self.hpt.open_entry(index)? } else { self.hpt.entry_to_change(index)? };
        let raw_v = entry.hpte.lock_or_try::<PLAIN>().ok_or(HptError::TooHard)?;
        let (v, r) = self.hpt.decode(entry.hpte);
        if !v.any(HpteV::V | HpteV::ABSENT) || !condition(flags, guest_v_in_use(v), avpn) {
            entry.hpte.unlock(raw_v);
            return Err(HptError::NotFound);
        }
        Ok((entry, raw_v, v, r))
    }

    /// H_REMOVE (PAPR 14.5.4.1.1): removes an entry and answers what the guest had there, R and C included.
    pub fn remove<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        avpn: u64,
    ) -> Result<(HpteV, HpteR), HptError> {
        match self.remove_plainly(m, flags, index, avpn) {
            Some(removed) => Ok(removed),
            None => self.remove_with::<M, false>(m, flags, index, avpn),
        }
    }

    /// The short way of H_REMOVE.
    #[inline(always)]
    pub fn remove_plainly<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        avpn: u64,
    ) -> Option<(HpteV, HpteR)> {
        self.remove_with::<M, true>(m, flags, index, avpn).ok()
    }

    #[inline(always)]
    fn remove_with<M: Machine, const PLAIN: bool>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        avpn: u64,
    ) -> Result<(HpteV, HpteR), HptError> {
        let (entry, raw_v, v, r) = self.lock_in_use::<PLAIN>(index, flags, avpn)?;
        if v.any(HpteV::V) {
            self.invalidate_only(m, &entry, raw_v, v, r);
        }
        // Comes back from here unchanged, or not at all.
        Ok((guest_v_in_use(v), self.finish_remove::<PLAIN>(&entry, raw_v)?))
    }

    /// H_BULK_REMOVE (PAPR 14.5.4.1.8): up to four H_REMOVEs, whose specifiers are answered in place; `Parameter` is an answer too, with the
    /// specifiers before the bad one done. After `TooHard`, some of them may be: [`GuestMmu::bulk_remove_again`] does the others.
    ///
    /// All invalidations are waited for together, so several entries are locked at a time: only by trying. What the short way of H_REMOVE
    /// would not do is left until none is.
    pub fn bulk_remove<M: Machine>(
        &self,
        m: &M,
        specifiers: &mut [u64; 2 * BULK_MAX],
    ) -> Result<(), HptError> {
        self.bulk::<M, false>(m, specifiers)
    }

    /// Goes on with what was too hard: an answer stays as it is.
    pub fn bulk_remove_again<M: Machine>(
        &self,
        m: &M,
        specifiers: &mut [u64; 2 * BULK_MAX],
    ) -> Result<(), HptError> {
        self.bulk::<M, true>(m, specifiers)
    }

    #[inline(always)]
    fn bulk<M: Machine, const AGAIN: bool>(
        &self,
        m: &M,
        specifiers: &mut [u64; 2 * BULK_MAX],
    ) -> Result<(), HptError> {
        if self.hpt.is_frozen() {
            // Before anything is removed, for then there would be no way back.
            self.open_all(specifiers)?;
        }
        let (specifiers, _) = specifiers.as_chunks_mut::<2>();
        let mut locked: [Option<(Entry<'a>, u64)>; BULK_MAX] = [None; BULK_MAX];
        let (mut valid, mut hard, mut end, mut bad) = (false, 0, BULK_MAX, false);
        for (at, ([word, avpn], place)) in specifiers.iter_mut().zip(&mut locked).enumerate() {
            let Some(flags) = bulk::flags(*word) else {
                if AGAIN && *word & bulk::TYPE == bulk::RESPONSE {
                    continue;
                }
                (end, bad) = (at, *word & bulk::TYPE != bulk::END);
                break;
            };
            match self.lock_in_use::<true>(bulk::index(*word), flags, *avpn) {
                Ok((entry, raw_v, v, r)) => {
                    if v.any(HpteV::V) {
                        valid = true;
                        self.start_invalidate(m, &entry, raw_v, v, r);
                    }
                    *place = Some((entry, raw_v));
                }
                Err(HptError::NotFound) => *word = bulk::answer(*word) | bulk::NOT_FOUND,
                Err(HptError::Parameter) => {
                    (end, bad) = (at, true);
                    break;
                }
                Err(_) => hard |= 1 << at,
            }
        }
        if valid {
            m.tlb_sync();
        }
        for (at, ([word, _], place)) in specifiers.iter_mut().zip(&locked).enumerate() {
            let Some((entry, raw_v)) = place else { continue };
            match self.finish_remove::<true>(entry, *raw_v) {
                Ok(r) => *word = bulk::answer(*word) | (r.0 & RC) << bulk::RC_SHIFT,
                Err(_) => hard |= 1 << at,
            }
        }
        if hard == 0 && !bad {
            return Ok(());
        }
        let (asked, others) = specifiers.split_at_mut_checked(end).unwrap_or_default();
        self.bulk_rest(m, asked, hard)?;
        let Some([word, _]) = others.first_mut().filter(|_| bad) else { return Ok(()) };
        *word = bulk::answer(*word) | bulk::PARAMETER;
        Err(HptError::Parameter)
    }

    /// Removes those entries one by one that H_BULK_REMOVE has left: a bit in `hard` for each.
    #[cold]
    #[inline(never)]
    fn bulk_rest<M: Machine>(&self, m: &M, specifiers: &mut [[u64; 2]], hard: u32) -> Result<(), HptError> {
        let mut result = Ok(());
        for (_, [word, avpn]) in specifiers.iter_mut().enumerate().filter(|(at, _)| hard & 1 << at != 0) {
            let flags = bulk::flags(*word).unwrap_or(0);
            let code = match self.remove_with::<M, false>(m, flags, bulk::index(*word), *avpn) {
                Ok((_, r)) => (r.0 & RC) << bulk::RC_SHIFT,
                Err(HptError::NotFound) => bulk::NOT_FOUND,
                Err(_) => {
                    result = Err(HptError::TooHard);
                    continue;
                }
            };
            *word = bulk::answer(*word) | code;
        }
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

    /// H_READ (PAPR 14.5.4.1.3): one entry as the guest has it; zeroes for one that is not in use.
    pub fn read(&self, index: PteIndex) -> Result<(HpteV, HpteR), HptError> {
        match self.hpt.entry(index) {
            Ok(entry) => {
                let raw_v = entry.hpte.lock().ok_or(HptError::TooHard)?;
                let seen = self.hpt.seen_by_guest(entry.hpte, entry.rev);
                entry.hpte.unlock(raw_v);
                Ok(seen)
            }
            Err(HptError::NotFound) => Ok((HpteV(0), HpteR(0))),
            Err(error) => Err(error),
        }
    }

    /// The short way of H_READ, for an entry that is in use.
    #[inline(always)]
    pub fn read_plainly(&self, index: PteIndex) -> Option<(HpteV, HpteR)> {
        let entry = self.hpt.entry(index).ok()?;
        let raw_v = entry.hpte.try_lock()?;
        let (v, r) = self.hpt.decode(entry.hpte);
        // An absent entry has neither R nor C.
        let seen = (guest_v_in_use(v), HpteR(entry.rev.guest().0 | r.0 & RC));
        entry.hpte.unlock(raw_v);
        if v.any(HpteV::V | HpteV::ABSENT) { Some(seen) } else { None }
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
        match self.protect_plainly(m, flags, index, avpn) {
            Some(()) => Ok(()),
            None => self.protect_with::<M, false>(m, flags, index, avpn),
        }
    }

    /// The short way of H_PROTECT.
    #[inline(always)]
    pub fn protect_plainly<M: Machine>(&self, m: &M, flags: u64, index: PteIndex, avpn: u64) -> Option<()> {
        self.protect_with::<M, true>(m, flags, index, avpn).ok()
    }

    #[inline(always)]
    fn protect_with<M: Machine, const PLAIN: bool>(
        &self,
        m: &M,
        flags: u64,
        index: PteIndex,
        avpn: u64,
    ) -> Result<(), HptError> {
        let bits = protect_bits(flags);
        if !pp_defined(bits) {
            return Err(HptError::Parameter);
        }
        let (entry, raw_v, v, r) = self.lock_in_use::<PLAIN>(index, flags & f::AVPN, avpn)?;
        // --- point of no return ---
        let guest = (entry.rev.guest().0 & !PROTECT) | bits;
        if v.any(HpteV::V) {
            let mut new = (r.0 & !PROTECT) | bits;
            if guest & !r.0 & HpteR::G != 0 {
                new |= HpteR::N;
            }
            if pp_writable(new) && !pp_writable(r.0) && !self.may_write::<PLAIN>(&entry) {
                new = read_only(new);
            }
            // All that can differ are bits that H_PROTECT sets.
            let change = new ^ r.0;
            if change != 0 {
                self.invalidate_only(m, &entry, raw_v, v, r);
                // R and C may have been set since it was read, and belong to nobody else now.
                let now = entry.hpte.r.load(Ordering::Relaxed);
                entry.hpte.r.store(now ^ change, Ordering::Relaxed);
            }
        }
        entry.rev.set_guest(HpteR(guest));
        entry.hpte.unlock(raw_v);
        Ok(())
    }

    /// May the hardware write to the page behind a locked entry? Who changes that locks every entry of the page afterwards, so the
    /// answer holds until this one is unlocked, or is corrected then.
    #[inline(always)]
    fn may_write<const PLAIN: bool>(&self, entry: &Entry<'_>) -> bool {
        if !entry.rev.is_linked() {
            // A device: the guest's own business.
            return true;
        }
        // The short way does not look for pages that are elsewhere: then the next store will find out.
        let page = if PLAIN { self.low_page_of(entry.rev).ok().flatten() } else { self.page_of(entry.rev) };
        page.is_some_and(|page| page.view().is_writable())
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
        let (entry, raw_v, v, r) = self.lock_in_use::<false>(index, 0, 0)?;
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
