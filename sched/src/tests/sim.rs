//! A machine of CPUs with their queues, in steps of a twentieth of a millisecond, deterministic. It does with the queues what the kernel does,
//! and checks at every step what must hold at all times.

use std::cell::RefCell;
use std::vec::Vec;

use super::{MS, TIMING};
use crate::{Arrival, CpuSet, Entry, Groups, Pick, Queue};

/// Time from one step to the next.
pub(crate) const STEP: u64 = MS / 20;

/// What a task does with its time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Computes.
    Hog,
    /// Computes for so long, then sleeps for so long.
    Sleeps { run: u64, sleep: u64 },
    /// Gives its time away after so long, again and again.
    Yields { after: u64 },
}

/// A task to be simulated.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) group: u16,
    pub(crate) weight: u32,
    pub(crate) allowed: CpuSet,
    pub(crate) does: Does,
}

/// One that computes, of weight 100, that may run anywhere.
pub(crate) fn hog(group: u16) -> Task {
    Task { group, weight: 100, allowed: CpuSet::ALL, does: Does::Hog }
}

struct Life {
    does: Does,
    /// CPU time in all, and since it last slept or gave way.
    got: u64,
    burst: u64,
    /// It waits, or was woken, since.
    waits_since: u64,
    longest_wait: u64,
    wakes: u64,
    wake_latency: u64,
    just_woken: bool,
    last_cpu: usize,
}

#[derive(Default)]
struct Cpu {
    domain: usize,
    running: Option<(Entry<usize>, u64)>,
    look_at: Option<u64>,
    kicked: bool,
    mailbox: Vec<Entry<usize>>,
    /// Since when it has neither work, nor a time at which it looks, nor a kick, while there is something that it may run now.
    forgotten_since: Option<u64>,
}

pub(crate) struct Sim {
    queues: Vec<RefCell<Queue<usize>>>,
    one_group: bool,
    cpus: Vec<Cpu>,
    lives: Vec<Life>,
    asleep: Vec<(u64, Entry<usize>)>,
    pub(crate) now: u64,
}

impl Sim {
    /// Cores of so many threads. With `one_group` a core is a domain, otherwise each thread is.
    pub(crate) fn new(cores: usize, threads: usize, one_group: bool) -> Sim {
        let (domains, each) = if one_group { (cores, threads) } else { (cores * threads, 1) };
        let cpus_of = |d: usize| (d * each..(d + 1) * each).collect::<CpuSet>();
        let queues = (0..domains).map(|d| RefCell::new(Queue::new(cpus_of(d), one_group, TIMING)));
        let cpu = |c: usize| Cpu { domain: c / each, look_at: Some(0), ..Cpu::default() };
        Sim {
            queues: queues.collect(),
            one_group,
            cpus: (0..domains * each).map(cpu).collect(),
            lives: Vec::new(),
            asleep: Vec::new(),
            now: MS,
        }
    }

    /// A new task; all of them go to the first CPU that they may run on.
    pub(crate) fn add(&mut self, task: Task) -> usize {
        let cpu = task.allowed.iter().find(|cpu| *cpu < self.cpus.len()).unwrap();
        let id = self.lives.len();
        self.lives.push(Life {
            does: task.does,
            got: 0,
            burst: 0,
            waits_since: self.now,
            longest_wait: 0,
            wakes: 0,
            wake_latency: 0,
            just_woken: false,
            last_cpu: cpu,
        });
        let vtime = self.queues.iter().map(|queue| queue.borrow().floor()).min().unwrap();
        let entry = Entry { task: id, group: task.group, weight: task.weight, allowed: task.allowed, vtime };
        self.enqueue(cpu, entry, Arrival::New);
        self.cpus[cpu].kicked = true;
        id
    }

    /// CPU time that a task has had.
    pub(crate) fn got(&self, task: usize) -> u64 {
        self.lives[task].got
    }

    /// The longest that a task has waited for a CPU.
    pub(crate) fn longest_wait(&self, task: usize) -> u64 {
        self.lives[task].longest_wait
    }

    /// From waking to running, on average.
    pub(crate) fn mean_latency(&self, task: usize) -> u64 {
        self.lives[task].wake_latency / self.lives[task].wakes.max(1)
    }

    /// What a task does from now on.
    pub(crate) fn change(&mut self, task: usize, does: Does) {
        self.lives[task].does = does;
    }

    fn queue(&self, cpu: usize) -> &RefCell<Queue<usize>> {
        &self.queues[self.cpus[cpu].domain]
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: u64) {
        let end = self.now + time;
        while self.now < end {
            self.wake_sleepers();
            (0..self.cpus.len()).for_each(|cpu| self.serve(cpu));
            self.check();
            self.now += STEP;
            for cpu in &self.cpus {
                if let Some((entry, _)) = &cpu.running {
                    self.lives[entry.task].got += STEP;
                    self.lives[entry.task].burst += STEP;
                }
            }
        }
    }

    /// The timer of the CPU where it ran last wakes every second task, and somebody who looks for an idle CPU the others.
    fn wake_sleepers(&mut self) {
        while let Some(at) = self.asleep.iter().position(|(when, _)| *when <= self.now) {
            let (_, entry) = self.asleep.swap_remove(at);
            let life = &mut self.lives[entry.task];
            (life.waits_since, life.just_woken) = (self.now, true);
            let may = |cpu: &usize| entry.allowed.contains(*cpu);
            let idle = |cpu: &usize| self.cpus[*cpu].running.is_none();
            let by_timer = entry.task % 2 == 0;
            let chosen = (0..self.cpus.len()).filter(may).find(idle).filter(|_| !by_timer);
            let cpu = chosen.unwrap_or(life.last_cpu);
            self.cpus[cpu].mailbox.push(entry);
            self.cpus[cpu].kicked = true;
        }
    }

    /// What a CPU does when something has rung it, or its time has come.
    fn serve(&mut self, cpu: usize) {
        for entry in core::mem::take(&mut self.cpus[cpu].mailbox) {
            self.enqueue(cpu, entry, Arrival::Woken);
        }
        let kicked = core::mem::take(&mut self.cpus[cpu].kicked);
        if let Some((entry, until)) = self.cpus[cpu].running.take() {
            match self.stays(cpu, &entry, until, kicked) {
                true => self.cpus[cpu].running = Some((entry, until)),
                false => self.put_off(cpu, entry, until),
            }
        } else if kicked || self.cpus[cpu].look_at.is_some_and(|at| at <= self.now) {
            self.choose(cpu);
        }
    }

    fn stays(&self, cpu: usize, entry: &Entry<usize>, until: u64, kicked: bool) -> bool {
        let life = &self.lives[entry.task];
        let over = match life.does {
            Does::Hog => false,
            Does::Sleeps { run, .. } => life.burst >= run,
            Does::Yields { after } => life.burst >= after,
        };
        !over && self.now < until && !(kicked && self.queue(cpu).borrow().give_way(cpu, self.now))
    }

    /// Its time is up, or it is to leave before that.
    fn put_off(&mut self, cpu: usize, mut entry: Entry<usize>, until: u64) {
        let life = &mut self.lives[entry.task];
        let arrival = match life.does {
            Does::Sleeps { run, .. } if life.burst >= run => None,
            Does::Yields { after } if life.burst >= after => Some(Arrival::Yielded),
            _ => Some(Arrival::Preempted),
        };
        if arrival != Some(Arrival::Preempted) {
            life.burst = 0;
        } else if self.now >= until
            && let Some(later) = self.goes_on(cpu, &mut entry)
        {
            self.occupy(cpu, entry, later);
            return self.spread(cpu);
        }
        self.queue(cpu).borrow_mut().leave(cpu, &mut entry, self.now);
        let life = &mut self.lives[entry.task];
        (life.waits_since, life.last_cpu) = (self.now, cpu);
        match (arrival, life.does) {
            (None, Does::Sleeps { sleep, .. }) => self.asleep.push((self.now + sleep, entry)),
            _ => self.enqueue(cpu, entry, arrival.unwrap_or(Arrival::Preempted)),
        }
        self.choose(cpu);
    }

    /// Until when a task goes on whose time is up. If it does not, it has left.
    fn goes_on(&self, cpu: usize, entry: &mut Entry<usize>) -> Option<u64> {
        let (best, floor) = self.offers(cpu, Groups::All);
        let mut own = self.queue(cpu).borrow_mut();
        own.keep_up(floor);
        own.go_on(cpu, entry, best.map(|(vtime, _)| vtime), self.now)
    }

    /// Puts a task into a CPU's queue. A CPU that runs nothing chooses afterwards.
    fn enqueue(&mut self, cpu: usize, entry: Entry<usize>, arrival: Arrival) {
        self.queue(cpu).borrow_mut().enqueue(entry, arrival, self.now);
        if self.queue(cpu).borrow().running(cpu).is_some() {
            self.spread(cpu);
        }
    }

    /// Tells idle CPUs that may now run what waits in a CPU's queue: no more than there are tasks.
    fn spread(&mut self, cpu: usize) {
        let own = self.queue(cpu).borrow();
        let idle =
            |other: &usize| *other != cpu && self.cpus[*other].running.is_none() && !self.cpus[*other].kicked;
        let may_run = |other: &usize| {
            let groups = self.queue(*other).borrow().adoptable(*other);
            own.lowest(*other, |group| groups.contains(group)).is_some()
        };
        let told = (0..self.cpus.len()).filter(idle).filter(may_run).take(own.len()).collect::<Vec<_>>();
        drop(own);
        told.into_iter().for_each(|other| self.cpus[other].kicked = true);
    }

    /// What the other queues have for a CPU, of these groups: the least virtual time, and whose; and the least floor of those who have something.
    fn offers(&self, cpu: usize, groups: Groups) -> (Option<(u64, usize)>, u64) {
        let others = (0..self.queues.len()).filter(|domain| *domain != self.cpus[cpu].domain);
        let lowest =
            |domain: &usize| self.queues[*domain].borrow().lowest(cpu, |group| groups.contains(group));
        let offers: Vec<_> = others.filter_map(|domain| Some((lowest(&domain)?, domain))).collect();
        let floor = offers.iter().map(|(_, domain)| self.queues[*domain].borrow().floor()).min();
        (offers.into_iter().min(), floor.unwrap_or(0))
    }

    /// Finds a CPU something to run, and tells others of what it leaves.
    fn choose(&mut self, cpu: usize) {
        self.next(cpu);
        self.spread(cpu);
    }

    /// What another queue has if that is further behind than its own.
    fn next(&mut self, cpu: usize) {
        let own = self.cpus[cpu].domain;
        let groups = self.queues[own].borrow().adoptable(cpu);
        let (best, floor) = self.offers(cpu, groups);
        self.queues[own].borrow_mut().keep_up(floor);
        if let Some((_, from)) = best.filter(|(vtime, _)| self.queues[own].borrow().prefers(cpu, *vtime)) {
            let entry = self.queues[from].borrow_mut().take(cpu, |group| groups.contains(group)).unwrap();
            let until = self.queues[own].borrow_mut().adopt(cpu, &entry, self.now);
            match until {
                Some(until) => return self.begin(cpu, entry, until),
                None => self.queues[own].borrow_mut().enqueue(entry, Arrival::Preempted, self.now),
            }
        } else {
            self.invite(cpu);
        }
        let pick = self.queues[own].borrow_mut().pick(cpu, self.now);
        let kick = match pick {
            Pick::Run { entry, until, kick } => {
                self.begin(cpu, entry, until);
                kick
            }
            Pick::Idle { until, kick } => {
                assert!(until.is_none_or(|until| until > self.now));
                self.cpus[cpu].look_at = until;
                kick
            }
        };
        for other in kick.iter() {
            assert!(other != cpu && self.cpus[other].domain == own, "kicks a CPU of another domain");
            self.cpus[other].kicked = true;
        }
    }

    /// A core that is ahead of all others takes in a task of another group, to be drained for it.
    fn invite(&mut self, cpu: usize) {
        let own = self.cpus[cpu].domain;
        if let (Some((vtime, from)), _) = self.offers(cpu, Groups::All)
            && self.queues[own].borrow().invites(vtime)
        {
            let entry = self.queues[from].borrow_mut().take(cpu, |_| true).unwrap();
            self.queues[own].borrow_mut().enqueue(entry, Arrival::Preempted, self.now);
        }
    }

    fn begin(&mut self, cpu: usize, entry: Entry<usize>, until: u64) {
        let life = &mut self.lives[entry.task];
        let waited = self.now - life.waits_since;
        life.longest_wait = life.longest_wait.max(waited);
        if core::mem::take(&mut life.just_woken) {
            life.wakes += 1;
            life.wake_latency += waited;
        }
        self.occupy(cpu, entry, until);
    }

    fn occupy(&mut self, cpu: usize, entry: Entry<usize>, until: u64) {
        assert!(entry.allowed.contains(cpu), "runs where it may not");
        assert!(until > self.now && until <= self.now + TIMING.max_slice);
        self.cpus[cpu].running = Some((entry, until));
    }

    /// What holds at all times.
    fn check(&mut self) {
        let mut places = vec![0; self.lives.len()];
        let on_cpus = self.cpus.iter().flat_map(|cpu| cpu.running.iter().map(|(e, _)| e).chain(&cpu.mailbox));
        on_cpus.chain(self.asleep.iter().map(|(_, e)| e)).for_each(|e| places[e.task] += 1);
        let waiting: usize = self.queues.iter().map(|queue| queue.borrow().len()).sum();
        assert!(places.iter().all(|n| *n <= 1), "a task is in two places");
        assert_eq!(places.iter().sum::<usize>() + waiting, self.lives.len(), "a task is lost");

        for n in 0..self.cpus.len() {
            let domain = self.cpus[n].domain;
            let group = |cpu: &Cpu| cpu.running.as_ref().map(|(entry, _)| entry.group);
            let mine = group(&self.cpus[n]);
            assert_eq!(self.queue(n).borrow().running(n), mine);
            if self.one_group && mine.is_some() {
                let mut siblings = self.cpus.iter().filter(|cpu| cpu.domain == domain).filter_map(group);
                assert!(siblings.all(|group| Some(group) == mine), "two groups on a core");
            }
            let cpu = &self.cpus[n];
            let unattended = mine.is_none() && cpu.look_at.is_none() && !cpu.kicked;
            let forgotten = unattended && self.could_run(n);
            let since = forgotten.then(|| cpu.forgotten_since.unwrap_or(self.now));
            assert!(
                since.is_none_or(|since| self.now - since <= 2 * TIMING.max_slice),
                "CPU {n} is forgotten"
            );
            self.cpus[n].forgotten_since = since;
        }
    }

    /// Does something wait that a CPU, which runs nothing, may run now: here or elsewhere; or in its core, of which no thread runs
    /// anything, whosever turn it is?
    fn could_run(&self, cpu: usize) -> bool {
        let domain = self.cpus[cpu].domain;
        let free = self.cpus.iter().all(|cpu| cpu.domain != domain || cpu.running.is_none());
        let own = self.queues[domain].borrow();
        let groups = own.adoptable(cpu);
        own.lowest(cpu, |group| free || groups.contains(group)).is_some()
            || self.offers(cpu, groups).0.is_some()
    }
}
