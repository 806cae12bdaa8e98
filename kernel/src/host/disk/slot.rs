//! A request and its buffers.
#![allow(unsafe_code)] // lends buffers to the device

use alloc::vec::Vec;

use virtio::blk::Token;

use super::super::transport::Queue;
use super::memory;

/// The most that a request transfers.
pub const MOST: usize = frames::FRAME as usize;
/// Requests that may be under way; each takes three descriptors.
const SLOTS: usize = 16;
pub const SIZE: usize = 64;
const _: () = assert!(3 * SLOTS <= SIZE);

/// Kinds of requests (section 5.2.6).
pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;

/// A request begins with its kind, 4 bytes of nothing and the sector.
const HEADER: usize = 16;

/// Buffers, which the device has while it works on them.
pub struct Slot {
    pub phase: Phase,
    /// The partition's name for the request.
    pub token: Token,
    number: usize,
    bytes: usize,
    kind: u32,
    header: &'static mut [u8],
    status: &'static mut [u8],
    /// Nothing while it is [`Phase::Held`].
    data: &'static mut [u8],
}

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// There is none.
    Free,
    /// Its buffer is being filled or emptied.
    Held,
    /// With the device, by the queue's number for it.
    Out(u16),
    /// With the device, and nobody wants to know any more.
    Orphan(u16),
    /// It has succeeded, or not.
    Done(bool),
}

/// A slot's buffer on its own, to be filled or emptied with no lock held.
pub struct Piece {
    pub number: usize,
    /// The device has filled it.
    pub is_read: bool,
    bytes: usize,
    data: &'static mut [u8],
}

impl Piece {
    /// Its data.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.data[..self.bytes]
    }
}

/// All slots of a disk.
pub fn all() -> Option<Vec<Slot>> {
    let (headers, mut statuses) = memory::frame()?.split_at_mut(HEADER * SLOTS);
    let mut slots = Vec::with_capacity(SLOTS);
    for (number, header) in headers.chunks_exact_mut(HEADER).enumerate() {
        let (status, rest) = statuses.split_at_mut(1);
        statuses = rest;
        let (phase, data) = (Phase::Free, memory::frame()?);
        slots.push(Slot { phase, token: 0, number, bytes: 0, kind: 0, header, status, data });
    }
    Some(slots)
}

/// Calls something with what the device reads of a request, and what it writes.
macro_rules! with_parts {
    ($slot:ident, $queue:ident.$method:ident($($first:expr)?)) => {{
        let Slot { header, status, data, kind, bytes, .. } = $slot;
        let data = &mut data[..*bytes];
        match *kind {
            OUT | DISCARD | WRITE_ZEROES => $queue.$method($($first,)? &[header, data], &mut [status]),
            IN | GET_ID => $queue.$method($($first,)? &[header], &mut [data, status]),
            _ => $queue.$method($($first,)? &[header], &mut [status]),
        }
    }};
}

impl Slot {
    /// Takes the buffer, for a new request.
    pub fn begin(&mut self, token: Token, bytes: usize) -> Piece {
        (self.token, self.bytes) = (token, bytes);
        self.hold()
    }

    /// Takes the buffer, for what is in it.
    pub fn hold(&mut self) -> Piece {
        self.phase = Phase::Held;
        let data = core::mem::take(&mut self.data);
        Piece { number: self.number, is_read: self.kind == IN, bytes: self.bytes, data }
    }

    /// Gets it back.
    pub fn put_back(&mut self, piece: Piece) {
        self.data = piece.data;
        self.phase = Phase::Free;
    }

    /// Puts it into the queue, if there is room.
    pub fn add(&mut self, queue: &mut Queue<SIZE>, kind: u32, sector: u64) -> bool {
        self.kind = kind;
        self.header[..4].copy_from_slice(&kind.to_le_bytes());
        self.header[8..].copy_from_slice(&sector.to_le_bytes());
        self.status[0] = u8::MAX;
        // SAFETY: the buffers stay where they are for good, and are left alone until the device is done with them.
        let added = unsafe { with_parts!(self, queue.add()) };
        let Ok(id) = added else { return false };
        self.phase = Phase::Out(id);
        true
    }

    /// Takes it out of the queue again: the device is done with it.
    pub fn take(&mut self, queue: &mut Queue<SIZE>, id: u16) {
        // SAFETY: the buffers that were put in under this number.
        let popped = unsafe { with_parts!(self, queue.pop_used(id)) };
        self.done(popped.is_ok() && self.status[0] == 0);
    }

    /// The device is done with it, or will never be.
    pub fn done(&mut self, good: bool) {
        match self.phase {
            Phase::Out(_) => self.phase = Phase::Done(good),
            Phase::Orphan(_) => self.phase = Phase::Free,
            Phase::Free | Phase::Held | Phase::Done(_) => {}
        }
    }

    /// Nobody wants to know of it any more.
    pub fn forget(&mut self) {
        match self.phase {
            Phase::Out(id) => self.phase = Phase::Orphan(id),
            Phase::Done(_) => self.phase = Phase::Free,
            Phase::Free | Phase::Held | Phase::Orphan(_) => {}
        }
    }
}
