//! Two processors race to start a third one, again and again: each time one of them does, it runs once, and stops itself.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use guests::context::prepare_secondary;
use guests::cpu::{TB_HZ, timebase};
use guests::{Hcall, Report, rtas, status, team};

guests::main!(run);

const ROUNDS: u64 = 1000;

/// How often a race was won, and how often the third processor ran.
static WON: AtomicU64 = AtomicU64::new(0);
static RAN: AtomicU64 = AtomicU64::new(0);
/// Where the racers meet, and how many have come to the end.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static FINISHED: AtomicU64 = AtomicU64::new(0);
/// Rounds after which the third one had not stopped within a second.
static STUCK: AtomicU64 = AtomicU64::new(0);
/// What `start-cpu` is given.
static ENTRY: AtomicU64 = AtomicU64::new(0);
static ARGUMENT: AtomicU64 = AtomicU64::new(0);

fn third(_: u64) -> ! {
    RAN.fetch_add(1, SeqCst);
    team::stop_self()
}

fn race() {
    let (entry, argument) = (ENTRY.load(SeqCst), ARGUMENT.load(SeqCst));
    for round in 1..=ROUNDS {
        ARRIVED.fetch_add(1, SeqCst);
        while ARRIVED.load(SeqCst) < 2 * round {
            core::hint::spin_loop();
        }
        if rtas::call("start-cpu", &[team::server(2), entry as u32, argument as u32], &mut []) == 0 {
            WON.fetch_add(1, SeqCst);
        }
        let since = timebase();
        while team::state(2) != 0 {
            if timebase() - since > TB_HZ {
                STUCK.fetch_add(1, SeqCst);
                break;
            }
        }
    }
    FINISHED.fetch_add(1, SeqCst);
}

fn second(_: u64) -> ! {
    status(Hcall::CPPR, &[0xff]);
    race();
    team::stop_self()
}

fn run(t: &mut Report) {
    t.equal("processors", team::assemble(), 3);
    let (entry, argument) = prepare_secondary(2, third, 2);
    ENTRY.store(entry, SeqCst);
    ARGUMENT.store(argument, SeqCst);
    t.equal("second", team::start(1, second), 0);
    race();
    team::until("the second processor", || FINISHED.load(SeqCst) == 2);
    t.same("stuck", STUCK.load(SeqCst), 0);
    let won = WON.load(SeqCst);
    t.within("won", won, ROUNDS, 2 * ROUNDS);
    t.same("ran", RAN.load(SeqCst), won);
}
