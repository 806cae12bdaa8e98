//! All memory of a machine.

use crate::{Frames, FreeError};

/// Stretches of memory that are far enough apart to have an allocator each: one per chip and node.
pub const STRETCHES: usize = 8;

/// An allocator for each stretch, and what guests leave of it all.
pub struct Store<'a> {
    stretches: [Option<Frames<'a>>; STRETCHES],
    /// Free frames, and how many of them guests do not get.
    free: u64,
    reserve: u64,
}

impl<'a> Store<'a> {
    /// Of no memory yet.
    pub const fn new() -> Store<'a> {
        Store { stretches: [const { None }; STRETCHES], free: 0, reserve: 0 }
    }

    /// Adds a stretch; false if there are too many.
    pub fn add(&mut self, frames: Frames<'a>) -> bool {
        let Some(place) = self.stretches.iter_mut().find(|place| place.is_none()) else { return false };
        self.free += frames.free();
        *place = Some(frames);
        true
    }

    /// Guests leave so many frames from now on.
    pub fn set_reserve(&mut self, frames: u64) {
        self.reserve = frames;
    }

    /// What guests leave, in frames.
    pub const fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Free frames.
    pub const fn free(&self) -> u64 {
        self.free
    }

    /// A block of 2^`order` frames, as its address; `None` when there is none.
    pub fn allocate(&mut self, order: u32) -> Option<u64> {
        let block = self.stretches.iter_mut().flatten().find_map(|frames| frames.allocate(order))?;
        self.free -= 1 << order;
        Some(block)
    }

    /// The same for a guest: not the last that there is.
    pub fn allocate_for_guest(&mut self, order: u32) -> Option<u64> {
        if self.free < self.reserve.saturating_add(1 << order) { None } else { self.allocate(order) }
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// [`FreeError`]: nothing has changed.
    pub fn release(&mut self, address: u64, order: u32) -> Result<(), FreeError> {
        let owner = self.stretches.iter_mut().flatten().find(|frames| frames.covers(address));
        owner.ok_or(FreeError)?.release(address, order)?;
        self.free += 1 << order;
        Ok(())
    }
}

impl Default for Store<'_> {
    fn default() -> Self {
        Store::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FRAME, Range};

    fn frames<'a>(span: Range, words: &'a mut Vec<u64>) -> Frames<'a> {
        words.resize(Frames::words_for(span), 0);
        let mut frames = Frames::new(span, words).unwrap();
        frames.add(span);
        frames
    }

    #[test]
    fn guests_leave_the_reserve_and_take_from_any_stretch() {
        let (mut low, mut high) = (vec![], vec![]);
        let mut store = Store::new();
        assert_eq!(store.allocate(0), None);
        assert!(store.add(frames(Range::sized(0, 2 * FRAME), &mut low)));
        assert!(store.add(frames(Range::sized(1 << 40, 3 * FRAME), &mut high)));
        store.set_reserve(2);
        assert_eq!(store.free(), 5);
        let got: Vec<u64> = core::iter::from_fn(|| store.allocate_for_guest(0)).collect();
        assert_eq!(got, [0, FRAME, (1 << 40) + 2 * FRAME]);
        assert_eq!(store.allocate_for_guest(1), None);
        assert_eq!(store.allocate(1), Some(1 << 40));
        assert_eq!((store.free(), store.allocate(0)), (0, None));
        assert_eq!(store.release(FRAME, 0), Ok(()));
        assert_eq!(store.release(FRAME, 0), Err(FreeError));
        assert_eq!(store.release(1 << 30, 0), Err(FreeError));
        assert_eq!(store.free(), 1);
    }

    #[test]
    fn so_many_stretches_and_no_more() {
        let mut words: Vec<Vec<u64>> = vec![vec![]; STRETCHES + 1];
        let mut store = Store::new();
        for (n, words) in words.iter_mut().enumerate() {
            let added = store.add(frames(Range::sized((n as u64) << 40, FRAME), words));
            assert_eq!(added, n < STRETCHES);
        }
        assert_eq!(store.free(), STRETCHES as u64);
    }
}
