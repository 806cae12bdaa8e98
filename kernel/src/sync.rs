//! The one lock of virtual mode, with a place in the order of locks. Real mode waits for none of them; those that it tries are
//! [`realmode::lock`]'s, taken here by [`lock`].
//!
//! Whoever holds a lock may only take one that comes later in [`Rank`]. Debug and self-test builds check it at each `lock`.

use core::ops::{Deref, DerefMut};

use realmode::lock::Mutex;
use spin::mutex::SpinMutexGuard;

/// The order in which locks are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// Who is attached to the console, and what has been typed.
    Terminal = 0,
    /// How far the merging of pages has come.
    Merge = 1,
    /// Which partitions there are.
    Registry = 2,
    /// What a partition does: its start and its end.
    Life = 3,
    /// Which virtual processors there are.
    Slots = 4,
    /// The areas that a vCPU shares with its guest.
    Areas = 5,
    /// A partition's devices.
    Devices = 6,
    /// A partition's console rings, its clock; what the monitor has shown of it.
    Partition = 7,
    /// A run queue.
    Queue = 8,
    /// A device of the host's.
    Host = 9,
    /// Which interrupts of the host's devices are served, and how.
    Interrupts = 10,
    /// The frame store.
    Frames = 11,
    /// The heap.
    Heap = 12,
    /// The physical console and the log.
    Console = 13,
}

/// A lock.
pub struct Lock<T> {
    rank: Rank,
    inner: Mutex<T>,
}

/// Takes a lock that real mode tries, too, and waits for it if necessary.
pub fn lock<T>(rank: Rank, inner: &Mutex<T>) -> Guard<'_, T> {
    held::take(rank);
    Guard { rank, inner: inner.lock() }
}

impl<T> Lock<T> {
    /// Free.
    pub const fn new(rank: Rank, value: T) -> Lock<T> {
        Lock { rank, inner: Mutex::new(value) }
    }

    /// Takes it, and waits for it if necessary.
    pub fn lock(&self) -> Guard<'_, T> {
        lock(self.rank, &self.inner)
    }

    /// Takes it if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let inner = self.inner.try_lock()?;
        held::take_anyhow(self.rank);
        Some(Guard { rank: self.rank, inner })
    }
}

/// A lock that is held.
pub struct Guard<'a, T> {
    rank: Rank,
    inner: SpinMutexGuard<'a, T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        held::release(self.rank);
    }
}

/// What each CPU holds, as a mask of ranks.
#[cfg(any(debug_assertions, feature = "selftest"))]
mod held {
    use core::sync::atomic::{AtomicU32, Ordering};

    use sched::MAX_CPUS;

    use super::Rank;
    use crate::percpu;

    static HELD: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

    fn own() -> &'static AtomicU32 {
        &HELD[percpu::number() % MAX_CPUS]
    }

    pub(super) fn take(rank: Rank) {
        let held = own().load(Ordering::Relaxed);
        assert!(held >> (rank as u32) == 0, "lock order: {rank:?} is taken while ranks {held:#b} are held");
        own().store(held | 1 << (rank as u32), Ordering::Relaxed);
    }

    pub(super) fn take_anyhow(rank: Rank) {
        own().fetch_or(1 << (rank as u32), Ordering::Relaxed);
    }

    pub(super) fn release(rank: Rank) {
        own().fetch_and(!(1 << (rank as u32)), Ordering::Relaxed);
    }
}

#[cfg(not(any(debug_assertions, feature = "selftest")))]
mod held {
    use super::Rank;

    #[inline(always)]
    pub(super) fn take(_: Rank) {}
    #[inline(always)]
    pub(super) fn take_anyhow(_: Rank) {}
    #[inline(always)]
    pub(super) fn release(_: Rank) {}
}
