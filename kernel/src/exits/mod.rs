//! What a guest is left for: the virtual-mode half of hypercalls and storage faults.

pub mod hcall;
pub mod mmio;
pub mod rtas;
pub mod storage;

use alloc::string::String;

/// What happens to the vCPU, or to its partition, after an exit has been handled.
pub enum After {
    /// It goes on.
    Continue,
    /// It goes on, after others have had their turn.
    Yield,
    /// The partition has switched itself off.
    PowerOff,
    /// The partition starts anew.
    Reboot,
    /// The partition cannot go on. Why, in one line.
    Stop(String),
}
