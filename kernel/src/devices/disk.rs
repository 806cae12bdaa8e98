//! Memory for what guests write to disks that are images in the boot archive: whole frames, which copies of a partition share. Who has one is
//! counted as for shared memory of guests ([`memory::shares`]): it takes nothing from the heap, however much guests write.
#![allow(unsafe_code)] // makes slices of frames

use core::sync::atomic::{Ordering, fence};

use frames::FRAME;
use power::HostReal;
use virtio::blk::{BLOCK_BYTES, Block};

use crate::memory;

const _: () = assert!(BLOCK_BYTES as u64 == FRAME);

/// A block of a disk: a reference to a frame.
pub struct DiskBlock(HostReal);

impl Clone for DiskBlock {
    fn clone(&self) -> DiskBlock {
        memory::shares().add(self.0, 1);
        DiskBlock(self.0)
    }
}

impl Drop for DiskBlock {
    fn drop(&mut self) {
        if memory::shares().drop_ref(self.0) {
            memory::release(self.0, FRAME);
        }
    }
}

impl Block for DiskBlock {
    fn allocate() -> Option<DiskBlock> {
        let frame = memory::allocate_for_guest(FRAME)?;
        if !memory::shares().add(frame, 1) {
            memory::release(frame, FRAME);
            return None;
        }
        // SAFETY: a new frame, which nobody else knows. Its contents are undefined otherwise.
        unsafe { memory::zero(frame, FRAME) };
        Some(DiskBlock(frame))
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a frame that has been initialized and stays as long as there is a reference to it; it is written only through
        // `bytes_mut`, by who has the only one.
        unsafe { core::slice::from_raw_parts(self.0.ea() as *const u8, BLOCK_BYTES) }
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if memory::shares().count(self.0) != 1 {
            return None;
        }
        // Whoever had another reference has let go of it, and read all that he wanted before.
        fence(Ordering::Acquire);
        // SAFETY: as above, and there is no other reference, nor can there be while this one is borrowed.
        Some(unsafe { core::slice::from_raw_parts_mut(self.0.ea() as *mut u8, BLOCK_BYTES) })
    }
}
