//! Several processors: who gives his time to whom, and page table calls of all at once.

use crate::measure::{FEW, MANY, print};
use crate::table::{self, dword0};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guests::cpu::{TB_HZ, timebase};
use guests::insn::{add, addi, bdnz, ld, li, mr, sc, std};
use guests::mem::{read64, write64};
use guests::space::READ_WRITE;
use guests::team::{self, MAX};
use guests::{Context, Hcall, MSR_REAL, Report, place_at, run, status};
use power::hcall::flags;

/// Code and a flag of each processor, 4 KiB each.
const OWN: u64 = 0x88_0000;
const FLAGS: u64 = 0x8a_0000;

/// A context that starts with code of this processor's own.
fn context(index: usize, code: &[u32]) -> Context {
    Context { nip: place_at(OWN + 0x1000 * index as u64, code), msr: MSR_REAL, ..Context::ZERO }
}

/// The other one of two, for [`confer`]: confers back until it is told to stop, and counts how often.
fn confers_back(index: u64) -> ! {
    // r16 points to the count, and to what ends it.
    let code = [
        mr(3, 14),
        mr(4, 15),
        sc(1),
        addi(21, 21, 1),
        std(21, 0, 16),
        ld(6, 8, 16),
        0x2c26_0000,                            // cmpdi r6, 0
        0x4182_0000 | (-28i32 as u32 & 0xfffc), // beq back to the first
    ];
    let mut c = context(index as usize, &code);
    c.gpr[14] = Hcall::CONFER.0;
    c.gpr[15] = u64::from(team::server(0));
    c.gpr[16] = FLAGS;
    run(&mut c);
    write64(FLAGS + 16, u64::from(c.finished()) + 1);
    team::stop_self()
}

/// Two virtual processors on one CPU hand it to each other by H_CONFER.
pub fn confer(t: &mut Report) {
    let rounds = FEW;
    (0..3).for_each(|n| write64(FLAGS + 8 * n, 0));
    t.equal("started", team::start(1, confers_back), 0);
    let code = [mr(3, 14), mr(4, 15), sc(1), add(22, 22, 3), bdnz(-16)];
    let one_sided = t.differs_on_qemu("confers", "it does not confer to who has no VPA");
    let mut best: Option<(u64, u64)> = None;
    for _ in 0..MANY {
        let mut c = context(0, &code);
        c.gpr[14] = Hcall::CONFER.0;
        c.gpr[15] = u64::from(team::server(1));
        c.ctr = rounds;
        let (began, before) = (timebase(), read64(FLAGS));
        run(&mut c);
        let (took, theirs) = (timebase() - began, read64(FLAGS) - before);
        let good = c.finished() && c.gpr[22] == 0;
        let both = rounds + theirs;
        let fairly = one_sided || theirs.abs_diff(rounds) <= rounds / 10;
        if !good || !fairly {
            t.note(format_args!("ended by {:#x}, {theirs} rounds of the other", c.arrival));
            return t.is_true("h_confer", false);
        }
        let cheaper = |(ticks, n): (u64, u64)| took * n < ticks * both;
        if best.is_none_or(cheaper) {
            best = Some((took, both));
        }
    }
    t.is_true("h_confer", true);
    if let Some((ticks, switches)) = best {
        // Five here and eight there.
        print("h_confer", ticks, switches, 7);
    }
    write64(FLAGS + 8, 1);
    team::until("the other to stop", || {
        status(Hcall::CONFER, &[u64::from(team::server(1)), 0]);
        read64(FLAGS + 16) != 0
    });
    t.same("other-finished", read64(FLAGS + 16), 2);
}

/// What is under way: which run it is, and how many processors are in it.
static RUN: AtomicU64 = AtomicU64::new(0);
static WORKERS: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static ENDED: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
/// Who has come, and the run that has begun.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Groups of each processor, and how often it goes through them.
const GROUPS: u64 = 500;
const TIMES: u64 = 2;

/// H_ENTER and H_REMOVE of an entry of each of this processor's groups, for pages of its own.
fn enter_and_remove(index: usize) -> bool {
    let code = [
        mr(3, 14),
        mr(4, 15),
        mr(5, 16),
        sc(1),
        add(22, 22, 3),
        mr(3, 18),
        li(4, 0),
        mr(5, 16),
        sc(1),
        add(22, 22, 3),
        addi(16, 16, 8),
        addi(7, 7, 0x1000),
        bdnz(-48),
    ];
    let mut all = true;
    for _ in 0..TIMES {
        let mut c = context(index, &code);
        c.gpr[6] = dword0();
        c.gpr[7] = (table::PAGES + GROUPS * 0x1000 * index as u64) | READ_WRITE;
        c.gpr[14] = Hcall::ENTER.0;
        c.gpr[15] = flags::EXACT;
        c.gpr[16] = 8 * (0x800 + GROUPS * index as u64);
        c.gpr[18] = Hcall::REMOVE.0;
        c.ctr = GROUPS;
        run(&mut c);
        all &= c.finished() && c.gpr[22] == 0;
    }
    all
}

/// Waits until it begins, and sleeps when its part is done: who spins then would count, too.
fn take_part(index: usize, run: u64, workers: u64) {
    ARRIVED.fetch_add(1, SeqCst);
    team::until("the beginning", || BEGUN.load(SeqCst) == run);
    if !enter_and_remove(index) {
        FAILED.fetch_add(1, SeqCst);
    }
    ENDED[index].store(timebase(), SeqCst);
    if DONE.fetch_add(1, SeqCst) + 1 == workers {
        team::prod(0);
    }
}

fn worker(index: u64) -> ! {
    status(Hcall::CPPR, &[0xff]);
    let mut last = 0;
    loop {
        let run = RUN.load(SeqCst);
        let workers = WORKERS.load(SeqCst);
        if run != last && index < workers {
            last = run;
            take_part(index as usize, run, workers);
        }
        team::cede(TB_HZ);
    }
}

/// One run of so many processors: ticks from the first one's beginning to the last one's end.
fn together(t: &mut Report, workers: u64) -> u64 {
    DONE.store(0, SeqCst);
    ARRIVED.store(0, SeqCst);
    WORKERS.store(workers, SeqCst);
    let run = RUN.fetch_add(1, SeqCst) + 1;
    for index in 1..workers as usize {
        if team::state(index) == 0 {
            t.equal("started", team::start(index, worker), 0);
        } else {
            team::prod(index);
        }
    }
    team::until("the others", || ARRIVED.load(SeqCst) == workers - 1);
    let began = timebase();
    BEGUN.store(run, SeqCst);
    let good = enter_and_remove(0);
    ENDED[0].store(timebase(), SeqCst);
    FAILED.fetch_add(u64::from(!good), SeqCst);
    DONE.fetch_add(1, SeqCst);
    while DONE.load(SeqCst) < workers {
        team::cede(TB_HZ / 10);
    }
    let ended = ENDED[..workers as usize].iter().map(|at| at.load(SeqCst)).max().unwrap_or(0);
    ended - began
}

/// Page table calls of one, two and four processors at once, each on a CPU of its own.
///
/// Where instructions are counted, QEMU's processors take turns and the timebase goes on with the instructions of all of them. So what
/// passes from the beginning to the last one's end is the sum of all the work, as long as nobody has to wait: all have come by then and
/// see at their next turn that it has begun, and who has done his part sleeps, which takes no instructions. Divided by all operations
/// that is the cost of one.
pub fn throughput(t: &mut Report, n: usize) {
    table::back_pages(n as u64 * GROUPS * 0x1000);
    // The first entries of the groups cost more.
    (0..n).for_each(|index| t.is_true("warm", enter_and_remove(index)));
    for (workers, name) in [(1, "enter_remove_1"), (2, "enter_remove_2"), (4, "enter_remove_4")] {
        if workers > n as u64 {
            break;
        }
        let best = (0..4).map(|_| together(t, workers)).min().unwrap_or(0);
        t.same(name, FAILED.load(SeqCst), 0);
        print(name, best, 2 * workers * GROUPS * TIMES, 6);
    }
    // By now the partition has run on several CPUs, and its invalidations reach them all. The others sleep.
    table::protect_and_remove(t, ["h_protect_global", "h_remove_global"]);
}
