//! The records that a test prints, one a line, and their count.

use crate::println;
use core::fmt::{Debug, LowerHex};

/// Counts checks. One for each program; [`crate::main!`] makes it and prints the last record.
#[derive(Default)]
pub struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Something is true or not.
    pub fn is_true(&mut self, name: &str, holds: bool) {
        self.record(name, holds, format_args!("got=false want=true"));
    }

    /// Two things are equal.
    pub fn equal<T: PartialEq + Debug>(&mut self, name: &str, got: T, want: T) {
        let holds = got == want;
        self.record(name, holds, format_args!("got={got:?} want={want:?}"));
    }

    /// Two numbers are equal; shown in hexadecimal.
    pub fn same<T: PartialEq + LowerHex>(&mut self, name: &str, got: T, want: T) {
        let holds = got == want;
        self.record(name, holds, format_args!("got={got:#x} want={want:#x}"));
    }

    /// A number lies in a range.
    pub fn within(&mut self, name: &str, got: u64, low: u64, high: u64) {
        self.record(name, (low..=high).contains(&got), format_args!("got={got} want={low}..={high}"));
    }

    /// QEMU's pseries machine deviates from PAPR or from hardware here: under it the check is replaced by a note that
    /// says why, and gives `true`.
    pub fn differs_on_qemu(&mut self, name: &str, why: &str) -> bool {
        let qemu = crate::platform::is_qemu();
        if qemu {
            println!("@ note {name} not asked of QEMU: {why}");
        }
        qemu
    }

    /// Checks that failed so far.
    pub const fn failed(&self) -> u32 {
        self.failed
    }

    /// A remark in the transcript.
    pub fn note(&mut self, text: core::fmt::Arguments) {
        println!("@ note {text}");
    }

    fn record(&mut self, name: &str, holds: bool, difference: core::fmt::Arguments) {
        if holds {
            self.passed += 1;
            println!("@ check {name} ok");
        } else {
            self.failed += 1;
            println!("@ check {name} fail {difference}");
        }
    }

    /// The last record.
    pub fn done(&self) {
        println!("@ done passed={} failed={}", self.passed, self.failed);
    }
}
