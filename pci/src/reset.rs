//! Function level reset (PCI Express Base 3.0, 6.6.2; Conventional PCI Advanced Capabilities ECN): a function forgets all that its
//! user has left in it, addresses included.

use crate::{AccessError, Config, Function, capability};

/// Capabilities, by ID.
const EXPRESS: u8 = 0x10;
const ADVANCED_FEATURES: u8 = 0x13;
/// Device capabilities of PCI Express: it can be reset.
const EXPRESS_CAN: u32 = 1 << 28;
/// Device control: reset. The upper half of the word is status, where a 0 changes nothing.
const EXPRESS_DO: u32 = 1 << 15;
/// Advanced features, in the capability's first word: it can be reset.
const ADVANCED_CAN: u32 = 1 << 25;
const ADVANCED_DO: u32 = 1;

/// How a function can be reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// By its PCI Express capability at this offset.
    Express(u16),
    /// By its Advanced Features capability at this offset.
    Advanced(u16),
}

impl Reset {
    /// A function needs so long to come back: milliseconds.
    pub const MILLISECONDS: u64 = 100;

    /// How this function can be reset; `None`: it cannot be.
    pub fn find(config: &impl Config, function: Function) -> Result<Option<Reset>, AccessError> {
        capability::find(config, function, |at, head| {
            Ok(match head as u8 {
                EXPRESS if config.read(function, at + 4)? & EXPRESS_CAN != 0 => Some(Reset::Express(at)),
                ADVANCED_FEATURES if head & ADVANCED_CAN != 0 => Some(Reset::Advanced(at)),
                _ => None,
            })
        })
    }

    /// Begins to reset it. It may not be touched for [`Reset::MILLISECONDS`] then.
    pub fn start(self, config: &impl Config, function: Function) -> Result<(), AccessError> {
        match self {
            Reset::Express(at) => {
                let control = config.read(function, at + 8)? & 0xffff;
                config.write(function, at + 8, control | EXPRESS_DO)
            }
            Reset::Advanced(at) => config.write(function, at + 4, ADVANCED_DO),
        }
    }
}
