//! Virtio over PCI (section 4.1), for modern drivers only: how a driver finds a device, negotiates, sets up queues and notifies.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use phb::{Bus, Config, Description, Doorbell, Function, Identity, Width};

use crate::features::{ACCESS_PLATFORM, VERSION_1};
use crate::{Broken, Device, Layout, OtherEnd, Queue};

mod common;
mod structures;

use structures::{Structure, Window, capability};

/// No message for an event (VIRTIO_MSI_NO_VECTOR).
const NO_VECTOR: u16 = 0xffff;

/// Bits of the device's status (section 2.1).
mod status {
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const NEEDS_RESET: u8 = 64;
    /// What a driver may set.
    pub const DRIVERS: u8 = 0x8f;
}

/// Bits of the interrupt status (section 4.1.4.5).
mod isr {
    pub const QUEUE: u8 = 1;
    pub const CONFIGURATION: u8 = 2;
}

/// A virtio device as a PCI function.
pub struct Transport {
    device: Box<dyn Device>,
    config: Config,
    /// The features that a driver cannot do without.
    needed: u64,
    /// Where the PCI configuration access capability is.
    access: u16,
    queues: Vec<Queue>,
    setup: Vec<Setup>,
    negotiation: Negotiation,
    isr: u8,
    /// The device's count of changes of its configuration, as the driver was told.
    changes: u32,
    /// Queues to be served, as bits.
    to_serve: u32,
    notifies: u64,
    interrupts: u64,
}

/// A queue as its driver sets it up.
#[derive(Clone)]
struct Setup {
    layout: Layout,
    vector: u16,
}

/// How far driver and device have come.
#[derive(Clone, Default)]
struct Negotiation {
    status: u8,
    offered_half: u32,
    driver_half: u32,
    accepted: u64,
    queue: u16,
    vector: u16,
}

impl Transport {
    /// A function for the device.
    pub fn new(device: Box<dyn Device>) -> Transport {
        let kind = device.kind();
        let identity = Identity {
            vendor: 0x1af4,
            device: 0x1040 + kind.id,
            subsystem_vendor: 0x1af4,
            subsystem: 0x40 + kind.id,
            class: kind.class,
            revision: 1,
        };
        let mut config = Config::new(&identity);
        let sizes = device.queue_sizes();
        config.add_memory(structures::BAR.into(), structures::BYTES, Width::Wide);
        config.add_memory(structures::MSIX_BAR.into(), structures::MSIX_BYTES, Width::Low);
        // One vector for each queue, and one for changes of the configuration.
        config.add_msix(sizes.len() as u16 + 1, structures::MSIX_BAR, 0, structures::MSIX_PENDING);
        let access = structures::describe(&mut config);
        let changes = device.config_changes();
        let mut transport = Transport {
            device,
            config,
            needed: VERSION_1 | ACCESS_PLATFORM,
            access,
            queues: alloc::vec![Queue::default(); sizes.len()],
            setup: Vec::new(),
            negotiation: Negotiation::default(),
            isr: 0,
            changes,
            to_serve: 0,
            notifies: 0,
            interrupts: 0,
        };
        transport.forget();
        transport
    }

    /// The same without a host bridge that translates addresses: its driver finds memory at its real addresses.
    pub fn untranslated(self) -> Transport {
        Transport { needed: VERSION_1, ..self }
    }

    /// The other end of a function's device, if it is one of virtio's.
    pub fn other_end(function: &dyn Function) -> OtherEnd {
        let transport = function.as_any().and_then(|any| any.downcast_ref::<Transport>());
        transport.map_or(OtherEnd::None, |transport| transport.device.other_end())
    }

    /// All that a driver has set up is gone.
    fn forget(&mut self) {
        self.queues.fill(Queue::default());
        let fresh = |&size: &u16| Setup { layout: Layout { size, ..Layout::default() }, vector: NO_VECTOR };
        self.setup = self.device.queue_sizes().iter().map(fresh).collect();
        self.negotiation = Negotiation { vector: NO_VECTOR, ..Negotiation::default() };
        self.isr = 0;
        self.to_serve = 0;
    }

    /// Resets the device (section 2.4).
    fn reset_device(&mut self, bus: &dyn Bus) {
        self.device.reset();
        self.forget();
        self.config.set_line(false, bus);
    }

    /// Whether there is a driver that may be served.
    fn runs(&self) -> bool {
        let status = self.negotiation.status;
        status & status::DRIVER_OK != 0 && status & status::NEEDS_RESET == 0 && self.config.is_master()
    }

    /// The driver has broken the rules. It is told, and nothing is done for it until it resets the device.
    fn break_down(&mut self, bus: &dyn Bus) {
        self.negotiation.status |= status::NEEDS_RESET;
        self.to_serve = 0;
        if self.negotiation.status & status::DRIVER_OK != 0 {
            self.interrupt(isr::CONFIGURATION, self.negotiation.vector, bus);
        }
    }

    fn interrupt(&mut self, cause: u8, vector: u16, bus: &dyn Bus) {
        self.interrupts += 1;
        if self.config.uses_messages() {
            self.config.signal(vector, bus);
        } else {
            self.isr |= cause;
            self.config.set_line(true, bus);
        }
    }

    /// Serves a queue once. True if there is more to do at once.
    fn serve(&mut self, index: usize, bus: &dyn Bus) -> bool {
        self.to_serve &= !(1 << index);
        let served = self.device.serve(index, &mut self.queues, bus);
        // What has been done has been done, whatever came then.
        let told = self.tell(bus);
        match served.and_then(|more| told.map(|()| more)) {
            Ok(true) => self.to_serve |= 1 << index,
            Ok(false) => {}
            Err(_) => self.break_down(bus),
        }
        self.to_serve != 0
    }

    /// Shows the driver what has been given back to it, and interrupts it for that.
    fn tell(&mut self, bus: &dyn Bus) -> Result<(), Broken> {
        if self.queues.iter().any(Queue::has_news) { self.tell_news(bus) } else { Ok(()) }
    }

    #[inline(never)]
    fn tell_news(&mut self, bus: &dyn Bus) -> Result<(), Broken> {
        for index in 0..self.queues.len() {
            if self.queues[index].wants_interrupt(bus)? {
                self.interrupt(isr::QUEUE, self.setup[index].vector, bus);
            }
        }
        Ok(())
    }

    /// The driver notifies of buffers in a queue.
    fn notify(&mut self, index: usize, bus: &dyn Bus) -> bool {
        self.notifies += 1;
        if !self.queues.get(index).is_some_and(Queue::enabled) {
            return false;
        }
        self.to_serve |= 1 << index;
        self.runs() && self.serve(index, bus)
    }

    /// What an access to the data of the PCI configuration access capability is meant for: a base address register and an offset
    /// (section 4.1.4.9).
    fn accessed(&self, offset: u16, bytes: usize) -> Option<(usize, u64)> {
        let read = |field, bytes| self.config.read(self.access + field, bytes);
        let at = read(capability::OFFSET, 4);
        let meant = offset == self.access + capability::DATA && read(capability::LENGTH, 4) == bytes as u32;
        (meant && at.is_multiple_of(bytes as u32)).then(|| (read(capability::BAR, 1) as usize, at.into()))
    }

    fn load_structure(&mut self, window: Window, to: &mut [u8], bus: &dyn Bus) {
        to.fill(0);
        match window.structure {
            Structure::Common => self.read_common(window.offset, to),
            Structure::Isr => {
                if let (0, Some(to)) = (window.offset, to.first_mut()) {
                    *to = core::mem::take(&mut self.isr);
                    self.config.set_line(false, bus);
                }
            }
            Structure::Device => self.device.config_read(window.offset, to),
            Structure::Notify => {}
        }
    }

    fn store_structure(&mut self, window: Window, from: &[u8], bus: &dyn Bus) -> bool {
        match window.structure {
            Structure::Notify => return self.notify(window.offset / structures::NOTIFY_STEP, bus),
            Structure::Common => self.write_common(window.offset, from, bus),
            Structure::Device => self.device.config_write(window.offset, from),
            Structure::Isr => {}
        }
        self.to_serve != 0 && self.runs()
    }
}

impl Function for Transport {
    fn config_read(&mut self, offset: u16, bytes: usize, bus: &dyn Bus) -> u32 {
        let Some((bar, at)) = self.accessed(offset, bytes) else { return self.config.read(offset, bytes) };
        let mut value = [0; 4];
        self.load(bar, at, &mut value[..bytes], bus);
        u32::from_le_bytes(value)
    }

    fn config_write(&mut self, offset: u16, bytes: usize, value: u32, bus: &dyn Bus) -> bool {
        if let Some((bar, at)) = self.accessed(offset, bytes) {
            return self.store(bar, at, &value.to_le_bytes()[..bytes], bus);
        }
        self.config.write(offset, bytes, value, bus);
        self.to_serve != 0 && self.runs()
    }

    fn window(&self, bar: usize) -> Option<(u64, u64)> {
        self.config.window(bar)
    }

    fn load(&mut self, bar: usize, offset: u64, to: &mut [u8], bus: &dyn Bus) {
        match structures::find(bar, offset) {
            Some(window) => self.load_structure(window, to, bus),
            None if self.config.msix_load(bar, offset, to) => {}
            None => to.fill(0),
        }
    }

    fn store(&mut self, bar: usize, offset: u64, from: &[u8], bus: &dyn Bus) -> bool {
        match structures::find(bar, offset) {
            Some(window) => self.store_structure(window, from, bus),
            None => {
                self.config.msix_store(bar, offset, from, bus);
                false
            }
        }
    }

    fn reset(&mut self, bus: &dyn Bus) {
        self.reset_device(bus);
        self.config.reset(bus);
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        self.device.attach(doorbell);
    }

    fn work(&mut self, bus: &dyn Bus) -> bool {
        if !self.runs() {
            return false;
        }
        let changes = self.device.config_changes();
        if changes != core::mem::replace(&mut self.changes, changes) {
            self.interrupt(isr::CONFIGURATION, self.negotiation.vector, bus);
        }
        let pending = self.device.pending();
        let all = self.to_serve | pending;
        for index in (0..self.queues.len()).filter(|index| all >> index & 1 != 0) {
            if !self.queues[index].enabled() {
                self.to_serve &= !(1 << index);
            } else if self.runs() {
                self.serve(index, bus);
            }
        }
        self.to_serve != 0
    }

    fn describe(&self) -> Description {
        let state = match self.negotiation.status {
            status if status & status::NEEDS_RESET != 0 => "broken",
            status if status & status::DRIVER_OK != 0 => "running",
            0 => "no driver",
            _ => "starting",
        };
        let queues = self.queues.iter().map(Queue::figures).collect();
        let (notifies, interrupts) = (self.notifies, self.interrupts);
        Description { name: self.device.kind().name, state, queues, notifies, interrupts }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn take_over(&mut self, from: &dyn Function) {
        self.device.take_over(Transport::other_end(from));
    }

    fn copy(&self) -> Option<Box<dyn Function>> {
        let device = self.device.copy()?;
        Some(Box::new(Transport {
            device,
            config: self.config.clone(),
            queues: self.queues.clone(),
            setup: self.setup.clone(),
            negotiation: self.negotiation.clone(),
            ..*self
        }))
    }
}
