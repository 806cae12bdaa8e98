//! `cargo xtask run`: one guest on the hypervisor, in QEMU, with the console here.

use crate::options::{HELP, Initrd, Options, parse};
use crate::qemu::{self, Event, LastLine};
use crate::toolchain::{Variant, build_kernel};
use crate::{Failure, debian, shell, status};
use bundle::{MANIFEST, Manifest, Partition, Size, cpio};
use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

pub fn main(arguments: Vec<OsString>) -> Result<u8, Failure> {
    let Some(options) = parse(arguments)? else {
        print!("{HELP}");
        return Ok(0);
    };
    let kernel = match &options.kernel {
        Some(path) => path.clone(),
        None => debian::kernel(debian::Suite::Stable)?,
    };
    let program = shell::read(&kernel)?;
    let (initrd_path, initrd) = match &options.initrd {
        Initrd::None => (Path::new(""), None),
        Initrd::File(path) => (path.as_path(), Some(shell::read(path)?)),
        Initrd::Default => (Path::new("initramfs"), Some(debian::initramfs(debian::SHELL)?)),
    };
    let size = initrd.as_ref().map(|initrd| (initrd_path, initrd.len() as u64));
    check_guest((&kernel, &program), size, options.guest_memory)?;
    let partition = Partition {
        name: "guest".into(),
        memory: options.guest_memory,
        vcpus: options.vcpus,
        kernel: "kernel".into(),
        initrd: initrd.is_some().then(|| "initrd".into()),
        cmdline: options.append.clone(),
        huge_pages: false,
    };
    let archive = make_archive(&partition, &program, initrd.as_deref())?;
    let image = build_kernel(Variant::Plain)?;
    let file = Temporary::new("run", &archive)?;
    execute(&options, &image, file)
}

/// Checks what the hypervisor would refuse, by the same rules, so that the answer comes at once.
fn check_guest(kernel: (&Path, &[u8]), initrd: Option<(&Path, u64)>, memory: u64) -> Result<(), Failure> {
    let (path, image) = kernel;
    let plan = papr::elf::plan(image, memory)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    /// More than the hypervisor's device tree for a guest ever takes.
    const TREE: u64 = 64 << 10;
    let (path, bytes) = initrd.unwrap_or((path, 0));
    papr::elf::place(&plan, memory, TREE, bytes).map(drop).map_err(|error| {
        let memory = Size(memory);
        Failure::usage(format!("{}: {error} (--guest-memory {memory})", path.display()))
    })
}

/// The boot archive for one partition.
pub fn make_archive(partition: &Partition, kernel: &[u8], initrd: Option<&[u8]>) -> Result<Vec<u8>, Failure> {
    let manifest = Manifest { partitions: vec![partition.clone()], ..Manifest::default() };
    let write = || {
        let mut archive = cpio::Writer::new();
        archive.file(MANIFEST, 0o644, manifest.to_toml().as_bytes())?;
        archive.file("kernel", 0o644, kernel)?;
        if let Some(initrd) = initrd {
            archive.file("initrd", 0o644, initrd)?;
        }
        Ok(archive.finish())
    };
    let archive =
        write().map_err(|error: cpio::WriteError| Failure::usage(format!("boot archive: {error}")))?;
    /// Firmware puts the archive between 0x28000000 and itself.
    const ROOM: u64 = 128 << 20;
    if archive.len() as u64 > ROOM {
        return Err(Failure::usage(format!(
            "kernel and initrd are too large together: {} bytes, and firmware has room for {}",
            archive.len(),
            Size(ROOM)
        )));
    }
    Ok(archive)
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
    command.arg("-kernel").arg(image).arg("-initrd").arg(archive);
    // No -nodefaults: it would take the service processor away, which powers the machine off.
    command.args(["-display", "none", "-vga", "none", "-nic", "none", "-no-reboot"]);
    if terminal {
        command.args(["-serial", "mon:stdio"]);
    } else {
        command.args(["-chardev", "stdio,id=console,signal=off,mux=off"]);
        command.args(["-serial", "chardev:console", "-monitor", "none"]);
    }
    if options.icount {
        command.args(qemu::ICOUNT);
    }
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
    let message = "QEMU ended before the hypervisor said how the guest did";
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

#[cfg(test)]
mod test {
    use super::*;

    /// A little-endian ELF header with one segment, for ELF machine `machine`.
    fn elf(machine: u16, bytes: u64) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        for (at, value) in [(16, 2), (18, machine), (20, 1), (52, 64), (54, 56), (56, 1)] {
            file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        for (at, value) in [(32, 64), (64, 1), (96, 16), (104, bytes)] {
            file[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        file
    }

    fn refused(program: &[u8], initrd: u64, reason: &str) {
        let (kernel, initrd) = ((Path::new("k"), program), Some((Path::new("i"), initrd)));
        let failure = check_guest(kernel, initrd, 16 << 20).unwrap_err();
        assert_eq!(failure.status, status::USAGE);
        assert!(failure.message.starts_with(reason), "{failure}");
        assert!(!failure.message.contains('\n'), "{failure}");
    }

    #[test]
    fn guests() {
        check_guest((Path::new("k"), &elf(21, 8 << 20)), None, 16 << 20).unwrap();
        check_guest((Path::new("k"), &elf(21, 4 << 20)), Some((Path::new("i"), 4 << 20)), 16 << 20).unwrap();
        refused(b"", 0, "k: not an ELF");
        refused(b"#!/bin/sh", 0, "k: not an ELF");
        refused(b"\x7fELF\x02\x01", 0, "k: the file is cut off");
        let mut small = elf(21, 16);
        small[4] = 1;
        refused(&small, 0, "k: a 32-bit");
        refused(&elf(62, 16), 0, "k: an image for ELF machine 62");
        refused(&elf(21, 17 << 20), 0, "k: segment 0 ends at 17");
        refused(&elf(21, 4 << 20), 13 << 20, "i: initrd");
    }

    #[test]
    fn archives() {
        let partition = Partition {
            name: "guest".into(),
            memory: 512 << 20,
            vcpus: 2,
            kernel: "kernel".into(),
            initrd: Some("initrd".into()),
            cmdline: "console=hvc0 \"quoted\"".into(),
            huge_pages: true,
        };
        let archive = make_archive(&partition, b"k", Some(b"i")).unwrap();
        let bundle = bundle::Bundle::open(&archive).unwrap();
        assert_eq!(bundle.manifest().partitions, [partition]);
        assert_eq!((bundle.file("kernel"), bundle.file("initrd")), (Some(&b"k"[..]), Some(&b"i"[..])));
    }
}
