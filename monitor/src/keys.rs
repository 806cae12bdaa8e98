//! From the bytes of a terminal to keys: control characters, escape sequences (ECMA-48, as xterm and the VT100 send them)
//! and UTF-8.

/// What a person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character to be inserted; never a control character.
    Char(char),
    /// The end of a line: CR, LF, or CR and LF together.
    Enter,
    /// Deletes the character before the cursor.
    Backspace,
    /// Deletes the character under the cursor.
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// Ctrl-U: deletes everything before the cursor.
    KillBefore,
    /// Ctrl-K: deletes everything from the cursor on.
    KillAfter,
    /// Ctrl-W: deletes the word before the cursor.
    KillWord,
    /// Ctrl-C: forgets the line.
    Abandon,
    /// Ctrl-L: clears the screen.
    Clear,
    /// Tab.
    Complete,
}

/// Where in a key's bytes the decoder is.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Between keys.
    Ground,
    /// After ESC.
    Escape,
    /// After ESC `[`, with the first parameter; `more` once that is complete.
    Sequence { number: u16, more: bool },
    /// After ESC `O`.
    Application,
    /// In a character of several bytes, of which `bytes[..length]` have come.
    Text { bytes: [u8; 4], length: usize },
}

/// The decoder. What it does not know it swallows whole, so that no part of it is taken for text.
#[derive(Debug)]
pub(crate) struct Keys {
    state: State,
    /// The last byte was CR: an LF belongs to it.
    after_return: bool,
}

impl Keys {
    pub(crate) const fn new() -> Self {
        Self { state: State::Ground, after_return: false }
    }

    /// Takes one byte; the key that it completes, if any.
    pub(crate) fn key(&mut self, byte: u8) -> Option<Key> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        if byte == b'\n' && after_return {
            return None;
        }
        match (core::mem::replace(&mut self.state, State::Ground), byte) {
            (State::Escape, b'[') => {
                self.state = State::Sequence { number: 0, more: false };
                None
            }
            (State::Escape, b'O') => {
                self.state = State::Application;
                None
            }
            // Alt and a key.
            (State::Escape, 0x20..=0x7e) => None,
            (State::Sequence { number, more }, 0x20..=0x3f) => {
                self.state = match byte {
                    b'0'..=b'9' if !more => {
                        let number = number.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                        State::Sequence { number, more }
                    }
                    _ => State::Sequence { number, more: true },
                };
                None
            }
            (State::Sequence { number, .. }, 0x40..=0x7e) => sequence(number, byte),
            (State::Application, 0x20..=0x7e) => sequence(0, byte),
            (State::Text { bytes, length }, 0x80..=0xbf) => self.text(bytes, length, byte),
            // A control character, or the first byte of another character, cuts off whatever was begun.
            _ => self.first(byte),
        }
    }

    /// The first byte of a key.
    fn first(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            0x01 => Key::Home,
            0x03 => Key::Abandon,
            0x05 => Key::End,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Complete,
            b'\r' | b'\n' => Key::Enter,
            0x0b => Key::KillAfter,
            0x0c => Key::Clear,
            0x15 => Key::KillBefore,
            0x17 => Key::KillWord,
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            0x00..=0x1f => return None,
            0x20..=0x7e => Key::Char(char::from(byte)),
            0x80..=0xff => return self.text([0; 4], 0, byte),
        })
    }

    /// Another byte of a character of several.
    fn text(&mut self, mut bytes: [u8; 4], length: usize, byte: u8) -> Option<Key> {
        *bytes.get_mut(length)? = byte;
        let length = length + 1;
        match core::str::from_utf8(&bytes[..length]) {
            Ok(text) => text.chars().next().filter(|c| !c.is_control()).map(Key::Char),
            Err(error) => {
                if error.error_len().is_none() {
                    self.state = State::Text { bytes, length };
                }
                None
            }
        }
    }
}

/// The key of a whole escape sequence: its first parameter and its last byte. Modifiers do not matter.
fn sequence(number: u16, last: u8) -> Option<Key> {
    Some(match (last, number) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', 1 | 7) => Key::Home,
        (b'F', _) | (b'~', 4 | 8) => Key::End,
        (b'~', 3) => Key::Delete,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::new();
        bytes.iter().filter_map(|&byte| keys.key(byte)).collect()
    }

    #[test]
    fn every_key() {
        for (bytes, key) in [
            (&b"a"[..], Key::Char('a')),
            (b" ", Key::Char(' ')),
            (b"~", Key::Char('~')),
            ("\u{e9}".as_bytes(), Key::Char('\u{e9}')),
            ("\u{20ac}".as_bytes(), Key::Char('\u{20ac}')),
            ("\u{1f600}".as_bytes(), Key::Char('\u{1f600}')),
            (b"\r", Key::Enter),
            (b"\n", Key::Enter),
            (b"\x08", Key::Backspace),
            (b"\x7f", Key::Backspace),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[A", Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x1b[B", Key::Down),
            (b"\x1bOB", Key::Down),
            (b"\x1b[C", Key::Right),
            (b"\x1bOC", Key::Right),
            (b"\x1b[1;5C", Key::Right),
            (b"\x1b[D", Key::Left),
            (b"\x1bOD", Key::Left),
            (b"\x1b[H", Key::Home),
            (b"\x1bOH", Key::Home),
            (b"\x1b[1~", Key::Home),
            (b"\x01", Key::Home),
            (b"\x1b[F", Key::End),
            (b"\x1bOF", Key::End),
            (b"\x1b[4~", Key::End),
            (b"\x05", Key::End),
            (b"\x15", Key::KillBefore),
            (b"\x0b", Key::KillAfter),
            (b"\x17", Key::KillWord),
            (b"\x03", Key::Abandon),
            (b"\x0c", Key::Clear),
            (b"\t", Key::Complete),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:02x?}");
        }
    }

    #[test]
    fn carriage_return_and_line_feed_are_one_end() {
        assert_eq!(keys(b"\r\n"), [Key::Enter]);
        assert_eq!(keys(b"\r\n\r\n"), [Key::Enter; 2]);
        assert_eq!(keys(b"\n\n"), [Key::Enter; 2]);
        assert_eq!(keys(b"\r\r"), [Key::Enter; 2]);
        assert_eq!(keys(b"\n\r"), [Key::Enter; 2]);
        assert_eq!(keys(b"\rx\n"), [Key::Enter, Key::Char('x'), Key::Enter]);
    }

    #[test]
    fn unknown_sequences_are_swallowed_whole() {
        for bytes in [
            &b"\x1b[15~"[..],
            b"\x1b[200~",
            b"\x1b[?25h",
            b"\x1b[99999999999999999999~",
            b"\x1bOP",
            b"\x1bb",
            b"\x00",
            b"\x1d",
            b"\xc2\x9b",
        ] {
            assert_eq!(keys(bytes), [], "{bytes:02x?}");
        }
    }

    #[test]
    fn a_control_character_cuts_a_sequence_off() {
        assert_eq!(keys(b"\x1b\r"), [Key::Enter]);
        assert_eq!(keys(b"\x1b[3\r"), [Key::Enter]);
        assert_eq!(keys(b"\x1bO\x03"), [Key::Abandon]);
        assert_eq!(keys(b"\x1b[\x1b[A"), [Key::Up]);
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Up]);
        assert_eq!(keys(b"\x1b[1\xc3\xa9"), [Key::Char('\u{e9}')]);
    }

    #[test]
    fn broken_characters_are_dropped() {
        assert_eq!(keys(b"\xc3x"), [Key::Char('x')]);
        assert_eq!(keys(b"\xc3\r"), [Key::Enter]);
        assert_eq!(keys(b"\x80\xbf\xffx"), [Key::Char('x')]);
        assert_eq!(keys(b"\xe2\x82\xc3\xa9"), [Key::Char('\u{e9}')]);
        assert_eq!(keys(b"\xed\xa0\x80x"), [Key::Char('x')]); // half of a surrogate pair
        assert_eq!(keys(b"\xc0\x80x"), [Key::Char('x')]); // NUL, too long
    }
}
