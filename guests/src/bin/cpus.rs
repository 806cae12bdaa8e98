//! Starting and stopping virtual processors, again and again (LoPAR 7.3.8: start-cpu, stop-self,
//! query-cpu-stopped-state), and what H_SET_MODE means for those that run and those that start later.
//!
//! `cycles=` on the command line says how often each is started (200).
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guests::cpu::{TB_HZ, mfspr, timebase};
use guests::space;
use guests::team::{self, MAX};
use guests::{
    Context, Hcall, MSR_VIRTUAL, Report, Status, platform, println, rtas, run as run_context, status,
};
use power::spr;

guests::main!(run);

const STOPPED: i32 = 0;
const STARTED: i32 = 2;
/// Twice the hypervisor's longest turn, and some more.
const SLICE: u64 = TB_HZ / 40;
const MOVED: u64 = 0xc000_0000_0000_4000;

/// How often each has been up.
static UPS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
/// They stop when this is their number of ups.
static LEAVE: AtomicU64 = AtomicU64::new(0);
/// What they found wrong when they came up.
static WRONG: AtomicU64 = AtomicU64::new(0);
/// A request to take an interrupt: its number; and the answers of each.
static ASK: AtomicU64 = AtomicU64::new(0);
static ANSWERED: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static ARRIVAL: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];

/// Takes a system call with translation on. Gives where it arrived.
fn arrival() -> u64 {
    space::install_standard();
    let mut c = Context { nip: space::CODE_EA, msr: MSR_VIRTUAL, ..Context::ZERO };
    run_context(&mut c);
    c.arrival
}

fn other(index: u64) -> ! {
    let index = index as usize;
    // A started processor has its number in the register, and the decrementer that its start set is its own.
    if guests::context::own_index() != index || mfspr::<{ spr::SPRG0 }>() == 0 {
        WRONG.fetch_add(1, SeqCst);
    }
    let up = UPS[index].fetch_add(1, SeqCst) + 1;
    let mut answered = ASK.load(SeqCst);
    while LEAVE.load(SeqCst) < up {
        let ask = ASK.load(SeqCst);
        if ask != answered {
            answered = ask;
            ARRIVAL[index].store(arrival(), SeqCst);
            ANSWERED[index].store(ask, SeqCst);
        }
        core::hint::spin_loop();
    }
    // Some leave at once, some later.
    guests::cpu::delay(up * index as u64 * 37 % 2000);
    team::stop_self()
}

/// Where all processors' interrupts arrive now.
fn all_arrive(t: &mut Report, name: &str, n: usize, at: u64) {
    let ask = ASK.fetch_add(1, SeqCst) + 1;
    for index in 1..n {
        team::until("an interrupt", || ANSWERED[index].load(SeqCst) == ask);
        t.same(name, ARRIVAL[index].load(SeqCst), at);
    }
    t.same(name, arrival(), at);
}

/// Waits until one has stopped.
fn stopped(index: usize) -> bool {
    let start = timebase();
    loop {
        match team::state(index) {
            STOPPED => return true,
            1 | STARTED if timebase() - start < 2 * TB_HZ => {}
            _ => return false,
        }
    }
}

fn cycle(n: usize, cycles: u64) -> u64 {
    let mut wrong = 0;
    for up in 1..=cycles {
        for index in 1..n {
            wrong += u64::from(team::state(index) != STOPPED);
            wrong += u64::from(team::start(index, other) != 0);
        }
        for (index, ups) in UPS.iter().enumerate().take(n).skip(1) {
            team::until("a start", || ups.load(SeqCst) == up);
            wrong += u64::from(team::state(index) != STARTED);
            // One that runs cannot be started.
            let again = [team::server(index), 0x100, 0];
            wrong += u64::from(rtas::call("start-cpu", &again, &mut []) == 0);
        }
        LEAVE.store(up, SeqCst);
        for index in 1..n {
            wrong += u64::from(!stopped(index));
        }
        if wrong != 0 {
            println!("@ note {wrong} wrong in round {up}");
            break;
        }
    }
    wrong
}

fn run(t: &mut Report) {
    let n = team::assemble();
    if n < 2 {
        t.is_true("two-processors", false);
        return;
    }
    space::standard();
    guests::place(&[]);
    t.equal("state-own", team::state(0), STARTED);
    t.equal("state-nobody", nobody(), -3);
    // Before the others are up: it is theirs too when they start.
    t.equal("set", status(Hcall::SET_MODE, &[3, 3, 0, 0]), Status::SUCCESS);
    let cycles = platform::number("cycles", 200);
    t.same("cycles", cycle(n, cycles), 0);
    t.same("came-up-wrong", WRONG.load(SeqCst), 0);
    t.same("last-start", team::start_others(other), n - 1);
    for ups in &UPS[1..n] {
        team::until("the last start", || ups.load(SeqCst) == cycles + 1);
    }
    all_arrive(t, "mode-when-started", n, MOVED + 0xc00);
    // While they run. QEMU does not let a hypervisor ring a guest that has EE off (its doorbells wait for EE, unlike the
    // ISA's): then it is told at the end of its slice.
    t.equal("unset", status(Hcall::SET_MODE, &[0, 3, 0, 0]), Status::SUCCESS);
    guests::cpu::delay(SLICE);
    all_arrive(t, "mode-while-running", n, 0xc00);
    t.equal("set-again", status(Hcall::SET_MODE, &[3, 3, 0, 0]), Status::SUCCESS);
    guests::cpu::delay(SLICE);
    all_arrive(t, "mode-again", n, MOVED + 0xc00);
    LEAVE.store(u64::MAX, SeqCst);
    for index in 1..n {
        t.is_true("last-stop", stopped(index));
    }
}

fn nobody() -> i32 {
    let mut more = [0];
    rtas::call("query-cpu-stopped-state", &[77], &mut more)
}
