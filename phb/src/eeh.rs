//! Recovery from errors ("EEH"): a host bridge that sees one stops the function, its loads read all ones, and the guest's driver asks, resets it
//! and goes on (LoPAR, "Enhanced I/O Error Handling (EEH) Option"). Each function that this is offered for is a partitionable endpoint of its
//! own; emulated ones are never stopped, and it is not offered for them.

use papr::rtas::{PCI_RESULTS, RtasStatus, Service};

use crate::port::Host;
use crate::{HostBridge, Part};

/// What a host bridge has stopped of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// Nothing.
    Nothing,
    /// Its accesses to memory.
    Dma,
    /// Those, and loads from and stores to it.
    All,
    /// It is being reset: to be asked again in so many milliseconds.
    For(u32),
    /// It will not come back: the host bridge itself is out of order.
    ForGood,
}

impl Stopped {
    /// As the host's firmware says: the state of an endpoint, and the kind of error (OPAL_PCI_EEH_FREEZE_STATUS).
    pub fn of_firmware(state: u8, error: u16) -> Stopped {
        /// OPAL_EEH_PHB_ERROR.
        const HOST_BRIDGE: u16 = 2;
        match (state, error) {
            (0, _) => Stopped::Nothing,
            (_, HOST_BRIDGE) => Stopped::ForGood,
            (2, _) => Stopped::Dma,
            // In reset, or unavailable for a while.
            (4 | 5, _) => Stopped::For(WAIT),
            // Loads and stores, whether with DMA or without: PAPR knows no such state.
            (1 | 3, _) => Stopped::All,
            _ => Stopped::ForGood,
        }
    }

    /// The state as `ibm,read-slot-reset-state2` has it, and for how long it will be unavailable.
    fn cells(self) -> (u32, u32) {
        match self {
            Stopped::Nothing => (0, 0),
            Stopped::All => (2, 0),
            Stopped::Dma => (4, 0),
            Stopped::For(milliseconds) => (5, milliseconds.max(1)),
            Stopped::ForGood => (5, 0),
        }
    }
}

/// Milliseconds after which it is looked again.
pub const WAIT: u32 = 100;
/// State: the guest holds it in reset.
const HELD: u32 = 1;
/// It is offered for the function.
const OFFERED: u32 = 1;

impl HostBridge {
    /// The slot that a call is about: by the address of its function, or by that of its endpoint, which is never 0.
    fn endpoint(&self, address: u32) -> Option<usize> {
        match address >> 16 & 0xff {
            0 => self.named(address).map(|(slot, _)| slot),
            n => (address == n << 16 && n as usize <= self.functions()).then(|| n as usize - 1),
        }
    }

    /// Carries out a call about it; `asked` is the fourth argument.
    pub(crate) fn recover(
        &mut self,
        service: Service,
        address: u32,
        asked: u32,
        host: &dyn Host,
    ) -> (RtasStatus, [u32; PCI_RESULTS]) {
        let plain = |status| (status, [0; PCI_RESULTS]);
        let found = self.endpoint(address);
        let found = found.and_then(|n| Some((n, self.with(n, host, |f, port| f.stopped(port))??)));
        let Some((n, stopped)) = found else { return plain(RtasStatus::PARAMETER) };
        let done = |good: bool| plain(if good { RtasStatus::SUCCESS } else { RtasStatus::HARDWARE });
        match (service, asked) {
            // Where its endpoint is; and that it has one, which no other function shares.
            (Service::GetConfigAddrInfo, 0) => (RtasStatus::SUCCESS, [(n as u32 + 1) << 16, 0, 0, 0, 0]),
            (Service::GetConfigAddrInfo, 1) => (RtasStatus::SUCCESS, [1, 0, 0, 0, 0]),
            // Host bridges always stop on errors.
            (Service::SetEehOption, 0 | 1) => done(true),
            (Service::SetEehOption, 2) => done(self.thaw(n, Part::Memory, host)),
            (Service::SetEehOption, 3) => done(self.thaw(n, Part::Dma, host)),
            (Service::ReadSlotResetState, _) => {
                let (state, wait) = if self.slots[n].held { (HELD, 0) } else { stopped.cells() };
                (RtasStatus::SUCCESS, [state, OFFERED, wait, 0, 0])
            }
            (Service::SetSlotReset, 0) => {
                self.slots[n].held = false;
                done(true)
            }
            (Service::SetSlotReset, 1 | 3) => {
                // Once, however often it is said.
                let held = self.slots[n].held
                    || self.with(n, host, |function, port| function.begin_reset(port)) == Some(true);
                self.slots[n].held = held;
                self.find_places();
                done(held)
            }
            // There is no bridge to configure, and no log but the hypervisor's.
            (Service::ConfigurePe, _) => done(true),
            (Service::SlotErrorDetail, _) => plain(RtasStatus::NO_EVENT),
            _ => plain(RtasStatus::PARAMETER),
        }
    }

    fn thaw(&mut self, n: usize, part: Part, host: &dyn Host) -> bool {
        self.with(n, host, |function, _| function.thaw(part)) == Some(true)
    }
}

#[cfg(test)]
mod tests;
