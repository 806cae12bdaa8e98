//! `cargo xtask fuzz`: gives fuzz targets (`fuzz/src/bin`) bytes until time is up, or they fail.

use crate::Failure;
use crate::shell::{self, has, progress, root, target_dir};
use crate::toolchain::cargo;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const HELP: &str = "\
Usage: cargo xtask fuzz [--target T] [--seconds N] [--keep]

Gives parts of the hypervisor whatever a guest could give them, to find what they do not bear. It is guided by what the
bytes reach in the code (libFuzzer), and needs a C++ compiler for that; without one it goes by chance.

  --target T   only this target, a file of fuzz/src/bin
  --seconds N  so long for each; 60 if not given
  --keep       then make the seeds anew, fuzz/seeds/T: as few inputs as reach all that was reached (with a C++ compiler)

Inputs that reached something new are kept in target/fuzz/reached, and those that failed in target/fuzz/failed. Such a
one runs again with target/fuzz/TRIPLE/release/T FILE.

Exit status: 0; 1 if a target failed, or something is missing to build or run it; 2 for bad usage.
";

/// What libFuzzer needs to see of the code, and checks that the image does not have.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

/// What is no failure: inputs to 512 bytes; 5 s, 512 MiB in all and 64 MiB at once.
const LIMITS: [&str; 4] = ["-max_len=512", "-timeout=5", "-rss_limit_mb=512", "-malloc_limit_mb=64"];

pub fn main(arguments: Vec<OsString>) -> Result<u8, Failure> {
    use lexopt::prelude::*;
    let (mut target, mut seconds, mut keep) = (None, 60u64, false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            Long("target") => target = Some(parser.value()?.string()?),
            Long("seconds") => seconds = parser.value()?.parse()?,
            Long("keep") => keep = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let mut targets = targets()?;
    targets.retain(|name| target.as_ref().is_none_or(|target| target == name));
    if targets.is_empty() {
        return Err(Failure::usage("there is no such target (they are in fuzz/src/bin)"));
    }
    let guided = ["c++", "g++", "clang++"].iter().any(|compiler| has(compiler));
    if keep && !guided {
        return Err(Failure::new(
            "--keep needs a C++ compiler: by chance nobody knows what was reached (on Debian: apt-get install g++)",
        ));
    }
    if !guided {
        progress("there is no C++ compiler (on Debian: apt-get install g++), so it goes by chance");
    }
    let programs = build(guided)?;
    let mut failed = 0;
    for name in &targets {
        let program = programs.join(name);
        let good = if guided {
            guided_run(name, &program, seconds)?
        } else {
            run(&program, &[seconds.to_string()])?
        };
        println!("{name}: {}", if good { "nothing found" } else { "FAILED, see above" });
        failed += u8::from(!good);
        if keep {
            keep_seeds(name, &program)?;
        }
    }
    Ok(u8::from(failed != 0))
}

/// The names of all targets.
fn targets() -> Result<Vec<String>, Failure> {
    let folder = root().join("fuzz/src/bin");
    let files = std::fs::read_dir(&folder)
        .map_err(|error| Failure::new(format!("{}: cannot read it: {error}", folder.display())))?;
    let stem = |path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = files.flatten().filter_map(|file| stem(file.path())).collect();
    names.sort();
    Ok(names)
}

/// Builds all targets; gives the folder in which they are.
fn build(guided: bool) -> Result<PathBuf, Failure> {
    let triple = shell::output(Command::new("rustc").args(["--print", "host-tuple"]).current_dir(root()))?;
    let triple = String::from_utf8_lossy(&triple).trim().to_string();
    let dir = target_dir().join("fuzz");
    let mut cargo = cargo("build");
    // With a target, build scripts are not built with these flags.
    cargo.args(["--quiet", "--release", "--package", "fuzz", "--bins", "--target", &triple]);
    cargo.arg("--target-dir").arg(&dir).env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", if guided { FLAGS } else { "-Cdebug-assertions" });
    if guided {
        cargo.args(["--features", "libfuzzer"]);
    }
    progress("building the fuzz targets");
    if !run_command(&mut cargo)? {
        return Err(Failure::new("the fuzz targets could not be built: cargo's messages are above"));
    }
    Ok(dir.join(triple).join("release"))
}

/// The seeds of a target: a line in hexadecimal for each.
fn seeds(name: &str) -> PathBuf {
    root().join("fuzz/seeds").join(name)
}

/// The inputs that have reached something, the seeds among them.
fn reached(name: &str) -> Result<PathBuf, Failure> {
    let folder = shell::make_dir(target_dir().join("fuzz/reached").join(name))?;
    let seeds = std::fs::read_to_string(seeds(name)).unwrap_or_default();
    for (number, line) in seeds.lines().enumerate() {
        let byte = |at| line.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let bytes: Vec<u8> = (0..line.len()).step_by(2).map_while(byte).collect();
        shell::write(&folder.join(format!("seed-{number}")), &bytes)?;
    }
    Ok(folder)
}

/// Makes the seeds anew, of what has been reached.
fn keep_seeds(name: &str, program: &Path) -> Result<(), Failure> {
    let few = target_dir().join("fuzz/few").join(name);
    let _ = std::fs::remove_dir_all(&few);
    let few = shell::make_dir(few)?;
    let mut fuzzer = Command::new(program);
    fuzzer.args(LIMITS).arg("-set_cover_merge=1").arg(&few).arg(reached(name)?);
    shell::output(&mut fuzzer)?;
    let files = std::fs::read_dir(&few).into_iter().flatten().flatten();
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut lines: Vec<String> = files.flat_map(|file| std::fs::read(file.path())).map(hex).collect();
    lines.sort();
    shell::write(&seeds(name), (lines.join("\n") + "\n").as_bytes())
}

fn guided_run(name: &str, program: &Path, seconds: u64) -> Result<bool, Failure> {
    let failed = shell::make_dir(target_dir().join("fuzz/failed"))?;
    let mut fuzzer = Command::new(program);
    fuzzer.args(LIMITS).arg(format!("-max_total_time={seconds}"));
    fuzzer.arg(format!("-artifact_prefix={}/{name}-", failed.display()));
    fuzzer.arg("-print_final_stats=1").arg(reached(name)?);
    let output = fuzzer
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("cannot run {}: {error}", program.display())))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        said.lines().rev().take(40).collect::<Vec<_>>().iter().rev().for_each(|line| eprintln!("| {line}"));
        return Ok(false);
    }
    let inputs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("{name}: {} inputs in {seconds} s", inputs.unwrap_or("some").trim());
    Ok(true)
}

fn run(program: &Path, arguments: &[String]) -> Result<bool, Failure> {
    run_command(Command::new(program).args(arguments))
}

fn run_command(command: &mut Command) -> Result<bool, Failure> {
    let status = command.status().map_err(|error| {
        Failure::new(format!("cannot run {}: {error}", command.get_program().to_string_lossy()))
    })?;
    Ok(status.success())
}
