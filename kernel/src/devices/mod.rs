//! A partition's emulated devices: functions behind a PCI host bridge of its own (the crate `phb`), most of them virtio's (`virtio`).
//! What a guest has done to them is under one lock for each partition.
//!
//! A device is served by the CPU that hears of something to do: the vCPU's that has notified it, and whoever rings its doorbell. What is not
//! done at once is done in turns, by any CPU ([`work`]), and only while the partition's gate is open: whoever has it standing still finds
//! its devices at rest, and neither they nor memory change.

pub mod bus;
mod disk;
mod make;
mod passed;
pub mod work;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use papr::rtas::{PCI_RESULTS, RtasStatus, Service};
use papr::tree::HostBridgeConfig;
use papr::xics::{FIRST_SOURCE, Source};
use phb::layout::{LINES, MESSAGES};
use phb::{Description, Doorbell, HostBridge};
use virtio::{OtherEnd, Transport};

use self::bus::{Nobody, Owner};
use self::work::Bell;
use crate::partition::Partition;
use crate::pci;
use crate::sync::{Lock, Rank};

/// The first of the host bridge's interrupt sources: behind those of the console and the identity page.
pub const FIRST: u32 = FIRST_SOURCE + 2;

/// The interrupt sources of a host bridge.
pub fn sources() -> impl Iterator<Item = Source> {
    (0..LINES).map(|_| Source::level()).chain((0..MESSAGES).map(|_| Source::message()))
}

/// Lines of the host bridge whose ends it is to hear of, as [`realmode::partition::Partition::heard`] has them: those of the partition's devices
/// of the host.
pub fn heard(passed: &pci::Claim) -> u64 {
    const _: () = assert!(FIRST - FIRST_SOURCE + LINES <= u64::BITS);
    let slots = passed.each().zip(0..).filter(|(device, _)| device.line().is_some());
    slots.fold(0, |heard, (_, slot)| heard | 1 << (FIRST - FIRST_SOURCE + slot % LINES))
}

/// A partition's host bridge, with its functions.
pub struct Devices {
    bridge: Lock<HostBridge>,
    bell: Arc<Bell>,
}

impl Devices {
    fn new(bridge: HostBridge, bell: Arc<Bell>) -> Devices {
        Devices { bridge: Lock::new(Rank::Devices, bridge), bell }
    }

    /// Puts them all back to what a partition finds when it starts.
    pub fn reset(&self, partition: &Partition) {
        self.bridge.lock().reset(&Owner(partition));
    }

    /// Where their memory will be when the partition starts: slot, base address register, real address.
    pub fn places(&self) -> Vec<(usize, usize, u64)> {
        let mut bridge = self.bridge.lock();
        bridge.reset(&Nobody);
        bridge.places().collect()
    }

    /// What the device tree says of them.
    pub fn tree(&self, partition: &Partition) -> HostBridgeConfig {
        self.bridge.lock().tree(&Owner(partition))
    }

    /// A call of the guest's about them.
    pub fn call(
        &self,
        partition: &Partition,
        service: Service,
        args: &[u32],
        results: usize,
    ) -> (RtasStatus, [u32; PCI_RESULTS]) {
        let mut bridge = self.bridge.lock();
        let answer = bridge.call(service, args, results, &Owner(partition));
        if bridge.is_waiting() {
            self.bell.more();
        }
        answer
    }

    /// The guest has ended an interrupt of a source's.
    pub fn ended(&self, partition: &Partition, source: u32) {
        self.bridge.lock().ended(source, &Owner(partition));
    }

    /// Does something to the host bridge.
    pub fn with<T>(&self, work: impl FnOnce(&mut HostBridge) -> T) -> T {
        work(&mut self.bridge.lock())
    }

    /// Something may have been left undone while the partition stood still.
    pub fn go_on(&self) {
        self.bell.ring();
    }

    /// What people are told of them, slot by slot.
    pub fn describe(&self) -> Vec<Description> {
        self.bridge.lock().describe()
    }

    /// Their state, of a partition that stands still. An error, one line for the user, if one of them cannot be copied.
    pub fn state(&self, partition: &Partition) -> Result<HostBridge, String> {
        let copied = self.bridge.lock().copy();
        copied.map_err(|what| alloc::format!("{}: its device {what} cannot be copied", partition.name))
    }

    /// What others than the guest have of them: ports, lines, balloons.
    pub fn other_ends(&self) -> Vec<OtherEnd> {
        self.bridge.lock().each().map(Transport::other_end).collect()
    }

    /// Gives them that state; the partition stands still.
    pub fn give(&self, mut state: HostBridge) {
        let bell: Arc<dyn Doorbell> = self.bell.clone();
        state.attach(&bell);
        let mut bridge = self.bridge.lock();
        // A copy's own has no functions yet.
        state.take_over(&bridge);
        let before = core::mem::replace(&mut *bridge, state);
        drop(bridge);
        // Not under the lock: it may be long.
        drop(before);
    }
}

pub use make::define;
