//! A partitionable endpoint: a function as its host bridge knows it. What it may reach by DMA, what interrupts it may make, and whether
//! the bridge has cut it off after an error.
#![allow(unsafe_code)] // a register of the host bridge

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use pci::Function;
use phb::Stopped;
use power::HostReal;
use realmode::instructions::ptesync;
use volatile::VolatileRef;

use super::host::HostBridge;
use crate::host_interrupts::{self, Handler};
use crate::memory;
use crate::opal::{self, Error, Thaw, Window};

/// A function with its host bridge.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The bridge.
    pub host: &'static HostBridge,
    /// Its number there.
    pub number: u64,
    /// The function.
    pub function: Function,
}

/// A message that a function sends, and the interrupt that it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The interrupt's number.
    pub source: u32,
    /// Where to store.
    pub address: u64,
    /// What.
    pub data: u32,
}

/// What host bridges' windows onto memory are measured in.
const UNIT: u64 = 16 << 20;

impl Endpoint {
    /// Lets it reach all memory of the machine in its second window.
    pub fn reach_all(&self) -> Result<(), Error> {
        let bytes = memory::end().max(UNIT).next_power_of_two();
        opal::pci_map_all(self.host.id, self.number, Window::High, bytes)
    }

    /// Lets it reach what a table of translation entries says, for pages of `page` bytes.
    ///
    /// Each entry is big endian: the real address of a page; bit 63 lets it be read, bit 62 written. The table may not go before
    /// the window is closed.
    pub fn reach_table(&self, window: Window, table: HostReal, bytes: u64, page: u64) -> Result<(), Error> {
        opal::pci_map_table(self.host.id, self.number, window, table, bytes, page)?;
        self.forget_translations()
    }

    /// Closes a window.
    pub fn close(&self, window: Window) -> Result<(), Error> {
        opal::pci_map_table(self.host.id, self.number, window, HostReal(0), 0, 0)?;
        self.forget_translations()
    }

    /// Entries of its tables that were changed before this are seen by all accesses after it.
    pub fn forget_translations(&self) -> Result<(), Error> {
        /// All translations of the endpoint whose number is in the lowest bits (PHB3, TCE kill).
        const ENDPOINT: u64 = 1 << 62;
        ptesync();
        let Some(kill) = self.host.kill else {
            return opal::pci_forget_translations(self.host.id, self.number);
        };
        // SAFETY: a register of the host bridge in a mapped window; a store to it invalidates.
        let mut register = unsafe { VolatileRef::new(NonNull::new_unchecked(kill as *mut u64)) };
        register.as_mut_ptr().write((ENDPOINT | self.number).to_be());
        Ok(())
    }

    /// A message of its own, for good: within 32 bits if `narrow`. Nothing is served yet.
    pub fn message(&self, narrow: bool) -> Result<Message, Error> {
        let (first, count) = self.host.messages;
        let used = &self.host.messages_used;
        let next = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < count).then_some(n + 1));
        let number = next.map_err(|_| Error(opal::NO_MEMORY))?;
        let (address, data) = opal::pci_message(self.host.id, self.number, number, narrow)?;
        Ok(Message { source: first + number, address, data })
    }

    /// Has a message of its own served.
    pub fn serve(&self, message: &Message, handler: Handler) -> Result<(), Error> {
        host_interrupts::register(message.source, Some(self.host.id), handler)
    }

    /// Lets it go on after an error.
    pub fn thaw(&self, what: Thaw) -> Result<(), Error> {
        opal::pci_clear_freeze(self.host.id, self.number, what)
    }

    /// What of it has been stopped after an error.
    pub fn stopped(&self) -> Result<Stopped, Error> {
        opal::pci_freeze_status(self.host.id, self.number)
            .map(|(state, error)| Stopped::of_firmware(state, error))
    }
}
