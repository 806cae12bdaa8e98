//! A network card (section 5.1): a [`Port`] of a switch. One queue each way, no offloading but of checksums, which two guests of one host
//! leave open between them.
//!
//! A copy of a partition has the same address in its guest's memory. Its card gets an address of its own, says that its link is down, and is
//! not connected until its driver has reset it and so read the new one.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use phb::{Bus, Doorbell};
use switch::{MAX_FRAME, MIN_FRAME, Mac, Partial, Port, Sources};

use crate::{Broken, Chain, Device, Kind, OtherEnd, Queue};

/// Feature bits (section 5.1.3).
mod feature {
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
}

const OFFERED: u64 =
    feature::CSUM | feature::GUEST_CSUM | feature::MTU | feature::MAC | feature::MRG_RXBUF | feature::STATUS;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// The header before each frame (section 5.1.6), and its flag for an open checksum.
const HEADER: usize = 12;
const NEEDS_CSUM: u8 = 1;

/// Of the configuration: the address, the status (1: the link is up), a number of queues, and the greatest MTU.
const MTU: u16 = 1500;
const LINK_UP: u16 = 1;

/// How many frames are moved before others have their turn.
const AT_ONCE: usize = 64;

/// A card.
pub struct Card {
    port: Arc<Port>,
    features: u64,
    started: bool,
    /// The address that the guest knows. In a copy, it is another one's until the driver starts anew.
    known: Mac,
    changes: u32,
    /// Buffers for the next frame that are too small without others, and what they hold together.
    gathered: Vec<Chain>,
    room: u64,
    frame: Box<[u8; HEADER + MAX_FRAME]>,
}

impl Card {
    /// A card at a port, which it connects while it has a driver.
    pub fn new(port: Port) -> Card {
        let known = address(&port);
        Card {
            port: Arc::new(port),
            features: 0,
            started: false,
            known,
            changes: 0,
            gathered: Vec::new(),
            room: 0,
            frame: Box::new([0; HEADER + MAX_FRAME]),
        }
    }

    /// Whether the guest takes the card for another one.
    fn is_mistaken(&self) -> bool {
        self.known != address(&self.port)
    }

    /// The link is up, if it can be, while there is a driver that knows the address.
    fn connect(&mut self) {
        if !self.started || self.is_mistaken() || self.port.connect().is_err() {
            self.port.disconnect();
        }
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn link_is_up(&self) -> bool {
        if self.started { self.port.is_connected() } else { !self.is_mistaken() }
    }

    /// Takes buffers until they have room for a frame; false if there are not enough yet.
    fn gather(&mut self, bytes: u64, queue: &mut Queue, bus: &dyn Bus) -> Result<bool, Broken> {
        while self.room < bytes {
            let Some(chain) = queue.take(bus)? else { return Ok(false) };
            let (_, room) = chain.lengths();
            if self.gathered.is_empty() && room < HEADER as u64 {
                return Err(Broken("a receive buffer has no room for a header"));
            }
            if self.room + room < bytes && (!self.has(feature::MRG_RXBUF) || room == 0) {
                return Err(Broken("a receive buffer is too small for a frame"));
            }
            self.room += room;
            self.gathered.push(chain);
        }
        Ok(true)
    }

    /// Moves frames from the port to the guest.
    fn receive(&mut self, queue: &mut Queue, bus: &dyn Bus) -> Result<bool, Broken> {
        for _ in 0..AT_ONCE {
            let Some(length) = self.port.next_length() else { return Ok(false) };
            if !self.gather((HEADER + length) as u64, queue, bus)? {
                return Ok(false);
            }
            let Some((header, room)) = self.frame.split_first_chunk_mut::<HEADER>() else { return Ok(false) };
            let Some(frame) = room.first_chunk_mut() else { return Ok(false) };
            let Some((length, partial)) = self.port.receive(frame) else { return Ok(false) };
            let open = partial.filter(|_| self.features & feature::GUEST_CSUM != 0);
            if open.is_none()
                && let Some((partial, frame)) = partial.zip(frame.get_mut(..length))
            {
                partial.finish(frame);
            }
            *header = header_of(open, self.gathered.len() as u16);
            let mut rest = self.frame.get(..HEADER + length).unwrap_or(&[]);
            for chain in self.gathered.drain(..) {
                let n = chain.write(0, rest, bus)?;
                rest = rest.get(n..).unwrap_or(&[]);
                queue.complete(chain, n as u32, bus)?;
            }
            self.room = 0;
        }
        Ok(self.port.is_waiting())
    }

    /// Moves frames from the guest to the port.
    fn transmit(&mut self, queue: &mut Queue, bus: &dyn Bus) -> Result<bool, Broken> {
        for _ in 0..AT_ONCE {
            let Some(chain) = queue.take(bus)? else { return Ok(false) };
            let n = chain.read(0, &mut self.frame[..], bus)?;
            let whole = chain.lengths().0 == n as u64;
            match self.frame.get(..n).and_then(|bytes| bytes.split_first_chunk::<HEADER>()) {
                Some((header, frame)) if whole && frame.len() >= MIN_FRAME => {
                    match self.checksum(header, frame.len()) {
                        Some(partial) => self.port.send(frame, partial),
                        None => self.port.refuse(),
                    }
                }
                _ => self.port.refuse(),
            }
            queue.complete(chain, 0, bus)?;
        }
        Ok(true)
    }

    /// The checksum that a header leaves open; none if the header asks for what was not negotiated, or makes no sense.
    fn checksum(&self, header: &[u8; HEADER], frame: usize) -> Option<Option<Partial>> {
        let [flags, segmentation, _, _, _, _, a, b, c, d, ..] = *header;
        match (flags & NEEDS_CSUM != 0, segmentation) {
            (false, 0) => Some(None),
            (true, 0) if self.has(feature::CSUM) => {
                Partial::new(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), frame).map(Some)
            }
            _ => None,
        }
    }
}

fn address(port: &Port) -> Mac {
    match port.sources() {
        Sources::Own(mac) => mac,
        Sources::Any => Mac([0; 6]),
    }
}

fn header_of(open: Option<Partial>, buffers: u16) -> [u8; HEADER] {
    let [low, high] = buffers.to_le_bytes();
    let Some(partial) = open else { return [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, low, high] };
    let ([a, b], [c, d]) = (partial.start().to_le_bytes(), partial.offset().to_le_bytes());
    [NEEDS_CSUM, 0, 0, 0, 0, 0, a, b, c, d, low, high]
}

impl Device for Card {
    fn kind(&self) -> Kind {
        Kind { id: 1, class: 0x02_0000, name: "net" }
    }

    fn features(&self) -> u64 {
        OFFERED
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256]
    }

    fn config_read(&self, offset: usize, to: &mut [u8]) {
        let Mac([a, b, c, d, e, f]) = address(&self.port);
        let [up, _] = if self.link_is_up() { LINK_UP } else { 0 }.to_le_bytes();
        let [low, high] = MTU.to_le_bytes();
        let config = [a, b, c, d, e, f, up, 0, 1, 0, low, high];
        for (at, byte) in to.iter_mut().enumerate() {
            *byte = config.get(offset + at).copied().unwrap_or(0);
        }
    }

    fn start(&mut self, features: u64) {
        self.features = features;
        self.started = true;
        self.connect();
    }

    fn reset(&mut self) {
        self.port.disconnect();
        self.gathered.clear();
        (self.room, self.started, self.known) = (0, false, address(&self.port));
    }

    fn serve(&mut self, index: usize, queues: &mut [Queue], bus: &dyn Bus) -> Result<bool, Broken> {
        match (index, queues.get_mut(index)) {
            (RECEIVE, Some(queue)) => self.receive(queue, bus),
            (TRANSMIT, Some(queue)) => self.transmit(queue, bus),
            _ => Ok(false),
        }
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        if self.is_mistaken() {
            // The link has gone down.
            doorbell.ring();
        }
        self.port.listen(move || doorbell.ring());
    }

    fn config_changes(&self) -> u32 {
        self.changes
    }

    fn pending(&self) -> u32 {
        u32::from(self.port.is_waiting()) << RECEIVE
    }

    fn other_end(&self) -> OtherEnd {
        OtherEnd::Port(self.port.clone())
    }

    /// What has come meanwhile is lost; the driver looks at the link again.
    fn take_over(&mut self, end: OtherEnd) {
        let OtherEnd::Port(port) = end else { return };
        port.disconnect();
        self.port = port;
        self.changes = self.changes.wrapping_add(1);
        self.connect();
    }

    fn copy(&self) -> Option<Box<dyn Device>> {
        Some(Box::new(Card {
            port: Arc::new(self.port.another()),
            features: self.features,
            started: self.started,
            known: self.known,
            changes: self.changes.wrapping_add(1),
            gathered: self.gathered.clone(),
            room: self.room,
            frame: Box::new([0; HEADER + MAX_FRAME]),
        }))
    }
}
