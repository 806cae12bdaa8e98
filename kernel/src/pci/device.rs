//! A function of the host that somebody uses: a partition, or the hypervisor itself.
#![allow(unsafe_code)] // the table of messages in the function's memory

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bundle::PciAddress;
use pci::{Active, Bar, Config, Kept, Messages, Place, Reset, Space};
use power::HostReal;
use spin::Once;
use volatile::VolatileRef;

use super::endpoint::{Endpoint, Message};
use super::host::{Found, HostBridge};
use super::line::Line;
use super::reset::{Underway, Way};
use crate::host_interrupts::{self, Handler};
use crate::opal::{Thaw, Window};
use crate::sync::{Lock, Rank};
use crate::{log, mmu, opal};

/// The most interrupts of a function that are used.
const MOST_VECTORS: u16 = 16;

/// The most lines about a function between one start and the next.
const MOST_LINES: u32 = 16;
/// Words of the header of configuration space.
const HEADER_WORDS: usize = 16;

/// A function that somebody uses.
pub struct Device {
    /// Where it is.
    pub address: PciAddress,
    /// As its host bridge knows it.
    pub endpoint: Endpoint,
    pub(super) bars: Vec<Bar>,
    pub(super) place: Place,
    header: [u32; HEADER_WORDS],
    /// How it is reset; if at all by its power, so.
    pub(super) way: Way,
    pub(super) power: Option<Reset>,
    pub(super) underway: Lock<Option<Underway>>,
    /// No other is reset with it.
    pub(super) alone: bool,
    /// Its host bridge has stopped it, and that has been told.
    pub(super) stopped: AtomicBool,
    /// How much has been said about it since its last start.
    said: AtomicU32,
    /// What a reset forgets, and its user expects.
    kept: Kept,
    messages: Option<Messages>,
    /// Its interrupt line, if it may have it.
    pub(super) line: Option<Line>,
    /// Where its table of messages is mapped, if it has been.
    table: Once<Option<u64>>,
    /// A message for each of its interrupts that have been served.
    given: Lock<Vec<Message>>,
    /// It is the hypervisor's own.
    pub(super) own: bool,
    /// Somebody has it.
    pub(super) claimed: AtomicBool,
    /// It is on.
    pub(super) used: AtomicBool,
    /// Since it was last reset a guest may have left something in it: this one.
    pub(super) stale: AtomicBool,
    pub(super) last_user: Lock<String>,
}

impl Device {
    /// Sizes a device, finds a place for it and makes it an endpoint of its own; `own` if it is the hypervisor's. Its memory stays off.
    pub fn prepare(
        host: &'static HostBridge,
        space: Option<&mut Space>,
        found: &Found,
        own: bool,
    ) -> Result<Device, String> {
        let function = pci::Function(found.address.routing_id());
        let bars = pci::bars(host, function).map_err(|error| format!("{error}"))?;
        let access = |error| format!("{}", pci::Error::Access(error));
        let kept = Kept::of(host, function).map_err(access)?;
        let (reset, power) = Reset::find(host, function).map_err(access)?;
        let messages = Messages::find(host, function).map_err(access)?;
        let mut header = [0; HEADER_WORDS];
        for (word, at) in header.iter_mut().zip((0..).step_by(4)) {
            *word = host.read(function, at).map_err(access)?;
        }
        let bytes: u64 = bars.iter().map(|bar| bar.bytes).sum();
        let place = space.and_then(|space| space.place(&bars));
        let place = place
            .ok_or_else(|| format!("{} KiB of it do not fit in the host bridge's window", bytes >> 10))?;
        let refused = |error: opal::Error| format!("the firmware makes it no endpoint (code {})", error.0);
        opal::pci_set_endpoint(host.id, place.segment, function.0).map_err(refused)?;
        for segment in place.segment..place.segment + place.segments {
            opal::pci_map_segment(host.id, place.segment, segment as u16).map_err(refused)?;
        }
        Ok(Device {
            address: found.address,
            endpoint: Endpoint { host, number: place.segment, function },
            bars,
            place,
            header,
            way: reset.map_or(Way::None, Way::By),
            power,
            underway: Lock::new(Rank::Host, None),
            alone: true,
            stopped: AtomicBool::new(false),
            said: AtomicU32::new(0),
            kept,
            messages,
            line: found.line.filter(|_| !own).map(Line::new),
            table: Once::new(),
            given: Lock::new(Rank::Interrupts, Vec::new()),
            own,
            claimed: AtomicBool::new(own),
            used: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            last_user: Lock::new(Rank::Host, String::new()),
        })
    }

    /// The line about one of a partition's.
    pub(super) fn tell(&self) {
        log!(
            "device {} ({:04x}:{:04x}): {} KiB at {:#x}{}",
            self.address,
            self.header[0] & 0xffff,
            self.header[0] >> 16,
            self.bars.iter().map(|bar| bar.bytes).sum::<u64>() >> 10,
            self.endpoint.host.to_real(self.place.addresses[0]).0,
            if self.way == Way::None {
                "; it cannot be reset, so only its first user is given it"
            } else {
                ""
            }
        );
    }

    /// Its ranges of memory: the base address register, where it is, and its bytes.
    pub fn ranges(&self) -> impl Iterator<Item = (u8, HostReal, u64)> {
        let host = self.endpoint.host;
        let ranges = self.bars.iter().zip(&self.place.addresses);
        ranges.map(move |(bar, address)| (bar.index, host.to_real(*address), bar.bytes))
    }

    /// A line about it, of the first few from each start on: its guest may bring them about.
    pub fn say(&self, what: &dyn Display) {
        if self.said.fetch_add(1, Ordering::Relaxed) < MOST_LINES {
            log!("device {}: {what}", self.address);
        }
    }

    /// Lets it take part. It is not being reset.
    pub fn enable(&'static self, to: Active) -> Result<(), pci::Error> {
        self.said.store(0, Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
        self.stale.store(true, Ordering::Relaxed);
        self.restore()?;
        if let Some(line) = &self.line {
            line.serve().map_err(pci::AccessError::from)?;
        }
        self.switch(to, true)
    }

    /// Sets it up as it has to be after a reset: it has its places, but none of it is on.
    pub(super) fn restore(&self) -> Result<(), pci::Error> {
        // What errors before may have stopped.
        self.endpoint.thaw(Thaw::All).map_err(pci::AccessError::from)?;
        let Endpoint { host, function, .. } = self.endpoint;
        self.kept.put_back(host, function)?;
        for (bar, address) in self.bars.iter().zip(&self.place.addresses) {
            pci::assign(host, function, *bar, *address)?;
        }
        Ok(())
    }

    /// Takes it out again: it neither reaches memory then nor interrupts. After an error it may still, and this can be tried again.
    pub fn disable(&self) -> Result<(), pci::Error> {
        // Each step is done whatever has become of those before: its memory is about to be somebody else's.
        let off = self.switch(Active::Nothing, false);
        if let Some(line) = &self.line {
            line.stop();
        }
        let given = self.given.lock().clone();
        for message in given {
            host_interrupts::unregister(message.source);
        }
        let silent = self.switch_messages(false, false);
        let closed = Window::ALL.map(|window| self.endpoint.close(window).map_err(pci::AccessError::from));
        off.and(silent)?;
        closed.into_iter().collect::<Result<(), _>>()?;
        self.used.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// How many interrupts it can make, of those that we use.
    pub fn vectors(&self) -> u16 {
        self.messages.map_or(0, Messages::count).min(MOST_VECTORS)
    }

    /// The message for one of its interrupts, the same each time.
    fn message(&self, vector: u16) -> Result<Message, opal::Error> {
        let mut given = self.given.lock();
        loop {
            if let Some(message) = given.get(usize::from(vector)) {
                return Ok(*message);
            }
            let next = self.endpoint.message(self.messages.is_some_and(Messages::is_narrow))?;
            given.push(next);
        }
    }

    /// How it makes them.
    pub fn messages(&self) -> Option<Messages> {
        self.messages
    }

    /// Its ranges of memory, as they are asked for.
    pub fn bars(&self) -> &[Bar] {
        &self.bars
    }

    /// A word of the header of its configuration space, as it was at first: a device that is being reset does not say what it is.
    pub fn header(&self, offset: u16) -> u32 {
        self.header.get(usize::from(offset / 4)).copied().unwrap_or(0)
    }

    /// Its interrupt line, if it may have it.
    pub fn line(&self) -> Option<&Line> {
        self.line.as_ref()
    }

    /// What it takes part in, from now on, and whether its line is let through. Nothing, if it is not in use: it may be about to reset.
    pub fn switch(&self, to: Active, line: bool) -> Result<(), pci::Error> {
        if !self.used.load(Ordering::Relaxed) {
            return Ok(());
        }
        let line = line && self.line.is_some();
        Ok(pci::switch(self.endpoint.host, self.endpoint.function, to, line)?)
    }

    /// Switches its messages on or off, or holds them back; likewise.
    pub fn switch_messages(&self, on: bool, masked: bool) -> Result<(), pci::Error> {
        let Some(messages) = self.messages.filter(|_| self.used.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        Ok(messages.switch(self.endpoint.host, self.endpoint.function, on, masked)?)
    }

    /// Has the device, whose memory is on, send a message for one of its interrupts, and `handler` run then. If messages are switched on, and
    /// the vector is not masked in the table.
    pub fn program(&self, vector: u16, handler: Handler) -> Result<(), String> {
        let messages = self.messages.filter(|_| vector < self.vectors());
        let messages = messages.ok_or("it has no such interrupt")?;
        let message = self
            .message(vector)
            .and_then(|message| self.endpoint.serve(&message, handler).map(|()| message))
            .map_err(|error| format!("its interrupt cannot be served (code {})", error.0))?;
        let Endpoint { host, function, .. } = self.endpoint;
        if let Messages::Table { bar, offset, .. } = messages {
            let range = self.ranges().find(|(index, ..)| *index == bar).ok_or("its table is nowhere")?;
            let bytes = u64::from(self.vectors()) * Messages::ENTRY;
            let map = || mmu::map_device(HostReal(range.1.0 + u64::from(offset)), bytes);
            let table = self.table.call_once(map).ok_or("its table cannot be mapped")?;
            let entry = table + u64::from(vector) * Messages::ENTRY;
            let words = [message.address as u32, (message.address >> 32) as u32, message.data];
            // The hypervisor's own are not held back; of others, the guest says that.
            for (n, word) in words.into_iter().chain(self.own.then_some(0)).enumerate() {
                // SAFETY: a word of the table in a window of this device's; its guest may write there as well.
                let mut register =
                    unsafe { VolatileRef::new(NonNull::new_unchecked((entry + 4 * n as u64) as *mut u32)) };
                register.as_mut_ptr().write(word);
            }
        }
        let set = messages.set(host, function, message.address, message.data);
        set.map_err(|error| format!("{}", pci::Error::Access(error)))
    }
}
