//! The host's own interrupts. Devices are not served by interrupts yet, so the presentation controller of each CPU holds them
//! back, or one that the firmware left enabled would take a guest's time at every turn. On POWER8 the controller also carries
//! the rings between cores: nothing but them gets through.
#![allow(unsafe_code)] // device registers

use core::sync::atomic::{AtomicU64, Ordering};

use fdt::Fdt;
use power::{CpuFeatures, HostReal};
use realmode::host::{self, CPUS, IPI_PRIORITY};
use volatile::VolatileRef;

use crate::{cpus, mmu, percpu};

/// The CPPR of the physical hypervisor ring (QW3) in the thread interrupt management area, whose second range is the
/// hypervisor's view (skiboot, doc/xive.rst). The area shows each CPU its own registers.
const TIMA_CPPR: u64 = 0x31;
/// CPPR of a presentation controller of the older kind: the first byte of XIRR.
const ICP_CPPR: u64 = 4;

/// Where TIMA_CPPR is mapped; 0 if there is none.
static TIMA: AtomicU64 = AtomicU64::new(0);

/// Finds the controllers of all CPUs and sets the one of this CPU; false if there is none that is known.
pub fn init(tree: &Fdt<'_>, features: &CpuFeatures) -> bool {
    let found = if features.partition_table { find_tima(tree) } else { find_icps(tree) };
    mask_own();
    found
}

fn find_tima(tree: &Fdt<'_>) -> bool {
    let range = tree.find_compatible(&["ibm,opal-xive-pe"]).and_then(|node| node.reg()?.nth(1));
    let Some(ea) = range.and_then(|r| mmu::map_device(HostReal(r.starting_address as u64), 0x1000)) else {
        return false;
    };
    TIMA.store(ea + TIMA_CPPR, Ordering::Relaxed);
    true
}

/// Each node has the controllers of some servers, one range for each, in the order of their numbers.
fn find_icps(tree: &Fdt<'_>) -> bool {
    let mut found = 0;
    for node in tree.all_nodes() {
        let ours = node.compatible().is_some_and(|c| c.all().any(|name| name == "IBM,ppc-xicp"));
        let first = node.property("ibm,interrupt-server-ranges").and_then(|p| p.value.first_chunk::<4>());
        let (true, Some(first), Some(ranges)) = (ours, first, node.reg()) else { continue };
        for (n, range) in ranges.enumerate() {
            let pir = u32::from_be_bytes(*first) + n as u32;
            let cpu = CPUS.iter().take(cpus::count()).find(|cpu| cpu.pir.load(Ordering::Relaxed) == pir);
            let at = HostReal(range.starting_address as u64);
            if let (Some(cpu), Some(ea)) = (cpu, mmu::map_device(at, 0x1000)) {
                cpu.icp_mapped.store(ea, Ordering::Relaxed);
                cpu.icp_real.store(at.0, Ordering::Relaxed);
                found += 1;
            }
        }
    }
    found == cpus::count()
}

/// Sets this CPU's controller, and forgets what the firmware may have left pending there.
pub fn mask_own() {
    let own = percpu::number();
    match (CPUS[own].icp_mapped.load(Ordering::Relaxed), TIMA.load(Ordering::Relaxed)) {
        (0, 0) => {}
        (0, tima) => write_byte(tima, 0),
        (icp, _) => write_byte(icp + ICP_CPPR, IPI_PRIORITY + 1),
    }
    host::acknowledge(own);
}

fn write_byte(ea: u64, value: u8) {
    // SAFETY: a register of this CPU's in a mapped window, a byte that nobody else writes.
    let mut register = unsafe { VolatileRef::new(core::ptr::NonNull::new_unchecked(ea as *mut u8)) };
    register.as_mut_ptr().write(value);
}
