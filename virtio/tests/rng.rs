//! The entropy device.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Driver, Host, Memory, Part};
use virtio::rng::{Entropy, Rng};

const BASE: u64 = 0x10_0000;
const BUFFERS: u64 = BASE + 0x1000;

/// Bytes that count up, as many as there are.
#[derive(Clone, Default)]
struct Source {
    supply: Arc<AtomicUsize>,
    given: Arc<AtomicUsize>,
}

impl Entropy for Source {
    fn fill(&mut self, to: &mut [u8]) -> usize {
        let bytes = to.len().min(self.supply.load(Ordering::Relaxed));
        self.supply.fetch_sub(bytes, Ordering::Relaxed);
        let first = self.given.fetch_add(bytes, Ordering::Relaxed);
        (first..).zip(&mut to[..bytes]).for_each(|(n, to)| *to = n as u8);
        bytes
    }

    fn is_ready(&self) -> bool {
        self.supply.load(Ordering::Relaxed) != 0
    }

    fn copy(&self) -> Option<Box<dyn Entropy>> {
        Some(Box::new(self.clone()))
    }
}

fn machine() -> (Host, Driver, Source) {
    let source = Source::default();
    let mut host = Host::new(Box::new(Rng::new(Box::new(source.clone()))), Memory::new(BASE, 0x1_0000));
    let driver = set_up(&mut host);
    (host, driver, source)
}

fn set_up(host: &mut Host) -> Driver {
    let driver = Driver::new(BASE, 16, false, &host.memory);
    host.negotiate(0);
    host.set_up_queue(0, driver.layout, 0);
    host.start();
    driver
}

fn ring(host: &mut Host) {
    host.more = true;
    host.work();
}

#[test]
fn buffers_are_filled() {
    let (mut host, mut driver, source) = machine();
    let parts = [8, 100].map(|bytes| Part { at: BUFFERS + u64::from(bytes), bytes, writable: true });
    driver.add(&parts, None, &host.memory);
    host.notify(0);
    assert_eq!(driver.next(&host.memory), None, "there is nothing yet");
    source.supply.store(70, Ordering::Relaxed);
    ring(&mut host);
    assert_eq!(driver.next(&host.memory).map(|event| event.written), Some(70));
    assert_eq!(host.memory.get(BUFFERS + 8, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(host.memory.get(BUFFERS + 100 + 61, 2), [69, 0]);
    // A buffer may be long, but not all of it is filled at once.
    source.supply.store(10_000, Ordering::Relaxed);
    driver.add(&[Part { at: BUFFERS, bytes: 5000, writable: true }], None, &host.memory);
    host.notify(0);
    assert_eq!(driver.next(&host.memory).map(|event| event.written), Some(1024));
}

#[test]
fn copies_get_other_bytes() {
    let (host, mut driver, source) = machine();
    source.supply.store(16, Ordering::Relaxed);
    let memory = Memory::new(BASE, 0x1_0000);
    memory.put(BASE, &host.memory.get(BASE, 0x1_0000));
    let mut copy = Host { function: host.function.copy().unwrap(), memory, more: false };
    let mut host = host;
    let mut its_driver = driver.clone();
    for (host, driver) in [(&mut host, &mut driver), (&mut copy, &mut its_driver)] {
        driver.add(&[Part { at: BUFFERS, bytes: 8, writable: true }], None, &host.memory);
        host.notify(0);
    }
    assert_eq!(host.memory.get(BUFFERS, 2), [0, 1]);
    assert_eq!(copy.memory.get(BUFFERS, 2), [8, 9]);
}

#[test]
fn a_buffer_that_cannot_be_written_breaks_it() {
    for (bytes, writable) in [(8, false), (0, true)] {
        let (mut host, mut driver, source) = machine();
        source.supply.store(16, Ordering::Relaxed);
        driver.add(&[Part { at: BUFFERS, bytes, writable }], None, &host.memory);
        host.notify(0);
        assert_eq!(host.status() & 64, 64);
        let mut driver = set_up(&mut host);
        driver.add(&[Part { at: BUFFERS, bytes: 8, writable: true }], None, &host.memory);
        host.notify(0);
        assert_eq!(driver.next(&host.memory).map(|event| event.written), Some(8));
    }
}
