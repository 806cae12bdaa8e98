//! The block device (section 5.2): requests from its queue to a [`Disk`], which may carry them out at once or later.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use phb::{Bus, Doorbell};

use crate::{Broken, Chain, Device, Kind, Queue};

mod disk;
mod overlay;
mod request;

pub use disk::{Disk, Failure, Operation, Range, SECTOR, Start, Token};
pub use overlay::{BLOCK_BYTES, Block, Overlay};
pub use request::Buffer;
use request::{Request, answer};

/// Requests that a disk may carry out at the same time.
pub const MOST_OUT: usize = 32;

/// The data of the longest request: it is done in one go.
pub const MOST_BYTES: u64 = SEGMENTS as u64 * SEGMENT_BYTES as u64;

/// After so many requests or bytes, others have their turn.
const REQUESTS_AT_ONCE: u32 = 32;
const BYTES_AT_ONCE: u64 = 1 << 20;

/// The queue's size; header and status take two descriptors of a request, data the others.
const QUEUE_SIZE: u16 = 128;
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
const SEGMENT_BYTES: u32 = 0x1_0000;

/// The longest range of sectors to be discarded or zeroed: 64 MiB.
const MOST_ZEROED: u32 = 0x2_0000;

/// Feature bits (section 5.2.3).
mod feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const READ_ONLY: u64 = 1 << 5;
    pub const BLOCK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// A block device.
pub struct Blk {
    disk: Box<dyn Disk>,
    /// Requests that the disk has not finished, by their tokens.
    out: Vec<Option<Request>>,
    /// The tokens of these, as bits, and of those among them that wait until the disk is busy no more.
    taken: u32,
    waiting: u32,
    /// The driver does not flush: what it writes is to last when it hears of it.
    writes_through: bool,
}

const _: () = assert!(MOST_OUT == u32::BITS as usize);

impl Blk {
    /// A device over a disk.
    pub fn new(disk: Box<dyn Disk>) -> Blk {
        Blk { disk, out: alloc::vec![None; MOST_OUT], taken: 0, waiting: 0, writes_through: false }
    }

    /// Goes on with requests of which the disk has finished a piece, or for which it was busy. False if it still is.
    fn go_on(&mut self, queue: &mut Queue, bus: &dyn Bus) -> Result<bool, Broken> {
        while let Some(token) = self.disk.finished() {
            let Some(Some(request)) = self.out.get_mut(usize::from(token)) else { continue };
            match self.disk.finish(token, &request.buffer(bus)) {
                Ok(()) if !request.step(self.disk.most_bytes()) => self.waiting |= 1 << token,
                result => self.answer(token, result, queue, bus)?,
            }
        }
        while self.waiting != 0 {
            let token = self.waiting.trailing_zeros() as Token;
            let Some(Some(request)) = self.out.get_mut(usize::from(token)) else { return Ok(false) };
            match carry_out(&mut *self.disk, token, request, bus) {
                Start::Busy => return Ok(false),
                Start::Later => self.waiting &= !(1 << token),
                Start::Done(result) => self.answer(token, result, queue, bus)?,
            }
        }
        Ok(true)
    }

    /// Gives a request back that the disk had.
    fn answer(
        &mut self,
        token: Token,
        result: Result<(), Failure>,
        queue: &mut Queue,
        bus: &dyn Bus,
    ) -> Result<(), Broken> {
        self.taken &= !(1 << token);
        self.waiting &= !(1 << token);
        match self.out[usize::from(token)].take() {
            Some(request) => answer(result, request.chain, queue, bus),
            None => Ok(()),
        }
    }

    /// Begins a request. The answer is how many bytes it is about, and whether the disk has taken it.
    fn begin(
        &mut self,
        token: Token,
        chain: Chain,
        queue: &mut Queue,
        bus: &dyn Bus,
    ) -> Result<(u64, bool), Broken> {
        let bytes = chain.lengths().0 + chain.lengths().1;
        let operation = match request::parse(&chain, &*self.disk, bus) {
            Ok(Some(operation)) => operation,
            Ok(None) => return answer(Ok(()), chain, queue, bus).map(|()| (bytes, true)),
            Err(failure) => return answer(Err(failure), chain, queue, bus).map(|()| (bytes, true)),
        };
        let mut request = Request::new(chain, operation, self.writes_through);
        let start = carry_out(&mut *self.disk, token, &mut request, bus);
        if let Start::Done(result) = start {
            return answer(result, request.chain, queue, bus).map(|()| (bytes, true));
        }
        self.out[usize::from(token)] = Some(request);
        self.taken |= 1 << token;
        if start == Start::Busy {
            self.waiting |= 1 << token;
        }
        Ok((bytes, start == Start::Later))
    }
}

/// Has the disk carry a request out, piece by piece, until that takes time or all is done.
fn carry_out(disk: &mut dyn Disk, token: Token, request: &mut Request, bus: &dyn Bus) -> Start {
    let most = disk.most_bytes();
    loop {
        match disk.start(token, request.piece(most), &request.buffer(bus)) {
            Start::Done(Ok(())) if !request.step(most) => {}
            other => return other,
        }
    }
}

impl Device for Blk {
    fn kind(&self) -> Kind {
        Kind { id: 2, class: 0x01_0000, name: "disk" }
    }

    fn features(&self) -> u64 {
        use feature::*;
        let all = SIZE_MAX | SEG_MAX | BLOCK_SIZE | FLUSH | TOPOLOGY;
        all | if self.disk.is_read_only() { READ_ONLY } else { DISCARD | WRITE_ZEROES }
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn config_read(&self, offset: usize, to: &mut [u8]) {
        // struct virtio_blk_config
        let mut image = [0; 64];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.disk.sectors().to_le_bytes());
        put(8, &SEGMENT_BYTES.to_le_bytes());
        put(12, &SEGMENTS.to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        // What a disk likes best is its blocks, in powers of two of sectors, and not less than one of them.
        let block = self.disk.block_bytes().max(SECTOR as u32);
        put(24, &[(block / SECTOR as u32).ilog2() as u8]);
        put(26, &((block / SECTOR as u32) as u16).to_le_bytes());
        for most in [36, 48] {
            put(most, &MOST_ZEROED.to_le_bytes());
            put(most + 4, &1u32.to_le_bytes());
        }
        put(44, &(block / SECTOR as u32).to_le_bytes());
        put(56, &[1]);
        for (to, from) in to.iter_mut().zip(image.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn start(&mut self, features: u64) {
        self.writes_through = features & feature::FLUSH == 0;
    }

    fn reset(&mut self) {
        self.disk.forget();
        self.out.fill(None);
        (self.taken, self.waiting) = (0, 0);
    }

    fn serve(&mut self, index: usize, queues: &mut [Queue], bus: &dyn Bus) -> Result<bool, Broken> {
        let Some(queue) = queues.get_mut(index) else { return Ok(false) };
        if !self.go_on(queue, bus)? {
            return Ok(false);
        }
        let mut bytes = 0;
        for _ in 0..REQUESTS_AT_ONCE {
            // If nothing is free, the next request waits until the disk rings.
            if self.taken == u32::MAX {
                return Ok(false);
            }
            let free = self.taken.trailing_ones() as Token;
            let Some(chain) = queue.take(bus)? else { return Ok(false) };
            let (its, taken) = self.begin(free, chain, queue, bus)?;
            if !taken {
                return Ok(false);
            }
            bytes += its;
            if bytes >= BYTES_AT_ONCE {
                break;
            }
        }
        Ok(true)
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        self.disk.attach(doorbell);
    }

    fn pending(&self) -> u32 {
        (self.disk.has_finished() || self.waiting != 0).into()
    }

    fn copy(&self) -> Option<Box<dyn Device>> {
        Some(Box::new(Blk { disk: self.disk.copy()?, out: self.out.clone(), ..*self }))
    }
}
