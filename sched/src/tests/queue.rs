//! The queue call by call.

use super::{MS, TIMING, task};
use crate::{Arrival, CpuSet, Entry, Pick, Queue};

fn queue() -> Queue<usize> {
    Queue::new(CpuSet::one(0), false, TIMING)
}

fn run(queue: &mut Queue<usize>, now: u64) -> (Entry<usize>, u64) {
    match queue.pick(0, now) {
        Pick::Run { entry, until, kick } => {
            assert!(kick.is_empty());
            (entry, until)
        }
        Pick::Idle { .. } => panic!("idle"),
    }
}

/// In which order tasks come out.
fn order(queue: &mut Queue<usize>) -> Vec<usize> {
    std::iter::from_fn(|| queue.take(0, |_| true)).map(|entry| entry.task).collect()
}

#[test]
fn the_least_virtual_time_is_next_then_who_waits_longest() {
    let mut queue = queue();
    for (n, vtime) in [5, 3, 5, 3, 4].into_iter().enumerate() {
        queue.enqueue(task(n, 1, vtime), Arrival::Preempted, 0);
    }
    assert_eq!((queue.len(), queue.lowest(0, |_| true)), (5, Some(3)));
    assert_eq!(order(&mut queue), [1, 3, 4, 0, 2]);
    assert!(queue.is_empty() && queue.take(0, |_| true).is_none());
    assert!(matches!(queue.pick(0, 0), Pick::Idle { until: None, kick: CpuSet::EMPTY }));
}

#[test]
fn virtual_time_goes_by_weight() {
    for (weight, vtime) in [(100, 8), (400, 2), (50, 16), (10_000, 0), (1, 800), (0, 800), (u32::MAX, 0)] {
        let mut queue = queue();
        queue.enqueue(Entry { weight, ..task(0, 7, 0) }, Arrival::New, 100);
        let (mut entry, _) = run(&mut queue, 100);
        assert_eq!(queue.running(0), Some(7));
        queue.leave(0, &mut entry, 108);
        assert_eq!((entry.vtime, queue.running(0)), (vtime, None), "{weight}");
        // Nothing runs: nobody is charged.
        queue.leave(0, &mut entry, 200);
        assert_eq!(entry.vtime, vtime);
    }
}

#[test]
fn nobody_pays_for_what_others_were_served() {
    let mut queue = queue();
    queue.enqueue(task(0, 7, 0), Arrival::New, 100);
    let (mut entry, _) = run(&mut queue, 100);
    queue.excuse(0, 30);
    queue.excuse(1, 1000);
    queue.leave(0, &mut entry, 150);
    assert_eq!(entry.vtime, 20);
    queue.excuse(0, 30);
    queue.enqueue(entry, Arrival::Preempted, 150);
    let (mut entry, _) = run(&mut queue, 150);
    queue.excuse(0, 500);
    queue.leave(0, &mut entry, 160);
    assert_eq!(entry.vtime, 20, "time does not go back");
}

#[test]
fn slices_are_shorter_the_more_there_are() {
    for (tasks, slice) in [(1, 10 * MS), (2, 10 * MS), (4, 5 * MS), (8, 5 * MS / 2), (20, MS), (40, MS)] {
        let mut queue = queue();
        (0..tasks).for_each(|n| queue.enqueue(task(n, 1, 0), Arrival::New, 3));
        assert_eq!(run(&mut queue, 3).1, 3 + slice, "{tasks}");
    }
    let mut two = Queue::new(CpuSet::first(2), false, TIMING);
    (0..8).for_each(|n| two.enqueue(task(n, 1, 0), Arrival::New, 0));
    assert!(
        matches!(two.pick(1, 0), Pick::Run { until, kick, .. } if until == 5 * MS && kick == CpuSet::one(0))
    );
}

/// Who has slept is a little behind the others, whatever it brings, and takes the CPU from one that is ahead.
#[test]
fn who_wakes_is_served_soon() {
    let mut queue = queue();
    queue.enqueue(task(0, 1, 1000 * MS), Arrival::Preempted, 0);
    let (mut hog, _) = run(&mut queue, 0);
    assert!(!queue.give_way(0, 9 * MS), "nobody waits");
    queue.enqueue(task(1, 1, 0), Arrival::Woken, 3 * MS);
    assert_eq!((queue.lowest(0, |_| true), queue.floor()), (Some(1002 * MS), 1003 * MS));
    assert!(queue.give_way(0, 3 * MS) && !queue.give_way(1, 3 * MS));

    queue.leave(0, &mut hog, 3 * MS);
    queue.enqueue(hog, Arrival::Preempted, 3 * MS);
    let (mut sleeper, _) = run(&mut queue, 3 * MS);
    assert_eq!(sleeper.task, 1);
    // Whose slice is over does not take it back before the end of the other's.
    assert!(!queue.give_way(0, 9 * MS));
    queue.leave(0, &mut sleeper, 4 * MS);
    run(&mut queue, 4 * MS);
    // Who has had its share does not push in again at once.
    queue.enqueue(sleeper, Arrival::Woken, 4 * MS + 1);
    assert!(!queue.give_way(0, 4 * MS + MS / 4) && queue.give_way(0, 5 * MS));
}

/// Nor does a task take a CPU that it may not run on.
#[test]
fn who_may_not_run_there_takes_no_cpu() {
    let mut queue = Queue::new(CpuSet::first(2), false, TIMING);
    queue.enqueue(task(0, 1, 100 * MS), Arrival::Preempted, 0);
    assert!(matches!(queue.pick(0, 0), Pick::Run { .. }));
    queue.enqueue(Entry { allowed: CpuSet::one(1), ..task(1, 1, 0) }, Arrival::Woken, MS);
    assert!(!queue.give_way(0, MS));
    assert_eq!((queue.lowest(0, |_| true), queue.lowest(1, |group| group == 2)), (None, None));
    assert!(matches!(queue.pick(0, 2 * MS), Pick::Idle { until: None, kick } if kick == CpuSet::one(1)));
}

/// The credit of a heavy task is small in its virtual time, which goes slowly.
#[test]
fn a_credit_is_a_time() {
    let mut queue = queue();
    queue.enqueue(task(0, 1, 1000 * MS), Arrival::Preempted, 0);
    run(&mut queue, 0);
    queue.enqueue(Entry { weight: 1000, ..task(1, 1, 0) }, Arrival::Woken, 0);
    assert_eq!(queue.take(0, |_| true).unwrap().vtime, 1000 * MS - MS / 10);
    queue.enqueue(Entry { weight: 1, ..task(1, 1, 0) }, Arrival::Woken, 0);
    assert_eq!(queue.take(0, |_| true).unwrap().vtime, 999 * MS);
    queue.enqueue(Entry { weight: 1000, ..task(1, 1, 0) }, Arrival::Preempted, 0);
    assert_eq!(queue.take(0, |_| true).unwrap().vtime, 990 * MS);
}

#[test]
fn what_comes_from_far_is_brought_near() {
    let mut queue = queue();
    queue.enqueue(task(0, 1, 1000 * MS), Arrival::New, 0);
    run(&mut queue, 0);
    for (weight, vtime, settled) in [
        (100, 0, 900 * MS),
        (100, 950 * MS, 950 * MS),
        (100, 1050 * MS, 1050 * MS),
        (100, u64::MAX, 1110 * MS),
        (1, u64::MAX, 2100 * MS),
    ] {
        for arrival in [Arrival::Preempted, Arrival::Yielded] {
            queue.enqueue(Entry { weight, ..task(1, 1, vtime) }, arrival, 0);
            assert_eq!(queue.take_task(|task| *task == 1).unwrap().vtime, settled);
        }
    }
    // The same for what begins to run without waiting here.
    let mut entry = task(1, 1, 0);
    assert!(queue.adopt(0, &entry, 0).is_some());
    queue.leave(0, &mut entry, MS);
    assert_eq!(entry.vtime, 901 * MS);
    // A queue where nothing is has no opinion.
    let mut empty = self::queue();
    empty.enqueue(task(1, 1, 5000 * MS), Arrival::Woken, 0);
    assert_eq!((empty.lowest(0, |_| true), empty.floor()), (Some(5000 * MS), 5000 * MS));
}

#[test]
fn who_yields_is_behind_all_that_wait() {
    let mut queue = queue();
    (0..3).for_each(|n| queue.enqueue(task(n, 1, n as u64 * MS), Arrival::Preempted, 0));
    let (entry, _) = run(&mut queue, 0);
    queue.enqueue(entry, Arrival::Yielded, 0);
    assert_eq!(order(&mut queue), [1, 2, 0]);
    // With nobody there it keeps its place.
    queue.enqueue(task(0, 1, 7), Arrival::Yielded, 0);
    assert!(queue.lowest(0, |_| true).unwrap() <= MS);
}

#[test]
fn a_certain_task_is_taken_and_adopted() {
    let mut queue = queue();
    (0..3).for_each(|n| queue.enqueue(task(n, 1, 0), Arrival::New, 0));
    let mut entry = queue.take_task(|task| *task == 2).unwrap();
    assert!(queue.take_task(|task| *task == 2).is_none());
    assert_eq!(queue.adopt(0, &entry, MS), Some(MS + 20 * MS / 3));
    queue.leave(0, &mut entry, 2 * MS);
    assert_eq!((entry.vtime, queue.len()), (MS, 2));
}

#[test]
fn the_floor_never_goes_back() {
    let mut queue = queue();
    queue.enqueue(task(0, 1, 50 * MS), Arrival::Preempted, 0);
    assert_eq!(queue.floor(), 50 * MS);
    queue.enqueue(task(1, 1, 10 * MS), Arrival::Preempted, 0);
    assert_eq!((queue.floor(), queue.lowest(0, |_| true)), (50 * MS, Some(10 * MS)));
    let (mut entry, _) = run(&mut queue, 0);
    queue.leave(0, &mut entry, 60 * MS);
    assert_eq!((entry.vtime, queue.floor()), (70 * MS, 50 * MS));
    queue.take(0, |_| true);
    assert_eq!(queue.floor(), 50 * MS);
}

#[test]
fn a_queue_far_behind_is_carried_along() {
    let mut queue = queue();
    (0..2).for_each(|n| queue.enqueue(task(n, 1, n as u64 * MS), Arrival::Preempted, 0));
    let (mut entry, _) = run(&mut queue, 0);
    queue.keep_up(100 * MS);
    assert_eq!((queue.floor(), queue.lowest(0, |_| true)), (0, Some(MS)), "not far");
    queue.keep_up(500 * MS);
    assert_eq!((queue.floor(), queue.lowest(0, |_| true)), (400 * MS, Some(401 * MS)));
    queue.leave(0, &mut entry, 2 * MS);
    assert_eq!(entry.vtime, 402 * MS);
}

/// Two least slices ahead of another queue, or with nothing of its own, a CPU takes from there.
#[test]
fn a_cpu_prefers_what_is_well_behind_its_own() {
    let mut queue = queue();
    assert!(queue.prefers(0, u64::MAX));
    queue.enqueue(task(0, 1, 10 * MS), Arrival::Preempted, 0);
    assert!(queue.prefers(0, 8 * MS - 1) && !queue.prefers(0, 8 * MS) && queue.prefers(1, 0));
    assert!(!queue.invites(0), "each CPU runs what it likes");
}

/// At the end of a slice.
#[test]
fn a_task_goes_on_unless_another_is_behind() {
    let goes_on = |own: u64, elsewhere| {
        let mut queue = queue();
        assert!(queue.adopt(0, &task(0, 1, 0), 0).is_some());
        queue.enqueue(task(1, 1, own), Arrival::Preempted, 0);
        let mut entry = task(0, 1, 0);
        let until = queue.go_on(0, &mut entry, elsewhere, 10 * MS);
        assert_eq!((entry.vtime, queue.running(0).is_some()), (10 * MS, until.is_some()));
        until
    };
    assert_eq!(goes_on(10 * MS + 1, None), Some(20 * MS));
    assert_eq!(goes_on(10 * MS + 1, Some(8 * MS)), Some(20 * MS));
    assert_eq!(goes_on(10 * MS + 1, Some(8 * MS - 1)), None);
    assert_eq!(goes_on(10 * MS, None), None);
}
