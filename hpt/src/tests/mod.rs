//! Tests: [`unit`] and [`faults`] behaviour by behaviour, [`random`] everything against the model in [`world`].

// Bits are put together all the time here, and << before | is no riddle.
#![allow(clippy::precedence)]

mod faults;
mod guest;
mod mock;
mod random;
mod steps;
mod unit;
mod world;
