//! Cases about the host: much memory, and which invalidations its CPUs are given.

use crate::transcript::all_checks_pass;
use crate::{Case, Endian, Machine, Transcript};

/// How many `tlbiel` and `tlbie` there were: only self-test builds count them.
fn invalidations(t: &Transcript) -> Result<(u64, u64), String> {
    let numbers = t.text.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("selftest: ")?;
        let (local, rest) = rest.split_once(" local invalidations, ")?;
        Some((local.parse().ok()?, rest.strip_suffix(" global ones")?.parse().ok()?))
    });
    numbers.ok_or_else(|| "no line says how many invalidations there were".into())
}

/// Nobody else can hold a translation. But virtual mode, which gives a page memory of its own that was only read before, is always global.
fn local_ones(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    match invalidations(t)? {
        (local, global) if local > 100 && global <= local / 100 => Ok(()),
        (local, global) => Err(format!("{local} local invalidations, {global} global ones")),
    }
}

/// The partition's vCPUs are on several CPUs.
fn global_ones(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    match invalidations(t)? {
        (_, 100..) => Ok(()),
        (local, global) => Err(format!("{local} local invalidations, {global} global ones")),
    }
}

fn one(name: &'static str, bin: &'static str) -> Case {
    Case { oracle: false, ..Case::guest(name, bin, Endian::Little) }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        // The hypervisor's own page table has room for all of it.
        Case { host_memory: 4096, machines: &[Machine::PowerNv8], ..one("host-4g", "hello") },
        Case { host_memory: 8192, machines: &[Machine::PowerNv9], ..one("host-8g", "hello") },
        Case { host_memory: 20480, machines: &[Machine::PowerNv10], ..one("host-20g", "hello") },
        Case { selftest: Some(""), judge: local_ones, ..one("invalidations-local", "pages") },
        Case {
            selftest: Some(""),
            judge: global_ones,
            vcpus: 2,
            smp: (2, 1),
            mttcg: true,
            append: "rounds=50",
            ..one("invalidations-global", "shoot")
        },
        Case {
            vcpus: 3,
            smp: (3, 1),
            mttcg: true,
            machines: &[Machine::PowerNv9],
            ..one("start-race", "startrace")
        },
    ]
}
