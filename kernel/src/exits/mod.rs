//! What a guest is left for: the virtual-mode half of hypercalls and storage faults.

mod access;
mod dma;
pub mod facility;
pub mod hcall;
pub mod mmio;
pub mod past;
pub mod rtas;
pub mod storage;

use alloc::format;
use alloc::sync::Arc;

use paging::Error;
use realmode::layout::Vcpu;

use crate::memory;
use crate::partition::life::{Ending, Work};
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
    /// This is done while its partition stands still. It has to see to it that the vCPU goes on as it should, and that it asks again if
    /// it does not come to that.
    Quiesce(Work),
}

impl After {
    /// The partition cannot go on. Why, in one line.
    fn crash(why: alloc::string::String) -> After {
        After::End(Ending::Crash(why))
    }

    /// The end of a partition that can have no more memory.
    fn out_of_memory(partition: &Partition, error: Error) -> After {
        After::crash(match error {
            Error::Limit => format!(
                "partition {}: it wants more memory than its limit of {} MiB",
                partition.name,
                partition.table.limit.unwrap_or(partition.bytes) >> 20
            ),
            Error::NoRam | Error::Exhausted => format!(
                "partition {}: the host has no memory left for it: {} MiB are free, {} MiB of which are reserved",
                partition.name,
                memory::free() >> 20,
                memory::reserve() >> 20
            ),
        })
    }
}
