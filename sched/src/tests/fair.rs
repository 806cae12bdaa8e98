//! Who gets how much of a machine, over a second.

use std::vec::Vec;

use super::MS;
use super::sim::{Does, Sim, Task, hog};
use crate::CpuSet;

const SECOND: u64 = 1000 * MS;

/// Runs for a second, after a tenth of a second to settle, and answers what each of these got.
fn shares(sim: &mut Sim, tasks: &[usize]) -> Vec<u64> {
    sim.run(SECOND / 10);
    let before: Vec<u64> = tasks.iter().map(|task| sim.got(*task)).collect();
    sim.run(SECOND);
    tasks.iter().zip(before).map(|(task, before)| sim.got(*task) - before).collect()
}

/// The got time is within so many percent of what is due, in thousandths of a CPU.
fn assert_within(got: &[u64], due: &[u64], percent: u64) {
    for (i, (got, due)) in got.iter().zip(due).enumerate() {
        let due = due * SECOND / 1000;
        let off = got.abs_diff(due) * 100;
        assert!(off <= percent * due, "task {i}: got {} ms, due {} ms", got / MS, due / MS);
    }
}

fn weighted(weights: &[u32], cpus: usize, due: &[u64]) {
    let mut sim = Sim::new(cpus, 1, false);
    let tasks: Vec<usize> =
        weights.iter().map(|weight| sim.add(Task { weight: *weight, ..hog(1) })).collect();
    assert_within(&shares(&mut sim, &tasks), due, 5);
}

#[test]
fn equal_tasks_get_equal_shares() {
    weighted(&[100; 16], 2, &[125; 16]);
    weighted(&[100; 3], 2, &[667; 3]);
    weighted(&[100; 5], 4, &[800; 5]);
    weighted(&[100; 7], 3, &[429; 7]);
    weighted(&[100; 16], 1, &[62; 1]);
}

#[test]
fn weights_are_shares() {
    weighted(&[100, 200, 400], 1, &[143, 286, 571]);
    weighted(&[100, 200, 400, 100, 200, 400], 2, &[143, 286, 571, 143, 286, 571]);
    weighted(&[100, 100, 200], 2, &[500, 500, 1000]);
    weighted(
        &[100, 200, 400, 100, 200, 400, 100, 200, 400, 100, 200, 400],
        4,
        &[143, 286, 571, 143, 286, 571, 143, 286, 571, 143, 286, 571],
    );
    weighted(&[100, 200, 400, 400, 400, 100], 4, &[250, 500, 1000, 1000, 1000, 250]);
}

/// Of more than a CPU, nobody can make use.
#[test]
fn a_weight_beyond_one_cpu_is_worth_one_cpu() {
    weighted(&[1000, 100, 100], 2, &[1000, 500, 500]);
}

#[test]
fn pinned_tasks_stay_and_share_what_they_have() {
    let mut sim = Sim::new(2, 1, false);
    let mut tasks: Vec<usize> = (0..3).map(|_| sim.add(Task { allowed: CpuSet::one(1), ..hog(1) })).collect();
    tasks.push(sim.add(hog(2)));
    // The simulator checks that nobody runs where it may not.
    assert_within(&shares(&mut sim, &tasks), &[333, 333, 333, 1000], 5);
}

#[test]
fn sleepers_run_soon_and_hoard_nothing() {
    for cpus in [1, 2] {
        let mut sim = Sim::new(cpus, 1, false);
        let hogs: Vec<usize> = (0..4 * cpus).map(|_| sim.add(hog(1))).collect();
        let light = sim.add(Task { does: Does::Sleeps { run: MS / 5, sleep: 5 * MS }, ..hog(2) });
        let greedy = sim.add(Task { does: Does::Sleeps { run: 3 * MS, sleep: MS }, ..hog(3) });
        let once = sim.add(Task { does: Does::Sleeps { run: SECOND, sleep: SECOND }, ..hog(4) });
        shares(&mut sim, &[]);
        assert!(sim.mean_latency(light) < MS, "{} us", sim.mean_latency(light) * 1000 / MS);
        // It has slept for most of the first second, and gets no more than its share of the third.
        sim.change(once, Does::Sleeps { run: 1, sleep: SECOND });
        sim.run(2 * SECOND);
        sim.change(once, Does::Hog);
        let got = shares(&mut sim, &[&[light, greedy, once][..], &hogs].concat());
        assert!(got[0] > 30 * MS, "{} ms", got[0] / MS);
        let most = got[3..].iter().max().unwrap();
        assert!(got[1] <= most * 105 / 100 && got[2] <= most * 105 / 100, "{got:?}");
    }
}

#[test]
fn who_yields_gives_its_time_to_all_others() {
    let mut sim = Sim::new(2, 1, false);
    let mut tasks: Vec<usize> = (0..4).map(|_| sim.add(hog(1))).collect();
    for _ in 0..2 {
        tasks.push(sim.add(Task { does: Does::Yields { after: MS / 20 }, ..hog(2) }));
    }
    let got = shares(&mut sim, &tasks);
    assert!(got[..4].iter().all(|got| *got > 450 * MS), "{got:?}");
    assert!(got[4..].iter().all(|got| (MS..50 * MS).contains(got)), "{got:?}");
}

/// A CPU that had little to do has seen less virtual time than one that was busy. What runs there does not have it to
/// itself until it has seen as much.
#[test]
fn a_queue_that_is_far_behind_catches_up() {
    let mut sim = Sim::new(2, 1, false);
    let fast = sim.add(Task { allowed: CpuSet::one(0), ..hog(1) });
    let heavy = sim.add(Task { weight: 1000, ..hog(2) });
    sim.run(5 * SECOND);
    assert!(sim.got(fast) + sim.got(heavy) > 9 * SECOND);
    let mut tasks: Vec<usize> = (0..2).map(|_| sim.add(Task { weight: 1000, ..hog(3) })).collect();
    tasks.push(heavy);
    sim.run(2 * SECOND);
    assert_within(&shares(&mut sim, &tasks), &[645; 3], 10);
}

/// Idle CPUs are told of what comes at once, though all of it comes to one of them.
#[test]
fn many_that_come_to_one_cpu_are_spread_at_once() {
    let mut sim = Sim::new(4, 1, false);
    sim.run(MS);
    let tasks: Vec<usize> = (0..4).map(|_| sim.add(hog(1))).collect();
    sim.run(MS);
    assert!(tasks.iter().all(|task| sim.got(*task) > 9 * MS / 10));
}

/// A timer wakes a task where another one runs that need not give way, while another CPU idles.
#[test]
fn who_wakes_at_a_busy_cpu_goes_to_an_idle_one() {
    let mut sim = Sim::new(2, 1, false);
    let [_, other] = [0, 1].map(|cpu| sim.add(Task { weight: 1000, allowed: CpuSet::one(cpu), ..hog(1) }));
    sim.run(50 * MS);
    let sleeper = sim.add(Task { does: Does::Sleeps { run: 3 * MS, sleep: MS }, ..hog(2) });
    sim.change(other, Does::Sleeps { run: MS, sleep: SECOND });
    sim.run(100 * MS);
    assert!(sim.longest_wait(sleeper) < MS, "{} ms", sim.longest_wait(sleeper) / MS);
}
