//! Atomics, from `core` or, to test the protocols, from loom.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// Declares a constructor: a `const fn`, but for loom, whose atomics have none.
macro_rules! constructor {
    ($(#[$attribute:meta])* $name:ident() -> $type:ty = $value:expr) => {
        $(#[$attribute])*
        #[cfg(not(loom))]
        pub const fn $name() -> $type {
            $value
        }

        $(#[$attribute])*
        #[cfg(loom)]
        pub fn $name() -> $type {
            $value
        }
    };
}
pub(crate) use constructor;

/// Atomics that hold 0.
#[cfg(not(loom))]
pub(crate) const fn zeroes<const N: usize>() -> [AtomicU64; N] {
    [const { AtomicU64::new(0) }; N]
}

/// Atomics that hold 0.
#[cfg(loom)]
pub(crate) fn zeroes<const N: usize>() -> [AtomicU64; N] {
    core::array::from_fn(|_| AtomicU64::new(0))
}
