//! The tests that need a machine: what to run in QEMU and how to judge what it printed.
//!
//! [`cases`] lists them. The runner (`cargo xtask test`) turns each [`Case`] into QEMU command lines, one per
//! [`Machine`] and, for those marked `oracle`, one more under QEMU's own pseries machine; it collects the console
//! in a [`Transcript`], plays the script on it and asks the case's `judge`. A run that ends without the
//! records that its judge wants has failed: silence is never success.
#![forbid(unsafe_code)]

use std::time::Duration;

mod guest_cases;
mod linux_cases;
pub mod oracle;
pub mod transcript;

pub use transcript::{Check, Transcript};

/// Byte order of a test guest: which custom target it is built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endian {
    /// Built for `targets/ppc64le-partita.json`.
    Little,
    /// Built for `targets/ppc64be-partita.json`.
    Big,
}

impl Endian {
    /// The name of the target specification, and so of the folder under the target directory.
    pub const fn target(self) -> &'static str {
        match self {
            Endian::Little => "ppc64le-partita",
            Endian::Big => "ppc64be-partita",
        }
    }

    /// `le` or `be`.
    pub const fn short(self) -> &'static str {
        match self {
            Endian::Little => "le",
            Endian::Big => "be",
        }
    }
}

/// A machine that the hypervisor runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// `-M powernv8`.
    PowerNv8,
    /// `-M powernv9`.
    PowerNv9,
    /// `-M powernv10`.
    PowerNv10,
}

impl Machine {
    /// All three.
    pub const ALL: &'static [Machine] = &[Machine::PowerNv8, Machine::PowerNv9, Machine::PowerNv10];

    /// QEMU's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Machine::PowerNv8 => "powernv8",
            Machine::PowerNv9 => "powernv9",
            Machine::PowerNv10 => "powernv10",
        }
    }

    /// QEMU's name of its processor for the pseries machine.
    pub const fn cpu(self) -> &'static str {
        match self {
            Machine::PowerNv8 => "power8",
            Machine::PowerNv9 => "power9",
            Machine::PowerNv10 => "power10",
        }
    }
}

/// What is put into the hypervisor's bundle.
#[derive(Clone)]
pub enum Source {
    /// A program of the `guests` crate.
    Guest {
        /// Its name: `guests/src/bin/<bin>.rs`.
        bin: &'static str,
        /// Which of its two builds.
        endian: Endian,
    },
    /// A Debian kernel for ppc64el with an initramfs of busybox and a script as `/init`.
    Linux {
        /// The shell script that is installed as `/init` (busybox `sh`, applets by `/bin/busybox --install`).
        init: &'static str,
    },
    /// The hypervisor built with its `selftest` feature.
    Selftest {
        /// Its bootargs, which name the test.
        arguments: &'static str,
        /// The program of the `guests` crate that it is given.
        bin: &'static str,
    },
    /// An archive handed over as it is: foreign, truncated or hostile.
    Bundle(fn() -> Vec<u8>),
}

/// A step of a console dialogue: when the text has appeared (after everything that earlier steps matched), send.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What to wait for, verbatim.
    pub expect: &'static str,
    /// What to type then; nothing if empty.
    pub send: &'static str,
}

/// One test.
#[derive(Clone)]
pub struct Case {
    /// Its unique name, `[a-z0-9-]`.
    pub name: &'static str,
    /// What runs.
    pub source: Source,
    /// It runs under QEMU's pseries machine too, with the same judge (see [`oracle`]).
    pub oracle: bool,
    /// Limit of the wall time of one run on an idle machine.
    pub timeout: Duration,
    /// Where it runs.
    pub machines: &'static [Machine],
    /// The partition's memory, in MiB.
    pub guest_memory: u64,
    /// The partition's memory is backed so that 16 MiB pages are advertised.
    pub huge_pages: bool,
    /// The partition's virtual processors.
    pub vcpus: u32,
    /// The partition's command line (`/chosen/bootargs` of its device tree); for a selftest, more of the
    /// hypervisor's own.
    pub append: &'static str,
    /// What is typed on the console.
    pub script: Vec<Step>,
    /// The number in the hypervisor's last line, `partita: exit N: reason`. Not asked of the oracle.
    pub status: u32,
    /// Decides on the whole console output.
    pub judge: fn(&Transcript) -> Result<(), String>,
}

impl Case {
    /// A guest program with the common settings: every machine, the oracle, 256 MiB, one virtual processor, exit 0.
    pub fn guest(name: &'static str, bin: &'static str, endian: Endian) -> Case {
        Case {
            name,
            source: Source::Guest { bin, endian },
            oracle: true,
            timeout: Duration::from_secs(90),
            machines: Machine::ALL,
            guest_memory: 256,
            huge_pages: false,
            vcpus: 1,
            append: "",
            script: Vec::new(),
            status: 0,
            judge: transcript::all_checks_pass,
        }
    }
}

/// Every case there is.
pub fn cases() -> Vec<Case> {
    let mut all = guest_cases::cases();
    all.extend(linux_cases::cases());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_plain() {
        let mut seen = HashSet::new();
        for case in cases() {
            assert!(seen.insert(case.name), "{} twice", case.name);
            assert!(case.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }

    #[test]
    fn every_guest_program_exists_and_is_used() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/src/bin");
        let mut files: HashSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert!(files.remove("bench"), "the benchmark is for people to run, not a case");
        let used: HashSet<String> = cases()
            .iter()
            .filter_map(|c| match c.source {
                Source::Guest { bin, .. } => Some(bin.to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(files, used);
    }
}
