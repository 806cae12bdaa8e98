//! Tests: [`behaviour`] one by one, [`random`] everything against the model in [`world`].
#![cfg(not(loom))]

mod behaviour;
mod guest;
mod host;
mod random;
mod world;
