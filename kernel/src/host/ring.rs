//! A queue with buffers of its own, each of which is here or with the device.
#![allow(unsafe_code)] // lends buffers to the device

use alloc::vec::Vec;

use super::transport::{Device, Queue};

/// A buffer: memory that is never given back.
pub type Buffer = &'static mut [u8];

/// Whether the device reads the buffers of a queue or writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// It reads: they are sent.
    Send,
    /// It writes: they are received.
    Receive,
}

/// A queue and its buffers.
pub struct Ring<const SIZE: usize> {
    index: u16,
    queue: Queue<SIZE>,
    way: Use,
    /// Those that are here.
    pub free: Vec<Buffer>,
    /// By token: a buffer that the device has, and how much of it.
    out: [Option<(Buffer, usize)>; SIZE],
    /// It answers to what it was never given.
    broken: bool,
}

impl<const SIZE: usize> Ring<SIZE> {
    /// With these buffers, all of them here.
    pub fn new(index: u16, queue: Queue<SIZE>, way: Use, free: Vec<Buffer>) -> Ring<SIZE> {
        Ring { index, queue, way, free, out: [const { None }; SIZE], broken: false }
    }

    /// Is there anything that the device has?
    pub fn is_busy(&self) -> bool {
        !self.broken && self.out.iter().any(Option::is_some)
    }

    /// Gives the first `bytes` of a buffer to the device, which is to be told of it.
    pub fn give(&mut self, buffer: Buffer, bytes: usize) {
        let part = &mut buffer[..bytes];
        // SAFETY: the buffer stays where it is for good, and is left alone until `take` has it back.
        let token = unsafe {
            match self.way {
                Use::Send => self.queue.add(&[part], &mut []),
                Use::Receive => self.queue.add(&[], &mut [part]),
            }
        };
        match token.ok().and_then(|token| self.out.get_mut(usize::from(token))) {
            Some(place) => *place = Some((buffer, bytes)),
            // No room: there are no more buffers than descriptors.
            None => self.free.push(buffer),
        }
    }

    /// Tells the device what it has been given.
    pub fn notify(&self, device: &mut Device) {
        device.notify(self.index, &self.queue);
    }

    /// Shall the device tell when it is done with a buffer?
    pub fn listen(&mut self, on: bool) {
        self.queue.set_dev_notify(on);
    }

    /// Is the device done with a buffer?
    pub fn can_take(&self) -> bool {
        !self.broken && self.queue.can_pop()
    }

    /// A buffer that the device is done with, and how many bytes it has written.
    pub fn take(&mut self) -> Option<(Buffer, usize)> {
        let token = self.queue.peek_used().filter(|_| !self.broken)?;
        let Some((buffer, bytes)) = self.out.get_mut(usize::from(token)).and_then(Option::take) else {
            self.broken = true;
            return None;
        };
        let part = &mut buffer[..bytes];
        // SAFETY: the buffer that was put in under this token.
        let written = unsafe {
            match self.way {
                Use::Send => self.queue.pop_used(token, &[part], &mut []),
                Use::Receive => self.queue.pop_used(token, &[], &mut [part]),
            }
        };
        Some((buffer, written.map_or(0, |n| n as usize).min(bytes)))
    }
}
