//! A balloon, by its driver and by who wants memory.
#![cfg(not(loom))]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::host::{DEVICE, NEEDS_RESET};
use common::{Driver, Host, Memory, Part, Wire};
use proptest::prelude::*;
use virtio::balloon::{Balloon, BalloonDevice};
use virtio::{OtherEnd, Transport};

const UNIT: u64 = 0x1_0000;
/// The partition's memory, as the balloon has it: 64 units and a half. What the queues lie in is not a part of it.
const BYTES: u64 = 64 * UNIT + UNIT / 2;
const BASE: u64 = 0x1000_0000;
const NAMED: u64 = BASE + 0x8000;

struct Guest {
    host: Host,
    queues: [Driver; 3],
    balloon: Arc<Balloon>,
}

impl Guest {
    fn new() -> Guest {
        let mut host = Host::new(Box::new(BalloonDevice::new(BYTES, UNIT)), Memory::new(BASE, 0x2_0000));
        let OtherEnd::Balloon(balloon) = Transport::other_end(&*host.function) else { panic!("no balloon") };
        let queues = [0, 1, 2].map(|n| Driver::new(BASE + 0x1000 * n, 64, false, &host.memory));
        host.negotiate(1 << 5);
        for (n, queue) in queues.iter().enumerate() {
            host.set_up_queue(n as u16, queue.layout, n as u16);
        }
        host.start();
        Guest { host, queues, balloon }
    }

    fn request(&mut self, queue: usize, parts: &[Part]) {
        self.queues[queue].add(parts, None, &self.host.memory).unwrap();
        self.host.notify(queue as u16);
        let done = self.queues[queue].next(&self.host.memory);
        assert_eq!(done.is_some(), self.host.status() & NEEDS_RESET == 0);
    }

    fn name(&mut self, queue: usize, pages: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = pages.into_iter().flat_map(u32::to_le_bytes).collect();
        self.host.memory.put(NAMED, &bytes);
        self.request(queue, &[Part { at: NAMED, bytes: bytes.len() as u32, writable: false }]);
    }

    fn discarded(&mut self) -> Vec<(u64, u64)> {
        self.host.memory.discarded.take()
    }
}

#[test]
fn a_unit_goes_when_all_of_it_is_inside() {
    let mut guest = Guest::new();
    guest.name(0, 0x20..0x2f);
    assert_eq!(guest.discarded(), []);
    guest.name(0, [0x2f]);
    assert_eq!(guest.discarded(), [(2 * UNIT, UNIT)]);
    // It is inside already.
    guest.name(0, 0x20..0x30);
    assert_eq!(guest.discarded(), []);
    assert_eq!((guest.balloon.figures().inside, guest.balloon.figures().discarded), (UNIT, UNIT));
    guest.name(1, [0x28, 0x28, 0x50]);
    guest.name(0, [0x28]);
    assert_eq!(guest.discarded(), [(2 * UNIT, UNIT)]);
    // Half a unit at the end, and what is beyond it.
    guest.name(0, 0x400..0x420);
    assert_eq!(guest.discarded(), [(64 * UNIT, UNIT / 2)]);
    guest.name(0, [0x408, u32::MAX]);
    guest.name(1, [0x408, u32::MAX]);
    assert_eq!(guest.balloon.figures().inside, UNIT + UNIT / 2);
}

#[test]
fn the_target_reaches_the_driver() {
    let mut guest = Guest::new();
    while guest.host.memory.wire().is_some() {}
    guest.balloon.set_target(3 << 20);
    guest.host.more = true;
    guest.host.work();
    assert_eq!(guest.host.memory.wire(), Some(Wire::Line(true)));
    assert_eq!(guest.host.load::<4>(DEVICE), 0x300u32.to_le_bytes());
    guest.host.store(DEVICE + 4, &0x300u32.to_le_bytes());
    guest.host.store(DEVICE, &[0xff; 4]);
    assert_eq!(guest.host.load::<8>(DEVICE), [0, 3, 0, 0, 0, 3, 0, 0]);
    let figures = guest.balloon.figures();
    assert_eq!((figures.target, figures.actual), (3 << 20, 3 << 20));
    guest.host.set_status(0);
    assert_eq!(guest.balloon.figures().actual, 0);
}

#[test]
fn what_is_free_goes_in_whole_units() {
    let mut guest = Guest::new();
    let part = |at, bytes| Part { at, bytes, writable: true };
    guest.request(2, &[part(UNIT + 0x1000, 0x2_f000), part(8 * UNIT, 0x1_0000), part(9 * UNIT, 0xffff)]);
    assert_eq!(guest.discarded(), [(2 * UNIT, 2 * UNIT), (8 * UNIT, UNIT)]);
    guest.request(2, &[part(63 * UNIT, 0x8000_0000), part(u64::MAX - 1, 1), part(BYTES, 0x10_0000)]);
    assert_eq!(guest.discarded(), [(63 * UNIT, UNIT)]);
    assert_eq!(guest.balloon.figures().reported, 4 * UNIT);
    // Piece by piece.
    let mut guest = Guest::new();
    let whole = part(0, 64 << 20);
    guest.queues[2].add(&[whole], None, &guest.host.memory).unwrap();
    guest.host.store(common::host::NOTIFY + 8, &2u16.to_le_bytes());
    assert_eq!(guest.discarded(), [(0, 64 * UNIT)]);
    assert!(guest.queues[2].next(&guest.host.memory).is_none());
    guest.host.work();
    assert!(guest.queues[2].next(&guest.host.memory).is_some());
}

#[test]
fn only_zeroes_go() {
    let mut guest = Guest::new();
    let free = [Part { at: UNIT, bytes: UNIT as u32, writable: true }];
    guest.host.store(DEVICE + 12, &[0xaa; 4]);
    assert_eq!(guest.host.load::<8>(DEVICE + 8), [0, 0, 0, 0, 0xaa, 0xaa, 0xaa, 0xaa]);
    guest.request(2, &free);
    assert_eq!((guest.discarded(), guest.balloon.figures().reported), (vec![], 0));
    guest.host.store(DEVICE + 12, &[0; 4]);
    guest.request(2, &free);
    assert_eq!(guest.discarded(), [(UNIT, UNIT)]);
}

#[test]
fn a_request_without_end_is_refused() {
    let mut guest = Guest::new();
    let part = Part { at: NAMED, bytes: 0x1001, writable: false };
    guest.request(0, &[part]);
    assert_ne!(guest.host.status() & NEEDS_RESET, 0);
}

proptest! {
    #[test]
    fn a_unit_is_discarded_when_its_last_page_comes(
        ops in prop::collection::vec((0..2usize, 0..0x440u32, 1..40u32), 0..80)
    ) {
        let mut guest = Guest::new();
        let mut inside = BTreeSet::new();
        for (queue, first, count) in ops {
            let mut expected = Vec::new();
            for page in first..first + count {
                if u64::from(page) >= BYTES / 4096 {
                    continue;
                }
                if queue == 1 {
                    inside.remove(&page);
                } else if inside.insert(page) {
                    let start = page & !15;
                    let pages = if start == 0x400 { 8 } else { 16 };
                    if (start..start + pages).all(|page| inside.contains(&page)) {
                        expected.push((u64::from(start) * 4096, u64::from(pages) * 4096));
                    }
                }
            }
            guest.name(queue, first..first + count);
            prop_assert_eq!(guest.discarded(), expected);
            prop_assert_eq!(guest.balloon.figures().inside, inside.len() as u64 * 4096);
        }
    }
}
