//! What a device is to its transport.

use alloc::boxed::Box;
use alloc::sync::Arc;

use phb::{Bus, Doorbell};
use switch::Port;

use crate::balloon::Balloon;
use crate::console::Line;
use crate::{Broken, Queue};

/// Which device it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// Virtio's number of it (section 5): 1 for a network device.
    pub id: u16,
    /// PCI's class code: 0x020000.
    pub class: u32,
    /// What people call it: "net".
    pub name: &'static str,
}

/// What somebody else than its guest has of a device. It outlives the device.
#[derive(Clone)]
pub enum OtherEnd {
    /// Nothing, or nothing that the device speaks of.
    None,
    /// A network card's port.
    Port(Arc<Port>),
    /// A console's line.
    Line(Arc<Line>),
    /// A balloon.
    Balloon(Arc<Balloon>),
}

/// A device. Its transport keeps the queues, the status and the negotiated features.
pub trait Device: Send {
    /// Which it is.
    fn kind(&self) -> Kind;

    /// The feature bits that are its own; those of queues and transport (from 24 on) are the transport's to offer.
    fn features(&self) -> u64;

    /// The greatest size of each of its queues, powers of two.
    fn queue_sizes(&self) -> &'static [u16];

    /// Reads its configuration, from `offset` on. What is beyond it stays as it is, zero.
    fn config_read(&self, _offset: usize, _to: &mut [u8]) {}

    /// Writes to it. What cannot be written stays.
    fn config_write(&mut self, _offset: usize, _from: &[u8]) {}

    /// The driver has set DRIVER_OK, with these features.
    fn start(&mut self, _features: u64) {}

    /// The driver has reset it: what is under way is forgotten.
    fn reset(&mut self);

    /// Serves a queue: its driver has made buffers available, or something else has happened ([`Device::pending`]) that they may be needed for. It does a
    /// bounded amount of work. True if there is more to do at once: it will be called again, after others had their turn.
    fn serve(&mut self, index: usize, queues: &mut [Queue], bus: &dyn Bus) -> Result<bool, Broken>;

    /// Gives the device its doorbell: once it has its place in a partition, a copy in its own.
    fn attach(&mut self, _doorbell: Arc<dyn Doorbell>) {}

    /// How often its configuration has changed by itself. When it is another number than before, the driver is told (section 4.1.4.3,
    /// "config_generation", and the configuration change interrupt).
    fn config_changes(&self) -> u32 {
        0
    }

    /// Whether something has come from outside (a packet, what was typed, a request that has been completed), and for which queue: as bits.
    fn pending(&self) -> u32 {
        0
    }

    /// Its other end: what others have of it than its guest.
    fn other_end(&self) -> OtherEnd {
        OtherEnd::None
    }

    /// Takes the place of another device of the same partition, of which it is an earlier state: that one's other end becomes its own.
    fn take_over(&mut self, _end: OtherEnd) {}

    /// A device in the same state, for a copy of the partition; what it shares with the world outside (a disk's blocks, a port of a switch)
    /// is shared as the device sees fit. None if it cannot be copied.
    fn copy(&self) -> Option<Box<dyn Device>>;
}
