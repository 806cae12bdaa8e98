//! The hypervisor image: from the firmware's entry to running partitions.
//!
//! Each stage of the boot says one line. A machine that cannot be used and an archive that makes no sense end the run
//! with status 2 and a line that says what is wrong.
#![no_std]
#![no_main]

extern crate alloc;

mod clock;
mod console;
mod cpus;
mod devices;
mod entropy;
mod epitaph;
mod exits;
mod host;
mod host_interrupts;
mod idle;
mod memory;
mod merge;
mod mmu;
mod monitor;
mod network;
mod opal;
mod partition;
mod partitions;
mod pci;
mod percpu;
mod run;
mod schedule;
#[cfg(feature = "selftest")]
mod selftest;
mod start;
mod sync;
mod terminal;
mod trace;
mod watch;

use fdt::Fdt;
use frames::Range;
use power::{CpuFeatures, HostReal, spr};
use realmode::instructions::mfspr;

use crate::memory::Map;

/// The exit status of a run that could not start.
const UNUSABLE: u8 = 2;

/// Called by the entry code on the boot stack, translation off.
#[unsafe(no_mangle)]
#[allow(unsafe_code)] // the boundary to the firmware, and the step into translation
extern "C" fn boot(tree: u64, opal_base: u64, opal_entry: u64, loaded_at: u64) -> ! {
    opal::init(opal_base, opal_entry);
    console::init();
    percpu::init_early();
    // Interrupts of the hypervisor are little endian from here on.
    if let Err(error) = opal::reinit_cpus(opal::REINIT_HILE_LE) {
        unusable(format_args!("the firmware does not switch interrupts to little endian: {error:?}"));
    }
    // SAFETY: PVR can always be read.
    let pvr = unsafe { mfspr::<{ spr::PVR }>() } as u32;
    let Some(features) = CpuFeatures::from_pvr(pvr) else {
        unusable(format_args!(
            "processor with PVR {pvr:#010x} is not supported: POWER8, POWER9 or POWER10 is needed"
        ));
    };
    log!(
        "Partita {} on {} (PVR {pvr:#010x}), loaded at {loaded_at:#x}",
        env!("CARGO_PKG_VERSION"),
        features.generation.name()
    );
    // SAFETY: the firmware gave the tree's address; it lies in memory that the map below keeps reserved.
    let tree = match unsafe { Fdt::from_ptr(HostReal(tree).ea() as *const u8) } {
        Ok(parsed) => (parsed, Range::sized(tree, parsed.total_size() as u64)),
        Err(error) => unusable(format_args!("the firmware's device tree cannot be read: {error}")),
    };
    cpus::find(&tree.0, &features);
    let mut map = usable(Map::from_tree(&tree.0, tree.1));
    usable(percpu::reserve_areas(&mut map, cpus::count() - 1));
    usable(memory::init_heap(&mut map));
    usable(memory::init(&map));
    log!("memory: {} MiB, {} MiB of it free", map.all.total() >> 20, memory::free() >> 20);
    let host_mmu = usable(mmu::init(&map, &features));
    percpu::set_mmu(&host_mmu, &features);
    // SAFETY: the table maps all memory, hence this code and this stack, at the addresses in use.
    unsafe { mmu::enable(&host_mmu, &features) };
    log!("translation on: {} segments mapped", host_mmu.segments);
    if !host_interrupts::init(&tree.0, &features) {
        log!(
            "no interrupt controller that is known for each CPU: host interrupts are left as the firmware has them"
        );
    }
    cpus::start(&host_mmu, &features);
    let online = cpus::online();
    log!("cpus: {} of {} run, {} to a core at most", online.len(), cpus::count(), cpus::threads_per_core());
    #[cfg(feature = "selftest")]
    selftest::run(tree.0.chosen().bootargs().unwrap_or(""));
    start::start(&tree.0, &map, &features)
}

/// A stage's result, or the end of the run.
fn usable<T>(result: Result<T, &'static str>) -> T {
    result.unwrap_or_else(|why| unusable(format_args!("{why}")))
}

/// Ends a run that cannot start.
fn unusable(why: core::fmt::Arguments<'_>) -> ! {
    epitaph::end(UNUSABLE, why)
}
