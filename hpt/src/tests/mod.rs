//! Tests: [`unit`] and [`faults`] behaviour by behaviour, [`random`] everything against the model in [`world`].

// Bits are put together all the time here, and << before | is no riddle.
#![allow(clippy::precedence)]

mod bytes;
mod copies;
mod explain;
mod faults;
mod guest;
mod mock;
mod order;
mod random;
mod reserve;
mod steps;
mod threads;
mod unit;
mod whole;
mod world;
