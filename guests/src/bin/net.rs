//! Two partitions with a network card each, by turns `role=asks` and `role=answers`: what one sends comes back from the other, frames of all
//! lengths and with open checksums; and what is sent under another's address does not come.
#![no_std]
#![no_main]

use guests::cpu::TB_HZ;
use guests::mem::{ARENA, fill, read8, write8};
use guests::virtqueue::{Device, Polled, find, status};
use guests::{Report, platform, println, space};

guests::main!(run);

const RX: u64 = ARENA + 0x10_0000;
const TX: u64 = RX + 0x1_0000;
/// Buffers for what comes, 2 KiB each, and for what goes.
const COMES: u64 = TX + 0x1_0000;
const GOES: u64 = COMES + 0x2_0000;
const BUFFERS: u16 = 32;
const BUFFER: u64 = 2048;

/// What goes before a frame, and a frame's addresses and type.
const HEADER: u64 = 12;
const ADDRESSES: u64 = 14;
/// An EtherType for experiments.
const TYPE: [u8; 2] = [0x88, 0xb5];

/// Features: open checksums either way.
const CSUM: u64 = 1;
const GUEST_CSUM: u64 = 2;

const PATIENCE: u64 = 20 * TB_HZ;

type Mac = [u8; 6];

struct Card {
    device: Device,
    rx: Polled,
    tx: Polled,
    mac: Mac,
}

/// What a frame says: its first byte behind the type.
mod says {
    pub const WHO: u8 = 1;
    pub const HERE: u8 = 2;
    pub const ECHO: u8 = 3;
    pub const ANSWER: u8 = 4;
    pub const FORGED: u8 = 5;
    pub const BYE: u8 = 6;
}

fn bytes<const N: usize>(at: u64) -> [u8; N] {
    core::array::from_fn(|n| read8(at + n as u64))
}

fn put(at: u64, bytes: &[u8]) {
    (at..).zip(bytes).for_each(|(at, byte)| write8(at, *byte));
}

/// A frame that has come: where it is behind its header, and how long.
#[derive(Clone, Copy)]
struct Frame {
    at: u64,
    length: u64,
    buffer: u16,
}

impl Frame {
    fn from(&self) -> Mac {
        bytes(self.at + 6)
    }

    fn says(&self) -> u8 {
        read8(self.at + ADDRESSES)
    }
}

impl Card {
    fn new(t: &mut Report, features: u64) -> Option<Card> {
        let (device, agreed) = find(1, features)?;
        t.same("features", agreed & features, features);
        let (rx, tx) = (Polled::new(device, 0, BUFFERS, RX), Polled::new(device, 1, 64, TX));
        device.start();
        let mac = core::array::from_fn(|n| device.load(n as u64, 1) as u8);
        let mut card = Card { device, rx, tx, mac };
        (0..BUFFERS).for_each(|n| card.offer(n));
        card.rx.kick();
        Some(card)
    }

    fn offer(&mut self, buffer: u16) {
        self.rx.add(&[(COMES + u64::from(buffer) * BUFFER, BUFFER as u32, true)]);
    }

    /// Sends what stands at [`GOES`], and waits until the card has it.
    fn send(&mut self, to: Mac, from: Mac, what: u8, length: u64) {
        put(GOES + HEADER, &to);
        put(GOES + HEADER + 6, &from);
        put(GOES + HEADER + 12, &TYPE);
        write8(GOES + HEADER + ADDRESSES, what);
        self.tx.add(&[(GOES, HEADER as u32, false), (GOES + HEADER, length as u32, false)]);
        self.tx.kick();
        let _ = self.tx.wait(PATIENCE);
    }

    /// The next frame.
    fn receive(&mut self, ticks: u64) -> Option<Frame> {
        let (descriptor, written) = self.rx.wait(ticks)?;
        let buffer = descriptor as u16 % BUFFERS;
        Some(Frame {
            at: COMES + u64::from(buffer) * BUFFER + HEADER,
            length: u64::from(written) - HEADER,
            buffer,
        })
    }

    /// It has been looked at.
    fn done(&mut self, frame: Frame) {
        self.offer(frame.buffer);
        self.rx.kick();
    }
}

fn run(t: &mut Report) {
    space::standard();
    fill(GOES, BUFFER, 0);
    let asks = platform::argument("role") == Some("asks");
    let Some(mut card) = Card::new(t, if asks { CSUM } else { CSUM | GUEST_CSUM }) else {
        return t.is_true("card", false);
    };
    t.same("link", card.device.load(6, 2), 1);
    println!("@ ready {}", platform::argument("role").unwrap_or("?"));
    if asks { ask(t, &mut card) } else { answer(t, &mut card) }
}

fn ask(t: &mut Report, card: &mut Card) {
    // The other one may not have begun yet.
    let peer = (0..200).find_map(|_| {
        card.send([0xff; 6], card.mac, says::WHO, 60);
        let frame = card.receive(TB_HZ / 10)?;
        let peer = (frame.says() == says::HERE).then(|| frame.from());
        card.done(frame);
        peer
    });
    let Some(peer) = peer else { return t.is_true("peer", false) };
    t.is_true("another-address", peer != card.mac);
    let mut wrong = 0;
    for n in 0..60u64 {
        let length = 15 + n * 25;
        (1..length - ADDRESSES).for_each(|at| write8(GOES + HEADER + ADDRESSES + at, (n + at) as u8));
        card.send(peer, card.mac, says::ECHO, length);
        let Some(frame) = card.receive(PATIENCE) else { return t.is_true("answer", false) };
        let same = (1..length - ADDRESSES).all(|at| read8(frame.at + ADDRESSES + at) == (n + at) as u8);
        wrong += u64::from(
            !(same && frame.length == length && frame.says() == says::ANSWER && frame.from() == peer),
        );
        card.done(frame);
    }
    t.same("wrong-answers", wrong, 0);
    // Under another's address, and too long: neither comes.
    card.send(peer, [2, 0, 0, 0, 0, 1], says::FORGED, 60);
    card.send(peer, peer, says::FORGED, 60);
    card.send(peer, card.mac, says::FORGED, 1519);
    // A checksum over 0x0102 and 0x0304, behind which it belongs; this one leaves it open, the other one takes it so.
    put(GOES, &[1, 0, 0, 0, 0, 0, 15, 0, 4, 0, 0, 0]);
    put(GOES + HEADER + 15, &[1, 2, 3, 4, 0, 0]);
    card.send(peer, card.mac, says::ECHO, 21);
    fill(GOES, 8, 0);
    fill(GOES + 8, 8, 0);
    let Some(frame) = card.receive(PATIENCE) else { return t.is_true("checksum", false) };
    // On the way back it was left open again; here it is finished.
    t.equal("finished", bytes::<6>(frame.at + 15), [1, 2, 3, 4, 0xfb, 0xf9]);
    t.equal("finished-header", bytes::<2>(frame.at - HEADER), [0, 0]);
    card.done(frame);
    card.send(peer, card.mac, says::BYE, 60);
    t.same("status", card.device.status() & status::NEEDS_RESET, 0);
}

fn answer(t: &mut Report, card: &mut Card) {
    let (mut forged, mut open) = (0, 0);
    loop {
        let Some(frame) = card.receive(PATIENCE) else { return t.is_true("question", false) };
        let (what, length, from) = (frame.says(), frame.length, frame.from());
        (0..HEADER + length).for_each(|at| write8(GOES + at, read8(frame.at - HEADER + at)));
        card.done(frame);
        match what {
            says::WHO => card.send(from, card.mac, says::HERE, 60),
            says::ECHO => {
                open += u64::from(read8(GOES) & 1);
                card.send(from, card.mac, says::ANSWER, length);
            }
            says::BYE => break,
            _ => forged += 1,
        }
    }
    t.same("forged", forged, 0);
    t.same("open-checksums", open, 1);
}
