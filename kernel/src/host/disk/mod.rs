//! The host's virtio disks (Virtual I/O Device (VIRTIO) Version 1.2, section 5.2). A partition has a disk to itself ([`Claim`]).
//!
//! Requests go through buffers of the hypervisor's: the device never reaches a partition's memory, and a partition may be stopped, reset or
//! undefined while the device works for it. Then the buffers are kept until it is done, and whoever comes next waits until then: nothing of a
//! former life comes after something of the next.

mod claim;
mod slot;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use phb::Doorbell;
use realmode::instructions::{pause, timebase};
use virtio::blk::Token;

pub use self::claim::Claim;
use self::slot::{Phase, Piece, SIZE, Slot};
use super::memory;
use super::transport::{Device, Queue};
use crate::console::TICKS_PER_MICRO;
use crate::sync::{Lock, Rank};

/// Features of a disk: it cannot be written to; it has a cache, which is to be flushed; it takes orders to forget sectors, and to zero them.
const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;
/// All that we know.
pub const FEATURES: u64 = READ_ONLY | FLUSH | DISCARD | WRITE_ZEROES;

/// The longest serial number.
const ID: usize = 20;
/// How long we wait for it, at boot.
const PATIENCE: u64 = 1_000_000 * TICKS_PER_MICRO;

/// A disk.
pub struct Disk {
    /// Its serial number.
    pub serial: String,
    /// Its size in sectors of 512 bytes.
    pub sectors: u64,
    /// What it can do.
    features: u64,
    /// A partition has it.
    claimed: AtomicBool,
    /// Its partition's device is to look.
    ready: AtomicBool,
    state: Lock<State>,
}

struct State {
    device: Device,
    queue: Queue<SIZE>,
    slots: Vec<Slot>,
    bell: Option<Arc<dyn Doorbell>>,
    /// Somebody has found no slot.
    wanted: bool,
    /// The device has answered to what was never asked.
    broken: bool,
}

impl State {
    /// The number of a free slot. There is none while anything of a former life is under way.
    fn free(&self) -> Option<usize> {
        let orphan = |slot: &Slot| matches!(slot.phase, Phase::Orphan(_));
        if self.slots.iter().any(orphan) {
            None
        } else {
            self.slots.iter().position(|s| s.phase == Phase::Free)
        }
    }

    /// A slot for a request: its buffer is to be filled. None if there is none now.
    fn begin(&mut self, token: Token, bytes: usize) -> Option<Piece> {
        let number = self.free();
        self.wanted = number.is_none();
        Some(self.slots[number?].begin(token, bytes))
    }

    /// Gives the request to the device. False if it is of no use any more.
    fn submit(&mut self, piece: Piece, kind: u32, sector: u64) -> bool {
        let slot = &mut self.slots[piece.number];
        slot.put_back(piece);
        let added = !self.broken && slot.add(&mut self.queue, kind, sector);
        if added {
            self.device.notify(0, &self.queue);
        }
        added
    }

    /// Takes in what the device has done. True if its partition's device is to know.
    fn serve(&mut self) -> bool {
        while let Some(id) = self.queue.peek_used().filter(|_| !self.broken) {
            let out = |slot: &&mut Slot| matches!(slot.phase, Phase::Out(n) | Phase::Orphan(n) if n == id);
            match self.slots.iter_mut().find(out) {
                Some(slot) => slot.take(&mut self.queue, id),
                None => self.broken = true,
            }
        }
        if self.broken {
            self.slots.iter_mut().for_each(|slot| slot.done(false));
        }
        self.next().is_some() || self.wanted && self.free().is_some()
    }

    /// A request that the device is done with.
    fn next(&self) -> Option<Token> {
        self.slots.iter().find(|slot| matches!(slot.phase, Phase::Done(_))).map(|slot| slot.token)
    }

    /// Its buffer, which is to be emptied, and whether it has succeeded.
    fn collect(&mut self, token: Token) -> Option<(Piece, bool)> {
        let done = |slot: &&mut Slot| slot.token == token && matches!(slot.phase, Phase::Done(_));
        let slot = self.slots.iter_mut().find(done)?;
        let good = slot.phase == Phase::Done(true);
        Some((slot.hold(), good))
    }

    fn put_back(&mut self, piece: Piece) {
        self.slots[piece.number].put_back(piece);
    }

    /// Asks for the serial number.
    fn serial(&mut self) -> Option<String> {
        let mut piece = self.begin(0, ID)?;
        piece.bytes().fill(0);
        self.submit(piece, slot::GET_ID, 0);
        let until = timebase() + PATIENCE;
        while !self.serve() {
            if timebase() > until {
                return None;
            }
            pause();
        }
        let (mut piece, good) = self.collect(0)?;
        let id = piece.bytes().split(|byte| *byte == 0).next().unwrap_or(&[]);
        let id = good.then(|| String::from_utf8_lossy(id).trim().into());
        self.put_back(piece);
        id
    }
}

impl Disk {
    /// Starts a disk. Waits for its serial number, at boot.
    pub fn new(mut device: Device) -> Result<Disk, String> {
        let sectors = u64::from(device.config(0)?) | u64::from(device.config(4)?) << 32;
        let queue = device.queue(0)?;
        let features = device.features;
        device.start();
        let slots = slot::all().ok_or("no memory for its buffers")?;
        let mut state = State { device, queue, slots, bell: None, wanted: false, broken: false };
        let serial = state.serial().ok_or("it does not answer")?;
        Ok(Disk {
            serial,
            sectors,
            features,
            claimed: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            state: Lock::new(Rank::Host, state),
        })
    }

    /// Can it not be written to?
    pub fn is_read_only(&self) -> bool {
        self.features & READ_ONLY != 0
    }

    /// Has a partition got it?
    pub fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Is there anything that it has not done yet?
    pub fn is_busy(&self) -> bool {
        self.state.lock().slots.iter().any(|slot| matches!(slot.phase, Phase::Out(_) | Phase::Orphan(_)))
    }

    /// Takes in what it has done, and tells its partition's device.
    pub fn serve(&self) {
        let mut state = self.state.lock();
        let tell = state.serve();
        self.ready.store(state.next().is_some(), Ordering::Release);
        let bell = state.bell.clone().filter(|_| tell);
        drop(state);
        if let Some(bell) = bell {
            bell.ring();
        }
    }
}
