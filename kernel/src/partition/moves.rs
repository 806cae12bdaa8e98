//! Memory of the host's devices that the guest moves: it writes other addresses to base address registers, or switches a function's memory
//! off. The device's own addresses stay; its slots follow while the partition stands still, and what the guest has entered for them.
//!
//! A range that is off, outside of the host bridge's windows, not at a multiple of 64 KiB or where another one is, is nowhere.

use alloc::vec::Vec;

use power::{GuestReal, HostReal};

use super::{Partition, snapshot};
use crate::exits::{After, Guest};

/// What ranges are to be elsewhere by now, by their addresses in the host; and where.
fn due(partition: &Partition) -> Vec<(HostReal, Option<GuestReal>)> {
    let Some(devices) = partition.pci.as_ref().filter(|_| !partition.devices.is_empty()) else {
        return Vec::new();
    };
    let places: Vec<_> = devices.with(|bridge| bridge.places().collect());
    let mut wanted = partition.devices.wanted(&places);
    let slots = &partition.core().slots;
    wanted.retain(|(host, to)| slots.device(*host) != *to);
    wanted
}

/// A vCPU has written to configuration space. If memory is to be moved for that, it is at its call again once that has been done.
pub fn follow(guest: &mut Guest<'_>) -> Option<After> {
    if due(guest.partition).is_empty() {
        return None;
    }
    Some(snapshot::again(guest, |partition| {
        let life = partition.life.lock();
        move_all(partition);
        partition.core().mmu().follow_devices();
        drop(life);
        snapshot::flush(partition);
    }))
}

/// The same for a partition whose page table is about to be cleared.
pub fn move_all(partition: &Partition) {
    let (slots, due) = (&partition.core().slots, due(partition));
    // They may change places.
    due.iter().for_each(|(host, _)| slots.move_device(*host, None));
    due.iter().for_each(|(host, to)| slots.move_device(*host, *to));
}
