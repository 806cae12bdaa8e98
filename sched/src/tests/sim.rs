//! A machine of CPUs with their queues, in steps of a twentieth of a millisecond, deterministic. It does with the queues what the kernel does,
//! and checks at every step what must hold at all times.

use std::cell::RefCell;
use std::vec::Vec;

use super::{MS, TIMING};
use crate::{Arrival, CpuSet, Entry, Pick, Queue};

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
    /// Since when it has neither work, nor a time at which it looks, nor a kick, while there is something that it may run.
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
        self.queue(cpu).borrow_mut().enqueue(entry, Arrival::New, self.now);
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

    fn wake_sleepers(&mut self) {
        while let Some(at) = self.asleep.iter().position(|(when, _)| *when <= self.now) {
            let (_, entry) = self.asleep.swap_remove(at);
            let life = &mut self.lives[entry.task];
            (life.waits_since, life.just_woken) = (self.now, true);
            let may = |cpu: &usize| entry.allowed.contains(*cpu);
            let idle = |cpu: &usize| self.cpus[*cpu].running.is_none();
            let cpu = (0..self.cpus.len()).filter(may).find(idle).unwrap_or(life.last_cpu);
            self.cpus[cpu].mailbox.push(entry);
            self.cpus[cpu].kicked = true;
        }
    }

    /// What a CPU does when something has rung it, or its time has come.
    fn serve(&mut self, cpu: usize) {
        for entry in core::mem::take(&mut self.cpus[cpu].mailbox) {
            self.queue(cpu).borrow_mut().enqueue(entry, Arrival::Woken, self.now);
        }
        let kicked = core::mem::take(&mut self.cpus[cpu].kicked);
        if let Some((entry, until)) = self.cpus[cpu].running.take() {
            match self.stays(cpu, &entry, until, kicked) {
                true => self.cpus[cpu].running = Some((entry, until)),
                false => self.put_off(cpu, entry),
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

    fn put_off(&mut self, cpu: usize, mut entry: Entry<usize>) {
        self.queue(cpu).borrow_mut().leave(cpu, &mut entry, self.now);
        let life = &mut self.lives[entry.task];
        (life.waits_since, life.last_cpu) = (self.now, cpu);
        match life.does {
            Does::Sleeps { run, sleep } if life.burst >= run => {
                life.burst = 0;
                self.asleep.push((self.now + sleep, entry));
            }
            Does::Yields { after } if life.burst >= after => {
                life.burst = 0;
                self.queue(cpu).borrow_mut().enqueue(entry, Arrival::Yielded, self.now);
            }
            _ => self.queue(cpu).borrow_mut().enqueue(entry, Arrival::Preempted, self.now),
        }
        self.choose(cpu);
    }

    /// Finds a CPU something to run: of another queue if that is further behind than its own.
    fn choose(&mut self, cpu: usize) {
        let own = self.cpus[cpu].domain;
        let may = |group| self.queues[own].borrow().may_adopt(cpu, group);
        let others = (0..self.queues.len()).filter(|domain| *domain != own);
        let offers = others.filter_map(|d| self.queues[d].borrow().lowest(cpu, may).map(|vtime| (vtime, d)));
        let offers: Vec<_> = offers.collect();
        if let Some(floor) = offers.iter().map(|(_, d)| self.queues[*d].borrow().floor()).min() {
            self.queues[own].borrow_mut().keep_up(floor);
        }
        let best = offers.into_iter().min();
        if let Some((_, from)) = best.filter(|(vtime, _)| self.queues[own].borrow().prefers(cpu, *vtime)) {
            let entry = self.queues[from].borrow_mut().take(cpu, may).unwrap();
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
        let others = (0..self.queues.len()).filter(|domain| *domain != own);
        let offers = others.filter_map(|d| Some((self.queues[d].borrow().lowest(cpu, |_| true)?, d)));
        if let Some((vtime, from)) = offers.min()
            && self.queues[own].borrow().invites(vtime)
        {
            let entry = self.queues[from].borrow_mut().take(cpu, |_| true).unwrap();
            self.queues[own].borrow_mut().enqueue(entry, Arrival::Preempted, self.now);
        }
    }

    fn begin(&mut self, cpu: usize, entry: Entry<usize>, until: u64) {
        assert!(entry.allowed.contains(cpu), "runs where it may not");
        assert!(until > self.now && until <= self.now + TIMING.max_slice);
        let life = &mut self.lives[entry.task];
        let waited = self.now - life.waits_since;
        life.longest_wait = life.longest_wait.max(waited);
        if core::mem::take(&mut life.just_woken) {
            life.wakes += 1;
            life.wake_latency += waited;
        }
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
            let offers = self.queue(n).borrow().lowest(n, |_| true).is_some();
            let cpu = &mut self.cpus[n];
            let forgotten = mine.is_none() && cpu.look_at.is_none() && !cpu.kicked && offers;
            let since = *cpu.forgotten_since.get_or_insert(self.now);
            assert!(self.now - since <= 2 * TIMING.max_slice, "CPU {n} idles while something waits");
            if !forgotten {
                cpu.forgotten_since = None;
            }
        }
    }
}
