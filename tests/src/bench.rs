//! The benchmark: its cases, and the rows that their consoles come to. What these may be stands in [`crate::budgets`].
//!
//! Most rows are a guest's (`guests/src/bin/bench`), in instructions: `@ bench NAME N loop M`. The others are read off what the
//! hypervisor says: how long a partition ran, what `clone` took, what `memory` answers. Its microseconds are of the timebase: a
//! thousand instructions each. As instructions are counted, not time, all of it repeats exactly, and a row is a test like any
//! other.

use crate::budgets::{BUDGETS, Budget, Limit};
use crate::linux_cases::init;
use crate::partition_cases::{all_ended_well, little, many, step, table};
use crate::transcript::all_checks_pass;
use crate::{Case, Emulated, Endian, Machine, PackedFile, Source, Step, Transcript};
use std::time::Duration;

/// A row's name and its value, in the unit of its budget.
pub type Value = (&'static str, u64);

/// More than this over its limit, in per cent, and a row has failed.
const TOLERANCE: u64 = 2;

/// Instructions in a microsecond of the timebase.
const PER_MICRO: u64 = 1000;

/// Page table calls on one to four CPUs, a partition with large pages, and one that is copied.
const SEVERAL: &str = concat!(
    "[hypervisor]\nconsole = \"monitor\"\n",
    table!("several", "bench", "memory = \"256M\"\nvcpus = 4\nstart = false\ncmdline = \"several\""),
    table!("huge", "bench", "memory = \"256M\"\nhuge-pages = true\nstart = false\ncmdline = \"huge\""),
    table!("hold", "bench", "memory = \"256M\"\nstart = false\ncmdline = \"hold\""),
);
/// One with two network cards.
const CARDS: &str = table!(
    "bench",
    "bench",
    "memory = \"256M\"\ncmdline = \"network\"\n[[partition.net]]\n[[partition.net]]\n"
);
const BENCH_FILE: &[(&str, PackedFile)] = &[("bench", little("bench"))];

/// Nobody to be started: what the hypervisor has itself, and what a partition takes.
const IDLE: &str = concat!(
    "[hypervisor]\nconsole = \"monitor\"\n",
    table!("idle", "bench", "memory = \"512M\"\nstart = false")
);

/// Nothing but the way to the first program and to the end.
const BOOT: &str = "#!/bin/busybox sh\n/bin/busybox echo '@ up'\n/bin/busybox poweroff -f\n";

/// Up, and idle.
const WAIT: &str = "#!/bin/busybox sh\n/bin/busybox echo '@ up'\nread word\n/bin/busybox poweroff -f\n";

/// Processes, one after the other: each is a fork, an exec, and what busybox maps.
macro_rules! storm {
    ($count:literal) => {
        init!(concat!(
            "i=0; n=0\n\
             while [ $i -lt ",
            $count,
            " ]; do /bin/busybox true && n=$((n + 1)); i=$((i + 1)); done\n\
             check processes $n ",
            $count,
            "\n\
             echo \"@ done passed=$passed failed=$failed\"\n\
             poweroff -f\n"
        ))
    };
}

fn linux(name: &'static str, init: &'static str, judge: fn(&Transcript) -> Result<(), String>) -> Case {
    Case {
        source: Source::Linux { init, programs: &[] },
        oracle: false,
        limit: true,
        timeout: Duration::from_secs(240),
        machines: &[Machine::PowerNv9],
        guest_memory: 512,
        append: "console=hvc0 quiet",
        judge,
        ..Case::guest(name, "", Endian::Little)
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case {
            vcpus: 2,
            timeout: Duration::from_secs(120),
            judge: |t| judge(ONE, t),
            ..Case::guest(ONE, "bench", Endian::Little)
        },
        Case {
            emulated: Some(Emulated { disk: 1 << 20, iommu: false }),
            append: "devices",
            oracle: false,
            judge: |t| judge(DEVICES, t),
            ..Case::guest(DEVICES, "bench", Endian::Little)
        },
        Case { smp: (1, 1), judge: |t| judge(NETWORK, t), ..many(NETWORK, CARDS, BENCH_FILE, |_| Ok(())) },
        Case {
            smp: (4, 1),
            timeout: Duration::from_secs(120),
            script: several_script(),
            judge: |t| judge(MANY, t),
            ..many(MANY, SEVERAL, BENCH_FILE, |_| Ok(()))
        },
        Case {
            smp: (1, 1),
            script: vec![step("partita> ", "memory --json\nmemory idle --json\nshutdown\n")],
            judge: |t| judge(MEMORY, t),
            ..many(MEMORY, IDLE, BENCH_FILE, |_| Ok(()))
        },
        linux(DEBIAN, BOOT, |t| judge(DEBIAN, t)),
        Case { vcpus: 4, limit: false, ..linux(DEBIAN_SMP, BOOT, |t| judge(DEBIAN_SMP, t)) },
        Case {
            limit: false,
            script: vec![
                step("@ up", "\x1dclone guest copy\n"),
                step("copied in ", "snapshot guest\n"),
                step("taken in ", "shutdown\n"),
            ],
            ..linux(COPIES, WAIT, |t| judge(COPIES, t))
        },
        linux(PROCESSES, storm!("1000"), |t| judge(PROCESSES, t)),
        Case {
            long: true,
            timeout: Duration::from_secs(1200),
            ..linux("bench-processes-10000", storm!("10000"), ten_thousand)
        },
    ]
}

/// One processor.
pub const ONE: &str = "bench";
/// A partition with devices.
pub const DEVICES: &str = "bench-devices";
/// A partition with network cards.
pub const NETWORK: &str = "bench-network";
/// Several, and several partitions.
pub const MANY: &str = "bench-several";
/// What memory the hypervisor takes.
pub const MEMORY: &str = "bench-memory";
/// A Linux from its entry to its end.
pub const DEBIAN: &str = "bench-debian";
/// The same on four virtual processors.
pub const DEBIAN_SMP: &str = "bench-debian-smp";
/// A Linux that is copied.
pub const COPIES: &str = "bench-copies";
/// A Linux that makes processes.
pub const PROCESSES: &str = "bench-processes";

fn several_script() -> Vec<Step> {
    vec![
        // It stays, paused, so that the run does not end with one of the others.
        step("partita> ", "start hold\nconsole hold\n"),
        step("@ at hold", "\x1dpause hold\nstart several\nconsole several\n"),
        step("@ done", "\x1dstart huge\nconsole huge\n"),
        step("@ done", "\x1dclone hold copy\n"),
        step("copied in ", "shutdown\n"),
    ]
}

/// The rows of a case, all of them and no others; if all else is well.
pub fn rows(case: &str, t: &Transcript) -> Result<Vec<Value>, String> {
    let mut found = match case {
        ONE | DEVICES | NETWORK => all_checks_pass(t).map(|()| printed(t)),
        MANY => all_ended_well(t, 2).and_then(|()| several(t)),
        MEMORY => memory(t),
        COPIES => Ok(vec![
            ("clone_debian".into(), took(t, "copied in ")?),
            ("snapshot_debian".into(), took(t, "snapshot taken in ")?),
        ]),
        _ => linux_rows(case, t),
    }?;
    let mut rows = Vec::new();
    for budget in BUDGETS.iter().filter(|budget| budget.case == case) {
        let at = found.iter().position(|(name, _)| name == budget.row);
        let (_, value) = found.swap_remove(at.ok_or(format!("no row {}", budget.row))?);
        rows.push((budget.row, value));
    }
    match found.first() {
        Some((name, _)) => Err(format!("row {name} has no budget (or comes twice): tests/src/budgets.rs")),
        None => Ok(rows),
    }
}

fn printed(t: &Transcript) -> Vec<(String, u64)> {
    t.bench()
}

/// The number of a line of JSON.
fn number(line: &str, key: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!("\"{key}\":"))?;
    rest.split([',', '}']).next()?.parse().ok()
}

/// Instructions that something took, of which a line of the hypervisor's says how many microseconds.
fn took(t: &Transcript, what: &str) -> Result<u64, String> {
    let micros = t.text.lines().find_map(|line| {
        let (_, rest) = line.split_once(what)?;
        rest.split_once(" us")?.0.parse::<u64>().ok()
    });
    micros.map(|micros| micros * PER_MICRO).ok_or(format!("nothing was {what:?} so many us"))
}

fn several(t: &Transcript) -> Result<Vec<(String, u64)>, String> {
    let mut rows = printed(t);
    rows.push(("clone".into(), took(t, "copied in ")?));
    let costs = ["enter_remove_1", "enter_remove_2", "enter_remove_4"]
        .map(|name| rows.iter().find(|(row, _)| row == name).map_or(0, |(_, value)| *value));
    for (row, cost) in [("scaling_2", costs[1]), ("scaling_4", costs[2])] {
        rows.push((row.into(), cost * 1000 / costs[0].max(1)));
    }
    Ok(rows)
}

/// What `memory` answers, of the host and of the one partition.
fn memory(t: &Transcript) -> Result<Vec<(String, u64)>, String> {
    let answer = |begin: &str, key: &str| {
        let found = t.text.lines().find_map(|line| line.find(begin).and_then(|at| number(&line[at..], key)));
        found.ok_or(format!("nothing says {key}"))
    };
    let of_host = |key| answer("{\"total\":", key);
    let of_idle = |key| answer("{\"name\":\"idle\",", key);
    let (image, before, overhead) = (of_host("image")?, of_host("before_guests")?, of_idle("overhead")?);
    if before < image + of_host("heap")? {
        return Err(format!("before the first guest it has {before} bytes, less than image and heap"));
    }
    // All that the two name, and at least the vCPU besides.
    let named = of_idle("reverse_map_and_log")? + of_idle("page_states")?;
    if overhead <= named || overhead != of_host("overhead")? {
        return Err(format!("an overhead of {overhead} bytes, of which {named} are tables"));
    }
    Ok(vec![("image".into(), image), ("before_guests".into(), before), ("overhead".into(), overhead)])
}

/// Ten thousand processes tell what a thousand do, and take minutes: they are in no table.
fn ten_thousand(t: &Transcript) -> Result<(), String> {
    let most = BUDGETS.iter().find(|b| b.row == "processes_ratio").and_then(|b| b.budget);
    match (linux_rows(PROCESSES, t)?.first(), most) {
        (Some((_, ratio)), Some(most)) if *ratio <= most => Ok(()),
        (ratio, _) => Err(format!("per mille of what it takes without a hypervisor: {ratio:?}")),
    }
}

/// How long a Linux ran, here and under QEMU's pseries machine.
fn linux_rows(case: &str, t: &Transcript) -> Result<Vec<(String, u64)>, String> {
    if case == PROCESSES && t.count("@ check processes ok") != 2 {
        return Err("not all processes ran, here and without a hypervisor".into());
    }
    let ran = took(t, "guest ran for ")?;
    let name = case.trim_start_matches("bench-").replace('-', "_");
    let mut rows = Vec::new();
    if case != DEBIAN_SMP {
        let bare = unhosted(t).ok_or("QEMU's monitor did not say when the machine was switched off")?;
        rows.push((format!("{name}_ratio"), (ran * 1000).div_ceil(bare)));
    }
    rows.push((name, ran));
    if case == DEBIAN {
        let off = t.text.lines().find(|line| line.ends_with("partition guest switched itself off"));
        let micros = off.and_then(micros).ok_or("no line says when it was switched off")?;
        rows.push(("payload".into(), micros * PER_MICRO));
        rows.push(("start".into(), (micros * PER_MICRO).saturating_sub(ran)));
    }
    Ok(rows)
}

/// Microseconds of a line of the hypervisor's log, `[  1.234567] …`.
fn micros(line: &str) -> Option<u64> {
    let time = line.trim_start().strip_prefix('[')?.split_once(']')?.0.trim();
    let (seconds, micros) = time.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}

/// Instructions until the pseries machine was switched off: its timebase began with it, and QEMU's monitor has shown it at the end.
fn unhosted(t: &Transcript) -> Option<u64> {
    let shown = t.text.split_once("paused (shutdown)")?.1;
    let mut words = shown.split_once("\nTB ")?.1.split_whitespace();
    let upper: u64 = words.next()?.parse().ok()?;
    let lower: u64 = words.next()?.parse().ok()?;
    Some((upper << 32 | lower) * 1_953_125 / 1_000_000)
}

/// A test: all rows are there, and none is too much over what it may be.
fn judge(case: &str, t: &Transcript) -> Result<(), String> {
    if t.records("processor").any(|word| word.ends_with("under qemu")) {
        // The oracle's calls take no instructions: there is nothing to compare.
        return all_checks_pass(t);
    }
    let mut over = String::new();
    for (name, value) in rows(case, t)? {
        if let Some(budget) = BUDGETS.iter().find(|budget| budget.row == name)
            && let Some(limit) = budget.exceeded(value)
        {
            over += &format!("{name}: {value}, and {limit} is what it may be\n");
        }
    }
    if over.is_empty() { Ok(()) } else { Err(over) }
}

impl Budget {
    /// The limit that holds, if there is one.
    pub fn most(&self) -> Option<u64> {
        match self.limit {
            Limit::Budget => self.budget,
            Limit::Ceiling(most, _) => Some(most),
            Limit::Open(_) => None,
        }
    }

    /// The limit, if the value is too much over it.
    pub fn exceeded(&self, value: u64) -> Option<u64> {
        self.most().filter(|limit| value * 100 > limit * (100 + TOLERANCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(text: &str) -> Transcript {
        Transcript::new(text.as_bytes(), true)
    }

    #[test]
    fn what_a_linux_took() {
        let text = "(qemu) info status\nVM status: paused (shutdown)\n(qemu) info registers\n\nCPU#0\n\
            TB 00000001 00000512 DECR 7\n(qemu) quit\n[  0.000020] Partita\n\
            [ 9.100000] partition guest switched itself off\n[ 1.100001] guest ran for 9000000 us; 3 exits: …\n";
        let bare = ((1 << 32) + 512) * 1_953_125 / 1_000_000;
        let rows = linux_rows(DEBIAN, &transcript(text)).unwrap();
        let want = [("debian_ratio", 9_000_000_000_000u64.div_ceil(bare)), ("debian", 9_000_000_000)];
        assert_eq!(rows[..2], want.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(rows[2], ("payload".to_owned(), 9_100_000_000));
        assert_eq!(rows[3], ("start".to_owned(), 100_000_000));
        let running = text.replace("paused (shutdown)", "running");
        assert!(linux_rows(DEBIAN, &transcript(&running)).is_err());
    }

    #[test]
    fn missing_and_foreign_rows_are_failures() {
        let done = "@ check a ok\n@ done passed=1 failed=0\n";
        assert_eq!(rows(ONE, &transcript(done)), Err("no row unknown".into()));
        let all: String = BUDGETS
            .iter()
            .filter(|budget| budget.case == ONE)
            .map(|budget| format!("@ bench {} 1 loop 1\n", budget.row))
            .collect();
        let text = format!("@ processor POWER9 under partita\n{all}{done}");
        assert_eq!(judge(ONE, &transcript(&text)), Ok(()));
        let more = rows(ONE, &transcript(&format!("@ bench new 1 loop 1\n{text}")));
        assert!(more.is_err_and(|why| why.starts_with("row new has no budget")));
        let dear = text.replace("unknown 1 ", "unknown 99999 ");
        assert!(judge(ONE, &transcript(&dear)).is_err_and(|why| why.starts_with("unknown: 99999")));
    }

    #[test]
    fn a_limit_has_a_little_tolerance() {
        let row = BUDGETS.iter().find(|budget| budget.row == "h_read").unwrap();
        let row = Budget { limit: Limit::Ceiling(200, "why"), ..*row };
        assert_eq!(row.exceeded(204), None);
        assert_eq!(row.exceeded(205), Some(200));
        assert_eq!(Budget { limit: Limit::Open("why"), ..row }.exceeded(1 << 40), None);
    }
}
