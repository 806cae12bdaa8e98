//! Devices that their host bridge has stopped after an error ("EEH"): who is told, and how they come back in the hands of a guest.

use core::sync::atomic::{AtomicU64, Ordering};

use pci::Active;
use phb::{Part, Stopped, WAIT};
use realmode::instructions::timebase;

use super::reset::Way;
use super::{DEVICES, Device};
use crate::opal::Thaw;
use crate::partition::TIMEBASE_HZ;

/// When all devices in use are looked at next.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Tells of devices that have been stopped, if it is time to look: each second. A guest that asks hears of it at once.
pub fn look() {
    let (now, Some(devices)) = (timebase(), DEVICES.get()) else { return };
    if now < NEXT.load(Ordering::Relaxed) {
        return;
    }
    NEXT.store(now + TIMEBASE_HZ, Ordering::Relaxed);
    let used = devices.iter().filter(|device| device.used.load(Ordering::Relaxed));
    used.filter(|device| device.underway.lock().is_none()).for_each(|device| {
        device.stopped();
    });
}

impl Device {
    /// What of it its host bridge has stopped. There is a line about it when it is found out, and one when it goes on.
    pub fn stopped(&self) -> Stopped {
        // What cannot be asked is told of by what fails.
        let stopped = self.endpoint.stopped().unwrap_or(Stopped::Nothing);
        let is = stopped != Stopped::Nothing;
        if self.stopped.swap(is, Ordering::Relaxed) != is {
            let what = match stopped {
                Stopped::Nothing => "goes on",
                Stopped::Dma => "may not reach memory any more, after an error",
                Stopped::All => "is cut off after an error",
                Stopped::For(_) => "is not to be had for a while",
                Stopped::ForGood => "is lost: its host bridge is out of order",
            };
            self.say(&format_args!("it {what}"));
        }
        stopped
    }

    /// May its guest bring it back after an error? Only by a reset that is no other's.
    pub fn recovers(&self) -> bool {
        self.alone && matches!(self.way, Way::By(_))
    }

    /// Lets a part of it go on.
    pub fn thaw(&self, part: Part) -> bool {
        let what = match part {
            Part::Memory => Thaw::Memory,
            Part::Dma => Thaw::Dma,
        };
        self.endpoint.thaw(what).is_ok()
    }

    /// Its guest resets it, and is to have it again as it was at the start.
    pub fn reset_by_guest(&self) -> bool {
        // What is stopped cannot be switched off, and does nothing.
        let _ = self.switch(Active::Nothing, false).and(self.switch_messages(false, false));
        match self.begin_reset() {
            Ok(()) => true,
            Err(error) => {
                self.say(&error);
                false
            }
        }
    }

    /// Goes on with that. `Ok` once it is as at the start, but for what the guest has yet to switch on.
    pub fn come_back(&self) -> Result<(), Stopped> {
        if !self.go_on() {
            return Err(Stopped::For(WAIT));
        }
        if !self.is_clean() || self.restore().is_err() {
            return Err(Stopped::ForGood);
        }
        self.stale.store(true, Ordering::Relaxed);
        Ok(())
    }
}
