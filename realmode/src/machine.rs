//! The machine behind [`hpt::Machine`]: cache and TLB instructions. The addresses are those of the linear map, so it works
//! in both modes.
#![allow(unsafe_code)] // privileged instructions and memory by real address

use core::arch::asm;

use hpt::{Machine, tlbie_rb};
use power::{HostReal, HpteR, HpteV, Lpid, PteIndex};

use crate::layout::Vcpu;
use crate::partition::Partition;

/// Bytes of a cache block on all supported processors.
pub const CACHE_BLOCK: u64 = 128;

/// The TLBs and memory as a partition's page table uses them.
pub struct Hardware<P>(P);

/// Whose translations it is about.
trait Place {
    /// At most as many bytes are zeroed or copied in one go.
    const BULK_LIMIT: u64;

    fn lpid(&self) -> Lpid;

    /// Is this the only CPU that may hold translations? Asked when the page table has been changed.
    fn is_local(&self) -> bool;
}

/// In real mode: those of a vCPU's partition, on the CPU where it is loaded.
pub type RealMode<'a> = Hardware<Loaded<'a>>;
/// In virtual mode: those of any partition.
pub type VirtualMode = Hardware<Anybody>;

/// See [`RealMode`].
pub struct Loaded<'a>(&'a Vcpu);
/// See [`VirtualMode`].
pub struct Anybody(Lpid);

impl Loaded<'_> {
    #[inline(always)]
    fn partition(&self) -> &Partition {
        // SAFETY: a vCPU's partition outlives it.
        unsafe { &*self.0.partition }
    }
}

impl Place for Loaded<'_> {
    /// No more than a large page of the smaller kind, so that interrupts do not wait long.
    const BULK_LIMIT: u64 = 64 << 10;

    #[inline(always)]
    fn lpid(&self) -> Lpid {
        self.partition().lpid
    }

    #[inline(always)]
    fn is_local(&self) -> bool {
        self.partition().residency.is_only(self.0.residence)
    }
}

impl Place for Anybody {
    const BULK_LIMIT: u64 = u64::MAX;

    fn lpid(&self) -> Lpid {
        self.0
    }

    /// `tlbiel` goes by LPIDR, which is not the partition's.
    fn is_local(&self) -> bool {
        false
    }
}

impl<'a> RealMode<'a> {
    /// For the translations of a vCPU's partition, on the CPU where it is loaded.
    #[inline(always)]
    pub fn of(vcpu: &'a Vcpu) -> Self {
        Hardware(Loaded(vcpu))
    }
}

impl VirtualMode {
    /// For a partition's translations.
    #[inline(always)]
    pub fn new(lpid: Lpid) -> Self {
        Hardware(Anybody(lpid))
    }
}

#[allow(private_bounds)] // whose they can be is settled here
impl<P: Place> Machine for Hardware<P> {
    const BULK_LIMIT: u64 = P::BULK_LIMIT;

    #[inline(always)]
    fn tlb_invalidate(&self, index: PteIndex, v: HpteV, r: HpteR) {
        crate::instructions::ptesync();
        let rb = tlbie_rb(v, r, index);
        if self.0.is_local() { forget_here(rb) } else { forget_everywhere(rb, self.0.lpid()) }
    }

    #[inline(always)]
    fn tlb_sync(&self) {
        // A CPU that has arrived since the invalidation has seen the page table as it is now.
        if self.0.is_local() { crate::instructions::ptesync() } else { sync_everywhere() }
    }

    #[inline(always)]
    fn tlb_invalidate_one(&self, index: PteIndex, v: HpteV, r: HpteR) {
        crate::instructions::ptesync();
        let rb = tlbie_rb(v, r, index);
        if self.0.is_local() {
            forget_here(rb);
            crate::instructions::ptesync();
        } else {
            forget_everywhere(rb, self.0.lpid());
            sync_everywhere();
        }
    }

    #[inline(always)]
    fn pte_sync(&self) {
        crate::instructions::ptesync();
    }

    fn zero(&self, at: HostReal, len: u64) {
        // SAFETY: the page table only names memory of the partition; multiples of 4096 are multiples of a block.
        unsafe { zero_blocks(at, len) }
    }

    fn copy(&self, from: HostReal, to: HostReal, len: u64) {
        // SAFETY: both ranges are memory of the partition, and multiples of 4096 are multiples of a block.
        unsafe { copy_blocks(from, to, len) }
    }

    fn icache_sync(&self, at: HostReal, len: u64) {
        for_blocks(at, len, |block| {
            // SAFETY: stores what the caches hold of the block.
            unsafe { asm!("dcbst 0, {}", in(reg) block, options(nostack, preserves_flags)) };
        });
        // SAFETY: only orders.
        unsafe { asm!("sync", options(nostack, preserves_flags)) };
        for_blocks(at, len, |block| {
            // SAFETY: forgets the block's instructions.
            unsafe { asm!("icbi 0, {}", in(reg) block, options(nostack, preserves_flags)) };
        });
        // SAFETY: only orders.
        unsafe { asm!("sync", "isync", options(nostack, preserves_flags)) };
    }
}

/// Forgets a translation of the partition of LPIDR in this CPU's TLB: `tlbiel`, which the assembler does not take with the two operands of Power ISA 2.07.
#[inline(always)]
fn forget_here(rb: u64) {
    // SAFETY: forgetting a translation is always allowed; the operand is of the ISA's form.
    unsafe { asm!(".long 0x7c000224 | {} << 11", in(reg) rb, options(nostack, preserves_flags)) };
    #[cfg(feature = "count")]
    count::note(true);
}

/// Forgets a translation of a partition in all TLBs.
#[inline(always)]
fn forget_everywhere(rb: u64, lpid: Lpid) {
    let lpid = u64::from(lpid.0);
    // SAFETY: as above.
    unsafe { asm!("tlbie {}, {}, 0, 0, 0", in(reg) rb, in(reg) lpid, options(nostack, preserves_flags)) };
    #[cfg(feature = "count")]
    count::note(false);
}

/// Waits until all TLBs have forgotten.
#[inline(always)]
fn sync_everywhere() {
    // SAFETY: only orders.
    unsafe { asm!("eieio", "tlbsync", "ptesync", options(nostack, preserves_flags)) };
}

/// How many invalidations there were: only in builds that test which kind was chosen.
#[cfg(feature = "count")]
pub mod count {
    use core::sync::atomic::{AtomicU64, Ordering};

    static LOCAL: AtomicU64 = AtomicU64::new(0);
    static GLOBAL: AtomicU64 = AtomicU64::new(0);

    pub(super) fn note(local: bool) {
        if local { &LOCAL } else { &GLOBAL }.fetch_add(1, Ordering::Relaxed);
    }

    /// `tlbiel` and `tlbie`, up to now.
    pub fn so_far() -> (u64, u64) {
        (LOCAL.load(Ordering::Relaxed), GLOBAL.load(Ordering::Relaxed))
    }
}

/// Makes all TLBs forget everything of a partition, and the processors what they have cached of its partition table
/// entry (Power ISA 3.0C, book III, 5.9.3.3; IS=2: by LPID).
pub fn flush_partition(lpid: Lpid, partition_table: bool) {
    const BY_LPID: u64 = 2 << 10;
    let lpid = u64::from(lpid.0);
    // SAFETY: forgetting translations is always allowed. RIC=2 is for processors with a partition table.
    unsafe {
        if partition_table {
            asm!("ptesync", "tlbie {}, {}, 2, 0, 0", in(reg) BY_LPID, in(reg) lpid, options(nostack, preserves_flags));
        } else {
            asm!("ptesync", "tlbie {}, {}, 0, 0, 0", in(reg) BY_LPID, in(reg) lpid, options(nostack, preserves_flags));
        }
        asm!("eieio", "tlbsync", "ptesync", options(nostack, preserves_flags));
    }
}

/// Writes the data cache's blocks of a range to memory and forgets them (`dcbf`).
pub fn flush_data(at: HostReal, len: u64) {
    for_blocks(at, len, |block| {
        // SAFETY: writes back; no contents change.
        unsafe { asm!("dcbf 0, {}", in(reg) block, options(nostack, preserves_flags)) };
    });
    // SAFETY: only orders.
    unsafe { asm!("sync", options(nostack, preserves_flags)) };
}

#[inline(always)]
fn for_blocks(at: HostReal, len: u64, each: impl Fn(u64)) {
    let mut block = at.ea() & !(CACHE_BLOCK - 1);
    let end = at.ea().wrapping_add(len);
    while block < end {
        each(block);
        block = block.wrapping_add(CACHE_BLOCK);
    }
}

/// Copies memory; the ranges are equal or disjoint.
///
/// By quadwords in pairs of general purpose registers, which every mode and byte order may use since ISA 2.07: the vector registers are a guest's.
///
/// # Safety
/// Both are memory of the caller's, and multiples of [`CACHE_BLOCK`].
pub unsafe fn copy_blocks(from: HostReal, to: HostReal, len: u64) {
    if len < CACHE_BLOCK {
        return;
    }
    // SAFETY: the caller's; the loop runs once for each block of the range, and quadwords are aligned as blocks are.
    unsafe {
        asm!(
            "mtctr 0",
            "2: lq 4, 0(3)", "lq 6, 16(3)", "lq 8, 32(3)", "lq 10, 48(3)",
            "lq 14, 64(3)", "lq 16, 80(3)", "lq 18, 96(3)", "lq 20, 112(3)",
            "addi 3, 3, 128",
            "stq 4, 0(12)", "stq 6, 16(12)", "stq 8, 32(12)", "stq 10, 48(12)",
            "stq 14, 64(12)", "stq 16, 80(12)", "stq 18, 96(12)", "stq 20, 112(12)",
            "addi 12, 12, 128", "bdnz 2b",
            in("r0") len / CACHE_BLOCK, inout("r3") from.ea() => _, inout("r12") to.ea() => _,
            out("r4") _, out("r5") _, out("r6") _, out("r7") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r14") _, out("r15") _, out("r16") _, out("r17") _, out("r18") _, out("r19") _, out("r20") _, out("r21") _,
            out("ctr") _, options(nostack, preserves_flags));
    }
}

/// Zeroes memory by `dcbz`.
///
/// # Safety
/// `at..at + len` is cacheable memory of the caller's, both multiples of [`CACHE_BLOCK`].
pub unsafe fn zero_blocks(at: HostReal, len: u64) {
    if len == 0 {
        return;
    }
    // Sixteen blocks a turn where that comes out even: the loop costs more than the blocks otherwise.
    if len.is_multiple_of(16 * CACHE_BLOCK) {
        // SAFETY: the caller's; the loop runs once for each sixteen blocks of the range.
        unsafe {
            asm!("mtctr {n}",
                 "2: dcbz 0, {a}", "dcbz {b1}, {a}", "dcbz {b2}, {a}", "dcbz {b3}, {a}",
                 "dcbz {b4}, {a}", "dcbz {b5}, {a}", "dcbz {b6}, {a}", "dcbz {b7}, {a}", "addi {a}, {a}, 1024",
                 "dcbz 0, {a}", "dcbz {b1}, {a}", "dcbz {b2}, {a}", "dcbz {b3}, {a}",
                 "dcbz {b4}, {a}", "dcbz {b5}, {a}", "dcbz {b6}, {a}", "dcbz {b7}, {a}", "addi {a}, {a}, 1024",
                 "bdnz 2b",
                 n = in(reg) len / (16 * CACHE_BLOCK), a = inout(reg_nonzero) at.ea() => _,
                 b1 = in(reg_nonzero) CACHE_BLOCK, b2 = in(reg_nonzero) 2 * CACHE_BLOCK,
                 b3 = in(reg_nonzero) 3 * CACHE_BLOCK, b4 = in(reg_nonzero) 4 * CACHE_BLOCK,
                 b5 = in(reg_nonzero) 5 * CACHE_BLOCK, b6 = in(reg_nonzero) 6 * CACHE_BLOCK,
                 b7 = in(reg_nonzero) 7 * CACHE_BLOCK,
                 out("ctr") _, options(nostack, preserves_flags));
        }
        return;
    }
    for_blocks(at, len, |block| {
        // SAFETY: the caller's.
        unsafe { asm!("dcbz 0, {}", in(reg) block, options(nostack, preserves_flags)) };
    });
}
