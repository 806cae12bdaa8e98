//! The order of locks, checked while the tests of a debug build run: a thread that waits for a lock it may not wait for is a failure,
//! though nobody holds that lock at the moment. Everywhere else these are nothing.
//!
//! - Who waits for an entry holds no lock at all: an entry's holder may be waiting for a page, and who has several entries may be
//!   facing another who has them in another order.
//! - Who waits for a page may hold entries, but no page.
//! - Who waits for the reserve may hold either, and waits for nothing once it has it.

/// A kind of lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Entry,
    Page,
    Reserve,
}

#[cfg(not(all(test, debug_assertions, not(loom))))]
mod checks {
    use super::Kind;

    #[inline(always)]
    pub(crate) fn waits(_: Kind) {}

    #[inline(always)]
    pub(crate) fn taken<T>(_: Kind, _: &T) {}

    #[inline(always)]
    pub(crate) fn released<T>(_: &T) {}

    #[cfg(all(test, not(loom)))]
    pub(crate) fn elsewhere<T>(body: impl FnOnce() -> T) -> T {
        body()
    }
}

#[cfg(all(test, debug_assertions, not(loom)))]
mod checks {
    use std::cell::RefCell;

    use super::Kind;

    thread_local! {
        /// What this thread holds: the kind of lock, and where it is.
        static HELD: RefCell<Vec<(Kind, usize)>> = const { RefCell::new(Vec::new()) };
    }

    fn place<T>(lock: &T) -> usize {
        core::ptr::from_ref(lock).addr()
    }

    /// This thread is about to wait for such a lock.
    pub(crate) fn waits(kind: Kind) {
        HELD.with_borrow(|held| {
            let against = held.iter().find(|(have, _)| match kind {
                Kind::Entry => true,
                Kind::Page => *have != Kind::Entry,
                Kind::Reserve => *have == Kind::Reserve,
            });
            if let Some((have, _)) = against {
                panic!("order of locks: waits for {kind:?} and holds {have:?}");
            }
        });
    }

    /// This thread has a lock now.
    pub(crate) fn taken<T>(kind: Kind, lock: &T) {
        HELD.with_borrow_mut(|held| held.push((kind, place(lock))));
    }

    /// This thread has a lock no more.
    pub(crate) fn released<T>(lock: &T) {
        HELD.with_borrow_mut(|held| held.retain(|(_, at)| *at != place(lock)));
    }

    /// Does something as if another thread did it, which goes on holding what it took.
    pub(crate) fn elsewhere<T>(body: impl FnOnce() -> T) -> T {
        let mine = HELD.take();
        let result = body();
        HELD.set(mine);
        result
    }
}

pub(crate) use checks::*;
