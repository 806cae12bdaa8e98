//! The host's devices that the program has to itself, by the nodes of its device tree.

use crate::platform;

/// What says of a node that it is such a device.
const COMPATIBLE: &str = "partita,pci-device";

/// A device, and its first range of memory.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// PCI's vendor and its device.
    pub ids: (u32, u32),
    /// Where the host has it.
    pub address: &'static str,
    /// The real address of the first range.
    pub base: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The source of its first interrupt.
    pub source: Option<u32>,
}

/// The devices, in the order of the tree.
pub fn devices() -> impl Iterator<Item = Device> {
    platform::tree().all_nodes().filter_map(|node| {
        node.compatible()?.all().find(|name| *name == COMPATIBLE)?;
        let value = |name| node.properties().find(|p| p.name == name).map(|p| p.value);
        let cell = |name| Some(u32::from_be_bytes(value(name)?.try_into().ok()?));
        let (base, rest) = value("reg")?.split_first_chunk()?;
        Some(Device {
            ids: (cell("vendor-id")?, cell("device-id")?),
            address: core::str::from_utf8(value("partita,host-address")?).ok()?.trim_end_matches('\0'),
            base: u64::from_be_bytes(*base),
            bytes: u64::from_be_bytes(*rest.first_chunk()?),
            source: value("interrupts").and_then(|cells| Some(u32::from_be_bytes(*cells.first_chunk()?))),
        })
    })
}
