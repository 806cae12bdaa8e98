//! The presentation controllers of POWER8 (ICPs), one for each CPU.

use core::sync::atomic::Ordering;

use fdt::Fdt;
use power::HostReal;
use realmode::host::{self, CPUS, DEVICE_PRIORITY};

use crate::{cpus, mmu, opal};

/// Each node has the controllers of some servers, one range for each, in the order of their numbers.
pub fn find(tree: &Fdt<'_>) -> bool {
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

/// Lets rings and devices' interrupts through to this CPU.
pub fn open(own: usize) {
    if CPUS[own].icp_mapped.load(Ordering::Relaxed) != 0 {
        host::admit(&CPUS[own], DEVICE_PRIORITY + 1);
    }
}

/// Has a source interrupt a CPU.
pub fn target(source: u32, cpu: usize) -> Result<(), opal::Error> {
    opal::set_xive(source, CPUS[cpu].pir.load(Ordering::Relaxed), DEVICE_PRIORITY)
}

/// Serves what real mode has taken. What comes after it interrupts again.
pub fn serve(own: usize, handle: impl Fn(u32)) {
    let cpu = &CPUS[own];
    let xirr = cpu.taken.swap(0, Ordering::Relaxed);
    if xirr != 0 {
        handle(host::source(xirr));
        host::end(cpu, xirr);
    }
}
