//! Messages (MSI and MSI-X): which interrupt sources a function's have, and how they are written to it.

use crate::layout::{LINES, MESSAGES, MESSAGES_AT};
use crate::port::Host;
use crate::{Bus, Function, HostBridge, MSI_CAPABILITY, MSIX_CAPABILITY, offset};

/// Which sources for messages are free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources {
    taken: u128,
}

const _: () = assert!(MESSAGES == u128::BITS);

impl Sources {
    pub fn new() -> Sources {
        Sources { taken: 0 }
    }

    fn mask(first: u32, count: u32) -> u128 {
        if count >= u128::BITS { !0 } else { ((1 << count) - 1) << first }
    }

    /// Takes so many in a row; the first of them, counted from `base`, is a multiple of `align`.
    fn take(&mut self, count: u32, align: u32, base: u32) -> Option<u32> {
        let last = MESSAGES.checked_sub(count)?;
        let mut places = (0..=last).filter(|first| (base + first).is_multiple_of(align));
        let first = places.find(|first| self.taken & Self::mask(*first, count) == 0)?;
        self.taken |= Self::mask(first, count);
        Some(first)
    }

    fn give_back(&mut self, first: u32, count: u32) {
        self.taken &= !Self::mask(first, count);
    }
}

/// Kinds of messages, by the ID of their capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// MSI.
    Msi,
    /// MSI-X.
    MsiX,
}

/// Where a function has a capability.
pub(crate) fn capability(function: &mut dyn Function, bus: &dyn Bus, id: u8) -> Option<u16> {
    if function.config_read(offset::STATUS, 2, bus) & 0x10 == 0 {
        return None;
    }
    let mut at = function.config_read(offset::CAPABILITIES, 1, bus) as u16 & 0xfc;
    // A list that is longer has a loop.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let head = function.config_read(at, 2, bus);
        if head as u8 == id {
            return Some(at);
        }
        at = (head >> 8) as u16 & 0xfc;
    }
    None
}

/// How many messages of a kind a function has.
pub(crate) fn most(function: &mut dyn Function, bus: &dyn Bus, kind: Kind) -> u32 {
    match kind {
        Kind::Msi => capability(function, bus, MSI_CAPABILITY)
            .map_or(0, |at| 1 << (function.config_read(at + 2, 2, bus) >> 1 & 7).min(5)),
        Kind::MsiX => capability(function, bus, MSIX_CAPABILITY)
            .map_or(0, |at| (function.config_read(at + 2, 2, bus) & 0x7ff) + 1),
    }
}

impl HostBridge {
    /// Gives a function's messages sources, `count` of them, in place of those that it had; how many that are now. None if there are
    /// not enough, and it has none then.
    pub(crate) fn assign(&mut self, n: usize, kind: Kind, count: u32, host: &dyn Host) -> Option<u32> {
        self.unassign(n);
        let most = self.with(n, host, |function, port| most(function, port, kind))?;
        if most == 0 {
            return None;
        }
        if count > most {
            // So many, if it asks again.
            return Some(most);
        }
        // MSIs of a function differ in the lowest bits of their data, which is the source's number.
        let align = if kind == Kind::Msi { count.next_power_of_two() } else { 1 };
        let base = self.sources + LINES;
        let first = base + self.messages.take(count, align, base)?;
        self.slots.get_mut(n)?.assigned = first..first + count;
        self.with(n, host, |function, port| match kind {
            Kind::MsiX => {
                let Some(at) = capability(function, port, MSIX_CAPABILITY) else { return };
                let table = function.config_read(at + 4, 4, port);
                for vector in 0..count {
                    let entry = u64::from(table & !7) + 16 * u64::from(vector);
                    let bar = (table & 7) as usize;
                    let _ = function.store(bar, entry, &(MESSAGES_AT as u32).to_le_bytes(), port);
                    let _ = function.store(bar, entry + 4, &((MESSAGES_AT >> 32) as u32).to_le_bytes(), port);
                    let _ = function.store(bar, entry + 8, &(first + vector).to_le_bytes(), port);
                }
            }
            Kind::Msi => {
                let Some(at) = capability(function, port, MSI_CAPABILITY) else { return };
                let control = function.config_read(at + 2, 2, port);
                function.config_write(at + 4, 4, MESSAGES_AT as u32, port);
                let wide = control & 0x80 != 0;
                if wide {
                    function.config_write(at + 8, 4, (MESSAGES_AT >> 32) as u32, port);
                }
                let data = if wide { at + 12 } else { at + 8 };
                function.config_write(data, 2, first, port);
                let enabled = count.next_power_of_two().trailing_zeros();
                function.config_write(at + 2, 2, control & !0x70 | enabled << 4, port);
            }
        });
        Some(count)
    }

    /// Takes them away.
    pub(crate) fn unassign(&mut self, n: usize) {
        let base = self.sources + LINES;
        if let Some(slot) = self.slots.get_mut(n) {
            let assigned = core::mem::replace(&mut slot.assigned, 0..0);
            if !assigned.is_empty() {
                self.messages.give_back(assigned.start - base, assigned.end - assigned.start);
            }
        }
    }
}
