//! A function's interrupt line: one of the host bridge's four, whose level is an interrupt of the host's. It is held back from when it goes up
//! until its user has let it go, so a line that stays up interrupts no more often than its user ends it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use phb::Doorbell;

use super::Device;
use crate::opal::Error;
use crate::sync::{Lock, Rank};
use crate::{host_interrupts, log};

/// A line that one function alone has.
pub struct Line {
    source: u32,
    /// It has gone up, and is held back.
    up: AtomicBool,
    /// Who is told then.
    user: Lock<Option<Arc<dyn Doorbell>>>,
}

impl Line {
    /// By its interrupt's number.
    pub const fn new(source: u32) -> Line {
        Line { source, up: AtomicBool::new(false), user: Lock::new(Rank::Interrupts, None) }
    }

    /// Who has the function, from its next start on.
    pub fn set_user(&self, user: Option<Arc<dyn Doorbell>>) {
        let before = core::mem::replace(&mut *self.user.lock(), user);
        // Not under the lock.
        drop(before);
    }

    /// Has it served.
    pub fn serve(&'static self) -> Result<(), Error> {
        let Some(user) = self.user.lock().clone() else { return Ok(()) };
        self.up.store(false, Ordering::SeqCst);
        let went_up = move || {
            self.up.store(true, Ordering::SeqCst);
            user.ring();
        };
        host_interrupts::register(self.source, None, Arc::new(went_up))
    }

    /// Has it no longer served.
    pub fn stop(&self) {
        host_interrupts::unregister(self.source);
    }

    /// Has it gone up?
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// What it has said is done with. It goes up again, if it still is.
    pub fn let_go(&self) {
        if self.up.swap(false, Ordering::SeqCst) {
            host_interrupts::end_line(self.source);
        }
    }
}

/// Devices that would share a line do without: who has one of them could hold it up for the other.
pub fn part(devices: &mut [Device]) {
    let source = |device: &Device| device.line.as_ref().map(|line| line.source);
    let all: Vec<_> = devices.iter().map(|device| (device.address, source(device))).collect();
    for device in devices {
        let same = |other: &&(_, _)| other.0 != device.address && other.1 == source(device);
        if let Some((other, Some(_))) = all.iter().find(same) {
            log!("device {}: no interrupt line, which {other} has as well", device.address);
            device.line = None;
        }
    }
}
