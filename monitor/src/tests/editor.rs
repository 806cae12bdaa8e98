//! Keys, and what they do to the line and to the screen.

use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use super::screen::Screen;
use crate::Editor;
use crate::editor::{COLUMNS, MAX_LINE};
use crate::history::HISTORY;

const PROMPT: &str = "partita> ";

const LEFT: &[u8] = b"\x1b[D";
const RIGHT: &[u8] = b"\x1b[C";
const UP: &[u8] = b"\x1b[A";
const DOWN: &[u8] = b"\x1b[B";
const HOME: &[u8] = b"\x1b[H";
const END: &[u8] = b"\x1b[F";
const DELETE: &[u8] = b"\x1b[3~";

/// An editor, its terminal, and the lines that came out.
struct Session {
    editor: Editor,
    screen: Screen,
    words: Vec<&'static str>,
    lines: Vec<String>,
}

impl Session {
    fn new() -> Self {
        let (editor, mut screen) = (Editor::new(PROMPT), Screen::default());
        editor.redraw(&mut screen);
        Self { editor, screen, words: Vec::new(), lines: Vec::new() }
    }

    /// Types bytes; the prompt is drawn again after each line, as the kernel does.
    fn type_bytes(&mut self, bytes: &[u8]) {
        let words = self.words.clone();
        let complete = |_: &str| words.iter().map(|&word| word.into()).collect();
        for &byte in bytes {
            if let Some(line) = self.editor.byte(byte, &complete, &mut self.screen) {
                self.lines.push(line);
                self.editor.redraw(&mut self.screen);
            }
        }
    }

    /// Types keys one after the other, and checks that redrawing shows what is there already.
    fn keys(&mut self, keys: &[&[u8]]) -> &mut Self {
        for key in keys {
            self.type_bytes(key);
        }
        let mut again = Screen::default();
        self.editor.redraw(&mut again);
        assert_eq!((again.row(), again.column()), (self.screen.row(), self.screen.column()));
        self
    }

    /// What is on the row, with `|` for the cursor.
    fn shows(&self, expected: &str) {
        let mut row: Vec<char> = self.screen.row().chars().collect();
        row.resize(row.len().max(self.screen.column()), ' ');
        row.insert(self.screen.column(), '|');
        assert_eq!(row.into_iter().collect::<String>(), format!("{PROMPT}{expected}"));
    }
}

fn session(keys: &[&[u8]]) -> Session {
    let mut session = Session::new();
    session.keys(keys);
    session
}

#[test]
fn types_and_returns_lines() {
    let mut session = session(&[b"list"]);
    session.shows("list|");
    session.keys(&[b"\r"]).shows("|");
    assert_eq!(session.lines, ["list"]);
    assert_eq!(session.screen.above(), ["partita> list"]);
    session.keys(&[b"\r", b"two words\r"]);
    assert_eq!(session.lines, ["list", "", "two words"]);
}

#[test]
fn line_ends_of_all_kinds() {
    let session = session(&[b"a\rb\nc\r\nd\r\n\r\n"]);
    assert_eq!(session.lines, ["a", "b", "c", "d", ""]);
}

#[test]
fn moves_and_inserts() {
    session(&[b"list", LEFT, LEFT]).shows("li|st");
    session(&[b"list", LEFT, LEFT, b"x"]).shows("lix|st");
    session(&[b"list", LEFT, LEFT, RIGHT]).shows("lis|t");
    session(&[b"list", RIGHT]).shows("list|");
    session(&[b"list", HOME, LEFT]).shows("|list");
    session(&[b"list", HOME, b"x", END, b"y"]).shows("xlisty|");
    session(&[b"list", b"\x01", b"x", b"\x05", b"y"]).shows("xlisty|");
    session(&[b"list", b"\x1bOD", b"\x1bOD", b"\x1bOC", b"x"]).shows("lisx|t");
    let mut middle = session(&[b"list", LEFT, LEFT]);
    assert_eq!(middle.keys(&[b"\r"]).lines, ["list"], "the whole line, wherever the cursor is");
}

#[test]
fn deletes() {
    session(&[b"list", b"\x7f"]).shows("lis|");
    session(&[b"list", b"\x08", b"\x08"]).shows("li|");
    session(&[b"list", LEFT, b"\x7f"]).shows("li|t");
    session(&[b"list", HOME, b"\x7f"]).shows("|list");
    session(&[b"\x7f"]).shows("|");
    session(&[b"list", HOME, DELETE]).shows("|ist");
    session(&[b"list", DELETE]).shows("list|");
    session(&[b"pause debian", LEFT, LEFT, b"\x15"]).shows("|an");
    session(&[b"pause debian", LEFT, LEFT, b"\x0b"]).shows("pause debi|");
    session(&[b"pause debian", b"\x17"]).shows("pause |");
    session(&[b"pause debian  ", b"\x17"]).shows("pause |");
    session(&[b"pause debian", b"\x17", b"\x17", b"\x17"]).shows("|");
    session(&[b"pause debian", LEFT, LEFT, b"\x17"]).shows("pause |an");
}

#[test]
fn characters_of_several_bytes_are_one() {
    let all = "\u{e9}\u{20ac}\u{3b1}".as_bytes();
    session(&[all, LEFT, b"\x7f"]).shows("\u{e9}|\u{3b1}");
    session(&[all, HOME, DELETE, RIGHT, b"x"]).shows("\u{20ac}x|\u{3b1}");
    session(&[all, b"\x7f", b"\x7f"]).shows("\u{e9}|");
    let broken = session(&[b"a\xc3", b"b\xe2\x82\r"]);
    assert_eq!(broken.lines, ["ab"]);
}

#[test]
fn control_c_forgets_the_line() {
    let mut session = session(&[b"shutdown", b"\x03"]);
    session.shows("|");
    assert_eq!(session.screen.above(), ["partita> shutdown^C"]);
    session.keys(&[b"list\r", UP, b"\x03", UP]).shows("list|");
    assert_eq!(session.lines, ["list"]);
}

#[test]
fn control_l_clears_the_screen() {
    let session = session(&[b"list\r", b"info", LEFT, b"\x0c"]);
    session.shows("inf|o");
    assert_eq!((session.screen.cleared, session.screen.above().len()), (1, 0));
}

#[test]
fn history_goes_up_and_down() {
    let mut session = session(&[b"one\r", b"two\r", b"thr", UP]);
    session.shows("two|");
    session.keys(&[UP, UP, UP]).shows("one|");
    session.keys(&[DOWN]).shows("two|");
    session.keys(&[DOWN, DOWN]).shows("thr|");
    session.keys(&[UP, UP, b"!\r"]).shows("|");
    assert_eq!(session.lines, ["one", "two", "one!"]);
    session.keys(&[UP]).shows("one!|");
    session.keys(&[DOWN]).shows("|");
}

#[test]
fn history_keeps_no_repetitions_and_no_blanks() {
    let mut session = session(&[b"one\r", b"two\r", b"two\r", b"\r", b"  \r", UP, UP]);
    session.shows("one|");
    session.keys(&[b"\r", UP, UP]).shows("two|");
}

#[test]
fn history_is_bounded() {
    let mut session = Session::new();
    for line in 0..HISTORY + 3 {
        session.keys(&[format!("line {line}\r").as_bytes()]);
    }
    session.keys(&vec![UP; HISTORY + 10]).shows("line 3|");
}

#[test]
fn tab_completes_one() {
    let mut session = Session::new();
    session.words = vec!["list", "log"];
    session.keys(&[b"li\t"]).shows("list |");
    session.keys(&[b"\x03pause li", LEFT, b"\t"]).shows("pause l|i");
    assert_eq!(session.screen.bells, 1, "both words begin with l");
    session.keys(&[b"\x03li x", LEFT, LEFT, b"\t"]).shows("list| x");
    session.keys(&[b"\x03lix", LEFT, b"\t"]).shows("list |x");
    session.keys(&[b"\x03zz\t"]).shows("zz|");
    assert_eq!(session.screen.bells, 2);
}

#[test]
fn tab_types_what_several_share_and_lists_them_at_the_second() {
    let mut session = Session::new();
    session.words = vec!["debian-two", "alpine", "debian-one", "debian-two"];
    session.keys(&[b"info d\t"]).shows("info debian-|");
    assert_eq!(session.screen.bells, 0);
    session.keys(&[b"\t"]).shows("info debian-|");
    assert_eq!(session.screen.above(), ["partita> info debian-", "debian-one  debian-two"]);
    session.keys(&[b"o\t"]).shows("info debian-one |");

    let mut apart = Session::new();
    apart.words = vec!["start", "stop"];
    apart.keys(&[b"st\t"]).shows("st|");
    assert_eq!((apart.screen.bells, apart.screen.above().len()), (1, 0));
    apart.keys(&[b"x\x7f\t"]).shows("st|");
    assert_eq!((apart.screen.bells, apart.screen.above().len()), (2, 0), "not a second Tab");
    apart.keys(&[b"\t"]).shows("st|");
    assert_eq!(apart.screen.above()[1], "start  stop");

    let mut wide = Session::new();
    wide.words = vec!["\u{e9}a", "\u{e8}a"]; // the same first byte
    wide.keys(&[b"\t"]).shows("|");
}

#[test]
fn many_words_are_listed_in_columns() {
    let mut session = Session::new();
    let long = "a-name-of-thirty-two-characters-";
    session.words = vec![long, "b", "c", "d", "e"];
    session.keys(&[b"\t\t"]).shows("|");
    assert_eq!(
        session.screen.above(),
        ["partita>", &format!("{long}  d"), "b                                 e", "c"]
    );
}

#[test]
fn completions_see_the_line_up_to_the_cursor() {
    let mut editor = Editor::new(PROMPT);
    let mut out = String::new();
    for &byte in b"info debian\x1b[D\x1b[D" {
        editor.byte(byte, &|_| unreachable!(), &mut out);
    }
    let seen = core::cell::RefCell::new(String::new());
    let complete = |line: &str| {
        seen.borrow_mut().push_str(line);
        Vec::new()
    };
    editor.byte(b'\t', &complete, &mut out);
    assert_eq!(seen.into_inner(), "info debi");
}

#[test]
fn a_full_line_rings_the_bell() {
    let mut session = Session::new();
    session.keys(&[&[b'x'; MAX_LINE]]);
    assert_eq!(session.screen.bells, 0);
    session.keys(&[b"y", "\u{e9}".as_bytes(), HOME, b"y"]);
    assert_eq!(session.screen.bells, 3);
    session.words = vec!["xyz"];
    session.keys(&[b"\x7f", b"\r"]);
    assert_eq!(session.lines, ["x".repeat(MAX_LINE)]);
    // A character that fits in part does not fit.
    session.keys(&[&[b'x'; MAX_LINE - 1], "\u{e9}".as_bytes(), b"y\r"]);
    assert_eq!(session.lines[1], "x".repeat(MAX_LINE - 1) + "y");
}

#[test]
fn a_long_line_stays_on_its_row() {
    let text: String = (0..MAX_LINE).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let mut session = session(&[text.as_bytes()]);
    let row = session.screen.row();
    let tail = row.strip_prefix(PROMPT).unwrap();
    assert!(text.ends_with(tail) && tail.len() > 20, "{row}");
    session.keys(&[HOME]);
    assert_eq!(session.screen.row(), format!("{PROMPT}{}", &text[..COLUMNS - 1 - PROMPT.len()]));
    assert_eq!(session.screen.column(), PROMPT.len());
    session.keys(&[END, b"\r"]);
    assert_eq!(session.lines, [text]);
}

#[test]
fn a_paste_is_echoed_about_once() {
    let mut editor = Editor::new(PROMPT);
    let mut out = String::new();
    for byte in [b'x'; MAX_LINE] {
        editor.byte(byte, &|_| Vec::new(), &mut out);
    }
    assert!(out.len() < 3 * MAX_LINE, "{} bytes of echo", out.len());
    let mut short = String::new();
    Editor::new(PROMPT).redraw(&mut short);
    let mut editor = Editor::new(PROMPT);
    for &byte in b"info debian --json" {
        editor.byte(byte, &|_| Vec::new(), &mut short);
    }
    assert_eq!(short, "partita> info debian --json", "no escape sequences for those who read the log");
}

#[test]
fn an_older_line_does_not_care_where_the_window_was() {
    for shift in 0..3 {
        let euros = "x".repeat(shift) + &"\u{20ac}".repeat(80);
        let mut session = session(&[euros.as_bytes(), b"\r", &[b'y'; MAX_LINE - 3], UP]);
        session.keys(&[b"\r"]);
        assert_eq!(session.lines, [euros.as_str(), euros.as_str()]);
    }
}

#[test]
fn backspace_draws_no_more_than_it_must() {
    let echo = |typed: &str| {
        let mut editor = Editor::new(PROMPT);
        for &byte in typed.as_bytes() {
            editor.byte(byte, &|_| Vec::new(), &mut String::new());
        }
        let mut out = String::new();
        editor.byte(0x7f, &|_| Vec::new(), &mut out);
        out
    };
    assert_eq!(echo(""), "");
    assert_eq!(echo("ab"), "\x08 \x08");
    // Nobody knows how wide this one is.
    assert_eq!(echo("a\u{754c}"), "\rpartita> a\x1b[K");
}

proptest! {
    /// Whatever comes: no panic, nothing but text in the line, and the screen shows a part of it with the cursor on it.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(prop_oneof![
        any::<u8>(),
        proptest::sample::select(&b"\x1b[ABCDHFO123~\x7f\t\r\n\x15\x0b\x17 xyz\xc3\xa9\xe2\x82\xac\x01\x05"[..]),
    ], 0..700)) {
        let mut session = Session::new();
        session.words = vec!["xx", "xy", "xyz\u{e9}", "yy"];
        session.type_bytes(&bytes);
        session.keys(&[]);
        for line in &session.lines {
            prop_assert!(line.len() <= MAX_LINE && !line.contains(char::is_control), "{line:?}");
        }
        prop_assert!(session.screen.row().starts_with(PROMPT.trim_end()));
        let shown = session.screen.row()[PROMPT.len().min(session.screen.row().len())..].trim_end().to_owned();
        session.type_bytes(b"\r");
        prop_assert!(session.lines.last().unwrap().contains(&shown));
    }

    /// The line and the screen agree with a list of characters and an index.
    #[test]
    fn agrees_with_a_model(keys in proptest::collection::vec(0u8..12, 0..300), text in "[a-z \u{e9}\u{20ac}]{300}") {
        let mut session = Session::new();
        let mut text = text.chars();
        let (mut model, mut cursor) = (Vec::new(), 0usize);
        for key in keys {
            match key {
                0 => {
                    session.type_bytes(LEFT);
                    cursor = cursor.saturating_sub(1);
                }
                1 => {
                    session.type_bytes(RIGHT);
                    cursor = model.len().min(cursor + 1);
                }
                2 if cursor > 0 => {
                    session.type_bytes(b"\x7f");
                    cursor -= 1;
                    model.remove(cursor);
                }
                3 if cursor < model.len() => {
                    session.type_bytes(DELETE);
                    model.remove(cursor);
                }
                4 if cursor == model.len() => {
                    session.type_bytes(HOME);
                    cursor = 0;
                }
                5 => {
                    session.type_bytes(END);
                    cursor = model.len();
                }
                _ => {
                    let c: char = text.next().unwrap();
                    if model.iter().collect::<String>().len() + c.len_utf8() <= MAX_LINE {
                        model.insert(cursor, c);
                        cursor += 1;
                    }
                    session.type_bytes(c.to_string().as_bytes());
                }
            }
            let line: String = model.iter().collect();
            let columns: usize = model.iter().map(|c| if c.is_ascii() { 1 } else { 2 }).sum();
            if columns < 30 {
                let row = format!("{PROMPT}{line}");
                prop_assert_eq!(session.screen.row(), row.trim_end());
                prop_assert_eq!(session.screen.column(), PROMPT.len() + cursor);
            }
        }
        session.keys(&[b"\r"]);
        prop_assert_eq!(&session.lines, &[model.into_iter().collect::<String>()]);
    }
}
