//! Tests.

mod faults;
mod mock;
mod random;
mod unit;
mod world;
