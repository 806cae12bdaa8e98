//! Answers: rows of named values, for people as aligned text, for programs as one JSON object a line.
//!
//! Keys are lower case with words joined by `_`; for people they have spaces instead.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::value::{Clean, Value, string};

/// Rows of the same columns. As text: a line of headings, then a line for each row, numbers aligned on the right.
#[derive(Debug, Clone)]
pub struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// A table without rows; `columns` are the keys.
    pub const fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row, with a value for each column in their order. One that is missing is [`Value::None`]; surplus ones are dropped.
    pub fn row(&mut self, values: impl Into<Vec<Value>>) {
        let mut values = values.into();
        values.resize(self.columns.len(), Value::None);
        self.rows.push(values);
    }

    /// Prints the table: as text, or with `json` as one object a row (and nothing at all if there are no rows).
    pub fn print(&self, json: bool, out: &mut dyn Write) {
        // A console has nobody to report its errors to.
        let _ = if json { self.json(out) } else { self.text(out) };
    }

    fn json(&self, out: &mut dyn Write) -> fmt::Result {
        self.rows.iter().try_for_each(|row| object(self.columns.iter().copied().zip(row), out))
    }

    fn text(&self, out: &mut dyn Write) -> fmt::Result {
        let mut columns: Vec<Column> = Vec::with_capacity(self.columns.len());
        for (index, key) in self.columns.iter().enumerate() {
            let mut column =
                Column { cells: Vec::with_capacity(1 + self.rows.len()), right: false, width: 0 };
            column.push(heading(key));
            for value in self.rows.iter().filter_map(|row| row.get(index)) {
                column.right |= value.is_number();
                column.push(value.to_string());
            }
            columns.push(column);
        }
        for row in 0..=self.rows.len() {
            // Padding waits for the next cell, so that no line ends in spaces.
            let mut padding = 0;
            for column in &columns {
                let cell = column.cells.get(row).map_or("", String::as_str);
                let blank = column.width - cell.chars().count();
                let before = padding + if column.right { blank } else { 0 };
                write!(out, "{:before$}{cell}", "")?;
                padding = GAP + if column.right { 0 } else { blank };
            }
            out.write_str("\n")?;
        }
        Ok(())
    }
}

/// Spaces between columns.
const GAP: usize = 2;

/// A column as text.
struct Column {
    /// The heading, then a cell of each row.
    cells: Vec<String>,
    right: bool,
    /// Of the widest cell, in characters.
    width: usize,
}

impl Column {
    fn push(&mut self, cell: String) {
        self.width = self.width.max(cell.chars().count());
        self.cells.push(cell);
    }
}

/// Named values. As text: a line for each, its name and its value.
#[derive(Debug, Clone, Default)]
pub struct Record {
    fields: Vec<(&'static str, Value)>,
}

impl Record {
    /// A record without fields.
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, key: &'static str, value: Value) -> Self {
        self.fields.push((key, value));
        self
    }

    /// Prints the record: as text, or with `json` as one object.
    pub fn print(&self, json: bool, out: &mut dyn Write) {
        // As in `Table::print`.
        let _ = if json {
            object(self.fields.iter().map(|(key, value)| (*key, value)), out)
        } else {
            self.text(out)
        };
    }

    fn text(&self, out: &mut dyn Write) -> fmt::Result {
        let width = self.fields.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0) + GAP;
        self.fields.iter().try_for_each(|(key, value)| writeln!(out, "{:width$}{value}", heading(key)))
    }
}

/// Prints one line that says what went wrong; with `json` the object `{"error":"…"}`.
pub fn print_error(error: &str, json: bool, out: &mut dyn Write) {
    // As in `Table::print`.
    let _ = if json {
        object(core::iter::once(("error", &Value::Text(error.into()))), out)
    } else {
        writeln!(out, "{}", Clean(error))
    };
}

fn heading(key: &str) -> String {
    key.replace('_', " ")
}

/// Writes a line with one JSON object.
fn object<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>, out: &mut dyn Write) -> fmt::Result {
    let mut before = '{';
    for (key, value) in fields {
        out.write_char(before)?;
        string(key, out)?;
        out.write_char(':')?;
        value.json(out)?;
        before = ',';
    }
    out.write_str(if before == '{' { "{}\n" } else { "}\n" })
}
