//! `cargo xtask test`: every test there is, one line for each.

use crate::case::{self, Run, Things, Verdict};
use crate::toolchain::cargo;
use crate::{Failure, options, profile, realmode, shell, toolchain};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::Machine;

const HELP: &str = "\
Usage: cargo xtask test [--unit] [--qemu] [--long] [--machine M] [FILTER]

Runs every test, or with FILTER those whose names contain it.

  --unit       only what needs no machine: formatting, clippy, unit and property tests, loom
  --qemu       only the image: its real-mode code, and the tests in QEMU
  --long       also those in QEMU that take minutes each
  --machine M  in QEMU, only on this machine: powernv8, powernv9 or powernv10

The consoles of the tests in QEMU are kept in target/partita/log. The last line is `N passed, N failed`.
";

/// Crates of the machine; the workspace's others build on any host.
const MACHINE: [&str; 3] = ["realmode", "kernel", "guests"];

pub fn main(arguments: Vec<OsString>) -> Result<u8, Failure> {
    use lexopt::prelude::*;
    let (mut unit, mut qemu, mut long, mut machine, mut filter) = (false, false, false, None, None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            Long("unit") => unit = true,
            Long("qemu") => qemu = true,
            Long("long") => long = true,
            Long("machine") => machine = Some(options::machine(&parser.value()?.string()?)?),
            Value(value) if filter.is_none() => filter = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let mut suite = Suite { filter, long, machine, host: host_crates()?, passed: 0, failed: 0 };
    if unit || !qemu {
        suite.style();
        suite.unit();
    }
    if qemu || !unit {
        suite.machine_tests();
    }
    if suite.passed + suite.failed == 0 {
        return Err(Failure::usage("no test has such a name"));
    }
    println!("{} passed, {} failed", suite.passed, suite.failed);
    Ok(u8::from(suite.failed != 0))
}

/// What was asked for, and the count.
struct Suite {
    filter: Option<String>,
    long: bool,
    machine: Option<Machine>,
    host: Vec<String>,
    passed: usize,
    failed: usize,
}

impl Suite {
    fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    }

    /// One line for one test.
    fn report(&mut self, name: &str, place: &str, time: Duration, verdict: &Verdict) {
        let word = match verdict {
            Ok(()) => {
                self.passed += 1;
                "ok"
            }
            Err(_) => {
                self.failed += 1;
                "FAILED"
            }
        };
        println!("{word:<6} {:>6.1}s  {place:<17} {name}", time.as_secs_f64());
        if let Err(shown) = verdict {
            for line in shown.lines() {
                println!("       | {line}");
            }
        }
        let _ = std::io::stdout().flush();
    }

    fn skip(&self, name: &str, why: &str) {
        println!("SKIPPED         {:<17} {name}: {why}", "host");
    }

    /// Runs a command as one test.
    fn command(&mut self, name: &str, command: Result<Command, Failure>) {
        if !self.wants(name) {
            return;
        }
        let start = Instant::now();
        let verdict = command.and_then(|mut command| shell::output(&mut command));
        self.report(name, "host", start.elapsed(), &verdict.map(drop).map_err(|failure| failure.message));
    }

    fn style(&mut self) {
        if works("fmt") {
            let mut format = cargo("fmt");
            format.args(["--all", "--", "--check", "-l"]);
            self.command("rustfmt", Ok(format));
        } else {
            self.skip("rustfmt", "not installed");
        }
        if !works("clippy") {
            return self.skip("clippy", "not installed");
        }
        let mut clippy = cargo("clippy");
        clippy.args(["--quiet", "--all-targets"]).arg("--target-dir").arg(shell::target_dir());
        packages(&mut clippy, &self.host);
        clippy.args(["--", "-D", "warnings"]);
        self.command("clippy of the host's crates", Ok(clippy));
        for target in [toolchain::LITTLE, toolchain::BIG] {
            let clippy = toolchain::cargo_for(target, "clippy").map(|mut clippy| {
                if target == toolchain::LITTLE {
                    packages(&mut clippy, &MACHINE.map(String::from));
                    clippy.args(["--features", "kernel/selftest"]);
                } else {
                    packages(&mut clippy, &["guests".into()]);
                }
                clippy.args(["--", "-D", "warnings"]);
                clippy
            });
            self.command(&format!("clippy for {target}"), clippy);
        }
    }

    fn unit(&mut self) {
        let host = self.host.clone();
        for package in &host {
            let mut test = cargo("test");
            test.arg("--target-dir").arg(shell::target_dir());
            self.libtest(package, package, "host", test);
        }
        for package in host.iter().filter(|package| uses_loom(package)) {
            let mut test = cargo("test");
            test.args(["--release", "--lib", "--tests"])
                .arg("--target-dir")
                .arg(shell::target_dir().join("loom"));
            test.env("RUSTFLAGS", "--cfg loom").env_remove("CARGO_ENCODED_RUSTFLAGS");
            // Tests need speed, but not the image's whole-program optimisation.
            test.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            self.libtest(package, &format!("loom {package}"), "host, loom", test);
        }
    }

    /// Runs a package's tests and reports each.
    fn libtest(&mut self, package: &str, prefix: &str, place: &str, mut test: Command) {
        // The time of a test is shown by an option that only takes effect with this variable, which must not reach the
        // compiler: it would build everything anew.
        test.args(["--config", "target.'cfg(all())'.runner=['env','RUSTC_BOOTSTRAP=1']"]);
        test.args(["--quiet", "--no-fail-fast", "--package", package, "--all-targets"]);
        test.args(["--", "-Zunstable-options", "--report-time", "--format=pretty", "--color=never"]);
        // Which of its tests can be meant: all of them, if the filter is part of the package's own name here.
        let inner = self.filter.as_deref().filter(|filter| !prefix.contains(filter));
        let inner =
            inner.map(|filter| filter.strip_prefix(prefix).map_or(filter, str::trim_start).to_string());
        test.args(&inner);
        let start = Instant::now();
        let spawned = test.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return self.report(prefix, place, start.elapsed(), &Err(error.to_string())),
        };
        let mut errors = child.stderr.take();
        let errors = std::thread::spawn(move || {
            errors.as_mut().and_then(|errors| std::io::read_to_string(errors).ok()).unwrap_or_default()
        });
        let mut rest = Vec::new();
        let mut failures = 0;
        for line in
            child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok)
        {
            match libtest_line(&line) {
                Some((name, ok, time)) => {
                    let name = format!("{prefix} {name}");
                    failures += usize::from(!ok);
                    if self.wants(&name) {
                        let verdict = if ok { Ok(()) } else { Err("its output is below".into()) };
                        self.report(&name, place, time, &verdict);
                    }
                }
                None => rest.push(line),
            }
        }
        let errors = errors.join().unwrap_or_default();
        let good = child.wait().is_ok_and(|status| status.success());
        if good {
            return;
        }
        rest.retain(|line| !line.is_empty() && !line.starts_with("running "));
        let shown = format!("{}\n{errors}", rest.join("\n"));
        if failures == 0 && inner.is_some() {
            // Nobody knows whether what was asked for is in there.
            self.skip(prefix, "its tests do not compile");
        } else if failures == 0 {
            // It did not compile, or a test ended the process.
            self.report(&format!("{prefix} (all)"), place, start.elapsed(), &Err(shown));
        } else {
            shown.lines().for_each(|line| println!("       | {line}"));
        }
    }

    fn machine_tests(&mut self) {
        let runs = self.runs();
        let profiles: Vec<_> = Machine::ALL.iter().filter(|machine| self.wants_profile(**machine)).collect();
        if runs.is_empty() && profiles.is_empty() && !self.wants(REALMODE) {
            return;
        }
        let start = Instant::now();
        let things = match Things::make(&runs) {
            Ok(things) => things,
            Err(failure) => return self.report("build", "ppc64", start.elapsed(), &Err(failure.message)),
        };
        if self.wants(REALMODE) {
            let start = Instant::now();
            let verdict = match shell::read(&things.image).map(|image| realmode::check(&image)) {
                Ok(Ok(report)) if report.is_clean() => Ok(()),
                Ok(Ok(report)) => Err(report.to_string()),
                Ok(Err(error)) => Err(error),
                Err(failure) => Err(failure.message),
            };
            self.report(REALMODE, "host", start.elapsed(), &verdict);
        }
        for &machine in profiles {
            let start = Instant::now();
            let verdict = profile::test(machine, &things.image);
            self.report(PROFILE, machine.name(), start.elapsed(), &verdict);
        }
        case::each(
            runs,
            |run| run.execute(&things),
            |run, time, verdict| self.report(run.case.name, &run.place(), time, &verdict),
        );
    }

    fn wants_profile(&self, machine: Machine) -> bool {
        self.machine.is_none_or(|only| only == machine)
            && self.wants(&format!("{PROFILE} {}", machine.name()))
    }

    /// What is to run in QEMU, the longest first.
    fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for case in tests::cases().into_iter().filter(|case| self.long || !case.long) {
            for &machine in case.machines {
                let wanted = self.machine.is_none_or(|only| only == machine);
                let mut add = |oracle| {
                    let run = Run { case: case.clone(), machine, oracle };
                    if wanted && self.wants(&format!("{} {}", case.name, run.place())) {
                        runs.push(run);
                    }
                };
                add(false);
                if case.oracle {
                    add(true);
                }
            }
        }
        runs.sort_by_key(|run| std::cmp::Reverse(run.case.timeout));
        runs
    }
}

const REALMODE: &str = "real-mode code";
const PROFILE: &str = "profile";

/// The workspace's crates that build for the host, in the order of its manifest.
fn host_crates() -> Result<Vec<String>, Failure> {
    let path = shell::root().join("Cargo.toml");
    let manifest = shell::read(&path)?;
    let crates = members(&String::from_utf8_lossy(&manifest));
    if crates.is_empty() {
        return Err(Failure::new(format!("{}: no members found", path.display())));
    }
    Ok(crates)
}

/// What stands in `members = [...]`, without [`MACHINE`].
fn members(manifest: &str) -> Vec<String> {
    let list = manifest.split_once("\nmembers = [").and_then(|(_, rest)| rest.split_once(']'));
    let names = list.map_or("", |(list, _)| list).split('"').skip(1).step_by(2);
    names.filter(|name| !MACHINE.contains(name)).map(str::to_string).collect()
}

/// Whether a crate has tests that run under loom.
fn uses_loom(package: &str) -> bool {
    std::fs::read_to_string(shell::root().join(package).join("Cargo.toml"))
        .is_ok_and(|manifest| manifest.lines().any(|line| line.starts_with("loom")))
}

fn works(subcommand: &str) -> bool {
    shell::output(cargo(subcommand).arg("--version")).is_ok()
}

fn packages(cargo: &mut Command, names: &[String]) {
    for name in names {
        cargo.args(["--package", name]);
    }
}

/// `test NAME ... ok <0.001s>`.
fn libtest_line(line: &str) -> Option<(&str, bool, Duration)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let (word, time) = outcome.split_once(" <").unwrap_or((outcome, ""));
    let seconds: f64 = time.trim_end_matches("s>").parse().unwrap_or(0.0);
    let ok = match word {
        "ok" => true,
        "FAILED" => false,
        _ => return None,
    };
    Some((name, ok, Duration::from_secs_f64(seconds.clamp(0.0, 1e6))))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn reads_the_test_harness() {
        let ok = |name, ok, millis| Some((name, ok, Duration::from_millis(millis)));
        assert_eq!(libtest_line("test a::b ... ok <0.250s>"), ok("a::b", true, 250));
        assert_eq!(
            libtest_line("test a::b - should panic ... FAILED <1.000s>"),
            ok("a::b - should panic", false, 1000)
        );
        assert_eq!(libtest_line("test a::b ... ok"), ok("a::b", true, 0));
        assert_eq!(libtest_line("test a::b ... ignored"), None);
        assert_eq!(libtest_line("test result: ok. 3 passed"), None);
        assert_eq!(libtest_line("running 3 tests"), None);
    }

    #[test]
    fn reads_the_workspace() {
        let manifest =
            "[workspace]\nmembers = [\"power\", \"kernel\",\n  \"xtask\"]\ndefault-members = [\"x\"]\n";
        assert_eq!(members(manifest), ["power", "xtask"]);
        assert!(members("").is_empty());
    }
}
