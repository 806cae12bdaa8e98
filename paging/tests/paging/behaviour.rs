//! One test per behaviour.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hpt::AccessKind::{Execute, Read, Write};
use hpt::{PageState, Protection};
use paging::{
    AtomicU32, Change, Context, Error, Host, Id, Merger, Outcome, Paging, ProtectError, Shares, Step,
    Stretch, Supply, Touched, What,
};
use power::{Ea, GuestReal, HostReal, HpteFormat, PteIndex};

use super::guest::{DEVICE, Got, Guest};
use super::host::{CELLS, SimHost, UNIT};
use super::world::Listener;

const PAGES: usize = 6;
const NO_ENTRY: PteIndex = PteIndex(0);
const ZERO: [u64; CELLS] = [0; CELLS];

fn guest() -> Guest {
    let mut guest = Guest::new(HpteFormat::V3_0, false, PAGES, u64::MAX);
    (0..PAGES).for_each(|page| guest.enter(page, 0));
    guest
}

fn store(guest: &Guest, host: &SimHost, page: usize, value: u64) {
    assert_eq!(guest.access(host, page, 0, Write, 1, value), Got::Done(value));
}

fn load(guest: &Guest, host: &SimHost, page: usize) -> u64 {
    match guest.access(host, page, 0, Read, 1, 0) {
        Got::Done(value) => value,
        other => panic!("{other:?}"),
    }
}

/// Both have all memory of the first.
fn cloned(host: &SimHost) -> (Guest, Guest) {
    let (a, mut b) = (guest(), Guest::new(HpteFormat::V3_0, false, PAGES, u64::MAX));
    (0..3).for_each(|page| store(&a, host, page, 10 + page as u64));
    assert_eq!(load(&a, host, 3), 0);
    a.memory(host).share_everything(|count| a.mmu().clone_into(&b.mmu(), count).unwrap());
    b.paging.adopt(&a.paging);
    b.entries = a.entries.clone();
    (a, b)
}

fn dirty(guest: &Guest, host: &SimHost) -> Vec<usize> {
    let mut pages = Vec::new();
    guest.memory(host).dirty(|real| pages.push((real.0 / guest.unit()) as usize));
    pages.sort();
    pages
}

fn watch(guest: &Guest, host: &SimHost, first: usize, n: usize, limit: Protection) -> (Id, Arc<Listener>) {
    let listener = Arc::new(Listener::default());
    let len = n as u64 * guest.unit();
    let id = guest.memory(host).protect(guest.real(first), len, limit, listener.clone()).unwrap();
    (id, listener)
}

fn heard(listener: &Listener) -> Vec<Change> {
    core::mem::take(&mut *listener.heard.lock().unwrap())
}

// ---- references ----

#[test]
fn references_are_counted() {
    let counts = [const { AtomicU32::new(0) }; 2];
    let stretches = [Stretch { base: HostReal(0x20_0000), counts: &counts }];
    let shares = Shares::new(&stretches);
    let at = HostReal(0x21_0000);
    assert!(!shares.drop_ref(at) && !shares.take_exclusive(at) && !shares.add_if_merged(at));
    assert!(!shares.mark_merged(at));
    assert!(shares.add(at, 2) && shares.count(at) == 2 && shares.count(HostReal(0x20_0000)) == 0);
    assert!(!shares.add_if_merged(at) && !shares.take_exclusive(at));
    assert!(shares.mark_merged(at) && shares.is_merged(at) && shares.add_if_merged(at));
    assert!(!shares.drop_ref(at) && !shares.drop_ref(at) && shares.count(at) == 1);
    assert!(shares.take_exclusive(at) && shares.count(at) == 0 && !shares.is_merged(at));
    // The mark goes with the last reference, whoever lets go of it.
    assert!(shares.add(at, 1) && shares.mark_merged(at) && shares.drop_ref(at) && !shares.is_merged(at));
    // No count, no sharing.
    for outside in [HostReal(0x1f_0000), HostReal(0x22_0000)] {
        assert!(!shares.add(outside, 1) && !shares.drop_ref(outside) && shares.count(outside) == 0);
    }
    // Nobody counts that far: it is never the last then.
    assert!(shares.add(at, u32::MAX) && shares.add(at, 1) && shares.count(at) == 1 << 30);
    assert!(!shares.drop_ref(at) && shares.count(at) == 1 << 30 && shares.mark_merged(at));
    assert!(!shares.add_if_merged(at) && shares.is_merged(at));
}

// ---- touch ----

#[test]
fn memory_that_is_only_read_costs_nothing() {
    let (host, g) = (SimHost::new(4), guest());
    let memory = g.memory(&host);
    assert_eq!(memory.touch(g.real(0), Read), Ok(Touched::Usable));
    assert_eq!(memory.touch(g.real(1), Execute), Ok(Touched::Usable));
    assert!((0..2).all(|page| g.view(page).host() == Some(host.zero_page())));
    assert!((0..2).all(|page| g.view(page).state() == PageState::Shared));
    assert_eq!((host.free_blocks(), g.paging.charged()), (4, 0));
    assert_eq!(memory.touch(GuestReal(PAGES as u64 * UNIT), Read), Err(Error::NoRam));
    assert_eq!(memory.touch(DEVICE, Read), Err(Error::NoRam));
}

#[test]
fn a_store_gives_zeroed_memory() {
    let (host, g) = (SimHost::new(4), guest());
    assert_eq!(load(&g, &host, 0), 0);
    for page in 0..2 {
        g.memory(&host).touch(g.real(page), Write).unwrap();
        assert_eq!(g.view(page).state(), PageState::Private);
        assert_eq!(g.contents(&host, page), ZERO);
    }
    assert_eq!((host.free_blocks(), g.paging.charged()), (2, 2));
    assert_eq!(g.memory(&host).figures().unshared, 1);
}

#[test]
fn a_plain_first_touch_is_done_at_once() {
    let (host, g) = (SimHost::new(4), guest());
    let memory = g.memory(&host);
    assert!(
        memory.populate_at_once(g.real(0), Read, NO_ENTRY)
            && memory.populate_at_once(g.real(1), Execute, NO_ENTRY)
    );
    assert!((0..2).all(|page| g.view(page).host() == Some(host.zero_page())));
    assert_eq!((host.free_blocks(), g.paging.charged()), (4, 0));
    assert!(memory.populate_at_once(GuestReal(g.real(2).0 + 0x1234), Write, NO_ENTRY));
    assert_eq!((g.view(2).state(), g.contents(&host, 2)), (PageState::Private, ZERO));
    assert_eq!((host.free_blocks(), g.paging.charged()), (3, 1));
    let mut dirty = vec![];
    memory.dirty(|real| dirty.push(real));
    assert_eq!(dirty, [g.real(2)]);
    // What has something already is not done at once, nor what is no memory.
    assert!(
        !memory.populate_at_once(g.real(1), Write, NO_ENTRY)
            && !memory.populate_at_once(g.real(2), Write, NO_ENTRY)
    );
    assert!(!memory.populate_at_once(GuestReal(PAGES as u64 * UNIT), Write, NO_ENTRY));
    assert!(!memory.populate_at_once(DEVICE, Read, NO_ENTRY));
    assert_eq!((host.free_blocks(), g.paging.charged()), (3, 1));
}

#[test]
fn a_store_to_the_page_of_zeroes_is_done_at_once_by_its_only_entry() {
    let (host, mut g) = (SimHost::new(4), guest());
    g.enter(0, 0);
    g.enter(1, 0);
    g.enter(1, 1);
    let index = |g: &Guest, page: usize, which: usize| g.entries[page][which].unwrap();
    let at_once = |g: &Guest, page, by| g.memory(&host).populate_at_once(g.real(page), Write, by);
    for page in 0..2 {
        assert_eq!(g.access(&host, page, 0, Read, 0, 0), Got::Done(0));
    }
    // Another one than the entry by which it is reached, or more than that one.
    assert!(!at_once(&g, 0, index(&g, 1, 0)) && !at_once(&g, 1, index(&g, 1, 0)));
    assert_eq!((host.free_blocks(), g.paging.charged(), g.memory(&host).figures().unshared), (4, 0, 0));
    assert!(at_once(&g, 0, index(&g, 0, 0)));
    assert_eq!((g.view(0).state(), g.contents(&host, 0)), (PageState::Private, ZERO));
    g.remove(1, 1);
    assert_eq!(g.access(&host, 1, 0, Write, 0, 7), Got::Done(7));
    assert_eq!((host.free_blocks(), g.paging.charged(), g.memory(&host).figures().unshared), (2, 2, 2));
    // A page that has been copied is not one of zeroes.
    let memory = g.memory(&host);
    memory.snapshot(|count| g.mmu().share_all(count)).unwrap();
    memory.drop_snapshot();
    assert!(!at_once(&g, 1, index(&g, 1, 0)));
}

#[test]
fn what_is_not_done_at_once_changes_nothing() {
    let host = SimHost::new(4);
    let unchanged = |g: &Guest, page: usize| {
        let before = (host.free_blocks(), g.paging.charged());
        assert!(!g.memory(&host).populate_at_once(g.real(page), Write, NO_ENTRY));
        assert_eq!((host.free_blocks(), g.paging.charged()), before);
        assert_eq!(g.view(page).state(), PageState::NotPopulated);
    };
    // The limit.
    let g = Guest::new(HpteFormat::V3_0, false, PAGES, UNIT);
    assert!(g.memory(&host).populate_at_once(g.real(0), Write, NO_ENTRY));
    unchanged(&g, 1);
    assert_eq!(g.memory(&host).touch(g.real(1), Write), Err(Error::Limit));
    // No memory but the host's own.
    let g = guest();
    host.reserve.set(host.free_blocks());
    unchanged(&g, 1);
    assert_eq!(g.memory(&host).touch(g.real(1), Write), Err(Error::Exhausted));
    host.reserve.set(0);
    // Somebody hears of changes, be it of another page.
    let (id, _) = watch(&g, &host, 0, 1, Protection::ReadOnly);
    unchanged(&g, 1);
    assert!(g.memory(&host).unregister(id));
    assert!(g.memory(&host).populate_at_once(g.real(1), Write, NO_ENTRY));
    // A snapshot keeps a list.
    let memory = g.memory(&host);
    memory.snapshot(|count| g.mmu().share_all(count)).unwrap();
    unchanged(&g, 2);
}

#[test]
fn large_units_are_private_at_once() {
    let host = SimHost::new(4);
    let g = Guest::new(HpteFormat::V3_0, true, 2, u64::MAX);
    g.memory(&host).touch(g.real(0), Read).unwrap();
    assert_eq!(g.view(0).state(), PageState::Private);
    assert_eq!(host.out.borrow().values().copied().collect::<Vec<_>>(), [1 << 24]);
    watch(&g, &host, 1, 1, Protection::ReadOnly);
    assert_eq!(g.view(1).state(), PageState::Private);
    let left = g.memory(&host).reach(GuestReal(0x123_4567), Read, None, |_, left| left);
    assert_eq!(left, Ok(0x200_0000 - 0x123_4567));
    g.memory(&host).discard_all();
    assert_eq!(host.free_blocks(), 4);
}

#[test]
fn reading_never_unshares_and_a_store_copies() {
    let host = SimHost::new(8);
    let (a, b) = cloned(&host);
    assert_eq!(host.free_blocks(), 5);
    assert_eq!((load(&a, &host, 1), load(&b, &host, 1)), (11, 11));
    assert_eq!((host.free_blocks(), host.copies.get()), (5, 0));
    store(&b, &host, 1, 99);
    assert_eq!((load(&a, &host, 1), load(&b, &host, 1)), (11, 99));
    assert_eq!((host.free_blocks(), host.copies.get()), (4, 1));
    // The last one takes it where it is, though there is nothing left to take.
    host.reserve.set(4);
    store(&a, &host, 1, 98);
    assert_eq!((host.free_blocks(), host.copies.get()), (4, 1));
    assert_eq!(a.access(&host, 0, 0, Write, 0, 1), Got::Failed(Error::Exhausted));
    assert_eq!((load(&a, &host, 0), load(&b, &host, 0)), (10, 10));
    b.memory(&host).discard_all();
    store(&a, &host, 0, 97);
    a.memory(&host).discard_all();
    assert_eq!(host.free_blocks(), 8);
}

#[test]
fn the_limit_is_on_all_memory_but_the_zero_page() {
    let host = SimHost::new(8);
    let (a, b) = cloned(&host);
    a.paging.set_limit(3 * UNIT);
    assert_eq!((a.paging.charged(), b.paging.charged()), (3, 3));
    // What it has it can go on using, shared or not.
    store(&a, &host, 0, 1);
    assert_eq!(load(&a, &host, 4), 0);
    assert_eq!(a.access(&host, 4, 0, Write, 0, 1), Got::Failed(Error::Limit));
    assert_eq!(a.access(&host, 5, 0, Write, 0, 1), Got::Failed(Error::Limit));
    a.memory(&host).discard(a.real(1)).unwrap();
    store(&a, &host, 5, 1);
    assert_eq!(a.access(&host, 4, 0, Write, 0, 1), Got::Failed(Error::Limit));
    // A failure of the host is not charged.
    a.paging.set_limit(4 * UNIT);
    host.reserve.set(8);
    assert_eq!(a.access(&host, 4, 0, Write, 0, 1), Got::Failed(Error::Exhausted));
    assert_eq!(a.paging.charged(), 3);
}

#[test]
fn the_hypervisor_reaches_memory_on_the_guests_behalf() {
    let (host, g) = (SimHost::new(8), guest());
    let memory = g.memory(&host);
    let at = GuestReal(2 * UNIT + 0x8000);
    assert_eq!(memory.reach(at, Read, None, |at, left| (host.load(at), left)), Ok((0, 0x8000)));
    let usage = |page: usize| g.slots.page(g.real(page)).unwrap().usage();
    assert!(usage(2).referenced && !usage(2).changed);
    assert_eq!(g.view(2).host(), Some(host.zero_page()));
    memory.reach(at, Write, None, |at, _| host.store(at, 7)).unwrap();
    assert!(usage(2).changed);
    assert_eq!(g.contents(&host, 2), [0, 0, 7, 0]);
    assert_eq!(dirty(&g, &host), [2]);
    assert_eq!(memory.reach(DEVICE, Write, None, |_, _| ()), Err(Error::NoRam));
}

#[test]
fn figures_add_up() {
    let host = SimHost::new(20);
    let (a, _b) = cloned(&host);
    store(&a, &host, 0, 1);
    watch(&a, &host, 0, 2, Protection::ReadOnly);
    let f = a.memory(&host).figures();
    assert_eq!((f.private, f.shared, f.zero, f.absent, f.merged), (1, 2, 1, 2, 0));
    assert_eq!((f.unshared, f.protected, f.charged, f.unit, f.limit), (1, 2, 3, UNIT, u64::MAX));
}

// ---- notifiers ----

#[test]
fn protect_refuses_and_changes_nothing() {
    let (host, g) = (SimHost::new(3), guest());
    store(&g, &host, 1, 1);
    let protect = |base: u64, len: u64, limit| {
        g.memory(&host).protect(GuestReal(base), len, limit, Arc::new(Listener::default()))
    };
    let ram = PAGES as u64 * UNIT;
    for (base, len, error) in [
        (0, 0, ProtectError::Misaligned),
        (0x1000, UNIT, ProtectError::Misaligned),
        (0, UNIT + 1, ProtectError::Misaligned),
        (UNIT, u64::MAX - UNIT + 1, ProtectError::NotRam),
        (2 * UNIT, u64::MAX - UNIT + 1, ProtectError::Misaligned),
        (ram, UNIT, ProtectError::NotRam),
        (0, ram + UNIT, ProtectError::NotRam),
        (DEVICE.0, UNIT, ProtectError::NotRam),
        // Five pages need memory, and there are two blocks.
        (0, ram, ProtectError::Memory(Error::Exhausted)),
    ] {
        assert_eq!(protect(base, len, Protection::ReadWrite), Err(error), "{base:#x} {len:#x}");
    }
    g.paging.set_limit(2 * UNIT);
    assert_eq!(protect(UNIT, 3 * UNIT, Protection::ReadWrite), Err(ProtectError::Memory(Error::Limit)));
    assert_eq!((host.free_blocks(), g.paging.charged()), (2, 1));
    assert!((0..PAGES).all(|page| g.view(page).host().is_some() == (page == 1)));
    assert!(!g.memory(&host).unregister(g_id(&g, &host)), "a registration is left");
}

/// An id that is gone.
fn g_id(g: &Guest, host: &SimHost) -> Id {
    let (id, _) = watch(g, host, 1, 1, Protection::None);
    assert!(g.memory(host).unregister(id));
    assert_eq!(g.protection(1), Protection::ReadWrite);
    id
}

#[test]
fn protect_populates_and_the_strictest_counts() {
    let host = SimHost::new(20);
    let (g, _other) = cloned(&host);
    let (rw, _) = watch(&g, &host, 2, 3, Protection::ReadWrite);
    assert!((2..5).all(|page| g.view(page).state() == PageState::Private), "not for itself");
    assert_eq!(g.contents(&host, 2), [0, 12, 0, 0]);
    assert!(dirty(&g, &host) == [0, 1, 2], "populating is not writing: {:?}", dirty(&g, &host));
    let (ro, _) = watch(&g, &host, 4, 2, Protection::ReadOnly);
    assert_eq!(g.view(5).host(), Some(host.zero_page()));
    let (none, _) = watch(&g, &host, 3, 2, Protection::None);
    let limits = || [2, 3, 4, 5].map(|page| g.protection(page));
    use Protection as P;
    assert_eq!(limits(), [P::ReadWrite, P::None, P::None, P::ReadOnly]);
    let memory = g.memory(&host);
    assert!(memory.unregister(none));
    assert_eq!(limits(), [P::ReadWrite, P::ReadWrite, P::ReadOnly, P::ReadOnly]);
    assert!(memory.unregister(rw) && memory.unregister(ro) && !memory.unregister(ro));
    assert_eq!(limits(), [P::ReadWrite; 4]);
}

#[test]
fn a_fault_asks_those_whose_limit_it_breaks() {
    let (host, g) = (SimHost::new(20), guest());
    let (id, first) = watch(&g, &host, 0, 2, Protection::ReadOnly);
    let (_, second) = watch(&g, &host, 1, 1, Protection::None);
    let context = Context { ea: Some(Ea(0x1234)), pc: Some(Ea(0x100)), value: Some(3) };
    let at = GuestReal(UNIT + 8);
    let fault = |kind| g.memory(&host).fault(at, kind, &context);
    assert_eq!(fault(Read), Outcome::Emulate);
    assert_eq!(heard(&first), []);
    let change = Change { real: at, what: What::Fault { access: Read, context } };
    assert_eq!(heard(&second), [change]);
    // One lifts, the other does not.
    second.lifts.store(true, Ordering::Relaxed);
    assert_eq!(fault(Write), Outcome::Emulate);
    assert_eq!((heard(&first).len(), heard(&second).len()), (1, 1));
    assert_eq!(g.protection(1), Protection::ReadOnly);
    assert_eq!(g.view(1).host(), Some(host.zero_page()), "unshared against the limit");
    assert_eq!(fault(Read), Outcome::Retry);
    first.lifts.store(true, Ordering::Relaxed);
    assert_eq!(fault(Write), Outcome::Retry);
    assert_eq!((heard(&first).len(), heard(&second).len()), (1, 0));
    assert_eq!(g.view(1).state(), PageState::Private);
    assert_eq!(g.protection(0), Protection::ReadOnly, "lifted elsewhere");
    // Once more.
    first.lifts.store(false, Ordering::Relaxed);
    let memory = g.memory(&host);
    assert_eq!(memory.rearm(id, at), Ok(()));
    assert_eq!(memory.rearm(id, g.real(2)), Err(ProtectError::Unknown));
    assert_eq!(memory.rearm(id, DEVICE), Err(ProtectError::Unknown));
    assert_eq!(fault(Write), Outcome::Emulate);
    assert_eq!(memory.fault(DEVICE, Write, &context), Outcome::Failed(Error::NoRam));
    // Lifted for a while without being asked.
    let told = heard(&first).len();
    assert_eq!(memory.disarm(id, at), Ok(()));
    assert_eq!(memory.disarm(id, g.real(2)), Err(ProtectError::Unknown));
    assert_eq!((fault(Write), heard(&first).len()), (Outcome::Retry, 0));
    assert_eq!(g.protection(0), Protection::ReadOnly, "lifted elsewhere");
    assert_eq!(memory.rearm(id, at), Ok(()));
    assert_eq!((fault(Write), told), (Outcome::Emulate, 1));
}

#[test]
fn a_store_past_a_limit_is_carried_out_and_heard_of() {
    let (host, g) = (SimHost::new(20), guest());
    let (_, listener) = watch(&g, &host, 0, 1, Protection::ReadOnly);
    let at = g.real(0);
    let whats = |listener: &Listener| heard(listener).into_iter().map(|c| c.what).collect::<Vec<_>>();
    g.memory(&host).reach(at, Write, Some(&Context::default()), |at, _| host.store(at, 1)).unwrap();
    assert_eq!(
        whats(&listener),
        [What::Fault { access: Write, context: Context::default() }, What::Unshared]
    );
    g.memory(&host).reach(at, Write, None, |at, _| host.store(at, 2)).unwrap();
    g.memory(&host).reach(at, Read, Some(&Context::default()), |_, _| ()).unwrap();
    assert_eq!(whats(&listener), []);
    assert_eq!(g.protection(0), Protection::ReadOnly);
    assert_eq!(g.contents(&host, 0)[0], 2);
}

#[test]
fn a_notifier_hears_of_every_change() {
    let (host, g) = (SimHost::new(20), guest());
    let (_, listener) = watch(&g, &host, 0, 1, Protection::ReadWrite);
    assert_eq!(heard(&listener), [], "of its own making");
    let memory = g.memory(&host);
    let expect = |what| assert_eq!(heard(&listener), [Change { real: g.real(0), what }]);
    memory.snapshot(|count| g.mmu().share_all(count)).unwrap();
    expect(What::Shared);
    store(&g, &host, 0, 1);
    expect(What::Unshared);
    memory.revert().unwrap();
    expect(What::Reverted);
    memory.discard(g.real(0)).unwrap();
    expect(What::Discarded);
    memory.discard(g.real(0)).unwrap();
    assert_eq!(load(&g, &host, 0), 0);
    expect(What::Populated);
    memory.share_everything(|count| g.mmu().share_all(count));
    expect(What::Shared);
    memory.touch(g.real(1), Write).unwrap();
    assert_eq!(heard(&listener), []);
    listener.lifts.store(true, Ordering::Relaxed);
    memory.discard_all();
    expect(What::Discarded);
    store(&g, &host, 0, 1);
    assert_eq!(heard(&listener), []);
}

// ---- dirty ----

#[test]
fn dirty_is_what_was_written() {
    let (host, g) = (SimHost::new(20), guest());
    let memory = g.memory(&host);
    store(&g, &host, 0, 1);
    load(&g, &host, 1);
    assert_eq!((dirty(&g, &host), dirty(&g, &host)), (vec![0], vec![0]));
    memory.dirty_reset();
    assert_eq!(dirty(&g, &host), []);
    // Through an entry that was there all the time.
    load(&g, &host, 0);
    assert_eq!(dirty(&g, &host), []);
    store(&g, &host, 0, 2);
    assert_eq!(dirty(&g, &host), [0]);
    // C of what goes is not lost, nor is what goes; the zero page is nothing.
    memory.discard(g.real(0)).unwrap();
    memory.discard(g.real(1)).unwrap();
    assert_eq!(dirty(&g, &host), [0]);
    memory.dirty_reset();
    store(&g, &host, 2, 1);
    memory.snapshot(|count| g.mmu().share_all(count)).unwrap();
    assert_eq!(dirty(&g, &host), [2]);
    memory.dirty_reset();
    store(&g, &host, 3, 1);
    memory.dirty_reset();
    memory.revert();
    assert_eq!(dirty(&g, &host), [3]);
    // A store that is about to come.
    memory.touch(g.real(4), Write).unwrap();
    memory.touch(g.real(5), Read).unwrap();
    assert_eq!(dirty(&g, &host), [3, 4]);
}

// ---- snapshots ----

#[test]
fn a_thousand_reverts_cost_no_memory() {
    let (host, g) = (SimHost::new(20), guest());
    let memory = g.memory(&host);
    assert_eq!((memory.revert(), memory.drop_snapshot()), (None, false));
    (0..3).for_each(|page| store(&g, &host, page, 5));
    load(&g, &host, 3);
    memory.snapshot(|count| g.mmu().share_all(count)).unwrap();
    let free = host.free_blocks();
    for round in 0..1000 {
        for page in [0, 3, 4] {
            store(&g, &host, page, round);
        }
        store(&g, &host, 0, round + 1);
        assert_eq!(memory.revert(), Some(3));
        assert_eq!([0, 1, 2, 3, 4].map(|page| g.contents(&host, page)[1]), [5, 5, 5, 0, 0]);
        assert_eq!(g.view(4).state(), PageState::NotPopulated);
        assert_eq!((host.free_blocks(), g.paging.charged()), (free, 3));
    }
    assert_eq!(memory.revert(), Some(0));
    // Taken anew, it is the new one that counts.
    store(&g, &host, 0, 7);
    memory.snapshot(|count| g.mmu().share_all(count)).unwrap();
    store(&g, &host, 0, 8);
    memory.revert();
    assert_eq!(load(&g, &host, 0), 7);
    // It keeps its memory when the partition has none any more.
    memory.discard_all();
    memory.revert();
    assert_eq!(load(&g, &host, 1), 5);
    assert!(memory.drop_snapshot());
    memory.discard_all();
    assert_eq!(host.free_blocks(), 20);
}

// ---- merge ----

/// Two partitions whose first pages are alike in pairs, and a merge.
fn alike(host: &SimHost) -> (Guest, Guest, Merger) {
    let (a, b) = (guest(), guest());
    for page in 0..3 {
        store(&a, host, page, 10 + page as u64);
        store(&b, host, page, 10 + page as u64);
    }
    (a, b, Merger::new(64).unwrap())
}

fn pass(merger: &mut Merger, host: &SimHost, guests: &[&Guest]) {
    for (key, guest) in guests.iter().enumerate() {
        assert!(merger.step(key as u64, &guest.memory(host), 100).unwrap().done);
    }
}

#[test]
fn equal_pages_become_one() {
    let host = SimHost::new(12);
    let (a, b, mut merger) = alike(&host);
    store(&b, &host, 4, 0);
    pass(&mut merger, &host, &[&a, &b]);
    // Zeroes go at once, the rest has to keep for a pass.
    assert_eq!((merger.figures().zeroed, merger.figures().merged, host.free_blocks()), (1, 0, 6));
    assert_eq!(b.view(4).host(), Some(host.zero_page()));
    assert_eq!(b.paging.charged(), 3);
    store(&a, &host, 0, 99);
    pass(&mut merger, &host, &[&a, &b]);
    assert_eq!((merger.figures().merged, merger.figures().changing, host.free_blocks()), (2, 1, 8));
    assert_eq!(b.memory(&host).figures().merged, 2);
    store(&a, &host, 0, 10);
    (0..3).for_each(|_| pass(&mut merger, &host, &[&a, &b]));
    assert_eq!((merger.figures().merged, host.free_blocks()), (3, 9));
    assert_eq!(a.paging.charged(), 3);
    // Stores part them, and the last one needs no copy.
    store(&a, &host, 0, 1);
    assert_eq!((load(&a, &host, 0), load(&b, &host, 0), host.copies.get()), (1, 10, 1));
    store(&b, &host, 0, 2);
    assert_eq!((host.copies.get(), host.free_blocks()), (1, 8));
    a.memory(&host).discard_all();
    b.memory(&host).discard_all();
    assert_eq!(host.free_blocks(), 12);
}

#[test]
fn a_page_that_changes_under_the_merge_is_left_alone() {
    let host = SimHost::new(12);
    let (a, b, mut merger) = alike(&host);
    pass(&mut merger, &host, &[&a, &b]);
    merger.step(0, &a.memory(&host), 100).unwrap();
    // The guest stores between the checksum and the protection.
    host.meddle.set(Some((b.view(0).host().unwrap(), 77, 2)));
    pass(&mut merger, &host, &[&a, &b]);
    assert_eq!((b.contents(&host, 0), a.contents(&host, 0)), ([77, 10, 0, 0], [0, 10, 0, 0]));
    assert_eq!(b.view(0).state(), PageState::Private);
    // And in a page of zeroes.
    store(&b, &host, 4, 0);
    host.meddle.set(Some((b.view(4).host().unwrap(), 78, 1)));
    pass(&mut merger, &host, &[&b]);
    assert_eq!(b.contents(&host, 4), [78, 0, 0, 0]);
}

#[test]
fn equal_hashes_are_not_equal_pages() {
    let host = SimHost::new(12);
    let (a, b) = (guest(), guest());
    host.weak_hash.set(true);
    store(&a, &host, 0, 3);
    store(&b, &host, 0, 6);
    let mut merger = Merger::new(64).unwrap();
    (0..3).for_each(|_| pass(&mut merger, &host, &[&a, &b]));
    assert!(merger.figures().unequal > 0 && merger.figures().merged == 0);
    assert_eq!((load(&a, &host, 0), load(&b, &host, 0)), (3, 6));
    assert_eq!(b.view(0).state(), PageState::Private);
}

#[test]
fn a_stale_table_does_no_harm() {
    let host = SimHost::new(7);
    let (a, b, mut merger) = alike(&host);
    let again = |merger: &mut Merger| (0..2).for_each(|_| pass(merger, &host, &[&a]));
    again(&mut merger);
    assert_eq!((a.view(0).state(), merger.figures().first), (PageState::Shared, 3));
    let hashes = host.hashes.get();
    again(&mut merger);
    assert_eq!((merger.figures().first, host.hashes.get()), (3, hashes), "known already");
    // The first of its kind is its own: a store takes it back where it is.
    store(&a, &host, 0, 55);
    assert_eq!((host.copies.get(), host.shares().count(a.view(0).host().unwrap())), (0, 0));
    // Another goes, and its memory becomes something else.
    a.memory(&host).discard(a.real(1)).unwrap();
    (0..2).for_each(|_| pass(&mut merger, &host, &[&a, &b]));
    assert_eq!((0..3).map(|page| load(&b, &host, page)).collect::<Vec<_>>(), [10, 11, 12]);
    assert_eq!((load(&a, &host, 0), load(&a, &host, 1), load(&a, &host, 2)), (55, 0, 12));
    assert_eq!(merger.figures().merged, 1);
    // When all is forgotten, what is shared already is found again.
    merger.off();
    store(&b, &host, 2, 12);
    (0..3).for_each(|_| pass(&mut merger, &host, &[&a, &b]));
    assert_eq!(a.view(2).host(), b.view(2).host());
    merger.forget(0);
}

#[test]
fn the_merge_spares_what_is_watched_and_large_units() {
    let host = SimHost::new(20);
    let (a, b, mut merger) = alike(&host);
    store(&b, &host, 4, 0);
    watch(&b, &host, 0, 1, Protection::ReadWrite);
    watch(&b, &host, 4, 1, Protection::None);
    (0..4).for_each(|_| pass(&mut merger, &host, &[&a, &b]));
    assert_eq!((merger.figures().merged, merger.figures().zeroed), (2, 0));
    assert!([0, 4].iter().all(|page| b.view(*page).state() == PageState::Private));
    let large = Guest::new(HpteFormat::V3_0, true, 2, u64::MAX);
    large.memory(&host).touch(GuestReal(0), Write).unwrap();
    assert_eq!(merger.step(9, &large.memory(&host), 10), Ok(Step { looked: 0, done: true }));
    assert_eq!(large.view(0).state(), PageState::Private);
}

#[test]
fn a_step_is_bounded_and_goes_on_where_it_was() {
    let host = SimHost::new(20);
    let (a, _, mut merger) = alike(&host);
    let mut step = |budget| merger.step(0, &a.memory(&host), budget).unwrap();
    assert_eq!(step(2), Step { looked: 2, done: false });
    let hashes = host.hashes.get();
    assert_eq!(step(2), Step { looked: 1, done: true });
    assert_eq!(host.hashes.get(), hashes + 1);
    assert_eq!(step(3), Step { looked: 3, done: true });
    assert_eq!(merger.figures().first, 3);
    // Where there is nothing, it does not go on for ever either.
    let empty = Guest::new(HpteFormat::V3_0, false, 150, u64::MAX);
    let mut step = |budget| merger.step(1, &empty.memory(&host), budget).unwrap();
    assert_eq!([step(1), step(1), step(1)].map(|step| step.done), [false, false, true]);
    assert_eq!(step(3), Step { looked: 0, done: true });
}

#[test]
fn more_ram_than_a_partition_was_to_have_is_not_used() {
    let host = SimHost::new(4);
    let mut g = Guest::new(HpteFormat::V3_0, false, 70, u64::MAX);
    g.paging = Paging::new(64, u64::MAX).unwrap();
    let memory = g.memory(&host);
    // The upper half was added first, so the last pages are in the middle.
    assert_eq!(memory.touch(g.real(28), Write), Ok(Touched::Usable));
    assert_eq!(memory.touch(g.real(29), Write), Err(Error::NoRam));
    memory.discard_all();
    assert_eq!((memory.figures().absent, host.free_blocks()), (64, 4));
    g.mmu().populate(g.real(29), PageState::Private, host.allocate(UNIT).unwrap()).unwrap();
    let mut merger = Merger::new(4).unwrap();
    assert_eq!(merger.step(0, &memory, 100), Ok(Step { looked: 0, done: true }));
}

#[test]
fn a_full_table_loses_what_is_stale_first() {
    let host = SimHost::new(20);
    let (a, b, mut merger) = (guest(), guest(), Merger::new(4).unwrap());
    (0..4).for_each(|page| store(&a, &host, page, 10 + page as u64));
    (0..2).for_each(|_| pass(&mut merger, &host, &[&a]));
    a.memory(&host).discard(a.real(2)).unwrap();
    store(&a, &host, 4, 14);
    (0..2).for_each(|_| pass(&mut merger, &host, &[&a]));
    for page in [0, 1, 3, 4] {
        store(&b, &host, page, 10 + page as u64);
    }
    (0..2).for_each(|_| {
        merger.step(1, &b.memory(&host), 100).unwrap();
    });
    assert_eq!((merger.figures().first, merger.figures().merged), (5, 4));
}
