//! Split virtqueues (section 2.7), as the device sees them.

use core::fmt;
#[cfg(not(loom))]
use core::sync::atomic::{Ordering, fence};
#[cfg(loom)]
use loom::sync::atomic::{Ordering, fence};

use phb::{Bus, DmaError};

use crate::chain::{Chain, Read, Table};
use crate::features;

/// The driver has broken the rules: the device needs a reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken(pub &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Broken {}

impl From<DmaError> for Broken {
    fn from(_: DmaError) -> Broken {
        Broken("a queue or buffer is not in memory")
    }
}

/// Where the driver has put a queue, and how large it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// How many descriptors it has, a power of two.
    pub size: u16,
    /// The bus address of the descriptor table.
    pub descriptors: u64,
    /// The bus address of the available ring, which the driver writes.
    pub available: u64,
    /// The bus address of the used ring, which the device writes.
    pub used: u64,
}

/// A virtqueue.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    layout: Layout,
    enabled: bool,
    indirect: bool,
    event_index: bool,
    /// The driver's index as it was read last. Like all of the following, it counts buffers and wraps.
    available: u16,
    /// How many have been taken, and how many have been given back.
    taken: u16,
    used: u16,
    /// `used` when the driver was last told of it, and considered for an interrupt.
    told: u16,
    /// What `taken` was when a notification was last asked for; none while the driver need not notify.
    asked: Option<u16>,
    /// Of those that are available and not taken: the first chains' heads, from this one on, so many. The descriptors that have been read with them.
    heads: [u16; HEADS],
    first: u16,
    known: u16,
    read: Read,
    /// What the chains that are out take of memory, and the last one of these.
    weight: usize,
    last: usize,
    /// How many have been given back since it was enabled.
    completed: u64,
}

/// Takes no more chains while those that are out have so many descriptors together: a driver may have `size` chains of `size` descriptors
/// each out at a time, with indirect tables.
const HEAVY: usize = 2048;

/// So many entries of the available ring are read at once.
const HEADS: usize = 4;

/// The flag in either ring: no interrupt, no notification.
const QUIET: u16 = 1;

impl Queue {
    /// The driver has enabled the queue. From here on it is where it was then.
    pub fn enable(&mut self, layout: Layout, negotiated: u64) -> Result<(), Broken> {
        let Layout { size, descriptors, available, used } = layout;
        let size_ok = size.is_power_of_two() && size <= 1 << 15;
        // Each area ends with the word of the event index.
        let bytes = u64::from(size) * 16 + 6;
        let fits = [descriptors, available, used].iter().all(|at| at.checked_add(bytes).is_some());
        let aligned = descriptors.is_multiple_of(16) && available.is_multiple_of(2) && used.is_multiple_of(4);
        if !size_ok || !fits || !aligned {
            return Err(Broken("a queue's place or size is wrong"));
        }
        let has = |feature| negotiated & feature != 0;
        let (indirect, event_index) = (has(features::INDIRECT), has(features::EVENT_INDEX));
        // The rings are as the driver has made them, empty: it notifies of the first buffer.
        *self = Queue { layout, enabled: true, indirect, event_index, asked: Some(0), ..Queue::default() };
        Ok(())
    }

    /// Whether the driver has enabled it.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// How many descriptors it has, 0 if it is not enabled, and how many chains have been given back.
    pub fn figures(&self) -> (u16, u64) {
        (self.layout.size, self.completed)
    }

    /// Takes the next chain; none if there is none, or if very much is out: then there may be more once a chain has been given back.
    /// If there is none, the driver notifies of the next one.
    #[inline] // a chain is large: nothing is to be moved when there is none
    pub fn take(&mut self, bus: &dyn Bus) -> Result<Option<Chain>, Broken> {
        if self.has_next(bus)? { self.next(bus).map(Some) } else { Ok(None) }
    }

    /// Takes the next chain, which is there.
    fn next(&mut self, bus: &dyn Bus) -> Result<Chain, Broken> {
        let head = self.head(bus)?;
        let table = Table { at: self.layout.descriptors, entries: self.layout.size.into() };
        let chain = Chain::walk(table, head, self.layout.size, self.indirect, &mut self.read, bus)?;
        self.taken = self.taken.wrapping_add(1);
        self.last = chain.weight();
        self.weight += self.last;
        Ok(chain)
    }

    /// Where the next chain begins.
    fn head(&mut self, bus: &dyn Bus) -> Result<u16, Broken> {
        if self.taken.wrapping_sub(self.first) >= self.known {
            let slot = self.slot(self.taken);
            // Those that are available, up to where the ring's entries have the next aligned place, or its end.
            let together = (HEADS - slot as usize % HEADS).min(self.layout.size as usize - slot as usize);
            let count = together.min(self.available.wrapping_sub(self.taken).into());
            let mut raw = [0; 2 * HEADS];
            bus.read(self.layout.available + 4 + 2 * slot, &mut raw[..2 * count])?;
            for (head, raw) in self.heads.iter_mut().zip(raw.as_chunks().0) {
                *head = u16::from_le_bytes(*raw);
            }
            (self.first, self.known) = (self.taken, count as u16);
        }
        Ok(self.heads[usize::from(self.taken.wrapping_sub(self.first)) % HEADS])
    }

    /// Puts the last chain that was taken back: there is no use for it now. It is the next to be taken.
    pub fn put_back(&mut self) {
        if self.last != 0 {
            self.taken = self.taken.wrapping_sub(1);
            self.weight -= core::mem::take(&mut self.last);
        }
    }

    /// Gives a chain back to the driver, with so many bytes written to it from its first one on. The driver sees it after [`Queue::wants_interrupt`].
    pub fn complete(&mut self, chain: Chain, written: u32, bus: &dyn Bus) -> Result<(), Broken> {
        if self.used == self.taken {
            return Ok(());
        }
        self.weight = self.weight.saturating_sub(chain.weight());
        self.last = 0;
        let element = u64::from(chain.head) | u64::from(written) << 32;
        bus.write(self.layout.used + 4 + 8 * self.slot(self.used), &element.to_le_bytes())?;
        self.used = self.used.wrapping_add(1);
        self.completed += 1;
        Ok(())
    }

    /// Whether anything has been given back since [`Queue::wants_interrupt`] was last asked.
    pub fn has_news(&self) -> bool {
        self.used != self.told
    }

    /// Shows the driver what has been given back since this was last asked. Whether it wants an interrupt for that.
    pub fn wants_interrupt(&mut self, bus: &dyn Bus) -> Result<bool, Broken> {
        let since = self.used.wrapping_sub(core::mem::replace(&mut self.told, self.used));
        if since == 0 {
            return Ok(false);
        }
        // Who sees the index sees the elements, and what was written to the buffers.
        fence(Ordering::Release);
        bus.write(self.layout.used + 2, &self.used.to_le_bytes())?;
        // The index before the driver's wish: it changes that, and then looks at the index.
        fence(Ordering::SeqCst);
        if !self.event_index {
            return Ok(read(self.layout.available, bus)? & QUIET == 0);
        }
        let event = read(self.layout.available + 4 + 2 * u64::from(self.layout.size), bus)?;
        Ok(self.used.wrapping_sub(event).wrapping_sub(1) < since)
    }

    /// Is there a chain to be taken?
    #[inline(never)]
    fn has_next(&mut self, bus: &dyn Bus) -> Result<bool, Broken> {
        if !self.enabled || self.weight >= HEAVY {
            return Ok(false);
        }
        if self.available == self.taken {
            self.ask(bus)?;
            self.look(bus)?;
        }
        if self.available == self.taken {
            return Ok(false);
        }
        self.ask_no_more(bus)?;
        Ok(true)
    }

    /// Reads how many buffers the driver has made available.
    fn look(&mut self, bus: &dyn Bus) -> Result<(), Broken> {
        let available = read(self.layout.available + 2, bus)?;
        // The ring before the index would be too early.
        fence(Ordering::Acquire);
        let ahead = available.wrapping_sub(self.used);
        if ahead > self.layout.size || ahead < self.available.wrapping_sub(self.used) {
            return Err(Broken("the index of available buffers jumps"));
        }
        self.available = available;
        self.read.forget();
        Ok(())
    }

    /// Asks the driver to notify of the next buffer, unless that is what it has been asked for.
    fn ask(&mut self, bus: &dyn Bus) -> Result<(), Broken> {
        if self.asked == Some(self.taken) {
            return Ok(());
        }
        if self.event_index {
            let event = self.layout.used + 4 + 8 * u64::from(self.layout.size);
            bus.write(event, &self.taken.to_le_bytes())?;
        } else if self.asked.is_none() {
            bus.write(self.layout.used, &0u16.to_le_bytes())?;
        }
        self.asked = Some(self.taken);
        // The wish before the index is looked at: the driver changes that, and then looks for the wish.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// While there are buffers, the driver need not notify. With an event index it does not, once it is past that.
    fn ask_no_more(&mut self, bus: &dyn Bus) -> Result<(), Broken> {
        if !self.event_index && self.asked.take().is_some() {
            bus.write(self.layout.used, &QUIET.to_le_bytes())?;
        }
        Ok(())
    }

    fn slot(&self, count: u16) -> u64 {
        u64::from(count & (self.layout.size - 1))
    }
}

fn read(at: u64, bus: &dyn Bus) -> Result<u16, Broken> {
    let mut raw = [0; 2];
    bus.read(at, &mut raw)?;
    Ok(u16::from_le_bytes(raw))
}
