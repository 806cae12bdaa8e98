//! The host's PCI devices that partitions have to themselves: found at boot if the manifest names them, given their places in
//! the host bridge's window, and claimed by a partition as long as it is defined.
//!
//! A partition reaches the memory of its devices directly, at real addresses above its RAM: each range is a device slot of its page
//! table ([`Claim::regions`]). While the partition runs the device reaches the partition's memory, and no other ([`reach`]), and its messages
//! are interrupts of the partition's. Configuration space stays ours, and I/O space and the interrupt line are off. When the
//! partition ends all of it goes off, and the function is reset, if it knows how to do that by itself; what is left in one that does not,
//! the next start finds.
//!
//! Every device is a partitionable endpoint of its host bridge, the unit that the bridge cuts off after an error: one partition's
//! errors are no other's. Devices that no partition asks for are not touched.

mod device;
mod endpoint;
mod host;
mod reach;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;
use core::sync::atomic::Ordering;

use bundle::{MANIFEST, Manifest};
use fdt::Fdt;
use hpt::{Slot, SlotError, SlotKind, Slots};
use papr::tree::{DeviceConfig, DeviceRange};
use papr::xics::Kick;
use pci::{Active, Bar, Function, MIN_PLACE, Space};
use power::{GuestReal, HostReal, HpteR};
use spin::Once;

pub use self::device::Device;
use self::host::{Found, HostBridge};
use self::reach::Reach;
use crate::host_interrupts::Handler;
use crate::log;
use crate::partition::Partition;
use crate::sync::{Lock, Rank};

/// Where devices start in a partition's real addresses: above the most memory that one can have, and below the 1 TiB that it
/// reaches with translation off.
const FIRST_REAL: u64 = 0xc0_0000_0000;
const _: () = assert!(FIRST_REAL >= bundle::MAX_MEMORY);

/// The first interrupt source of a partition that is its devices'.
const FIRST_SOURCE: u32 = crate::devices::FIRST + phb::layout::SOURCES;

/// The host bridges.
static HOSTS: Once<Vec<HostBridge>> = Once::new();

/// The devices that somebody uses: those that the manifest names, and the hypervisor's own.
static DEVICES: Once<Vec<Device>> = Once::new();

/// Looks for the devices that the manifest names, and gives them their places. An error is one line for the user, and names the
/// manifest's.
pub fn set_up(tree: &Fdt<'_>, manifest: &Manifest) -> Result<(), String> {
    let mut asked: Vec<_> = manifest.partitions.iter().flat_map(|table| &table.devices).collect();
    if asked.is_empty() {
        return Ok(());
    }
    // The order of their buses, so that a bridge's children are placed side by side.
    asked.sort_by_key(|device| device.pci);
    let (hosts, found) = host::find(tree);
    let hosts = HOSTS.call_once(|| hosts);
    let mut spaces: Vec<(&'static HostBridge, Option<Space>)> =
        hosts.iter().map(|host| (host, Space::new(host.window.0, host.window.2, host.segment()))).collect();
    let mut devices: Vec<Device> = Vec::new();
    for wanted in asked {
        let wrong = |why: String| format!("{MANIFEST}:{}: device {}: {why}", wanted.line, wanted.pci);
        let there = found.iter().find(|f| f.address == wanted.pci && !f.is_bridge);
        let there = there.ok_or_else(|| wrong(format!("not there; the host has: {}", list(&found))))?;
        let domain = spaces.iter_mut().find(|(host, _)| host.domain() == wanted.pci.domain);
        let (host, space) = domain.ok_or_else(|| wrong("its host bridge is not known".into()))?;
        devices.push(Device::prepare(host, space.as_mut(), there).map_err(wrong)?);
    }
    for (host, space) in &spaces {
        open_bridges(host, space.as_ref(), &found, &devices)
            .map_err(|error| format!("PCI domain {:04x}: {error}", host.domain()))?;
    }
    DEVICES.call_once(|| devices);
    Ok(())
}

/// What could be named, for people.
fn list(found: &[Found]) -> String {
    let mut text = String::new();
    for device in found.iter().filter(|f| !f.is_bridge) {
        let comma = if text.is_empty() { "" } else { ", " };
        text += &format!("{comma}{} ({:04x}:{:04x})", device.address, device.ids.0, device.ids.1);
    }
    if text.is_empty() { "no PCI device".into() } else { text }
}

/// Lets the bridges above the devices pass what is theirs.
fn open_bridges(
    host: &HostBridge,
    space: Option<&Space>,
    found: &[Found],
    devices: &[Device],
) -> Result<(), pci::Error> {
    let Some(space) = space else { return Ok(()) };
    for bridge in found.iter().filter(|f| f.is_bridge && f.address.domain == host.domain()) {
        let id = bridge.address.routing_id();
        let behind =
            |device: &&Device| found.iter().any(|f| f.address == device.address && f.above.contains(&id));
        let ranges = devices.iter().filter(behind).map(|device| space.range(&device.place));
        let Some((start, end)) = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { continue };
        pci::open_bridge(host, Function(id), start, end)?;
    }
    Ok(())
}

/// The devices of a partition, and where it has them. They are free again when this is dropped.
pub struct Claim {
    devices: Vec<(&'static Device, Vec<Region>)>,
    /// What they reach, while the partition runs.
    reach: Lock<Option<Reach>>,
}

/// A range of a device's memory in a partition's real addresses.
#[derive(Clone, Copy, Debug)]
struct Region {
    /// Where the partition finds it: aligned to its size.
    real: GuestReal,
    /// Where it is.
    host: HostReal,
    /// Which range of the device it is.
    bar: Bar,
}

/// Takes the devices that a partition's table names. An error is one line for the user.
pub fn claim(wanted: &[bundle::Device]) -> Result<Claim, String> {
    let mut claim = Claim { devices: Vec::new(), reach: Lock::new(Rank::Partition, None) };
    let mut next = FIRST_REAL;
    for wanted in wanted {
        let known = DEVICES.get().and_then(|devices| devices.iter().find(|d| d.address == wanted.pci));
        let device = known.ok_or_else(|| format!("device {}: not there", wanted.pci))?;
        if device.claimed.swap(true, Ordering::SeqCst) {
            return Err(format!("device {}: another partition has it", wanted.pci));
        }
        claim.devices.push((device, device.regions(&mut next)));
    }
    Ok(claim)
}

impl Claim {
    /// Adds the devices' memory to a partition's slots.
    pub fn add_slots(&self, slots: &mut Slots<'_>) -> Result<(), String> {
        for (device, regions) in &self.devices {
            for region in regions {
                let kind = SlotKind::Device { host: region.host, attribute: HpteR::I };
                slots.add(Slot { base: region.real, len: place(region.bar), kind }).map_err(|error| {
                    let why = match error {
                        SlotError::Full => {
                            "the partition's devices have too many ranges of memory".to_string()
                        }
                        other => format!("{other:?}"),
                    };
                    format!("device {}: {why}", device.address)
                })?;
            }
        }
        Ok(())
    }

    /// What the partition's device tree says of them.
    pub fn describe(&self) -> Vec<DeviceConfig> {
        let range = |region: &Region| DeviceRange {
            bar: region.bar.index,
            base: region.real.0,
            bytes: region.bar.bytes,
        };
        let described = self.devices.iter().map(|(device, regions)| DeviceConfig {
            address: device.address.to_string(),
            vendor: device.ids.0,
            device: device.ids.1,
            ranges: regions.iter().map(range).collect(),
            sources: self.sources().filter(|(of, ..)| core::ptr::eq(*of, *device)).map(|s| s.2).collect(),
        });
        described.collect()
    }

    /// Has the partition any?
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// The interrupt source of each of the devices' vectors, in order, after the ones that every partition has.
    fn sources(&self) -> impl Iterator<Item = (&'static Device, u16, u32)> {
        let vectors = self.devices.iter().flat_map(|(device, _)| (0..device.vectors()).map(|n| (*device, n)));
        vectors.zip(FIRST_SOURCE..).map(|((device, vector), source)| (device, vector, source))
    }

    /// How many there are.
    pub fn vectors(&self) -> usize {
        self.sources().count()
    }

    /// Lets the partition have its devices, and these its memory. Waits until those that have just been reset are ready again.
    pub fn enable(&self, partition: &Arc<Partition>) -> Result<(), String> {
        if self.devices.is_empty() {
            return Ok(());
        }
        let reach = Reach::of(partition)?;
        for (device, _) in &self.devices {
            let failed = |why: &dyn Display| format!("device {}: {why}", device.address);
            reach
                .open(&device.endpoint)
                .map_err(|error| failed(&format_args!("the firmware gives it no DMA (code {})", error.0)))?;
            device.enable(Active::Master).map_err(|error| failed(&error))?;
        }
        *self.reach.lock() = Some(reach);
        for (device, vector, source) in self.sources() {
            let partition = Arc::downgrade(partition);
            let handler: Handler = Arc::new(move || {
                if let Some(partition) = partition.upgrade() {
                    partition.kick(partition.core().xics.assert(source).unwrap_or(Kick::NONE));
                }
            });
            device.serve(vector, handler).map_err(|error| format!("device {}: {error}", device.address))?;
        }
        Ok(())
    }

    /// Takes all that away again, and resets the devices.
    pub fn disable(&self) {
        for (device, _) in &self.devices {
            if let Err(error) = device.disable() {
                log!("device {}: {error}", device.address);
            }
        }
        drop(self.reach.lock().take());
    }
}

/// What is set aside for a range: whole pages.
fn place(bar: Bar) -> u64 {
    bar.bytes.max(MIN_PLACE)
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.disable();
        for (device, _) in &self.devices {
            device.claimed.store(false, Ordering::SeqCst);
        }
    }
}
