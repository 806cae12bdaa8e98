//! Following a CPU from instruction to instruction.
//!
//! A stack of frames is kept beside the hypervisor's own. A branch that leaves a return address pushes a frame with it; a branch
//! to LR goes back to the frame that it returns to, over as many as lie between: that is how `full_exit` leaves for
//! the caller of `enter_guest`. A plain branch to another function takes its caller's place. An interrupt of a guest is a frame
//! on the guest's, which is one on `enter_guest`'s. Only what the hypervisor executes is reported one by one. Between two of
//! its instructions, after an `rfid`, firmware and guests may have run.

use crate::counts::{Counts, Entry, Frame, Node, Outside, Phase, Section, Way};
use crate::image::{Flow, Image};
use std::collections::{BTreeMap, HashMap};

/// What the machine is asked, now and then.
pub trait Probe {
    /// What firmware and guests have executed on this CPU so far. Of the guests' faults only those that the hypervisor
    /// did not see need be counted.
    fn outside(&mut self) -> Outside;
    /// The number of the hypercall that has just arrived: r3.
    fn hypercall(&mut self) -> u64;
}

/// More frames than real code ever has: one that is never left is forgotten.
const DEPTH: usize = 256;
/// More ways into the hypervisor than a guest has use for; but it can make up any number of hypercalls.
const WAYS: usize = 64;

/// One CPU.
pub struct Cpu {
    previous: Option<u32>,
    stack: Vec<Level>,
    phase: Phase,
    seen: Outside,
    /// Faults of guests that the hypervisor has seen.
    faults: u64,
    /// What is over.
    sections: Vec<Section>,
    outside: [Outside; 2],
    ways: Vec<Tally>,
    way: usize,
    /// Instructions since the hypervisor was entered that way.
    since: u64,
    nodes: Vec<Node>,
    children: HashMap<(u32, Frame), u32>,
}

/// What is counted under an entry.
struct Tally {
    entry: Entry,
    arrivals: u64,
    executed: Vec<u64>,
    calls: HashMap<u32, u64>,
    before: BTreeMap<u32, u64>,
    /// The functions of `calls`, in the order of their first call.
    order: Vec<u32>,
}

impl Tally {
    fn new(entry: Entry, image: &Image) -> Self {
        Self {
            entry,
            arrivals: 0,
            executed: vec![0; image.len()],
            calls: HashMap::new(),
            before: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    fn enter(&mut self, function: u32, before: u64) {
        *self.before.entry(function).or_default() += before;
        let calls = self.calls.entry(function).or_insert_with(|| {
            self.order.push(function);
            0
        });
        *calls += 1;
    }

    fn into_way(self) -> Way {
        Way {
            arrivals: self.arrivals,
            executed: (0..).zip(self.executed).filter(|&(_, count)| count != 0).collect(),
            calls: self.order.into_iter().map(|function| (function, self.calls[&function])).collect(),
            before: self.before,
        }
    }
}

/// A frame of the stack.
#[derive(Clone, Copy)]
struct Level {
    node: u32,
    frame: Frame,
    /// Where it returns to.
    back: Option<u32>,
}

impl Cpu {
    /// One that has not run yet.
    pub fn new(image: &Image) -> Self {
        Self {
            previous: None,
            stack: Vec::new(),
            phase: Phase::Boot,
            seen: Outside::default(),
            faults: 0,
            sections: Vec::new(),
            outside: [Outside::default(); 2],
            ways: vec![Tally::new(Entry::Boot, image)],
            way: 0,
            since: 0,
            nodes: Counts::default().nodes,
            children: HashMap::new(),
        }
    }

    /// It executes the instruction `at`.
    pub fn step(&mut self, image: &Image, at: u32, probe: &mut impl Probe) {
        match self.previous {
            Some(previous)
                if at == previous + 1
                    && image.flow(previous) == Flow::Next
                    && image.owner(at) == image.owner(previous) => {}
            previous => self.transfer(image, previous, at, probe),
        }
        self.previous = Some(at);
        if let Some(count) = self.ways[self.way].executed.get_mut(at as usize) {
            *count += 1;
        }
        self.since += 1;
        let node = self.top();
        self.nodes[node as usize].own += 1;
    }

    /// What was counted since the last section, or since the start, is a section.
    pub fn end_section(&mut self, image: &Image, row: &str, probe: &mut impl Probe) {
        self.outside_ran(probe);
        let now = Tally::new(self.ways[self.way].entry, image);
        self.way = 0;
        let ways = std::mem::replace(&mut self.ways, vec![now]);
        self.sections.push(Section {
            row: row.to_owned(),
            outside: std::mem::take(&mut self.outside),
            ways: ways.into_iter().map(|tally| (tally.entry, tally.into_way())).collect(),
        });
    }

    /// It executes no more. Gives what was counted.
    pub fn finish(mut self, image: &Image, probe: &mut impl Probe) -> Counts {
        self.end_section(image, "", probe);
        Counts { sections: self.sections, nodes: self.nodes, ..Counts::default() }
    }

    /// The node of what runs.
    fn top(&self) -> u32 {
        self.stack.last().map_or(self.phase as u32, |level| level.node)
    }

    fn child(&mut self, parent: u32, frame: Frame) -> u32 {
        *self.children.entry((parent, frame)).or_insert_with(|| {
            self.nodes.push(Node { parent, frame, own: 0 });
            self.nodes.len() as u32 - 1
        })
    }

    fn push(&mut self, frame: Frame, back: Option<u32>) {
        if self.stack.len() == DEPTH {
            self.stack.pop();
        }
        let node = self.child(self.top(), frame);
        if let Frame::Function(function) = frame {
            self.ways[self.way].enter(function, self.since);
        }
        self.stack.push(Level { node, frame, back });
    }

    /// Control has come to `at` other than by going on.
    fn transfer(&mut self, image: &Image, previous: Option<u32>, at: u32, probe: &mut impl Probe) {
        let flow = previous.map_or(Flow::Resume, |previous| image.flow(previous));
        if let Some(vector) = Image::vector(at)
            && previous != at.checked_sub(1)
        {
            self.interrupt(image, previous, vector, probe);
            return self.push(Frame::Function(image.owner(at)), None);
        }
        let next = previous.map(|previous| previous + 1);
        match flow {
            Flow::Call if next != Some(at) => return self.push(Frame::Function(image.owner(at)), next),
            Flow::Return if next != Some(at) => {
                if let Some(depth) = self.stack.iter().rposition(|level| level.back == Some(at)) {
                    self.stack.truncate(depth);
                }
            }
            Flow::Resume => {
                self.outside_ran(probe);
                // The end of an interrupt of the hypervisor's own: it goes on where it was.
                let guest = self.stack.iter().rposition(|level| level.frame == Frame::Guest);
                let entry = self.stack.iter().rposition(|level| matches!(level.frame, Frame::Entry(_)));
                if let Some(entry) = entry
                    && guest.is_none_or(|guest| entry > guest + 1)
                {
                    self.stack.truncate(entry);
                }
            }
            _ => {}
        }
        self.arrive(Frame::Function(image.owner(at)));
    }

    /// What runs now is in this function: if it is another than before, it has taken that one's place.
    fn arrive(&mut self, frame: Frame) {
        match self.stack.last().copied() {
            Some(level) if level.frame == frame => {}
            Some(Level { frame: Frame::Function(_), back, .. }) => {
                self.stack.pop();
                self.push(frame, back);
            }
            _ => self.push(frame, None),
        }
    }

    /// An interrupt has come: of a guest if the last that was seen is the way to one, of the hypervisor itself otherwise.
    fn interrupt(&mut self, image: &Image, previous: Option<u32>, vector: u16, probe: &mut impl Probe) {
        // These end an instruction that has begun and is not executed: it has been counted too early.
        let undone = matches!(vector, 0x200 | 0x300 | 0x380 | 0x600 | 0xe00);
        let mut entry = match vector {
            0xc00 => Entry::Call(probe.hypercall()),
            _ => Entry::Interrupt(vector),
        };
        if previous.is_none_or(|previous| image.flow(previous) == Flow::Resume) {
            self.faults += u64::from(undone);
            self.outside_ran(probe);
            self.enter_guest();
            self.way = self.way_of(entry, image);
            entry = self.ways[self.way].entry;
            self.ways[self.way].arrivals += 1;
            self.since = 0;
        } else if let Some(previous) = previous
            && undone
        {
            if let Some(count) = self.ways[self.way].executed.get_mut(previous as usize) {
                // Unless a section of another CPU's has ended just in between.
                *count = count.saturating_sub(1);
            }
            self.since -= 1;
            let node = self.top();
            self.nodes[node as usize].own -= 1;
        }
        self.push(Frame::Entry(entry), None);
    }

    /// Where to count what is done for an entry.
    fn way_of(&mut self, entry: Entry, image: &Image) -> usize {
        if let Some(way) = self.ways.iter().position(|tally| tally.entry == entry) {
            return way;
        }
        if self.ways.len() < WAYS {
            let entry = if self.ways.len() == WAYS - 1 { Entry::Other } else { entry };
            self.ways.push(Tally::new(entry, image));
        }
        self.ways.len() - 1
    }

    /// A guest has run: the stack ends with it.
    fn enter_guest(&mut self) {
        if self.phase == Phase::Boot {
            // The same stack once more, under the other root.
            self.phase = Phase::Guests;
            for level in std::mem::take(&mut self.stack) {
                let node = self.child(self.top(), level.frame);
                self.stack.push(Level { node, ..level });
            }
        }
        match self.stack.iter().rposition(|level| level.frame == Frame::Guest) {
            Some(depth) => self.stack.truncate(depth + 1),
            None => self.push(Frame::Guest, None),
        }
    }

    /// Takes note of what firmware and guests have done since it was last looked at.
    fn outside_ran(&mut self, probe: &mut impl Probe) {
        let mut outside = probe.outside();
        outside.faulted += self.faults;
        let ran = outside.since(&self.seen);
        self.seen = outside;
        if ran.firmware != 0 {
            let node = self.child(self.top(), Frame::Firmware);
            self.nodes[node as usize].own += ran.firmware;
            self.outside[self.phase as usize].firmware += ran.firmware;
        }
        if ran.privileged + ran.problem != 0 {
            self.enter_guest();
            let node = self.top();
            self.nodes[node as usize].own += ran.guests();
            self.outside[self.phase as usize].add(&Outside { firmware: 0, ..ran });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOP: u32 = 0x6000_0000;
    const BLR: u32 = 0x4e80_0020;
    const BCTRL: u32 = 0x4e80_0421;
    const B: u32 = 0x4800_0000;
    const RFID: u32 = 0x4c00_0024;

    /// What firmware and guests do: added up by the tests.
    #[derive(Default)]
    struct World {
        outside: Outside,
        number: u64,
    }

    impl Probe for World {
        fn outside(&mut self) -> Outside {
            self.outside
        }

        fn hypercall(&mut self) -> u64 {
            self.number
        }
    }

    /// An image with functions at these places; all else is `nop`.
    fn image(functions: &[(&str, u32)], code: &[(u32, u32)]) -> Image {
        let mut words = vec![NOP; 0x1000];
        code.iter().for_each(|&(at, word)| words[at as usize] = word);
        Image::of(&words, functions)
    }

    /// `boot` calls `enter`, which enters a guest; `hcall` is at the vector, `handler` what it calls; `exit` returns for `enter`.
    fn machine() -> Image {
        image(
            &[("vectors", 0), ("boot", 0x600), ("enter", 0x700), ("handler", 0x800), ("exit", 0x900)],
            &[
                (0x601, BCTRL),
                (0x701, RFID),
                (0x301, BCTRL),
                (0x303, RFID),
                (0x381, B),
                (0x801, BLR),
                (0x901, BLR),
            ],
        )
    }

    struct Test {
        image: Image,
        cpu: Cpu,
        world: World,
    }

    impl Test {
        fn new(image: Image) -> Self {
            Self { cpu: Cpu::new(&image), image, world: World::default() }
        }

        fn run(&mut self, path: impl IntoIterator<Item = u32>) {
            path.into_iter().for_each(|at| self.cpu.step(&self.image, at, &mut self.world));
        }

        fn guest(&mut self, instructions: u64) {
            self.world.outside.privileged += instructions;
        }

        fn finish(mut self) -> (Counts, String) {
            let counts = self.cpu.finish(&self.image, &mut self.world);
            let folded = crate::folded(&counts, &self.image, false);
            (counts, folded)
        }
    }

    #[test]
    fn a_hypercall_is_on_the_guests_stack_and_returns_to_it() {
        let mut test = Test::new(machine());
        test.world.outside.firmware = 7;
        test.run([0x600, 0x601, 0x700, 0x701]);
        for round in 0..3 {
            test.guest(10);
            test.world.number = if round == 2 { 0x7c } else { 8 };
            test.run([0x300, 0x301, 0x800, 0x801, 0x302, 0x303]);
        }
        test.guest(5);
        let (counts, folded) = test.finish();
        assert_eq!(
            folded,
            "before the first guest;firmware 7\n\
             before the first guest;boot 2\n\
             before the first guest;boot;enter 2\n\
             from the first guest on;boot;enter;guest 35\n\
             from the first guest on;boot;enter;guest;H_ENTER;vectors 8\n\
             from the first guest on;boot;enter;guest;H_ENTER;vectors;handler 4\n\
             from the first guest on;boot;enter;guest;hypercall 0x7c;vectors 4\n\
             from the first guest on;boot;enter;guest;hypercall 0x7c;vectors;handler 2\n"
        );
        let enter = &counts.sections[0].ways[&Entry::Call(8)];
        assert_eq!((enter.arrivals, enter.instructions()), (2, 12));
        assert_eq!(enter.calls, [(0, 2), (3, 2)]);
        assert_eq!(enter.before, [(0, 0), (3, 4)].into(), "two before `handler`, each time");
        assert_eq!(counts.sections[0].ways[&Entry::Boot].instructions(), 4);
        assert_eq!((counts.sections[0].outside[0].firmware, counts.sections[0].outside[1].guests()), (7, 35));
    }

    #[test]
    fn a_full_exit_returns_for_the_one_that_entered_the_guest() {
        let mut test = Test::new(machine());
        test.run([0x600, 0x601, 0x700, 0x701]);
        test.guest(10);
        // The fault: one instruction of the guest's is not executed. Then `exit` takes the vector's place, and `boot` goes on.
        test.run([0x380, 0x381, 0x900, 0x901, 0x602]);
        let (counts, folded) = test.finish();
        assert_eq!(
            folded,
            "before the first guest;boot 2\n\
             before the first guest;boot;enter 2\n\
             from the first guest on;boot 1\n\
             from the first guest on;boot;enter;guest 9\n\
             from the first guest on;boot;enter;guest;0xe00 hypervisor data storage;vectors 2\n\
             from the first guest on;boot;enter;guest;0xe00 hypervisor data storage;exit 2\n"
        );
        let fault = &counts.sections[0].ways[&Entry::Interrupt(0xe00)];
        assert_eq!(fault.instructions(), 5, "what follows in virtual mode is the fault's, too");
        assert_eq!(counts.sections[0].outside[1].faulted, 1);
    }

    #[test]
    fn an_interrupt_of_the_hypervisors_own_returns_to_where_it_came_from() {
        // A data segment interrupt in the middle of a stretch of code, which is then executed again.
        let image = image(&[("vectors", 0), ("boot", 0x600)], &[(0xe1, RFID)]);
        let mut test = Test::new(image);
        test.run([0x600, 0x601, 0xe0, 0xe1, 0x601, 0x602]);
        let (counts, folded) = test.finish();
        assert_eq!(
            folded,
            "before the first guest;boot 3\nbefore the first guest;boot;0x380 data segment;vectors 2\n"
        );
        assert_eq!(counts.sections[0].ways[&Entry::Boot].executed[&0x601], 1, "executed once, tried twice");
    }

    #[test]
    fn a_call_of_firmware_is_its_callers() {
        let mut test =
            Test::new(image(&[("boot", 0x600), ("opal", 0x700)], &[(0x600, BCTRL), (0x700, RFID)]));
        test.run([0x600, 0x700]);
        test.world.outside.firmware = 100;
        test.run([0x701]);
        let (_, folded) = test.finish();
        assert_eq!(
            folded,
            "before the first guest;boot 1\nbefore the first guest;boot;opal 2\nbefore the first guest;boot;opal;firmware 100\n"
        );
    }

    #[test]
    fn a_branch_not_taken_and_a_call_of_the_next_instruction_are_no_calls() {
        let bcl = 0x429f_0005;
        let beqlr = 0x4d82_0020;
        let image = image(&[("boot", 0x600)], &[(0x600, bcl), (0x601, beqlr)]);
        let mut test = Test::new(image);
        test.run([0x600, 0x601, 0x602, 0x600, 0x601]);
        let (counts, folded) = test.finish();
        assert_eq!(folded, "before the first guest;boot 5\n");
        assert_eq!(counts.sections[0].ways[&Entry::Boot].calls, [(0, 1)]);
    }

    #[test]
    fn a_guest_cannot_fill_the_memory_with_hypercalls() {
        let mut test = Test::new(machine());
        test.run([0x600, 0x601, 0x700, 0x701]);
        for number in 0..1000 {
            test.guest(1);
            test.world.number = 0x10000 + number;
            test.run([0x300, 0x301, 0x800, 0x801, 0x302, 0x303]);
        }
        let (counts, _) = test.finish();
        assert_eq!(counts.sections[0].ways.len(), WAYS);
        assert_eq!(counts.sections[0].ways[&Entry::Other].arrivals, 1000 - (WAYS as u64 - 2));
        assert!(counts.nodes.len() < 4 * WAYS);
        assert_eq!(counts.sections[0].ways.values().map(Way::instructions).sum::<u64>(), 4 + 6000);
    }

    #[test]
    fn sections_share_the_stack_and_nothing_else() {
        let mut test = Test::new(machine());
        test.world.outside.firmware = 7;
        test.run([0x600, 0x601, 0x700, 0x701]);
        test.world.number = 8;
        test.guest(10);
        test.run([0x300, 0x301, 0x800, 0x801, 0x302, 0x303]);
        test.guest(4);
        test.cpu.end_section(&test.image, "first", &mut test.world);
        test.run([0x300, 0x301, 0x800, 0x801, 0x302, 0x303]);
        test.guest(3);
        let (counts, folded) = test.finish();
        let [first, rest] = counts.sections.as_slice() else { panic!("{} sections", counts.sections.len()) };
        assert_eq!((first.row.as_str(), rest.row.as_str()), ("first", ""));
        assert_eq!((first.outside[0].firmware, first.outside[1].privileged), (7, 14));
        assert_eq!(rest.outside[1].privileged, 3);
        assert_eq!(first.ways[&Entry::Boot].instructions(), 4);
        for section in [first, rest] {
            let enter = &section.ways[&Entry::Call(8)];
            assert_eq!((enter.arrivals, enter.instructions()), (1, 6));
        }
        assert!(folded.contains("guest;H_ENTER;vectors;handler 4\n"), "{folded}");
    }
}
