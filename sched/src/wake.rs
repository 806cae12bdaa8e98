//! Where a virtual processor is, in one word, and the protocol by which it is put to sleep and woken.
//!
//! Whoever has a virtual processor changes the word: the CPU that runs it, then the queue's lock, then the CPU that takes
//! it from there. Only a sleeping one has nobody, so there the waker that changes the word has it, and hands it to a CPU.
//!
//! # No wake-up is lost
//! *The condition* is whatever the virtual processor may wait for: a pending interrupt, a prod, a timer that has run out.
//!
//! | who sleeps | who wakes |
//! |---|---|
//! | [`block`](Whereabouts::block) | sets the condition |
//! | looks at the condition; if it is there, [`wake`](Whereabouts::wake)s itself | [`wake`](Whereabouts::wake) |
//!
//! Between the two steps of each side is a full fence, so one of them sees what the other did. If both do, one of
//! them gets [`Wake::Hand`], and nobody else.
//!
//! A waker that finds the word changed under its hands has nothing to do: whoever made it `Running` or `Blocked` looks at the
//! condition afterwards, and that is later than the waker set it. So there is no loop.
//!
//! # No gate is passed
//! To stop a partition its gate is closed, and then each of its virtual processors is woken. A CPU does
//! [`run`](Whereabouts::run), and then looks at the gate (and at the condition). Either it sees the gate closed, or the stopper sees
//! [`Wake::Running`] and rings that CPU, which looks again.
//!
//! Neither the condition nor the gate needs an ordering of its own: the fences are here.

use crate::sync::{AtomicU64, Ordering, constructor, fence};

/// What a virtual processor does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It is stopped: only [`Whereabouts::unpark`] wakes it.
    Parked,
    /// It sleeps until something wakes it.
    Blocked,
    /// It waits in a queue or a mailbox, or is on its way there.
    Ready,
    /// A CPU has it.
    Running,
}

/// What a waker has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Wake {
    /// It was asleep: the caller, and nobody else, hands it to a CPU. The one named is where it ran last.
    Hand(usize),
    /// It runs there: that CPU is to look.
    Running(usize),
    /// It will look by itself before it runs, or is parked.
    Nothing,
}

/// Where a virtual processor is: its phase in the low byte, and the number of a CPU above.
#[derive(Debug)]
pub struct Whereabouts(AtomicU64);

const PARKED: u64 = 0;
const BLOCKED: u64 = 1;
const READY: u64 = 2;
const RUNNING: u64 = 3;
const PHASE: u64 = 0xff;
const CPU_SHIFT: u32 = 8;

impl Whereabouts {
    constructor! {
        /// Parked, and never run: as if it had run on CPU 0.
        parked() -> Whereabouts = Whereabouts(AtomicU64::new(PARKED))
    }

    /// What it does, and the CPU that it runs on or ran on last.
    pub fn look(&self) -> (Phase, usize) {
        let word = self.0.load(Ordering::Acquire);
        let phase = match word & PHASE {
            PARKED => Phase::Parked,
            BLOCKED => Phase::Blocked,
            READY => Phase::Ready,
            _ => Phase::Running,
        };
        (phase, (word >> CPU_SHIFT) as usize)
    }

    /// `Ready` to `Running`, by the CPU that has taken it from a queue. It then looks at the gate and the condition.
    pub fn run(&self, cpu: usize) {
        self.0.store(RUNNING | (cpu as u64) << CPU_SHIFT, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// `Running` to `Ready`, by its CPU, which enqueues it.
    pub fn ready(&self) {
        self.become_phase(READY);
    }

    /// `Running` to `Blocked`, by its CPU, which then looks at the condition once more, and wakes it itself if it is there.
    pub fn block(&self) {
        self.become_phase(BLOCKED);
    }

    /// `Running` to `Parked`, by its CPU.
    pub fn park(&self) {
        self.become_phase(PARKED);
    }

    /// Of a running one: the word is its CPU's own.
    fn become_phase(&self, phase: u64) {
        let word = self.0.load(Ordering::Relaxed);
        self.0.store((word & !PHASE) | phase, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// `Parked` to `Ready`; true for the one caller that must hand it to a CPU.
    pub fn unpark(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & PHASE == PARKED && self.leave_sleep(word)
    }

    /// Something that it may wait for has come, or a gate was closed: the caller has done that before.
    pub fn wake(&self) -> Wake {
        fence(Ordering::SeqCst);
        let word = self.0.load(Ordering::Acquire);
        let cpu = (word >> CPU_SHIFT) as usize;
        match word & PHASE {
            BLOCKED if self.leave_sleep(word) => Wake::Hand(cpu),
            RUNNING => Wake::Running(cpu),
            _ => Wake::Nothing,
        }
    }

    /// From this word, of a sleeping one, to `Ready`. Fails if somebody else was first.
    fn leave_sleep(&self, word: u64) -> bool {
        let ready = (word & !PHASE) | READY;
        self.0.compare_exchange(word, ready, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
