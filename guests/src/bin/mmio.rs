//! Real addresses that nothing answers to. As on a bus, a cache-inhibited load reads all ones and a store is lost; as
//! on memory that is not there, a cacheable access or a fetch is a machine check.
#![no_std]
#![no_main]

use guests::cpu::generation;
use guests::insn::{self, NOP, x};
use guests::mem::{fill, read64, write64};
use guests::space::{self, CODE_EA, DATA, DATA_EA, DEVICE, FREE_SLOT, Segment, run_virtual};
use guests::{CODE, Context, MSR_PROBLEM, MSR_REAL, Report, place, platform, run as run_context};
use power::Generation;
use power::PageSize::{K4, K64};
use power::hpte::HpteR;
use power::interrupt::Vector;
use power::regs::{Dsisr, Msr};
use power::slb::SegmentSize;
use power::spr;

guests::main!(run);

const EA: u64 = 0x2000_0000;
const SEGMENT: Segment = Segment { ea: EA, vsid: 0x2b3, size: SegmentSize::M256, base: K4, flags: 0 };
const WIDE: Segment =
    Segment { ea: EA + 0x1000_0000, vsid: 0x2b4, size: SegmentSize::M256, base: K64, flags: 0 };

fn run(t: &mut Report) {
    space::standard();
    SEGMENT.install(FREE_SLOT);
    WIDE.install(FREE_SLOT + 1);
    let hole = 1 << 40;
    SEGMENT.enter(EA, hole, K4, DEVICE).expect("a hole");
    SEGMENT.enter(EA + 0x1000, platform::memory() + 0x1_0000, K4, DEVICE).expect("the end of memory");
    WIDE.enter(WIDE.ea, hole + 0x100_0000, K64, DEVICE).expect("a wide hole");
    for ea in [EA, EA + 0x1000, WIDE.ea + 0x8000] {
        loads(t, ea);
        stores(t, ea);
    }
    vectors(t);
    updates(t);
    wide(t);
    refused(t);
    straddling(t);
    cacheable(t);
    let c = run_virtual(&[insn::ld(3, 0, 3)], true, DATA_EA, 0);
    t.is_true("alive", c.finished());
}

const fn d(op: u32, rt: u32, ra: u32, imm: u32) -> u32 {
    op << 26 | rt << 21 | ra << 16 | imm & 0xffff
}

/// `sldi RA,RA,n`, for n from 32 on.
const fn sldi(r: u32, n: u32) -> u32 {
    30 << 26 | r << 21 | r << 16 | (n & 31) << 11 | (63 - n) << 6 | 4 | (n >> 5) << 1
}

fn loads(t: &mut Report, ea: u64) {
    let ones = u64::MAX;
    for problem in [false, true] {
        for (name, word, want) in [
            ("lbz", insn::lbz(5, 0x10, 3), 0xff),
            ("lhz", insn::lhz(5, 0x10, 3), 0xffff),
            ("lha", insn::lha(5, 0x10, 3), ones),
            ("lwz", insn::lwz(5, 0x10, 3), 0xffff_ffff),
            ("lwa", insn::ld(5, 0x10, 3) | 2, ones),
            ("ld", insn::ld(5, 0x10, 3), ones),
            ("lbzx", insn::lbzx(5, 4, 3), 0xff),
            ("lwzx", insn::lwzx(5, 4, 3), 0xffff_ffff),
            ("ldx", insn::ldx(5, 4, 3), ones),
            ("lwbrx", insn::lwbrx(5, 4, 3), 0xffff_ffff),
            ("ldbrx", insn::ldbrx(5, 4, 3), ones),
            ("lhbrx", x(31, 5, 4, 3, 790), 0xffff),
            ("lwax", x(31, 5, 4, 3, 341), ones),
            ("lhax", x(31, 5, 4, 3, 343), ones),
        ] {
            let c = run_virtual(&[NOP, word, insn::li(6, 1)], problem, ea, 0x10);
            t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
            t.same(name, c.gpr[5], want);
            t.same("went-on", c.gpr[6], 1);
        }
    }
}

fn stores(t: &mut Report, ea: u64) {
    for problem in [false, true] {
        for (name, word) in [
            ("stb", insn::stb(4, 0x10, 3)),
            ("sth", insn::sth(4, 0x10, 3)),
            ("stw", insn::stw(4, 0x10, 3)),
            ("std", insn::std(4, 0x10, 3)),
            ("stdx", insn::stdx(4, 0, 3)),
            ("stwbrx", insn::stwbrx(4, 0, 3)),
            ("stdbrx", x(31, 4, 0, 3, 660)),
        ] {
            let c = run_virtual(&[NOP, word, insn::ld(5, 0x10, 3)], problem, ea, 0);
            t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
            t.same("store-lost", c.gpr[5], u64::MAX);
        }
    }
}

/// Runs with the floating point and vector units on, r4 = DATA_EA.
fn with_units(code: &[u32]) -> Context {
    place(code);
    let mut c = Context { nip: CODE_EA, msr: MSR_PROBLEM, ..Context::ZERO };
    c.msr |= (Msr::FP | Msr::VEC | Msr::VSX).bits();
    c.gpr[3] = EA;
    c.gpr[4] = DATA_EA;
    guests::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
    run_context(&mut c);
    c
}

fn vectors(t: &mut Report) {
    for (name, load, store, dwords) in [
        ("lfd", insn::lfd(7, 0, 3), insn::stfd(7, 0, 4), 1),
        ("lvx", insn::lvx(7, 0, 3), insn::stvx(7, 0, 4), 2),
        ("lxvd2x", insn::lxvd2x(7, 0, 3), insn::stxvd2x(7, 0, 4), 2),
        ("lxvd2x-high", insn::lxvd2x(7, 0, 3) | 1, insn::stxvd2x(7, 0, 4) | 1, 2),
        ("lxvw4x", x(31, 7, 0, 3, 780), x(31, 7, 0, 4, 908), 2),
    ] {
        fill(DATA, 16, 0);
        let c = with_units(&[load, store]);
        t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
        for i in 0..dwords {
            t.same("vector-ones", read64(DATA + 8 * i), u64::MAX);
        }
    }
    for (name, store) in [
        ("stfd", insn::stfd(7, 0, 3)),
        ("stvx", insn::stvx(7, 0, 3)),
        ("stxvd2x", insn::stxvd2x(7, 0, 3)),
        ("stfs", 52 << 26 | 7 << 21 | 3 << 16),
    ] {
        let c = with_units(&[store]);
        t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
    }
    let c = with_units(&[48 << 26 | 7 << 21 | 3 << 16]); // lfs
    t.same("lfs", c.vector().0, Vector::SYSTEM_CALL.0);
    write64(DATA, 0);
}

fn updates(t: &mut Report) {
    let c = run_virtual(&[insn::lwzu(5, 0x20, 3)], true, EA, 0);
    t.same("lwzu", c.gpr[5], 0xffff_ffff);
    t.same("lwzu-address", c.gpr[3], EA + 0x20);
    let c = run_virtual(&[insn::stwu(4, 0x20, 3)], true, EA, 0);
    t.same("stwu-address", c.gpr[3], EA + 0x20);
    let c = run_virtual(&[insn::ld(5, 0x20, 3) | 1], true, EA, 0);
    t.same("ldu", c.gpr[5], u64::MAX);
    t.same("ldu-address", c.gpr[3], EA + 0x20);
    let c = run_virtual(&[insn::std(4, 0x28, 3) | 1], true, EA, 0);
    t.same("stdu-address", c.gpr[3], EA + 0x28);
    // With whatever registers: each is the target, the base, and the base that is updated.
    for n in (5..32).filter(|n| *n != 13).chain([13]) {
        let mr = |to, from| x(31, from, to, from, 444);
        let c = run_virtual(&[insn::lwz(n, 0x10, 3), mr(5, n)], true, EA, 0);
        t.same("any-target", c.gpr[5], 0xffff_ffff);
        let c = run_virtual(&[mr(n, 3), insn::lwzu(4, 0x18, n), mr(5, n)], true, EA, 0);
        t.same("any-base", u64::from(c.gpr[4] == 0xffff_ffff) * c.gpr[5], EA + 0x18);
        let c = run_virtual(&[mr(n, 4), x(31, 4, 3, n, 183), mr(5, n)], true, EA, 0x28);
        t.same("any-index", u64::from(c.gpr[5] == 0x28) * c.gpr[3], EA + 0x28);
    }
    // Into the register that holds the address.
    let c = run_virtual(&[insn::ld(3, 0, 3)], true, EA, 0);
    t.same("own-address", c.gpr[3], u64::MAX);
    // Cache operations on nothing do nothing.
    for (name, word) in
        [("dcbf", x(31, 0, 0, 3, 86)), ("dcbst", x(31, 0, 0, 3, 54)), ("icbi", x(31, 0, 0, 3, 982))]
    {
        let c = run_virtual(&[word], true, EA, 0);
        t.note(format_args!("{name} {:#x}", c.arrival));
        t.is_true(name, c.finished() || c.vector() == Vector::DATA_STORAGE);
    }
}

/// What moves more than a register, or only some bytes of one.
fn wide(t: &mut Report) {
    let ones = u64::MAX;
    let big = cfg!(target_endian = "big");
    for (name, word, register, want) in [
        ("lmw", insn::lmw(28, 4, 3), 31, 0xffff_ffff),
        ("lswi", x(31, 5, 3, 7, 597), 6, 0xffff_ff00),
        ("stmw", d(47, 28, 3, 4), 31, 0),
        ("stswi", x(31, 5, 3, 7, 725), 6, 0),
    ] {
        let c = with_units(&[word]);
        if big {
            t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
            t.same(name, c.gpr[register], want);
        } else {
            // That is the processor's.
            t.same(name, c.vector().0, Vector::ALIGNMENT.0);
        }
    }
    let c = with_units(&[d(56, 6, 3, 16), d(62, 6, 3, 2)]);
    t.same("lq", c.vector().0, Vector::SYSTEM_CALL.0);
    t.same("lq", c.gpr[6] & c.gpr[7], ones);
    let quadwords = |t: &mut Report, name, code: &[u32], want: [u64; 2]| {
        fill(DATA, 16, 0x5a);
        let c = with_units(code);
        t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
        t.same(name, read64(DATA), want[0]);
        t.same(name, read64(DATA + 8), want[1]);
    };
    if generation() != Generation::Power8 {
        // Three bytes, in r5.
        let some = [insn::li(5, 3), sldi(5, 56), x(31, 7, 3, 5, 269), insn::stxvd2x(7, 0, 4)];
        let want = if big { [0xffff_ff00_0000_0000, 0] } else { [0, 0xff_ffff] };
        quadwords(t, "lxvl", &some, want);
        let store = [insn::li(5, 3), sldi(5, 56), x(31, 7, 3, 5, 397), insn::stxvd2x(7, 0, 4)];
        t.same("stxvl", with_units(&store).vector().0, Vector::SYSTEM_CALL.0);
    }
    if generation() == Generation::Power10 {
        quadwords(t, "lxvp", &[d(6, 6, 3, 0), insn::stxvd2x(7, 0, 4)], [ones; 2]);
        quadwords(t, "lxvrhx", &[x(31, 7, 0, 3, 45), insn::stxvd2x(7, 0, 4)], [0, 0xffff]);
        // plwz r5,0x10(r3)
        let c = with_units(&[0x0600_0000, insn::lwz(5, 0x10, 3), insn::li(6, 1)]);
        t.same("plwz", c.gpr[5], 0xffff_ffff);
        t.same("plwz-went-on", c.gpr[6], 1);
        // pld r5 from EA, by the instruction's own address
        let far = EA + 0x18 - CODE_EA;
        let c = with_units(&[
            0x0410_0000 | (far >> 16) as u32,
            57 << 26 | 5 << 21 | far as u32 & 0xffff,
            insn::li(6, 1),
        ]);
        t.same("pld", c.vector().0, Vector::SYSTEM_CALL.0);
        t.same("pld", c.gpr[5] & c.gpr[6].wrapping_neg(), ones);
    }
    // Not aligned.
    for (name, word, want) in [("odd-lhz", insn::lhz(5, 1, 3), 0xffff), ("odd-ldx", insn::ld(5, 4, 3), ones)]
    {
        let c = run_virtual(&[word], true, EA + 1, 0);
        t.same(name, c.gpr[5], want);
    }
}

/// What no device can do is refused, as the processor refuses it on inhibited memory.
fn refused(t: &mut Report) {
    for (name, word, dsisr) in [
        // The fields of the instruction: its extended opcode, and its registers.
        ("lwarx", insn::lwarx(5, 0, 3), 5 << 5),
        ("ldarx", x(31, 5, 0, 3, 84), 1 << 10 | 5 << 5),
        ("dcbz", x(31, 0, 0, 3, 1014), 2 << 15 | 1 << 14 | 15 << 10),
    ] {
        for problem in [false, true] {
            let c = run_virtual(&[NOP, word], problem, EA + 0x80, 0);
            t.same(name, c.vector().0, Vector::ALIGNMENT.0);
            t.same(name, c.dar, EA + 0x80);
            t.same(name, c.dsisr, dsisr);
            t.same(name, c.nip, CODE_EA + 4);
        }
    }
    if generation() != Generation::Power8 {
        let c = run_virtual(&[NOP, x(31, 5, 3, 0, 582)], true, EA + 0x80, 0); // lwat: fetch and add
        t.same("lwat", c.vector().0, Vector::DATA_STORAGE.0);
        t.same("lwat", c.dar, EA + 0x80);
        t.same("lwat", c.dsisr, (Dsisr::BAD_ACCESS | Dsisr::ISSTORE).bits());
    }
    // Nobody knows that one: QEMU has it from other processors.
    let c = run_virtual(&[NOP, x(31, 0, 0, 3, 470)], false, EA + 0x80, 0); // dcbi
    t.same("dcbi", c.vector().0, Vector::PROGRAM.0);
    t.same("dcbi", c.nip, CODE_EA + 4);
    // An interrupt follows each instruction.
    place(&[insn::lwz(5, 0, 3), NOP]);
    let mut c = Context { nip: CODE_EA, msr: MSR_PROBLEM | Msr::SE.bits(), ..Context::ZERO };
    c.gpr[3] = EA;
    run_context(&mut c);
    t.same("traced", c.vector().0, Vector::TRACE.0);
    t.same("traced", c.nip, CODE_EA + 4);
    t.same("traced", c.gpr[5], 0xffff_ffff);
}

/// Accesses of which a part is memory, or is the guest's own to deny.
fn straddling(t: &mut Report) {
    const MEMORY: u64 = 0x300_0000;
    let before = EA + 0x2000;
    SEGMENT.enter(before, MEMORY, K4, space::READ_WRITE).expect("memory");
    SEGMENT.enter(EA + 0x3000, 1 << 41, K4, DEVICE).expect("another hole");
    SEGMENT.enter(EA + 0x6000, 1 << 41, K4, DEVICE).expect("a hole");
    SEGMENT.enter(EA + 0x7000, MEMORY + 0x2000, K4, space::READ_ONLY).expect("read-only memory");
    let value = 0x0102_0304_0506_0708_u64;
    // In the order of memory.
    let join = |first: u32, second: u32| match cfg!(target_endian = "big") {
        true => u64::from(first) << 32 | u64::from(second),
        false => u64::from(second) << 32 | u64::from(first),
    };
    let [low, high] = [value as u32, (value >> 32) as u32];
    let (first, second) = if cfg!(target_endian = "big") { (high, low) } else { (low, high) };
    for problem in [false, true] {
        write64(MEMORY, value);
        write64(MEMORY + 0xff8, value);
        let c = run_virtual(&[insn::ld(5, 0, 3)], problem, before - 4, 0);
        t.same("into-memory", c.gpr[5], join(u32::MAX, first));
        let c = run_virtual(&[insn::ld(5, 0, 3)], problem, before + 0xffc, 0);
        t.same("out-of-memory", c.gpr[5], join(second, u32::MAX));
        let c = run_virtual(&[insn::std(4, 0, 3)], problem, before - 4, !value);
        t.same("store-into-memory", c.vector().0, Vector::SYSTEM_CALL.0);
        t.same("store-into-memory", read64(MEMORY), join(!second, second));
        let c = run_virtual(&[insn::std(4, 0, 3)], problem, before + 0xffc, !value);
        t.same("store-out-of-memory", c.vector().0, Vector::SYSTEM_CALL.0);
        t.same("store-out-of-memory", read64(MEMORY + 0xff8), join(first, !first));
        // The second page shows nowhere.
        let c = run_virtual(&[NOP, insn::ld(5, 0, 3)], problem, EA + 0x3ffc, 0);
        t.same("into-nothing", c.vector().0, Vector::DATA_STORAGE.0);
        t.same("into-nothing", c.dar, EA + 0x4000);
        t.same("into-nothing", c.dsisr, Dsisr::NOHPTE.bits());
        t.same("into-nothing", c.nip, CODE_EA + 4);
        t.same("into-nothing", c.gpr[5], 0);
        // Or may not be stored to.
        let c = run_virtual(&[NOP, insn::std(4, 0, 3)], problem, EA + 0x6ffc, value);
        t.same("into-denied", c.vector().0, Vector::DATA_STORAGE.0);
        t.same("into-denied", c.dar, EA + 0x7000);
        t.same("into-denied", c.dsisr, (Dsisr::PROTFAULT | Dsisr::ISSTORE).bits());
    }
    // Nothing, in real mode: cacheable.
    let mut c = Context { nip: place(&[insn::ld(5, 0, 3)]), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = 1 << 39;
    run_context(&mut c);
    t.is_true("real-mode", matches!(c.vector(), Vector::MACHINE_CHECK | Vector::DATA_STORAGE));
    t.same("real-mode-srr0", c.nip, CODE);
}

fn cacheable(t: &mut Report) {
    let ea = EA + 0x10_0000;
    SEGMENT.enter(ea, 1 << 41, K4, space::READ_WRITE).expect("cacheable nothing");
    for problem in [false, true] {
        let c = run_virtual(&[NOP, insn::ld(5, 8, 3)], problem, ea, 0);
        t.same("cacheable-load", c.vector().0, Vector::MACHINE_CHECK.0);
        t.same("cacheable-load-srr0", c.nip, CODE_EA + 4);
        let c = run_virtual(&[NOP, insn::std(5, 8, 3)], problem, ea, 0);
        t.same("cacheable-store", c.vector().0, Vector::MACHINE_CHECK.0);
        let c = run_virtual(&[insn::mtspr(spr::CTR, 3), insn::BCTR], problem, ea, 0);
        t.same("cacheable-fetch", c.vector().0, Vector::MACHINE_CHECK.0);
        t.same("cacheable-fetch-srr0", c.nip, ea);
        // No execute was asked for in the inhibited one: that comes first.
        let c = run_virtual(&[insn::mtspr(spr::CTR, 3), insn::BCTR], problem, EA, 0);
        t.same("inhibited-fetch", c.vector().0, Vector::INST_STORAGE.0);
        t.same("inhibited-fetch-srr1", c.srr1_status(), 0x1000_0000);
    }
    // Without N and G it is the fetch itself that fails.
    let ea = EA + 0x11_0000;
    SEGMENT.enter(ea, 1 << 42, K4, HpteR::I | 2).expect("executable nothing");
    let c = run_virtual(&[insn::mtspr(spr::CTR, 3), insn::BCTR], true, ea, 0);
    t.is_true("executable", matches!(c.vector(), Vector::MACHINE_CHECK | Vector::INST_STORAGE));
}
