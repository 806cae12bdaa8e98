//! What the hypervisor notes while it works: the trace, one ring of typed events for each host CPU, and the statistics of
//! each virtual processor.
//!
//! Both are written in real mode, by a few instructions and without locks, and read at any time by another CPU. This
//! crate says what the words mean; `realmode` writes them, the kernel's monitor and `cargo xtask trace` print them.
#![no_std]
#![forbid(unsafe_code)]

pub mod dump;
pub mod event;
pub mod exit;
pub mod ring;
pub mod stats;

pub use dump::{BadLine, Record, sort};
pub use event::{BadEvent, Event, Outcome, Processor, What, tag};
pub use exit::ExitCode;
pub use ring::{RING_BYTES, RING_EVENTS, Ring};
pub use stats::{Counter, Stats, Subject};
