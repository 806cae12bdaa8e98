//! What part of the host's processors each virtual processor gets: all spin for the same time, count, and subtract what the VPA
//! says was stolen. Loops are the better measure, but only on one processor: QEMU lets several take turns, and is not even
//! itself.
//!
//! Several partitions measure at the same time: they begin at a round number of the timebase, which is the same for
//! all. Words of the command line: `ms=` how long (1000), `even` when this partition's processors must have got the
//! same within 5 %, `hold` to wait for a byte from the console before the end, `snapshots` to take one snapshot after the other
//! instead of spinning: what the hypervisor does about that is this partition's time, too.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guests::copies::snapshot;
use guests::cpu::{TB_HZ, timebase};
use guests::team::{self, MAX, Meeting};
use guests::{Hcall, Report, Status, hcall, platform, println, vpa};

guests::main!(run);

/// Everybody begins at a multiple of this, some four seconds; the wait is slept.
const ROUND: u64 = 1 << 31;
/// Time to get there.
const EARLY: u64 = TB_HZ / 100;

static MS: AtomicU64 = AtomicU64::new(0);
static BEGIN: AtomicU64 = AtomicU64::new(0);
/// Ticks that each has had, and loops that it has gone.
static HAD: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static LOOPS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static READY: Meeting = Meeting::new();
static DONE: Meeting = Meeting::new();

fn measure(index: usize) {
    vpa::register(index);
    READY.wait(team::count());
    let begin = BEGIN.load(SeqCst);
    team::sleep_until(begin - EARLY);
    let end = begin + MS.load(SeqCst) * (TB_HZ / 1000);
    while timebase() < begin {
        core::hint::spin_loop();
    }
    let stolen = || vpa::stolen(index).iter().sum::<u64>();
    let snapshots = platform::says("snapshots");
    if snapshots && index == 0 {
        println!("@ taking snapshots");
    }
    // From a dispatch to a dispatch, if it has to wait for its turns: whole turns, with the waits between.
    let (first, before, mut loops) = (timebase(), stolen(), 0);
    while timebase() < end {
        if snapshots && snapshot().status != Status::SUCCESS {
            team::give_up("a snapshot");
        }
        loops += 1;
    }
    let all = timebase() - first;
    let had = all.saturating_sub(stolen() - before);
    let had = (u128::from(had) * u128::from(end - begin) / u128::from(all)) as u64;
    LOOPS[index].store(loops, SeqCst);
    HAD[index].store(had, SeqCst);
    DONE.wait(team::count());
}

fn other(index: u64) -> ! {
    guests::status(Hcall::CPPR, &[0xff]);
    measure(index as usize);
    team::stop_self()
}

fn run(t: &mut Report) {
    let n = team::assemble();
    MS.store(platform::number("ms", 1000), SeqCst);
    t.same("started", team::start_others(other), n - 1);
    let begin = ((timebase() + TB_HZ / 2) / ROUND + 1) * ROUND;
    BEGIN.store(begin, SeqCst);
    let name = platform::argument("name").unwrap_or("guest");
    measure(0);
    let sum: u64 = HAD[..n].iter().map(|had| had.load(SeqCst)).sum();
    for vcpu in 0..n {
        let (had, loops) = (HAD[vcpu].load(SeqCst), LOOPS[vcpu].load(SeqCst));
        println!("@ share {name} vcpu={vcpu} ticks={had} loops={loops} begin={begin:#x}");
    }
    t.is_true("had-time", sum > TB_HZ / 100);
    if platform::says("even") {
        let mean = sum / n as u64;
        for had in &HAD[..n] {
            t.within("even", had.load(SeqCst), mean - mean / 20, mean + mean / 20);
        }
    }
    if platform::says("hold") {
        println!("@ hold {name}");
        while hcall(Hcall::GET_TERM_CHAR, &[0]).r4() == 0 {
            team::cede(TB_HZ / 100);
        }
    }
}
