//! A sorted list of disjoint address ranges.

/// Addresses `start..end`, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// The first.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl Range {
    /// From a start and a length; a length that wraps is cut at the end of the address space.
    pub const fn sized(start: u64, len: u64) -> Range {
        Range { start, end: start.saturating_add(len) }
    }

    /// The length in bytes.
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Does it hold nothing?
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

/// There are more pieces than the list has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Up to `N` disjoint ranges in ascending order.
#[derive(Clone)]
pub struct Ranges<const N: usize> {
    items: [Range; N],
    len: usize,
}

impl<const N: usize> Default for Ranges<N> {
    fn default() -> Self {
        Ranges { items: [Range { start: 0, end: 0 }; N], len: 0 }
    }
}

impl<const N: usize> Ranges<N> {
    /// The ranges.
    pub fn as_slice(&self) -> &[Range] {
        self.items.get(..self.len).unwrap_or(&[])
    }

    /// The sum of their lengths.
    pub fn total(&self) -> u64 {
        self.as_slice().iter().map(|r| r.len()).sum()
    }

    /// Adds a range; it merges with those it touches.
    ///
    /// # Errors
    /// [`Full`]: the list is as it was.
    pub fn add(&mut self, new: Range) -> Result<(), Full> {
        if new.is_empty() {
            return Ok(());
        }
        let mut merged = new;
        let mut next = Ranges::<N>::default();
        let mut placed = false;
        for &item in self.as_slice() {
            if item.end < merged.start {
                next.push(item)?;
            } else if merged.end < item.start {
                if !placed {
                    next.push(merged)?;
                    placed = true;
                }
                next.push(item)?;
            } else {
                merged = Range { start: merged.start.min(item.start), end: merged.end.max(item.end) };
            }
        }
        if !placed {
            next.push(merged)?;
        }
        *self = next;
        Ok(())
    }

    /// Takes a range away, wherever it overlaps.
    ///
    /// # Errors
    /// [`Full`]: the list is as it was.
    pub fn remove(&mut self, gone: Range) -> Result<(), Full> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut next = Ranges::<N>::default();
        for &item in self.as_slice() {
            next.push(Range { start: item.start, end: item.end.min(gone.start) })?;
            next.push(Range { start: item.start.max(gone.end), end: item.end })?;
        }
        *self = next;
        Ok(())
    }

    /// The highest place for `len` bytes at a multiple of `align` (a power of two), as its start.
    pub fn find_high(&self, len: u64, align: u64) -> Option<u64> {
        self.as_slice().iter().rev().find_map(|r| {
            let start = r.end.checked_sub(len)? & !(align - 1);
            (start >= r.start).then_some(start)
        })
    }

    fn push(&mut self, item: Range) -> Result<(), Full> {
        if !item.is_empty() {
            *self.items.get_mut(self.len).ok_or(Full)? = item;
            self.len += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range() -> impl Strategy<Value = Range> {
        (0u64..64, 0u64..20).prop_map(|(start, len)| Range::sized(start, len))
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_addresses(steps in prop::collection::vec((any::<bool>(), range()), 1..24)) {
            let mut ranges = Ranges::<64>::default();
            let mut model = [false; 128];
            for (add, r) in steps {
                if add { ranges.add(r).unwrap() } else { ranges.remove(r).unwrap() }
                (r.start..r.end).for_each(|a| model[a as usize] = add);
            }
            let inside = |a: u64| ranges.as_slice().iter().any(|r| r.start <= a && a < r.end);
            for a in 0..128 {
                prop_assert_eq!(inside(a), model[a as usize]);
            }
            prop_assert!(ranges.as_slice().windows(2).all(|w| w[0].end < w[1].start));
        }
    }

    #[test]
    fn a_full_list_stays_as_it_was() {
        let mut ranges = Ranges::<2>::default();
        ranges.add(Range::sized(0, 10)).unwrap();
        ranges.add(Range::sized(20, 10)).unwrap();
        assert_eq!(ranges.add(Range::sized(40, 1)), Err(Full));
        assert_eq!(ranges.remove(Range::sized(5, 1)), Err(Full));
        assert_eq!(ranges.total(), 20);
    }

    #[test]
    fn finds_the_highest_aligned_place() {
        let mut ranges = Ranges::<4>::default();
        ranges.add(Range::sized(0x1000, 0x10000)).unwrap();
        ranges.add(Range::sized(0x2_0800, 0x1000)).unwrap();
        assert_eq!(ranges.find_high(0x800, 0x1000), Some(0x2_1000));
        assert_eq!(ranges.find_high(0x1000, 0x1000), Some(0x1_0000));
        assert_eq!(ranges.find_high(0x10_0000, 0x1000), None);
    }
}
