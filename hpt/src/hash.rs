//! The hash function, and its inverse for `tlbie` (Power ISA 3.0C, book III, 5.7.9.2 and 5.9.3.3).

use power::hpte::page_sizes;
use power::slb::SegmentSize;
use power::{HpteR, HpteV, PageSize, PteIndex};

/// The primary hash of a virtual address: its low bits number the PTEG, those of its complement the secondary one.
#[inline]
pub const fn pteg_hash(vsid: u64, segment: SegmentSize, base: PageSize, offset: u64) -> u64 {
    let page = offset >> base.shift();
    match segment {
        SegmentSize::M256 => vsid ^ page,
        SegmentSize::T1 => vsid ^ (vsid << 25) ^ page,
    }
}

/// B and AVPN of dword 0 (2.07 layout) for a virtual address: the VSID and the offset in its segment.
#[inline]
pub const fn avpn(vsid: u64, segment: SegmentSize, base: PageSize, offset: u64) -> HpteV {
    let page = offset & !(base.bytes() - 1);
    let address = (vsid << (segment.shift() - 16)) | (page >> 16);
    HpteV((segment.b() << 62) | (address & HpteV::AVPN))
}

/// The low eleven bits of the number of the (base) page within its segment: those that AVPN lacks are in the
/// number of the PTEG.
#[inline]
const fn page_low(v: HpteV, index: PteIndex) -> u64 {
    let group = index.0 >> 3;
    let hash = if v.any(HpteV::H) { !group } else { group };
    (hash ^ (v.0 >> (v.segment().shift() - 16))) & 0x7ff
}

/// The RB operand of `tlbie` and `tlbiel` that invalidates the translation of an entry: with IS = 0, the page's virtual address,
/// base and actual size. The format is common to ISA 2.07 and 3.0 (with R = 0, PRS = 0, RIC = 0 there).
///
/// The table must have at least 2^11 PTEGs, which is the architecture's minimum. An entry with a page size
/// that does not exist is taken for one of 4 KiB.
#[inline]
pub const fn tlbie_rb(v: HpteV, r: HpteR, index: PteIndex) -> u64 {
    let (base, actual) = match page_sizes(v, r) {
        Some(sizes) => sizes,
        None => (PageSize::K4, PageSize::K4),
    };
    let low = page_low(v, index);
    // The virtual address from bit 23 up, its topmost 14 bits dropped; B in bits 54:55.
    let common = ((v.0 & HpteV::AVPN) << 16) | (v.0 >> 62 << 8);
    match base {
        // L = 0: AVA is complete, AP says the actual page size as L and LP of an SLB entry do.
        PageSize::K4 => {
            let ap = match actual {
                PageSize::K4 => 0,
                PageSize::K64 => 0b101,
                PageSize::M16 => 0b100,
            };
            common | (low << 12) | (ap << 5)
        }
        // L = 1: address bits below the actual page give way to LP; AVAL (56:62) has address bits 13 to 19.
        PageSize::K64 => {
            let address = (common | ((low << 16) & 0x7f_0000)) & !(actual.bytes() - 1);
            let lp = match actual {
                PageSize::M16 => 0x08,
                _ => 0x01,
            };
            address | (common & 0x300) | (lp << 12) | ((low << 4) & 0xfe) | 1
        }
        PageSize::M16 => (common & !(PageSize::M16.bytes() - 1)) | (common & 0x300) | 1,
    }
}
