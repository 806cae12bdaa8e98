//! A driver of virtio devices behind PCI, as small as it gets (Virtual I/O Device (VIRTIO) Version 1.2): one buffer at a time, from real
//! memory.

use crate::cpu::{TB_HZ, sync, timebase};
use crate::mem::{ARENA, fill, read16, read32, write16, write32, write64};
use crate::pci::{Bridge, at, load, store};

/// Registers of the common structure.
pub mod common {
    #![allow(missing_docs)] // the names are the specification's own
    pub const FEATURE_SELECT: u64 = 0;
    pub const FEATURE: u64 = 4;
    pub const DRIVER_SELECT: u64 = 8;
    pub const DRIVER: u64 = 12;
    pub const CONFIG_VECTOR: u64 = 16;
    pub const QUEUES: u64 = 18;
    pub const STATUS: u64 = 20;
    pub const QUEUE: u64 = 22;
    pub const QUEUE_SIZE: u64 = 24;
    pub const QUEUE_VECTOR: u64 = 26;
    pub const QUEUE_ENABLE: u64 = 28;
    pub const QUEUE_NOTIFY: u64 = 30;
    pub const QUEUE_DESCRIPTORS: u64 = 32;
}

/// VIRTIO_F_VERSION_1 and VIRTIO_F_ACCESS_PLATFORM, in the upper half of the features.
pub const VERSION_1: u32 = 1;
/// See [`VERSION_1`].
pub const ACCESS_PLATFORM: u32 = 2;

/// Entries of a queue.
pub const SIZE: u16 = 8;

/// A device.
#[derive(Clone, Copy, Debug)]
pub struct Virtio {
    /// Its slot.
    pub slot: u32,
    /// Where the structures show: common, notifications, interrupt status, its own.
    structures: [u64; 4],
    multiplier: u32,
    /// Where its queue is, by real address, and what to add for the bus.
    pub ring: u64,
    /// See `ring`.
    pub offset: u64,
    notify: u64,
    given: u16,
}

/// A piece of a buffer: where it is, its bytes, and whether the device writes it.
pub type Piece = (u64, u32, bool);

impl Virtio {
    /// The device in a slot, whose memory has been placed, with its queue at `ring`; devices reach memory at real addresses plus `offset`.
    pub fn new(bridge: &Bridge, slot: u32, ring: u64, offset: u64) -> Option<Virtio> {
        let (mut structures, mut multiplier, mut capability) = ([0; 4], 0, 0);
        while let Some(found) = bridge.capability(slot, 9, capability) {
            capability = found;
            let kind = bridge.read(slot, found + 3, 1).ok()?;
            let (bar, from) = (bridge.read(slot, found + 4, 1).ok()?, bridge.read(slot, found + 8, 4).ok()?);
            if let Some(place @ 0) = structures.get_mut((kind as usize).wrapping_sub(1)) {
                *place = at(slot, bar, from.into());
            }
            if kind == 2 {
                multiplier = bridge.read(slot, found + 16, 4).ok()?;
            }
        }
        let found = structures.iter().take(3).all(|place| *place != 0);
        found.then_some(Virtio { slot, structures, multiplier, ring, offset, notify: 0, given: 0 })
    }

    /// Where a register of the common structure shows.
    pub fn register(&self, register: u64) -> u64 {
        self.structures[0] + register
    }

    /// Reads a register of the common structure.
    pub fn common(&self, register: u64, bytes: u32) -> u32 {
        load(self.structures[0] + register, bytes)
    }

    /// Writes one.
    pub fn set_common(&self, register: u64, bytes: u32, value: u32) {
        store(self.structures[0] + register, bytes, value);
    }

    /// Where the device's own structure shows.
    pub fn own(&self, offset: u64) -> u64 {
        self.structures[3] + offset
    }

    /// Reads the interrupt status, which clears it.
    pub fn interrupt_status(&self) -> u32 {
        load(self.structures[2], 1)
    }

    /// The features that it offers.
    pub fn features(&self) -> [u32; 2] {
        [0, 1].map(|half| {
            self.set_common(common::FEATURE_SELECT, 4, half);
            self.common(common::FEATURE, 4)
        })
    }

    /// Resets it and agrees on features, with its first queue set up; false if it does not agree.
    pub fn start(&mut self, features: [u32; 2]) -> bool {
        self.set_common(common::STATUS, 1, 0);
        self.set_common(common::STATUS, 1, 3);
        for half in [0, 1] {
            self.set_common(common::DRIVER_SELECT, 4, half);
            self.set_common(common::DRIVER, 4, features[half as usize]);
        }
        self.set_common(common::STATUS, 1, 0xb);
        if self.common(common::STATUS, 1) != 0xb {
            return false;
        }
        fill(self.ring, 0x1000, 0);
        self.set_common(common::QUEUE, 2, 0);
        self.set_common(common::QUEUE_SIZE, 2, SIZE.into());
        for (n, part) in [0, 0x400, 0x800].into_iter().enumerate() {
            let at = self.ring + self.offset + part;
            let register = common::QUEUE_DESCRIPTORS + 8 * n as u64;
            self.set_common(register, 4, at as u32);
            self.set_common(register + 4, 4, (at >> 32) as u32);
        }
        self.notify = self.doorbell(0);
        self.set_common(common::QUEUE_ENABLE, 2, 1);
        self.set_common(common::STATUS, 1, 0xf);
        self.given = 0;
        true
    }

    /// Where a notification of a queue goes.
    pub fn doorbell(&self, queue: u32) -> u64 {
        self.set_common(common::QUEUE, 2, queue);
        self.structures[1] + u64::from(self.common(common::QUEUE_NOTIFY, 2) * self.multiplier)
    }

    /// Where a notification of the first queue goes.
    pub fn notification(&self) -> u64 {
        self.notify
    }

    /// Makes a buffer available, without a word about it.
    pub fn give(&mut self, pieces: &[Piece]) {
        self.describe(pieces);
        self.publish();
    }

    /// Describes a buffer, which the device does not see yet.
    pub fn describe(&self, pieces: &[Piece]) {
        for (n, (at, bytes, written)) in pieces.iter().enumerate() {
            let descriptor = self.ring + 16 * n as u64;
            let last = n + 1 == pieces.len();
            write64(descriptor, (at + self.offset).to_le());
            write32(descriptor + 8, bytes.to_le());
            write16(descriptor + 12, (u16::from(!last) | u16::from(*written) << 1).to_le());
            write16(descriptor + 14, (n as u16 + 1).to_le());
        }
    }

    /// Makes the buffer that was described last available.
    pub fn publish(&mut self) {
        write16(self.ring + 0x404 + 2 * u64::from(self.given % SIZE), 0);
        sync();
        self.given = self.given.wrapping_add(1);
        write16(self.ring + 0x402, self.given.to_le());
        sync();
    }

    /// How many buffers have come back.
    pub fn used(&self) -> u16 {
        u16::from_le(read16(self.ring + 0x802))
    }

    /// Gives a buffer, notifies, and waits until it comes back: how many bytes were written. None if it does not come within a second.
    pub fn request(&mut self, pieces: &[Piece]) -> Option<u32> {
        self.give(pieces);
        store(self.notify, 2, 0);
        let deadline = timebase() + TB_HZ;
        while self.used() != self.given {
            if timebase() > deadline {
                return None;
            }
        }
        let place = self.ring + 0x804 + 8 * u64::from(self.given.wrapping_sub(1) % SIZE);
        Some(u32::from_le(read32(place + 4)))
    }
}

/// Where queues and buffers may be.
pub const MEMORY: u64 = ARENA + 0x10_0000;
