//! A driver of virtio devices with any queues (Virtual I/O Device (VIRTIO) Version 1.2): set up by the book, with rings that can be written
//! otherwise.

use crate::cpu::{delay, sync, timebase};
use crate::mem::{fill, read8, read16, read32, write8, write16, write32, write64};
use crate::pci::{Bridge, load, store};
use crate::virtio::{Virtio, common};

/// Bits of a device's status.
pub mod status {
    #![allow(missing_docs)] // the names are the specification's own
    pub const ACKNOWLEDGE: u32 = 1;
    pub const DRIVER: u32 = 2;
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
    pub const NEEDS_RESET: u32 = 64;
}

/// Feature bits.
pub mod feature {
    #![allow(missing_docs)] // the names are the specification's own
    pub const BLK_FLUSH: u64 = 1 << 9;
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
}

/// A device.
#[derive(Clone, Copy, Debug)]
pub struct Device(Virtio);

/// All devices of a kind, by virtio's number of it.
pub fn devices(kind: u32) -> impl Iterator<Item = Device> {
    let ids = (0x1040 + kind) << 16 | 0x1af4;
    Bridge::find().into_iter().flat_map(move |bridge| {
        (0..32).filter(move |slot| bridge.read(*slot, 0, 4) == Ok(ids)).filter_map(move |slot| {
            bridge.place(slot);
            Virtio::new(&bridge, slot, 0, 0).map(Device)
        })
    })
}

/// The first device of a kind, and what it has agreed to: VERSION_1, and what it offers of these features.
pub fn find(kind: u32, wanted: u64) -> Option<(Device, u64)> {
    let device = devices(kind).next()?;
    Some((device, device.negotiate(wanted | feature::VERSION_1)?))
}

impl Device {
    fn get(&self, register: u64, bytes: u32) -> u32 {
        self.0.common(register, bytes)
    }

    fn set(&self, register: u64, bytes: u32, value: u32) {
        self.0.set_common(register, bytes, value);
    }

    /// Its status.
    pub fn status(&self) -> u32 {
        self.get(common::STATUS, 1)
    }

    /// Resets it.
    pub fn reset(&self) {
        self.set(common::STATUS, 1, 0);
        while self.status() != 0 {}
    }

    /// From a reset to features that are agreed: those of `wanted` that it offers.
    pub fn negotiate(&self, wanted: u64) -> Option<u64> {
        self.reset();
        self.set(common::STATUS, 1, status::ACKNOWLEDGE | status::DRIVER);
        let half = |n| {
            self.set(common::FEATURE_SELECT, 4, n);
            u64::from(self.get(common::FEATURE, 4)) << (32 * n)
        };
        let agreed = (half(0) | half(1)) & wanted;
        for n in 0..2 {
            self.set(common::DRIVER_SELECT, 4, n);
            self.set(common::DRIVER, 4, (agreed >> (32 * n)) as u32);
        }
        self.set(common::STATUS, 1, status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
        (self.status() & status::FEATURES_OK != 0).then_some(agreed)
    }

    /// Sets a queue up, with the messages' vectors for it and for the configuration (0xffff: none). False if it cannot be.
    pub fn set_up(&self, index: u32, queue: &Queue, vectors: (u32, u32)) -> bool {
        self.set(common::CONFIG_VECTOR, 2, vectors.1);
        self.set(common::QUEUE, 2, index);
        self.set(common::QUEUE_SIZE, 2, queue.size.into());
        self.set(common::QUEUE_VECTOR, 2, vectors.0);
        for (n, area) in (0..).zip([queue.descriptors, queue.available(), queue.used()]) {
            self.set(common::QUEUE_DESCRIPTORS + 8 * n, 4, area as u32);
            self.set(common::QUEUE_DESCRIPTORS + 8 * n + 4, 4, (area >> 32) as u32);
        }
        self.set(common::QUEUE_ENABLE, 2, 1);
        self.get(common::QUEUE_ENABLE, 2) == 1
    }

    /// The driver is there.
    pub fn start(&self) {
        self.set(common::STATUS, 1, self.status() | status::DRIVER_OK);
    }

    /// Notifies it of buffers in a queue.
    pub fn notify(&self, index: u32) {
        store(self.doorbell(index), 2, index);
    }

    /// The effective address of that.
    pub fn doorbell(&self, index: u32) -> u64 {
        self.0.doorbell(index)
    }

    /// Its interrupt status, which reading makes 0: bit 0 is a queue, bit 1 the configuration.
    pub fn interrupts(&self) -> u32 {
        self.0.interrupt_status()
    }

    /// Loads from its own configuration.
    pub fn load(&self, at: u64, bytes: u32) -> u32 {
        load(self.0.own(at), bytes)
    }

    /// Stores to its own configuration.
    pub fn store(&self, at: u64, bytes: u32, value: u32) {
        store(self.0.own(at), bytes, value);
    }
}

/// Flags of a descriptor.
pub const NEXT: u16 = 1;
/// See [`NEXT`].
pub const WRITE: u16 = 2;
/// See [`NEXT`].
pub const INDIRECT: u16 = 4;

/// A split queue in real memory.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// The real address of its descriptors; the rings follow.
    pub descriptors: u64,
    /// How many there are.
    pub size: u16,
    /// How many buffers have been made available, and how many have come back.
    pub offered: u16,
    /// See `offered`.
    pub taken: u16,
}

impl Queue {
    /// An empty one from a real address on, which is a multiple of 4096; it has up to 128 descriptors, and takes 4 KiB.
    pub fn new(at: u64, size: u16) -> Queue {
        fill(at, 0x1000, 0);
        Queue { descriptors: at, size, offered: 0, taken: 0 }
    }

    /// The real address of its available ring.
    pub fn available(&self) -> u64 {
        self.descriptors + 16 * u64::from(self.size)
    }

    /// The real address of its used ring.
    pub fn used(&self) -> u64 {
        (self.available() + 6 + 2 * u64::from(self.size)).next_multiple_of(8)
    }

    /// Writes the nth descriptor.
    pub fn describe(&self, n: u16, at: u64, bytes: u32, flags: u16, next: u16) {
        describe(self.descriptors, n, at, bytes, flags, next);
    }

    /// Makes a head available.
    pub fn offer(&mut self, head: u16) {
        write16(self.available() + 4 + 2 * u64::from(self.offered % self.size), head.to_le());
        self.offered = self.offered.wrapping_add(1);
        sync();
        write16(self.available() + 2, self.offered.to_le());
        sync();
    }
}

/// What comes back: the head, and how many bytes have been written. None for now is not the end.
impl Iterator for Queue {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        if u16::from_le(read16(self.used() + 2)) == self.taken {
            return None;
        }
        sync();
        let at = self.used() + 4 + 8 * u64::from(self.taken % self.size);
        self.taken = self.taken.wrapping_add(1);
        Some((u32::from_le(read32(at)), u32::from_le(read32(at + 4))))
    }
}

/// A queue that is polled: chains of any parts, by real addresses and without interrupts.
#[derive(Clone, Copy, Debug)]
pub struct Polled {
    /// The queue.
    pub queue: Queue,
    index: u32,
    /// Where it is notified.
    pub doorbell: u64,
    /// The descriptor that is used next.
    next: u16,
}

impl Polled {
    /// Sets a queue up, in 4 KiB of real memory from `at` on, with up to 128 descriptors.
    pub fn new(device: Device, index: u32, size: u16, at: u64) -> Polled {
        let queue = Queue::new(at, size);
        assert!(device.set_up(index, &queue, (0xffff, 0xffff)), "queue {index}");
        Polled { queue, index, doorbell: device.doorbell(index), next: 0 }
    }

    /// Makes a chain available: where memory is, how many bytes, and whether the device writes it. Descriptors are used in turn, so as many
    /// as there are can be out.
    pub fn add(&mut self, parts: &[(u64, u32, bool)]) {
        let head = self.next;
        for (n, (at, bytes, writable)) in (1..).zip(parts) {
            let descriptor = self.next;
            self.next = (descriptor + 1) % self.queue.size;
            let more = if n < parts.len() { NEXT } else { 0 };
            let flags = if *writable { more | WRITE } else { more };
            self.queue.describe(descriptor, *at, *bytes, flags, self.next);
        }
        self.queue.offer(head);
    }

    /// Notifies the device.
    pub fn kick(&self) {
        store(self.doorbell, 2, self.index);
    }

    /// The chain that comes back next, within a time: its first descriptor, and how many bytes were written.
    pub fn wait(&mut self, ticks: u64) -> Option<(u32, u32)> {
        let until = timebase() + ticks;
        loop {
            let back = self.queue.next();
            if back.is_some() || timebase() > until {
                return back;
            }
        }
    }
}

/// Writes the nth descriptor of a table.
pub fn describe(table: u64, n: u16, at: u64, bytes: u32, flags: u16, next: u16) {
    let to = table + 16 * u64::from(n);
    write64(to, at.to_le());
    write32(to + 8, bytes.to_le());
    write16(to + 12, flags.to_le());
    write16(to + 14, next.to_le());
}

/// A disk and its one queue.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// The device.
    pub device: Device,
    /// Its queue.
    pub queue: Queue,
    /// The features that are agreed.
    pub agreed: u64,
    /// How often a request is looked for, a thousand ticks apart.
    pub patience: u64,
    /// Real memory: the queue, a page for header and status, and data.
    at: u64,
}

/// Kinds of requests to a disk.
pub const READ: u32 = 0;
/// See [`READ`].
pub const WRITE_OUT: u32 = 1;
/// See [`READ`].
pub const FLUSH: u32 = 4;
/// See [`READ`].
pub const WRITE_ZEROES: u32 = 13;

impl Disk {
    /// Starts the device, with real memory for its queue and requests: 8 KiB, and behind that the data. It is waited for as long as one
    /// may take whose contents are in memory.
    pub fn start(device: Device, at: u64, wanted: u64) -> Option<Disk> {
        let queue = Queue::new(at, 64);
        let agreed = device.negotiate(wanted | feature::VERSION_1 | feature::ACCESS_PLATFORM)?;
        if !device.set_up(0, &queue, (0xffff, 0xffff)) {
            return None;
        }
        device.start();
        Some(Disk { device, queue, agreed, patience: 1000, at })
    }

    /// Where a request's data is.
    pub fn data(&self) -> u64 {
        self.at + 0x2000
    }

    /// Where a header is, and the byte for the status.
    pub fn header(&self) -> u64 {
        self.at + 0x1000
    }

    /// See [`Disk::header`].
    pub fn status(&self) -> u64 {
        self.at + 0x1010
    }

    /// Writes a header.
    pub fn put_header(&self, kind: u32, sector: u64) {
        write32(self.header(), kind.to_le());
        write32(self.header() + 4, 0);
        write64(self.header() + 8, sector.to_le());
        write8(self.status(), 0xff);
    }

    /// Makes a request with so many bytes of data, if any, and does not wait for it.
    pub fn begin(&mut self, kind: u32, sector: u64, bytes: u32) {
        self.put_header(kind, sector);
        let flags = if kind == READ { NEXT | WRITE } else { NEXT };
        self.queue.describe(0, self.header(), 16, NEXT, if bytes == 0 { 2 } else { 1 });
        self.queue.describe(1, self.data(), bytes, flags, 2);
        self.queue.describe(2, self.status(), 1, WRITE, 0);
        self.queue.offer(0);
        self.device.notify(0);
    }

    /// Reads or writes so many bytes from a sector on, or whatever the kind is, and waits; the status.
    pub fn request(&mut self, kind: u32, sector: u64, bytes: u32) -> Option<u8> {
        self.begin(kind, sector, bytes);
        for _ in 0..self.patience {
            if let Some((head, _)) = self.queue.next() {
                return (head == 0).then(|| read8(self.status()));
            }
            delay(1000);
        }
        None
    }
}
