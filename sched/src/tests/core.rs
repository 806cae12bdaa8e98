//! Cores whose threads run tasks of one group at a time. The simulator checks at every step that they do, and that no
//! thread is forgotten.

use std::vec::Vec;

use super::sim::{Does, Sim, Task, hog};
use super::{MS, TIMING, task};
use crate::{Arrival, CpuSet, Pick, Queue};

const SECOND: u64 = 1000 * MS;

fn shares(cores: usize, threads: usize, tasks: &[Task]) -> (Sim, Vec<u64>) {
    let mut sim = Sim::new(cores, threads, true);
    tasks.iter().for_each(|task| {
        sim.add(task.clone());
    });
    sim.run(SECOND / 5);
    let before: Vec<u64> = (0..tasks.len()).map(|task| sim.got(task)).collect();
    sim.run(SECOND);
    let got = before.iter().enumerate().map(|(task, before)| sim.got(task) - before).collect();
    (sim, got)
}

fn assert_shares(cores: usize, threads: usize, tasks: &[Task], due: &[u64]) {
    let (_, got) = shares(cores, threads, tasks);
    for (i, (got, due)) in got.iter().zip(due).enumerate() {
        let due = due * SECOND / 1000;
        assert!(got.abs_diff(due) * 10 <= due, "task {i}: got {} ms, due {} ms", got / MS, due / MS);
    }
}

#[test]
fn groups_get_their_shares_of_a_core() {
    // Alone, and with as many as there are threads.
    assert_shares(1, 2, &[hog(1), hog(1)], &[1000, 1000]);
    assert_shares(1, 2, &[hog(1), hog(2)], &[500, 500]);
    assert_shares(1, 2, &[hog(1), hog(1), hog(2), hog(2)], &[500; 4]);
    // A group of one leaves a thread idle: nobody else may have it.
    assert_shares(1, 2, &[hog(1), hog(1), hog(2)], &[500; 3]);
    // More tasks than threads need more turns.
    assert_shares(1, 2, &[hog(1), hog(1), hog(1), hog(1), hog(2)], &[333; 5]);
    assert_shares(1, 8, &[hog(1), hog(2), hog(3), hog(4)], &[250; 4]);
    let heavy = Task { weight: 300, ..hog(2) };
    assert_shares(1, 2, &[hog(1), hog(1), heavy.clone(), heavy], &[250, 250, 750, 750]);
}

#[test]
fn groups_share_several_cores() {
    assert_shares(2, 2, &[hog(1), hog(2)], &[1000, 1000]);
    assert_shares(2, 2, &[hog(1), hog(1), hog(2), hog(2), hog(3), hog(3), hog(4), hog(4)], &[500; 8]);
    let (_, got) = shares(2, 2, &[hog(1), hog(2), hog(3)]);
    assert!(got.iter().all(|got| *got > 500 * MS), "{got:?}");
}

#[test]
fn nobody_waits_for_long() {
    let mut tasks = Vec::new();
    for group in 0..4 {
        tasks.push(hog(group));
        tasks.push(Task { allowed: CpuSet::one(1), ..hog(group) });
        tasks.push(Task { does: Does::Sleeps { run: MS, sleep: 7 * MS }, ..hog(group) });
        tasks.push(Task { does: Does::Yields { after: 2 * MS }, ..hog(group) });
    }
    let (sim, _) = shares(1, 2, &tasks);
    for n in 0..tasks.len() {
        assert!(sim.longest_wait(n) < 400 * MS, "task {n}: {} ms", sim.longest_wait(n) / MS);
        assert!(sim.got(n) > 10 * MS);
    }
}

/// Threads 0 and 1.
fn core() -> Queue<usize> {
    Queue::new(CpuSet::first(2), true, TIMING)
}

fn run<T>(pick: Pick<T>) -> (T, u64, CpuSet) {
    match pick {
        Pick::Run { entry, until, kick } => (entry.task, until, kick),
        Pick::Idle { .. } => panic!("idle"),
    }
}

fn idle<T>(pick: Pick<T>) -> (Option<u64>, CpuSet) {
    match pick {
        Pick::Idle { until, kick } => (until, kick),
        Pick::Run { .. } => panic!("runs"),
    }
}

/// One hand-over, step by step.
#[test]
fn a_core_is_handed_over() {
    let mut queue = core();
    for (n, group) in [1, 1, 2, 2].into_iter().enumerate() {
        queue.enqueue(task(n, group, n as u64), Arrival::Preempted, 0);
    }
    // The first one elects, and the other thread is to look.
    assert_eq!(run(queue.pick(0, 0)), (0, 10 * MS, CpuSet::one(1)));
    assert_eq!(run(queue.pick(1, MS)), (1, 10 * MS, CpuSet::EMPTY));
    assert!(!queue.give_way(0, 9 * MS) && queue.give_way(0, 10 * MS));

    // Thread 0 leaves at the end of the turn: now thread 1 is to leave too.
    let mut entry = task(0, 1, 0);
    queue.leave(0, &mut entry, 10 * MS);
    queue.enqueue(entry, Arrival::Preempted, 10 * MS);
    assert_eq!(idle(queue.pick(0, 10 * MS)), (None, CpuSet::one(1)));
    assert!(queue.give_way(1, 10 * MS));
    assert!(!queue.may_adopt(0, 1) && !queue.may_adopt(0, 2));
    assert_eq!(queue.adopt(0, &task(9, 1, 0), 10 * MS), None);

    // The last one out elects and kicks.
    let mut entry = task(1, 1, 1);
    queue.leave(1, &mut entry, 10 * MS);
    queue.enqueue(entry, Arrival::Preempted, 10 * MS);
    assert!(!queue.may_adopt(1, 1), "somebody was promised a kick");
    assert_eq!(run(queue.pick(1, 10 * MS)), (2, 20 * MS, CpuSet::one(0)));
    assert_eq!(run(queue.pick(0, 10 * MS)), (3, 20 * MS, CpuSet::EMPTY));
}

#[test]
fn a_thread_without_work_of_the_group_waits_for_the_turns_end() {
    let mut queue = core();
    queue.enqueue(task(0, 1, 0), Arrival::Preempted, 0);
    assert_eq!(run(queue.pick(0, 0)).2, CpuSet::EMPTY);
    assert_eq!(idle(queue.pick(1, 0)), (None, CpuSet::EMPTY));
    queue.enqueue(task(1, 2, 0), Arrival::Woken, 4 * MS);
    assert_eq!(idle(queue.pick(1, 4 * MS)), (Some(10 * MS), CpuSet::EMPTY));
    // Nothing that this thread may run: no need to look.
    queue.take_task(|task| *task == 1).unwrap();
    queue.enqueue(crate::Entry { allowed: CpuSet::one(0), ..task(1, 2, 0) }, Arrival::Woken, 5 * MS);
    assert_eq!(idle(queue.pick(1, 5 * MS)), (None, CpuSet::EMPTY));
    // Late for the end of the turn: soon.
    queue.enqueue(task(2, 2, 50 * MS), Arrival::Preempted, 5 * MS);
    assert_eq!(idle(queue.pick(1, 10 * MS - 1)).0, Some(11 * MS - 1));
}

/// The group that is next may only have tasks for the other thread.
#[test]
fn a_thread_elects_for_another() {
    let mut queue = core();
    let pinned = crate::Entry { allowed: CpuSet::one(1), ..task(0, 1, 0) };
    queue.enqueue(pinned, Arrival::Preempted, 0);
    queue.enqueue(task(1, 2, MS), Arrival::Preempted, 0);
    assert_eq!(idle(queue.pick(0, 0)), (Some(10 * MS), CpuSet::one(1)));
    assert!(queue.may_adopt(0, 1) && !queue.may_adopt(0, 2), "it is promised");
    assert_eq!(run(queue.pick(1, 0)).0, 0);
    // An idle thread finds out that the turn is over, and the one that runs is told.
    assert_eq!(idle(queue.pick(0, 10 * MS)), (None, CpuSet::one(1)));
    assert!(queue.give_way(1, 10 * MS));
}

/// When those that a core is drained for have gone elsewhere, it goes on.
#[test]
fn a_core_is_not_drained_for_nobody() {
    let mut queue = core();
    queue.enqueue(task(0, 1, 0), Arrival::Preempted, 0);
    queue.enqueue(task(1, 1, 2), Arrival::Preempted, 0);
    queue.enqueue(task(2, 2, 1), Arrival::Preempted, 0);
    run(queue.pick(0, 0));
    assert_eq!(idle(queue.pick(1, 10 * MS)), (None, CpuSet::one(0)));
    assert_eq!(queue.take(7, |group| group == 2).unwrap().task, 2);
    assert_eq!(run(queue.pick(1, 10 * MS)).0, 1);
    assert!(!queue.give_way(0, 10 * MS));
}

#[test]
fn what_is_adopted_is_of_the_group() {
    let mut queue = core();
    assert!(queue.may_adopt(0, 1));
    assert_eq!(queue.adopt(0, &task(0, 1, 5), 0), Some(10 * MS));
    assert_eq!((queue.running(0), queue.running(1), queue.floor()), (Some(1), None, 5));
    assert!(queue.may_adopt(1, 1) && !queue.may_adopt(1, 2));
    assert_eq!(queue.adopt(1, &task(1, 2, 5), 0), None);
    // Once the turn is over and another group is next, not even its own.
    queue.enqueue(task(2, 2, 5), Arrival::Preempted, 0);
    assert_eq!(queue.adopt(1, &task(1, 1, 5), 10 * MS), None);
    assert_eq!(queue.adopt(1, &task(1, 1, 5), 9 * MS), Some(10 * MS));
}

/// A task that sleeps leaves the core free, for whoever comes first.
#[test]
fn a_free_core_is_anybodys() {
    let mut queue = core();
    queue.enqueue(task(0, 1, 0), Arrival::New, 0);
    run(queue.pick(0, 0));
    let mut entry = task(0, 1, 0);
    queue.leave(0, &mut entry, MS);
    assert!(queue.may_adopt(1, 2));
    queue.enqueue(task(1, 2, 0), Arrival::New, MS);
    assert_eq!(run(queue.pick(1, MS)).0, 1);
}

/// Whose turn it is stays so while it is behind, though its time is over.
#[test]
fn a_group_that_is_behind_keeps_the_core() {
    let mut queue = core();
    queue.enqueue(crate::Entry { weight: 1000, ..task(0, 1, 0) }, Arrival::Preempted, 0);
    queue.enqueue(task(1, 2, 5 * MS), Arrival::Preempted, 0);
    run(queue.pick(0, 0));
    assert!(!queue.give_way(0, 20 * MS));
    assert_eq!(idle(queue.pick(1, 20 * MS)), (Some(21 * MS), CpuSet::EMPTY));
    assert!(queue.give_way(0, 51 * MS));
}

/// A core that is ahead of others takes in one task of another group, and is then drained for it.
#[test]
fn a_core_that_is_ahead_invites_another_group() {
    let mut queue = core();
    queue.enqueue(task(0, 1, 50 * MS), Arrival::Preempted, 0);
    queue.enqueue(task(1, 1, 50 * MS), Arrival::Preempted, 0);
    run(queue.pick(0, 0));
    run(queue.pick(1, 0));
    assert!(queue.invites(48 * MS - 1) && !queue.invites(48 * MS));
    queue.enqueue(task(2, 2, 20 * MS), Arrival::Preempted, 0);
    assert!(!queue.invites(19 * MS) && queue.invites(10 * MS));
    assert!(!queue.give_way(0, 9 * MS) && queue.give_way(0, 10 * MS));
    // Nothing of its own group waits: anything of that from elsewhere is welcome.
    let mut entry = task(0, 1, 50 * MS);
    queue.leave(0, &mut entry, MS);
    assert!(queue.prefers(0, 80 * MS));
}

/// It waits for a task that is behind, though the turn is over, and a thread idles that may run neither. That is nobody's fault:
/// the threads that run look when their slices end.
#[test]
fn a_group_waits_for_another_that_is_behind() {
    let mut sim = Sim::new(1, 3, true);
    sim.add(hog(1));
    sim.add(Task { weight: 175, ..hog(1) });
    sim.run(50 * MS);
    let late = sim.add(hog(2));
    sim.run(3 * SECOND);
    assert!(sim.longest_wait(late) > 2 * TIMING.max_slice && sim.got(late) > SECOND);
}

/// Who is alone on a core and goes on at the end of each slice does not begin a new turn each time.
#[test]
fn who_goes_on_does_not_keep_others_off_the_core() {
    let mut sim = Sim::new(1, 2, true);
    sim.add(Task { allowed: CpuSet::one(0), ..hog(1) });
    sim.run(50 * MS);
    let other = sim.add(Task { allowed: CpuSet::one(1), ..hog(2) });
    sim.run(2 * SECOND);
    assert!((900 * MS..1100 * MS).contains(&sim.got(other)), "{} ms", sim.got(other) / MS);
}

/// While one core has more than it can run, another does not idle, though the first has idle threads.
#[test]
fn a_free_core_takes_what_waits_for_a_busy_one() {
    let mut sim = Sim::new(2, 3, true);
    sim.add(hog(1));
    sim.run(50 * MS);
    let late = sim.add(hog(2));
    sim.run(SECOND);
    assert!(sim.got(late) > 970 * MS, "{} ms", sim.got(late) / MS);
}

/// What only another thread may run counts, too, before a free core is taken for a task from elsewhere.
#[test]
fn a_free_core_is_not_taken_past_one_that_is_behind() {
    let mut queue = core();
    queue.enqueue(crate::Entry { allowed: CpuSet::one(1), ..task(0, 1, 5 * MS) }, Arrival::Preempted, 0);
    assert!(!queue.prefers(0, 4 * MS) && queue.prefers(0, 2 * MS));
    // Once the core is another group's, it has to wait.
    assert!(queue.adopt(1, &task(1, 2, 5 * MS), 0).is_some());
    assert!(queue.prefers(0, 80 * MS));
}

/// What waits while something else goes on is told again and again: who may run it has become idle since, or got another group.
#[test]
fn a_free_core_hears_of_what_waits_for_long() {
    let mut sim = Sim::new(2, 2, true);
    sim.add(Task { allowed: CpuSet::one(0), ..hog(1) });
    sim.run(50 * MS);
    let light = sim.add(Task { weight: 10, ..hog(2) });
    sim.run(SECOND);
    assert!(sim.longest_wait(light) <= TIMING.max_slice, "{} ms", sim.longest_wait(light) / MS);
}

/// Others are told of what waits once it is known what the core runs: before that any of its own threads might do.
#[test]
fn a_free_core_takes_one_of_two_that_yield_to_each_other() {
    let mut sim = Sim::new(2, 3, true);
    sim.add(Task { does: Does::Sleeps { run: 1_356_801, sleep: 5_171_201 }, ..hog(1) });
    sim.run(50 * MS);
    let yields = |group, after| Task { does: Does::Yields { after }, ..hog(group) };
    let two = [yields(2, 51_200), yields(1, 998_401)].map(|task| sim.add(task));
    sim.run(SECOND);
    assert!(two.iter().all(|task| sim.got(*task) > 800 * MS), "{:?}", two.map(|task| sim.got(task) / MS));
}
