//! The initramfs with busybox: the one with the shell, and those of tests.

use super::busybox;
use super::modules::Modules;
use crate::Failure;
use crate::shell::read;
use bundle::cpio::{self, WriteError};

/// What the default initramfs runs. With `root=` on the command line it goes on to what is installed there; else it says a few lines
/// about the machine, and is a shell.
pub const SHELL: &str = include_str!("init.sh");
/// What busybox's DHCP client runs with what it has been given.
pub const DHCP: &str = include_str!("dhcp.sh");

/// An initramfs, uncompressed, with busybox and `init` as its `/init`. `programs`, names and contents, are in `/bin`; kernels'
/// modules are where each looks for its own.
pub fn initramfs(init: &str, programs: &[(&str, Vec<u8>)], modules: &[Modules]) -> Result<Vec<u8>, Failure> {
    let busybox = read(&busybox()?)?;
    pack(&busybox, init, programs, modules).map_err(|error| Failure::new(format!("initramfs: {error}")))
}

fn pack(
    busybox: &[u8],
    init: &str,
    programs: &[(&str, Vec<u8>)],
    modules: &[Modules],
) -> Result<Vec<u8>, WriteError> {
    let mut archive = cpio::Writer::new();
    for name in ["bin", "sbin", "usr", "usr/bin", "usr/sbin", "dev", "proc", "sys", "tmp", "root", "etc"] {
        archive.directory(name, 0o755)?;
    }
    // The kernel opens this one for /init, before anything is mounted.
    archive.device("dev/console", 0o600, 5, 1)?;
    archive.device("dev/null", 0o666, 1, 3)?;
    archive.file("bin/busybox", 0o755, busybox)?;
    archive.symlink("bin/sh", "busybox")?;
    for (name, program) in programs {
        archive.file(&format!("bin/{name}"), 0o755, program)?;
    }
    for name in ["lib", "lib/modules", "etc/udhcpc"] {
        archive.directory(name, 0o755)?;
    }
    archive.file("etc/udhcpc/default.script", 0o755, DHCP.as_bytes())?;
    for Modules { version, files } in modules.iter().filter(|modules| !modules.files.is_empty()) {
        archive.directory(&format!("lib/modules/{version}"), 0o755)?;
        for (name, module) in files {
            archive.file(&format!("lib/modules/{version}/{name}"), 0o644, module)?;
        }
    }
    archive.file("init", 0o755, init.as_bytes())?;
    Ok(archive.finish())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn initramfs_is_an_archive() {
        let modules = Modules { version: "6.1".into(), files: vec![("a.ko".into(), b"module".to_vec())] };
        let archive =
            pack(b"busybox", SHELL, &[("stress", b"program".to_vec())], &[modules, Modules::default()])
                .unwrap();
        let entries: Vec<_> = cpio::Reader::new(&archive).map(Result::unwrap).collect();
        for (name, data, mode) in [
            ("bin/busybox", &b"busybox"[..], 0o100_755),
            ("bin/stress", b"program", 0o100_755),
            ("lib/modules/6.1/a.ko", b"module", 0o100_644),
            ("etc/udhcpc/default.script", DHCP.as_bytes(), 0o100_755),
            ("init", SHELL.as_bytes(), 0o100_755),
        ] {
            let entry = entries.iter().find(|entry| entry.name == name).unwrap();
            assert_eq!((entry.data, entry.mode), (data, mode));
        }
    }
}
