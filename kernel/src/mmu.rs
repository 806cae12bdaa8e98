//! The hypervisor's own translation: a hashed page table for LPID 0, and the partition table that says where it is.
//!
//! The linear map (0xc…) shows all memory at the addresses that real mode uses too: text read-execute, read-only data
//! read-only, everything else no-execute, nothing below the stacks. Its first 256 MiB segment has 64 KiB pages, so
//! that the image's parts can differ; the others have 16 MiB pages. The device windows (0xd…) are cache-inhibited and
//! guarded. Address 0 and all else has no segment: the vectors tell (`host_segment` in the real-mode vectors).
#![allow(unsafe_code)] // builds the tables that translation runs on, and turns it on

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use frames::FRAME;
use hpt::{Hpt, Mapping, Pteg};
use power::addr::LINEAR_BASE;
use power::regs::{Hfscr, Lpcr, Msr};
use power::slb::{SegmentSize, SlbV, VSID_SHIFT};
use power::{CpuFeatures, HostReal, HpteR, Lpid, PageSize, spr};
use realmode::instructions::{isync, mfspr, mtspr, ptesync};
use realmode::machine::flush_partition;
use realmode::world::{HOST_DEVICE_VSID, HOST_VSID, VSID_STRIDE};
use spin::Once;

use crate::memory::{self, Map, image};
use crate::{cpus, percpu};

/// Bytes of a segment of the linear map.
pub const SEGMENT: u64 = 256 << 20;
const LARGE: u64 = 16 << 20;
/// PP 110: read-only for the hypervisor, whose segments have key 0.
const READ_ONLY: u64 = HpteR::PP0 | 2;
/// R and C set: the processor need not.
const TOUCHED: u64 = HpteR::R | HpteR::C;
/// Entries of the partition table; as many LPIDs.
pub const LPIDS: u64 = 4096;

/// What guests have of the facilities that HFSCR controls.
const GUEST_FACILITIES: Hfscr = Hfscr::FP
    .union(Hfscr::VECVSX)
    .union(Hfscr::DSCR)
    .union(Hfscr::PM)
    .union(Hfscr::BHRB)
    .union(Hfscr::EBB)
    .union(Hfscr::TAR)
    .union(Hfscr::MSGP)
    .union(Hfscr::SCV)
    .union(Hfscr::PREFIX);

/// A thread sends its doorbells to all threads of its core, which may run other partitions' vCPUs: no guest has them there.
fn guest_facilities() -> Hfscr {
    if cpus::threads_per_core() > 1 { GUEST_FACILITIES.difference(Hfscr::MSGP) } else { GUEST_FACILITIES }
}

/// Where the device windows start.
const WINDOWS: u64 = 0xd000_0000_0000_0000;

static TABLE: Once<Hpt<'static>> = Once::new();
static PARTITION_TABLE: AtomicU64 = AtomicU64::new(0);
static WINDOWS_USED: AtomicU64 = AtomicU64::new(0);

/// What each CPU needs to translate for the hypervisor.
#[derive(Clone, Copy)]
pub struct HostMmu {
    /// SDR1 of the table (POWER8).
    pub sdr1: u64,
    /// LPCR while the hypervisor runs.
    pub lpcr: Lpcr,
    /// MSR while it translates.
    pub msr: Msr,
    /// Segments of the linear map.
    pub segments: u64,
    /// PTCR: where the partition table is (POWER9 and later).
    pub ptcr: u64,
}

/// HTABORG and HTABSIZE, as SDR1 and the partition table have them.
pub fn table_word(at: HostReal, bytes: u64) -> u64 {
    at.0 | u64::from(bytes.trailing_zeros() - 18)
}

/// Allocates a zeroed page table, aligned to its size.
pub fn new_table(bytes: u64) -> Option<(HostReal, &'static [Pteg])> {
    let at = memory::allocate(bytes)?;
    // SAFETY: the block is new, of that size and aligned to it; zeroes are a table without entries.
    unsafe {
        memory::zero(at, bytes);
        Some((
            at,
            core::slice::from_raw_parts(at.ea() as *const Pteg, (bytes / size_of::<Pteg>() as u64) as usize),
        ))
    }
}

/// Builds the hypervisor's table.
pub fn init(map: &Map, features: &CpuFeatures) -> Result<HostMmu, &'static str> {
    let end = map.all.as_slice().last().map_or(0, |r| r.end);
    let segments = end.div_ceil(SEGMENT);
    let large: u64 = map.all.as_slice().iter().map(|r| r.len().div_ceil(LARGE) + 2).sum();
    let entries = SEGMENT / FRAME + large;
    let bytes = (entries * 32).next_power_of_two().max(256 << 10);
    let (at, groups) = new_table(bytes).ok_or("no memory for the hypervisor's page table")?;
    let table = TABLE.call_once(|| {
        Hpt::without_reverse_map(groups, features.hpte_format)
            .unwrap_or_else(|| unreachable!("a power of two"))
    });
    for range in map.all.as_slice() {
        for real in (range.start & !(FRAME - 1)..range.end.min(SEGMENT)).step_by(FRAME as usize) {
            if let Some(flags) = rights(LINEAR_BASE + real) {
                linear(table, real, PageSize::K64, flags)?;
            }
        }
        for real in (range.start.max(SEGMENT) & !(LARGE - 1)..range.end).step_by(LARGE as usize) {
            linear(table, real, PageSize::M16, HpteR::N)?;
        }
    }
    let ptcr = if features.partition_table { new_partition_table(at, bytes)? } else { 0 };
    ptesync();
    // Whatever the firmware and its payloads before have left behind.
    flush_partition(Lpid::HOST, features.partition_table);
    let mut wake = Lpcr::PECE_DEC | Lpcr::PECE_OTHER | Lpcr::PECE_DH | Lpcr::PECE_EE;
    if features.partition_table {
        wake |= Lpcr::PECE_HVEE;
    }
    // SAFETY: LPCR exists; only the prefetch depth is kept from the firmware.
    let found = Lpcr::from_bits_retain(unsafe { mfspr::<{ spr::LPCR }>() });
    // No HDICE: an HDEC that a guest has left pending must not be what a sleeping CPU wakes to.
    let lpcr = (found & Lpcr::DPFD) | wake;
    let msr = Msr::SF | Msr::HV | Msr::ME | Msr::RI | Msr::IR | Msr::DR | Msr::LE;
    Ok(HostMmu { sdr1: table_word(at, bytes), lpcr, msr, segments, ptcr })
}

/// What may be done to a frame of the first segment; `None` where nothing is mapped.
fn rights(ea: u64) -> Option<u64> {
    let guards: [Range<u64>; 2] =
        [image::stack_bottom(), image::realmode_stack_bottom()].map(|bottom| bottom - FRAME..bottom);
    match ea {
        _ if ea < image::text_end() => Some(READ_ONLY),
        _ if ea < image::rodata_end() => Some(READ_ONLY | HpteR::N),
        _ if guards.iter().any(|g| g.contains(&ea)) || percpu::is_guard(ea) => None,
        _ => Some(HpteR::N),
    }
}

fn linear(table: &Hpt<'_>, real: u64, size: PageSize, flags: u64) -> Result<(), &'static str> {
    let mapping = Mapping {
        vsid: HOST_VSID + real / SEGMENT * VSID_STRIDE,
        segment: SegmentSize::M256,
        offset: real % SEGMENT,
        base: size,
        actual: size,
        host: HostReal(real),
        flags: flags | TOUCHED | HpteR::M,
    };
    table.insert_bolted(&mapping).map(drop).ok_or("the hypervisor's page table is full")
}

/// The partition table (Power ISA 3.0C, book III, 5.7.6.1), with the hypervisor's entry; PTCR for it.
fn new_partition_table(at: HostReal, bytes: u64) -> Result<u64, &'static str> {
    let size = LPIDS * 16;
    let table = memory::allocate(size).ok_or("no memory for the partition table")?;
    // SAFETY: the block is new; PTCR takes a table aligned to its size, 2^(12+PATS) bytes.
    unsafe {
        memory::zero(table, size);
    }
    PARTITION_TABLE.store(table.ea(), Ordering::Relaxed);
    set_partition(Lpid::HOST, table_word(at, bytes), SlbV(0));
    Ok(table.0 | u64::from(size.trailing_zeros() - 12))
}

/// Enters a partition's HPT and the page size of its real mode area in the partition table; nothing on POWER8, where
/// SDR1 and LPCR say it.
pub fn set_partition(lpid: Lpid, table_word: u64, vrma: SlbV) {
    // PS: L and LP of the segment, in IBM bits 56:58.
    let ps = (vrma.0 & power::slb::VSID_L) >> 1 | (vrma.0 & power::slb::VSID_LP) << 1;
    set_entry(lpid, table_word | ps);
}

fn set_entry(lpid: Lpid, word: u64) {
    let table = PARTITION_TABLE.load(Ordering::Relaxed);
    if table == 0 || u64::from(lpid.0) >= LPIDS {
        return;
    }
    let entry = (table + u64::from(lpid.0) * 16) as *mut u64;
    // SAFETY: within the table, which is never freed; an LPID belongs to one partition.
    unsafe {
        entry.add(1).write_volatile(0);
        entry.write_volatile(word.to_be());
    }
    ptesync();
}

/// Takes a partition's entry out of the partition table.
pub fn clear_partition(lpid: Lpid) {
    set_entry(lpid, 0);
}

/// Loads this CPU's registers and first segment, and turns translation on. Returns at the same place, translated.
///
/// # Safety
/// [`init`] made `mmu` on this machine; the stack and everything live are in the linear map.
pub unsafe fn enable(mmu: &HostMmu, features: &CpuFeatures) {
    // SAFETY: the caller's. The registers are the hypervisor's own; HRMOR and AMOR are left with their neutral values.
    unsafe {
        mtspr::<{ spr::LPCR }>(mmu.lpcr.bits());
        if features.partition_table {
            mtspr::<{ spr::PTCR }>(mmu.ptcr);
        } else {
            mtspr::<{ spr::SDR1 }>(mmu.sdr1);
        }
        mtspr::<{ spr::LPIDR }>(0);
        // A guest may use all keys and all facilities but transactional memory, and sees the processor as it is.
        mtspr::<{ spr::AMOR }>(u64::MAX);
        mtspr::<{ spr::HFSCR }>(guest_facilities().bits());
        mtspr::<{ spr::PCR }>(0);
        mtspr::<{ spr::AMR }>(0);
        mtspr::<{ spr::IAMR }>(0);
        isync();
        core::arch::asm!(
            "slbmte {zero}, {zero}", "slbia", "slbmte {v}, {e}", "isync",
            "bcl 20, 31, 2f", "2: mflr {t}", "addi {t}, {t}, 20", "mtspr 26, {t}", "mtspr 27, {msr}", "rfid",
            zero = in(reg) 0u64, v = in(reg) segment_zero(), e = in(reg) LINEAR_BASE | power::slb::ESID_V,
            t = out(reg_nonzero) _, msr = in(reg) mmu.msr.bits(), out("lr") _,
        );
    }
}

/// The VSID dword of the bolted segment.
pub fn segment_zero() -> u64 {
    HOST_VSID << VSID_SHIFT | SlbV::llp(PageSize::K64)
}

/// Maps a range of I/O, cache-inhibited and guarded; its effective address.
pub fn map_device(at: HostReal, len: u64) -> Option<u64> {
    let first = at.0 & !(FRAME - 1);
    let bytes = (at.0 + len).next_multiple_of(FRAME) - first;
    let window = WINDOWS_USED.fetch_add(bytes, Ordering::Relaxed);
    let table = TABLE.get()?;
    for offset in (0..bytes).step_by(FRAME as usize) {
        table.insert_bolted(&Mapping {
            vsid: HOST_DEVICE_VSID,
            segment: SegmentSize::M256,
            offset: window + offset,
            base: PageSize::K64,
            actual: PageSize::K64,
            host: HostReal(first + offset),
            flags: TOUCHED | HpteR::I | HpteR::G | HpteR::N,
        })?;
    }
    ptesync();
    Some(WINDOWS + window + (at.0 - first))
}
