//! Watches: whoever sits at the monitor wants to hear of each access that a limit on a range of a partition's memory would forbid. It is
//! told, and the access goes on.
//!
//! A watch is a registration with the partition's memory ([`paging`]) that keeps its limit whatever comes. So a guest's access comes to
//! [`crate::exits::past`], which carries it out and reports it here, with its value. What cannot be carried out by hand is let through:
//! the limit is lifted from the page ([`Watches::step_aside`]) until the vCPU has left the instruction behind, some ten microseconds. What other
//! vCPUs do to the page meanwhile is not reported.
//!
//! A partition's watches end when it stops or starts anew. A copy of it has none.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use hpt::{AccessKind, Protection};
use paging::{Answer, Change, Id, Notifier, ProtectError, What};
use power::{Ea, GuestReal};
use realmode::instructions::timebase;

use crate::log;
use crate::partition::life::Doing;
use crate::partition::{Partition, TIMEBASE_HZ};
use crate::sync::{Lock, Rank};

/// How many accesses of a partition are told in a second: about what a serial line takes.
const LINES: u32 = 100;

/// How soon the vCPU is left again for whose instruction a limit was lifted: 20 µs.
const GLANCE: u64 = TIMEBASE_HZ / 50_000;

/// How long a limit is lifted if the vCPU does not run meanwhile: 10 ms.
const PATIENCE: u64 = TIMEBASE_HZ / 100;

/// The pages that the limit is lifted from for one vCPU: an instruction may be in one, and its operand in two.
const ASIDE: usize = 3;

/// An access that a watch's limit forbids.
pub struct Access {
    /// What it is.
    pub kind: AccessKind,
    /// Where.
    pub ea: Ea,
    /// The same as the partition's real address.
    pub real: GuestReal,
    /// The instruction's effective address.
    pub pc: Ea,
    /// The vCPU.
    pub server: usize,
    /// How many bytes, as far as that is known.
    pub bytes: Option<u64>,
    /// What was loaded or stored, likewise.
    pub value: Option<u128>,
}

/// What a watch is, for people.
pub struct Summary {
    /// Its first byte.
    pub start: u64,
    /// Its length.
    pub bytes: u64,
    /// The limit.
    pub limit: Protection,
    /// Accesses that it forbade.
    pub accesses: u64,
}

/// A limit, and who hears of what it forbids.
struct Watch {
    id: Id,
    start: u64,
    bytes: u64,
    limit: Protection,
    ear: Arc<Ear>,
}

impl Watch {
    /// Does it say anything about an access?
    fn forbids(&self, kind: AccessKind, at: GuestReal) -> bool {
        let forbidden = match self.limit {
            Protection::ReadWrite => false,
            Protection::ReadOnly => kind == AccessKind::Write,
            Protection::None => true,
        };
        forbidden && at.0.wrapping_sub(self.start) < self.bytes
    }
}

/// The limit of a page has been lifted for an instruction.
struct Aside {
    id: Id,
    /// The page, and the instruction.
    page: GuestReal,
    kind: AccessKind,
    pc: Ea,
    server: usize,
    since: u64,
}

#[derive(Default)]
struct List {
    watches: Vec<Watch>,
    aside: Vec<Aside>,
}

/// The watches of a partition.
pub struct Watches {
    list: Lock<List>,
    /// How many there are, and how many limits are lifted: nobody looks further without any.
    count: AtomicUsize,
    lifted: AtomicUsize,
    meter: Arc<Meter>,
}

impl Watches {
    /// None.
    pub fn new() -> Watches {
        Watches {
            list: Lock::new(Rank::Partition, List::default()),
            count: AtomicUsize::new(0),
            lifted: AtomicUsize::new(0),
            meter: Arc::default(),
        }
    }

    /// Begins to watch a range, in bytes, of the caller's partition, which it keeps from standing still. A watch of the same range ends. An
    /// error is one line for the user.
    pub fn begin(
        &self,
        partition: &Partition,
        start: u64,
        bytes: u64,
        limit: Protection,
    ) -> Result<(), String> {
        let mut list = self.list.lock();
        let end = start.saturating_add(bytes);
        let same = list.watches.iter().position(|watch| (watch.start, watch.bytes) == (start, bytes));
        let other = list.watches.iter().find(|watch| {
            (watch.start, watch.bytes) != (start, bytes)
                && watch.start < end
                && start < watch.start + watch.bytes
        });
        if let Some(other) = other {
            let (start, bytes) = (other.start, other.bytes);
            return Err(alloc::format!(
                "{start:#x}+{bytes:#x} is watched already, which is not the same range"
            ));
        }
        let ear = Arc::new(Ear {
            name: partition.name.clone(),
            meter: self.meter.clone(),
            accesses: AtomicU64::new(0),
        });
        let unit = 1u64 << partition.core().slots.unit_shift();
        let begun =
            partition.memory().pages(|pages| pages.protect(GuestReal(start), bytes, limit, ear.clone()));
        let id = begun.map_err(|error| refusal(error, unit))?;
        if let Some(same) = same {
            let old = list.watches.remove(same);
            list.finish(partition, &old);
        }
        list.watches.push(Watch { id, start, bytes, limit, ear });
        self.note(&list);
        Ok(())
    }

    /// Ends the watch of a range; false if there is none. As for [`Watches::begin`].
    pub fn end(&self, partition: &Partition, start: u64, bytes: u64) -> bool {
        let mut list = self.list.lock();
        let same = list.watches.iter().position(|watch| (watch.start, watch.bytes) == (start, bytes));
        let Some(same) = same else { return false };
        let old = list.watches.remove(same);
        list.finish(partition, &old);
        self.note(&list);
        true
    }

    /// Ends all, and says how many there were. As for [`Watches::begin`], or no vCPU runs any more.
    pub fn end_all(&self, partition: &Partition) -> usize {
        if self.count.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let mut list = self.list.lock();
        let all = core::mem::take(&mut list.watches);
        all.iter().for_each(|watch| list.finish(partition, watch));
        self.note(&list);
        drop(list);
        self.meter.tell(&partition.name, true);
        all.len()
    }

    /// All of them.
    pub fn summaries(&self) -> Vec<Summary> {
        let list = self.list.lock();
        let summary = |watch: &Watch| Summary {
            start: watch.start,
            bytes: watch.bytes,
            limit: watch.limit,
            accesses: watch.ear.accesses.load(Ordering::Relaxed),
        };
        list.watches.iter().map(summary).collect()
    }

    /// Tells of an access that has been carried out, if a watch forbids it; true if so.
    pub fn report(&self, access: &Access) -> bool {
        let list = self.list.lock();
        let watch = list.watches.iter().find(|watch| watch.forbids(access.kind, access.real));
        let ear = watch.map(|watch| watch.ear.clone());
        drop(list);
        ear.inspect(|ear| ear.hear(access)).is_some()
    }

    /// Lets an instruction that is about to make this access do so, and tells of it. False if no watch forbids it.
    pub fn step_aside(&self, partition: &Partition, access: &Access) -> bool {
        let unit = 1u64 << partition.core().slots.unit_shift();
        let page = GuestReal(access.real.0 & !(unit - 1));
        let mut list = self.list.lock();
        let Some(watch) = list.watches.iter().find(|watch| watch.forbids(access.kind, access.real)) else {
            return false;
        };
        let (id, ear) = (watch.id, watch.ear.clone());
        let own = |aside: &&Aside| aside.server == access.server;
        // The same access again: in its second page, or because the limit came back too soon.
        let told = list.aside.iter().filter(own).any(|aside| {
            (aside.pc, aside.kind) == (access.pc, access.kind) && page.0.wrapping_sub(aside.page.0) <= unit
        });
        if list.aside.iter().filter(own).count() >= ASIDE {
            list.come_back(partition, |aside| aside.server == access.server);
        }
        let lifted = partition.memory().pages(|pages| pages.disarm(id, page)).is_ok();
        list.aside.retain(|aside| (aside.id, aside.page, aside.server) != (id, page, access.server));
        let (kind, pc, server) = (access.kind, access.pc, access.server);
        list.aside.push(Aside { id, page, kind, pc, server, since: timebase() });
        self.note(&list);
        drop(list);
        if !told {
            ear.hear(access);
        }
        lifted
    }

    /// When a vCPU that is about to be entered has to be left again for the sake of limits that are lifted: a time of the timebase.
    pub fn until(&self) -> u64 {
        if self.lifted.load(Ordering::Relaxed) == 0 { u64::MAX } else { timebase() + GLANCE }
    }

    /// A vCPU has been left, and `pc` is its next instruction: limits that were lifted for it come back, unless it is still at the same one.
    pub fn look_back(&self, partition: &Partition, server: usize, pc: u64) {
        if self.lifted.load(Ordering::Relaxed) != 0 {
            let mut list = self.list.lock();
            list.come_back(partition, |aside| aside.server == server && aside.pc.0 != pc);
            self.note(&list);
        }
    }

    /// Limits that have been lifted for long come back; and how many accesses were not told is.
    fn serve(&self, partition: &Partition) {
        self.meter.tell(&partition.name, false);
        if self.lifted.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Held, so that it does not come to stand still meanwhile.
        let Some(life) = partition.life.try_lock() else { return };
        if life.doing != Doing::Still {
            let now = timebase();
            let mut list = self.list.lock();
            list.come_back(partition, |aside| now.saturating_sub(aside.since) >= PATIENCE);
            self.note(&list);
        }
    }

    fn note(&self, list: &List) {
        self.count.store(list.watches.len(), Ordering::Relaxed);
        self.lifted.store(list.aside.len(), Ordering::Relaxed);
    }
}

impl List {
    /// Puts limits back; those for which there is no memory right now, later.
    fn come_back(&mut self, partition: &Partition, over: impl Fn(&Aside) -> bool) {
        let memory = partition.memory();
        let is_back = |aside: &Aside| {
            !matches!(memory.pages(|pages| pages.rearm(aside.id, aside.page)), Err(ProtectError::Memory(_)))
        };
        self.aside.retain(|aside| !(over(aside) && is_back(aside)));
    }

    /// A watch is no more.
    fn finish(&mut self, partition: &Partition, watch: &Watch) {
        partition.memory().pages(|pages| pages.unregister(watch.id));
        self.aside.retain(|aside| aside.id != watch.id);
    }
}

/// What the boot CPU does about watches when it looks at the console.
pub fn service(all: &[Arc<Partition>]) {
    all.iter().for_each(|partition| partition.watches.serve(partition));
}

fn refusal(error: ProtectError, unit: u64) -> String {
    let kib = unit >> 10;
    match error {
        ProtectError::Misaligned => {
            alloc::format!("start and end of the range have to be multiples of {kib} KiB ({unit:#x})")
        }
        ProtectError::NotRam => "not all of that range is memory of the partition".into(),
        ProtectError::Memory(_) | ProtectError::Unknown => {
            "there is no memory for pages of that range that have none".into()
        }
    }
}

/// Who hears of what a watch forbids. It takes no lock but the console's: it may be told while others are held.
struct Ear {
    /// The partition's name.
    name: String,
    meter: Arc<Meter>,
    accesses: AtomicU64,
}

impl Ear {
    fn hear(&self, access: &Access) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        if !self.meter.allows(&self.name) {
            return;
        }
        let Access { kind, ea, real, pc, server, .. } = access;
        let bytes = access.bytes.map(|bytes| alloc::format!(" bytes={bytes}")).unwrap_or_default();
        let value = access.value.map(|value| alloc::format!(" value={value:#x}")).unwrap_or_default();
        let what = name(*kind);
        log!("{}: watch: {what} ea={ea:#x} real={real:#x} pc={pc:#x}{bytes}{value} vcpu={server}", self.name);
    }
}

impl Notifier for Ear {
    fn changed(&self, change: &Change) -> Answer {
        // A guest's access is told when it has been carried out; the hypervisor's own has no instruction.
        if let What::Fault { access, context } = change.what
            && context.pc.is_none()
        {
            self.accesses.fetch_add(1, Ordering::Relaxed);
            if self.meter.allows(&self.name) {
                log!("{}: watch: {} by the hypervisor real={:#x}", self.name, name(access), change.real);
            }
        }
        Answer::Keep
    }
}

const fn name(kind: AccessKind) -> &'static str {
    match kind {
        AccessKind::Read => "load",
        AccessKind::Write => "store",
        AccessKind::Execute => "fetch",
    }
}

/// How much a partition's watches have said of late.
#[derive(Default)]
struct Meter {
    /// The timebase at which the second began that is being counted; 0 before the first.
    began: AtomicU64,
    /// Lines in it.
    lines: AtomicU32,
    /// Accesses that no line has told of.
    held_back: AtomicU64,
}

impl Meter {
    /// May there be one more line?
    fn allows(&self, name: &str) -> bool {
        let (now, began) = (timebase(), self.began.load(Ordering::Relaxed));
        if (began == 0 || now.saturating_sub(began) >= TIMEBASE_HZ)
            && self.began.compare_exchange(began, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.tell(name, true);
            self.lines.store(0, Ordering::Relaxed);
        }
        let one_more = self.lines.fetch_add(1, Ordering::Relaxed) < LINES;
        if !one_more {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
        one_more
    }

    /// Tells how many accesses were not told, when the second is over, or at once.
    fn tell(&self, name: &str, at_once: bool) {
        let over = timebase().saturating_sub(self.began.load(Ordering::Relaxed)) >= TIMEBASE_HZ;
        if self.held_back.load(Ordering::Relaxed) != 0 && (over || at_once) {
            let n = self.held_back.swap(0, Ordering::Relaxed);
            log!("{name}: watch: {n} more accesses, which are not shown");
        }
    }
}
