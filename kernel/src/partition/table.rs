//! A partition's page table and the tables beside it: where their memory comes from.
#![allow(unsafe_code)] // turns allocated blocks into the tables that live as long as they do

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bundle::tables::{least_shift, usual_shift};
use hpt::{Hpt, LogBlock, Pteg, Reserve, RevBlock, RevWord};
use power::{HostReal, HpteFormat};

use crate::{memory as host, mmu};

/// Memory of the host's that is given back when this is dropped.
pub struct Block {
    at: HostReal,
    bytes: u64,
}

impl Drop for Block {
    fn drop(&mut self) {
        host::release(self.at, self.bytes);
    }
}

/// A zeroed table of `n` entries, for which all zeroes is a valid and empty `T`. It lives as long as the block, which the caller keeps
/// longer than the slice.
pub fn table<T: 'static>(n: u64, what: &str) -> Result<(&'static [T], Block), String> {
    let bytes = (n * size_of::<T>() as u64).next_multiple_of(frames::FRAME);
    let at = host::allocate_for_guest(bytes)
        .ok_or_else(|| format!("no memory for {what}, {} KiB", bytes >> 10))?;
    // SAFETY: a new block of that size, aligned to it; the types that tables are made of here say that zeroes are valid.
    unsafe {
        host::zero(at, bytes);
        Ok((core::slice::from_raw_parts(at.ea() as *const T, n as usize), Block { at, bytes }))
    }
}

// What the launcher computes with.
const _: () = assert!(size_of::<RevWord>() * 16 == size_of::<Pteg>() && size_of::<hpt::Page>() == 16);

/// A page table.
pub struct Table {
    hpt: Hpt<'static>,
    at: HostReal,
    bytes: u64,
    /// What the hypervisor knows of its entries, and the log of its changes.
    more: Vec<Block>,
    _words: Block,
    _groups: Block,
    _reserve: Box<Reserve>,
}

impl Table {
    /// An empty one.
    pub fn new(shift: u32, format: HpteFormat) -> Result<Table, String> {
        let bytes = 1u64 << shift;
        let (groups, groups_block) = table::<Pteg>(bytes / size_of::<Pteg>() as u64, "a page table")?;
        let (words, words_block) = table::<RevWord>(groups.len() as u64, "the reverse map")?;
        let reserve = Box::new(Reserve::new());
        // SAFETY: the box is kept beside the table, and nobody has the table longer.
        let kept = unsafe { super::kept(&*reserve) };
        let hpt = Hpt::new(groups, words, kept, format).ok_or("the page table has an odd size")?;
        let mut table = Table {
            hpt,
            at: groups_block.at,
            bytes,
            more: Vec::new(),
            _words: words_block,
            _groups: groups_block,
            _reserve: reserve,
        };
        table.add_groups()?;
        Ok(table)
    }

    /// One for so much memory, as long as usual, or shorter if the host has no more.
    pub fn for_memory(bytes: u64, format: HpteFormat) -> Result<Table, String> {
        let usual = usual_shift(bytes);
        let mut last = Table::new(usual, format);
        for shift in (least_shift(bytes)..usual).rev() {
            if last.is_ok() {
                break;
            }
            last = Table::new(shift, format);
        }
        last
    }

    /// For whoever keeps it no longer than this.
    pub fn hpt(&self) -> Hpt<'static> {
        self.hpt
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where it is and how long, as SDR1 and the partition table have it.
    pub fn word(&self) -> u64 {
        mmu::table_word(self.at, self.bytes)
    }

    /// How much memory its reverse map and its log take, in bytes.
    pub fn beside(&self) -> u64 {
        self.bytes / 16 + self.more.iter().map(|block| block.bytes).sum::<u64>()
    }

    /// Gives it room for more entries and changes, if it will soon have none.
    pub fn replenish(&mut self) -> Result<(), String> {
        if self.hpt.needs_groups() {
            self.add_groups()?;
        }
        if self.hpt.needs_log() {
            let (log, block) = table::<LogBlock>(1, "the log of a snapshot")?;
            self.keep(block)?;
            self.hpt.add_log(&log[0]);
        }
        Ok(())
    }

    /// Gives back what its guest has made it take: it is as it was when it was new. It has been cleared, and nobody uses it.
    pub fn trim(&mut self) {
        self.hpt.give_back();
        self.more.truncate(1);
        if let Some(Block { at, bytes }) = self.more.first() {
            // SAFETY: the first block is one of the reverse map, and this table's own; nobody has a reference to it any more. All zeroes
            // is one that is new.
            let groups: &'static RevBlock = unsafe {
                host::zero(*at, *bytes);
                &*(at.ea() as *const RevBlock)
            };
            self.hpt.add_groups(groups);
        }
    }

    /// Gives it room for so many groups with entries.
    pub fn provide(&mut self, groups: usize) -> Result<(), String> {
        let have = RevBlock::ITEMS;
        // It has one block already.
        for _ in 0..groups.saturating_sub(have).div_ceil(have) {
            self.add_groups()?;
        }
        Ok(())
    }

    fn add_groups(&mut self) -> Result<(), String> {
        let (groups, block) = table::<RevBlock>(1, "the reverse map")?;
        self.keep(block)?;
        self.hpt.add_groups(&groups[0]);
        Ok(())
    }

    /// Keeps a block as long as the table. The list of them grows with what the guest does: there may be no memory for that either.
    fn keep(&mut self, block: Block) -> Result<(), String> {
        self.more
            .try_reserve(1)
            .map_err(|_| String::from("no memory for the list of a page table's blocks"))?;
        self.more.push(block);
        Ok(())
    }
}
