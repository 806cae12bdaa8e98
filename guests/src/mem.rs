//! Real memory outside of the program, by real address: the playground of the tests.
#![allow(unsafe_code)] // accesses by address

/// The first real address that does not belong to the program.
pub const ARENA: u64 = 0x40_0000;

macro_rules! access {
    ($($read:ident $write:ident $ty:ty;)*) => { $(
        #[doc = concat!("Reads a ", stringify!($ty), " of this build's byte order; aligned, outside of the program.")]
        pub fn $read(address: u64) -> $ty {
            assert!(address >= ARENA && address % size_of::<$ty>() as u64 == 0, "{address:#x}");
            // SAFETY: aligned, and no Rust object lives above ARENA (linker script); real mode, so nothing faults
            // but an address outside of memory, which is a test's own doing.
            unsafe { (address as *const $ty).read_volatile() }
        }

        #[doc = concat!("Writes a ", stringify!($ty), " likewise.")]
        pub fn $write(address: u64, value: $ty) {
            assert!(address >= ARENA && address % size_of::<$ty>() as u64 == 0, "{address:#x}");
            // SAFETY: as for reading.
            unsafe { (address as *mut $ty).write_volatile(value) }
        }
    )* };
}

access! {
    read8 write8 u8;
    read16 write16 u16;
    read32 write32 u32;
    read64 write64 u64;
}

/// Fills a range with a byte.
pub fn fill(address: u64, length: u64, byte: u8) {
    let word = u64::from_ne_bytes([byte; 8]);
    for at in (address..address + length).step_by(8) {
        write64(at, word);
    }
}

/// Is every byte of the range this one?
pub fn is_filled(address: u64, length: u64, byte: u8) -> bool {
    let word = u64::from_ne_bytes([byte; 8]);
    (address..address + length).step_by(8).all(|at| read64(at) == word)
}
