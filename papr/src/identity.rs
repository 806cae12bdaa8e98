//! The identity page: 64 KiB of RAM beyond a partition's memory, by which it sees that it is a copy, or has been put back into a state
//! that it has left before. Whatever it draws from what it knew then (random numbers, say) was drawn already.
//!
//! The device tree has it by the binding `microsoft,vmgenid`: a random identifier, and an interrupt when it has changed. What
//! follows it there is this hypervisor's own:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 16 | the identifier |
//! | 64 | 64 | the partition's name, ended and filled up with NULs |
//! | 128 | 8 | how often the identifier has changed, big endian |
//!
//! All else is zero. The partition may write to it; nobody reads that. Linux maps it cache-inhibited, as it does with everything
//! that is not memory, and reads it with plain loads.

/// The length of the page.
pub const PAGE_BYTES: u64 = 1 << 16;
/// The offset of the name.
pub const NAME: usize = 64;
/// The offset of the count.
pub const COUNT: usize = 128;
/// How many bytes of the page mean something.
pub const USED_BYTES: usize = 136;
/// The longest name.
const MAX_NAME: usize = COUNT - NAME - 1;

/// Where the page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdentityPage {
    /// Its real address: whole pages, beyond the partition's memory.
    pub base: u64,
    /// The interrupt source that tells of a change, by messages.
    pub source: u32,
}

/// Who a partition is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity<'a> {
    /// The identifier: random, and never the same again.
    pub id: [u8; 16],
    /// The partition's name. What of it is beyond 63 bytes, or behind a NUL, is not told.
    pub name: &'a str,
    /// How often the identifier has changed since the partition, or the one that it is a copy of, was started.
    pub count: u64,
}

impl Identity<'_> {
    /// The first bytes of the page; the others are zero.
    pub fn bytes(&self) -> [u8; USED_BYTES] {
        let mut bytes = [0; USED_BYTES];
        let name = self.name.bytes().take(MAX_NAME).take_while(|byte| *byte != 0);
        let content = [(0, &self.id[..]), (COUNT, &self.count.to_be_bytes()[..])];
        for (at, content) in content {
            bytes.iter_mut().skip(at).zip(content).for_each(|(slot, byte)| *slot = *byte);
        }
        bytes.iter_mut().skip(NAME).zip(name).for_each(|(slot, byte)| *slot = byte);
        bytes
    }

    /// The identifier as H_PARTITA_IDENTITY has it, in two registers: first byte first.
    pub fn words(&self) -> (u64, u64) {
        let both = u128::from_be_bytes(self.id);
        ((both >> 64) as u64, both as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = *b"0123456789abcdef";

    #[test]
    fn the_layout() {
        let identity = Identity { id: ID, name: "debian-2", count: 0x102 };
        let bytes = identity.bytes();
        assert_eq!(bytes[..16], ID);
        assert_eq!(bytes[16..64], [0; 48]);
        assert_eq!(bytes[64..73], *b"debian-2\0");
        assert_eq!(bytes[73..128], [0; 55]);
        assert_eq!(bytes[128..], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(identity.words(), (u64::from_be_bytes(*b"01234567"), u64::from_be_bytes(*b"89abcdef")));
    }

    #[test]
    fn names_end_with_a_nul() {
        let long = "x".repeat(100);
        for (name, told) in [(&long[..63], 63), (&long[..64], 63), (&long, 63), ("ab\0c", 2), ("", 0)] {
            let bytes = Identity { id: ID, name, count: !0 }.bytes();
            assert_eq!(bytes[NAME..NAME + told], name.as_bytes()[..told]);
            assert_eq!(bytes[NAME + told], 0);
            assert_eq!(bytes[COUNT..], [0xff; 8]);
        }
    }
}
