//! The page allocator: one bitmap of free blocks for each order.

use crate::bitmap::Bitmap;
use crate::{FRAME_SHIFT, Range};

const ORDERS: usize = 28;

/// Frames of one stretch of memory. A block of order *n* is 2ⁿ frames, aligned to its size in real addresses.
pub struct Frames<'a> {
    /// The address that bit 0 stands for: a multiple of the largest block.
    base: u64,
    /// How many frames the bitmaps cover.
    frames: u64,
    words: &'a mut [u64],
    /// The free blocks of each order, in `words`.
    free_blocks: [Bitmap; ORDERS],
    top: u32,
    free: u64,
}

/// A block was given back that cannot be: not of this stretch, misaligned, or free already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeError;

impl<'a> Frames<'a> {
    fn shape(span: Range) -> (u64, u64, u32) {
        let top = (64 - (span.len() >> FRAME_SHIFT).leading_zeros()).min(ORDERS as u32 - 1);
        let base = span.start & !((1u64 << (top + FRAME_SHIFT)) - 1);
        let frames = (span.end - base).div_ceil(1 << FRAME_SHIFT);
        (base, frames, top)
    }

    /// How many words of storage a stretch of memory needs.
    pub fn words_for(span: Range) -> usize {
        let (_, frames, top) = Self::shape(span);
        (0..=top).map(|order| Bitmap::new(0, (frames >> order) + 1).words()).sum()
    }

    /// An allocator with nothing free, for memory within `span`. `None` if `words` is shorter than
    /// [`Frames::words_for`] says.
    pub fn new(span: Range, words: &'a mut [u64]) -> Option<Frames<'a>> {
        if words.len() < Self::words_for(span) {
            return None;
        }
        words.fill(0);
        let (base, frames, top) = Self::shape(span);
        let (mut free_blocks, mut at) = ([Bitmap::new(0, 0); ORDERS], 0);
        for (order, bitmap) in (0..=top).zip(&mut free_blocks) {
            *bitmap = Bitmap::new(at, (frames >> order) + 1);
            at += bitmap.words();
        }
        Some(Frames { base, frames, words, free_blocks, top, free: 0 })
    }

    /// Makes all whole frames of a range free. For memory that has never been given out.
    pub fn add(&mut self, range: Range) {
        let mut frame = range.start.saturating_sub(self.base).div_ceil(1 << FRAME_SHIFT);
        let end = (range.end.saturating_sub(self.base) >> FRAME_SHIFT).min(self.frames);
        while frame < end {
            let fits = 63 - (end - frame).leading_zeros();
            let order = frame.trailing_zeros().min(fits).min(self.top);
            self.put(frame, order);
            self.free += 1 << order;
            frame += 1 << order;
        }
    }

    /// A block of 2^`order` frames, as its address; `None` when there is none. What that takes grows with the orders, not with the memory.
    pub fn allocate(&mut self, order: u32) -> Option<u64> {
        let (found, mut index) = (order..=self.top).find_map(|o| Some((o, self.first(o)?)))?;
        self.set(found, index, false);
        for o in (order..found).rev() {
            index *= 2;
            self.set(o, index + 1, true);
        }
        self.free -= 1 << order;
        Some(self.base + (index << (order + FRAME_SHIFT)))
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// [`FreeError`]: nothing has changed.
    pub fn release(&mut self, address: u64, order: u32) -> Result<(), FreeError> {
        let frame = address.checked_sub(self.base).ok_or(FreeError)? >> FRAME_SHIFT;
        let inside = order <= self.top && frame + (1 << order) <= self.frames;
        let aligned = address & ((1 << (order + FRAME_SHIFT)) - 1) == 0;
        if !inside || !aligned || (order..=self.top).any(|o| self.get(o, frame >> o)) {
            return Err(FreeError);
        }
        self.put(frame, order);
        self.free += 1 << order;
        Ok(())
    }

    /// Free frames.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Is the address of this stretch?
    pub fn covers(&self, address: u64) -> bool {
        address >= self.base && (address - self.base) >> FRAME_SHIFT < self.frames
    }

    /// Marks a block free and joins it with its free neighbours.
    fn put(&mut self, frame: u64, order: u32) {
        let (mut index, mut order) = (frame >> order, order);
        while order < self.top && self.get(order, index ^ 1) {
            self.set(order, index ^ 1, false);
            index >>= 1;
            order += 1;
        }
        self.set(order, index, true);
    }

    fn get(&self, order: u32, index: u64) -> bool {
        // The buddy of the last block may lie past the end of the bitmap: it is not free.
        self.free_blocks.get(order as usize).is_some_and(|bitmap| bitmap.get(self.words, index))
    }

    fn set(&mut self, order: u32, index: u64, free: bool) {
        if let Some(bitmap) = self.free_blocks.get(order as usize) {
            bitmap.set(self.words, index, free);
        }
    }

    fn first(&self, order: u32) -> Option<u64> {
        self.free_blocks.get(order as usize)?.first(self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FRAME, order_for};
    use proptest::prelude::*;

    #[test]
    fn orders() {
        assert_eq!([0, 1, FRAME, FRAME + 1, 16 << 20].map(order_for), [0, 0, 0, 1, 8]);
    }

    #[test]
    fn all_memory_can_be_had_and_given_back() {
        let span = Range::sized(0, 100 * FRAME);
        let mut words = vec![0; Frames::words_for(span)];
        let mut frames = Frames::new(span, &mut words).unwrap();
        frames.add(Range { start: 3 * FRAME + 1, end: 99 * FRAME - 1 });
        assert_eq!(frames.free(), 94);
        let all: Vec<u64> = std::iter::from_fn(|| frames.allocate(0)).collect();
        assert_eq!(all.len(), 94);
        assert!(all.iter().all(|a| (4 * FRAME..98 * FRAME).contains(a)));
        for a in &all {
            frames.release(*a, 0).unwrap();
        }
        assert_eq!(frames.release(all[0], 0), Err(FreeError));
        assert_eq!(frames.allocate(5), Some(32 * FRAME));
        assert_eq!(frames.allocate(6), None);
    }

    #[test]
    fn too_little_storage_is_refused() {
        let span = Range::sized(1 << 32, 1 << 30);
        let mut words = vec![0; Frames::words_for(span) - 1];
        assert!(Frames::new(span, &mut words).is_none());
    }

    proptest! {
        #[test]
        fn blocks_are_aligned_and_disjoint(
            start in 0u64..300, len in 1u64..500,
            steps in prop::collection::vec((any::<bool>(), 0u32..7, any::<prop::sample::Index>()), 1..200),
        ) {
            let span = Range::sized(start * FRAME, len * FRAME);
            let mut words = vec![0; Frames::words_for(span)];
            let mut frames = Frames::new(span, &mut words).unwrap();
            frames.add(span);
            let mut held: Vec<(u64, u32)> = vec![];
            for (take, order, which) in steps {
                if take {
                    if let Some(a) = frames.allocate(order) {
                        let end = a + (FRAME << order);
                        prop_assert!(a >= span.start && end <= span.end && a % (FRAME << order) == 0);
                        prop_assert!(held.iter().all(|&(b, o)| end <= b || b + (FRAME << o) <= a));
                        held.push((a, order));
                    }
                } else if !held.is_empty() {
                    let (a, o) = held.swap_remove(which.index(held.len()));
                    prop_assert_eq!(frames.release(a, o), Ok(()));
                    prop_assert_eq!(frames.release(a, o), Err(FreeError));
                }
                let used: u64 = held.iter().map(|&(_, o)| 1u64 << o).sum();
                prop_assert_eq!(frames.free() + used, len);
            }
            for (a, o) in held {
                prop_assert_eq!(frames.release(a, o), Ok(()));
            }
            let largest = 63 - len.leading_zeros();
            let _ = frames.allocate(largest.saturating_sub(1)).unwrap();
        }
    }
}
