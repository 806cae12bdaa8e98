//! The machine's free memory, where both modes get at it.
#![allow(unsafe_code)] // zeroes new blocks by their real addresses; reaches the partition of a vCPU

use core::sync::atomic::{AtomicU64, Ordering};

use frames::{Store, order_for};
use hpt::AccessKind;
use paging::{Memory, Supply};
use power::slb::SlbV;
use power::{Ea, GuestReal, HostReal, PageSize, PteIndex};

use crate::layout::Vcpu;
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

/// No entry has this index.
const NO_ENTRY: PteIndex = PteIndex(u64::MAX);

/// Makes a page of the real mode area of the vCPU's partition be there for an access, and inserts its entry, if both can be done at once.
#[cold]
#[inline(never)]
pub(crate) fn insert_real_mode(vcpu: &Vcpu, slb: SlbV, ea: Ea, kind: AccessKind) -> bool {
    // SAFETY: a vCPU's partition outlives it.
    let partition = unsafe { &*vcpu.partition };
    let (machine, real) = (RealMode::of(vcpu), GuestReal(slb.offset(ea)));
    let Some(view) = partition.mmu().page_view(real) else { return false };
    let write = matches!(kind, AccessKind::Write);
    let usable = view.is_present() && (view.is_writable() || !write);
    if !usable && !populate(partition, &machine, real, kind, NO_ENTRY) {
        return false;
    }
    let size = partition.vrma.base_page().unwrap_or(PageSize::K64);
    let Some(_alone) = partition.real_mode_area.try_lock() else { return false };
    partition.mmu().insert_vrma(&machine, size, ea).is_ok()
}

/// Gives a page of the vCPU's partition what an access by a locked entry needs, if that can be done at once.
pub(crate) fn populate(
    partition: &Partition,
    machine: &RealMode,
    real: GuestReal,
    kind: AccessKind,
    by: PteIndex,
) -> bool {
    Memory::new(&partition.paging, partition.mmu(), &AtOnce, machine).populate_at_once(real, kind, by)
}
