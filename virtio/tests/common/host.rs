//! A device behind its transport, as a driver's operating system uses it.

use phb::{Function, offset};
use virtio::{Device, Layout, Transport};

use super::Memory;

/// Offsets in the common configuration structure, at the start of the device's memory.
pub mod common {
    pub const OFFERED_HALF: u64 = 0;
    pub const OFFERED: u64 = 4;
    pub const DRIVER_HALF: u64 = 8;
    pub const DRIVER: u64 = 12;
    pub const VECTOR: u64 = 16;
    pub const QUEUES: u64 = 18;
    pub const STATUS: u64 = 20;
    pub const GENERATION: u64 = 21;
    pub const QUEUE: u64 = 22;
    pub const QUEUE_SIZE: u64 = 24;
    pub const QUEUE_VECTOR: u64 = 26;
    pub const QUEUE_ENABLE: u64 = 28;
    pub const DESCRIPTORS: u64 = 32;
    pub const AVAILABLE: u64 = 40;
    pub const USED: u64 = 48;
}

/// Where structures are behind [`BAR`].
pub const NOTIFY: u64 = 0x1000;
pub const ISR: u64 = 0x2000;
pub const DEVICE: u64 = 0x3000;
pub const BAR: usize = 4;
pub const MSIX_BAR: usize = 1;

/// Bits of the status.
pub const ACKNOWLEDGE: u8 = 1;
pub const DRIVER: u8 = 2;
pub const DRIVER_OK: u8 = 4;
pub const FEATURES_OK: u8 = 8;
pub const NEEDS_RESET: u8 = 64;

/// VERSION_1 and ACCESS_PLATFORM, which all drivers need.
pub const NEEDED: u64 = 3 << 32;

/// A function on a bus, and its memory.
pub struct Host {
    pub function: Box<dyn Function>,
    pub memory: Memory,
    /// The function has said that there is more to do.
    pub more: bool,
}

impl Host {
    pub fn new(device: Box<dyn Device>, memory: Memory) -> Host {
        let mut host = Host { function: Box::new(Transport::new(device)), memory, more: false };
        host.config_write(offset::COMMAND, 2, 6);
        host
    }

    pub fn config_read(&mut self, at: u16, bytes: usize) -> u32 {
        self.function.config_read(at, bytes, &self.memory)
    }

    pub fn config_write(&mut self, at: u16, bytes: usize, value: u32) {
        self.more |= self.function.config_write(at, bytes, value, &self.memory);
    }

    pub fn load<const N: usize>(&mut self, at: u64) -> [u8; N] {
        let mut raw = [0; N];
        self.function.load(BAR, at, &mut raw, &self.memory);
        raw
    }

    pub fn store(&mut self, at: u64, bytes: &[u8]) {
        self.more |= self.function.store(BAR, at, bytes, &self.memory);
    }

    /// Does what there is to do, to the end of it.
    pub fn work(&mut self) {
        while std::mem::take(&mut self.more) {
            self.more = self.function.work(&self.memory);
        }
    }

    pub fn status(&mut self) -> u8 {
        self.load::<1>(common::STATUS)[0]
    }

    pub fn set_status(&mut self, status: u8) {
        self.store(common::STATUS, &[status]);
    }

    pub fn offered(&mut self) -> u64 {
        let mut half = |which: u32| {
            self.store(common::OFFERED_HALF, &which.to_le_bytes());
            u64::from(u32::from_le_bytes(self.load(common::OFFERED)))
        };
        half(0) | half(1) << 32
    }

    pub fn accept(&mut self, features: u64) {
        for which in 0..2u32 {
            self.store(common::DRIVER_HALF, &which.to_le_bytes());
            self.store(common::DRIVER, &((features >> (32 * which)) as u32).to_le_bytes());
        }
    }

    /// From a reset to FEATURES_OK.
    pub fn negotiate(&mut self, features: u64) {
        self.set_status(0);
        self.set_status(ACKNOWLEDGE);
        self.set_status(ACKNOWLEDGE | DRIVER);
        let needed = self.offered() & NEEDED;
        self.accept(features | needed);
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_eq!(self.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
    }

    pub fn set_up_queue(&mut self, index: u16, layout: Layout, vector: u16) {
        self.store(common::QUEUE, &index.to_le_bytes());
        self.store(common::QUEUE_SIZE, &layout.size.to_le_bytes());
        self.store(common::QUEUE_VECTOR, &vector.to_le_bytes());
        self.store(common::DESCRIPTORS, &layout.descriptors.to_le_bytes());
        self.store(common::AVAILABLE, &layout.available.to_le_bytes());
        self.store(common::USED, &layout.used.to_le_bytes());
        self.store(common::QUEUE_ENABLE, &[1, 0]);
    }

    pub fn start(&mut self) {
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        self.work();
    }

    /// Notifies, and lets the device do all there is to do.
    pub fn notify(&mut self, queue: u16) {
        self.store(NOTIFY + 4 * u64::from(queue), &queue.to_le_bytes());
        self.work();
    }

    /// The capabilities: their offsets and IDs.
    pub fn capabilities(&mut self) -> Vec<(u16, u8)> {
        let mut found = Vec::new();
        let mut at = self.config_read(offset::CAPABILITIES, 1) as u16;
        while at != 0 {
            found.push((at, self.config_read(at, 1) as u8));
            at = self.config_read(at + 1, 1) as u16;
            assert!(found.len() < 20);
        }
        found
    }

    /// Turns messages on: vector n signals to address 0x1000 + 4n with n as its data.
    pub fn use_messages(&mut self) {
        let at = self.capabilities().into_iter().find(|(_, id)| *id == 0x11).unwrap().0;
        let vectors = (self.config_read(at + 2, 2) & 0x7ff) + 1;
        for n in 0..vectors {
            let entry = [0x1000 + 4 * n, 0, n, 0].map(u32::to_le_bytes);
            for (word, bytes) in (0..).zip(entry) {
                self.more |=
                    self.function.store(MSIX_BAR, u64::from(16 * n + 4 * word), &bytes, &self.memory);
            }
        }
        self.config_write(at + 2, 2, 0x8000);
    }
}
