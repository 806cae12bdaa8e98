//! A root file system of Debian for ppc64el, as the image of a disk.
//!
//! Packages are unpacked, not installed: nothing of them runs on this machine, which need not be one for ppc64el, nor has anybody to be
//! root. What they do when they are installed is left to the guest (`dpkg --configure -a`, which [`INIT`] offers); it boots without.

use super::apt::Apt;
use super::initramfs::DHCP;
use super::{Suite, cache};
use crate::Failure;
use crate::shell::{has, make_dir, output, progress, read, set_size, work_dir, write};
use bundle::Size;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is in it, besides what these need. A `?` begins one of apt's patterns.
const PACKAGES: [&str; 9] = [
    "?essential",
    "apt",
    "busybox-static",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "mount",
    "procps",
    "wget",
];
/// What is left out of packages: most of their bytes, of no use where memory and time are short.
const WITHOUT: [&str; 4] =
    ["./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*"];
/// The first process: mounts, network, a shell.
const INIT: &str = include_str!("root-init.sh");
/// Directories that are links since Debian 12.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Counts changes of what is made of these.
const VERSION: u32 = 1;
/// The size of the image that is kept: what is in it, and room for files of tests.
const BYTES: u64 = 384 << 20;

/// An image with [`BYTES`] and the file system in it, which is made once.
pub fn image() -> Result<PathBuf, Failure> {
    let mut hasher = DefaultHasher::new();
    (VERSION, PACKAGES, WITHOUT, INIT, DHCP, BYTES).hash(&mut hasher);
    let dir = make_dir(cache()?.join(Suite::Stable.name()))?;
    let file = dir.join(format!("root-{:016x}.img", hasher.finish()));
    if file.exists() {
        return Ok(file);
    }
    needs(&["mke2fs", "dpkg-deb", "tar"])?;
    let debs = Apt::update(Suite::Stable)?.download_all(&PACKAGES)?;
    progress(&format!("unpacking {} packages of Debian for a root file system", debs.len()));
    let tree = work_dir("tmp")?.join(format!("root-{}.tmp", std::process::id()));
    let _ = std::fs::remove_dir_all(&tree);
    let made = fill(&tree, &debs).and_then(|()| {
        let part = file.with_extension(format!("{}.part", std::process::id()));
        make_file_system(&tree, &part)?;
        std::fs::rename(&part, &file).map_err(|why| Failure::new(format!("{}: {why}", file.display())))
    });
    let _ = std::fs::remove_dir_all(&tree);
    made.map(|()| file)
}

/// Copies the image to a file and gives it another size; one that it can have.
pub fn copy(to: &Path, bytes: u64) -> Result<(), Failure> {
    let from = image()?;
    output(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&from).arg(to))?;
    if bytes == BYTES {
        return Ok(());
    }
    needs(&["resize2fs"])?;
    set_size(to, bytes)?;
    output(tool("resize2fs").arg(to)).map(drop)
}

/// Whether the file system in an image is whole. If not: what is wrong with it.
pub fn check(image: &Path) -> Result<(), String> {
    let out = tool("e2fsck").arg("-fn").arg(image).output().map_err(|why| format!("e2fsck: {why}"))?;
    if out.status.success() {
        Ok(())
    } else {
        Err(format!("e2fsck: {}", String::from_utf8_lossy(&out.stdout)))
    }
}

/// Whether it is, in a copy, once it has caught up with its journal.
pub fn recover(image: &Path) -> Result<(), String> {
    let copy = image.with_extension("copy.tmp");
    let recovered = output(Command::new("cp").arg("--sparse=always").arg(image).arg(&copy))
        .map_err(|failure| failure.message)
        .and_then(|_| match tool("e2fsck").args(["-p"]).arg(&copy).output() {
            // 1: something has been put right, and that is all there was.
            Ok(out) if matches!(out.status.code(), Some(0 | 1)) => check(&copy),
            Ok(out) => Err(format!("e2fsck: {}", String::from_utf8_lossy(&out.stdout))),
            Err(why) => Err(format!("e2fsck: {why}")),
        });
    let _ = std::fs::remove_file(&copy);
    recovered
}

/// Whether an image can have a size. If not: why.
pub fn check_size(bytes: u64) -> Result<(), String> {
    /// Of the file system's blocks.
    const BLOCK: u64 = 4 << 10;
    match bytes {
        _ if bytes < BYTES => Err(format!("Debian needs {}", Size(BYTES))),
        _ if !bytes.is_multiple_of(BLOCK) => Err(format!("not a multiple of {}", Size(BLOCK))),
        _ => Ok(()),
    }
}

/// A program of e2fsprogs, which are not on the search path of who is not root.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    if let Ok(path) = std::env::join_paths(dirs) {
        command.env("PATH", path);
    }
    command
}

fn needs(programs: &[&str]) -> Result<(), Failure> {
    let there = |name: &&&str| has(name) || Path::new("/usr/sbin").join(name).exists();
    match programs.iter().find(|name| !there(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::new(format!(
            "cannot make a root file system without {name} (on Debian: packages dpkg, tar, e2fsprogs)"
        ))),
    }
}

/// Puts everything into a folder.
fn fill(tree: &Path, debs: &[PathBuf]) -> Result<(), Failure> {
    for name in MERGED {
        make_dir(tree.join("usr").join(name))?;
        link(&format!("usr/{name}"), &tree.join(name))?;
    }
    let database = make_dir(tree.join("var/lib/dpkg"))?;
    let info = make_dir(database.join("info"))?;
    let mut status = String::new();
    for deb in debs {
        let files = unpack(deb, tree)?;
        status.push_str(&register(deb, &files, &info)?);
    }
    write(&database.join("status"), status.as_bytes())?;
    write(&database.join("available"), b"")?;
    // What base-passwd does when it is installed.
    for name in ["passwd", "group"] {
        write(
            &tree.join("etc").join(name),
            &read(&tree.join(format!("usr/share/base-passwd/{name}.master")))?,
        )?;
    }
    for name in ["proc", "sys", "dev", "run", "tmp", "mnt", "root", "etc/udhcpc", "etc/apt"] {
        make_dir(tree.join(name))?;
    }
    write(&tree.join("etc/hostname"), b"debian\n")?;
    write(&tree.join("etc/hosts"), b"127.0.0.1 localhost debian\n")?;
    write(&tree.join("etc/fstab"), b"# The first process mounts what there is.\n")?;
    write(&tree.join("etc/apt/sources.list"), b"deb http://deb.debian.org/debian bookworm main\n")?;
    script(&tree.join("etc/udhcpc/default.script"), DHCP)?;
    script(&tree.join("usr/sbin/init"), INIT)?;
    for name in ["poweroff", "reboot"] {
        link("init", &tree.join("usr/sbin").join(name))?;
    }
    Ok(())
}

/// Its files, of which some are left out; as dpkg lists them.
fn unpack(deb: &Path, tree: &Path) -> Result<String, Failure> {
    let wrong = |why: String| Failure::new(format!("{}: cannot unpack it: {why}", deb.display()));
    let mut unpacking = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| wrong(why.to_string()))?;
    let mut tar = Command::new("tar");
    // Packages still say bin/sh where it is usr/bin/sh.
    tar.args(["-x", "-v", "-p", "--keep-directory-symlink", "-f", "-", "-C"]).arg(tree);
    tar.args(WITHOUT.map(|pattern| format!("--exclude={pattern}")));
    let out = tar
        .stdin(unpacking.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::piped())
        .output()
        .map_err(|why| wrong(why.to_string()))?;
    let fine = unpacking.wait().is_ok_and(|status| status.success());
    if !fine || !out.status.success() {
        return Err(wrong(String::from_utf8_lossy(&out.stderr).trim().to_string()));
    }
    Ok(listed(&String::from_utf8_lossy(&out.stdout)))
}

/// Puts its scripts and lists into dpkg's database; its entry in the table of what is there.
fn register(deb: &Path, files: &str, info: &Path) -> Result<String, Failure> {
    let scratch = info.join("scratch");
    let _ = std::fs::remove_dir_all(&scratch);
    output(Command::new("dpkg-deb").arg("-e").arg(deb).arg(&scratch))?;
    let control = String::from_utf8_lossy(&read(&scratch.join("control"))?).into_owned();
    let field = |name: &str| {
        control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    };
    let mut name = field("Package").to_string();
    if field("Multi-Arch") == "same" {
        name = format!("{name}:{}", field("Architecture"));
    }
    for entry in std::fs::read_dir(&scratch).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if file != "control" {
            let to = info.join(format!("{name}.{file}"));
            std::fs::rename(entry.path(), &to)
                .map_err(|why| Failure::new(format!("{}: {why}", to.display())))?;
        }
    }
    write(&info.join(format!("{name}.list")), files.as_bytes())?;
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(entry(&control))
}

/// A package's entry for one that is unpacked.
fn entry(control: &str) -> String {
    let mut lines: Vec<&str> = control.lines().filter(|line| !line.is_empty()).collect();
    lines.insert(1.min(lines.len()), "Status: install ok unpacked");
    lines.join("\n") + "\n\n"
}

/// Names in a tar archive, `./usr/` for example, as dpkg lists them: `/usr`.
fn listed(names: &str) -> String {
    let name = |line: &str| match line.trim_start_matches('.').trim_end_matches('/') {
        "" => "/.\n".to_string(),
        name => format!("{name}\n"),
    };
    names.lines().map(name).collect()
}

fn script(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text.as_bytes())?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))
        .map_err(|why| Failure::new(format!("{}: {why}", path.display())))
}

fn link(to: &str, at: &Path) -> Result<(), Failure> {
    let _ = std::fs::remove_file(at);
    symlink(to, at).map_err(|why| Failure::new(format!("{}: {why}", at.display())))
}

/// An ext4 file system with what is in a folder. Who is not root owns all of it here, and root there.
fn make_file_system(tree: &Path, file: &Path) -> Result<(), Failure> {
    let root = output(Command::new("id").arg("-u"))?.trim_ascii() == b"0";
    let mut command = if root {
        tool("mke2fs")
    } else {
        let mut command = tool("unshare");
        command.args(["-r", "mke2fs"]);
        command
    };
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", "debian", "-m", "0"]);
    // Nothing is left to do for the kernel that mounts it.
    command.args(["-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=16", "-d"]);
    command.arg(tree).arg(file).arg(format!("{}K", BYTES >> 10));
    output(&mut command).map(drop)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn files_as_dpkg_lists_them() {
        assert_eq!(listed("./\n./usr/\n./usr/bin/a\n"), "/.\n/usr\n/usr/bin/a\n");
    }

    #[test]
    fn entries_say_that_it_is_unpacked() {
        let control = "Package: a\nVersion: 1\nDescription: x\n more\n";
        assert_eq!(
            entry(control),
            "Package: a\nStatus: install ok unpacked\nVersion: 1\nDescription: x\n more\n\n"
        );
    }
}
