//! A virtual terminal: two bounded rings of bytes between a guest's `hvterm1` console and whoever reads it, and the
//! sixteen-byte packing of H_PUT_TERM_CHAR and H_GET_TERM_CHAR (LoPAR, "Virtual Terminal").
//!
//! Owned by one holder at a time: the lock around it is the caller's. Once made, nothing here but [`Ring::provide`] allocates, and nothing
//! waits or panics; what does not fit is refused, and the guest is told H_BUSY and tries again.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use power::Status;

use crate::tree::FIRST_VTY;

/// A bounded queue of bytes.
#[derive(Clone, Debug)]
pub struct Ring {
    bytes: Box<[u8]>,
    head: usize,
    len: usize,
}

impl Ring {
    /// An empty one with room for `capacity` bytes, at least one.
    pub fn new(capacity: usize) -> Self {
        Ring { bytes: vec![0; capacity.max(1)].into_boxed_slice(), head: 0, len: 0 }
    }

    /// One without room for anything, which takes no memory.
    pub fn none() -> Self {
        Ring { bytes: Box::default(), head: 0, len: 0 }
    }

    /// Gives one that has no room memory for `capacity` bytes. Is there room?
    pub fn provide(&mut self, capacity: usize) -> bool {
        if self.bytes.is_empty() {
            let mut bytes = Vec::new();
            if bytes.try_reserve_exact(capacity).is_ok() {
                bytes.extend(core::iter::repeat_n(0, capacity));
                self.bytes = bytes.into_boxed_slice();
            }
        }
        !self.bytes.is_empty()
    }

    /// Bytes waiting.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Is nothing waiting?
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// A place that is at most one turn too far.
    fn wrapped(&self, at: usize) -> usize {
        if at < self.capacity() { at } else { at - self.capacity() }
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.capacity() - self.len
    }

    /// Append as much as fits, from the front of `bytes`; how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        let mut at = self.wrapped(self.head + self.len);
        for b in bytes.iter().take(n) {
            if let Some(slot) = self.bytes.get_mut(at) {
                *slot = *b;
            }
            at = self.wrapped(at + 1);
        }
        self.len += n;
        n
    }

    /// Append all or nothing; whether it fitted.
    pub fn push_all(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.room();
        if fits {
            self.push(bytes);
        }
        fits
    }

    /// Append all; what does not fit pushes the oldest bytes out. How many were lost that way.
    pub fn push_over(&mut self, bytes: &[u8]) -> usize {
        let lost = bytes.len().saturating_sub(self.room());
        self.consume(lost);
        let beyond = bytes.len().saturating_sub(self.capacity());
        self.push(bytes.get(beyond..).unwrap_or(&[]));
        lost
    }

    /// The first byte, left in place.
    pub fn peek(&self) -> Option<u8> {
        if self.len == 0 { None } else { self.bytes.get(self.head).copied() }
    }

    /// The first byte, taken.
    pub fn pop(&mut self) -> Option<u8> {
        let b = self.peek()?;
        self.consume(1);
        Some(b)
    }

    /// What waits, in order, as two contiguous pieces; the second one is empty unless the data wraps around.
    pub fn chunks(&self) -> (&[u8], &[u8]) {
        let end = self.head + self.len;
        let capacity = self.capacity();
        if end <= capacity {
            (self.bytes.get(self.head..end).unwrap_or(&[]), &[])
        } else {
            (self.bytes.get(self.head..).unwrap_or(&[]), self.bytes.get(..end - capacity).unwrap_or(&[]))
        }
    }

    /// Drop the first `n` bytes (or all, if there are fewer): the second half of reading [`Self::chunks`].
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.len);
        self.head = self.wrapped(self.head + n);
        self.len -= n;
    }

    /// Drop everything.
    pub fn clear(&mut self) {
        self.head = 0;
        self.len = 0;
    }
}

/// One terminal.
#[derive(Clone, Debug)]
pub struct Vty {
    /// From the guest.
    pub output: Ring,
    /// To the guest: without memory until something is typed. Its interrupt is to be asserted while this is not empty.
    pub input: Ring,
}

impl Vty {
    /// Nothing in either direction; so many bytes wait for the reader at most.
    pub fn new(output: usize) -> Self {
        Vty { output: Ring::new(output), input: Ring::none() }
    }

    /// H_PUT_TERM_CHAR with r5 (a length), r6 and r7 (the bytes). More than sixteen bytes is H_PARAMETER. If somebody reads
    /// the terminal, all the bytes are taken, or none and the answer is H_BUSY; if nobody does, they are taken and the oldest
    /// ones give way.
    pub fn put_term_char(&mut self, length: u64, high: u64, low: u64, read: bool) -> Status {
        let bytes = unpack(high, low);
        let Some(bytes) = usize::try_from(length).ok().and_then(|n| bytes.get(..n)) else {
            return Status::PARAMETER;
        };
        if !read {
            self.output.push_over(bytes);
            return Status::SUCCESS;
        }
        if self.output.push_all(bytes) { Status::SUCCESS } else { Status::BUSY }
    }

    /// H_GET_TERM_CHAR: r4 (a length, maybe 0), r5 and r6 (the bytes, zeroes behind them).
    ///
    /// A guest takes a NUL behind a carriage return for a bug of old firmware and drops it: the answer ends between
    /// the two.
    pub fn get_term_char(&mut self) -> (u64, u64, u64) {
        let mut bytes = [0; 16];
        let mut n = 0;
        let mut last = 0;
        for slot in &mut bytes {
            match self.input.peek() {
                None => break,
                Some(0) if last == b'\r' => break,
                Some(b) => *slot = b,
            }
            last = *slot;
            self.input.consume(1);
            n += 1;
        }
        let (high, low) = pack(bytes);
        (n, high, low)
    }
}

/// Does the unit address name the first terminal? 0 does, too: early output of some guests uses it.
pub const fn is_first(unit: u64) -> bool {
    unit == 0 || unit == FIRST_VTY as u64
}

/// Two registers' worth of bytes, most significant first.
pub const fn unpack(high: u64, low: u64) -> [u8; 16] {
    ((high as u128) << 64 | low as u128).to_be_bytes()
}

/// The inverse of [`unpack`].
pub const fn pack(bytes: [u8; 16]) -> (u64, u64) {
    let both = u128::from_be_bytes(bytes);
    ((both >> 64) as u64, both as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn packing() {
        let (high, low) = pack(*b"hello, partition");
        assert_eq!(high, u64::from_be_bytes(*b"hello, p"));
        assert_eq!(unpack(high, low), *b"hello, partition");
    }

    #[test]
    fn put_is_all_or_nothing() {
        let mut v = Vty::new(20);
        let (high, low) = pack(*b"0123456789abcdef");
        assert_eq!(v.put_term_char(17, high, low, true), Status::PARAMETER);
        assert_eq!(v.put_term_char(!0, high, low, true), Status::PARAMETER);
        assert_eq!(v.put_term_char(0, high, low, true), Status::SUCCESS);
        assert_eq!(v.put_term_char(16, high, low, true), Status::SUCCESS);
        assert_eq!(v.put_term_char(5, high, low, true), Status::BUSY);
        assert_eq!(v.put_term_char(4, high, low, true), Status::SUCCESS);
        assert_eq!(v.output.chunks().0, b"0123456789abcdef0123");
        assert_eq!(v.output.room(), 0);
    }

    #[test]
    fn without_a_reader_the_oldest_gives_way() {
        let mut v = Vty::new(20);
        let (high, low) = pack(*b"0123456789abcdef");
        for _ in 0..3 {
            assert_eq!(v.put_term_char(16, high, low, false), Status::SUCCESS);
        }
        let (a, b) = v.output.chunks();
        assert_eq!([a, b].concat(), b"cdef0123456789abcdef");
        assert_eq!(v.output.push_over(&[b'x'; 30]), 30);
        assert_eq!(v.output.pop(), Some(b'x'));
    }

    #[test]
    fn get_takes_sixteen_and_minds_nul() {
        let mut v = Vty::new(1);
        assert!(!v.input.push_all(b"a") && v.input.pop().is_none() && v.input.chunks() == (&[], &[]));
        assert!(v.input.provide(64) && v.input.provide(1) && v.input.room() == 64);
        assert_eq!(v.get_term_char(), (0, 0, 0));
        assert!(v.input.push_all(b"a\r\0b"));
        assert_eq!(v.get_term_char(), (2, u64::from_be_bytes(*b"a\r\0\0\0\0\0\0"), 0));
        assert_eq!(v.get_term_char(), (2, u64::from_be_bytes(*b"\0b\0\0\0\0\0\0"), 0));
        assert!(v.input.push_all(b"0123456789abcdefg"));
        assert_eq!(v.get_term_char().0, 16);
        assert_eq!(v.get_term_char().0, 1);
    }

    proptest! {
        #[test]
        fn ring_is_a_queue(ops in prop::collection::vec((0..4u8, prop::collection::vec(any::<u8>(), 0..9)), 0..200)) {
            let mut ring = Ring::new(11);
            let mut model = VecDeque::new();
            for (op, bytes) in ops {
                match op {
                    0 => {
                        let n = ring.push(&bytes);
                        prop_assert_eq!(n, bytes.len().min(11 - model.len()));
                        model.extend(&bytes[..n]);
                    }
                    1 => {
                        let n = bytes.len().min(model.len());
                        ring.consume(bytes.len());
                        model.drain(..n);
                    }
                    2 => {
                        ring.push_over(&bytes);
                        model.extend(&bytes);
                        model.drain(..model.len().saturating_sub(11));
                    }
                    _ => prop_assert_eq!(ring.pop(), model.pop_front()),
                }
                let (a, b) = ring.chunks();
                prop_assert_eq!([a, b].concat(), model.iter().copied().collect::<Vec<u8>>());
                prop_assert_eq!(ring.len() + ring.room(), 11);
            }
        }
    }
}
