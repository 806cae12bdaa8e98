//! The project's only build tool: `cargo xtask build|run|fetch|image|test|bench|check-realmode|profile|fuzz|trace`.
#![forbid(unsafe_code)]

use std::fmt;
use std::process::ExitCode;

mod archive;
mod bench;
mod case;
mod debian;
mod devices;
mod fuzz;
mod options;
mod page;
mod profile;
mod qemu;
mod realmode;
mod run;
mod shell;
mod suite;
mod toolchain;
mod trace;

/// Exit statuses of `cargo xtask run`; the hypervisor's own numbers come from its last line.
mod status {
    /// Bad usage, or a file that cannot be used.
    pub const USAGE: u8 = 2;
    /// The hypervisor ended without saying how.
    pub const CRASH: u8 = 4;
    /// Time ran out.
    pub const TIMEOUT: u8 = 124;
}

/// Why a command could not be carried out, and the exit status that says so.
#[derive(Debug)]
struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// Something in the surroundings is missing or does not work.
    fn new(message: impl Into<String>) -> Self {
        Self { status: 1, message: message.into() }
    }

    /// Something that was asked for makes no sense.
    fn usage(message: impl Into<String>) -> Self {
        Self { status: status::USAGE, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::usage(format!("{error} (try --help)"))
    }
}

const HELP: &str = "\
Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  build [--selftest]     build the hypervisor (with its self-tests); prints the image's path
  run [OPTIONS]          build it and boot guests on it in QEMU; `cargo xtask run --help` lists the options
  fetch [--backports]    download Debian's kernel for ppc64el (the newer one from backports), its drivers and busybox,
                         unless they are there; prints the kernel's path
  image [--size S] FILE  make a disk with Debian for ppc64el on it: an ext4 file system (default 2G) that guests boot
                         from with root=/dev/vda
  test [OPTIONS]         run every test; `cargo xtask test --help` lists the options
  bench [OPTIONS]        measure what operations cost; `cargo xtask bench --help` lists the options and the rows
  check-realmode [FILE]  check what the image (or another one) does with address translation off
  profile [OPTIONS]      count the instructions of a run, and say where they go; `cargo xtask profile --help` lists the
                         options
  fuzz [OPTIONS]         give parts of the hypervisor whatever bytes, to find what they do not bear; `cargo xtask fuzz
                         --help` lists the options
  trace FILE             print the trace events in a log of the console; `cargo xtask trace --help` tells more
  help                   print this text
";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next();
    let rest: Vec<_> = arguments.collect();
    let outcome = match command.as_ref().and_then(|command| command.to_str()) {
        Some("build") => build(rest),
        Some("run") => run::main(rest),
        Some("fetch") => fetch(rest),
        Some("image") => image(rest),
        Some("test") => suite::main(rest),
        Some("bench") => bench::main(rest),
        Some("check-realmode") => check_realmode(rest),
        Some("profile") => profile::main(rest),
        Some("fuzz") => fuzz::main(rest),
        Some("trace") => trace::main(rest),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(0)
        }
        Some(other) => Err(Failure::usage(format!("unknown command '{other}' (try `cargo xtask help`)"))),
        None => Err(Failure::usage("which command? (try `cargo xtask help`)")),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("partita: {failure}");
            ExitCode::from(failure.status)
        }
    }
}

fn build(arguments: Vec<std::ffi::OsString>) -> Result<u8, Failure> {
    let mut selftest = false;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("selftest") => selftest = true,
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let variant = if selftest { toolchain::Variant::Selftest } else { toolchain::Variant::Plain };
    println!("{}", toolchain::build_kernel(variant)?.display());
    Ok(0)
}

fn fetch(arguments: Vec<std::ffi::OsString>) -> Result<u8, Failure> {
    let mut suite = debian::Suite::Stable;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("backports") => suite = debian::Suite::Backports,
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let kernel = debian::kernel(suite)?;
    debian::busybox()?;
    println!("{}", kernel.display());
    Ok(0)
}

fn image(arguments: Vec<std::ffi::OsString>) -> Result<u8, Failure> {
    let mut bytes = 2 << 30;
    let mut file = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("size") => {
                let text = lexopt::ValueExt::string(parser.value()?)?;
                bytes = options::size("--size", &text)?;
            }
            lexopt::Arg::Value(path) if file.is_none() => file = Some(std::path::PathBuf::from(path)),
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let file = file.ok_or_else(|| Failure::usage("image: which file? (try `cargo xtask help`)"))?;
    debian::root::check_size(bytes)
        .map_err(|why| Failure::usage(format!("--size {}: {why}", bundle::Size(bytes))))?;
    if file.exists() {
        return Err(Failure::usage(format!("{}: it is there already", file.display())));
    }
    debian::root::copy(&file, bytes)?;
    Ok(0)
}

fn check_realmode(arguments: Vec<std::ffi::OsString>) -> Result<u8, Failure> {
    let mut file = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Value(path) if file.is_none() => file = Some(std::path::PathBuf::from(path)),
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let file = match file {
        Some(file) => file,
        None => toolchain::build_kernel(toolchain::Variant::Plain)?,
    };
    let report = realmode::check(&shell::read(&file)?)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    print!("{report}");
    Ok(if report.is_clean() { 0 } else { 1 })
}
