//! One test in QEMU: what it needs is built and packed, the machine runs, and its console is judged.

use crate::options::{Options, Smp};
use crate::qemu::{self, Event, LastLine};
use crate::run::{Temporary, qemu_command};
use crate::toolchain::{self, Variant};
use crate::{Failure, archive, debian, devices, page, shell};
use bundle::{Disk, DiskSource, Manifest, Partition};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use tests::{Case, Contents, Endian, HostDisk, Machine, PackedFile, Source, Step, Transcript, oracle};

/// What a failed test has to show.
pub type Verdict = Result<(), String>;

/// A case's limit is for an idle machine: in the suite as many run at a time as there are processors.
const SLACK: u32 = 2;

/// What was typed last is typed again when nothing has come of it for so long, where a machine is asked for what it will be some
/// time.
const INSIST: Duration = Duration::from_millis(300);

/// What the runs need.
pub struct Things {
    pub image: PathBuf,
    selftest: PathBuf,
    linux: PathBuf,
    newer_linux: PathBuf,
    /// Where this machine has a page for guests.
    port: u16,
}

impl Things {
    pub fn make(runs: &[Run]) -> Result<Self, Failure> {
        let mut things = Self {
            image: toolchain::build_kernel(Variant::Plain)?,
            selftest: PathBuf::new(),
            linux: PathBuf::new(),
            newer_linux: PathBuf::new(),
            port: 0,
        };
        if runs.iter().any(|run| run.case.net || run.case.has_user_network()) {
            things.port = page::serve()?;
        }
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
        let with_busybox = |file: &PackedFile| {
            matches!(file, PackedFile::Initramfs { .. } | PackedFile::DriverInitramfs { .. })
        };
        if files.iter().any(with_busybox) {
            debian::busybox()?;
        }
        let with_debian =
            |run: &Run| run.case.disks.iter().any(|disk| matches!(disk.contents, Contents::Debian));
        if files.contains(&PackedFile::DebianDisk) || runs.iter().any(with_debian) {
            debian::root::image()?;
        }
        Ok(things)
    }

    /// What is in a file.
    fn read(&self, file: PackedFile) -> Result<Vec<u8>, Failure> {
        let program = |bin: &str, endian: Endian| shell::read(&toolchain::guest(bin, endian.target()));
        match file {
            PackedFile::Guest { bin, endian } => program(bin, endian),
            PackedFile::Disk { sectors } => {
                Ok((0..64 * u64::from(sectors)).flat_map(|n| (8 * n).to_le_bytes()).collect())
            }
            PackedFile::DebianKernel => shell::read(&self.linux),
            PackedFile::NewerDebianKernel => shell::read(&self.newer_linux),
            PackedFile::Initramfs { init, programs } => {
                let programs: Result<Vec<_>, Failure> =
                    programs.iter().map(|&bin| Ok((bin, program(bin, Endian::Little)?))).collect();
                debian::initramfs(init, &programs?, &[])
            }
            PackedFile::DriverInitramfs { init, drivers } => {
                debian::initramfs(init, &[], &[debian::modules::of(&self.linux, Some(drivers))?])
            }
            PackedFile::DebianDisk => shell::read(&debian::root::image()?),
        }
    }

    /// The boot archive of a case.
    fn archive(&self, case: &Case, machine: Machine) -> Result<Vec<u8>, Failure> {
        let files: Result<Vec<_>, Failure> =
            case.source.files().into_iter().map(|(name, file)| Ok((name, self.read(file)?))).collect();
        let files = files?;
        let mut files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let disk = case.emulated.map(|emulated| vec![0; emulated.disk]);
        files.extend(disk.as_ref().map(|disk| ("disk", disk.as_slice())));
        match case.source {
            Source::Guest { .. } | Source::Linux { .. } => {
                let image = || Disk::new(DiskSource::Image("disk".into()));
                let initrd = files.iter().find(|(name, _)| *name == "initrd");
                let partition = Partition {
                    vcpus: case.vcpus,
                    initrd: initrd.map(|(name, _)| name.to_string()),
                    disks: case.emulated.iter().map(|_| image()).collect(),
                    // That host has no source of random numbers.
                    rng: case.emulated.is_some() && machine != Machine::PowerNv8,
                    iommu: case.emulated.is_some_and(|emulated| emulated.iommu),
                    cmdline: case.append.into(),
                    huge_pages: case.huge_pages,
                    ..Partition::new("guest", case.guest_memory << 20, "kernel")
                };
                let manifest = Manifest { partitions: vec![partition], ..Manifest::default() };
                archive::pack(&manifest.to_toml(), &files, case.host_memory << 20)
            }
            Source::Partitions { manifest, .. } => {
                let manifest = manifest.replace("@port@", &self.port.to_string());
                archive::pack(&manifest, &files, case.host_memory << 20)
            }
            Source::Bundle(make) => Ok(make()),
        }
    }
}

/// One case on one machine.
pub struct Run {
    pub case: Case,
    pub machine: Machine,
    /// Under QEMU's own hypervisor, instead of on this one.
    pub oracle: bool,
}

/// What came of it, once it has come to its end.
pub struct Outcome {
    pub transcript: Transcript,
    /// Whether the hypervisor's last line has the status that it should.
    pub status: Verdict,
}

/// A command, and the files it reads.
type Prepared = (Command, Vec<Temporary>);

impl Run {
    /// Where it runs, for people.
    pub fn place(&self) -> String {
        if self.oracle { format!("pseries {}", self.machine.cpu()) } else { self.machine.name().into() }
    }

    /// What goes into names of files.
    fn name(&self) -> String {
        format!("{}-{}", self.case.name, self.place().replace(' ', "-"))
    }

    /// Lets it run and judges it.
    pub fn execute(&self, things: &Things) -> Verdict {
        let Outcome { transcript, status } = self.perform(things)?;
        (self.case.judge)(&transcript).and(status).map_err(|why| self.shown(&why, &transcript.text))
    }

    /// Lets it run. If it does not come to its end: why, with the end of its console.
    pub fn perform(&self, things: &Things) -> Result<Outcome, String> {
        let text = |failure: Failure| failure.message;
        let mut console = Vec::new();
        if self.case.limit {
            let (prepared, script) = (self.prepare_limit(things).map_err(text)?, oracle::linux_script());
            let talk = self.talk(prepared, &script, Some(oracle::LINUX_INSISTS), None).map_err(text)?;
            console.extend(&talk.console);
            console.push(b'\n');
            self.keep(&console)?;
            let ended = self.ended(&talk, &script);
            ended.map_err(|why| self.shown(&why, &String::from_utf8_lossy(&console)))?;
        }
        let disks = self.disks().map_err(text)?;
        let (mut script, mut kill) = (&self.case.script[..], self.case.kill);
        if self.case.again {
            let first =
                self.talk(self.prepare(things, &disks).map_err(text)?, script, None, kill).map_err(text)?;
            console.extend(&first.console);
            console.push(b'\n');
            self.keep(&console)?;
            let whole = self.ended(&first, script).and_then(|()| self.recover(&disks));
            whole.map_err(|why| self.shown(&why, &String::from_utf8_lossy(&console)))?;
            (script, kill) = (&[], None);
        }
        let talk = || self.talk(self.prepare(things, &disks)?, script, None, kill);
        let mut last = talk().map_err(text)?;
        // Now and then firmware loses itself when its processors really run at the same time, and the machine resets: that says
        // nothing about the hypervisor, which has not been entered.
        if self.case.mttcg && last.ended_in_firmware() {
            last = talk().map_err(text)?;
        }
        console.extend(&last.console);
        self.keep(&console)?;
        let transcript = Transcript::new(&console, last.ended);
        self.ended(&last, script).map_err(|why| self.shown(&why, &transcript.text))?;
        self.judge_disks(&disks).map_err(|why| self.shown(&why, &transcript.text))?;
        let unasked = self.oracle || kill.is_some();
        let status = if unasked { Ok(()) } else { self.status(&last.console) };
        Ok(Outcome { transcript, status })
    }

    fn talk(
        &self,
        (command, files): Prepared,
        script: &[Step],
        insist: Option<usize>,
        kill: Option<&str>,
    ) -> Result<Talk, Failure> {
        let path = shell::work_dir("log")?.join(format!("{}.err", self.name()));
        let errors =
            File::create(&path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let talk = Talk::hold(command, errors, script, insist, kill, self.case.timeout * SLACK);
        drop(files);
        talk
    }

    /// Keeps its console for who wants to look at it.
    fn keep(&self, console: &[u8]) -> Verdict {
        let log = shell::work_dir("log").map_err(|failure| failure.message)?;
        let _ = std::fs::write(log.join(format!("{}.txt", self.name())), console);
        Ok(())
    }

    /// What a test that failed has to show.
    fn shown(&self, why: &str, console: &str) -> String {
        let Ok(log) = shell::work_dir("log") else { return why.into() };
        let file = |extension| log.join(format!("{}.{extension}", self.name()));
        let errors = std::fs::read_to_string(file("err")).unwrap_or_default();
        let mut shown =
            format!("{why}\n--- the end of the console ({}):\n{}", file("txt").display(), tail(console, 40));
        if !errors.trim().is_empty() {
            shown.push_str(&format!("\n--- QEMU says:\n{}", errors.trim()));
        }
        shown
    }

    /// The same Linux under QEMU's pseries machine.
    fn prepare_limit(&self, things: &Things) -> Result<Prepared, Failure> {
        let Source::Linux { init, programs } = self.case.source else {
            return Err(Failure::new("only a Linux can run under the pseries machine as it is"));
        };
        let initrd = things.read(PackedFile::Initramfs { init, programs })?;
        let initrd = Temporary::new(&format!("{}-limit", self.name()), &initrd)?;
        let text = |path: &Path| path.display().to_string();
        let mut command = qemu::command();
        let args = oracle::linux_args(&self.case, self.machine, &text(&things.linux), &text(initrd.path()));
        command.args(args);
        Ok((command, vec![initrd]))
    }

    /// The files that are the host's disks.
    fn disks(&self) -> Result<Vec<Temporary>, Failure> {
        let make = |(number, disk): (usize, &HostDisk)| {
            let file = Temporary::new(&format!("{}-disk{number}", self.name()), b"")?;
            match disk.contents {
                Contents::Zeroes(_) => shell::set_size(file.path(), disk.bytes)?,
                Contents::Debian => debian::root::copy(file.path(), disk.bytes)?,
            }
            Ok(file)
        };
        self.case.disks.iter().enumerate().map(make).collect()
    }

    fn judge_disks(&self, files: &[Temporary]) -> Verdict {
        for (number, (disk, file)) in self.case.disks.iter().zip(files).enumerate() {
            let bytes = || shell::read(file.path());
            let verdict = match disk.contents {
                Contents::Zeroes(judge) => {
                    bytes().map_err(|failure| failure.message).and_then(|it| judge(&it))
                }
                Contents::Debian => debian::root::check(file.path()),
            };
            verdict.map_err(|why| format!("disk{number}: {why}"))?;
        }
        Ok(())
    }

    /// File systems are whole when they have caught up with their journals, even if QEMU was killed.
    fn recover(&self, files: &[Temporary]) -> Verdict {
        let debian = |disk: &HostDisk| matches!(disk.contents, Contents::Debian);
        let mut disks = self.case.disks.iter().zip(files).filter(|(disk, _)| debian(disk));
        disks.try_for_each(|(_, file)| debian::root::recover(file.path()))
    }

    /// The command, and the files it reads.
    fn prepare(&self, things: &Things, disks: &[Temporary]) -> Result<Prepared, Failure> {
        let (case, name) = (&self.case, &self.name());
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
            let mut files = vec![flat];
            if let Some(emulated) = case.emulated {
                let disk = Temporary::new(&format!("{name}-disk"), &vec![0; emulated.disk])?;
                command.args(oracle::emulated_args(emulated, &text(disk.path())));
                files.push(disk);
            }
            return Ok((command, files));
        }
        let archive = Temporary::new(name, &things.archive(case, self.machine)?)?;
        let (cpus, threads) = case.smp;
        let options = Options {
            machine: self.machine,
            smp: Smp { cpus, threads },
            memory: case.host_memory << 20,
            icount: !case.mttcg,
            disks: disks.iter().map(|disk| disk.path().into()).collect(),
            net: case.net,
            ..Options::default()
        };
        let image = if case.selftest.is_some() { &things.selftest } else { &things.image };
        let mut command = qemu_command(&options, image, archive.path(), false);
        if let Some(bootargs) = case.selftest {
            command.args(["-append", bootargs]);
        }
        let mut files = vec![archive];
        if case.drive != 0 {
            let drive = Temporary::new(&format!("{name}-drive"), &vec![0; case.drive as usize])?;
            let path = drive.path().display();
            command.args(["-drive", &format!("if=none,id=file,format=raw,file={path}")]);
            files.push(drive);
        }
        if case.has_own_devices() {
            command.args(devices::arguments(&options));
        }
        if case.has_user_network() {
            command.args(["-netdev", "user,id=user"]);
        }
        for device in case.devices {
            command.args(["-device", device]);
        }
        Ok((command, files))
    }

    /// It has come to its end, and has said all that the script waits for.
    fn ended(&self, talk: &Talk, script: &[Step]) -> Verdict {
        if !talk.ended {
            return Err(format!("the time ran out ({} s)", (self.case.timeout * SLACK).as_secs()));
        }
        if let Some(step) = script.get(talk.steps) {
            return Err(format!("it ended before it said {:?}", step.expect));
        }
        match talk.crash {
            Some(ended) => Err(format!("QEMU failed ({ended})")),
            None => Ok(()),
        }
    }

    fn status(&self, console: &[u8]) -> Verdict {
        let mut last = LastLine::default();
        last.add(console);
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

/// Does something with each run, as many at a time as there are processors, and says what came of it as it comes.
pub fn each<T: Send>(
    runs: Vec<Run>,
    work: impl Fn(&Run) -> T + Sync,
    mut report: impl FnMut(Run, Duration, T),
) {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(runs.into_iter());
    let (sender, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, queue, work) = (sender.clone(), &queue, &work);
            scope.spawn(move || {
                while let Some(run) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    let start = Instant::now();
                    let done = work(&run);
                    if sender.send((run, start.elapsed(), done)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        results.iter().for_each(|(run, time, done)| report(run, time, done));
    });
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

    /// Plays the script; what the step `insist` types is typed again and again until what the next one waits for comes.
    fn hold(
        command: Command,
        errors: File,
        script: &[Step],
        insist: Option<usize>,
        kill: Option<&str>,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let mut machine = qemu::Machine::start(command, Stdio::piped(), errors.into())?;
        let mut typist = machine.input().map(Typist::new);
        let deadline = Instant::now() + limit;
        let mut talk = Self { console: Vec::new(), ended: false, crash: None, steps: 0 };
        // What comes before is matched, or has been searched in vain.
        let mut searched = 0;
        while Instant::now() < deadline {
            match machine.next(Some(deadline.min(Instant::now() + INSIST))) {
                Event::Output(bytes) => talk.console.extend(bytes),
                Event::Timeout => {
                    if insist.is_some_and(|step| talk.steps == step + 1)
                        && let (Some(step), Some(typist)) = (script.get(talk.steps - 1), &mut typist)
                    {
                        typist.send(step.send);
                    }
                }
                Event::End => {
                    talk.ended = true;
                    break;
                }
            }
            while let Some(step) = script.get(talk.steps) {
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
            let last_words = kill.filter(|_| talk.steps == script.len());
            if last_words.is_some_and(|words| find(&talk.console[searched..], words.as_bytes()).is_some()) {
                machine.kill();
                talk.ended = true;
                return Ok(talk);
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
fn tail(console: &str, lines: usize) -> String {
    let all: Vec<_> = console.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    let clean = |line: &&str| line.chars().filter(|char| !char.is_control()).collect::<String>();
    last.iter().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn finds_and_shortens() {
        assert_eq!(find(b"a login: ", b"login:"), Some(2));
        assert_eq!(find(b"log", b"login:"), None);
        assert_eq!(tail("a\nb\x1b[2J\r\nc", 2), "b[2J\nc");
    }
}
