//! Atomics, from `core` or, to test the protocols, from loom; and the one place where endianness is converted.
//!
//! A hashed page table is big endian in memory whatever the hypervisor is (Power ISA 3.0C, book III, 5.7.9.1).

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// How often a lock is tried before an operation gives up with `TooHard`.
#[cfg(not(loom))]
pub(crate) const SPINS: u32 = 1 << 16;
#[cfg(loom)]
pub(crate) const SPINS: u32 = 16;

/// Lets another thread get on.
#[inline]
pub(crate) fn relax() {
    #[cfg(all(not(loom), not(target_arch = "powerpc64")))]
    core::hint::spin_loop();
    #[cfg(all(not(loom), target_arch = "powerpc64"))]
    pause::pause();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// `core::hint::spin_loop` is nothing on POWER.
#[cfg(all(not(loom), target_arch = "powerpc64"))]
#[allow(unsafe_code)] // inline assembly
mod pause {
    #[inline]
    pub(super) fn pause() {
        // SAFETY: `yield`: a hint to the other threads of the core (Power ISA 3.0C, book II, 3.2).
        unsafe { core::arch::asm!("or 27, 27, 27", options(nomem, nostack, preserves_flags)) };
    }
}

/// An atomic doubleword, big endian in memory.
///
/// The `_raw` operations work on the value as it lies in memory; bit masks for them are made with `raw`.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(transparent))]
pub struct BeAtomicU64(AtomicU64);

/// A value as [`BeAtomicU64`] holds it in memory.
#[inline]
pub(crate) const fn raw(value: u64) -> u64 {
    value.to_be()
}

impl BeAtomicU64 {
    /// Holding `value`.
    pub fn new(value: u64) -> BeAtomicU64 {
        BeAtomicU64(AtomicU64::new(value.to_be()))
    }

    /// Reads it.
    #[inline]
    pub fn load(&self, order: Ordering) -> u64 {
        let value = swapped::load(&self.0);
        if !matches!(order, Ordering::Relaxed) {
            fence(order);
        }
        value
    }

    /// Writes it.
    #[inline]
    pub fn store(&self, value: u64, order: Ordering) {
        if !matches!(order, Ordering::Relaxed) {
            fence(order);
        }
        swapped::store(&self.0, value);
    }

    #[inline]
    pub(crate) fn load_raw(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    #[inline]
    pub(crate) fn store_raw(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    /// Replaces `old` by `new`, with acquire ordering. May fail for no reason.
    #[inline]
    pub(crate) fn acquire_raw(&self, old: u64, new: u64) -> bool {
        self.0.compare_exchange_weak(old, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

impl Default for BeAtomicU64 {
    fn default() -> Self {
        BeAtomicU64::new(0)
    }
}

/// Relaxed accesses that swap bytes on a little endian machine.
#[cfg(not(all(target_arch = "powerpc64", target_endian = "little", not(loom))))]
mod swapped {
    use super::{AtomicU64, Ordering};

    #[inline]
    pub(super) fn load(at: &AtomicU64) -> u64 {
        u64::from_be(at.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn store(at: &AtomicU64, value: u64) {
        at.store(value.to_be(), Ordering::Relaxed);
    }
}

/// The same in the one instruction that POWER has for it; the compiler would take nine for the bytes of an atomic value.
#[cfg(all(target_arch = "powerpc64", target_endian = "little", not(loom)))]
#[allow(unsafe_code)] // inline assembly
mod swapped {
    use core::arch::asm;

    use super::AtomicU64;

    #[inline]
    pub(super) fn load(at: &AtomicU64) -> u64 {
        let value;
        // SAFETY: reads the doubleword that the reference is to, which is aligned and therefore read as one; others
        // may write it meanwhile, as with any atomic.
        unsafe {
            asm!("ldbrx {value}, 0, {at}", value = out(reg) value, at = in(reg_nonzero) at.as_ptr(),
                options(nostack, preserves_flags, readonly));
        }
        value
    }

    #[inline]
    pub(super) fn store(at: &AtomicU64, value: u64) {
        // SAFETY: writes the doubleword that the reference is to, which is aligned and therefore written as one, and
        // may be written through a shared reference because it is atomic.
        unsafe {
            asm!("stdbrx {value}, 0, {at}", value = in(reg) value, at = in(reg_nonzero) at.as_ptr(),
                options(nostack, preserves_flags));
        }
    }
}
