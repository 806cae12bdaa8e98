//! The bus between a partition and its devices: what its vCPUs load and store, and what the devices do to its memory and interrupts.

use papr::xics::Kick;
use phb::{DmaError, Host};
use power::GuestReal;

use crate::partition::Partition;

/// The partition, as its host bridge knows it.
pub struct Owner<'a>(pub &'a Partition);

/// Instead of it, before there is one.
pub struct Nobody;

impl Host for Nobody {
    fn read(&self, _real: u64, _to: &mut [u8]) -> Result<(), DmaError> {
        Err(DmaError)
    }

    fn write(&self, _real: u64, _from: &[u8]) -> Result<(), DmaError> {
        Err(DmaError)
    }

    fn message(&self, _source: u32) {}

    fn line(&self, _source: u32, _up: bool) {}
}

impl Host for Owner<'_> {
    fn read(&self, real: u64, to: &mut [u8]) -> Result<(), DmaError> {
        self.0.memory().read(GuestReal(real), to).map_err(|_| DmaError)
    }

    fn write(&self, real: u64, from: &[u8]) -> Result<(), DmaError> {
        self.0.memory().write(GuestReal(real), from).map_err(|_| DmaError)
    }

    fn discard(&self, real: u64, bytes: u64) {
        // What a device of the host's reaches stays where it is.
        if !self.0.devices.is_empty() {
            return;
        }
        let unit = 1 << self.0.core().slots.unit_shift();
        self.0.memory().pages(|pages| {
            // Up to where there is no memory.
            let mut units = (real..real.saturating_add(bytes)).step_by(unit);
            let _ = units.try_for_each(|at| pages.discard(GuestReal(at)));
        });
    }

    fn window(&self, window: usize, shape: Option<(u32, u64)>) -> bool {
        self.0.devices.window(window, shape)
    }

    fn map(&self, window: usize, page: u64, entries: &mut dyn Iterator<Item = u64>) {
        self.0.devices.map(self.0, window, page, entries);
    }

    fn message(&self, source: u32) {
        message(self.0, source);
    }

    fn line(&self, source: u32, up: bool) {
        let xics = &self.0.core().xics;
        let kick = if up { xics.assert(source) } else { xics.deassert(source).map(|()| Kick::NONE) };
        self.0.kick(kick.unwrap_or(Kick::NONE));
    }
}

/// Signals a source of a partition that signals by messages, if there is such a one.
pub fn message(partition: &Partition, source: u32) {
    partition.kick(partition.core().xics.assert(source).unwrap_or(Kick::NONE));
}

/// Loads from what is on the partition's bus at `real`: at most eight bytes, naturally aligned. False if nothing is, and they stay.
pub fn load(partition: &Partition, real: GuestReal, bytes: &mut [u8]) -> bool {
    let Some(devices) = &partition.pci else { return false };
    devices.bridge.lock().load(real.0, bytes, &Owner(partition))
}

/// Stores to what is there, likewise.
pub fn store(partition: &Partition, real: GuestReal, bytes: &[u8]) -> bool {
    let Some(devices) = &partition.pci else { return false };
    let (met, more) = devices.bridge.lock().store(real.0, bytes, &Owner(partition));
    if more {
        devices.bell.more();
    }
    met
}
