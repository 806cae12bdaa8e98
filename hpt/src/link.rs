//! References in atomic words: those of the sparse reverse map and of the lists of blocks. The crate's only pointers.
#![allow(unsafe_code)] // a pointer that was made of a reference becomes one again

use crate::sync::{AtomicPtr, Ordering};

/// How a word of the reverse map is read. What lies behind the pointer is reached through it, and POWER keeps the order of a load and of
/// the accesses whose address depends on it (Power ISA 3.0C, book II, 1.7.1); elsewhere, and for loom, it takes a word.
const SEEN: Ordering = if cfg!(target_arch = "powerpc64") { Ordering::Relaxed } else { Ordering::Acquire };

/// A reference or none, with a flag that only a reference can have. All zero is none.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(transparent))]
pub(crate) struct Link<T: 'static>(AtomicPtr<T>);

/// The flag. What is referred to is aligned to 128, so the low bits are free.
const FLAG: usize = 1;
const ADDRESS: usize = !0x7f;

impl<T> Link<T> {
    /// None.
    pub(crate) fn new() -> Link<T> {
        const { assert!(align_of::<T>() >= 128) };
        Link(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// The reference, if it has the flag.
    #[inline(always)]
    pub(crate) fn flagged(&self) -> Option<&'static T> {
        let word = self.0.load(SEEN);
        if word.addr() & FLAG == 0 {
            return None;
        }
        // SAFETY: the flag is set together with a reference that is good for ever ([`Link::set`]), or to one that is there
        // ([`Link::flag`]); the mask takes away the flag and nothing of the address, which is aligned to 128.
        Some(unsafe { &*word.map_addr(|a| a & ADDRESS) })
    }

    /// The reference, flagged or not.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&'static T> {
        let word = self.0.load(SEEN).map_addr(|a| a & ADDRESS);
        // SAFETY: null, or made of a reference that is good for ever; without the flag, as above.
        unsafe { word.as_ref() }
    }

    /// Its bits: all zero when it refers to nothing.
    #[inline(always)]
    pub(crate) fn bits(&self) -> usize {
        self.0.load(Ordering::Relaxed).addr()
    }

    /// Refers to this from now on.
    pub(crate) fn set(&self, to: Option<&'static T>, flag: bool) {
        let word = to.map_or(core::ptr::null_mut(), |to| core::ptr::from_ref(to).cast_mut());
        let flag = if flag && to.is_some() { FLAG } else { 0 };
        self.0.store(word.map_addr(|a| a | flag), Ordering::Release);
    }

    /// Sets or clears the flag, if it refers to anything. For when nobody else uses it.
    pub(crate) fn flag(&self, flag: bool) {
        self.set(self.get(), flag);
    }
}

impl<T> Default for Link<T> {
    fn default() -> Self {
        Link::new()
    }
}
