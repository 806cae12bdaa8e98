//! MSI-X (PCI 3.0, 6.8.2): the table of messages, and what is pending.

use alloc::vec::Vec;

use crate::Bus;

/// Bytes of an entry: address, data, control.
const ENTRY: u64 = 16;

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    data: u32,
    /// Bit 0: masked.
    control: u32,
    pending: bool,
}

const AFTER_RESET: Entry = Entry { address: 0, data: 0, control: 1, pending: false };

/// A function's messages.
#[derive(Clone, Debug)]
pub struct Msix {
    entries: Vec<Entry>,
    bar: usize,
    table: u64,
    pending: u64,
}

impl Msix {
    pub fn new(vectors: u16, bar: usize, table: u64, pending: u64) -> Msix {
        Msix { entries: alloc::vec![AFTER_RESET; vectors.into()], bar, table, pending }
    }

    pub fn vectors(&self) -> u16 {
        self.entries.len() as u16
    }

    pub fn reset(&mut self) {
        self.entries.fill(AFTER_RESET);
    }

    /// Signals a vector; `masked` says that all of them are.
    pub fn signal(&mut self, vector: u16, masked: bool, bus: &dyn Bus) {
        let Some(entry) = self.entries.get_mut(usize::from(vector)) else { return };
        if masked || entry.control & 1 != 0 {
            entry.pending = true;
        } else {
            bus.message(entry.address, entry.data);
        }
    }

    /// Sends what is pending and masked no more.
    pub fn deliver(&mut self, bus: &dyn Bus) {
        for entry in self.entries.iter_mut().filter(|e| e.pending && e.control & 1 == 0) {
            entry.pending = false;
            bus.message(entry.address, entry.data);
        }
    }

    /// Loads, if table or pending bits are there.
    pub fn load(&self, bar: usize, at: u64, to: &mut [u8]) -> bool {
        if bar != self.bar {
            return false;
        }
        let vectors = self.entries.len() as u64;
        for (n, byte) in (at..).zip(&mut *to) {
            let (table, bits) = (n.wrapping_sub(self.table), n.wrapping_sub(self.pending));
            *byte = if table < vectors * ENTRY {
                self.bytes(table / ENTRY)[(table % ENTRY) as usize]
            } else if bits < vectors.div_ceil(64) * 8 {
                let eight = self.entries.iter().skip(bits as usize * 8).take(8);
                eight.enumerate().fold(0, |byte, (n, entry)| byte | u8::from(entry.pending) << n)
            } else {
                return false;
            };
        }
        true
    }

    /// Stores, if table or pending bits are there; the latter stay as they are.
    pub fn store(&mut self, bar: usize, at: u64, from: &[u8], masked: bool, bus: &dyn Bus) -> bool {
        let table = at.wrapping_sub(self.table);
        if bar != self.bar || table >= self.entries.len() as u64 * ENTRY {
            return bar == self.bar
                && at.wrapping_sub(self.pending) < self.entries.len().div_ceil(64) as u64 * 8;
        }
        let mut bytes = self.bytes(table / ENTRY);
        for (to, from) in bytes.iter_mut().skip((table % ENTRY) as usize).zip(from) {
            *to = *from;
        }
        if let Some(entry) = self.entries.get_mut((table / ENTRY) as usize) {
            let [address, rest] =
                [0, 8].map(|n| bytes[n..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight)));
            (entry.address, entry.data, entry.control) = (address & !3, rest as u32, (rest >> 32) as u32 & 1);
            if !masked {
                self.deliver(bus);
            }
        }
        true
    }

    fn bytes(&self, vector: u64) -> [u8; ENTRY as usize] {
        let entry = self.entries.get(vector as usize).unwrap_or(&AFTER_RESET);
        let rest = u64::from(entry.control) << 32 | u64::from(entry.data);
        let mut bytes = [0; ENTRY as usize];
        bytes[..8].copy_from_slice(&entry.address.to_le_bytes());
        bytes[8..].copy_from_slice(&rest.to_le_bytes());
        bytes
    }
}
