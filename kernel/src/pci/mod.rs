//! The host's PCI devices that partitions have to themselves: found at boot if the manifest names them, given their places in
//! the host bridge's window, and claimed by a partition as long as it is defined.
//!
//! A partition reaches the memory of its devices directly, at real addresses above its RAM: each range is a device slot of its page
//! table ([`Claim::add_slots`]). While the partition runs the device reaches the partition's memory, and no other ([`reach`]), and its messages
//! and its [`line`] are interrupts of the partition's. Configuration space stays ours, and I/O space is off. When the
//! partition ends all of it goes off, and the function is reset ([`reset`]). One that cannot be reset is given to no other partition.
//!
//! Every device is a partitionable endpoint of its host bridge, the unit that the bridge cuts off after an error: one partition's
//! errors are no other's. Virtio devices that no partition asks for are the hypervisor's ([`own`]); all others are not touched.

mod device;
mod eeh;
mod endpoint;
mod host;
mod line;
mod own;
mod reach;
mod reset;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::sync::atomic::Ordering;

use bundle::{MANIFEST, Manifest};
use fdt::Fdt;
use hpt::{Slot, SlotError, SlotKind, Slots};
use pci::{Active, Function, MIN_PLACE, Space};
use power::{GuestReal, HostReal, HpteR};
use spin::Once;

pub use self::device::Device;
pub use self::eeh::look;
use self::host::Found;
pub use self::host::HostBridge;
pub use self::line::Line;
use self::reach::Reach;
use crate::log;
use crate::partition::Partition;
use crate::sync::{Lock, Rank};

/// The host bridges.
static HOSTS: Once<Vec<HostBridge>> = Once::new();

/// The devices that somebody uses: those that the manifest names, and the hypervisor's own.
static DEVICES: Once<Vec<Device>> = Once::new();

/// Looks for the devices that the manifest names, and gives them and those that are the hypervisor's own their places. The latter are the
/// answer; what is wrong with one of them is one line in the log. What is wrong with another is one line for the user, and names the
/// manifest's.
pub fn set_up(tree: &Fdt<'_>, manifest: &Manifest) -> Result<Vec<&'static Device>, String> {
    let (hosts, found) = host::find(tree);
    let hosts = HOSTS.call_once(|| hosts);
    let asked = manifest.partitions.iter().flat_map(|table| &table.devices);
    let mut wanted: Vec<_> = asked.map(|device| (device.pci, Some(device.line))).collect();
    let own = found.iter().filter(|f| own::is_own(f) && wanted.iter().all(|(pci, _)| *pci != f.address));
    let own: Vec<_> = own.map(|f| (f.address, None)).collect();
    wanted.extend(own);
    // The order of their buses, so that a bridge's children are placed side by side.
    wanted.sort_by_key(|(pci, _)| *pci);
    let mut spaces: Vec<(&'static HostBridge, Option<Space>)> =
        hosts.iter().map(|host| (host, Space::new(host.window.0, host.window.2, host.segment()))).collect();
    let mut devices: Vec<Device> = Vec::new();
    for (pci, line) in wanted {
        let mut prepare = || {
            let there = found.iter().find(|f| f.address == pci && !f.is_bridge);
            let there = there.ok_or_else(|| format!("not there; the host has: {}", list(&found)))?;
            let domain = spaces.iter_mut().find(|(host, _)| host.domain() == pci.domain);
            let (host, space) = domain.ok_or("its host bridge is not known")?;
            Device::prepare(host, space.as_mut(), there, line.is_none())
        };
        match (prepare(), line) {
            (Ok(device), _) => devices.push(device),
            (Err(why), Some(line)) => return Err(format!("{MANIFEST}:{line}: device {pci}: {why}")),
            (Err(why), None) => log!("device {pci}: {why}"),
        }
    }
    reset::choose(&mut devices, &found, manifest);
    devices.iter().filter(|device| !device.own).for_each(Device::tell);
    line::part(&mut devices);
    for (host, space) in &spaces {
        open_bridges(host, space.as_ref(), &found, &devices)
            .map_err(|error| format!("PCI domain {:04x}: {error}", host.domain()))?;
    }
    let devices = DEVICES.call_once(|| devices);
    Ok(devices.iter().filter(|device| device.own).collect())
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
    devices: Vec<&'static Device>,
    /// What they reach, while the partition runs.
    reach: Lock<Option<Reach>>,
}

/// Takes the devices that a partition's table names. An error is one line for the user.
pub fn claim(wanted: &[bundle::Device]) -> Result<Claim, String> {
    let mut claim = Claim { devices: Vec::new(), reach: Lock::new(Rank::Partition, None) };
    for wanted in wanted {
        let known = DEVICES.get().and_then(|devices| devices.iter().find(|d| d.address == wanted.pci));
        let device = known.ok_or_else(|| format!("device {}: not there", wanted.pci))?;
        if device.claimed.swap(true, Ordering::SeqCst) {
            return Err(format!("device {}: another partition has it", wanted.pci));
        }
        claim.devices.push(device);
    }
    Ok(claim)
}

impl Claim {
    /// Adds the devices' memory to a partition's slots, where its host bridge has it: the number of the device, the base address register and
    /// the real address.
    pub fn add_slots(&self, slots: &mut Slots<'_>, places: &[(usize, usize, u64)]) -> Result<(), String> {
        for (n, device) in self.devices.iter().enumerate() {
            for (index, host, bytes) in device.ranges() {
                let place = places.iter().find(|place| place.0 == n && place.1 == usize::from(index));
                let wrong = |why: &dyn Display| format!("device {}: {why}", device.address);
                let (_, _, real) = place.ok_or_else(|| wrong(&"its memory has no place on the bus"))?;
                let kind = SlotKind::Device { host, attribute: HpteR::I };
                let slot = Slot { base: GuestReal(*real), len: bytes.max(MIN_PLACE), kind };
                slots.add(slot).map_err(|error| match error {
                    SlotError::Full => wrong(&"the partition's devices have too many ranges of memory"),
                    other => wrong(&format_args!("{other:?}")),
                })?;
            }
        }
        Ok(())
    }

    /// Where the ranges of the devices' memory are to be: each by its address in the host. `None`: nowhere, or where it cannot be.
    pub fn wanted(&self, places: &[(usize, usize, u64)]) -> Vec<(HostReal, Option<GuestReal>)> {
        let mut ranges = Vec::new();
        for (n, device) in self.devices.iter().enumerate() {
            for (index, host, bytes) in device.ranges() {
                let place = places.iter().find(|place| place.0 == n && place.1 == usize::from(index));
                ranges.push((host, place.map(|(_, _, real)| (*real, bytes))));
            }
        }
        let fitting = pci::fitting(ranges.iter().map(|(_, place)| *place));
        ranges
            .iter()
            .map(|(host, _)| *host)
            .zip(fitting.into_iter().map(|real| real.map(GuestReal)))
            .collect()
    }

    /// Has the partition any?
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// The devices.
    pub fn each(&self) -> impl Iterator<Item = &'static Device> {
        self.devices.iter().copied()
    }

    /// Lets the partition have its devices, none of which is being reset. They reach nothing before the partition says so.
    pub fn enable(&self, partition: &Partition) -> Result<(), String> {
        if self.devices.is_empty() {
            return Ok(());
        }
        self.fit(&partition.name)?;
        reach::populate(partition)?;
        let mut reach = Reach::default();
        let (shift, pages) = phb::layout::FIRST_WINDOW;
        reach.open(0, shift, pages)?;
        // From here on `disable` takes back what has been done, though not all of it may be.
        *self.reach.lock() = Some(reach);
        for device in &self.devices {
            let failed = |why: &dyn Display| format!("device {}: {why}", device.address);
            device.last_user.lock().clone_from(&partition.name);
            device.enable(Active::Memory).map_err(|error| failed(&error))?;
            let told = self.reach.lock().as_ref().map_or(Ok(()), |reach| reach.tell(&device.endpoint));
            told.map_err(|error| failed(&format_args!("the firmware gives it no DMA (code {})", error.0)))?;
        }
        Ok(())
    }

    /// The partition's host bridge has a window from now on, or has one no longer; false if the devices cannot have it.
    pub fn window(&self, n: usize, shape: Option<(u32, u64)>) -> bool {
        let mut reach = self.reach.lock();
        // Before the start there is none.
        let Some(reach) = reach.as_mut() else { return true };
        // The host bridges forget what goes before its memory is another's. If they do not, it stays.
        if self.devices.iter().any(|device| reach::forget(&device.endpoint, n).is_err()) {
            return false;
        }
        reach.close(n);
        let Some((shift, pages)) = shape else { return true };
        reach.open(n, shift, pages).is_ok()
            && self.devices.iter().all(|device| reach.tell(&device.endpoint).is_ok())
    }

    /// The partition has set entries of a window.
    pub fn map(&self, partition: &Partition, n: usize, page: u64, entries: &mut dyn Iterator<Item = u64>) {
        let reach = self.reach.lock();
        let Some(reach) = reach.as_ref() else { return };
        reach.map(partition, n, page, entries);
        for device in &self.devices {
            if let Err(error) = device.endpoint.forget_translations() {
                log!("device {}: its translations stay (code {})", device.address, error.0);
            }
        }
    }

    /// Takes all that away again, and resets the devices.
    pub fn disable(&self) {
        let tell = |device: &Device, error| log!("device {}: {error}", device.address);
        let used: Vec<_> = self.each().filter(|device| device.used.load(Ordering::Relaxed)).collect();
        let mut all = true;
        for device in &used {
            if let Err(error) = device.disable() {
                tell(device, error);
                all = false;
            }
        }
        // Some are reset together, so all of them are off before that.
        for device in &used {
            if let Err(error) = device.begin_reset() {
                tell(device, error);
            }
        }
        let reach = self.reach.lock().take();
        if let Some(reach) = reach.filter(|_| !all) {
            reach.strand();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.disable();
        for device in &self.devices {
            if let Some(line) = device.line() {
                line.set_user(None);
            }
            device.claimed.store(false, Ordering::SeqCst);
        }
    }
}
