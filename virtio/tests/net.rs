//! Network cards at a switch, by their drivers.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::host::{DEVICE, DRIVER_OK, NEEDS_RESET};
use common::{Driver, Host, Memory, Part, Wire};
use phb::{Doorbell, Function};
use proptest::prelude::*;
use switch::{MAX_FRAME, Mac, Network, Port, Sources};
use virtio::net::Card;
use virtio::{OtherEnd, Transport};

const BASE: u64 = 0x10_0000;
const SENT: u64 = BASE + 0x1_0000;
const RECEIVED: u64 = BASE + 0x2_0000;

const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const MRG_RXBUF: u64 = 1 << 15;

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn network() -> Arc<Network> {
    Network::new("lan", 1, || 0)
}

fn frame(to: u8, from: u8, rest: &[u8]) -> Vec<u8> {
    [&mac(to).0[..], &mac(from).0, &[8, 0], rest].concat()
}

/// A guest with a card.
struct Guest {
    host: Host,
    rx: Driver,
    tx: Driver,
    rings: Arc<AtomicUsize>,
}

struct Bell(Arc<AtomicUsize>);

impl Doorbell for Bell {
    fn ring(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Guest {
    fn new(network: &Arc<Network>, n: u8, features: u64) -> Guest {
        let card = Card::new(Port::new(network, Sources::Own(mac(n))));
        Guest::with(Host::new(Box::new(card), Memory::new(BASE, 0x4_0000)), features)
    }

    fn with(mut host: Host, features: u64) -> Guest {
        let rings = Arc::<AtomicUsize>::default();
        host.function.attach(Arc::new(Bell(rings.clone())));
        let mut guest = Guest {
            rx: Driver::new(BASE, 256, false, &host.memory),
            tx: Driver::new(BASE + 0x4000, 256, false, &host.memory),
            host,
            rings,
        };
        guest.start(features);
        guest
    }

    fn start(&mut self, features: u64) {
        self.rx = Driver::new(BASE, 256, false, &self.host.memory);
        self.tx = Driver::new(BASE + 0x4000, 256, false, &self.host.memory);
        self.host.negotiate(features);
        self.host.set_up_queue(0, self.rx.layout, 0);
        self.host.set_up_queue(1, self.tx.layout, 1);
        self.host.start();
    }

    /// A buffer for what comes, the nth of them.
    fn offer(&mut self, n: u64, bytes: u32) {
        let part = Part { at: RECEIVED + n * 0x1000, bytes, writable: true };
        self.rx.add(&[part], None, &self.host.memory).unwrap();
        self.host.notify(0);
    }

    /// Sends what stands behind a header.
    fn send_raw(&mut self, bytes: &[u8]) {
        self.host.memory.put(SENT, bytes);
        let (header, rest) = (12.min(bytes.len() as u32), bytes.len().saturating_sub(12) as u32);
        let parts = [
            Part { at: SENT, bytes: header, writable: false },
            Part { at: SENT + 12, bytes: rest, writable: false },
        ];
        self.tx.add(&parts, None, &self.host.memory).unwrap();
        self.host.notify(1);
    }

    fn send(&mut self, frame: &[u8]) {
        self.send_raw(&[&[0; 12], frame].concat());
    }

    fn send_open(&mut self, start: u16, offset: u16, frame: &[u8]) {
        let ([a, b], [c, d]) = (start.to_le_bytes(), offset.to_le_bytes());
        self.send_raw(&[&[1, 0, 0, 0, 0, 0, a, b, c, d, 0, 0], frame].concat());
    }

    fn work(&mut self) {
        self.host.more = true;
        self.host.work();
    }

    /// What has come into buffers that were offered one by one from number `first` on.
    fn received(&mut self, first: u64) -> Option<Vec<u8>> {
        self.work();
        let event = self.rx.next(&self.host.memory)?;
        Some(self.host.memory.get(RECEIVED + first * 0x1000, event.written as usize))
    }

    fn status(&mut self) -> [u8; 2] {
        self.host.load(DEVICE + 6)
    }

    fn port(&self) -> Arc<Port> {
        match Transport::other_end(&*self.host.function) {
            OtherEnd::Port(port) => port,
            _ => panic!("no port"),
        }
    }
}

#[test]
fn a_frame_goes_from_guest_to_guest() {
    let network = network();
    let (mut a, mut b) = (Guest::new(&network, 1, 0), Guest::new(&network, 2, MRG_RXBUF));
    assert_eq!(a.host.load::<12>(DEVICE), [2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0xdc, 5]);
    b.offer(0, 1600);
    let sent = frame(2, 1, &[7; MAX_FRAME - 14]);
    a.send(&sent);
    assert_eq!(b.rings.load(Ordering::Relaxed), 1);
    let received = b.received(0).unwrap();
    assert_eq!(received[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(received[12..], sent);
    assert_eq!(a.tx.next(&a.host.memory).map(|event| event.written), Some(0));
    // With no buffer it waits.
    a.send(&sent);
    assert_eq!(b.received(1), None);
    b.offer(1, 1600);
    assert_eq!(b.received(1).unwrap()[12..], sent);
    assert_eq!((a.port().counters().sent, b.port().counters().received), (2, 2));
}

#[test]
fn what_may_not_be_sent_is_dropped_and_its_buffer_comes_back() {
    let network = network();
    let (mut a, mut b) = (Guest::new(&network, 1, CSUM), Guest::new(&network, 2, 0));
    b.offer(0, 1600);
    a.send(&frame(2, 3, b"another's address"));
    a.send(&frame(2, 1, &[0; MAX_FRAME - 13]));
    a.send(&frame(2, 1, &[0; 9000]));
    a.send(&[0; 13]);
    a.send_raw(&[0; 11]);
    // Segmentation was not negotiated.
    a.send_raw(&[&[1, 1, 0, 0, 0, 0, 14, 0, 0, 0, 0, 0][..], &frame(2, 1, &[0; 60])].concat());
    // A checksum beyond the end, and before the start.
    a.send_open(14, 5, &frame(2, 1, &[0; 6]));
    a.send_open(0xffff, 0xffff, &frame(2, 1, &[0; 6]));
    a.send_open(0, 0, &frame(2, 1, &[0; 6]));
    assert_eq!(a.port().counters().refused, 9);
    assert_eq!(std::iter::from_fn(|| a.tx.next(&a.host.memory)).count(), 9);
    assert_eq!(b.received(0), None);
    assert_eq!(a.host.status() & NEEDS_RESET, 0);
}

#[test]
fn a_checksum_is_finished_for_who_wants_it_finished() {
    let network = network();
    let mut a = Guest::new(&network, 1, CSUM);
    let mut open = Guest::new(&network, 2, GUEST_CSUM);
    let mut finished = Guest::new(&network, 3, 0);
    open.offer(0, 1600);
    finished.offer(0, 1600);
    let mut sent = [&[0xff; 6], &mac(1).0[..], &[8, 0], &[1, 2, 3, 4, 0, 0]].concat();
    a.send_open(14, 4, &sent);
    let received = open.received(0).unwrap();
    assert_eq!(received[..12], [1, 0, 0, 0, 0, 0, 14, 0, 4, 0, 1, 0]);
    assert_eq!(received[12..], sent);
    // 0x0102 + 0x0304 = 0x0406
    sent[18..].copy_from_slice(&0xfbf9u16.to_be_bytes());
    let received = finished.received(0).unwrap();
    assert_eq!(received[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(received[12..], sent);
    // Who has not negotiated it may not leave one open.
    finished.send_open(14, 4, &frame(2, 3, &[0; 6]));
    assert_eq!(finished.port().counters().refused, 1);
}

#[test]
fn a_frame_in_several_buffers() {
    let network = network();
    let (mut a, mut b) = (Guest::new(&network, 1, 0), Guest::new(&network, 2, MRG_RXBUF));
    let sent = frame(2, 1, &(0..200).collect::<Vec<u8>>());
    a.send(&sent);
    // The third one makes it enough.
    b.offer(0, 100);
    b.offer(1, 100);
    b.work();
    assert!(b.rx.next(&b.host.memory).is_none());
    b.offer(2, 100);
    let written: Vec<u32> =
        std::iter::from_fn(|| b.rx.next(&b.host.memory)).map(|event| event.written).collect();
    assert_eq!(written, [100, 100, 26]);
    let all: Vec<u8> = (0..3)
        .zip(written)
        .flat_map(|(n, bytes)| b.host.memory.get(RECEIVED + n * 0x1000, bytes as usize))
        .collect();
    assert_eq!(all[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
    assert_eq!(all[12..], sent);
}

#[test]
fn a_buffer_that_is_too_small_breaks_the_card() {
    for (features, bytes) in [(0, 100), (MRG_RXBUF, 11)] {
        let network = network();
        let (mut a, mut b) = (Guest::new(&network, 1, 0), Guest::new(&network, 2, features));
        a.send(&frame(2, 1, &[0; 200]));
        b.offer(0, bytes);
        b.work();
        assert_ne!(b.host.status() & NEEDS_RESET, 0);
        // A reset helps.
        b.start(features);
        b.offer(1, 1600);
        a.send(&frame(2, 1, b"again"));
        assert_eq!(b.received(1).unwrap()[26..], *b"again");
    }
}

#[test]
fn a_copy_is_not_connected_until_its_driver_starts_anew() {
    let network = network();
    let mut a = Guest::new(&network, 1, 0);
    let b = Guest::new(&network, 2, 0);
    let memory = Memory::new(BASE, 0x4_0000);
    memory.put(BASE, &b.host.memory.get(BASE, 0x4_0000));
    let function: Box<dyn Function> = b.host.function.copy().unwrap();
    let mut copy = Guest {
        host: Host { function, memory, more: false },
        rx: b.rx.clone(),
        tx: b.tx.clone(),
        rings: Arc::default(),
    };
    copy.host.function.attach(Arc::new(Bell(copy.rings.clone())));
    assert_eq!(copy.rings.load(Ordering::Relaxed), 1, "its link has gone down");
    while copy.host.memory.wire().is_some() {}
    copy.work();
    assert_eq!(copy.host.memory.wire(), Some(Wire::Line(true)), "its driver is told");
    assert_eq!((copy.status(), copy.host.status() & DRIVER_OK), ([0, 0], DRIVER_OK));
    copy.send(&frame(1, 2, b"under the other's address"));
    assert_eq!((copy.port().counters().refused, network.connected()), (1, 2));
    a.send(&frame(2, 1, b"for one of them"));
    assert!(b.port().is_waiting() && !copy.port().is_waiting());
    copy.start(0);
    let own: [u8; 6] = copy.host.load(DEVICE);
    assert_ne!(own, mac(2).0);
    assert_eq!((copy.status(), network.connected()), ([1, 0], 3));
    a.offer(0, 1600);
    copy.send(&[&mac(1).0[..], &own, &[8, 0], b"here I am"].concat());
    assert_eq!(a.received(0).unwrap()[26..], *b"here I am");
}

#[test]
fn an_earlier_state_takes_the_port_over() {
    let network = network();
    let (mut a, mut b) = (Guest::new(&network, 1, 0), Guest::new(&network, 2, 0));
    let snapshot = b.host.function.copy().unwrap();
    b.host.set_status(0);
    assert_eq!(network.connected(), 1);
    for _ in 0..2 {
        let mut before = snapshot.copy().unwrap();
        before.take_over(&*b.host.function);
        before.attach(Arc::new(Bell(Arc::default())));
        b.host.function = before;
        assert_eq!((b.status(), network.connected()), ([1, 0], 2));
        b.rx = Driver::new(BASE, 256, false, &b.host.memory);
        b.offer(0, 1600);
        a.send(&frame(2, 1, b"for the same address"));
        assert_eq!(b.rings.load(Ordering::Relaxed), 1);
        assert_eq!(b.received(0).unwrap()[26..], *b"for the same address");
        b.rings.store(0, Ordering::Relaxed);
    }
}

#[test]
fn of_two_with_one_address_the_second_has_no_link() {
    let network = network();
    let _first = Guest::new(&network, 1, 0);
    let mut second = Guest::new(&network, 1, 0);
    assert_eq!(second.status(), [0, 0]);
    drop(_first);
    second.start(0);
    assert_eq!(second.status(), [1, 0]);
}

#[test]
fn work_is_bounded() {
    let network = network();
    let (mut a, mut b) = (Guest::new(&network, 1, 0), Guest::new(&network, 2, 0));
    let part = |writable| Part { at: SENT, bytes: 1600, writable };
    a.host.memory.put(SENT, &[&[0; 12][..], &frame(2, 1, &[0; 40])].concat());
    for _ in 0..200 {
        a.tx.add(&[Part { bytes: 66, ..part(false) }], None, &a.host.memory).unwrap();
        b.rx.add(&[part(true)], None, &b.host.memory).unwrap();
    }
    a.host.store(common::host::NOTIFY + 4, &1u16.to_le_bytes());
    assert!(a.host.more);
    assert_eq!(b.port().counters().received, 64);
    a.host.work();
    assert_eq!(b.port().counters().received, 200);
    assert!(b.host.function.work(&b.host.memory));
    assert_eq!(std::iter::from_fn(|| b.rx.next(&b.host.memory)).count(), 64);
}

proptest! {
    #[test]
    fn anything_goes(
        features in (any::<[bool; 3]>()).prop_map(|on| {
            [CSUM, GUEST_CSUM, MRG_RXBUF].iter().zip(on).filter(|(_, on)| *on).fold(0, |all, (one, _)| all | one)
        }),
        ops in prop::collection::vec((0..4u8, prop::collection::vec((any::<u16>(), 0..2000u32), 1..6), any::<[u8; 12]>()), 0..60),
    ) {
        let network = network();
        let (mut a, mut b) = (Guest::new(&network, 1, features), Guest::new(&network, 2, features));
        let room = 0x4_0000 - 2000u64;
        for (op, parts, header) in ops {
            let (guest, receive) = if op & 1 == 0 { (&mut a, op & 2 == 0) } else { (&mut b, op & 2 == 0) };
            let place = |(at, bytes): &(u16, u32)| Part { at: BASE + 0x8000 + u64::from(*at) * 3 % (room - 0x8000), bytes: *bytes, writable: receive };
            let parts: Vec<Part> = parts.iter().map(place).collect();
            guest.host.memory.put(parts[0].at, &header);
            let driver = if receive { &mut guest.rx } else { &mut guest.tx };
            if driver.add(&parts, None, &guest.host.memory).is_some() {
                guest.host.notify(u16::from(!receive));
            }
            a.work();
            b.work();
        }
        // Whatever became of them, a reset helps.
        let mut fresh = Guest::new(&network, 3, 0);
        a.start(0);
        a.offer(9, 1600);
        fresh.send(&frame(1, 3, b"alive"));
        prop_assert_eq!(&a.received(9).unwrap()[26..], b"alive");
    }
}
