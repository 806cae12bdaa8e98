//! How much of the host's memory a partition takes before its guest touches any: its page table and what is beside it. What the guest has
//! is given to it page by page, and may be more than the host has.

/// The smallest page table that the architecture knows, as log2 of its bytes.
pub const MIN_SHIFT: u32 = 18;
/// By how many steps the page table of a partition may be shorter than usual, where the host has no more memory.
const STEPS: u32 = 2;

/// log2 of the usual length of a page table in bytes: 1/128 of the memory it is for, at least 256 KiB.
pub const fn usual_shift(memory: u64) -> u32 {
    let shift = (memory / 128).next_power_of_two().trailing_zeros();
    if shift < MIN_SHIFT { MIN_SHIFT } else { shift }
}

/// log2 of the least length that a partition is defined with.
pub const fn least_shift(memory: u64) -> u32 {
    let shift = usual_shift(memory) - STEPS;
    if shift < MIN_SHIFT { MIN_SHIFT } else { shift }
}

/// The least that a partition with so many bytes of memory takes: the page table, a word for each of its groups of 128 bytes, two
/// blocks of 64 KiB for entries and odd ends, and 16 bytes for each 64 KiB of memory.
pub const fn least_bytes(memory: u64) -> u64 {
    let table = 1 << least_shift(memory);
    table + table / 16 + (2 << 16) + memory / (64 << 10) * 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_of_the_memory() {
        assert_eq!(usual_shift(512 << 20), 22);
        assert_eq!(usual_shift((512 << 20) + 1), 22, "the division rounds down");
        assert_eq!(usual_shift(600 << 20), 23);
        assert_eq!(usual_shift(16 << 20), MIN_SHIFT);
        assert_eq!((least_shift(512 << 20), least_shift(64 << 20)), (20, 18));
        // 64 GiB on a host of 4 GiB.
        assert!(least_bytes(64 << 30) < 160 << 20);
    }
}
