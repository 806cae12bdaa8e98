//! What the page table needs of the machine: its memory and its TLBs.

use power::{HostReal, HpteR, HpteV, PteIndex};

/// Memory and TLBs, as one mode of the hypervisor reaches them.
pub trait Machine {
    /// The most bytes that one call may zero or copy; asked for more, an operation is `TooHard`.
    const BULK_LIMIT: u64 = u64::MAX;

    /// Starts to invalidate the translation of an entry in all TLBs of the partition: what precedes `tlbie`, and `tlbie` with [`crate::tlbie_rb`].
    /// The dwords are the entry's while it was valid, in the 2.07 layout.
    fn tlb_invalidate(&self, index: PteIndex, v: HpteV, r: HpteR);

    /// Waits until the invalidations started here have completed everywhere, and stores through old translations as well
    /// (`eieio; tlbsync; ptesync`).
    fn tlb_sync(&self);

    /// Both for one invalidation: it has completed everywhere.
    #[inline(always)]
    fn tlb_invalidate_one(&self, index: PteIndex, v: HpteV, r: HpteR) {
        self.tlb_invalidate(index, v, r);
        self.tlb_sync();
    }

    /// Orders a new entry before later accesses of this thread (`ptesync`). Without it the guest might
    /// fault once more.
    #[inline]
    fn pte_sync(&self) {}

    /// Fills memory with zeroes. Address and length are multiples of 4096.
    fn zero(&self, at: HostReal, len: u64);

    /// Copies memory; ranges are equal or disjoint. Addresses and length are multiples of 4096.
    fn copy(&self, from: HostReal, to: HostReal, len: u64);

    /// Makes the instruction caches agree with memory.
    fn icache_sync(&self, at: HostReal, len: u64);
}

/// The machine for changes to a partition that no processor is in, whose TLBs are flushed before the next one enters: it invalidates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Quiesced<'a, M>(pub &'a M);

impl<M: Machine> Machine for Quiesced<'_, M> {
    const BULK_LIMIT: u64 = M::BULK_LIMIT;

    fn tlb_invalidate(&self, _: PteIndex, _: HpteV, _: HpteR) {}

    fn tlb_sync(&self) {}

    fn zero(&self, at: HostReal, len: u64) {
        self.0.zero(at, len);
    }

    fn copy(&self, from: HostReal, to: HostReal, len: u64) {
        self.0.copy(from, to, len);
    }

    fn icache_sync(&self, at: HostReal, len: u64) {
        self.0.icache_sync(at, len);
    }
}
