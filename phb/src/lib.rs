//! A partition's PCI host bridge, as pure logic: what the guest's loads, stores, hypercalls and RTAS calls mean to it (PCI Local Bus
//! Specification 3.0; LoPAR, "PCI Host Bridges").
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod function;

pub use function::{Bus, DmaError, Function};
