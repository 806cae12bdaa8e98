//! DMA windows (LoPAR, "TCE" and "Dynamic DMA Windows"): which memory a function reaches at which bus addresses. A window is a table of
//! translation control entries, one for each of its pages. Memory for a table comes with its first entries, in blocks of 64 KiB that copies
//! of a partition share until one of them changes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::DmaError;

/// Bits of an entry as the guest has it: the function may read, and write.
pub const READ: u64 = 1;
/// See [`READ`].
pub const WRITE: u64 = 2;

/// Entries are kept in 32 bits: the number of a 4 KiB page in the partition's first TiB, and above it nothing; the two lowest bits are
/// [`READ`] and [`WRITE`].
const PAGES: u32 = 28;

/// Entries of a block: 64 KiB.
const BLOCK: usize = (64 << 10) / 4;
type Block = Vec<u32>;

/// Why entries cannot be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no such window, or it does not reach so far, or the memory is beyond what a partition can have.
    Parameter,
    /// There is no memory for the table.
    NoMemory,
}

/// A window.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its number (LIOBN).
    pub number: u32,
    /// Its first bus address.
    pub base: u64,
    /// log2 of its pages' size.
    pub page_shift: u32,
    /// How many pages it has.
    pub pages: u64,
    blocks: Vec<Option<Arc<Block>>>,
}

impl Window {
    /// A window without entries.
    pub fn new(number: u32, base: u64, page_shift: u32, pages: u64) -> Result<Window, Error> {
        let mut blocks = Vec::new();
        let len = pages.div_ceil(BLOCK as u64) as usize;
        blocks.try_reserve_exact(len).map_err(|_| Error::NoMemory)?;
        blocks.resize(len, None);
        Ok(Window { number, base, page_shift, pages, blocks })
    }

    /// Which entry is that of a bus address.
    fn index(&self, at: u64) -> Option<usize> {
        let page = at.checked_sub(self.base)? >> self.page_shift;
        (page < self.pages).then_some(page as usize)
    }

    /// The entry of a bus address, as the guest has set it.
    pub fn get(&self, at: u64) -> Result<u64, Error> {
        let entry = self.entry(self.index(at).ok_or(Error::Parameter)?);
        Ok(u64::from(entry >> 2) << 12 | u64::from(entry & 3))
    }

    fn entry(&self, index: usize) -> u32 {
        self.blocks.get(index / BLOCK).and_then(Option::as_ref).map_or(0, |block| block[index % BLOCK])
    }

    /// Sets entries from a bus address on. All are checked before the first one is set.
    pub fn set(&mut self, at: u64, entries: impl Iterator<Item = u64> + Clone) -> Result<(), Error> {
        let first = self.index(at).ok_or(Error::Parameter)?;
        let mask = !((1 << self.page_shift) - 1);
        let mut count = 0;
        for entry in entries.clone() {
            count += 1;
            if entry >> (PAGES + 12) != 0 || count > self.pages - first as u64 {
                return Err(Error::Parameter);
            }
        }
        for (index, entry) in (first..).zip(entries) {
            // Without a right it leads nowhere.
            let kept = if entry & 3 == 0 { 0 } else { (entry & mask) >> 10 | entry & 3 };
            self.put(index, kept as u32)?;
        }
        Ok(())
    }

    fn put(&mut self, index: usize, entry: u32) -> Result<(), Error> {
        let place = self.blocks.get_mut(index / BLOCK).ok_or(Error::Parameter)?;
        let block = match place {
            None if entry == 0 => return Ok(()),
            None => place.insert(new_block(&[])?),
            Some(block) => {
                if Arc::get_mut(block).is_none() {
                    *block = new_block(block)?;
                }
                block
            }
        };
        if let Some(block) = Arc::get_mut(block) {
            block[index % BLOCK] = entry;
        }
        Ok(())
    }

    /// Where memory is that a function reaches at a bus address, and how many bytes of it lie together.
    pub fn translate(&self, at: u64, write: bool) -> Result<(u64, u64), DmaError> {
        let entry = self.entry(self.index(at).ok_or(DmaError)?);
        let right = if write { WRITE } else { READ };
        if u64::from(entry) & right == 0 {
            return Err(DmaError);
        }
        let offset = at & ((1 << self.page_shift) - 1);
        Ok(((u64::from(entry >> 2) << 12) + offset, (1 << self.page_shift) - offset))
    }
}

/// A block with these entries first, and then none, if there is memory for it.
fn new_block(entries: &[u32]) -> Result<Arc<Block>, Error> {
    let mut block = Vec::new();
    block.try_reserve_exact(BLOCK).map_err(|_| Error::NoMemory)?;
    block.extend_from_slice(entries);
    block.resize(BLOCK, 0);
    Ok(Arc::new(block))
}
