//! The tests that need a machine: what to run in QEMU and how to judge what it printed.
//!
//! [`cases`] lists them. The runner (`cargo xtask test`) turns each [`Case`] into QEMU command lines, one per
//! [`Machine`] and, for those marked `oracle`, one more under QEMU's own pseries machine; it collects the console
//! in a [`Transcript`], plays the script on it and asks the case's `judge`. A run that ends without the
//! records that its judge wants has failed: silence is never success.
#![forbid(unsafe_code)]

use std::time::Duration;

pub mod bench;
pub mod budgets;
mod copy_cases;
mod device_cases;
mod guest_cases;
mod host_cases;
mod host_io_cases;
mod linux_cases;
mod linux_disk_cases;
mod linux_memory_cases;
mod linux_net_cases;
mod linux_virtio_cases;
mod memory_cases;
mod network_cases;
pub mod oracle;
mod partition_cases;
pub mod transcript;
mod virtio_cases;

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

    /// The most threads that a core of it has.
    pub const fn threads_per_core(self) -> u32 {
        match self {
            Machine::PowerNv8 => 8,
            Machine::PowerNv9 | Machine::PowerNv10 => 4,
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
        /// Programs of the `guests` crate that run under Linux; each is in `/bin` under its name.
        programs: &'static [&'static str],
    },
    /// Several partitions, as a manifest says. It says all about them: `guest_memory`, `huge_pages`, `vcpus` and `append` of
    /// the case are not used.
    Partitions {
        /// The text of `partitions.toml`.
        manifest: &'static str,
        /// The archive's files, by the names that the manifest uses.
        files: &'static [(&'static str, PackedFile)],
    },
    /// An archive handed over as it is: foreign, truncated or hostile.
    Bundle(fn() -> Vec<u8>),
}

/// A file that partitions boot from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackedFile {
    /// A program of the `guests` crate.
    Guest {
        /// Its name: `guests/src/bin/<bin>.rs`.
        bin: &'static str,
        /// Which of its two builds.
        endian: Endian,
    },
    /// A disk of so many sectors. Each eight bytes of it are their offset, in little endian.
    Disk {
        /// How many.
        sectors: u32,
    },
    /// Debian's kernel for ppc64el.
    DebianKernel,
    /// The newer one of its backports.
    NewerDebianKernel,
    /// An initramfs with busybox.
    Initramfs {
        /// The shell script that is installed as `/init`.
        init: &'static str,
        /// Programs of the `guests` crate that run under Linux; each is in `/bin` under its name.
        programs: &'static [&'static str],
    },
    /// The same with modules of Debian's kernel, for `modprobe`.
    DriverInitramfs {
        /// The shell script that is installed as `/init`.
        init: &'static str,
        /// The modules; what they need is added.
        drivers: &'static [&'static str],
    },
    /// A disk with Debian on it: an ext4 file system.
    DebianDisk,
}

impl Source {
    /// The files that the runner puts into the archive. For one partition their names are `kernel` and `initrd`.
    pub fn files(&self) -> Vec<(&'static str, PackedFile)> {
        match *self {
            Source::Guest { bin, endian } => vec![("kernel", PackedFile::Guest { bin, endian })],
            Source::Linux { init, programs } => {
                vec![
                    ("kernel", PackedFile::DebianKernel),
                    ("initrd", PackedFile::Initramfs { init, programs }),
                ]
            }
            Source::Partitions { files, .. } => files.to_vec(),
            Source::Bundle(_) => Vec::new(),
        }
    }
}

impl PackedFile {
    /// The programs of the `guests` crate that are in it.
    pub fn programs(self) -> Vec<&'static str> {
        match self {
            PackedFile::Guest { bin, .. } => vec![bin],
            PackedFile::Disk { .. }
            | PackedFile::DebianKernel
            | PackedFile::NewerDebianKernel
            | PackedFile::DriverInitramfs { .. }
            | PackedFile::DebianDisk => Vec::new(),
            PackedFile::Initramfs { programs, .. } => programs.to_vec(),
        }
    }
}

/// A disk of zeroes and a source of random numbers, both of virtio.
#[derive(Clone, Copy, Debug)]
pub struct Emulated {
    /// Bytes of the disk.
    pub disk: usize,
    /// They reach memory through DMA windows only.
    pub iommu: bool,
}

/// A step of a console dialogue: when the text has appeared (after everything that earlier steps matched), send.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What to wait for, verbatim.
    pub expect: &'static str,
    /// What to type then; nothing if empty.
    pub send: &'static str,
}

/// A disk of the host: a file.
#[derive(Clone, Copy, Debug)]
pub struct HostDisk {
    /// Its size.
    pub bytes: u64,
    /// What is on it.
    pub contents: Contents,
}

/// What is on a disk at first, and has to be at the end.
#[derive(Clone, Copy, Debug)]
pub enum Contents {
    /// Nothing. The function decides on what is in the file when QEMU is gone.
    Zeroes(fn(&[u8]) -> Result<(), String>),
    /// Debian's root file system; it must be whole.
    Debian,
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
    /// The same Linux runs under QEMU's pseries machine before it, to see what it takes without a hypervisor; that console comes first in
    /// the transcript (see [`oracle::linux_args`]).
    pub limit: bool,
    /// Limit of the wall time of one run on an idle machine.
    pub timeout: Duration,
    /// Where it runs.
    pub machines: &'static [Machine],
    /// The host's processors, and how many of them are threads of one core.
    pub smp: (u32, u32),
    /// The host's memory, in MiB.
    pub host_memory: u64,
    /// The host's devices: what QEMU's `-device` is told of each. Such cases are not for the oracle. A network card can have QEMU's own
    /// network as `netdev=user`, with the page as for `net`.
    pub devices: &'static [&'static str],
    /// Bytes of an empty file that one of them can have as QEMU's drive `file`; none if 0.
    pub drive: u64,
    /// Emulated devices of the guest's, here and under the oracle.
    pub emulated: Option<Emulated>,
    /// The host's disks, with the serial numbers `disk0`, `disk1` and so on.
    pub disks: &'static [HostDisk],
    /// The host has a network card, behind which is QEMU's own network. In it, `http://10.0.2.2:@port@/` has the numbers from 1 to 50000, a
    /// line each; the manifest can say `@port@`.
    pub net: bool,
    /// QEMU is killed when this has appeared on the console after all that the script waits for. The hypervisor has no last line then.
    pub kill: Option<&'static str>,
    /// After that the machine starts anew with its disks, and now runs to its end.
    pub again: bool,
    /// Takes long: runs only if such cases are asked for.
    pub long: bool,
    /// Processors run at the same time, each in a thread of QEMU's, and time is real time. Otherwise they take turns and
    /// instructions are counted: runs repeat exactly.
    pub mttcg: bool,
    /// Runs the hypervisor built with its `selftest` feature, with these bootargs; they name what it is to do.
    pub selftest: Option<&'static str>,
    /// The partition's memory, in MiB.
    pub guest_memory: u64,
    /// The partition's memory is backed so that 16 MiB pages are advertised.
    pub huge_pages: bool,
    /// The partition's virtual processors.
    pub vcpus: u32,
    /// The partition's command line (`/chosen/bootargs` of its device tree).
    pub append: &'static str,
    /// What is typed on the console.
    pub script: Vec<Step>,
    /// The number in the hypervisor's last line, `partita: exit N: reason`. Not asked of the oracle.
    pub status: u32,
    /// Decides on the whole console output.
    pub judge: fn(&Transcript) -> Result<(), String>,
}

impl Case {
    /// A guest program with the common settings: every machine with one processor, the oracle, 256 MiB, one virtual processor,
    /// exit 0. Cases of another kind replace the `source` and what else is theirs.
    pub fn guest(name: &'static str, bin: &'static str, endian: Endian) -> Case {
        Case {
            name,
            source: Source::Guest { bin, endian },
            oracle: true,
            limit: false,
            timeout: Duration::from_secs(90),
            machines: Machine::ALL,
            smp: (1, 1),
            host_memory: 2048,
            devices: &[],
            drive: 0,
            emulated: None,
            disks: &[],
            net: false,
            kill: None,
            again: false,
            long: false,
            mttcg: false,
            selftest: None,
            guest_memory: 256,
            huge_pages: false,
            vcpus: 1,
            append: "",
            script: Vec::new(),
            status: 0,
            judge: transcript::all_checks_pass,
        }
    }

    /// The same with the partitions of a manifest, and not for the oracle, which has but one.
    pub fn partitions(
        name: &'static str,
        manifest: &'static str,
        files: &'static [(&'static str, PackedFile)],
    ) -> Case {
        let source = Source::Partitions { manifest, files };
        Case { source, oracle: false, ..Case::guest(name, "", Endian::Little) }
    }
}

impl Case {
    /// The host has disks or a network card, and with them a source of random numbers.
    pub fn has_own_devices(&self) -> bool {
        self.net || !self.disks.is_empty()
    }

    /// One of its devices is on a network of QEMU's.
    pub fn has_user_network(&self) -> bool {
        self.devices.iter().any(|device| device.contains("netdev=user"))
    }

    #[cfg(test)]
    fn has_devices(&self) -> bool {
        self.has_own_devices() || !self.devices.is_empty()
    }
}

/// Every case there is.
pub fn cases() -> Vec<Case> {
    let mut all = guest_cases::cases();
    all.extend(linux_cases::cases());
    all.extend(linux_disk_cases::cases());
    all.extend(linux_memory_cases::cases());
    all.extend(linux_virtio_cases::cases());
    all.extend(linux_net_cases::cases());
    all.extend(partition_cases::cases());
    all.extend(host_cases::cases());
    all.extend(host_io_cases::cases());
    all.extend(memory_cases::cases());
    all.extend(device_cases::cases());
    all.extend(network_cases::cases());
    all.extend(virtio_cases::cases());
    all.extend(copy_cases::cases());
    all.extend(bench::cases());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
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
        let files: HashSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let used: HashSet<String> = cases()
            .iter()
            .flat_map(|case| case.source.files())
            .flat_map(|(_, file)| file.programs())
            .map(str::to_owned)
            .collect();
        assert_eq!(files, used);
    }

    #[test]
    fn manifests_are_good_and_use_all_their_files() {
        for case in cases() {
            let Source::Partitions { manifest, files } = case.source else { continue };
            let named = RefCell::new(HashSet::new());
            let exists = |name: &str| {
                named.borrow_mut().insert(name.to_owned());
                files.iter().any(|(file, _)| *file == name)
            };
            bundle::Manifest::parse(case.name, manifest, exists).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(named.borrow().len(), files.len(), "{}: a file that no partition names", case.name);
        }
    }

    #[test]
    fn settings_that_the_runner_can_do() {
        for case in cases() {
            let guest = matches!(case.source, Source::Guest { .. });
            assert!(
                guest && case.selftest.is_none() && !case.has_devices() || !case.oracle,
                "{}: not for the oracle",
                case.name
            );
            let (cpus, threads) = case.smp;
            assert!(threads.is_power_of_two() && cpus.is_multiple_of(threads), "{}: smp", case.name);
            for machine in case.machines {
                assert!(threads <= machine.threads_per_core(), "{} on {}: smp", case.name, machine.name());
            }
        }
    }
}
