//! The cases about what the monitor does to a partition's memory while it runs.

use crate::transcript::{all_checks_pass, in_order, none_failed};
use crate::{Case, Endian, Step, Transcript};

const fn step(expect: &'static str, send: &'static str) -> Step {
    Step { expect, send }
}

/// What is typed for `watched`: a watch that ends because the partition starts anew, orders that are refused, those that the program wants;
/// later a look, and the end of it.
fn watching() -> Vec<Step> {
    vec![
        step("@ watch me", "\x1dwatch guest 4800000+64K none\nreset guest\nconsole guest\n"),
        step(
            "@ watch me",
            "\x1dwatch guest 4800100+64K none\nwatch guest ffff00000000+64K none\nwatch guest 4800000+64K rw\n\
             watch guest 4800000+64K ro\nwatch guest 4800000-4820000 none\nwatch guest 4800000+64K none\n\
             watch guest 4840000+64K ro\nwatch guest 4880000-4890000 none\nconsole guest\nx",
        ),
        step(
            "@ unwatch me",
            "\x1dwatch guest\nwatch guest 4840000+64K rw\nwatch guest off\nwatch guest --json\nconsole guest\nx",
        ),
    ]
}

/// What is typed for `emulated`.
const fn emulating() -> Step {
    step("@ watch me", "\x1dwatch guest 4800000+64K none\nconsole guest\nx")
}

/// What the hypervisor said about accesses: the lines, and how many accesses it did not show.
fn told(t: &Transcript) -> (Vec<&str>, u64) {
    let said = t.text.lines().filter_map(|line| Some(line.split_once(": watch: ")?.1.trim_end()));
    let (silent, lines): (Vec<&str>, Vec<&str>) = said.partition(|line| line.ends_with("are not shown"));
    let count = |line: &&str| line.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    (lines, silent.iter().filter_map(count).sum())
}

/// Each access was told, in order and exactly; of the many at the end as many as may be, and the others counted.
fn watched(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    let (lines, silent) = told(t);
    let expected: Vec<&str> = t.records("expect").collect();
    if expected.is_empty() {
        return Err("it expected nothing".into());
    }
    for (n, want) in expected.iter().enumerate() {
        if lines.get(n) != Some(want) {
            return Err(format!("access {n} was told as {:?}, not as {want:?}", lines.get(n)));
        }
    }
    let flood: u64 = t.records("flood").filter_map(|n| n.parse::<u64>().ok()).sum();
    let shown = (lines.len() - expected.len()) as u64;
    if flood == 0 || silent == 0 || shown + silent != flood {
        return Err(format!("of {flood} accesses at the end, {shown} are shown and {silent} are not"));
    }
    in_order(
        t,
        &[
            "multiples of 64 KiB",
            "not all of that range is memory",
            "there is no watch of 0x4800000+0x10000",
            "0x4800000+0x10000 is watched already",
            "watches: 3",
            "nothing",
            "reading",
            "is not watched any more; watches: 2",
            "2 ended; watches: 0",
        ],
    )
}

/// What is carried out by hand does the same as what the processor does, and it was by hand: who lets the processor do it cannot tell the bytes.
fn emulated(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    let (lines, _) = told(t);
    let by_guest: Vec<_> = lines.iter().filter(|line| !line.contains("by the hypervisor")).collect();
    if by_guest.len() < 50 {
        return Err(format!("{} accesses were told", by_guest.len()));
    }
    match by_guest.iter().find(|line| !line.contains(" bytes=")) {
        Some(line) => Err(format!("not carried out by hand: {line}")),
        None => Ok(()),
    }
}

/// A watched partition is copied, and put back to a snapshot: it goes on being watched, and its copy is not.
fn copying() -> Vec<Step> {
    vec![
        step(
            "@ watch me",
            "\x1dwatch guest 4800000+64K none\nwatch guest 4840000+64K ro\nwatch guest 4880000+64K none\n\
             clone guest other\nsnapshot guest\nrevert guest\n",
        ),
        step("guest: back at its snapshot", "console other\nx"),
        step("@ unwatch me", "x"),
        // Alone now: nobody comes between a reservation and its store, which would then be told too.
        step("partition other switched itself off", "\x1dconsole guest\nx"),
        step("@ unwatch me", "\x1dwatch guest off\nconsole guest\nx"),
    ]
}

/// Both did the same, and of one of them it was told.
fn copied(t: &Transcript) -> Result<(), String> {
    none_failed(t)?;
    let (expected, (lines, _)) = (t.records("expect").collect::<Vec<_>>(), told(t));
    let (other, guest) = expected.split_at(expected.len() / 2);
    if guest.is_empty() || other != guest || t.records("done").count() != 2 {
        return Err("the two did not do the same".into());
    }
    if t.contains(" other: watch: ") {
        return Err("the copy is watched".into());
    }
    match guest.iter().zip(&lines).find(|(want, told)| want != told) {
        Some((want, told)) => Err(format!("an access was told as {told:?}, not as {want:?}")),
        None if lines.len() < guest.len() => Err(format!("{} of {} were told", lines.len(), guest.len())),
        None => Ok(()),
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let case = |bin, name, endian| Case { oracle: false, ..Case::guest(name, bin, endian) };
    let watch = |name, endian| Case { script: watching(), judge: watched, ..case("watched", name, endian) };
    let emulate =
        |name, endian| Case { script: vec![emulating()], judge: emulated, ..case("emulated", name, endian) };
    vec![
        watch("watched-le", Endian::Little),
        watch("watched-be", Endian::Big),
        emulate("emulated-le", Endian::Little),
        emulate("emulated-be", Endian::Big),
        Case { script: copying(), judge: copied, ..watch("watched-copy", Endian::Little) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_access_has_to_be_told() {
        let text = |lines: &str, expected: &str| {
            let tail = "@ check a ok\n@ flood 3\n@ done passed=1 failed=0\n";
            Transcript::new(format!("{lines}{expected}{tail}").as_bytes(), true)
        };
        let told = "[  1.0] g: watch: load ea=0x1\n[  1.0] g: watch: load ea=0x2\n[  1.1] g: watch: 2 more accesses, which are not shown\n";
        let why = |lines, expected| watched(&text(lines, expected)).unwrap_err();
        // Only the monitor's answers are missing.
        assert!(why(told, "@ expect load ea=0x1\n").contains("multiples of 64 KiB"));
        assert!(why(told, "@ expect load ea=0x3\n").contains("access 0"));
        assert!(why(told, "").contains("nothing"));
        assert!(why("", "@ expect load ea=0x1\n").contains("None"));
        assert!(why(told, "@ expect load ea=0x1\n@ expect load ea=0x2\n").contains("0 are shown and 2"));
    }
}
