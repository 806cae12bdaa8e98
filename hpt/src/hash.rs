//! The hash function, and its inverse for `tlbie` (Power ISA 3.0C, book III, 5.7.9.2 and 5.9.3.3).

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

/// -`n`. Of a bit it makes a mask; the compiler's own way to do that changes the carry, which is the guest's.
#[cfg(not(target_arch = "powerpc64"))]
#[inline(always)]
fn negative(n: u64) -> u64 {
    n.wrapping_neg()
}

#[cfg(target_arch = "powerpc64")]
#[inline(always)]
#[allow(unsafe_code)] // inline assembly
fn negative(n: u64) -> u64 {
    let result;
    // SAFETY: arithmetic.
    unsafe {
        core::arch::asm!("neg {}, {}", out(reg) result, in(reg) n, options(pure, nomem, nostack, preserves_flags));
    }
    result
}

/// The low eleven bits of the number of the (base) page within its segment: those that AVPN lacks are in the
/// number of the PTEG.
#[inline(always)]
fn page_low(v: HpteV, index: PteIndex) -> u64 {
    let group = index.0 >> 3;
    let secondary = negative((v.0 & HpteV::H) >> 1);
    // 12 or 24: the segment's shift less 16. The reserved values of B are in no entry.
    let segment = 12 << (v.0 >> 62 & 1);
    (group ^ secondary ^ (v.0 >> segment)) & 0x7ff
}

/// The primary hash of an entry's address, which is complete if the table has at least 2^11 groups. `base` is its base page size.
#[inline]
pub(crate) fn hash_of(v: HpteV, base: PageSize, index: PteIndex) -> u64 {
    let segment = v.segment();
    let address = v.0 & HpteV::AVPN;
    // What of the offset is below AVPN, 23 bits, and what is in it.
    let below = (page_low(v, index) << base.shift()) & 0x7f_ffff;
    let offset = ((address << 16) & ((1 << segment.shift()) - 1)) | below;
    pteg_hash(address >> (segment.shift() - 16), segment, base, offset)
}

/// The RB operand of `tlbie` and `tlbiel` that invalidates the translation of an entry: with IS = 0, the page's virtual address,
/// base and actual size. The format is common to ISA 2.07 and 3.0 (with R = 0, PRS = 0, RIC = 0 there).
///
/// The table must have at least 2^11 PTEGs, which is the architecture's minimum. An entry with a page size
/// that does not exist is taken for one of 16 MiB.
#[inline(always)]
pub fn tlbie_rb(v: HpteV, r: HpteR, index: PteIndex) -> u64 {
    const L: u64 = 1;
    let low = page_low(v, index);
    // The virtual address from bit 23 up, its topmost 14 bits dropped; B in bits 54:55.
    let b = v.0 >> 62 << 8;
    let address = (v.0 & HpteV::AVPN) << 16;
    // L = 0: AVA is complete, AP (56:58) says the actual page size as L and LP of an SLB entry do.
    let small = address | (low << 12) | b;
    // L = 1: address bits below the actual page give way to LP; AVAL (56:62) has address bits 13 to 19.
    let aval = (low << 4) & 0xfe;
    if !v.any(HpteV::L) {
        return small;
    }
    let lp = r.0 >> 12 & 0xff;
    if lp & 0xf == 0x1 {
        return address | ((low << 16) & 0x7f_0000) | (0x01 << 12) | b | aval | L;
    }
    if lp & 0xf == 0x7 {
        return small | (0b101 << 5);
    }
    let huge = address & !(PageSize::M16.bytes() - 1);
    match lp {
        0x38 => small | (0b100 << 5),
        0x08 => huge | (0x08 << 12) | b | aval | L,
        _ => huge | b | L,
    }
}

/// log2 of the actual page size of an entry; 0 for an encoding that does not exist. As [`power::hpte::page_sizes`] has it, for those in a
/// hurry.
#[inline(always)]
pub(crate) const fn actual_shift(v: HpteV, r: HpteR) -> u32 {
    if !v.any(HpteV::L) {
        return 12;
    }
    let lp = r.0 >> 12 & 0xff;
    // Low nibbles 1 and 7.
    if 0x82 >> (lp & 0xf) & 1 != 0 {
        16
    } else if lp == 0 || lp == 0x08 || lp == 0x38 {
        24
    } else {
        0
    }
}

/// The bits below the actual page size of an entry, if that is 4 or 64 KiB: as [`actual_shift`] has it.
#[inline(always)]
pub(crate) const fn small_page(v: HpteV, r: HpteR) -> Option<u64> {
    if !v.any(HpteV::L) {
        Some(0xfff)
    } else if 0x82 >> (r.0 >> 12 & 0xf) & 1 != 0 {
        Some(0xffff)
    } else {
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use power::hpte::page_sizes;

    use super::*;

    #[test]
    fn actual_sizes_agree() {
        for v in [HpteV(0), HpteV(HpteV::L)] {
            for lp in 0..0x100 {
                let r = HpteR(lp << 12);
                let slow = page_sizes(v, r).map_or(0, |(_, actual)| actual.shift());
                assert_eq!(actual_shift(v, r), slow, "{lp:#x}");
                let small = [12, 16].contains(&slow).then(|| (1 << slow) - 1);
                assert_eq!(small_page(v, r), small, "{lp:#x}");
            }
        }
    }
}
