//! The cases with network cards, second consoles and balloons, by small drivers (`guests/src/virtqueue.rs`).

use crate::partition_cases::{all_ended_well, little, many, step, table};
use crate::transcript::{all_checks_pass, in_order};
use crate::{Case, PackedFile, Transcript};

/// Two at a network, and a third that keeps the run alive until both have been heard.
const NET: &str = concat!(
    table!("asks", "net", "memory = \"32M\"\ncmdline = \"role=asks\"\n[[partition.net]]\n"),
    table!(
        "answers",
        "net",
        "memory = \"32M\"\ncmdline = \"role=answers\"\n[[partition.net]]\nmac = \"52:54:00:aa:bb:cc\"\n"
    ),
    table!("y", "states", "memory = \"32M\"\ncmdline = \"name=y\"\n"),
);
const NET_FILES: &[(&str, PackedFile)] = &[("net", little("net")), ("states", little("states"))];

const BALLOON: &str = table!("guest", "balloon", "memory = \"64M\"\nballoon = true\n");
const BALLOON_FILES: &[(&str, PackedFile)] = &[("balloon", little("balloon"))];

const SECOND: &str = table!("guest", "second", "memory = \"32M\"\nsecond-console = true\n");
const SECOND_FILES: &[(&str, PackedFile)] = &[("second", little("second"))];

fn net(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 3)?;
    in_order(t, &["lan", "asks", "52:54:00:00:01:00", "answers", "52:54:00:aa:bb:cc"])
}

fn second(t: &Transcript) -> Result<(), String> {
    in_order(
        t,
        &[
            "the second console of guest; Ctrl-] leads back here",
            "before",
            "0123456789012345678901234567890",
            "the end",
        ],
    )?;
    match t.count("0123456789012345678901234567890") {
        500 => all_checks_pass(t),
        n => Err(format!("{n} lines of 500 came")),
    }
}

fn balloon(t: &Transcript) -> Result<(), String> {
    in_order(t, &["wanted", "1M", "given", "1M"])?;
    all_checks_pass(t)
}

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case {
            script: vec![
                step("@ done ", "\x1dnetwork\nconsole answers\n"),
                step("@ done ", "\x1dconsole y\n"),
                step("@ ready y", "q"),
            ],
            ..many("net", NET, NET_FILES, net)
        },
        Case {
            script: vec![
                step("@ ready", "\x1dballoon guest 1M\nconsole guest\n"),
                step("@ given", "\x1dballoon guest\nmemory guest\nconsole guest\nq"),
            ],
            smp: (1, 1),
            ..many("balloon", BALLOON, BALLOON_FILES, balloon)
        },
        Case {
            script: vec![
                step("@ ready", "\x1dconsole guest 2\n"),
                step("before", "hello"),
                step("the end", "\x1dconsole guest\nq"),
            ],
            smp: (1, 1),
            ..many("second-console", SECOND, SECOND_FILES, second)
        },
    ]
}
