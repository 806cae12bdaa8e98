//! Hypervisor calls.

use crate::context::hcall_raw;
use power::{Hcall, Status};

/// What a call answered: status and r4 to r12.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// r3.
    pub status: Status,
    /// r4 to r12.
    pub r: [u64; 9],
}

impl Answer {
    /// r4.
    pub const fn r4(&self) -> u64 {
        self.r[0]
    }

    /// r5.
    pub const fn r5(&self) -> u64 {
        self.r[1]
    }
}

/// Makes a call with up to nine arguments. Registers without an argument hold a pattern.
#[inline(never)]
pub fn hcall(number: Hcall, arguments: &[u64]) -> Answer {
    let mut r = [0xdead_0000_beef_0000; 10];
    r[0] = number.0;
    r[1..=arguments.len()].copy_from_slice(arguments);
    hcall_raw(&mut r);
    Answer { status: Status(r[0].cast_signed()), r: r[1..].try_into().expect("ten registers") }
}

/// The status alone.
pub fn status(number: Hcall, arguments: &[u64]) -> Status {
    hcall(number, arguments).status
}
