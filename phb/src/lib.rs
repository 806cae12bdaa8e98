//! A partition's PCI host bridge, as pure logic: what the guest's loads, stores, hypercalls and RTAS calls mean to it (PCI Local Bus
//! Specification 3.0; LoPAR, "PCI Host Bridges").
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod function;
mod msix;

pub use config::{CONFIG_BYTES, Config, Identity, Width, command, offset};
pub use function::{Bus, Description, DmaError, Doorbell, Function};

/// Capability ID of MSI-X.
pub const MSIX_CAPABILITY: u8 = 0x11;
