//! Resets between a device's users: which way there is, and what has been begun. Nobody waits for one: who wants to start a partition asks
//! whether its devices are ready ([`Claim::are_ready`]).
//!
//! A device without a reset of its own is reset with its bus, if all that is there is the same partition's; otherwise by its power, if it
//! forgets by that. What none of it resets is one partition's for good.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering;

use bundle::Manifest;
use pci::{Function, Reset, Resetting};
use realmode::instructions::timebase;

use super::host::Found;
use super::{Claim, Device};
use crate::console::TICKS_PER_MICRO;

/// How what a user leaves in a device is made to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// It stays.
    None,
    /// So.
    By(Reset),
    /// By the reset of another one on its bus.
    With(Function),
}

/// A reset that has begun, and when it is to be gone on with, in ticks of the timebase.
pub struct Underway {
    resetting: Resetting,
    next: u64,
}

/// Decides for each device.
pub fn choose(devices: &mut [Device], found: &[Found], manifest: &Manifest) {
    let owner =
        |f: &Found| manifest.partitions.iter().position(|t| t.devices.iter().any(|d| d.pci == f.address));
    for n in 0..devices.len() {
        let (before, rest) = devices.split_at_mut(n);
        let Some((device, after)) = rest.split_first_mut() else { break };
        let Some(this) = found.iter().find(|f| f.address == device.address) else { continue };
        if device.way != Way::None || device.own {
            continue;
        }
        let on_bus =
            |f: &&Found| f.above.last() == this.above.last() && f.address.domain == this.address.domain;
        let used = |f: &Found| before.iter().chain(&*after).any(|other| other.address == f.address);
        // What nobody uses may be reset, too; a bridge would have to be opened again.
        let alone = found
            .iter()
            .filter(on_bus)
            .all(|f| !f.is_bridge && (owner(f) == owner(this) || owner(f).is_none() && !used(f)));
        let leader = before.iter_mut().find(|other| {
            matches!(other.way, Way::By(Reset::Bus(_) | Reset::Port))
                && found.iter().filter(on_bus).any(|f| f.address == other.address)
        });
        let power = device.power.map_or(Way::None, Way::By);
        device.way = match (this.above.as_slice(), leader) {
            ([], _) => power,
            _ if !alone => power,
            (_, Some(leader)) => {
                leader.alone = false;
                Way::With(leader.endpoint.function)
            }
            ([_], None) => Way::By(Reset::Port),
            ([.., bridge], None) => Way::By(Reset::Bus(Function(*bridge))),
        };
    }
}

impl Device {
    /// Begins to have it forget what its user has left in it. It takes part in nothing.
    pub(super) fn begin_reset(&self) -> Result<(), pci::Error> {
        if let Way::By(reset) = self.way {
            let (host, function) = self.function();
            let (resetting, wait) = Resetting::begin(host, function, reset)?;
            *self.underway.lock() = Some(Underway { resetting, next: after(wait) });
        }
        Ok(())
    }

    /// Goes on with what has been begun. True if nothing is under way any more.
    pub(super) fn go_on(&self) -> bool {
        let mut underway = self.underway.lock();
        let Some(reset) = &mut *underway else { return true };
        if timebase() < reset.next {
            return false;
        }
        let (host, function) = self.function();
        match reset.resetting.go_on(host, function) {
            Ok(Some(wait)) => {
                reset.next = after(wait);
                return false;
            }
            Ok(None) => self.stale.store(false, Ordering::Relaxed),
            Err(error) => self.say(&format_args!("its reset fails: {error}")),
        }
        *underway = None;
        true
    }

    /// Is there nothing in it of another partition's?
    pub(super) fn is_clean(&self) -> bool {
        !self.stale.load(Ordering::Relaxed)
    }
}

fn after(milliseconds: u64) -> u64 {
    timebase() + milliseconds * 1000 * TICKS_PER_MICRO
}

impl Claim {
    /// Goes on with the resets of the devices; true if none is under way.
    pub fn are_ready(&self) -> bool {
        let underway = self.devices.iter().filter(|device| !device.go_on()).count();
        for device in &self.devices {
            let leads = |other: &&&Device| Way::With(other.endpoint.function) == device.way;
            if self.devices.iter().filter(leads).any(|other| other.is_clean()) {
                device.stale.store(false, Ordering::Relaxed);
            }
        }
        underway == 0
    }

    /// May the partition of this name have them as they are? An error is one line for the user.
    pub(super) fn fit(&self, name: &str) -> Result<(), String> {
        for device in self.devices.iter().filter(|device| !device.is_clean()) {
            let last = device.last_user.lock();
            if *last != name {
                return Err(format!(
                    "device {}: {} has left its state in it, and it cannot be reset",
                    device.address, *last
                ));
            }
        }
        Ok(())
    }
}
