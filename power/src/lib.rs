//! The vocabulary of the machine: what the Power ISA (2.07B, 3.0C, 3.1) and PAPR name, as types and constants.
//!
//! Nothing here acts. Bit positions are written as values (LSB numbering) and, where the ISA's own
//! name for a bit is its number, in IBM numbering in the comment.
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod cpu;
pub mod hcall;
pub mod hpte;
pub mod interrupt;
pub mod regs;
pub mod slb;
pub mod spr;

pub use addr::{Ea, GuestReal, HostReal, Lpid, PteIndex};
pub use cpu::{CpuFeatures, Generation};
pub use hcall::{Hcall, Status};
pub use hpte::{HpteFormat, HpteR, HpteV, PageSize};
