//! The host's other CPUs, threads of a core included. They are taken over from the firmware and put to sleep: partitions
//! run on the boot CPU.
#![allow(unsafe_code)] // the address of the assembly that they start at

use core::sync::atomic::{AtomicU32, Ordering};

use fdt::Fdt;
use fdt::node::FdtNode;
use power::{HostReal, spr};
use realmode::instructions::{mfspr, timebase};

use crate::partition::TIMEBASE_HZ;
use crate::{log, opal};

/// How many sleep: counted by the assembly.
#[unsafe(no_mangle)]
static PARKED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static secondary_start: u8;
}

/// Starts every CPU but this one and waits until they sleep. How many do, and how many there are.
pub fn park_others(tree: &Fdt<'_>) -> (u32, u32) {
    let entry = HostReal::of_ea((&raw const secondary_start) as u64);
    // SAFETY: PIR can always be read.
    let own = unsafe { mfspr::<{ spr::PIR }>() } as u32;
    let (mut others, mut started) = (0, 0);
    for server in tree.find_node("/cpus").iter().flat_map(|cpus| cpus.children()).flat_map(servers) {
        if server == own {
            continue;
        }
        others += 1;
        match opal::start_cpu(server, entry) {
            Ok(()) => started += 1,
            Err(error) => log!("cpu {server:#x} does not start: {error:?}"),
        }
    }
    // A CPU that was started and does not arrive within a second is left to itself.
    let deadline = timebase() + TIMEBASE_HZ;
    while PARKED.load(Ordering::Acquire) < started && timebase() < deadline {
        core::hint::spin_loop();
    }
    (PARKED.load(Ordering::Acquire), others)
}

/// The interrupt server numbers of a CPU node: one for each of its threads.
fn servers<'a>(node: FdtNode<'a, 'a>) -> impl Iterator<Item = u32> + 'a {
    let list = node.property("ibm,ppc-interrupt-server#s").map_or(&[][..], |p| p.value);
    list.chunks_exact(4).map(|cell| u32::from_be_bytes([cell[0], cell[1], cell[2], cell[3]]))
}
