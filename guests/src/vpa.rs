//! The virtual processor areas of a [`team`](crate::team) (LoPAR 14.11.3.2, table 181).

use crate::mem::{fill, read32, read64, write8};
use crate::{Hcall, Status, status, team};

const LENGTH: u16 = 640;
const COUNTER: u64 = 0x100;
const DISPERSION: u64 = 0x104;
const ENQUEUE_DISPATCH_TB: u64 = 0x158;
const READY_ENQUEUE_TB: u64 = 0x160;

fn area(index: usize) -> u64 {
    0x210_0000 + 0x1_0000 * index as u64
}

/// Registers an area for one processor.
pub fn register(index: usize) {
    let area = area(index);
    fill(area, u64::from(LENGTH), 0);
    let [high, low] = LENGTH.to_be_bytes();
    write8(area + 4, high);
    write8(area + 5, low);
    let answer = status(Hcall::REGISTER_VPA, &[1 << 45, u64::from(team::server(index)), area]);
    if answer != Status::SUCCESS {
        team::give_up("a VPA");
    }
}

/// How often it was dispatched and taken off, together: even while it runs.
pub fn counter(index: usize) -> u32 {
    u32::from_be(read32(area(index) + COUNTER))
}

/// How often it was dispatched on another CPU of the host than the time before.
pub fn dispersion(index: usize) -> u32 {
    u32::from_be(read32(area(index) + DISPERSION))
}

/// Ticks that it was ready and did not run: between being queued and being dispatched, and between being ready and
/// being queued.
pub fn stolen(index: usize) -> [u64; 2] {
    [ENQUEUE_DISPATCH_TB, READY_ENQUEUE_TB].map(|offset| u64::from_be(read64(area(index) + offset)))
}
