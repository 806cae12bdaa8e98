//! The cases made of the programs in `guests`.

use crate::{Case, Endian};

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![Case::guest("hello-le", "hello", Endian::Little), Case::guest("hello-be", "hello", Endian::Big)]
}
