//! What the fast paths know of a partition.
#![allow(unsafe_code)] // the page table can be exchanged

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hpt::{GuestMmu, Hpt, Slots};
use paging::Paging;
use papr::vty::Vty;
use papr::xics::Xics;
use power::regs::Lpcr;
use power::slb::SlbV;
use power::{CpuFeatures, Lpid};
use sched::{CpuSet, Gate, Whereabouts};

use crate::lock::Mutex;
use crate::mmio::Nowhere;

/// The LPID of the partition at the machine's console, or 0.
pub static ATTACHED: AtomicU32 = AtomicU32::new(0);

/// A partition as real mode sees it. Everything in it is shared by all its vCPUs and is changed through atomics only.
#[repr(C)]
pub struct Partition {
    /// LPIDR.
    pub lpid: Lpid,
    /// The processor under it.
    pub features: CpuFeatures,
    /// The page table; see [`Partition::set_hpt`].
    pub hpt: UnsafeCell<Hpt<'static>>,
    /// The real addresses.
    pub slots: Slots<'static>,
    /// The segment of its real mode.
    pub vrma: SlbV,
    /// Interrupt controllers and sources.
    pub xics: Xics<'static>,
    /// What the vCPUs know of each other, by server number.
    pub vcpus: &'static [Presence],
    /// Which host CPUs may hold translations of it.
    pub residency: Residency,
    /// Whether its vCPUs may enter its guest, and how many are not parked.
    pub gate: Gate,
    /// LPCR\[ILE\] and \[AIL\] of its vCPUs.
    pub interrupt_mode: AtomicU64,
    /// Its console.
    pub vty: Mutex<Vty>,
    /// Held while an entry of its real mode area is inserted: two for one page would both stay.
    pub real_mode_area: Mutex<()>,
    /// What backs its pages.
    pub paging: Paging,
    /// What it has looked for where nothing is.
    pub nowhere: Nowhere,
    /// Where emulated devices may be: accesses that meet no memory there are virtual mode's, even if they meet nothing.
    pub devices: Range<u64>,
    /// Sources whose ends virtual mode is to hear of, a bit each from the first one on.
    pub heard: u64,
}

// SAFETY: the page table is only exchanged while nobody looks at it (`set_hpt`); all else is shared by design.
unsafe impl Sync for Partition {}

impl Partition {
    /// The page table.
    #[inline(always)]
    pub fn hpt(&self) -> &Hpt<'static> {
        // SAFETY: it is only exchanged when nobody looks at it: see `set_hpt`.
        unsafe { &*self.hpt.get() }
    }

    /// Exchanges the page table.
    ///
    /// # Safety
    /// No vCPU of the partition is active, and the caller holds the lock of its life, as does everybody else who looks at the table of
    /// a partition that he does not run.
    pub unsafe fn set_hpt(&self, hpt: Hpt<'static>) {
        // SAFETY: the caller's.
        unsafe { *self.hpt.get() = hpt };
    }

    /// The page table and what is behind it, for a call.
    #[inline(always)]
    pub fn mmu(&self) -> GuestMmu<'_> {
        GuestMmu::new(self.hpt(), &self.slots)
    }

    /// Is it at the machine's console?
    pub fn is_attached(&self) -> bool {
        ATTACHED.load(Ordering::Relaxed) == self.lpid.0
    }

    /// How its interrupts are taken.
    pub fn interrupt_mode(&self) -> Lpcr {
        Lpcr::from_bits_retain(self.interrupt_mode.load(Ordering::SeqCst))
    }
}

/// What other vCPUs, and other CPUs, know of a vCPU.
pub struct Presence {
    /// H_PROD came and nobody has slept since.
    prodded: AtomicBool,
    /// Where it is.
    pub whereabouts: Whereabouts,
    /// Its number among all virtual processors of the host.
    pub slot: usize,
    /// The CPUs that it may run on.
    pub allowed: CpuSet,
}

impl Presence {
    /// Of a vCPU that is parked.
    pub fn new(slot: usize, allowed: CpuSet) -> Presence {
        Presence { prodded: AtomicBool::new(false), whereabouts: Whereabouts::parked(), slot, allowed }
    }

    /// Leaves a prod; the vCPU's next H_CEDE or H_CONFER returns at once. Whoever leaves one wakes it.
    pub fn prod(&self) {
        self.prodded.store(true, Ordering::SeqCst);
    }

    /// Has it been prodded?
    pub fn is_prodded(&self) -> bool {
        self.prodded.load(Ordering::SeqCst)
    }

    /// Takes the prod, if there is one.
    pub fn take_prod(&self) -> bool {
        self.prodded.load(Ordering::Relaxed) && self.prodded.swap(false, Ordering::SeqCst)
    }
}

/// Which host CPUs may hold translations of a partition in their TLBs: as long as it is one, invalidations are local to it.
///
/// A CPU enters itself before it enters the guest; who invalidates takes the entry from the page table before it looks here. Either
/// the CPU is seen, and the invalidation goes to all, or the CPU's first look at the page table comes after the change.
#[derive(Default)]
pub struct Residency(AtomicU32);

/// More than one.
const SEVERAL: u32 = u32::MAX;

impl Residency {
    /// A CPU is about to run a vCPU of the partition. `alone` says that the partition has no other vCPU. True if the TLBs of all
    /// CPUs must be rid of the partition first: its only vCPU has moved.
    pub fn arrive(&self, cpu: usize, alone: bool) -> bool {
        let own = Self::name_of(cpu);
        let seen = self.0.load(Ordering::SeqCst);
        if seen == own || seen == SEVERAL {
            return false;
        }
        if alone {
            self.0.store(own, Ordering::SeqCst);
            return seen != 0;
        }
        if seen != 0 || self.0.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.0.store(SEVERAL, Ordering::SeqCst);
        }
        false
    }

    /// No CPU holds any.
    pub fn forget(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// How a CPU is known here, and to [`Residency::is_only`].
    pub fn name_of(cpu: usize) -> u32 {
        cpu as u32 + 1
    }

    /// May only the CPU of this name hold some?
    #[inline(always)]
    pub fn is_only(&self, name: u32) -> bool {
        self.0.load(Ordering::Relaxed) == name
    }
}
