//! `cargo xtask test`: every test there is, one line for each.

use crate::options::{self, Options, Smp};
use crate::qemu::{self, Event, LastLine};
use crate::run::{Temporary, qemu_command};
use crate::toolchain::{self, Variant};
use crate::{Failure, archive, debian, realmode, shell};
use bundle::{Manifest, Partition};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use tests::{Case, Endian, Machine, PackedFile, Source, Transcript, oracle};

const HELP: &str = "\
Usage: cargo xtask test [--unit] [--qemu] [--machine M] [FILTER]

Runs every test, or with FILTER those whose names contain it.

  --unit       only what needs no machine: formatting, clippy, unit and property tests, loom
  --qemu       only the image: its real-mode code, and the tests in QEMU
  --machine M  in QEMU, only on this machine: powernv8, powernv9 or powernv10

The consoles of the tests in QEMU are kept in target/partita/log. The last line is `N passed, N failed`.
";

/// Crates of the machine; the workspace's others build on any host.
const MACHINE: [&str; 3] = ["realmode", "kernel", "guests"];

/// A case's limit is for an idle machine: here as many run at a time as there are processors.
const SLACK: u32 = 2;

pub fn main(arguments: Vec<OsString>) -> Result<u8, Failure> {
    use lexopt::prelude::*;
    let (mut unit, mut qemu, mut machine, mut filter) = (false, false, None, None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            Long("unit") => unit = true,
            Long("qemu") => qemu = true,
            Long("machine") => machine = Some(options::machine(&parser.value()?.string()?)?),
            Value(value) if filter.is_none() => filter = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let mut suite = Suite { filter, machine, host: host_crates()?, passed: 0, failed: 0 };
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
    machine: Option<Machine>,
    host: Vec<String>,
    passed: usize,
    failed: usize,
}

/// What a failed test has to show.
type Verdict = Result<(), String>;

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
        if runs.is_empty() && !self.wants(REALMODE) {
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
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let queue = Mutex::new(runs.into_iter());
        let (sender, results) = channel();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                let (sender, queue, things) = (sender.clone(), &queue, &things);
                scope.spawn(move || {
                    while let Some(run) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                        let start = Instant::now();
                        let verdict = run.execute(things);
                        if sender.send((run, start.elapsed(), verdict)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            for (run, time, verdict) in results {
                self.report(run.case.name, &run.place(), time, &verdict);
            }
        });
    }

    /// What is to run in QEMU, the longest first.
    fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for case in tests::cases() {
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

fn cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(subcommand).current_dir(shell::root());
    cargo
}

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

/// What the runs need.
struct Things {
    image: PathBuf,
    selftest: PathBuf,
    linux: PathBuf,
    newer_linux: PathBuf,
}

impl Things {
    fn make(runs: &[Run]) -> Result<Self, Failure> {
        let mut things = Self {
            image: toolchain::build_kernel(Variant::Plain)?,
            selftest: PathBuf::new(),
            linux: PathBuf::new(),
            newer_linux: PathBuf::new(),
        };
        if runs.iter().any(|run| run.case.selftest.is_some()) {
            things.selftest = toolchain::build_kernel(Variant::Selftest)?;
        }
        let files: Vec<_> =
            runs.iter().flat_map(|run| run.case.source.files()).map(|(_, file)| file).collect();
        if files.iter().any(|file| !file.programs().is_empty()) {
            toolchain::build_guests()?;
        }
        if files.contains(&PackedFile::DebianKernel) {
            things.linux = debian::kernel(debian::Suite::Stable)?;
        }
        if files.contains(&PackedFile::NewerDebianKernel) {
            things.newer_linux = debian::kernel(debian::Suite::Backports)?;
        }
        if files.iter().any(|file| matches!(file, PackedFile::Initramfs { .. })) {
            debian::busybox()?;
        }
        Ok(things)
    }

    /// What is in a file.
    fn read(&self, file: PackedFile) -> Result<Vec<u8>, Failure> {
        let program = |bin: &str, endian: Endian| shell::read(&toolchain::guest(bin, endian.target()));
        match file {
            PackedFile::Guest { bin, endian } => program(bin, endian),
            PackedFile::DebianKernel => shell::read(&self.linux),
            PackedFile::NewerDebianKernel => shell::read(&self.newer_linux),
            PackedFile::Initramfs { init, programs } => {
                let programs: Result<Vec<_>, Failure> =
                    programs.iter().map(|&bin| Ok((bin, program(bin, Endian::Little)?))).collect();
                debian::initramfs(init, &programs?)
            }
        }
    }

    /// The boot archive of a case.
    fn archive(&self, case: &Case) -> Result<Vec<u8>, Failure> {
        let files: Result<Vec<_>, Failure> =
            case.source.files().into_iter().map(|(name, file)| Ok((name, self.read(file)?))).collect();
        let files = files?;
        let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        match case.source {
            Source::Guest { .. } | Source::Linux { .. } => {
                let partition = Partition {
                    vcpus: case.vcpus,
                    initrd: files.get(1).map(|(name, _)| name.to_string()),
                    cmdline: case.append.into(),
                    huge_pages: case.huge_pages,
                    ..Partition::new("guest", case.guest_memory << 20, "kernel")
                };
                let manifest = Manifest { partitions: vec![partition], ..Manifest::default() };
                archive::pack(&manifest.to_toml(), &files)
            }
            Source::Partitions { manifest, .. } => archive::pack(manifest, &files),
            Source::Bundle(make) => Ok(make()),
        }
    }
}

/// One case on one machine.
struct Run {
    case: Case,
    machine: Machine,
    /// Under QEMU's own hypervisor, instead of on this one.
    oracle: bool,
}

impl Run {
    fn place(&self) -> String {
        if self.oracle { format!("pseries {}", self.machine.cpu()) } else { self.machine.name().into() }
    }

    fn execute(&self, things: &Things) -> Verdict {
        let name = format!("{}-{}", self.case.name, self.place().replace(' ', "-"));
        let log = shell::work_dir("log").map_err(|failure| failure.message)?;
        let (console_log, error_log) = (log.join(format!("{name}.txt")), log.join(format!("{name}.err")));
        let talk = || {
            let (command, files) = self.prepare(things, &name)?;
            let errors = File::create(&error_log)
                .map_err(|error| Failure::new(format!("{}: {error}", error_log.display())))?;
            let talk = Talk::hold(command, errors, &self.case);
            drop(files);
            talk
        };
        let mut outcome = talk();
        // Now and then firmware loses itself when its processors really run at the same time, and the machine resets: that says
        // nothing about the hypervisor, which has not been entered.
        if self.case.mttcg && outcome.as_ref().is_ok_and(Talk::ended_in_firmware) {
            outcome = talk();
        }
        let talk = outcome.map_err(|failure| failure.message)?;
        let _ = std::fs::write(&console_log, &talk.console);
        self.judge(&talk).map_err(|why| {
            let errors = std::fs::read_to_string(&error_log).unwrap_or_default();
            let console = tail(&talk.console, 40);
            let mut shown =
                format!("{why}\n--- the end of the console ({}):\n{console}", console_log.display());
            if !errors.trim().is_empty() {
                shown.push_str(&format!("\n--- QEMU says:\n{}", errors.trim()));
            }
            shown
        })
    }

    /// The command, and the files it reads.
    fn prepare(&self, things: &Things, name: &str) -> Result<(Command, Vec<Temporary>), Failure> {
        let case = &self.case;
        if self.oracle {
            let Source::Guest { bin, endian } = case.source else {
                return Err(Failure::new("only a guest program can run under the pseries machine"));
            };
            let elf = toolchain::guest(bin, endian.target());
            let flat = oracle::flatten(&shell::read(&elf)?)
                .ok_or_else(|| Failure::new(format!("{}: not a guest program", elf.display())))?;
            let flat = Temporary::new(name, &flat)?;
            let text = |path: &Path| path.display().to_string();
            let mut command = qemu::command();
            command.args(oracle::qemu_args(case, self.machine, &text(flat.path()), &text(&elf)));
            return Ok((command, vec![flat]));
        }
        let archive = Temporary::new(name, &things.archive(case)?)?;
        let (cpus, threads) = case.smp;
        let options = Options {
            machine: self.machine,
            smp: Smp { cpus, threads },
            memory: case.host_memory << 20,
            icount: !case.mttcg,
            ..Options::default()
        };
        let image = if case.selftest.is_some() { &things.selftest } else { &things.image };
        let mut command = qemu_command(&options, image, archive.path(), false);
        if let Some(bootargs) = case.selftest {
            command.args(["-append", bootargs]);
        }
        for device in case.devices {
            command.args(["-device", device]);
        }
        Ok((command, vec![archive]))
    }

    fn judge(&self, talk: &Talk) -> Verdict {
        if !talk.ended {
            return Err(format!("the time ran out ({} s)", (self.case.timeout * SLACK).as_secs()));
        }
        if let Some(step) = self.case.script.get(talk.steps) {
            return Err(format!("it ended before it said {:?}", step.expect));
        }
        if let Some(ended) = talk.crash {
            return Err(format!("QEMU failed ({ended})"));
        }
        (self.case.judge)(&Transcript::new(&talk.console, talk.ended))?;
        if self.oracle {
            return Ok(());
        }
        let mut last = LastLine::default();
        last.add(&talk.console);
        match last.exit() {
            Some(exit) if u32::from(exit.status) == self.case.status => Ok(()),
            Some(exit) => Err(format!(
                "the hypervisor says exit {}: {}; expected exit {}",
                exit.status, exit.reason, self.case.status
            )),
            None => {
                Err(format!("the hypervisor did not say how it ended; expected exit {}", self.case.status))
            }
        }
    }
}

/// A console dialogue that is over.
struct Talk {
    console: Vec<u8>,
    /// QEMU ended by itself.
    ended: bool,
    /// And if it did, then with an error.
    crash: Option<ExitStatus>,
    /// How many steps of the script were taken.
    steps: usize,
}

impl Talk {
    /// The machine has ended by itself, and the hypervisor has not said a word.
    fn ended_in_firmware(&self) -> bool {
        let entered = b"INIT: Starting kernel";
        self.ended && self.crash.is_none() && find(&self.console, entered).is_none()
    }

    fn hold(command: Command, errors: File, case: &Case) -> Result<Self, Failure> {
        let mut machine = qemu::Machine::start(command, Stdio::piped(), errors.into())?;
        let mut typist = machine.input().map(Typist::new);
        let deadline = Instant::now() + case.timeout * SLACK;
        let mut talk = Self { console: Vec::new(), ended: false, crash: None, steps: 0 };
        // What comes before is matched, or has been searched in vain.
        let mut searched = 0;
        while Instant::now() < deadline {
            match machine.next(Some(deadline)) {
                Event::Output(bytes) => talk.console.extend(bytes),
                Event::Timeout => break,
                Event::End => {
                    talk.ended = true;
                    break;
                }
            }
            while let Some(step) = case.script.get(talk.steps) {
                let Some(at) = find(&talk.console[searched..], step.expect.as_bytes()) else {
                    searched = searched.max((talk.console.len() + 1).saturating_sub(step.expect.len()));
                    break;
                };
                searched += at + step.expect.len();
                talk.steps += 1;
                if let Some(typist) = &mut typist {
                    typist.send(step.send);
                }
            }
            /// No test has that much to say: its guest runs wild.
            const LIMIT: usize = 64 << 20;
            if talk.console.len() > LIMIT {
                break;
            }
        }
        if talk.ended {
            talk.crash = Some(machine.reap()?).filter(|ended| !ended.success());
        } else {
            machine.stop();
        }
        Ok(talk)
    }
}

/// Types on a console. It does not wait until what it types is read: a guest may first have much to say.
struct Typist(Sender<&'static str>);

impl Typist {
    fn new(mut input: ChildStdin) -> Self {
        let (sender, texts) = channel::<&str>();
        std::thread::spawn(move || texts.iter().all(|text| qemu::send(&mut input, text.as_bytes())));
        Self(sender)
    }

    fn send(&mut self, text: &'static str) {
        // Nobody takes it when QEMU has ended, which is seen elsewhere.
        let _ = self.0.send(text);
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    text.windows(wanted.len()).position(|part| part == wanted)
}

/// The last lines of a console, without what would upset a terminal.
fn tail(console: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(console);
    let all: Vec<_> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    let clean = |line: &&str| line.chars().filter(|char| !char.is_control()).collect::<String>();
    last.iter().map(clean).collect::<Vec<_>>().join("\n")
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

    #[test]
    fn finds_and_shortens() {
        assert_eq!(find(b"a login: ", b"login:"), Some(2));
        assert_eq!(find(b"log", b"login:"), None);
        assert_eq!(tail(b"a\nb\x1b[2J\r\nc", 2), "b[2J\nc");
    }
}
