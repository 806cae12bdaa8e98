//! A partition's memory: populated on first touch, read and written on the guest's behalf.
#![allow(unsafe_code)] // copies between the linear map and slices, after the slots have vouched for the range

use hpt::{PageState, Target};
use power::{GuestReal, HostReal};
use realmode::machine::VirtualMode;
use realmode::partition::Partition;

use crate::memory;

/// Why memory of a partition could not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryError {
    /// There is no RAM at the address.
    NoRam,
    /// The host has no memory left.
    Exhausted,
}

/// A partition's memory, by its real addresses.
#[derive(Clone, Copy)]
pub struct GuestMemory<'a> {
    partition: &'a Partition,
}

impl<'a> GuestMemory<'a> {
    /// Of this partition.
    pub fn new(partition: &'a Partition) -> GuestMemory<'a> {
        GuestMemory { partition }
    }

    fn unit(&self) -> u64 {
        1 << self.partition.slots.unit_shift()
    }

    /// The byte at a real address, with `len` more behind it in the same page; populated, and private if it is to be
    /// stored to.
    fn reach(&self, at: GuestReal, store: bool) -> Result<(HostReal, u64), MemoryError> {
        let unit = self.unit();
        // Twice at most: not populated becomes private.
        for _ in 0..3 {
            let Some(Target::Ram(page, offset)) = self.partition.slots.find(at) else {
                return Err(MemoryError::NoRam);
            };
            let view = page.view();
            match (view.state(), view.host()) {
                (PageState::Private, Some(host)) => return Ok((HostReal(host.0 + offset), unit - offset)),
                (PageState::Shared, Some(host)) if !store => {
                    return Ok((HostReal(host.0 + offset), unit - offset));
                }
                _ => self.make_usable(at, store)?,
            }
        }
        Err(MemoryError::NoRam)
    }

    /// Populates a page, or makes a shared one private for a store.
    pub fn make_usable(&self, at: GuestReal, store: bool) -> Result<(), MemoryError> {
        let unit = self.unit();
        let Some(page) = self.partition.slots.page(at) else { return Err(MemoryError::NoRam) };
        let view = page.view();
        let old = match (view.state(), view.host()) {
            (PageState::NotPopulated, _) => None,
            (PageState::Shared, Some(host)) if store => Some(host),
            _ => return Ok(()),
        };
        let new = memory::allocate_for_guest(unit).ok_or(MemoryError::Exhausted)?;
        let mmu = self.partition.mmu();
        let machine = VirtualMode::new(self.partition.lpid);
        let done = match old {
            None => {
                // SAFETY: the block is new, and the unit a multiple of a cache block.
                unsafe { memory::zero(new, unit) };
                mmu.populate(at, PageState::Private, new)
            }
            Some(old) => {
                hpt::Machine::copy(&machine, old, new, unit);
                mmu.make_private(&machine, at, new).map(drop)
            }
        };
        if done.is_err() {
            // Somebody else was faster: the page is usable.
            memory::release(new, unit);
        }
        Ok(())
    }

    /// Reads bytes.
    pub fn read(&self, at: GuestReal, to: &mut [u8]) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < to.len() {
            let (host, left) = self.reach(GuestReal(at.0.wrapping_add(done as u64)), false)?;
            let n = (to.len() - done).min(left as usize);
            // SAFETY: `left` bytes from `host` on are populated memory of the partition. The guest may store to
            // them meanwhile; bytes have no invalid values.
            unsafe { core::ptr::copy_nonoverlapping(host.ea() as *const u8, to.as_mut_ptr().add(done), n) };
            done += n;
        }
        Ok(())
    }

    /// Writes bytes.
    pub fn write(&self, at: GuestReal, from: &[u8]) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < from.len() {
            let (host, left) = self.reach(GuestReal(at.0.wrapping_add(done as u64)), true)?;
            let n = (from.len() - done).min(left as usize);
            // SAFETY: as above, and the page is the partition's alone.
            unsafe { core::ptr::copy_nonoverlapping(from.as_ptr().add(done), host.ea() as *mut u8, n) };
            done += n;
        }
        Ok(())
    }

    /// Reads a big-endian number of `N` bytes.
    pub fn read_be<const N: usize>(&self, at: GuestReal) -> Result<u64, MemoryError> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// Makes the instruction caches see what was written.
    pub fn sync_instructions(&self, at: GuestReal, len: u64) {
        let machine = VirtualMode::new(self.partition.lpid);
        let mut done = 0;
        while done < len {
            let Ok((host, left)) = self.reach(GuestReal(at.0 + done), false) else { return };
            hpt::Machine::icache_sync(&machine, host, left.min(len - done));
            done += left;
        }
    }

    /// Gives all memory back to the host: the partition has none populated then.
    pub fn discard_all(&self) {
        let machine = VirtualMode::new(self.partition.lpid);
        let unit = self.unit();
        for slot in self.partition.slots.iter() {
            for offset in (0..slot.len).step_by(unit as usize) {
                if let Ok((host, _)) = self.partition.mmu().discard(&machine, GuestReal(slot.base.0 + offset))
                {
                    memory::release(host, unit);
                }
            }
        }
    }
}
