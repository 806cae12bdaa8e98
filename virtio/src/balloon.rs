//! A memory balloon (section 5.5), with free page reporting: by both, a guest gives memory back. What it gives is discarded; the page that it
//! touches next reads as zeroes. So it need not say first that it wants memory back.
//!
//! A guest counts in pages of 4 KiB. What backs them comes in larger units, and a unit is discarded when all of it is in the balloon.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use phb::{Bus, Doorbell};
use spin::Once;

use crate::{Broken, Chain, Device, Kind, OtherEnd, Queue};

/// Feature bits (section 5.5.3).
const DEFLATE_ON_OOM: u64 = 1 << 2;
const PAGE_POISON: u64 = 1 << 4;
const REPORTING: u64 = 1 << 5;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const REPORT: usize = 2;

/// A page of the balloon.
const PAGE: u64 = 4096;

/// The most pages that one request names, and how many requests are carried out before others have their turn.
const MOST: u64 = 1024;
const AT_ONCE: usize = 8;

/// How much of what is reported free is discarded before others have their turn.
const REPORTED_AT_ONCE: u64 = 32 << 20;

/// How many numbers of pages are read at once.
const PIECE: usize = 64;

/// What the world outside sees of a balloon, and wants of it.
#[derive(Default)]
pub struct Balloon {
    target: AtomicU32,
    changes: AtomicU32,
    actual: AtomicU32,
    pages: AtomicU32,
    discarded: AtomicU64,
    reported: AtomicU64,
    bell: Once<Arc<dyn Doorbell>>,
}

/// What there is to say of a balloon, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Figures {
    /// How large it is to be.
    pub target: u64,
    /// How large the guest says that it is.
    pub actual: u64,
    /// How much is in it.
    pub inside: u64,
    /// How much was discarded for it, since the partition's definition: some of it again and again.
    pub discarded: u64,
    /// How much was discarded because the guest reported it free, likewise.
    pub reported: u64,
}

impl Balloon {
    /// Asks the guest to make it so large.
    pub fn set_target(&self, bytes: u64) {
        self.target.store(u32::try_from(bytes / PAGE).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Release);
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// How it is now.
    pub fn figures(&self) -> Figures {
        let pages = |number: &AtomicU32| u64::from(number.load(Ordering::Relaxed)) * PAGE;
        Figures {
            target: pages(&self.target),
            actual: pages(&self.actual),
            inside: pages(&self.pages),
            discarded: self.discarded.load(Ordering::Relaxed),
            reported: self.reported.load(Ordering::Relaxed),
        }
    }
}

/// The device.
pub struct BalloonDevice {
    balloon: Arc<Balloon>,
    /// How much memory the partition has, and in what units it is backed.
    bytes: u64,
    unit: u64,
    /// A bit for each page: it is in the balloon.
    inside: Vec<u64>,
    /// What each word of the guest's free memory is. It relies on that: only zeroes may be discarded (section 5.5.6.7).
    poison: u32,
    /// Free memory of which a part has been discarded: so many bytes.
    part: Option<(Chain, u64)>,
}

impl BalloonDevice {
    /// Of a partition with so much memory from real address 0 on, backed in units of so many bytes, a power of two from 4 KiB on.
    pub fn new(bytes: u64, unit: u64) -> BalloonDevice {
        let pages = bytes / PAGE;
        let inside = vec![0; pages.div_ceil(64) as usize];
        BalloonDevice { balloon: Arc::default(), bytes, unit, inside, poison: 0, part: None }
    }

    /// Puts a page in or takes it out. True if that is a change: a guest may name a page twice, or one that there is not.
    fn set(&mut self, page: u64, inside: bool) -> bool {
        let bit = 1 << (page % 64);
        let within = page < self.bytes / PAGE;
        match self.inside.get_mut((page / 64) as usize) {
            Some(word) if within && (*word & bit != 0) != inside => {
                *word ^= bit;
                true
            }
            _ => false,
        }
    }

    /// The pages of the unit of a page, and whether all of them are in the balloon.
    fn unit(&self, page: u64) -> (Range<u64>, bool) {
        let pages = self.unit / PAGE;
        let first = page & !(pages - 1);
        let end = (first + pages).min(self.bytes / PAGE);
        let is_inside = |page: u64| {
            self.inside.get((page / 64) as usize).is_some_and(|word| word >> (page % 64) & 1 != 0)
        };
        // It is the last one to come in that makes it whole, so look there first.
        (first..end, (page..end).chain(first..page).all(is_inside))
    }

    /// Carries out what a chain names: pages to be put in or taken out.
    #[inline(never)]
    fn change(&mut self, inflate: bool, chain: &Chain, bus: &dyn Bus) -> Result<(), Broken> {
        let (bytes, _) = chain.lengths();
        if bytes > MOST * 4 {
            return Err(Broken("a request to the balloon is too long"));
        }
        let mut at = 0;
        while at < bytes {
            let mut raw = [0; PIECE * 4];
            let n = chain.read(at, &mut raw, bus)?;
            if n == 0 {
                break;
            }
            at += n as u64;
            let (numbers, _) = raw.get(..n).unwrap_or(&[]).as_chunks();
            for number in numbers {
                self.one(inflate, u64::from(u32::from_le_bytes(*number)), bus);
            }
        }
        Ok(())
    }

    fn one(&mut self, inflate: bool, page: u64, bus: &dyn Bus) {
        if !self.set(page, inflate) {
            return;
        }
        if !inflate {
            self.balloon.pages.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.balloon.pages.fetch_add(1, Ordering::Relaxed);
        let (unit, whole) = self.unit(page);
        if whole {
            bus.discard(unit.start * PAGE, (unit.end - unit.start) * PAGE);
            self.balloon.discarded.fetch_add((unit.end - unit.start) * PAGE, Ordering::Relaxed);
        }
    }

    /// Discards one piece of what is free.
    #[inline(never)]
    fn serve_report(&mut self, queue: &mut Queue, bus: &dyn Bus) -> Result<bool, Broken> {
        let (chain, done) = match self.part.take() {
            Some(part) => part,
            None => match queue.take(bus)? {
                Some(chain) => (chain, 0),
                None => return Ok(false),
            },
        };
        if self.poison == 0 {
            self.report(&chain, done, bus);
        }
        let done = done + REPORTED_AT_ONCE;
        if done < chain.lengths().1 {
            self.part = Some((chain, done));
        } else {
            queue.complete(chain, 0, bus)?;
        }
        Ok(true)
    }

    /// Discards what is free: the buffers of a chain are the free memory itself, by real addresses (with others the driver would not work).
    fn report(&mut self, chain: &Chain, from: u64, bus: &dyn Bus) {
        for segment in chain.writable(from, REPORTED_AT_ONCE) {
            let first = segment.at.checked_next_multiple_of(self.unit).unwrap_or(u64::MAX);
            let end = (segment.at + u64::from(segment.bytes)).min(self.bytes) & !(self.unit - 1);
            if first < end {
                bus.discard(first, end - first);
                self.balloon.reported.fetch_add(end - first, Ordering::Relaxed);
            }
        }
    }
}

impl Device for BalloonDevice {
    fn kind(&self) -> Kind {
        Kind { id: 5, class: 0x05_8000, name: "balloon" }
    }

    fn features(&self) -> u64 {
        DEFLATE_ON_OOM | PAGE_POISON | REPORTING
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64, 64, 64]
    }

    /// Four words (section 5.5.4): what is wanted, what the driver says is given, nothing, and the poison.
    fn config_read(&self, offset: usize, to: &mut [u8]) {
        let word = |number: &AtomicU32| number.load(Ordering::Relaxed);
        let words = [word(&self.balloon.target), word(&self.balloon.actual), 0, self.poison];
        let config = words.map(u32::to_le_bytes);
        for (at, byte) in to.iter_mut().enumerate() {
            *byte = config.as_flattened().get(offset + at).copied().unwrap_or(0);
        }
    }

    /// The driver says how many pages are in the balloon, and what free ones hold.
    fn config_write(&mut self, offset: usize, from: &[u8]) {
        let actual = self.balloon.actual.load(Ordering::Relaxed);
        let mut config = [0, actual, 0, self.poison].map(u32::to_le_bytes);
        for (at, byte) in from.iter().enumerate() {
            if let Some(place) = config.as_flattened_mut().get_mut(offset + at) {
                *place = *byte;
            }
        }
        let [_, actual, _, poison] = config.map(u32::from_le_bytes);
        self.balloon.actual.store(actual, Ordering::Relaxed);
        self.poison = poison;
    }

    fn reset(&mut self) {
        self.part = None;
        self.poison = 0;
        self.inside.fill(0);
        self.balloon.pages.store(0, Ordering::Relaxed);
        self.balloon.actual.store(0, Ordering::Relaxed);
    }

    fn serve(&mut self, index: usize, queues: &mut [Queue], bus: &dyn Bus) -> Result<bool, Broken> {
        let Some(queue) = queues.get_mut(index) else { return Ok(false) };
        if index == REPORT {
            return self.serve_report(queue, bus);
        }
        for _ in 0..AT_ONCE {
            let Some(chain) = queue.take(bus)? else { return Ok(false) };
            match index {
                INFLATE => self.change(true, &chain, bus)?,
                DEFLATE => self.change(false, &chain, bus)?,
                _ => {}
            }
            queue.complete(chain, 0, bus)?;
        }
        Ok(true)
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        self.balloon.bell.call_once(|| doorbell);
    }

    fn config_changes(&self) -> u32 {
        self.balloon.changes.load(Ordering::Acquire)
    }

    fn other_end(&self) -> OtherEnd {
        OtherEnd::Balloon(self.balloon.clone())
    }

    /// What is wanted of it is still wanted.
    fn take_over(&mut self, end: OtherEnd) {
        let OtherEnd::Balloon(balloon) = end else { return };
        for (to, from) in [(&balloon.actual, &self.balloon.actual), (&balloon.pages, &self.balloon.pages)] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        balloon.changes.fetch_add(1, Ordering::Relaxed);
        self.balloon = balloon;
    }

    fn copy(&self) -> Option<Box<dyn Device>> {
        let copied = |from: &AtomicU32| AtomicU32::new(from.load(Ordering::Relaxed));
        let balloon = Balloon {
            target: copied(&self.balloon.target),
            changes: copied(&self.balloon.changes),
            actual: copied(&self.balloon.actual),
            pages: copied(&self.balloon.pages),
            ..Balloon::default()
        };
        let inside = self.inside.clone();
        let part = self.part.clone();
        Some(Box::new(BalloonDevice {
            balloon: Arc::new(balloon),
            bytes: self.bytes,
            unit: self.unit,
            inside,
            poison: self.poison,
            part,
        }))
    }
}
