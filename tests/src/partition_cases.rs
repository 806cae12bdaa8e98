//! The cases with several partitions or several processors: shares of time, wake-ups, starting and stopping, invalidation
//! across processors, the monitor and the console.

use crate::transcript::{all_checks_pass, any, in_order, none_failed};
use crate::{Case, Endian, Machine, PackedFile, Source, Step, Transcript};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) type Judge = fn(&Transcript) -> Result<(), String>;

const POWER8: &[Machine] = &[Machine::PowerNv8];
const POWER9: &[Machine] = &[Machine::PowerNv9];
const POWER10: &[Machine] = &[Machine::PowerNv10];

/// One partition of so many vCPUs, on so many CPUs, some of them threads of one core.
fn one(name: &'static str, bin: &'static str, vcpus: u32, smp: (u32, u32)) -> Case {
    Case { vcpus, smp, oracle: false, ..Case::guest(name, bin, Endian::Little) }
}

/// Partitions of a manifest, on two CPUs.
pub(crate) fn many(
    name: &'static str,
    manifest: &'static str,
    files: &'static [(&'static str, PackedFile)],
    judge: Judge,
) -> Case {
    Case { smp: (2, 1), judge, ..Case::partitions(name, manifest, files) }
}

pub(crate) const fn little(bin: &'static str) -> PackedFile {
    PackedFile::Guest { bin, endian: Endian::Little }
}

/// A table of a manifest: name and kernel, then the rest of its lines.
macro_rules! table {
    ($name:literal, $kernel:literal, $rest:literal) => {
        concat!("[[partition]]\nname = \"", $name, "\"\nkernel = \"", $kernel, "\"\n", $rest, "\n")
    };
}
pub(crate) use table;

pub(crate) fn step(expect: &'static str, send: &'static str) -> Step {
    Step { expect, send }
}

/// What `fair` says: what each vCPU had in the measure asked for, by partition.
fn shares(t: &Transcript, measure: &str) -> Result<BTreeMap<String, Vec<f64>>, String> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut begins = Vec::new();
    for record in t.records("share") {
        let (name, rest) = record.split_once(' ').unwrap_or_default();
        let value = |key: &str| rest.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let had = value(measure).and_then(|n| n.parse().ok()).ok_or(format!("bad record {record}"))?;
        all.entry(name.to_owned()).or_default().push(had);
        begins.push(value("begin"));
    }
    begins.dedup();
    match begins.len() {
        0 => Err("no shares".into()),
        1 => Ok(all),
        _ => Err(format!("they did not begin together: {begins:?}")),
    }
}

/// Each vCPU got what it should, in parts of the partitions' weights, within some per cent. By time, of which there was a
/// second on each CPU; and by loops too, if there was one CPU. Half as much again as the per cent may have been spent on
/// changing over.
fn shared(t: &Transcript, cpus: u32, weights: &[(&str, usize, f64)], percent: f64) -> Result<(), String> {
    let measures: &[&str] = if cpus == 1 { &["ticks", "loops"] } else { &["ticks"] };
    let mut wrong = String::new();
    for measure in measures {
        let all = shares(t, measure)?;
        let total: f64 = all.values().flatten().sum();
        if *measure == "ticks" && (total / (f64::from(cpus) * TB_HZ) - 1.0).abs() > percent * 0.015 {
            wrong += &format!("{total} ticks in all, on {cpus} CPUs in a second\n");
        }
        let parts: f64 = weights.iter().map(|(_, vcpus, weight)| *vcpus as f64 * weight).sum();
        for (name, vcpus, weight) in weights {
            let got = all.get(*name).map_or(&[][..], Vec::as_slice);
            if got.len() != *vcpus {
                return Err(format!("{} vCPUs of {name} told their share, not {vcpus}", got.len()));
            }
            for (vcpu, had) in got.iter().enumerate() {
                let of_share = had / (total * weight / parts) * 100.0;
                if (of_share - 100.0).abs() > percent {
                    wrong +=
                        &format!("vCPU {vcpu} of {name} got {of_share:.1} % of its share of {measure}\n");
                }
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Ticks of the timebase in a second.
const TB_HZ: f64 = 512e6;

const FAIR: &[(&str, PackedFile)] = &[("fair", little("fair"))];

const WEIGHTS: &str = concat!(
    table!("a", "fair", "memory = \"64M\"\nvcpus = 8\ncmdline = \"name=a even hold\""),
    table!("b", "fair", "memory = \"64M\"\nvcpus = 8\nweight = 300\ncmdline = \"name=b even hold\""),
);

fn by_weight(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 2)?;
    shared(t, 2, &[("a", 8, 100.0), ("b", 8, 300.0)], 5.0)
}

/// On one CPU.
const WEIGHTS_ONE: &str = concat!(
    table!("a", "fair", "memory = \"64M\"\nvcpus = 2\ncmdline = \"name=a even hold\""),
    table!("b", "fair", "memory = \"64M\"\nvcpus = 3\nweight = 200\ncmdline = \"name=b even hold\""),
);

fn by_weight_on_one(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 2)?;
    shared(t, 1, &[("a", 2, 100.0), ("b", 3, 200.0)], 5.0)
}

/// Of a large partition a snapshot takes longer than a slice.
const SNAPSHOTS: &str = concat!(
    table!("b", "fair", "memory = \"64M\"\ncmdline = \"name=b ms=300\""),
    table!("a", "fair", "memory = \"16G\"\ncmdline = \"name=a ms=300 snapshots\""),
);

/// What is done about one partition's calls is not done in the other one's time.
fn beside_snapshots(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    let had = shares(t, "ticks")?.get("b").map_or(0.0, |had| had[0]) / (0.3 * TB_HZ);
    if had > 0.45 { Ok(()) } else { Err(format!("the other partition got {:.1} % of the CPU", had * 100.0)) }
}

/// On a CPU that is not the monitor's: nearly always it stands still.
const NEVER_MOVES: &str =
    table!("a", "fair", "memory = \"16G\"\ncpus = \"1\"\ncmdline = \"name=a ms=100000 snapshots\"");

fn stop_and_reset() -> Vec<Step> {
    vec![
        step("@ taking snapshots", "\x1dreset a\nconsole a\n"),
        step("@ taking snapshots", "\x1dstop a\nshutdown\n"),
    ]
}

/// Who stands still is stopped when what is done to it has been done.
fn stopped_at_once(t: &Transcript) -> Result<(), String> {
    in_order(t, &["a is reset", "a stopped", "shut down from the monitor"])
}

fn by_number(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    shared(t, 2, &[("a", 16, 1.0)], 5.0)
}

/// Threads of one core, with one partition at a time on it.
const CORE: &str = concat!(
    "[hypervisor]\ncore-scheduling = true\n",
    table!("a", "fair", "memory = \"64M\"\nvcpus = 4\ncmdline = \"name=a hold\""),
    table!("b", "fair", "memory = \"64M\"\nvcpus = 4\ncmdline = \"name=b hold\""),
);

fn by_core(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 2)?;
    shared(t, 2, &[("a", 4, 100.0), ("b", 4, 100.0)], 10.0)
}

/// Two are confined to one CPU, the third has the other one.
const PINNED: &str = concat!(
    table!("a", "fair", "memory = \"64M\"\ncpus = \"0\"\ncmdline = \"name=a hold\""),
    table!("b", "fair", "memory = \"64M\"\ncpus = \"0\"\ncmdline = \"name=b hold\""),
    table!("c", "fair", "memory = \"64M\"\ncpus = \"1\"\ncmdline = \"name=c hold\""),
);

fn by_cpu(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 3)?;
    shared(t, 2, &[("a", 1, 1.0), ("b", 1, 1.0), ("c", 1, 2.0)], 5.0)
}

/// Lets partitions that hold go, one after the other. The first one has the console.
fn let_go(names: &[&str]) -> Vec<Step> {
    let text = |text: String| -> &'static str { text.leak() };
    let mut steps = vec![step(text(format!("@ hold {}", names[0])), "\x1d")];
    for name in &names[1..] {
        steps.push(step("partita> ", text(format!("console {name}\n"))));
        steps.push(step(text(format!("@ hold {name}")), "x"));
        steps.push(step(text(format!("partition {name} switched itself off")), "\x1d"));
    }
    steps.push(step("partita> ", text(format!("console {}\nx", names[0]))));
    steps
}

/// So many partitions counted their checks, and none failed.
pub(crate) fn all_ended_well(t: &Transcript, partitions: usize) -> Result<(), String> {
    none_failed(t)?;
    match t.records("done").count() {
        n if n == partitions => Ok(()),
        n => Err(format!("{n} partitions came to their end, not {partitions}")),
    }
}

fn fairness() -> Vec<Case> {
    vec![
        Case {
            append: "name=a even",
            machines: POWER9,
            judge: by_number,
            timeout: Duration::from_secs(120),
            ..one("fair-sixteen", "fair", 16, (2, 1))
        },
        Case {
            machines: POWER10,
            script: let_go(&["a", "b"]),
            timeout: Duration::from_secs(120),
            ..many("fair-weights", WEIGHTS, FAIR, by_weight)
        },
        Case {
            machines: POWER8,
            smp: (1, 1),
            script: let_go(&["a", "b"]),
            timeout: Duration::from_secs(120),
            ..many("fair-weights-one", WEIGHTS_ONE, FAIR, by_weight_on_one)
        },
        Case {
            machines: POWER8,
            smp: (2, 2),
            script: let_go(&["a", "b"]),
            timeout: Duration::from_secs(120),
            ..many("fair-core", CORE, FAIR, by_core)
        },
        Case {
            machines: POWER9,
            smp: (2, 2),
            script: let_go(&["a", "b"]),
            timeout: Duration::from_secs(120),
            ..many("fair-core-by-choice", CORE, FAIR, by_core)
        },
        Case {
            machines: POWER10,
            script: let_go(&["a", "b", "c"]),
            timeout: Duration::from_secs(120),
            ..many("fair-pinned", PINNED, FAIR, by_cpu)
        },
        Case { machines: POWER9, smp: (1, 1), ..many("fair-snapshots", SNAPSHOTS, FAIR, beside_snapshots) },
        Case {
            machines: POWER9,
            script: stop_and_reset(),
            ..many("stop-still", NEVER_MOVES, FAIR, stopped_at_once)
        },
    ]
}

/// One wanders over the CPUs, because two others take turns with it.
const MOVER: &str = concat!(
    table!("m", "shoot", "memory = \"64M\"\ncmdline = \"moves\""),
    table!("a", "states", "memory = \"64M\"\ncmdline = \"name=a busy\""),
    table!("b", "states", "memory = \"64M\"\ncmdline = \"name=b busy\""),
);

const MOVER_FILES: &[(&str, PackedFile)] = &[("shoot", little("shoot")), ("states", little("states"))];

fn processors() -> Vec<Case> {
    vec![
        // Each vCPU has a CPU for itself; and both share one. Where QEMU's processors take turns, one that is rung comes to it
        // only at the end of the other's turn, which lasts as long as half of the time to the next timer.
        Case { append: "alone late=6", oracle: true, machines: POWER9, ..one("wake", "wake", 2, (2, 1)) },
        Case {
            append: "alone late=6 rounds=500",
            machines: POWER8,
            source: Source::Guest { bin: "wake", endian: Endian::Big },
            ..one("wake-threads", "wake", 2, (2, 2))
        },
        Case { append: "crowded", ..one("wake-crowded", "wake", 2, (1, 1)) },
        Case {
            append: "late=200 rounds=100",
            machines: POWER10,
            mttcg: true,
            ..one("wake-four", "wake", 4, (4, 2))
        },
        Case { append: "cycles=50", oracle: true, machines: POWER9, ..one("cpus", "cpus", 2, (2, 1)) },
        Case { append: "cycles=200", machines: POWER10, ..one("cpus-crowded", "cpus", 4, (2, 1)) },
        Case {
            append: "cycles=50",
            machines: POWER8,
            source: Source::Guest { bin: "cpus", endian: Endian::Big },
            ..one("cpus-threads", "cpus", 4, (4, 4))
        },
        // Without counted instructions the firmware of powernv8 takes nine seconds: once is enough.
        Case {
            append: "rounds=200",
            machines: &[Machine::PowerNv9, Machine::PowerNv10],
            mttcg: true,
            ..one("shoot", "shoot", 2, (2, 1))
        },
        Case {
            append: "rounds=150",
            mttcg: true,
            source: Source::Guest { bin: "shoot", endian: Endian::Big },
            ..one("shoot-threads", "shoot", 4, (4, 4))
        },
        Case { append: "rounds=30", machines: POWER9, ..one("shoot-crowded", "shoot", 3, (2, 1)) },
        Case {
            script: vec![step("@ done ", "\x1dshutdown\n")],
            ..many("shoot-moves", MOVER, MOVER_FILES, all_checks_pass)
        },
    ]
}

/// One partition with a vCPU in every state.
const STATES: &str = table!("x", "states", "memory = \"64M\"\nvcpus = 11\ncmdline = \"name=x\"");

/// Stopped, paused and reset in the middle of everything.
fn in_every_state() -> Vec<Step> {
    let mut steps = vec![
        step("@ ready x", "\x1dlist\nstop x\nmemory --json\nstart x\nconsole x\n"),
        step("@ ready x", "\x1d"),
    ];
    for _ in 0..4 {
        steps.push(step("partita> ", "stop x\nstart x\nconsole x\n"));
        steps.push(step("@ ready x", "\x1dpause x\nlist\nresume x\nconsole x\na"));
        steps.push(step("@ alive x 1", "\x1dreset x\nconsole x\n"));
        steps.push(step("@ ready x", "a"));
        steps.push(step("@ alive x 1", "\x1dpause x\nstop x\nstart x\nconsole x\n"));
        steps.push(step("@ ready x", "\x1d"));
    }
    steps.push(step("partita> ", "stop x\nmemory --json\nshutdown\n"));
    steps
}

const CYCLES: &str = concat!(
    "[hypervisor]\nconsole = \"monitor\"\n",
    table!("x", "states", "memory = \"32M\"\nvcpus = 2\nstart = false\ncmdline = \"name=x state=running\""),
    table!("y", "states", "memory = \"32M\"\ncmdline = \"name=y\""),
);

/// Five hundred times started and stopped, and undefined and defined now and then.
fn cycles() -> Vec<Step> {
    let mut steps = vec![step("partita> ", "start x\nstop x\nmemory --json\n")];
    for n in 0..50 {
        let text = if n % 5 == 0 { "undefine x\ndefine x\n" } else { "" };
        let text = format!("{text}{}", "start x\nstop x\n".repeat(10));
        steps.push(step("partita> ", text.leak()));
    }
    steps.push(step("partita> ", "memory --json\nconsole y\n"));
    steps.push(step("@ ready y", "q"));
    steps
}

/// All answers of `memory --json` have the same amount free, and there are two at least.
pub(crate) fn same_memory(t: &Transcript) -> Result<(), String> {
    let free = |line: &str| line.split_once("\"free\":")?.1.split([',', '}']).next()?.parse::<u64>().ok();
    let answers: Vec<u64> = t.text.lines().filter_map(free).collect();
    match answers.as_slice() {
        [first, rest @ ..] if !rest.is_empty() => match rest.iter().find(|other| *other != first) {
            Some(other) => Err(format!("{first} bytes were free, and then {other}")),
            None => Ok(()),
        },
        _ => Err(format!("{} answers about memory", answers.len())),
    }
}

fn stopped_everywhere(t: &Transcript) -> Result<(), String> {
    same_memory(t)?;
    in_order(t, &["stop x", "pause x", "paused", "resume x", "reset x", "shutdown"])
}

fn cycled(t: &Transcript) -> Result<(), String> {
    same_memory(t)?;
    match t.count("x stopped") {
        501 => Ok(()),
        n => Err(format!("x was stopped {n} times, not 501")),
    }
}

/// Two that go wrong beside one that must not notice.
const KILLED: &str = concat!(
    table!("x", "states", "memory = \"64M\"\nvcpus = 2\ncmdline = \"name=x state=timer\""),
    table!("t", "ending", "memory = \"64M\"\ncmdline = \"os-term\""),
    table!("f", "fuzz", "memory = \"64M\"\ncmdline = \"seed=4242\""),
    table!("s", "ending", "memory = \"64M\"\ncmdline = \"stop\""),
    table!("n", "hello", "memory = \"64M\"\nstart = false"),
);
const KILLED_FILES: &[(&str, PackedFile)] = &[
    ("states", little("states")),
    ("ending", little("ending")),
    ("fuzz", little("fuzz")),
    ("hello", little("hello")),
];

fn killed() -> Vec<Step> {
    vec![
        step("@ ready x", "a"),
        step("@ alive x 1", "\x1dlist\nconsole t\n"),
        step("@ end os-term", "\x1dconsole f\n"),
        step("@ done ", "\x1dconsole x\na"),
        step("@ alive x 2", "\x1dstart n\nconsole n\n"),
        step("@ done ", "\x1dlist\nconsole x\na"),
        step("@ alive x 3", "q"),
    ]
}

fn others_lived(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 3)?;
    in_order(t, &["partita> list", "defined", "@ alive x 2", "@ alive x 3", "@ done "])
}

const CHATTER: &[(&str, PackedFile)] = &[("chatter", little("chatter")), ("states", little("states"))];
/// One writes at the console and reads what is pasted, beside one that keeps the CPUs busy. Two others write later, with nobody
/// there.
const CHATTERING: &str = concat!(
    table!("c", "chatter", "memory = \"64M\"\ncmdline = \"paste=20000\""),
    table!("d", "chatter", "memory = \"64M\"\nstart = false\ncmdline = \"lines=500\""),
    table!("e", "chatter", "memory = \"64M\"\nstart = false\ncmdline = \"lines=3000\""),
    table!("x", "states", "memory = \"64M\"\nvcpus = 3\ncmdline = \"name=x state=running\""),
);

/// As `chatter` expects it.
fn pasted() -> &'static str {
    let byte = |n: usize| if n % 50 == 49 { '\n' } else { char::from(b'a' + ((n / 50 + n % 50) % 26) as u8) };
    (0..20_000).map(byte).collect::<String>().leak()
}

/// Line `n`, as `chatter` prints it.
fn printed(n: usize) -> String {
    let letters: String = (0..46).map(|i| char::from(b'a' + ((n + i) % 26) as u8)).collect();
    format!("chatter {n:05} {letters}")
}

fn chattered(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 4)?;
    // At the console: each line, whole and in order. Then what was missed: all that fits, and the end of what does not.
    let lines: Vec<&str> = t.text.lines().filter(|line| line.contains("chatter 0")).collect();
    let wanted = (0..2000).chain(0..500).map(printed);
    for (n, want) in wanted.enumerate() {
        if lines.get(n) != Some(&want.as_str()) {
            return Err(format!("line {n} is {:?}, not {want:?}", lines.get(n)));
        }
    }
    let rest = &lines[2500..];
    // The first one may have lost its beginning.
    let first = 3000 - rest.len();
    for (n, line) in rest.iter().enumerate().skip(1) {
        if *line != printed(first + n) {
            return Err(format!("of the last lines, one is {line:?}, not {:?}", printed(first + n)));
        }
    }
    if (1000..1100).contains(&rest.len()) { Ok(()) } else { Err(format!("{} lines of 64 KiB", rest.len())) }
}

fn steering() -> Vec<Case> {
    const STATES_FILE: &[(&str, PackedFile)] = &[("states", little("states"))];
    vec![
        Case {
            script: in_every_state(),
            timeout: Duration::from_secs(120),
            ..many("stop-in-every-state", STATES, STATES_FILE, stopped_everywhere)
        },
        Case {
            script: in_every_state(),
            timeout: Duration::from_secs(120),
            machines: POWER9,
            smp: (4, 4),
            mttcg: true,
            ..many("stop-in-every-state-for-real", STATES, STATES_FILE, stopped_everywhere)
        },
        Case {
            script: cycles(),
            machines: POWER10,
            timeout: Duration::from_secs(180),
            ..many("start-stop-cycles", CYCLES, STATES_FILE, cycled)
        },
        Case { script: killed(), status: 3, ..many("killed-beside", KILLED, KILLED_FILES, others_lived) },
        Case {
            script: vec![
                step("@ paste now", pasted()),
                step("partition c switched itself off", "\x1dstart d\n"),
                step("partition d switched itself off", "start e\n"),
                step("partition e switched itself off", "console d\n"),
                step("@ done ", "\x1dconsole e\n"),
                step("@ done ", "\x1dconsole x\nq"),
            ],
            ..many("console", CHATTERING, CHATTER, chattered)
        },
        Case {
            script: vec![step("@ ready x", "\x1dbogus\nshutdown\n")],
            machines: POWER8,
            ..many("monitor-shutdown", STATES, STATES_FILE, any)
        },
    ]
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = fairness();
    all.extend(processors());
    all.extend(steering());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(lines: &[(&str, u64, u64, u64)]) -> Transcript {
        let line = |(name, ticks, loops, begin): &_| {
            format!("@ share {name} vcpu=0 ticks={ticks} loops={loops} begin={begin}\n")
        };
        Transcript::new(lines.iter().map(line).collect::<String>().as_bytes(), true)
    }

    #[test]
    fn shares_are_compared_by_weight() {
        let judge =
            |cpus, lines: &[_]| shared(&transcript(lines), cpus, &[("a", 1, 100.0), ("b", 1, 300.0)], 5.0);
        const A: (&str, u64, u64, u64) = ("a", 128_000_000, 10, 1);
        const B: (&str, u64, u64, u64) = ("b", 384_000_000, 30, 1);
        assert_eq!(judge(1, &[A, B]), Ok(()));
        assert!(judge(1, &[A, ("b", 320_000_000, 30, 1)]).unwrap_err().contains("vCPU 0 of a"));
        assert!(judge(1, &[A, ("b", 384_000_000, 25, 1)]).unwrap_err().contains("of loops"));
        assert!(judge(2, &[A, B]).unwrap_err().contains("in all"));
        assert!(judge(1, &[A, ("b", 384_000_000, 30, 2)]).unwrap_err().contains("together"));
        assert!(judge(1, &[A]).unwrap_err().contains("of b"));
        assert!(judge(1, &[]).unwrap_err().contains("no shares"));
    }

    #[test]
    fn memory_must_be_the_same() {
        let judge = |text: &str| same_memory(&Transcript::new(text.as_bytes(), true));
        assert_eq!(judge("{\"a\":3,\"free\":1,\"b\":2}\n{\"free\":1}\n"), Ok(()));
        assert!(judge("{\"free\":1}\n{\"free\":2}\n").unwrap_err().contains("then 2"));
        assert!(judge("{\"free\":1}\n").is_err());
    }
}
