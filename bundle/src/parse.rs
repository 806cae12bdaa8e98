//! Reading the manifest: from text to values that have been checked.

use crate::manifest::{
    DEFAULT_WEIGHT, Hypervisor, Lines, MAX_CMDLINE, MAX_VCPUS, MAX_WEIGHT, MEMORY_GRANULE, MIN_MEMORY,
    MONITOR, Manifest, ManifestError, Partition, quoted,
};
use crate::{Size, parse_size};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use sched::{CpuSet, MAX_CPUS};
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawManifest {
    #[serde(default)]
    hypervisor: RawHypervisor,
    #[serde(default)]
    partition: Vec<RawPartition>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawHypervisor {
    console: Option<Spanned<String>>,
    #[serde(default)]
    core_scheduling: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPartition {
    name: Spanned<String>,
    memory: Spanned<String>,
    vcpus: Option<Spanned<i64>>,
    weight: Option<Spanned<i64>>,
    cpus: Option<Spanned<String>>,
    start: Option<bool>,
    kernel: Spanned<String>,
    initrd: Option<Spanned<String>>,
    cmdline: Option<Spanned<String>>,
    #[serde(default)]
    huge_pages: bool,
}

/// Where in the text something is wrong, and what.
type Fault = (usize, String);

impl Manifest {
    /// Reads and checks the text of the manifest named `file`; `exists` says whether the archive has a file.
    pub fn parse(file: &str, text: &str, exists: impl Fn(&str) -> bool) -> Result<Self, ManifestError> {
        Self::check(text, exists).map_err(|fault| error(file, text, fault))
    }

    /// The text of the manifest named `file` with `rename` applied to every name of a kernel or an initrd. Nothing else changes and
    /// every line stays where it is, so that messages about the result are right about the original.
    pub fn rename_files(
        file: &str,
        text: &str,
        rename: impl FnMut(&str) -> String,
    ) -> Result<String, ManifestError> {
        Self::replace(text, rename).map_err(|fault| error(file, text, fault))
    }

    fn replace(text: &str, mut rename: impl FnMut(&str) -> String) -> Result<String, Fault> {
        let raw = RawManifest::read(text)?;
        let mut names: Vec<&Spanned<String>> =
            raw.partition.iter().flat_map(|raw| [Some(&raw.kernel), raw.initrd.as_ref()]).flatten().collect();
        names.sort_by_key(|name| name.span().start);
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for name in names {
            let span = name.span();
            if text[span.clone()].contains('\n') {
                return Err((span.start, "a file's name must be on one line".to_string()));
            }
            let new = rename(name.get_ref());
            if new != *name.get_ref() {
                out.push_str(&text[copied..span.start]);
                out.push_str(&quoted(&new));
                copied = span.end;
            }
        }
        out.push_str(&text[copied..]);
        Ok(out)
    }

    fn check(text: &str, exists: impl Fn(&str) -> bool) -> Result<Self, Fault> {
        let raw = RawManifest::read(text)?;
        if raw.partition.is_empty() {
            return Err((text.len(), "no [[partition]] is defined".to_string()));
        }
        let mut partitions: Vec<Partition> = Vec::with_capacity(raw.partition.len());
        for raw in raw.partition {
            let at = raw.name.span().start;
            let partition = raw.check(text, &exists)?;
            if partitions.iter().any(|other| other.name == partition.name) {
                return Err((
                    at,
                    format!("name: another partition is called \"{}\" already", partition.name),
                ));
            }
            partitions.push(partition);
        }
        let hypervisor = raw.hypervisor.check(&partitions)?;
        Ok(Self { hypervisor, partitions })
    }
}

impl RawManifest {
    fn read(text: &str) -> Result<Self, Fault> {
        toml::from_str(text)
            .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().to_string()))
    }
}

impl RawHypervisor {
    fn check(self, partitions: &[Partition]) -> Result<Hypervisor, Fault> {
        if let Some(console) = &self.console {
            let name = console.get_ref();
            if name != MONITOR && partitions.iter().all(|partition| partition.name != *name) {
                let reason = format!("console: \"{name}\" is neither a partition's name nor \"{MONITOR}\"");
                return Err((console.span().start, reason));
            }
        }
        Ok(Hypervisor {
            console: self.console.map(Spanned::into_inner),
            core_scheduling: self.core_scheduling,
        })
    }
}

impl RawPartition {
    fn check(self, text: &str, exists: &impl Fn(&str) -> bool) -> Result<Partition, Fault> {
        let line = |value: &Spanned<String>| line_of(text, value.span().start);
        let lines = Lines {
            name: line(&self.name),
            memory: line(&self.memory),
            cpus: self.cpus.as_ref().map_or(0, line),
            kernel: line(&self.kernel),
            initrd: self.initrd.as_ref().map_or(0, line),
        };
        let file = |key: &str, name: &Spanned<String>| match name.get_ref() {
            file if exists(file) => Ok(file.clone()),
            file => Err((name.span().start, format!("{key}: the archive has no file \"{file}\""))),
        };
        Ok(Partition {
            name: name(&self.name)?,
            memory: memory(&self.memory)?,
            vcpus: number("vcpus", self.vcpus.as_ref(), 1, MAX_VCPUS)?,
            weight: number("weight", self.weight.as_ref(), DEFAULT_WEIGHT, MAX_WEIGHT)?,
            cpus: self.cpus.as_ref().map(cpus).transpose()?,
            start: self.start.unwrap_or(true),
            kernel: file("kernel", &self.kernel)?,
            initrd: self.initrd.as_ref().map(|initrd| file("initrd", initrd)).transpose()?,
            cmdline: self.cmdline.as_ref().map(cmdline).transpose()?.unwrap_or_default(),
            huge_pages: self.huge_pages,
            lines,
        })
    }
}

fn name(written: &Spanned<String>) -> Result<String, Fault> {
    let name = written.get_ref();
    let fail = |reason: String| Err((written.span().start, reason));
    let fine = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    if name.is_empty() || name.len() > 32 || !name.chars().all(fine) {
        return fail("name: use 1 to 32 letters, digits, '-', '_' and '.'".to_string());
    }
    if name == MONITOR {
        return fail(format!("name: \"{MONITOR}\" is the hypervisor's own"));
    }
    Ok(name.clone())
}

fn memory(written: &Spanned<String>) -> Result<u64, Fault> {
    let text = written.get_ref();
    let wrong = |reason: &dyn fmt::Display| (written.span().start, format!("memory: \"{text}\": {reason}"));
    let memory = parse_size(text).map_err(|error| wrong(&error))?;
    if memory < MIN_MEMORY {
        return Err(wrong(&format_args!("a partition needs at least {}", Size(MIN_MEMORY))));
    }
    if !memory.is_multiple_of(MEMORY_GRANULE) {
        return Err(wrong(&format_args!("not a multiple of {}", Size(MEMORY_GRANULE))));
    }
    Ok(memory)
}

/// A number between 1 and `most`.
fn number(key: &str, written: Option<&Spanned<i64>>, default: u32, most: u32) -> Result<u32, Fault> {
    let Some(written) = written else { return Ok(default) };
    let number = written.get_ref();
    let in_range = u32::try_from(*number).ok().filter(|number| (1..=most).contains(number));
    in_range.ok_or((written.span().start, format!("{key}: {number} is not between 1 and {most}")))
}

fn cpus(written: &Spanned<String>) -> Result<CpuSet, Fault> {
    let text = written.get_ref();
    CpuSet::parse(text).ok_or_else(|| {
        let reason = format!("cpus: \"{text}\": not a list of CPU numbers below {MAX_CPUS}, as in 0-3,8");
        (written.span().start, reason)
    })
}

fn cmdline(written: &Spanned<String>) -> Result<String, Fault> {
    let text = written.get_ref();
    let fail = |reason: String| Err((written.span().start, reason));
    if text.len() > MAX_CMDLINE {
        return fail(format!("cmdline: longer than {MAX_CMDLINE} bytes"));
    }
    if text.contains('\0') {
        return fail("cmdline: a NUL would end it".to_string());
    }
    Ok(text.clone())
}

fn error(file: &str, text: &str, (at, reason): Fault) -> ManifestError {
    ManifestError { file: file.to_string(), line: line_of(text, at), reason: one_line(&reason) }
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
            weight: 100,
            cpus: None,
            start: true,
            kernel: "vmlinux".into(),
            initrd: None,
            cmdline: String::new(),
            huge_pages: false,
            lines: Lines::default(),
        };
        assert_eq!(manifest.partitions, [expected]);
        assert_eq!(manifest.hypervisor, Hypervisor { console: None, core_scheduling: false });
        assert_eq!(parse(&format!("[hypervisor]\n{GOOD}")).unwrap(), manifest);
        assert_eq!(manifest.to_toml(), GOOD);
    }

    #[test]
    fn writes_what_it_reads() {
        let first = Partition {
            vcpus: 4,
            weight: 250,
            cpus: CpuSet::parse("0-1,3"),
            start: false,
            initrd: Some("initrd.img".into()),
            cmdline: "a=\"b c\" \\ é \u{7f}\t\n".into(),
            huge_pages: true,
            ..Partition::new("first", (1 << 30) + (64 << 10), "vmlinux")
        };
        let second = Partition { name: "second".into(), initrd: None, ..first.clone() };
        let hypervisor = Hypervisor { console: Some("second".into()), core_scheduling: true };
        let manifest = Manifest { hypervisor, partitions: [first, second].into() };
        assert_eq!(parse(&manifest.to_toml()).unwrap(), manifest);
    }

    #[test]
    fn remembers_lines() {
        let text = format!("# a comment\n{GOOD}\n{GOOD}cpus = \"1\"\ninitrd = \"initrd.img\"\n")
            .replacen("\"a\"", "\"b\"", 1);
        let [b, a] = &parse(&text).unwrap().partitions[..] else { panic!("two partitions") };
        let Lines { name, memory, cpus, kernel, initrd } = b.lines;
        assert_eq!((name, memory, cpus, kernel, initrd), (3, 4, 0, 5, 0));
        let Lines { name, memory, cpus, kernel, initrd } = a.lines;
        assert_eq!((name, memory, cpus, kernel, initrd), (8, 9, 11, 10, 12));
    }

    #[test]
    fn each_error_names_its_line() {
        fails("colour = 1", "unknown field `colour`");
        fails("vcpus = 0", "vcpus: 0 is not between 1 and 128");
        fails("vcpus = -1", "vcpus: -1 is not");
        fails("vcpus = 4294967297", "vcpus: 4294967297 is not");
        fails("vcpus = \"1\"", "invalid type");
        fails("weight = 0", "weight: 0 is not between 1 and 10000");
        fails("weight = 10001", "weight: 10001 is not between 1 and 10000");
        fails("cpus = \"0-\"", "cpus: \"0-\": not a list of CPU numbers below 256, as in 0-3,8");
        fails("cpus = \"256\"", "cpus: \"256\": not a list");
        fails("cpus = \"\"", "cpus: \"\": not a list");
        fails("cpus = 0", "invalid type");
        fails("start = \"yes\"", "invalid type");
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
            ("\"a\"", "\"monitor\"", "2: name: \"monitor\" is the hypervisor's own"),
            ("vmlinux", "vmlinuz", "4: kernel: the archive has no file \"vmlinuz\""),
            ("memory = \"64M\"\n", "", "1: missing field `memory`"),
            (GOOD, "", "1: no [[partition]] is defined"),
        ] {
            let error = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.starts_with(&format!("partitions.toml:{expected}")), "{error}");
        }
        let error = parse(&format!("{GOOD}{GOOD}")).unwrap_err();
        assert_eq!(error, "partitions.toml:6: name: another partition is called \"a\" already");
    }

    #[test]
    fn the_hypervisors_table() {
        for (line, expected) in [
            ("console = \"a\"", Hypervisor { console: Some("a".into()), core_scheduling: false }),
            ("console = \"monitor\"", Hypervisor { console: Some(MONITOR.into()), core_scheduling: false }),
            ("core-scheduling = true", Hypervisor { console: None, core_scheduling: true }),
            ("core-scheduling = false", Hypervisor::default()),
        ] {
            assert_eq!(parse(&format!("[hypervisor]\n{line}\n{GOOD}")).unwrap().hypervisor, expected);
            // TOML leaves the order of tables free.
            assert_eq!(parse(&format!("{GOOD}[hypervisor]\n{line}\n")).unwrap().hypervisor, expected);
        }
        for (line, reason) in [
            ("speed = 1", "unknown field `speed`"),
            ("console = \"b\"", "console: \"b\" is neither a partition's name nor \"monitor\""),
            ("console = true", "invalid type"),
            ("core-scheduling = 1", "invalid type"),
        ] {
            let error = parse(&format!("[hypervisor]\n{line}\n{GOOD}")).unwrap_err();
            assert!(error.starts_with(&format!("partitions.toml:2: {reason}")), "{error}");
        }
    }

    #[test]
    fn renames_files_in_place() {
        let text = "[[partition]]\nname = 'vmlinux' # vmlinux\nkernel = '../vmlinux' # ../vmlinux\nmemory = \"64M\"\n\
                    initrd=\"a\\u0062\"\n[[partition]]\nname='b'\nmemory='1G'\nkernel='keep'";
        let short = |name: &str| match name {
            "../vmlinux" => "new \"1\"".to_string(),
            "ab" => "new 2".to_string(),
            "keep" => "keep".to_string(),
            other => panic!("{other} is not a file"),
        };
        let expected =
            text.replacen("'../vmlinux'", r#""new \"1\"""#, 1).replace("\"a\\u0062\"", "\"new 2\"");
        assert_eq!(Manifest::rename_files("m", text, short).unwrap(), expected);

        let long = text.replace("'keep'", "\"\"\"\nkeep\"\"\"");
        let error = Manifest::rename_files("m", &long, short).unwrap_err().to_string();
        assert_eq!(error, "m:9: a file's name must be on one line");
        assert!(Manifest::rename_files("m", "x", short).is_err());
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(parse(&format!("x = {}", "[".repeat(100_000))).is_err());
    }
}
