//! Pages that somebody watches from the monitor: every kind of load, store and fetch does what it does elsewhere, and is told.
//!
//! Three ranges are to be watched, of 64 KiB each: [`SEALED`] and [`LATE`] with no access, [`KEPT`] with no store. The program says
//! `@ watch me`, waits for a byte on its console, makes its accesses, and then prints its checks and an `@ expect` record for each line that the
//! hypervisor should have had for it, in order. Then there are `@ flood` more; and after `@ unwatch me` and another byte, none.
#![no_std]
#![no_main]

use guests::cpu::{TB_HZ, delay, generation};
use guests::insn::{self, BCTR, NOP, x};
use guests::mem::{is_filled, read8, read32, read64, write8, write32, write64};
use guests::space::{self, CODE_EA, DATA, DATA_EA, FREE_SLOT, READ_ONLY, READ_WRITE, Segment};
use guests::{
    CODE, Context, Hcall, MSR_PROBLEM, MSR_REAL, MSR_VIRTUAL, Report, Status, hcall, place, place_at,
    println, run as run_context,
};
use power::Generation;
use power::PageSize::K4;
use power::interrupt::Vector;
use power::regs::{Dsisr, Msr};
use power::slb::SegmentSize;
use power::spr;

guests::main!(run);

/// Watched for all accesses.
const SEALED: u64 = 0x480_0000;
/// Watched for stores.
const KEPT: u64 = 0x484_0000;
/// Watched for all accesses, and used in real mode only. What follows it has not been touched before.
const LATE: u64 = 0x488_0000;
/// The length of each.
const RANGE: u64 = 0x1_0000;
/// The first of [`SEALED`]'s pages of 4 KiB whose successor shows nowhere.
const LONELY: u64 = SEALED + 0x1000;

const SEGMENT: Segment =
    Segment { ea: 0x2000_0000, vsid: 0x2c5, size: SegmentSize::M256, base: K4, flags: 0 };

/// Where a real address shows.
const fn ea(real: u64) -> u64 {
    SEGMENT.ea + (real & 0xfff_ffff)
}

/// A line of the hypervisor's.
#[derive(Clone, Copy)]
struct Line {
    kind: &'static str,
    ea: u64,
    real: u64,
    pc: u64,
    bytes: u64,
    value: Option<u128>,
}

/// What is found out while nothing may be printed.
struct Notes {
    lines: [Option<Line>; 96],
    checks: [(&'static str, u64, u64); 256],
    n: (usize, usize),
    problem: bool,
    traced: bool,
}

impl Notes {
    fn check(&mut self, name: &'static str, got: u64, want: u64) {
        self.checks[self.n.1] = (name, got, want);
        self.n.1 += 1;
    }

    fn line(&mut self, line: Line) {
        self.lines[self.n.0] = Some(line);
        self.n.0 += 1;
    }

    /// Runs code, with all units on, in supervisor and problem state in turn.
    fn run(&mut self, name: &'static str, code: &[u32], r3: u64, r4: u64) -> Context {
        let c = self.start(code, r3, r4);
        self.check(name, c.vector().0, Vector::SYSTEM_CALL.0);
        c
    }

    fn start(&mut self, code: &[u32], r3: u64, r4: u64) -> Context {
        self.problem = !self.problem;
        place(code);
        guests::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
        let msr = if self.problem { MSR_PROBLEM } else { MSR_VIRTUAL };
        let units = (Msr::FP | Msr::VEC | Msr::VSX).bits();
        let trace = if self.traced { Msr::SE.bits() } else { 0 };
        let mut c = Context { nip: CODE_EA, msr: msr | units | trace, ..Context::ZERO };
        (c.gpr[3], c.gpr[4], c.gpr[5]) = (r3, r4, 0x0123_4567_89ab_cdef);
        (c.gpr[7], c.gpr[8]) = (DATA_EA, DATA_EA + 8);
        run_context(&mut c);
        c
    }

    /// The hypervisor tells of an access by the instruction with this number.
    fn told(&mut self, kind: &'static str, at: u64, n: u64, bytes: u64, value: Option<u128>) {
        self.line(Line { kind, ea: ea(at), real: at, pc: CODE_EA + 4 * n, bytes, value });
    }
}

/// Byte `n` of a page that is loaded from.
const fn pattern(n: u64) -> u8 {
    (n as u8).wrapping_mul(37) ^ (n >> 8) as u8 ^ 0x5a
}

/// Bytes of [`SEALED`] as they were before.
fn sealed<const N: usize>(at: u64) -> [u8; N] {
    core::array::from_fn(|i| pattern(at - SEALED + i as u64))
}

fn number(at: u64, bytes: u64) -> u64 {
    let read = |n: u64| u64::from(pattern(at - SEALED + n));
    let each = |n: u64| if cfg!(target_endian = "little") { bytes - 1 - n } else { n };
    (0..bytes).fold(0, |sum, n| sum << 8 | read(each(n)))
}

const fn d(op: u32, rt: u32, ra: u32, imm: u32) -> u32 {
    op << 26 | rt << 21 | ra << 16 | imm & 0xffff
}

fn set_up() {
    space::standard();
    SEGMENT.install(FREE_SLOT);
    for n in 0..RANGE + 8 {
        write8(SEALED + n, pattern(n));
    }
    for page in [SEALED, SEALED + 0xf000, SEALED + RANGE, LONELY, KEPT - 0x1000, KEPT] {
        SEGMENT.enter(ea(page), page, K4, READ_WRITE).expect("an entry");
    }
    SEGMENT.enter(ea(KEPT + 0x1000), KEPT + 0x1000, K4, READ_ONLY).expect("an entry");
    place_at(SEALED + 0x800, &[insn::li(6, 77)]);
    // 12.25 and a denormalized number as singles, and a double.
    write32(SEALED + 0x100, 0x4144_0000);
    write32(SEALED + 0x104, 0x8000_0001);
    write64(SEALED + 0x108, 0x4028_8000_0000_0000);
    for at in (0..0x1000).step_by(8) {
        write64(KEPT + at, 0);
        write64(KEPT + 0x1000 + at, 0);
    }
    write64(LATE + 0xfff8, 0x1122_3344_5566_7788);
}

/// Waits for a byte on the console.
fn wait() {
    while hcall(Hcall::GET_TERM_CHAR, &[0]).r4() == 0 {
        delay(TB_HZ / 1000);
    }
}

/// Until what has been let through is watched again.
fn settle() {
    delay(TB_HZ / 5000);
}

fn run(t: &mut Report) {
    set_up();
    println!("@ watch me");
    wait();
    let mut notes =
        Notes { lines: [None; 96], checks: [("", 0, 0); 256], n: (0, 0), problem: false, traced: false };
    loads(&mut notes);
    units(&mut notes);
    vectors(&mut notes);
    stores(&mut notes);
    unit_stores(&mut notes);
    pairs_of_pages(&mut notes);
    blocks(&mut notes);
    let_through(&mut notes);
    real_mode(&mut notes);
    let asked = hcall(Hcall::LOGICAL_CI_LOAD, &[8, SEALED + 0x200]);
    notes.check("hypervisor", asked.r4(), u64::from_be_bytes(sealed(SEALED + 0x200)));
    notes.check("hypervisor-status", asked.status.0 as u64, Status::SUCCESS.0 as u64);
    flood(&mut notes);
    for (name, got, want) in &notes.checks[..notes.n.1] {
        t.same(name, *got, *want);
    }
    for line in notes.lines.iter().flatten() {
        expect(line);
    }
    println!("@ expect load by the hypervisor real={:#x}", SEALED + 0x200);
    println!("@ flood {FLOOD}");
    println!("@ unwatch me");
    wait();
    let c = notes.start(&[insn::lbz(5, 0, 3)], ea(SEALED), 0);
    t.same("alone", c.gpr[5], u64::from(pattern(0)));
    t.same("kept", read8(KEPT + 0x10), 0);
}

fn expect(line: &Line) {
    let Line { kind, ea, real, pc, bytes, value } = line;
    match (bytes, value) {
        (0, _) => println!("@ expect {kind} ea={ea:#x} real={real:#x} pc={pc:#x} vcpu=0"),
        (_, None) => println!("@ expect {kind} ea={ea:#x} real={real:#x} pc={pc:#x} bytes={bytes} vcpu=0"),
        (_, Some(value)) => println!(
            "@ expect {kind} ea={ea:#x} real={real:#x} pc={pc:#x} bytes={bytes} value={value:#x} vcpu=0"
        ),
    }
}

fn loads(notes: &mut Notes) {
    // Register, instruction, bytes, its sign counts, its bytes are reversed.
    for (name, word, offset, bytes, signed, reversed) in [
        ("lbz", insn::lbz(5, 0, 3), 0x41, 1, false, false),
        ("lhz", insn::lhz(5, 0, 3), 0x42, 2, false, false),
        ("lha", insn::lha(5, 0, 3), 0x48, 2, true, false),
        ("lha-plus", insn::lha(5, 0, 3), 0x41, 2, true, false),
        ("lwz", insn::lwz(5, 0, 3), 0x43, 4, false, false),
        ("lwa", insn::ld(5, 0, 3) | 2, 0x44, 4, true, false),
        ("ld", insn::ld(5, 0, 3), 0x48, 8, false, false),
        ("ld-odd", insn::ld(5, 0, 3), 0x79, 8, false, false),
        ("lbzx", insn::lbzx(5, 0, 3), 0x55, 1, false, false),
        ("ldx", insn::ldx(5, 0, 3), 0x60, 8, false, false),
        ("lwax", x(31, 5, 0, 3, 341), 0x64, 4, true, false),
        ("lhbrx", x(31, 5, 0, 3, 790), 0x62, 2, false, true),
        ("lwbrx", insn::lwbrx(5, 0, 3), 0x64, 4, false, true),
        ("ldbrx", insn::ldbrx(5, 0, 3), 0x68, 8, false, true),
    ] {
        let c = notes.run(name, &[NOP, word, insn::li(6, 1)], ea(SEALED + offset), 0);
        let plain = number(SEALED + offset, bytes);
        let plain = if reversed { plain.swap_bytes() >> (64 - 8 * bytes) } else { plain };
        let unused = 64 - 8 * bytes;
        let want = if signed { ((plain << unused) as i64 >> unused) as u64 } else { plain };
        notes.check(name, c.gpr[5], want);
        notes.check("went-on", c.gpr[6], 1);
        notes.told("load", SEALED + offset, 1, bytes, Some(plain.into()));
    }
    let c = notes.run("lwzu", &[insn::lwzu(6, 0x20, 3)], ea(SEALED + 0x60), 0);
    notes.check("lwzu", c.gpr[6], number(SEALED + 0x80, 4));
    notes.check("lwzu-address", c.gpr[3], ea(SEALED + 0x80));
    notes.told("load", SEALED + 0x80, 0, 4, Some(number(SEALED + 0x80, 4).into()));
    let c = notes.run("ldux", &[x(31, 6, 3, 4, 53)], ea(SEALED + 0x60), 0x28);
    notes.check("ldux-address", c.gpr[3], ea(SEALED + 0x88));
    notes.told("load", SEALED + 0x88, 0, 8, Some(number(SEALED + 0x88, 8).into()));
    let c = notes.run("own-address", &[insn::lhz(3, 0, 3)], ea(SEALED + 0x90), 0);
    notes.check("own-address", c.gpr[3], number(SEALED + 0x90, 2));
    notes.told("load", SEALED + 0x90, 0, 2, Some(number(SEALED + 0x90, 2).into()));
    if cfg!(target_endian = "big") {
        let at = SEALED + 0x250;
        let c = notes.run("lmw", &[insn::lmw(28, 0, 3)], ea(at), 0);
        notes.check("lmw", c.gpr[28], number(at, 4));
        notes.check("lmw", c.gpr[31], number(at + 12, 4));
        let value = u128::from(number(at, 8)) << 64 | u128::from(number(at + 8, 8));
        notes.told("load", at, 0, 16, Some(value));
        // Of many registers no number is told.
        let c = notes.run("lmw-many", &[insn::lmw(14, 0, 3)], ea(at), 0);
        notes.check("lmw-many", c.gpr[14], number(at, 4));
        notes.told("load", at, 0, 72, None);
    }
}

/// Floating point loads, each looked at by a store elsewhere.
fn units(notes: &mut Notes) {
    let (single, tiny, double) = (0x4144_0000_u64, 0x8000_0001_u64, 0x4028_8000_0000_0000);
    let store = insn::stfd(9, 0, 7);
    for (name, word, offset, bytes, value, want) in [
        ("lfs", d(48, 9, 3, 0), 0x100, 4, single, double),
        ("lfs-tiny", d(48, 9, 3, 0), 0x104, 4, tiny, 0xb6a0_0000_0000_0000),
        ("lfd", insn::lfd(9, 0, 3), 0x108, 8, double, double),
        ("lfdx", x(31, 9, 0, 3, 599), 0x108, 8, double, double),
        ("lfiwax", x(31, 9, 0, 3, 855), 0x104, 4, tiny, 0xffff_ffff_8000_0001),
        ("lfiwzx", x(31, 9, 0, 3, 887), 0x104, 4, tiny, tiny),
        ("lxsdx", x(31, 9, 0, 3, 588), 0x108, 8, double, double),
        ("lxsspx", x(31, 9, 0, 3, 524), 0x100, 4, single, double),
        ("lxsiwax", x(31, 9, 0, 3, 76), 0x104, 4, tiny, 0xffff_ffff_8000_0001),
    ] {
        notes.run(name, &[word, store], ea(SEALED + offset), 0);
        notes.check(name, read64(DATA), want);
        notes.told("load", SEALED + offset, 0, bytes, Some(value.into()));
    }
}

/// Vector loads: the store that goes with them puts the same bytes elsewhere.
fn vectors(notes: &mut Notes) {
    let word = |at: u64, n: u64, bytes: u64| u128::from(number(at + bytes * n, bytes));
    let join = |at, bytes: u64| (0..16 / bytes).fold(0u128, |sum, n| sum << (8 * bytes) | word(at, n, bytes));
    let whole = |at| u128::from_ne_bytes(sealed(at));
    let mut quad = |name, load, store, offset: u64, value: u128| {
        for n in [0, 8] {
            write64(DATA + n, 0);
        }
        notes.run(name, &[load, store], ea(SEALED + offset), 0);
        let at = SEALED + offset;
        notes.check(name, read64(DATA), u64::from_ne_bytes(sealed(at)));
        notes.check(name, read64(DATA + 8), u64::from_ne_bytes(sealed(at + 8)));
        notes.told("load", at, 0, 16, Some(value));
    };
    let at = |offset| SEALED + offset;
    quad("lvx", insn::lvx(9, 0, 3), insn::stvx(9, 0, 7), 0x110, whole(at(0x110)));
    quad("lxvd2x", insn::lxvd2x(9, 0, 3), insn::stxvd2x(9, 0, 7), 0x123, join(at(0x123), 8));
    quad("lxvd2x-high", insn::lxvd2x(9, 0, 3) | 1, insn::stxvd2x(9, 0, 7) | 1, 0x130, join(at(0x130), 8));
    quad("lxvw4x", x(31, 9, 0, 3, 780), x(31, 9, 0, 7, 908), 0x13e, join(at(0x13e), 4));
    if generation() != Generation::Power8 {
        quad("lxv", d(61, 9, 3, 1), d(61, 9, 7, 5), 0x140, whole(at(0x140)));
        quad("lxvx-high", x(31, 9, 0, 3, 268) | 1, x(31, 9, 0, 7, 396) | 1, 0x144, whole(at(0x144)));
        quad("lxvh8x", x(31, 9, 0, 3, 812), x(31, 9, 0, 7, 940), 0x150, join(at(0x150), 2));
        quad("lxvb16x", x(31, 9, 0, 3, 876), x(31, 9, 0, 7, 1004), 0x151, join(at(0x151), 1));
    }
    // Addresses are rounded down.
    notes.run("lvx-odd", &[insn::lvx(9, 0, 3), insn::stvx(9, 0, 7)], ea(SEALED + 0x16d), 0);
    notes.check("lvx-odd", read64(DATA + 8), u64::from_ne_bytes(sealed(at(0x168))));
    notes.told("load", SEALED + 0x160, 0, 16, Some(whole(at(0x160))));
    // An element, in its place.
    write64(DATA + 8, 0);
    notes.run("lvewx", &[x(31, 9, 0, 3, 71), x(31, 9, 0, 8, 199)], ea(SEALED + 0x178), 0);
    notes.check("lvewx", u64::from(read32(DATA + 8)), number(at(0x178), 4));
    notes.told("load", SEALED + 0x178, 0, 4, Some(number(at(0x178), 4).into()));
    notes.run("lxvdsx", &[x(31, 9, 0, 3, 332), insn::stxvd2x(9, 0, 7)], ea(SEALED + 0x180), 0);
    notes.check("lxvdsx", read64(DATA), number(at(0x180), 8));
    notes.check("lxvdsx", read64(DATA + 8), number(at(0x180), 8));
    notes.told("load", SEALED + 0x180, 0, 8, Some(number(at(0x180), 8).into()));
}

fn stores(notes: &mut Notes) {
    let value = 0x8877_6655_4433_2211_u64;
    for (n, (name, word, bytes, reversed)) in [
        ("stb", insn::stb(4, 0, 3), 1, false),
        ("sth", insn::sth(4, 0, 3), 2, false),
        ("stw", insn::stw(4, 0, 3), 4, false),
        ("std", insn::std(4, 0, 3), 8, false),
        ("stdx", insn::stdx(4, 0, 3), 8, false),
        ("sthbrx", x(31, 4, 0, 3, 918), 2, true),
        ("stwbrx", insn::stwbrx(4, 0, 3), 4, true),
        ("stdbrx", x(31, 4, 0, 3, 660), 8, true),
    ]
    .into_iter()
    .enumerate()
    {
        let at = KEPT + 0x20 + 0x20 * n as u64;
        // What is read is not told.
        let c = notes.run(name, &[word, insn::ld(5, 0, 3)], ea(at), value);
        let low = value << (64 - 8 * bytes) >> (64 - 8 * bytes);
        let stored = if reversed { low.swap_bytes() >> (64 - 8 * bytes) } else { low };
        let want = if cfg!(target_endian = "little") { stored } else { stored << (64 - 8 * bytes) };
        notes.check(name, c.gpr[5], want);
        notes.check(name, read64(at), want);
        notes.check("beside", read64(at - 8) | read64(at + 8), 0);
        notes.told("store", at, 0, bytes, Some(low.into()));
    }
    let c = notes.run("stwu", &[insn::stwu(4, 0x10, 3)], ea(KEPT + 0x200), value);
    notes.check("stwu-address", c.gpr[3], ea(KEPT + 0x210));
    notes.check("stwu", u64::from(read32(KEPT + 0x210)), value & 0xffff_ffff);
    notes.told("store", KEPT + 0x210, 0, 4, Some((value & 0xffff_ffff).into()));
    let c = notes.run("stdu", &[insn::std(4, 0xfff0, 3) | 1], ea(KEPT + 0x230), value);
    notes.check("stdu-address", c.gpr[3], ea(KEPT + 0x220));
    notes.told("store", KEPT + 0x220, 0, 8, Some(value.into()));
}

/// Floating point and vector stores of what was loaded from elsewhere.
fn unit_stores(notes: &mut Notes) {
    let load = insn::lfd(9, 0, 7);
    let number = 0x4028_8000_0000_0000_u64;
    for (name, word, from, at, bytes, value) in [
        ("stfd", insn::stfd(9, 0, 3), number, KEPT + 0x300, 8, number),
        ("stfs", d(52, 9, 3, 0), number, KEPT + 0x310, 4, 0x4144_0000),
        ("stfiwx", x(31, 9, 0, 3, 983), 0x1234_5678_9abc_def0, KEPT + 0x320, 4, 0x9abc_def0),
        ("stxsdx", x(31, 9, 0, 3, 716), number, KEPT + 0x330, 8, number),
    ] {
        write64(DATA, from);
        notes.run(name, &[load, word], ea(at), 0);
        let got = if bytes == 8 { read64(at) } else { u64::from(read32(at)) };
        notes.check(name, got, value);
        notes.told("store", at, 1, bytes, Some(value.into()));
    }
    write64(DATA + 8, 0x0f1e_2d3c_4b5a_6978);
    let (high, low) = (read64(DATA), read64(DATA + 8));
    let in_order = u128::from(high) << 64 | u128::from(low);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_ne_bytes());
    bytes[8..].copy_from_slice(&low.to_ne_bytes());
    let whole = u128::from_ne_bytes(bytes);
    for (name, load, store, at, value) in [
        ("stvx", insn::lvx(9, 0, 7), insn::stvx(9, 0, 3), KEPT + 0x340, whole),
        ("stxvd2x", insn::lxvd2x(9, 0, 7), insn::stxvd2x(9, 0, 3), KEPT + 0x358, in_order),
    ] {
        notes.run(name, &[load, store], ea(at), 0);
        notes.check(name, read64(at), high);
        notes.check(name, read64(at + 8), low);
        notes.told("store", at, 1, 16, Some(value));
    }
    notes.run("stvewx", &[insn::lvx(9, 0, 7), x(31, 9, 0, 3, 199)], ea(KEPT + 0x37e), 0);
    notes.check("stvewx", u64::from(read32(KEPT + 0x37c)), u64::from(read32(DATA + 12)));
    notes.check("stvewx-beside", u64::from(read32(KEPT + 0x378)), 0);
    notes.told("store", KEPT + 0x37c, 1, 4, Some(read32(DATA + 12).into()));
}

/// Accesses to two pages, of which the first, the second or both are watched, or one is the guest's own to deny.
fn pairs_of_pages(notes: &mut Notes) {
    let at = SEALED + RANGE - 3;
    let c = notes.run("into-open", &[insn::ld(5, 0, 3)], ea(at), 0);
    notes.check("into-open", c.gpr[5], number(at, 8));
    notes.told("load", at, 0, 8, Some(number(at, 8).into()));
    let value = 0x1112_1314_1516_1718_u64;
    let c = notes.run("from-open", &[insn::std(4, 0, 3), insn::ld(5, 0, 3)], ea(KEPT - 5), value);
    notes.check("from-open", c.gpr[5], value);
    notes.told("store", KEPT, 0, 8, Some(value.into()));
    // The second page shows nowhere.
    let c = notes.start(&[NOP, insn::ld(5, 0, 3)], ea(LONELY + 0xffd), 0);
    notes.check("into-nothing", c.vector().0, Vector::DATA_STORAGE.0);
    notes.check("into-nothing-dar", c.dar, ea(LONELY + 0x1000));
    notes.check("into-nothing-dsisr", c.dsisr, Dsisr::NOHPTE.bits());
    notes.check("into-nothing-srr0", c.nip, CODE_EA + 4);
    notes.check("into-nothing-register", c.gpr[5], 0x0123_4567_89ab_cdef);
    // Or may not be stored to.
    let before = read64(KEPT + 0xff8);
    let c = notes.start(&[NOP, insn::std(4, 0, 3)], ea(KEPT + 0xffc), value);
    notes.check("into-denied", c.vector().0, Vector::DATA_STORAGE.0);
    notes.check("into-denied-dar", c.dar, ea(KEPT + 0x1000));
    notes.check("into-denied-dsisr", c.dsisr, (Dsisr::PROTFAULT | Dsisr::ISSTORE).bits());
    notes.check("into-denied-memory", read64(KEPT + 0xff8), before);
}

/// Whole cache blocks.
fn blocks(notes: &mut Notes) {
    let start = KEPT + 0x800;
    for at in [start + 0x78, start + 0x80, start + 0xf8, start + 0x100] {
        notes.run("mark", &[insn::std(4, 0, 3)], ea(at), u64::MAX);
        notes.told("store", at, 0, 8, Some(u64::MAX.into()));
    }
    notes.run("dcbz", &[x(31, 0, 0, 3, 1014)], ea(start + 0x9c), 0);
    notes.check("dcbz", u64::from(is_filled(start + 0x80, 0x80, 0)), 1);
    notes.check("dcbz-beside", read64(start + 0x78) & read64(start + 0x100), u64::MAX);
    notes.told("store", start + 0x80, 0, 128, Some(0));
    for (name, xo) in [("dcbst", 54), ("dcbf", 86), ("icbi", 982)] {
        notes.run(name, &[x(31, 0, 0, 3, xo)], ea(SEALED + 0x384), 0);
        notes.told("load", SEALED + 0x380, 0, 128, None);
    }
}

/// What the processor has to do: it is told, without a value, and watched again afterwards.
fn let_through(notes: &mut Notes) {
    // From here on the page is nobody else's: stwcx. would fault on that, and be told.
    notes.run("stw", &[insn::stw(4, 0, 3)], ea(SEALED + 0x238), 5);
    notes.told("store", SEALED + 0x238, 0, 4, Some(5));
    // lwarx, addi, stwcx. until it works.
    let code = [insn::lwarx(5, 0, 3), insn::addi(5, 5, 7), x(31, 5, 0, 3, 150) | 1, 0x4082_fff4];
    let before = number(SEALED + 0x240, 4);
    notes.run("lwarx", &code, ea(SEALED + 0x240), 0);
    notes.told("load", SEALED + 0x240, 0, 0, None);
    settle();
    let c = notes.run("lwarx", &[insn::lwz(5, 0, 3)], ea(SEALED + 0x240), 0);
    notes.check("lwarx", c.gpr[5], before.wrapping_add(7) & 0xffff_ffff);
    notes.told("load", SEALED + 0x240, 0, 4, Some(c.gpr[5].into()));
    notes.run("stwcx", &code, ea(KEPT + 0x240), 0);
    notes.check("stwcx", u64::from(read32(KEPT + 0x240)), 7);
    notes.told("store", KEPT + 0x240, 2, 0, None);
    settle();
    notes.run("stwcx", &[insn::stw(4, 0, 3)], ea(KEPT + 0x244), 9);
    notes.told("store", KEPT + 0x244, 0, 4, Some(9));
    // One that is followed by a trace interrupt.
    notes.traced = true;
    let c = notes.start(&[insn::ld(5, 0, 3), NOP], ea(SEALED + 0x260), 0);
    notes.traced = false;
    notes.check("traced", c.vector().0, Vector::TRACE.0);
    notes.check("traced-srr0", c.nip, CODE_EA + 4);
    notes.check("traced", c.gpr[5], number(SEALED + 0x260, 8));
    notes.told("load", SEALED + 0x260, 0, 0, None);
    settle();
    // Code in the page.
    let at = SEALED + 0x800;
    let c = notes.run("fetch", &[insn::mtspr(spr::CTR, 3), BCTR], ea(at), 0);
    notes.check("fetch", c.gpr[6], 77);
    notes.line(Line { kind: "fetch", ea: ea(at), real: at, pc: ea(at), bytes: 0, value: None });
    settle();
}

fn real_mode(notes: &mut Notes) {
    let load = |notes: &mut Notes, name, at: u64, want: u64| {
        let mut c = Context { nip: place(&[NOP, insn::ld(5, 0, 3)]), msr: MSR_REAL, ..Context::ZERO };
        c.gpr[3] = at;
        run_context(&mut c);
        notes.check(name, c.vector().0, Vector::SYSTEM_CALL.0);
        notes.check(name, c.gpr[5], want);
        let line = Line { kind: "load", ea: at, real: at, pc: CODE + 4, bytes: 8, value: Some(want.into()) };
        notes.line(line);
    };
    load(notes, "real-mode", SEALED + 0x300, number(SEALED + 0x300, 8));
    // Into a page that nobody has used.
    let half = if cfg!(target_endian = "little") { 0x1122_3344 } else { 0x5566_7788 << 32 };
    load(notes, "real-mode-untouched", LATE + RANGE - 4, half);
}

/// More than is told.
const FLOOD: u64 = 300;

fn flood(notes: &mut Notes) {
    let code = [insn::mtspr(spr::CTR, 4), insn::lbz(5, 0, 3), 0x4200_fffc]; // bdnz
    let c = notes.run("flood", &code, ea(SEALED + 0x3f0), FLOOD);
    notes.check("flood", c.gpr[5], u64::from(pattern(0x3f0)));
}
