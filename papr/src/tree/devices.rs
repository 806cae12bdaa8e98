//! The host's devices that a partition has to itself: one node for each, below the root. Its `reg` has the memory of the device, which
//! the partition must map cache-inhibited, its `interrupts` the sources of its messages. There is no configuration space.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vm_fdt::FdtWriter;

use super::Error;

/// What says of a node that it is such a device.
pub const DEVICE_COMPATIBLE: &str = "partita,pci-device";

/// A device of the host's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceConfig {
    /// Where the host has it, as the manifest names it: `0000:01:00.0`. It says nothing about where the partition has it.
    pub address: String,
    /// PCI's vendor.
    pub vendor: u32,
    /// The vendor's number of the device.
    pub device: u32,
    /// Its ranges of memory; one at least.
    pub ranges: Vec<DeviceRange>,
    /// The sources of its interrupts, by vector.
    pub sources: Vec<u32>,
}

/// A range of a device's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceRange {
    /// The number of its base address register.
    pub bar: u8,
    /// The partition's real address of it.
    pub base: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Writes the nodes.
pub(super) fn devices(w: &mut FdtWriter, devices: &[DeviceConfig]) -> Result<(), Error> {
    for device in devices {
        let Some(first) = device.ranges.first() else { continue };
        let node = w.begin_node(&format!("device@{:x}", first.base))?;
        let ids = format!("pci{:x},{:x}", device.vendor, device.device);
        w.property_string_list("compatible", alloc::vec![ids, DEVICE_COMPATIBLE.into()])?;
        w.property_u32("vendor-id", device.vendor)?;
        w.property_u32("device-id", device.device)?;
        w.property_string("partita,host-address", &device.address)?;
        let reg: Vec<u64> = device.ranges.iter().flat_map(|range| [range.base, range.bytes]).collect();
        w.property_array_u64("reg", &reg)?;
        let names = device.ranges.iter().map(|range| format!("bar{}", range.bar)).collect();
        w.property_string_list("reg-names", names)?;
        if !device.sources.is_empty() {
            w.property_u32("interrupt-parent", super::XICS_PHANDLE)?;
            // Events, not levels.
            let interrupts: Vec<u32> = device.sources.iter().flat_map(|source| [*source, 0]).collect();
            w.property_array_u32("interrupts", &interrupts)?;
        }
        w.end_node(node)?;
    }
    Ok(())
}
