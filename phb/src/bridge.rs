//! The host bridge: its functions, where their memory is, and their interrupts.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;

use crate::layout::{self, EMULATED, LINES, SLOTS};
use crate::messages::Sources;
use crate::port::{Host, Lines, Port};
use crate::tce::Window;
use crate::{Description, Doorbell, Function, command, firmware, offset};

/// A partition's host bridge.
pub struct HostBridge {
    pub(crate) slots: Vec<Slot>,
    /// The windows of those functions that are behind them: the first one, and the one that the guest has had made.
    pub(crate) windows: [Option<Window>; 2],
    lines: Lines,
    /// The first of its interrupt sources.
    pub(crate) sources: u32,
    /// Bytes of the partition's memory.
    pub(crate) memory: u64,
    pub(crate) messages: Sources,
    /// Where functions' memory is, in the partition's real addresses.
    map: Vec<Place>,
}

/// A slot with its function.
pub(crate) struct Slot {
    pub function: Box<dyn Function>,
    /// It reaches memory through the DMA windows.
    translated: bool,
    /// The sources that its messages have.
    pub assigned: Range<u32>,
    /// It has more to do.
    pub more: bool,
    /// The guest holds it in reset.
    pub held: bool,
}

/// Memory of a function.
#[derive(Clone, Debug)]
struct Place {
    real: Range<u64>,
    slot: usize,
    bar: usize,
}

impl HostBridge {
    /// A bridge without functions, of a partition with so many bytes of `memory`. Its interrupt sources begin with `sources`:
    /// [`layout::LINES`] that signal by level, and [`layout::MESSAGES`] that signal by messages.
    pub fn new(sources: u32, memory: u64) -> HostBridge {
        HostBridge {
            slots: Vec::new(),
            windows: [None, None],
            lines: [const { Cell::new(0) }; LINES as usize],
            sources,
            memory,
            messages: Sources::new(),
            map: Vec::new(),
        }
    }

    /// Puts a function into the next slot; it reaches memory through the DMA windows if it is `translated`. False if there is no slot
    /// left.
    pub fn add(&mut self, function: Box<dyn Function>, translated: bool) -> bool {
        let room = self.slots.len() < SLOTS;
        if room {
            self.slots.push(Slot { function, translated, assigned: 0..0, more: false, held: false });
        }
        room
    }

    /// How many functions it has.
    pub fn functions(&self) -> usize {
        self.slots.len()
    }

    /// Gives all functions the partition's doorbell.
    pub fn attach(&mut self, doorbell: &Arc<dyn Doorbell>) {
        self.slots.iter_mut().for_each(|slot| slot.function.attach(doorbell.clone()));
    }

    /// Puts all back to what a partition finds when it starts: the functions have their places in memory, and that is on.
    pub fn reset(&mut self, host: &dyn Host) {
        for n in 0..self.slots.len() {
            self.with(n, host, |function, port| function.reset(port));
        }
        for slot in &mut self.slots {
            slot.assigned = 0..0;
            slot.more = false;
            slot.held = false;
        }
        self.messages = Sources::new();
        self.reset_windows(host);
        let mut next = firmware::Next::new();
        for n in 0..self.slots.len() {
            self.with(n, host, |function, port| {
                firmware::place(function, port, &mut next);
                let on = u32::from(command::MEMORY);
                function.config_write(offset::COMMAND, 2, on, port);
            });
        }
        self.find_places();
    }

    /// Does something to the function of a slot, if there is one.
    pub(crate) fn with<T>(
        &mut self,
        n: usize,
        host: &dyn Host,
        work: impl FnOnce(&mut dyn Function, &Port<'_>) -> T,
    ) -> Option<T> {
        let slot = self.slots.get_mut(n)?;
        let windows = slot.translated.then_some(&self.windows);
        let port = Port { host, slot: n, windows, lines: &self.lines, sources: self.sources };
        Some(work(&mut *slot.function, &port))
    }

    /// Looks where the functions have their memory by now.
    pub(crate) fn find_places(&mut self) {
        self.map.clear();
        for (n, slot) in self.slots.iter().enumerate() {
            for bar in 0..6 {
                let Some((at, bytes)) = slot.function.window(bar) else { continue };
                let real = layout::real(at);
                let real = real..real.saturating_add(bytes);
                if real.start >= EMULATED.start && real.end <= EMULATED.end {
                    self.map.push(Place { real, slot: n, bar });
                }
            }
        }
    }

    /// Where functions have their memory: slot, base address register, and the partition's real address.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.map.iter().map(|place| (place.slot, place.bar, place.real.start))
    }

    /// What is at a real address: slot, register, offset.
    fn find(&self, real: u64, bytes: usize) -> Option<(usize, usize, u64)> {
        let place = self.map.iter().find(|place| place.real.contains(&real))?;
        let offset = real - place.real.start;
        (bytes as u64 <= place.real.end - real).then_some((place.slot, place.bar, offset))
    }

    /// Loads from a function's memory at a real address: 1, 2, 4 or 8 bytes, at a multiple of that. False if no function is there.
    pub fn load(&mut self, real: u64, to: &mut [u8], host: &dyn Host) -> bool {
        let Some((slot, bar, offset)) = self.find(real, to.len()) else { return false };
        self.with(slot, host, |function, port| function.load(bar, offset, to, port)).is_some()
    }

    /// Stores likewise. Some of what there is to do then may be left for [`HostBridge::work`]: the second value says so.
    pub fn store(&mut self, real: u64, from: &[u8], host: &dyn Host) -> (bool, bool) {
        let Some((n, bar, offset)) = self.find(real, from.len()) else { return (false, false) };
        let more = self.with(n, host, |function, port| function.store(bar, offset, from, port));
        let more = more == Some(true);
        if let Some(slot) = self.slots.get_mut(n) {
            slot.more |= more;
        }
        (true, more)
    }

    /// Has a function more to do ([`HostBridge::work`])?
    pub fn is_waiting(&self) -> bool {
        self.slots.iter().any(|slot| slot.more)
    }

    /// Lets functions do what there is to do: all of them if the doorbell has rung, otherwise those that have had more to do. True if
    /// there is more at once.
    pub fn work(&mut self, rung: bool, host: &dyn Host) -> bool {
        let mut any = false;
        for n in 0..self.slots.len() {
            if !rung && !self.slots[n].more {
                continue;
            }
            let more = self.with(n, host, |function, port| function.work(port)) == Some(true);
            self.slots[n].more = more;
            any |= more;
        }
        any
    }

    /// The guest has ended an interrupt of a source: the functions hear of it whose line that is.
    pub fn ended(&mut self, source: u32, host: &dyn Host) {
        let Some(line) = source.checked_sub(self.sources).filter(|line| *line < LINES) else { return };
        for n in (line as usize..self.slots.len()).step_by(LINES as usize) {
            self.with(n, host, |function, port| function.ended(port));
        }
    }

    /// The functions, slot by slot.
    pub fn each(&self) -> impl Iterator<Item = &dyn Function> {
        self.slots.iter().map(|slot| &*slot.function)
    }

    /// Takes the place of the partition's bridge, of which it is an earlier state, made by [`HostBridge::copy`].
    pub fn take_over(&mut self, from: &HostBridge) {
        for (slot, from) in self.slots.iter_mut().zip(from.each()) {
            slot.function.take_over(from);
        }
    }

    /// For people: slot by slot.
    pub fn describe(&self) -> Vec<Description> {
        self.slots.iter().map(|slot| slot.function.describe()).collect()
    }

    /// One in the same state, for a copy of the partition; its functions have no doorbell yet. The error is what of it cannot be copied.
    pub fn copy(&self) -> Result<HostBridge, &'static str> {
        let mut slots = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let function = slot.function.copy().ok_or_else(|| slot.function.describe().name)?;
            slots.push(Slot {
                function,
                translated: slot.translated,
                assigned: slot.assigned.clone(),
                more: true,
                held: slot.held,
            });
        }
        Ok(HostBridge {
            slots,
            windows: self.windows.clone(),
            lines: self.lines.clone(),
            sources: self.sources,
            memory: self.memory,
            messages: self.messages,
            map: self.map.clone(),
        })
    }
}
