//! The modules of a Debian kernel that guests here have a use for. They stay beside the kernel, with those that they need themselves:
//! in the cache, `vmlinux-VERSION` has `modules-VERSION`, a folder with `NAME.ko` and `modules.dep`.

use crate::Failure;
use crate::shell::{make_dir, output, read, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is kept, if the kernel has it as a module: virtio's devices, devices of QEMU's that a guest may be given, and a file system,
/// with the checksum that this one asks for by another name.
const WANTED: [&str; 10] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio_rng",
    "nvme",
    "e1000e",
    "ext4",
    "crc32c_generic",
];
/// The kernel's name for the table of what needs what.
const TABLE: &str = "modules.dep";

/// The modules of a kernel that is in the cache: the folder in which Linux looks for them, and files there.
#[derive(Default)]
pub struct Modules {
    /// As `uname -r` says it.
    pub version: String,
    /// Names and contents.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Where the modules of a kernel are, by its path.
fn beside(kernel: &Path) -> Option<(String, PathBuf)> {
    let version = kernel.file_name()?.to_str()?.strip_prefix("vmlinux-")?;
    Some((version.to_string(), kernel.with_file_name(format!("modules-{version}"))))
}

/// Whether a kernel in the cache has its modules beside it.
pub fn are_there(kernel: &Path) -> bool {
    beside(kernel).is_some_and(|(_, dir)| dir.join(TABLE).exists())
}

/// Modules of a kernel, with what they need themselves; `None` for all that there are. A kernel from elsewhere has none.
pub fn of(kernel: &Path, wanted: Option<&[&str]>) -> Result<Modules, Failure> {
    let Some((version, dir)) = beside(kernel).filter(|_| are_there(kernel)) else {
        return Ok(Modules::default());
    };
    let table = read(&dir.join(TABLE))?;
    let needs = parse_table(&String::from_utf8_lossy(&table));
    let names = match wanted {
        Some(wanted) => closure(&needs, wanted),
        None => needs.keys().cloned().collect(),
    };
    let mut files = vec![(TABLE.to_string(), table)];
    for name in names {
        let file = format!("{name}.ko");
        files.push((file.clone(), read(&dir.join(file))?));
    }
    Ok(Modules { version, files })
}

/// Takes the modules out of an unpacked kernel package and puts them beside the kernel.
pub fn keep(package: &Path, kernel: &Path) -> Result<(), Failure> {
    let Some((version, to)) = beside(kernel) else { return Ok(()) };
    let from = ["lib/modules", "usr/lib/modules"].map(|dir| package.join(dir).join(&version));
    let mut all = BTreeMap::new();
    from.iter().for_each(|dir| find(dir, &mut all));
    let part = make_dir(to.with_extension(format!("{}.part", std::process::id())))?;
    let mut needs = BTreeMap::new();
    let mut next: Vec<String> = WANTED.map(String::from).into();
    while let Some(name) = next.pop() {
        let Some(path) = all.get(&name).filter(|_| !needs.contains_key(&name)) else { continue };
        let module = unpacked(path)?;
        write(&part.join(format!("{name}.ko")), &module)?;
        let depends = depends(&module);
        next.extend(depends.iter().cloned());
        needs.insert(name, depends);
    }
    write(&part.join(TABLE), table(&needs).as_bytes())?;
    let _ = std::fs::remove_dir_all(&to);
    std::fs::rename(&part, &to).map_err(|why| Failure::new(format!("{}: {why}", to.display())))
}

/// Modules below a folder, by their names.
fn find(dir: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            find(&path, found);
        } else if let Some(name) = name.strip_suffix(".ko").or_else(|| name.strip_suffix(".ko.xz")) {
            found.insert(plain(name), path);
        }
    }
}

/// Dashes and underscores are the same in a module's name.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

fn unpacked(path: &Path) -> Result<Vec<u8>, Failure> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        return output(Command::new("xz").arg("-dc").arg(path));
    }
    read(path)
}

/// What a module says that it needs: `depends=a,b` among the strings in it.
fn depends(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let at = module.windows(key.len()).position(|part| part == key).map(|at| at + key.len());
    let text = module[at.unwrap_or(module.len())..].split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    text.split(',').filter(|name| !name.is_empty()).map(plain).collect()
}

/// Modules with all that they need, each before what needs it.
fn closure(needs: &BTreeMap<String, Vec<String>>, wanted: &[&str]) -> Vec<String> {
    fn add(needs: &BTreeMap<String, Vec<String>>, name: &str, all: &mut Vec<String>) {
        let Some(first) = needs.get(name).filter(|_| !all.iter().any(|known| known == name)) else { return };
        first.iter().for_each(|name| add(needs, name, all));
        all.push(name.to_string());
    }
    let mut all = Vec::new();
    wanted.iter().for_each(|name| add(needs, &plain(name), &mut all));
    all
}

/// The table as `modprobe` wants it: after each module all that it needs, what comes first being last.
fn table(needs: &BTreeMap<String, Vec<String>>) -> String {
    let mut text = String::new();
    for name in needs.keys() {
        let files: Vec<_> =
            closure(needs, &[name]).iter().rev().skip(1).map(|name| format!(" {name}.ko")).collect();
        text.push_str(&format!("{name}.ko:{}\n", files.concat()));
    }
    text
}

fn parse_table(text: &str) -> BTreeMap<String, Vec<String>> {
    let name = |file: &str| file.trim_end_matches(".ko").to_string();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(module, needs)| (name(module), needs.split_whitespace().map(name).collect())).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn modules_and_what_they_need() {
        assert_eq!(depends(b"x\0license=GPL\0depends=crc16,virtio-ring\0name=a\0"), ["crc16", "virtio_ring"]);
        assert!(depends(b"x\0depends=\0name=a\0").is_empty());
        assert!(depends(b"x\0").is_empty());
        let needs = [("a", vec!["b", "c"]), ("b", vec!["c"]), ("c", vec![]), ("d", vec!["c", "built_in"])];
        let needs: BTreeMap<String, Vec<String>> = needs
            .into_iter()
            .map(|(name, needs)| (name.into(), needs.into_iter().map(String::from).collect()))
            .collect();
        assert_eq!(closure(&needs, &["a", "none"]), ["c", "b", "a"]);
        assert_eq!(closure(&needs, &["d", "b"]), ["c", "d", "b"]);
        let text = "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\nd.ko: c.ko\n";
        assert_eq!(table(&needs), text);
        assert_eq!(closure(&parse_table(text), &["a"]), ["c", "b", "a"]);
    }

    #[test]
    fn only_a_kernel_of_the_cache_has_modules() {
        assert!(of(Path::new("/nowhere/vmlinux-6.1"), None).unwrap().files.is_empty());
        assert!(of(Path::new("/nowhere/kernel"), None).unwrap().files.is_empty());
    }
}
