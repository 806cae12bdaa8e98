//! Ranges of addresses.

use alloc::format;
use alloc::string::String;

/// Reads `START+LENGTH` or `START-END`, END not included: the first address and how many there are, not none.
pub(crate) fn parse(word: &str) -> Result<(u64, u64), String> {
    let no_range = || {
        format!("'{word}' is no range: expected START+LENGTH or START-END, as in 0x10000+64K or 10000-20000")
    };
    let at = word.find(['+', '-']).ok_or_else(no_range)?;
    let start = number(&word[..at]).ok_or_else(no_range)?;
    let second = number(&word[at + 1..]).ok_or_else(no_range)?;
    let (bytes, end) = match word.as_bytes()[at] {
        b'+' => (Some(second), start.checked_add(second)),
        _ => (second.checked_sub(start), Some(second)),
    };
    if end.is_none() {
        return Err(format!("'{word}' does not end within 64 bits"));
    }
    bytes.filter(|bytes| *bytes != 0).map(|bytes| (start, bytes)).ok_or_else(|| {
        format!("'{word}' is empty: the end, which is not part of it, must be above the start")
    })
}

/// A number of bytes in decimal, with or without K, M or G.
pub(crate) fn size(text: &str) -> Option<u64> {
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        return text.parse().ok().filter(|_| !text.starts_with('+'));
    }
    number(text).filter(|_| text.ends_with(['K', 'k', 'M', 'm', 'G', 'g']))
}

/// A number in hexadecimal, with or without 0x, or in decimal with K, M or G.
fn number(text: &str) -> Option<u64> {
    let shift = match text.as_bytes().last()? {
        b'K' | b'k' => 10,
        b'M' | b'm' => 20,
        b'G' | b'g' => 30,
        _ => {
            let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
            return u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
        }
    };
    let digits = &text[..text.len() - 1];
    let number: u64 = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        for (word, start, bytes) in [
            ("10000+20000", 0x1_0000, 0x2_0000),
            ("0x10000+64K", 0x1_0000, 0x1_0000),
            ("0x10000-0X30000", 0x1_0000, 0x2_0000),
            ("16m-1G", 16 << 20, (1 << 30) - (16 << 20)),
            ("0-1", 0, 1),
            ("64k+8", 65536, 8),
            ("100M+0x100", 100 << 20, 256),
            ("ffffffffffff0000+ffff", 0xffff_ffff_ffff_0000, 0xffff),
            ("0-ffffffffffffffff", 0, u64::MAX),
        ] {
            assert_eq!(parse(word), Ok((start, bytes)), "{word}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for word in [
            "",
            "+",
            "-",
            "1000",
            "1000+",
            "+1000",
            "-1000",
            "1++2",
            "1--2",
            "1+-2",
            "1-2-3",
            "x+1",
            "1+0x",
            "K+1",
            "1K",
            "0x1K+1",
            "aK+1",
            "\u{e9}+1",
            "1+\u{e9}",
            "17179869184G+1",
            "11112222333344445+1",
        ] {
            let error = parse(word).unwrap_err();
            assert!(
                error.starts_with(&format!("'{word}' is no range: expected START+LENGTH or START-END")),
                "{error}"
            );
        }
        for word in ["0+0", "1000+0", "1000-1000", "1000-fff", "2K-1K"] {
            assert!(parse(word).unwrap_err().starts_with(&format!("'{word}' is empty")), "{word}");
        }
        for word in ["ffffffffffff0000+10000", "1+ffffffffffffffff"] {
            assert_eq!(parse(word).unwrap_err(), format!("'{word}' does not end within 64 bits"));
        }
    }
}
