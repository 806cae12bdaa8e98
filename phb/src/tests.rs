//! The bridge as a guest uses it, with functions that only remember.

extern crate std;

use core::cell::RefCell;
use std::boxed::Box;
use std::collections::HashMap;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use papr::rtas::{RtasStatus, Service};
use proptest::prelude::*;

use crate::layout::*;
use crate::tce::{Error, Window};
use crate::*;

const SOURCES_FROM: u32 = 0x1002;

/// Memory, and what has been signalled.
#[derive(Default)]
pub(crate) struct Machine {
    memory: RefCell<HashMap<u64, u8>>,
    messages: RefCell<Vec<u32>>,
    lines: RefCell<Vec<(u32, bool)>>,
    /// The DMA windows, as they were told.
    windows: RefCell<[Option<Told>; 2]>,
}

/// The binary logarithm of its pages' bytes, and its entries.
type Told = (u32, HashMap<u64, u64>);

impl Host for Machine {
    fn read(&self, real: u64, to: &mut [u8]) -> Result<(), DmaError> {
        let memory = self.memory.borrow();
        (real..).zip(to).for_each(|(at, byte)| *byte = memory.get(&at).copied().unwrap_or(0));
        Ok(())
    }

    fn write(&self, real: u64, from: &[u8]) -> Result<(), DmaError> {
        self.memory.borrow_mut().extend((real..).zip(from.iter().copied()));
        Ok(())
    }

    fn window(&self, window: usize, shape: Option<(u32, u64)>) -> bool {
        self.windows.borrow_mut()[window] = shape.map(|(shift, _)| (shift, HashMap::new()));
        true
    }

    fn map(&self, window: usize, page: u64, entries: &mut dyn Iterator<Item = u64>) {
        let mut windows = self.windows.borrow_mut();
        windows[window].as_mut().unwrap().1.extend((page..).zip(entries));
    }

    fn message(&self, source: u32) {
        self.messages.borrow_mut().push(source);
    }

    fn line(&self, source: u32, up: bool) {
        self.lines.borrow_mut().push((source, up));
    }
}

/// A function with four words of memory behind BAR 0, and messages behind BAR 1. What is stored to word 0 is a bus address to which it
/// writes; to word 1, a vector that it signals; to word 2, its line; word 3 is how much work it has.
#[derive(Clone)]
struct Fake {
    config: Config,
    words: [u32; 4],
    copies: bool,
}

impl Fake {
    fn new(copies: bool) -> Box<Fake> {
        let id = Identity {
            vendor: 0x1234,
            device: 0x11e8,
            subsystem_vendor: 0,
            subsystem: 0,
            class: 0xff_0000,
            revision: 3,
        };
        let mut config = Config::new(&id);
        config.add_memory(0, 16, Width::Low);
        config.add_memory(1, 4096, Width::Low);
        config.add_memory(4, 1 << 20, Width::WidePrefetchable);
        config.add_msix(4, 1, 0, 2048);
        Box::new(Fake { config, words: [0; 4], copies })
    }
}

impl Function for Fake {
    fn config_read(&mut self, offset: u16, bytes: usize, _: &dyn Bus) -> u32 {
        self.config.read(offset, bytes)
    }

    fn config_write(&mut self, offset: u16, bytes: usize, value: u32, bus: &dyn Bus) -> bool {
        self.config.write(offset, bytes, value, bus);
        false
    }

    fn window(&self, bar: usize) -> Option<(u64, u64)> {
        self.config.window(bar)
    }

    fn load(&mut self, bar: usize, offset: u64, to: &mut [u8], _: &dyn Bus) {
        if bar == 0 {
            to.copy_from_slice(&self.words[offset as usize / 4].to_le_bytes());
        } else {
            self.config.msix_load(bar, offset, to);
        }
    }

    fn store(&mut self, bar: usize, offset: u64, from: &[u8], bus: &dyn Bus) -> bool {
        if bar != 0 {
            self.config.msix_store(bar, offset, from, bus);
            return false;
        }
        let value = u32::from_le_bytes(from.try_into().unwrap());
        self.words[offset as usize / 4] = value;
        match offset {
            0 => self.words[0] = u32::from(bus.write(value.into(), b"hello").is_ok()),
            4 => self.config.signal(value as u16, bus),
            8 => self.config.set_line(value != 0, bus),
            _ => return value != 0,
        }
        false
    }

    fn ended(&mut self, bus: &dyn Bus) {
        self.config.set_line(false, bus);
    }

    fn reset(&mut self, bus: &dyn Bus) {
        self.config.reset(bus);
        self.words = [0; 4];
    }

    fn work(&mut self, _: &dyn Bus) -> bool {
        self.words[3] = self.words[3].saturating_sub(1);
        self.words[3] != 0
    }

    fn describe(&self) -> Description {
        Description { name: "fake", ..Description::default() }
    }

    fn copy(&self) -> Option<Box<dyn Function>> {
        self.copies.then(|| Box::new(self.clone()) as Box<dyn Function>)
    }
}

fn bridge(translated: bool) -> (HostBridge, Machine) {
    let (mut bridge, machine) = (HostBridge::new(SOURCES_FROM, 300 << 20), Machine::default());
    for _ in 0..3 {
        assert!(bridge.add(Fake::new(true), translated));
    }
    bridge.reset(&machine);
    (bridge, machine)
}

const UNIT_CELLS: [u32; 2] = [(UNIT >> 32) as u32, UNIT as u32];

impl HostBridge {
    fn rtas(&mut self, service: Service, args: &[u32], machine: &Machine) -> (i32, Vec<u32>) {
        let (status, results) = self.call(service, args, 5, machine);
        (status.0, results.into())
    }

    fn config(&mut self, slot: u32, at: u32, bytes: u32, machine: &Machine) -> (i32, u32) {
        let [high, low] = UNIT_CELLS;
        let (status, results) =
            self.rtas(Service::IbmReadPciConfig, &[slot << 11 | at, high, low, bytes], machine);
        (status, results[0])
    }

    fn set_config(&mut self, slot: u32, at: u32, bytes: u32, value: u32, machine: &Machine) -> i32 {
        let [high, low] = UNIT_CELLS;
        self.rtas(Service::IbmWritePciConfig, &[slot << 11 | at, high, low, bytes, value], machine).0
    }

    fn change_msi(&mut self, slot: u32, function: u32, count: u32, machine: &Machine) -> (i32, Vec<u32>) {
        let [high, low] = UNIT_CELLS;
        self.rtas(Service::ChangeMsi, &[slot << 11, high, low, function, count, 1], machine)
    }

    fn source(&mut self, slot: u32, n: u32, machine: &Machine) -> (i32, Vec<u32>) {
        let [high, low] = UNIT_CELLS;
        self.rtas(Service::QueryInterruptSource, &[slot << 11, high, low, n], machine)
    }

    fn word(&mut self, real: u64, machine: &Machine) -> Option<u32> {
        let mut word = [0; 4];
        self.load(real, &mut word, machine).then_some(u32::from_le_bytes(word))
    }

    fn set_word(&mut self, real: u64, value: u32, machine: &Machine) -> (bool, bool) {
        self.store(real, &value.to_le_bytes(), machine)
    }
}

/// Where slot `n` has BAR 0, and BAR 1.
const fn places(n: u64) -> (u64, u64) {
    let at = EMULATED.start + n * 0x2_0000;
    (at, at + 0x1_0000)
}

#[test]
fn configuration_space_by_rtas() {
    let (mut b, m) = bridge(false);
    assert_eq!(b.config(1, 0, 4, &m), (0, 0x11e8_1234));
    assert_eq!(b.config(1, 2, 2, &m), (0, 0x11e8));
    assert_eq!(b.config(2, 8, 1, &m), (0, 3));
    for (slot, at, bytes) in [(3, 0, 4), (0, 1, 2), (0, 0, 3), (0, 0x100, 4), (0, 1 << 28, 4), (1 << 5, 0, 4)]
    {
        assert_eq!(b.config(slot, at, bytes, &m), (-1, 0), "{slot} {at:#x} {bytes}");
    }
    assert_eq!(b.rtas(Service::IbmReadPciConfig, &[0, 0, 0, 4], &m).0, -3, "another bridge");
    assert_eq!(b.rtas(Service::ReadPciConfig, &[1 << 11, 4], &m), (0, vec![0x11e8_1234, 0, 0, 0, 0]));
    assert_eq!(b.rtas(Service::WritePciConfig, &[1 << 11 | 0x3c, 1, 9], &m).0, 0);
    assert_eq!(b.config(1, 0x3c, 1, &m), (0, 9));
    assert_eq!(b.rtas(Service::WritePciConfig, &[1 << 11 | 0x3c, 8, 9], &m).0, -1);
}

#[test]
fn memory_is_placed_and_moves_with_its_register() {
    let (mut b, m) = bridge(false);
    let (first, second) = (places(0).0, places(1).0);
    assert_eq!(b.set_word(second + 12, 0, &m), (true, false));
    assert_eq!((b.word(first, &m), b.word(second, &m), b.word(second + 16, &m)), (Some(0), Some(0), None));
    assert_eq!(b.set_config(1, 0x10, 4, 0xbf00_0000, &m), 0);
    assert_eq!((b.word(second, &m), b.word(LOW_OFFSET + 0xbf00_0000, &m)), (None, Some(0)));
    assert_eq!(b.set_config(1, 4, 2, 0, &m), 0);
    assert_eq!(b.word(LOW_OFFSET + 0xbf00_0000, &m), None, "memory is off");
    assert_eq!(b.set_config(0, 0x10, 4, 0x1000, &m), 0);
    assert_eq!((b.word(first, &m), b.word(0x1000, &m)), (None, None), "no place of a function");
    let mut eight = [0; 8];
    assert!(!b.load(places(2).0 + 12, &mut eight, &m), "over the end");
}

#[test]
fn messages_have_sources() {
    let (mut b, m) = bridge(false);
    assert_eq!(b.change_msi(0, 4, 8, &m), (0, vec![4, 2, 2, 0, 0]), "it has no more than four");
    assert_eq!(b.source(0, 0, &m).0, -1, "none so far");
    assert_eq!(b.change_msi(0, 4, 4, &m), (0, vec![4, 2, 2, 0, 0]));
    assert_eq!(b.change_msi(1, 4, 2, &m), (0, vec![2, 2, 2, 0, 0]));
    assert_eq!(b.source(0, 3, &m), (0, vec![SOURCES_FROM + 7, 1, 0, 0, 0]));
    assert_eq!(b.source(1, 1, &m), (0, vec![SOURCES_FROM + 9, 1, 0, 0, 0]));
    assert_eq!(b.source(1, 2, &m).0, -1);
    assert_eq!(b.change_msi(2, 3, 1, &m).0, -1, "it has no MSI");
    assert_eq!((b.change_msi(2, 7, 1, &m).0, b.change_msi(3, 4, 1, &m).0), (-3, -3));
    // The table has them.
    let (bar, table) = places(1);
    b.set_config(1, 4, 2, 6, &m);
    b.set_config(1, 0x42, 2, 0x8000, &m);
    b.set_word(table + 28, 0, &m);
    b.set_word(bar + 4, 1, &m);
    assert_eq!(*m.messages.borrow(), [SOURCES_FROM + 9]);
    // A message to elsewhere, or of another's number, is none.
    b.set_word(table + 24, SOURCES_FROM - 1, &m);
    b.set_word(bar + 4, 1, &m);
    b.set_word(table + 24, SOURCES_FROM + 9, &m);
    b.set_word(table + 16, 0x1000, &m);
    b.set_word(bar + 4, 1, &m);
    assert_eq!(m.messages.borrow().len(), 1);
    // What is given back is free.
    assert_eq!(b.change_msi(0, 4, 0, &m), (0, vec![0, 2, 0, 0, 0]));
    assert_eq!(b.change_msi(2, 4, 3, &m).0, 0);
    assert_eq!(b.source(2, 0, &m).1[0], SOURCES_FROM + 4);
}

#[test]
fn lines_are_shared() {
    let (mut b, m) = bridge(false);
    b.add(Fake::new(true), false);
    b.add(Fake::new(true), false);
    b.reset(&m);
    for (slot, up) in [(0, 1), (4, 1), (0, 0), (1, 1), (4, 0)] {
        b.set_word(places(slot).0 + 8, up, &m);
    }
    let seen = m.lines.borrow().clone();
    assert_eq!(seen, [(0, true), (1, true), (0, false)].map(|(n, up)| (SOURCES_FROM + n, up)));
    b.reset(&m);
    assert_eq!(m.lines.borrow().last(), Some(&(SOURCES_FROM + 1, false)));
}

#[test]
fn the_end_of_an_interrupt_is_heard_by_those_on_its_line() {
    let (mut b, m) = bridge(false);
    b.add(Fake::new(true), false);
    b.add(Fake::new(true), false);
    b.reset(&m);
    for slot in [0, 1, 4] {
        b.set_word(places(slot).0 + 8, 1, &m);
    }
    m.lines.borrow_mut().clear();
    for source in [SOURCES_FROM - 1, SOURCES_FROM + 3, SOURCES_FROM + LINES, SOURCES_FROM, u32::MAX] {
        b.ended(source, &m);
    }
    // Both of them have let it down.
    assert_eq!(*m.lines.borrow(), [(SOURCES_FROM, false)]);
}

#[test]
fn work_is_done_in_turns() {
    let (mut b, m) = bridge(false);
    assert_eq!(b.set_word(places(0).0 + 12, 2, &m), (true, true));
    assert!(!b.work(true, &m) || b.work(false, &m) || !b.work(false, &m));
    assert_eq!(b.word(places(0).0 + 12, &m), Some(0));
}

#[test]
fn copies_are_alike_and_part() {
    let (mut b, m) = bridge(true);
    assert_eq!(b.put(WINDOW.into(), 0x5000, &[0x7000 | 3], &m), Ok(()));
    b.set_word(places(1).0 + 12, 77, &m);
    let mut copy = b.copy().unwrap();
    assert_eq!(copy.word(places(1).0 + 12, &m), Some(77));
    assert_eq!(copy.get(WINDOW.into(), 0x5000), Ok(0x7003));
    assert_eq!(copy.put(WINDOW.into(), 0x5000, &[0x9003], &m), Ok(()));
    assert_eq!(b.get(WINDOW.into(), 0x5000), Ok(0x7003));
    b.add(Fake::new(false), false);
    assert_eq!(b.copy().err(), Some("fake"));
}

#[test]
fn functions_behind_windows_reach_what_is_mapped() {
    let (mut b, m) = bridge(true);
    let at = places(0).0;
    b.set_word(at, 0x5ffd, &m);
    assert_eq!(b.word(at, &m), Some(0), "nothing is mapped");
    assert_eq!(b.put(WINDOW.into(), 0x5000, &[0x7_0003, 0x9_0001], &m), Ok(()));
    b.set_word(at, 0x5ffd, &m);
    assert_eq!(b.word(at, &m), Some(0), "the second page may not be written");
    assert_eq!(b.put(WINDOW.into(), 0x6000, &[0x9_0002], &m), Ok(()));
    b.set_word(at, 0x5ffd, &m);
    assert_eq!(b.word(at, &m), Some(1));
    let memory = m.memory.borrow();
    let written: Vec<u8> =
        [0x7_0ffd, 0x7_0ffe, 0x7_0fff, 0x9_0000, 0x9_0001].iter().map(|at| memory[at]).collect();
    assert_eq!(written, b"hello");
}

#[test]
fn a_second_window_is_made_as_asked() {
    let (mut b, m) = bridge(true);
    let [high, low] = UNIT_CELLS;
    let of = [0, high, low];
    assert_eq!(b.rtas(Service::QueryDmaWindow, &of, &m), (0, vec![1, 0, 512 >> 4, 6, 0]));
    assert_eq!(b.call(Service::QueryDmaWindow, &of, 4, &m).1, [1, 512 >> 4, 6, 0, 0]);
    let create =
        |b: &mut HostBridge, page, shift| b.rtas(Service::CreateDmaWindow, &[0, high, low, page, shift], &m);
    for (page, shift) in [(12, 29), (16, 15), (16, 30), (24, 63), (24, 64)] {
        assert_eq!(create(&mut b, page, shift).0, -3, "{page} {shift}");
    }
    for (page, shift) in [(16, 29), (16, 16 + 5), (24, 24 + 5)] {
        assert_eq!(create(&mut b, page, shift).0, 0, "{page} {shift}");
        assert_eq!(b.rtas(Service::RemoveDmaWindow, &[SECOND_WINDOW], &m).0, 0);
    }
    assert_eq!(create(&mut b, 24, 29), (0, vec![SECOND_WINDOW, 0x0800_0000, 0, 0, 0]));
    assert_eq!(create(&mut b, 24, 29).0, -1, "there are two");
    assert_eq!(b.rtas(Service::QueryDmaWindow, &of, &m).1[0], 0);
    let window = u64::from(SECOND_WINDOW);
    assert_eq!(b.put(window, SECOND_WINDOW_BASE + (31 << 24), &[3], &m), Ok(()));
    assert_eq!(b.put(window, SECOND_WINDOW_BASE + (32 << 24), &[3], &m), Err(Error::Parameter));
    assert_eq!(b.rtas(Service::RemoveDmaWindow, &[SECOND_WINDOW], &m).0, 0);
    assert_eq!(b.rtas(Service::RemoveDmaWindow, &[SECOND_WINDOW], &m).0, -3);
    assert_eq!(b.rtas(Service::RemoveDmaWindow, &[WINDOW], &m).0, 0);
    assert_eq!(b.get(WINDOW.into(), 0), Err(Error::Parameter));
    assert_eq!(b.rtas(Service::ResetDmaWindows, &of, &m).0, 0);
    assert_eq!(b.get(WINDOW.into(), 0), Ok(0));
}

#[test]
fn the_tree_says_where_memory_is() {
    let (mut b, m) = bridge(false);
    let tree = b.tree(&m);
    let function = &tree.functions[1];
    assert_eq!((function.slot, function.class, function.messages), (1, 0xff_0000, (0, 4)));
    let places: Vec<_> = function.memory.iter().map(|m| (m.bar, m.wide, m.bus, m.bytes)).collect();
    assert_eq!(
        places,
        [(0, false, 0x8002_0000, 16), (1, false, 0x8003_0000, 4096), (4, true, 0xf1_0010_0000, 1 << 20)]
    );
    assert_eq!(b.config(1, 0x10, 4, &m), (0, 0x8002_0000), "looking changes nothing");
}

#[test]
fn a_bridge_has_an_end() {
    let (mut b, m) = bridge(false);
    while b.functions() < SLOTS {
        assert!(b.add(Fake::new(true), false));
    }
    assert!(!b.add(Fake::new(true), false));
    b.reset(&m);
    for slot in 0..32 {
        assert_eq!(b.change_msi(slot, 4, 4, &m).0, if slot < 32 { 0 } else { -1 });
    }
    let doorbell: Arc<dyn Doorbell> = Arc::new(Silent);
    b.attach(&doorbell);
}

struct Silent;

impl Doorbell for Silent {
    fn ring(&self) {}
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, Vec<u64>),
    Stuff(u64, u64, u64),
    Copy,
}

fn step() -> impl Strategy<Value = Step> {
    let page = prop_oneof![0..40u64, 16_380..16_390u64, 65_530..65_540u64];
    let entry = prop_oneof![Just(0), (0..1u64 << 29, 0..4u64).prop_map(|(page, rights)| page << 12 | rights)];
    prop_oneof![
        (page.clone(), prop::collection::vec(entry.clone(), 0..6)).prop_map(|(at, list)| Step::Put(at, list)),
        (page, entry, 0..6u64).prop_map(|(at, entry, count)| Step::Stuff(at, entry, count)),
        Just(Step::Copy),
    ]
}

proptest! {
    /// A window is a map from pages to entries, and its copies are others.
    #[test]
    fn windows_are_maps(steps in prop::collection::vec(step(), 0..40), base in 0..3u64) {
        const PAGES: u64 = 65_536;
        let base = base << 30;
        let mut window = Window::new(1, base, 12, PAGES).unwrap();
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut copies = Vec::new();
        for step in steps {
            let (first, entries) = match step {
                Step::Put(at, entries) => (at, entries),
                Step::Stuff(at, entry, count) => (at, vec![entry; count as usize]),
                Step::Copy => {
                    copies.push((window.clone(), model.clone()));
                    continue;
                }
            };
            let fits = first < PAGES && first + entries.len() as u64 <= PAGES;
            let good = fits && entries.iter().all(|entry| entry >> 40 == 0);
            let done = window.set(base + (first << 12) + 5, entries.iter().copied());
            prop_assert_eq!(done.is_ok(), good);
            if good {
                model.extend((first..).zip(entries));
            }
        }
        copies.push((window, model));
        for (window, model) in &copies {
            for (page, entry) in model {
                let entry = if entry & 3 == 0 { 0 } else { *entry };
                let at = base + (page << 12);
                prop_assert_eq!(window.get(at), Ok(entry));
                for write in [false, true] {
                    let right = if write { 2 } else { 1 };
                    let reached = (entry & right != 0).then_some((entry & !3 | 0x123, 0x1000 - 0x123));
                    prop_assert_eq!(window.translate(at + 0x123, write).ok(), reached);
                }
            }
            prop_assert!(window.translate(base.wrapping_sub(1), false).is_err());
            prop_assert!(window.get(base + (PAGES << 12)).is_err());
        }
    }

    /// No call by a guest panics, and functions stay within the bridge's places.
    #[test]
    fn no_call_panics(
        calls in prop::collection::vec((prop::sample::select(Service::ALL), prop::collection::vec(
            prop_oneof![any::<u32>(), (0..4u32, 0..64u32).prop_map(|(slot, at)| slot << 11 | at), Just(UNIT_CELLS[0]), Just(UNIT_CELLS[1]), 0..9u32],
            6,
        ), any::<bool>()), 0..60),
        reals in prop::collection::vec(EMULATED.start - 8..EMULATED.start + 0x8_0000, 8),
    ) {
        let (mut b, m) = bridge(true);
        for (service, mut args, named) in calls {
            if named {
                args[1..3].copy_from_slice(&UNIT_CELLS);
            }
            let (status, _) = b.call(service, &args, 5, &m);
            prop_assert!(status == RtasStatus::SUCCESS || status.0 < 0);
        }
        for real in reals {
            let _ = b.word(real & !3, &m);
        }
        let _ = b.copy().map(|mut copy| copy.reset(&m));
    }
}

/// Functions that reach memory by themselves are told what the others find.
#[test]
fn windows_are_told() {
    let (mut b, m) = bridge(true);
    let of = |m: &Machine, n: usize| m.windows.borrow()[n].clone();
    b.reset(&m);
    assert_eq!((of(&m, 0), of(&m, 1)), (Some((12, HashMap::new())), None));
    assert_eq!(b.put(WINDOW.into(), 0x5000, &[0x7_0003, 0x9_0001], &m), Ok(()));
    assert_eq!(of(&m, 0).unwrap().1, HashMap::from([(5, 0x7_0003), (6, 0x9_0001)]));
    assert_eq!(b.stuff(WINDOW.into(), 0x6000, 0, 2, &m), Ok(()));
    assert_eq!(of(&m, 0).unwrap().1, HashMap::from([(5, 0x7_0003), (6, 0), (7, 0)]));
    // What is refused changes nothing.
    assert_eq!(b.put(WINDOW.into(), 1 << WINDOW_SHIFT, &[3], &m), Err(Error::Parameter));
    assert_eq!(b.put(WINDOW.into(), 0x5000, &[1 << 40 | 3], &m), Err(Error::Parameter));
    assert_eq!(of(&m, 0).unwrap().1[&5], 0x7_0003);
    let [high, low] = UNIT_CELLS;
    assert_eq!(b.rtas(Service::CreateDmaWindow, &[0, high, low, 16, 20], &m).0, 0);
    assert_eq!(b.put(SECOND_WINDOW.into(), SECOND_WINDOW_BASE + 0x2_0000, &[0x4_0003], &m), Ok(()));
    assert_eq!(of(&m, 1), Some((16, HashMap::from([(2, 0x4_0003)]))));
    assert_eq!(b.rtas(Service::RemoveDmaWindow, &[SECOND_WINDOW], &m).0, 0);
    assert_eq!(of(&m, 1), None);
    b.reset(&m);
    assert_eq!(of(&m, 0), Some((12, HashMap::new())));
}
