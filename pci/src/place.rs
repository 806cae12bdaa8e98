//! Where the functions' memory goes in a host bridge's window.
//!
//! The window is divided into segments, each of which the bridge assigns to one *partitionable endpoint*: the unit that it cuts off
//! after an error. So each function has whole segments, and no page of any size holds memory of two functions. Functions placed
//! in the order of their buses have the ranges of each bridge's children side by side.

use alloc::vec::Vec;

use crate::Bar;

/// Each range has at least that much to itself, and is aligned to it: the pages that partitions' memory comes in.
pub const MIN_PLACE: u64 = 64 << 10;

/// What is left of a host bridge's window.
#[derive(Clone, Debug)]
pub struct Space {
    base: u64,
    len: u64,
    segment: u64,
    used: u64,
}

/// Where a function's memory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its first segment, counted from the window's start.
    pub segment: u64,
    /// How many it has.
    pub segments: u64,
    /// Addresses on the bus, in the order of the ranges.
    pub addresses: Vec<u64>,
}

impl Space {
    /// A window of `len` bytes from `base` on the bus, in segments of `segment` bytes, a power of two of at least 1 MiB that
    /// divides `base`. The first segment stays unused: its number is no endpoint's.
    pub fn new(base: u64, len: u64, segment: u64) -> Option<Space> {
        let good =
            segment >= 1 << 20 && segment.is_power_of_two() && base.is_multiple_of(segment) && len > segment;
        good.then_some(Space { base, len, segment, used: segment })
    }

    /// The bus addresses of a place's segments: first, and the one behind the last.
    pub fn range(&self, place: &Place) -> (u64, u64) {
        let start = self.base + place.segment * self.segment;
        (start, start + place.segments * self.segment)
    }

    /// Finds room for a function; `None` if there is not enough.
    pub fn place(&mut self, bars: &[Bar]) -> Option<Place> {
        // The largest first: all are aligned to their size then, without gaps.
        let mut order: Vec<usize> = (0..bars.len()).collect();
        order.sort_by_key(|n| core::cmp::Reverse(bars[*n].bytes));
        let align = bars[*order.first()?].bytes.max(self.segment);
        let start = (self.base + self.used).checked_next_multiple_of(align)?;
        let mut addresses = alloc::vec![0; bars.len()];
        let mut at = start;
        for n in order {
            addresses[n] = at;
            at = at.checked_add(bars[n].bytes.max(MIN_PLACE))?;
        }
        let end = at.checked_next_multiple_of(self.segment)?;
        if end > self.base.checked_add(self.len)? {
            return None;
        }
        self.used = end - self.base;
        let segment = (start - self.base) / self.segment;
        Some(Place { segment, segments: (end - start) / self.segment, addresses })
    }
}

/// Where ranges of memory can be, of those places that somebody wants for them (first address, bytes): each that begins at a multiple of
/// [`MIN_PLACE`], and has nothing in common with one before it.
pub fn fitting(wanted: impl Iterator<Item = Option<(u64, u64)>>) -> Vec<Option<u64>> {
    let mut taken: Vec<(u64, u64)> = Vec::new();
    let mut fits = |(first, bytes): &(u64, u64)| {
        let Some(end) = first.checked_add((*bytes).max(MIN_PLACE)) else { return false };
        let free = taken.iter().all(|(start, behind)| end <= *start || behind <= first);
        let fits = free && first.is_multiple_of(MIN_PLACE);
        if fits {
            taken.push((*first, end));
        }
        fits
    };
    wanted.map(|place| place.filter(&mut fits).map(|(first, _)| first)).collect()
}
