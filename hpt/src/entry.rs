//! What the table is made of, and the lock that is in each entry.
//!
//! [`Hpte`] is what the hardware reads (Power ISA 3.0C, book III, 5.7.9.1); [`RevEntry`] beside it is what the
//! guest asked for and the links of the reverse map. Both, all zero, are empty: a table needs no set-up but
//! zeroed memory. [`RevWord`] says where the `RevEntry`s of a group are: the reverse map is sparse.
//!
//! # The lock
//! Bit `HVLOCK` of dword 0 is a spin lock over the entry and its `RevEntry`. Every change is made with it held, except
//! the hardware's own of R and C. Unlocking is the release store of the new dword 0. While a valid entry is being changed it is
//! `ABSENT` and locked, so that a search that matches it waits instead of concluding that there is none.
//!
//! Lock order: an entry, then a page ([`crate::Page`]). Who holds a page, or an entry, only ever *tries* to lock an entry. A debug
//! build of the tests checks that ([`crate::order`]).

use power::{HpteR, HpteV};

use crate::link::Link;
use crate::order::{self, Kind};
use crate::sync::{AtomicU32, AtomicU64, BeAtomicU64, Ordering, SPINS, fence, raw, relax};

/// One entry as it lies in memory.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct Hpte {
    pub(crate) v: BeAtomicU64,
    pub(crate) r: BeAtomicU64,
}

/// Entries of a group.
pub const GROUP: usize = 8;

/// A page table entry group: what one hash value selects.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Pteg(pub [Hpte; GROUP]);

/// Where the [`RevEntry`]s of a group are. All zero: nowhere, for the group has never had an entry.
///
/// A flag says that the group may be changed at once. Without it, it must be opened first ([`crate::Hpt`]'s `open`): it has no `RevEntry`s yet,
/// or what the guest sees of it has to be logged.
#[derive(Debug, Default)]
#[cfg_attr(not(loom), repr(transparent))]
pub struct RevWord(pub(crate) Link<RevGroup>);

/// What the hypervisor knows about one entry beside it.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct RevEntry {
    /// The guest's own view of dword 1, in the 2.07 layout: its flags, its real page number, R and C as far
    /// as they were harvested.
    pub(crate) guest_rpte: AtomicU64,
    /// Next and previous entry of the same page, with [`LINKED`], or [`END`]; both under the page's lock. An entry on no chain has
    /// 0 here.
    pub(crate) forward: AtomicU32,
    pub(crate) back: AtomicU32,
}

/// The [`RevEntry`]s of a group. A group has them from its first entry on.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct RevGroup(pub [RevEntry; GROUP]);

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Hpte>() == 16 && size_of::<Pteg>() == 128);
    assert!(size_of::<RevEntry>() == 16 && size_of::<RevGroup>() == 128 && size_of::<RevWord>() == 8);
};

/// In a link: it is one. The other bits are the index of the entry it leads to.
pub(crate) const LINKED: u32 = 1 << 31;
/// The link of an entry at the end of its chain: it leads beyond the largest table.
pub(crate) const END: u32 = u32::MAX;

/// Dword 0, raw: the lock.
pub(crate) const LOCK: u64 = raw(HpteV::HVLOCK);
/// Dword 0, raw: the entry is a guest's, seen by the hardware or not.
pub(crate) const IN_USE: u64 = raw(HpteV::V | HpteV::ABSENT);
/// Dword 0, raw: the hardware sees the entry.
pub(crate) const VALID: u64 = raw(HpteV::V);
/// Dword 0, raw: in use and unseen.
pub(crate) const ABSENT: u64 = raw(HpteV::ABSENT);

impl Hpte {
    /// Locks the entry if nobody holds it; answers the raw dword 0, without the lock bit.
    #[inline(always)]
    pub(crate) fn try_lock(&self) -> Option<u64> {
        self.try_lock_unless(LOCK)
    }

    /// Locks the entry if none of these bits of the raw dword 0 is set, of which `LOCK` is one; answers the dword. May fail for no reason.
    #[inline(always)]
    pub(crate) fn try_lock_unless(&self, busy: u64) -> Option<u64> {
        let v = self.v.try_set_raw(busy, LOCK)?;
        order::taken(Kind::Entry, self);
        Some(v)
    }

    /// Locks the entry, unless it stays held for an unreasonable time.
    ///
    /// The loop is in line: a call, though it be never made, would cost each caller the saving of its registers.
    #[inline]
    pub(crate) fn lock(&self) -> Option<u64> {
        order::waits(Kind::Entry);
        for _ in 0..SPINS {
            if let Some(v) = self.try_lock() {
                return Some(v);
            }
            relax();
        }
        None
    }

    /// Locks the entry; or only if that can be done at once.
    #[inline(always)]
    pub(crate) fn lock_or_try<const TRY: bool>(&self) -> Option<u64> {
        if TRY { self.try_lock() } else { self.lock() }
    }

    /// Unlocks it with a new raw dword 0.
    #[inline(always)]
    pub(crate) fn unlock(&self, v: u64) {
        fence(Ordering::Release);
        self.unlock_behind_fence(v);
    }

    /// The same when what has been done under the lock is behind a release fence already.
    #[inline(always)]
    pub(crate) fn unlock_behind_fence(&self, v: u64) {
        debug_assert!(v & LOCK == 0);
        order::released(self);
        self.v.store_raw(v, Ordering::Relaxed);
    }

    /// Unlocks it with a new dword 0 in the layout in memory.
    #[inline(always)]
    pub(crate) fn unlock_value(&self, v: u64) {
        fence(Ordering::Release);
        self.unlock_value_behind_fence(v);
    }

    /// Likewise.
    #[inline(always)]
    pub(crate) fn unlock_value_behind_fence(&self, v: u64) {
        order::released(self);
        self.v.store(v, Ordering::Relaxed);
    }

    /// Returns when somebody else's lock on it is gone, or after a while.
    pub(crate) fn wait(&self) {
        order::waits(Kind::Entry);
        for _ in 0..SPINS {
            if self.v.load_raw(Ordering::Relaxed) & LOCK == 0 {
                return;
            }
            relax();
        }
    }
}

impl RevGroup {
    /// Makes its entries ones that are on no chain, whatever they were.
    pub(crate) fn reset(&self) {
        self.0.iter().for_each(|rev| rev.forward.store(0, Ordering::Relaxed));
    }
}

impl RevEntry {
    #[inline]
    pub(crate) fn guest(&self) -> HpteR {
        HpteR(self.guest_rpte.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_guest(&self, r: HpteR) {
        self.guest_rpte.store(r.0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        self.forward.load(Ordering::Relaxed) & LINKED != 0
    }
}
