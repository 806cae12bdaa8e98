//! Which memory there is, and who has it.
//!
//! [`Ranges`] is the arithmetic of a memory map: what the firmware describes, less what is reserved. [`Frames`] hands
//! the rest out in naturally aligned blocks of 64 KiB times a power of two: a buddy allocator over bitmaps, whose
//! storage the caller gives. [`Store`] is one of these for each stretch of a machine's memory. None touches the memory it speaks of, so all are
//! tested on any machine; and none panics or allocates, so that real mode may use them.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod bitmap;
mod buddy;
mod ranges;
mod store;

pub use buddy::{Frames, FreeError};
pub use ranges::{Full, Range, Ranges};
pub use store::{STRETCHES, Store};

/// log2 of a frame's size in bytes: 64 KiB, the granule of guest memory.
pub const FRAME_SHIFT: u32 = 16;

/// A frame's size in bytes.
pub const FRAME: u64 = 1 << FRAME_SHIFT;

/// The order of the smallest block that holds so many bytes.
pub const fn order_for(bytes: u64) -> u32 {
    let frames = bytes.div_ceil(FRAME);
    if frames <= 1 { 0 } else { 64 - (frames - 1).leading_zeros() }
}
