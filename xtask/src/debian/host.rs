//! What a Linux host with KVM-HV is made of: Debian's kernel with its KVM modules, and Debian's QEMU with the libraries it needs.

use super::apt::Apt;
use super::{KERNEL, Suite, cache, take};
use crate::Failure;
use crate::shell::{make_dir, output, read, work_dir, write};
use elf::ElfBytes;
use elf::abi::DT_NEEDED;
use elf::endian::AnyEndian;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package with QEMU for POWER, and what it is called in there.
const PACKAGE: &str = "qemu-system-ppc";
const QEMU: &str = "qemu-system-ppc64";
/// What its ELF header names, in another folder: it runs programs wherever their libraries are.
const LOADER: &str = "ld64.so.2";
const MODULES: [&str; 2] = ["kvm.ko", "kvm-hv.ko"];
/// Where libraries are in a package, and programs and QEMU itself.
const LIBRARIES: [&str; 2] = ["lib/powerpc64le-linux-gnu", "usr/lib/powerpc64le-linux-gnu"];
const PROGRAMS: &str = "usr/bin";

/// A kernel, and files for an initramfs.
pub struct Host {
    pub kernel: PathBuf,
    /// The packages' names with their versions.
    pub versions: String,
    files: PathBuf,
}

impl Host {
    /// Finds it in the cache, or downloads it.
    pub fn fetch() -> Result<Host, Failure> {
        let dir = cache()?.join(Suite::Stable.name()).join("kvm-host");
        if !dir.exists() {
            download(&dir)?;
        }
        let versions = read(&dir.join("versions"))?;
        Ok(Host {
            kernel: dir.join("vmlinux"),
            versions: String::from_utf8_lossy(&versions).trim().into(),
            files: dir.join("files"),
        })
    }

    /// QEMU, all that it loads, and the modules: names and contents.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let cannot = |error| Failure::new(format!("{}: {error}", self.files.display()));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.files).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, read(&path)?));
        }
        Ok(files)
    }
}

/// Makes the folder. It appears under its name only when it is whole.
fn download(dir: &Path) -> Result<(), Failure> {
    let mut apt = Apt::update(Suite::Stable)?;
    let package = apt.depends(KERNEL)?;
    let kernel = apt.download(&package)?;
    let debs = apt.download_all(&[PACKAGE])?;
    let root = work_dir("tmp")?.join(format!("host-{}.tmp", std::process::id()));
    let part = dir.with_extension(format!("{}.part", std::process::id()));
    let made = fill(&part, &root, &package, &kernel, &debs);
    let _ = std::fs::remove_dir_all(&root);
    apt.clean();
    made?;
    let cannot = |error| Failure::new(format!("{}: cannot make this folder: {error}", dir.display()));
    std::fs::rename(&part, dir).map_err(cannot)
}

/// Unpacks to `root`, and takes from there what is needed.
fn fill(to: &Path, root: &Path, package: &str, kernel: &Path, debs: &[PathBuf]) -> Result<(), Failure> {
    make_dir(root.into())?;
    for deb in debs.iter().map(PathBuf::as_path).chain([kernel]) {
        output(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(root))?;
    }
    let files = make_dir(to.join("files"))?;
    let version = package.strip_prefix("linux-image-").unwrap_or(package);
    take(&root.join(format!("boot/vmlinux-{version}")), &to.join("vmlinux"))?;
    for module in MODULES {
        let from = root.join(format!("lib/modules/{version}/kernel/arch/powerpc/kvm")).join(module);
        write(&files.join(module), &read(&from)?)?;
    }
    copy_program(root, &files)?;
    let named = |deb: &Path, of: &str| {
        let name = deb.file_stem()?.to_string_lossy().replace("%3a", ":");
        name.starts_with(&format!("{of}_")).then(|| name.trim_end_matches("_ppc64el").replace('_', " "))
    };
    let qemu = debs.iter().find_map(|deb| named(deb, PACKAGE)).unwrap_or_default();
    let versions = format!("{}, {qemu}\n", named(kernel, package).unwrap_or_else(|| package.into()));
    write(&to.join("versions"), versions.as_bytes())
}

/// Copies QEMU, and the libraries that it needs, that these need, and so on.
fn copy_program(root: &Path, to: &Path) -> Result<(), Failure> {
    let mut wanted = vec![QEMU.to_owned(), LOADER.to_owned()];
    let mut next = 0;
    while let Some(name) = wanted.get(next).cloned() {
        next += 1;
        let places = LIBRARIES.iter().chain([&PROGRAMS]).map(|dir| root.join(dir).join(&name));
        let path = places.into_iter().find(|path| path.exists()).ok_or_else(|| {
            Failure::new(format!(
                "Debian's {PACKAGE} needs {name}, and no package of its dependencies has it"
            ))
        })?;
        let bytes = read(&path)?;
        let more = needed(&bytes).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        for library in more {
            if !wanted.contains(&library) {
                wanted.push(library);
            }
        }
        write(&to.join(&name), &bytes)?;
    }
    Ok(())
}

/// The libraries that a program or library names.
fn needed(bytes: &[u8]) -> Result<Vec<String>, elf::ParseError> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes)?;
    let common = file.find_common_data()?;
    let (Some(dynamic), Some(names)) = (common.dynamic, common.dynsyms_strs) else { return Ok(Vec::new()) };
    let entries = dynamic.iter().filter(|entry| entry.d_tag == DT_NEEDED);
    entries.map(|entry| Ok(names.get(entry.d_val() as usize)?.to_owned())).collect()
}
