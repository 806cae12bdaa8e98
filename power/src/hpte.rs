//! Hashed page table entries (Power ISA 2.07B, book III-S, 5.7.7.1; Power ISA 3.0C, book III, 5.7.9.1).
//!
//! [`HpteV`] and [`HpteR`] are dword 0 and dword 1 in the 2.07 layout, which is also the one that guests
//! speak to the hypervisor calls on every processor. [`HpteFormat`] converts at the table itself.

use crate::slb::SegmentSize;

/// Dword 0: which virtual page, and whether the entry counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[repr(transparent)]
pub struct HpteV(pub u64);

/// Dword 1: which real page, and what may be done to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[repr(transparent)]
pub struct HpteR(pub u64);

impl HpteV {
    /// Segment size (IBM bits 0:1).
    pub const B: u64 = 3 << 62;
    /// The abbreviated virtual page number (2:56).
    pub const AVPN: u64 = 0x3fff_ffff_ffff_ff80;
    /// Software: the entry's lock.
    pub const HVLOCK: u64 = 0x40;
    /// Software: the guest's entry counts, but the hardware must not see it.
    pub const ABSENT: u64 = 0x20;
    /// Software, guest: the operating system wants it kept.
    pub const BOLTED: u64 = 0x10;
    /// The page is larger than 4 KiB or the base page size is (61).
    pub const L: u64 = 4;
    /// Found by the secondary hash (62).
    pub const H: u64 = 2;
    /// Valid (63).
    pub const V: u64 = 1;

    /// Is any of these bits set?
    pub const fn any(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// The segment size; the reserved values of B read as 256 MiB.
    pub const fn segment(self) -> SegmentSize {
        if self.0 & Self::B == 1 << 62 { SegmentSize::T1 } else { SegmentSize::M256 }
    }
}

impl HpteR {
    /// Page protection, bit 0 of PP (IBM bit 0).
    pub const PP0: u64 = 1 << 63;
    /// Storage key, bits 0:1 (2:3).
    pub const KEY_HI: u64 = 0x3 << 60;
    /// Real page number with the page size encoding in its low bits (4:51).
    pub const RPN: u64 = 0x0fff_ffff_ffff_f000;
    /// Storage key, bits 2:4 (52:54).
    pub const KEY_LO: u64 = 0xe00;
    /// Referenced (55).
    pub const R: u64 = 0x100;
    /// Changed (56).
    pub const C: u64 = 0x80;
    /// Write through (57).
    pub const W: u64 = 0x40;
    /// Caching inhibited (58).
    pub const I: u64 = 0x20;
    /// Memory coherence (59).
    pub const M: u64 = 0x10;
    /// Guarded (60).
    pub const G: u64 = 0x8;
    /// The four storage control bits.
    pub const WIMG: u64 = 0x78;
    /// No execute (61).
    pub const N: u64 = 0x4;
    /// Page protection, bits 1:2 of PP (62:63).
    pub const PP: u64 = 0x3;

    /// Is any of these bits set?
    pub const fn any(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// PP as a number of three bits.
    pub const fn pp(self) -> u64 {
        (self.0 >> 61 & 4) | (self.0 & 3)
    }

    /// The virtual page class key, 0 to 31.
    pub const fn key(self) -> u64 {
        (self.0 & Self::KEY_HI) >> 57 | (self.0 & Self::KEY_LO) >> 9
    }
}

/// A page size, base or actual.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageSize {
    /// 4 KiB.
    K4,
    /// 64 KiB.
    K64,
    /// 16 MiB.
    M16,
}

impl PageSize {
    /// log2 of the size in bytes.
    pub const fn shift(self) -> u32 {
        match self {
            PageSize::K4 => 12,
            PageSize::K64 => 16,
            PageSize::M16 => 24,
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }
}

/// Base and actual page size of an entry, decoded from L and LP; `None` for an encoding that is not
/// advertised to guests. The encodings are those of POWER8, 9 and 10 (user's manuals, "page sizes"):
/// 4K base: 4K (L=0), 64K (LP=0x07), 16M (LP=0x38); 64K base: 64K (LP=0x01), 16M (LP=0x08); 16M base: 16M (LP=0).
pub const fn page_sizes(v: HpteV, r: HpteR) -> Option<(PageSize, PageSize)> {
    if v.0 & HpteV::L == 0 {
        return Some((PageSize::K4, PageSize::K4));
    }
    let lp = (r.0 >> 12) & 0xff;
    Some(match lp {
        0x00 => (PageSize::M16, PageSize::M16),
        0x38 => (PageSize::K4, PageSize::M16),
        0x08 => (PageSize::K64, PageSize::M16),
        _ => match lp & 0x0f {
            0x01 => (PageSize::K64, PageSize::K64),
            0x07 => (PageSize::K4, PageSize::K64),
            _ => return None,
        },
    })
}

/// L (for dword 0) and LP (for dword 1, in place) of a base and actual page size; `None` if there is no such pair.
pub const fn encode_page_sizes(base: PageSize, actual: PageSize) -> Option<(u64, u64)> {
    let lp = match (base, actual) {
        (PageSize::K4, PageSize::K4) => return Some((0, 0)),
        (PageSize::K4, PageSize::K64) => 0x07,
        (PageSize::K4, PageSize::M16) => 0x38,
        (PageSize::K64, PageSize::K64) => 0x01,
        (PageSize::K64, PageSize::M16) => 0x08,
        (PageSize::M16, PageSize::M16) => 0x00,
        _ => return None,
    };
    Some((HpteV::L, lp << 12))
}

/// How entries lie in memory: where B is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum HpteFormat {
    /// Power ISA 2.07: B in dword 0.
    V2_07,
    /// Power ISA 3.0: B in dword 1, bits 4:5.
    V3_0,
}

impl HpteFormat {
    const COMMON_V: u64 = 0x000f_ffff_ffff_ffff;
    const SSIZE_SHIFT: u32 = 58;
    const SSIZE: u64 = 3 << Self::SSIZE_SHIFT;

    /// From the 2.07 layout to the one in memory.
    pub const fn to_memory(self, v: HpteV, r: HpteR) -> (u64, u64) {
        match self {
            HpteFormat::V2_07 => (v.0, r.0),
            HpteFormat::V3_0 => (v.0 & Self::COMMON_V, r.0 & !Self::SSIZE | v.0 >> 62 << Self::SSIZE_SHIFT),
        }
    }

    /// From the layout in memory to the 2.07 one.
    pub const fn from_memory(self, v: u64, r: u64) -> (HpteV, HpteR) {
        match self {
            HpteFormat::V2_07 => (HpteV(v), HpteR(r)),
            HpteFormat::V3_0 => (
                HpteV(v & Self::COMMON_V | (r & Self::SSIZE) >> Self::SSIZE_SHIFT << 62),
                HpteR(r & !Self::SSIZE),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_round_trip() {
        let v = HpteV(1 << 62 | 0x0000_1234_5678_9a80 | HpteV::L | HpteV::V);
        let r = HpteR(HpteR::PP0 | HpteR::KEY_HI | 0x1234_1000 | HpteR::M | 2);
        for format in [HpteFormat::V2_07, HpteFormat::V3_0] {
            let (a, b) = format.to_memory(v, r);
            assert_eq!(format.from_memory(a, b), (v, r));
        }
        assert_eq!(HpteFormat::V3_0.to_memory(v, r).0 >> 62, 0);
    }

    #[test]
    fn page_sizes_round_trip() {
        use PageSize::*;
        for (base, actual) in [(K4, K4), (K4, K64), (K4, M16), (K64, K64), (K64, M16), (M16, M16)] {
            let (l, lp) = encode_page_sizes(base, actual).unwrap();
            assert_eq!(page_sizes(HpteV(l), HpteR(lp)), Some((base, actual)));
        }
        assert_eq!(encode_page_sizes(M16, K64), None);
        assert_eq!(page_sizes(HpteV(HpteV::L), HpteR(0x02 << 12)), None);
    }
}
