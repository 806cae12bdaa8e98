//! How a woken virtual processor comes to the CPU that is to run it, without a lock.
//!
//! Each host CPU has a [`Mailbox`], to which any other posts slot numbers, and a *doorbell* that the kernel provides: it
//! is latched when it is rung, ends a sleep, and does not let one begin.
//!
//! | who posts | whose mailbox it is |
//! |---|---|
//! | [`post`](Mailbox::post) | clears the doorbell |
//! | rings the doorbell | [`take`](Mailbox::take)s until there is nothing |
//! | | has nothing to run: [`IdleCpus::set`], and once more from the top if the mailbox [is not empty](Mailbox::is_empty) |
//! | | sleeps, unless the doorbell is latched |
//!
//! A doorbell that is rung after it was cleared keeps the owner awake; one that was rung before was preceded by its post, so the
//! owner finds that. For that a ring must not overtake the post before it, nor a look into the mailbox the clearing before it: the
//! kernel puts a `sync` there.

use crate::cpuset::{CpuSet, MAX_CPUS};
use crate::sync::{AtomicU64, Ordering, constructor, zeroes};

/// The most slots, of all partitions together.
pub const MAX_TASKS: usize = 1024;

const WORDS: usize = MAX_TASKS / 64;

/// Virtual processors, by slot number, that others have woken for a CPU. The order of arrival is not kept.
#[derive(Debug)]
pub struct Mailbox {
    /// Bit n: `words[n]` may be not 0. Set after a bit of the word, and looked at before.
    summary: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Mailbox {
    constructor! {
        /// Empty.
        new() -> Mailbox = Mailbox { summary: AtomicU64::new(0), words: zeroes() }
    }

    /// Leaves a slot number for the owner; numbers from [`MAX_TASKS`] on are not posted. The caller rings the doorbell then.
    pub fn post(&self, slot: usize) {
        if let Some(word) = self.words.get(slot / 64) {
            word.fetch_or(1 << (slot % 64), Ordering::AcqRel);
            self.summary.fetch_or(1 << (slot / 64), Ordering::AcqRel);
        }
    }

    /// Takes one out; only for the owner.
    pub fn take(&self) -> Option<usize> {
        let mut summary = self.summary.load(Ordering::Acquire);
        while summary != 0 {
            let at = summary.trailing_zeros() as usize;
            summary &= summary - 1;
            let word = self.words.get(at)?;
            let slots = word.load(Ordering::Acquire);
            let first = slots & slots.wrapping_neg();
            if word.fetch_and(!first, Ordering::AcqRel) == first {
                // It is empty now. A slot posted after this is either seen here, or its poster sets the bit again.
                self.summary.fetch_and(!(1 << at), Ordering::AcqRel);
                if word.load(Ordering::Acquire) != 0 {
                    self.summary.fetch_or(1 << at, Ordering::AcqRel);
                }
            }
            if first != 0 {
                return Some(at * 64 + first.trailing_zeros() as usize);
            }
        }
        None
    }

    /// Is there nothing in it? A post that is under way counts as not made.
    pub fn is_empty(&self) -> bool {
        self.summary.load(Ordering::Acquire) == 0
    }
}

/// The CPUs that sleep or are about to: who wakes something asks for one to hand it to. Only a hint: the CPU may have found
/// work meanwhile, and several wakers may be told the same one.
#[derive(Debug)]
pub struct IdleCpus([AtomicU64; MAX_CPUS / 64]);

impl IdleCpus {
    constructor! {
        /// None.
        new() -> IdleCpus = IdleCpus(zeroes())
    }

    /// Says of a CPU whether it is idle; of one from [`MAX_CPUS`] on nothing can be said.
    pub fn set(&self, cpu: usize, idle: bool) {
        let Some(word) = self.0.get(cpu / 64) else { return };
        let bit = 1 << (cpu % 64);
        if idle {
            word.fetch_or(bit, Ordering::SeqCst);
        } else {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// The first of these that is idle.
    pub fn any(&self, allowed: &CpuSet) -> Option<usize> {
        self.0.iter().zip(allowed.words()).enumerate().find_map(|(at, (word, allowed))| {
            let idle = word.load(Ordering::SeqCst) & allowed;
            (idle != 0).then(|| at * 64 + idle.trailing_zeros() as usize)
        })
    }

    /// Is it idle?
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.get(cpu / 64).is_some_and(|word| word.load(Ordering::SeqCst) >> (cpu % 64) & 1 != 0)
    }
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox::new()
    }
}

impl Default for IdleCpus {
    fn default() -> IdleCpus {
        IdleCpus::new()
    }
}
