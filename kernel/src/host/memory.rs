//! Memory that devices reach, and their registers, as crate `virtio-drivers` wants them.
//!
//! A device finds all memory in its endpoint's second window, untranslated. What it is told of are queues and buffers, in frames of their own.
#![allow(unsafe_code)] // hands out memory that devices write to; each block says why it is nobody else's

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use frames::FRAME;
use power::HostReal;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::memory;
use crate::opal::Window;

/// All memory, without translation.
pub struct Memory;

/// Where the registers of the function that is being set up are: what is to be added to a bus address for the effective one. Functions are
/// set up one after the other, at boot, and [`Hal`] does not say for whom it asks.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

/// The registers at bus address `bus` are mapped at `ea`.
pub fn set_registers(bus: u64, ea: u64) {
    REGISTERS.store(ea.wrapping_sub(bus), Ordering::Relaxed);
}

/// Where registers at a bus address are mapped.
pub fn registers(bus: u64) -> u64 {
    REGISTERS.load(Ordering::Relaxed).wrapping_add(bus)
}

fn bus(at: HostReal) -> PhysAddr {
    Window::High.base() + at.0
}

/// A frame of zeroes that stays the caller's for good.
pub fn frame() -> Option<&'static mut [u8]> {
    let at = memory::allocate(FRAME)?;
    // SAFETY: a new block of that size, which is never released.
    unsafe {
        memory::zero(at, FRAME);
        Some(core::slice::from_raw_parts_mut(at.ea() as *mut u8, FRAME as usize))
    }
}

// SAFETY: memory is given out by the frame store, zeroed and aligned to a frame at least; it lies in the linear map. Registers are where
// `set_registers` says.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let bytes = (pages * PAGE_SIZE) as u64;
        let Some(block) = memory::allocate(bytes) else { return (0, NonNull::dangling()) };
        // SAFETY: a new block of whole frames; it is not at address 0, where the image is.
        unsafe {
            memory::zero(block, bytes.next_multiple_of(FRAME));
            (bus(block), NonNull::new_unchecked(block.ea() as *mut u8))
        }
    }

    /// Nothing is given back: a device that is given up may still write there.
    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(at: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(registers(at) as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        bus(HostReal::of_ea(buffer.as_ptr().cast::<u8>() as u64))
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
