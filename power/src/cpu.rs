//! Which processor this is, decided once at boot from the PVR.

use crate::hpte::HpteFormat;

/// The generations that are supported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Generation {
    /// Power ISA 2.07.
    Power8,
    /// Power ISA 3.0.
    Power9,
    /// Power ISA 3.1.
    Power10,
}

/// What differs between the supported processors, as far as a hypervisor cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CpuFeatures {
    /// The processor's generation.
    pub generation: Generation,
    /// Layout of hashed page table entries in memory.
    pub hpte_format: HpteFormat,
    /// The HPT's place comes from the partition table (PTCR) and not from SDR1; ASDR exists.
    pub partition_table: bool,
    /// `darn` gives real random numbers.
    pub darn: bool,
    /// HDEC and DEC are 56 bits wide when LPCR\[LD\] asks for it; 32 otherwise.
    pub large_decrementer: bool,
    /// Prefixed instructions exist and SRR1 says so.
    pub prefixed: bool,
    /// Entries of the SLB.
    pub slb_entries: u32,
}

impl CpuFeatures {
    /// From a PVR; `None` for a processor that is not supported.
    pub const fn from_pvr(pvr: u32) -> Option<CpuFeatures> {
        let generation = match pvr >> 16 {
            0x4b..=0x4d => Generation::Power8,
            0x4e => Generation::Power9,
            0x80 | 0x82 => Generation::Power10,
            _ => return None,
        };
        let isa3 = !matches!(generation, Generation::Power8);
        Some(CpuFeatures {
            generation,
            hpte_format: if isa3 { HpteFormat::V3_0 } else { HpteFormat::V2_07 },
            partition_table: isa3,
            darn: isa3,
            large_decrementer: isa3,
            prefixed: matches!(generation, Generation::Power10),
            slb_entries: 32,
        })
    }
}

impl Generation {
    /// "POWER8", "POWER9" or "POWER10".
    pub const fn name(self) -> &'static str {
        match self {
            Generation::Power8 => "POWER8",
            Generation::Power9 => "POWER9",
            Generation::Power10 => "POWER10",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_pvrs() {
        assert_eq!(CpuFeatures::from_pvr(0x004d_0200).unwrap().hpte_format, HpteFormat::V2_07);
        assert!(CpuFeatures::from_pvr(0x004e_1202).unwrap().partition_table);
        assert!(CpuFeatures::from_pvr(0x0080_0200).unwrap().prefixed);
        assert!(CpuFeatures::from_pvr(0x003f_0201).is_none());
    }
}
