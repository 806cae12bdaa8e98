//! Debian's kernels and busybox for ppc64el, and the initramfs made of the latter.
//!
//! Packages are found and verified by apt with a state of its own, so that neither the system's package lists nor its
//! architectures change. Names of kernel packages move with every update: they are looked up, never written here. What has been
//! downloaded stays in a cache, and then neither apt nor the network is used again.

use crate::Failure;
use crate::shell::{has, make_dir, output, progress, read, write};
use bundle::cpio::{self, WriteError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

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
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const ATTEMPTS: u32 = 4;

/// The suite's kernel, an ELF file; downloads it if need be.
pub fn kernel(suite: Suite) -> Result<PathBuf, Failure> {
    let dir = make_dir(cache()?.join(suite.name()))?;
    if let Some(found) = newest_kernel(&dir) {
        return Ok(found);
    }
    let mut apt = Apt::update(suite)?;
    let package = apt.depends(KERNEL)?;
    let deb = apt.download(&package)?;
    let version = package.strip_prefix("linux-image-").unwrap_or(&package);
    let file = dir.join(format!("vmlinux-{version}"));
    extract(&deb, &format!("./boot/vmlinux-{version}"), &file)?;
    apt.clean();
    Ok(file)
}

/// A busybox for ppc64el that needs no libraries; downloads it if need be.
pub fn busybox() -> Result<PathBuf, Failure> {
    let file = make_dir(cache()?.join(Suite::Stable.name()))?.join("busybox");
    if !file.exists() {
        let mut apt = Apt::update(Suite::Stable)?;
        let deb = apt.download(BUSYBOX)?;
        extract(&deb, "./bin/busybox", &file)?;
        apt.clean();
    }
    Ok(file)
}

/// What the default initramfs runs: a few lines about the machine, then a shell.
pub const SHELL: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /root /usr /sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='# '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp
uname -srm
grep -E '^(cpu|MMU|platform)' /proc/cpuinfo
echo 'This is a shell; it has busybox. `poweroff -f` or its end powers the machine off.'
cd
# The console itself cannot be a controlling terminal; the device behind it can, and job control needs one.
setsid cttyhack sh
poweroff -f
";

/// An initramfs, uncompressed, with busybox and `init` as its `/init`. `programs`, names and contents, are in `/bin`.
pub fn initramfs(init: &str, programs: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, Failure> {
    let busybox = read(&busybox()?)?;
    pack(&busybox, init, programs).map_err(|error| Failure::new(format!("initramfs: {error}")))
}

fn pack(busybox: &[u8], init: &str, programs: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, WriteError> {
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
    archive.file("init", 0o755, init.as_bytes())?;
    Ok(archive.finish())
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

/// Takes one file out of a package. It appears under its name only when it is whole.
fn extract(deb: &Path, member: &str, to: &Path) -> Result<(), Failure> {
    let error =
        |why: String| Failure::new(format!("{}: cannot take {member} out of it: {why}", deb.display()));
    let mut unpack = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| error(why.to_string()))?;
    let tar = Command::new("tar")
        .args(["-x", "-O", "-f", "-", member])
        .stdin(unpack.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::piped())
        .output();
    // dpkg-deb's own status says nothing here: tar may stop reading early.
    let _ = unpack.wait();
    let tar = tar.map_err(|why| error(why.to_string()))?;
    if !tar.status.success() || tar.stdout.is_empty() {
        return Err(error(String::from_utf8_lossy(&tar.stderr).trim().to_string()));
    }
    let part = to.with_extension(format!("{}.part", std::process::id()));
    write(&part, &tar.stdout)?;
    std::fs::rename(&part, to).map_err(|why| error(why.to_string()))
}

/// apt with its own state, for one suite.
struct Apt {
    suite: Suite,
    dir: PathBuf,
    options: Vec<String>,
    downloaded: Vec<PathBuf>,
}

impl Apt {
    /// Prepares the state and downloads the suite's index.
    fn update(suite: Suite) -> Result<Self, Failure> {
        let missing: Vec<_> =
            ["apt-get", "apt-cache", "dpkg-deb", "tar"].into_iter().filter(|program| !has(program)).collect();
        if !missing.is_empty() {
            return Err(Failure::new(format!(
                "cannot fetch Debian's files without {}: install {} (on Debian: apt, dpkg, tar), or give --kernel FILE and \
                 --initrd FILE or none",
                missing.join(", "),
                if missing.len() == 1 { "it" } else { "them" }
            )));
        }
        if !Path::new(KEYRING).exists() {
            return Err(Failure::new(format!(
                "cannot verify Debian's files: {KEYRING} is missing (package debian-archive-keyring)"
            )));
        }
        let dir = make_dir(cache()?.join("apt").join(suite.name()))?;
        for name in ["lists/partial", "cache/archives/partial", "empty"] {
            make_dir(dir.join(name))?;
        }
        let mirror = mirror()?;
        let sources = dir.join("sources.list");
        write(
            &sources,
            format!("deb [signed-by={KEYRING} arch={ARCHITECTURE}] {mirror} {} main\n", suite.name())
                .as_bytes(),
        )?;
        let at = |name: &str| dir.join(name).display().to_string();
        let options = [
            ("APT::Architecture", ARCHITECTURE.to_string()),
            ("APT::Architectures", ARCHITECTURE.to_string()),
            ("APT::Sandbox::User", "root".into()),
            ("APT::Get::List-Cleanup", "false".into()),
            ("Dir::State", at("empty")),
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::status", "/dev/null".into()),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::SourceList", sources.display().to_string()),
            ("Dir::Etc::SourceParts", "/dev/null".into()),
            ("Dir::Etc::Preferences", "/dev/null".into()),
            ("Dir::Etc::PreferencesParts", "/dev/null".into()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "3".into()),
            ("Acquire::http::Timeout", "30".into()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".into()),
            ("Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled", "false".into()),
        ];
        let options = options.into_iter().map(|(key, value)| format!("-o{key}={value}")).collect();
        let apt = Self { suite, dir, options, downloaded: Vec::new() };
        apt.index()?;
        Ok(apt)
    }

    fn index(&self) -> Result<(), Failure> {
        let suite = self.suite.name();
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            progress(&format!("fetching the package index of Debian {suite} for {ARCHITECTURE}"));
            last = output(self.command("apt-get").args(["-q", "update"])).err();
            // apt succeeds with a warning when an index cannot be had, and fails for one that is not needed: only the
            // result counts.
            if output(self.command("apt-cache").args(["show", KERNEL])).is_ok_and(|text| !text.is_empty()) {
                return Ok(());
            }
            if attempt < ATTEMPTS {
                progress(&format!("that failed; trying again in {} seconds", 5 * attempt));
                std::thread::sleep(Duration::from_secs(5 * u64::from(attempt)));
            }
        }
        let why = last.map_or_else(|| "the package is not in the index".into(), |failure| failure.message);
        Err(Failure::new(format!(
            "cannot fetch the package index of Debian {suite}: {why}\n  next: check the network (apt's own proxy settings \
             are used), or name another mirror in PARTITA_MIRROR"
        )))
    }

    /// The one package that a metapackage stands for.
    fn depends(&self, package: &str) -> Result<String, Failure> {
        let text = output(self.command("apt-cache").args(["depends", package]))?;
        parse_depends(&String::from_utf8_lossy(&text))
            .ok_or_else(|| Failure::new(format!("Debian's {package} depends on no kernel package")))
    }

    fn download(&mut self, package: &str) -> Result<PathBuf, Failure> {
        progress(&format!("downloading {package} from Debian {}", self.suite.name()));
        let dir = make_dir(self.dir.join(format!("download-{}", std::process::id())))?;
        output(self.command("apt-get").args(["-q", "download", package]).current_dir(&dir))?;
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let prefix = format!("{package}_");
        let mut debs = entries
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
        let deb =
            debs.next().ok_or_else(|| Failure::new(format!("apt-get download left no {package} behind")))?;
        self.downloaded.push(dir);
        Ok(deb)
    }

    /// Removes the downloaded packages: what was in them is in the cache now.
    fn clean(&self) {
        for dir in &self.downloaded {
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C").env_remove("APT_CONFIG");
        command
    }
}

/// Releases by which a source is known to be Debian's main archive.
const RELEASES: [&str; 7] = ["bookworm", "trixie", "forky", "sid", "stable", "testing", "oldstable"];

/// Where Debian is: what $PARTITA_MIRROR says, else where the system's own apt gets it from.
fn mirror() -> Result<String, Failure> {
    if let Ok(mirror) = std::env::var("PARTITA_MIRROR") {
        return Ok(mirror);
    }
    // Without release information this works before the first `apt-get update`, too.
    let arguments =
        ["indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"];
    let targets = output(Command::new("apt-get").args(arguments))?;
    parse_mirror(&String::from_utf8_lossy(&targets)).ok_or_else(|| {
        Failure::new("apt on this machine has no source for Debian itself: name a mirror in PARTITA_MIRROR")
    })
}

/// The first source of a main archive.
fn parse_mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let (uri, release) = line.split_once(' ')?;
        RELEASES.contains(&release).then(|| uri.trim_end_matches('/').to_string())
    })
}

fn parse_depends(text: &str) -> Option<String> {
    let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-")).map(str::to_string)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn finds_the_mirror() {
        let text = "http://else.example/apt nodistro\nhttp://a.example/debian-security bookworm-security\n\
                    http://a.example/debian/ bookworm-updates\nhttp://a.example/debian/ bookworm\n";
        assert_eq!(parse_mirror(text).as_deref(), Some("http://a.example/debian"));
        assert_eq!(parse_mirror("http://else.example/apt nodistro\n"), None);
    }

    #[test]
    fn finds_the_current_package() {
        let text = "linux-image-powerpc64le\n  Depends: linux-image-6.1.0-50-powerpc64le\n";
        assert_eq!(parse_depends(text).as_deref(), Some("linux-image-6.1.0-50-powerpc64le"));
        assert_eq!(parse_depends("linux-image-powerpc64le\n"), None);
    }

    #[test]
    fn initramfs_is_an_archive() {
        let archive = pack(b"busybox", SHELL, &[("stress", b"program".to_vec())]).unwrap();
        let entries: Vec<_> = cpio::Reader::new(&archive).map(Result::unwrap).collect();
        for (name, data) in
            [("bin/busybox", &b"busybox"[..]), ("bin/stress", b"program"), ("init", SHELL.as_bytes())]
        {
            let entry = entries.iter().find(|entry| entry.name == name).unwrap();
            assert_eq!((entry.data, entry.mode), (data, 0o100_755));
        }
    }
}
