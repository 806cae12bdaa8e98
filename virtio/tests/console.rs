//! A console, by its driver and by who shows it.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;

use common::{Driver, Host, Memory, Part};
use proptest::prelude::*;
use virtio::console::{Console, INPUT, Line, OUTPUT};
use virtio::{OtherEnd, Transport};

const BASE: u64 = 0x10_0000;
const TYPED: u64 = BASE + 0x1_0000;
const PUT: u64 = BASE + 0x2_0000;

struct Guest {
    host: Host,
    rx: Driver,
    tx: Driver,
    line: Arc<Line>,
}

impl Guest {
    fn new() -> Guest {
        let mut host = Host::new(Box::new(Console::new()), Memory::new(BASE, 0x4_0000));
        let OtherEnd::Line(line) = Transport::other_end(&*host.function) else { panic!("no line") };
        let (rx, tx) =
            (Driver::new(BASE, 64, false, &host.memory), Driver::new(BASE + 0x1000, 64, false, &host.memory));
        host.negotiate(0);
        host.set_up_queue(0, rx.layout, 0);
        host.set_up_queue(1, tx.layout, 1);
        host.start();
        Guest { host, rx, tx, line }
    }

    fn work(&mut self) {
        self.host.more = true;
        self.host.work();
    }

    fn put(&mut self, bytes: &[u8]) {
        self.host.memory.put(PUT, bytes);
        self.tx
            .add(&[Part { at: PUT, bytes: bytes.len() as u32, writable: false }], None, &self.host.memory)
            .unwrap();
        self.host.notify(1);
    }

    fn offer(&mut self, bytes: u32) {
        self.rx.add(&[Part { at: TYPED, bytes, writable: true }], None, &self.host.memory).unwrap();
        self.host.notify(0);
    }

    fn typed(&mut self) -> Option<Vec<u8>> {
        self.work();
        let event = self.rx.next(&self.host.memory)?;
        Some(self.host.memory.get(TYPED, event.written as usize))
    }

    fn shown(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        self.line.show(|piece| {
            all.extend(piece);
            piece.len()
        });
        all
    }
}

#[test]
fn bytes_go_both_ways() {
    let mut guest = Guest::new();
    guest.put(b"login: ");
    assert_eq!(guest.shown(), b"login: ");
    assert!(guest.tx.next(&guest.host.memory).is_some());
    assert_eq!(guest.line.type_in(b"root\r"), 5);
    assert_eq!(guest.typed(), None);
    guest.offer(3);
    assert_eq!(guest.typed().unwrap(), b"roo");
    guest.offer(100);
    assert_eq!(guest.typed().unwrap(), b"t\r");
    assert_eq!(guest.line.type_in(&[b'x'; INPUT + 1]), INPUT);
    assert_eq!(guest.line.type_in(b"x"), 0);
}

#[test]
fn what_nobody_shows_gives_way_to_what_comes() {
    let mut guest = Guest::new();
    for n in 0..4 {
        guest.put(&[b'0' + n; OUTPUT / 2]);
    }
    assert_eq!(guest.shown(), [[b'2'; OUTPUT / 2], [b'3'; OUTPUT / 2]].concat());
}

#[test]
fn what_somebody_shows_waits_for_them() {
    let mut guest = Guest::new();
    guest.line.set_shown(true);
    guest.put(&[b'a'; OUTPUT - 1]);
    assert!(guest.tx.next(&guest.host.memory).is_some());
    guest.put(b"bcd");
    assert!(guest.tx.next(&guest.host.memory).is_none());
    let mut left = OUTPUT - 2;
    guest.line.show(|piece| {
        let n = left.min(piece.len());
        left -= n;
        n
    });
    guest.work();
    assert_eq!(guest.shown(), b"abcd");
    assert!(guest.tx.next(&guest.host.memory).is_some());
    // Who goes away lets the rest come.
    guest.put(&[b'e'; OUTPUT]);
    guest.put(b"f");
    assert_eq!(std::iter::from_fn(|| guest.tx.next(&guest.host.memory)).count(), 1);
    guest.line.set_shown(false);
    guest.work();
    assert!(guest.tx.next(&guest.host.memory).is_some());
    assert_eq!(guest.shown().last(), Some(&b'f'));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_is_lost_while_it_is_shown(
        ops in prop::collection::vec((0..3u8, prop::collection::vec(any::<u8>(), 0..9000), 0..20_000usize), 0..20)
    ) {
        let mut guest = Guest::new();
        guest.line.set_shown(true);
        let (mut put, mut shown) = (Vec::new(), Vec::new());
        for (op, bytes, mut most) in ops {
            if op == 0 && guest.tx.out() == 0 {
                guest.put(&bytes);
                put.extend(bytes);
            } else {
                guest.line.show(|piece| {
                    let n = piece.len().min(most);
                    most -= n;
                    shown.extend(&piece[..n]);
                    n
                });
            }
            guest.work();
            while guest.tx.next(&guest.host.memory).is_some() {}
        }
        while guest.tx.out() != 0 {
            shown.extend(guest.shown());
            guest.work();
            while guest.tx.next(&guest.host.memory).is_some() {}
        }
        shown.extend(guest.shown());
        prop_assert_eq!(put, shown);
    }
}
