//! One value of an answer, for people and for programs.

use alloc::string::String;
use core::fmt::{self, Display, Formatter, Write};

/// A value and its kind, which says how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Words. Control characters are written as escapes, so that a guest's words cannot steer the terminal.
    Text(String),
    /// A plain number.
    Number(u64),
    /// An address or a register: `0x` and hexadecimal digits. In JSON it is a string of these, because JSON has no hexadecimal
    /// numbers and many readers keep only 53 bits of a number.
    Hex(u64),
    /// Bytes, as `512M`, with a decimal where that is not exact. In JSON the number of bytes.
    Bytes(u64),
    /// Microseconds, as `850us`, `12.3ms`, `4.5s`, `5m03s`, `2h05m` or `3d04h`. In JSON the number of microseconds.
    Micros(u64),
    /// A share in tenths of a percent: 125 is `12.5%`. In JSON `12.5`.
    Percent(u32),
    /// `yes` or `no`; in JSON `true` or `false`.
    Flag(bool),
    /// Nothing known: `-`; in JSON `null`.
    None,
}

impl Value {
    /// Whether a column of such values is aligned on the right.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Hex(_) | Self::Bytes(_) | Self::Micros(_) | Self::Percent(_))
    }

    /// Writes the value as JSON.
    pub(crate) fn json(&self, out: &mut dyn Write) -> fmt::Result {
        match *self {
            Self::Text(ref text) => string(text, out),
            Self::Number(n) | Self::Bytes(n) | Self::Micros(n) => write!(out, "{n}"),
            Self::Hex(n) => write!(out, "\"{n:#x}\""),
            Self::Percent(tenths) => write!(out, "{}.{}", tenths / 10, tenths % 10),
            Self::Flag(flag) => write!(out, "{flag}"),
            Self::None => out.write_str("null"),
        }
    }
}

/// The value as people read it.
impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Text(ref text) => Clean(text).fmt(f),
            Self::Number(n) => write!(f, "{n}"),
            Self::Hex(n) => write!(f, "{n:#x}"),
            Self::Bytes(n) => bytes(n, f),
            Self::Micros(n) => micros(n, f),
            Self::Percent(tenths) => write!(f, "{}.{}%", tenths / 10, tenths % 10),
            Self::Flag(flag) => f.write_str(if flag { "yes" } else { "no" }),
            Self::None => f.write_str("-"),
        }
    }
}

/// The largest unit that divides the number, unless that leaves more than four digits; then a larger one, cut to a tenth.
fn bytes(n: u64, f: &mut Formatter<'_>) -> fmt::Result {
    const UNITS: [(u32, &str); 6] = [(0, ""), (10, "K"), (20, "M"), (30, "G"), (40, "T"), (50, "P")];
    let exact = |&(shift, _): &(u32, &str)| n != 0 && n.trailing_zeros() >= shift;
    let (shift, unit) = UNITS.into_iter().rev().find(exact).unwrap_or(UNITS[0]);
    if n >> shift < 10_000 {
        return write!(f, "{}{unit}", n >> shift);
    }
    let (shift, unit) = UNITS.into_iter().find(|&(shift, _)| n >> shift < 10_000).unwrap_or((60, "E"));
    let tenths = ((u128::from(n) * 10) >> shift) % 10;
    write!(f, "{}.{tenths}{unit}", n >> shift)
}

fn micros(n: u64, f: &mut Formatter<'_>) -> fmt::Result {
    let seconds = n / 1_000_000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    if n < 1000 {
        write!(f, "{n}us")
    } else if seconds == 0 {
        write!(f, "{}.{}ms", n / 1000, n / 100 % 10)
    } else if minutes == 0 {
        write!(f, "{seconds}.{}s", n / 100_000 % 10)
    } else if hours == 0 {
        write!(f, "{minutes}m{:02}s", seconds % 60)
    } else if hours < 24 {
        write!(f, "{hours}h{:02}m", minutes % 60)
    } else {
        write!(f, "{}d{:02}h", hours / 24, hours % 24)
    }
}

/// Text without control characters: they are written as escapes, as in Rust.
pub(crate) struct Clean<'a>(pub(crate) &'a str);

impl Display for Clean<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Writes a JSON string.
pub(crate) fn string(text: &str, out: &mut dyn Write) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            // JSON only asks for those below space; the others would reach a terminal that shows the answer.
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(value: Value) -> (String, String) {
        let mut json = String::new();
        value.json(&mut json).unwrap();
        (std::format!("{value}"), json)
    }

    #[test]
    fn every_kind() {
        for (value, text, json) in [
            (Value::Text("two words".into()), "two words", "\"two words\""),
            (
                Value::Text("a\"b\\c\n\u{1b}[31m\u{9b}\u{e9}".into()),
                "a\"b\\c\\n\\u{1b}[31m\\u{9b}\u{e9}",
                "\"a\\\"b\\\\c\\n\\u001b[31m\\u009b\u{e9}\"",
            ),
            (Value::Text("\t\r\0".into()), "\\t\\r\\u{0}", "\"\\t\\r\\u0000\""),
            (Value::Number(u64::MAX), "18446744073709551615", "18446744073709551615"),
            (Value::Hex(0), "0x0", "\"0x0\""),
            (Value::Hex(0xc000_0000_0000_0000), "0xc000000000000000", "\"0xc000000000000000\""),
            (Value::Percent(0), "0.0%", "0.0"),
            (Value::Percent(5), "0.5%", "0.5"),
            (Value::Percent(1000), "100.0%", "100.0"),
            (Value::Flag(true), "yes", "true"),
            (Value::Flag(false), "no", "false"),
            (Value::None, "-", "null"),
        ] {
            assert_eq!(both(value), (text.into(), json.into()));
        }
    }

    #[test]
    fn bytes_in_the_unit_that_fits() {
        for (n, text) in [
            (0, "0"),
            (1, "1"),
            (1000, "1000"),
            (1024, "1K"),
            (65536, "64K"),
            (512 << 20, "512M"),
            (1536 << 20, "1536M"),
            (1 << 30, "1G"),
            (4 << 40, "4T"),
            (10_001, "9.7K"),
            ((512 << 20) + 65536, "512.0M"),
            ((10 << 30) + (512 << 20), "10.5G"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(both(Value::Bytes(n)), (text.into(), std::format!("{n}")));
        }
    }

    #[test]
    fn times_in_the_unit_that_fits() {
        for (n, text) in [
            (0, "0us"),
            (999, "999us"),
            (1000, "1.0ms"),
            (12_399, "12.3ms"),
            (999_999, "999.9ms"),
            (1_000_000, "1.0s"),
            (59_999_999, "59.9s"),
            (60_000_000, "1m00s"),
            (303_000_000, "5m03s"),
            (3_599_999_999, "59m59s"),
            (3_600_000_000, "1h00m"),
            (86_399_999_999, "23h59m"),
            (86_400_000_000, "1d00h"),
            (4 * 86_400_000_000 + 7 * 3_600_000_000, "4d07h"),
        ] {
            assert_eq!(both(Value::Micros(n)), (text.into(), std::format!("{n}")));
        }
    }
}
