//! A driver's request (section 5.2.6): a header, data, and a byte for the answer.

use phb::Bus;

use super::{Disk, Failure, MOST_BYTES, MOST_ZEROED, Operation, Range, SECTOR};
use crate::{Broken, Chain, Queue};

/// What a request's last byte says.
mod status {
    pub const OK: u8 = 0;
    pub const IO_ERROR: u8 = 1;
    pub const UNSUPPORTED: u8 = 2;
}

/// Kinds of requests.
mod kind {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// The header: kind, a reserved word, sector.
const HEADER: u64 = 16;
const ID_BYTES: usize = 20;

/// A flag of a range to be zeroed: it may be forgotten.
const UNMAP: u32 = 1;

/// A request that the disk carries out, piece by piece.
#[derive(Clone)]
pub struct Request {
    pub chain: Chain,
    /// What is left of it, and where in the data that begins.
    rest: Operation,
    from: u64,
    /// After what it writes comes a flush.
    writes_through: bool,
}

impl Request {
    pub fn new(chain: Chain, operation: Operation, writes_through: bool) -> Request {
        Request { chain, rest: operation, from: 0, writes_through }
    }

    /// Its next piece, of at most so many bytes.
    pub fn piece(&self, most: u64) -> Operation {
        let cut = |range: Range| Range { sectors: range.sectors.min((most / SECTOR).max(1)), ..range };
        match self.rest {
            Operation::Read(range) => Operation::Read(cut(range)),
            Operation::Write(range) => Operation::Write(cut(range)),
            whole => whole,
        }
    }

    /// That piece has been carried out. True if it was the last.
    pub fn step(&mut self, most: u64) -> bool {
        let piece = self.piece(most);
        let (Operation::Read(rest) | Operation::Write(rest)) = &mut self.rest else { return true };
        let (Operation::Read(done) | Operation::Write(done)) = piece else { return true };
        rest.first += done.sectors;
        rest.sectors -= done.sectors;
        self.from += done.sectors * SECTOR;
        if rest.sectors != 0 {
            return false;
        }
        let flushes = self.writes_through && matches!(piece, Operation::Write(_));
        if flushes {
            self.rest = Operation::Flush;
        }
        !flushes
    }

    /// The data of that piece and of what follows.
    pub fn buffer<'a>(&'a self, bus: &'a dyn Bus) -> Buffer<'a> {
        Buffer { chain: &self.chain, bus, from: self.from }
    }
}

/// What a request asks of the disk; nothing if it has been answered.
pub fn parse(chain: &Chain, disk: &dyn Disk, bus: &dyn Bus) -> Result<Option<Operation>, Failure> {
    let buffer = Buffer { chain, bus, from: 0 };
    let mut header = [0; HEADER as usize];
    if chain.read(0, &mut header, bus)? < header.len() || chain.lengths().1 == 0 {
        return Err(Broken("a request has no header or no status").into());
    }
    let header = u128::from_le_bytes(header);
    let (kind, first) = (header as u32, (header >> 64) as u64);
    if matches!(kind, kind::OUT | kind::DISCARD | kind::WRITE_ZEROES) && disk.is_read_only() {
        return Err(Failure::Io);
    }
    let range = |bytes: u64| {
        let whole = bytes.is_multiple_of(SECTOR) && bytes <= MOST_BYTES;
        if whole { range(first, bytes / SECTOR, disk) } else { Err(Failure::Io) }
    };
    match kind {
        kind::IN => range(buffer.input()).map(|range| Some(Operation::Read(range))),
        kind::OUT => range(buffer.output()).map(|range| Some(Operation::Write(range))),
        kind::FLUSH => Ok(Some(Operation::Flush)),
        kind::GET_ID => {
            let mut id = [0; ID_BYTES];
            id.iter_mut().zip(disk.id().bytes()).for_each(|(to, from)| *to = from);
            let bytes = buffer.input().min(ID_BYTES as u64) as usize;
            buffer.write(0, &id[..bytes])?;
            Ok(None)
        }
        kind::DISCARD => Ok(Some(Operation::Discard(zeroed(&buffer, 0, disk)?))),
        kind::WRITE_ZEROES => Ok(Some(Operation::Zero(zeroed(&buffer, UNMAP, disk)?))),
        _ => Err(Failure::Unsupported),
    }
}

/// Sectors that are on the disk.
fn range(first: u64, sectors: u64, disk: &dyn Disk) -> Result<Range, Failure> {
    let end = first.checked_add(sectors).filter(|end| *end <= disk.sectors());
    end.map(|_| Range { first, sectors }).ok_or(Failure::Io)
}

/// The one range that a request to discard or zero has (struct virtio_blk_discard_write_zeroes), with the flags that we know.
fn zeroed(buffer: &Buffer<'_>, known: u32, disk: &dyn Disk) -> Result<Range, Failure> {
    let mut raw = [0; 16];
    if buffer.output() != raw.len() as u64 {
        return Err(Failure::Unsupported);
    }
    buffer.read(0, &mut raw)?;
    let raw = u128::from_le_bytes(raw);
    let (first, sectors, flags) = (raw as u64, (raw >> 64) as u32, (raw >> 96) as u32);
    if flags & !known != 0 {
        return Err(Failure::Unsupported);
    }
    if sectors > MOST_ZEROED {
        return Err(Failure::Io);
    }
    range(first, sectors.into(), disk)
}

/// Gives a request back with its status.
pub fn answer(
    result: Result<(), Failure>,
    chain: Chain,
    queue: &mut Queue,
    bus: &dyn Bus,
) -> Result<(), Broken> {
    let status = match result {
        Ok(()) => status::OK,
        Err(Failure::Io) => status::IO_ERROR,
        Err(Failure::Unsupported) => status::UNSUPPORTED,
        Err(Failure::Broken(why)) => return Err(why),
    };
    let all = chain.lengths().1;
    chain.write(all - 1, &[status], bus)?;
    // Data before the status may not have been written.
    let written = if status == status::OK || all == 1 { all } else { 0 };
    queue.complete(chain, written as u32, bus)
}

/// The data of a request, in the guest's memory.
pub struct Buffer<'a> {
    chain: &'a Chain,
    bus: &'a dyn Bus,
    from: u64,
}

impl Buffer<'_> {
    /// Bytes that go to the disk.
    fn output(&self) -> u64 {
        self.chain.lengths().0.saturating_sub(HEADER)
    }

    /// Bytes that come from the disk.
    fn input(&self) -> u64 {
        self.chain.lengths().1.saturating_sub(1)
    }

    /// Reads what goes to the disk, from `offset` on.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), Failure> {
        let read = self.chain.read(HEADER + self.from + offset, to, self.bus)?;
        if read == to.len() { Ok(()) } else { Err(Failure::Io) }
    }

    /// Writes what comes from the disk.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Failure> {
        let at = self.from + offset;
        if at + from.len() as u64 > self.input() {
            return Err(Failure::Io);
        }
        self.chain.write(at, from, self.bus)?;
        Ok(())
    }
}
