//! A chain of descriptors (section 2.7.5): how it is read from the guest's tables, and the memory that it describes.

use phb::Bus;
use smallvec::SmallVec;

use crate::Broken;

/// A part of a buffer: bus addresses that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its first bus address.
    pub at: u64,
    /// How many bytes it has: not 0.
    pub bytes: u32,
}

/// A chain of descriptors that the device has taken from a queue: first what it may read, then what it may write. Any number of chains
/// may be out at a time, and they come back in any order.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) head: u16,
    segments: SmallVec<[Segment; 6]>,
    /// So many of the segments are readable.
    readable: usize,
    lengths: (u64, u64),
}

/// A descriptor as it lies in memory.
const DESCRIPTOR: u32 = 16;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// What a chain may hold in total (section 2.7.4).
const LONGEST: u64 = 1 << 32;

/// Where descriptors are.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub at: u64,
    pub entries: u32,
}

struct Descriptor {
    at: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

/// Descriptors of a table that have been read: a driver's chains mostly lie together.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    first: u16,
    count: u16,
    raw: [u8; 4 * DESCRIPTOR as usize],
}

impl Default for Read {
    fn default() -> Read {
        Read { first: 0, count: 0, raw: [0; 4 * DESCRIPTOR as usize] }
    }
}

impl Read {
    /// They may be others by now.
    pub(crate) fn forget(&mut self) {
        self.count = 0;
    }
}

impl Table {
    fn descriptor(&self, index: u16, read: &mut Read, bus: &dyn Bus) -> Result<Descriptor, Broken> {
        if u32::from(index) >= self.entries {
            return Err(Broken("a descriptor's index is beyond the table"));
        }
        if index.wrapping_sub(read.first) >= read.count {
            read.first = index;
            read.count = (self.entries - u32::from(index)).min(4) as u16;
            let bytes = &mut read.raw[..usize::from(read.count) * DESCRIPTOR as usize];
            bus.read(self.at + u64::from(index) * u64::from(DESCRIPTOR), bytes)?;
        }
        let at = usize::from(index - read.first) * DESCRIPTOR as usize;
        let raw = read.raw[at..].first_chunk().map_or(0, |raw| u128::from_le_bytes(*raw));
        Ok(Descriptor {
            at: raw as u64,
            bytes: (raw >> 64) as u32,
            flags: (raw >> 96) as u16,
            next: (raw >> 112) as u16,
        })
    }
}

impl Chain {
    /// Reads a chain of at most so many descriptors. What the guest changes afterwards does not count. What has been `read` of the table before is
    /// not read again.
    pub(crate) fn walk(
        mut table: Table,
        head: u16,
        longest: u16,
        indirect: bool,
        read: &mut Read,
        bus: &dyn Bus,
    ) -> Result<Chain, Broken> {
        let mut chain = Chain { head, segments: SmallVec::new(), readable: 0, lengths: (0, 0) };
        let mut index = head;
        let mut may_be_indirect = indirect;
        let mut left = longest;
        let mut inner = None;
        loop {
            let read = inner.as_mut().unwrap_or(&mut *read);
            let descriptor = table.descriptor(index, read, bus)?;
            if descriptor.flags & INDIRECT != 0 {
                if !may_be_indirect {
                    return Err(Broken("a descriptor is indirect that may not be"));
                }
                may_be_indirect = false;
                table = descriptor.table()?;
                index = 0;
                inner = Some(Read::default());
                continue;
            }
            if left == 0 {
                return Err(Broken("a chain of descriptors has no end"));
            }
            left -= 1;
            chain.push(&descriptor)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(chain);
            }
            index = descriptor.next;
        }
    }

    fn push(&mut self, descriptor: &Descriptor) -> Result<(), Broken> {
        let Descriptor { at, bytes, flags, .. } = *descriptor;
        let writable = flags & WRITE != 0;
        if !writable && self.lengths.1 != 0 {
            return Err(Broken("a readable descriptor follows a writable one"));
        }
        if at.checked_add(u64::from(bytes)).is_none() {
            return Err(Broken("a buffer wraps around the address space"));
        }
        let length = if writable { &mut self.lengths.1 } else { &mut self.lengths.0 };
        *length += u64::from(bytes);
        if self.lengths.0 + self.lengths.1 > LONGEST {
            return Err(Broken("a chain of descriptors holds more than 4 GiB"));
        }
        // A buffer of no bytes is useless, but not forbidden.
        if bytes != 0 {
            self.segments.push(Segment { at, bytes });
            self.readable += usize::from(!writable);
        }
        Ok(())
    }

    /// How many bytes the device may read, and how many it may write.
    pub fn lengths(&self) -> (u64, u64) {
        self.lengths
    }

    /// How many descriptors it holds in memory.
    pub(crate) fn weight(&self) -> usize {
        self.segments.len() + 1
    }

    /// The memory of the readable part from `offset` on, at most so many bytes of it.
    pub fn readable(&self, offset: u64, bytes: u64) -> impl Iterator<Item = Segment> + '_ {
        part(&self.segments[..self.readable], offset, bytes)
    }

    /// The memory of the writable part, likewise.
    pub fn writable(&self, offset: u64, bytes: u64) -> impl Iterator<Item = Segment> + '_ {
        part(&self.segments[self.readable..], offset, bytes)
    }

    /// Reads from its readable part, from `offset` on; fewer bytes if it ends.
    pub fn read(&self, offset: u64, to: &mut [u8], bus: &dyn Bus) -> Result<usize, Broken> {
        let mut done = 0;
        for segment in self.readable(offset, to.len() as u64) {
            let end = done + segment.bytes as usize;
            bus.read(segment.at, &mut to[done..end])?;
            done = end;
        }
        Ok(done)
    }

    /// Writes to its writable part, likewise.
    pub fn write(&self, offset: u64, from: &[u8], bus: &dyn Bus) -> Result<usize, Broken> {
        let mut done = 0;
        for segment in self.writable(offset, from.len() as u64) {
            let end = done + segment.bytes as usize;
            bus.write(segment.at, &from[done..end])?;
            done = end;
        }
        Ok(done)
    }
}

impl Descriptor {
    /// The table that an indirect descriptor stands for (section 2.7.5.3).
    fn table(&self) -> Result<Table, Broken> {
        if self.flags & NEXT != 0 {
            return Err(Broken("a descriptor is indirect and has a next one"));
        }
        if self.bytes == 0 || !self.bytes.is_multiple_of(DESCRIPTOR) {
            return Err(Broken("an indirect table is no number of descriptors"));
        }
        if self.at.checked_add(u64::from(self.bytes)).is_none() {
            return Err(Broken("an indirect table wraps around the address space"));
        }
        Ok(Table { at: self.at, entries: self.bytes / DESCRIPTOR })
    }
}

fn part(segments: &[Segment], mut offset: u64, mut bytes: u64) -> impl Iterator<Item = Segment> + '_ {
    segments.iter().filter_map(move |segment| {
        let skipped = offset.min(u64::from(segment.bytes));
        offset -= skipped;
        let taken = (u64::from(segment.bytes) - skipped).min(bytes);
        bytes -= taken;
        (taken != 0).then_some(Segment { at: segment.at + skipped, bytes: taken as u32 })
    })
}
