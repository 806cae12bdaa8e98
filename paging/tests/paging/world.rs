//! Three partitions on one host, a simple model of them, and steps that do the same to both and compare.
//!
//! The model knows what every word of each partition is, which pages were written, who protects what, and what snapshots
//! hold. It knows nothing of counts, locks and hashes: those must come out right at the end of each step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hpt::{AccessKind, PageState, PageView, Protection};
use paging::{Answer, Change, Context, Error, Id, Merger, Notifier, ProtectError, What};
use power::{GuestReal, HostReal, HpteFormat};

use super::guest::{Got, Guest};
use super::host::{CELLS, Contents, SimHost, UNIT};

pub const GUESTS: usize = 3;
pub const PAGES: usize = 8;

/// A notifier that writes down what it hears and answers as it is told.
#[derive(Default)]
pub struct Listener {
    pub lifts: AtomicBool,
    pub heard: Mutex<Vec<Change>>,
}

impl Notifier for Listener {
    fn changed(&self, change: &Change) -> Answer {
        self.heard.lock().unwrap().push(*change);
        if self.lifts.load(Ordering::Relaxed) { Answer::Lift } else { Answer::Keep }
    }
}

struct Watch {
    id: Id,
    listener: Arc<Listener>,
    limit: Protection,
    armed: [bool; PAGES],
    range: core::ops::Range<usize>,
}

#[derive(Clone)]
struct Saved {
    contents: [Contents; PAGES],
    backing: [PageView; PAGES],
}

#[derive(Default)]
struct Model {
    contents: [Contents; PAGES],
    dirty: [bool; PAGES],
    watches: Vec<Watch>,
    snapshot: Option<Saved>,
}

pub struct World {
    pub host: SimHost,
    guests: Vec<Guest>,
    models: Vec<Model>,
    merger: Merger,
    unit: u64,
    next_value: u64,
    pub seen: HashMap<&'static str, usize>,
}

fn forbids(limit: Protection, kind: AccessKind) -> bool {
    limit == Protection::None || limit == Protection::ReadOnly && kind == AccessKind::Write
}

/// What backs a page, whatever its protection.
fn backing(view: PageView) -> PageView {
    view.with_protection(Protection::ReadWrite)
}

impl World {
    pub fn new(format: HpteFormat, huge: bool, blocks: usize) -> World {
        let mut guests: Vec<Guest> = (0..GUESTS).map(|_| Guest::new(format, huge, PAGES, u64::MAX)).collect();
        for guest in &mut guests {
            (0..PAGES).for_each(|page| guest.enter(page, 0));
        }
        let unit = guests[0].unit();
        World {
            host: SimHost::new(blocks),
            guests,
            models: (0..GUESTS).map(|_| Model::default()).collect(),
            merger: Merger::new(8).unwrap(),
            unit,
            next_value: 0,
            seen: HashMap::new(),
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// A step, from any bytes.
    pub fn step(&mut self, bytes: [u8; 8]) {
        let [what, g, page, a, b, c, d, _] = bytes.map(usize::from);
        let (g, page, cell) = (g % GUESTS, page % PAGES, b % CELLS);
        // Few values, and zero often, so that pages are equal now and then.
        self.next_value += 1;
        let value = if c % 4 == 0 { self.next_value } else { (c % 3) as u64 };
        let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Write, AccessKind::Execute][a % 4];
        self.host.weak_hash.set(d % 8 == 0);
        match what % 40 {
            0..=17 => self.access(g, page, usize::from(a / 4 % 8 == 0), kind, cell, value),
            18..=20 => self.reach(g, page, kind, cell, value),
            21 => self.discard(g, page),
            22 => self.guests[g].enter(page, usize::from(a % 4 == 0)),
            23 if b % 4 == 0 => self.guests[g].remove(page, a % 2),
            24 => self.protect(g, page, b % 4, a, c),
            25 | 26 => self.unregister(g, a),
            27 => self.rearm(g, a, page),
            28..=32 => self.merge(g, 1 + a as u64 % 8, b % 16 == 0),
            33 if a % 4 == 0 => self.snapshot(g),
            34 | 35 => self.revert(g),
            36 if a % 4 == 0 => self.drop_snapshot(g),
            37 if a % 4 == 0 => self.clone_over(g, (g + 1 + b % (GUESTS - 1)) % GUESTS),
            38 => self.dirty(g, a % 2 == 0),
            39 => self.limits(g, a, b),
            _ => {}
        }
        self.check_guest(g);
        if self.next_value.is_multiple_of(16) {
            self.check();
        }
    }

    fn views(&self, g: usize) -> [PageView; PAGES] {
        core::array::from_fn(|page| backing(self.guests[g].view(page)))
    }

    fn limit(&self, g: usize, page: usize) -> Protection {
        let limits = self.models[g].watches.iter().filter(|w| w.armed[page]).map(|w| w.limit);
        limits.max().unwrap_or(Protection::ReadWrite)
    }

    /// Compares what notifiers heard since the step began with what happened: a fault, then changes of backing. `everything` was shared,
    /// or pages went back to a snapshot, which makes one kind of change of all.
    fn heard(
        &mut self,
        g: usize,
        before: [PageView; PAGES],
        fault: Option<(GuestReal, AccessKind)>,
        special: Option<What>,
        except: Option<Id>,
    ) {
        let (after, unit) = (self.views(g), self.unit);
        let mut lifted = 0;
        for watch in &mut self.models[g].watches {
            let heard = core::mem::take(&mut *watch.listener.heard.lock().unwrap());
            let lifts = watch.listener.lifts.load(Ordering::Relaxed);
            let mut heard = heard.into_iter().peekable();
            if let Some((at, kind)) = fault
                && watch.armed[(at.0 / unit) as usize]
                && forbids(watch.limit, kind)
            {
                let change = heard.next().expect("did not hear of a fault");
                assert_eq!(change.real, at);
                assert!(matches!(change.what, What::Fault { access, .. } if access == kind), "{change:?}");
                if lifts {
                    watch.armed[(at.0 / unit) as usize] = false;
                    lifted += 1;
                }
            }
            let mut rest: Vec<Change> = heard.collect();
            rest.sort_by_key(|change| change.real);
            let mut rest = rest.into_iter();
            for page in 0..PAGES {
                let what = match (before[page].state(), after[page].state()) {
                    (_, PageState::NotPopulated) if special == Some(What::Shared) => continue,
                    _ if special == Some(What::Shared) => What::Shared,
                    _ if before[page] == after[page] => continue,
                    _ if special.is_some() => special.unwrap(),
                    (PageState::NotPopulated, _) => What::Populated,
                    (_, PageState::NotPopulated) => What::Discarded,
                    _ => What::Unshared,
                };
                if watch.armed[page] && Some(watch.id) != except {
                    let change = rest.next().expect("did not hear of a change");
                    assert_eq!(change, Change { real: GuestReal(page as u64 * unit), what });
                    if lifts {
                        watch.armed[page] = false;
                        lifted += 1;
                    }
                }
            }
            assert_eq!(rest.next(), None, "heard of what has not happened");
        }
        if lifted > 0 {
            self.saw("lift");
        }
    }

    fn failed(&mut self, g: usize, error: Error) {
        match error {
            Error::NoRam => panic!("it is RAM"),
            Error::Limit => {
                let paging = &self.guests[g].paging;
                assert!((paging.charged() + PAGES as u64) * self.unit > paging.limit());
                self.saw("limit");
            }
            Error::Exhausted => {
                assert!(self.host.free_blocks() < self.host.reserve.get() + PAGES);
                self.saw("exhausted");
            }
        }
    }

    fn access(&mut self, g: usize, page: usize, which: usize, kind: AccessKind, cell: usize, value: u64) {
        let before = self.views(g);
        let limited = forbids(self.limit(g, page), kind);
        let at = GuestReal(self.guests[g].real(page).0 + (cell as u64) * (UNIT / CELLS as u64));
        let got = self.guests[g].access(&self.host, page, which, kind, cell, value);
        let store = kind == AccessKind::Write;
        match got {
            Got::NotMapped => return,
            Got::Reflected => {
                assert!(which == 1 && store);
                return;
            }
            Got::Done(got) => {
                assert!(which == 0 || !store);
                self.done(g, page, store, cell, got);
                self.saw(if store { "store" } else { "load" });
                assert!(
                    store || before[page].state() != PageState::Shared || before == self.views(g),
                    "a load unshared"
                );
            }
            Got::Failed(error) => self.failed(g, error),
        }
        if limited {
            self.saw("fault");
        }
        self.heard(g, before, limited.then_some((at, kind)), None, None);
    }

    fn done(&mut self, g: usize, page: usize, store: bool, cell: usize, value: u64) {
        let model = &mut self.models[g];
        if store {
            model.contents[page][cell] = value;
            model.dirty[page] = true;
        } else {
            assert_eq!(value, model.contents[page][cell], "wrong contents");
        }
    }

    fn reach(&mut self, g: usize, page: usize, kind: AccessKind, cell: usize, value: u64) {
        let before = self.views(g);
        let limited = forbids(self.limit(g, page), kind);
        let store = kind == AccessKind::Write;
        let at = GuestReal(self.guests[g].real(page).0 + (cell as u64) * (UNIT / CELLS as u64));
        let host = &self.host;
        let got = self.guests[g].memory(host).reach(at, kind, Some(&Context::default()), |at, _| {
            if store {
                host.store(at, value);
                value
            } else {
                host.load(at)
            }
        });
        match got {
            Ok(value) => self.done(g, page, store, cell, value),
            Err(error) => self.failed(g, error),
        }
        self.heard(g, before, limited.then_some((at, kind)), None, None);
    }

    fn discard(&mut self, g: usize, page: usize) {
        let before = self.views(g);
        self.guests[g].memory(&self.host).discard(self.guests[g].real(page)).unwrap();
        self.discarded(g, page, before);
        self.heard(g, before, None, None, None);
    }

    fn discarded(&mut self, g: usize, page: usize, before: [PageView; PAGES]) {
        let model = &mut self.models[g];
        model.contents[page] = Contents::default();
        model.dirty[page] |=
            before[page].host().is_some_and(|at| at != paging::Supply::zero_page(&self.host));
        assert_eq!(self.guests[g].view(page).host(), None);
    }

    fn protect(&mut self, g: usize, first: usize, pages: usize, limit: usize, lifts: usize) {
        if self.models[g].watches.len() >= 3 {
            return;
        }
        let before = self.views(g);
        let charged = self.guests[g].paging.charged();
        let listener = Arc::new(Listener::default());
        listener.lifts.store(lifts.is_multiple_of(3), Ordering::Relaxed);
        let limit = [Protection::ReadWrite, Protection::ReadOnly, Protection::None][limit % 3];
        let memory = self.guests[g].memory(&self.host);
        let base = self.guests[g].real(first);
        match memory.protect(base, pages as u64 * self.unit, limit, listener.clone()) {
            Ok(id) => {
                assert!(pages > 0 && first + pages <= PAGES);
                let range = first..first + pages;
                let armed = core::array::from_fn(|page| range.contains(&page));
                assert!(range.clone().all(|page| self.guests[g].view(page).host().is_some()));
                if limit == Protection::ReadWrite {
                    assert!(
                        range.clone().all(|page| self.guests[g].view(page).state() == PageState::Private)
                    );
                }
                // It heard nothing of its own; the others of what was populated and unshared.
                self.models[g].watches.push(Watch { id, listener, limit, armed, range });
                self.heard(g, before, None, None, Some(id));
                self.saw("protect");
            }
            Err(ProtectError::Misaligned) => assert_eq!(pages, 0),
            Err(ProtectError::NotRam) => assert!(first + pages > PAGES),
            Err(ProtectError::Memory(error)) => {
                assert_eq!(before, self.views(g), "changed, though it failed");
                assert_eq!(charged, self.guests[g].paging.charged());
                self.failed(g, error);
                self.heard(g, before, None, None, None);
            }
            Err(ProtectError::Unknown) => panic!(),
        }
    }

    fn unregister(&mut self, g: usize, which: usize) {
        if self.models[g].watches.is_empty() {
            return;
        }
        let which = which % self.models[g].watches.len();
        let watch = self.models[g].watches.remove(which);
        let memory = self.guests[g].memory(&self.host);
        assert!(memory.unregister(watch.id));
        assert!(!memory.unregister(watch.id));
        assert!(watch.listener.heard.lock().unwrap().is_empty());
        assert_eq!(Arc::strong_count(&watch.listener), 1);
    }

    fn rearm(&mut self, g: usize, which: usize, page: usize) {
        let before = self.views(g);
        let n = self.models[g].watches.len().max(1);
        let Some(watch) = self.models[g].watches.get_mut(which % n) else { return };
        let (id, within) = (watch.id, watch.range.contains(&page));
        match self.guests[g].memory(&self.host).rearm(id, self.guests[g].real(page)) {
            Ok(()) => {
                assert!(within);
                watch.armed[page] = true;
            }
            Err(ProtectError::Memory(error)) => self.failed(g, error),
            Err(error) => assert!(error == ProtectError::Unknown && !within),
        }
        self.heard(g, before, None, None, Some(id));
    }

    fn merge(&mut self, g: usize, budget: u64, off: bool) {
        if off {
            self.merger.off();
        }
        let before = self.views(g);
        let figures = self.merger.figures();
        self.merger.step(g as u64, &self.guests[g].memory(&self.host), budget).unwrap();
        let after = self.merger.figures();
        assert!(after.looked <= figures.looked + budget);
        let watched = |page: usize| self.models[g].watches.iter().any(|w| w.armed[page]);
        assert!((0..PAGES).all(|page| !watched(page)
            || before[page] == self.guests[g].view(page).with_protection(Protection::ReadWrite)));
        for (what, a, b) in [
            ("merge", figures.merged, after.merged),
            ("merge zeroes", figures.zeroed, after.zeroed),
            ("merge first", figures.first, after.first),
            ("merge unequal", figures.unequal, after.unequal),
        ] {
            if b > a {
                self.saw(what);
            }
        }
        // Nobody heard anything.
        assert!(self.models[g].watches.iter().all(|w| w.listener.heard.lock().unwrap().is_empty()));
    }

    fn snapshot(&mut self, g: usize) {
        let before = self.views(g);
        let mmu = self.guests[g].mmu();
        self.guests[g].memory(&self.host).snapshot(|count| mmu.share_all(count)).unwrap();
        self.models[g].snapshot = Some(Saved { contents: self.models[g].contents, backing: self.views(g) });
        self.heard(g, before, None, Some(What::Shared), None);
        self.saw("snapshot");
    }

    fn revert(&mut self, g: usize) {
        let before = self.views(g);
        let reverted = self.guests[g].memory(&self.host).revert();
        let model = &mut self.models[g];
        let Some(saved) = &model.snapshot else { return assert_eq!(reverted, None) };
        model.contents = saved.contents;
        for (page, before) in before.iter().enumerate() {
            let view = backing(self.guests[g].view(page));
            assert_eq!(view, saved.backing[page]);
            model.dirty[page] |= view != *before;
        }
        assert_eq!(reverted.unwrap(), (0..PAGES).filter(|p| before[*p] != saved.backing[*p]).count() as u64);
        self.heard(g, before, None, Some(What::Reverted), None);
        self.saw("revert");
    }

    fn drop_snapshot(&mut self, g: usize) {
        let had = self.models[g].snapshot.take().is_some();
        assert_eq!(self.guests[g].memory(&self.host).drop_snapshot(), had);
    }

    /// A partition is stopped, and another's clone takes its place.
    fn clone_over(&mut self, from: usize, to: usize) {
        while !self.models[to].watches.is_empty() {
            self.unregister(to, 0);
        }
        self.drop_snapshot(to);
        self.guests[to].memory(&self.host).discard_all();
        (0..PAGES).for_each(|page| assert_eq!(self.guests[to].view(page).host(), None));
        self.merger.forget(to as u64);
        let before = self.views(from);
        self.guests[to].mmu().clear();
        self.guests[to].entries = self.guests[from].entries.clone();
        let (source, target) = (&self.guests[from], &self.guests[to]);
        source
            .memory(&self.host)
            .share_everything(|count| source.mmu().clone_into(&target.mmu(), count).unwrap());
        target.paging.adopt(&source.paging);
        target.memory(&self.host).dirty_reset();
        self.models[to].contents = self.models[from].contents;
        self.models[to].dirty = [false; PAGES];
        self.heard(from, before, None, Some(What::Shared), None);
        self.saw("clone");
    }

    fn dirty(&mut self, g: usize, reset: bool) {
        let memory = self.guests[g].memory(&self.host);
        let mut dirty = [false; PAGES];
        memory.dirty(|real| dirty[(real.0 / self.unit) as usize] = true);
        assert_eq!(dirty, self.models[g].dirty);
        let count = || {
            let mut n = 0;
            memory.dirty(|_| n += 1);
            n
        };
        assert_eq!(count(), dirty.iter().filter(|d| **d).count());
        if reset {
            memory.dirty_reset();
            assert_eq!(count(), 0);
            self.models[g].dirty = [false; PAGES];
            self.saw("dirty reset");
        }
    }

    fn limits(&mut self, g: usize, a: usize, b: usize) {
        let limit = if a.is_multiple_of(3) { (b % (PAGES + 1)) as u64 * self.unit } else { u64::MAX };
        self.guests[g].paging.set_limit(limit);
        self.host.reserve.set(if a.is_multiple_of(5) { b % 8 } else { 0 });
    }

    // ---- the whole ----

    fn check_guest(&self, g: usize) {
        self.guests[g].check_entries();
        for page in 0..PAGES {
            assert_eq!(self.guests[g].protection(page), self.limit(g, page), "limit of page {page}");
        }
    }

    /// Every word is where and what it should be, and each block is had by whom it should.
    pub fn check(&self) {
        let mut references: HashMap<HostReal, u32> = HashMap::new();
        let mut private = 0;
        for (guest, model) in self.guests.iter().zip(&self.models) {
            guest.check_entries();
            let mut charged = 0;
            for page in 0..PAGES {
                let view = guest.view(page);
                assert_eq!(guest.contents(&self.host, page), model.contents[page], "contents of page {page}");
                let Some(at) = view.host() else { continue };
                if at == paging::Supply::zero_page(&self.host) {
                    assert_eq!(view.state(), PageState::Shared);
                    continue;
                }
                charged += 1;
                if view.state() == PageState::Private {
                    private += 1;
                    assert!(references.insert(at, 0).is_none(), "private memory that another has");
                } else {
                    *references.entry(at).or_default() += 1;
                    assert_ne!(references[&at], 0);
                }
            }
            assert_eq!(guest.paging.charged(), charged);
            let f = guest.memory(&self.host).figures();
            assert_eq!(f.private + f.shared + f.merged + f.zero + f.absent, PAGES as u64);
            for saved in model.snapshot.iter() {
                for (view, contents) in saved.backing.iter().zip(&saved.contents) {
                    let Some(at) = view.host() else { continue };
                    assert_eq!(self.host.contents(at), *contents, "a snapshot's memory changed");
                    if at != paging::Supply::zero_page(&self.host) {
                        *references.entry(at).or_default() += 1;
                    }
                }
            }
        }
        let shares = paging::Host::shares(&self.host);
        assert_eq!(shares.count(paging::Supply::zero_page(&self.host)), 0, "the zero page is not counted");
        for (at, n) in &references {
            assert_eq!(shares.count(*at), *n, "references to {at:?}");
        }
        assert_eq!(self.host.out.borrow().len(), references.len(), "memory leaked");
        assert!(private <= references.len());
    }

    /// All stop: everything comes back.
    pub fn end(mut self) {
        self.check();
        let all = self.host.free_blocks() + self.host.out.borrow().len();
        for g in 0..GUESTS {
            while !self.models[g].watches.is_empty() {
                self.unregister(g, 0);
            }
            self.drop_snapshot(g);
            self.guests[g].memory(&self.host).discard_all();
            assert_eq!(self.guests[g].paging.charged(), 0);
        }
        assert_eq!(self.host.free_blocks(), all);
    }
}
