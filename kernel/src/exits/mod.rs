//! What a guest is left for: the virtual-mode half of hypercalls and storage faults.

pub mod facility;
pub mod hcall;
pub mod mmio;
pub mod rtas;
pub mod storage;

use alloc::format;
use alloc::sync::Arc;

use realmode::layout::Vcpu;

use crate::partition::life::Ending;
use crate::partition::{Partition, VirtualCpu, Waits};

/// A vCPU that has just left its guest, on this CPU.
pub struct Guest<'a> {
    /// Its partition.
    pub partition: &'a Arc<Partition>,
    /// What everybody may see of it.
    pub vcpu: &'a VirtualCpu,
    /// Its registers.
    pub regs: &'a mut Vcpu,
}

/// What happens to the vCPU, or to its partition, after an exit has been handled.
pub enum After {
    /// It goes on.
    Continue,
    /// It goes on, after others have had their turn: first this server, if there is one.
    Yield(Option<usize>),
    /// It waits for this.
    Wait(Waits),
    /// Its partition ends, or starts anew.
    End(Ending),
}

impl After {
    /// The partition cannot go on. Why, in one line.
    fn crash(why: alloc::string::String) -> After {
        After::End(Ending::Crash(why))
    }

    /// The end of a partition that the host has no memory for.
    fn exhausted(partition: &Partition) -> After {
        let mib = partition.bytes >> 20;
        After::crash(format!("the host has no memory left for partition {} ({mib} MiB)", partition.name))
    }
}
