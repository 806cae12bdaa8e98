//! Text through H_PUT_TERM_CHAR, on the first virtual terminal.

use crate::hcall::status;
use core::fmt;
use power::{Hcall, Status};

struct Chunk {
    bytes: [u8; 16],
    len: usize,
}

impl Chunk {
    fn flush(&mut self) {
        if self.len == 0 {
            return;
        }
        let (a, b) = self.bytes.split_at(8);
        let words = [a, b].map(|w| u64::from_be_bytes(w.try_into().expect("eight bytes")));
        while status(Hcall::PUT_TERM_CHAR, &[0, self.len as u64, words[0], words[1]]) == Status::BUSY {}
        *self = Chunk { bytes: [0; 16], len: 0 };
    }
}

impl fmt::Write for Chunk {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            self.bytes[self.len] = byte;
            self.len += 1;
            if self.len == 16 {
                self.flush();
            }
        }
        Ok(())
    }
}

/// Prints; use [`crate::println!`].
pub fn print(args: fmt::Arguments) {
    let mut chunk = Chunk { bytes: [0; 16], len: 0 };
    let _ = fmt::write(&mut chunk, args);
    chunk.flush();
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\r\n", format_args!($($arg)*))) };
}
