//! `cargo xtask run`: guests on the hypervisor, in QEMU, with the console here.

use crate::options::{Guest, Guests, HELP, Initrd, Options, parse};
use crate::qemu::{self, Event, LastLine};
use crate::toolchain::{Variant, build_kernel};
use crate::{Failure, archive, debian, devices, shell, status};
use bundle::{Partition, Size};
use debian::modules::Modules;
use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use tests::oracle::{ICOUNT, MTTCG};

pub fn main(arguments: Vec<OsString>) -> Result<u8, Failure> {
    let Some(options) = parse(arguments)? else {
        print!("{HELP}");
        return Ok(0);
    };
    options.disks.iter().try_for_each(|path| devices::check_disk(path))?;
    let archive = match &options.guests {
        Guests::Manifest(path) => {
            let host = archive::Host { memory: options.memory, cpus: options.smp.cpus };
            archive::for_manifest(path, host)?
        }
        Guests::One(guest) => single(guest, &options)?,
    };
    let image = build_kernel(Variant::Plain)?;
    let file = Temporary::new("run", &archive)?;
    execute(&options, &image, file)
}

/// The boot archive for the guest of the options.
fn single(guest: &Guest, options: &Options) -> Result<Vec<u8>, Failure> {
    let path = match &guest.kernel {
        Some(path) => path.clone(),
        None => debian::kernel(debian::Suite::Stable)?,
    };
    let kernel = shell::read(&path)?;
    let partition = Partition {
        vcpus: guest.vcpus,
        initrd: (guest.initrd != Initrd::None).then(|| "initrd".into()),
        cmdline: guest.append.clone(),
        disks: devices::disks(options),
        nets: devices::nets(options),
        ..Partition::new("guest", guest.memory, "kernel")
    };
    let initrd = match &guest.initrd {
        Initrd::None => None,
        Initrd::File(path) => Some((path.display().to_string(), shell::read(path)?)),
        Initrd::Default => {
            let modules =
                if partition.has_bus() { debian::modules::of(&path, None)? } else { Modules::default() };
            Some(("initramfs".to_string(), debian::initramfs(debian::SHELL, &[], &[modules])?))
        }
    };
    let initrd = initrd.as_ref().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    archive::for_guest(partition, (&path.display().to_string(), &kernel), initrd, options.memory)
}

/// A file that is removed when it is no longer needed.
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Makes one with a name of its own.
    pub fn new(name: &str, data: &[u8]) -> Result<Self, Failure> {
        let dir = shell::work_dir("tmp")?;
        remove_orphans(&dir);
        let path = dir.join(format!("{name}-{}.tmp", std::process::id()));
        shell::write(&path, data)?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what processes left behind that were killed: the names end in their numbers.
fn remove_orphans(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_suffix(".tmp")?.rsplit('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn execute(options: &Options, image: &Path, archive: Temporary) -> Result<u8, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let mut command = qemu_command(options, image, archive.path(), terminal);
    command.args(devices::arguments(options));
    command.args(&options.qemu);
    if options.gdb {
        command.args(["-s", "-S"]);
        shell::progress(&format!(
            "waiting for: gdb-multiarch -ex 'set architecture powerpc:common64' -ex 'set endian little' -ex 'target remote :1234' {}",
            image.display()
        ));
    }
    let deadline = options.timeout.map(|timeout| Instant::now() + timeout);
    let saved = if terminal { terminal_state() } else { None };
    let input = if terminal { Stdio::inherit() } else { Stdio::piped() };
    let mut machine = qemu::Machine::start(command, input, Stdio::inherit())?;
    let outcome = converse(&mut machine, deadline, archive);
    if let Some(saved) = saved {
        let _ = Command::new("stty").arg(saved).status();
    }
    outcome
}

/// QEMU with the hypervisor and a boot archive, its console on the standard input and output.
pub fn qemu_command(options: &Options, image: &Path, archive: &Path, terminal: bool) -> Command {
    let mut command = qemu::command();
    command.args(["-M", options.machine.name(), "-m", &Size(options.memory).to_string()]);
    command.args(["-smp", &options.smp.to_string()]);
    command.arg("-kernel").arg(image).args(archive::load(archive));
    // No -nodefaults: it would take the service processor away, which powers the machine off.
    command.args(["-display", "none", "-vga", "none", "-nic", "none", "-no-reboot"]);
    if terminal {
        command.args(["-serial", "mon:stdio"]);
    } else {
        command.args(["-chardev", "stdio,id=console,signal=off,mux=off"]);
        command.args(["-serial", "chardev:console", "-monitor", "none"]);
    }
    command.args(if options.icount { &ICOUNT[..] } else { &MTTCG });
    command
}

/// QEMU puts a terminal back itself, unless it has to be killed.
fn terminal_state() -> Option<String> {
    let state = Command::new("stty").arg("-g").stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    let state = String::from_utf8(state.stdout).ok()?;
    Some(state.trim().to_string()).filter(|state| !state.is_empty())
}

fn converse(
    machine: &mut qemu::Machine,
    deadline: Option<Instant>,
    archive: Temporary,
) -> Result<u8, Failure> {
    let mut archive = Some(archive);
    let mut last = LastLine::default();
    let mut start = machine.input().map(StartOfInput::new);
    let mut stdout = std::io::stdout();
    loop {
        match machine.next(deadline) {
            Event::Output(bytes) => {
                // QEMU has read all its files before the machine says a word.
                archive = None;
                last.add(&bytes);
                if let Err(error) = stdout.write_all(&bytes).and_then(|()| stdout.flush()) {
                    return Err(Failure::new(format!("cannot write to the standard output: {error}")));
                }
                if let Some(start) = &mut start {
                    start.watch(&bytes);
                }
            }
            Event::Timeout => {
                machine.stop();
                eprintln!("partita: the time ran out");
                return Ok(status::TIMEOUT);
            }
            Event::End => break,
        }
    }
    let silent = archive.is_some();
    let ended = machine.wait()?;
    // A QEMU that gave up may have done so behind a line of the guest's.
    if let Some(exit) = last.exit().filter(|_| ended.success()) {
        return Ok(exit.status);
    }
    if silent && ended.code().is_some_and(|code| code != 0) {
        return Err(Failure::usage("QEMU did not start: its message is above"));
    }
    let message = "QEMU ended before the hypervisor said how the guests did";
    Err(Failure { status: status::CRASH, message: format!("{message} ({ended})") })
}

/// Holds input back until firmware has done its work: what arrives earlier it throws away.
struct StartOfInput {
    input: Option<ChildStdin>,
    seen: Vec<u8>,
}

impl StartOfInput {
    const SIGNS: [&[u8]; 2] = [b"INIT: Starting kernel", b"partita: "];

    fn new(input: ChildStdin) -> Self {
        Self { input: Some(input), seen: Vec::new() }
    }

    fn watch(&mut self, bytes: &[u8]) {
        if self.input.is_none() {
            return;
        }
        self.seen.extend_from_slice(bytes);
        if Self::SIGNS.iter().any(|sign| self.seen.windows(sign.len()).any(|part| part == *sign))
            && let Some(input) = self.input.take()
        {
            std::thread::spawn(move || feed(input));
        }
        let keep = self.seen.len().saturating_sub(64);
        self.seen.drain(..keep);
    }
}

/// Copies the standard input to the console. At its end the console stays open, for there may be output to come.
fn feed(mut input: ChildStdin) {
    let mut buffer = [0; 4096];
    let mut stdin = std::io::stdin().lock();
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if !qemu::send(&mut input, &buffer[..length]) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // Keeps `input` open until the end of this process.
    let (_held, forever): (_, Receiver<()>) = channel();
    let _ = forever.recv();
    drop(input);
}
