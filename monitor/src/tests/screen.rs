//! As much of a terminal as the editor needs, to see what a person would see.

use std::string::String;
use std::vec::Vec;

use crate::editor::COLUMNS;

/// The rows printed so far and the cursor. A row that overflows is a failure: the editor must not depend on wrapping.
#[derive(Default)]
pub(super) struct Screen {
    rows: Vec<Vec<char>>,
    column: usize,
    /// How often the bell rang.
    pub(super) bells: usize,
    /// How often it was cleared.
    pub(super) cleared: usize,
    escape: String,
}

impl Screen {
    /// The row of the cursor, without the spaces at its end.
    pub(super) fn row(&self) -> String {
        self.rows.last().map_or_else(String::new, |row| text(row))
    }

    /// All rows above that of the cursor.
    pub(super) fn above(&self) -> Vec<String> {
        let above = self.rows.len().saturating_sub(1);
        self.rows[..above].iter().map(|row| text(row)).collect()
    }

    pub(super) fn column(&self) -> usize {
        self.column
    }

    fn put(&mut self, c: char) {
        if self.rows.is_empty() {
            self.rows.push(Vec::new());
        }
        let row = self.rows.last_mut().unwrap();
        match c {
            '\r' => self.column = 0,
            '\n' => {
                self.rows.push(Vec::new());
                self.column = 0;
            }
            '\x08' => self.column = self.column.checked_sub(1).expect("backspace at the first column"),
            '\x07' => self.bells += 1,
            '\x1b' => self.escape.push(c),
            c => {
                assert!(!c.is_control(), "{c:?}");
                row.resize(row.len().max(self.column + 1), ' ');
                row[self.column] = c;
                self.column += 1;
                assert!(self.column < COLUMNS, "the row overflows: {row:?}");
            }
        }
    }

    fn escape(&mut self, c: char) {
        self.escape.push(c);
        match self.escape.as_str() {
            "\x1b[K" => self.rows.last_mut().unwrap().truncate(self.column),
            "\x1b[H" => self.column = 0,
            "\x1b[2J" => {
                self.rows.clear();
                self.rows.push(Vec::new());
                self.cleared += 1;
            }
            "\x1b[" | "\x1b[2" => return,
            other => panic!("unknown sequence {other:?}"),
        }
        self.escape.clear();
    }
}

fn text(row: &[char]) -> String {
    row.iter().collect::<String>().trim_end().into()
}

impl core::fmt::Write for Screen {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for c in text.chars() {
            if self.escape.is_empty() { self.put(c) } else { self.escape(c) }
        }
        Ok(())
    }
}
