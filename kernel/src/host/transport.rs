//! A virtio device of the host's behind its bridge: registers, negotiation, queues (Virtual I/O Device (VIRTIO) Version 1.2, sections 3.1 and 4.1),
//! by crate `virtio-drivers`. Its drivers wait for the device; ours may not, so they are written upon its queues.
#![allow(unsafe_code)] // writes registers, and a method of a trait is unsafe

use alloc::format;
use alloc::string::String;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use pci::{Config, Function};
use virtio_drivers::queue::VirtQueue;
pub use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{CapabilityInfo, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::{DeviceStatus, Transport};
use volatile::VolatileRef;

use super::memory::{self, Memory};
use crate::pci::HostBridge;

/// Version 1 of the standard, and addresses that the bridge translates.
const VERSION_1: u64 = 1 << 32;
const ACCESS_PLATFORM: u64 = 1 << 33;

/// A queue.
pub type Queue<const SIZE: usize> = VirtQueue<Memory, SIZE>;

/// A function's configuration, for the crate.
struct Access<'a>(&'a HostBridge);

impl ConfigurationAccess for Access<'_> {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        self.0.read(routing(function), offset.into()).unwrap_or(u32::MAX)
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        // One that does not answer is found out by what it reads.
        let _ = self.0.write(routing(function), offset.into(), data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Access(self.0)
    }
}

fn routing(function: DeviceFunction) -> Function {
    Function(u16::from(function.bus) << 8 | u16::from(function.device) << 3 | u16::from(function.function))
}

/// Registers of the common configuration that the crate leaves alone, two bytes each (section 4.1.4.3): which queue the other one is about,
/// and the interrupt that says that something has been done there.
const QUEUE: u64 = 0x16;
const VECTOR: u64 = 0x1a;
/// The capability of PCI that says where they are, and its kind in the upper byte of its first word's upper half (section 4.1.4).
const VENDOR: u8 = 0x09;
const COMMON: u16 = 1;
/// Base address registers: the first one, its flags, and the one that says that there are 64 bits.
const BARS: u16 = 0x10;
const FLAGS: u64 = 0xf;
const WIDE: u64 = 1 << 2;

/// A device.
pub struct Device {
    /// Never dropped: that would wait for a device that may not answer any more.
    registers: ManuallyDrop<PciTransport>,
    /// Where its common configuration is.
    common: u64,
    /// The features that both sides know.
    pub features: u64,
}

impl Device {
    /// A device whose registers are mapped.
    pub fn new(bridge: &HostBridge, function: Function) -> Result<Device, String> {
        let address = DeviceFunction {
            bus: (function.0 >> 8) as u8,
            device: (function.0 >> 3) as u8 & 31,
            function: function.0 as u8 & 7,
        };
        let mut root = PciRoot::new(Access(bridge));
        let found = PciTransport::new::<Memory, _>(&mut root, address);
        let registers =
            found.map_err(|_| "it is no virtio device of version 1: disable-legacy=on is missing")?;
        let common = common(bridge, function, &root, address).ok_or("its registers are not where it says")?;
        Ok(Device { registers: ManuallyDrop::new(registers), common, features: 0 })
    }

    /// What it is.
    pub fn kind(&self) -> DeviceType {
        self.registers.device_type()
    }

    /// Resets it, and agrees on features, of which `wanted` are its kind's own.
    pub fn agree(&mut self, wanted: u64) -> Result<(), String> {
        let known = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        self.registers.set_status(DeviceStatus::empty());
        self.registers.set_status(known);
        let offered = self.registers.read_device_features();
        let needed = VERSION_1 | ACCESS_PLATFORM;
        if offered & needed != needed {
            return Err("it reaches memory past its host bridge: QEMU's iommu_platform=on is missing".into());
        }
        self.features = offered & (wanted | needed);
        self.registers.write_driver_features(self.features);
        self.registers.set_status(known | DeviceStatus::FEATURES_OK);
        if self.registers.get_status().contains(DeviceStatus::FEATURES_OK) {
            Ok(())
        } else {
            Err("it does not agree to what it offers".into())
        }
    }

    /// Makes a queue. The device's first interrupt is about all of them.
    pub fn queue<const SIZE: usize>(&mut self, index: u16) -> Result<Queue<SIZE>, String> {
        let queue = VirtQueue::new(&mut *self.registers, index, false, false)
            .map_err(|_| format!("its queue {index} is not as it should be"))?;
        self.write(QUEUE, index);
        self.write(VECTOR, 0);
        Ok(queue)
    }

    fn write(&mut self, register: u64, value: u16) {
        // SAFETY: a register of this device's, which was found by `common` and is mapped for good.
        let mut register =
            unsafe { VolatileRef::new(NonNull::new_unchecked((self.common + register) as *mut u16)) };
        register.as_mut_ptr().write(value);
    }

    /// Reads a word of its kind's configuration.
    pub fn config(&self, offset: usize) -> Result<u32, String> {
        self.registers.read_config_space(offset).map_err(|_| "its configuration is too short".into())
    }

    /// Lets it work.
    pub fn start(&mut self) {
        self.registers.finish_init();
    }

    /// Tells it of what has been put into a queue, if it wants to know.
    pub fn notify<const SIZE: usize>(&mut self, index: u16, queue: &Queue<SIZE>) {
        // It sees what is in the queue before it is told, and we see whether it wants to be told of that.
        fence(Ordering::SeqCst);
        // A device that its bridge has cut off reads all ones. Then there is nobody to tell.
        if queue.should_notify() && self.registers.queue_used(index) {
            self.registers.notify(index);
        }
    }
}

/// Where the common configuration of a function is mapped.
fn common(
    bridge: &HostBridge,
    function: Function,
    root: &PciRoot<Access<'_>>,
    address: DeviceFunction,
) -> Option<u64> {
    let is_common = |found: &CapabilityInfo| found.id == VENDOR && found.private_header >> 8 == COMMON;
    let at = u16::from(root.capabilities(address).find(is_common)?.offset);
    let word = |offset| bridge.read(function, offset).ok().map(u64::from);
    let bar = BARS + 4 * (word(at + 4)? as u16 & 7);
    let low = word(bar)?;
    let high = if low & WIDE != 0 { word(bar + 4)? } else { 0 };
    Some(memory::registers((high << 32 | low & !FLAGS) + word(at + 8)?))
}
