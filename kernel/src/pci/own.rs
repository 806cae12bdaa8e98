//! Functions that are the hypervisor's own: it reaches their registers, and they reach memory.

use alloc::format;
use alloc::string::String;

use pci::Active;

use super::host::Found;
use super::{Device, Function, HostBridge};
use crate::host_interrupts::Handler;
use crate::mmu;

/// Virtio's vendor, and its devices, those of version 1 from 0x1040 on.
const VIRTIO: u32 = 0x1af4;
const DEVICES: core::ops::Range<u32> = 0x1000..0x1080;
/// What is mapped of a function at most.
const MOST: u64 = 1 << 20;

/// Is it one that the hypervisor has a use for?
pub fn is_own(found: &Found) -> bool {
    !found.is_bridge && found.ids.0 == VIRTIO && DEVICES.contains(&found.ids.1)
}

impl Device {
    /// Its host bridge, and its name there.
    pub fn function(&self) -> (&'static HostBridge, Function) {
        (self.endpoint.host, self.endpoint.function)
    }

    /// Has its first interrupt served from now on.
    pub fn serve(&self, handler: Handler) -> Result<(), String> {
        self.program(0, handler)?;
        self.switch_messages(true, false).map_err(|error| format!("{error}"))
    }

    /// Switches a function of the hypervisor's own on, lets it reach all memory and maps its own. The answer is an address on the bus, and
    /// the effective address of what is there.
    pub fn open(&'static self) -> Result<(u64, u64), String> {
        let reached = self.endpoint.reach_all();
        reached.map_err(|error| format!("the firmware gives it no window to memory (code {})", error.0))?;
        self.enable(Active::Master).map_err(|error| format!("{error}"))?;
        let ranges = || self.place.addresses.iter().zip(&self.bars);
        let first = ranges().map(|(at, _)| *at).min().unwrap_or(0);
        let end = ranges().map(|(at, bar)| at + bar.bytes).max().unwrap_or(0);
        let bytes = end.saturating_sub(first);
        let mapped = Some(bytes).filter(|bytes| *bytes <= MOST);
        let mapped = mapped.and_then(|bytes| mmu::map_device(self.endpoint.host.to_real(first), bytes));
        let mapped = mapped.ok_or_else(|| format!("its {} KiB of memory cannot be mapped", bytes >> 10))?;
        Ok((first, mapped))
    }
}
