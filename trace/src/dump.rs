//! Events as text that a program reads back: one line each,
//!
//! ```text
//! @trace CPU TIME TAG ARGUMENT ARGUMENT
//! ```
//!
//! CPU in decimal, the four words in 16 hexadecimal digits.

use core::fmt;

use crate::event::{BadEvent, Event};

/// What begins a line.
const WORD: &str = "@trace";

/// An event and the host CPU in whose ring it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The CPU's number.
    pub cpu: u32,
    /// The event.
    pub event: Event,
}

/// Brings events of all CPUs, whose timebases agree, into the order in which they happened.
pub fn sort(records: &mut [Record]) {
    records.sort_unstable_by_key(|record| (record.event.time, record.cpu));
}

/// A line of the dump, without its end.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [time, tag, a, b] = self.event.words();
        write!(f, "{WORD} {} {time:016x} {tag:016x} {a:016x} {b:016x}", self.cpu)
    }
}

/// Why a line of the dump cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadLine {
    /// The CPU is missing or not a number.
    Cpu,
    /// There are not four words of 16 hexadecimal digits.
    Words,
    /// The words are not an event.
    Event(BadEvent),
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLine::Cpu => f.write_str("a CPU number should follow @trace"),
            BadLine::Words => f.write_str("four words of 16 hexadecimal digits should follow the CPU"),
            BadLine::Event(why) => write!(f, "the words are {why}"),
        }
    }
}

impl Record {
    /// Reads a line of a console. `Ok(None)`: it is about something else. What stands before the first word, as a log's time
    /// does, does not count.
    pub fn parse(line: &str) -> Result<Option<Record>, BadLine> {
        let mut words = line.split_ascii_whitespace().skip_while(|word| *word != WORD);
        if words.next().is_none() {
            return Ok(None);
        }
        let cpu = words.next().and_then(|word| word.parse().ok()).ok_or(BadLine::Cpu)?;
        let mut event = [0; 4];
        for value in &mut event {
            *value = words.next().and_then(hexadecimal).ok_or(BadLine::Words)?;
        }
        if words.next().is_some() {
            return Err(BadLine::Words);
        }
        let event = Event::from_words(event).map_err(BadLine::Event)?;
        Ok(Some(Record { cpu, event }))
    }
}

fn hexadecimal(word: &str) -> Option<u64> {
    let digits = word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { u64::from_str_radix(word, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use power::Lpid;
    use proptest::prelude::*;
    use std::string::ToString;

    use super::*;
    use crate::event::What;

    fn record(cpu: u32, time: u64) -> Record {
        let what = What::Interrupt { vector: 0x980, pc: 0xc000_0000_0000_1234 };
        Record { cpu, event: Event { time, lpid: Lpid(3), vcpu: 1, what } }
    }

    #[test]
    fn the_format() {
        let line = "@trace 2 0000000000000fff 000100030fff0024 0000000000000980 c000000000001234";
        assert_eq!(record(2, 0xfff).to_string(), line);
        for seen in [line.to_string(), std::format!("  {line}\r\n"), std::format!("[    1.000000] {line}")] {
            assert_eq!(Record::parse(&seen), Ok(Some(record(2, 0xfff))), "{seen:?}");
        }
    }

    #[test]
    fn other_lines() {
        for line in ["", "login:", "a @traced 2", "trace 2"] {
            assert_eq!(Record::parse(line), Ok(None), "{line:?}");
        }
        let good = record(2, 0xfff).to_string();
        for (line, why) in [
            ("@trace".to_string(), BadLine::Cpu),
            (good.replace("@trace 2", "@trace x"), BadLine::Cpu),
            (good.replace("@trace 2", "@trace -2"), BadLine::Cpu),
            (good[..good.len() - 1].to_string(), BadLine::Words),
            (good[..good.len() - 17].to_string(), BadLine::Words),
            (good.clone() + " 0", BadLine::Words),
            (good.replace("0000000000000980", "+000000000000980"), BadLine::Words),
            (good.replace("0000000000000fff", "0000000000000ffe"), BadLine::Event(BadEvent::Torn)),
            (good.replace("000100030fff0024", "000100030fff0004"), BadLine::Event(BadEvent::Empty)),
            (good.replace("000100030fff0024", "000100030fff002f"), BadLine::Event(BadEvent::Unknown)),
        ] {
            assert_eq!(Record::parse(&line), Err(why), "{line:?}");
        }
    }

    #[test]
    fn several_cpus_in_one_order() {
        let mut records = [record(1, 30), record(0, 20), record(1, 10), record(0, 10)];
        sort(&mut records);
        assert_eq!(records, [record(0, 10), record(1, 10), record(0, 20), record(1, 30)]);
    }

    proptest! {
        #[test]
        fn any_line_is_judged(line in "(@trace )?[@0-9a-f x\\[\\]]{0,90}") {
            let _ = Record::parse(&line);
        }
    }
}
