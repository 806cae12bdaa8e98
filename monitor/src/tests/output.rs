//! Answers, as people and as programs see them.

use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::json::{Json, read};
use crate::{Record, Table, Value, help, print_error};

fn print(print: impl FnOnce(&mut dyn core::fmt::Write)) -> String {
    let mut out = String::new();
    print(&mut out);
    out
}

fn partitions() -> Table {
    let mut table = Table::new(&["name", "state", "memory", "exits_per_second", "note"]);
    table.row(vec![
        Value::Text("debian".into()),
        Value::Text("running".into()),
        Value::Bytes(512 << 20),
        Value::Number(12345),
        Value::Text("x".into()),
    ]);
    table.row([Value::Text("a".into()), Value::Text("stopped".into()), Value::None, Value::Number(0)]);
    table
}

#[test]
fn a_table_is_aligned() {
    assert_eq!(
        print(|out| partitions().print(false, out)),
        "name    state    memory  exits per second  note\n\
         debian  running    512M             12345  x\n\
         a       stopped       -                 0  -\n"
    );
    let empty = Table::new(&["name", "state"]);
    assert_eq!(print(|out| empty.print(false, out)), "name  state\n");
}

#[test]
fn a_table_is_an_object_a_row() {
    assert_eq!(
        print(|out| partitions().print(true, out)),
        "{\"name\":\"debian\",\"state\":\"running\",\"memory\":536870912,\"exits_per_second\":12345,\"note\":\"x\"}\n\
         {\"name\":\"a\",\"state\":\"stopped\",\"memory\":null,\"exits_per_second\":0,\"note\":null}\n"
    );
    assert_eq!(print(|out| Table::new(&["name"]).print(true, out)), "");
}

#[test]
fn a_row_fits_its_table() {
    let mut table = Table::new(&["a", "b"]);
    table.row([]);
    table.row([Value::Number(1), Value::Number(2), Value::Number(3)]);
    assert_eq!(print(|out| table.print(true, out)), "{\"a\":null,\"b\":null}\n{\"a\":1,\"b\":2}\n");
    assert_eq!(print(|out| table.print(false, out)), "a  b\n-  -\n1  2\n");
}

#[test]
fn columns_count_characters() {
    let mut table = Table::new(&["word", "next"]);
    table.row([Value::Text("\u{e9}t\u{e9}s\u{20ac}".into()), Value::Text("x".into())]);
    assert_eq!(print(|out| table.print(false, out)), "word   next\n\u{e9}t\u{e9}s\u{20ac}  x\n");
}

#[test]
fn a_record_is_a_line_a_field() {
    let record = Record::new()
        .field("name", Value::Text("debian".into()))
        .field("up_time", Value::Micros(4_500_000))
        .field("cpu", Value::Percent(125));
    assert_eq!(print(|out| record.print(false, out)), "name     debian\nup time  4.5s\ncpu      12.5%\n");
    assert_eq!(
        print(|out| record.print(true, out)),
        "{\"name\":\"debian\",\"up_time\":4500000,\"cpu\":12.5}\n"
    );
    assert_eq!(print(|out| Record::new().print(true, out)), "{}\n");
    assert_eq!(print(|out| Record::default().print(false, out)), "");
}

#[test]
fn an_error_is_one_line() {
    assert_eq!(print(|out| print_error("no command 'x'", false, out)), "no command 'x'\n");
    assert_eq!(print(|out| print_error("no \"x\"", true, out)), "{\"error\":\"no \\\"x\\\"\"}\n");
    assert_eq!(print(|out| print_error("a\x1b[31m\n", false, out)), "a\\u{1b}[31m\\n\n");
}

#[test]
fn help_is_a_line_a_command() {
    let text = print(|out| help(None, false, out));
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("usage "));
    assert!(lines.all(|line| line.len() < 80), "{text}");
    assert!(text.contains("\nhpt NAME [EA] [--vcpu N]  "), "{text}");
    assert_eq!(print(|out| help(Some("nonsense"), false, out)), text);
    let topic = print(|out| help(Some("stats"), false, out));
    assert!(topic.starts_with("usage    stats [NAME]\nsummary  count "), "{topic}");
    let Some(Json::Object(fields)) = read(print(|out| help(Some("stats"), true, out)).trim_end()) else {
        panic!("not an object")
    };
    assert_eq!(fields[0], ("usage".into(), Json::Text("stats [NAME]".into())));
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::Text),
        proptest::collection::vec(proptest::char::range('\0', '\u{a0}'), 0..20)
            .prop_map(|chars| Value::Text(chars.into_iter().collect())),
        any::<u64>().prop_map(Value::Number),
        any::<u64>().prop_map(Value::Hex),
        any::<u64>().prop_map(Value::Bytes),
        any::<u64>().prop_map(Value::Micros),
        any::<u32>().prop_map(Value::Percent),
        any::<bool>().prop_map(Value::Flag),
        Just(Value::None),
    ]
}

/// What a program should read.
fn expected(value: &Value) -> Json {
    match value {
        Value::Text(text) => Json::Text(text.clone()),
        Value::Number(n) | Value::Bytes(n) | Value::Micros(n) => Json::Number(n.to_string()),
        Value::Hex(n) => Json::Text(std::format!("{n:#x}")),
        Value::Percent(tenths) => Json::Number(std::format!("{}.{}", tenths / 10, tenths % 10)),
        Value::Flag(flag) => Json::Flag(*flag),
        Value::None => Json::Null,
    }
}

proptest! {
    #[test]
    fn json_reads_back(rows in proptest::collection::vec([value(), value(), value()], 0..5)) {
        let mut table = Table::new(&["a", "b_c", "d"]);
        for row in &rows {
            table.row(row.clone());
        }
        let text = print(|out| table.print(true, out));
        let read: Vec<_> = text.split_terminator('\n').map(read).collect();
        let expected: Vec<_> = rows
            .iter()
            .map(|row| {
                let fields = ["a", "b_c", "d"].iter().zip(row);
                Some(Json::Object(fields.map(|(key, value)| (key.to_string(), expected(value))).collect()))
            })
            .collect();
        prop_assert_eq!(read, expected);
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn text_has_a_line_for_each_row(rows in proptest::collection::vec([value(), value(), value()], 0..5)) {
        let mut table = Table::new(&["a", "b_c", "d"]);
        for row in &rows {
            table.row(row.clone());
        }
        let text = print(|out| table.print(false, out));
        prop_assert_eq!(text.split_terminator('\n').count(), rows.len() + 1);
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }
}
