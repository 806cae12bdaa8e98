//! The manifest, `partitions.toml`: which partitions to define, and with what.
//!
//! ```toml
//! [hypervisor]
//! console = "debian"         # the partition that the console starts on, or "monitor"
//! core-scheduling = false    # the threads of a core only ever run one partition at a time
//! reserve = "4M"             # host memory that partitions leave to the hypervisor; at least 4M, a multiple of 64K
//! merge = false              # true: merge identical pages from the start, not only after `merge on`
//!
//! [[partition]]
//! name = "debian"            # letters, digits, '-', '_' and '.'; each name once, and not "monitor"
//! memory = "512M"            # a multiple of 64K, 16M to 512G; the host's is only taken for what is used of it
//! limit = "256M"             # the most host memory it may have to itself; a multiple of 64K, 16M to all its memory
//! vcpus = 1
//! weight = 100               # its share of CPU time, against the others' (1 to 10000)
//! cpus = "0-1,3"             # the host CPUs that it may run on
//! start = true               # false: only defined, to be started from the monitor
//! kernel = "vmlinux"         # files of the archive
//! initrd = "initrd.img"      # optional
//! cmdline = "console=hvc0"
//! huge-pages = false         # back the memory with 16M pages, which are not merged
//! merge = true               # its pages may be merged with identical ones of other partitions that say so
//!
//! rng = false                # true: a source of random numbers (virtio-rng)
//! balloon = false            # true: a device by which the guest gives memory back when asked to (virtio-balloon)
//! second-console = false     # true: a console of virtio besides the one it always has
//! iommu = false              # true: devices of virtio reach only the memory that the guest maps for them (H_PUT_TCE)
//!
//! [[partition.disk]]         # a disk of its own (virtio-blk), up to 8
//! image = "root.img"         # either a file of the archive, of which the guest has a copy in memory that goes with it ...
//! host = "disk0"             # ... or a disk of the host, by its serial number; each once in the whole manifest
//! read-only = false
//!
//! [[partition.net]]          # a network card (virtio-net), up to 8
//! mac = "52:54:00:00:01:00"  # its address; by default 52:54:00, the partition's number from 1, and the card's from 0
//! network = "lan"            # the network it is on: all cards that name it, and for "lan" the host's
//!
//! [[partition.device]]       # a device of the host that it has to itself; any number of them
//! pci = "0000:01:00.0"       # domain:bus:device.function, in hexadecimal; each device once in the whole manifest
//! ```
//! `name`, `memory` and `kernel` must be given, for one partition at least. The others default to what is shown, except for no
//! limit, no initrd, an empty command line, any host CPU, no devices, and the console on the first partition. Anything else is an
//! error that names the line.

use crate::Size;
use crate::devices::{Device, Disk, Net};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use sched::CpuSet;

/// A partition's memory is backed in pages of this size, so it is a multiple of it.
pub const MEMORY_GRANULE: u64 = 64 << 10;
/// The least memory a partition can have: room for a device tree, a hashed page table's worth of mappings and a small program.
pub const MIN_MEMORY: u64 = 16 << 20;
/// The most memory a partition can have. Real addresses above it are left for what is no memory; of a terabyte, which is what
/// guests reach untranslated, that is half.
pub const MAX_MEMORY: u64 = 512 << 30;
/// The least memory that is kept for the hypervisor, and what is kept if the manifest does not say: without some it could not
/// even stop a partition for which there is none.
pub const MIN_RESERVE: u64 = 4 << 20;
/// The most virtual CPUs a partition can ask for.
pub const MAX_VCPUS: u32 = 128;
/// The longest guest command line in bytes: what Linux keeps of one on this architecture.
pub const MAX_CMDLINE: usize = 2047;
/// The weight of a partition that names none.
pub const DEFAULT_WEIGHT: u32 = 100;
/// The greatest weight.
pub const MAX_WEIGHT: u32 = 10_000;
/// What the console can start on besides a partition; so no partition can have this name.
pub const MONITOR: &str = "monitor";

/// A manifest that has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Settings of the hypervisor itself.
    pub hypervisor: Hypervisor,
    /// The partitions, in the order in which they are written; at least one.
    pub partitions: Vec<Partition>,
}

/// The `[hypervisor]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypervisor {
    /// What the console starts on: the name of a partition, or [`MONITOR`]. `None`: not said.
    pub console: Option<String>,
    /// Whether the threads of a core only ever run virtual CPUs of one partition at a time, where the machine leaves the choice.
    pub core_scheduling: bool,
    /// Bytes of the host's memory that partitions leave alone; [`MIN_RESERVE`] at least, whole [`MEMORY_GRANULE`]s.
    pub reserve: u64,
    /// Whether identical pages of partitions are merged from the start.
    pub merge: bool,
}

impl Default for Hypervisor {
    fn default() -> Self {
        Self { console: None, core_scheduling: false, reserve: MIN_RESERVE, merge: false }
    }
}

/// One `[[partition]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is called in messages; unique, and not [`MONITOR`].
    pub name: String,
    /// Bytes of memory.
    pub memory: u64,
    /// How many bytes of the host's memory it may have to itself at most; no more than `memory`. `None`: as many as it can use.
    pub limit: Option<u64>,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Its share of CPU time, in proportion to the other partitions' weights.
    pub weight: u32,
    /// The host CPUs that it may run on; not empty. `None`: any.
    pub cpus: Option<CpuSet>,
    /// Whether it is started with the hypervisor; if not, it is only defined.
    pub start: bool,
    /// The archive's name of the kernel, an ELF file.
    pub kernel: String,
    /// The archive's name of the initial RAM disk.
    pub initrd: Option<String>,
    /// The guest's command line.
    pub cmdline: String,
    /// Whether to back the memory with 16 MiB pages.
    pub huge_pages: bool,
    /// Whether its pages may be merged with identical ones of other partitions.
    pub merge: bool,
    /// Whether it has a source of random numbers.
    pub rng: bool,
    /// Whether it has a memory balloon.
    pub balloon: bool,
    /// Whether it has a second console.
    pub second_console: bool,
    /// Whether its virtio devices reach only the memory that it maps for them.
    pub iommu: bool,
    /// The host's devices that it has to itself.
    pub devices: Vec<Device>,
    /// Its disks; at most [`crate::MAX_DEVICES`].
    pub disks: Vec<Disk>,
    /// Its network cards; at most [`crate::MAX_DEVICES`].
    pub nets: Vec<Net>,
    /// Where the manifest says this.
    pub lines: Lines,
}

/// The manifest's lines of a partition's values, counted from 1; 0 for what is not from a text. They are for messages about what
/// shows only later: memory that the host does not have, say. They do not count in comparisons: all are equal.
#[derive(Debug, Clone, Copy, Default, Eq)]
pub struct Lines {
    /// Of `name`.
    pub name: usize,
    /// Of `memory`.
    pub memory: usize,
    /// Of `limit`.
    pub limit: usize,
    /// Of `cpus`.
    pub cpus: usize,
    /// Of `kernel`.
    pub kernel: usize,
    /// Of `initrd`.
    pub initrd: usize,
}

impl PartialEq for Lines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
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

impl Partition {
    /// A partition with the defaults for all that need not be given.
    pub fn new(name: &str, memory: u64, kernel: &str) -> Self {
        Self {
            name: name.to_string(),
            memory,
            limit: None,
            vcpus: 1,
            weight: DEFAULT_WEIGHT,
            cpus: None,
            start: true,
            kernel: kernel.to_string(),
            initrd: None,
            cmdline: String::new(),
            huge_pages: false,
            merge: true,
            rng: false,
            balloon: false,
            second_console: false,
            iommu: false,
            devices: Vec::new(),
            disks: Vec::new(),
            nets: Vec::new(),
            lines: Lines::default(),
        }
    }

    /// Whether it has devices that the hypervisor makes, and with them a PCI host bridge.
    pub fn has_emulated(&self) -> bool {
        self.rng || self.balloon || self.second_console || !self.disks.is_empty() || !self.nets.is_empty()
    }
}

impl Manifest {
    /// The manifest as text that [`Manifest::parse`] reads back. What is as it is by default is left out, but for cards' addresses.
    pub fn to_toml(&self) -> String {
        let mut text = self.hypervisor.to_toml();
        for partition in &self.partitions {
            text.push_str(&partition.to_toml());
        }
        text
    }
}

impl Hypervisor {
    fn to_toml(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        let mut text = String::from("[hypervisor]\n");
        if let Some(console) = &self.console {
            line(&mut text, "console", quoted(console));
        }
        if self.core_scheduling {
            line(&mut text, "core-scheduling", "true");
        }
        if self.reserve != Self::default().reserve {
            line(&mut text, "reserve", quoted(&Size(self.reserve).to_string()));
        }
        if self.merge {
            line(&mut text, "merge", "true");
        }
        text
    }
}

impl Partition {
    /// Whether it has any device that guests find on a PCI bus.
    pub fn has_bus(&self) -> bool {
        self.has_emulated() || !self.devices.is_empty()
    }

    fn to_toml(&self) -> String {
        let mut text = String::from("[[partition]]\n");
        let default = Self::new(&self.name, self.memory, &self.kernel);
        line(&mut text, "name", quoted(&self.name));
        line(&mut text, "memory", quoted(&Size(self.memory).to_string()));
        if let Some(limit) = self.limit {
            line(&mut text, "limit", quoted(&Size(limit).to_string()));
        }
        if self.vcpus != default.vcpus {
            line(&mut text, "vcpus", self.vcpus);
        }
        if self.weight != default.weight {
            line(&mut text, "weight", self.weight);
        }
        if let Some(cpus) = &self.cpus {
            line(&mut text, "cpus", quoted(&cpus.to_string()));
        }
        if self.start != default.start {
            line(&mut text, "start", self.start);
        }
        line(&mut text, "kernel", quoted(&self.kernel));
        if let Some(initrd) = &self.initrd {
            line(&mut text, "initrd", quoted(initrd));
        }
        if self.cmdline != default.cmdline {
            line(&mut text, "cmdline", quoted(&self.cmdline));
        }
        if self.huge_pages != default.huge_pages {
            line(&mut text, "huge-pages", self.huge_pages);
        }
        if self.merge != default.merge {
            line(&mut text, "merge", self.merge);
        }
        if self.rng != default.rng {
            line(&mut text, "rng", self.rng);
        }
        if self.balloon != default.balloon {
            line(&mut text, "balloon", self.balloon);
        }
        if self.second_console != default.second_console {
            line(&mut text, "second-console", self.second_console);
        }
        if self.iommu != default.iommu {
            line(&mut text, "iommu", self.iommu);
        }
        self.disks.iter().for_each(|disk| disk.to_toml(&mut text));
        self.nets.iter().for_each(|net| net.to_toml(&mut text));
        for device in &self.devices {
            text.push_str("[[partition.device]]\n");
            line(&mut text, "pci", quoted(&device.pci.to_string()));
        }
        text
    }
}

pub(crate) fn line(text: &mut String, key: &str, value: impl fmt::Display) {
    text.push_str(&format!("{key} = {value}\n"));
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
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
