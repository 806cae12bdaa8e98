//! Random machines, and random calls with any numbers.

use std::vec::Vec;

use proptest::prelude::*;

use super::sim::{Does, Sim, Task};
use super::{MS, TIMING};
use crate::{Arrival, CpuSet, Entry, Pick, Queue};

fn any_task(cpus: usize) -> impl Strategy<Value = Task> {
    let does = prop_oneof![
        Just(Does::Hog),
        (MS / 10..5 * MS, MS / 10..20 * MS).prop_map(|(run, sleep)| Does::Sleeps { run, sleep }),
        (MS / 10..5 * MS).prop_map(|after| Does::Yields { after }),
    ];
    let allowed = prop_oneof![Just(CpuSet::ALL), (0..cpus).prop_map(CpuSet::one)];
    let weight = prop_oneof![Just(100u32), 10..1000u32];
    (0..3u16, weight, allowed, does).prop_map(|(group, weight, allowed, does)| Task {
        group,
        weight,
        allowed,
        does,
    })
}

fn any_arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![Just(Arrival::New), Just(Arrival::Woken), Just(Arrival::Preempted), Just(Arrival::Yielded)]
}

/// Small, huge, or anything.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, any::<u64>(), (0..100u64).prop_map(|n| u64::MAX - n), 0..1000 * MS]
}

#[derive(Clone, Debug)]
enum Call {
    Enqueue(usize, u16, u32, u64, Arrival),
    Pick,
    Leave(Option<Arrival>),
    Take(u16),
    Adopt,
    KeepUp(u64),
}

fn any_call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => (0..5usize, 0..3u16, any::<u32>(), any_number(), any_arrival())
            .prop_map(|(allowed, group, weight, vtime, how)| Call::Enqueue(allowed, group, weight, vtime, how)),
        3 => Just(Call::Pick),
        3 => proptest::option::of(any_arrival()).prop_map(Call::Leave),
        1 => (0..3u16).prop_map(Call::Take),
        1 => Just(Call::Adopt),
        1 => any_number().prop_map(Call::KeepUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The simulator's own checks are the property; and that everybody runs.
    #[test]
    fn any_machine_works(
        cores in 1..3usize,
        threads in 1..4usize,
        one_group: bool,
        tasks in proptest::collection::vec(any_task(1), 1..3),
        more in (1..7usize).prop_flat_map(|n| proptest::collection::vec(any_task(2), 1..=n)),
    ) {
        let mut sim = Sim::new(cores, threads.max(3 - cores), one_group);
        let first: Vec<usize> = tasks.into_iter().map(|task| sim.add(task)).collect();
        sim.run(50 * MS);
        let second: Vec<usize> = more.into_iter().map(|task| sim.add(task)).collect();
        sim.run(3000 * MS);
        for task in first.into_iter().chain(second) {
            prop_assert!(sim.got(task) >= MS / 10, "task {} never ran", task);
        }
    }
}

proptest! {
    /// No number and no order of calls panics, loses a task, doubles one, or brings two groups together.
    #[test]
    fn any_calls_are_survived(
        one_group: bool,
        calls in proptest::collection::vec((any_call(), 0..4usize, any_number()), 0..60),
    ) {
        let mut queue = Queue::new(CpuSet::first(3), one_group, TIMING);
        let mut running: [Option<Entry<usize>>; 4] = [const { None }; 4];
        let mut outside: Vec<Entry<usize>> = Vec::new();
        let mut tasks = 0;
        for (call, cpu, now) in calls {
            let floor = queue.floor();
            let free = cpu < 3 && running[cpu].is_none();
            match call {
                Call::Enqueue(allowed, group, weight, vtime, how) => {
                    let allowed = if allowed < 4 { CpuSet::one(allowed) } else { CpuSet::ALL };
                    queue.enqueue(Entry { task: tasks, group, weight, allowed, vtime }, how, now);
                    tasks += 1;
                }
                Call::Pick if free => {
                    if let Pick::Run { entry, until, kick } = queue.pick(cpu, now) {
                        prop_assert!(until >= now && entry.allowed.contains(cpu));
                        prop_assert!(kick.iter().all(|other| other != cpu && running[other].is_none()));
                        running[cpu] = Some(entry);
                    }
                }
                Call::Leave(how) => {
                    if let Some(mut entry) = running[cpu].take() {
                        queue.leave(cpu, &mut entry, now);
                        match how {
                            Some(how) => queue.enqueue(entry, how, now),
                            None => outside.push(entry),
                        }
                    }
                }
                Call::Take(group) => outside.extend(queue.take(cpu, |of| of == group)),
                Call::Adopt if free => {
                    if let Some(entry) = outside.pop() {
                        match queue.adopt(cpu, &entry, now) {
                            Some(_) => running[cpu] = Some(entry),
                            None => outside.push(entry),
                        }
                    }
                }
                Call::KeepUp(floor) => queue.keep_up(floor),
                Call::Pick | Call::Adopt => {
                    queue.give_way(cpu, now);
                }
            }
            prop_assert!(queue.floor() >= floor);
            prop_assert_eq!(queue.len() + outside.len() + running.iter().flatten().count(), tasks);
            let groups: Vec<u16> = running.iter().flatten().map(|entry| entry.group).collect();
            prop_assert!(!one_group || groups.windows(2).all(|two| two[0] == two[1]), "{:?}", groups);
            for (cpu, entry) in running.iter().enumerate() {
                prop_assert_eq!(queue.running(cpu), entry.as_ref().map(|entry| entry.group));
            }
        }
    }
}
