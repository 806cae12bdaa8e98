//! The host's PCI devices that partitions have to themselves: found at boot if the manifest names them, given their places in
//! the host bridge's window, and claimed by a partition as long as it is defined.
//!
//! A partition reaches the memory of its devices directly, at real addresses above its RAM: each range is a device slot of its page
//! table ([`Claim::regions`]). Nothing else of the device is given away: configuration space stays ours, I/O space, interrupts and
//! bus mastering are off, so it neither interrupts nor reaches memory. Its memory is on while the partition runs. When the
//! partition ends, the memory goes off, and the function is reset, if it knows how to do that by itself; what is left in one that does not,
//! the next start finds.
//!
//! Every device is a partitionable endpoint of its host bridge, the unit that the bridge cuts off after an error: one partition's
//! errors are no other's. Devices that no partition asks for are not touched.

mod host;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bundle::{MANIFEST, Manifest, PciAddress};
use fdt::Fdt;
use hpt::{Slot, SlotError, SlotKind, Slots};
use papr::tree::{DeviceConfig, DeviceRange};
use pci::{Bar, Function, MIN_PLACE, Place, Reset, Space};
use power::{GuestReal, HostReal, HpteR};
use realmode::instructions::{pause, timebase};
use spin::Once;

use self::host::{Found, HostBridge};
use crate::console::TICKS_PER_MICRO;
use crate::{log, opal};

/// Where devices start in a partition's real addresses: above the most memory that one can have, and below the 1 TiB that it
/// reaches with translation off.
const FIRST_REAL: u64 = 0xc0_0000_0000;
const _: () = assert!(FIRST_REAL >= bundle::MAX_MEMORY);

/// A device that the manifest gives to a partition.
struct Device {
    address: PciAddress,
    host: HostBridge,
    ids: (u32, u32),
    bars: Vec<Bar>,
    place: Place,
    reset: Option<Reset>,
    /// A partition has it.
    claimed: AtomicBool,
    /// A guest may have left something in it.
    used: AtomicBool,
    /// The timebase when it was last reset; 0 if never.
    reset_at: AtomicU64,
}

/// The devices that the manifest names.
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
    let mut spaces: Vec<(&HostBridge, Option<Space>)> =
        hosts.iter().map(|host| (host, Space::new(host.window.0, host.window.2, host.segment()))).collect();
    let mut devices: Vec<Device> = Vec::new();
    for wanted in asked {
        let wrong = |why: String| format!("{MANIFEST}:{}: device {}: {why}", wanted.line, wanted.pci);
        let there = found.iter().find(|f| f.address == wanted.pci && !f.is_bridge);
        let there = there.ok_or_else(|| wrong(format!("not there; the host has: {}", list(&found))))?;
        let domain = spaces.iter_mut().find(|(host, _)| host.domain() == wanted.pci.domain);
        let (host, space) = domain.ok_or_else(|| wrong("its host bridge is not known".into()))?;
        devices.push(prepare(host, space.as_mut(), there).map_err(wrong)?);
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

/// Sizes a device, finds a place for it and makes it an endpoint of its own. Its memory stays off.
fn prepare(host: &HostBridge, space: Option<&mut Space>, found: &Found) -> Result<Device, String> {
    let function = Function(found.address.routing_id());
    let bars = pci::bars(host, function).map_err(|error| format!("{error}"))?;
    let reset = Reset::find(host, function).map_err(|error| format!("{}", pci::Error::Access(error)))?;
    let bytes: u64 = bars.iter().map(|bar| bar.bytes).sum();
    let place = space.and_then(|space| space.place(&bars));
    let place =
        place.ok_or_else(|| format!("{} KiB of it do not fit in the host bridge's window", bytes >> 10))?;
    let refused = |error: opal::Error| format!("the firmware makes it no endpoint (code {})", error.0);
    opal::pci_set_endpoint(host.id, place.segment, function.0).map_err(refused)?;
    for segment in place.segment..place.segment + place.segments {
        opal::pci_map_segment(host.id, place.segment, segment as u16).map_err(refused)?;
    }
    log!(
        "device {} ({:04x}:{:04x}): {} KiB at {:#x}{}",
        found.address,
        found.ids.0,
        found.ids.1,
        bytes >> 10,
        host.window.1.0 + (place.addresses[0] - host.window.0),
        if reset.is_some() {
            ""
        } else {
            "; it cannot be reset: what one guest leaves in it, the next finds"
        }
    );
    Ok(Device {
        address: found.address,
        host: host.clone(),
        ids: found.ids,
        bars,
        place,
        reset,
        claimed: AtomicBool::new(false),
        used: AtomicBool::new(false),
        reset_at: AtomicU64::new(0),
    })
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
    let mut claim = Claim { devices: Vec::new() };
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
        });
        described.collect()
    }

    /// Lets the partition have its devices' memory. Waits until those that have just been reset are ready again.
    pub fn enable(&self) -> Result<(), String> {
        for (device, _) in &self.devices {
            device.enable().map_err(|error| format!("device {}: {error}", device.address))?;
        }
        Ok(())
    }

    /// Takes it away again, and resets the devices.
    pub fn disable(&self) {
        for (device, _) in &self.devices {
            if let Err(error) = device.disable() {
                log!("device {}: {error}", device.address);
            }
        }
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

impl Device {
    fn function(&self) -> Function {
        Function(self.address.routing_id())
    }

    /// Its ranges, from `next` on, which moves behind them.
    fn regions(&self, next: &mut u64) -> Vec<Region> {
        let ranges = self.bars.iter().zip(&self.place.addresses).map(|(bar, address)| {
            let real = next.next_multiple_of(place(*bar));
            *next = real + place(*bar);
            let host = HostReal(self.host.window.1.0 + (address - self.host.window.0));
            Region { real: GuestReal(real), host, bar: *bar }
        });
        ranges.collect()
    }

    fn enable(&self) -> Result<(), pci::Error> {
        let ready = self.reset_at.load(Ordering::Relaxed) + Reset::MILLISECONDS * 1000 * TICKS_PER_MICRO;
        while timebase() < ready {
            // It is long. To give way at every turn costs an emulator far more than the wait.
            for n in 0..1000 {
                core::hint::black_box(n);
            }
            pause();
        }
        self.used.store(true, Ordering::Relaxed);
        // What errors before may have cut off.
        let thawed = opal::pci_clear_freeze(self.host.id, self.place.segment);
        thawed.map_err(|error| pci::Error::Access(pci::AccessError(error.0)))?;
        for (bar, address) in self.bars.iter().zip(&self.place.addresses) {
            pci::assign(&self.host, self.function(), *bar, *address)?;
        }
        Ok(pci::set_memory(&self.host, self.function(), true)?)
    }

    fn disable(&self) -> Result<(), pci::Error> {
        if !self.used.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        pci::set_memory(&self.host, self.function(), false)?;
        if let Some(reset) = self.reset {
            reset.start(&self.host, self.function())?;
            self.reset_at.store(timebase(), Ordering::Relaxed);
        }
        Ok(())
    }
}
