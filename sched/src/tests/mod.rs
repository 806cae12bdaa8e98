//! The queue call by call, and whole machines of queues in a simulator.

mod core;
mod fair;
mod queue;
mod random;
mod sim;
mod wake;

use crate::{CpuSet, Entry, Timing};

/// A millisecond of a timebase of 512 MHz.
pub(crate) const MS: u64 = 512_000;

/// What the kernel uses.
pub(crate) const TIMING: Timing = Timing { period: 20 * MS, min_slice: MS, max_slice: 10 * MS };

/// A task of weight 100 that may run anywhere.
pub(crate) fn task(task: usize, group: u16, vtime: u64) -> Entry<usize> {
    Entry { task, group, weight: 100, allowed: CpuSet::ALL, vtime }
}
