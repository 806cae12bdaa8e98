//! Back to a snapshot that the partition has taken of itself: memory, page table, interrupts, timers, areas and registers are as they
//! were, and all its processors go on where they were then. With `others` on the command line only that is looked at.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guests::copies::{revert, snapshot, there_and_back};
use guests::counting::Counter;
use guests::cpu::{TB_HZ, mfspr, mtspr, slbmte, timebase};
use guests::insn::{self, NOP, TRAP, ld, sc, std};
use guests::mem::{fill, is_filled, read64, write64};
use guests::space::{self, READ_ONLY, READ_WRITE, Segment, run_virtual};
use guests::team::{self, MAX};
use guests::{
    Context, Hcall, MSR_REAL, Report, SET_MODE_ENDIAN, Status, hcall, place_at, platform, rtas,
    run as run_context, status, units, vpa,
};
use power::PageSize::K4;
use power::hpte::HpteR;
use power::interrupt::Vector;
use power::slb::SegmentSize;
use power::spr;

guests::main!(run);

const SEGMENT: Segment =
    Segment { ea: 0x2000_0000, vsid: 0x2b3, size: SegmentSize::M256, base: K4, flags: 0 };
const PAGE: u64 = 0x1_0000;
/// Pages that are written before and after, and some that are only read, and some that are not touched before.
const WRITTEN: u64 = 0x100_0000;
const READ: u64 = 0x180_0000;
const FRESH: u64 = 0x1c0_0000;
/// Code and data of the units' test.
const UNITS: u64 = 0x88_0000;

fn run(t: &mut Report) {
    let n = team::assemble();
    space::standard();
    SEGMENT.install(space::FREE_SLOT);
    t.equal("nothing-kept", revert(1), Status::NOT_AVAILABLE);
    t.same("started", team::start_others(other), n - 1);
    if !platform::says("others") {
        memory(t);
        table(t);
        interrupts(t);
        time(t);
        mode(t);
        registers(t);
        again(t);
    }
    if n > 1 {
        others(t, n);
    } else {
        long_ago(t);
    }
}

/// What the page at `at` has before.
const fn pattern(at: u64) -> u64 {
    at.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn memory(t: &mut Report) {
    let all = |first: u64, n: u64| (first..first + n * PAGE).step_by(PAGE as usize);
    for at in all(WRITTEN, 40) {
        write64(at, pattern(at));
        write64(at + 0xfff8, !pattern(at));
    }
    t.is_true("zeroes", all(READ, 10).all(|at| read64(at) == 0));
    let entry = SEGMENT.enter(SEGMENT.ea, WRITTEN + 3 * PAGE, K4, READ_WRITE).expect("an entry");
    let wrong = there_and_back(|| {
        let stored = run_virtual(&[std(4, 0, 3)], true, SEGMENT.ea, 0xbad).finished();
        for at in all(WRITTEN, 30).chain(all(READ, 5)).chain(all(FRESH, 10)) {
            fill(at, PAGE, 0x5a);
        }
        // By calls: a page copied, one zeroed, a doubleword stored.
        let page = WRITTEN + 30 * PAGE;
        let by_calls = [
            status(Hcall::PAGE_INIT, &[1 << (63 - 49), page, WRITTEN]),
            status(Hcall::PAGE_INIT, &[1 << (63 - 48), page + PAGE, 0]),
            status(Hcall::LOGICAL_CI_STORE, &[8, page + 2 * PAGE, 0xbad]),
        ];
        let changed = read64(page) == 0x5a5a_5a5a_5a5a_5a5a
            && read64(page + PAGE) == 0
            && u64::from_be(read64(page + 2 * PAGE)) == 0xbad
            && read64(WRITTEN + 3 * PAGE) == 0x5a5a_5a5a_5a5a_5a5a;
        u64::from(!stored)
            + u64::from(!changed)
            + 16 * by_calls.map(|s| u64::from(s.0 != 0)).iter().sum::<u64>()
    });
    t.same("memory-was-changed", wrong, 0);
    let whole = |at| {
        read64(at) == pattern(at) && read64(at + 0xfff8) == !pattern(at) && is_filled(at + 8, PAGE - 16, 0)
    };
    t.same("memory-written", all(WRITTEN, 40).filter(|at| !whole(*at)).count(), 0);
    t.is_true("memory-read", all(READ, 10).all(|at| is_filled(at, PAGE, 0)));
    t.is_true("memory-fresh", all(FRESH, 10).all(|at| is_filled(at, PAGE, 0)));
    let c = run_virtual(&[ld(5, 0, 3)], true, SEGMENT.ea, 0);
    t.same("memory-translated", c.gpr[5], pattern(WRITTEN + 3 * PAGE));
    t.equal("memory-done", status(Hcall::REMOVE, &[0, entry, 0]), Status::SUCCESS);
}

/// The whole page table as H_READ shows it, in one number; without R and C.
fn digest() -> u64 {
    let mut sum = 0u64;
    for group in (0..platform::hpt_entries()).step_by(4) {
        let a = hcall(Hcall::READ, &[power::hcall::flags::READ_4, group]);
        for (n, word) in a.r[..8].iter().enumerate() {
            let shown = if n % 2 == 0 { *word } else { word & !(HpteR::R | HpteR::C) };
            sum = (sum.rotate_left(5) ^ shown).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    sum
}

const ENTRIES: usize = 200;

/// Entries that are removed, protected, and made.
fn table(t: &mut Report) {
    let ea = |n: usize| SEGMENT.ea + 0x10_0000 + n as u64 * 0x1000;
    let ra = |n: usize| WRITTEN + (n as u64 % 40) * PAGE + n as u64 / 40 * 0x1000;
    let mut entries = [0; ENTRIES];
    for (n, entry) in entries.iter_mut().enumerate() {
        *entry = SEGMENT
            .enter(ea(n), ra(n), K4, if n % 5 == 4 { READ_ONLY } else { READ_WRITE })
            .expect("an entry");
        write64(ra(n) + 0x10, n as u64);
    }
    for n in (0..ENTRIES).step_by(7) {
        run_virtual(&[ld(5, 0x10, 3)], true, ea(n), 0);
    }
    let before = digest();
    let wrong = there_and_back(|| {
        let mut wrong = 0;
        for (n, &entry) in entries.iter().enumerate() {
            let bulk = [1 << 62 | entry, 0, 3 << 62, 0, 3 << 62, 0, 3 << 62, 0];
            let done = match n % 4 {
                0 => status(Hcall::REMOVE, &[0, entry, 0]),
                1 => status(Hcall::PROTECT, &[if n % 5 == 4 { 2 } else { 3 }, entry, 0]),
                2 => status(Hcall::BULK_REMOVE, &bulk),
                _ => Status::SUCCESS,
            };
            wrong += u64::from(done != Status::SUCCESS);
        }
        for n in 0..ENTRIES {
            // Some of them where others were.
            let at = SEGMENT.ea + 0x10_0000 + n as u64 * 0x800 / 0x1000 * 0x1000;
            wrong += u64::from(SEGMENT.enter(at, FRESH + n as u64 * 0x1000, K4, READ_WRITE).is_err());
            run_virtual(&[std(4, 0, 3)], true, at, 0xbad);
        }
        wrong + u64::from(digest() == before) * 1000
    });
    t.same("table-was-changed", wrong, 0);
    t.same("table", digest(), before);
    for n in 0..ENTRIES {
        let c = run_virtual(&[ld(5, 0x10, 3), std(4, 0x18, 3)], true, ea(n), n as u64);
        if n % 5 == 4 {
            t.same("table-refuses", c.vector().0, Vector::DATA_STORAGE.0);
        } else {
            t.same("table-allows", c.vector().0, Vector::SYSTEM_CALL.0);
            t.same("table-stored", read64(ra(n) + 0x18), n as u64);
        }
        t.same("table-value", c.gpr[5], n as u64);
    }
    t.is_true("table-fresh", is_filled(FRESH, ENTRIES as u64 * 0x1000, 0));
    let removed = entries.iter().filter(|&&e| status(Hcall::REMOVE, &[0, e, 0]) == Status::SUCCESS);
    t.same("table-removed", removed.count(), ENTRIES);
}

/// What the interrupt controller has: priority and IPI of this processor, and a source.
fn interrupts(t: &mut Report) {
    let Some(source) = platform::cell("/vdevice/vty@71000000", "interrupts", 0) else {
        return t.is_true("vty-source", false);
    };
    status(Hcall::CPPR, &[5]);
    status(Hcall::IPI, &[0, 6]);
    t.equal("source", rtas::call("ibm,set-xive", &[source, 0, 7], &mut []), 0);
    let wrong = there_and_back(|| {
        status(Hcall::CPPR, &[0xff]);
        let xirr = team::accept();
        let mut now = [0; 2];
        rtas::call("ibm,set-xive", &[source, 0, 3], &mut []);
        rtas::call("ibm,int-off", &[source], &mut []);
        rtas::call("ibm,get-xive", &[source], &mut now);
        u64::from(xirr != 0xff00_0002) + u64::from(now[1] != 0xff)
    });
    t.same("interrupts-were-changed", wrong, 0);
    let a = hcall(Hcall::IPOLL, &[0]);
    t.same("interrupts-cppr", a.r4(), 0x0500_0000);
    t.same("interrupts-mfrr", a.r5() & 0xff, 6);
    let mut now = [0; 2];
    rtas::call("ibm,get-xive", &[source], &mut now);
    t.equal("interrupts-source", now, [0, 7]);
    rtas::call("ibm,set-xive", &[source, 0, 0xff], &mut []);
    status(Hcall::CPPR, &[0xff]);
    t.same("interrupts-pending", team::accept(), 0xff00_0002);
}

/// The decrementer expires when it would have; and the VPA that was registered is in use.
fn time(t: &mut Report) {
    vpa::register(0);
    mtspr::<{ spr::DEC }>(TB_HZ);
    let expires = timebase() + TB_HZ;
    let wrong = there_and_back(|| {
        mtspr::<{ spr::DEC }>(20 * TB_HZ);
        u64::from(status(Hcall::REGISTER_VPA, &[5 << 45, 0, 0]) != Status::SUCCESS)
    });
    t.same("time-vpa-gone", wrong, 0);
    t.within("time-decrementer", timebase() + mfspr::<{ spr::DEC }>(), expires - 1000, expires + 1000);
    let before = vpa::counter(0);
    team::cede(100_000);
    t.is_true("time-vpa", vpa::counter(0) >= before + 2);
    // One that has expired meanwhile does so at once.
    mtspr::<{ spr::DEC }>(TB_HZ / 1000);
    there_and_back(|| {
        mtspr::<{ spr::DEC }>(20 * TB_HZ);
        guests::cpu::delay(TB_HZ / 500);
        0
    });
    t.is_true("time-expired", mfspr::<{ spr::DEC }>() >> 31 & 1 == 1);
    mtspr::<{ spr::DEC }>(0x7fff_ffff);
    t.equal("time-vpa-off", status(Hcall::REGISTER_VPA, &[5 << 45, 0, 0]), Status::SUCCESS);
}

/// A decrementer that expired long before: six seconds are more than the register has bits for. It stays so until it is set anew. Others
/// would be interrupted by theirs.
fn long_ago(t: &mut Report) {
    mtspr::<{ spr::DEC }>(1000);
    there_and_back(|| {
        for _ in 0..3 {
            team::cede(2 * TB_HZ);
        }
        0
    });
    guests::cpu::delay(TB_HZ / 1000);
    t.is_true("time-long-expired", mfspr::<{ spr::DEC }>() >> 31 & 1 == 1);
    mtspr::<{ spr::DEC }>(0x7fff_ffff);
}

/// Where interrupts arrive (resource 3 of H_SET_MODE), and in which byte order.
fn mode(t: &mut Report) {
    const ADDRESS: u64 = 3;
    let wrong = there_and_back(|| {
        let moved = status(Hcall::SET_MODE, &[3, ADDRESS, 0, 0]) != Status::SUCCESS;
        u64::from(moved) + u64::from(run_virtual(&[NOP], false, 0, 0).arrival >> 12 == 0)
    });
    t.same("mode-was-changed", wrong, 0);
    t.same("mode-address", run_virtual(&[NOP], false, 0, 0).arrival, Vector::SYSTEM_CALL.0);
    there_and_back(|| {
        // The program cannot live with this, but for what needs no interrupt.
        let other = u64::from(cfg!(target_endian = "big"));
        u64::from(status(Hcall::SET_MODE, &[other, SET_MODE_ENDIAN, 0, 0]) != Status::SUCCESS)
    });
    t.same("mode-order", run_virtual(&[NOP], false, 0, 0).arrival, Vector::SYSTEM_CALL.0);
}

/// `mr rt, ra`
const fn mr(rt: u32, ra: u32) -> u32 {
    insn::x(31, ra, rt, ra, 444)
}

/// Takes the snapshot in r22; when it comes back at first, spoils what `spoil` says and reverts (r23); goes on when it has come
/// back once more.
fn round<const N: usize>(spoil: &[u32]) -> [u32; N] {
    let mut code = [NOP; N];
    let skip = (spoil.len() as u32 + 5) * 4;
    let begin = [mr(3, 22), sc(1), 0x2c24_0000, 0x4082_0000 | skip]; // cmpdi r4, 0; bne
    let end = [mr(3, 23), insn::li(4, 7), sc(1), TRAP];
    let all = begin.iter().chain(spoil).chain(&end);
    code.iter_mut().zip(all).for_each(|(slot, word)| *slot = *word);
    code
}

fn registers(t: &mut Report) {
    // FP, VMX and VSX: half of them are spoilt.
    let spoil: [u32; 32] = core::array::from_fn(|n| {
        let low = n as u32 / 16 + n as u32 % 16 * 2;
        60 << 26 | low << 21 | low << 16 | low << 11 | 154 << 3 | if n < 16 { 0 } else { 7 } // xxlxor
    });
    let code: [u32; 40] = round(&spoil);
    let wrong = units::across(UNITS, UNITS + PAGE, 5, &code, |c| {
        c.gpr[22] = Hcall::PARTITA_SNAPSHOT.0;
        c.gpr[23] = Hcall::PARTITA_REVERT.0;
    });
    t.same("registers-units", wrong, 0);
    // Everything that code in problem state's reach has, in real mode: r4 and r5 are the call's.
    let mut spoil = [NOP; 40];
    let mut n = 0;
    for r in (6..22).chain(24..32) {
        spoil[n] = insn::li(r, -1);
        n += 1;
    }
    for word in [insn::mtspr(8, 6), insn::mtspr(9, 6), insn::mtspr(1, 6), 0x7cef_f120] {
        spoil[n] = word; // LR, CTR, XER; mtcrf 0xff, r7
        n += 1;
    }
    for register in [spr::DSCR, spr::TAR, spr::SPRG3, spr::AMR] {
        spoil[n] = insn::mtspr(register, 6);
        n += 1;
    }
    spoil[n] = insn::SLBIA;
    let code: [u32; 48] = round(&spoil);
    mtspr::<{ spr::DSCR }>(0x15);
    mtspr::<{ spr::TAR }>(0x1234_5678_9abc);
    mtspr::<{ spr::SPRG3 }>(0x55aa);
    mtspr::<{ spr::AMR }>(0x0300_0000_0000_0000);
    let mut c = Context { nip: place_at(UNITS, &code), msr: MSR_REAL, ..Context::ZERO };
    for (n, r) in c.gpr.iter_mut().enumerate() {
        *r = pattern(n as u64 + 1);
    }
    (c.gpr[22], c.gpr[23]) = (Hcall::PARTITA_SNAPSHOT.0, Hcall::PARTITA_REVERT.0);
    (c.lr, c.ctr, c.xer, c.cr) = (0x1111_0000, 0x2222_0000, 0x2000_0000, 0x1234_5678);
    let before = c;
    run_context(&mut c);
    t.same("registers-finished", c.vector().0, Vector::SYSTEM_CALL.0);
    let results = [Status::SUCCESS.0.cast_unsigned(), 1, 7];
    t.equal("registers-results", [c.gpr[3], c.gpr[4], c.gpr[5]], results);
    for r in (0..3).chain(6..32) {
        t.same("registers-gpr", c.gpr[r], before.gpr[r]);
    }
    t.same("registers-lr", c.lr, before.lr);
    t.same("registers-ctr", c.ctr, before.ctr);
    t.same("registers-xer", c.xer, before.xer);
    // CR0 is what the code compared.
    t.same("registers-cr", c.cr & 0x0fff_ffff, before.cr & 0x0fff_ffff);
    t.same("registers-dscr", mfspr::<{ spr::DSCR }>(), 0x15);
    t.same("registers-tar", mfspr::<{ spr::TAR }>(), 0x1234_5678_9abc);
    t.same("registers-sprg3", mfspr::<{ spr::SPRG3 }>(), 0x55aa);
    t.same("registers-amr", mfspr::<{ spr::AMR }>(), 0x0300_0000_0000_0000);
    mtspr::<{ spr::AMR }>(0);
    // The segments: these translate without having been installed again.
    there_and_back(|| {
        space::clear_slb();
        slbmte(0, 0);
        0
    });
    t.is_true("registers-slb", run_virtual(&[NOP], true, 0, 0).finished());
}

/// A snapshot takes the place of the one before.
fn again(t: &mut Report) {
    let at = WRITTEN;
    write64(at, 1);
    let first = snapshot();
    if first.r4() == 0 {
        write64(at, 2);
        let second = snapshot();
        if second.r4() < 3 {
            write64(at, 3);
            revert(70 + second.r4());
        }
        t.equal("again-second", (second.status, second.r4(), second.r5()), (Status::SUCCESS, 3, 72));
        t.same("again-value", read64(at), 2);
    } else {
        t.is_true("again-not-the-first", false);
    }
}

static COUNTS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static WRONG: AtomicBool = AtomicBool::new(false);

/// Counts in real mode, in problem state, or the interrupts of its decrementer.
fn other(index: u64) -> ! {
    let index = index as usize;
    status(Hcall::CPPR, &[0xff]);
    space::install_standard();
    let mut counter = if index % 3 == 2 { Counter::translated(index) } else { Counter::real(index) };
    loop {
        let fine = if index.is_multiple_of(3) { team::doze(TB_HZ / 10_000) } else { counter.go(500) };
        if !fine {
            WRONG.store(true, SeqCst);
        }
        COUNTS[index].fetch_add(1, SeqCst);
    }
}

fn counts(n: usize) -> [u64; 3] {
    core::array::from_fn(|index| if index + 1 < n { COUNTS[index + 1].load(SeqCst) } else { 0 })
}

/// Waits until all others have counted so much more.
fn progress(n: usize, more: u64) -> [u64; 3] {
    let before = counts(n);
    for index in 1..n {
        team::until("the others to count", || COUNTS[index].load(SeqCst) >= before[index - 1] + more);
    }
    counts(n)
}

/// The others go back too, and on from there. That they have shows in what they have counted if this processor gets to look at once: not
/// with `others`, which is for processors that run in real time.
fn others(t: &mut Report, n: usize) {
    for round in 0..3 {
        write64(WRITTEN, round);
        progress(n, 5);
        let told = there_and_back(|| {
            write64(WRITTEN, !round);
            // Longer than this processor may have to wait for its turn afterwards.
            let [a, b, c] = progress(n, 200);
            a << 42 | (b & 0x1f_ffff) << 21 | c & 0x1f_ffff
        });
        let (now, then) = (counts(n), [told >> 42, told >> 21 & 0x1f_ffff, told & 0x1f_ffff]);
        t.same("others-own", read64(WRITTEN), round);
        if !platform::says("others") {
            t.is_true("others-back", (0..n - 1).all(|index| now[index] < then[index]));
        }
        let later = progress(n, 20);
        t.is_true("others-on", (0..n - 1).all(|index| later[index] > now[index]));
        t.is_true("others-in-order", !WRONG.load(SeqCst));
    }
}
