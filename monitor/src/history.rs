//! The lines typed before.

use alloc::collections::VecDeque;
use alloc::string::String;

/// How many lines are kept.
pub(crate) const HISTORY: usize = 32;

/// Finished lines, oldest first, and which of them is being looked at.
#[derive(Debug)]
pub(crate) struct History {
    lines: VecDeque<String>,
    /// Index of the line shown; the number of lines stands for the one being typed.
    at: usize,
    /// The line being typed, while an older one is shown.
    draft: String,
}

impl History {
    pub(crate) const fn new() -> Self {
        Self { lines: VecDeque::new(), at: 0, draft: String::new() }
    }

    /// Keeps a finished line, unless it is blank or the same as the one before.
    pub(crate) fn push(&mut self, line: &str) {
        if !line.trim().is_empty() && self.lines.back().is_none_or(|last| last != line) {
            if self.lines.len() == HISTORY {
                self.lines.pop_front();
            }
            self.lines.push_back(line.into());
        }
        self.leave();
    }

    /// Goes back to the line being typed, a new one.
    pub(crate) fn leave(&mut self) {
        self.at = self.lines.len();
    }

    /// The line before the one shown. `current` is what is on the screen.
    pub(crate) fn older(&mut self, current: &str) -> Option<String> {
        let at = self.at.checked_sub(1)?;
        if self.at == self.lines.len() {
            self.draft = current.into();
        }
        self.at = at;
        self.lines.get(at).cloned()
    }

    /// The line after the one shown; after the newest, what was being typed.
    pub(crate) fn newer(&mut self) -> Option<String> {
        if self.at == self.lines.len() {
            return None;
        }
        self.at += 1;
        Some(self.lines.get(self.at).unwrap_or(&self.draft).clone())
    }
}
