//! Bytes and numbers, singles and doubles.

/// Bytes as a number.
pub(super) fn number(bytes: &[u8], little: bool) -> u128 {
    let add = |number: u128, byte: &u8| number << 8 | u128::from(*byte);
    if little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
}

/// Elements of a vector, the first one leftmost.
pub(super) fn join<'a>(elements: impl Iterator<Item = &'a [u8]>, little: bool) -> u128 {
    elements.fold(0, |vector: u128, element| {
        vector.checked_shl(8 * element.len() as u32).unwrap_or(0) | number(element, little)
    })
}

/// The low bytes of a number, as many as there is room for.
pub(super) fn put(to: &mut [u8], number: u128, little: bool) {
    let of = number.to_le_bytes();
    let n = to.len().min(of.len());
    to[..n].copy_from_slice(&of[..n]);
    if !little {
        to[..n].reverse();
    }
}

/// A single in double format, as loads do it (Power ISA 3.0C, book I, 4.6.2): exactly, NaNs of both kinds included.
pub(super) const fn to_double(single: u32) -> u64 {
    let sign = (single as u64 >> 31) << 63;
    let exponent = single as u64 >> 23 & 0xff;
    let fraction = single as u64 & 0x7f_ffff;
    let magnitude = match (exponent, fraction) {
        (0, 0) => 0,
        (0, _) => {
            // Denormalized: the leading one goes to bit 52, where it adds one to the exponent.
            let shift = fraction.leading_zeros() - 11;
            (fraction << shift) + ((925 - shift as u64) << 52)
        }
        (255, _) => 0x7ff << 52 | fraction << 29,
        _ => (exponent + 896) << 52 | fraction << 29,
    };
    sign | magnitude
}

/// A double in single format, as stores do it (Power ISA 3.0C, book I, 4.6.3): without rounding, for it holds a single's value. What the
/// architecture leaves undefined is as processors have it.
pub(super) const fn to_single(double: u64) -> u32 {
    let sign = (double >> 63 << 31) as u32;
    let exponent = double >> 52 & 0x7ff;
    let fraction = double & 0xf_ffff_ffff_ffff;
    if exponent > 896 || double << 1 == 0 {
        (double >> 62 << 30) as u32 | (double >> 29 & 0x3fff_ffff) as u32
    } else if exponent >= 874 {
        sign | ((1 << 52 | fraction) >> (926 - exponent)) as u32
    } else {
        sign
    }
}
