//! What paging needs of the machine's memory.

use power::HostReal;

use crate::shares::Shares;

/// Where new memory comes from. Addresses and lengths are multiples of 64 KiB; a unit of a partition is one block.
pub trait Supply {
    /// Memory for a guest, aligned to its size; `None` when there is none, or none but the host's own reserve; or, for real mode, when it is
    /// not to be had at once.
    fn allocate(&self, bytes: u64) -> Option<HostReal>;

    /// Fills memory with zeroes.
    fn zero(&self, at: HostReal, len: u64);

    /// 64 KiB of zeroes that nobody ever stores to, for all pages that were only read. It is never released and its references are not counted.
    fn zero_page(&self) -> HostReal;
}

/// The machine's memory, as virtual mode has it.
pub trait Host: Supply {
    /// Gives back what [`Supply::allocate`] answered. Nobody can reach it any more.
    fn release(&self, at: HostReal, bytes: u64);

    /// Copies memory that does not overlap.
    fn copy(&self, from: HostReal, to: HostReal, len: u64);

    /// Have both the same contents? Neither is stored to meanwhile.
    fn same(&self, a: HostReal, b: HostReal, len: u64) -> bool;

    /// Is it all zero? A guest may be storing to it: then the answer is a guess.
    fn is_zero(&self, at: HostReal, len: u64) -> bool;

    /// A number that equal contents have in common and different ones hardly ever. A guest may be storing to it: then it is just a number.
    fn hash(&self, at: HostReal, len: u64) -> u64;

    /// The reference counts of shared memory.
    fn shares(&self) -> Shares<'_>;
}
