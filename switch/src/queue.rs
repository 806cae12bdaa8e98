//! The frames that wait at a port: a bounded ring of bytes, made once.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::frame::{MAX_FRAME, Partial};

/// What waits at a port at most, with eight bytes more for each frame: some 170 long frames.
pub const QUEUE_BYTES: usize = 256 << 10;

/// Before each frame: its length, and where its checksum is to go (0 and 0: it is done).
const HEADER: usize = 8;

/// Frames, first in, first out.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// None until there is a use for it.
    bytes: Box<[u8]>,
    head: usize,
    used: usize,
}

impl Queue {
    /// Has the memory that it needs; false if there is none.
    pub(crate) fn prepare(&mut self) -> bool {
        if self.bytes.is_empty() {
            let mut bytes = Vec::new();
            if bytes.try_reserve_exact(QUEUE_BYTES).is_err() {
                return false;
            }
            bytes.resize(QUEUE_BYTES, 0);
            self.bytes = bytes.into_boxed_slice();
        }
        true
    }

    /// Drops all, and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Queue::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Appends a frame; false if there is no room.
    pub(crate) fn push(&mut self, frame: &[u8], partial: Option<Partial>) -> bool {
        let needed = HEADER + frame.len();
        if needed > self.bytes.len() - self.used {
            return false;
        }
        let (start, offset) = partial.map_or((0, 0), |partial| (partial.start(), partial.offset()));
        let number = (frame.len() as u64) << 32 | u64::from(start) << 16 | u64::from(offset);
        self.store(self.used, &number.to_be_bytes());
        self.store(self.used + HEADER, frame);
        self.used += needed;
        true
    }

    /// How long the first frame is.
    pub(crate) fn next_length(&self) -> Option<usize> {
        (!self.is_empty()).then(|| self.header().0)
    }

    /// Takes the first frame.
    pub(crate) fn pop(&mut self, to: &mut [u8; MAX_FRAME]) -> Option<(usize, Option<Partial>)> {
        if self.is_empty() {
            return None;
        }
        let (length, partial) = self.header();
        self.load(HEADER, to.get_mut(..length)?);
        let taken = HEADER + length;
        self.used -= taken;
        self.head = if self.is_empty() { 0 } else { (self.head + taken) % self.bytes.len() };
        Some((length, partial))
    }

    fn header(&self) -> (usize, Option<Partial>) {
        let mut bytes = [0; HEADER];
        self.load(0, &mut bytes);
        let number = u64::from_be_bytes(bytes);
        let length = (number >> 32) as usize;
        (length, Partial::new((number >> 16) as u16, number as u16, length))
    }

    /// Where a range lies that begins so far behind the head: up to the ring's end, and from its start on.
    fn split(&self, at: usize, length: usize) -> (usize, usize) {
        let start = (self.head + at) % self.bytes.len();
        (start, length.min(self.bytes.len() - start))
    }

    fn store(&mut self, at: usize, from: &[u8]) {
        let (start, first) = self.split(at, from.len());
        let (a, b) = from.split_at(first);
        self.bytes[start..start + first].copy_from_slice(a);
        self.bytes[..b.len()].copy_from_slice(b);
    }

    fn load(&self, at: usize, to: &mut [u8]) {
        let (start, first) = self.split(at, to.len());
        let (a, b) = to.split_at_mut(first);
        a.copy_from_slice(&self.bytes[start..start + first]);
        b.copy_from_slice(&self.bytes[..b.len()]);
    }
}
