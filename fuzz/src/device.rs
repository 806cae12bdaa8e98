//! A virtio device behind its transport, and a guest that does anything: by the book, so that it comes far, or not.

use phb::Function;
use virtio::Device;

use crate::Input;
use crate::common::{Driver, Host, Memory, Part};

/// The guest's memory: the first pages have queues, the others buffers.
const BYTES: usize = 0x1_0000;
const BUFFERS: u64 = 0x8000;

/// Accesses to memory in one go, at most.
const MOST_ACCESSES: usize = 100_000;

/// What is fuzzed.
pub trait Subject {
    /// The device.
    fn device(&mut self) -> Box<dyn Device>;

    /// Something happens outside of the partition.
    fn outside(&mut self, _input: &mut Input<'_>, _function: &dyn Function) {}
}

/// Runs a device. What may go wrong is a panic, or that it does too much in one go.
pub fn run(data: &[u8], mut subject: impl Subject) {
    let device = subject.device();
    let queues = device.queue_sizes();
    let mut guest = Guest {
        host: Host::new(device, Memory::new(0, BYTES)),
        drivers: (0..queues.len()).map(|_| None).collect(),
        sizes: queues,
    };
    let mut input = Input(data);
    while !input.is_empty() {
        let before = guest.host.memory.accesses.get();
        match input.u8() % 14 {
            13 => subject.outside(&mut input, &*guest.host.function),
            step => guest.step(step, &mut input),
        }
        let accesses = guest.host.memory.accesses.get() - before;
        assert!(accesses < MOST_ACCESSES, "{accesses} accesses in one go");
    }
}

struct Guest {
    host: Host,
    drivers: Vec<Option<Driver>>,
    sizes: &'static [u16],
}

impl Guest {
    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        match step {
            0 => self.set_up(input),
            1 => self.chain(input),
            2 => {
                let at = u64::from(input.u16()).min(BYTES as u64 - 16);
                self.host.memory.put(at, &input.take::<16>());
            }
            3 => {
                let (bar, at) = place(input);
                let bytes = input.take::<8>();
                let length = 1 << (input.u8() % 4);
                self.host.more |= self.host.function.store(bar, at, &bytes[..length], &self.host.memory);
            }
            4 => {
                let (bar, at) = place(input);
                let length = 1 << (input.u8() % 4);
                self.host.function.load(bar, at, &mut [0; 8][..length], &self.host.memory);
            }
            5 => {
                let (at, length) = register(input);
                self.host.config_write(at, length, input.u32());
            }
            6 => {
                let (at, length) = register(input);
                self.host.config_read(at, length);
            }
            7 => self.host.more = self.host.function.work(&self.host.memory),
            8 => {
                if let Some(copy) = self.host.function.copy() {
                    self.host.function = copy;
                }
            }
            9 => self.host.function.reset(&self.host.memory),
            10 => {
                // As often as the device says, but not for ever: it may be served with what never ends.
                self.host.store(0x1000 + 4 * u64::from(input.u8() % 8), &[0, 0]);
                for _ in 0..3 {
                    self.host.more = self.host.more && self.host.function.work(&self.host.memory);
                }
            }
            11 => {
                let (after, at) = (input.u8(), u64::from(input.u16()).min(BYTES as u64 - 8));
                self.host.memory.ambush(after.into(), at, &input.take::<8>());
            }
            _ => {
                let (queue, head) = (usize::from(input.u8()), input.u8());
                if let Some(Some(driver)) = self.drivers.get_mut(queue) {
                    driver.offer(head.into(), &self.host.memory);
                }
            }
        }
    }

    /// Negotiates, sets all queues up and starts.
    fn set_up(&mut self, input: &mut Input<'_>) {
        let features = self.host.offered() & !u64::from(input.u32());
        self.host.config_write(phb::offset::COMMAND, 2, 6);
        if input.u8() & 1 != 0 {
            self.host.use_messages();
        }
        self.host.negotiate(features);
        let mut at = 0;
        for (index, most) in self.sizes.iter().enumerate() {
            let size = (most >> (input.u8() % 4)).clamp(1, 64);
            let driver =
                Driver::new(at, size, features & virtio::features::EVENT_INDEX != 0, &self.host.memory);
            at += Driver::bytes(size).next_multiple_of(16) as u64;
            self.host.set_up_queue(index as u16, driver.layout, index as u16);
            self.drivers[index] = Some(driver);
        }
        self.host.start();
    }

    /// A chain by the book, of buffers that may be anywhere.
    fn chain(&mut self, input: &mut Input<'_>) {
        let queue = usize::from(input.u8() % 8);
        let shape = input.u8();
        let mut parts = Vec::new();
        for _ in 0..=shape % 6 {
            let at = BUFFERS + u64::from(input.u16());
            let bytes = match input.u8() {
                byte @ 0..128 => byte.into(),
                byte => u32::from(byte - 127) * 512,
            };
            parts.push(Part { at, bytes, writable: input.u8() & 1 != 0 });
        }
        if shape & 0x40 == 0 {
            parts.sort_by_key(|part| part.writable);
        }
        // The first part has what a device looks at.
        let first = input.take::<24>();
        self.host.memory.put(parts[0].at.min(BYTES as u64 - 24), &first);
        let table = (shape & 0x20 != 0).then_some((0x7000, usize::from(shape >> 6)));
        let Some(Some(driver)) = self.drivers.get_mut(queue) else { return };
        if driver.add(&parts, table, &self.host.memory).is_none() {
            driver.recycle();
        }
        if shape & 0x10 != 0 {
            self.host.store(0x1000 + 4 * queue as u64, &[0, 0]);
        }
    }
}

/// A place in the memory behind a base address register, at a multiple of eight bytes at least.
fn place(input: &mut Input<'_>) -> (usize, u64) {
    let bar = if input.u8() & 1 != 0 { 4 } else { input.u8() as usize % 6 };
    (bar, u64::from(input.u16() & 0x3fff) & !7)
}

/// A register of configuration space.
fn register(input: &mut Input<'_>) -> (u16, usize) {
    let length = 1 << (input.u8() % 3);
    (u16::from(input.u8()) & !(length as u16 - 1), length)
}
