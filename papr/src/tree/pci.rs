//! A PCI host bridge and its functions (LoPAR, "PCI Host Bridge" nodes; IEEE 1275 PCI bus binding): as firmware leaves them, with all
//! memory in its place. Guests take that over.

use alloc::format;
use alloc::vec::Vec;

use vm_fdt::FdtWriter;

use super::{Error, XICS_PHANDLE};
use crate::rtas::Service;

/// How many slots a bridge has.
const SLOTS: u32 = 32;

/// A range of addresses on the bus that stands for real addresses of the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusRange {
    /// They have 64 bits.
    pub wide: bool,
    /// The first on the bus.
    pub bus: u64,
    /// The first of the partition.
    pub real: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Memory of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Its base address register, 0 to 5.
    pub bar: u32,
    /// Its address may have 64 bits.
    pub wide: bool,
    /// It may be prefetched.
    pub prefetchable: bool,
    /// Where it is on the bus.
    pub bus: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// A function.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are PCI's own
pub struct FunctionConfig {
    /// Its slot.
    pub slot: u32,
    pub vendor: u32,
    pub device: u32,
    pub subsystem_vendor: u32,
    pub subsystem: u32,
    pub class: u32,
    pub revision: u32,
    /// Its interrupt pin, from 1 on; 0 if it has none.
    pub pin: u32,
    /// How many messages it can send, by MSI and by MSI-X.
    pub messages: (u32, u32),
    pub memory: Vec<Memory>,
}

/// A host bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostBridgeConfig {
    /// Its unit, by which calls name it.
    pub unit: u64,
    /// Where its functions' memory may be.
    pub ranges: Vec<BusRange>,
    /// The first interrupt source of its lines, and how many they are: each slot has the one of its number, modulo that.
    pub lines: (u32, u32),
    /// How many messages there are for all functions.
    pub messages: u32,
    /// The DMA window that there always is: its number, its first bus address, its bytes.
    pub window: (u32, u64, u64),
    /// Its functions.
    pub functions: Vec<FunctionConfig>,
}

const fn cells(n: u64) -> [u32; 2] {
    [(n >> 32) as u32, n as u32]
}

/// The first cell of an address: which space it is in.
const fn space(wide: bool, prefetchable: bool) -> u32 {
    (if wide { 3 << 24 } else { 2 << 24 }) | (prefetchable as u32) << 30
}

/// Writes the node.
pub(super) fn host_bridge(w: &mut FdtWriter, c: &HostBridgeConfig) -> Result<(), Error> {
    let node = w.begin_node(&format!("pci@{:x}", c.unit))?;
    w.property_string("device_type", "pci")?;
    w.property_string("compatible", "IBM,Logical_PHB")?;
    w.property_u32("#address-cells", 3)?;
    w.property_u32("#size-cells", 2)?;
    w.property_u32("#interrupt-cells", 1)?;
    w.property_null("used-by-rtas")?;
    w.property_array_u64("reg", &[c.unit, 0])?;
    w.property_array_u32("bus-range", &[0, 0xff])?;
    let range = |range: &BusRange| {
        let ([bus, bus_low], [real, real_low], [bytes, bytes_low]) =
            (cells(range.bus), cells(range.real), cells(range.bytes));
        [space(range.wide, false), bus, bus_low, real, real_low, bytes, bytes_low]
    };
    let ranges: Vec<u32> = c.ranges.iter().flat_map(range).collect();
    w.property_array_u32("ranges", &ranges)?;
    w.property_u32("ibm,pci-config-space-type", 0)?;
    w.property_u32("ibm,pe-total-#msi", c.messages)?;
    w.property_u32("ibm,#dma-address-cells", 2)?;
    w.property_u32("ibm,#dma-size-cells", 2)?;
    let (number, base, bytes) = c.window;
    let ([base, base_low], [bytes, bytes_low]) = (cells(base), cells(bytes));
    w.property_array_u32("ibm,dma-window", &[number, base, base_low, bytes, bytes_low])?;
    let [query, create, remove, reset] = [
        Service::QueryDmaWindow,
        Service::CreateDmaWindow,
        Service::RemoveDmaWindow,
        Service::ResetDmaWindows,
    ]
    .map(Service::token);
    w.property_array_u32("ibm,ddw-applicable", &[query, create, remove])?;
    w.property_array_u32("ibm,ddw-extensions", &[1, reset])?;
    w.property_array_u32("interrupt-map-mask", &[0xf800, 0, 0, 7])?;
    let (first, count) = c.lines;
    let map = (0..SLOTS).flat_map(|slot| {
        (1..=4).map(move |pin| [slot << 11, 0, 0, pin, XICS_PHANDLE, first + (slot + pin - 1) % count, 1])
    });
    let map: Vec<u32> = map.flatten().collect();
    w.property_array_u32("interrupt-map", &map)?;
    for function in &c.functions {
        self::function(w, function)?;
    }
    Ok(w.end_node(node)?)
}

fn function(w: &mut FdtWriter, f: &FunctionConfig) -> Result<(), Error> {
    let node = w.begin_node(&format!("pci{:x},{:x}@{:x}", f.vendor, f.device, f.slot))?;
    w.property_u32("vendor-id", f.vendor)?;
    w.property_u32("device-id", f.device)?;
    w.property_u32("revision-id", f.revision)?;
    w.property_u32("class-code", f.class)?;
    if f.subsystem_vendor != 0 {
        w.property_u32("subsystem-vendor-id", f.subsystem_vendor)?;
        w.property_u32("subsystem-id", f.subsystem)?;
    }
    if f.pin != 0 {
        w.property_u32("interrupts", f.pin)?;
    }
    w.property_u32("#address-cells", 3)?;
    w.property_u32("#size-cells", 2)?;
    let (msi, msi_x) = f.messages;
    if msi != 0 {
        w.property_u32("ibm,req#msi", msi)?;
    }
    if msi_x != 0 {
        w.property_u32("ibm,req#msi-x", msi_x)?;
    }
    w.property_u32("ibm,pci-config-space-type", 0)?;
    let place =
        |memory: &Memory| space(memory.wide, memory.prefetchable) | f.slot << 11 | (0x10 + 4 * memory.bar);
    let mut reg = alloc::vec![f.slot << 11, 0, 0, 0, 0];
    let mut assigned = Vec::new();
    for memory in &f.memory {
        let ([bus, bus_low], [bytes, bytes_low]) = (cells(memory.bus), cells(memory.bytes));
        reg.extend([place(memory), 0, 0, bytes, bytes_low]);
        // Bit 31: it stays where it is.
        assigned.extend([place(memory) | 1 << 31, bus, bus_low, bytes, bytes_low]);
    }
    w.property_array_u32("reg", &reg)?;
    if !assigned.is_empty() {
        w.property_array_u32("assigned-addresses", &assigned)?;
    }
    Ok(w.end_node(node)?)
}
