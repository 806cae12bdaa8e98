//! What is on the bus, and what it sees of it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use crate::Stopped;

/// A range of bus addresses that is no memory, or that the function may not access so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DmaError;

impl fmt::Display for DmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no memory for DMA")
    }
}

impl core::error::Error for DmaError {}

/// The bus as a function uses it. Other processors change memory while it is looked at: nothing stays as it was read.
pub trait Bus {
    /// Reads memory from a bus address on. Up to eight aligned bytes are read at once.
    fn read(&self, at: u64, to: &mut [u8]) -> Result<(), DmaError>;

    /// Writes memory, likewise.
    fn write(&self, at: u64, from: &[u8]) -> Result<(), DmaError>;

    /// Signals an interrupt by the message of a vector (MSI or MSI-X): what the guest has written to its entry of the table.
    fn message(&self, address: u64, data: u32);

    /// Raises or lowers the function's interrupt line, for a guest that uses no messages.
    fn line(&self, up: bool);

    /// The partition gives memory back: what lies at these real addresses, whole units of what backs it, reads as zeroes from now on. Nothing
    /// happens if the function's addresses are translated: it does not know real ones.
    fn discard(&self, _real: u64, _bytes: u64) {}
}

/// How a device is heard from outside of the guest's accesses: whoever gives it something to do (a port of a switch, a terminal, the monitor)
/// rings, and it is asked for [`Function::work`] soon after.
pub trait Doorbell: Send + Sync {
    /// Rings. It may be called on any processor, with locks of another partition's devices held: it waits for nothing.
    fn ring(&self);
}

/// What people are told of a function.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// What it is: "net".
    pub name: &'static str,
    /// How its driver has set it up, if that can be said in a word or two: "no driver", "running", "broken".
    pub state: &'static str,
    /// Its queues: how many entries each has (0 if it is not used), and how many chains of buffers it has completed.
    pub queues: Vec<(u16, u64)>,
    /// How often its driver has notified it.
    pub notifies: u64,
    /// How many interrupts it has signalled.
    pub interrupts: u64,
}

/// What can be let go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Loads from and stores to the function.
    Memory,
    /// Its accesses to memory.
    Dma,
}

/// A PCI function.
pub trait Function: Send {
    /// Reads 1, 2 or 4 bytes of configuration space, at a multiple of that.
    fn config_read(&mut self, offset: u16, bytes: usize, bus: &dyn Bus) -> u32;

    /// Writes them. Like a store, it may leave something to do.
    fn config_write(&mut self, offset: u16, bytes: usize, value: u32, bus: &dyn Bus) -> bool;

    /// The addresses on the bus that the function answers to by a base address register (0 to 5), if it is set and memory is on: where
    /// they start, and how many they are.
    fn window(&self, bar: usize) -> Option<(u64, u64)>;

    /// Loads bytes from the memory behind a base address register: 1, 2, 4 or 8, at a multiple of that.
    fn load(&mut self, bar: usize, offset: u64, to: &mut [u8], bus: &dyn Bus);

    /// Stores them. A store that notifies a device may do a bounded amount of what there is to do; true if there is more
    /// ([`Function::work`]).
    fn store(&mut self, bar: usize, offset: u64, from: &[u8], bus: &dyn Bus) -> bool;

    /// Back to what it is after power-on.
    fn reset(&mut self, bus: &dyn Bus);

    /// What the host bridge has stopped of it after an error. `None` if it is never stopped, or could not be brought back. If it is being reset, that
    /// goes on.
    fn stopped(&mut self, _bus: &dyn Bus) -> Option<Stopped> {
        None
    }

    /// Lets a part of what has been stopped go on; false if that cannot be.
    fn thaw(&mut self, _part: Part) -> bool {
        false
    }

    /// Begins to reset it, and lets it go on; false if that cannot be.
    fn begin_reset(&mut self, _bus: &dyn Bus) -> bool {
        false
    }

    /// Gives it its doorbell: once it has its place in a partition, a copy in its own.
    fn attach(&mut self, _doorbell: Arc<dyn Doorbell>) {}

    /// Does a bounded amount of what has come from outside, or what was left to do of what the guest has asked for. True if there is more to
    /// do at once: it will be called again, after others had their turn.
    fn work(&mut self, _bus: &dyn Bus) -> bool {
        false
    }

    /// The guest has ended an interrupt of the line that the function's slot has. One that passes on another machine's line lets it down now,
    /// and raises it again if that one is still up.
    fn ended(&mut self, _bus: &dyn Bus) {}

    /// For people.
    fn describe(&self) -> Description;

    /// Itself, for who knows what it may be and wants more of it than a bus does.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// Takes the place of another function of the same partition, of which it is an earlier state: what others than the guest have of that one,
    /// they have of it from now on. It may have been attached already.
    fn take_over(&mut self, _from: &dyn Function) {}

    /// A function in the same state, for a copy of the partition. None if it cannot be copied.
    fn copy(&self) -> Option<Box<dyn Function>>;
}
