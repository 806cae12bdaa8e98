//! The options of `cargo xtask run`.

use crate::{Failure, archive, devices};
use bundle::{MAX_CMDLINE, MAX_MEMORY, MAX_VCPUS, MEMORY_GRANULE, MIN_MEMORY, Size, parse_size};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tests::Machine;

/// In a file of its own because qemu-run.sh prints it too, before anything can be built.
pub const HELP: &str = include_str!("run-help.txt");

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub machine: Machine,
    pub smp: Smp,
    pub memory: u64,
    pub guests: Guests,
    /// Files that are the host's disks.
    pub disks: Vec<PathBuf>,
    /// The host has a network card.
    pub net: bool,
    pub icount: bool,
    pub timeout: Option<Duration>,
    pub gdb: bool,
    pub qemu: Vec<OsString>,
}

/// The host's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smp {
    pub cpus: u32,
    pub threads: u32,
}

/// What runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guests {
    /// The partitions of a manifest.
    Manifest(PathBuf),
    /// One partition, by options.
    One(Guest),
}

/// The single guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    pub kernel: Option<PathBuf>,
    pub initrd: Initrd,
    pub append: String,
    pub memory: u64,
    pub vcpus: u32,
}

/// Its initial RAM disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initrd {
    /// The one with the shell.
    Default,
    /// None at all.
    None,
    /// This one.
    File(PathBuf),
}

impl fmt::Display for Smp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},threads={}", self.cpus, self.threads)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            machine: Machine::PowerNv9,
            smp: Smp { cpus: 1, threads: 1 },
            memory: 2 << 30,
            guests: Guests::One(Guest::default()),
            disks: Vec::new(),
            net: false,
            icount: false,
            timeout: None,
            gdb: false,
            qemu: Vec::new(),
        }
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            kernel: None,
            initrd: Initrd::Default,
            append: "console=hvc0".into(),
            memory: 512 << 20,
            vcpus: 1,
        }
    }
}

/// The least host memory: firmware itself lives in the first gigabyte.
const MIN_HOST_MEMORY: u64 = 1 << 30;

/// Reads the command line. `None` asks for help.
pub fn parse(mut arguments: Vec<OsString>) -> Result<Option<Options>, Failure> {
    use lexopt::prelude::*;
    let mut options = Options::default();
    let mut guest = None::<Guest>;
    let mut manifest = None;
    // What follows `--` is not for the option parser: it would take QEMU's file names for arguments of this program.
    if let Some(at) = arguments.iter().position(|argument| argument == "--") {
        options.qemu = arguments.split_off(at).into_iter().skip(1).collect();
    }
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Long("machine") => options.machine = machine(&parser.value()?.string()?)?,
            Long("smp") => options.smp = smp(&parser.value()?.string()?)?,
            Long("memory") => options.memory = size("--memory", &parser.value()?.string()?)?,
            Long("manifest") => manifest = Some(PathBuf::from(parser.value()?)),
            Long("kernel") => guest.get_or_insert_default().kernel = Some(parser.value()?.into()),
            Long("initrd") => {
                let value = parser.value()?;
                guest.get_or_insert_default().initrd =
                    if value == "none" { Initrd::None } else { Initrd::File(value.into()) };
            }
            Long("append") => guest.get_or_insert_default().append = parser.value()?.string()?,
            Long("guest-memory") => {
                guest.get_or_insert_default().memory = size("--guest-memory", &parser.value()?.string()?)?
            }
            Long("vcpus") => {
                guest.get_or_insert_default().vcpus = count("--vcpus", &parser.value()?.string()?, MAX_VCPUS)?
            }
            Long("disk") => options.disks.push(parser.value()?.into()),
            Long("net") => options.net = true,
            Long("icount") => options.icount = true,
            Long("timeout") => options.timeout = Some(seconds(&parser.value()?.string()?)?),
            Long("gdb") => options.gdb = true,
            Value(value) => {
                return Err(Failure::usage(format!(
                    "'{}' is not an option: what is for QEMU comes after -- (try --help)",
                    value.to_string_lossy()
                )));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    options.guests = match (manifest, guest) {
        (None, guest) => Guests::One(guest.unwrap_or_default()),
        (Some(path), None) => Guests::Manifest(path),
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "--manifest says what runs: --kernel, --initrd, --append, --guest-memory and --vcpus do not go with it",
            ));
        }
    };
    options.check()?;
    Ok(Some(options))
}

impl Options {
    fn check(&self) -> Result<(), Failure> {
        let fail = |message: String| Err(Failure::usage(message));
        let memory = Size(self.memory);
        if self.memory < MIN_HOST_MEMORY {
            return fail(format!("--memory {memory}: the machine needs at least {}", Size(MIN_HOST_MEMORY)));
        }
        if !self.memory.is_multiple_of(1 << 20) {
            return fail(format!("--memory {memory}: not a multiple of 1M"));
        }
        let most = self.machine.threads_per_core();
        if self.smp.threads > most {
            let machine = self.machine.name();
            return fail(format!("--smp {}: a core of {machine} has at most {most} threads", self.smp));
        }
        if !self.smp.threads.is_power_of_two() {
            return fail(format!("--smp {}: threads must be a power of two", self.smp));
        }
        if !self.smp.cpus.is_multiple_of(self.smp.threads) {
            return fail(format!("--smp {}: {} do not make whole cores", self.smp, self.smp.cpus));
        }
        if self.disks.len() > devices::MAX_DISKS {
            return fail(format!("--disk: the machine has room for {} of them", devices::MAX_DISKS));
        }
        match &self.guests {
            Guests::Manifest(_) => Ok(()),
            Guests::One(guest) => guest.check(self.memory),
        }
    }
}

impl Guest {
    /// Checks it for a host with so much memory.
    fn check(&self, host: u64) -> Result<(), Failure> {
        let fail = |message: String| Err(Failure::usage(message));
        let memory = Size(self.memory);
        if self.memory < MIN_MEMORY {
            return fail(format!("--guest-memory {memory}: a guest needs at least {}", Size(MIN_MEMORY)));
        }
        if !self.memory.is_multiple_of(MEMORY_GRANULE) {
            return fail(format!("--guest-memory {memory}: not a multiple of {}", Size(MEMORY_GRANULE)));
        }
        if self.memory > MAX_MEMORY {
            return fail(format!("--guest-memory {memory}: more than {}", Size(MAX_MEMORY)));
        }
        if let Err(reason) = archive::check_memory(bundle::tables::least_bytes(self.memory), host) {
            return fail(format!("--guest-memory {memory} {reason}"));
        }
        if self.append.len() > MAX_CMDLINE {
            return fail(format!("--append: longer than {MAX_CMDLINE} bytes"));
        }
        Ok(())
    }
}

pub fn machine(name: &str) -> Result<Machine, Failure> {
    Machine::ALL.iter().copied().find(|machine| machine.name() == name).ok_or_else(|| {
        let known: Vec<_> = Machine::ALL.iter().map(|machine| machine.name()).collect();
        Failure::usage(format!("--machine {name}: there is {}", known.join(", ")))
    })
}

pub fn size(option: &str, text: &str) -> Result<u64, Failure> {
    parse_size(text).map_err(|error| Failure::usage(format!("{option} {text}: {error}")))
}

pub fn count(option: &str, text: &str, most: u32) -> Result<u32, Failure> {
    match text.parse() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => Err(Failure::usage(format!("{option} {text}: not a number between 1 and {most}"))),
    }
}

fn smp(text: &str) -> Result<Smp, Failure> {
    let (cpus, threads) = match text.split_once(',') {
        None => (text, "1"),
        Some((cpus, rest)) => match rest.strip_prefix("threads=") {
            Some(threads) => (cpus, threads),
            None => return Err(Failure::usage(format!("--smp {text}: write N or N,threads=T"))),
        },
    };
    Ok(Smp { cpus: count("--smp", cpus, 256)?, threads: count("--smp threads=", threads, 8)? })
}

fn seconds(text: &str) -> Result<Duration, Failure> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds < 1e9);
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| Failure::usage(format!("--timeout {text}: not a number of seconds")))
}

#[cfg(test)]
mod test {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        super::parse(line.split_whitespace().map(OsString::from).collect()).map_err(|failure| {
            assert_eq!(failure.status, crate::status::USAGE);
            assert!(!failure.message.contains('\n'));
            failure.message
        })
    }

    #[test]
    fn defaults() {
        assert_eq!(parse("").unwrap().unwrap(), Options::default());
        assert_eq!(parse("--memory 4G --help --bogus").unwrap(), None);
    }

    #[test]
    fn everything() {
        let line = "--machine powernv8 --smp 16,threads=8 --memory 4G --kernel a --initrd none --append x \
                    --guest-memory 1G --vcpus 2 --disk d --net --disk e --icount --timeout 1.5 --gdb -- -append y --help -- z";
        let expected = Options {
            machine: Machine::PowerNv8,
            smp: Smp { cpus: 16, threads: 8 },
            memory: 4 << 30,
            guests: Guests::One(Guest {
                kernel: Some("a".into()),
                initrd: Initrd::None,
                append: "x".into(),
                memory: 1 << 30,
                vcpus: 2,
            }),
            disks: vec!["d".into(), "e".into()],
            net: true,
            icount: true,
            timeout: Some(Duration::from_millis(1500)),
            gdb: true,
            qemu: ["-append", "y", "--help", "--", "z"].map(OsString::from).into(),
        };
        assert_eq!(parse(line).unwrap().unwrap(), expected);
    }

    #[test]
    fn many_guests() {
        let options = parse("--smp 2 --manifest a/b.toml").unwrap().unwrap();
        assert_eq!(options.guests, Guests::Manifest("a/b.toml".into()));
        for other in ["--kernel a", "--initrd none", "--append x", "--guest-memory 1G", "--vcpus 1"] {
            for line in [format!("{other} --manifest m"), format!("--manifest m {other}")] {
                let message = parse(&line).unwrap_err();
                assert!(message.starts_with("--manifest says what runs: "), "{message}");
            }
        }
        let options = parse("--manifest m --disk d --net").unwrap().unwrap();
        assert_eq!((options.disks.len(), options.net), (1, true));
        assert_eq!(parse("--manifest").unwrap_err(), "missing argument for option '--manifest' (try --help)");
    }

    #[test]
    fn nonsense() {
        for (line, message) in [
            ("--bogus", "invalid option '--bogus' (try --help)"),
            ("-x", "invalid option '-x' (try --help)"),
            ("vmlinux", "'vmlinux' is not an option: what is for QEMU comes after -- (try --help)"),
            ("--disk", "missing argument for option '--disk' (try --help)"),
            ("--net=x", "unexpected argument for option '--net': \"x\" (try --help)"),
            (
                "--disk a --disk b --disk c --disk d --disk e --disk f --disk g",
                "--disk: the machine has room for 6 of them",
            ),
            ("--kernel", "missing argument for option '--kernel' (try --help)"),
            ("--machine powernv7", "--machine powernv7: there is powernv8, powernv9, powernv10"),
            ("--memory 0", "--memory 0: the machine needs at least 1G"),
            ("--memory 512M", "--memory 512M: the machine needs at least 1G"),
            ("--memory 1048577K", "--memory 1048577K: not a multiple of 1M"),
            ("--memory two", "--memory two: not a size: write a number with K, M or G, as in 512M"),
            ("--guest-memory 0", "--guest-memory 0: a guest needs at least 16M"),
            ("--guest-memory 300000001", "--guest-memory 300000001: not a multiple of 64K"),
            ("--guest-memory 513G", "--guest-memory 513G: more than 512G"),
            (
                "--memory 1G --guest-memory 512G",
                "--guest-memory 512G does not fit: for page tables alone the host needs 1257M up to here and has 1G (--memory)",
            ),
            ("--vcpus 0", "--vcpus 0: not a number between 1 and 128"),
            ("--vcpus many", "--vcpus many: not a number between 1 and 128"),
            ("--smp 0", "--smp 0: not a number between 1 and 256"),
            ("--smp 4,cores=2", "--smp 4,cores=2: write N or N,threads=T"),
            ("--smp 8,threads=8", "--smp 8,threads=8: a core of powernv9 has at most 4 threads"),
            ("--smp 6,threads=3", "--smp 6,threads=3: threads must be a power of two"),
            ("--smp 3,threads=2", "--smp 3,threads=2: 3 do not make whole cores"),
            ("--timeout 0", "--timeout 0: not a number of seconds"),
            ("--timeout nan", "--timeout nan: not a number of seconds"),
        ] {
            assert_eq!(parse(line).unwrap_err(), message, "{line}");
        }
    }
}
