//! Virtio 1.x devices, as pure logic (Virtual I/O Device (VIRTIO) Version 1.2): split queues ([`Queue`]), the PCI transport
//! ([`Transport`]), and what a device is to it ([`Device`]). All that lies in a guest's memory is an allegation, and may change between
//! two looks.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod balloon;
pub mod blk;
mod chain;
pub mod console;
mod device;
pub mod features;
pub mod net;
mod pci;
mod queue;
pub mod rng;

pub use chain::{Chain, Segment};
pub use device::{Device, Kind, OtherEnd};
pub use pci::Transport;
pub use queue::{Broken, Layout, Queue};

#[cfg(all(test, loom))]
mod loom_tests;
