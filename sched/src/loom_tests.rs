//! The protocols between CPUs, in every order that memory allows: `RUSTFLAGS="--cfg loom" cargo test --release -p sched --lib`.

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::{Arrival, CpuSet, Entry, Gate, IdleCpus, Mailbox, Phase, Pick, Queue, Timing, Wake, Whereabouts};

/// A virtual processor that waits for a condition, which needs no ordering of its own.
struct Sleeper {
    at: Whereabouts,
    condition: AtomicBool,
    hands: AtomicUsize,
}

impl Sleeper {
    fn running(cpu: usize) -> Arc<Sleeper> {
        let at = Whereabouts::parked();
        at.run(cpu);
        Arc::new(Sleeper { at, condition: AtomicBool::new(false), hands: AtomicUsize::new(0) })
    }

    fn wake(&self) -> Wake {
        let wake = self.at.wake();
        if let Wake::Hand(_) = wake {
            self.hands.fetch_add(1, Ordering::Relaxed);
        }
        wake
    }

    fn set_and_wake(&self) -> Wake {
        self.condition.store(true, Ordering::Relaxed);
        self.wake()
    }

    /// What its CPU does when it has nothing to do.
    fn sleep(&self) {
        self.at.block();
        if self.condition.load(Ordering::Relaxed) {
            let _ = self.wake();
        }
    }
}

/// All orders with no more interruptions than this.
fn bounded(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(run);
}

/// Whoever comes first: it is awake in the end, and one of them has it in hand.
#[test]
fn no_wake_up_is_lost() {
    bounded(4, || {
        let sleeper = Sleeper::running(1);
        let waker = |sleeper: &Arc<Sleeper>| {
            let sleeper = sleeper.clone();
            thread::spawn(move || {
                let wake = sleeper.set_and_wake();
                assert!(!matches!(wake, Wake::Hand(cpu) | Wake::Running(cpu) if cpu != 1));
            })
        };
        let wakers = [waker(&sleeper), waker(&sleeper)];
        sleeper.sleep();
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        assert_eq!(sleeper.at.look(), (Phase::Ready, 1));
        assert_eq!(sleeper.hands.load(Ordering::Relaxed), 1);
    });
}

/// It is woken, runs elsewhere, finds nothing, and sleeps again while another wakes it.
#[test]
fn no_wake_up_is_lost_when_it_moves() {
    loom::model(|| {
        let sleeper = Sleeper::running(0);
        sleeper.at.block();
        let other = sleeper.clone();
        let waker = thread::spawn(move || {
            if let Wake::Hand(0) = other.set_and_wake() {
                other.at.run(2);
            }
        });
        // Somebody wakes it for no reason; it runs here, and looks.
        if let Wake::Hand(0) = sleeper.wake() {
            sleeper.at.run(1);
            if !sleeper.condition.load(Ordering::Relaxed) {
                sleeper.sleep();
            }
        }
        waker.join().unwrap();
        // Running where it saw the condition, or about to.
        let (phase, cpu) = sleeper.at.look();
        assert!(matches!((phase, cpu), (Phase::Running, 1 | 2) | (Phase::Ready, 1)), "{phase:?} {cpu}");
    });
}

#[test]
fn one_starts_it() {
    loom::model(|| {
        let at = Arc::new(Whereabouts::parked());
        let other = at.clone();
        let thread = thread::spawn(move || other.unpark());
        let woken = at.wake();
        let mine = at.unpark();
        assert!(mine != thread.join().unwrap() && woken == Wake::Nothing);
        assert_eq!(at.look(), (Phase::Ready, 0));
    });
}

/// A CPU's mailbox and doorbell.
struct Post {
    mailbox: Mailbox,
    doorbell: AtomicBool,
    idle: IdleCpus,
}

impl Post {
    fn new() -> Arc<Post> {
        Arc::new(Post { mailbox: Mailbox::new(), doorbell: AtomicBool::new(false), idle: IdleCpus::new() })
    }

    fn send(&self, slot: usize) {
        self.mailbox.post(slot);
        self.doorbell.swap(true, Ordering::AcqRel);
    }

    /// What the owner does until it sleeps; answers what it found.
    fn work(&self, found: &mut Vec<usize>) {
        loop {
            self.doorbell.swap(false, Ordering::Acquire);
            found.extend(core::iter::from_fn(|| self.mailbox.take()));
            self.idle.set(0, true);
            if self.mailbox.is_empty() && !self.doorbell.load(Ordering::Acquire) {
                return;
            }
            self.idle.set(0, false);
            thread::yield_now();
        }
    }
}

fn deliver(slots: [usize; 2]) {
    bounded(4, move || {
        let post = Post::new();
        let senders = slots.map(|slot| {
            let post = post.clone();
            thread::spawn(move || post.send(slot))
        });
        let mut found = Vec::new();
        post.work(&mut found);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        // It sleeps; a doorbell would wake it.
        if post.doorbell.load(Ordering::Relaxed) {
            post.work(&mut found);
        }
        assert!(post.mailbox.is_empty() && post.idle.contains(0));
        found.sort_unstable();
        assert_eq!(found, slots);
    });
}

#[test]
fn no_post_is_left_with_a_sleeper() {
    deliver([3, 9]);
}

#[test]
fn no_post_is_left_with_a_sleeper_in_two_words() {
    deliver([3, 70]);
}

const TIMING: Timing = Timing { period: 20, min_slice: 1, max_slice: 10 };

/// Two CPUs, each with a queue, that take from each other.
struct Machine {
    queues: [Mutex<Queue<usize>>; 2],
    tasks: [(Whereabouts, AtomicUsize); 2],
    turns: AtomicUsize,
}

impl Machine {
    /// Its own first, or what the other has. Never two locks at once.
    fn choose(&self, cpu: usize, now: u64) -> Option<Entry<usize>> {
        if let Pick::Run { entry, .. } = self.queues[cpu].lock().unwrap().pick(cpu, now) {
            return Some(entry);
        }
        let entry = self.queues[1 - cpu].lock().unwrap().take(cpu, |_| true)?;
        assert!(self.queues[cpu].lock().unwrap().adopt(cpu, &entry, now).is_some());
        Some(entry)
    }

    fn turn(&self, cpu: usize, now: u64) {
        let Some(mut entry) = self.choose(cpu, now) else { return };
        let (at, runs) = &self.tasks[entry.task];
        at.run(cpu);
        assert_eq!(runs.fetch_add(1, Ordering::Relaxed), 0, "it runs on two CPUs");
        self.turns.fetch_add(1, Ordering::Relaxed);
        assert_eq!(at.look(), (Phase::Running, cpu));
        runs.fetch_sub(1, Ordering::Relaxed);
        let mut queue = self.queues[cpu].lock().unwrap();
        queue.leave(cpu, &mut entry, now + 1);
        at.ready();
        queue.enqueue(entry, Arrival::Preempted, now + 1);
    }
}

fn hand_off(tasks: usize, turns: u64) {
    bounded(3, move || {
        let queue = |cpu| Mutex::new(Queue::new(CpuSet::one(cpu), false, TIMING));
        let task = || (Whereabouts::parked(), AtomicUsize::new(0));
        let machine = Arc::new(Machine {
            queues: [queue(0), queue(1)],
            tasks: [task(), task()],
            turns: AtomicUsize::new(0),
        });
        for task in 0..tasks {
            assert!(machine.tasks[task].0.unpark());
            let entry = Entry { task, group: 1, weight: 100, allowed: CpuSet::ALL, vtime: 0 };
            machine.queues[0].lock().unwrap().enqueue(entry, Arrival::New, 0);
        }
        let other = machine.clone();
        let thread = thread::spawn(move || (0..turns).for_each(|now| other.turn(1, now)));
        (0..turns).for_each(|now| machine.turn(0, now));
        thread.join().unwrap();
        assert!(machine.turns.load(Ordering::Relaxed) >= turns as usize);
        let waiting: usize = machine.queues.iter().map(|queue| queue.lock().unwrap().len()).sum();
        assert_eq!(waiting, tasks);
    });
}

#[test]
fn one_task_between_two_cpus_runs_on_one() {
    hand_off(1, 2);
}

#[test]
fn two_tasks_between_two_cpus_run_on_one_each() {
    hand_off(2, 2);
}

/// Two CPUs' worth of wakers, and a sleeper whose queue is the one that it is handed to: it runs in one place.
#[test]
fn a_woken_task_is_in_one_queue() {
    bounded(3, || {
        let sleeper = Sleeper::running(0);
        let queue = Arc::new(Mutex::new(Vec::new()));
        let wakers = [0, 1].map(|cpu| {
            let (sleeper, queue) = (sleeper.clone(), queue.clone());
            thread::spawn(move || {
                if let Wake::Hand(_) = sleeper.set_and_wake() {
                    queue.lock().unwrap().push(cpu);
                }
            })
        });
        sleeper.at.block();
        if sleeper.condition.load(Ordering::Relaxed)
            && let Wake::Hand(_) = sleeper.wake()
        {
            queue.lock().unwrap().push(2);
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        assert_eq!((queue.lock().unwrap().len(), sleeper.at.look()), (1, (Phase::Ready, 0)));
    });
}

/// Nobody is in a guest behind a closed gate, once the stopper has rung whom it had to.
#[test]
fn nobody_passes_a_closed_gate() {
    loom::model(|| {
        let at = Arc::new(Whereabouts::parked());
        assert!(at.unpark());
        let closed = Arc::new(AtomicBool::new(false));
        let doorbell = Arc::new(AtomicBool::new(false));
        let (a, c, d) = (at.clone(), closed.clone(), doorbell.clone());
        let stopper = thread::spawn(move || {
            c.store(true, Ordering::Relaxed);
            match a.wake() {
                Wake::Running(1) => d.store(true, Ordering::Release),
                Wake::Nothing => {}
                other => panic!("{other:?}"),
            }
        });
        at.run(1);
        let inside = !closed.load(Ordering::Relaxed);
        if !inside {
            at.park();
        }
        stopper.join().unwrap();
        // In the guest, the doorbell ends its stay, and it looks again.
        assert!(!inside || doorbell.load(Ordering::Acquire));
        assert!(inside || at.look() == (Phase::Parked, 1));
    });
}

/// The same when it sleeps and is woken by something else at that moment.
#[test]
fn nobody_is_woken_past_a_closed_gate() {
    loom::model(|| {
        let at = Arc::new(Whereabouts::parked());
        at.run(0);
        at.block();
        let closed = Arc::new(AtomicBool::new(false));
        let doorbell = Arc::new(AtomicBool::new(false));
        let enter = |at: &Whereabouts, closed: &AtomicBool, cpu| {
            at.run(cpu);
            !closed.load(Ordering::Relaxed)
        };
        let (a, c, d) = (at.clone(), closed.clone(), doorbell.clone());
        let stopper = thread::spawn(move || {
            c.store(true, Ordering::Relaxed);
            match a.wake() {
                Wake::Hand(0) => assert!(!enter(&a, &c, 0)),
                Wake::Running(1) => d.store(true, Ordering::Release),
                Wake::Nothing => {}
                other => panic!("{other:?}"),
            }
        });
        let inside = at.wake() == Wake::Hand(0) && enter(&at, &closed, 1);
        stopper.join().unwrap();
        assert!(!inside || doorbell.load(Ordering::Acquire));
    });
}

/// A partition is made to stand still while one of its virtual processors runs and starts another one, which comes to another CPU. What is done
/// then is done once, with nobody in the guest.
#[test]
fn a_partition_stands_still() {
    struct Partition {
        gate: Gate,
        vcpus: [Whereabouts; 2],
        doorbells: [AtomicBool; 2],
        /// What only the guest changes, and who has it standing still looks at.
        inside: loom::cell::UnsafeCell<usize>,
        life: Mutex<(bool, usize)>,
    }
    impl Partition {
        /// The CPU of the same number runs a vCPU, until it is parked.
        fn run(&self, n: usize, mut body: impl FnMut()) {
            self.vcpus[n].run(n);
            if !self.gate.is_closed() {
                if n == 0 {
                    self.inside.with_mut(|_| ());
                }
                body();
                // The bell ends the stay; without one, the slice does.
                let _ = self.doorbells[n].load(Ordering::Acquire);
            }
            if self.gate.is_closed() {
                self.vcpus[n].park();
                if self.gate.leave() {
                    self.settle();
                }
            }
        }

        fn settle(&self) {
            let mut life = self.life.lock().unwrap();
            if self.gate.active() == 0 && life.0 {
                *life = (false, life.1 + 1);
                self.inside.with(|_| ());
            }
        }

        fn close(&self) {
            let mut life = self.life.lock().unwrap();
            life.0 = true;
            let nobody = self.gate.close();
            drop(life);
            if nobody {
                return self.settle();
            }
            for (at, bell) in self.vcpus.iter().zip(&self.doorbells) {
                if let Wake::Running(_) = at.wake() {
                    bell.store(true, Ordering::Release);
                }
            }
        }
    }
    bounded(3, || {
        let partition = Arc::new(Partition {
            gate: Gate::closed(),
            vcpus: [Whereabouts::parked(), Whereabouts::parked()],
            doorbells: [AtomicBool::new(false), AtomicBool::new(false)],
            inside: loom::cell::UnsafeCell::new(0),
            life: Mutex::new((false, 0)),
        });
        partition.gate.open(1);
        assert!(partition.vcpus[0].unpark());
        let started = Arc::new(AtomicBool::new(false));
        let (theirs, begin) = (partition.clone(), started.clone());
        let cpu = thread::spawn(move || {
            let p = theirs.clone();
            theirs.run(0, || {
                p.gate.join();
                assert!(p.vcpus[1].unpark());
                begin.store(true, Ordering::Release);
            });
        });
        partition.close();
        cpu.join().unwrap();
        if started.load(Ordering::Acquire) {
            partition.run(1, || ());
        }
        // Who was inside when the gate closed has been rung, leaves, and looks again.
        if partition.vcpus[0].look().0 == Phase::Running {
            assert!(partition.doorbells[0].load(Ordering::Acquire));
            partition.vcpus[0].park();
            if partition.gate.leave() {
                partition.settle();
            }
        }
        assert_eq!(*partition.life.lock().unwrap(), (false, 1));
    });
}
