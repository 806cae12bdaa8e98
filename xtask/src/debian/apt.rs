//! apt with a state of its own: neither the system's package lists nor its architectures change.

use super::{ARCHITECTURE, KERNEL, Suite, cache};
use crate::Failure;
use crate::shell::{has, make_dir, output, progress, write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const ATTEMPTS: u32 = 4;

/// apt with its own state, for one suite.
pub struct Apt {
    suite: Suite,
    dir: PathBuf,
    options: Vec<String>,
    downloaded: Vec<PathBuf>,
}

impl Apt {
    /// Prepares the state and downloads the suite's index.
    pub fn update(suite: Suite) -> Result<Self, Failure> {
        // Newer kernels have their modules compressed.
        let xz = (suite == Suite::Backports).then_some("xz");
        let programs = ["apt-get", "apt-cache", "dpkg-deb", "tar"].into_iter().chain(xz);
        let missing: Vec<_> = programs.filter(|program| !has(program)).collect();
        if !missing.is_empty() {
            return Err(Failure::new(format!(
                "cannot fetch Debian's files without {}: install {} (on Debian: apt, dpkg, tar, xz-utils), or give --kernel FILE and \
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
        // Nothing is installed. What apt locks stands beside this file.
        write(&dir.join("status"), b"")?;
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
            ("Dir::State::status", at("status")),
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
    pub fn depends(&self, package: &str) -> Result<String, Failure> {
        let text = output(self.command("apt-cache").args(["depends", package]))?;
        parse_depends(&String::from_utf8_lossy(&text))
            .ok_or_else(|| Failure::new(format!("Debian's {package} depends on no kernel package")))
    }

    pub fn download(&mut self, package: &str) -> Result<PathBuf, Failure> {
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

    /// Downloads packages with all that they need, for a system that has nothing. They stay in apt's own cache.
    pub fn download_all(&self, packages: &[&str]) -> Result<Vec<PathBuf>, Failure> {
        progress(&format!("downloading {} and what they need", packages.join(", ")));
        let install = |how: &str| {
            let mut command = self.command("apt-get");
            command.args(["-q", "-y", "--no-install-recommends", how, "install"]).args(packages);
            output(&mut command)
        };
        install("--download-only")?;
        let plan = install("--simulate")?;
        let archives = self.dir.join("cache/archives");
        Ok(parse_plan(&String::from_utf8_lossy(&plan)).map(|file| archives.join(file)).collect())
    }

    /// Removes the downloaded packages: what was in them is in the cache now.
    pub fn clean(&self) {
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

/// The files of the packages that would be installed: `Inst NAME (VERSION SOURCE [ARCHITECTURE])` in what apt says.
fn parse_plan(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        let rest = rest.split(')').next()?;
        let version = rest.split(' ').next()?.replace(':', "%3a");
        let architecture = rest.rsplit_once('[')?.1.split(']').next()?;
        Some(format!("{name}_{version}_{architecture}.deb"))
    })
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
    fn files_of_packages() {
        let text = "NOTE: This is only a simulation!\n\
                    Inst gcc-12-base (12.2.0-14+deb12u1 Debian:12.12/oldstable [ppc64el]) [libc6:ppc64el ]\n\
                    Inst login (1:4.13+dfsg1-1 Debian:12.12/oldstable [ppc64el])\n\
                    Inst tzdata (2025b-0 Debian:12.12/oldstable [all])\nConf login (1:4.13 [ppc64el])\n";
        let files: Vec<_> = parse_plan(text).collect();
        let expected = [
            "gcc-12-base_12.2.0-14+deb12u1_ppc64el.deb",
            "login_1%3a4.13+dfsg1-1_ppc64el.deb",
            "tzdata_2025b-0_all.deb",
        ];
        assert_eq!(files, expected);
    }
}
