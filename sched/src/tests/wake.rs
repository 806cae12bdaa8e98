//! Wake-ups and mailboxes by one thread; the races are loom's.

use crate::{CpuSet, IdleCpus, MAX_CPUS, MAX_TASKS, Mailbox, Phase, Wake, Whereabouts};

#[test]
fn a_life() {
    let at = Whereabouts::parked();
    assert_eq!((at.look(), at.wake()), ((Phase::Parked, 0), Wake::Nothing));
    assert!(at.unpark() && !at.unpark());
    assert_eq!((at.look(), at.wake()), ((Phase::Ready, 0), Wake::Nothing));
    at.run(255);
    assert_eq!((at.look(), at.wake()), ((Phase::Running, 255), Wake::Running(255)));
    at.ready();
    assert_eq!(at.look(), (Phase::Ready, 255));
    at.run(3);
    at.block();
    assert_eq!((at.look(), at.unpark()), ((Phase::Blocked, 3), false));
    assert_eq!((at.wake(), at.wake(), at.look()), (Wake::Hand(3), Wake::Nothing, (Phase::Ready, 3)));
    at.run(4);
    at.park();
    assert_eq!((at.wake(), at.look()), (Wake::Nothing, (Phase::Parked, 4)));
    assert!(at.unpark());
    assert_eq!(at.look(), (Phase::Ready, 4));
}

#[test]
fn what_is_posted_is_taken_once() {
    static BOX: Mailbox = Mailbox::new();
    assert!(BOX.is_empty() && BOX.take().is_none());
    for slot in [1023, 0, 64, 63, 0, MAX_TASKS, usize::MAX] {
        BOX.post(slot);
    }
    assert!(!BOX.is_empty());
    let taken: Vec<usize> = std::iter::from_fn(|| BOX.take()).collect();
    assert_eq!(taken, [0, 63, 64, 1023]);
    assert!(BOX.is_empty());
}

#[test]
fn the_first_idle_cpu_of_those_allowed() {
    static IDLE: IdleCpus = IdleCpus::new();
    assert_eq!(IDLE.any(&CpuSet::ALL), None);
    for cpu in [200, 3, 70, MAX_CPUS] {
        IDLE.set(cpu, true);
    }
    assert_eq!((IDLE.any(&CpuSet::ALL), IDLE.any(&CpuSet::one(200))), (Some(3), Some(200)));
    assert!(IDLE.contains(70) && !IDLE.contains(71) && !IDLE.contains(MAX_CPUS));
    IDLE.set(3, false);
    assert_eq!((IDLE.any(&CpuSet::ALL), IDLE.any(&CpuSet::first(64))), (Some(70), None));
}
