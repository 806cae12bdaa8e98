//! A set of host CPUs, by their number: 0 is the first one that the firmware describes.

use core::fmt;

/// The most host CPUs.
pub const MAX_CPUS: usize = 256;

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuSet([u64; MAX_CPUS / 64]);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: CpuSet = CpuSet([0; MAX_CPUS / 64]);
    /// Every CPU that there may be.
    pub const ALL: CpuSet = CpuSet([u64::MAX; MAX_CPUS / 64]);

    /// Only this one.
    pub fn one(cpu: usize) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        set.insert(cpu);
        set
    }

    /// The first `n`.
    pub fn first(n: usize) -> CpuSet {
        (0..n).collect()
    }

    /// Is it in the set?
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 != 0)
    }

    /// Adds one; numbers from [`MAX_CPUS`] on are not added.
    pub fn insert(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word &= !(1 << (cpu % 64));
        }
    }

    /// Is it empty?
    pub fn is_empty(&self) -> bool {
        self.0 == [0; MAX_CPUS / 64]
    }

    /// The lowest one.
    pub fn lowest(&self) -> Option<usize> {
        let (at, word) = self.0.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some(at * 64 + word.trailing_zeros() as usize)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Those in both sets.
    pub fn and(&self, other: &CpuSet) -> CpuSet {
        let mut both = *self;
        both.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
        both
    }

    /// The set as 64 CPUs a word, the first at bit 0.
    pub(crate) fn words(&self) -> &[u64; MAX_CPUS / 64] {
        &self.0
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..MAX_CPUS).filter(|cpu| self.contains(*cpu))
    }

    /// From a list of numbers and ranges, as in `0-3,8`; `None` if it is none, is empty, or names a CPU from [`MAX_CPUS`] on.
    pub fn parse(text: &str) -> Option<CpuSet> {
        let mut set = CpuSet::EMPTY;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<usize>().ok().filter(|n| digits && *n < MAX_CPUS)
        };
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first.trim())?, number(last.trim())?);
            if first > last {
                return None;
            }
            (first..=last).for_each(|cpu| set.insert(cpu));
        }
        Some(set)
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        cpus.into_iter().for_each(|cpu| set.insert(cpu));
        set
    }
}

/// As [`CpuSet::parse`] reads it.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpu = 0;
        let mut separator = "";
        while cpu < MAX_CPUS {
            if !self.contains(cpu) {
                cpu += 1;
                continue;
            }
            let first = cpu;
            while self.contains(cpu + 1) {
                cpu += 1;
            }
            write!(f, "{separator}{first}")?;
            if cpu > first {
                write!(f, "-{cpu}")?;
            }
            separator = ",";
            cpu += 1;
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn reads_and_writes_lists() {
        for (text, shown, n) in
            [("0", "0", 1), ("0-1", "0-1", 2), ("3, 1-2,7", "1-3,7", 4), ("255", "255", 1)]
        {
            let set = CpuSet::parse(text).unwrap();
            assert_eq!((set.to_string().as_str(), set.len()), (shown, n));
        }
        for bad in ["", ",", "1-", "-1", "2-1", "256", "0-256", "a", "+1", "1,,2", "0x1"] {
            assert_eq!(CpuSet::parse(bad), None, "{bad}");
        }
        assert_eq!(CpuSet::ALL.to_string(), "0-255");
    }
}
