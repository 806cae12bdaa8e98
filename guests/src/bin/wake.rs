//! Sleeping and waking between virtual processors: no wake-up is lost, none is late, time that is given away arrives,
//! and the VPA says what happened (LoPAR 14.11.3: H_CEDE, H_PROD, H_CONFER, H_JOIN; 14.11.3.2: the VPA).
//!
//! Words of the command line: `rounds=` of each ping-pong (2000); `crowded` when all processors share one of the
//! host's, so that there is stolen time and a holder of a lock is preempted; `alone` when each has one for itself; `late=`
//! how many milliseconds after its time a timer may wake its processor (2).
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guests::cpu::{TB_HZ, delay, timebase};
use guests::insn::{mtmsrd_ee, sc};
use guests::team::{self, Meeting};
use guests::{Hcall, Report, Status, platform, status, vpa};
use power::interrupt::Vector;
use power::regs::Msr;

guests::main!(run);

const MILLISECOND: u64 = TB_HZ / 1000;
/// Nobody waits longer than this for anything: a wake-up was lost.
const LOST: u64 = 2 * TB_HZ;
/// A prod that nobody waited for ends the next sleep. This one.
const PAST_PRODS: u64 = 1000;
/// The last processor that wants to join is told so (H_CONTINUE).
const CONTINUE: i64 = 18;

/// QEMU's pseries machine, about H_PROD.
const FORGETS: &str = "it forgets a prod when its emulation loop turns before the processor waits";

static STEP: Meeting = Meeting::new();
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static TURN: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicU64 = AtomicU64::new(0);
static PROGRESS: AtomicU64 = AtomicU64::new(0);
static CONTINUED: AtomicU64 = AtomicU64::new(0);
static RESUMED: AtomicU64 = AtomicU64::new(0);
static RELEASED: AtomicU64 = AtomicU64::new(0);

fn rounds() -> u64 {
    ROUNDS.load(SeqCst)
}

/// Sleeps until an IPI has come, and takes it.
fn await_ipi() {
    if team::cede(LOST) != Vector::EXTERNAL || team::accept() != 0xff00_0000 | team::IPI {
        FAILED.fetch_add(1, SeqCst);
    }
}

/// The first two send each other IPIs by turns. Each sleeps in between, and may get there after the answer has come.
fn ipis(index: usize) {
    for round in 0..rounds() {
        if index == 0 {
            team::ipi(1);
            await_ipi();
        } else if index == 1 {
            await_ipi();
            // Sometimes late, sometimes at once.
            delay(round % 7 * 300);
            team::ipi(0);
        }
        if FAILED.load(SeqCst) != 0 {
            break;
        }
    }
}

/// The same with H_PROD and a word in memory that says whose turn it is.
fn prods(index: usize) {
    if index > 1 {
        return;
    }
    let other = 1 - index;
    for round in 0..rounds() {
        let start = timebase();
        while TURN.load(SeqCst) != index as u64 {
            let how = team::cede(LOST);
            if how != Vector::SYSTEM_CALL || timebase() - start > LOST {
                FAILED.fetch_add(1, SeqCst);
            }
            if FAILED.load(SeqCst) != 0 {
                return;
            }
        }
        delay((round % 5 + index as u64) * 200);
        TURN.store(other as u64, SeqCst);
        team::prod(other);
    }
}

/// Everybody but one joins; that one wakes all the others, one after the other.
fn joins(index: usize, n: usize) {
    for round in 1..=50 {
        match status(Hcall::JOIN, &[]) {
            Status(CONTINUE) => {
                CONTINUED.fetch_add(1, SeqCst);
                // An interrupt wakes nobody who has joined with EE off.
                team::ipi((index + 1) % n);
                delay(MILLISECOND / 2);
                if RESUMED.load(SeqCst) != (round - 1) * (n as u64 - 1) {
                    FAILED.fetch_add(1, SeqCst);
                }
                for other in (0..n).filter(|&other| other != index) {
                    RELEASED.store(other as u64, SeqCst);
                    team::prod(other);
                    team::until("one who was prodded", || RELEASED.load(SeqCst) == u64::MAX);
                }
            }
            Status::SUCCESS => {
                if RELEASED.swap(u64::MAX, SeqCst) != index as u64 {
                    FAILED.fetch_add(1, SeqCst);
                }
                RESUMED.fetch_add(1, SeqCst);
            }
            _ => {
                FAILED.fetch_add(1, SeqCst);
            }
        }
        STEP.wait(n);
        status(Hcall::IPI, &[u64::from(team::server(index)), 0xff]);
        STEP.wait(n);
    }
}

/// Counts until the first processor has seen enough of this piece of work.
fn work(piece: u64) {
    while STOP.load(SeqCst) < piece {
        PROGRESS.fetch_add(1, SeqCst);
    }
}

fn other(index: u64) -> ! {
    let index = index as usize;
    let n = team::count();
    status(Hcall::CPPR, &[0xff]);
    vpa::register(index);
    STEP.wait(n);
    ipis(index);
    STEP.wait(n);
    if !platform::is_qemu() {
        prods(index);
    }
    STEP.wait(n);
    team::cede(PAST_PRODS);
    // The timer: the second processor spins meanwhile.
    if index == 1 {
        work(1);
    }
    STEP.wait(n);
    // Giving time away: the second one works, for as long as all the measurements take.
    if index == 1 {
        work(2);
    }
    STEP.wait(n);
    joins(index, n);
    STEP.wait(n);
    team::stop_self()
}

/// Time that this processor was ready and did not run.
fn stolen() -> u64 {
    let [waited_for_cpu, waited_for_queue] = vpa::stolen(0);
    waited_for_cpu + waited_for_queue
}

/// How far the second processor gets in 200 ms, while this one does something again and again.
fn beside(something: impl Fn()) -> u64 {
    let (start, before) = (timebase(), PROGRESS.load(SeqCst));
    while timebase() - start < 200 * MILLISECOND {
        something();
    }
    PROGRESS.load(SeqCst) - before
}

/// Gives its time to the second processor if that is not running, as one who waits for a lock would.
fn confer() {
    let counter = vpa::counter(1);
    if counter & 1 != 0 {
        status(Hcall::CONFER, &[u64::from(team::server(1)), u64::from(counter)]);
    }
}

fn timers(t: &mut Report) {
    let before = PROGRESS.load(SeqCst);
    let (mut worst, mut at) = (0, 0);
    for n in 0..50 {
        let ticks = 3 * MILLISECOND + n * 1000;
        let start = timebase();
        let how = team::cede(ticks);
        let took = timebase() - start;
        if how != Vector::DECREMENTER || took < ticks {
            t.same("timer-woken", how.0, Vector::DECREMENTER.0);
            t.within("timer-early", took, ticks, ticks + 2 * MILLISECOND);
        }
        if took - ticks > worst {
            (worst, at) = (took - ticks, n);
        }
    }
    t.note(format_args!("the latest of 50 timers was number {at}, by {worst} ticks"));
    t.within("timer-late", worst, 0, platform::number("late", 2) * MILLISECOND);
    t.is_true("timer-beside", PROGRESS.load(SeqCst) - before > 1000);
    STOP.store(1, SeqCst);
}

fn giving(t: &mut Report) {
    let before = PROGRESS.load(SeqCst);
    team::until("the second processor", || PROGRESS.load(SeqCst) > before);
    let (crowded, alone) = (platform::says("crowded"), platform::says("alone"));
    let before = stolen();
    let spinning = beside(core::hint::spin_loop);
    let stolen_spinning = stolen() - before;
    let conferring = beside(confer);
    let all = beside(|| {
        status(Hcall::CONFER, &[u64::MAX, 0]);
    });
    let before = stolen();
    let ceding = beside(|| {
        team::cede(MILLISECOND);
    });
    let stolen_ceding = stolen() - before;
    t.note(format_args!(
        "progress beside: spinning {spinning}, conferring {conferring}, to all {all}, ceding {ceding}; stolen {} us of \
         200 ms spinning, {} us ceding; dispersion {}",
        stolen_spinning / 512,
        stolen_ceding / 512,
        vpa::dispersion(0),
    ));
    t.is_true("beside-spinning", spinning > 0);
    if crowded {
        t.is_true("confer-helps", conferring > spinning + spinning / 2);
        t.is_true("confer-to-all-helps", all > spinning + spinning / 2);
        t.is_true("cede-helps", ceding > spinning + spinning / 2);
        t.within("stolen", stolen_spinning, 50 * MILLISECOND, 150 * MILLISECOND);
        t.within("stolen-ceding", stolen_ceding, 0, 100 * MILLISECOND);
    }
    if alone {
        t.within("stolen-alone", stolen_spinning, 0, 4 * MILLISECOND);
    }
    if !t.differs_on_qemu("counter-even", "it counts dispatches only when a processor sleeps") {
        t.same("counter-even", vpa::counter(0) & 1, 0);
        t.is_true("counter-counts", vpa::counter(0) > 2);
    }
    STOP.store(2, SeqCst);
}

/// H_JOIN wants EE off.
fn join_with_ee(t: &mut Report) {
    let c = team::own_code(&[mtmsrd_ee(4), sc(1)], Hcall::JOIN.0, Msr::EE.bits());
    t.same("join-with-ee", c.gpr[3], Status::BAD_MODE.0.cast_unsigned());
}

fn run(t: &mut Report) {
    let n = team::assemble();
    if n < 2 {
        t.is_true("two-processors", false);
        return;
    }
    ROUNDS.store(platform::number("rounds", 2000), SeqCst);
    vpa::register(0);
    join_with_ee(t);
    t.equal("join-alone", status(Hcall::JOIN, &[]), Status(CONTINUE));
    t.same("started", team::start_others(other), n - 1);
    STEP.wait(n);
    let start = timebase();
    ipis(0);
    t.same("ipi-lost", FAILED.load(SeqCst), 0);
    t.note(format_args!("{} IPIs: {} us", rounds(), (timebase() - start) / 512));
    STEP.wait(n);
    FAILED.store(0, SeqCst);
    if !t.differs_on_qemu("prod-lost", FORGETS) {
        let start = timebase();
        prods(0);
        t.same("prod-lost", FAILED.load(SeqCst), 0);
        t.note(format_args!("{} prods: {} us", rounds(), (timebase() - start) / 512));
    }
    STEP.wait(n);
    team::cede(PAST_PRODS);
    timers(t);
    STEP.wait(n);
    giving(t);
    FAILED.store(0, SeqCst);
    RELEASED.store(u64::MAX, SeqCst);
    STEP.wait(n);
    if t.differs_on_qemu("joins", FORGETS) {
        return;
    }
    joins(0, n);
    t.same("join-failed", FAILED.load(SeqCst), 0);
    t.same("join-continued", CONTINUED.load(SeqCst), 50);
    t.same("join-resumed", RESUMED.load(SeqCst), 50 * (n as u64 - 1));
    STEP.wait(n);
}
