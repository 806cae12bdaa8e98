//! What partitions and CPUs have used: in all, and as a share of the time since they were last looked at.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use realmode::instructions::timebase;
use sched::{MAX_CPUS, Phase};

use crate::console::TICKS_PER_MICRO;
use crate::partition::{Partition, TIMEBASE_HZ, VirtualCpu};
use crate::run::ACCOUNTS;
use crate::sync::{Lock, Rank};

/// Ticks of the timebase as microseconds.
pub fn micros(ticks: u64) -> u64 {
    ticks / TICKS_PER_MICRO
}

/// Ticks that a vCPU has run, the stay that is under way included.
pub fn ran(partition: &Partition, vcpu: &VirtualCpu) -> u64 {
    let before = vcpu.ran.load(Ordering::Relaxed);
    let (phase, cpu) = partition.presence(vcpu).whereabouts.look();
    let stays = |cpu: &usize| core::ptr::eq(ACCOUNTS[*cpu].current.load(Ordering::Relaxed), vcpu.peek());
    let cpu = Some(cpu).filter(|_| phase == Phase::Running).filter(stays);
    before + cpu.map_or(0, |cpu| ACCOUNTS[cpu].stay())
}

/// What a partition has used at some time.
#[derive(Clone, Copy)]
struct Use {
    at: u64,
    /// Ticks that its vCPUs have run, and exits.
    ran: u64,
    exits: u64,
}

impl Use {
    fn now(partition: &Partition) -> Use {
        let ran = partition.vcpus.iter().map(|vcpu| ran(partition, vcpu)).sum();
        Use { at: timebase(), ran, exits: partition.exits.total() }
    }

    /// At its last start.
    fn at_start(partition: &Partition) -> Use {
        let life = partition.life.lock();
        let (ran, exits) = life.before;
        Use { at: life.started, ran, exits }
    }
}

/// Use in a time.
pub struct Rate {
    /// Of one CPU, in tenths of a percent.
    pub cpu: u32,
    /// Exits a second.
    pub exits: u64,
}

/// What each partition had used when `list` last showed it. One that is gone is forgotten with the next.
static SEEN: Lock<Vec<(Weak<Partition>, Use)>> = Lock::new(Rank::Partition, Vec::new());

/// What a partition has used since its last start.
pub fn since_start(partition: &Partition) -> Rate {
    rate(Use::at_start(partition), Use::now(partition))
}

/// What a partition has used since this was last asked, or since its last start.
pub fn since_last(partition: &Arc<Partition>) -> Rate {
    let start = Use::at_start(partition);
    let now = Use::now(partition);
    let mut seen = SEEN.lock();
    seen.retain(|(whose, _)| whose.strong_count() != 0);
    let before = match seen.iter_mut().find(|(whose, _)| core::ptr::eq(whose.as_ptr(), &**partition)) {
        Some((_, before)) => core::mem::replace(before, now),
        None => {
            seen.push((Arc::downgrade(partition), now));
            start
        }
    };
    rate(if before.at < start.at { start } else { before }, now)
}

fn rate(from: Use, to: Use) -> Rate {
    if from.at == 0 {
        return Rate { cpu: 0, exits: 0 }; // it has never been started
    }
    let ticks = to.at.saturating_sub(from.at);
    let exits = u128::from(to.exits.saturating_sub(from.exits)) * u128::from(TIMEBASE_HZ);
    Rate {
        cpu: tenths(to.ran.saturating_sub(from.ran), ticks),
        exits: (exits / u128::from(ticks.max(1))) as u64,
    }
}

/// When `cpus` was last asked for, and how long each CPU had been busy.
static CPUS_SEEN: Lock<(u64, [u64; MAX_CPUS])> = Lock::new(Rank::Partition, (0, [0; MAX_CPUS]));

/// The share of the time since it was last asked, or since the boot, that each CPU of so many has spent on vCPUs; tenths of a percent.
pub fn busy(count: usize) -> Vec<u32> {
    let (now, mut seen) = (timebase(), CPUS_SEEN.lock());
    let since = if seen.0 == 0 { crate::console::start() } else { seen.0 };
    seen.0 = now;
    let accounts = ACCOUNTS.iter().zip(&mut seen.1).take(count);
    accounts
        .map(|(account, before)| {
            let busy = account.busy.load(Ordering::Relaxed) + account.stay();
            tenths(busy.saturating_sub(core::mem::replace(before, busy)), now - since)
        })
        .collect()
}

/// A part of a whole, in tenths of a percent.
pub fn tenths(part: u64, whole: u64) -> u32 {
    (u128::from(part) * 1000 / u128::from(whole.max(1))).min(u128::from(u32::MAX)) as u32
}
