//! What a partition's firmware would have done before its kernel starts: every function has its memory placed.

use alloc::vec::Vec;

use crate::layout::{HIGH, LOW};
use crate::{Bus, Function, offset};

/// Each range has a page of its own, of whatever size.
const ALIGN: u64 = 64 << 10;

/// What is free of the bus's addresses.
pub(crate) struct Next {
    low: u64,
    high: u64,
}

impl Next {
    pub fn new() -> Next {
        Next { low: LOW.start, high: HIGH.start }
    }
}

/// A base address register as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bar {
    pub index: u16,
    /// Its lowest four bits: the kind of it.
    pub kind: u32,
    pub address: u64,
    pub bytes: u64,
}

impl Bar {
    /// It takes two registers.
    pub fn is_wide(self) -> bool {
        self.kind & 0x6 == 0x4
    }
}

/// Calls on each base address register with what reads back from ones, and gives it the address that comes back.
fn each(function: &mut dyn Function, bus: &dyn Bus, mut visit: impl FnMut(Bar) -> u64) {
    let mut index = 0;
    while index < 6 {
        let at = offset::BAR + 4 * index;
        let mut probe = |at| {
            let before = function.config_read(at, 4, bus);
            function.config_write(at, 4, !0, bus);
            let ones = function.config_read(at, 4, bus);
            function.config_write(at, 4, before, bus);
            (before, ones)
        };
        let (low, ones) = probe(at);
        let kind = low & 0xf;
        let wide = kind & 0x7 == 0x4 && index < 5;
        let (high, ones_high) = if wide { probe(at + 4) } else { (0, !0) };
        let mask = u64::from(ones_high) << 32 | u64::from(ones & !0xf);
        // No I/O space.
        if kind & 1 == 0 && ones & !0xf != 0 {
            let address = u64::from(high) << 32 | u64::from(low & !0xf);
            let bytes = 1 << mask.trailing_zeros();
            let address = visit(Bar { index, kind, address, bytes });
            function.config_write(at, 4, address as u32, bus);
            if wide {
                function.config_write(at + 4, 4, (address >> 32) as u32, bus);
            }
        }
        index += 1 + u16::from(wide);
    }
}

/// Gives a function's memory its places. What does not fit gets none.
pub(crate) fn place(function: &mut dyn Function, bus: &dyn Bus, next: &mut Next) {
    each(function, bus, |bar| {
        let (free, end) = if bar.is_wide() { (&mut next.high, HIGH.end) } else { (&mut next.low, LOW.end) };
        let at = free.next_multiple_of(bar.bytes.max(ALIGN));
        match at.checked_add(bar.bytes).filter(|after| *after <= end) {
            Some(after) => {
                *free = after;
                at
            }
            None => 0,
        }
    });
}

/// The base address registers of a function, as they are.
pub(crate) fn bars(function: &mut dyn Function, bus: &dyn Bus) -> Vec<Bar> {
    let mut bars = Vec::new();
    each(function, bus, |bar| {
        bars.push(bar);
        bar.address
    });
    bars
}
