//! Why an operation was refused.

use power::Status;

/// Why an operation was refused. Nothing has been changed then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HptError {
    /// An argument makes no sense, or asks for what the partition does not have.
    Parameter,
    /// No free entry.
    PtegFull,
    /// No such entry.
    NotFound,
    /// Not here: pages have to be populated or made private first, or a lock is held for long. Virtual mode
    /// sees to it and calls again; a guest never hears of it.
    TooHard,
    /// An entry could not be locked in the middle of a call that has already changed others.
    Hardware,
}

impl From<HptError> for Status {
    /// The answer of a hypervisor call (PAPR 14.5.4.1). `TooHard` has none, and has to be taken out before; it
    /// is H_BUSY ("ask again") if it gets here.
    fn from(error: HptError) -> Status {
        match error {
            HptError::Parameter => Status::PARAMETER,
            HptError::PtegFull => Status::PTEG_FULL,
            HptError::NotFound => Status::NOT_FOUND,
            HptError::TooHard => Status::BUSY,
            HptError::Hardware => Status::HARDWARE,
        }
    }
}
