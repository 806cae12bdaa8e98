//! The list of capabilities in configuration space (PCI 3.0, 6.7).

use crate::{AccessError, Config, Function, offset};

/// Status, in the upper half of the command word: there is a list of capabilities.
const HAS_LIST: u32 = 1 << 20;
/// A list that is longer has a loop.
const MOST: usize = 48;

/// Offset and first word of each capability; its ID is in the word's lowest byte. `visit` says when it has seen enough.
pub(crate) fn find<T>(
    config: &impl Config,
    function: Function,
    mut visit: impl FnMut(u16, u32) -> Result<Option<T>, AccessError>,
) -> Result<Option<T>, AccessError> {
    if config.read(function, offset::COMMAND)? & HAS_LIST == 0 {
        return Ok(None);
    }
    let mut at = config.read(function, offset::CAPABILITIES)? as u16 & 0xfc;
    for _ in 0..MOST {
        if at < 0x40 {
            break;
        }
        let head = config.read(function, at)?;
        if let Some(found) = visit(at, head)? {
            return Ok(Some(found));
        }
        at = (head >> 8) as u16 & 0xfc;
    }
    Ok(None)
}
