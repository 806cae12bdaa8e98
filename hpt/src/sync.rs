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

    /// As [`try_set`], on the raw value.
    #[inline(always)]
    pub(crate) fn try_set_raw(&self, busy: u64, set: u64) -> Option<u64> {
        try_set(&self.0, busy, set)
    }
}

impl Default for BeAtomicU64 {
    fn default() -> Self {
        BeAtomicU64::new(0)
    }
}

/// Sets bits of a word that has none of the `busy` ones, with acquire ordering, and answers the word as it was. `None` if it has one of
/// them, or for no reason.
#[cfg(not(all(target_arch = "powerpc64", not(loom))))]
#[inline(always)]
pub(crate) fn try_set(word: &AtomicU64, busy: u64, set: u64) -> Option<u64> {
    let old = word.load(Ordering::Relaxed);
    let free = old & busy == 0
        && word.compare_exchange_weak(old, old | set, Ordering::Acquire, Ordering::Relaxed).is_ok();
    free.then_some(old)
}

#[cfg(all(target_arch = "powerpc64", not(loom)))]
pub(crate) use reservation::try_set;

/// The same with the test of the busy bits between load and store: the compiler would load the word twice and compare.
#[cfg(all(target_arch = "powerpc64", not(loom)))]
#[allow(unsafe_code)] // inline assembly
mod reservation {
    use core::arch::asm;

    use super::AtomicU64;

    #[inline(always)]
    pub(crate) fn try_set(word: &AtomicU64, busy: u64, set: u64) -> Option<u64> {
        let (old, found): (u64, u64);
        // SAFETY: changes the doubleword that the reference is to as an atomic operation does. The store only fails if somebody else's to the
        // same block succeeds, or after an interrupt. `lwsync` keeps what follows behind the load (Power ISA 3.0C, book II, 4.6.3).
        unsafe {
            asm!(
                "2: ldarx {old}, 0, {word}",
                "and. {found}, {old}, {busy}",
                "bne- 3f",
                "or {new}, {old}, {set}",
                "stdcx. {new}, 0, {word}",
                "bne- 2b",
                "lwsync",
                "3:",
                old = out(reg) old, found = out(reg) found, new = out(reg) _, word = in(reg_nonzero) word.as_ptr(), busy = in(reg) busy,
                set = in(reg) set, out("cr0") _, options(nostack));
        }
        if found == 0 { Some(old) } else { None }
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
