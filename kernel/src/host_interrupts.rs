//! The host's own interrupts. Nothing here wants them yet: the console is polled, timers are HDEC and DEC. So the
//! presentation controller of the CPU is told to hold everything back, or a device that the firmware left enabled
//! would take a guest's time at every turn.
#![allow(unsafe_code)] // device registers

use fdt::Fdt;
use power::HostReal;
use volatile::VolatileRef;

use crate::mmu;

/// Where a presentation controller has the CPU's priority, as the device tree describes it.
struct Cppr {
    /// The compatible string of the node.
    compatible: &'static str,
    /// Which of the node's ranges.
    range: usize,
    /// The register's offset there.
    offset: u64,
}

/// POWER8: the ICP's CPPR, the top byte of XIRR. POWER9 and later: the CPPR of the physical hypervisor ring (QW3) in the
/// thread interrupt management area, whose second range is the hypervisor's view (skiboot, doc/xive.rst).
const KINDS: [Cppr; 2] = [
    Cppr { compatible: "IBM,ppc-xicp", range: 0, offset: 4 },
    Cppr { compatible: "ibm,opal-xive-pe", range: 1, offset: 0x31 },
];

/// Lets no interrupt through; false if there is no controller that is known.
pub fn mask(tree: &Fdt<'_>) -> bool {
    let Some((kind, range)) = KINDS.iter().find_map(|kind| {
        let node = tree.find_compatible(&[kind.compatible])?;
        Some((kind, node.reg()?.nth(kind.range)?))
    }) else {
        return false;
    };
    let len = range.size.unwrap_or(0x1000) as u64;
    let Some(ea) = mmu::map_device(HostReal(range.starting_address as u64), len.min(0x1000)) else {
        return false;
    };
    // SAFETY: the window has just been mapped, and the register is a byte that nobody else writes.
    let mut cppr =
        unsafe { VolatileRef::new(core::ptr::NonNull::new_unchecked((ea + kind.offset) as *mut u8)) };
    cppr.as_mut_ptr().write(0);
    true
}
