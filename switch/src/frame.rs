//! Frames as a switch sees them.

use core::fmt;

/// The shortest frame: two addresses and a type. (What a cable pads is not padded here.)
pub const MIN_FRAME: usize = 14;

/// The longest: 1500 bytes behind two addresses, a VLAN tag and a type. There are no jumbo frames.
pub const MAX_FRAME: usize = 1518;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of nobody's in particular.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// One made up: the same from the same name and number, and hardly ever the same from others. It begins with 52:54:00, as those that
    /// emulators make up.
    pub fn made_up(name: &[u8], number: u32) -> Mac {
        let hash = name.iter().chain(&number.to_be_bytes()).fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let [.., a, b, c] = (hash ^ hash >> 24 ^ hash >> 48).to_be_bytes();
        Mac([0x52, 0x54, 0x00, a, b, c])
    }

    /// A broadcast or multicast address: bit 0 of the first byte.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Where a frame goes and where it comes from, if it is long enough, and not too long.
    pub(crate) fn of_frame(frame: &[u8]) -> Option<(Mac, Mac)> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return None;
        }
        let (to, rest) = frame.split_first_chunk()?;
        Some((Mac(*to), Mac(*rest.first_chunk()?)))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A checksum that has not been added up (`VIRTIO_NET_HDR_F_NEEDS_CSUM`): that of the bytes from `start` to the frame's end belongs
/// `offset` bytes behind `start`, where the part of it that the bytes before `start` make is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partial {
    start: u16,
    offset: u16,
}

impl Partial {
    /// If it lies in a frame of so many bytes, behind the addresses.
    pub fn new(start: u16, offset: u16, frame: usize) -> Option<Partial> {
        let end = usize::from(start) + usize::from(offset) + 2;
        (usize::from(start) >= MIN_FRAME && end <= frame).then_some(Partial { start, offset })
    }

    /// The first byte that counts.
    pub const fn start(self) -> u16 {
        self.start
    }

    /// How far behind it the checksum is.
    pub const fn offset(self) -> u16 {
        self.offset
    }

    /// Adds it up. A sum of zero is stored as all ones, the same number: UDP takes zeroes for none.
    pub fn finish(self, frame: &mut [u8]) {
        let sum = match sum(frame.get(usize::from(self.start)..).unwrap_or(&[])) {
            0xffff => 0xffff,
            sum => !sum,
        };
        let at = usize::from(self.start) + usize::from(self.offset);
        if let Some(field) = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *field = sum.to_be_bytes();
        }
    }
}

/// The sum of big-endian 16 bit numbers in ones' complement (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let (eights, rest) = bytes.as_chunks();
    let mut wide: u128 = eights.iter().map(|eight| u128::from(u64::from_be_bytes(*eight))).sum();
    let mut last = [0; 8];
    if let Some(room) = last.get_mut(..rest.len()) {
        room.copy_from_slice(rest);
    }
    wide += u128::from(u64::from_be_bytes(last));
    while wide > 0xffff {
        wide = (wide & 0xffff) + (wide >> 16);
    }
    wide as u16
}
