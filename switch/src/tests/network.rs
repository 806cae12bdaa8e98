//! Who gets a frame: random frames, connections and silences against a model that says it in the plainest way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::{MAX_FRAME, Mac, Network, Port, QUEUE_BYTES, Sources, Taken};

const AGE: u64 = 10;

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn network() -> Arc<Network> {
    Network::new("lan", AGE, || 0)
}

fn frame(to: Mac, from: Mac, rest: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0[..], &[0x08, 0x00], rest].concat()
}

fn receive(port: &Port) -> Option<Vec<u8>> {
    let mut to = [0; MAX_FRAME];
    let next = port.next_length();
    let taken = port.receive(&mut to).map(|(n, _)| to[..n].to_vec());
    // None may become some meanwhile, where there are threads.
    assert!(next.is_none() || next == taken.as_ref().map(Vec::len));
    taken
}

fn own(network: &Arc<Network>, n: u8) -> Port {
    let port = Port::new(network, Sources::Own(mac(n)));
    port.connect().unwrap();
    port
}

#[test]
fn another_address_is_refused() {
    let network = network();
    let (a, b) = (own(&network, 1), own(&network, 2));
    a.send(&frame(mac(2), mac(3), b"spoofed"), None);
    a.send(&frame(mac(2), mac(2), b"spoofed"), None);
    a.send(&frame(mac(2), mac(1), &[0; MAX_FRAME - 13]), None);
    a.send(&[0; 13], None);
    a.send(&[], None);
    assert_eq!(receive(&b), None);
    assert_eq!((a.counters().refused, a.counters().sent), (5, 0));
    a.send(&frame(mac(2), mac(1), &[0; MAX_FRAME - 14]), None);
    assert_eq!(receive(&b).unwrap().len(), MAX_FRAME);
}

#[test]
fn two_ports_do_not_share_an_address() {
    let network = network();
    let a = own(&network, 1);
    let other = Port::new(&network, Sources::Own(mac(1)));
    assert_eq!(other.connect(), Err(Taken::Address));
    assert_eq!(a.connect(), Ok(()), "it is connected already");
    drop(a);
    assert_eq!(other.connect(), Ok(()));
    let copy = other.another();
    assert!(!copy.is_connected() && copy.sources() != other.sources());
    assert_eq!(copy.connect(), Ok(()));
    assert_eq!(network.connected(), 2);
}

#[test]
fn a_full_queue_drops_and_hurts_nobody_else() {
    let network = network();
    let (a, full, other) = (own(&network, 1), own(&network, 2), own(&network, 3));
    let room = (QUEUE_BYTES / (MAX_FRAME + 8)) as u64;
    for _ in 0..room + 5 {
        a.send(&frame(mac(2), mac(1), &[7; MAX_FRAME - 14]), None);
    }
    a.send(&frame(Mac::BROADCAST, mac(1), &[8; MAX_FRAME - 14]), None);
    assert_eq!((full.counters().received, full.counters().dropped), (room, 6));
    assert_eq!(receive(&other).unwrap()[14], 8);
    full.disconnect();
    assert!(!full.is_waiting() && receive(&full).is_none());
}

#[test]
fn who_listens_is_called_when_the_first_frame_comes() {
    let network = network();
    let (a, b) = (own(&network, 1), own(&network, 2));
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    b.listen(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let call = || a.send(&frame(mac(2), mac(1), b""), None);
    call();
    call();
    assert_eq!(called.load(Ordering::Relaxed), 1);
    while receive(&b).is_some() {}
    call();
    assert_eq!(called.load(Ordering::Relaxed), 2);
}

#[test]
fn threads_lose_nothing() {
    let network = network();
    let to = own(&network, 0);
    std::thread::scope(|scope| {
        for n in 1..4 {
            let network = &network;
            scope.spawn(move || {
                let port = own(network, n);
                (0..1000u32).for_each(|i| port.send(&frame(mac(0), mac(n), &i.to_be_bytes()), None));
            });
        }
        let mut next = BTreeMap::new();
        while next.values().sum::<u32>() != 3000 {
            let Some(frame) = receive(&to) else { continue };
            let expected = next.entry(frame[11]).or_insert(0);
            assert_eq!(frame[14..], expected.to_be_bytes());
            *expected += 1;
        }
    });
    assert_eq!(to.counters().received, 3000);
}

/// Ports 0 to 3 are partitions', 4 and 5 lead outside. Addresses 0 to 3 are the partitions', the rest is outside.
const OWN: usize = 4;
const PORTS: usize = 6;

#[derive(Clone, Debug)]
enum Op {
    Connect(usize, bool),
    Send { port: usize, to: Option<u8>, from: Option<u8> },
    Receive(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let address = || prop_oneof![1 => Just(None), 8 => (0..8u8).prop_map(Some)];
    prop_oneof![
        1 => (0..PORTS, any::<bool>()).prop_map(|(port, up)| Op::Connect(port, up)),
        8 => (0..PORTS, address(), address()).prop_map(|(port, to, from)| Op::Send { port, to, from }),
        6 => (0..OWN, address()).prop_map(|(port, to)| Op::Send { port, to, from: Some(port as u8) }),
        4 => (0..PORTS).prop_map(Op::Receive),
        1 => (0..AGE).prop_map(Op::Wait),
    ]
}

#[derive(Default)]
struct Model {
    up: [bool; PORTS],
    waiting: [VecDeque<Vec<u8>>; PORTS],
    /// Where an outside address was seen last, and when.
    seen: BTreeMap<(usize, Mac), u64>,
}

impl Model {
    fn send(&mut self, port: usize, to: Mac, from: Mac, frame: &[u8], now: u64) {
        let partition =
            |address: Mac, up: &[bool; PORTS]| (0..OWN).find(|n| up[*n] && mac(*n as u8) == address);
        if !self.up[port] {
            return;
        }
        if port < OWN {
            if from != mac(port as u8) {
                return;
            }
        } else {
            if from.is_group() || partition(from, &self.up).is_some() {
                return;
            }
            self.seen.retain(|(_, address), _| *address != from);
            self.seen.insert((port, from), now);
        }
        let outside = || (OWN..PORTS).filter(|n| self.up[*n]);
        let receivers: Vec<usize> = if to.is_group() {
            (0..PORTS).filter(|n| self.up[*n]).collect()
        } else if let Some(owner) = partition(to, &self.up) {
            vec![owner]
        } else if let Some(known) =
            outside().find(|n| self.seen.get(&(*n, to)).is_some_and(|seen| now - seen < AGE))
        {
            vec![known]
        } else {
            outside().collect()
        };
        receivers.iter().filter(|n| **n != port).for_each(|n| self.waiting[*n].push_back(frame.to_vec()));
    }
}

proptest! {
    #[test]
    fn frames_go_to_whom_they_are_for(ops in prop::collection::vec(op(), 0..200)) {
        let time = Arc::new(AtomicU64::new(0));
        let clock = time.clone();
        let network = Network::new("lan", AGE, move || clock.load(Ordering::Relaxed));
        let sources = |n: usize| if n < OWN { Sources::Own(mac(n as u8)) } else { Sources::Any };
        let ports: [Port; PORTS] = core::array::from_fn(|n| Port::new(&network, sources(n)));
        let mut model = Model::default();
        let mut now = 0;
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Connect(port, true) => {
                    ports[port].connect().unwrap();
                    model.up[port] = true;
                }
                Op::Connect(port, false) => {
                    ports[port].disconnect();
                    model.up[port] = false;
                    model.waiting[port].clear();
                }
                Op::Send { port, to, from } => {
                    let (to, from) = (to.map_or(Mac::BROADCAST, mac), from.map_or(Mac::BROADCAST, mac));
                    let frame = frame(to, from, &number.to_be_bytes());
                    ports[port].send(&frame, None);
                    model.send(port, to, from, &frame, now);
                }
                Op::Receive(port) => prop_assert_eq!(receive(&ports[port]), model.waiting[port].pop_front()),
                Op::Wait(more) => {
                    now += more;
                    time.store(now, Ordering::Relaxed);
                }
            }
        }
        for (port, waiting) in ports.iter().zip(&mut model.waiting) {
            while let Some(frame) = waiting.pop_front() {
                prop_assert_eq!(receive(port), Some(frame));
            }
            prop_assert!(!port.is_waiting() && receive(port).is_none());
        }
    }
}
