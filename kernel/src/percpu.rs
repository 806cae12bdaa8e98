//! The structure that each host CPU enters the hypervisor with.
#![allow(unsafe_code)] // a static that assembly owns from here on

use core::cell::UnsafeCell;
use core::ptr::null_mut;

use power::{CpuFeatures, spr};
use realmode::instructions::mtspr;
use realmode::layout::{CrashFrame, PerCpu};

use crate::memory::image;
use crate::mmu::{self, HostMmu};

struct Cell(UnsafeCell<PerCpu>);

// SAFETY: only the CPU that HSPRG0 of names it, and only one does, reaches the contents.
unsafe impl Sync for Cell {}

static BOOT_CPU: Cell = Cell(UnsafeCell::new(PerCpu {
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
    frame: CrashFrame { gpr: [0; 32], pc: 0, msr: 0, vector: 0, cr: 0, lr: 0, ctr: 0, dar: 0, dsisr: 0 },
}));

/// The boot CPU's.
pub fn boot_cpu() -> *mut PerCpu {
    BOOT_CPU.0.get()
}

/// Makes interrupts find their way: before anything can fault.
pub fn init_early() {
    let toc: u64;
    // SAFETY: reads r2.
    unsafe { core::arch::asm!("mr {}, 2", out(reg) toc, options(nomem, nostack)) };
    let cpu = boot_cpu();
    // SAFETY: nobody else knows of it yet; HSPRG0 is the hypervisor's. The stacks are the linker script's.
    unsafe {
        (*cpu).toc = toc;
        (*cpu).realmode_stack = image::realmode_stack_top() - 112;
        (*cpu).emergency_stack = image::emergency_stack_top() - 112;
        mtspr::<{ spr::HSPRG0 }>(cpu as u64);
        core::arch::asm!("mr 13, {}", in(reg) cpu, options(nostack));
    }
}

/// What full exits and segment misses need.
pub fn set_mmu(mmu: &HostMmu, features: &CpuFeatures) {
    let cpu = boot_cpu();
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
