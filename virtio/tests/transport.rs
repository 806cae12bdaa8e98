//! The PCI transport as an operating system uses it, and as it should not.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::host::*;
use common::{Driver, Host, Memory, Part, Wire};
use phb::{Bus, offset};
use virtio::{Broken, Device, Kind, Queue, Transport, features};

const BASE: u64 = 0x10_0000;
const BUFFERS: u64 = BASE + 0x8000;

/// A device that answers each buffer with its bytes, inverted, one at a time, and says how often its configuration has changed.
struct Inverter {
    changes: Arc<AtomicU32>,
    started: bool,
    written: u8,
}

impl Device for Inverter {
    fn kind(&self) -> Kind {
        Kind { id: 42, class: 0x00ff00, name: "inverter" }
    }

    fn features(&self) -> u64 {
        1 << 3
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64, 16]
    }

    fn config_read(&self, offset: usize, to: &mut [u8]) {
        let config = [0x11, 0x22, self.written];
        for (to, from) in to.iter_mut().zip(config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn config_write(&mut self, offset: usize, from: &[u8]) {
        if let (2, [byte]) = (offset, from) {
            self.written = *byte;
        }
    }

    fn start(&mut self, _: u64) {
        self.started = true;
    }

    fn reset(&mut self) {
        self.started = false;
    }

    fn serve(&mut self, index: usize, queues: &mut [Queue], bus: &dyn Bus) -> Result<bool, Broken> {
        assert!(self.started);
        let Some(chain) = queues[index].take(bus)? else { return Ok(false) };
        let mut bytes = [0; 16];
        let read = chain.read(0, &mut bytes, bus)?;
        let bytes = bytes.map(|byte| !byte);
        let written = chain.write(0, &bytes[..read], bus)?;
        queues[index].complete(chain, written as u32, bus)?;
        Ok(true)
    }

    fn config_changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    fn copy(&self) -> Option<Box<dyn Device>> {
        Some(Box::new(Inverter { changes: self.changes.clone(), ..*self }))
    }
}

fn host() -> (Host, Arc<AtomicU32>) {
    let changes = Arc::<AtomicU32>::default();
    let device = Inverter { changes: changes.clone(), started: false, written: 0 };
    (Host::new(Box::new(device), Memory::new(BASE, 0x1_0000)), changes)
}

/// A host with queue 0 at work.
fn running(messages: bool) -> (Host, Arc<AtomicU32>, Driver) {
    let (mut host, changes) = host();
    if messages {
        host.use_messages();
    }
    let driver = Driver::new(BASE, 64, false, &host.memory);
    host.negotiate(1 << 3);
    host.store(common::host::common::VECTOR, &0u16.to_le_bytes());
    host.set_up_queue(0, driver.layout, 1);
    host.start();
    (host, changes, driver)
}

fn request(driver: &mut Driver, host: &Host, byte: u8) {
    let bytes = 4;
    host.memory.put(BUFFERS, &[byte; 4]);
    let parts =
        [Part { at: BUFFERS, bytes, writable: false }, Part { at: BUFFERS + 16, bytes, writable: true }];
    driver.add(&parts, None, &host.memory).unwrap();
}

fn answer(driver: &mut Driver, host: &Host) -> Option<Vec<u8>> {
    driver.next(&host.memory).map(|event| host.memory.get(BUFFERS + 16, event.written as usize))
}

#[test]
fn a_driver_finds_the_device() {
    let (mut host, _) = host();
    assert_eq!(host.config_read(offset::VENDOR, 4), 0x106a_1af4);
    assert_eq!(host.config_read(offset::CLASS, 4), 0x00ff_0001);
    assert_eq!(host.config_read(offset::SUBSYSTEM, 2), 0x40 + 42);
    let capabilities = host.capabilities();
    assert_eq!(capabilities.iter().filter(|(_, id)| *id == 0x11).count(), 1);
    let mut found: Vec<_> = Vec::new();
    for (at, _) in capabilities.iter().filter(|(_, id)| *id == 9) {
        let mut word = |field| host.config_read(at + field, 4);
        found.push((word(0) >> 24, word(4), word(8), word(12), word(0) >> 16 & 0xff));
    }
    let page = 0x1000;
    assert_eq!(
        found,
        [
            (1, 4, 0, page, 16),
            (2, 4, NOTIFY as u32, page, 20),
            (3, 4, ISR as u32, page, 16),
            (4, 4, DEVICE as u32, page, 16),
            (5, 0, 0, 0, 20)
        ]
    );
    assert_eq!(host.load(common::host::common::QUEUES), 2u16.to_le_bytes());
    assert_eq!(host.load(DEVICE), [0x11, 0x22, 0, 0]);
    host.store(DEVICE + 2, &[7]);
    assert_eq!(host.load(DEVICE + 1), [0x22, 7]);
}

#[test]
fn negotiation_takes_its_steps() {
    let (mut host, _) = host();
    assert_eq!(host.offered(), NEEDED | 1 << 3 | features::INDIRECT | features::EVENT_INDEX);
    // A driver of another age, and one that makes features up.
    for wrong in [1 << 3, NEEDED | 1 << 4] {
        host.set_status(0);
        host.accept(wrong);
        host.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_eq!(host.status(), ACKNOWLEDGE | DRIVER);
        host.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK);
        assert_eq!(host.status(), ACKNOWLEDGE | DRIVER);
    }
    // What is agreed stays, whatever is written afterwards.
    host.negotiate(0);
    host.accept(NEEDED | 1 << 4);
    host.set_status(ACKNOWLEDGE);
    assert_eq!(host.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
    assert_eq!(host.load(common::host::common::DRIVER), [3, 0, 0, 0]);
    host.set_status(NEEDS_RESET);
    assert_eq!(host.status() & NEEDS_RESET, 0);
    host.set_status(0);
    assert_eq!(host.status(), 0);
}

#[test]
fn without_translation_its_driver_has_real_addresses() {
    let (mut host, _) = host();
    let device = Inverter { changes: Arc::default(), started: false, written: 0 };
    host.function = Box::new(Transport::new(Box::new(device)).untranslated());
    host.config_write(offset::COMMAND, 2, 6);
    assert_eq!(host.offered() & NEEDED, features::VERSION_1);
    host.accept(features::VERSION_1);
    host.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    assert_eq!(host.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
}

#[test]
fn queues_are_set_up() {
    use common::host::common::*;
    let (mut host, _) = host();
    let layout = Driver::new(BASE, 16, false, &host.memory).layout;
    // Not before features are agreed.
    host.set_up_queue(1, layout, 2);
    assert_eq!(host.load(QUEUE_ENABLE), [0, 0]);
    host.negotiate(0);
    host.store(QUEUE, &[1, 0]);
    assert_eq!(host.load(QUEUE_SIZE), 16u16.to_le_bytes());
    for wrong in [0u16, 3, 32] {
        host.store(QUEUE_SIZE, &wrong.to_le_bytes());
        assert_eq!(host.load(QUEUE_SIZE), 16u16.to_le_bytes());
    }
    host.store(QUEUE_SIZE, &8u16.to_le_bytes());
    assert_eq!(host.load(QUEUE_SIZE), 8u16.to_le_bytes());
    host.store(QUEUE_VECTOR, &3u16.to_le_bytes());
    assert_eq!(host.load(QUEUE_VECTOR), 0xffffu16.to_le_bytes(), "there are three vectors");
    host.set_up_queue(1, layout, 2);
    assert_eq!(host.load(QUEUE_ENABLE), [1, 0]);
    assert_eq!(host.load(QUEUE_VECTOR), [2, 0]);
    host.store(USED, &0u64.to_le_bytes());
    assert_eq!(host.load(USED), layout.used.to_le_bytes(), "an enabled queue stays where it is");
    // There is no third queue.
    host.set_up_queue(2, layout, 0);
    assert_eq!(host.load(QUEUE_SIZE), [0, 0]);
    assert_eq!(host.load(QUEUE_ENABLE), [0, 0]);
    host.store(NOTIFY + 8, &[2, 0]);
    host.store(NOTIFY + 0xffc, &[0xff, 0xff]);
    // A queue that cannot be: the device says so.
    host.negotiate(0);
    host.set_up_queue(0, virtio::Layout { available: 1, ..layout }, 0);
    assert_eq!(host.status() & NEEDS_RESET, NEEDS_RESET);
}

#[test]
fn requests_are_answered_by_messages() {
    let (mut host, changes, mut driver) = running(true);
    for byte in 1..=3 {
        request(&mut driver, &host, byte);
        host.notify(0);
        assert_eq!(answer(&mut driver, &host), Some(vec![!byte; 4]));
        assert_eq!(host.memory.wire(), Some(Wire::Message(0x1004, 1)));
        assert_eq!(host.memory.wire(), None);
    }
    assert_eq!(host.load(common::host::common::GENERATION), [0]);
    changes.store(5, Ordering::Relaxed);
    assert_eq!(host.load(common::host::common::GENERATION), [5]);
    host.more = true;
    host.work();
    assert_eq!(host.memory.wire(), Some(Wire::Message(0x1000, 0)));
    assert_eq!(host.load(ISR), [0], "with messages there is no line");
    let said = host.function.describe();
    assert_eq!((said.state, said.notifies, said.interrupts), ("running", 3, 4));
    assert_eq!(said.queues, [(64, 3), (0, 0)]);
}

#[test]
fn requests_are_answered_by_the_line() {
    let (mut host, changes, mut driver) = running(false);
    request(&mut driver, &host, 1);
    host.notify(0);
    assert_eq!(host.memory.wire(), Some(Wire::Line(true)));
    changes.store(1, Ordering::Relaxed);
    host.more = true;
    host.work();
    assert_eq!(host.load(ISR), [3]);
    assert_eq!(host.memory.wire(), Some(Wire::Line(false)));
    assert_eq!(host.load(ISR), [0]);
    assert_eq!(host.memory.wire(), None);
}

#[test]
fn nothing_is_served_too_early() {
    let (mut host, _) = host();
    let mut driver = Driver::new(BASE, 64, false, &host.memory);
    host.negotiate(0);
    host.set_up_queue(0, driver.layout, 0);
    request(&mut driver, &host, 1);
    host.notify(0);
    assert_eq!(answer(&mut driver, &host), None);
    // A buffer from before is served without another notification.
    host.start();
    assert_eq!(answer(&mut driver, &host), Some(vec![!1; 4]));
    // Nor without the right to access memory.
    host.config_write(offset::COMMAND, 2, 2);
    request(&mut driver, &host, 2);
    host.notify(0);
    assert_eq!(answer(&mut driver, &host), None);
    host.config_write(offset::COMMAND, 2, 6);
    host.work();
    assert_eq!(answer(&mut driver, &host), Some(vec![!2; 4]));
}

#[test]
fn a_broken_device_waits_for_its_reset() {
    let (mut host, _, mut driver) = running(true);
    driver.offer(100, &host.memory);
    host.notify(0);
    assert_eq!(host.status() & NEEDS_RESET, NEEDS_RESET);
    assert_eq!(host.memory.wire(), Some(Wire::Message(0x1000, 0)), "the configuration has changed");
    assert_eq!(host.function.describe().state, "broken");
    request(&mut driver, &host, 1);
    host.notify(0);
    host.more = true;
    host.work();
    assert_eq!((answer(&mut driver, &host), host.memory.wire()), (None, None));
    let mut driver = Driver::new(BASE, 64, true, &host.memory);
    host.negotiate(features::EVENT_INDEX);
    host.set_up_queue(0, driver.layout, 1);
    host.start();
    request(&mut driver, &host, 1);
    host.notify(0);
    assert_eq!(answer(&mut driver, &host), Some(vec![!1; 4]));
}

/// The window in configuration space leads to the same structures.
#[test]
fn configuration_space_leads_to_the_structures() {
    let (mut host, _, mut driver) = running(false);
    let (at, _) = host.capabilities().into_iter().rfind(|(_, id)| *id == 9).unwrap();
    let aim = |host: &mut Host, offset: u64, bytes: u32| {
        host.config_write(at + 4, 1, BAR as u32);
        host.config_write(at + 8, 4, offset as u32);
        host.config_write(at + 12, 4, bytes);
    };
    aim(&mut host, common::host::common::STATUS, 1);
    assert_eq!(host.config_read(at + 16, 1), 15);
    request(&mut driver, &host, 1);
    aim(&mut host, NOTIFY, 2);
    host.config_write(at + 16, 2, 0);
    host.work();
    assert_eq!(answer(&mut driver, &host), Some(vec![!1; 4]));
    assert_eq!(host.memory.wire(), Some(Wire::Line(true)));
    aim(&mut host, ISR, 1);
    assert_eq!(host.config_read(at + 16, 1), 1);
    assert_eq!(host.memory.wire(), Some(Wire::Line(false)));
    // Anywhere else is nothing.
    aim(&mut host, 0xffff_fffc, 4);
    assert_eq!(host.config_read(at + 16, 4), 0);
    host.config_write(at + 4, 1, 9);
    host.config_write(at + 16, 4, 1);
}

#[test]
fn a_copy_goes_on_where_the_device_was() {
    let (mut host, _, mut driver) = running(true);
    request(&mut driver, &host, 1);
    host.notify(0);
    let copy = host.function.copy().unwrap();
    let memory = Memory::new(BASE, 0x1_0000);
    memory.put(BASE, &host.memory.get(BASE, 0x1_0000));
    let mut copy = Host { function: copy, memory, more: false };
    let mut its_driver = driver.clone();
    for (host, driver, byte) in [(&mut host, &mut driver, 3), (&mut copy, &mut its_driver, 4)] {
        assert_eq!(answer(driver, host), Some(vec![!1; 4]));
        request(driver, host, byte);
        host.notify(0);
        assert_eq!(answer(driver, host), Some(vec![!byte; 4]));
    }
}
