//! The cases that boot a Debian kernel.

use crate::Case;

/// All of them.
pub fn cases() -> Vec<Case> {
    Vec::new()
}
