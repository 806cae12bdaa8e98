//! The host's CPUs, threads of a core included: found in the device tree, numbered, taken over from the firmware.
#![allow(unsafe_code)] // starts CPUs at assembly, and hands them their structure

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use fdt::Fdt;
use fdt::node::FdtNode;
use power::{CpuFeatures, Generation, HostReal, spr};
use realmode::host::{self, CPUS};
use realmode::instructions::{mfspr, pause, timebase};
use realmode::layout::PerCpu;
use sched::{CpuSet, MAX_CPUS};
use spin::Once;

use crate::mmu::{self, HostMmu};
use crate::partition::TIMEBASE_HZ;
use crate::{host_interrupts, log, opal, percpu, run};

/// The structure of the CPU that is being started: what the assembly enters with.
#[unsafe(no_mangle)]
static STARTING: AtomicPtr<PerCpu> = AtomicPtr::new(core::ptr::null_mut());
/// How many have arrived, the boot CPU included.
static ARRIVED: AtomicUsize = AtomicUsize::new(1);
/// There are run queues.
static GO: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The number of the boot CPU.
static BOOT: AtomicUsize = AtomicUsize::new(0);
/// Threads of a core, at most.
static THREADS: AtomicU32 = AtomicU32::new(1);
/// CPUs that run.
static ONLINE: Once<CpuSet> = Once::new();
static MMU: Once<(HostMmu, CpuFeatures)> = Once::new();

unsafe extern "C" {
    static secondary_start: u8;
}

/// Lets the other CPUs begin to run partitions.
pub fn let_go() {
    GO.store(true, Ordering::Release);
}

/// How many CPUs the machine has.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Those that run.
pub fn online() -> CpuSet {
    ONLINE.get().copied().unwrap_or_else(|| CpuSet::one(boot()))
}

/// The number of the CPU that the firmware started the hypervisor on.
pub fn boot() -> usize {
    BOOT.load(Ordering::Relaxed)
}

/// How many threads a core has, at most.
pub fn threads_per_core() -> u32 {
    THREADS.load(Ordering::Relaxed)
}

/// Numbers the CPUs in the order of the device tree: their number, and that of the boot CPU, are known from here on.
pub fn find(tree: &Fdt<'_>, features: &CpuFeatures) {
    host::GLOBAL_DOORBELLS.store(features.partition_table, Ordering::Relaxed);
    // SAFETY: PIR can always be read.
    let own = unsafe { mfspr::<{ spr::PIR }>() } as u32;
    // Threads of a POWER8 core have one LPIDR and one SDR1 between them: one cannot be in the hypervisor, with translation on, while
    // another is in a guest. The emulator has them per thread.
    let emulated = tree.root().compatible().all().any(|name| name.starts_with("qemu,"));
    let lone = features.generation == Generation::Power8 && !emulated;
    let mut number = 0;
    for node in tree.find_node("/cpus").iter().flat_map(|cpus| cpus.children()).filter(is_good) {
        let threads = if lone { 1 } else { servers(node).count() };
        if threads == 0 || number + threads > MAX_CPUS {
            continue;
        }
        THREADS.fetch_max(threads as u32, Ordering::Relaxed);
        for (thread, pir) in servers(node).take(threads).enumerate() {
            let cpu = &CPUS[number + thread];
            cpu.pir.store(pir, Ordering::Relaxed);
            cpu.core.store(number as u32, Ordering::Relaxed);
            cpu.threads.store(threads as u32, Ordering::Relaxed);
            if pir == own {
                BOOT.store(number + thread, Ordering::Relaxed);
            }
        }
        number += threads;
    }
    COUNT.store(number.max(1), Ordering::Relaxed);
    host::SHARED_HDEC.store(!features.partition_table && threads_per_core() > 1, Ordering::Relaxed);
    percpu::set_number(boot());
}

/// Starts every other CPU and waits until it has arrived, one after the other.
pub fn start(mmu: &HostMmu, features: &CpuFeatures) {
    MMU.call_once(|| (*mmu, *features));
    let entry = HostReal::of_ea((&raw const secondary_start) as u64);
    let mut online = CpuSet::one(boot());
    for (index, number) in (0..count()).filter(|number| *number != boot()).enumerate() {
        let pir = CPUS[number].pir.load(Ordering::Relaxed);
        STARTING.store(percpu::prepare(index, number), Ordering::SeqCst);
        let before = ARRIVED.load(Ordering::SeqCst);
        if let Err(error) = opal::start_cpu(pir, entry) {
            log!("cpu {number} (PIR {pir:#x}) does not start: {error:?}");
            continue;
        }
        // One that does not arrive might do so later, on the next one's stack: it would be the last one to be started.
        let deadline = timebase() + TIMEBASE_HZ;
        while ARRIVED.load(Ordering::SeqCst) == before && timebase() < deadline {
            pause();
        }
        if ARRIVED.load(Ordering::SeqCst) == before {
            log!(
                "cpu {number} (PIR {pir:#x}) was started and has not arrived within a second; no more are started"
            );
            break;
        }
        online.insert(number);
    }
    ONLINE.call_once(|| online);
}

/// A CPU other than the boot CPU, on its own stack, translation off.
#[unsafe(no_mangle)]
extern "C" fn secondary() -> ! {
    let Some((mmu, features)) = MMU.get() else { unreachable!("CPUs are started after the MMU is known") };
    // SAFETY: the table maps all memory, hence this code and this stack, at the addresses in use.
    unsafe { mmu::enable(mmu, features) };
    host_interrupts::set_own();
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    while !GO.load(Ordering::Acquire) {
        pause();
    }
    run::join(features)
}

/// Not one that the firmware has found to be broken.
fn is_good(node: &FdtNode<'_, '_>) -> bool {
    let is_cpu = node.property("device_type").is_some_and(|p| p.as_str() == Some("cpu"));
    is_cpu && node.property("status").is_none_or(|p| matches!(p.as_str(), Some("okay" | "ok")))
}

/// The interrupt server numbers of a CPU node: one for each of its threads.
fn servers<'a>(node: FdtNode<'a, 'a>) -> impl Iterator<Item = u32> + 'a {
    let list = node.property("ibm,ppc-interrupt-server#s").map_or(&[][..], |p| p.value);
    list.chunks_exact(4).map(|cell| u32::from_be_bytes([cell[0], cell[1], cell[2], cell[3]]))
}
