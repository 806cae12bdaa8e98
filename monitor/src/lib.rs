//! The language of the hypervisor's monitor: what is typed, what it means, and how answers are printed.
//!
//! [`Editor`] turns the bytes of a serial console into lines. [`parse`] turns a line into a [`Command`], or says in one
//! line what would be right; [`completions`] and [`help`] know the same commands. The kernel carries commands out and
//! answers with a [`Table`] or a [`Record`], printed for people or as JSON for scripts.
//!
//! Nothing here touches a machine. Whatever is written goes to a [`core::fmt::Write`]; a `\n` in it means a new line at
//! column 0, so that a sink for a terminal adds the carriage return.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod commands;
mod complete;
mod editor;
mod history;
mod keys;
mod nearest;
mod output;
mod parse;
mod range;
#[cfg(test)]
mod tests;
mod value;

pub use commands::{Command, Merge, Rights, Watch, help};
pub use complete::completions;
pub use editor::Editor;
pub use output::{Record, Table, print_error};
pub use parse::{Names, Parsed, parse, wants_json};
pub use value::Value;
