//! The gate before a partition's guest, and how many of its virtual processors are on this side of being parked.
//!
//! Who closes the gate then wakes each virtual processor ([`crate::Whereabouts`]); each finds the gate closed and is parked by the CPU that
//! has it. Whoever parks the last one has the partition standing still, with nobody in its guest, until he opens the gate. If
//! none was active when the gate was closed, that is who closed it. Closing, opening and what is done meanwhile need a lock around them; leaving
//! does not.

use crate::sync::{AtomicBool, AtomicUsize, Ordering, constructor};

/// The gate of a partition.
#[derive(Debug)]
pub struct Gate {
    closed: AtomicBool,
    active: AtomicUsize,
}

impl Gate {
    constructor! {
        /// Closed, with nobody active.
        closed() -> Gate = Gate { closed: AtomicBool::new(true), active: AtomicUsize::new(0) }
    }

    /// May nobody enter the guest? Asked by a CPU after it has made a virtual processor running, and after each exit.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Closes it. True if nobody is active: then it is up to the caller to do what is due.
    pub fn close(&self) -> bool {
        self.closed.store(true, Ordering::SeqCst);
        self.active() == 0
    }

    /// Opens it for so many virtual processors, which the caller hands to CPUs next. Nobody is active.
    pub fn open(&self, active: usize) {
        self.active.store(active, Ordering::SeqCst);
        self.closed.store(false, Ordering::SeqCst);
    }

    /// One more is active; the caller hands it to a CPU next. He is active himself, or holds the lock.
    pub fn join(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }

    /// One has been parked. True if it was the last one.
    pub fn leave(&self) -> bool {
        self.active.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// How many are not parked.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }
}
