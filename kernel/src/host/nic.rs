//! The host's virtio network interface (Virtual I/O Device (VIRTIO) Version 1.2, section 5.1): a port of the network that partitions are on,
//! behind which is the network outside.
//!
//! Nothing waits here. What comes goes to the switch at once, and what the switch has for us stays in its bounded queue until the device
//! has room for it.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use switch::{MAX_FRAME, Port, Taken};

use super::memory;
use super::ring::{Ring, Use};
use super::transport::Device;
use crate::sync::{Lock, Rank};

/// Queues: what comes, and what goes.
const RECEIVE: u16 = 0;
const SEND: u16 = 1;
/// Their lengths. There is a buffer for each entry.
const SIZE: usize = 64;
/// Each packet has a header before it, all zeroes: no part of its work is left to others.
const HEADER: usize = 12;
const BUFFER: usize = 2048;
const _: () = assert!(HEADER + MAX_FRAME <= BUFFER);

/// The device says its address.
const MAC: u64 = 1 << 5;
/// All that we know.
pub const FEATURES: u64 = MAC;

/// An interface.
pub struct Nic {
    /// Its own address, which nobody uses.
    pub mac: bundle::Mac,
    port: Port,
    state: Lock<State>,
}

struct State {
    device: Device,
    receive: Ring<SIZE>,
    send: Ring<SIZE>,
}

/// Buffers for a queue.
fn buffers() -> Option<Vec<&'static mut [u8]>> {
    let mut all = Vec::with_capacity(SIZE);
    while all.len() < SIZE {
        all.extend(memory::frame()?.chunks_exact_mut(BUFFER));
    }
    Some(all)
}

impl Nic {
    /// Starts it.
    pub fn new(mut device: Device, port: Port) -> Result<Nic, String> {
        let [low, high] = [device.config(0)?, device.config(4)?].map(u32::to_le_bytes);
        let mac = bundle::Mac([low[0], low[1], low[2], low[3], high[0], high[1]]);
        let (receive, send) = (device.queue(RECEIVE)?, device.queue(SEND)?);
        device.start();
        let (incoming, outgoing) = buffers().zip(buffers()).ok_or("no memory for its buffers")?;
        let mut receive = Ring::new(RECEIVE, receive, Use::Receive, Vec::new());
        incoming.into_iter().for_each(|buffer| receive.give(buffer, BUFFER));
        receive.notify(&mut device);
        let mut send = Ring::new(SEND, send, Use::Send, outgoing);
        send.listen(false);
        let state = Lock::new(Rank::Host, State { device, receive, send });
        Ok(Nic { mac, port, state })
    }

    /// Takes in what has come, and sends what waits.
    pub fn serve(&self) {
        let mut frame = [0; MAX_FRAME];
        // As much as may have come; more will be another interrupt.
        for _ in 0..SIZE {
            let Some(bytes) = self.state.lock().take(&mut frame) else { break };
            self.port.send(&frame[..bytes], None);
        }
        self.send();
    }

    /// Sends what waits, as far as there is room.
    fn send(&self) {
        let mut state = self.state.lock();
        let State { device, send, .. } = &mut *state;
        // Only when it has all buffers do we want to know that it is done with one; and then it may be already.
        while !self.fill(send) {
            send.listen(true);
            fence(Ordering::SeqCst);
            if !send.can_take() {
                break;
            }
        }
        send.notify(device);
    }

    /// Gives the device frames that wait. False if there may be more than it has room for.
    fn fill(&self, send: &mut Ring<SIZE>) -> bool {
        while let Some((buffer, _)) = send.take() {
            send.free.push(buffer);
        }
        send.listen(false);
        while let Some(buffer) = send.free.pop() {
            let frame = buffer[HEADER..].first_chunk_mut();
            let Some((bytes, partial)) = frame.and_then(|frame| self.port.receive(frame)) else {
                send.free.push(buffer);
                return true;
            };
            if let Some(partial) = partial {
                partial.finish(&mut buffer[HEADER..HEADER + bytes]);
            }
            send.give(buffer, HEADER + bytes);
        }
        false
    }

    /// Connects it to the network.
    pub fn connect(&'static self) -> Result<(), Taken> {
        self.port.listen(|| self.send());
        self.port.connect()
    }

    /// Is anything on its way out?
    pub fn is_busy(&self) -> bool {
        self.state.lock().send.is_busy()
    }
}

impl State {
    /// The next frame that has come: how long it is. Its buffer goes back to the device.
    fn take(&mut self, to: &mut [u8; MAX_FRAME]) -> Option<usize> {
        loop {
            let (buffer, bytes) = self.receive.take()?;
            let frame = buffer.get(HEADER..bytes).filter(|frame| frame.len() <= MAX_FRAME);
            let len = frame.map(|frame| {
                to[..frame.len()].copy_from_slice(frame);
                frame.len()
            });
            self.receive.give(buffer, BUFFER);
            self.receive.notify(&mut self.device);
            if len.is_some() {
                return len;
            }
        }
    }
}
