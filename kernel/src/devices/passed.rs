//! A function of the host's behind a partition's host bridge: its registers are the device's own, which the partition reaches without us, and so
//! is its table of messages. Configuration space is made here; of the real one it has what the device is, and what its driver switches on.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use pci::{Active, Messages};
use phb::{
    Bus, Config, Description, Doorbell, Function, Identity, MSI_CAPABILITY, MSIX_CAPABILITY, Part, Stopped,
    Width, command, layout, offset,
};
use power::Lpid;

use crate::host_interrupts::Handler;
use crate::partitions;
use crate::pci::{Device, Line};

/// What is in a capability behind its ID and link: message control; of MSI address, its upper half, and data follow.
const CONTROL: u16 = 2;
const ADDRESS: u16 = 4;
const DATA: u16 = 12;
/// MSI's message control: on; addresses of 64 bits.
const MSI_ON: u32 = 1 << 0;
const MSI_WIDE: u8 = 1 << 7;
/// MSI-X's, in its second byte: on, all masked.
const MSIX_ON: u32 = 1 << 15;
const MSIX_MASKED: u32 = 1 << 14;

/// A function of the host's.
pub struct Passed {
    device: &'static Device,
    lpid: Lpid,
    config: Config,
    /// Where the capability for messages is.
    messages: Option<u16>,
    /// What was written of each vector's message: address, its upper half, data.
    vectors: Vec<[u32; 3]>,
    /// The driver lets its interrupt line through.
    lets_line: bool,
    /// The guest resets it: it may not be touched.
    resetting: bool,
}

impl Passed {
    /// For a partition.
    pub fn new(device: &'static Device, lpid: Lpid) -> Passed {
        let word = |at| device.header(at);
        let (ids, class, subsystem) =
            (word(offset::VENDOR), word(offset::CLASS), word(offset::SUBSYSTEM_VENDOR));
        let mut config = Config::new(&Identity {
            vendor: ids as u16,
            device: (ids >> 16) as u16,
            subsystem_vendor: subsystem as u16,
            subsystem: (subsystem >> 16) as u16,
            class: class >> 8,
            revision: class as u8,
        });
        let lets_line = device.line().is_some();
        config.set(offset::INTERRUPT_PIN, &[lets_line.into()]);
        for bar in device.bars() {
            let width = if bar.wide { Width::Wide } else { Width::Low };
            config.add_memory(bar.index.into(), bar.bytes, width);
        }
        let count = device.vectors();
        let messages = device.messages().map(|messages| match messages {
            Messages::One { .. } => {
                let mut body = [0; 12];
                body[0] = MSI_WIDE;
                let at = config.add_capability(MSI_CAPABILITY, &body);
                config.allow(at + CONTROL, &[0x71]);
                config.allow(at + ADDRESS, &[0xff; 10]);
                at
            }
            Messages::Table { bar, offset, .. } => {
                let mut body = Vec::from((count - 1).to_le_bytes());
                body.extend((offset | u32::from(bar)).to_le_bytes());
                // Nobody looks for what is pending.
                body.extend((offset | u32::from(bar)).to_le_bytes());
                let at = config.add_capability(MSIX_CAPABILITY, &body);
                config.allow(at + CONTROL + 1, &[0xc0]);
                at
            }
        });
        let vectors = alloc::vec![[0; 3]; count.into()];
        Passed { device, lpid, config, messages, vectors, lets_line, resetting: false }
    }

    /// A vector's message has been written: if it is one of the partition's, the device's own is one of the host's that leads there.
    fn program(&mut self, vector: u16) {
        let Some([low, high, source]) = self.vectors.get(usize::from(vector)).copied() else { return };
        if self.resetting || u64::from(high) << 32 | u64::from(low) != layout::MESSAGES_AT {
            return;
        }
        let lpid = self.lpid;
        let handler: Handler = Arc::new(move || {
            if let Some(partition) = partitions::of(lpid) {
                super::bus::message(&partition, source);
            }
        });
        if let Err(error) = self.device.program(vector, handler) {
            self.device.say(&error);
        }
    }

    /// Are messages on, and all of them masked?
    fn control(&self) -> (bool, bool) {
        let control = self.messages.map_or(0, |at| self.config.read(at + CONTROL, 2));
        match self.device.messages() {
            Some(Messages::One { .. }) => (control & MSI_ON != 0, false),
            Some(Messages::Table { .. }) => (control & MSIX_ON != 0, control & MSIX_MASKED != 0),
            None => (false, false),
        }
    }

    /// Has the device do what configuration space says by now.
    fn follow(&mut self, bus: &dyn Bus) {
        if self.resetting {
            return;
        }
        let active = if self.config.is_master() { Active::Master } else { Active::Memory };
        let (on, masked) = self.control();
        let lets = self.device.line().is_some() && self.config.command() & command::NO_INTX == 0 && !on;
        let done = self.device.switch(active, lets);
        let done = done.and_then(|()| self.device.switch_messages(on, masked));
        if let Err(error) = done {
            self.device.say(&error);
        }
        if let Some(line) = self.device.line().filter(|_| lets && !self.lets_line) {
            // Whatever it has said before.
            line.let_go();
        }
        self.lets_line = lets;
        self.show_line(bus);
    }

    /// The guest's line follows the device's.
    fn show_line(&mut self, bus: &dyn Bus) {
        let up = self.lets_line && self.device.line().is_some_and(Line::is_up);
        self.config.set_line(up, bus);
    }
}

impl Function for Passed {
    fn config_read(&mut self, offset: u16, bytes: usize, _bus: &dyn Bus) -> u32 {
        self.config.read(offset, bytes)
    }

    fn config_write(&mut self, offset: u16, bytes: usize, value: u32, bus: &dyn Bus) -> bool {
        self.config.write(offset, bytes, value, bus);
        if let (Some(at), Some(Messages::One { .. })) = (self.messages, self.device.messages())
            && (at + ADDRESS..at + DATA + 2).contains(&offset)
        {
            let word = |n| self.config.read(at + ADDRESS + n, 4);
            let message = [word(0), word(4), self.config.read(at + DATA, 2)];
            if let Some(vector) = self.vectors.first_mut()
                && *vector != message
            {
                *vector = message;
                self.program(0);
            }
        }
        let is_control = self.messages.is_some_and(|at| (at..at + 4).contains(&offset));
        if (offset::COMMAND..offset::COMMAND + 2).contains(&offset) || is_control {
            self.follow(bus);
        }
        false
    }

    fn window(&self, bar: usize) -> Option<(u64, u64)> {
        self.config.window(bar)
    }

    /// The partition has it without us, but where its slots cannot be ([`crate::partition::moves`]): there is nothing.
    fn load(&mut self, _bar: usize, _offset: u64, to: &mut [u8], _bus: &dyn Bus) {
        to.fill(0xff);
    }

    /// Only the host bridge comes here, which writes messages to the table.
    fn store(&mut self, bar: usize, at: u64, from: &[u8], _bus: &dyn Bus) -> bool {
        let Some(Messages::Table { bar: table, offset, .. }) = self.device.messages() else { return false };
        let Some(at) = at.checked_sub(offset.into()).filter(|_| bar == usize::from(table)) else {
            return false;
        };
        let (vector, word) = ((at / Messages::ENTRY) as usize, (at % Messages::ENTRY / 4) as usize);
        if let (Some(entry), Some(four)) = (self.vectors.get_mut(vector), from.first_chunk())
            && let Some(place) = entry.get_mut(word)
        {
            *place = u32::from_le_bytes(*four);
            if word == 2 {
                self.program(vector as u16);
            }
        }
        false
    }

    /// The device itself is reset when the partition ends.
    fn reset(&mut self, bus: &dyn Bus) {
        self.config.reset(bus);
        self.vectors.fill([0; 3]);
        self.lets_line = self.device.line().is_some();
        self.resetting = false;
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        if let Some(line) = self.device.line() {
            line.set_user(Some(doorbell));
        }
    }

    fn work(&mut self, bus: &dyn Bus) -> bool {
        self.show_line(bus);
        false
    }

    fn ended(&mut self, bus: &dyn Bus) {
        if let Some(line) = self.device.line().filter(|_| self.config.line()) {
            self.config.set_line(false, bus);
            line.let_go();
        }
    }

    fn stopped(&mut self, bus: &dyn Bus) -> Option<Stopped> {
        if !self.device.recovers() {
            return None;
        }
        if self.resetting {
            if let Err(stopped) = self.device.come_back() {
                return Some(stopped);
            }
            self.resetting = false;
            self.follow(bus);
            (0..self.vectors.len()).for_each(|vector| self.program(vector as u16));
        }
        Some(self.device.stopped())
    }

    fn thaw(&mut self, part: Part) -> bool {
        self.device.thaw(part)
    }

    fn begin_reset(&mut self, bus: &dyn Bus) -> bool {
        self.resetting = self.resetting || self.device.reset_by_guest();
        if self.resetting {
            self.config.reset(bus);
            self.lets_line = false;
        }
        self.resetting
    }

    fn describe(&self) -> Description {
        let stopped = !self.resetting && self.device.stopped() != Stopped::Nothing;
        let state = match (self.config.is_master(), self.control(), self.device.messages()) {
            _ if stopped => "stopped",
            (false, ..) => "no driver",
            (_, (true, _), Some(Messages::One { .. })) => "running, MSI",
            (_, (true, _), _) => "running, MSI-X",
            _ if self.lets_line => "running, line",
            _ => "running, no interrupts",
        };
        Description { name: "host's", state, ..Description::default() }
    }

    fn copy(&self) -> Option<Box<dyn Function>> {
        None
    }
}
