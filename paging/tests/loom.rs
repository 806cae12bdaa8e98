//! What two processors do to the same page or the same memory, in every interleaving (within a bound of preemptions).
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p paging --test loom`
#![cfg(loom)]

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use hpt::AccessKind::Write;
use hpt::{
    GuestMmu, Hpt, Machine, Page, PageState, Protection, Pteg, Reserve, RevWord, Slot, SlotKind, Slots,
};
use loom::thread;
use paging::{
    Answer, AtomicU32, Change, Context, Host, Memory, Merger, Notifier, Outcome, Paging, Shares, Stretch,
    Supply,
};
use power::{GuestReal, HostReal, HpteFormat, HpteR, HpteV, PteIndex};

const UNIT: u64 = 1 << 16;
const AT: GuestReal = GuestReal(0);
const BLOCKS: u64 = 6;

/// Memory of which one word stands for 64 KiB. Block 0 is the zero page.
struct Small {
    counts: &'static [Stretch<'static>],
    blocks: Mutex<HashMap<u64, u64>>,
}

impl Small {
    fn get(&self, at: HostReal) -> u64 {
        *self.blocks.lock().unwrap().get(&at.0).expect("memory that nobody has")
    }

    fn set(&self, at: HostReal, value: u64) {
        *self.blocks.lock().unwrap().get_mut(&at.0).expect("memory that nobody has") = value;
    }
}

impl Supply for Small {
    fn allocate(&self, _: u64) -> Option<HostReal> {
        let mut blocks = self.blocks.lock().unwrap();
        let free = (1..BLOCKS).map(|n| n * UNIT).find(|at| !blocks.contains_key(at))?;
        blocks.insert(free, 0xdead);
        Some(HostReal(free))
    }

    fn zero(&self, at: HostReal, _: u64) {
        self.set(at, 0);
    }

    fn zero_page(&self) -> HostReal {
        HostReal(0)
    }
}

impl Host for Small {
    fn release(&self, at: HostReal, _: u64) {
        assert!(self.blocks.lock().unwrap().remove(&at.0).is_some(), "released twice");
    }

    fn copy(&self, from: HostReal, to: HostReal, _: u64) {
        self.set(to, self.get(from));
    }

    fn same(&self, a: HostReal, b: HostReal, _: u64) -> bool {
        self.get(a) == self.get(b)
    }

    fn is_zero(&self, at: HostReal, _: u64) -> bool {
        self.get(at) == 0
    }

    fn hash(&self, at: HostReal, _: u64) -> u64 {
        self.get(at)
    }

    fn shares(&self) -> Shares<'_> {
        Shares::new(self.counts)
    }
}

struct Quiet;

impl Machine for Quiet {
    fn tlb_invalidate(&self, _: PteIndex, _: HpteV, _: HpteR) {}
    fn tlb_sync(&self) {}
    fn zero(&self, _: HostReal, _: u64) {}
    fn copy(&self, _: HostReal, _: HostReal, _: u64) {}
    fn icache_sync(&self, _: HostReal, _: u64) {}
}

/// A host and two partitions of one page each.
struct World {
    host: Small,
    guests: [(Paging, GuestMmu<'static>); 2],
}

type View = Memory<'static, Small, Quiet>;

impl World {
    fn new() -> &'static World {
        let counts = (0..BLOCKS).map(|_| AtomicU32::new(0)).collect::<Vec<_>>().leak();
        let host = Small {
            counts: vec![Stretch { base: HostReal(0), counts }].leak(),
            blocks: Mutex::new(HashMap::from([(0, 0)])),
        };
        let guest = || {
            let groups = vec![Pteg::default()].leak();
            let words = vec![RevWord::default()].leak();
            let reserve = Box::leak(Box::new(Reserve::new()));
            let mut slots = Slots::new(false);
            let kind = SlotKind::Ram(vec![Page::default()].leak());
            slots.add(Slot { base: AT, len: UNIT, kind }).unwrap();
            let hpt = Box::leak(Box::new(Hpt::new(groups, words, reserve, HpteFormat::V3_0).unwrap()));
            (Paging::new(1, u64::MAX).unwrap(), GuestMmu::new(hpt, Box::leak(Box::new(slots))))
        };
        Box::leak(Box::new(World { host, guests: [guest(), guest()] }))
    }

    fn memory(&'static self, n: usize) -> View {
        Memory::new(&self.guests[n].0, self.guests[n].1, &self.host, &Quiet)
    }

    fn host_of(&self, n: usize) -> HostReal {
        self.guests[n].1.page_view(AT).unwrap().host().unwrap()
    }

    fn state(&self, n: usize) -> PageState {
        self.guests[n].1.page_view(AT).unwrap().state()
    }

    fn contents(&self, n: usize) -> u64 {
        self.host.get(self.host_of(n))
    }

    /// A store of the hypervisor on a guest's behalf, which takes the same way as a guest's fault.
    fn store(&'static self, n: usize, value: u64) {
        self.memory(n).reach(AT, Write, None, |at, _| self.host.set(at, value)).unwrap();
    }

    /// Blocks that somebody has, and references are what they should be.
    fn check(&self) {
        let hosts = [0, 1].map(|n| self.guests[n].1.page_view(AT).unwrap());
        let mut had = vec![0];
        for view in hosts {
            let Some(at) = view.host().filter(|at| at.0 != 0) else { continue };
            let sharers =
                hosts.iter().filter(|v| v.host() == Some(at) && v.state() == PageState::Shared).count();
            assert_eq!(self.host.shares().count(at), sharers as u32);
            if view.state() == PageState::Private {
                assert_eq!(hosts.iter().filter(|v| v.host() == Some(at)).count(), 1);
            }
            had.push(at.0);
        }
        had.sort();
        had.dedup();
        let mut out: Vec<u64> = self.host.blocks.lock().unwrap().keys().copied().collect();
        out.sort();
        assert_eq!(out, had, "leaked");
    }
}

/// Runs both at once, and `after` when they are done. Each is the one that begins in turn.
fn both(
    before: fn(&'static World) -> Option<Merger>,
    one: fn(&'static World, Option<&mut Merger>),
    other: fn(&'static World, Option<&mut Merger>),
    after: fn(&'static World),
) {
    for swap in [false, true] {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.max_branches = 20_000;
        builder.max_duration = Some(core::time::Duration::from_secs(10));
        builder.check(move || {
            let world = World::new();
            let mut merger = before(world);
            let (first, second) = if swap { (other, one) } else { (one, other) };
            let mine = if swap { None } else { merger.take() };
            let mut theirs = merger;
            let thread = thread::spawn(move || {
                let mut mine = mine;
                first(world, mine.as_mut());
            });
            second(world, theirs.as_mut());
            thread.join().unwrap();
            world.check();
            after(world);
        });
    }
}

/// Both partitions have the memory of the first, in which there is 5.
fn share(world: &'static World) {
    world.store(0, 5);
    let (source, target) = (world.guests[0].1, world.guests[1].1);
    world.memory(0).share_everything(|count| source.clone_into(&target, count).unwrap());
    world.guests[1].0.adopt(&world.guests[0].0);
}

#[test]
fn two_processors_store_to_one_shared_page() {
    fn touch(world: &'static World, _: Option<&mut Merger>) {
        assert_eq!(world.memory(0).fault(AT, Write, &Context::default()), Outcome::Retry);
    }
    both(
        |world| {
            share(world);
            None
        },
        touch,
        touch,
        |world| {
            assert_eq!((world.state(0), world.contents(0), world.contents(1)), (PageState::Private, 5, 5));
            assert_eq!(world.memory(0).figures().unshared, 1);
        },
    );
}

/// As real mode does, and virtual mode after it.
fn touch_for_the_first_time(world: &'static World, _: Option<&mut Merger>) {
    let memory = world.memory(0);
    if !memory.populate_at_once(AT, Write, PteIndex(0)) {
        assert_eq!(memory.fault(AT, Write, &Context::default()), Outcome::Retry);
    }
}

#[test]
fn two_processors_touch_a_page_for_the_first_time() {
    both(
        |_| None,
        touch_for_the_first_time,
        touch_for_the_first_time,
        |world| {
            assert_eq!(
                (world.state(0), world.contents(0), world.guests[0].0.charged()),
                (PageState::Private, 0, 1)
            );
        },
    );
}

#[test]
fn a_first_touch_of_a_page_that_goes_and_comes() {
    both(
        |_| None,
        touch_for_the_first_time,
        |world, _| {
            world.store(0, 6);
            world.memory(0).discard_all();
        },
        |world| {
            let view = world.guests[0].1.page_view(AT).unwrap();
            assert_eq!(world.guests[0].0.charged(), u64::from(view.host().is_some()));
        },
    );
}

#[test]
fn a_first_touch_of_a_page_that_is_being_protected() {
    fn protect(world: &'static World, _: Option<&mut Merger>) {
        let notifier = std::sync::Arc::new(Gone { gone: AtomicBool::new(false), lifts: false });
        world.memory(0).protect(AT, UNIT, Protection::ReadOnly, notifier).unwrap();
    }
    fn touch(world: &'static World, _: Option<&mut Merger>) {
        world.memory(0).populate_at_once(AT, Write, PteIndex(0));
    }
    both(
        |_| None,
        protect,
        touch,
        |world| {
            let view = world.guests[0].1.page_view(AT).unwrap();
            assert_eq!(view.protection(), Protection::ReadOnly);
            assert!(!world.memory(0).populate_at_once(AT, Write, PteIndex(0)));
        },
    );
}

#[test]
fn two_partitions_store_to_one_block() {
    both(
        |world| {
            share(world);
            None
        },
        |world, _| world.store(0, 6),
        |world, _| world.store(1, 7),
        |world| {
            assert_eq!((world.contents(0), world.contents(1)), (6, 7));
            assert_eq!((world.state(0), world.state(1)), (PageState::Private, PageState::Private));
        },
    );
}

/// Must not be called once it is gone.
struct Gone {
    gone: AtomicBool,
    lifts: bool,
}

impl Notifier for Gone {
    fn changed(&self, _: &Change) -> Answer {
        assert!(!self.gone.load(Ordering::SeqCst), "called after it was unregistered");
        loom::thread::yield_now();
        assert!(!self.gone.load(Ordering::SeqCst), "unregistered in the middle of a call");
        if self.lifts { Answer::Lift } else { Answer::Keep }
    }
}

fn protect_and_unregister(world: &'static World, lifts: bool) {
    let notifier = std::sync::Arc::new(Gone { gone: AtomicBool::new(false), lifts });
    let memory = world.memory(0);
    let id = memory.protect(AT, UNIT, Protection::ReadOnly, notifier.clone()).unwrap();
    assert!(memory.unregister(id));
    notifier.gone.store(true, Ordering::SeqCst);
}

#[test]
fn notifiers_come_and_go_during_faults() {
    fn fault(world: &'static World, _: Option<&mut Merger>) {
        match world.memory(0).fault(AT, Write, &Context::default()) {
            Outcome::Retry => {}
            Outcome::Emulate => world.store(0, 6),
            Outcome::Failed(error) => panic!("{error:?}"),
        }
    }
    fn after(world: &'static World) {
        assert_eq!(world.guests[0].1.page_view(AT).unwrap().protection(), Protection::ReadWrite);
        assert_eq!(world.memory(0).fault(AT, Write, &Context::default()), Outcome::Retry);
        assert_eq!(world.state(0), PageState::Private);
    }
    both(|_| None, |world, _| protect_and_unregister(world, false), fault, after);
    both(|_| None, |world, _| protect_and_unregister(world, true), fault, after);
}

/// Both partitions have the same contents, the first's are in the merge's table, and the second's have kept for a pass.
fn ready_to_merge(world: &'static World) -> Option<Merger> {
    (0..2).for_each(|n| world.store(n, 5));
    let mut merger = Merger::new(4).unwrap();
    merger.step(1, &world.memory(1), 1).unwrap();
    for _ in 0..2 {
        merger.step(0, &world.memory(0), 1).unwrap();
    }
    assert!(world.host.shares().is_merged(world.host_of(0)));
    Some(merger)
}

fn merge(world: &'static World, merger: Option<&mut Merger>) {
    merger.unwrap().step(1, &world.memory(1), 1).unwrap();
}

#[test]
fn a_store_to_what_is_being_merged_with() {
    both(
        ready_to_merge,
        merge,
        |world, _| world.store(0, 6),
        |world| {
            assert_eq!((world.contents(0), world.contents(1)), (6, 5));
        },
    );
}

#[test]
fn a_store_to_what_is_being_merged() {
    both(
        ready_to_merge,
        merge,
        |world, _| world.store(1, 6),
        |world| {
            assert_eq!((world.contents(0), world.contents(1)), (5, 6));
        },
    );
}

#[test]
fn a_merge_and_memory_that_goes() {
    both(
        ready_to_merge,
        merge,
        |world, _| world.memory(0).discard_all(),
        |world| {
            assert_eq!(world.contents(1), 5);
            assert_eq!(world.state(0), PageState::NotPopulated);
        },
    );
}

#[test]
fn memory_put_by_that_is_not_needed_goes_back() {
    fn protect(world: &'static World, _: Option<&mut Merger>) {
        let notifier = std::sync::Arc::new(Gone { gone: AtomicBool::new(false), lifts: false });
        let memory = world.memory(0);
        let id = memory.protect(AT, UNIT, Protection::ReadWrite, notifier).unwrap();
        assert!(memory.unregister(id));
    }
    both(
        |_| None,
        protect,
        |world, _| world.store(0, 6),
        |world| {
            assert_eq!((world.contents(0), world.guests[0].0.charged()), (6, 1));
        },
    );
}
