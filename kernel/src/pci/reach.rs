//! What a partition's devices reach by DMA: its memory and nothing else, at the partition's own real addresses.
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

/// Bits of a translation entry: it may be read (63), and written (62).
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;

/// A table of translation entries, one for each page of 64 KiB. It has to stay as long as a host bridge has a window of it.
pub struct Reach {
    entries: &'static [AtomicU64],
    _block: Block,
}

impl Reach {
    /// Of all the partition's memory, which it has from then on. No vCPU of it is active.
    pub fn of(partition: &Partition) -> Result<Reach, String> {
        let pages = partition.bytes.div_ceil(FRAME);
        let (entries, block) = table::<AtomicU64>(pages.next_power_of_two().max(512), "its devices' DMA")?;
        for (n, entry) in entries.iter().enumerate().take(pages as usize) {
            let real = GuestReal(n as u64 * FRAME);
            let reached =
                partition.memory().pages(|pages| pages.reach(real, AccessKind::Write, None, |host, _| host));
            let host = reached.map_err(|error| {
                format!("partition {}: its devices need all its memory: {error:?}", partition.name)
            })?;
            entry.store((host.0 | READ | WRITE).to_be(), Ordering::Relaxed);
        }
        Ok(Reach { entries, _block: block })
    }

    /// Lets a device reach it.
    pub fn open(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let at = HostReal::of_ea(self.entries.as_ptr() as u64);
        endpoint.reach_table(Window::Low, at, size_of_val(self.entries) as u64, FRAME)
    }
}
