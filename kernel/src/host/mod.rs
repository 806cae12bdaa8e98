//! The host's own devices: virtio disks, network cards and sources of random numbers behind its PCI host bridges, all that the manifest
//! gives to no partition. They are found and started at boot; what is wrong with one is a line in the log, and no more.
//!
//! Nobody waits for a device. It interrupts when it has done something; at one that cannot, the boot CPU looks ([`look`]).

mod disk;
mod memory;
mod nic;
mod ring;
mod rng;
mod transport;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bundle::{PciAddress, Size};
use realmode::instructions::timebase;
use spin::Once;
use virtio::blk;

use self::disk::Disk;
use self::nic::Nic;
pub use self::rng::Rng;
use self::transport::DeviceType;
use crate::partition::TIMEBASE_HZ;
use crate::{log, network, pci};

/// What there is, in the order of addresses.
static DEVICES: Once<Vec<Device>> = Once::new();

/// How often the boot CPU looks at devices that do not interrupt.
const PERIOD: u64 = TIMEBASE_HZ / 1000;
/// When it looks next.
static NEXT_LOOK: AtomicU64 = AtomicU64::new(u64::MAX);

/// A device that works.
struct Device {
    name: String,
    function: &'static pci::Device,
    kind: Kind,
    /// It tells when it has done something.
    interrupts: AtomicBool,
}

enum Kind {
    Disk(Box<Disk>),
    Nic(Box<Nic>),
    Rng(Box<Rng>),
}

/// What people are told of a device.
pub struct Description {
    /// "disk0".
    pub name: String,
    /// Where it is.
    pub address: PciAddress,
    /// Its serial number, or its own address on the network.
    pub id: Option<String>,
    /// A disk's size.
    pub bytes: Option<u64>,
    /// It tells when it has done something.
    pub interrupts: bool,
    /// It has something to do.
    pub busy: bool,
    /// A partition has it, or all of them share it.
    pub used: bool,
}

/// Starts the functions that are the host's own.
pub fn set_up(functions: &[&'static pci::Device]) {
    let mut devices: Vec<Device> = Vec::new();
    for function in functions {
        match start(function, &devices) {
            Ok(device) => {
                log!("{}", device.line());
                devices.push(device);
            }
            Err(why) => {
                log!("device {}: {why}", function.address);
                if let Err(error) = function.disable() {
                    log!("device {}: {error}", function.address);
                }
            }
        }
    }
    for device in DEVICES.call_once(|| devices) {
        device.connect();
    }
}

fn start(function: &'static pci::Device, others: &[Device]) -> Result<Device, String> {
    let (bus, ea) = function.open()?;
    memory::set_registers(bus, ea);
    let (host, name) = function.function();
    let mut device = transport::Device::new(host, name)?;
    let kind = match device.kind() {
        DeviceType::Block => {
            device.agree(disk::FEATURES)?;
            Kind::Disk(Box::new(Disk::new(device)?))
        }
        DeviceType::Network => {
            device.agree(nic::FEATURES)?;
            Kind::Nic(Box::new(Nic::new(device, network::outside())?))
        }
        DeviceType::EntropySource => {
            device.agree(0)?;
            Kind::Rng(Box::new(Rng::new(device)?))
        }
        other => return Err(format!("there is no use for a virtio device of type {}", other as u8)),
    };
    let number = others.iter().filter(|other| other.kind.name() == kind.name()).count();
    let name = format!("{}{number}", kind.name());
    Ok(Device { name, function, kind, interrupts: AtomicBool::new(false) })
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Kind::Disk(_) => "disk",
            Kind::Nic(_) => "net",
            Kind::Rng(_) => "rng",
        }
    }
}

impl Device {
    /// Has it served from now on.
    fn connect(&'static self) {
        match self.function.serve(Arc::new(|| self.serve())) {
            Ok(()) => self.interrupts.store(true, Ordering::Relaxed),
            Err(why) => {
                log!("{}: {why}; it is looked at every millisecond", self.name);
                NEXT_LOOK.store(0, Ordering::Relaxed);
            }
        }
        if let Kind::Nic(nic) = &self.kind
            && let Err(taken) = nic.connect()
        {
            log!("{}: {taken}", self.name);
        }
        // What it did before.
        self.serve();
    }

    /// Takes in what it has done.
    fn serve(&self) {
        match &self.kind {
            Kind::Disk(disk) => disk.serve(),
            Kind::Nic(nic) => nic.serve(),
            Kind::Rng(rng) => rng.serve(),
        }
    }

    /// The line about it.
    fn line(&self) -> String {
        let what = match &self.kind {
            Kind::Disk(disk) => format!("{} virtio disk {:?}", Size(disk.sectors * blk::SECTOR), disk.serial),
            Kind::Nic(nic) => format!("virtio network card {}", nic.mac),
            Kind::Rng(_) => "virtio source of random numbers".into(),
        };
        format!("{}: {what} at {}", self.name, self.function.address)
    }
}

fn all() -> &'static [Device] {
    DEVICES.get().map_or(&[], |devices| devices)
}

/// For people: each device.
pub fn describe() -> impl Iterator<Item = Description> {
    all().iter().map(|device| {
        let (id, bytes, busy, used) = match &device.kind {
            Kind::Disk(disk) => {
                let bytes = disk.sectors * blk::SECTOR;
                (Some(disk.serial.clone()), Some(bytes), disk.is_busy(), disk.is_claimed())
            }
            Kind::Nic(nic) => (Some(nic.mac.to_string()), None, nic.is_busy(), true),
            Kind::Rng(rng) => (None, None, rng.is_busy(), true),
        };
        let (name, address) = (device.name.clone(), device.function.address);
        let interrupts = device.interrupts.load(Ordering::Relaxed);
        Description { name, address, id, bytes, interrupts, busy, used }
    })
}

/// A source of random numbers.
pub fn rng() -> Option<&'static Rng> {
    all().iter().find_map(|device| if let Kind::Rng(rng) = &device.kind { Some(&**rng) } else { None })
}

/// Takes the disk with this serial number for a partition. An error is one line for the user.
pub fn claim_disk(serial: &str, read_only: bool) -> Result<Box<dyn blk::Disk>, String> {
    let disks =
        all().iter().filter_map(|device| if let Kind::Disk(disk) = &device.kind { Some(disk) } else { None });
    let Some(disk) = disks.clone().find(|disk| disk.serial == serial) else {
        let there: Vec<_> = disks.map(|disk| format!("{:?}", disk.serial)).collect();
        let there = if there.is_empty() { "no disk".into() } else { there.join(", ") };
        return Err(format!("disk {serial:?}: not there; the host has {there}"));
    };
    match disk::Claim::new(disk, read_only) {
        Some(claim) => Ok(Box::new(claim)),
        None => Err(format!("disk {serial:?}: another partition has it")),
    }
}

/// When the boot CPU has to look at devices that do not interrupt.
pub fn next_look() -> u64 {
    NEXT_LOOK.load(Ordering::Relaxed)
}

/// The boot CPU looks, if it is time.
pub fn look() {
    let now = timebase();
    if now >= next_look() {
        NEXT_LOOK.store(now + PERIOD, Ordering::Relaxed);
        all().iter().filter(|device| !device.interrupts.load(Ordering::Relaxed)).for_each(Device::serve);
    }
}
