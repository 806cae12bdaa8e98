//! What a partition's devices reach by DMA: what the partition has put into the windows of its host bridge, and nothing else. The host's
//! bridges have the same windows, with real addresses of the host's in place of the partition's.
//!
//! A device does not fault: what it reaches must be there, be the partition's alone and stay where it is. So a partition with devices has
//! all its memory from its start on. It is not copied, kept or merged, because that would share its pages, and none is taken away.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::format;
use alloc::string::String;

use frames::FRAME;
use hpt::AccessKind;
use power::{GuestReal, HostReal};

use super::endpoint::Endpoint;
use crate::opal::{Error, Window};
use crate::partition::Partition;
use crate::partition::table::{Block, table};

/// Bits of a translation entry: it may be read (63), and written (62). They are the guest's, too.
const RIGHTS: u64 = 3;
/// A table has this many entries at least: it is 4 KiB long.
const LEAST: u64 = 512;

/// The tables of a partition's windows.
#[derive(Default)]
pub struct Reach([Option<Table>; 2]);

/// A window's translation entries. It has to stay as long as a host bridge knows of it.
struct Table {
    entries: &'static [AtomicU64],
    /// log2 of the length of a page of the window, and of one that an entry is for: one page may take several.
    shift: u32,
    entry_shift: u32,
    _block: Block,
}

/// Gives a partition all of its memory. No vCPU of it is active.
pub fn populate(partition: &Partition) -> Result<(), String> {
    for real in (0..partition.bytes).step_by(FRAME as usize) {
        frame(partition, real).map_err(|error| {
            format!("partition {}: its devices need all its memory: {error:?}", partition.name)
        })?;
    }
    Ok(())
}

/// What backs an address: from then on, as long as nobody takes it away.
fn frame(partition: &Partition, real: u64) -> Result<HostReal, paging::Error> {
    partition.memory().pages(|pages| pages.reach(GuestReal(real), AccessKind::Write, None, |host, _| host))
}

/// Makes a device's host bridge forget a window, as the crate `phb` counts them.
pub fn forget(endpoint: &Endpoint, n: usize) -> Result<(), Error> {
    Window::ALL.get(n).map_or(Ok(()), |window| endpoint.close(*window))
}

impl Reach {
    /// Has a window from now on, without entries, with pages of 1 << `shift` bytes.
    pub fn open(&mut self, n: usize, shift: u32, pages: u64) -> Result<(), String> {
        // Larger pages than that are not to be had on all machines.
        let entry_shift = shift.min(FRAME.trailing_zeros());
        let count = (pages << (shift - entry_shift)).next_power_of_two().max(LEAST);
        let (entries, block) = table::<AtomicU64>(count, "its devices' DMA")?;
        if let Some(place) = self.0.get_mut(n) {
            *place = Some(Table { entries, shift, entry_shift, _block: block });
        }
        Ok(())
    }

    /// Has it no longer. The host bridges do not know of it any more.
    pub fn close(&mut self, n: usize) {
        if let Some(place) = self.0.get_mut(n) {
            *place = None;
        }
    }

    /// Tells a device's host bridge of its windows.
    pub fn tell(&self, endpoint: &Endpoint) -> Result<(), Error> {
        for (table, window) in self.0.iter().zip(Window::ALL) {
            match table {
                None => endpoint.close(window)?,
                Some(table) => {
                    let at = HostReal::of_ea(table.entries.as_ptr() as u64);
                    let bytes = size_of_val(table.entries) as u64;
                    endpoint.reach_table(window, at, bytes, 1 << table.entry_shift)?;
                }
            }
        }
        Ok(())
    }

    /// A host bridge may still know of the tables: they lead nowhere from now on, and stay for good.
    pub fn strand(self) {
        let entries = self.0.iter().flatten().flat_map(|table| table.entries);
        entries.for_each(|entry| entry.store(0, Ordering::Relaxed));
        core::mem::forget(self);
    }

    /// The partition has set entries, from a page on.
    pub fn map(&self, partition: &Partition, n: usize, page: u64, entries: &mut dyn Iterator<Item = u64>) {
        let Some(Some(table)) = self.0.get(n) else { return };
        let pieces = 1u64 << (table.shift - table.entry_shift);
        for (page, entry) in (page..).zip(entries) {
            let (rights, real) = (entry & RIGHTS, entry >> table.shift << table.shift);
            for piece in 0..pieces {
                let Some(to) = table.entries.get((page * pieces + piece) as usize) else { return };
                let real = real + (piece << table.entry_shift);
                // What is not the partition's memory leads nowhere.
                let good = rights != 0 && real + (1 << table.entry_shift) <= partition.bytes;
                let host = good.then(|| frame(partition, real).ok()).flatten();
                let value = host.map_or(0, |host| host.0 | rights);
                to.store(value.to_be(), Ordering::Relaxed);
            }
        }
    }
}
