//! A partition's PCI host bridge, as pure logic: what the guest's loads, stores, hypercalls and RTAS calls mean to it (PCI Local Bus
//! Specification 3.0; LoPAR, "PCI Host Bridges").
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bridge;
mod config;
mod dma;
mod eeh;
mod firmware;
mod function;
pub mod layout;
mod messages;
mod msix;
mod port;
mod rtas;
pub mod tce;
#[cfg(test)]
mod tests;
mod tree;

pub use bridge::HostBridge;
pub use config::{CONFIG_BYTES, Config, Identity, Width, command, offset};
pub use dma::MOST_ENTRIES;
pub use eeh::{Stopped, WAIT};
pub use function::{Bus, Description, DmaError, Doorbell, Function, Part};
pub use port::Host;

/// Capability ID of MSI.
pub const MSI_CAPABILITY: u8 = 0x05;
/// Capability ID of MSI-X.
pub const MSIX_CAPABILITY: u8 = 0x11;
