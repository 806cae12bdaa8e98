//! In which pieces a device gets an access.

/// The naturally aligned units that a range of bytes falls into, as large as they come up to a doubleword: their offsets in it and lengths.
pub fn units(at: u64, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let most = (len - done).checked_ilog2()?;
        let aligned = at.wrapping_add(done as u64).trailing_zeros();
        let unit = 1 << aligned.min(most).min(3);
        done += unit;
        Some((done - unit, unit))
    })
}
