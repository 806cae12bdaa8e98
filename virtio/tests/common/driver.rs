//! A driver of one split queue: it does by the book what the device has to bear, and can be told to do otherwise by writing memory.

use virtio::Layout;

use super::Memory;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A buffer of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub at: u64,
    pub bytes: u32,
    pub writable: bool,
}

/// What came back: the chain's head, and how much was written to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    pub head: u16,
    pub written: u32,
}

/// A driver's side of a queue.
#[derive(Clone, Debug)]
pub struct Driver {
    pub layout: Layout,
    event_index: bool,
    free: Vec<u16>,
    /// The descriptors of each chain that is out, by its head.
    out: Vec<Option<Vec<u16>>>,
    available: u16,
    /// `available` when the device was last considered for a notification.
    told: u16,
    used: u16,
}

impl Driver {
    /// Lays a queue out from an address on: the tables follow each other.
    pub fn new(at: u64, size: u16, event_index: bool, memory: &Memory) -> Driver {
        let available = at + 16 * u64::from(size);
        let used = (available + 6 + 2 * u64::from(size)).next_multiple_of(4);
        let layout = Layout { size, descriptors: at, available, used };
        memory.put(at, &vec![0; Driver::bytes(size)]);
        memory.let_write(used, 6 + 8 * usize::from(size), true);
        let free = (0..size).rev().collect();
        Driver { layout, event_index, free, out: vec![None; size.into()], available: 0, told: 0, used: 0 }
    }

    /// How much memory a queue takes.
    pub fn bytes(size: u16) -> usize {
        16 * usize::from(size) + 6 + 2 * usize::from(size) + 2 + 6 + 8 * usize::from(size)
    }

    /// Writes a descriptor of the table at `table`.
    pub fn describe(table: u64, index: u16, at: u64, bytes: u32, flags: u16, next: u16, memory: &Memory) {
        let mut raw = at.to_le_bytes().to_vec();
        raw.extend(bytes.to_le_bytes());
        raw.extend(flags.to_le_bytes());
        raw.extend(next.to_le_bytes());
        memory.put(table + 16 * u64::from(index), &raw);
    }

    /// Makes a chain available. With `indirect`, an address for a table, all but the first `direct` parts are there. None if there is no
    /// room. The device is told by [`Driver::kick`].
    pub fn add(&mut self, parts: &[Part], indirect: Option<(u64, usize)>, memory: &Memory) -> Option<u16> {
        let direct = indirect.map_or(parts.len(), |(_, direct)| direct.min(parts.len() - 1));
        let needed = direct + usize::from(indirect.is_some());
        if needed == 0 || self.free.len() < needed {
            return None;
        }
        let own: Vec<u16> = self.free.split_off(self.free.len() - needed);
        let flags = |part: &Part| if part.writable { WRITE } else { 0 };
        let table = self.layout.descriptors;
        for (n, part) in parts[..direct].iter().enumerate() {
            let more = if n + 1 < needed { NEXT } else { 0 };
            let next = own.get(n + 1).copied().unwrap_or(0x5555);
            Driver::describe(table, own[n], part.at, part.bytes, flags(part) | more, next, memory);
        }
        if let Some((at, _)) = indirect {
            let rest = &parts[direct..];
            Driver::describe(table, own[direct], at, 16 * rest.len() as u32, INDIRECT, 0xaaaa, memory);
            for (n, part) in rest.iter().enumerate() {
                let more = if n + 1 < rest.len() { NEXT } else { 0 };
                Driver::describe(at, n as u16, part.at, part.bytes, flags(part) | more, n as u16 + 1, memory);
            }
        }
        let head = own[0];
        self.out[usize::from(head)] = Some(own);
        self.offer(head, memory);
        Some(head)
    }

    /// Puts a head into the available ring, whatever it is.
    pub fn offer(&mut self, head: u16, memory: &Memory) {
        let slot = u64::from(self.available % self.layout.size);
        memory.put_u16(self.layout.available + 4 + 2 * slot, head);
        self.available = self.available.wrapping_add(1);
        memory.put_u16(self.layout.available + 2, self.available);
    }

    /// Whether the device wants to be notified of what has been made available since this was last asked.
    pub fn kick(&mut self, memory: &Memory) -> bool {
        let since = self.available.wrapping_sub(std::mem::replace(&mut self.told, self.available));
        if !self.event_index {
            return since != 0 && memory.get_u16(self.layout.used) & 1 == 0;
        }
        let event = memory.get_u16(self.layout.used + 4 + 8 * u64::from(self.layout.size));
        self.available.wrapping_sub(event).wrapping_sub(1) < since
    }

    /// The next chain that the device has given back. Panics if it was not out.
    pub fn next(&mut self, memory: &Memory) -> Option<Event> {
        if memory.get_u16(self.layout.used + 2) == self.used {
            return None;
        }
        let at = self.layout.used + 4 + 8 * u64::from(self.used % self.layout.size);
        let (head, written) = (memory.get_u32(at), memory.get_u32(at + 4));
        let own = self.out[head as usize].take().expect("a chain comes back that was not out");
        self.free.extend(own);
        self.used = self.used.wrapping_add(1);
        Some(Event { head: head as u16, written })
    }

    /// Asks for an interrupt at the next buffer (or after so many more), or for none.
    pub fn want_interrupt(&self, after: Option<u16>, memory: &Memory) {
        if self.event_index {
            let event = self.used.wrapping_add(after.unwrap_or(0x8000));
            memory.put_u16(self.layout.available + 4 + 2 * u64::from(self.layout.size), event);
        } else {
            memory.put_u16(self.layout.available, u16::from(after.is_none()));
        }
    }

    /// Takes all descriptors back, whether the device is done with them or not.
    pub fn recycle(&mut self) {
        self.free = (0..self.layout.size).rev().collect();
        self.out.fill(None);
    }

    /// How many chains are out.
    pub fn out(&self) -> usize {
        self.out.iter().flatten().count()
    }
}
