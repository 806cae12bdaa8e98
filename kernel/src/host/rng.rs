//! The host's virtio source of random numbers (Virtual I/O Device (VIRTIO) Version 1.2, section 5.4): a supply is kept at hand, and
//! asked for anew when half of it is gone.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use phb::Doorbell;
use realmode::instructions::{pause, timebase};

use super::memory;
use super::ring::{Ring, Use};
use super::transport::Device;
use crate::console::TICKS_PER_MICRO;
use crate::sync::{Lock, Rank};

/// Bytes that are kept.
const SUPPLY: usize = 1024;
/// How many are asked for at once.
const PIECE: usize = SUPPLY / 2;
/// How long we wait for the first, at boot.
const PATIENCE: u64 = 1_000_000 * TICKS_PER_MICRO;
/// The length of its queue.
const SIZE: usize = 8;

/// A source.
pub struct Rng {
    state: Lock<State>,
}

struct State {
    device: Device,
    ring: Ring<SIZE>,
    supply: Vec<u8>,
    /// Who wants to know when there is more.
    waiting: Vec<Arc<dyn Doorbell>>,
}

impl State {
    /// Takes in what has come, and asks for more.
    fn serve(&mut self) {
        self.take_in();
        self.order();
    }

    fn take_in(&mut self) {
        while let Some((buffer, bytes)) = self.ring.take() {
            let room = SUPPLY - self.supply.len();
            self.supply.extend_from_slice(&buffer[..bytes.min(room)]);
            buffer.fill(0);
            self.ring.free.push(buffer);
        }
    }

    fn order(&mut self) {
        if self.supply.len() <= SUPPLY - PIECE
            && let Some(buffer) = self.ring.free.pop()
        {
            self.ring.give(buffer, PIECE);
            self.ring.notify(&mut self.device);
        }
    }
}

impl Rng {
    /// Starts it, and waits for its first numbers.
    pub fn new(mut device: Device) -> Result<Rng, String> {
        let queue = device.queue(0)?;
        device.start();
        let (buffer, _) = memory::frame().ok_or("no memory for its buffer")?.split_at_mut(PIECE);
        let ring = Ring::new(0, queue, Use::Receive, [buffer].into());
        let mut state = State { device, ring, supply: Vec::with_capacity(SUPPLY), waiting: Vec::new() };
        state.order();
        let until = timebase() + PATIENCE;
        while state.supply.is_empty() {
            if timebase() > until {
                return Err("it does not answer".into());
            }
            state.serve();
            pause();
        }
        Ok(Rng { state: Lock::new(Rank::Host, state) })
    }

    /// Takes in what has come, and tells those that wait for it.
    pub fn serve(&self) {
        let mut state = self.state.lock();
        state.serve();
        let waiting = if state.supply.is_empty() { Vec::new() } else { core::mem::take(&mut state.waiting) };
        drop(state);
        waiting.iter().for_each(|bell| bell.ring());
    }

    /// Does it owe us something?
    pub fn is_busy(&self) -> bool {
        self.state.lock().ring.is_busy()
    }

    /// Is there anything at hand?
    pub fn is_ready(&self) -> bool {
        !self.state.lock().supply.is_empty()
    }

    /// Fills a buffer, from its start on, with random numbers that nobody else gets: how much of it. If that is not all, the bell is rung when
    /// there is more.
    pub fn fill(&self, to: &mut [u8], bell: Option<&Arc<dyn Doorbell>>) -> usize {
        let mut state = self.state.lock();
        state.take_in();
        let rest = state.supply.len().saturating_sub(to.len());
        let given = state.supply.len() - rest;
        to[..given].copy_from_slice(&state.supply[rest..]);
        state.supply[rest..].fill(0);
        state.supply.truncate(rest);
        state.order();
        if let Some(bell) = bell.filter(|_| given < to.len())
            && !state.waiting.iter().any(|other| Arc::ptr_eq(other, bell))
        {
            state.waiting.push(bell.clone());
        }
        given
    }
}
