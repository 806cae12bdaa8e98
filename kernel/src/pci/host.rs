//! What the firmware's device tree tells of PCI: host bridges, and the functions and bridges that it found below each. It has
//! numbered the buses and closed all bridges' windows (skiboot, doc/device-tree/pci.rst, core/pci.c).

use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;

use bundle::PciAddress;
use fdt::Fdt;
use fdt::node::FdtNode;
use pci::{AccessError, Config, Function};
use power::HostReal;

use crate::{mmu, opal};

/// A host bridge ("PHB").
#[derive(Debug)]
pub struct HostBridge {
    /// The firmware's number of it. Its lower 16 bits are the domain.
    pub id: u64,
    /// Its window for 32-bit addresses: on the bus, for the processors, and its length.
    pub window: (u64, HostReal, u64),
    /// How many partitionable endpoints it tells apart; the window has as many segments.
    pub endpoints: u64,
    /// The firmware's number of the first interrupt that is a message, and how many there are.
    pub messages: (u32, u32),
    /// How many of them have been given out.
    pub messages_used: AtomicU32,
    /// A register where a store makes it forget translations (POWER8), mapped; later ones have a call to the firmware for that.
    pub kill: Option<u64>,
}

/// A function below a host bridge.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor and device.
    pub ids: (u32, u32),
    /// It is a bridge.
    pub is_bridge: bool,
    /// The firmware's number of the interrupt that its line is.
    pub line: Option<u32>,
    /// The bridges between the host bridge and it, by routing ID.
    pub above: Vec<u16>,
}

/// The 64 KiB of the window that are kept from `ranges`: messages that are interrupts go there.
const MESSAGES: u64 = 64 << 10;
/// The register of POWER8's host bridges (PHB3) that takes translations to be forgotten.
const KILL: u64 = 0x210;
/// The class of bridges between PCI buses.
const PCI_BRIDGE: u32 = 0x0604;

impl HostBridge {
    /// The domain of its functions' addresses.
    pub fn domain(&self) -> u16 {
        self.id as u16
    }

    /// Where the processors find what is at an address on the bus, in the window.
    pub fn to_real(&self, bus: u64) -> HostReal {
        HostReal(self.window.1.0 + (bus - self.window.0))
    }

    /// Bytes of a segment of the window.
    pub fn segment(&self) -> u64 {
        (self.window.2 + MESSAGES) / self.endpoints
    }
}

impl From<opal::Error> for AccessError {
    fn from(error: opal::Error) -> AccessError {
        AccessError(error.0)
    }
}

impl Config for HostBridge {
    fn read(&self, function: Function, offset: u16) -> Result<u32, AccessError> {
        Ok(opal::pci_config_read(self.id, function.0, offset)?)
    }

    fn write(&self, function: Function, offset: u16, value: u32) -> Result<(), AccessError> {
        Ok(opal::pci_config_write(self.id, function.0, offset, value)?)
    }

    fn reset_port(&self) -> Result<u64, AccessError> {
        Ok(opal::pci_reset_port(self.id)?)
    }

    fn poll_port(&self) -> Result<u64, AccessError> {
        Ok(opal::pci_poll_port(self.id)?)
    }
}

/// All host bridges that we know how to use, and what is below them.
pub fn find(tree: &Fdt<'_>) -> (Vec<HostBridge>, Vec<Found>) {
    let (mut bridges, mut functions) = (Vec::new(), Vec::new());
    for node in tree.all_nodes() {
        if let Some(bridge) = host_bridge(&node) {
            below(&node, &bridge, &mut Vec::new(), &mut functions);
            bridges.push(bridge);
        }
    }
    functions.sort_by_key(|found| found.address);
    (bridges, functions)
}

fn host_bridge(node: &FdtNode<'_, '_>) -> Option<HostBridge> {
    let id = cells(node, "ibm,opal-phbid").collect::<Vec<_>>();
    let endpoints = cells(node, "ibm,opal-num-pes").next()?;
    let ranges: Vec<u32> = cells(node, "ranges").collect();
    let wide = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let window = ranges.chunks_exact(7).find_map(|r| {
        // Space 2: memory with addresses of 32 bits.
        let (bus, len) = (wide(r[1], r[2]), wide(r[5], r[6]));
        let usable = r[0] >> 24 & 3 == 2 && bus.checked_add(len)? <= 1 << 32;
        usable.then_some((bus, HostReal(wide(r[3], r[4])), len))
    })?;
    let [high, low] = *id.first_chunk()?;
    if endpoints == 0 {
        return None;
    }
    let messages: Vec<u32> = cells(node, "ibm,opal-msi-ranges").collect();
    let old = node.compatible().is_some_and(|c| c.all().any(|name| name == "ibm,ioda2-phb"));
    let registers = node.reg().and_then(|mut ranges| ranges.next()).filter(|_| old);
    let registers = registers.and_then(|r| mmu::map_device(HostReal(r.starting_address as u64), 0x1000));
    Some(HostBridge {
        id: wide(high, low),
        window,
        endpoints: u64::from(endpoints),
        messages: messages.first_chunk().map_or((0, 0), |[first, count]| (*first, *count)),
        messages_used: AtomicU32::new(0),
        kill: registers.map(|ea| ea + KILL),
    })
}

fn below(node: &FdtNode<'_, '_>, host: &HostBridge, above: &mut Vec<u16>, found: &mut Vec<Found>) {
    for child in node.children() {
        let cell = |name| cells(&child, name).next();
        let (Some(reg), Some(vendor), Some(device), Some(class)) =
            (cell("reg"), cell("vendor-id"), cell("device-id"), cell("class-code"))
        else {
            continue;
        };
        let id = (reg >> 8) as u16;
        let address = PciAddress {
            domain: host.domain(),
            bus: (id >> 8) as u8,
            device: (id >> 3) as u8 & 31,
            function: id as u8 & 7,
        };
        let is_bridge = class >> 8 == PCI_BRIDGE;
        let bytes = |name| node.property(name).map_or(&[][..], |p| p.value);
        let line = pci::line(
            bytes("interrupt-map-mask"),
            bytes("interrupt-map"),
            reg,
            cell("interrupts").unwrap_or(0),
        );
        found.push(Found { address, ids: (vendor, device), is_bridge, line, above: above.clone() });
        if is_bridge {
            above.push(id);
            below(&child, host, above, found);
            above.pop();
        }
    }
}

fn cells<'a>(node: &FdtNode<'_, 'a>, name: &str) -> impl Iterator<Item = u32> + use<'a> {
    let value = node.property(name).map_or(&[][..], |p| p.value);
    value.as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell))
}
