//! Segment lookaside buffer entries as `slbmte`, `slbmfev` and ASDR have them (Power ISA 3.0C, book III, 5.7.8).

use crate::addr::Ea;
use crate::hpte::PageSize;

/// ESID dword: the entry is valid.
pub const ESID_V: u64 = 1 << 27;
/// ESID dword: the bits of the index.
pub const ESID_INDEX: u64 = 0xfff;
/// VSID dword: the segment is of 1 TiB (B=1).
pub const VSID_B_1T: u64 = 1 << 62;
/// VSID dword: both bits of B.
pub const VSID_B: u64 = 3 << 62;
/// VSID dword: supervisor state key.
pub const VSID_KS: u64 = 0x800;
/// VSID dword: problem state key.
pub const VSID_KP: u64 = 0x400;
/// VSID dword: no-execute segment.
pub const VSID_N: u64 = 0x200;
/// VSID dword: large pages; with LP it gives the base page size.
pub const VSID_L: u64 = 0x100;
/// VSID dword: class.
pub const VSID_C: u64 = 0x80;
/// VSID dword: LP.
pub const VSID_LP: u64 = 0x30;
/// Where the VSID starts in the VSID dword of a 256 MiB segment.
pub const VSID_SHIFT: u32 = 12;
/// Where the VSID starts in the VSID dword of a 1 TiB segment.
pub const VSID_SHIFT_1T: u32 = 24;
/// The VSID of the virtualized real mode area (Power ISA 3.0C, book III, 5.7.3.3): a 1 TiB segment.
pub const VRMA_VSID: u64 = 0x1ff_ffff;

/// A segment size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SegmentSize {
    /// 256 MiB.
    M256,
    /// 1 TiB.
    T1,
}

impl SegmentSize {
    /// log2 of the size in bytes.
    pub const fn shift(self) -> u32 {
        match self {
            SegmentSize::M256 => 28,
            SegmentSize::T1 => 40,
        }
    }

    /// The B field: 0 or 1.
    pub const fn b(self) -> u64 {
        match self {
            SegmentSize::M256 => 0,
            SegmentSize::T1 => 1,
        }
    }
}

/// The VSID dword of an SLB entry: the segment's VSID, size, base page size and keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub struct SlbV(pub u64);

impl SlbV {
    /// The segment's size; reserved values of B read as 256 MiB.
    pub const fn segment(self) -> SegmentSize {
        if self.0 & VSID_B == VSID_B_1T { SegmentSize::T1 } else { SegmentSize::M256 }
    }

    /// The VSID, right-aligned.
    pub const fn vsid(self) -> u64 {
        match self.segment() {
            SegmentSize::M256 => (self.0 & !VSID_B) >> VSID_SHIFT,
            SegmentSize::T1 => (self.0 & !VSID_B) >> VSID_SHIFT_1T,
        }
    }

    /// The base page size that L and LP select, of the three that are supported.
    pub const fn base_page(self) -> Option<PageSize> {
        match self.0 & (VSID_L | VSID_LP) {
            0 => Some(PageSize::K4),
            0x110 => Some(PageSize::K64),
            0x100 => Some(PageSize::M16),
            _ => None,
        }
    }

    /// L and LP for a base page size.
    pub const fn llp(size: PageSize) -> u64 {
        match size {
            PageSize::K4 => 0,
            PageSize::K64 => 0x110,
            PageSize::M16 => 0x100,
        }
    }

    /// The storage key in force for an access from the given state: Kp in problem state, Ks otherwise.
    pub const fn key(self, problem_state: bool) -> bool {
        self.0 & if problem_state { VSID_KP } else { VSID_KS } != 0
    }

    /// The VRMA's segment for a base page size: key 0, 1 TiB.
    pub const fn vrma(size: PageSize) -> SlbV {
        SlbV(VSID_B_1T | VRMA_VSID << VSID_SHIFT_1T | SlbV::llp(size))
    }

    /// The offset of an address in this segment.
    pub const fn offset(self, ea: Ea) -> u64 {
        ea.0 & ((1 << self.segment().shift()) - 1)
    }
}
