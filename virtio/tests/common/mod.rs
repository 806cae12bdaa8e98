//! What tests and fuzzing need of the other side: memory, and a driver.
#![allow(dead_code, unused_imports)] // each test uses a part of it

mod driver;
pub mod host;
mod memory;

pub use driver::{Driver, Event, Part};
pub use host::Host;
pub use memory::{Memory, Wire};
