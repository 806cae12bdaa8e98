//! The structure that each host CPU enters the hypervisor with, and the memory around it: stacks with guard pages below them.
#![allow(unsafe_code)] // structures that assembly owns from here on

use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU64, Ordering};

use ::trace::Ring;
use frames::FRAME;
use power::{CpuFeatures, HostReal, spr};
use realmode::instructions::mtspr;
use realmode::layout::{CrashFrame, PerCpu};
use realmode::trace::Writer;
use sched::MAX_CPUS;
use spin::Once;

use crate::memory::{self, Map, image};
use crate::mmu::{self, HostMmu};

/// What a CPU other than the boot CPU has: a guard page, its stack, another guard page, a frame with the real-mode stack, the
/// emergency stack and the [`PerCpu`], and its ring of trace events.
const AREA: u64 = 5 * FRAME;
const STACK_TOP: u64 = 2 * FRAME;
const REALMODE_STACK_TOP: u64 = 3 * FRAME + 0x6000;
const EMERGENCY_STACK_TOP: u64 = 3 * FRAME + 0xa000;
const PERCPU: u64 = 3 * FRAME + 0xa000;
const RING: u64 = 4 * FRAME;

const _: () = assert!(PERCPU + size_of::<PerCpu>() as u64 <= RING && size_of::<Ring>() as u64 == FRAME);

/// The least frame of a stack in the ABI: a back chain and the save areas.
const FIRST_FRAME: u64 = 112;

struct Cell(UnsafeCell<PerCpu>);

// SAFETY: only the CPU whose HSPRG0 names it reaches the contents.
unsafe impl Sync for Cell {}

static BOOT_CPU: Cell = Cell(UnsafeCell::new(empty(Writer::none())));

/// Not filled in yet.
const fn empty(trace: Writer) -> PerCpu {
    PerCpu {
        vcpu: null_mut(),
        toc: 0,
        realmode_stack: 0,
        host_r1: 0,
        host_lpcr: 0,
        host_sdr1: 0,
        host_msr: 0,
        host_slb_v: 0,
        linear_segments: 0,
        slb_next: 1,
        partition_table: 0,
        scratch: [0; 8],
        crash: crate::epitaph::crash,
        emergency_stack: 0,
        idle_r1: 0,
        number: 0,
        trace,
        frame: CrashFrame { gpr: [0; 32], pc: 0, msr: 0, vector: 0, cr: 0, lr: 0, ctr: 0, dar: 0, dsisr: 0 },
    }
}

/// The rings of trace events of all CPUs.
static RINGS: [Once<&'static Ring>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// Where the areas of the other CPUs are, by real address, and how many there are.
static AREAS: AtomicU64 = AtomicU64::new(0);
static AREA_COUNT: AtomicU64 = AtomicU64::new(0);

/// This CPU's structure.
pub fn this() -> *mut PerCpu {
    let this: *mut PerCpu;
    // SAFETY: r13 is the PerCpu in the hypervisor and nobody else's.
    unsafe { core::arch::asm!("mr {}, 13", out(reg) this, options(nomem, nostack, preserves_flags)) };
    this
}

/// This CPU's number.
pub fn number() -> usize {
    // SAFETY: valid since `init_early`; the number does not change once the CPU runs.
    unsafe { (*this()).number as usize }
}

/// Makes interrupts of the boot CPU find their way: before anything can fault.
pub fn init_early() {
    let toc: u64;
    // SAFETY: reads r2.
    unsafe { core::arch::asm!("mr {}, 2", out(reg) toc, options(nomem, nostack)) };
    let cpu = BOOT_CPU.0.get();
    // SAFETY: nobody else knows of it yet; HSPRG0 is the hypervisor's. Stacks and ring are the linker script's, and nobody has a reference to
    // the ring before it is cleared.
    unsafe {
        (*cpu).toc = toc;
        (*cpu).realmode_stack = image::realmode_stack_top() - FIRST_FRAME;
        (*cpu).emergency_stack = image::emergency_stack_top() - FIRST_FRAME;
        core::ptr::write_bytes(image::boot_ring() as *mut u8, 0, size_of::<Ring>());
        (*cpu).trace = Writer::new(boot_ring());
        mtspr::<{ spr::HSPRG0 }>(cpu as u64);
        core::arch::asm!("mr 13, {}", in(reg) cpu, options(nostack));
    }
}

/// The boot CPU's ring of trace events, once it has been cleared.
fn boot_ring() -> &'static Ring {
    // SAFETY: a frame of the image's own, aligned to its size, and zeroed: a ring without events. It is written through atomics only.
    unsafe { &*(image::boot_ring() as *const Ring) }
}

/// Reserves the areas of `count` other CPUs: in the first segment, where pages are small enough for guards to be left out.
pub fn reserve_areas(map: &mut Map, count: usize) -> Result<(), &'static str> {
    if count == 0 {
        return Ok(());
    }
    let at = map.take_low(count as u64 * AREA).ok_or("no memory for the stacks of the other CPUs")?;
    // SAFETY: taken out of the map just now, for nobody else.
    unsafe { memory::zero(at, count as u64 * AREA) };
    AREAS.store(at.0, Ordering::Relaxed);
    AREA_COUNT.store(count as u64, Ordering::Relaxed);
    Ok(())
}

/// How much memory the areas take, in bytes.
pub fn area_bytes() -> u64 {
    AREA_COUNT.load(Ordering::Relaxed) * AREA
}

/// Is it in a guard page of one of the areas? `ea` is an address of the linear map.
pub fn is_guard(ea: u64) -> bool {
    let start = HostReal(AREAS.load(Ordering::Relaxed)).ea();
    let end = start + AREA_COUNT.load(Ordering::Relaxed) * AREA;
    (start..end).contains(&ea) && matches!((ea - start) % AREA / FRAME, 0 | 2)
}

/// Fills in the structure of another CPU, the `index`th of them, that is about to be started.
pub fn prepare(index: usize, number: usize) -> *mut PerCpu {
    let base = HostReal(AREAS.load(Ordering::Relaxed) + index as u64 * AREA).ea();
    let cpu = (base + PERCPU) as *mut PerCpu;
    // SAFETY: the area is this CPU's, which does not run yet, and zeroed: a ring without events. What all CPUs have in common is
    // copied from this one.
    unsafe {
        let own = &*this();
        let ring: &'static Ring = &*((base + RING) as *const Ring);
        RINGS[number].call_once(|| ring);
        cpu.write(PerCpu {
            toc: own.toc,
            realmode_stack: base + REALMODE_STACK_TOP - FIRST_FRAME,
            emergency_stack: base + EMERGENCY_STACK_TOP - FIRST_FRAME,
            host_r1: base + STACK_TOP - FIRST_FRAME,
            host_lpcr: own.host_lpcr,
            host_sdr1: own.host_sdr1,
            host_msr: own.host_msr,
            host_slb_v: own.host_slb_v,
            linear_segments: own.linear_segments,
            partition_table: own.partition_table,
            number: number as u64,
            ..empty(Writer::new(ring))
        });
    }
    cpu
}

/// The ring of trace events of a CPU, if it has been started.
pub fn ring(number: usize) -> Option<&'static Ring> {
    RINGS.get(number)?.get().copied()
}

/// The boot CPU's number, as soon as it is known.
pub fn set_number(number: usize) {
    RINGS[number].call_once(boot_ring);
    // SAFETY: this CPU's own, and no guest runs.
    unsafe { (*this()).number = number as u64 };
}

/// What full exits and segment misses need.
pub fn set_mmu(mmu: &HostMmu, features: &CpuFeatures) {
    let cpu = this();
    // SAFETY: no guest runs and translation is off, so no assembly reads it now.
    unsafe {
        (*cpu).host_lpcr = mmu.lpcr.bits();
        (*cpu).host_sdr1 = mmu.sdr1;
        (*cpu).host_msr = mmu.msr.bits();
        (*cpu).host_slb_v = mmu::segment_zero();
        (*cpu).linear_segments = mmu.segments;
        (*cpu).partition_table = u64::from(features.partition_table);
    }
}
