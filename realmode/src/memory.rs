//! The machine's free memory, where both modes get at it.
#![allow(unsafe_code)] // zeroes new blocks by their real addresses

use core::sync::atomic::{AtomicU64, Ordering};

use frames::{Store, order_for};
use hpt::AccessKind;
use paging::{Memory, Supply};
use power::{GuestReal, HostReal};

use crate::lock::Mutex;
use crate::machine::{RealMode, zero_blocks};
use crate::partition::Partition;

/// All of it.
pub static STORE: Mutex<Store<'static>> = Mutex::new(Store::new());

/// The real address of the frame of zeroes.
pub static ZERO_PAGE: AtomicU64 = AtomicU64::new(0);

/// The frame of zeroes that all pages share which have only been read.
pub fn zero_page() -> HostReal {
    HostReal(ZERO_PAGE.load(Ordering::Relaxed))
}

/// Memory as real mode has it: what is not to be had at once, it does without.
struct AtOnce;

impl Supply for AtOnce {
    #[inline]
    fn allocate(&self, bytes: u64) -> Option<HostReal> {
        STORE.try_lock()?.allocate_for_guest(order_for(bytes)).map(HostReal)
    }

    #[inline]
    fn zero(&self, at: HostReal, len: u64) {
        // SAFETY: a block from `allocate` that nobody uses yet, in whole frames.
        unsafe { zero_blocks(at, len) }
    }

    #[inline]
    fn zero_page(&self) -> HostReal {
        zero_page()
    }
}

/// Gives a page of the vCPU's partition that has no memory what an access needs, if that can be done at once.
pub(crate) fn populate(partition: &Partition, machine: &RealMode, real: GuestReal, kind: AccessKind) -> bool {
    Memory::new(&partition.paging, partition.mmu(), &AtOnce, machine).populate_at_once(real, kind)
}
