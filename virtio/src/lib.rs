//! Virtio 1.x devices, as pure logic (Virtual I/O Device (VIRTIO) Version 1.2): split queues ([`Queue`]), and what a device is
//! ([`Device`]). All that lies in a guest's memory is an allegation, and may change between two looks.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod device;
mod queue;

pub use device::{Device, Kind};
pub use phb::Doorbell;
pub use queue::{Broken, Chain, Queue};
