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
    check_guest(&program, options.guest_memory)
        .map_err(|error| Failure::usage(format!("{}: {error}", kernel.display())))?;
    let initrd = match &options.initrd {
        Initrd::None => None,
        Initrd::File(path) => Some(shell::read(path)?),
        Initrd::Default => Some(debian::initramfs(debian::SHELL)?),
    };
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

/// Checks what the hypervisor would refuse, so that the answer comes at once.
pub fn check_guest(program: &[u8], memory: u64) -> Result<(), String> {
    let header = program.get(..64).unwrap_or(program);
    if !header.starts_with(b"\x7fELF") {
        return Err("not an ELF file".into());
    }
    match header.get(4) {
        Some(2) => {}
        Some(1) => return Err("a 32-bit ELF file; the guest must be a 64-bit one".into()),
        _ => return Err("an ELF file with a broken header".into()),
    }
    if header.len() < 64 {
        return Err("truncated inside the ELF header".into());
    }
    let little = match header[5] {
        1 => true,
        2 => false,
        _ => return Err("an ELF file with a broken header".into()),
    };
    let field = |from: usize, length: usize, bytes: &[u8]| {
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let bytes = bytes.get(from..from + length)?;
        Some(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    const PPC64: u64 = 21;
    let machine = field(18, 2, header).unwrap_or_default();
    if machine != PPC64 {
        return Err(format!(
            "an ELF file for another processor (machine {machine}, not {PPC64} for 64-bit PowerPC)"
        ));
    }
    let table = field(32, 8, header).unwrap_or_default();
    let size = field(54, 2, header).unwrap_or_default();
    let count = field(56, 2, header).unwrap_or_default();
    let mut loaded = false;
    for index in 0..count {
        let at = usize::try_from(table.saturating_add(index * size)).unwrap_or(usize::MAX);
        let entry = program
            .get(at..)
            .and_then(|rest| rest.get(..56))
            .ok_or("truncated inside its program headers")?;
        let value = |from, length| field(from, length, entry).unwrap_or_default();
        const LOAD: u64 = 1;
        if value(0, 4) != LOAD {
            continue;
        }
        loaded = true;
        let (offset, address, in_file, in_memory) = (value(8, 8), value(24, 8), value(32, 8), value(40, 8));
        if offset.checked_add(in_file).is_none_or(|end| end > program.len() as u64) {
            return Err(format!("truncated: segment {index} ends after the end of the file"));
        }
        if in_file > in_memory {
            return Err(format!("segment {index} is larger in the file than in memory"));
        }
        match address.checked_add(in_memory) {
            Some(end) if end <= memory => {}
            Some(end) => {
                return Err(format!(
                    "does not fit into the guest's memory of {}: it needs the first {end} bytes (--guest-memory)",
                    Size(memory)
                ));
            }
            None => return Err(format!("segment {index} ends beyond 64 bits")),
        }
    }
    if loaded { Ok(()) } else { Err("an ELF file with nothing to load".into()) }
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
        let path = shell::work_dir("tmp")?.join(format!("{name}-{}.cpio", std::process::id()));
        shell::write(&path, data)?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
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
    if let Some(exit) = last.exit() {
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

    fn elf(machine: u16, address: u64, in_file: u64, in_memory: u64) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&1u16.to_le_bytes());
        file[64] = 1;
        for (at, value) in [(88, address), (96, in_file), (104, in_memory)] {
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        file
    }

    fn refused(program: &[u8], reason: &str) {
        let error = check_guest(program, 16 << 20).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn guests() {
        assert_eq!(check_guest(&elf(21, 0, 100, 16 << 20), 16 << 20), Ok(()));
        refused(b"", "not an ELF");
        refused(b"#!/bin/sh", "not an ELF");
        refused(b"\x7fELF\x02\x01", "truncated");
        let mut small = elf(21, 0, 1, 1);
        small[4] = 1;
        refused(&small, "32-bit");
        refused(&elf(62, 0, 1, 1), "another processor (machine 62");
        refused(&elf(21, 1, 100, 16 << 20), "does not fit into the guest's memory of 16M");
        refused(&elf(21, u64::MAX, 1, 1), "beyond 64 bits");
        refused(&elf(21, 0, 1000, 1000), "truncated: segment 0");
        refused(&elf(21, 0, 2, 1), "larger in the file");
        refused(&elf(21, 0, 1, 1)[..100], "program headers");
        let mut empty = elf(21, 0, 1, 1);
        empty[64] = 2;
        refused(&empty, "nothing to load");
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
