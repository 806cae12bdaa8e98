//! The manifest, `partitions.toml`: which partitions to start, and with what.
//!
//! ```toml
//! [[partition]]
//! name = "debian"            # letters, digits, '-', '_' and '.'; each name once
//! memory = "512M"            # a multiple of 64K, at least 16M
//! vcpus = 1
//! kernel = "vmlinux"         # files of the archive
//! initrd = "initrd.img"      # optional
//! cmdline = "console=hvc0"
//! huge-pages = false         # back the memory with 16M pages
//! ```
//! `name`, `memory` and `kernel` must be given; the others default to what is shown (no initrd, an empty command line). A table
//! `[hypervisor]` is allowed and has no keys yet. Anything else is an error that names the line.

use crate::{Size, parse_size};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::Deserialize;
use toml::Spanned;

/// A partition's memory is backed in pages of this size, so it is a multiple of it.
pub const MEMORY_GRANULE: u64 = 64 << 10;
/// The least memory a partition can have: room for a device tree, a hashed page table's worth of mappings and a small program.
pub const MIN_MEMORY: u64 = 16 << 20;
/// The most virtual CPUs a partition can ask for.
pub const MAX_VCPUS: u32 = 128;
/// The longest guest command line in bytes: what Linux keeps of one on this architecture.
pub const MAX_CMDLINE: usize = 2047;

/// A manifest that has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Settings of the hypervisor itself.
    pub hypervisor: Hypervisor,
    /// The partitions, in the order in which they are written; at least one.
    pub partitions: Vec<Partition>,
}

/// The `[hypervisor]` table. It has no keys yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hypervisor {}

/// One `[[partition]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is called in messages; unique.
    pub name: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// The archive's name of the kernel, an ELF file.
    pub kernel: String,
    /// The archive's name of the initial RAM disk.
    pub initrd: Option<String>,
    /// The guest's command line.
    pub cmdline: String,
    /// Whether to back the memory with 16 MiB pages.
    pub huge_pages: bool,
}

/// What is wrong with a manifest. `Display` gives `file:line: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The manifest's name.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl core::error::Error for ManifestError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawManifest {
    #[serde(default)]
    hypervisor: Hypervisor,
    #[serde(default)]
    partition: Vec<RawPartition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPartition {
    name: Spanned<String>,
    memory: Spanned<String>,
    vcpus: Option<Spanned<i64>>,
    kernel: Spanned<String>,
    initrd: Option<Spanned<String>>,
    cmdline: Option<Spanned<String>>,
    #[serde(default)]
    huge_pages: bool,
}

/// A reason and where in the text it applies.
type Fault = (usize, String);

impl Manifest {
    /// Reads and checks the text of the manifest named `file`; `exists` says whether the archive has a file.
    pub fn parse(file: &str, text: &str, exists: impl Fn(&str) -> bool) -> Result<Self, ManifestError> {
        Self::check(text, exists).map_err(|(at, reason)| ManifestError {
            file: file.to_string(),
            line: line_of(text, at),
            reason: one_line(&reason),
        })
    }

    fn check(text: &str, exists: impl Fn(&str) -> bool) -> Result<Self, Fault> {
        let raw: RawManifest = toml::from_str(text)
            .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().to_string()))?;
        if raw.partition.is_empty() {
            return Err((text.len(), "no [[partition]] is defined".to_string()));
        }
        let mut partitions: Vec<Partition> = Vec::with_capacity(raw.partition.len());
        for raw in raw.partition {
            let at = raw.name.span().start;
            let partition = raw.check(&exists)?;
            if partitions.iter().any(|other| other.name == partition.name) {
                return Err((
                    at,
                    format!("name: another partition is called \"{}\" already", partition.name),
                ));
            }
            partitions.push(partition);
        }
        Ok(Self { hypervisor: raw.hypervisor, partitions })
    }

    /// The manifest as text that [`Manifest::parse`] reads back.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for partition in &self.partitions {
            text.push_str("[[partition]]\n");
            let mut line = |key: &str, value: &str| text.push_str(&format!("{key} = {value}\n"));
            line("name", &quoted(&partition.name));
            line("memory", &quoted(&Size(partition.memory).to_string()));
            line("vcpus", &partition.vcpus.to_string());
            line("kernel", &quoted(&partition.kernel));
            if let Some(initrd) = &partition.initrd {
                line("initrd", &quoted(initrd));
            }
            line("cmdline", &quoted(&partition.cmdline));
            line("huge-pages", if partition.huge_pages { "true" } else { "false" });
        }
        text
    }
}

impl RawPartition {
    fn check(self, exists: &impl Fn(&str) -> bool) -> Result<Partition, Fault> {
        let name = self.name.get_ref();
        let fine = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        if name.is_empty() || name.len() > 32 || !name.chars().all(fine) {
            let reason = "name: use 1 to 32 letters, digits, '-', '_' and '.'";
            return Err((self.name.span().start, reason.to_string()));
        }

        let at = self.memory.span().start;
        let written = self.memory.get_ref();
        let wrong = |reason: &dyn fmt::Display| (at, format!("memory: \"{written}\": {reason}"));
        let memory = parse_size(written).map_err(|error| wrong(&error))?;
        if memory < MIN_MEMORY {
            return Err(wrong(&format_args!("a partition needs at least {}", Size(MIN_MEMORY))));
        }
        if !memory.is_multiple_of(MEMORY_GRANULE) {
            return Err(wrong(&format_args!("not a multiple of {}", Size(MEMORY_GRANULE))));
        }

        let vcpus = match &self.vcpus {
            None => 1,
            Some(written) => u32::try_from(*written.get_ref())
                .ok()
                .filter(|count| (1..=MAX_VCPUS).contains(count))
                .ok_or((
                    written.span().start,
                    format!("vcpus: {} is not between 1 and {MAX_VCPUS}", written.get_ref()),
                ))?,
        };

        let file = |key: &str, name: &Spanned<String>| match name.get_ref() {
            file if exists(file) => Ok(file.clone()),
            file => Err((name.span().start, format!("{key}: the archive has no file \"{file}\""))),
        };
        let kernel = file("kernel", &self.kernel)?;
        let initrd = self.initrd.as_ref().map(|initrd| file("initrd", initrd)).transpose()?;

        let cmdline = match &self.cmdline {
            None => String::new(),
            Some(cmdline) if cmdline.get_ref().len() > MAX_CMDLINE => {
                return Err((cmdline.span().start, format!("cmdline: longer than {MAX_CMDLINE} bytes")));
            }
            Some(cmdline) if cmdline.get_ref().contains('\0') => {
                return Err((cmdline.span().start, "cmdline: a NUL would end it".to_string()));
            }
            Some(cmdline) => cmdline.get_ref().clone(),
        };
        let huge_pages = self.huge_pages;
        Ok(Partition { name: name.clone(), memory, vcpus, kernel, initrd, cmdline, huge_pages })
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// The parser's messages can have several lines.
fn one_line(reason: &str) -> String {
    let mut line = String::with_capacity(reason.len());
    for part in reason.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push_str("; ");
        }
        line.extend(part.chars().map(|char| if char.is_control() { '?' } else { char }));
    }
    line
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(char))),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn parse(text: &str) -> Result<Manifest, String> {
        let exists = |name: &str| ["vmlinux", "initrd.img"].contains(&name);
        Manifest::parse("partitions.toml", text, exists).map_err(|error| error.to_string())
    }

    const GOOD: &str = "[[partition]]\nname = \"a\"\nmemory = \"64M\"\nkernel = \"vmlinux\"\n";

    /// Writes `line` as line 5, after a partition that is otherwise good.
    fn fails(line: &str, reason: &str) {
        let error = parse(&format!("{GOOD}{line}\n")).unwrap_err();
        assert!(error.starts_with("partitions.toml:5: "), "{error}");
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn defaults() {
        let manifest = parse(GOOD).unwrap();
        let expected = Partition {
            name: "a".into(),
            memory: 64 << 20,
            vcpus: 1,
            kernel: "vmlinux".into(),
            initrd: None,
            cmdline: String::new(),
            huge_pages: false,
        };
        assert_eq!(manifest.partitions, [expected]);
        assert_eq!(parse(&format!("[hypervisor]\n{GOOD}")).unwrap(), manifest);
    }

    #[test]
    fn writes_what_it_reads() {
        let first = Partition {
            name: "first".into(),
            memory: (1 << 30) + (64 << 10),
            vcpus: 4,
            kernel: "vmlinux".into(),
            initrd: Some("initrd.img".into()),
            cmdline: "a=\"b c\" \\ é \u{7f}\t\n".into(),
            huge_pages: true,
        };
        let second = Partition { name: "second".into(), initrd: None, ..first.clone() };
        let manifest = Manifest { hypervisor: Hypervisor {}, partitions: [first, second].into() };
        assert_eq!(parse(&manifest.to_toml()).unwrap(), manifest);
    }

    #[test]
    fn each_error_names_its_line() {
        fails("colour = 1", "unknown field `colour`");
        fails("vcpus = 0", "vcpus: 0 is not between 1 and 128");
        fails("vcpus = -1", "vcpus: -1 is not");
        fails("vcpus = 4294967297", "vcpus: 4294967297 is not");
        fails("vcpus = \"1\"", "invalid type");
        fails("huge-pages = 1", "invalid type");
        fails("initrd = \"none\"", "initrd: the archive has no file \"none\"");
        fails("cmdline = \"\\u0000\"", "NUL");
        fails(&format!("cmdline = \"{}\"", "x".repeat(MAX_CMDLINE + 1)), "longer than 2047");
        fails("name = \"b\"", "duplicate key");
        fails("nonsense", "");
        fails("x = \"\\q\"", "");
        fails("[other]", "unknown field `other`");
    }

    #[test]
    fn values_in_place() {
        for (from, to, expected) in [
            ("64M", "15M", "3: memory: \"15M\": a partition needs at least 16M"),
            ("64M", "0", "3: memory: \"0\": a partition needs"),
            ("64M", "16777217", "3: memory: \"16777217\": not a multiple of 64K"),
            ("64M", "64X", "3: memory: \"64X\": not a size"),
            ("64M", "99999999999G", "3: memory: \"99999999999G\": more than 64 bits"),
            ("\"64M\"", "64", "3: invalid type"),
            ("\"a\"", "\"\"", "2: name: use"),
            ("\"a\"", "\"a b\"", "2: name: use"),
            ("vmlinux", "vmlinuz", "4: kernel: the archive has no file \"vmlinuz\""),
            ("memory = \"64M\"\n", "", "1: missing field `memory`"),
            (GOOD, "", "1: no [[partition]] is defined"),
        ] {
            let error = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.starts_with(&format!("partitions.toml:{expected}")), "{error}");
        }
        let error = parse(&format!("{GOOD}{GOOD}")).unwrap_err();
        assert_eq!(error, "partitions.toml:6: name: another partition is called \"a\" already");
        let error = parse("[hypervisor]\nspeed = 1\n").unwrap_err();
        assert!(error.starts_with("partitions.toml:2: unknown field `speed`"), "{error}");
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(parse(&format!("x = {}", "[".repeat(100_000))).is_err());
    }
}
