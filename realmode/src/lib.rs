//! What happens with translation off: the interrupt vectors, guest entry and exit, and the hypercall and storage
//! fault paths that never leave real mode.
//!
//! Contract of everything reachable from [`hcalls`] and [`interrupts`]: validate; point of no return; mutate. No panic,
//! no allocation, no formatting, no unbounded loop, no lock that virtual mode holds with interrupts on. What cannot be
//! done under that rule answers `TooHard` before the point of no return, and virtual mode does it in full; of several removals those
//! that are left.
//!
//! Imports go one way: this crate knows nothing of the kernel. It returns values.
#![no_std]

pub mod layout;
pub mod lock;
pub mod partition;
pub mod sprs;
pub mod trace;

#[cfg(target_arch = "powerpc64")]
pub mod context;
#[cfg(target_arch = "powerpc64")]
mod deliver;
#[cfg(target_arch = "powerpc64")]
pub mod hcalls;
#[cfg(target_arch = "powerpc64")]
pub mod host;
#[cfg(target_arch = "powerpc64")]
pub mod instructions;
#[cfg(target_arch = "powerpc64")]
mod interrupts;
#[cfg(target_arch = "powerpc64")]
pub mod machine;
#[cfg(target_arch = "powerpc64")]
pub mod memory;
#[cfg(target_arch = "powerpc64")]
pub mod mmio;
#[cfg(target_arch = "powerpc64")]
pub mod world;

#[cfg(target_arch = "powerpc64")]
pub use deliver::{inject_saved, prepare_stay};
