//! Which virtual processor runs where: run queues with weights, and the protocols by which a sleeping virtual processor
//! is woken from real mode. Pure logic, without a privileged instruction.
//!
//! - [`CpuSet`]: host CPUs.
//! - [`Queue`]: who waits for a CPU, who is next, and for how long. Virtual mode only: it allocates.
//! - [`Whereabouts`]: where a virtual processor is, and who has to wake it.
//! - [`Gate`]: what keeps a partition's virtual processors out of their guest, so that it ends or stands still.
//! - [`Mailbox`], [`IdleCpus`]: how it comes to the CPU that is to run it. These three are lock-free and good in real mode.
//!
//! All times are ticks of the timebase.
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod cpuset;
mod gate;
mod mailbox;
mod queue;
mod sync;
mod turn;
mod wake;

pub use cpuset::{CpuSet, MAX_CPUS};
pub use gate::Gate;
pub use mailbox::{IdleCpus, MAX_TASKS, Mailbox};
pub use queue::{Arrival, Entry, Groups, Pick, Queue, Timing};
pub use wake::{Phase, Wake, Whereabouts};

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
