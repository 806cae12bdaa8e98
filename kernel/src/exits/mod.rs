//! What a guest is left for: the virtual-mode half of hypercalls and storage faults.

pub mod hcall;
pub mod mmio;
pub mod rtas;
pub mod storage;

use alloc::format;
use alloc::string::String;

use crate::partition::Partition;

/// What happens to the vCPU, or to its partition, after an exit has been handled.
pub enum After {
    /// It goes on.
    Continue,
    /// It goes on, after others have had their turn.
    Yield,
    /// The partition has switched itself off.
    PowerOff,
    /// The partition starts anew.
    Reboot,
    /// The partition cannot go on. Why, in one line.
    Stop(String),
}

impl After {
    /// The end of a partition that the host has no memory for.
    fn exhausted(partition: &Partition) -> After {
        let mib = partition.bytes >> 20;
        After::Stop(format!("the host has no memory left for partition {} ({mib} MiB)", partition.name))
    }
}
