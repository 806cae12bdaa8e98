//! Locks on what both modes change. Virtual mode waits for them, each in its place in the order of its locks (`sync` in the kernel).
//! Real mode only *tries* one, and leaves to virtual mode what it cannot have at once: so it is no part of any order. Interrupts are off
//! in both modes, so whoever holds one is another CPU.

use spin::RelaxStrategy;
use spin::mutex::SpinMutex;

/// How a CPU waits for a lock.
pub struct Pause;

impl RelaxStrategy for Pause {
    #[inline(always)]
    fn relax() {
        #[cfg(target_arch = "powerpc64")]
        crate::instructions::pause();
    }
}

/// A lock.
pub type Mutex<T> = SpinMutex<T, Pause>;
