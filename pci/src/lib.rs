//! What the hypervisor does in PCI configuration space for the devices that it gives to partitions (PCI Local Bus Specification
//! 3.0, chapter 6; PCI-to-PCI Bridge Architecture 1.2; PCI Express Base Specification 3.0, chapter 7), as pure logic: the
//! accesses go through [`Config`].
//!
//! No I/O space. A function is sized ([`bars`]), its memory is placed in the host
//! bridge's window ([`Space::place`]), written to it ([`assign`]) and let through the bridges above it ([`open_bridge`]); then
//! its memory, its DMA and its interrupt line are switched on and off ([`switch`]), its messages are set ([`Messages`]), and the function is
//! reset between its users ([`Reset`], [`Resetting`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bar;
mod capability;
mod line;
mod message;
mod place;
mod reset;
#[cfg(test)]
mod tests;

pub use bar::{Bar, assign, bars};
pub use line::line;
pub use message::Messages;
pub use place::{MIN_PLACE, Place, Space, fitting};
pub use reset::{Kept, Reset, Resetting};

use core::fmt;

/// A function below a host bridge by its routing ID: bus, device and function in 8, 5 and 3 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Function(pub u16);

/// The firmware's code for an access that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessError(pub i64);

/// Access to configuration space, in aligned words of 32 bits.
pub trait Config {
    /// Reads a word.
    fn read(&self, function: Function, offset: u16) -> Result<u32, AccessError>;
    /// Writes a word.
    fn write(&self, function: Function, offset: u16, value: u32) -> Result<(), AccessError>;
    /// Begins to reset all that is behind the host bridge's port; in how many milliseconds to ask how far that is.
    fn reset_port(&self) -> Result<u64, AccessError>;
    /// Asks; in how many milliseconds to ask again, or 0: it is done.
    fn poll_port(&self) -> Result<u64, AccessError>;
}

/// Why a function cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The firmware does not let us.
    Access(AccessError),
    /// Nothing answers.
    Absent,
    /// It is a bridge, or of a kind that is not known.
    NotADevice,
    /// It has no memory that it answers to.
    NoMemory,
}

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Error {
        Error::Access(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Access(AccessError(code)) => {
                write!(f, "the firmware refuses access to its configuration (code {code})")
            }
            Error::Absent => write!(f, "it does not answer"),
            Error::NotADevice => write!(f, "it is a bridge"),
            Error::NoMemory => write!(f, "it has no memory that a partition could reach"),
        }
    }
}

/// Offsets in configuration space.
mod offset {
    /// Vendor in the lower half, device in the upper.
    pub const ID: u16 = 0x00;
    /// Command in the lower half; status in the upper, where a 1 written clears and a 0 changes nothing.
    pub const COMMAND: u16 = 0x04;
    /// Header type in bits 16 to 22.
    pub const HEADER: u16 = 0x0c;
    /// The first base address register.
    pub const BAR: u16 = 0x10;
    /// The expansion ROM of an ordinary function.
    pub const ROM: u16 = 0x30;
    /// Base and limit of a bridge's memory window.
    pub const BRIDGE_MEMORY: u16 = 0x20;
    /// Where the list of capabilities starts.
    pub const CAPABILITIES: u16 = 0x34;
    /// Interrupt line and pin.
    pub const INTERRUPT: u16 = 0x3c;
    /// A bridge's control register in the upper half.
    pub const BRIDGE_CONTROL: u16 = 0x3c;
}

/// Bits of the command register.
mod command {
    pub const IO: u32 = 1 << 0;
    pub const MEMORY: u32 = 1 << 1;
    pub const MASTER: u32 = 1 << 2;
    pub const NO_INTX: u32 = 1 << 10;
    /// The half of the word that it is.
    pub const MASK: u32 = 0xffff;
}

/// What a function takes part in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Active {
    /// Nothing.
    Nothing,
    /// Its memory answers.
    Memory,
    /// Its memory answers, and it reaches memory itself, for messages, too.
    Master,
}

/// Switches a function's memory, bus mastering and interrupt line on or off. I/O space is off in any case.
pub fn switch(config: &impl Config, function: Function, to: Active, line: bool) -> Result<(), AccessError> {
    let now = config.read(function, offset::COMMAND)? & command::MASK;
    let off = now & !(command::IO | command::MEMORY | command::MASTER | command::NO_INTX);
    let no_line = if line { 0 } else { command::NO_INTX };
    let on = match to {
        Active::Nothing => 0,
        Active::Memory => command::MEMORY,
        Active::Master => command::MEMORY | command::MASTER,
    };
    config.write(function, offset::COMMAND, off | on | no_line)
}

/// What bridges' windows are measured in.
const BRIDGE_UNIT: u64 = 1 << 20;

/// Lets a bridge pass accesses to `start..end` of 32-bit memory space, whole MiB, down to what is behind it, and the accesses of what is
/// behind it up.
pub fn open_bridge(config: &impl Config, bridge: Function, start: u64, end: u64) -> Result<(), AccessError> {
    // Base and limit have bits 31:20 of the first and the last MiB in their bits 15:4.
    let base = (start >> 16) as u32 & 0xfff0;
    let limit = ((end - BRIDGE_UNIT) >> 16) as u32 & 0xfff0;
    config.write(bridge, offset::BRIDGE_MEMORY, limit << 16 | base)?;
    let now = config.read(bridge, offset::COMMAND)? & command::MASK;
    config.write(bridge, offset::COMMAND, now | command::MEMORY | command::MASTER)
}
