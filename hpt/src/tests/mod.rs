//! Tests.

mod mock;
mod random;
mod unit;
mod world;
