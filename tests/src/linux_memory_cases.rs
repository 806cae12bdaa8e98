//! The cases in which Debian guests are copied, merged, put back, and change their page table: each knows what must stand in its memory,
//! and does what is typed on its console.

use crate::linux_cases::{init, quiet};
use crate::transcript::none_failed;
use crate::{Case, Machine, PackedFile, Source, Step, Transcript};
use std::time::Duration;

type Judge = fn(&Transcript) -> Result<(), String>;

const POWER8: &[Machine] = &[Machine::PowerNv8];
const POWER9: &[Machine] = &[Machine::PowerNv9];
const POWER10: &[Machine] = &[Machine::PowerNv10];
const POWER8_AND_10: &[Machine] = &[Machine::PowerNv8, Machine::PowerNv10];
const POWER9_AND_10: &[Machine] = &[Machine::PowerNv9, Machine::PowerNv10];

pub(crate) const MIB: u64 = 1 << 20;

/// Does what is typed, line by line. The functions are what can be typed.
const LISTEN: &str = init!(
    // The partition's name, as the identity page has it. Linux lets nobody read what a driver has.
    "who() {\n\
       driver=/sys/bus/platform/drivers/vmgenid\n\
       for page in $driver/*.vmgenid; do [ -e $page ] && echo ${page##*/} > $driver/unbind; done\n\
       rest=$(devmem 0xff00000040 64); rest=${rest#0x}; name=\n\
       while [ -n \"$rest\" ]; do\n\
         byte=${rest#\"${rest%??}\"}; rest=${rest%??}\n\
         [ $byte = 00 ] && break\n\
         name=$name\\\\x$byte\n\
       done\n\
       printf \"$name\"\n\
     }\n\
     stressed() {\n\
       check stress $(cat /tmp/status) 0\n\
       check stress-ok \"$(grep -c '^stress: ok' /tmp/out)\" 1\n\
     }\n",
    // work NAME SECONDS [OPTION=N]...; who becomes another meanwhile is called any.
    "work() {\n\
       me=$1; shift\n\
       (stress \"$@\"; echo $? > /tmp/status) | tee /tmp/out\n\
       [ $me = any ] || check name \"$(who)\" $me\n\
       stressed\n\
       echo \"@ idle $me\"\n\
     }\n",
    // Forks, many at a time, and stress.
    "storm() {\n\
       i=0; while [ $i -lt 10 ]; do (true | cat; /bin/busybox true) & i=$((i + 1)); done\n\
       echo \"@ middle $1\"\n\
       stress 60 rounds=3 seed=$1 > /tmp/out; echo $? > /tmp/status\n\
       wait\n\
       stressed\n\
       echo \"@ still $1\"\n\
     }\n",
    // The page table gets other lengths while there is work; after each it waits for a line.
    "resize() {\n\
       mount -t debugfs none /sys/kernel/debug\n\
       order=/sys/kernel/debug/powerpc/hpt_order\n\
       first=$(cat $order)\n\
       (stress $1; echo $? > /tmp/status) > /tmp/out &\n\
       echo 30 > $order 2> /dev/null; check too-long $(cat $order) $first\n\
       for want in 20 23 19 22 21 20 19 23 22; do\n\
         usleep 50000\n\
         echo $want > $order; check status $? 0\n\
         check order \"$(cat $order)\" $want\n\
         echo \"@ order $want\"; read word\n\
       done\n\
       wait\n\
       cat /tmp/out\n\
       stressed\n\
       echo '@ sized'\n\
     }\n",
    // generation N: it is the Nth copy of a copy.
    "generation() {\n\
       usleep 200000\n\
       check interrupts \"$(awk '/vmgenid/ { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i; print n }' /proc/interrupts)\" $1\n\
     }\n\
     reseeded() {\n\
       check reseeded \"$(dmesg | grep -c 'crng reseeded due to virtual machine fork')\" $1\n\
     }\n",
    "end() {\n",
    quiet!(),
    "}\n\
     echo '@ ready'\n\
     while read -r line; do eval \"$line\"; done\n"
);

const FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("initrd", PackedFile::Initramfs { init: LISTEN, programs: &["stress"] }),
];
const NEWER_FILES: &[(&str, PackedFile)] = &[("debian", PackedFile::NewerDebianKernel), FILES[1]];

/// A table of a manifest.
macro_rules! debian {
    ($name:literal, $memory:literal, $vcpus:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nmemory = \"",
            $memory,
            "\"\nvcpus = ",
            $vcpus,
            "\nkernel = \"debian\"\ninitrd = \"initrd\"\ncmdline = \"console=hvc0 quiet\"\n"
        )
    };
}

const ONE: &str = debian!("guest", "512M", 1);
const TWO_VCPUS: &str = debian!("guest", "512M", 2);
const FOUR_VCPUS: &str = debian!("guest", "512M", 4);
const THREE: &str =
    concat!(debian!("one", "512M", 1), debian!("two", "512M", 1), debian!("three", "512M", 1));
const LARGE: &str = debian!("guest", "64G", 1);

fn case(name: &'static str, manifest: &'static str, script: Vec<Step>, judge: Judge) -> Case {
    Case { timeout: Duration::from_secs(150), script, judge, ..Case::partitions(name, manifest, FILES) }
}

/// A dialogue whose texts are made here, and are never freed: who makes them ends soon.
#[derive(Default)]
struct Script(Vec<Step>);

impl Script {
    fn then(mut self, expect: impl Into<String>, send: impl Into<String>) -> Script {
        self.0.push(Step { expect: expect.into().leak(), send: send.into().leak() });
        self
    }
}

/// Numbers after `"key":` in the lines of JSON that have `first` as their first key, in order.
pub(crate) fn figures(t: &Transcript, first: &str, key: &str) -> Vec<u64> {
    let (first, key) = (format!("{{\"{first}\":"), format!("\"{key}\":"));
    let lines = t.text.lines().filter(|line| line.starts_with(&first));
    let values = lines.filter_map(|line| line.split_once(&key)?.1.split([',', '}']).next()?.parse().ok());
    values.collect()
}

/// Guests came to their end one after the other, each after so many checks of its own; none failed.
fn all_ended(t: &Transcript, checks: &[usize]) -> Result<(), String> {
    none_failed(t)?;
    let done: Vec<_> = t.records("done").collect();
    let want: Vec<_> = checks.iter().map(|n| format!("passed={n} failed=0")).collect();
    if done == want { Ok(()) } else { Err(format!("the guests say {done:?}, not {want:?}")) }
}

const COPIES: usize = 20;

/// One copy, for what it costs. Then twenty of them, each with work of its own, and the first one with other work again.
fn twenty() -> Vec<Step> {
    let mut start = String::from("\x1dclone guest once\nstop once\nundefine once\nmemory --json\n");
    start += &format!("clone guest c {COPIES}\nmemory --json\nmemory c-1\n");
    for n in 1..=COPIES {
        start += &format!("console c-{n}\nwork c-{n} 60 rounds=5 seed={n} hold=4\n\x1d");
    }
    start += "console guest\nwork guest 60 rounds=5 hold=4\n";
    let mut script = Script::default().then("@ ready", start).then("@ idle guest", "\x1dconsole c-1\n");
    for n in 1..COPIES {
        script = script.then(format!("@ idle c-{n}"), format!("\x1dconsole c-{}\n", n + 1));
    }
    script = script.then(format!("@ idle c-{COPIES}"), "\x1dmemory --json\nconsole c-1\nend\n");
    for n in 1..COPIES {
        let next = format!("\x1dconsole c-{}\nend\n", n + 1);
        script = script.then(format!("partition c-{n} switched itself off"), next);
    }
    let gone: String = (1..=COPIES).map(|n| format!("undefine c-{n}\n")).collect();
    let last = format!("partition c-{COPIES} switched itself off");
    script.then(last, format!("\x1d{gone}memory --json\nconsole guest\nend\n")).0
}

/// The most that a copy may take at first, and cost.
const COPY_BYTES: u64 = 6 * MIB;
const COPY_MICROS: u64 = 2000;

fn twenty_worked(t: &Transcript) -> Result<(), String> {
    all_ended(t, &[4; COPIES + 1])?;
    let free = figures(t, "total", "free");
    let &[before, after, _worked, gone] = &free[..] else {
        return Err(format!("{} answers of memory, not 4", free.len()));
    };
    let each = before.saturating_sub(after) / COPIES as u64;
    if each == 0 || each >= COPY_BYTES {
        return Err(format!("a copy takes {} KiB at first", each >> 10));
    }
    // The first one's work has taken something, too.
    if before.saturating_sub(gone) > 32 * MIB {
        return Err(format!("{} MiB have not come back", (before - gone) / MIB));
    }
    let micros = t.text.lines().find_map(|line| line.strip_prefix("copied in ")?.strip_suffix(" us"));
    match micros.and_then(|micros| micros.parse::<u64>().ok()) {
        Some(1..=COPY_MICROS) => Ok(()),
        other => Err(format!("the first copy was made in {other:?} us, not in {COPY_MICROS} at most")),
    }
}

/// In the middle of a storm on all vCPUs.
fn copy_in_storm() -> Vec<Step> {
    Script::default()
        .then("@ ready", "work any 3 seed=5 hold=8\n")
        .then("stress: half", "\x1dclone guest copy 2\nconsole copy-1\n")
        .then("@ idle any", "end\n")
        .then("partition copy-1 switched itself off", "\x1dconsole copy-2\n")
        .then("@ idle any", "end\n")
        .then("partition copy-2 switched itself off", "\x1dconsole guest\n")
        .then("@ idle any", "\x1dmemory guest\nconsole guest\nend\n")
        .0
}

fn three_went_on(t: &Transcript) -> Result<(), String> {
    all_ended(t, &[3; 3])
}

fn in_storm(
    name: &'static str,
    manifest: &'static str,
    machines: &'static [Machine],
    smp: (u32, u32),
) -> Case {
    Case { machines, smp, ..case(name, manifest, copy_in_storm(), three_went_on) }
}

/// Three guests that were started apart, in the middle of work.
fn merge_now() -> Vec<Step> {
    let work = "work one 3 seed=1 hold=32\n\x1dconsole two\nwork two 3 seed=2 hold=32\n\
                \x1dconsole three\nwork three 3 seed=3 hold=32\n";
    Script::default()
        .then("@ ready", work)
        .then(
            "stress: half",
            "\x1dmemory --json\nmerge now --json\nmemory --json\nmemory one --json\nconsole three\n",
        )
        .then("@ idle three", "\x1dmerge --json\nmemory --json\nmemory one\nconsole three\nend\n")
        .then("partition three switched itself off", "\x1dconsole two\n")
        .then("@ idle two", "end\n")
        .then("partition two switched itself off", "\x1dconsole one\n")
        .then("@ idle one", "end\n")
        .0
}

fn merged_now(t: &Transcript) -> Result<(), String> {
    all_ended(t, &[4; 3])?;
    let free = figures(t, "total", "free");
    let private = figures(t, "total", "private");
    match (&free[..], &private[..], &figures(t, "merging", "saved")[..]) {
        (&[before, after, _], &[private, ..], &[saved, _]) => {
            // A third of all that they had; without pages of zeroes, a half of what each holds, but for one of them.
            let gained = after.saturating_sub(before);
            if gained < private / 3 || saved < 2 * 16 * MIB {
                return Err(format!(
                    "{} of {} MiB came free, {} saved",
                    gained / MIB,
                    private / MIB,
                    saved / MIB
                ));
            }
            Ok(())
        }
        _ => Err("answers are missing".into()),
    }
}

/// The same while CPUs are idle, of memory that is looked at and stored to all the time.
fn merge_on() -> Vec<Step> {
    let work = "\x1dmerge on\nmemory --json\nconsole one\nwork one 12 workers=0 seed=1 hold=32\n\
                \x1dconsole two\nwork two 12 workers=0 seed=2 hold=32\n\
                \x1dconsole three\nwork three 12 workers=0 seed=3 hold=32\n";
    Script::default()
        .then("@ ready", work)
        .then("@ idle three", "\x1dmerge --json\nmemory --json\nmemory one\nconsole three\nend\n")
        .then("partition three switched itself off", "\x1dconsole two\n")
        .then("@ idle two", "end\n")
        .then("partition two switched itself off", "\x1dconsole one\n")
        .then("@ idle one", "end\n")
        .0
}

fn merged_when_idle(t: &Transcript) -> Result<(), String> {
    all_ended(t, &[4; 3])?;
    match figures(t, "merging", "saved")[..] {
        [saved] if saved >= 2 * 16 * MIB => Ok(()),
        ref other => Err(format!("saved {other:?} bytes")),
    }
}

const REVERTS: usize = 25;

/// Back again and again, from the end of a storm or out of its middle. It stands still while the memory is looked at.
fn storms() -> Vec<Step> {
    const AGAIN: &str =
        "\x1dpause guest\nrevert guest\nmemory --json\nmemory guest --json\nresume guest\nconsole guest\n";
    let first = "\x1dpause guest\nsnapshot guest\nresume guest\nconsole guest\nstorm 0\n";
    let mut script = Script::default().then("@ ready", first);
    for n in 0..REVERTS {
        let expect = if n % 5 == 2 { format!("@ middle {n}") } else { format!("@ still {n}") };
        script = script.then(expect, format!("{AGAIN}storm {}\n", n + 1));
    }
    script.then(format!("@ still {REVERTS}"), "end\n").0
}

fn nothing_lost(t: &Transcript) -> Result<(), String> {
    // Those of all storms but the last are forgotten.
    all_ended(t, &[3])?;
    let free = figures(t, "total", "free");
    match (free.len(), free.get(1), free.last()) {
        // Reverse map and log keep blocks of 64 KiB for next time.
        (REVERTS, Some(second), Some(last)) if second.saturating_sub(*last) <= 2 << 16 => Ok(()),
        _ => Err(format!("free after each way back: {free:?}")),
    }
}

/// Linux's own requests, in the middle of work.
fn resize() -> Vec<Step> {
    let mut script = Script::default().then("@ ready", "resize 2\n");
    for order in [20, 23, 19, 22, 21, 20, 19, 23, 22] {
        script = script.then(format!("@ order {order}"), "\x1dhpt guest --json\nconsole guest\n\n");
    }
    script.then("@ sized", "end\n").0
}

fn resized(t: &Transcript) -> Result<(), String> {
    // Two of each order, two of the stress, and what cannot be.
    all_ended(t, &[22])?;
    let sizes = figures(t, "name", "size");
    let want = [20, 23, 19, 22, 21, 20, 19, 23, 22].map(|order| 1 << order);
    if sizes == want { Ok(()) } else { Err(format!("sizes {sizes:x?}, not {want:x?}")) }
}

/// A copy and a copy of the copy; `seen` is what else each looks for.
fn generations(seen: &str) -> Vec<Step> {
    let look = |n: u32| format!("generation {n}; {seen} {n}; echo \"@ seen\" $?\n");
    let end = |name: &str| format!("check name \"$(who)\" {name}; end\n");
    Script::default()
        .then("@ ready", look(0))
        .then("@ seen 0", format!("\x1dclone guest copy\nconsole copy\n{}", look(1)))
        .then("@ seen 0", format!("\x1dclone copy second\nconsole second\n{}{}", look(2), end("second")))
        .then("partition second switched itself off", format!("\x1dconsole copy\n{}", end("copy")))
        .then("partition copy switched itself off", format!("\x1dconsole guest\n{}{}", look(0), end("guest")))
        .0
}

const LARGE_WORK: &str = "check size $(($(sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) >> 20)) 63\n\
                          work guest 20 rounds=20 hold=64\n";

fn large_worked(t: &Transcript) -> Result<(), String> {
    all_ended(t, &[5])?;
    match (&figures(t, "total", "free")[..], &figures(t, "name", "private")[..]) {
        (&[free], &[private]) if free >= 2 << 30 && private < 1 << 30 => Ok(()),
        other => Err(format!("free and private: {other:?}")),
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let newer = |name, machines, script, judge| Case {
        machines,
        source: Source::Partitions { manifest: ONE, files: NEWER_FILES },
        ..case(name, ONE, script, judge)
    };
    let large = Script::default()
        .then("@ ready", LARGE_WORK)
        .then("@ idle guest", "\x1dmemory --json\nmemory guest --json\nconsole guest\nend\n");
    vec![
        Case { timeout: Duration::from_secs(300), ..case("linux-clones", ONE, twenty(), twenty_worked) },
        in_storm("linux-clone-storm", TWO_VCPUS, POWER8, (1, 1)),
        in_storm("linux-clone-storm-four", FOUR_VCPUS, POWER10, (2, 1)),
        Case { mttcg: true, ..in_storm("linux-clone-storm-for-real", FOUR_VCPUS, POWER9, (4, 1)) },
        Case {
            machines: POWER8_AND_10,
            smp: (2, 1),
            ..case("linux-merge-now", THREE, merge_now(), merged_now)
        },
        Case { machines: POWER9, smp: (2, 1), ..case("linux-merge-on", THREE, merge_on(), merged_when_idle) },
        case("linux-revert", ONE, storms(), nothing_lost),
        Case { machines: POWER8_AND_10, ..case("linux-resize", ONE, resize(), resized) },
        Case { machines: POWER9, smp: (2, 1), ..case("linux-resize-four", FOUR_VCPUS, resize(), resized) },
        newer("linux-generation", POWER9_AND_10, generations("reseeded"), |t| all_ended(t, &[8, 6, 6])),
        // Without a random number generator it may have nothing to seed anew yet.
        newer("linux-generation-early", POWER8, generations("true"), |t| all_ended(t, &[5, 4, 4])),
        Case { host_memory: 4096, machines: POWER9, ..case("linux-large", LARGE, large.0, large_worked) },
    ]
}
