//! A driver of virtio devices that polls (Virtual I/O Device (VIRTIO) Version 1.2): any number of queues, chains of any parts, by real addresses
//! and without interrupts.

use crate::cpu::{sync, timebase};
use crate::mem::{fill, read16, read32, write16, write32, write64};
use crate::pci::{Bridge, at, load, store};
use crate::virtio::common;

/// Bits of a device's status.
pub const NEEDS_RESET: u32 = 64;
const DRIVER: u32 = 3;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;

/// VERSION_1, which is always agreed to.
pub const VERSION_1: u64 = 1 << 32;

/// A device.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Where the structures show: common, notifications, interrupt status, its own.
    structures: [u64; 4],
    multiplier: u32,
}

/// The first device of a kind, by virtio's number of it, and what it has agreed to: what it offers of these features.
pub fn find(kind: u32, wanted: u64) -> Option<(Device, u64)> {
    find_nth(kind, 0, wanted)
}

/// The nth of them, from 0 on.
pub fn find_nth(kind: u32, n: usize, wanted: u64) -> Option<(Device, u64)> {
    let bridge = Bridge::find()?;
    let ids = Ok((0x1040 + kind) << 16 | 0x1af4);
    let slot = (0..32).filter(|slot| bridge.read(*slot, 0, 4) == ids).nth(n)?;
    bridge.place(slot);
    let mut device = Device { structures: [0; 4], multiplier: 0 };
    let mut capability = 0;
    while let Some(found) = bridge.capability(slot, 9, capability) {
        capability = found;
        let field = |offset, bytes| bridge.read(slot, found + offset, bytes).ok();
        let kind = field(3, 1)?;
        if let Some(place) = device.structures.get_mut((kind as usize).wrapping_sub(1)) {
            *place = at(slot, field(4, 1)?, field(8, 4)?.into());
        }
        if kind == 2 {
            device.multiplier = field(16, 4)?;
        }
    }
    let agreed = device.negotiate(wanted | VERSION_1)?;
    Some((device, agreed))
}

impl Device {
    fn get(&self, register: u64, bytes: u32) -> u32 {
        load(self.structures[0] + register, bytes)
    }

    fn set(&self, register: u64, bytes: u32, value: u32) {
        store(self.structures[0] + register, bytes, value);
    }

    /// Its status.
    pub fn status(&self) -> u32 {
        self.get(common::STATUS, 1)
    }

    /// Resets it.
    pub fn reset(&self) {
        self.set(common::STATUS, 1, 0);
    }

    /// Resets it and agrees on features; none if it does not.
    pub fn negotiate(&self, wanted: u64) -> Option<u64> {
        self.reset();
        self.set(common::STATUS, 1, DRIVER);
        let offered = |half| {
            self.set(common::FEATURE_SELECT, 4, half);
            u64::from(self.get(common::FEATURE, 4)) << (32 * half)
        };
        let agreed = (offered(0) | offered(1)) & wanted;
        for half in [0, 1] {
            self.set(common::DRIVER_SELECT, 4, half);
            self.set(common::DRIVER, 4, (agreed >> (32 * half)) as u32);
        }
        self.set(common::STATUS, 1, DRIVER | FEATURES_OK);
        (self.status() & FEATURES_OK != 0).then_some(agreed)
    }

    /// Lets it begin, with the queues that have been set up.
    pub fn start(&self) {
        self.set(common::STATUS, 1, DRIVER | FEATURES_OK | DRIVER_OK);
    }

    /// Loads from its own configuration.
    pub fn load(&self, offset: u64, bytes: u32) -> u32 {
        load(self.structures[3] + offset, bytes)
    }

    /// Stores to it.
    pub fn store(&self, offset: u64, bytes: u32, value: u32) {
        store(self.structures[3] + offset, bytes, value);
    }
}

/// A queue.
#[derive(Clone, Copy, Debug)]
pub struct Polled {
    index: u32,
    size: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    /// Where it is notified.
    pub doorbell: u64,
    next: u16,
    given: u16,
    taken: u16,
}

impl Polled {
    /// Sets a queue up, in 4 KiB of real memory from `at` on, with up to 64 descriptors, a power of two.
    pub fn new(device: Device, index: u32, size: u16, at: u64) -> Polled {
        fill(at, 0x1000, 0);
        let (available, used) = (at + 0x400, at + 0x800);
        device.set(common::QUEUE, 2, index);
        device.set(common::QUEUE_SIZE, 2, size.into());
        for (n, area) in (0..).zip([at, available, used]) {
            device.set(common::QUEUE_DESCRIPTORS + 8 * n, 4, area as u32);
            device.set(common::QUEUE_DESCRIPTORS + 8 * n + 4, 4, (area >> 32) as u32);
        }
        let doorbell =
            device.structures[1] + u64::from(device.get(common::QUEUE_NOTIFY, 2) * device.multiplier);
        device.set(common::QUEUE_ENABLE, 2, 1);
        Polled { index, size, descriptors: at, available, used, doorbell, next: 0, given: 0, taken: 0 }
    }

    /// Makes a chain available: where memory is, how many bytes, and whether the device writes it. Descriptors are used in turn, so as many
    /// as there are can be out.
    pub fn add(&mut self, parts: &[(u64, u32, bool)]) {
        let head = self.next;
        for (n, (at, bytes, writable)) in parts.iter().enumerate() {
            let descriptor = self.descriptors + 16 * u64::from(self.next);
            let more = n + 1 < parts.len();
            self.next = (self.next + 1) % self.size;
            write64(descriptor, at.to_le());
            write32(descriptor + 8, bytes.to_le());
            write16(descriptor + 12, (u16::from(more) | u16::from(*writable) << 1).to_le());
            write16(descriptor + 14, self.next.to_le());
        }
        write16(self.available + 4 + 2 * u64::from(self.given % self.size), head.to_le());
        sync();
        self.given = self.given.wrapping_add(1);
        write16(self.available + 2, self.given.to_le());
        sync();
    }

    /// Notifies the device.
    pub fn kick(&self) {
        store(self.doorbell, 2, self.index);
    }

    /// The chain that comes back next, within a time: its first descriptor, and how many bytes were written.
    pub fn wait(&mut self, ticks: u64) -> Option<(u16, u32)> {
        let until = timebase() + ticks;
        while u16::from_le(read16(self.used + 2)) == self.taken {
            if timebase() > until {
                return None;
            }
        }
        sync();
        let element = self.used + 4 + 8 * u64::from(self.taken % self.size);
        self.taken = self.taken.wrapping_add(1);
        Some((u32::from_le(read32(element)) as u16, u32::from_le(read32(element + 4))))
    }
}
