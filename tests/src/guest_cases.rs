//! The cases made of the programs in `guests`, of deliberate faults of the hypervisor, and of archives that it must
//! refuse.

use crate::host_io_cases::HOST_RNG;
use crate::partition_cases::all_ended_well;
use crate::transcript::{all_checks_pass, any, in_order};
use crate::{Case, Emulated, Endian, Machine, Source, Step, Transcript};
use std::time::Duration;

/// Programs that run in both byte orders with the common settings: the name of the program, and of its two cases.
const PLAIN: [(&str, &str, &str); 11] = [
    ("hello", "hello-le", "hello-be"),
    ("hpt", "hpt-le", "hpt-be"),
    ("calls", "calls-le", "calls-be"),
    ("vpa", "vpa-le", "vpa-be"),
    ("faults", "faults-le", "faults-be"),
    ("pages", "pages-le", "pages-be"),
    ("program", "program-le", "program-be"),
    ("ail", "ail-le", "ail-be"),
    ("xics", "xics-le", "xics-be"),
    ("timer", "timer-le", "timer-be"),
    ("rtas", "rtas-le", "rtas-be"),
];

fn one(name: &'static str, bin: &'static str) -> Case {
    Case::guest(name, bin, Endian::Little)
}

/// Accesses to nothing. An instruction that is not emulated (`dcbi 0,r3`) is told, though the many accesses before it are not any more.
fn mmio(name: &'static str, endian: Endian) -> Case {
    let judge = |t: &Transcript| {
        all_checks_pass(t)?;
        in_order(t, &["where nothing is", "by instruction 0x7c001bac at 0x10000004"])
    };
    Case { oracle: false, judge, ..Case::guest(name, "mmio", endian) }
}

/// A partition that ends in a way named by its command line.
fn ending(
    name: &'static str,
    how: &'static str,
    status: u32,
    judge: fn(&Transcript) -> Result<(), String>,
) -> Case {
    Case { append: how, status, judge, oracle: false, ..one(name, "ending") }
}

fn selftest(
    name: &'static str,
    arguments: &'static str,
    judge: fn(&Transcript) -> Result<(), String>,
) -> Case {
    Case { selftest: Some(arguments), oracle: false, status: 4, judge, ..one(name, "hello") }
}

fn archive(name: &'static str, make: fn() -> Vec<u8>, judge: fn(&Transcript) -> Result<(), String>) -> Case {
    Case {
        source: Source::Bundle(make),
        oracle: false,
        status: 2,
        judge,
        machines: &[Machine::PowerNv9],
        ..one(name, "hello")
    }
}

fn rebooted(t: &Transcript) -> Result<(), String> {
    in_order(t, &["@ boot first", "@ boot second", "@ done passed=3 failed=0"])
}

fn os_term(t: &Transcript) -> Result<(), String> {
    in_order(t, &["@ end os-term", "the guest gives up"])?;
    came_back(t)
}

fn came_back(t: &Transcript) -> Result<(), String> {
    if t.contains("it came back") { Err("the call came back".into()) } else { Ok(()) }
}

/// Every epitaph names its fault; the hypervisor's address is in it.
macro_rules! epitaph {
    ($($name:ident: $($word:literal),*;)*) => { $(
        fn $name(t: &Transcript) -> Result<(), String> {
            let low = t.text.to_lowercase();
            let words: &[&str] = &[$($word),*];
            if words.iter().any(|word| low.contains(word)) {
                Ok(())
            } else {
                Err(format!("no epitaph with one of {words:?}"))
            }
        }
    )* };
}

epitaph! {
    storage: "data storage", "data segment";
    stack: "stack", "guard";
    machine_check: "machine check";
}

/// From the payload's entry to the guest's first instruction in 50 M instructions: 50 ms of the counted clock. The guest
/// is small, so its copy hardly counts.
fn starts_soon(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    let line = t
        .text
        .lines()
        .find(|line| line.ends_with("] starting guest"))
        .ok_or("no line says when the guest starts")?;
    let seconds = line.trim_start_matches('[').split(']').next().map(|text| text.trim().parse::<f64>());
    match seconds {
        Some(Ok(seconds)) if seconds < 0.050 => Ok(()),
        other => Err(format!("the guest starts after {other:?} s")),
    }
}

/// Every other stay in the guest was over before it began, and still each was bounded: the guest that spins for a second
/// was left thousands of times.
fn bounded(t: &Transcript) -> Result<(), String> {
    all_checks_pass(t)?;
    let slices =
        t.text.lines().rev().find_map(|line| line.strip_suffix(" slices")?.rsplit(' ').next()?.parse().ok());
    match slices {
        Some(5_000u32..) => Ok(()),
        other => Err(format!("the guest was left {other:?} times for the end of its slice")),
    }
}

fn says_archive(t: &Transcript) -> Result<(), String> {
    in_order(t, &["boot archive"])
}

fn says_manifest(t: &Transcript) -> Result<(), String> {
    in_order(t, &["partitions.toml"])
}

fn newc(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = bundle::cpio::Writer::new();
    for (name, bytes) in files {
        writer.file(name, 0o644, bytes).expect("a small file with a good name");
    }
    writer.finish()
}

const MANIFEST: &[u8] = b"[[partition]]\nname = \"a\"\nmemory = \"64M\"\nkernel = \"kernel\"\n";

fn foreign() -> Vec<u8> {
    b"#!/bin/sh\necho this is no archive\n".repeat(100)
}

fn truncated() -> Vec<u8> {
    let whole = newc(&[("partitions.toml", MANIFEST), ("kernel", &[0x55; 100_000])]);
    whole[..whole.len() / 2].to_vec()
}

fn no_manifest() -> Vec<u8> {
    newc(&[("init", b"#!/bin/sh\n")])
}

fn bad_manifest() -> Vec<u8> {
    newc(&[
        ("partitions.toml", b"[[partition]]\nname = \"a\"\nmemory = \"64Q\"\nkernel = \"kernel\"\n"),
        ("kernel", b"x"),
    ])
}

fn not_elf() -> Vec<u8> {
    newc(&[("partitions.toml", MANIFEST), ("kernel", b"MZ this is no ELF file")])
}

/// An ELF header whose program header points out of the file, into the address space's last page.
fn hostile_elf() -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend(2u16.to_le_bytes());
    elf.extend(21u16.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    for word in [0u64, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(2u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes());
    elf.extend(7u32.to_le_bytes());
    for word in [u64::MAX - 0xfff, u64::MAX - 0xfff, u64::MAX - 0xfff, u64::MAX, u64::MAX, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    newc(&[("partitions.toml", MANIFEST), ("kernel", &elf)])
}

fn too_much_memory() -> Vec<u8> {
    newc(&[
        ("partitions.toml", b"[[partition]]\nname = \"a\"\nmemory = \"900G\"\nkernel = \"kernel\"\n"),
        ("kernel", b"\x7fELF"),
    ])
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (bin, le, be) in PLAIN {
        all.push(Case::guest(le, bin, Endian::Little));
        all.push(Case::guest(be, bin, Endian::Big));
    }
    all.extend([
        // Random numbers that are the host's, because the processor has none.
        Case {
            machines: &[Machine::PowerNv8],
            devices: HOST_RNG,
            append: "random",
            oracle: false,
            ..one("calls-random", "calls")
        },
        one("counted-le", "counted"),
        mmio("mmio-le", Endian::Little),
        mmio("mmio-be", Endian::Big),
        Case { emulated: Some(Emulated { disk: 1 << 20, iommu: false }), ..one("virtio-le", "virtio") },
        Case {
            emulated: Some(Emulated { disk: 1 << 20, iommu: false }),
            ..Case::guest("virtio-be", "virtio", Endian::Big)
        },
        Case {
            emulated: Some(Emulated { disk: 1 << 20, iommu: true }),
            append: "iommu",
            ..one("virtio-iommu", "virtio")
        },
        Case {
            emulated: Some(Emulated { disk: 1 << 20, iommu: true }),
            append: "iommu copied",
            oracle: false,
            script: vec![
                Step { expect: "@ at hold", send: "\x1dclone guest two\ninfo two\n" },
                Step { expect: "disk    running", send: "console guest\nq" },
                Step { expect: "@ done", send: "\x1dconsole two\nq" },
                Step { expect: "@ done", send: "" },
            ],
            judge: |t| all_ended_well(t, 2),
            ..one("virtio-copied", "virtio")
        },
        Case { huge_pages: true, append: "huge=on", ..one("pages-huge", "pages") },
        Case { append: "huge=off", ..one("pages-not-huge", "pages") },
        Case { huge_pages: true, ..one("hpt-huge", "hpt") },
        Case { huge_pages: true, oracle: false, ..one("faults-huge", "faults") },
        Case { guest_memory: 32, oracle: false, ..one("hello-small", "hello") },
        Case { guest_memory: 1024, ..one("pages-large", "pages") },
        Case {
            append: "typing",
            script: vec![Step { expect: "type now", send: "hello\n" }],
            ..one("terminal-le", "xics")
        },
        Case {
            append: "typing",
            script: vec![Step { expect: "type now", send: "hello\n" }],
            ..Case::guest("terminal-be", "xics", Endian::Big)
        },
        // The second processor never starts: it is there so that the first can give way.
        Case { vcpus: 2, ..one("registers-le", "registers") },
        Case { vcpus: 2, ..Case::guest("registers-be", "registers", Endian::Big) },
        Case { vcpus: 2, ..one("smp-le", "smp") },
        // The oracle takes its time with it; once is enough.
        Case { vcpus: 2, oracle: false, ..Case::guest("smp-be", "smp", Endian::Big) },
        Case { vcpus: 4, machines: &[Machine::PowerNv8], ..one("smp-four", "smp") },
        Case { oracle: false, timeout: Duration::from_secs(180), ..one("fuzz-le", "fuzz") },
        Case {
            oracle: false,
            append: "seed=7777",
            timeout: Duration::from_secs(180),
            ..Case::guest("fuzz-be", "fuzz", Endian::Big)
        },
        Case { oracle: true, ..ending("ending-reboot", "reboot", 0, rebooted) },
        ending("ending-os-term", "os-term", 3, os_term),
        ending("ending-stop", "stop", 3, came_back),
        Case {
            oracle: true,
            judge: crate::transcript::all_checks_pass,
            ..ending("ending-machine-check", "machine-check", 0, any)
        },
        Case { oracle: false, judge: starts_soon, ..one("boot-cost", "hello") },
        selftest("selftest-null-deref", "selftest=null-deref", storage),
        selftest("selftest-text-write", "selftest=text-write", storage),
        selftest("selftest-stack-overflow", "selftest=stack-overflow", stack),
        selftest("selftest-machine-check", "selftest=machine-check", machine_check),
        Case {
            selftest: Some("selftest=late-slice"),
            oracle: false,
            judge: bounded,
            ..one("late-slice", "timer")
        },
        archive("archive-foreign", foreign, says_archive),
        archive("archive-truncated", truncated, says_archive),
        archive("archive-no-manifest", no_manifest, says_manifest),
        archive("archive-bad-manifest", bad_manifest, says_manifest),
        archive("archive-not-elf", not_elf, any),
        archive("archive-hostile-elf", hostile_elf, any),
        archive("archive-too-much-memory", too_much_memory, any),
    ]);
    all
}
