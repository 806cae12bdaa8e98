//! A disk in memory: an image that nobody writes, and over it blocks that have been written. Copies share these until one writes.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Buffer, Disk, Failure, Operation, Range, SECTOR, Start, Token};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 1 << 16;

/// Memory for a block, [`BLOCK_BYTES`] of it. A clone is the same memory: it is counted who has it.
pub trait Block: Clone + Send + Sync + 'static {
    /// New memory, whatever is in it. None if there is no more.
    fn allocate() -> Option<Self>;

    /// What is in it.
    fn bytes(&self) -> &[u8];

    /// The same, to be written, if nobody else has it.
    fn bytes_mut(&mut self) -> Option<&mut [u8]>;
}

/// What a block of the disk is.
#[derive(Clone)]
enum Slot<B> {
    Image,
    Zero,
    Own(B),
}

/// A part of the disk's slots, shared by copies until one changes.
type Leaf<B> = Arc<Vec<Slot<B>>>;

/// Slots of a leaf: 512 MiB of the disk.
const LEAF: usize = 1 << 13;

/// A disk in memory.
#[derive(Clone)]
pub struct Overlay<B> {
    image: &'static [u8],
    /// Where nothing has been written, there is no leaf.
    leaves: Vec<Option<Leaf<B>>>,
    /// How many blocks have been written, and how many may be.
    own: usize,
    most: usize,
    read_only: bool,
    id: String,
}

static ZEROES: [u8; 4096] = [0; 4096];

impl<B: Block> Overlay<B> {
    /// A disk over an image. It takes memory for `most` blocks; a write that needs more fails.
    pub fn new(image: &'static [u8], most: usize, read_only: bool, id: &str) -> Overlay<B> {
        let leaves = alloc::vec![None; image.len().div_ceil(BLOCK_BYTES * LEAF)];
        Overlay { image, leaves, own: 0, most, read_only, id: id.into() }
    }

    fn slot(&self, index: usize) -> &Slot<B> {
        let leaf = self.leaves.get(index / LEAF).and_then(Option::as_ref);
        leaf.and_then(|leaf| leaf.get(index % LEAF)).unwrap_or(&Slot::Image)
    }

    /// The slot, to be changed. None if there is no memory for its leaf.
    fn slot_mut(&mut self, index: usize) -> Option<&mut Slot<B>> {
        let place = self.leaves.get_mut(index / LEAF)?;
        let sole = place.as_mut().is_some_and(|leaf| Arc::get_mut(leaf).is_some());
        if !sole {
            let blocks = self.image.len().div_ceil(BLOCK_BYTES);
            let slots = LEAF.min(blocks - index / LEAF * LEAF);
            let mut leaf = Vec::new();
            leaf.try_reserve_exact(slots).ok()?;
            match place {
                Some(shared) => leaf.extend(shared.iter().cloned()),
                None => leaf.resize(slots, Slot::Image),
            }
            *place = Some(Arc::new(leaf));
        }
        Arc::get_mut(place.as_mut()?)?.get_mut(index % LEAF)
    }

    /// What the image has of a block; what is beyond its end is zero.
    fn of_image(&self, index: usize) -> &'static [u8] {
        let rest = self.image.get(index * BLOCK_BYTES..).unwrap_or(&[]);
        &rest[..rest.len().min(BLOCK_BYTES)]
    }

    fn read(&self, range: Range, buffer: &Buffer<'_>) -> Result<(), Failure> {
        let mut done = 0;
        for Piece { index, start, end } in pieces(range) {
            let bytes = match self.slot(index) {
                Slot::Image => self.of_image(index),
                Slot::Zero => &[],
                Slot::Own(block) => block.bytes(),
            };
            let present = &bytes[start.min(bytes.len())..end.min(bytes.len())];
            buffer.write(done, present)?;
            let missing = end - start - present.len();
            done += present.len() as u64;
            for at in (0..missing).step_by(ZEROES.len()) {
                let zeroes = &ZEROES[..ZEROES.len().min(missing - at)];
                buffer.write(done, zeroes)?;
                done += zeroes.len() as u64;
            }
        }
        Ok(())
    }

    fn write(&mut self, range: Range, buffer: &Buffer<'_>) -> Result<(), Failure> {
        let mut done = 0;
        for Piece { index, start, end } in pieces(range) {
            let block = self.block_mut(index, end - start < BLOCK_BYTES)?;
            buffer.read(done, &mut block[start..end])?;
            done += (end - start) as u64;
        }
        Ok(())
    }

    /// A block to be written; `keep` what is in it, unless all of it will be.
    fn block_mut(&mut self, index: usize, keep: bool) -> Result<&mut [u8], Failure> {
        let is_own = matches!(self.slot(index), Slot::Own(_));
        if !is_own && self.own >= self.most {
            return Err(Failure::Io);
        }
        let image = self.of_image(index);
        let slot = self.slot_mut(index).ok_or(Failure::Io)?;
        let sole = match slot {
            Slot::Own(block) => block.bytes_mut().is_some(),
            _ => false,
        };
        if !sole {
            let mut block = B::allocate().ok_or(Failure::Io)?;
            let to = block.bytes_mut().ok_or(Failure::Io)?;
            // What it takes from another guest would be seen by this one, if the write went wrong half-way.
            let from = match slot {
                Slot::Own(block) if keep => block.bytes(),
                Slot::Image if keep => image,
                _ => &[],
            };
            to[..from.len()].copy_from_slice(from);
            to[from.len()..].fill(0);
            *slot = Slot::Own(block);
            self.own += usize::from(!is_own);
        }
        match self.slot_mut(index) {
            Some(Slot::Own(block)) => block.bytes_mut().ok_or(Failure::Io),
            _ => Err(Failure::Io),
        }
    }

    /// Makes whole blocks zero by forgetting them; the others only if they have to be.
    fn zero(&mut self, range: Range, whole_only: bool) -> Result<(), Failure> {
        let last = self.image.len().div_ceil(BLOCK_BYTES).saturating_sub(1);
        let end_of_disk = (self.sectors() * SECTOR) as usize;
        for Piece { index, start, end } in pieces(range) {
            let whole = start == 0
                && (end == BLOCK_BYTES || index == last && index * BLOCK_BYTES + end == end_of_disk);
            if whole {
                let slot = self.slot_mut(index).ok_or(Failure::Io)?;
                let old = core::mem::replace(slot, Slot::Zero);
                self.own -= usize::from(matches!(old, Slot::Own(_)));
            } else if !whole_only && !matches!(self.slot(index), Slot::Zero) {
                self.block_mut(index, true)?[start..end].fill(0);
            }
        }
        Ok(())
    }
}

/// A part of a block.
struct Piece {
    index: usize,
    start: usize,
    end: usize,
}

fn pieces(range: Range) -> impl Iterator<Item = Piece> {
    let block = BLOCK_BYTES as u64;
    let (mut at, end) = (range.first * SECTOR, (range.first + range.sectors) * SECTOR);
    core::iter::from_fn(move || {
        let start = at % block;
        let bytes = (block - start).min(end - at);
        let index = (at / block) as usize;
        at += bytes;
        (bytes != 0).then_some(Piece { index, start: start as usize, end: (start + bytes) as usize })
    })
}

impl<B: Block> Disk for Overlay<B> {
    fn sectors(&self) -> u64 {
        (self.image.len() as u64).div_ceil(SECTOR)
    }

    fn block_bytes(&self) -> u32 {
        4096
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn start(&mut self, _: Token, operation: Operation, buffer: &Buffer<'_>) -> Start {
        Start::Done(match operation {
            Operation::Read(range) => self.read(range, buffer),
            Operation::Write(range) => self.write(range, buffer),
            Operation::Flush => Ok(()),
            Operation::Discard(range) => self.zero(range, true),
            Operation::Zero(range) => self.zero(range, false),
        })
    }

    fn copy(&self) -> Option<Box<dyn Disk>> {
        Some(Box::new(self.clone()))
    }
}
