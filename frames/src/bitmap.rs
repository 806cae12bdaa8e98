//! A bitmap whose first set bit is found in a few steps, however long it is.

/// log2 of the bits in a word.
const WORD_SHIFT: u32 = 6;
/// Enough for 2^36 bits.
const LEVELS: usize = 6;

/// Where the words of a bitmap are among those of several.
///
/// Level 0 has the bits themselves. Bit n of each further level says whether word n of the one below has a bit that is set; the last level is one
/// word.
#[derive(Clone, Copy)]
pub(crate) struct Bitmap {
    start: usize,
    /// Where each level starts, counted from `start`.
    level: [u32; LEVELS],
    levels: u32,
    words: usize,
    bits: u64,
}

impl Bitmap {
    /// Of so many bits, all clear in words that are zero, from word `start` on.
    pub(crate) fn new(start: usize, bits: u64) -> Bitmap {
        let mut map = Bitmap { start, level: [0; LEVELS], levels: 0, words: 0, bits };
        let mut left = bits;
        for level in &mut map.level {
            if left == 0 {
                break;
            }
            let words = left.div_ceil(1 << WORD_SHIFT);
            *level = map.words as u32;
            map.words += words as usize;
            map.levels += 1;
            left = if words == 1 { 0 } else { words };
        }
        map
    }

    /// How many words it takes.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    fn levels(&self) -> impl DoubleEndedIterator<Item = usize> {
        let start = self.start;
        self.level.iter().take(self.levels as usize).map(move |level| start + *level as usize)
    }

    /// Is a bit set? None beyond its end is.
    pub(crate) fn get(&self, words: &[u64], bit: u64) -> bool {
        let word = words.get(self.start + (bit >> WORD_SHIFT) as usize);
        bit < self.bits && word.is_some_and(|word| word >> (bit & 63) & 1 != 0)
    }

    /// Sets or clears a bit.
    pub(crate) fn set(&self, words: &mut [u64], bit: u64, on: bool) {
        let mut bit = bit;
        for level in self.levels() {
            let Some(word) = words.get_mut(level + (bit >> WORD_SHIFT) as usize) else { return };
            let before = *word;
            let mask = 1 << (bit & 63);
            *word = if on { before | mask } else { before & !mask };
            // The level above only knows whether the word is zero.
            if (before == 0) == (*word == 0) {
                return;
            }
            bit >>= WORD_SHIFT;
        }
    }

    /// The first bit that is set.
    pub(crate) fn first(&self, words: &[u64]) -> Option<u64> {
        let mut at = 0;
        for level in self.levels().rev() {
            let word = *words.get(level + at as usize)?;
            if word == 0 {
                return None;
            }
            at = at << WORD_SHIFT | u64::from(word.trailing_zeros());
        }
        (self.bits != 0).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn as_many_levels_as_it_takes() {
        for (bits, words) in [(0, 0), (1, 1), (64, 1), (65, 3), (4096, 65), (4097, 68), (1 << 18, 4096 + 65)]
        {
            assert_eq!(Bitmap::new(0, bits).words(), words, "{bits}");
        }
        assert_eq!(Bitmap::new(0, 0).first(&[]), None);
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            bits in prop_oneof![1u64..200, 4000u64..4200, 262_000u64..262_300],
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            let map = Bitmap::new(3, bits);
            let mut words = vec![0; 3 + map.words()];
            let mut model = BTreeSet::new();
            for (on, which) in steps {
                let bit = which.index(bits as usize) as u64;
                map.set(&mut words, bit, on);
                if on { model.insert(bit); } else { model.remove(&bit); }
                prop_assert_eq!(map.get(&words, bit), on);
                prop_assert_eq!(map.first(&words), model.first().copied());
            }
            for bit in model {
                map.set(&mut words, bit, false);
            }
            prop_assert!(words.iter().all(|word| *word == 0));
            prop_assert!(!map.get(&words, bits));
        }
    }
}
