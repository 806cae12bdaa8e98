//! The line editor: bytes from a serial console in, finished lines and echo out.
//!
//! A serial console does not say how wide it is. The editor keeps to one row of [`COLUMNS`] and shows a window of a
//! longer line, so a carriage return always reaches the prompt and nothing depends on how a terminal wraps.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::history::History;
use crate::keys::{Key, Keys};

/// The longest line, in bytes.
pub(crate) const MAX_LINE: usize = 256;

/// The width of a row. Terminals are at least as wide.
pub(crate) const COLUMNS: usize = 80;

const BELL: &str = "\x07";

/// A line being typed, its cursor, and the lines before it.
#[derive(Debug)]
pub struct Editor {
    prompt: &'static str,
    keys: Keys,
    line: String,
    /// Where the next character goes, in bytes.
    cursor: usize,
    /// The first byte on the screen.
    start: usize,
    history: History,
    /// The last key was a Tab that could not decide.
    undecided: bool,
}

impl Editor {
    /// An empty line. Nothing is printed yet: [`Editor::redraw`] prints the first prompt. The prompt should be a few ASCII
    /// characters.
    pub const fn new(prompt: &'static str) -> Self {
        Self {
            prompt,
            keys: Keys::new(),
            line: String::new(),
            cursor: 0,
            start: 0,
            history: History::new(),
            undecided: false,
        }
    }

    /// Prints the prompt and what is typed so far, on an empty row: after other output, or an answer.
    pub fn redraw(&self, out: &mut dyn Write) {
        let shown = self.shown();
        let _ = write!(out, "{}{shown}", self.prompt);
        self.place(shown, out);
    }

    /// Takes one byte of input and writes its echo. A finished line is returned after its new line has been written; the
    /// prompt for the next comes from [`Editor::redraw`], after the answer.
    ///
    /// `completions` gives the words that could stand where the cursor is, from the line up to there. Those that do not begin
    /// with what is typed of the word are left out. No byte makes the line longer than 256 bytes: that rings the bell.
    pub fn byte(
        &mut self,
        byte: u8,
        completions: &dyn Fn(&str) -> Vec<String>,
        out: &mut dyn Write,
    ) -> Option<String> {
        let key = self.keys.key(byte)?;
        let undecided = core::mem::take(&mut self.undecided);
        match key {
            Key::Char(c) => self.insert(c.encode_utf8(&mut [0; 4]), out),
            Key::Enter => {
                let _ = out.write_str("\n");
                let line = self.take();
                self.history.push(&line);
                return Some(line);
            }
            Key::Backspace => self.backspace(out),
            Key::Delete => self.remove(self.cursor, self.after(), out),
            Key::Left => self.move_to(self.before(), out),
            Key::Right => self.move_to(self.after(), out),
            Key::Home => self.move_to(0, out),
            Key::End => self.move_to(self.line.len(), out),
            Key::KillBefore => self.remove(0, self.cursor, out),
            Key::KillAfter => self.remove(self.cursor, self.line.len(), out),
            Key::KillWord => {
                let typed = self.line[..self.cursor].trim_end();
                self.remove(word_start(typed), self.cursor, out);
            }
            Key::Up => {
                let line = self.history.older(&self.line);
                self.replace(line, out);
            }
            Key::Down => {
                let line = self.history.newer();
                self.replace(line, out);
            }
            Key::Abandon => {
                let _ = out.write_str("^C\n");
                self.take();
                self.history.leave();
                self.redraw(out);
            }
            Key::Clear => {
                let _ = out.write_str("\x1b[H\x1b[2J");
                self.redraw(out);
            }
            Key::Complete => self.complete(undecided, completions, out),
        }
        None
    }

    /// The line, which is empty afterwards.
    fn take(&mut self) -> String {
        (self.cursor, self.start) = (0, 0);
        core::mem::take(&mut self.line)
    }

    /// Where the character before the cursor begins.
    fn before(&self) -> usize {
        self.line[..self.cursor].char_indices().next_back().map_or(0, |(at, _)| at)
    }

    /// Where the character under the cursor ends.
    fn after(&self) -> usize {
        self.line[self.cursor..].chars().next().map_or(self.cursor, |c| self.cursor + c.len_utf8())
    }

    /// Inserts text at the cursor, all of it or nothing.
    fn insert(&mut self, text: &str, out: &mut dyn Write) {
        if self.line.len() + text.len() > MAX_LINE {
            let _ = out.write_str(BELL);
            return;
        }
        let at_end = self.cursor == self.line.len();
        self.line.insert_str(self.cursor, text);
        self.cursor += text.len();
        // The common case echoes no more than what was typed: a line that is pasted comes out once.
        if at_end && !self.scroll() {
            let _ = out.write_str(text);
        } else {
            self.refresh(out);
        }
    }

    fn backspace(&mut self, out: &mut dyn Write) {
        if self.cursor == 0 {
            return;
        }
        let before = self.before();
        let simple = self.cursor == self.line.len() && self.line[before..].len() == 1;
        self.line.replace_range(before..self.cursor, "");
        self.cursor = before;
        if simple && !self.scroll() {
            let _ = out.write_str("\x08 \x08");
        } else {
            self.refresh(out);
        }
    }

    /// Deletes a range of bytes that begins or ends at the cursor.
    fn remove(&mut self, from: usize, to: usize, out: &mut dyn Write) {
        self.line.replace_range(from..to, "");
        self.move_to(from, out);
    }

    fn replace(&mut self, line: Option<String>, out: &mut dyn Write) {
        if let Some(line) = line {
            self.line = line;
            self.start = 0;
            self.move_to(self.line.len(), out);
        }
    }

    fn move_to(&mut self, cursor: usize, out: &mut dyn Write) {
        self.cursor = cursor;
        self.refresh(out);
    }

    /// One candidate is typed out; of several, what they have in common; a second Tab lists them.
    fn complete(&mut self, undecided: bool, completions: &dyn Fn(&str) -> Vec<String>, out: &mut dyn Write) {
        let typed = &self.line[..self.cursor];
        let word = typed[word_start(typed)..].len();
        let mut candidates = completions(typed);
        candidates.retain(|candidate| candidate.starts_with(&typed[typed.len() - word..]));
        candidates.sort_unstable();
        candidates.dedup();
        match &candidates[..] {
            [] => {
                let _ = out.write_str(BELL);
            }
            [only] => {
                self.insert(&only[word..], out);
                if !self.line[self.cursor..].starts_with(' ') {
                    self.insert(" ", out);
                }
            }
            [first, .., last] => {
                // They are sorted: what the first and the last share, all share.
                let common = common_prefix(first, last);
                if common > word {
                    self.insert(&first[word..common], out);
                } else if undecided {
                    let _ = out.write_str("\n");
                    list(&candidates, out);
                    self.redraw(out);
                } else {
                    let _ = out.write_str(BELL);
                }
                self.undecided = true;
            }
        }
    }

    /// How many columns there are for text. The last one stays empty, for the cursor.
    fn room(&self) -> usize {
        COLUMNS.saturating_sub(columns(self.prompt) + 1)
    }

    /// Moves the window if the cursor has left it; whether it had.
    fn scroll(&mut self) -> bool {
        let room = self.room();
        let fits = self.cursor > self.start && columns(&self.line[self.start..self.cursor]) <= room;
        if fits || (self.start == 0 && self.cursor == 0) {
            return false;
        }
        // Half a window at a time, so that a long paste is not drawn anew for each character.
        let mut width = 0;
        self.start = self.line[..self.cursor]
            .char_indices()
            .rev()
            .take_while(|&(_, c)| {
                width += char_columns(c);
                width <= room / 2
            })
            .last()
            .map_or(self.cursor, |(at, _)| at);
        true
    }

    /// The part of the line that is on the screen.
    fn shown(&self) -> &str {
        let rest = &self.line[self.start..];
        let room = self.room();
        let mut width = 0;
        let end = rest.char_indices().find(|&(_, c)| {
            width += char_columns(c);
            width > room
        });
        &rest[..end.map_or(rest.len(), |(at, _)| at)]
    }

    /// Draws the row again.
    fn refresh(&mut self, out: &mut dyn Write) {
        self.scroll();
        let shown = self.shown();
        let _ = write!(out, "\r{}{shown}\x1b[K", self.prompt);
        self.place(shown, out);
    }

    /// Puts the terminal's cursor where it belongs, from the end of what is shown. Printing up to there leaves it to the terminal
    /// how wide each character is.
    fn place(&self, shown: &str, out: &mut dyn Write) {
        if self.cursor < self.start + shown.len() {
            let _ = write!(out, "\r{}{}", self.prompt, &self.line[self.start..self.cursor]);
        }
    }
}

/// Columns a character may need. Some outside ASCII need two; to expect two of all of them never overflows the row.
fn char_columns(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

/// Where the last word of a text begins; its end if that is blank.
fn word_start(text: &str) -> usize {
    text.trim_end_matches(|c: char| !c.is_whitespace()).len()
}

/// The length in bytes of what two texts begin with.
fn common_prefix(a: &str, b: &str) -> usize {
    a.char_indices().zip(b.chars()).find(|((_, a), b)| a != b).map_or(a.len().min(b.len()), |((at, _), _)| at)
}

/// Prints words in columns, down the rows first.
fn list(words: &[String], out: &mut dyn Write) {
    let width = words.iter().map(|word| columns(word)).max().unwrap_or(0) + 2;
    let across = (COLUMNS / width).max(1);
    let rows = words.len().div_ceil(across);
    for row in 0..rows {
        let mut padding = 0;
        for word in words.iter().skip(row).step_by(rows) {
            let _ = write!(out, "{:padding$}{word}", "");
            padding = width.saturating_sub(columns(word));
        }
        let _ = out.write_str("\n");
    }
}
