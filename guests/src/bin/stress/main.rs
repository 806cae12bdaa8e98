//! A program for Linux that makes work for a hypervisor's page table code, on every processor at once, and checks every
//! page that it has: `stress SECONDS [OPTION=N]…`. Without a library, so that it needs nothing but a kernel.
//!
//! Each processor has a process that stays on it and one that moves about. They map, unmap, protect and move memory
//! ([`memory`]), fork, share memory with others ([`sharing`]), talk through pipes, and get signals all the time. It ends with
//! `stress: ok …` and status 0, or at the first thing that is wrong with `stress: BAD …` and status 1.
//!
//! Options: `workers`, how many processes if not two for each processor; `rounds`, of each of them, after which work ends early;
//! `seed`, on which depends what is done and what stands in memory; `hold`, MiB that are held all the time and looked at again and
//! again ([`hold`]).
#![no_std]
#![no_main]

mod hold;
mod memory;
mod sharing;
mod sys;

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use hold::Held;
use memory::{Memory, Random};
use sys::{SIGSEGV, SIGUSR1, bad};

const MOST_WORKERS: usize = 32;
/// Of the timebase.
const SECOND: u64 = 512_000_000;

static SIGNALS: AtomicU64 = AtomicU64::new(0);

fn on_signal(signal: usize, address: usize, next: &mut usize) {
    if signal == SIGUSR1 {
        SIGNALS.fetch_add(1, SeqCst);
    } else if sharing::to_try_again(address) {
        sys::relax();
    } else if signal == SIGSEGV && memory::meant_to_fail(address) {
        *next += 4;
    } else {
        bad(format_args!("signal {signal} for {address:#x}, instruction {:#x}", *next));
    }
}

/// What workers tell the first process, in memory that they share: four counters each.
#[derive(Clone, Copy)]
struct Counters(usize);

#[derive(Clone, Copy)]
enum Count {
    Rounds,
    Forks,
    Reads,
    Signals,
}

impl Counters {
    const NAMES: [(&str, Count); 4] = [
        ("rounds", Count::Rounds),
        ("forks", Count::Forks),
        ("reads", Count::Reads),
        ("signals", Count::Signals),
    ];

    fn add(self, worker: usize, count: Count, n: u64) {
        let at = self.0 + (worker * Self::NAMES.len() + count as usize) * 8;
        sys::store(at, sys::load(at) + n);
    }

    fn sum(self, count: Count) -> u64 {
        (0..MOST_WORKERS).map(|w| sys::load(self.0 + (w * Self::NAMES.len() + count as usize) * 8)).sum()
    }
}

fn byte(seed: usize, n: usize) -> u8 {
    (seed.wrapping_mul(31) ^ n.wrapping_mul(7)) as u8
}

/// A child checks what it has inherited, changes it and says something; the parent changes its own meanwhile.
fn fork(memory: &mut Memory, random: &mut Random) -> Result<(), usize> {
    let [from, to] = sys::pipe()?;
    let seed = random.below(1000);
    let child = sys::fork()?;
    if child == 0 {
        memory.check("in the child");
        for _ in 0..3 {
            memory.rewrite(random);
            memory.change(random);
        }
        let mut words = [0; 8192];
        words.iter_mut().enumerate().for_each(|(n, word)| *word = byte(seed, n));
        sys::write(to, &words);
        memory.check("at the child's end");
        sys::exit(0);
    }
    sys::close(to);
    memory.rewrite(random);
    memory.check("beside a child");
    let mut words = [0; 8192];
    let came = sys::read(from, &mut words);
    if came != words.len() || words.iter().enumerate().any(|(n, &word)| word != byte(seed, n)) {
        bad(format_args!("{came} bytes came through a pipe, or others than were sent"));
    }
    sys::close(from);
    let status = sys::wait(child)?;
    if status != 0 {
        bad(format_args!("a child ended with {status:#x}"));
    }
    memory.check("after a child");
    Ok(())
}

/// The `n`th processor of the mask, going round.
fn processor(mask: u64, n: usize) -> u64 {
    let set = (0..64).filter(|bit| mask >> bit & 1 != 0);
    1 << set.clone().nth(n % set.count().max(1)).unwrap_or(0)
}

/// What the command line asks for.
#[derive(Clone, Copy)]
struct Wanted {
    seconds: u64,
    workers: usize,
    /// Of each worker, at most.
    rounds: u64,
    seed: u64,
    /// MiB.
    hold: usize,
}

impl Wanted {
    /// `None`: that is not how it is used.
    fn from<'a>(arguments: &dyn Fn(usize) -> Option<&'a str>, processors: usize) -> Option<Wanted> {
        let seconds = arguments(1)?.parse().ok()?;
        let mut wanted = Wanted { seconds, workers: 2 * processors, rounds: u64::MAX, seed: 0, hold: 0 };
        for word in (2..).map_while(arguments) {
            let (key, value) = word.split_once('=')?;
            match key {
                "workers" => wanted.workers = value.parse().ok()?,
                "rounds" => wanted.rounds = value.parse().ok()?,
                "seed" => wanted.seed = value.parse().ok()?,
                "hold" => wanted.hold = value.parse().ok()?,
                _ => return None,
            }
        }
        wanted.workers = wanted.workers.min(MOST_WORKERS);
        Some(wanted)
    }
}

/// One worker's life. Even ones stay where they are.
fn work(worker: usize, all: u64, end: u64, wanted: Wanted, counters: Counters) -> Result<(), usize> {
    let stays = worker.is_multiple_of(2);
    let mut random = Random::new(sys::pid() as u64 ^ wanted.seed << 32);
    let mut memory = Memory::new(wanted.seed);
    sys::set_affinity(processor(all, worker / 2));
    let mut signals = 0;
    for round in 0..wanted.rounds {
        if sys::timebase() >= end {
            break;
        }
        for _ in 0..20 {
            memory.change(&mut random);
        }
        if !stays {
            sys::set_affinity(processor(all, random.below(64)));
        }
        memory.check("after changes");
        // Everybody does each at least once.
        match if round < 2 { round as usize } else { random.below(6) } {
            0 => {
                fork(&mut memory, &mut random)?;
                counters.add(worker, Count::Forks, 1);
            }
            1 => {
                let others = [worker / 2 + 1, worker / 2 + 2].map(|n| processor(all, n));
                counters.add(worker, Count::Reads, sharing::run(100, others)?);
            }
            _ => {}
        }
        counters.add(worker, Count::Rounds, 1);
        let now = SIGNALS.load(SeqCst);
        counters.add(worker, Count::Signals, now - signals);
        signals = now;
    }
    memory.check("at the end");
    Ok(())
}

/// Signals for all until all have ended, or without workers until the end. Meanwhile it looks at what it holds.
fn watch(workers: &[usize], begin: u64, end: u64, held: &mut Held) -> Result<(), usize> {
    let mut left = [true; MOST_WORKERS];
    let mut middle = Some(begin + (end - begin) / 2);
    while left[..workers.len()].contains(&true) || workers.is_empty() && sys::timebase() < end {
        for (&pid, left) in workers.iter().zip(&mut left) {
            if !*left {
                continue;
            }
            if sys::timebase() < end {
                sys::kill(pid, SIGUSR1);
            }
            match sys::ended(pid)? {
                None => {}
                Some(0) => *left = false,
                Some(status) => bad(format_args!("process {pid} ended with {status:#x}")),
            }
        }
        let now = sys::timebase();
        if now > end + 60 * SECOND {
            bad(format_args!("processes do not end: {:?}", &left[..workers.len()]));
        }
        if middle.is_some_and(|middle| now > middle) {
            middle = None;
            sys::print(format_args!("stress: half"));
        }
        held.look();
        sys::sleep_ms(3);
    }
    Ok(())
}

fn stress(wanted: Wanted, all: u64) -> Result<(), usize> {
    let n = wanted.workers;
    let begin = sys::timebase();
    let end = begin + wanted.seconds * SECOND;
    let counters = Counters(sys::map_shared(memory::PAGE)?);
    let mut workers = [0; MOST_WORKERS];
    for (worker, pid) in workers[..n].iter_mut().enumerate() {
        *pid = sys::fork()?;
        if *pid == 0 {
            let done = work(worker, all, end, wanted, counters);
            done.unwrap_or_else(|error| bad(format_args!("worker {worker}: error {error}")));
            sys::exit(0);
        }
    }
    // After the workers came into being: they would only have it, too.
    let mut held = Held::new(wanted.hold << 20, wanted.seed)?;
    watch(&workers[..n], begin, end, &mut held)?;
    held.check();
    let [rounds, forks, reads, signals] = Counters::NAMES.map(|(_, count)| counters.sum(count));
    // On one processor it takes luck to read while nothing changes.
    let must = [rounds, forks, signals, reads + u64::from(all.count_ones() == 1)];
    if n != 0 && must.contains(&0) {
        bad(format_args!(
            "nothing done: {rounds} rounds, {forks} forks, {reads} shared reads, {signals} signals"
        ));
    }
    sys::print(format_args!(
        "stress: ok workers={n} rounds={rounds} forks={forks} reads={reads} signals={signals} looks={}",
        held.looks
    ));
    Ok(())
}

fn run<'a>(arguments: &dyn Fn(usize) -> Option<&'a str>) -> usize {
    let all = sys::affinity();
    let Some(wanted) = Wanted::from(arguments, all.count_ones() as usize) else {
        sys::print(format_args!("usage: stress SECONDS [workers=N] [rounds=N] [seed=N] [hold=MIB]"));
        return 2;
    };
    if !sys::handle(on_signal) {
        bad(format_args!("no signal handlers"));
    }
    stress(wanted, all).unwrap_or_else(|error| bad(format_args!("error {error}")));
    0
}
