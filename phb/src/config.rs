//! Configuration space of an emulated function (PCI Local Bus Specification 3.0, chapter 6): a type 0 header, base address registers,
//! capabilities, interrupts. All writable bits are zero after a reset.

use alloc::vec::Vec;

use crate::msix::Msix;
use crate::{Bus, MSIX_CAPABILITY};

/// Bytes of it.
pub const CONFIG_BYTES: usize = 256;

/// Offsets.
pub mod offset {
    #![allow(missing_docs)] // the names are the specification's own
    pub const VENDOR: u16 = 0x00;
    pub const DEVICE: u16 = 0x02;
    pub const COMMAND: u16 = 0x04;
    pub const STATUS: u16 = 0x06;
    /// Revision in the lowest byte, class code above it.
    pub const CLASS: u16 = 0x08;
    pub const BAR: u16 = 0x10;
    pub const SUBSYSTEM_VENDOR: u16 = 0x2c;
    pub const SUBSYSTEM: u16 = 0x2e;
    pub const CAPABILITIES: u16 = 0x34;
    pub const INTERRUPT_LINE: u16 = 0x3c;
    pub const INTERRUPT_PIN: u16 = 0x3d;
}

/// Bits of the command register.
pub mod command {
    #![allow(missing_docs)] // the names are the specification's own
    pub const MEMORY: u16 = 1 << 1;
    pub const MASTER: u16 = 1 << 2;
    pub const PARITY: u16 = 1 << 6;
    pub const SERR: u16 = 1 << 8;
    pub const NO_INTX: u16 = 1 << 10;
}

/// Status: the interrupt line is up, whether it is let through or not.
const STATUS_INTX: u8 = 1 << 3;
/// Status: there are capabilities.
const STATUS_LIST: u8 = 1 << 4;

/// What a function says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are the specification's own
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    pub subsystem_vendor: u16,
    pub subsystem: u16,
    /// 24 bits.
    pub class: u32,
    pub revision: u8,
}

/// Where the memory of a base address register may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// Below 4 GiB.
    Low,
    /// Anywhere in 64 bits. It takes two registers.
    Wide,
    /// The same, prefetchable.
    WidePrefetchable,
}

/// Configuration space and the function's interrupts.
#[derive(Clone, Debug)]
pub struct Config {
    bytes: [u8; CONFIG_BYTES],
    /// Bits that can be written.
    writable: [u8; CONFIG_BYTES],
    /// Bytes of memory behind each base address register, 0 if there are none.
    sizes: [u64; 6],
    /// Where the next capability goes.
    next: usize,
    /// Where the last one has its link.
    last: usize,
    /// Its messages, and where the capability is.
    msix: Option<(Msix, usize)>,
    /// The line, as it was told last.
    line: bool,
}

impl Config {
    /// A function with one interrupt pin, INTA, without memory and capabilities.
    pub fn new(id: &Identity) -> Config {
        let mut config = Config {
            bytes: [0; CONFIG_BYTES],
            writable: [0; CONFIG_BYTES],
            sizes: [0; 6],
            next: 0x40,
            last: offset::CAPABILITIES as usize,
            msix: None,
            line: false,
        };
        config.set(offset::VENDOR, &id.vendor.to_le_bytes());
        config.set(offset::DEVICE, &id.device.to_le_bytes());
        config.set(offset::CLASS, &(id.class << 8 | u32::from(id.revision)).to_le_bytes());
        config.set(offset::SUBSYSTEM_VENDOR, &id.subsystem_vendor.to_le_bytes());
        config.set(offset::SUBSYSTEM, &id.subsystem.to_le_bytes());
        config.set(offset::INTERRUPT_PIN, &[1]);
        let commands = command::MEMORY | command::MASTER | command::PARITY | command::SERR | command::NO_INTX;
        config.allow(offset::COMMAND, &commands.to_le_bytes());
        config.allow(offset::INTERRUPT_LINE, &[0xff]);
        config
    }

    /// Sets bytes, writable or not.
    pub fn set(&mut self, at: u16, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at.into()).zip(bytes) {
            *to = *from;
        }
    }

    /// Lets bits be written.
    pub fn allow(&mut self, at: u16, mask: &[u8]) {
        for (to, from) in self.writable.iter_mut().skip(at.into()).zip(mask) {
            *to = *from;
        }
    }

    /// Adds memory behind a base address register: a power of two of bytes, from 16 on.
    pub fn add_memory(&mut self, bar: usize, bytes: u64, width: Width) {
        let at = offset::BAR + 4 * bar as u16;
        let mask = !(bytes.next_power_of_two().max(16) - 1);
        let (kind, mask) = match width {
            Width::Low => (0, u64::from(mask as u32)),
            Width::Wide => (0x4, mask),
            Width::WidePrefetchable => (0xc, mask),
        };
        if let Some(size) = self.sizes.get_mut(bar) {
            *size = bytes.next_power_of_two().max(16);
        }
        self.set(at, &[kind]);
        let mask = mask.to_le_bytes();
        self.allow(at, if width == Width::Low { &mask[..4] } else { &mask });
    }

    /// Adds a capability: its ID, and what follows the link to the next one. Where it is. There must be room.
    pub fn add_capability(&mut self, id: u8, body: &[u8]) -> u16 {
        let at = self.next;
        self.set(at as u16, &[id, 0]);
        self.set(at as u16 + 2, body);
        self.set(self.last as u16, &[at as u8]);
        self.bytes[offset::STATUS as usize] |= STATUS_LIST;
        self.last = at + 1;
        self.next = (at + 2 + body.len()).next_multiple_of(4);
        debug_assert!(self.next <= CONFIG_BYTES);
        at as u16
    }

    /// Adds MSI-X: so many vectors, their table and their pending bits at offsets behind a base address register.
    pub fn add_msix(&mut self, vectors: u16, bar: u8, table: u32, pending: u32) {
        let mut body = Vec::from((vectors - 1).to_le_bytes());
        body.extend((table | u32::from(bar)).to_le_bytes());
        body.extend((pending | u32::from(bar)).to_le_bytes());
        let at = self.add_capability(MSIX_CAPABILITY, &body);
        // Enable, and the mask of all.
        self.allow(at + 3, &[0xc0]);
        self.msix = Some((Msix::new(vectors, bar.into(), table.into(), pending.into()), at.into()));
    }

    /// Reads 1, 2 or 4 bytes.
    pub fn read(&self, at: u16, bytes: usize) -> u32 {
        let mut value = [0; 4];
        for (to, from) in value.iter_mut().take(bytes).zip(self.bytes.iter().skip(at.into())) {
            *to = *from;
        }
        u32::from_le_bytes(value)
    }

    /// Writes them: the bits that can be written.
    pub fn write(&mut self, at: u16, bytes: usize, value: u32, bus: &dyn Bus) {
        let masked = self.masked();
        let at = usize::from(at);
        for (n, byte) in value.to_le_bytes().iter().take(bytes).enumerate() {
            let (Some(to), Some(mask)) = (self.bytes.get_mut(at + n), self.writable.get(at + n)) else {
                return;
            };
            *to = *to & !mask | byte & mask;
        }
        if masked != self.masked()
            && let Some((msix, _)) = &mut self.msix
            && masked
        {
            msix.deliver(bus);
        }
        self.set_line(self.bytes[offset::STATUS as usize] & STATUS_INTX != 0, bus);
    }

    /// Where a base address register has its memory, and how much, if memory is on.
    pub fn window(&self, bar: usize) -> Option<(u64, u64)> {
        let size = *self.sizes.get(bar)?;
        if size == 0 || self.command() & command::MEMORY == 0 {
            return None;
        }
        let at = offset::BAR + 4 * bar as u16;
        let low = self.read(at, 4);
        let high = if low & 0x4 != 0 { self.read(at + 4, 4) } else { 0 };
        Some((u64::from(high) << 32 | u64::from(low & !0xf), size))
    }

    /// The command register.
    pub fn command(&self) -> u16 {
        let at = offset::COMMAND as usize;
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// May it access memory, and send messages?
    pub fn is_master(&self) -> bool {
        self.command() & command::MASTER != 0
    }

    /// Does it signal by MSI-X?
    pub fn uses_messages(&self) -> bool {
        self.msix.as_ref().is_some_and(|(_, at)| self.bytes[at + 3] & 0x80 != 0)
    }

    /// Are all messages held back?
    fn masked(&self) -> bool {
        let control = self.msix.as_ref().map_or(0, |(_, at)| self.bytes[at + 3]);
        control & 0xc0 != 0x80 || !self.is_master()
    }

    /// How many vectors of MSI-X it has.
    pub fn vectors(&self) -> u16 {
        self.msix.as_ref().map_or(0, |(msix, _)| msix.vectors())
    }

    /// Signals a vector, if it has MSI-X and that is on; it stays pending while it is masked.
    pub fn signal(&mut self, vector: u16, bus: &dyn Bus) {
        let masked = self.masked();
        if self.uses_messages()
            && let Some((msix, _)) = &mut self.msix
        {
            msix.signal(vector, masked, bus);
        }
    }

    /// Raises or lowers the interrupt line. It is up for the outside only if the driver lets it and uses no messages.
    pub fn set_line(&mut self, up: bool, bus: &dyn Bus) {
        let status = &mut self.bytes[offset::STATUS as usize];
        *status = *status & !STATUS_INTX | if up { STATUS_INTX } else { 0 };
        let line = up && self.command() & command::NO_INTX == 0 && !self.uses_messages();
        if line != self.line {
            self.line = line;
            bus.line(line);
        }
    }

    /// Is the line up for the outside?
    pub fn line(&self) -> bool {
        self.line
    }

    /// Loads from the table or pending bits of MSI-X, if they are there. What is not stays as it is, and the answer is false.
    pub fn msix_load(&self, bar: usize, at: u64, to: &mut [u8]) -> bool {
        self.msix.as_ref().is_some_and(|(msix, _)| msix.load(bar, at, to))
    }

    /// Stores likewise.
    pub fn msix_store(&mut self, bar: usize, at: u64, from: &[u8], bus: &dyn Bus) -> bool {
        let masked = self.masked();
        self.msix.as_mut().is_some_and(|(msix, _)| msix.store(bar, at, from, masked, bus))
    }

    /// Back to what it is after power-on: memory off, no addresses, no interrupts.
    pub fn reset(&mut self, bus: &dyn Bus) {
        for (byte, mask) in self.bytes.iter_mut().zip(&self.writable) {
            *byte &= !mask;
        }
        if let Some((msix, _)) = &mut self.msix {
            msix.reset();
        }
        self.set_line(false, bus);
    }
}

#[cfg(test)]
mod tests;
