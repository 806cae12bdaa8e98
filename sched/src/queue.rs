//! The run queue of a domain: one CPU, or all threads of a core that have to share a partition.
//!
//! Each task has a *virtual time*, which advances while it runs, the slower the greater its weight. Who has the least is next; so all get CPU time
//! in proportion to their weights. The queues of a machine have one virtual clock, so a CPU can compare what other queues
//! offer with its own. When it runs nothing it does this:
//!
//! 1. It asks the other queues what they have for it, of the groups that it [may adopt](Queue::may_adopt): [`Queue::lowest`].
//! 2. It lets its own queue [keep up](Queue::keep_up) with the least floor of those that have something.
//! 3. If its own [prefers](Queue::prefers) the least offer, it [takes](Queue::take) and [adopts](Queue::adopt) that.
//! 4. Otherwise, in a domain of one group at a time, it may move a task of any group here: [`Queue::invites`].
//! 5. It [picks](Queue::pick).
//!
//! At the end of a slice it does the first two, for all groups, and may then let its task [go on](Queue::go_on).
//!
//! Idle CPUs do not look by themselves. What waits in its queue a CPU tells to those that [may adopt](Queue::may_adopt) it: once it knows
//! what it runs itself, when something comes while it runs, and when its task goes on.
//!
//! # Limits
//! - Who has slept is put a little behind the [`floor`](Queue::floor), and no more: it is served soon, and has hoarded nothing.
//! - A task comes to a queue at most [`LAG`] slices behind its floor, and at most that and one slice of its own ahead. So whatever a
//!   task brings from elsewhere, it neither keeps a CPU for long nor waits for long.
//! - [`Queue::keep_up`] does the same for a whole queue that is far behind another.
//!
//! # One group at a time
//! In such a domain a group has the core for a turn of one greatest slice. When it is over and a task of another group is next, nothing
//! is handed out any more and [`Queue::give_way`] is true, until the last thread has left. Whoever picks then elects the group of
//! the task that is next, and kicks the idle threads. A thread that idles while something waits that it may run has
//! a time at which it looks again, or is kicked by that election.

use alloc::vec::Vec;

use crate::cpuset::CpuSet;
use crate::turn::{Stage, Turn};

/// A task that can run.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The kernel's handle of it.
    pub task: T,
    /// Its partition: an LPID.
    pub group: u16,
    /// Its share of the CPUs among all others', from 1 to 10000; 100 is normal, and 0 counts as 1.
    pub weight: u32,
    /// The CPUs that may run it.
    pub allowed: CpuSet,
    /// The CPU time that it has had, in ticks of a task of weight 100.
    pub vtime: u64,
}

/// How a task comes to a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It has never run.
    New,
    /// It has slept.
    Woken,
    /// Its time was up, or it comes from another queue.
    Preempted,
    /// It has given its time away.
    Yielded,
}

/// For how long tasks run, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// In this time each task of a queue should have a turn.
    pub period: u64,
    /// The least time that a task gets, though there be many.
    pub min_slice: u64,
    /// The greatest.
    pub max_slice: u64,
}

/// What a CPU is to do.
#[derive(Clone, Debug)]
pub enum Pick<T> {
    /// Run this.
    Run {
        /// The task, which is no longer in the queue.
        entry: Entry<T>,
        /// When it is to leave at the latest.
        until: u64,
        /// CPUs of the domain that are to look again.
        kick: CpuSet,
    },
    /// There is nothing that it may run now.
    Idle {
        /// When it is to pick again at the latest; `None`: when it is kicked, or something new comes.
        until: Option<u64>,
        /// CPUs of the domain that are to look again.
        kick: CpuSet,
    },
}

/// Some of all groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Groups {
    /// Every one.
    All,
    /// This one.
    Only(u16),
    /// None.
    None,
}

impl Groups {
    /// Is it one of them?
    pub fn contains(self, group: u16) -> bool {
        match self {
            Groups::All => true,
            Groups::Only(one) => one == group,
            Groups::None => false,
        }
    }
}

/// How far behind the floor a task may be, and how far a queue behind another, in greatest slices.
const LAG: u64 = 10;

/// One that waits.
#[derive(Debug)]
struct Waiting<T> {
    entry: Entry<T>,
    /// In the order of arrival.
    ticket: u64,
    /// It need not wait for the end of a slice.
    eager: bool,
}

impl<T> Waiting<T> {
    /// The least is next.
    fn rank(&self) -> (u64, u64) {
        (self.entry.vtime, self.ticket)
    }
}

/// One that runs.
#[derive(Debug)]
struct Running {
    cpu: usize,
    group: u16,
    weight: u32,
    /// Its virtual time when it began.
    vtime: u64,
    since: u64,
}

impl Running {
    fn vtime_at(&self, now: u64) -> u64 {
        self.vtime.saturating_add(charge(now.saturating_sub(self.since), self.weight))
    }
}

/// The virtual time of so many ticks.
fn charge(ticks: u64, weight: u32) -> u64 {
    let virtual_ticks = u128::from(ticks) * 100 / u128::from(weight.max(1));
    u64::try_from(virtual_ticks).unwrap_or(u64::MAX)
}

/// The same, but never more than the ticks themselves: for credits, which should not be a long time for heavy tasks,
/// nor a great part of the virtual time for light ones.
fn credit(ticks: u64, weight: u32) -> u64 {
    charge(ticks, weight.max(100))
}

/// The run queue of a domain.
#[derive(Debug)]
pub struct Queue<T> {
    cpus: CpuSet,
    timing: Timing,
    waiting: Vec<Waiting<T>>,
    running: Vec<Running>,
    floor: u64,
    next_ticket: u64,
    one_group: bool,
    /// Only with `one_group`.
    turn: Option<Turn>,
}

impl<T> Queue<T> {
    /// Of these CPUs, and empty. With `one_group` they never run tasks of two groups at once.
    pub fn new(cpus: CpuSet, one_group: bool, timing: Timing) -> Queue<T> {
        let (waiting, running) = (Vec::new(), Vec::new());
        Queue { cpus, timing, waiting, running, floor: 0, next_ticket: 0, one_group, turn: None }
    }

    /// A task comes. It is not on a CPU.
    pub fn enqueue(&mut self, mut entry: Entry<T>, arrival: Arrival, now: u64) {
        self.advance(now);
        if self.waiting.is_empty() && self.running.is_empty() {
            self.floor = self.floor.max(entry.vtime);
        }
        let eager = matches!(arrival, Arrival::New | Arrival::Woken);
        if eager {
            let bonus = credit(self.timing.min_slice, entry.weight);
            entry.vtime = entry.vtime.max(self.floor.saturating_sub(bonus));
        }
        if arrival == Arrival::Yielded
            && let Some(last) = self.waiting.iter().map(|w| w.entry.vtime).max()
        {
            entry.vtime = entry.vtime.max(last.saturating_add(1));
        }
        entry.vtime = self.settled(entry.vtime, entry.weight);
        self.waiting.push(Waiting { entry, ticket: self.next_ticket, eager });
        self.next_ticket += 1;
        self.advance(now);
    }

    /// What a CPU is to run, which runs nothing now.
    pub fn pick(&mut self, cpu: usize, now: u64) -> Pick<T> {
        self.running.retain(|run| run.cpu != cpu);
        self.advance(now);
        if self.one_group {
            self.change_turns(now);
        }
        if self.turn.is_some_and(|turn| turn.is_draining()) {
            return Pick::Idle { until: None, kick: self.running.iter().map(|run| run.cpu).collect() };
        }
        match self.next(|entry| entry.allowed.contains(cpu) && self.has_turn(entry.group)) {
            Some(at) => {
                let entry = self.waiting.swap_remove(at).entry;
                let until = self.start(cpu, &entry, now);
                Pick::Run { entry, until, kick: self.idle_with_work(cpu) }
            }
            None => {
                let later = self.waiting.iter().any(|w| w.entry.allowed.contains(cpu));
                let until = self.turn.filter(|_| later).map(|turn| self.end_of(&turn, now));
                Pick::Idle { until, kick: self.idle_with_work(cpu) }
            }
        }
    }

    /// What runs on a CPU leaves it, and is charged for its time. The caller enqueues it, here or elsewhere, or keeps it while it sleeps.
    pub fn leave(&mut self, cpu: usize, entry: &mut Entry<T>, now: u64) {
        self.advance(now);
        let Some(at) = self.running.iter().position(|run| run.cpu == cpu) else { return };
        entry.vtime = self.running.swap_remove(at).vtime_at(now);
        if self.running.is_empty() {
            self.turn = self.turn.filter(|turn| turn.stage != Stage::Held);
        }
    }

    /// What runs on a CPU has not had it for so many ticks since the last time it was charged: somebody else was served meanwhile.
    pub fn excuse(&mut self, cpu: usize, ticks: u64) {
        if let Some(run) = self.running.iter_mut().find(|run| run.cpu == cpu) {
            run.since = run.since.saturating_add(ticks);
        }
    }

    /// Should what runs on a CPU leave before its time is up? For a task that has come since and is well behind it in virtual time, or because
    /// another group's turn has come.
    pub fn give_way(&self, cpu: usize, now: u64) -> bool {
        let Some(run) = self.running.iter().find(|run| run.cpu == cpu) else { return false };
        if self.turn.is_some_and(|turn| turn.is_draining()) || self.is_turn_over(now) {
            return true;
        }
        let vtime = run.vtime_at(now);
        self.waiting.iter().filter(|w| w.eager).map(|w| &w.entry).any(|entry| {
            let margin = credit(self.timing.min_slice / 2, entry.weight);
            entry.allowed.contains(cpu)
                && self.has_turn(entry.group)
                && entry.vtime.saturating_add(margin) < vtime
        })
    }

    /// The least virtual time of what waits here, is of one of these groups, and may run on a CPU, of this domain or another.
    pub fn lowest(&self, cpu: usize, groups: impl Fn(u16) -> bool) -> Option<u64> {
        let at = self.next(|entry| entry.allowed.contains(cpu) && groups(entry.group))?;
        self.waiting.get(at).map(|w| w.entry.vtime)
    }

    /// Takes that one out.
    pub fn take(&mut self, cpu: usize, groups: impl Fn(u16) -> bool) -> Option<Entry<T>> {
        let at = self.next(|entry| entry.allowed.contains(cpu) && groups(entry.group))?;
        Some(self.waiting.swap_remove(at).entry)
    }

    /// Takes a certain task out, if it waits here.
    pub fn take_task(&mut self, wanted: impl Fn(&T) -> bool) -> Option<Entry<T>> {
        let at = self.next(|entry| wanted(&entry.task))?;
        Some(self.waiting.swap_remove(at).entry)
    }

    /// A CPU of this domain, which runs nothing, is about to run a task that was taken out of a queue. Answers when it is to leave at the latest;
    /// `None` if its group may not run here now: then the caller enqueues it.
    pub fn adopt(&mut self, cpu: usize, entry: &Entry<T>, now: u64) -> Option<u64> {
        self.running.retain(|run| run.cpu != cpu);
        if !self.may_adopt(cpu, entry.group) || self.is_turn_over(now) {
            return None;
        }
        self.advance(now);
        if self.waiting.is_empty() && self.running.is_empty() {
            self.floor = self.floor.max(entry.vtime);
        }
        Some(self.start(cpu, entry, now))
    }

    /// May a CPU of this domain, which runs nothing, run a task of this group that was taken out of a queue?
    pub fn may_adopt(&self, cpu: usize, group: u16) -> bool {
        self.adoptable(cpu).contains(group)
    }

    /// The groups whose tasks a CPU of this domain, which runs nothing, may run if they were taken out of a queue.
    pub fn adoptable(&self, cpu: usize) -> Groups {
        let Some(turn) = self.turn else { return Groups::All };
        let mine = Groups::Only(turn.group);
        if self.running.iter().any(|run| run.cpu != cpu) {
            return if turn.is_draining() { Groups::None } else { mine };
        }
        match turn.stage {
            Stage::Held => Groups::All,
            // An idle thread may have been promised that whoever picks kicks it.
            Stage::Draining if self.waiting.is_empty() => Groups::All,
            Stage::Draining => Groups::None,
            Stage::Promised if self.waiting.iter().any(|w| w.entry.group == turn.group) => mine,
            Stage::Promised => Groups::All,
        }
    }

    /// Should a CPU of this domain, which runs nothing, run a task of another queue with this virtual time, and of a group that
    /// it [may adopt](Queue::may_adopt), rather than one of this queue?
    pub fn prefers(&self, cpu: usize, vtime: u64) -> bool {
        self.least_rival(cpu).is_none_or(|mine| vtime.saturating_add(self.margin()) < mine)
    }

    /// The time of what runs on a CPU is up, and it leaves, as by [`leave`](Queue::leave). If nothing that waits is to have the CPU now, neither
    /// here nor in other queues, where `elsewhere` is the least virtual time of what they have for it, it goes on: until the time
    /// that is answered.
    pub fn go_on(
        &mut self,
        cpu: usize,
        entry: &mut Entry<T>,
        elsewhere: Option<u64>,
        now: u64,
    ) -> Option<u64> {
        self.leave(cpu, entry, now);
        let behind = self.least_rival(cpu).is_some_and(|mine| mine <= entry.vtime)
            || elsewhere.is_some_and(|vtime| vtime.saturating_add(self.margin()) < entry.vtime);
        if behind { None } else { self.adopt(cpu, entry, now) }
    }

    /// Should a task of another queue with this virtual time be moved here, though its group may not run here now? Otherwise
    /// a group that always has a thread running would keep a core for ever, whoever waits for others.
    pub fn invites(&self, vtime: u64) -> bool {
        let least = self.waiting.iter().map(|w| w.entry.vtime).fold(self.floor, u64::min);
        self.one_group && vtime.saturating_add(self.margin()) < least
    }

    /// The virtual time of the domain: the least of what runs or waits when a task last came or went. It never goes back.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Carries all tasks of the domain along if it is far behind another one's floor: the least of those where something waits that could run here.
    ///
    /// Tasks that have a CPU to themselves fall behind without end when their weights entitle them to more than one CPU. When that
    /// changes they would not share what they have until they have caught up.
    pub fn keep_up(&mut self, floor: u64) {
        let least = floor.saturating_sub(self.lag(100));
        let missing = least.saturating_sub(self.floor);
        self.floor += missing;
        let waiting = self.waiting.iter_mut().map(|w| &mut w.entry.vtime);
        let running = self.running.iter_mut().map(|run| &mut run.vtime);
        waiting.chain(running).for_each(|vtime| *vtime = vtime.saturating_add(missing));
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The group of what runs on a CPU of the domain.
    pub fn running(&self, cpu: usize) -> Option<u16> {
        self.running.iter().find(|run| run.cpu == cpu).map(|run| run.group)
    }

    /// Where in `waiting` the next of these is.
    fn next(&self, which: impl Fn(&Entry<T>) -> bool) -> Option<usize> {
        let these = self.waiting.iter().enumerate().filter(|(_, w)| which(&w.entry));
        these.min_by_key(|(_, w)| w.rank()).map(|(at, _)| at)
    }

    /// The least virtual time of what waits here and would be kept waiting if a CPU, which runs nothing, ran a task that is not in this queue.
    /// If the whole domain is free, what only other CPUs of it may run counts, too: its group could not have the core any more.
    fn least_rival(&self, cpu: usize) -> Option<u64> {
        let free = self.running.iter().all(|run| run.cpu == cpu);
        let could_run =
            |entry: &Entry<T>| if free { self.is_ours(entry) } else { entry.allowed.contains(cpu) };
        let at = self.next(|entry| could_run(entry) && self.may_adopt(cpu, entry.group))?;
        self.waiting.get(at).map(|w| w.entry.vtime)
    }

    /// Raises the floor to what it is by now.
    fn advance(&mut self, now: u64) {
        let waiting = self.waiting.iter().map(|w| w.entry.vtime);
        let running = self.running.iter().map(|run| run.vtime_at(now));
        if let Some(least) = waiting.chain(running).min() {
            self.floor = self.floor.max(least);
        }
    }

    /// How far ahead of another queue this one must be before a task changes over. Less would move tasks about, more would be unfair.
    fn margin(&self) -> u64 {
        self.timing.min_slice.saturating_mul(2)
    }

    fn lag(&self, weight: u32) -> u64 {
        credit(self.timing.max_slice.saturating_mul(LAG), weight)
    }

    /// A virtual time within the limits of this domain.
    fn settled(&self, vtime: u64, weight: u32) -> u64 {
        let lead = self.lag(100).saturating_add(charge(self.timing.max_slice, weight));
        vtime.clamp(self.floor.saturating_sub(self.lag(weight)), self.floor.saturating_add(lead))
    }

    /// A CPU begins to run a task; answers when it is to leave.
    fn start(&mut self, cpu: usize, entry: &Entry<T>, now: u64) -> u64 {
        let vtime = self.settled(entry.vtime, entry.weight);
        let alone = self.running.is_empty();
        self.running.push(Running { cpu, group: entry.group, weight: entry.weight, vtime, since: now });
        let tasks = self.waiting.len() + self.running.len();
        let rounds = tasks.div_ceil(self.cpus.len().max(1)).max(1) as u64;
        let Timing { period, min_slice, max_slice } = self.timing;
        let until = now.saturating_add((period / rounds).max(min_slice).min(max_slice));
        if !self.one_group {
            return until;
        }
        let since = self.turn.filter(|_| !alone).map_or(now, |turn| turn.since);
        let turn = Turn { group: entry.group, since, stage: Stage::Held };
        self.turn = Some(turn);
        if self.others_wait(&turn) { until.min(self.end_of(&turn, now)) } else { until }
    }

    /// May tasks of this group be handed out now?
    fn has_turn(&self, group: u16) -> bool {
        self.turn.is_none_or(|turn| turn.group == group)
    }

    /// When a turn ends, or a little later if it should have ended before.
    fn end_of(&self, turn: &Turn, now: u64) -> u64 {
        let end = turn.since.saturating_add(self.timing.max_slice);
        end.max(now.saturating_add(self.timing.min_slice))
    }

    /// Could any CPU of the domain run it?
    fn is_ours(&self, entry: &Entry<T>) -> bool {
        !entry.allowed.and(&self.cpus).is_empty()
    }

    fn others_wait(&self, turn: &Turn) -> bool {
        self.waiting.iter().any(|w| w.entry.group != turn.group && self.is_ours(&w.entry))
    }

    /// Has a group that runs had its time, and is another one next?
    fn is_turn_over(&self, now: u64) -> bool {
        let Some(turn) = self.turn.filter(|_| !self.running.is_empty()) else { return false };
        let head = self.next(|entry| self.is_ours(entry)).and_then(|at| self.waiting.get(at));
        head.is_some_and(|w| {
            w.entry.group != turn.group
                && now.saturating_sub(turn.since) >= self.timing.max_slice
                && self.running.iter().all(|run| run.vtime_at(now) >= w.entry.vtime)
        })
    }

    /// Brings the turn up to date for a CPU that picks: elects a group, or ends the turn.
    fn change_turns(&mut self, now: u64) {
        if self.running.is_empty() {
            let head = self.next(|entry| self.is_ours(entry)).and_then(|at| self.waiting.get(at));
            self.turn = head.map(|w| Turn::elected(w.entry.group, now));
        } else if let Some(mut turn) = self.turn {
            let over = turn.is_draining() || self.is_turn_over(now);
            turn.stage = if over && self.others_wait(&turn) { Stage::Draining } else { Stage::Held };
            self.turn = Some(turn);
        }
    }

    /// The CPUs besides this one that run nothing and might run something that waits.
    fn idle_with_work(&self, cpu: usize) -> CpuSet {
        let idle = |other: &usize| *other != cpu && self.running(*other).is_none();
        let waiting = self.waiting.iter().map(|w| &w.entry).filter(|entry| self.has_turn(entry.group));
        let work = |other: &usize| waiting.clone().any(|entry| entry.allowed.contains(*other));
        self.cpus.iter().filter(idle).filter(work).collect()
    }
}
