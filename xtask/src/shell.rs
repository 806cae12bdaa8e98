//! Files, folders and programs of the build machine.

use crate::Failure;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The top of the source tree.
pub fn root() -> PathBuf {
    // Cargo gives the folder of the running build; without it, the one of the build that made this program.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&own).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where everything that is built goes.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}

/// A folder under [`target_dir`] that is there.
pub fn work_dir(name: &str) -> Result<PathBuf, Failure> {
    make_dir(target_dir().join("partita").join(name))
}

/// Makes a folder, with its parents, unless it is there.
pub fn make_dir(path: PathBuf) -> Result<PathBuf, Failure> {
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(Failure::new(format!("{}: cannot make this folder: {error}", path.display()))),
    }
}

/// Reads a file; an unreadable one is bad usage.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::usage(format!("{}: cannot read it: {error}", path.display())))
}

/// Writes a file.
pub fn write(path: &Path, data: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, data)
        .map_err(|error| Failure::new(format!("{}: cannot write it: {error}", path.display())))
}

/// Gives a file another size: what it does not have yet is zeroes.
pub fn set_size(path: &Path, bytes: u64) -> Result<(), Failure> {
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_len(bytes)).map_err(|error| {
        Failure::new(format!("{}: cannot make it {bytes} bytes long: {error}", path.display()))
    })
}

/// Whether a program is on the search path.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a program and gives what it wrote to its standard output. If it fails, all that it wrote is the message.
pub fn output(command: &mut Command) -> Result<Vec<u8>, Failure> {
    let name = name(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("cannot run {name}: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    // Most programs complain on their standard error, some checkers on their standard output.
    let said = if output.stderr.trim_ascii().is_empty() { output.stdout } else { output.stderr };
    let said = String::from_utf8_lossy(&said);
    let said = said.trim_end();
    let colon = if said.is_empty() { "" } else { ":\n" };
    Err(Failure::new(format!("{name} failed ({}){colon}{said}", output.status)))
}

/// The program and the first of its arguments, for messages.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    let mut name = program.to_string_lossy().into_owned();
    let mut plain = command.get_args().filter(|argument| !starts_with_dash(argument));
    if let Some(first) = plain.next() {
        name.push(' ');
        name.push_str(&first.to_string_lossy());
    }
    name
}

fn starts_with_dash(argument: &OsStr) -> bool {
    argument.as_encoded_bytes().starts_with(b"-")
}

/// A line about something that takes its time.
pub fn progress(message: &str) {
    eprintln!("partita: {message}");
}
