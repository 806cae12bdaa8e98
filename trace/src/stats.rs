//! How often a vCPU has left its guest, for what, and how long that took: counters that its CPU writes and anyone reads.
//!
//! A hypercall counts with the time from its `sc` to the guest's next instruction, and once: in real mode if it ends there, or if it leads
//! to another exit (H_CEDE to [`ExitCode::Cede`]); in virtual mode if it ends there. Storage faults count by their outcome in real mode, with
//! the time spent there; interrupts if they end there. What leads to virtual mode counts, as a whole, under its [`ExitCode`].

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use power::Hcall;
use power::interrupt::Vector;

use crate::event::Outcome;
use crate::exit::ExitCode;

/// How often, and how long together. One CPU writes; another that reads meanwhile may see a count without its time.
#[repr(C)]
pub struct Counter {
    count: AtomicU64,
    ticks: AtomicU64,
}

impl Counter {
    const fn zero() -> Counter {
        Counter { count: AtomicU64::new(0), ticks: AtomicU64::new(0) }
    }

    /// Once more, and how long it took in timebase ticks. Only by the CPU that has the vCPU.
    #[inline(always)]
    pub fn add(&self, ticks: u64) {
        // Nobody else writes: no atomic addition is needed.
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.ticks.store(self.ticks.load(Ordering::Relaxed).wrapping_add(ticks), Ordering::Relaxed);
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Timebase ticks, all together.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }
}

/// Hypercalls with a number that is a multiple of 4 up to [`Hcall::MAX`].
const HCALLS: usize = (Hcall::MAX / 4 + 1) as usize;

/// Interrupts of a guest that may end in real mode.
const INTERRUPTS: [Vector; 4] = [Vector::EXTERNAL, Vector::HDEC, Vector::HEA, Vector::HDOORBELL];

/// The counters of a vCPU, 5 KiB.
#[repr(C)]
pub struct Stats {
    /// Hypercalls by number / 4: first, because the assembly finds a counter at four times the number.
    hcalls: [Counter; HCALLS],
    /// Calls that the assembly refuses.
    refused: Counter,
    beyond: [Counter; BEYOND.len()],
    faults: [Counter; Outcome::ALL.len()],
    interrupts: [Counter; INTERRUPTS.len()],
    exits: [Counter; ExitCode::ALL.len()],
}

/// Hypercalls beyond PAPR's range that have a counter of their own.
const BEYOND: [Hcall; 4] =
    [Hcall::RTAS, Hcall::PARTITA_SNAPSHOT, Hcall::PARTITA_REVERT, Hcall::PARTITA_IDENTITY];

/// What the assembly adds to the address of [`Stats`] for calls that it refuses.
pub const REFUSED: usize = core::mem::offset_of!(Stats, refused);
/// Where the ticks are in a [`Counter`], after the count.
pub const TICKS: usize = core::mem::offset_of!(Counter, ticks);

const _: () = {
    assert!(core::mem::offset_of!(Stats, hcalls) == 0 && core::mem::offset_of!(Counter, count) == 0);
    assert!(size_of::<Counter>() == 4 * 4 && REFUSED < 0x8000);
};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A hypercall, by number.
    Hcall(Hcall),
    /// Hypercalls from problem state, or with a number that cannot be one.
    Refused,
    /// Storage faults, by what became of them in real mode.
    Fault(Outcome),
    /// Interrupts that ended in real mode.
    Interrupt(Vector),
    /// Full exits.
    Exit(ExitCode),
}

impl Subject {
    /// All that have a counter, in the order in which they are to be shown.
    pub fn all() -> impl Iterator<Item = Subject> {
        (0..=Hcall::MAX / 4)
            .map(|n| Subject::Hcall(Hcall(4 * n)))
            .chain(BEYOND.into_iter().map(Subject::Hcall))
            .chain([Subject::Refused])
            .chain(Outcome::ALL.into_iter().map(Subject::Fault))
            .chain(INTERRUPTS.into_iter().map(Subject::Interrupt))
            .chain(ExitCode::ALL.iter().copied().map(Subject::Exit))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Hcall(number) => match number.name() {
                Some(name) => f.write_str(name),
                None => write!(f, "hypercall {:#x}", number.0),
            },
            Subject::Refused => f.write_str("refused hypercalls"),
            Subject::Fault(outcome) => write!(f, "fault {}", outcome.name()),
            Subject::Interrupt(vector) => write!(f, "interrupt {}", vector.name()),
            Subject::Exit(reason) => write!(f, "exit {}", reason.name()),
        }
    }
}

impl Stats {
    /// Nothing yet: all zero.
    pub const fn zero() -> Stats {
        Stats {
            hcalls: [const { Counter::zero() }; HCALLS],
            refused: Counter::zero(),
            beyond: [const { Counter::zero() }; BEYOND.len()],
            faults: [const { Counter::zero() }; Outcome::ALL.len()],
            interrupts: [const { Counter::zero() }; INTERRUPTS.len()],
            exits: [const { Counter::zero() }; ExitCode::ALL.len()],
        }
    }

    /// The counter of a subject. Hypercalls with a number that cannot be one are [`Subject::Refused`]. `None`: an interrupt that
    /// never ends in real mode.
    #[inline]
    pub fn counter(&self, subject: Subject) -> Option<&Counter> {
        match subject {
            Subject::Hcall(number) if number.0.is_multiple_of(4) => {
                let beyond = || Some(&self.beyond[BEYOND.iter().position(|known| *known == number)?]);
                let within = self.hcalls.get((number.0 / 4) as usize);
                Some(within.or_else(beyond).unwrap_or(&self.refused))
            }
            Subject::Hcall(_) | Subject::Refused => Some(&self.refused),
            Subject::Fault(outcome) => self.faults.get(outcome as usize),
            Subject::Interrupt(vector) => {
                self.interrupts.get(INTERRUPTS.iter().position(|known| *known == vector)?)
            }
            Subject::Exit(reason) => self.exits.get(reason as usize - 1),
        }
    }

    /// Counts.
    #[inline]
    pub fn add(&self, subject: Subject, ticks: u64) {
        if let Some(counter) = self.counter(subject) {
            counter.add(ticks);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    #[test]
    fn every_subject_has_a_counter_and_a_name_of_its_own() {
        let stats = Box::new(Stats::zero());
        for (subject, ticks) in Subject::all().zip(1..) {
            stats.add(subject, ticks);
            stats.add(subject, ticks);
        }
        for (subject, ticks) in Subject::all().zip(1..) {
            let counter = stats.counter(subject).expect("a counter");
            assert_eq!((counter.count(), counter.ticks()), (2, 2 * ticks), "{subject}");
        }
        assert_eq!(Subject::all().count() * size_of::<Counter>(), size_of::<Stats>());
        let mut names: Vec<String> = Subject::all().map(|subject| subject.to_string()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Subject::all().count());
    }

    #[test]
    fn odd_numbers() {
        let stats = Box::new(Stats::zero());
        for number in [1, 2, 7, Hcall::MAX + 4, 0xf004, u64::MAX, 1 << 32 | 3] {
            stats.add(Subject::Hcall(Hcall(number)), 10);
        }
        let refused = stats.counter(Subject::Refused).expect("a counter");
        assert_eq!((refused.count(), refused.ticks()), (7, 70));
        stats.add(Subject::Interrupt(Vector::PROGRAM), 1);
        assert!(stats.counter(Subject::Interrupt(Vector::PROGRAM)).is_none());
    }

    /// What the assembly computes.
    #[test]
    fn addresses() {
        let stats = Box::new(Stats::zero());
        let base = core::ptr::from_ref(&*stats) as u64;
        for subject in Subject::all() {
            let at = core::ptr::from_ref(stats.counter(subject).expect("a counter")) as u64 - base;
            match subject {
                Subject::Hcall(number) if number.0 <= Hcall::MAX => assert_eq!(at, 4 * number.0),
                Subject::Refused => assert_eq!(at, REFUSED as u64),
                _ => assert!(at > REFUSED as u64),
            }
        }
        assert_eq!(TICKS, 8);
    }

    #[test]
    fn names() {
        for (subject, name) in [
            (Subject::Hcall(Hcall::ENTER), "H_ENTER"),
            (Subject::Hcall(Hcall(0x7c)), "hypercall 0x7c"),
            (Subject::Fault(Outcome::Resolved), "fault resolved"),
            (Subject::Interrupt(Vector::HDEC), "interrupt hypervisor decrementer"),
            (Subject::Exit(ExitCode::Slice), "exit end of slice"),
        ] {
            assert_eq!(subject.to_string(), name);
        }
    }
}
