//! What is on the bus, and what it sees of it.

use core::fmt;

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
}

/// A PCI function.
pub trait Function: Send {
    /// Reads 1, 2 or 4 bytes of configuration space, at a multiple of that.
    fn config_read(&mut self, offset: u16, bytes: usize) -> u32;

    /// Writes them.
    fn config_write(&mut self, offset: u16, bytes: usize, value: u32, bus: &dyn Bus);

    /// The addresses on the bus that the function answers to by a base address register (0 to 5), if it is set and memory is on: where
    /// they start, and how many they are.
    fn window(&self, bar: usize) -> Option<(u64, u64)>;

    /// Loads bytes from the memory behind a base address register: 1, 2, 4 or 8, at a multiple of that.
    fn load(&mut self, bar: usize, offset: u64, to: &mut [u8], bus: &dyn Bus);

    /// Stores them.
    fn store(&mut self, bar: usize, offset: u64, from: &[u8], bus: &dyn Bus);

    /// Back to what it is after power-on.
    fn reset(&mut self, bus: &dyn Bus);
}
