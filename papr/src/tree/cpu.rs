//! The node of a processor: what it is, and what it can do (LoPAR, "CPU Node").

use alloc::format;
use alloc::vec::Vec;

use power::{Generation, PageSize};
use vm_fdt::FdtWriter;

use super::{Error, GuestConfig};

/// Writes the node of the processor with this interrupt server number.
pub(super) fn node(w: &mut FdtWriter, c: &GuestConfig, server: u32) -> Result<(), Error> {
    let node = w.begin_node(&format!("PowerPC,{}@{server:x}", c.generation.name()))?;
    w.property_string("device_type", "cpu")?;
    w.property_u32("reg", server)?;
    w.property_string("status", "okay")?;
    w.property_null("64-bit")?;
    w.property_u32("cpu-version", c.pvr)?;
    w.property_u32("timebase-frequency", c.timebase_hz)?;
    w.property_u32("clock-frequency", c.clock_hz)?;
    // One thread to a core; global interrupts go to the boot processor.
    w.property_array_u32("ibm,ppc-interrupt-server#s", &[server])?;
    w.property_array_u32("ibm,ppc-interrupt-gserver#s", &[server, c.boot_cpu])?;
    w.property_u32("ibm,chip-id", 0)?;

    let (dcache, icache) = match c.generation {
        Generation::Power8 => (64 << 10, 32 << 10),
        Generation::Power9 => (32 << 10, 32 << 10),
        Generation::Power10 => (32 << 10, 48 << 10),
    };
    for (name, bytes) in [
        ("d-cache-block-size", 128),
        ("d-cache-line-size", 128),
        ("d-cache-size", dcache),
        ("i-cache-block-size", 128),
        ("i-cache-line-size", 128),
        ("i-cache-size", icache),
    ] {
        w.property_u32(name, bytes)?;
    }

    w.property_u32("slb-size", c.slb_entries)?;
    w.property_u32("ibm,slb-size", c.slb_entries)?;
    w.property_array_u32("ibm,pft-size", &[0, c.hpt_shift])?;
    w.property_array_u32("ibm,segment-page-sizes", &segment_page_sizes(c.huge_pages))?;
    // 256 MiB and 1 TiB; all ones where there is no more.
    w.property_array_u32("ibm,processor-segment-sizes", &[28, 40, !0, !0])?;
    w.property("ibm,pa-features", &pa_features(c.generation, c.inhibited_64k))?;
    // 2: VSX, too.
    w.property_u32("ibm,vmx", 2)?;
    w.property_u32("ibm,dfp", 1)?;
    w.property_u32("ibm,purr", 1)?;
    w.property_u32("ibm,spurr", 1)?;
    if let Some(bits) = c.large_decrementer_bits {
        w.property_u32("ibm,dec-bits", bits)?;
    }
    Ok(w.end_node(node)?)
}

/// `ibm,segment-page-sizes`: for each base page size its shift, L||LP of the SLB entry, how many actual page sizes
/// follow, and for each of them its shift and LP of the page table entry.
pub(super) fn segment_page_sizes(huge: bool) -> Vec<u32> {
    use PageSize::*;
    let mut cells = Vec::new();
    for base in [K4, K64, M16] {
        let actual: Vec<_> = [K4, K64, M16]
            .into_iter()
            .filter(|a| huge || *a != M16)
            .filter_map(|a| Some((a, power::hpte::encode_page_sizes(base, a)?.1)))
            .collect();
        if actual.is_empty() {
            continue;
        }
        let slb = power::slb::SlbV::llp(base);
        cells.extend([base.shift(), slb as u32, actual.len() as u32]);
        for (size, lp) in actual {
            cells.extend([size.shift(), (lp >> 12) as u32]);
        }
    }
    cells
}

/// `ibm,pa-features` (LoPAR, "Attribute Definition"): a length, a type of 0, and bits.
pub(super) fn pa_features(generation: Generation, inhibited_64k: bool) -> Vec<u8> {
    /// Bytes of the definition that are not zero, and since when.
    const FEATURES: &[(usize, u8, Generation)] = {
        use Generation::*;
        &[
            // MMU, FPU, SLB, RUN, DABR, no-execute.
            (0, 0xf6, Power8),
            // fri[nzpm], DABRX, SPRG3, SLB 0, PP=110.
            (1, 0x1f, Power8),
            // Virtual real mode, Data Stream 2.05, PPR, Data Stream 2.02 and 2.06.
            (2, 0xc7, Power8),
            // Load and store doubles, unaligned restart.
            (3, 0xc0, Power8),
            // Little endian, CFAR, EBB, load and store quads.
            (5, 0xf0, Power8),
            // Data Stream 2.07.
            (6, 0x80, Power8),
            // Vector, vector-scalar, vector xor.
            (16, 0x80, Power8),
            (18, 0x80, Power8),
            (20, 0x80, Power8),
            // Extended decrementer, 64-bit features, performance monitor.
            (24, 0x80, Power9),
            (26, 0x80, Power9),
            (28, 0x80, Power9),
            // Little endian atomics, EBB and extended EBB.
            (32, 0x80, Power9),
            (34, 0xc0, Power9),
            // 40 would be the radix MMU. Performance monitor 3.0, PC-relative, scv.
            (42, 0x80, Power9),
            (44, 0x80, Power9),
            (46, 0x80, Power9),
            // SIMD, quad precision, strings.
            (48, 0x80, Power9),
            (50, 0x80, Power9),
            (52, 0x80, Power9),
            // Decimal floating point, decimal integer, SHA.
            (54, 0x80, Power9),
            (56, 0x80, Power9),
            (58, 0x80, Power9),
            // Atomics on memory that is not cached, random numbers.
            (60, 0x80, Power9),
            (62, 0x80, Power9),
            // Of 3.1, 64 would be the second watchpoint, 68 DEXCR, 72 the hash checks: they come with registers to keep.
        ]
    };
    let bytes = match generation {
        Generation::Power8 => 24,
        Generation::Power9 => 66,
        Generation::Power10 => 74,
    };
    let mut out = alloc::vec![0; 2 + bytes];
    out[0] = bytes as u8;
    for (byte, bits, since) in FEATURES {
        if generation >= *since {
            out[2 + byte] = *bits;
        }
    }
    if inhibited_64k {
        out[2 + 1] |= 0x20;
    }
    out
}
