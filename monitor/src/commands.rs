//! The commands: one row each of a table that parsing, completion and help share.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::output::{Record, Table};
use crate::parse::Args;
use crate::value::Value;

/// What is to be done. Names of partitions and tables are ones that exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// [`help`], of all commands or of one (its whole name).
    Help(Option<String>),
    /// All partitions.
    List,
    /// One partition in full.
    Info(String),
    /// Hypercalls and exits of one partition, or of all.
    Stats(Option<String>),
    /// Stop running a partition's vCPUs for a while.
    Pause(String),
    /// Run a paused partition's vCPUs again.
    Resume(String),
    /// Start a partition that is stopped.
    Start(String),
    /// Stop a partition for good.
    Stop(String),
    /// Stop a partition and start it.
    Reset(String),
    /// Define a partition.
    Define {
        /// The manifest's table.
        table: String,
        /// The new partition's name, if it is not the table's. It is well formed and not taken.
        name: Option<String>,
    },
    /// Forget a partition.
    Undefine(String),
    /// Copy a running partition.
    Clone {
        /// The partition.
        name: String,
        /// What the copies are called: one at least, each well formed and not taken.
        copies: Vec<String>,
    },
    /// Keep a partition's state as it is.
    Snapshot(String),
    /// Put a partition back into the state that was kept.
    Revert(String),
    /// A partition's memory.
    Memory(String),
    /// The host's memory.
    HostMemory,
    /// Merging of identical pages.
    Merge(Option<Merge>),
    /// The pages that a partition has stored to.
    Dirty {
        /// The partition.
        name: String,
        /// From now on, after they have been shown.
        reset: bool,
    },
    /// Reports of a partition's accesses to memory.
    Watch {
        /// The partition.
        name: String,
        /// What of it; without it, the answer lists what is watched.
        order: Option<Watch>,
    },
    /// A partition's page table.
    Hpt {
        /// The partition.
        name: String,
        /// The effective address whose translation is asked for.
        ea: Option<u64>,
        /// The vCPU whose segments translate it.
        vcpu: Option<u32>,
    },
    /// Whether a partition's events are recorded.
    Trace {
        /// The partition.
        name: String,
        /// On or off from now on; without it, the answer says which.
        on: Option<bool>,
    },
    /// The recorded events.
    TraceDump {
        /// As stored, for `cargo xtask trace`.
        raw: bool,
        /// Only so many, the last ones.
        last: Option<usize>,
    },
    /// The host's CPUs.
    Cpus,
    /// The host's devices.
    Devices,
    /// The hypervisor's own lines.
    Log,
    /// Go to a partition's console.
    Console {
        /// The partition.
        name: String,
        /// Its second console.
        second: bool,
    },
    /// A partition's memory balloon.
    Balloon {
        /// The partition.
        name: String,
        /// How many bytes it is to give back.
        bytes: Option<u64>,
    },
    /// What is connected to the networks, and what has gone through.
    Network,
    /// Stop everything and end the run.
    Shutdown,
}

/// What becomes of the merging of identical pages. Without it, the answer says what has been merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Merge from now on.
    On,
    /// Merge no more. What has been merged stays so until somebody stores to it.
    Off,
    /// Look through all memory once, at once.
    Now,
}

/// What to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Nothing any more.
    Off,
    /// A range of the partition's real addresses, besides what is watched already.
    Range {
        /// The first byte's address.
        start: u64,
        /// How many bytes: not 0, and not beyond 64 bits.
        bytes: u64,
        /// What goes unreported.
        rights: Rights,
    },
}

/// The accesses that a watch does not report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// None of them: all accesses are reported.
    None,
    /// Loads and fetches: stores are reported.
    ReadOnly,
    /// All of them: the range is watched no more.
    ReadWrite,
}

/// What may stand at some place of a command, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// A command's name.
    Command,
    /// A partition's name.
    Partition,
    /// The name of a table of the manifest.
    Table,
    /// A partition's name, or `dump`.
    PartitionOrDump,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Something that nobody can guess.
    Other,
}

/// One command.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// Its arguments, as help shows them.
    pub(crate) arguments: &'static str,
    /// What it does, in a few words.
    summary: &'static str,
    /// What it prints, and what else one should know.
    details: &'static str,
    /// What its arguments may be, in their order.
    pub(crate) words: &'static [Word],
    /// Its options, besides `--json`.
    pub(crate) options: &'static [&'static str],
    /// Reads the arguments.
    pub(crate) read: fn(&mut Args<'_>) -> Result<Command, String>,
}

/// All commands, in the order in which help shows them.
pub(crate) static COMMANDS: &[Spec] = &[
    Spec {
        name: "help",
        arguments: "[COMMAND]",
        summary: "list the commands, or explain one",
        details: "Every command takes --json: its answer is then one JSON object a line. Commands may be shortened as long as \
                  one remains that begins so. Ctrl-] comes to the monitor from a partition's console.",
        words: &[Word::Command],
        options: &[],
        read: |args| Ok(Command::Help(args.command()?)),
    },
    Spec {
        name: "list",
        arguments: "",
        summary: "show all partitions",
        details: "A row for each partition: its state, vCPUs, memory and weight, and since the last list, or the start, its share of \
                  CPU time (100% is one CPU) and exits a second; and whose console it was that Ctrl-] was typed on.",
        words: &[],
        options: &[],
        read: |_| Ok(Command::List),
    },
    Spec {
        name: "info",
        arguments: "NAME",
        summary: "show one partition in full",
        details: "What the partition was defined with and what it has used since its start. Then a row for each vCPU: its state, the CPU \
                  it is on or was on last, how long it ran, how often it was put on a CPU, how long it had to wait for one, and, unless it \
                  runs just now, where its guest is.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Info(args.partition()?)),
    },
    Spec {
        name: "stats",
        arguments: "[NAME]",
        summary: "count hypercalls and exits",
        details: "A row for each hypercall, fault, interrupt and exit that has happened since the definition: how often, the time in all, \
                  and the mean time in nanoseconds. Of one partition, or of all. A hypercall counts where it ends; what leads to virtual \
                  mode counts as an exit as well.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Stats(args.optional_partition()?)),
    },
    Spec {
        name: "console",
        arguments: "NAME [2]",
        summary: "go to a partition's console",
        details: "With 2 to its second one, a virtio console, if its table says that it has one. What the partition printed meanwhile comes \
                  first, up to 64 KiB (16 KiB of the second one). Ctrl-] comes back to the monitor.",
        words: &[Word::Partition, Word::OneOf(&["2"])],
        options: &[],
        read: |args| args.console(),
    },
    Spec {
        name: "pause",
        arguments: "NAME",
        summary: "stop running a partition's vCPUs",
        details: "The partition keeps its memory and registers and gets no more time on the CPUs, until it is resumed. Done when none of its \
                  vCPUs runs any more.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Pause(args.partition()?)),
    },
    Spec {
        name: "resume",
        arguments: "NAME",
        summary: "run a paused partition again",
        details: "The partition goes on where it was paused.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Resume(args.partition()?)),
    },
    Spec {
        name: "start",
        arguments: "NAME",
        summary: "start a stopped partition",
        details: "The partition gets its memory, with kernel and initrd loaded anew, and its first vCPU runs.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Start(args.partition()?)),
    },
    Spec {
        name: "stop",
        arguments: "NAME",
        summary: "stop a partition at once",
        details: "As pulling its plug: the guest is not asked, and its memory is given back. It stays defined. Done when the log says so.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Stop(args.partition()?)),
    },
    Spec {
        name: "reset",
        arguments: "NAME",
        summary: "stop a partition and start it",
        details: "As stop and start: the guest is not asked.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Reset(args.partition()?)),
    },
    Spec {
        name: "define",
        arguments: "TABLE [NAME]",
        summary: "define a partition as the manifest does",
        details: "TABLE is a name from the packed manifest; all else of its table holds for the new partition, which is called \
                  NAME or the same. It is not started.",
        words: &[Word::Table, Word::Other],
        options: &[],
        read: |args| args.define(),
    },
    Spec {
        name: "undefine",
        arguments: "NAME",
        summary: "forget a stopped partition",
        details: "Its name is free again, and what was kept of its output is gone. A table of the manifest can be defined again.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Undefine(args.partition()?)),
    },
    Spec {
        name: "clone",
        arguments: "NAME NEW [COUNT]",
        summary: "copy a running partition",
        details: "The copy is called NEW; with COUNT (1 to 256), that many are made, called NEW-1, NEW-2 and so on. A copy has \
                  the vCPUs, the memory, the interrupts and the input of NAME as they are at that moment, a console, a name and an \
                  identity of its own, and no devices of the host. All go on at once. They share memory until one of them stores to it.",
        words: &[Word::Partition, Word::Other, Word::Other],
        options: &[],
        read: |args| args.clones(),
    },
    Spec {
        name: "snapshot",
        arguments: "NAME",
        summary: "keep a partition's state",
        details: "The registers, memory and interrupts that the partition has now are kept for revert, instead of those kept before. The \
                  partition goes on. What it stores to from now on takes memory twice.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Snapshot(args.partition()?)),
    },
    Spec {
        name: "revert",
        arguments: "NAME",
        summary: "go back to a snapshot",
        details: "The partition goes on from its snapshot, which is kept: one can go back to it any number of times. What the \
                  partition has done since is lost. It takes the longer the more pages it has stored to.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(Command::Revert(args.partition()?)),
    },
    Spec {
        name: "memory",
        arguments: "[NAME]",
        summary: "show memory, of a partition or the host",
        details: "Of a partition: how its pages are backed, how many are named by an entry, or known to have been stored to, and how much its \
                  page table takes, and what its definition took beside that (overhead). Without a name: the host's memory, what of \
                  it is free, and what partitions, their tables and the hypervisor's heap have of the rest; the size of the \
                  hypervisor's image with its static data, all that it had before it defined a partition, and the overhead of \
                  all partitions.",
        words: &[Word::Partition],
        options: &[],
        read: |args| Ok(args.optional_partition()?.map_or(Command::HostMemory, Command::Memory)),
    },
    Spec {
        name: "balloon",
        arguments: "NAME [SIZE]",
        summary: "ask a partition for memory",
        details: "The guest is asked to give back so much of its memory: all its driver finds, in time, if it can do without; with 0 it may \
                  have all of it again. SIZE is in bytes, or with K, M or G. Without SIZE: how much is wanted of it, what it says that it has \
                  given, how much of that it was seen to give, and what was discarded since its definition, for that and because the guest \
                  reported it free by itself.",
        words: &[Word::Partition, Word::Other],
        options: &[],
        read: |args| args.balloon(),
    },
    Spec {
        name: "network",
        arguments: "",
        summary: "show the networks and their ports",
        details: "A row for each network card, and for the host's: its network, whose it is, its address, whether it is connected, how many \
                  frames and bytes it has sent and received, how many found its queue full, and how many it was not allowed to send: \
                  under another's address, or too long.",
        words: &[],
        options: &[],
        read: |_| Ok(Command::Network),
    },
    Spec {
        name: "merge",
        arguments: "[on|off|now]",
        summary: "merge identical pages",
        details: "With on, idle CPUs look for pages of the same contents, in all partitions whose table does not say otherwise, and make one \
                  of them, of which a partition gets a copy when it stores to it. With off they stop; what is merged stays so. With \
                  now, all memory is looked through once. Without an argument: whether it is on, and what it has found and saved.",
        words: &[Word::OneOf(&["on", "off", "now"])],
        options: &[],
        read: |args| args.merge(),
    },
    Spec {
        name: "dirty",
        arguments: "NAME [reset]",
        summary: "show which pages were stored to",
        details: "How many pages, and which ranges of real addresses, the partition has stored to since its start or the last reset. \
                  With reset they are shown, and from now on only what is stored to later counts.",
        words: &[Word::Partition, Word::OneOf(&["reset"])],
        options: &[],
        read: |args| args.dirty(),
    },
    Spec {
        name: "watch",
        arguments: "NAME [off|RANGE none|ro|rw]",
        summary: "report accesses to memory",
        details: "RANGE is START+LENGTH or START-END, END not included, of real addresses: in hexadecimal with or without 0x, or in \
                  decimal with K, M or G, as in 0x10000+64K. With none every access to it is reported, with ro only stores, and rw ends \
                  that; off ends all. A report says where, and by which instruction; the access then takes place. Without RANGE: \
                  what is watched.",
        words: &[Word::Partition, Word::OneOf(&["off"]), Word::OneOf(&["none", "ro", "rw"])],
        options: &[],
        read: |args| args.watch(),
    },
    Spec {
        name: "hpt",
        arguments: "NAME [EA] [--vcpu N]",
        summary: "show a page table or a translation",
        details: "Without EA: how full the partition's page table is, how many of its groups have 0 to 8 entries in use, and how many \
                  entries name the same page. With an effective address, in hexadecimal with or without 0x: the segment that vCPU N (0) has \
                  for it, the hash and its groups, the entry as the hardware and as the guest sees it, what backs the page, and what \
                  a read, a write and a fetch come to.",
        words: &[Word::Partition, Word::Other],
        options: &["--vcpu"],
        read: |args| args.hpt(),
    },
    Spec {
        name: "trace",
        arguments: "NAME [on|off] | dump [--raw] [N]",
        summary: "record events, or show them",
        details: "With a name: whether the partition's events are recorded, or that they be from now on. With dump: the last N events of all \
                  CPUs, or all that are kept, in the order of time; with --raw as `cargo xtask trace` reads them.",
        words: &[Word::PartitionOrDump, Word::OneOf(&["on", "off"])],
        options: &["--raw"],
        read: |args| args.trace(),
    },
    Spec {
        name: "cpus",
        arguments: "",
        summary: "show the host's CPUs",
        details: "A row for each CPU: its number in the hardware, core and thread, whether it is idle, in a guest or in the hypervisor, the vCPU \
                  that has it, the share of time that vCPUs had it since the last cpus, or the boot, how many times one was put on it, \
                  and how many wait for it.",
        words: &[],
        options: &[],
        read: |_| Ok(Command::Cpus),
    },
    Spec {
        name: "devices",
        arguments: "",
        summary: "show the host's devices",
        details: "A row for each disk, network card and source of random numbers of the host that the hypervisor has: where it is on the PCI \
                  bus, its serial number or address, the size of a disk, whether it interrupts or is looked at again and again, and whether \
                  it has something to do. A disk is used if a partition has it.",
        words: &[],
        options: &[],
        read: |_| Ok(Command::Devices),
    },
    Spec {
        name: "log",
        arguments: "",
        summary: "show the hypervisor's own lines",
        details: "The last lines of the hypervisor, up to 16 KiB, each with its time in seconds since the boot.",
        words: &[],
        options: &[],
        read: |_| Ok(Command::Log),
    },
    Spec {
        name: "shutdown",
        arguments: "",
        summary: "stop all partitions and end the run",
        details: "As stop for each of them; then the machine is switched off. The exit status is the worst that a partition has ended with \
                  by itself, or 0.",
        words: &[],
        options: &[],
        read: |_| Ok(Command::Shutdown),
    },
];

impl Spec {
    /// The command with its arguments.
    pub(crate) fn usage(&self) -> String {
        let space = if self.arguments.is_empty() { "" } else { " " };
        alloc::format!("{}{space}{}", self.name, self.arguments)
    }
}

/// Prints a line for each command, or how one is used and what it prints. `topic` is the whole name of a command, as in
/// [`Command::Help`]; with any other all are listed.
pub fn help(topic: Option<&str>, json: bool, out: &mut dyn Write) {
    if let Some(spec) = topic.and_then(|topic| COMMANDS.iter().find(|spec| spec.name == topic)) {
        return Record::new()
            .field("usage", Value::Text(spec.usage()))
            .field("summary", Value::Text(spec.summary.into()))
            .field("details", Value::Text(spec.details.into()))
            .print(json, out);
    }
    let mut table = Table::new(&["usage", "summary"]);
    for spec in COMMANDS {
        table.row([Value::Text(spec.usage()), Value::Text(spec.summary.into())]);
    }
    table.print(json, out);
}
