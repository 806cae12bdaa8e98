//! The partition exchanges its page table for a longer and for a shorter one (LoPAR, "H_RESIZE_HPT_PREPARE", "H_RESIZE_HPT_COMMIT"):
//! what is bolted goes on, all else is gone, what does not fit leaves all as it was. A second processor runs with translation on all
//! the while, through entries that are bolted.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guests::copies::{revert, snapshot};
use guests::cpu::{mtspr, slbie, timebase};
use guests::insn::{self, ld, sc, std};
use guests::mem::{read64, write64};
use guests::space::{self, CODE_EA, FREE_SLOT, READ_WRITE, Segment, USER};
use guests::{
    CODE, Context, Hcall, MSR_PROBLEM, Report, Status, hcall, place, place_at, platform, run as run_context,
    status, team,
};
use power::PageSize::{self, K4, K64};
use power::hpte::{HpteR, HpteV, encode_page_sizes};
use power::interrupt::Vector;
use power::slb::SegmentSize;
use power::spr;

guests::main!(run);

const SEGMENT: Segment =
    Segment { ea: 0x2000_0000, vsid: 0x2b3, size: SegmentSize::M256, base: K4, flags: 0 };
/// The second processor's.
const THEIRS: Segment =
    Segment { ea: 0x3000_0000, vsid: 0x2b4, size: SegmentSize::M256, base: K64, flags: 0 };
const THEIR_CODE: u64 = 0xc0_0000;
const PAGES: u64 = 0x100_0000;

fn prepare(shift: u64) -> Status {
    status(Hcall::RESIZE_HPT_PREPARE, &[0, shift])
}

fn commit(shift: u64) -> Status {
    status(Hcall::RESIZE_HPT_COMMIT, &[0, shift])
}

/// The page table, of which the device tree only knows how long it was.
#[derive(Clone, Copy)]
struct Table {
    shift: u32,
}

impl Table {
    /// Where an address's entries are, primary and secondary.
    fn groups(self, segment: &Segment, ea: u64) -> [u64; 2] {
        let mask = (1 << (self.shift - 7)) - 1;
        [segment.hash(ea), !segment.hash(ea)].map(|hash| (hash & mask) * 8)
    }

    /// Makes an entry; `bits` of dword 0 besides.
    fn enter(self, segment: &Segment, ea: u64, ra: u64, size: PageSize, bits: u64) -> Option<u64> {
        let (_, lp) = encode_page_sizes(segment.base, size).expect("a pair");
        let [first, second] = self.groups(segment, ea);
        let v = segment.v(ea, size) | bits;
        [(first, 0), (second, HpteV::H)].into_iter().find_map(|(group, h)| {
            let a = hcall(Hcall::ENTER, &[0, group, v | h, ra | lp | READ_WRITE]);
            (a.status == Status::SUCCESS).then_some(a.r4())
        })
    }

    /// Finds an address's entry: its index, and what H_READ says of it.
    fn find(self, segment: &Segment, ea: u64) -> Option<(u64, u64, u64)> {
        let v = segment.v(ea, segment.base);
        let [first, second] = self.groups(segment, ea);
        (first..first + 8).chain(second..second + 8).find_map(|index| {
            let a = hcall(Hcall::READ, &[0, index]);
            let same = (a.r4() ^ v) & (HpteV::AVPN | HpteV::V) == 0;
            (same && a.status == Status::SUCCESS).then_some((index, a.r4(), a.r5()))
        })
    }

    /// The guest's entries that H_READ shows, bolted and others. Those of its real mode, which the hypervisor makes, are of a segment of
    /// 1 TiB, all of its own of one of 256 MiB.
    fn count(self) -> (usize, usize) {
        let (mut bolted, mut others) = (0, 0);
        for first in (0..1u64 << (self.shift - 4)).step_by(4) {
            let a = hcall(Hcall::READ, &[power::hcall::flags::READ_4, first]);
            for v in a.r[..8].iter().step_by(2) {
                if v & HpteV::V != 0 && v & HpteV::B == 0 {
                    *if v & HpteV::BOLTED != 0 { &mut bolted } else { &mut others } += 1;
                }
            }
        }
        (bolted, others)
    }
}

static PROGRESS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicBool = AtomicBool::new(false);

/// Runs in problem state, with translation on, all the time: loads, counts, stores.
fn other(_: u64) -> ! {
    status(Hcall::CPPR, &[0xff]);
    THEIRS.install(FREE_SLOT);
    mtspr::<{ spr::DEC }>(0x7fff_ffff);
    let at =
        place_at(THEIR_CODE, &[ld(5, 0x2000, 3), insn::addi(5, 5, 1), std(5, 0x2000, 3), 0x4200_fff4, sc(0)]);
    write64(at + 0x2000, 0);
    let mut want = 0;
    loop {
        let mut c = Context { nip: THEIRS.ea, msr: MSR_PROBLEM, ..Context::ZERO };
        (c.gpr[3], c.ctr) = (THEIRS.ea, 1000);
        run_context(&mut c);
        want += 1000;
        if c.vector() != Vector::SYSTEM_CALL || read64(at + 0x2000) != want {
            WRONG.store(true, SeqCst);
        }
        PROGRESS.fetch_add(1, SeqCst);
    }
}

fn others_go_on(t: &mut Report) {
    let before = PROGRESS.load(SeqCst);
    team::until("the other", || PROGRESS.load(SeqCst) > before + 3);
    t.is_true("other-in-order", !WRONG.load(SeqCst));
}

/// Runs code in problem state; its entry is bolted.
fn run_user(code: &[u32], r3: u64, r4: u64) -> Context {
    place(code);
    mtspr::<{ spr::DEC }>(0x7fff_ffff);
    let mut c = Context { nip: CODE_EA, msr: MSR_PROBLEM, ..Context::ZERO };
    (c.gpr[3], c.gpr[4]) = (r3, r4);
    run_context(&mut c);
    c
}

const ENTRIES: u64 = 100;
/// Each page of 64 KiB has several entries.
const fn ra(n: u64) -> u64 {
    PAGES + n % 20 * 0x1_0000 + n / 20 * 0x1000
}

const fn ea(n: u64) -> u64 {
    SEGMENT.ea + n * 0x3000
}

/// Is an entry bolted?
const fn bolted(n: u64) -> bool {
    n % 4 == 1
}

fn run(t: &mut Report) {
    t.same("processors", team::assemble(), 2);
    let table = Table { shift: platform::hpt_shift() };
    let shift = u64::from(table.shift);
    space::clear_slb();
    USER.install(1);
    SEGMENT.install(FREE_SLOT);
    t.is_true("code", table.enter(&USER, CODE_EA, CODE, K64, HpteV::BOLTED).is_some());
    t.is_true("their-code", table.enter(&THEIRS, THEIRS.ea, THEIR_CODE, K64, HpteV::BOLTED).is_some());
    t.same("started", team::start_others(other), 1);
    errors(t, shift);
    let longer = Table { shift: table.shift + 1 };
    exchange(t, table, longer);
    let shorter = Table { shift: table.shift - 1 };
    exchange(t, longer, table);
    exchange(t, table, shorter);
    exchange(t, shorter, table);
    full(t, table);
}

fn errors(t: &mut Report, shift: u64) {
    for shift in [1, 17, 47, 64, 1 << 32, u64::MAX] {
        t.is_true("bad-shift", matches!(prepare(shift), Status::PARAMETER | Status::RESOURCE));
    }
    t.equal("bad-shift-small", prepare(17), Status::PARAMETER);
    t.equal("too-long", prepare(shift + 4), Status::RESOURCE);
    for flags in [1, 1 << 63] {
        t.equal("bad-flags", status(Hcall::RESIZE_HPT_PREPARE, &[flags, shift]), Status::PARAMETER);
        t.equal("bad-flags-commit", status(Hcall::RESIZE_HPT_COMMIT, &[flags, shift]), Status::PARAMETER);
    }
    t.equal("not-prepared", commit(shift + 1), Status::CLOSED);
    t.equal("prepare", prepare(shift + 1), Status::SUCCESS);
    t.equal("prepare-again", prepare(shift + 1), Status::SUCCESS);
    t.equal("another-one", commit(shift), Status::CLOSED);
    t.equal("cancel", prepare(0), Status::SUCCESS);
    t.equal("cancelled", commit(shift + 1), Status::CLOSED);
    t.equal("cancel-nothing", prepare(0), Status::SUCCESS);
}

/// From one table to the other, with entries of both kinds on pages of all kinds.
fn exchange(t: &mut Report, from: Table, to: Table) {
    t.note(format_args!("from {} to {}", from.shift, to.shift));
    let mut entries = [0; ENTRIES as usize];
    for n in 0..ENTRIES {
        write64(ra(n), 0x7000 + n);
    }
    // Shared pages, and such that have been stored to since.
    t.equal("snapshot", snapshot().status, Status::SUCCESS);
    for n in 0..ENTRIES {
        let bits = if bolted(n) { HpteV::BOLTED } else { 0 };
        entries[n as usize] = from.enter(&SEGMENT, ea(n), ra(n), K4, bits).unwrap_or(u64::MAX);
        let c = run_user(&[ld(5, 0, 3)], ea(n), 0);
        t.same("before", c.gpr[5], 0x7000 + n);
        if n % 3 == 0 {
            run_user(&[std(4, 8, 3)], ea(n), n);
        }
    }
    t.equal("prepare", prepare(u64::from(to.shift)), Status::SUCCESS);
    let start = timebase();
    t.equal("commit", commit(u64::from(to.shift)), Status::SUCCESS);
    t.note(format_args!("{} ticks", timebase() - start));
    t.equal("committed", commit(u64::from(to.shift)), Status::CLOSED);
    let last = 1u64 << (to.shift - 4);
    t.equal("last-entry", status(Hcall::READ, &[0, last - 1]), Status::SUCCESS);
    t.equal("beyond", status(Hcall::READ, &[0, last]), Status::PARAMETER);
    t.equal("bolted-and-others", to.count(), (ENTRIES as usize / 4 + 2, 0));
    for n in 0..ENTRIES {
        let found = to.find(&SEGMENT, ea(n));
        if !bolted(n) {
            t.equal("gone", found, None);
            let c = run_user(&[ld(5, 0, 3)], ea(n), 0);
            t.same("gone-load", c.dsisr, 0x4000_0000);
            continue;
        }
        let Some((index, v, r)) = found else {
            t.is_true("kept", false);
            continue;
        };
        // R, and C if it was stored through.
        let used = HpteR::R | if n % 3 == 0 { HpteR::C } else { 0 };
        t.same("kept-v", v & HpteV::BOLTED, HpteV::BOLTED);
        t.same("kept-r", r & !HpteR::RPN, READ_WRITE | used);
        let c = run_user(&[ld(5, 0, 3), ld(6, 8, 3)], ea(n), 0);
        t.equal("kept-values", (c.gpr[5], c.gpr[6]), (0x7000 + n, if n % 3 == 0 { n } else { 0 }));
        // Its page is shared still, or it is not.
        let c = run_user(&[std(4, 0x10, 3)], ea(n), !n);
        t.same("kept-store", c.vector().0, Vector::SYSTEM_CALL.0);
        t.same("kept-stored", read64(ra(n) + 0x10), !n);
        t.equal("kept-protect", status(Hcall::PROTECT, &[3, index, 0]), Status::SUCCESS);
        t.same("kept-refuses", run_user(&[std(4, 0x10, 3)], ea(n), 0).dsisr, 0x0a00_0000);
        // A second entry for the page, before the first is taken off its chain.
        let alias = ea(n) + 0x800_0000;
        let second = to.enter(&SEGMENT, alias, ra(n), K4, 0);
        t.equal("kept-remove", status(Hcall::REMOVE, &[0, index, 0]), Status::SUCCESS);
        t.same("kept-removed", run_user(&[ld(5, 0, 3)], ea(n), 0).dsisr, 0x4000_0000);
        t.same("alias", run_user(&[ld(5, 0x10, 3)], alias, 0).gpr[5], !n);
        t.equal("alias-remove", status(Hcall::REMOVE, &[0, second.unwrap_or(u64::MAX), 0]), Status::SUCCESS);
    }
    // What was kept of the old table is forgotten.
    t.equal("snapshot-gone", revert(0), Status::NOT_AVAILABLE);
    others_go_on(t);
}

/// Puts another segment where the last one was: what has been translated through that has to be forgotten.
fn replace(segment: &Segment) {
    slbie(segment.ea);
    segment.install(FREE_SLOT);
}

/// More bolted entries than the two groups have room for into which they would come.
fn full(t: &mut Report, table: Table) {
    const TOO_MANY: u64 = 20;
    const FIT: usize = 8;
    // The groups of a shorter table are as far apart.
    let apart = 0x1000 << (table.shift - 8);
    // A segment has not that many such addresses: one each of several.
    let segment = |n: u64| Segment { vsid: 0x480 + (n << 16), ..SEGMENT };
    let address = |n: u64| SEGMENT.ea + 0x5000 + n % 2 * apart;
    let mut entries = [0; TOO_MANY as usize];
    for n in 0..TOO_MANY {
        write64(ra(n), 0x9000 + n);
        let made = table.enter(&segment(n), address(n), ra(n), K4, HpteV::BOLTED);
        t.is_true("full-enter", made.is_some());
        entries[n as usize] = made.unwrap_or(u64::MAX);
    }
    let all = table.count();
    let shorter = u64::from(table.shift) - 1;
    t.equal("full-prepare", prepare(shorter), Status::SUCCESS);
    t.equal("full", commit(shorter), Status::PTEG_FULL);
    t.equal("full-over", commit(shorter), Status::CLOSED);
    t.equal("full-nothing-lost", table.count(), all);
    for n in 0..TOO_MANY {
        replace(&segment(n));
        let c = run_user(&[ld(5, 0, 3), std(4, 8, 3)], address(n), n);
        t.same("full-translates", c.vector().0, Vector::SYSTEM_CALL.0);
        t.same("full-value", c.gpr[5], 0x9000 + n);
        t.same("full-stored", read64(ra(n) + 8), n);
    }
    others_go_on(t);
    // Who is in the primary group stays in it: without half of the first sixteen they fit.
    for &entry in &entries[..FIT] {
        t.equal("full-remove", status(Hcall::REMOVE, &[0, entry, 0]), Status::SUCCESS);
    }
    t.equal("fits-prepare", prepare(shorter), Status::SUCCESS);
    t.equal("fits", commit(shorter), Status::SUCCESS);
    for n in FIT as u64..TOO_MANY {
        replace(&segment(n));
        t.same("fits-value", run_user(&[ld(5, 0, 3)], address(n), 0).gpr[5], 0x9000 + n);
    }
    others_go_on(t);
}
