//! Where instructions go: counting them by function, by caller and by the way into the hypervisor.
//!
//! QEMU's plugin `counter` reports each instruction of the hypervisor's to a [`Cpu`], and what the rest (firmware, guests)
//! executes in between. A `Cpu` follows calls, returns and interrupts, so that it knows on whose behalf an instruction
//! runs. At the end it is [`Counts`], a text file that `cargo xtask profile` reads and makes tables of.
#![forbid(unsafe_code)]

mod counts;
mod file;
mod flame;
mod flow;
mod image;
mod lines;
mod listing;
mod rows;
pub mod table;

pub use counts::{Counts, Entry, Frame, Node, Outside, Phase, Section, Way};
pub use flame::{folded, svg};
pub use flow::{Cpu, Probe};
pub use image::{Flow, Function, Image};
pub use lines::{Lines, Place};
pub use listing::listing;
pub use rows::Console;
pub use table::Selection;
