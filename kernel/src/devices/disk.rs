//! Memory for what guests write to disks that are images in the boot archive: whole frames, which copies of a partition share.
#![allow(unsafe_code)] // makes slices of frames

use alloc::sync::Arc;

use frames::FRAME;
use power::HostReal;
use virtio::blk::{BLOCK_BYTES, Block};

use crate::memory;

const _: () = assert!(BLOCK_BYTES as u64 == FRAME);

/// A frame, of whoever has the last reference to it.
struct Frame(HostReal);

impl Drop for Frame {
    fn drop(&mut self) {
        memory::release(self.0, FRAME);
    }
}

/// A block of a disk.
#[derive(Clone)]
pub struct DiskBlock(Arc<Frame>);

impl Block for DiskBlock {
    fn allocate() -> Option<DiskBlock> {
        let frame = memory::allocate_for_guest(FRAME)?;
        // SAFETY: a new frame, which nobody else knows. Its contents are undefined otherwise.
        unsafe { memory::zero(frame, FRAME) };
        Some(DiskBlock(Arc::new(Frame(frame))))
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a frame that has been initialized and is this block's as long as it lives; it is written only through `bytes_mut`, by who
        // has the only reference.
        unsafe { core::slice::from_raw_parts(self.0.0.ea() as *const u8, BLOCK_BYTES) }
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let frame = Arc::get_mut(&mut self.0)?;
        // SAFETY: as above, and there is no other reference.
        Some(unsafe { core::slice::from_raw_parts_mut(frame.0.ea() as *mut u8, BLOCK_BYTES) })
    }
}
