//! A partition's memory: populated on first touch, read and written on the guest's behalf. What becomes of its pages is decided in
//! the crate `paging`; here is the host under it.
#![allow(unsafe_code)] // works on the linear map by real addresses, for which the page states vouch

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use emulate::units;
use hpt::AccessKind;
use paging::{Context, Error, Host, Outcome, Shares, Supply};
use power::{GuestReal, HostReal};
use realmode::machine::{VirtualMode, copy_blocks};
use realmode::partition::Partition as Core;

use crate::memory;

/// The host's memory, as partitions get at it.
pub struct HostMemory;

/// As a partition's pages are worked on.
pub type Pages<'a> = paging::Memory<'a, HostMemory, VirtualMode>;

/// The doublewords of memory that belongs to a partition, or is shared.
fn words<'a>(at: HostReal, len: u64) -> &'a [AtomicU64] {
    // SAFETY: `paging` passes units of memory that it has from here and has not given back, so all of it is mapped and aligned. A guest may
    // still write to it.
    unsafe { core::slice::from_raw_parts(at.ea() as *const AtomicU64, (len / 8) as usize) }
}

/// How many are looked at in one go: the loop costs more than they do otherwise.
const RUN: usize = 16;

impl Supply for HostMemory {
    fn allocate(&self, bytes: u64) -> Option<HostReal> {
        memory::allocate_for_guest(bytes)
    }

    fn zero(&self, at: HostReal, len: u64) {
        // SAFETY: memory from `allocate` that nobody uses yet, in whole frames.
        unsafe { memory::zero(at, len) }
    }

    fn zero_page(&self) -> HostReal {
        memory::zero_page()
    }
}

impl Host for HostMemory {
    fn release(&self, at: HostReal, bytes: u64) {
        memory::release(at, bytes);
    }

    fn copy(&self, from: HostReal, to: HostReal, len: u64) {
        // SAFETY: `to` is new, `from` is populated; whole frames.
        unsafe { copy_blocks(from, to, len) }
    }

    fn same(&self, a: HostReal, b: HostReal, len: u64) -> bool {
        let differ = |(a, b): (&AtomicU64, &AtomicU64)| a.load(Ordering::Relaxed) ^ b.load(Ordering::Relaxed);
        let mut runs = words(a, len).chunks(RUN).zip(words(b, len).chunks(RUN));
        runs.all(|(a, b)| a.iter().zip(b).map(differ).fold(0, |any, bits| any | bits) == 0)
    }

    fn is_zero(&self, at: HostReal, len: u64) -> bool {
        let mut runs = words(at, len).chunks(RUN);
        runs.all(|run| run.iter().fold(0, |any, word| any | word.load(Ordering::Relaxed)) == 0)
    }

    fn hash(&self, at: HostReal, len: u64) -> u64 {
        // Only finds candidates: they are compared byte by byte.
        words(at, len).iter().fold(0, |hash: u64, word| {
            (hash.rotate_left(5) ^ word.load(Ordering::Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    }

    fn shares(&self) -> Shares<'_> {
        memory::shares()
    }
}

/// Is it one of these, as most are?
fn is_unit(at: usize, len: usize) -> bool {
    len.is_power_of_two() && len <= 8 && at.is_multiple_of(len)
}

/// Loads an aligned unit of a guest's memory at once.
///
/// # Safety
/// Both are valid for so many bytes; `from` is aligned to them.
unsafe fn load_unit(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's.
    unsafe {
        match bytes {
            8 => to.cast::<u64>().write_unaligned(from.cast::<u64>().read_volatile()),
            4 => to.cast::<u32>().write_unaligned(from.cast::<u32>().read_volatile()),
            2 => to.cast::<u16>().write_unaligned(from.cast::<u16>().read_volatile()),
            _ => to.write(from.read_volatile()),
        }
    }
}

/// Stores an aligned unit to a guest's memory at once.
///
/// # Safety
/// Both are valid for so many bytes; `to` is aligned to them.
unsafe fn store_unit(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's.
    unsafe {
        match bytes {
            8 => to.cast::<u64>().write_volatile(from.cast::<u64>().read_unaligned()),
            4 => to.cast::<u32>().write_volatile(from.cast::<u32>().read_unaligned()),
            2 => to.cast::<u16>().write_volatile(from.cast::<u16>().read_unaligned()),
            _ => to.write_volatile(from.read()),
        }
    }
}

/// So many are data, and not what two agree on by.
const DATA: usize = 64;

/// Loads bytes of a guest's memory, what is aligned at once, unless they are many.
///
/// # Safety
/// Both are valid for so many bytes.
#[inline(never)] // a profile shows by it when a device reads its queue
unsafe fn load_all(from: *const u8, to: *mut u8, bytes: usize) {
    if bytes >= DATA {
        // SAFETY: the caller's.
        return unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
    }
    if is_unit(from as usize, bytes) {
        // SAFETY: the caller's.
        return unsafe { load_unit(from, to, bytes) };
    }
    for (offset, unit) in units(from as u64, bytes) {
        // SAFETY: the caller's.
        unsafe { load_unit(from.add(offset), to.add(offset), unit) };
    }
}

/// Stores bytes to a guest's memory, likewise.
///
/// # Safety
/// Both are valid for so many bytes.
unsafe fn store_all(from: *const u8, to: *mut u8, bytes: usize) {
    if bytes >= DATA {
        // SAFETY: the caller's.
        return unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
    }
    if is_unit(to as usize, bytes) {
        // SAFETY: the caller's.
        return unsafe { store_unit(from, to, bytes) };
    }
    for (offset, unit) in units(to as u64, bytes) {
        // SAFETY: the caller's.
        unsafe { store_unit(from.add(offset), to.add(offset), unit) };
    }
}

/// Hands out what is in more than one unit of memory, unit by unit.
#[inline(never)]
fn split(
    mut at: GuestReal,
    len: usize,
    unit: u64,
    mut part: impl FnMut(GuestReal, Range<usize>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut done = 0;
    while done < len {
        let left = unit - (at.0 & (unit - 1));
        let end = len.min(done + left as usize);
        part(at, done..end)?;
        at = GuestReal(at.0.wrapping_add(left));
        done = end;
    }
    Ok(())
}

/// A partition's memory, by its real addresses.
#[derive(Clone, Copy)]
pub struct GuestMemory<'a> {
    core: &'a Core,
}

/// An access of the hypervisor's own.
const OWN: Context = Context { ea: None, pc: None, value: None };

impl<'a> GuestMemory<'a> {
    /// Of this partition.
    pub fn new(core: &'a Core) -> GuestMemory<'a> {
        GuestMemory { core }
    }

    /// Does something to its pages.
    pub fn pages<T>(&self, work: impl FnOnce(&Pages<'_>) -> T) -> T {
        work(&Pages::new(&self.core.paging, self.core.mmu(), &HostMemory, &VirtualMode::new(self.core.lpid)))
    }

    /// Populates the page of an address, makes a shared one private for a store, or asks who has protected it.
    pub fn fault(&self, real: GuestReal, kind: AccessKind, context: &Context) -> Outcome {
        self.pages(|pages| pages.fault(real, kind, context))
    }

    /// Does something to `len` bytes that are in one page, as nearly all are that are read or written at once: where they are. Others are done
    /// piece by piece: `part` is called with the first address of each, and with which of the bytes it has.
    #[inline(always)]
    fn each(
        &self,
        at: GuestReal,
        len: usize,
        kind: AccessKind,
        tell: Option<&Context>,
        whole: impl FnOnce(*mut u8),
        part: impl FnMut(GuestReal, Range<usize>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let unit = 1 << self.core.slots.unit_shift();
        let left = unit - (at.0 & (unit - 1));
        // Neither is one of no bytes.
        if (len as u64).wrapping_sub(1) >= left {
            return split(at, len, unit, part);
        }
        self.pages(|pages| pages.reach(at, kind, tell, |host, _| whole(host.ea() as *mut u8)))
    }

    /// Reads bytes. What is aligned is read at once, up to eight bytes, unless they are many: the guest may change it meanwhile.
    pub fn read(&self, at: GuestReal, to: &mut [u8]) -> Result<(), Error> {
        let (base, len) = (to.as_mut_ptr(), to.len());
        // SAFETY: `len` bytes of populated memory, which stays so meanwhile, and there is room for them in `to`.
        let whole = |from: *mut u8| unsafe { load_all(from, base, len) };
        self.each(at, len, AccessKind::Read, Some(&OWN), whole, |at, part| self.read(at, &mut to[part]))
    }

    /// Writes bytes, likewise.
    pub fn write(&self, at: GuestReal, from: &[u8]) -> Result<(), Error> {
        // SAFETY: as above, and the page is the partition's alone.
        let whole = |to| unsafe { store_all(from.as_ptr(), to, from.len()) };
        self.each(at, from.len(), AccessKind::Write, Some(&OWN), whole, |at, part| {
            self.write(at, &from[part])
        })
    }

    /// As [`GuestMemory::read`], for an instruction of which whoever protects the page has heard already, or need not.
    pub fn read_past(&self, at: GuestReal, to: &mut [u8]) -> Result<(), Error> {
        let (base, len) = (to.as_mut_ptr(), to.len());
        // SAFETY: as above, and there is room for them all in `to`.
        let whole = |from: *mut u8| unsafe { load_all(from, base, len) };
        self.each(at, len, AccessKind::Read, None, whole, |at, part| self.read_past(at, &mut to[part]))
    }

    /// As [`GuestMemory::write`], likewise.
    pub fn write_past(&self, at: GuestReal, from: &[u8]) -> Result<(), Error> {
        // SAFETY: as above, and the page is the partition's alone.
        let whole = |to| unsafe { store_all(from.as_ptr(), to, from.len()) };
        self.each(at, from.len(), AccessKind::Write, None, whole, |at, part| self.write_past(at, &from[part]))
    }

    /// Reads a big-endian number of `N` bytes.
    pub fn read_be<const N: usize>(&self, at: GuestReal) -> Result<u64, Error> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// Makes the instruction caches see what was written.
    pub fn sync_instructions(&self, at: GuestReal, len: u64) {
        // What is not there was not written.
        let _ = self.sync_past(at, len);
    }

    /// Makes caches agree with memory. No byte is read: nobody hears of it.
    pub fn sync_past(&self, at: GuestReal, len: u64) -> Result<(), Error> {
        let machine = VirtualMode::new(self.core.lpid);
        let whole = |from| hpt::Machine::icache_sync(&machine, HostReal::of_ea(from as u64), len);
        self.each(at, len as usize, AccessKind::Read, None, whole, |at, part| {
            self.sync_past(at, part.len() as u64)
        })
    }

    /// Gives all memory back to the host: the partition has none populated then.
    pub fn discard_all(&self) {
        self.pages(|pages| pages.discard_all());
    }
}
