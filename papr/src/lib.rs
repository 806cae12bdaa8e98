//! The pseries platform as pure logic (PAPR, published as LoPAR 1.1): what a partition finds when it boots and
//! what its calls mean, without the machine underneath. Everything here is tested on the build machine.
//!
//! [`xics`] and [`vty`] may be called with translation off: they do not allocate, panic, format or wait.
//! [`cpuchars`], [`identity`] and [`vpa`] only compute. [`rtas`], [`tree`] and [`elf`] belong to virtual mode.
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cpuchars;
pub mod elf;
pub mod identity;
pub mod rtas;
mod size;
pub mod tree;
pub mod vpa;
pub mod vty;
pub mod xics;
