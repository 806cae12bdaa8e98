//! What backs a partition's real addresses: slots, and for RAM the state of each page.
//!
//! A [`Page`] is a unit of backing: 64 KiB, or 16 MiB in a partition with huge pages, whose RAM is always populated
//! in contiguous aligned blocks of that size. Its lock guards its state and its chain of entries; see
//! [`crate::entry`] for the order of locks.

use core::sync::atomic::AtomicU64 as Base;

use power::{GuestReal, HostReal, HpteR};

use crate::entry::LINKED;
use crate::order::{self, Kind};
use crate::sync::{AtomicU32, AtomicU64, Ordering, SPINS, fence, relax, try_set};

/// What a page is backed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PageState {
    /// By nothing yet.
    NotPopulated = 0,
    /// By memory of its own.
    Private = 1,
    /// By memory that others see too, and that nobody may write: the zero page, a merged page, a clone's.
    Shared = 2,
}

/// A temporary limit on a page, on top of its state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Protection {
    /// No limit.
    ReadWrite = 0,
    /// No stores.
    ReadOnly = 1,
    /// No access.
    None = 2,
}

/// The state of a page at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct PageView(u64);

const LOCKED: u64 = 1;
/// Hardware entries may exist: populated, and protection is not none.
const PRESENT: u64 = 2;
/// Hardware entries may be writable: private, and protection is read-write.
const WRITABLE: u64 = 4;
const STATE_SHIFT: u32 = 3;
const PROTECTION_SHIFT: u32 = 5;
const HOST: u64 = 0x0fff_ffff_ffff_0000;

impl PageView {
    /// A page in this state, at this real address of the machine (64 KiB aligned; ignored when not populated).
    pub const fn new(state: PageState, protection: Protection, host: HostReal) -> PageView {
        let mut word = ((state as u64) << STATE_SHIFT) | ((protection as u64) << PROTECTION_SHIFT);
        if !matches!(state, PageState::NotPopulated) {
            word |= host.0 & HOST;
            if !matches!(protection, Protection::None) {
                word |= PRESENT;
            }
            if matches!(state, PageState::Private) && matches!(protection, Protection::ReadWrite) {
                word |= WRITABLE;
            }
        }
        PageView(word)
    }

    /// What backs it.
    pub const fn state(self) -> PageState {
        match (self.0 >> STATE_SHIFT) & 3 {
            1 => PageState::Private,
            2 => PageState::Shared,
            _ => PageState::NotPopulated,
        }
    }

    /// Its temporary limit.
    pub const fn protection(self) -> Protection {
        match (self.0 >> PROTECTION_SHIFT) & 3 {
            0 => Protection::ReadWrite,
            1 => Protection::ReadOnly,
            _ => Protection::None,
        }
    }

    /// Where it is, if it is anywhere.
    pub const fn host(self) -> Option<HostReal> {
        if self.0 >> STATE_SHIFT & 3 == 0 { None } else { Some(HostReal(self.0 & HOST)) }
    }

    /// May the hardware see entries for it?
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// May the hardware see writable entries for it?
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    /// Its address, 0 when it has none.
    #[inline]
    pub(crate) const fn host_bits(self) -> u64 {
        self.0 & HOST
    }

    /// The same with another limit.
    pub const fn with_protection(self, protection: Protection) -> PageView {
        PageView::new(self.state(), protection, HostReal(self.0 & HOST))
    }

    /// The same with another backing.
    pub const fn with_backing(self, state: PageState, host: HostReal) -> PageView {
        PageView::new(state, self.protection(), host)
    }
}

impl core::fmt::Debug for PageView {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PageView")
            .field("state", &self.state())
            .field("protection", &self.protection())
            .field("host", &self.host())
            .finish()
    }
}

/// Whether memory was referenced and changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Loaded from, stored to or fetched from.
    pub referenced: bool,
    /// Stored to.
    pub changed: bool,
}

impl Usage {
    pub(crate) const fn of(r: u64) -> Usage {
        Usage { referenced: r & HpteR::R != 0, changed: r & HpteR::C != 0 }
    }
}

/// A unit of a partition's RAM. All zero is a page that is not populated.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct Page {
    word: AtomicU64,
    /// An entry of its chain, with [`LINKED`]; 0 when there is none.
    head: AtomicU32,
    /// R and C of dropped entries, as in dword 1.
    usage: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Page>() == 16);

const RC: u32 = (HpteR::R | HpteR::C) as u32;

impl Page {
    /// Its state now. It can change at any time unless an entry on its chain is locked or the caller knows better.
    #[inline]
    pub fn view(&self) -> PageView {
        PageView(self.word.load(Ordering::Acquire) & !LOCKED)
    }

    /// R and C as harvested from its entries so far; entries that exist may know more.
    pub fn usage(&self) -> Usage {
        Usage::of(self.usage.load(Ordering::Relaxed) as u64)
    }

    /// As [`Page::usage`], and forgets it.
    pub fn take_usage(&self) -> Usage {
        Usage::of(self.usage.swap(0, Ordering::Relaxed) as u64)
    }

    /// The same, with R and C of a dword 1 added.
    pub(crate) fn usage_with(&self, r: u64) -> Usage {
        Usage::of(u64::from(self.usage.load(Ordering::Relaxed)) | r)
    }

    /// Does any entry name it?
    pub fn is_mapped(&self) -> bool {
        self.head.load(Ordering::Relaxed) & LINKED != 0
    }

    /// Adds R and C of a dword 1; other bits are ignored. For the hypervisor's own stores on the guest's behalf as well.
    #[inline(always)]
    pub fn note_usage(&self, r: u64) {
        let rc = r as u32 & RC;
        if rc & !self.usage.load(Ordering::Relaxed) != 0 {
            self.usage.fetch_or(rc, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(crate) fn try_lock(&self) -> Option<PageView> {
        let word = try_set(&self.word, LOCKED, LOCKED)?;
        order::taken(Kind::Page, self);
        Some(PageView(word))
    }

    /// Locks it, unless it stays held for an unreasonable time.
    #[inline]
    pub(crate) fn lock(&self) -> Option<PageView> {
        order::waits(Kind::Page);
        for _ in 0..SPINS {
            if let Some(view) = self.try_lock() {
                return Some(view);
            }
            relax();
        }
        None
    }

    /// Locks it; or only if that can be done at once.
    #[inline(always)]
    pub(crate) fn lock_or_try<const TRY: bool>(&self) -> Option<PageView> {
        if TRY { self.try_lock() } else { self.lock() }
    }

    /// Changes its state; the page is locked and stays so.
    pub(crate) fn set_locked(&self, view: PageView) {
        self.word.store(view.0 | LOCKED, Ordering::Release);
    }

    #[inline]
    pub(crate) fn unlock(&self, view: PageView) {
        fence(Ordering::Release);
        self.unlock_behind_fence(view);
    }

    /// The same when what has been done under the lock is behind a release fence already.
    #[inline(always)]
    pub(crate) fn unlock_behind_fence(&self, view: PageView) {
        order::released(self);
        self.word.store(view.0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn head(&self) -> u32 {
        self.head.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_head(&self, head: u32) {
        self.head.store(head, Ordering::Relaxed);
    }

    /// Makes it shared, if it is populated; answers where it is, and whether it was shared before. Nobody uses it.
    #[inline]
    pub(crate) fn share_quiesced(&self) -> Option<(HostReal, bool)> {
        let view = PageView(self.word.load(Ordering::Relaxed));
        let host = view.host()?;
        let was_shared = matches!(view.state(), PageState::Shared);
        if !was_shared {
            self.word.store(view.with_backing(PageState::Shared, host).0, Ordering::Relaxed);
        }
        Some((host, was_shared))
    }

    /// Copies backing and chain of another, not its protection; nobody uses either.
    #[inline]
    pub(crate) fn clone_from_quiesced(&self, other: &Page) {
        let view = PageView(other.word.load(Ordering::Relaxed));
        self.word.store(view.with_protection(Protection::ReadWrite).0, Ordering::Relaxed);
        self.head.store(other.head.load(Ordering::Relaxed), Ordering::Relaxed);
        self.usage.store(0, Ordering::Relaxed);
    }
}

/// What answers in a range of a partition's real addresses.
#[derive(Clone, Copy, Debug)]
pub enum SlotKind<'a> {
    /// RAM: one [`Page`] per unit.
    Ram(&'a [Page]),
    /// A range of host I/O.
    Device {
        /// Where it starts.
        host: HostReal,
        /// The cache attribute it must be mapped with: `HpteR::W` and `HpteR::I`, other bits are ignored.
        attribute: u64,
    },
}

/// A range of a partition's real addresses.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// Where it starts.
    pub base: GuestReal,
    /// Its length in bytes.
    pub len: u64,
    /// What is there.
    pub kind: SlotKind<'a>,
}

/// Why a slot was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotError {
    /// Base, length or host address is not a multiple of 64 KiB (of the unit, for RAM), the length is 0 or the end overflows.
    Misaligned,
    /// It overlaps another slot.
    Overlap,
    /// There are too many.
    Full,
    /// The page table of a RAM slot has not one entry per unit.
    WrongTable,
}

/// How many slots a partition can have.
pub const MAX_SLOTS: usize = 8;

/// What is at a real address of the partition.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// RAM: its page, and the offset of the address in it.
    Ram(&'a Page, u64),
    /// A device: the host's address and the cache attribute (W and I).
    Device(HostReal, u64),
}

/// The slots of a partition.
#[derive(Clone, Debug)]
pub struct Slots<'a> {
    slots: [Kept<'a>; MAX_SLOTS],
    /// The pages of RAM from address 0 on, which are one of the slots and what nearly everything is about.
    low: &'a [Page],
    unit_shift: u32,
}

/// A slot as it is kept. Where a device is changes only while nobody looks.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    base: Base,
    pub(crate) len: u64,
    pub(crate) kind: SlotKind<'a>,
}

impl<'a> Kept<'a> {
    /// A place for one.
    const fn free() -> Kept<'a> {
        Kept { base: Base::new(0), len: 0, kind: SlotKind::Ram(&[]) }
    }

    fn slot(&self) -> Slot<'a> {
        Slot { base: GuestReal(self.base.load(Ordering::Relaxed)), len: self.len, kind: self.kind }
    }
}

impl Clone for Kept<'_> {
    fn clone(&self) -> Self {
        Kept { base: Base::new(self.base.load(Ordering::Relaxed)), ..*self }
    }
}

/// The base of a device that is nowhere: no entry leads there.
const NOWHERE: u64 = 1 << 63;
/// What every slot is aligned to.
pub(crate) const SLOT_ALIGN: u64 = 1 << 16;

impl<'a> Slots<'a> {
    /// None yet. In a `huge` partition pages are units of 16 MiB and 16 MiB entries are accepted; otherwise 64 KiB.
    pub const fn new(huge: bool) -> Slots<'a> {
        Slots { slots: [const { Kept::free() }; MAX_SLOTS], low: &[], unit_shift: if huge { 24 } else { 16 } }
    }

    /// log2 of the bytes that a [`Page`] stands for.
    #[inline]
    pub const fn unit_shift(&self) -> u32 {
        self.unit_shift
    }

    /// Are entries of 16 MiB accepted?
    #[inline]
    pub const fn is_huge(&self) -> bool {
        self.unit_shift == 24
    }

    /// Adds a slot. Entries that the guest made before keep their meaning until they fault.
    pub fn add(&mut self, slot: Slot<'a>) -> Result<(), SlotError> {
        let unit = 1u64 << self.unit_shift;
        let (align, host) = match slot.kind {
            SlotKind::Ram(_) => (unit, 0),
            SlotKind::Device { host, .. } => (SLOT_ALIGN, host.0),
        };
        let end = slot.base.0.checked_add(slot.len);
        if slot.len == 0 || end.is_none() || (slot.base.0 | slot.len | host) & (align - 1) != 0 {
            return Err(SlotError::Misaligned);
        }
        if let SlotKind::Ram(pages) = slot.kind
            && pages.len() as u64 != slot.len >> self.unit_shift
        {
            return Err(SlotError::WrongTable);
        }
        if self.overlaps(slot.base, slot.len) {
            return Err(SlotError::Overlap);
        }
        match self.slots.iter_mut().find(|s| s.len == 0) {
            Some(free) => *free = Kept { base: Base::new(slot.base.0), len: slot.len, kind: slot.kind },
            None => return Err(SlotError::Full),
        }
        if let (SlotKind::Ram(pages), 0) = (slot.kind, slot.base.0) {
            self.low = pages;
        }
        Ok(())
    }

    /// The slots in use.
    pub fn iter(&self) -> impl Iterator<Item = Slot<'a>> {
        self.slots.iter().filter(|s| s.len != 0).map(Kept::slot)
    }

    /// Where the device is that the host has there, if it is anywhere.
    pub fn device(&self, host: HostReal) -> Option<GuestReal> {
        let base = self.kept(host)?.base.load(Ordering::Relaxed);
        (base != NOWHERE).then_some(GuestReal(base))
    }

    /// Moves that device; nobody looks meanwhile, and entries are to follow ([`crate::GuestMmu::follow_devices`]). It is nowhere if the place
    /// is none for it: misaligned, or another slot's.
    pub fn move_device(&self, host: HostReal, to: Option<GuestReal>) {
        let Some(slot) = self.kept(host) else { return };
        slot.base.store(NOWHERE, Ordering::Relaxed);
        let good = |to: &GuestReal| {
            let fits = to.0.checked_add(slot.len).is_some_and(|end| end <= NOWHERE);
            fits && to.0 & (SLOT_ALIGN - 1) == 0 && !self.overlaps(*to, slot.len)
        };
        if let Some(to) = to.filter(good) {
            slot.base.store(to.0, Ordering::Relaxed);
        }
    }

    fn kept(&self, of: HostReal) -> Option<&Kept<'a>> {
        let is = |s: &&Kept<'a>| matches!(s.kind, SlotKind::Device { host, .. } if s.len != 0 && host == of);
        self.slots.iter().find(is)
    }

    /// The slots of RAM in use: where each begins, and its pages.
    pub fn ram(&self) -> impl Iterator<Item = (GuestReal, &'a [Page])> {
        self.iter().filter_map(|slot| match slot.kind {
            SlotKind::Ram(pages) => Some((slot.base, pages)),
            SlotKind::Device { .. } => None,
        })
    }

    /// All pages of RAM.
    pub fn pages(&self) -> impl Iterator<Item = &'a Page> {
        self.ram().flat_map(|(_, pages)| pages)
    }

    /// Does any slot have an address in this range?
    pub fn overlaps(&self, base: GuestReal, len: u64) -> bool {
        // The end of the range is at most the end of the address space.
        let last = base.0.saturating_add(len.saturating_sub(1));
        self.iter().any(|s| s.base.0 <= last && base.0 <= s.base.0 + (s.len - 1))
    }

    /// The slot that an address is in, and the address's offset in it.
    #[inline(always)]
    pub(crate) fn slot(&self, real: u64) -> Option<(&Kept<'a>, u64)> {
        for slot in &self.slots {
            let offset = real.wrapping_sub(slot.base.load(Ordering::Relaxed));
            if offset < slot.len {
                return Some((slot, offset));
            }
            // Those in use come first.
            if slot.len == 0 {
                return None;
            }
        }
        None
    }

    /// The page at a real address, if that is in the RAM from address 0 on.
    #[inline(always)]
    pub(crate) fn low_page(&self, real: u64) -> Option<&'a Page> {
        self.low.get((real >> (self.unit_shift & 63)) as usize)
    }

    /// What is at a real address.
    #[inline(always)]
    pub fn find(&self, real: GuestReal) -> Option<Target<'a>> {
        let (slot, offset) = self.slot(real.0)?;
        match slot.kind {
            SlotKind::Ram(pages) => {
                let page = pages.get((offset >> self.unit_shift) as usize)?;
                Some(Target::Ram(page, offset & ((1 << self.unit_shift) - 1)))
            }
            SlotKind::Device { host, attribute } => {
                Some(Target::Device(HostReal(host.0.wrapping_add(offset)), attribute & (HpteR::W | HpteR::I)))
            }
        }
    }

    /// The page of RAM at a real address.
    #[inline(always)]
    pub fn page(&self, real: GuestReal) -> Option<&'a Page> {
        match self.find(real)? {
            Target::Ram(page, _) => Some(page),
            Target::Device(..) => None,
        }
    }
}
