//! `cargo xtask trace`: the events of all CPUs, from the raw lines that the monitor's `trace dump --raw` leaves in a log of
//! the console.

use crate::{Failure, shell};
use ::trace::Record;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

const HELP: &str = "\
Usage: cargo xtask trace FILE

Prints the trace events in a log of the console, oldest first: the time in microseconds from the first event, the
host CPU, the vCPU as partition.number (- for the hypervisor itself) and what happened. The monitor's command
`trace dump --raw` puts them there, one line each: @trace CPU and four words. Other lines are passed over.
FILE may be - for standard input.

Exit status: 0, 1 if there are @trace lines that cannot be read (or none at all), 2 for bad usage.
";

/// Timebase ticks in a microsecond.
const TICKS_PER_MICRO: u64 = 512;

pub fn main(arguments: Vec<OsString>) -> Result<u8, Failure> {
    let mut file = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Value(path) if file.is_none() => file = Some(PathBuf::from(path)),
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let file = file.ok_or(Failure::usage("trace: which file? (try `cargo xtask trace --help`)"))?;
    let log = if file.as_os_str() == "-" { standard_input()? } else { shell::read(&file)? };
    let (text, bad) = decode(&log, &file.display().to_string());
    // Who reads the text may have seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if bad.is_empty() { Ok(0) } else { Err(Failure::new(bad.join("\n"))) }
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut log = Vec::new();
    let read = std::io::stdin().read_to_end(&mut log);
    read.map_err(|error| Failure::new(format!("standard input: cannot read it: {error}")))?;
    Ok(log)
}

/// The events in a log, as text, and what is wrong with it.
fn decode(log: &[u8], name: &str) -> (String, Vec<String>) {
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for (number, line) in log.split(|&byte| byte == b'\n').enumerate() {
        match Record::parse(&String::from_utf8_lossy(line)) {
            Ok(Some(record)) => records.push(record),
            Ok(None) => {}
            Err(why) => bad.push(format!("{name}:{}: {why}", number + 1)),
        }
    }
    ::trace::sort(&mut records);
    if records.is_empty() && bad.is_empty() {
        bad.push(format!("{name}: no line begins with @trace"));
    }
    let first = records.first().map_or(0, |record| record.event.time);
    let mut text = String::new();
    for Record { cpu, event } in records {
        let nanos = u128::from(event.time - first) * 1000 / u128::from(TICKS_PER_MICRO);
        let who = match event.processor() {
            Some(processor) => processor.to_string(),
            None => "-".into(),
        };
        let (micros, nanos) = (nanos / 1000, nanos % 1000);
        // Writing to a String does not fail.
        let _ = writeln!(text, "{micros:>10}.{nanos:03} cpu{cpu:<3} {who:>6}  {}", event.what);
    }
    (text, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_two_cpus_in_order() {
        let log = "skiboot\r\n\
            [    1.000000] @trace 1 0000000000001300 0000000013000026 0000000000000002 0000000000000001\r\n\
            @trace 0 0000000000001201 0001000312010020 0000000000000008 0000000000000080\r\n\
            a guest \u{ff} prints\n\
            @trace 0 0000000000001000 0001000310000022 c000000000001234 8000000000001033";
        let log: Vec<u8> = log.chars().map(|c| c as u8).collect();
        let (text, bad) = decode(&log, "log");
        assert_eq!(bad, [""; 0]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "         0.000 cpu0      3.1  entry at 0xc000000000001234 (privileged)",
                "         1.001 cpu0      3.1  H_ENTER r4=0x80",
                "         1.500 cpu1        -  wakes vCPU 2, for CPU 1",
            ]
        );
    }

    #[test]
    fn bad_lines_have_numbers_and_do_not_hide_the_good() {
        let log = "x\n@trace 0 00\n@trace 0 0000000000001201 0001000312010020 0000000000000008 0000000000000080\n@trace\n";
        let (text, bad) = decode(log.as_bytes(), "a.log");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(
            bad,
            [
                "a.log:2: four words of 16 hexadecimal digits should follow the CPU",
                "a.log:4: a CPU number should follow @trace",
            ]
        );
        let (text, bad) = decode(b"nothing\n", "-");
        assert_eq!((text.as_str(), bad), ("", vec!["-: no line begins with @trace".to_owned()]));
    }

    #[test]
    fn usage() {
        let status = |arguments: &[&str]| match main(arguments.iter().map(Into::into).collect()) {
            Ok(status) => status,
            Err(failure) => failure.status,
        };
        assert_eq!(status(&["--help"]), 0);
        assert_eq!(status(&[]), 2);
        assert_eq!(status(&["a", "b"]), 2);
        assert_eq!(status(&["/nonexistent"]), 2);
    }
}
