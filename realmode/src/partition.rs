//! What the fast paths know of a partition.

use core::sync::atomic::{AtomicBool, Ordering};

use hpt::{GuestMmu, Hpt, Slots};
use papr::xics::Xics;
use power::slb::SlbV;
use power::{CpuFeatures, Lpid};

/// A partition as real mode sees it. Everything in it is shared by all its vCPUs and is changed through atomics only.
#[repr(C)]
pub struct Partition {
    /// LPIDR.
    pub lpid: Lpid,
    /// The processor under it.
    pub features: CpuFeatures,
    /// The page table.
    pub hpt: Hpt<'static>,
    /// The real addresses.
    pub slots: Slots<'static>,
    /// The segment of its real mode.
    pub vrma: SlbV,
    /// Interrupt controllers and sources.
    pub xics: Xics<'static>,
    /// What the vCPUs know of each other, by server number.
    pub vcpus: &'static [Presence],
}

impl Partition {
    /// The page table and what is behind it, for a call.
    #[inline(always)]
    pub fn mmu(&self) -> GuestMmu<'_> {
        GuestMmu::new(&self.hpt, &self.slots)
    }
}

/// What other vCPUs know of a vCPU.
#[derive(Default)]
pub struct Presence {
    /// H_PROD came and nobody has slept since.
    prodded: AtomicBool,
}

impl Presence {
    /// Leaves a prod; the vCPU's next H_CEDE or H_CONFER returns at once.
    pub fn prod(&self) {
        self.prodded.store(true, Ordering::Release);
    }

    /// Takes the prod, if there is one.
    pub fn take_prod(&self) -> bool {
        self.prodded.load(Ordering::Relaxed) && self.prodded.swap(false, Ordering::Acquire)
    }
}
