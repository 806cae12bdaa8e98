//! Debian for ppc64el: kernels with their modules, busybox and the initramfs made of it, and root file systems.
//!
//! Packages are found and verified by apt with a state of its own, so that neither the system's package lists nor its
//! architectures change. Names of kernel packages move with every update: they are looked up, never written here. What has been
//! downloaded stays in a cache, and then neither apt nor the network is used again.

mod apt;
mod host;
mod initramfs;
pub mod modules;
pub mod root;

use crate::Failure;
use crate::shell::{make_dir, output};
use apt::Apt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use host::Host;
pub use initramfs::{SHELL, initramfs};

/// A Debian suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12 itself: Linux 6.1.
    Stable,
    /// Its backports: a newer Linux.
    Backports,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Stable => "bookworm",
            Self::Backports => "bookworm-backports",
        }
    }
}

const ARCHITECTURE: &str = "ppc64el";
const KERNEL: &str = "linux-image-powerpc64le";
const BUSYBOX: &str = "busybox-static";

/// The suite's kernel, an ELF file, with its [`modules`] beside it; downloads them if need be.
pub fn kernel(suite: Suite) -> Result<PathBuf, Failure> {
    let dir = make_dir(cache()?.join(suite.name()))?;
    let found = newest_kernel(&dir);
    match found {
        Some(found) if modules::are_there(&found) => Ok(found),
        // It came without its modules once: it is good for what needs none.
        Some(found) => download_kernel(suite, &dir).or(Ok(found)),
        None => download_kernel(suite, &dir),
    }
}

fn download_kernel(suite: Suite, dir: &Path) -> Result<PathBuf, Failure> {
    let mut apt = Apt::update(suite)?;
    let package = apt.depends(KERNEL)?;
    let deb = apt.download(&package)?;
    let version = package.strip_prefix("linux-image-").unwrap_or(&package);
    let file = dir.join(format!("vmlinux-{version}"));
    let package = unpack(&deb)?;
    modules::keep(&package, &file)?;
    take(&package.join(format!("boot/vmlinux-{version}")), &file)?;
    apt.clean();
    Ok(file)
}

/// A busybox for ppc64el that needs no libraries; downloads it if need be.
pub fn busybox() -> Result<PathBuf, Failure> {
    let file = make_dir(cache()?.join(Suite::Stable.name()))?.join("busybox");
    if !file.exists() {
        let mut apt = Apt::update(Suite::Stable)?;
        let deb = apt.download(BUSYBOX)?;
        take(&unpack(&deb)?.join("bin/busybox"), &file)?;
        apt.clean();
    }
    Ok(file)
}

fn cache() -> Result<PathBuf, Failure> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(dir), _) if Path::new(&dir).is_absolute() => PathBuf::from(dir),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache"),
        _ => return Err(Failure::new("no place for downloads: neither XDG_CACHE_HOME nor HOME is set")),
    };
    Ok(base.join("partita"))
}

/// The kernel that was downloaded last.
fn newest_kernel(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let kernels = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("vmlinux-") && !name.ends_with(".part")
    });
    kernels
        .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
        .map(|entry| entry.path())
}

/// Unpacks a package into a folder beside it.
fn unpack(deb: &Path) -> Result<PathBuf, Failure> {
    let to = deb.with_extension("unpacked");
    output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&to)).map(|_| to)
}

/// Takes a file of an unpacked package. It appears under its name only when it is whole.
fn take(from: &Path, to: &Path) -> Result<(), Failure> {
    let part = to.with_extension(format!("{}.part", std::process::id()));
    std::fs::copy(from, &part)
        .and_then(|_| std::fs::rename(&part, to))
        .map_err(|why| Failure::new(format!("{}: cannot take it out of its package: {why}", from.display())))
}
