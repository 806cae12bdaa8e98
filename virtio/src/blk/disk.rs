//! What a disk is to the block device.

use alloc::boxed::Box;
use alloc::sync::Arc;

use phb::Doorbell;

use super::Buffer;
use crate::Broken;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// A request that is under way: less than [`MOST_OUT`](super::MOST_OUT).
pub type Token = u16;

/// Sectors that follow each other, all of them on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// How many.
    pub sectors: u64,
}

/// What a disk is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// To fill the buffer.
    Read(Range),
    /// To keep what is in it. Not on a disk that is read-only.
    Write(Range),
    /// To make all that was written before last.
    Flush,
    /// To forget what is there: nobody needs it.
    Discard(Range),
    /// To make it zero.
    Zero(Range),
}

/// Why a request has not been carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The disk could not.
    Io,
    /// The disk never can.
    Unsupported,
    /// The driver's memory is not there.
    Broken(Broken),
}

impl From<Broken> for Failure {
    fn from(why: Broken) -> Failure {
        Failure::Broken(why)
    }
}

/// What a disk makes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// It has been carried out, or cannot be.
    Done(Result<(), Failure>),
    /// It takes time: the disk will ring, and say by [`Disk::finished`] that it has finished.
    Later,
    /// It can be started later: the disk will ring.
    Busy,
}

/// A disk. Requests are carried out in any order.
pub trait Disk: Send {
    /// How large it is.
    fn sectors(&self) -> u64;

    /// Bytes of the blocks that it likes best, a power of two.
    fn block_bytes(&self) -> u32;

    /// Whether nothing can be written.
    fn is_read_only(&self) -> bool;

    /// What it is called, at most 20 bytes.
    fn id(&self) -> &str;

    /// The most that is read or written by a request, a multiple of sectors; longer ones of a driver are taken to pieces.
    fn most_bytes(&self) -> u64 {
        u64::MAX
    }

    /// Starts a request. What is to be written is read from the buffer now.
    fn start(&mut self, token: Token, operation: Operation, buffer: &Buffer<'_>) -> Start;

    /// Whether [`Disk::finished`] has something to say.
    fn has_finished(&self) -> bool {
        false
    }

    /// A request that took time and has been carried out: each is named once, and [`Disk::finish`] called for it.
    fn finished(&mut self) -> Option<Token> {
        None
    }

    /// How such a request went. What was read is written to the buffer.
    fn finish(&mut self, _token: Token, _buffer: &Buffer<'_>) -> Result<(), Failure> {
        Err(Failure::Io)
    }

    /// The driver has reset the device: the tokens of requests that are under way are free, and not named any more. Whether the requests
    /// are carried out is open.
    fn forget(&mut self) {}

    /// Gives the disk the doorbell.
    fn attach(&mut self, _doorbell: Arc<dyn Doorbell>) {}

    /// A disk with the same contents, for a copy of the partition; what is written to one is not seen by the other. None if that cannot be.
    fn copy(&self) -> Option<Box<dyn Disk>>;
}
