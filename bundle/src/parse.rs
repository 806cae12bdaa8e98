//! Reading the manifest: from text to values that have been checked.

use crate::manifest::{
    DEFAULT_WEIGHT, Hypervisor, Lines, MAX_CMDLINE, MAX_MEMORY, MAX_VCPUS, MAX_WEIGHT, MEMORY_GRANULE,
    MIN_MEMORY, MIN_RESERVE, MONITOR, Manifest, ManifestError, Partition, quoted,
};
use crate::{Size, parse_size};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use devices::{RawDevice, RawDisk, RawNet};
use sched::{CpuSet, MAX_CPUS};
use table::Table;
use toml::Spanned;
use toml::de::DeTable;

mod devices;
mod table;

/// What the text says, without a look at whether it makes sense.
struct RawManifest {
    hypervisor: RawHypervisor,
    partition: Vec<RawPartition>,
}

#[derive(Default)]
struct RawHypervisor {
    console: Option<Spanned<String>>,
    core_scheduling: bool,
    reserve: Option<Spanned<String>>,
    merge: bool,
}

struct RawPartition {
    name: Spanned<String>,
    memory: Spanned<String>,
    limit: Option<Spanned<String>>,
    vcpus: Option<Spanned<i64>>,
    weight: Option<Spanned<i64>>,
    cpus: Option<Spanned<String>>,
    start: bool,
    kernel: Spanned<String>,
    initrd: Option<Spanned<String>>,
    cmdline: Option<Spanned<String>>,
    huge_pages: bool,
    merge: bool,
    rng: bool,
    balloon: bool,
    second_console: bool,
    iommu: bool,
    device: Vec<RawDevice>,
    disk: Vec<RawDisk>,
    net: Vec<RawNet>,
}

/// Where in the text something is wrong, and what.
type Fault = (usize, String);

impl Manifest {
    /// Reads and checks the text of the manifest named `file`; `exists` says whether the archive has a file.
    pub fn parse(file: &str, text: &str, exists: impl Fn(&str) -> bool) -> Result<Self, ManifestError> {
        Self::check(text, exists).map_err(|fault| error(file, text, fault))
    }

    /// The text of the manifest named `file` with `rename` applied to every name of a kernel, an initrd or an image. Nothing else changes and
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
        let mut names: Vec<&Spanned<String>> = raw.partition.iter().flat_map(RawPartition::files).collect();
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
            let partition = raw.check(text, &exists, &partitions)?;
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
        let document = DeTable::parse(text)
            .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().to_string()))?;
        let all = Table::new(document.get_ref(), 0, &["hypervisor", "partition"])?;
        let hypervisor = all.table("hypervisor", RawHypervisor::KEYS)?;
        let partitions = all.tables("partition", RawPartition::KEYS)?;
        Ok(Self {
            hypervisor: hypervisor.map(RawHypervisor::read).transpose()?.unwrap_or_default(),
            partition: partitions.iter().map(RawPartition::read).collect::<Result<_, _>>()?,
        })
    }
}

impl RawHypervisor {
    const KEYS: &[&str] = &["console", "core-scheduling", "reserve", "merge"];

    fn read(table: Table<'_>) -> Result<Self, Fault> {
        Ok(Self {
            console: table.text("console")?,
            core_scheduling: table.flag("core-scheduling")?.unwrap_or(false),
            reserve: table.text("reserve")?,
            merge: table.flag("merge")?.unwrap_or(false),
        })
    }

    fn check(self, partitions: &[Partition]) -> Result<Hypervisor, Fault> {
        if let Some(console) = &self.console {
            let name = console.get_ref();
            if name != MONITOR && partitions.iter().all(|partition| partition.name != *name) {
                let reason = format!("console: \"{name}\" is neither a partition's name nor \"{MONITOR}\"");
                return Err((console.span().start, reason));
            }
        }
        let default = Hypervisor::default();
        let reserve = |text| size("reserve", text, MIN_RESERVE, "the hypervisor");
        Ok(Hypervisor {
            reserve: self.reserve.as_ref().map_or(Ok(default.reserve), reserve)?,
            console: self.console.map(Spanned::into_inner),
            core_scheduling: self.core_scheduling,
            merge: self.merge,
        })
    }
}

impl RawPartition {
    #[rustfmt::skip]
    const KEYS: &[&str] = &[
        "name", "memory", "limit", "vcpus", "weight", "cpus", "start", "kernel", "initrd", "cmdline", "huge-pages", "merge", "rng",
        "balloon", "second-console", "iommu", "device", "disk", "net",
    ];

    fn read(table: &Table<'_>) -> Result<Self, Fault> {
        let flag = |key, default| Ok::<_, Fault>(table.flag(key)?.unwrap_or(default));
        let devices = table.tables("device", RawDevice::KEYS)?;
        let disks = table.tables("disk", RawDisk::KEYS)?;
        let nets = table.tables("net", RawNet::KEYS)?;
        Ok(Self {
            name: table.required("name")?,
            memory: table.required("memory")?,
            limit: table.text("limit")?,
            vcpus: table.number("vcpus")?,
            weight: table.number("weight")?,
            cpus: table.text("cpus")?,
            start: flag("start", true)?,
            kernel: table.required("kernel")?,
            initrd: table.text("initrd")?,
            cmdline: table.text("cmdline")?,
            huge_pages: flag("huge-pages", false)?,
            merge: flag("merge", true)?,
            rng: flag("rng", false)?,
            balloon: flag("balloon", false)?,
            second_console: flag("second-console", false)?,
            iommu: flag("iommu", false)?,
            device: devices.iter().map(RawDevice::read).collect::<Result<_, _>>()?,
            disk: disks.iter().map(RawDisk::read).collect::<Result<_, _>>()?,
            net: nets.iter().map(RawNet::read).collect::<Result<_, _>>()?,
        })
    }

    /// The names of its files.
    fn files(&self) -> impl Iterator<Item = &Spanned<String>> {
        let images = self.disk.iter().filter_map(|disk| disk.image.as_ref());
        [Some(&self.kernel), self.initrd.as_ref()].into_iter().flatten().chain(images)
    }

    /// `others` are the partitions above it.
    fn check(
        self,
        text: &str,
        exists: &impl Fn(&str) -> bool,
        others: &[Partition],
    ) -> Result<Partition, Fault> {
        let line = |value: &Spanned<String>| line_of(text, value.span().start);
        let lines = Lines {
            name: line(&self.name),
            memory: line(&self.memory),
            limit: self.limit.as_ref().map_or(0, line),
            cpus: self.cpus.as_ref().map_or(0, line),
            kernel: line(&self.kernel),
            initrd: self.initrd.as_ref().map_or(0, line),
        };
        let file = |key: &str, name: &Spanned<String>| match name.get_ref() {
            file if exists(file) => Ok(file.clone()),
            file => Err((name.span().start, format!("{key}: the archive has no file \"{file}\""))),
        };
        let memory = memory(&self.memory)?;
        Ok(Partition {
            name: name(&self.name)?,
            memory,
            limit: self.limit.as_ref().map(|written| limit(written, memory)).transpose()?,
            vcpus: number("vcpus", self.vcpus.as_ref(), 1, MAX_VCPUS)?,
            weight: number("weight", self.weight.as_ref(), DEFAULT_WEIGHT, MAX_WEIGHT)?,
            cpus: self.cpus.as_ref().map(cpus).transpose()?,
            start: self.start,
            kernel: file("kernel", &self.kernel)?,
            initrd: self.initrd.as_ref().map(|initrd| file("initrd", initrd)).transpose()?,
            cmdline: self.cmdline.as_ref().map(cmdline).transpose()?.unwrap_or_default(),
            huge_pages: self.huge_pages,
            merge: self.merge,
            rng: self.rng,
            balloon: self.balloon,
            second_console: self.second_console,
            iommu: self.iommu,
            devices: devices::devices(text, &self.device, others)?,
            disks: devices::disks(text, &self.disk, exists, others)?,
            nets: devices::nets(text, &self.net, others)?,
            lines,
        })
    }
}

fn name(written: &Spanned<String>) -> Result<String, Fault> {
    let name = word("name", written)?;
    if name == MONITOR {
        return Err((written.span().start, format!("name: \"{MONITOR}\" is the hypervisor's own")));
    }
    Ok(name)
}

/// What people and lines of text can name something by.
fn word(key: &str, written: &Spanned<String>) -> Result<String, Fault> {
    let word = written.get_ref();
    let fine = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    if word.is_empty() || word.len() > 32 || !word.chars().all(fine) {
        let reason = format!("{key}: use 1 to 32 letters, digits, '-', '_' and '.'");
        return Err((written.span().start, reason));
    }
    Ok(word.clone())
}

fn memory(written: &Spanned<String>) -> Result<u64, Fault> {
    let memory = size("memory", written, MIN_MEMORY, "a partition")?;
    if memory > MAX_MEMORY {
        return Err(wrong(
            "memory",
            written,
            &format_args!("a partition can have at most {}", Size(MAX_MEMORY)),
        ));
    }
    Ok(memory)
}

/// The limit of a partition with that much memory.
fn limit(written: &Spanned<String>, memory: u64) -> Result<u64, Fault> {
    let limit = size("limit", written, MIN_MEMORY, "a partition")?;
    if limit > memory {
        let reason = format_args!("more than the partition's memory of {}", Size(memory));
        return Err(wrong("limit", written, &reason));
    }
    Ok(limit)
}

/// A number of bytes in whole pages, of which `who` needs at least so many.
fn size(key: &str, written: &Spanned<String>, least: u64, who: &str) -> Result<u64, Fault> {
    let size = parse_size(written.get_ref()).map_err(|error| wrong(key, written, &error))?;
    if size < least {
        return Err(wrong(key, written, &format_args!("{who} needs at least {}", Size(least))));
    }
    if !size.is_multiple_of(MEMORY_GRANULE) {
        return Err(wrong(key, written, &format_args!("not a multiple of {}", Size(MEMORY_GRANULE))));
    }
    Ok(size)
}

/// What is wrong with a text, which the message repeats.
fn wrong(key: &str, written: &Spanned<String>, reason: &dyn fmt::Display) -> Fault {
    (written.span().start, format!("{key}: \"{}\": {reason}", written.get_ref()))
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
mod tests;
