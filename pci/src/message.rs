//! Interrupts by message: MSI and MSI-X (PCI 3.0, 6.8). A function stores a word to an address, which its host bridge makes an interrupt of.

use crate::capability;
use crate::{AccessError, Config, Function};

/// Capabilities, by ID.
const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
/// Message control, in the upper half of a capability's first word. MSI: on, how many (the log 2 in three bits), 64-bit addresses.
const MSI_ON: u32 = 1 << 16;
const MSI_COUNT: u32 = 7 << 20;
const MSI_WIDE: u32 = 1 << 23;
/// MSI-X: on, all masked, the last vector's number.
const MSIX_ON: u32 = 1 << 31;
const MSIX_MASKED: u32 = 1 << 30;
const MSIX_LAST: u32 = 0x7ff << 16;
/// The second word of MSI-X: which base address register, and the offset there.
const TABLE_BAR: u32 = 7;

/// How a function interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Messages {
    /// One message, by MSI at this offset.
    One {
        /// The capability's offset.
        at: u16,
        /// It can be sent to addresses of 64 bits.
        wide: bool,
    },
    /// Messages in a table in the function's memory, by MSI-X.
    Table {
        /// The capability's offset.
        at: u16,
        /// How many there are.
        count: u16,
        /// The table's base address register and offset. An entry has four words: address, its upper half, data, and a word whose
        /// bit 0 masks it.
        bar: u8,
        /// See `bar`.
        offset: u32,
    },
}

impl Messages {
    /// Bytes of a table's entry.
    pub const ENTRY: u64 = 16;

    /// How a function can interrupt: by a table if it has one.
    pub fn find(config: &impl Config, function: Function) -> Result<Option<Messages>, AccessError> {
        let mut one = None;
        let table = capability::find(config, function, |at, head| {
            if head as u8 == MSI {
                one = Some(Messages::One { at, wide: head & MSI_WIDE != 0 });
            }
            if head as u8 != MSIX {
                return Ok(None);
            }
            let place = config.read(function, at + 4)?;
            let (bar, offset) = ((place & TABLE_BAR) as u8, place & !TABLE_BAR);
            let count = ((head & MSIX_LAST) >> 16) as u16 + 1;
            Ok(Some(Messages::Table { at, count, bar, offset }))
        })?;
        Ok(table.or(one))
    }

    /// How many messages there are.
    pub fn count(self) -> u16 {
        match self {
            Messages::One { .. } => 1,
            Messages::Table { count, .. } => count,
        }
    }

    /// It has to be sent to an address of 32 bits.
    pub fn is_narrow(self) -> bool {
        matches!(self, Messages::One { wide: false, .. })
    }

    /// Sets the message of a function that has one; of others it is in the table.
    pub fn set(
        self,
        config: &impl Config,
        function: Function,
        address: u64,
        data: u32,
    ) -> Result<(), AccessError> {
        let Messages::One { at, wide } = self else { return Ok(()) };
        config.write(function, at + 4, address as u32)?;
        if wide {
            config.write(function, at + 8, (address >> 32) as u32)?;
        }
        config.write(function, at + if wide { 12 } else { 8 }, data)
    }

    /// Switches them on or off; of a table, all can be held back.
    pub fn switch(
        self,
        config: &impl Config,
        function: Function,
        on: bool,
        masked: bool,
    ) -> Result<(), AccessError> {
        let (at, bit, clear) = match self {
            Messages::One { at, .. } => (at, MSI_ON, MSI_ON | MSI_COUNT),
            Messages::Table { at, .. } => (at, MSIX_ON, MSIX_ON | MSIX_MASKED),
        };
        let head = config.read(function, at)? & !clear;
        let on = if on { bit } else { 0 };
        let masked = if masked { clear & MSIX_MASKED } else { 0 };
        config.write(function, at, head | on | masked)
    }
}
