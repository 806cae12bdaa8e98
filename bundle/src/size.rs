//! Sizes as people write them: `65536`, `64K`, `512M`, `2G`.

use core::fmt;

/// Why a size cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeError {
    /// Not digits followed by at most one of `K`, `M`, `G`.
    Format,
    /// More than 64 bits.
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "not a size: write a number with K, M or G, as in 512M",
            Self::TooLarge => "more than 64 bits can hold",
        })
    }
}

impl core::error::Error for SizeError {}

/// Reads a number of bytes: decimal digits, then nothing, `K`, `M` or `G` (powers of 1024; small letters too).
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SizeError::Format);
    }
    let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge)?;
    number.checked_mul(1 << shift).ok_or(SizeError::TooLarge)
}

/// Prints a number of bytes with the largest suffix that divides it, so that [`parse_size`] reads it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, suffix) in [(30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn reads_sizes() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("65536"), Ok(65536));
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("512m"), Ok(512 << 20));
        assert_eq!(parse_size("3G"), Ok(3 << 30));
        for bad in ["", "M", "-1M", "+1M", "1.5G", "1MM", " 1M", "1T", "0x10", "é", "1é"] {
            assert_eq!(parse_size(bad), Err(SizeError::Format), "{bad}");
        }
        assert_eq!(parse_size("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_size("18446744073709551616"), Err(SizeError::TooLarge));
        assert_eq!(parse_size("17179869184G"), Err(SizeError::TooLarge));
    }

    #[test]
    fn prints_what_it_reads() {
        for size in [0, 1, 1000, 1024, 65536, 16 << 20, 3 << 30, u64::MAX, 1 << 63] {
            assert_eq!(parse_size(&Size(size).to_string()), Ok(size));
        }
        assert_eq!(Size(512 << 20).to_string(), "512M");
    }
}
