//! Which virtual processor each CPU runs next: the run queues of [`sched`], one for each CPU, or for each core where its threads
//! must share a partition.
//!
//! A CPU looks into its own queue first. It takes a task from another queue if it has none itself, or if that task is well behind its
//! own in virtual time: so shares are fair over all CPUs, and a task stays where it is as long as that is fair.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use realmode::host::{self, IDLE};
use realmode::instructions::timebase;
use sched::{Arrival, CpuSet, Entry, Groups, Pick, Queue, Timing};
use spin::Once;

use crate::cpus;
use crate::partition::TIMEBASE_HZ;
use crate::partitions::Task;
use crate::sync::{Lock, Rank};

/// Each of a few tasks has a turn within 6 ms, of a quarter of a millisecond at least.
const TIMING: Timing =
    Timing { period: TIMEBASE_HZ / 160, min_slice: TIMEBASE_HZ / 4000, max_slice: TIMEBASE_HZ / 100 };

/// CPUs that share a run queue.
struct Domain {
    queue: Lock<Queue<Task>>,
    cpus: CpuSet,
    /// How many tasks wait: others do not lock the queue for nothing.
    waiting: AtomicUsize,
}

struct Domains {
    all: Vec<Domain>,
    /// The domain of each CPU.
    of: Vec<usize>,
    by_core: bool,
}

static DOMAINS: Once<Domains> = Once::new();

/// What a CPU does next.
pub enum Next {
    /// Run this until then.
    Run(Entry<Task>, u64),
    /// Sleep; look again then at the latest.
    Idle(Option<u64>),
}

/// Makes the run queues. `by_core`: threads of a core only ever run one partition at a time.
pub fn init(by_core: bool) {
    DOMAINS.call_once(|| {
        let mut all: Vec<Domain> = Vec::new();
        let mut of = Vec::new();
        for cpu in 0..cpus::count() {
            let core = host::CPUS[cpu].core.load(Ordering::Relaxed) as usize;
            let shared =
                if by_core { all.iter().position(|domain| domain.cpus.contains(core)) } else { None };
            of.push(shared.unwrap_or(all.len()));
            if shared.is_some() {
                continue;
            }
            let threads = if by_core { host::CPUS[cpu].threads.load(Ordering::Relaxed) as usize } else { 1 };
            let cpus: CpuSet = (cpu..cpu + threads).collect();
            let queue = Lock::new(Rank::Queue, Queue::new(cpus, by_core, TIMING));
            all.push(Domain { queue, cpus, waiting: AtomicUsize::new(0) });
        }
        Domains { all, of, by_core }
    });
}

fn domains() -> &'static Domains {
    DOMAINS.get().unwrap_or_else(|| unreachable!("run queues are made before CPUs run anything"))
}

fn own(cpu: usize) -> &'static Domain {
    &domains().all[domains().of[cpu]]
}

/// Do threads of a core share a partition?
pub fn is_by_core() -> bool {
    domains().by_core
}

/// How many tasks wait in a CPU's queue.
pub fn waiting(cpu: usize) -> usize {
    own(cpu).waiting.load(Ordering::Relaxed)
}

impl Domain {
    /// Works on the queue, and keeps the count.
    fn with<R>(&self, work: impl FnOnce(&mut Queue<Task>) -> R) -> R {
        let mut queue = self.queue.lock();
        let result = work(&mut queue);
        self.waiting.store(queue.len(), Ordering::SeqCst);
        result
    }
}

/// What the run queues know of a task.
pub fn entry(task: Task) -> Entry<Task> {
    let vcpu = &task.partition.vcpus[task.server];
    let (weight, allowed) = (task.partition.weight(), task.partition.presence(vcpu).allowed);
    let (group, vtime) = (task.partition.core().lpid.0 as u16, vcpu.vtime.load(Ordering::Relaxed));
    Entry { task, group, weight, allowed, vtime }
}

/// Puts a task that is ready into this CPU's queue.
pub fn enqueue(cpu: usize, entry: Entry<Task>, arrival: Arrival) {
    own(cpu).with(|queue| queue.enqueue(entry, arrival, timebase()));
    spread(cpu);
}

/// Tells an idle CPU that may now run what waits in this CPU's queue. It does not count as idle any more: the next one is told of
/// what comes next.
fn spread(cpu: usize) {
    if waiting(cpu) == 0 || IDLE.any(&CpuSet::ALL).is_none() {
        return;
    }
    let idle = (0..cpus::count()).filter(|other| *other != cpu && IDLE.contains(*other));
    let may_run = |other: &usize| {
        let groups = own(*other).queue.lock().adoptable(*other);
        own(cpu).queue.lock().lowest(*other, |group| groups.contains(group)).is_some()
    };
    if let Some(told) = idle.into_iter().find(may_run) {
        IDLE.set(told, false);
        host::look(cpu, told);
    }
}

/// The CPU's task leaves it: charged for its time.
pub fn leave(cpu: usize, entry: &mut Entry<Task>) {
    own(cpu).with(|queue| queue.leave(cpu, entry, timebase()));
    note(entry);
}

/// Keeps the virtual time with the vCPU, which is longer than the entry is.
fn note(entry: &Entry<Task>) {
    entry.task.partition.vcpus[entry.task.server].vtime.store(entry.vtime, Ordering::Relaxed);
}

/// The CPU's task has not had it for so many ticks of its stay: it is not charged for them.
pub fn excuse(cpu: usize, ticks: u64) {
    own(cpu).queue.lock().excuse(cpu, ticks);
}

/// Should what the CPU runs give way before its time is up?
pub fn give_way(cpu: usize) -> bool {
    own(cpu).queue.lock().give_way(cpu, timebase())
}

/// The CPU's task has used its time up. If nobody is to have the CPU now, it goes on, until the time that is answered; else it has been
/// charged, as by [`leave`].
pub fn go_on(cpu: usize, entry: &mut Entry<Task>) -> Option<u64> {
    let best = best_offer(cpu, Groups::All);
    let later = own(cpu).with(|queue| {
        if let Some((_, floor)) = &best {
            queue.keep_up(*floor);
        }
        queue.go_on(cpu, entry, best.map(|(offer, _)| offer.vtime), timebase())
    });
    note(entry);
    if later.is_some() {
        spread(cpu);
    }
    later
}

/// A task that waits in another domain's queue.
struct Offer {
    /// Whose.
    domain: &'static Domain,
    /// The task's virtual time.
    vtime: u64,
    /// The domain's.
    floor: u64,
}

/// What other domains have for the CPU, of these groups: the next task of each.
fn offers(cpu: usize, groups: Groups) -> impl Iterator<Item = Offer> {
    let others = domains().all.iter().filter(move |domain| !domain.cpus.contains(cpu));
    let others = others.filter(|domain| domain.waiting.load(Ordering::SeqCst) != 0);
    others.filter_map(move |domain| {
        let queue = domain.queue.lock();
        let vtime = queue.lowest(cpu, |group| groups.contains(group))?;
        Some(Offer { domain, vtime, floor: queue.floor() })
    })
}

/// The one of least virtual time; and the least floor of all who offer something.
fn best_offer(cpu: usize, groups: Groups) -> Option<(Offer, u64)> {
    offers(cpu, groups).fold(None, |best: Option<(Offer, u64)>, offer| match best {
        Some((best, floor)) => {
            let floor = floor.min(offer.floor);
            Some((if offer.vtime < best.vtime { offer } else { best }, floor))
        }
        None => {
            let floor = offer.floor;
            Some((offer, floor))
        }
    })
}

/// What this CPU, which runs nothing, does next.
pub fn next(cpu: usize) -> Next {
    let domain = own(cpu);
    let groups = domain.queue.lock().adoptable(cpu);
    let preferred = best_offer(cpu, groups).filter(|(offer, floor)| {
        domain.with(|queue| {
            queue.keep_up(*floor);
            queue.prefers(cpu, offer.vtime)
        })
    });
    match preferred {
        Some((offer, _)) => {
            if let Some(next) = take_from(cpu, offer.domain, groups) {
                return next;
            }
        }
        None if domains().by_core => invite(cpu),
        None => {}
    }
    let (next, kick) = match domain.with(|queue| queue.pick(cpu, timebase())) {
        Pick::Run { entry, until, kick } => (Next::Run(entry, until), kick),
        Pick::Idle { until, kick } => (Next::Idle(until), kick),
    };
    kick.iter().filter(|other| *other != cpu).for_each(|other| host::look(cpu, other));
    spread(cpu);
    next
}

/// Takes the next task of another domain's, if it is still there, and runs it, if its group still may.
fn take_from(cpu: usize, other: &Domain, groups: Groups) -> Option<Next> {
    let entry = other.with(|queue| queue.take(cpu, |group| groups.contains(group)))?;
    let now = timebase();
    own(cpu).with(|queue| match queue.adopt(cpu, &entry, now) {
        Some(until) => Some(Next::Run(entry, until)),
        None => {
            queue.enqueue(entry, Arrival::Preempted, now);
            None
        }
    })
}

/// A core that is ahead of all others takes in a task of another group, to be drained for it.
fn invite(cpu: usize) {
    let Some((offer, _)) = best_offer(cpu, Groups::All) else { return };
    if own(cpu).queue.lock().invites(offer.vtime)
        && let Some(entry) = offer.domain.with(|queue| queue.take(cpu, |_| true))
    {
        own(cpu).with(|queue| queue.enqueue(entry, Arrival::Preempted, timebase()));
    }
}

/// A task that waits in some queue, for the CPU, which runs nothing, to run in another's stead; and until when.
pub fn take(cpu: usize, slot: usize) -> Option<(Entry<Task>, u64)> {
    let is = |task: &Task| task.partition.core().vcpus[task.server].slot == slot;
    let mut busy = domains().all.iter().filter(|domain| domain.waiting.load(Ordering::SeqCst) != 0);
    let entry = busy.find_map(|domain| domain.with(|queue| queue.take_task(is)))?;
    let allowed = entry.allowed.contains(cpu);
    match own(cpu).with(|queue| if allowed { queue.adopt(cpu, &entry, timebase()) } else { None }) {
        Some(until) => Some((entry, until)),
        None => {
            let home = if allowed { cpu } else { entry.allowed.lowest().unwrap_or(cpu) };
            enqueue_at(home, cpu, entry);
            None
        }
    }
}

/// Puts a task into another CPU's queue.
fn enqueue_at(home: usize, cpu: usize, entry: Entry<Task>) {
    own(home).with(|queue| queue.enqueue(entry, Arrival::Preempted, timebase()));
    if home != cpu {
        host::look(cpu, home);
    }
}
