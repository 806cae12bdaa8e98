//! The boot archive: a manifest, the files that it names, and the checks that are better made before QEMU starts.
//!
//! The hypervisor makes the same checks and more. Here they come at once, and name files of this machine.

use crate::{Failure, debian, devices, shell};
use bundle::{Disk, DiskSource, MANIFEST, Manifest, Partition, Size, check_image, cpio};
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Component, Path, PathBuf};

/// The machine that the partitions have to share.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Bytes of memory.
    pub memory: u64,
    /// Processors.
    pub cpus: u32,
}

/// A file, and what it is called.
type File<'a> = (&'a str, &'a [u8]);

/// The archive for the manifest at `path`.
pub fn for_manifest(path: &Path, host: Host) -> Result<Vec<u8>, Failure> {
    let shown = path.display().to_string();
    let text = text(&shown, shell::read(path)?)?;
    let usage = |error: bundle::ManifestError| Failure::usage(error.to_string());
    let manifest = Manifest::parse(&shown, &text, |_| true).map_err(usage)?;
    let at = |line: usize, reason: &dyn Display| Failure::usage(format!("{shown}:{line}: {reason}"));
    check_host(&manifest, host).map_err(|(line, reason)| at(line, &reason))?;

    let dir = path.parent().unwrap_or(Path::new(""));
    let mut files = Files::default();
    for partition in &manifest.partitions {
        let (name, line) = (&partition.kernel, partition.lines.kernel);
        let kernel = files
            .add("kernel", name, || shell::read(&find_kernel(dir, name)?))
            .map_err(|failure| within(&shown, line, "kernel", failure))?;
        let initrd = match &partition.initrd {
            Some(name) => {
                let initrd = files
                    .add("initrd", name, || find_initrd(dir, name, &manifest))
                    .map_err(|failure| within(&shown, partition.lines.initrd, "initrd", failure))?;
                Some((name.as_str(), initrd))
            }
            None => None,
        };
        let initrd = initrd.map(|(name, place)| (name, files.bytes(place)));
        check_guest((name, files.bytes(kernel)), initrd, partition.memory).map_err(|wrong| match wrong {
            Wrong::Kernel(reason) => at(line, &format_args!("kernel: {reason}")),
            Wrong::Memory(reason) => at(partition.lines.memory, &format_args!("memory: {reason}")),
        })?;
        for Disk { source, line, .. } in &partition.disks {
            if let DiskSource::Image(name) = source {
                files
                    .add("image", name, || find_image(dir, name))
                    .map_err(|failure| within(&shown, *line, "image", failure))?;
            }
        }
    }
    let packed = Manifest::rename_files(&shown, &text, |name| files.packed_name(name)).map_err(usage)?;
    pack(&packed, &files.stored(), host.memory)
        .map_err(|failure| Failure { message: format!("{shown}: {}", failure.message), ..failure })
}

/// The archive for one partition, whose files come from elsewhere: the names are for messages. The partition names them `kernel`
/// and `initrd`. `host` is the host's memory in bytes.
pub fn for_guest(
    partition: Partition,
    kernel: File<'_>,
    initrd: Option<File<'_>>,
    host: u64,
) -> Result<Vec<u8>, Failure> {
    let size = Size(partition.memory);
    check_guest(kernel, initrd, partition.memory).map_err(|wrong| match wrong {
        Wrong::Kernel(reason) => Failure::usage(reason),
        Wrong::Memory(reason) => Failure::usage(format!("{reason} (--guest-memory {size})")),
    })?;
    let files: Vec<_> = [Some(("kernel", kernel.1)), initrd.map(|initrd| ("initrd", initrd.1))]
        .into_iter()
        .flatten()
        .collect();
    let manifest = Manifest { partitions: vec![partition], ..Manifest::default() };
    pack(&manifest.to_toml(), &files, host)
}

/// Where the archive goes that firmware has no room for: above the first gigabyte, in which firmware lives.
const ABOVE: u64 = 1 << 30;
/// Firmware puts an archive between 0x28000000 and itself.
const ROOM: u64 = 128 << 20;

/// How QEMU is told to put the archive, a file, into the machine's memory. One that firmware has no room for goes there by itself, and
/// the hypervisor's command line says where.
pub fn load(archive: &Path) -> Vec<OsString> {
    let bytes = archive.metadata().map_or(0, |data| data.len());
    if bytes <= ROOM {
        return vec!["-initrd".into(), archive.into()];
    }
    let mut loader = OsString::from(format!("loader,addr={ABOVE:#x},force-raw=on,file="));
    loader.push(devices::doubled_commas(archive));
    let told = format!("archive={ABOVE:#x}+{bytes:#x}");
    vec!["-device".into(), loader, "-append".into(), told.into()]
}

/// The archive with this manifest and these files, for a host with so much memory.
pub fn pack(manifest: &str, files: &[File<'_>], host: u64) -> Result<Vec<u8>, Failure> {
    let mut archive = cpio::Writer::new();
    let write = |archive: &mut cpio::Writer| {
        archive.file(MANIFEST, 0o644, manifest.as_bytes())?;
        files.iter().try_for_each(|(name, bytes)| archive.file(name, 0o644, bytes))
    };
    write(&mut archive)
        .map_err(|error: cpio::WriteError| Failure::usage(format!("boot archive: {error}")))?;
    let archive = archive.finish();
    let room = host.saturating_sub(ABOVE).max(ROOM);
    if archive.len() as u64 > room {
        return Err(Failure::usage(format!(
            "kernels, initrds and images are too large together: {} bytes, and the host's memory has room for {} (--memory)",
            archive.len(),
            Size(room)
        )));
    }
    Ok(archive)
}

fn text(shown: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        Failure::usage(format!("{shown}:{line}: not UTF-8 text"))
    })
}

/// Says which line of the manifest made something fail. What failed for another reason than bad usage keeps its status.
fn within(shown: &str, line: usize, key: &str, failure: Failure) -> Failure {
    Failure { message: format!("{shown}:{line}: {key}: {}", failure.message), ..failure }
}

/// A file that a manifest in `dir` names, or what a word stands for if there is no such file.
fn find_kernel(dir: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    let suite = match name {
        _ if path.exists() => None,
        "debian" => Some(debian::Suite::Stable),
        "debian-backports" => Some(debian::Suite::Backports),
        _ => None,
    };
    suite.map_or(Ok(path), debian::kernel)
}

/// The same for an initrd: its contents. The shell's initramfs has the drivers of all partitions' kernels that need any.
fn find_initrd(dir: &Path, name: &str, manifest: &Manifest) -> Result<Vec<u8>, Failure> {
    let path = dir.join(name);
    if name != "shell" || path.exists() {
        return shell::read(&path);
    }
    let wanted = |partition: &&Partition| partition.has_bus() && partition.initrd.as_deref() == Some(name);
    let mut kernels: Vec<_> =
        manifest.partitions.iter().filter(wanted).map(|partition| &partition.kernel).collect();
    kernels.sort();
    kernels.dedup();
    let modules: Result<Vec<_>, Failure> =
        kernels.iter().map(|name| debian::modules::of(&find_kernel(dir, name)?, None)).collect();
    debian::initramfs(debian::SHELL, &[], &modules?)
}

/// The image of a disk.
fn find_image(dir: &Path, name: &str) -> Result<Vec<u8>, Failure> {
    let image = shell::read(&dir.join(name))?;
    check_image(image.len() as u64)
        .map_err(|reason| Failure::usage(format!("{}: {reason}", dir.join(name).display())))?;
    Ok(image)
}

/// Checks what does not depend on the files. If it is wrong: the line, and why.
fn check_host(manifest: &Manifest, host: Host) -> Result<(), (usize, String)> {
    for Partition { cpus, lines, .. } in &manifest.partitions {
        let missing = cpus.iter().flat_map(|cpus| cpus.iter()).find(|&cpu| cpu >= host.cpus as usize);
        if let Some(cpu) = missing {
            let reason =
                format!("cpus: there is no CPU {cpu}: the host has {} of them, from 0 (--smp)", host.cpus);
            return Err((lines.cpus, reason));
        }
    }
    // Guests get what they touch, so all of them together may have more memory than the host. But all have their tables.
    let mut before = manifest.hypervisor.reserve;
    for Partition { memory, lines, .. } in &manifest.partitions {
        before += bundle::tables::least_bytes(*memory);
        check_memory(before, host.memory)
            .map_err(|reason| (lines.memory, format!("memory: {} {reason}", Size(*memory))))?;
    }
    Ok(())
}

/// Whether a host has room for so many bytes of tables, by all that is known here. If not: why.
pub fn check_memory(tables: u64, host: u64) -> Result<(), String> {
    /// What firmware and the hypervisor take at least.
    const TAKEN: u64 = 40 << 20;
    let need = tables.saturating_add(TAKEN);
    if need <= host {
        return Ok(());
    }
    let need = Size(need.next_multiple_of(1 << 20));
    Err(format!(
        "does not fit: for page tables alone the host needs {need} up to here and has {} (--memory)",
        Size(host)
    ))
}

/// Which of a guest's values must change.
#[derive(Debug)]
enum Wrong {
    /// The kernel is none.
    Kernel(String),
    /// The memory does not hold kernel and initrd.
    Memory(String),
}

/// Checks what the hypervisor would refuse, by the same rules.
fn check_guest(kernel: File<'_>, initrd: Option<File<'_>>, memory: u64) -> Result<(), Wrong> {
    let (name, image) = kernel;
    let plan = papr::elf::plan(image, memory).map_err(|error| Wrong::Kernel(format!("{name}: {error}")))?;
    /// More than the hypervisor's device tree for a guest ever takes.
    const TREE: u64 = 64 << 10;
    let (name, bytes) = initrd.map_or((name, 0), |(name, bytes)| (name, bytes.len() as u64));
    papr::elf::place(&plan, memory, TREE, bytes)
        .map(drop)
        .map_err(|error| Wrong::Memory(format!("{name}: {error}")))
}

/// The files of an archive: each content once, under a name that is safe to extract.
#[derive(Default)]
struct Files {
    stored: Vec<(String, Vec<u8>)>,
    /// The key under which the manifest names a file, what it calls it, and its place in `stored`. What a word stands for, and what a
    /// file has to be, is the key's matter.
    names: Vec<(&'static str, String, usize)>,
}

impl Files {
    /// Adds a file, unless it is known, and says where it is. It is only made if it is not.
    fn add(
        &mut self,
        key: &'static str,
        name: &str,
        make: impl FnOnce() -> Result<Vec<u8>, Failure>,
    ) -> Result<usize, Failure> {
        if let Some((.., place)) = self.names.iter().find(|(k, n, _)| *k == key && n == name) {
            return Ok(*place);
        }
        let bytes = make()?;
        let place = match self.stored.iter().position(|(_, stored)| *stored == bytes) {
            Some(place) => place,
            None => {
                self.stored.push((self.free_name(name), bytes));
                self.stored.len() - 1
            }
        };
        self.names.push((key, name.to_string(), place));
        Ok(place)
    }

    fn bytes(&self, place: usize) -> &[u8] {
        &self.stored[place].1
    }

    /// A safe name that is as much like `name` as possible.
    fn free_name(&self, name: &str) -> String {
        let base = safe_name(name);
        let taken = |name: &str| name == MANIFEST || self.stored.iter().any(|(stored, _)| stored == name);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(base)
    }

    /// What the archive calls the file that the manifest calls `name`.
    fn packed_name(&self, name: &str) -> String {
        let place = self.names.iter().find(|(_, known, _)| known == name).map(|(.., place)| *place);
        place.map_or_else(|| name.to_string(), |place| self.stored[place].0.clone())
    }

    fn stored(&self) -> Vec<File<'_>> {
        self.stored.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect()
    }
}

/// The name itself if it is plain, else its last part without what is not.
fn safe_name(name: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_.+".contains(char);
    let path = PathBuf::from(name);
    let parts: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if parts.as_os_str() == name && name.chars().all(|char| plain(char) || char == '/') {
        return name.to_string();
    }
    let last = parts.file_name().map(|last| last.to_string_lossy().into_owned()).unwrap_or_default();
    let last: String = last.chars().map(|char| if plain(char) { char } else { '_' }).collect();
    if last.is_empty() { "file".into() } else { last }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::status::USAGE;
    use bundle::Bundle;

    const HOST: Host = Host { memory: 2 << 30, cpus: 2 };

    /// A little-endian ELF header with one segment of `bytes`, for ELF machine `machine`.
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

    /// A folder with a manifest and files, which goes away with it.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str, manifest: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("partita-archive-{name}-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("sub")).unwrap();
            let dir = Self(dir);
            dir.file("m.toml", manifest.as_bytes());
            dir.file("vmlinux", &elf(21, 1 << 20));
            dir.file("sub/other", &elf(21, 2 << 20));
            dir.file("sub/same", &elf(21, 1 << 20));
            dir.file("initrd", b"initrd");
            dir
        }

        fn file(&self, name: &str, bytes: &[u8]) {
            std::fs::write(self.0.join(name), bytes).unwrap();
        }

        fn pack(&self) -> Result<Vec<u8>, String> {
            for_manifest(&self.0.join("m.toml"), HOST).map_err(|failure| {
                assert_eq!(failure.status, USAGE, "{failure}");
                assert!(!failure.message.contains('\n'), "{failure}");
                failure.message.replace(&format!("{}/", self.0.display()), "")
            })
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const GOOD: &str = "[[partition]]\nname = \"a\"\nmemory = \"64M\"\nkernel = \"vmlinux\"\n";

    fn refused(name: &str, manifest: &str, reason: &str) {
        let error = Dir::new(name, manifest).pack().unwrap_err();
        assert!(error.starts_with(reason), "{error}");
    }

    #[test]
    fn packs_each_file_once() {
        let again =
            "[[partition]]\nname = \"NAME\"\nmemory = \"64M\"\nkernel = \"FILE\"\ninitrd = \"initrd\"\n";
        let again = |name: &str, file: &str| again.replace("NAME", name).replace("FILE", file);
        let text = format!(
            "# who\n{GOOD}{}{}{}{}",
            again("b", "vmlinux"),
            again("c", "./sub/../vmlinux"),
            again("d", "sub/same"),
            again("e", "sub/other")
        );
        let dir = Dir::new("once", &text);
        let archive = dir.pack().unwrap();
        let entries: Vec<_> =
            cpio::Reader::new(&archive).map(|entry| entry.unwrap().name.to_string()).collect();
        assert_eq!(entries, [MANIFEST, "vmlinux", "initrd", "sub/other"]);
        let bundle = Bundle::open(&archive).unwrap();
        let partitions = &bundle.manifest().partitions;
        let kernels: Vec<_> = partitions.iter().map(|partition| partition.kernel.as_str()).collect();
        assert_eq!(kernels, ["vmlinux", "vmlinux", "vmlinux", "vmlinux", "sub/other"]);
        // The hypervisor's messages are about the lines of the file that was written by hand.
        let lines: Vec<_> = partitions.iter().map(|partition| partition.lines.memory).collect();
        assert_eq!(lines, [4, 8, 13, 18, 23]);
    }

    #[test]
    fn names_are_safe_and_differ() {
        let mut files = Files::default();
        for (name, packed) in [
            ("vmlinux", "vmlinux"),
            ("../vmlinux", "vmlinux-2"),
            ("/boot/vmlinux", "vmlinux-3"),
            ("a/b-1.2+c", "a/b-1.2+c"),
            ("a//b", "b"),
            ("a b/ü?x", "__x"),
            ("..", "file"),
            (MANIFEST, "partitions.toml-2"),
        ] {
            files.add("image", name, || Ok(name.into())).unwrap();
            assert_eq!(files.packed_name(name), packed);
        }
        let count = files.stored().len();
        files.add("image", "elsewhere", || Ok(b"vmlinux".to_vec())).unwrap();
        assert_eq!((files.packed_name("elsewhere").as_str(), files.stored().len()), ("vmlinux", count));
    }

    #[test]
    fn files_are_made_once() {
        let mut files = Files::default();
        let place = files.add("kernel", "a", || Ok(vec![1])).unwrap();
        assert_eq!(files.add("kernel", "a", || unreachable!()).unwrap(), place);
        // As something else it is looked at once more.
        assert!(files.add("image", "a", || Err(Failure::usage("odd"))).is_err());
        assert_eq!(files.add("initrd", "a", || Ok(vec![1])).unwrap(), place);
    }

    #[test]
    fn special_words_are_file_names_first() {
        let text = GOOD.replace("vmlinux", "debian") + "initrd = \"shell\"\n";
        let dir = Dir::new("words", &text);
        dir.file("debian", &elf(21, 1 << 20));
        dir.file("shell", b"not the default one");
        let archive = dir.pack().unwrap();
        assert_eq!(Bundle::open(&archive).unwrap().file("shell"), Some(&b"not the default one"[..]));
        refused("word", &GOOD.replace("vmlinux", "shell"), "m.toml:4: kernel: shell: cannot read it");
        refused("word2", &format!("{GOOD}initrd = \"debian\"\n"), "m.toml:5: initrd: debian: cannot read it");
    }

    #[test]
    fn errors_name_their_lines() {
        refused("key", &format!("{GOOD}colour = 1\n"), "m.toml:5: unknown field `colour`");
        refused("twice", &format!("{GOOD}{GOOD}"), "m.toml:6: name: another partition is called");
        refused("kernel", &GOOD.replace("vmlinux", "vmlinuz"), "m.toml:4: kernel: vmlinuz: cannot read it");
        refused("initrd", &format!("{GOOD}initrd = \"none\"\n"), "m.toml:5: initrd: none: cannot read it");
        refused("elf", &GOOD.replace("vmlinux", "initrd"), "m.toml:4: kernel: initrd: not an ELF");
        refused(
            "cpus",
            &format!("{GOOD}cpus = \"1-2\"\n"),
            "m.toml:5: cpus: there is no CPU 2: the host has 2 of them, from 0 (--smp)",
        );
        refused("one-line", &GOOD.replace("\"vmlinux\"", "'''\nvmlinux'''"), "m.toml:4: a file's name must");
        let dir = Dir::new("encoding", "");
        dir.file("m.toml", b"# \xc3\xa9t\xc3\xa9\n\xff\n");
        assert_eq!(dir.pack().unwrap_err(), "m.toml:2: not UTF-8 text");
        let failure = for_manifest(Path::new("/nowhere/m.toml"), HOST).unwrap_err();
        assert!(failure.message.starts_with("/nowhere/m.toml: cannot read it"), "{failure}");
    }

    #[test]
    fn sizes_that_cannot_fit() {
        let large = |name: &str, size: &str| GOOD.replace("\"a\"", name).replace("64M", size);
        // More than the host has is no error, but tables for it must fit.
        let dir = Dir::new("more", &large("'a'", "64G"));
        dir.pack().unwrap();
        let two = large("'a'", "512G") + &large("'b'", "512G");
        refused(
            "two",
            &two,
            "m.toml:7: memory: 512G does not fit: for page tables alone the host needs 2477M up to here and has 2G (--memory)",
        );
        refused("huge", &large("'a'", "17179869183G"), "m.toml:3: memory:");
        let dir = Dir::new("initrd-size", &format!("{}initrd = \"large\"\n", large("'a'", "16M")));
        dir.file("large", &[0; 15 << 20]);
        assert!(dir.pack().unwrap_err().starts_with("m.toml:3: memory: large: initrd"));
        let dir = Dir::new("archive-size", &format!("{}initrd = \"large\"\n", large("'a'", "1G")));
        dir.file("large", &vec![0; 128 << 20]);
        // Firmware has no room for it, but the host.
        let archive = dir.pack().unwrap();
        let small = Host { memory: 1 << 30, cpus: 1 };
        let error = for_manifest(&dir.0.join("m.toml"), small).unwrap_err().message;
        assert!(error.contains("m.toml: kernels, initrds and images are too large together: "), "{error}");
        assert!(error.ends_with(" bytes, and the host's memory has room for 128M (--memory)"), "{error}");
        dir.file("archive", &archive);
        let arguments = load(&dir.0.join("archive"));
        assert_eq!(arguments[3].to_str(), Some(&*format!("archive=0x40000000+{:#x}", archive.len())));
        assert_eq!(load(&dir.0.join("m.toml"))[0], "-initrd");
    }

    #[test]
    fn images_of_disks() {
        let disk = |image: &str| format!("[[partition.disk]]\nimage = \"{image}\"\n");
        let second = GOOD.replace("\"a\"", "\"b\"");
        let text = [GOOD, &disk("sub/disk"), &second, &disk("./sub/disk"), &disk("initrd")].concat();
        let dir = Dir::new("images", &text);
        dir.file("sub/disk", &[7; 4096]);
        dir.file("initrd", &[8; 512]);
        let archive = dir.pack().unwrap();
        let entries: Vec<_> =
            cpio::Reader::new(&archive).map(|entry| entry.unwrap().name.to_string()).collect();
        assert_eq!(entries, [MANIFEST, "vmlinux", "sub/disk", "initrd"]);
        let bundle = Bundle::open(&archive).unwrap();
        let images: Vec<_> =
            bundle.manifest().partitions.iter().map(|partition| &partition.disks[0].source).collect();
        assert_eq!(images, [&DiskSource::Image("sub/disk".into()); 2]);
        assert_eq!(bundle.file("sub/disk"), Some(&[7; 4096][..]));

        refused("image-missing", &format!("{GOOD}{}", disk("none")), "m.toml:6: image: none: ");
        let dir = Dir::new("image-odd", &format!("{GOOD}{}", disk("initrd")));
        assert_eq!(
            dir.pack().unwrap_err(),
            "m.toml:6: image: initrd: its size is not a multiple of 512 bytes"
        );
        dir.file("initrd", b"");
        assert_eq!(dir.pack().unwrap_err(), "m.toml:6: image: initrd: it is empty");
    }

    #[test]
    fn the_example_fits_the_default_machine() {
        let text = std::fs::read_to_string(shell::root().join("partitions.toml.example")).unwrap();
        let manifest = Manifest::parse("example", &text, |_| true).unwrap();
        check_host(&manifest, HOST).unwrap();
        let vcpus: Vec<_> = manifest.partitions.iter().map(|partition| partition.vcpus).collect();
        assert_eq!(vcpus, [1, 2, 4]);
    }

    /// What is said of the single guest.
    fn guest(program: &[u8], initrd: usize, memory: u64) -> Result<Vec<u8>, String> {
        let partition =
            Partition { initrd: Some("initrd".into()), ..Partition::new("guest", memory, "kernel") };
        let initrd = vec![0; initrd];
        for_guest(partition, ("k", program), Some(("i", &initrd)), 2 << 30).map_err(|failure| {
            assert_eq!(failure.status, USAGE);
            assert!(!failure.message.contains('\n'), "{failure}");
            failure.message
        })
    }

    #[test]
    fn one_guest() {
        let program = elf(21, 4 << 20);
        let archive = guest(&program, 4 << 20, 16 << 20).unwrap();
        let bundle = Bundle::open(&archive).unwrap();
        assert_eq!(bundle.manifest().partitions[0].memory, 16 << 20);
        assert_eq!(bundle.file("kernel"), Some(&program[..]));
        assert_eq!(bundle.file("initrd").map(<[u8]>::len), Some(4 << 20));
        let mut small = elf(21, 16);
        small[4] = 1;
        for (program, initrd, memory, reason) in [
            (&b""[..], 0, 16, "k: not an ELF"),
            (b"#!/bin/sh", 0, 16, "k: not an ELF"),
            (b"\x7fELF\x02\x01", 0, 16, "k: the file is cut off"),
            (&small, 0, 16, "k: a 32-bit"),
            (&elf(62, 16), 0, 16, "k: an image for ELF machine 62"),
            (&elf(21, 17 << 20), 0, 16, "k: segment 0 ends at 17"),
            (&program, 13 << 20, 16, "i: initrd"),
        ] {
            let error = guest(program, initrd, memory << 20).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
        assert!(guest(&program, 13 << 20, 16 << 20).unwrap_err().ends_with("(--guest-memory 16M)"));
    }
}
