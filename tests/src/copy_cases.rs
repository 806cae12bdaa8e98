//! The cases about what memory is made of: taken on demand, shared, merged, copied, put back to a snapshot, and counted as written; and
//! about page tables that change their length. Most of them have the monitor look while the guest waits.

use crate::partition_cases::{all_ended_well, little, many, same_memory, step, table};
use crate::transcript::{all_checks_pass, in_order};
use crate::{Case, Endian, Machine, PackedFile, Source, Step, Transcript};
use std::collections::BTreeSet;
use std::time::Duration;

const POWER8: &[Machine] = &[Machine::PowerNv8];
const POWER9: &[Machine] = &[Machine::PowerNv9];
const POWER10: &[Machine] = &[Machine::PowerNv10];
const POWER8_AND_10: &[Machine] = &[Machine::PowerNv8, Machine::PowerNv10];

/// A page, in bytes.
const PAGE: i64 = 64 << 10;

/// One partition `guest` of 64 MiB, not for the oracle.
fn one(name: &'static str, bin: &'static str) -> Case {
    Case { oracle: false, guest_memory: 64, ..Case::guest(name, bin, Endian::Little) }
}

fn big(bin: &'static str) -> Source {
    Source::Guest { bin, endian: Endian::Big }
}

/// At each of these places the partition waits: the monitor is asked something, and the partition goes on.
fn at_each(partition: &str, places: &[&str], asked: &str) -> Vec<Step> {
    let look = |place: &&str| {
        let place: &'static str = format!("@ at {place}").leak();
        step(place, format!("\x1d{asked}\nconsole {partition}\nx").leak())
    };
    places.iter().map(look).collect()
}

/// A number of a line of JSON.
fn number(line: &str, key: &str) -> Option<i64> {
    let (_, rest) = line.split_once(&format!("\"{key}\":"))?;
    rest.split([',', '}']).next()?.parse().ok()
}

/// The answers to `memory NAME --json`, in order.
fn memory_of<'a>(t: &'a Transcript, name: &str) -> Vec<&'a str> {
    let begin = format!("{{\"name\":\"{name}\",\"memory\":");
    t.text.lines().filter(|line| line.starts_with(&begin)).collect()
}

/// How much more of it there is from one answer to the next, in pages.
fn grew(answers: &[&str], key: &str) -> Result<Vec<i64>, String> {
    let values: Option<Vec<i64>> = answers.iter().map(|line| number(line, key)).collect();
    let values = values.ok_or(format!("an answer without {key}"))?;
    Ok(values.windows(2).map(|two| (two[1] - two[0]) / PAGE).collect())
}

/// How the figures of a partition grew from answer to answer, in pages.
fn growth(t: &Transcript, name: &str, wanted: &[(&str, &[i64])]) -> Result<(), String> {
    let answers = memory_of(t, name);
    for (key, want) in wanted {
        let got = grew(&answers, key)?;
        if got != *want {
            return Err(format!("{key} grew by {got:?} pages, not {want:?}"));
        }
    }
    Ok(())
}

/// Loads, fetches and refused stores take no memory. Of five pages that were not there, and one that a call read, each shows zeroes then. A
/// store takes a page: three pages that are read-write from the start, twelve that become so, two of the hypervisor's own.
fn took_what_was_stored(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    let zero = [6, -2, -8, 0];
    growth(
        t,
        "guest",
        &[("private", &[0, 3, 12, 2]), ("zero", &zero), ("unshared_since_start", &[0, 3, 12, 1])],
    )
}

/// Loads of 32 pages take none; stores take one each, of which ten showed zeroes before.
fn took_on_demand(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    growth(t, "guest", &[("private", &[0, 20, 0]), ("zero", &[32, -10, 0]), ("absent", &[-32, -10, 0])])
}

/// After a thousand ways back the host has as much memory as after ten.
fn no_drift(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    same_memory(t)
}

const COPIED_FILE: &[(&str, PackedFile)] = &[("copied", little("copied"))];
const COPIED: &str = table!("x", "copied", "memory = \"64M\"\nvcpus = 4\ncmdline = \"name=x\"");
const REVERTED: &str = table!("x", "copied", "memory = \"64M\"\nvcpus = 4\ncmdline = \"name=x reverted\"");

/// Three copies; they end by themselves, and the original when it is told to.
fn copy_thrice() -> Vec<Step> {
    vec![
        step("@ at work", "\x1dclone x y 3\n"),
        step("copied in ", "console y-1\n"),
        step("@ done ", "\x1dconsole y-2\n"),
        step("@ done ", "\x1dconsole y-3\n"),
        step("@ done ", "\x1dconsole x\nq"),
    ]
}

/// Each is somebody: its name, its number, its identifier.
fn all_different(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 4)?;
    let mut names = BTreeSet::new();
    let (mut numbers, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for record in t.records("named") {
        let words: Vec<&str> = record.split(' ').collect();
        let [name, number, id] = words[..] else { return Err(format!("bad record {record}")) };
        names.insert(name);
        numbers.insert(number);
        ids.insert(id);
    }
    let wanted = BTreeSet::from(["x", "y-1", "y-2", "y-3"]);
    if names != wanted || numbers.len() != 4 || ids.len() != 4 {
        return Err(format!("they are {names:?}, {numbers:?}, {ids:?}"));
    }
    Ok(())
}

const ENDS: &str = table!("guest", "demand", "memory = \"64G\"\ncmdline = \"ends\"");
const DEMAND: &[(&str, PackedFile)] = &[("demand", little("demand"))];

/// Sixty-four GiB on a host of four: thirty pages of it, and those that the program is in.
fn is_small(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    let answers = memory_of(t, "guest");
    match answers.first().and_then(|line| Some((number(line, "memory")?, number(line, "private")? / PAGE))) {
        Some((0x10_0000_0000, 30..200)) => Ok(()),
        other => Err(format!("memory in bytes, and pages that are private: {other:?}")),
    }
}

const LIMITED: &str = concat!(
    table!("x", "demand", "memory = \"64M\"\nlimit = \"24M\"\ncmdline = \"eats\""),
    table!("n", "demand", "memory = \"64M\"\nlimit = \"24M\"\ncmdline = \"lives\""),
);

/// It can have all memory that the host lends out, and its neighbour has some of it.
const GREEDY: &str = concat!(
    "[hypervisor]\nreserve = \"600M\"\n",
    table!("x", "demand", "memory = \"4G\"\ncmdline = \"eats\""),
    table!("n", "demand", "memory = \"64M\"\ncmdline = \"lives\""),
);

/// One ends for want of memory; then its neighbour is asked to.
fn neighbour(ended: &'static str) -> Vec<Step> {
    vec![step("@ eats", ""), step(ended, "\x1dlist\nconsole n\n"), step("@ lives", "q")]
}

const LIMIT: &str = "partition x: it wants more memory than its limit of 24 MiB";
const NO_MEMORY: &str =
    "partition x: the host has no memory left for it: 600 MiB are free, 600 MiB of which are reserved";

fn limited(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 1)?;
    in_order(t, &[LIMIT, "n     running", "@ check lived ok", "partita: exit 3: ", LIMIT])
}

fn starved(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 1)?;
    in_order(t, &[NO_MEMORY, "n     running", "@ check lived ok", "partita: exit 3: ", NO_MEMORY])
}

/// Two that are alike, and one that is too, but may not be merged.
const ALIKE: &str = concat!(
    table!("a", "alike", "memory = \"32M\"\nvcpus = 2\ncmdline = \"name=a\""),
    table!("b", "alike", "memory = \"32M\"\nvcpus = 2\ncmdline = \"name=b\""),
    table!("c", "alike", "memory = \"32M\"\nvcpus = 2\nmerge = false\ncmdline = \"name=c\""),
);
const ALIKE_FILE: &[(&str, PackedFile)] = &[("alike", little("alike"))];
/// Two on which nobody types `merge now`.
const ASLEEP: &str = concat!(
    table!("a", "alike", "memory = \"32M\"\nvcpus = 2\ncmdline = \"name=a\""),
    table!("b", "alike", "memory = \"32M\"\nvcpus = 2\ncmdline = \"name=b sleeps\""),
);

macro_rules! look {
    ($rest:literal) => {
        concat!("memory a --json\nmemory b --json\nmemory c --json\nmemory --json\n", $rest)
    };
}

fn merge_now() -> Vec<Step> {
    vec![
        step("@ at first", "\x1dconsole b\n"),
        step("@ at first", "\x1dconsole c\n"),
        step("@ at first", concat!("\x1d", look!("merge now\n"))),
        step("saved ", look!("console c\nx")),
        step("@ at second", "\x1dconsole b\nx"),
        step("@ at second", "\x1dconsole a\nx"),
        step("@ at second", concat!("\x1d", look!("merge now --json\n"))),
        step("\"saved\"", "console a\nx"),
        step("@ at third", "\x1dconsole b\nx"),
        step("@ at third", "\x1dconsole c\nx"),
        step("@ at third", concat!("\x1d", look!("console a\nx"))),
        step("@ done ", "\x1dconsole b\nx"),
        step("@ done ", "\x1dconsole c\nx"),
    ]
}

/// The pages with patterns are merged, those of zeroes are none any more, and the host has got their memory. What is stored to then is
/// nobody else's.
fn merged(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 3)?;
    let host: Vec<&str> = t.text.lines().filter(|line| line.starts_with("{\"total\":")).collect();
    let free = grew(&host, "free")?;
    for name in ["a", "b"] {
        let answers = memory_of(t, name);
        let (merged, zero) = (grew(&answers, "merged")?, grew(&answers, "zero")?);
        // Besides, a few pages that the program is in; and one of zeroes is stored to.
        if !(100..120).contains(&merged[0]) || merged[1] != -25 || merged[2] != -75 {
            return Err(format!("{name}: {merged:?} pages are merged"));
        }
        if !(30..80).contains(&zero[0]) || zero[1] != -1 || !(-30..=-29).contains(&zero[2]) {
            return Err(format!("{name}: {zero:?} pages are zeroes"));
        }
    }
    growth(t, "c", &[("merged", &[0; 3]), ("zero", &[0; 3]), ("private", &[0; 3])])?;
    // A page of each two, and all zeroes; and then as much is taken as is stored to.
    if !(160..250).contains(&free[0]) || free[1] != -27 {
        return Err(format!("{free:?} more pages are free"));
    }
    Ok(())
}

fn merge_asleep() -> Vec<Step> {
    vec![
        step("@ at first", "\x1dmemory a --json\nmerge on\nconsole b\nx"),
        step("@ at slept", "\x1dmemory a --json\nmerge off\nconsole a\nx"),
        step("@ at second", "x"),
        step("@ at third", "x"),
        step("@ done ", "\x1dconsole b\nx"),
        step("@ at second", "x"),
        step("@ at third", "x"),
    ]
}

/// While nobody has anything to do, it comes to the same.
fn merged_asleep(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 2)?;
    let answers = memory_of(t, "a");
    match (grew(&answers, "merged")?.first(), grew(&answers, "zero")?.first()) {
        (Some(100..120), Some(30..80)) => Ok(()),
        other => Err(format!("merged, and zero: {other:?}")),
    }
}

/// Each time that the partition waits, the pages are dirty that it has said it wrote, and no others. Below those are the program's own.
fn dirty_is_exact(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    const OWN: std::ops::Range<u64> = 0x100_0000..0x200_0000;
    let (mut wrote, mut dirty) = (BTreeSet::new(), BTreeSet::new());
    let mut looks = 0;
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    for line in t.text.lines() {
        if let Some(at) = line.strip_prefix("@ wrote ").and_then(hex) {
            wrote.insert(at);
        } else if let Some(rest) = line.strip_prefix("{\"start\":\"") {
            let start = rest.split('"').next().and_then(hex).ok_or(format!("bad range {line}"))?;
            let bytes = number(line, "bytes").ok_or(format!("bad range {line}"))? as u64;
            dirty.extend((start..start + bytes).step_by(PAGE as usize).filter(|at| OWN.contains(at)));
        } else if line.starts_with("{\"name\":\"guest\",\"pages\":") {
            if wrote != dirty || wrote.len() < 10 {
                return Err(format!("it wrote {wrote:x?}, dirty are {dirty:x?}"));
            }
            wrote.clear();
            dirty.clear();
            looks += 1;
        }
    }
    if looks == 3 { Ok(()) } else { Err(format!("{looks} looks at what is dirty, not 3")) }
}

fn snapshots() -> Vec<Case> {
    let cells = || at_each("guest", &["A", "B", "C", "D", "E"], "memory guest --json");
    let cells = |name| Case { script: cells(), judge: took_what_was_stored, ..one(name, "cells") };
    let fuzzed = || at_each("guest", &["tenth", "last"], "memory --json");
    let fuzzed = |name| Case { script: fuzzed(), judge: no_drift, ..one(name, "fuzzed") };
    vec![
        cells("cells"),
        Case { source: big("cells"), machines: POWER8, ..cells("cells-be") },
        one("revert", "revert"),
        Case { source: big("revert"), machines: POWER10, ..one("revert-be", "revert") },
        Case { vcpus: 4, smp: (2, 1), ..one("revert-four", "revert") },
        Case {
            vcpus: 4,
            smp: (4, 2),
            append: "others",
            mttcg: true,
            machines: POWER10,
            ..one("revert-parallel", "revert")
        },
        Case {
            append: "rounds=1000",
            machines: POWER9,
            timeout: Duration::from_secs(180),
            ..fuzzed("revert-thousand")
        },
        Case { append: "rounds=100", machines: POWER8_AND_10, ..fuzzed("revert-hundred") },
    ]
}

fn copies() -> Vec<Case> {
    vec![
        Case { script: copy_thrice(), ..many("copied", COPIED, COPIED_FILE, all_different) },
        Case {
            smp: (4, 1),
            mttcg: true,
            machines: POWER9,
            script: copy_thrice(),
            ..many("copied-parallel", COPIED, COPIED_FILE, all_different)
        },
        Case {
            machines: POWER10,
            script: vec![
                step("@ at work", "\x1dsnapshot x\n"),
                step("snapshot taken", "console x\n"),
                step("the console of x", "\x1drevert x\nconsole x\n"),
            ],
            ..many("reverted-from-outside", REVERTED, COPIED_FILE, all_checks_pass)
        },
        Case { vcpus: 2, smp: (2, 1), ..one("resize", "resize") },
    ]
}

fn demand() -> Vec<Case> {
    let steps = ["start", "loaded", "stored", "looked"];
    vec![
        Case {
            append: "steps",
            script: at_each("guest", &steps, "memory guest --json"),
            judge: took_on_demand,
            ..one("demand", "demand")
        },
        Case {
            host_memory: 4096,
            smp: (1, 1),
            machines: POWER9,
            script: at_each("guest", &["ends"], "memory guest --json"),
            ..many("demand-huge", ENDS, DEMAND, is_small)
        },
        Case { script: neighbour(LIMIT), status: 3, ..many("demand-limit", LIMITED, DEMAND, limited) },
        Case {
            host_memory: 1024,
            smp: (1, 1),
            machines: POWER10,
            script: neighbour(NO_MEMORY),
            status: 3,
            ..many("demand-starved", GREEDY, DEMAND, starved)
        },
    ]
}

fn contents() -> Vec<Case> {
    vec![
        Case { script: merge_now(), ..many("merge-now", ALIKE, ALIKE_FILE, merged) },
        Case {
            machines: POWER9,
            smp: (1, 1),
            script: merge_asleep(),
            ..many("merge-on", ASLEEP, ALIKE_FILE, merged_asleep)
        },
        Case {
            script: {
                let mut script = at_each("guest", &["first", "second"], "dirty guest reset --json");
                script.extend(at_each("guest", &["third"], "dirty guest --json"));
                script
            },
            judge: dirty_is_exact,
            ..one("dirty", "stores")
        },
    ]
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = snapshots();
    all.extend(copies());
    all.extend(demand());
    all.extend(contents());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(text: &str) -> Transcript {
        Transcript::new(format!("@ check a ok\n{text}@ done passed=1 failed=0\n").as_bytes(), true)
    }

    #[test]
    fn growth_is_compared_in_pages() {
        let t = transcript(
            "{\"name\":\"guest\",\"memory\":1,\"private\":65536,\"zero\":0}\n\
             {\"name\":\"other\",\"memory\":1,\"private\":0,\"zero\":0}\n\
             {\"name\":\"guest\",\"memory\":1,\"private\":196608,\"zero\":0}\n",
        );
        assert_eq!(growth(&t, "guest", &[("private", &[2]), ("zero", &[0])]), Ok(()));
        assert!(growth(&t, "guest", &[("private", &[3])]).unwrap_err().contains("[2]"));
        assert!(growth(&t, "guest", &[("merged", &[0])]).unwrap_err().contains("without merged"));
        assert!(growth(&t, "nobody", &[("private", &[0])]).is_err());
    }

    #[test]
    fn dirty_pages_are_compared() {
        let wrote: String = (0..10).map(|n| format!("@ wrote {:#x}\n", 0x100_0000 + 0x2_0000 * n)).collect();
        let range = |at: u64| format!("{{\"start\":\"{at:#x}\",\"bytes\":65536}}\n");
        let dirty: String = (0..10).map(|n| range(0x100_0000 + 0x2_0000 * n)).collect();
        let end = "{\"name\":\"guest\",\"pages\":10}\n";
        let look = format!("{wrote}{}{dirty}{end}", range(0));
        assert_eq!(dirty_is_exact(&transcript(&look.repeat(3))), Ok(()));
        assert!(dirty_is_exact(&transcript(&look)).unwrap_err().contains("1 looks"));
        let more = look.replace(end, &(range(0x101_0000) + end));
        assert!(dirty_is_exact(&transcript(&more.repeat(3))).is_err());
        let less = look.replace(&range(0x102_0000), "");
        assert!(dirty_is_exact(&transcript(&less.repeat(3))).is_err());
    }

    #[test]
    fn copies_must_be_somebody() {
        let text = |last: &str| {
            let names = ["x 1 a", "y-1 2 b", "y-2 3 c", last];
            let mut text: String = names.iter().map(|name| format!("@ named {name}\n")).collect();
            text += &"@ done passed=1 failed=0\n".repeat(4);
            all_different(&Transcript::new(text.as_bytes(), true))
        };
        assert_eq!(text("y-3 4 d"), Ok(()));
        assert!(text("y-3 4 c").is_err() && text("y-2 4 d").is_err() && text("y-3 3 d").is_err());
    }
}
