//! Where things are in a partition with a host bridge: addresses and interrupt sources.

use core::ops::Range;

/// The host bridge's unit, by which RTAS calls name it.
pub const UNIT: u64 = 0x0800_0000_2000_0000;

/// The real addresses at which emulated functions answer: above all memory and devices of the host, below the page that says who the
/// partition is. First those of 32-bit addresses on the bus, then the others.
pub const EMULATED: Range<u64> = 0xf0_8000_0000..0xf2_0000_0000;
/// 32-bit addresses on the bus, and what to add to them.
pub const LOW: Range<u64> = 0x8000_0000..0x1_0000_0000;
/// See [`LOW`].
pub const LOW_OFFSET: u64 = 0xf0_0000_0000;
/// The other addresses on the bus are the real ones.
pub const HIGH: Range<u64> = 0xf1_0000_0000..0xf2_0000_0000;
const _: () = assert!(LOW.start + LOW_OFFSET == EMULATED.start && LOW.end + LOW_OFFSET == HIGH.start);

/// The real address of what is at an address on the bus.
pub(crate) fn real(at: u64) -> u64 {
    if LOW.contains(&at) { at + LOW_OFFSET } else { at }
}

/// The number of the first DMA window, which every bridge has: 1 GiB from bus address 0 on, in pages of 4 KiB.
pub const WINDOW: u32 = 0x8000_0000;
/// log2 of its length.
pub const WINDOW_SHIFT: u32 = 30;
/// log2 of the length of its pages, and how many there are.
pub const FIRST_WINDOW: (u32, u64) = (12, 1 << (WINDOW_SHIFT - 12));
/// The number of the window that a guest may have made for it.
pub const SECOND_WINDOW: u32 = 0x8000_0001;
/// Where that is on the bus.
pub const SECOND_WINDOW_BASE: u64 = 1 << 59;

/// The bus address to which messages go. Their data is the number of an interrupt source.
pub const MESSAGES_AT: u64 = 0x400_0000_0000;
/// How many interrupt lines the slots share.
pub const LINES: u32 = 4;
/// How many messages there are.
pub const MESSAGES: u32 = 128;
/// How many interrupt sources that is.
pub const SOURCES: u32 = LINES + MESSAGES;

/// How many slots there are.
pub const SLOTS: usize = 32;
