//! `cargo xtask bench`: what operations cost, on all machines, beside what KVM-HV takes and what they may be.

mod history;
mod kvm;
mod table;

use crate::case::{self, Run, Things};
use crate::{Failure, options, shell};
use papr::rtas::Civil;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::time::UNIX_EPOCH;
use tests::Machine;
use tests::bench;
use tests::budgets::{BUDGETS, Budget};

use history::Line;

const HELP: &str = "\
Usage: cargo xtask bench [--machine M] [--row ROW] [--json | --markdown] [--kvm-hv] [--record SUBJECT]

Builds everything, runs the benchmark in QEMU with instructions counted, and prints for each machine a table: the row, what it
measures, what it costs here, what KVM-HV took for the same when the budgets were set, what it takes for this very guest (as
bench/kvm-hv says) and how many times that is, what it may cost (its budget), what it cost when bench/history was last written
(was), and whether it is too much. Costs are instructions, if nothing else is said.

  --machine M       only on powernv8, powernv9 or powernv10
  --row ROW         only this row, and only what it needs
  --json            one object a line, in place of the tables
  --markdown        one table of all machines, for README.md
  --kvm-hv          run the benchmark's guest on KVM-HV, too, instead of believing bench/kvm-hv: Debian's Linux in QEMU, and
                    Debian's QEMU in that. Downloads 100 MB, takes some minutes for each machine, and has only this guest's rows
  --record SUBJECT  add all rows to bench/history as what the change of this subject line comes to; with --kvm-hv, its rows
                    to bench/kvm-hv

Exit status: 0; 1 if a row is over its limit by more than 2 %, or could not be measured; 2 for bad usage.

Rows:
";

/// What has been measured: of each row, on powernv8, 9 and 10.
type Measured = BTreeMap<&'static str, [Option<u64>; 3]>;

/// How it is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Markdown,
}

struct Options {
    machines: Vec<Machine>,
    row: Option<&'static Budget>,
    form: Form,
    record: Option<String>,
    kvm_hv: bool,
}

impl Options {
    /// Is the row asked for? Of KVM-HV only what the guest prints can be measured.
    fn wants(&self, budget: &Budget) -> bool {
        self.row.is_none_or(|row| row.row == budget.row) && (!self.kvm_hv || kvm::is_measured(budget))
    }
}

pub fn main(arguments: Vec<OsString>) -> Result<u8, Failure> {
    let Some(options) = parse(arguments)? else {
        print!("{HELP}");
        BUDGETS.iter().for_each(|budget| println!("  {:<20} {}", budget.row, budget.operation));
        return Ok(0);
    };
    let history = history::read(history::OURS)?;
    let (kvm, mut failed) = if options.kvm_hv {
        measure_kvm(&options)?
    } else {
        (history::read(history::KVM_HV)?.last().map(history::measured).unwrap_or_default(), Vec::new())
    };
    let (measured, not_measured) = measure(&options)?;
    failed.extend(not_measured);
    let shown = BUDGETS.iter().filter(|budget| options.wants(budget));
    let shown: Vec<&Budget> = shown.filter(|budget| measured.contains_key(budget.row)).collect();
    let text = match options.form {
        Form::Markdown => table::markdown(&shown, &measured, &kvm),
        Form::Json => table::json(&shown, &measured, &kvm, history.last()),
        Form::Text => table::text(&options.machines, &shown, &measured, &kvm, history.last()),
    };
    // Who reads it may have seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    for why in &failed {
        eprintln!("partita: {why}");
    }
    let exceeded = shown
        .iter()
        .any(|budget| measured[budget.row].iter().flatten().any(|value| budget.exceeded(*value).is_some()));
    if let Some(subject) = options.record {
        if !failed.is_empty() {
            return Err(Failure::new("nothing is recorded: not all rows could be measured"));
        }
        let (file, rows) = if options.kvm_hv { (history::KVM_HV, &kvm) } else { (history::OURS, &measured) };
        history::append(file, &Line { date: today(), subject, rows: history::values(rows) })?;
    }
    Ok(u8::from(exceeded || !failed.is_empty()))
}

/// `None` asks for help.
fn parse(arguments: Vec<OsString>) -> Result<Option<Options>, Failure> {
    use lexopt::prelude::*;
    let mut options =
        Options { machines: Machine::ALL.to_vec(), row: None, form: Form::Text, record: None, kvm_hv: false };
    let mut parser = lexopt::Parser::from_args(arguments);
    let usage = |what: String| Err(Failure::usage(format!("bench: {what} (try --help)")));
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Long("machine") => options.machines = vec![options::machine(&parser.value()?.string()?)?],
            Long("row") => {
                let name = parser.value()?.string()?;
                options.row = BUDGETS.iter().find(|budget| budget.row == name);
                if options.row.is_none() {
                    return usage(format!("--row {name}: there is no such row"));
                }
            }
            Long(form @ ("json" | "markdown")) => {
                let form = if form == "json" { Form::Json } else { Form::Markdown };
                if options.form != Form::Text && options.form != form {
                    return usage("--json and --markdown do not go together".into());
                }
                options.form = form;
            }
            Long("kvm-hv") => options.kvm_hv = true,
            Long("record") => {
                let subject = parser.value()?.string()?;
                if subject.trim().is_empty() || subject.contains(['\t', '\n']) {
                    return usage("--record: a subject is one line of text, without tabs".into());
                }
                options.record = Some(subject);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if let Some(row) = options.row.filter(|row| !options.wants(row)) {
        return usage(format!(
            "--row {}: only rows of the benchmark's guest are measured on KVM-HV",
            row.row
        ));
    }
    if options.record.is_some() && (options.row.is_some() || options.machines.len() != Machine::ALL.len()) {
        return usage("--record is of all rows on all machines: without --row and --machine".into());
    }
    Ok(Some(options))
}

/// Runs what the rows asked for need. What could not be measured is among the rows' failures.
fn measure(options: &Options) -> Result<(Measured, Vec<String>), Failure> {
    let mut runs = Vec::new();
    for case in bench::cases() {
        if BUDGETS.iter().any(|budget| budget.case == case.name && options.wants(budget)) {
            let of = |&machine: &Machine| Run { case: case.clone(), machine, oracle: false };
            runs.extend(options.machines.iter().map(of));
        }
    }
    let things = Things::make(&runs)?;
    let (mut measured, mut failed) = (Measured::new(), Vec::new());
    case::each(
        runs,
        |run| {
            let outcome = run.perform(&things)?;
            outcome.status.and_then(|()| bench::rows(run.case.name, &outcome.transcript))
        },
        |run, time, rows| {
            let place = run.place();
            shell::progress(&format!("{} on {place}: {:.1} s", run.case.name, time.as_secs_f64()));
            match rows {
                Ok(rows) => rows.into_iter().for_each(|(row, value)| {
                    measured.entry(row).or_insert([None; 3])[run.machine as usize] = Some(value);
                }),
                Err(why) => failed.push(format!("{} on {place}: {why}", run.case.name)),
            }
        },
    );
    Ok((measured, failed))
}

/// What the same guest takes on KVM-HV: one machine after the other, as each has 4 GiB.
fn measure_kvm(options: &Options) -> Result<(Measured, Vec<String>), Failure> {
    let kvm = kvm::Kvm::make()?;
    let (mut measured, mut failed) = (Measured::new(), Vec::new());
    for &machine in &options.machines {
        match kvm.measure(machine) {
            Ok(rows) => rows.into_iter().for_each(|(row, value)| {
                measured.entry(row).or_insert([None; 3])[machine as usize] = Some(value);
            }),
            Err(failure) => failed.push(failure.message),
        }
    }
    Ok((measured, failed))
}

/// As in 2026-01-31.
fn today() -> String {
    let seconds = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let Civil { year, month, day, .. } = Civil::from_unix(seconds);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod test {
    use super::*;

    fn refused(line: &str) -> String {
        let arguments = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        match parse(arguments) {
            Err(failure) => {
                assert_eq!(failure.status, crate::status::USAGE, "{line}");
                failure.message
            }
            Ok(_) => panic!("{line} was taken"),
        }
    }

    #[test]
    fn wrong_arguments() {
        for (line, message) in [
            ("--row h_nothing", "bench: --row h_nothing: there is no such row (try --help)"),
            ("--json --markdown", "bench: --json and --markdown do not go together (try --help)"),
            (
                "--record x --machine powernv8",
                "bench: --record is of all rows on all machines: without --row and --machine (try --help)",
            ),
            ("extra", "unexpected argument \"extra\" (try --help)"),
            (
                "--kvm-hv --row debian",
                "bench: --row debian: only rows of the benchmark's guest are measured on KVM-HV (try --help)",
            ),
            ("--fast", "invalid option '--fast' (try --help)"),
        ] {
            assert_eq!(refused(line), message);
        }
        assert!(refused("--machine pseries").contains("pseries"));
        let tab = vec!["--record".into(), "a\tb".into()];
        assert!(parse(tab).is_err_and(|failure| failure.message.contains("one line")));
    }
}
