//! `bench/history`: what all rows came to with each change that was recorded, a line each: the date, the change's subject, and
//! `ROW=N/N/N` for powernv8, 9 and 10. Tabs are between the three. `bench/kvm-hv` is alike: what the rows of the guest came to on
//! KVM-HV, and of which versions that is; `-` is what could not be measured.

use super::Measured;
use crate::{Failure, shell};
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use tests::Machine;
use tests::budgets::BUDGETS;

/// A row's name, and its values.
type Row = (String, [Option<u64>; 3]);

/// A recorded change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub date: String,
    pub subject: String,
    pub rows: Vec<Row>,
}

impl Line {
    /// What a row was on a machine.
    pub fn value(&self, row: &str, machine: Machine) -> Option<u64> {
        self.rows.iter().find(|(name, _)| name == row).and_then(|(_, values)| values[machine as usize])
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t", self.date, self.subject)?;
        let word = |value: Option<u64>| value.map_or_else(|| "-".into(), |value| value.to_string());
        for (n, (row, values)) in self.rows.iter().enumerate() {
            let gap = if n == 0 { "" } else { " " };
            write!(f, "{gap}{row}={}", values.map(word).join("/"))?;
        }
        Ok(())
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Line, String> {
        let [date, subject, rows] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err("date, subject and rows should be there, with tabs between them".into());
        };
        let rows = rows.split(' ').map(|word| row(word).ok_or(format!("{word}: not ROW=N/N/N")));
        Ok(Line { date: date.into(), subject: subject.into(), rows: rows.collect::<Result<_, _>>()? })
    }
}

fn row(word: &str) -> Option<Row> {
    let (name, values) = word.split_once('=')?;
    let value = |word: &str| if word == "-" { Some(None) } else { word.parse().ok().map(Some) };
    let values: Option<Vec<Option<u64>>> = values.split('/').map(value).collect();
    Some((name.into(), values?.try_into().ok()?))
}

/// The rows that were measured, in their order.
pub fn values(measured: &Measured) -> Vec<Row> {
    BUDGETS.iter().filter_map(|budget| Some((budget.row.into(), *measured.get(budget.row)?))).collect()
}

/// What a recorded change came to.
pub fn measured(line: &Line) -> Measured {
    let row = |name: &str| BUDGETS.iter().find(|budget| budget.row == name).map(|budget| budget.row);
    line.rows.iter().filter_map(|(name, values)| Some((row(name)?, *values))).collect()
}

/// The file of what is measured here.
pub const OURS: &str = "history";
/// And on KVM-HV.
pub const KVM_HV: &str = "kvm-hv";

fn path(file: &str) -> PathBuf {
    shell::root().join("bench").join(file)
}

/// All of it, oldest first; nothing if there is no such file.
pub fn read(file: &str) -> Result<Vec<Line>, Failure> {
    let path = path(file);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = shell::read(&path)?;
    parse(&String::from_utf8_lossy(&text))
        .map_err(|(line, why)| Failure::usage(format!("{}:{line}: {why}", path.display())))
}

fn parse(text: &str) -> Result<Vec<Line>, (usize, String)> {
    text.lines().enumerate().map(|(n, line)| line.parse().map_err(|why| (n + 1, why))).collect()
}

/// Adds a line.
pub fn append(file: &str, line: &Line) -> Result<(), Failure> {
    let path = path(file);
    let cannot = |error| Failure::new(format!("{}: cannot write it: {error}", path.display()));
    let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(cannot)?;
    writeln!(file, "{line}").map_err(cannot)
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::bench::table;

    #[test]
    fn the_files_are_good() {
        let [ours, theirs] =
            [OURS, KVM_HV].map(|file| read(file).unwrap_or_else(|failure| panic!("{failure}")));
        let last = ours.last().expect("a line");
        assert_eq!(last.rows.len(), BUDGETS.len(), "a row was added or dropped, and not recorded");
        assert!(
            last.rows.iter().all(|(_, values)| values.iter().all(Option::is_some)),
            "not on all machines"
        );
        let last = theirs.last().expect("a line");
        assert_eq!(measured(last).len(), last.rows.len(), "a row is gone that KVM-HV was asked for");
        for line in ours.iter().chain(&theirs) {
            assert!(line.date.len() == 10 && !line.subject.is_empty(), "{line}");
        }
    }

    #[test]
    fn readme_shows_the_last_lines() {
        let [ours, theirs] = [OURS, KVM_HV].map(|file| {
            let lines = read(file).unwrap_or_else(|failure| panic!("{failure}"));
            measured(lines.last().expect("a line"))
        });
        let rows: Vec<_> = BUDGETS.iter().collect();
        let table = table::markdown(&rows, &ours, &theirs);
        let readme =
            shell::read(&shell::root().join("README.md")).unwrap_or_else(|failure| panic!("{failure}"));
        let readme = String::from_utf8_lossy(&readme);
        // Each line by itself, so that the message is about the one that is wrong.
        table.lines().for_each(|line| assert!(readme.contains(line), "README has no line {line}"));
        assert!(readme.contains(&table), "README's lines are in another order");
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        let rows = vec![("a".into(), [1, 2, 3].map(Some)), ("b_c".into(), [None, Some(u64::MAX), Some(7)])];
        let line = Line { date: "2026-01-31".into(), subject: "Do it: all".into(), rows };
        assert_eq!(line.to_string(), "2026-01-31\tDo it: all\ta=1/2/3 b_c=-/18446744073709551615/7");
        assert_eq!(line.to_string().parse(), Ok(line.clone()));
        assert_eq!(line.value("b_c", Machine::PowerNv10), Some(7));
        assert_eq!(line.value("b_c", Machine::PowerNv8), None);
        assert_eq!(line.value("c", Machine::PowerNv8), None);
        for (wrong, at) in [("x", 1), ("d\ts\ta=1/2/3\nd\ts\ta=1/2", 2), ("d\ts\ta=1/2/x", 1), ("", 0)] {
            assert_eq!(parse(wrong).map_or_else(|(line, _)| line, |lines| lines.len()), at, "{wrong}");
        }
    }
}
