//! A disk of the host's in the hands of a partition.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use phb::Doorbell;
use virtio::blk::{self, Buffer, Failure, Operation, SECTOR, Start, Token};

use super::slot::{self, Slot};
use super::{DISCARD, Disk, FLUSH, State, WRITE_ZEROES};
use crate::log;

/// Bytes of a range to be forgotten or zeroed: its first sector, how many, flags (struct virtio_blk_discard_write_zeroes).
const RANGE: u64 = 16;

/// A disk that a partition has. Dropped, it is free again.
pub struct Claim {
    disk: &'static Disk,
    read_only: bool,
}

impl Claim {
    /// Takes a disk, unless a partition has it.
    pub fn new(disk: &'static Disk, read_only: bool) -> Option<Claim> {
        let taken = disk.claimed.swap(true, Ordering::SeqCst);
        (!taken).then_some(Claim { disk, read_only: read_only || disk.is_read_only() })
    }

    /// Does something to the disk's state, and notes whether there is something to be done for a request then.
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.disk.state.lock();
        let result = work(&mut state);
        self.disk.ready.store(state.next().is_some(), Ordering::Release);
        result
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.with(|state| {
            state.slots.iter_mut().for_each(Slot::forget);
            state.bell = None;
        });
        self.disk.claimed.store(false, Ordering::SeqCst);
    }
}

impl blk::Disk for Claim {
    fn sectors(&self) -> u64 {
        self.disk.sectors
    }

    fn block_bytes(&self) -> u32 {
        SECTOR as u32
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn id(&self) -> &str {
        &self.disk.serial
    }

    fn most_bytes(&self) -> u64 {
        slot::MOST as u64
    }

    fn start(&mut self, token: Token, operation: Operation, buffer: &Buffer<'_>) -> Start {
        let can = |feature: u64| self.disk.features & feature != 0;
        let (kind, sector, bytes) = match operation {
            Operation::Read(range) => (slot::IN, range.first, range.sectors * SECTOR),
            Operation::Write(range) => (slot::OUT, range.first, range.sectors * SECTOR),
            Operation::Flush if can(FLUSH) => (slot::FLUSH, 0, 0),
            // Without a cache, what has been written stays.
            Operation::Flush => return Start::Done(Ok(())),
            Operation::Discard(_) if can(DISCARD) => (slot::DISCARD, 0, RANGE),
            Operation::Zero(_) if can(WRITE_ZEROES) => (slot::WRITE_ZEROES, 0, RANGE),
            Operation::Discard(_) | Operation::Zero(_) => return Start::Done(Err(Failure::Unsupported)),
        };
        if bytes > slot::MOST as u64 {
            return Start::Done(Err(Failure::Io));
        }
        let Some(mut piece) = self.with(|state| state.begin(token, bytes as usize)) else {
            return Start::Busy;
        };
        // The driver's memory is read with no lock held.
        let filled = match operation {
            Operation::Write(_) => buffer.read(0, piece.bytes()),
            // No flags: a range that is zeroed keeps its room.
            Operation::Discard(range) | Operation::Zero(range) => {
                let all = u128::from(range.first) | u128::from(range.sectors) << 64;
                piece.bytes().copy_from_slice(&all.to_le_bytes());
                Ok(())
            }
            Operation::Read(_) | Operation::Flush => Ok(()),
        };
        if let Err(failure) = filled {
            self.with(|state| state.put_back(piece));
            return Start::Done(Err(failure));
        }
        let taken = self.with(|state| state.submit(piece, kind, sector));
        if taken { Start::Later } else { Start::Done(Err(Failure::Io)) }
    }

    fn has_finished(&self) -> bool {
        self.disk.ready.load(Ordering::Acquire)
    }

    fn finished(&mut self) -> Option<Token> {
        self.with(|state| state.next())
    }

    fn finish(&mut self, token: Token, buffer: &Buffer<'_>) -> Result<(), Failure> {
        let Some((mut piece, good)) = self.with(|state| state.collect(token)) else {
            return Err(Failure::Io);
        };
        let written = if good && piece.is_read { buffer.write(0, piece.bytes()) } else { Ok(()) };
        self.with(|state| state.put_back(piece));
        if good { written } else { Err(Failure::Io) }
    }

    fn forget(&mut self) {
        self.with(|state| state.slots.iter_mut().for_each(Slot::forget));
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        self.with(|state| state.bell = Some(doorbell));
    }

    fn copy(&self) -> Option<Box<dyn blk::Disk>> {
        log!(
            "disk {:?} of the host: there is one of it, so its partition cannot be copied",
            self.disk.serial
        );
        None
    }
}
