//! Translations that are taken away while others use them: when the call has returned, nobody reads or writes through the
//! old one.
//!
//! One processor maps a page to one of several real pages in turn. After a translation is gone it writes a mark, a
//! negative number, all over the old page. Whoever reads the mark through the page read after the call had returned.
//! Stores are caught likewise: what stands in a page that has become read-only does not change any more.
//!
//! `rounds=` on the command line (2000). With one processor the program does both sides itself, for `ms=` milliseconds:
//! that is for a processor that moves between the host's, with a translation left behind on each.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guests::cpu::{TB_HZ, delay, sync, timebase};
use guests::insn::{addi, ld, std};
use guests::mem::{read64, write64};
use guests::space::{self, READ_ONLY, READ_WRITE, Segment};
use guests::team::{self, MAX, Meeting};
use guests::{
    Context, Hcall, MSR_VIRTUAL, Report, Status, platform, println, run as run_context, status, vpa,
};
use power::PageSize;
use power::hcall::flags;
use power::interrupt::Vector;
use power::slb::SegmentSize;

guests::main!(run);

/// What is mapped to and fro, in a segment of its own.
const TARGET: Segment =
    Segment { ea: 0x4000_0000, vsid: 0x333, size: SegmentSize::M256, base: PageSize::K4, flags: 0 };
/// Where the real pages are, and how many.
const POOL: u64 = 0x300_0000;
const PAGES: u64 = 4;
const PAGE: u64 = 0x1000;
/// Each processor has a cache line of the page for itself.
const LINE: u64 = 128;
const MARK: u64 = 1 << 63;

/// Loads from r3, r4 times; counts loads in r7, and in r6 those that found the mark.
const READER: [u32; 6] = [
    ld(8, 0, 3),
    0x2c28_0000, // cmpdi r8, 0
    0x4080_0008, // bge +8
    addi(6, 6, 1),
    addi(7, 7, 1),
    0x4200_ffec, // bdnz -20
];
/// Stores to r3, each time a greater number, from r8 on; counts stores in r7.
const WRITER: [u32; 4] = [
    addi(8, 8, 1),
    std(8, 0, 3),
    addi(7, 7, 1),
    0x4200_fff4, // bdnz -12
];
/// Each has a place in the code page.
const WRITER_AT: u64 = 0x400;

static STARTED: Meeting = Meeting::new();
static WRITING: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);
static ACCESSES: AtomicU64 = AtomicU64::new(0);
static FAULTS: AtomicU64 = AtomicU64::new(0);
static STALE: AtomicU64 = AtomicU64::new(0);
static STRANGE: AtomicU64 = AtomicU64::new(0);

fn install() {
    space::install_standard();
    TARGET.install(space::FREE_SLOT);
}

/// Reads or writes through the page until it faults or has had enough. Gives how often it got through.
fn access(index: usize, writing: bool, times: u64, value: u64) -> u64 {
    let mut c = Context { nip: space::CODE_EA, msr: MSR_VIRTUAL, ..Context::ZERO };
    if writing {
        c.nip += WRITER_AT;
    }
    c.gpr[3] = TARGET.ea + LINE * index as u64;
    c.gpr[8] = value;
    c.ctr = times;
    run_context(&mut c);
    STALE.fetch_add(c.gpr[6], SeqCst);
    match c.vector() {
        Vector::SYSTEM_CALL => {}
        // No entry, or one that forbids the store.
        Vector::DATA_STORAGE if c.dar & !0xfff == TARGET.ea && c.dsisr & 0x4800_0000 != 0 => {
            FAULTS.fetch_add(1, SeqCst);
        }
        other => {
            if STRANGE.fetch_add(1, SeqCst) == 0 {
                println!(
                    "@ note strange: {:#x} at {:#x}, dar {:#x} dsisr {:#x}",
                    other.0, c.nip, c.dar, c.dsisr
                );
            }
        }
    }
    ACCESSES.fetch_add(c.gpr[7], SeqCst);
    c.gpr[7]
}

fn other(index: u64) -> ! {
    let index = index as usize;
    status(Hcall::CPPR, &[0xff]);
    install();
    STARTED.wait(team::count());
    let mut value = 1;
    while !OVER.load(SeqCst) {
        value += access(index, WRITING.load(SeqCst), 200, value);
    }
    STARTED.wait(team::count());
    team::stop_self()
}

fn page(n: u64) -> u64 {
    POOL + n % PAGES * PAGE
}

fn write_page(n: u64, value: u64) {
    for at in (page(n)..page(n) + PAGE).step_by(LINE as usize) {
        write64(at, value);
    }
    sync();
}

fn map(n: u64) -> Option<u64> {
    write_page(n, n + 1);
    TARGET.enter(TARGET.ea, page(n), PageSize::K4, READ_WRITE).ok()
}

/// Takes the translation away, by one of several calls.
fn unmap(n: u64, index: u64) -> bool {
    let avpn = TARGET.v(TARGET.ea, PageSize::K4) & !0x7f;
    match n % 3 {
        0 => status(Hcall::REMOVE, &[flags::AVPN, index, avpn]) == Status::SUCCESS,
        1 => status(Hcall::REMOVE, &[0, index, 0]) == Status::SUCCESS,
        // One translation, and the end of the list.
        _ => {
            let all = [1 << 62 | index, 0, 3 << 62, 0, 3 << 62, 0, 3 << 62, 0];
            status(Hcall::BULK_REMOVE, &all) == Status::SUCCESS
        }
    }
}

/// All that others stored, as it stands in the page now.
fn stored(n: u64) -> [u64; MAX] {
    core::array::from_fn(|index| read64(page(n) + LINE * index as u64))
}

/// The page is read-only: nothing changes. Then it is not, and the next round goes on.
fn protect(n: u64, index: u64) -> bool {
    let set = |pp: u64| status(Hcall::PROTECT, &[pp & 3, index, 0]) == Status::SUCCESS;
    let done = set(READ_ONLY);
    let before = stored(n);
    more(&FAULTS);
    let still = before == stored(n);
    if !still {
        STALE.fetch_add(1, SeqCst);
    }
    done && set(READ_WRITE)
}

/// Waits until others have done more of it, but not for long: they may all wait for a turn.
fn more(of: &AtomicU64) {
    let (start, before) = (timebase(), of.load(SeqCst));
    while of.load(SeqCst) == before && timebase() - start < TB_HZ / 100 {
        core::hint::spin_loop();
    }
}

/// The first processor's part with others beside it.
fn shoot(t: &mut Report, name: &str, rounds: u64, writing: bool) {
    WRITING.store(writing, SeqCst);
    let (accesses, faults) = (ACCESSES.load(SeqCst), FAULTS.load(SeqCst));
    let mut failed = 0;
    for n in 0..rounds {
        let Some(index) = map(n) else {
            failed += 1;
            break;
        };
        more(&ACCESSES);
        delay(n * 37 % 3000);
        if writing && !protect(n, index) {
            failed += 1;
        }
        delay(n * 13 % 700);
        if !unmap(n, index) {
            failed += 1;
        }
        if !writing {
            // A store that came late would hide the mark.
            write_page(n, MARK);
            more(&FAULTS);
        } else {
            let before = stored(n);
            more(&FAULTS);
            if before != stored(n) {
                STALE.fetch_add(1, SeqCst);
            }
        }
        if STALE.load(SeqCst) + STRANGE.load(SeqCst) + failed != 0 {
            println!("@ note round {n}");
            break;
        }
    }
    t.same(name, STALE.load(SeqCst), 0);
    t.same("strange", STRANGE.load(SeqCst), 0);
    t.same("failed-calls", failed, 0);
    let (accesses, faults) = (ACCESSES.load(SeqCst) - accesses, FAULTS.load(SeqCst) - faults);
    t.note(format_args!("{rounds} rounds, {accesses} accesses, {faults} faults"));
    t.is_true("got-through", accesses > rounds);
    t.is_true("faulted", faults > rounds / 10);
}

/// One processor alone, which the host moves about.
fn wander(t: &mut Report, ms: u64) {
    let start = timebase();
    let mut n = 0;
    let mut wrong = 0;
    while timebase() - start < ms * (TB_HZ / 1000) && wrong == 0 {
        let Some(index) = map(n) else {
            wrong += 1;
            break;
        };
        wrong += u64::from(access(0, false, 3, 0) != 3);
        wrong += u64::from(access(0, true, 3, n + 1) != 3);
        wrong += u64::from(read64(page(n)) != n + 4);
        if n % 64 == 0 {
            // A sleeper may be woken elsewhere.
            team::cede(TB_HZ / 10_000);
        }
        wrong += u64::from(!unmap(n, index));
        write_page(n, MARK);
        wrong += u64::from(access(0, false, 1, 0) != 0);
        n += 1;
    }
    t.same("stale", STALE.load(SeqCst), 0);
    t.same("strange", STRANGE.load(SeqCst), 0);
    t.same("wrong", wrong, 0);
    t.note(format_args!("{n} rounds, moved {} times", vpa::dispersion(0)));
    if platform::says("moves") {
        t.is_true("moved", vpa::dispersion(0) > 0);
    }
}

fn run(t: &mut Report) {
    let n = team::assemble();
    space::standard();
    guests::place(&READER);
    guests::place_at(guests::CODE + WRITER_AT, &WRITER);
    install();
    if n == 1 {
        vpa::register(0);
        wander(t, platform::number("ms", 1000));
        return;
    }
    let rounds = platform::number("rounds", 2000);
    t.same("started", team::start_others(other), n - 1);
    STARTED.wait(n);
    shoot(t, "stale-loads", rounds, false);
    shoot(t, "stale-stores", rounds, true);
    OVER.store(true, SeqCst);
    STARTED.wait(n);
}
