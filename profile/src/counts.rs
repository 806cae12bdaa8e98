//! What was counted.

use power::hcall::Hcall;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Before a CPU has first been in a guest, and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Firmware, the hypervisor's own boot, making partitions.
    Boot,
    /// From the first instruction of a guest on.
    Guests,
}

/// By which way the hypervisor got the CPU. All that it does until the guest has it back is counted under that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// From firmware; no guest has been entered yet.
    Boot,
    /// A hypercall, by its number.
    Call(u64),
    /// Another interrupt, by its vector.
    Interrupt(u16),
    /// Any of those for which there was no more room.
    Other,
}

/// What can be on a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frame {
    /// The bottom of all stacks of a phase.
    Root(Phase),
    /// A function of the hypervisor, by its number in the image.
    Function(u32),
    /// Firmware, called by what is below.
    Firmware,
    /// A guest, entered by what is below.
    Guest,
    /// An interrupt, of what is below.
    Entry(Entry),
}

/// A place in the tree of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its caller's; the roots are their own.
    pub parent: u32,
    /// What runs.
    pub frame: Frame,
    /// Instructions executed there, without callees.
    pub own: u64,
}

/// Instructions that are not the hypervisor's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outside {
    /// Firmware's.
    pub firmware: u64,
    /// Guests', in privileged state.
    pub privileged: u64,
    /// Guests', in problem state.
    pub problem: u64,
    /// How many of the guests' did not complete, but ended in an interrupt, and so are no instructions.
    pub faulted: u64,
}

impl Outside {
    /// The instructions that guests have completed.
    pub fn guests(&self) -> u64 {
        (self.privileged + self.problem).saturating_sub(self.faulted)
    }

    /// What came after `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            firmware: self.firmware - before.firmware,
            privileged: self.privileged - before.privileged,
            problem: self.problem - before.problem,
            faulted: self.faulted - before.faulted,
        }
    }

    /// Takes in another count.
    pub fn add(&mut self, other: &Self) {
        self.firmware += other.firmware;
        self.privileged += other.privileged;
        self.problem += other.problem;
        self.faulted += other.faulted;
    }
}

/// What was counted under one [`Entry`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// How often the hypervisor was entered so.
    pub arrivals: u64,
    /// Executions of each instruction, by its place in the image.
    pub executed: BTreeMap<u32, u64>,
    /// How often each function was entered, called or branched to from another one; in the order of the first time.
    pub calls: Vec<(u32, u64)>,
    /// For each of them, the instructions from the hypervisor's first one to the function's, of all its entries together.
    pub before: BTreeMap<u32, u64>,
}

impl Way {
    /// Takes in another one.
    pub fn add(&mut self, other: &Self) {
        self.arrivals += other.arrivals;
        for (&at, &count) in &other.executed {
            *self.executed.entry(at).or_default() += count;
        }
        for &(function, times) in &other.calls {
            self.enter(function, times, other.before.get(&function).copied().unwrap_or(0));
        }
    }

    /// All instructions.
    pub fn instructions(&self) -> u64 {
        self.executed.values().sum()
    }

    /// Counts entries of a function, with so many instructions before them.
    pub(crate) fn enter(&mut self, function: u32, times: u64, before: u64) {
        *self.before.entry(function).or_default() += before;
        match self.calls.iter_mut().find(|(known, _)| *known == function) {
            Some((_, calls)) => *calls += times,
            None => self.calls.push((function, times)),
        }
    }
}

/// A stretch of a run, up to a row of the benchmark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// The row's name; empty for what comes after the last one, or if there are none.
    pub row: String,
    /// What firmware and guests did, before and after the first guest.
    pub outside: [Outside; 2],
    /// The hypervisor's instructions.
    pub ways: BTreeMap<Entry, Way>,
}

/// All that was counted in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// One after the other.
    pub sections: Vec<Section>,
    /// The tree of calls. The first two are the roots; parents come before children.
    pub nodes: Vec<Node>,
    /// Disassembly of what was executed.
    pub text: BTreeMap<u32, String>,
}

impl Default for Counts {
    fn default() -> Self {
        let root = |parent, phase| Node { parent, frame: Frame::Root(phase), own: 0 };
        Self {
            sections: vec![Section::default()],
            nodes: vec![root(0, Phase::Boot), root(1, Phase::Guests)],
            text: BTreeMap::new(),
        }
    }
}

impl Counts {
    /// Takes in what another CPU has counted, in the same sections.
    pub fn add(&mut self, other: &Self) {
        self.sections.resize(self.sections.len().max(other.sections.len()), Section::default());
        for (mine, others) in self.sections.iter_mut().zip(&other.sections) {
            mine.row.clone_from(&others.row);
            for (mine, others) in mine.outside.iter_mut().zip(&others.outside) {
                mine.add(others);
            }
            for (entry, way) in &others.ways {
                mine.ways.entry(*entry).or_default().add(way);
            }
        }
        let mut index: HashMap<(u32, Frame), u32> =
            self.nodes.iter().zip(0..).skip(2).map(|(node, at)| ((node.parent, node.frame), at)).collect();
        let mut places: Vec<u32> = vec![0, 1];
        for (number, node) in other.nodes.iter().enumerate() {
            let place = if number < 2 {
                number as u32
            } else {
                let parent = places[node.parent as usize];
                *index.entry((parent, node.frame)).or_insert_with(|| {
                    self.nodes.push(Node { parent, frame: node.frame, own: 0 });
                    self.nodes.len() as u32 - 1
                })
            };
            if number >= 2 {
                places.push(place);
            }
            self.nodes[place as usize].own += node.own;
        }
        self.text.extend(other.text.iter().map(|(&at, text)| (at, text.clone())));
    }

    /// The phase that a node is in.
    pub fn phase(&self, mut node: u32) -> Phase {
        while node >= 2 {
            node = self.nodes[node as usize].parent;
        }
        if node == 0 { Phase::Boot } else { Phase::Guests }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Entry::Boot => f.pad("boot"),
            Entry::Other => f.pad("other"),
            Entry::Call(number) => match Hcall(number).name() {
                Some(name) => f.pad(name),
                None => f.pad(&format!("hypercall {number:#x}")),
            },
            Entry::Interrupt(vector) => f.pad(&match vector_name(vector) {
                Some(name) => format!("{vector:#x} {name}"),
                None => format!("{vector:#x}"),
            }),
        }
    }
}

/// What the Power ISA calls the interrupt at a vector.
fn vector_name(vector: u16) -> Option<&'static str> {
    Some(match vector {
        0x100 => "system reset",
        0x200 => "machine check",
        0x300 => "data storage",
        0x380 => "data segment",
        0x400 => "instruction storage",
        0x480 => "instruction segment",
        0x500 => "external",
        0x600 => "alignment",
        0x700 => "program",
        0x800 => "floating point unavailable",
        0x900 => "decrementer",
        0x980 => "hypervisor decrementer",
        0xa00 => "directed privileged doorbell",
        0xc00 => "system call",
        0xd00 => "trace",
        0xe00 => "hypervisor data storage",
        0xe20 => "hypervisor instruction storage",
        0xe40 => "hypervisor emulation assistance",
        0xe60 => "hypervisor maintenance",
        0xe80 => "directed hypervisor doorbell",
        0xea0 => "hypervisor virtualization",
        0xf00 => "performance monitor",
        0xf20 => "vector unavailable",
        0xf40 => "VSX unavailable",
        0xf60 => "facility unavailable",
        0xf80 => "hypervisor facility unavailable",
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn some() -> Counts {
        let mut counts = Counts::default();
        counts.sections[0].outside[1] = Outside { firmware: 1, privileged: 20, problem: 3, faulted: 4 };
        counts.sections[0].ways.insert(
            Entry::Call(8),
            Way {
                arrivals: 2,
                executed: [(5, 2), (6, 4)].into(),
                calls: [(7, 2)].into(),
                before: [(7, 2)].into(),
            },
        );
        counts.nodes.push(Node { parent: 1, frame: Frame::Guest, own: 19 });
        let entry = Frame::Entry(Entry::Call(8));
        counts.nodes.push(Node { parent: 2, frame: entry, own: 0 });
        counts.nodes.push(Node { parent: 3, frame: Frame::Function(7), own: 6 });
        counts.text.insert(5, "addi r3, r3, 1".into());
        counts
    }

    #[test]
    fn cpus_add_up() {
        let mut sum = some();
        let mut other = some();
        // In another order, and with one more.
        other.nodes.insert(2, Node { parent: 0, frame: Frame::Function(1), own: 1 });
        other.nodes[4].parent = 3;
        other.nodes[5].parent = 4;
        sum.add(&other);
        assert_eq!(sum.sections[0].outside[1].guests(), 38);
        let way = &sum.sections[0].ways[&Entry::Call(8)];
        assert_eq!((way.executed[&6], way.before[&7]), (8, 4));
        assert_eq!(sum.nodes.len(), 6);
        assert_eq!(sum.nodes[4], Node { parent: 3, frame: Frame::Function(7), own: 12 });
        assert_eq!(sum.nodes[5], Node { parent: 0, frame: Frame::Function(1), own: 1 });
    }

    #[test]
    fn names() {
        assert_eq!(Entry::Call(8).to_string(), "H_ENTER");
        assert_eq!(Entry::Call(0x7c).to_string(), "hypercall 0x7c");
        assert_eq!(Entry::Interrupt(0xe00).to_string(), "0xe00 hypervisor data storage");
        assert_eq!(Entry::Interrupt(0x120).to_string(), "0x120");
    }
}
