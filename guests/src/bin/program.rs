//! What a processor refuses: illegal and privileged instructions, traps, facilities that are off, alignment, single
//! steps, jumps into nowhere. All of it reaches the guest's own vectors, as on bare metal.
#![no_std]
#![no_main]

use guests::insn::{self, BCTR, HRFID, ILLEGAL, NOP, TRAP, mfspr, mtspr, x};
use guests::space::{self, CODE_EA};
use guests::{CODE, Context, MSR_REAL, Report, place, platform, run as run_context, run_code};
use power::interrupt::Vector;
use power::regs::Msr;
use power::spr;

guests::main!(run);

const ILLEGAL_BIT: u64 = 0x8_0000;
const PRIVILEGED_BIT: u64 = 0x4_0000;
const TRAP_BIT: u64 = 0x2_0000;
const CAUSES: u64 = 0x1f_0000 & !0x1_0000;

fn run(t: &mut Report) {
    space::standard();
    illegal(t);
    privileged(t);
    hypervisor_only(t);
    facilities(t);
    alignment(t);
    trace(t);
    nowhere(t);
    let c = run_code(&[NOP], 0, 0);
    t.is_true("alive", c.finished());
}

fn check(t: &mut Report, name: &str, c: &Context, vector: Vector, nip: u64) {
    t.same(name, c.vector().0, vector.0);
    t.same("srr0", c.nip, nip);
}

fn illegal(t: &mut Report) {
    for word in
        [ILLEGAL, 0x0000_0001, 0x4c00_0000 | 1023 << 1, x(31, 0, 0, 0, 1000), 0xec00_003e & !0x3e | 6 << 1]
    {
        let c = run_code(&[NOP, word], 0, 0);
        check(t, "illegal", &c, Vector::PROGRAM, CODE + 4);
        t.same("illegal-srr1", c.msr & CAUSES, ILLEGAL_BIT);
        t.same("illegal-msr", c.msr & !CAUSES & !0x783f_0002, MSR_REAL);
        if word != 0xec00_000c {
            let c = space::run_virtual(&[NOP, word], true, 0, 0);
            check(t, "illegal-problem", &c, Vector::PROGRAM, CODE_EA + 4);
            t.same("illegal-problem-srr1", c.msr & CAUSES, ILLEGAL_BIT);
        }
    }
    let c = run_code(&[NOP, TRAP], 0, 0);
    check(t, "trap", &c, Vector::PROGRAM, CODE + 4);
    t.same("trap-srr1", c.msr & CAUSES, TRAP_BIT);
}

fn privileged(t: &mut Report) {
    let mfmsr = x(31, 3, 0, 0, 83);
    for word in [
        mfmsr,
        insn::RFID,
        insn::mtmsrd(3),
        mfspr(3, spr::SPRG0),
        mtspr(spr::DEC, 3),
        insn::SLBIA,
        x(31, 3, 0, 4, 402),
    ] {
        let c = space::run_virtual(&[NOP, word], true, 0, 0);
        check(t, "privileged", &c, Vector::PROGRAM, CODE_EA + 4);
        t.same("privileged-srr1", c.msr & CAUSES, PRIVILEGED_BIT);
    }
}

fn hypervisor_only(t: &mut Report) {
    for (name, word) in [
        ("hrfid", HRFID),
        ("mtlpcr", mtspr(spr::LPCR, 3)),
        ("mflpcr", mfspr(3, spr::LPCR)),
        ("mtlpidr", mtspr(spr::LPIDR, 3)),
        ("mthsprg0", mtspr(spr::HSPRG0, 3)),
        ("mthdec", mtspr(spr::HDEC, 3)),
        ("mthfscr", mtspr(spr::HFSCR, 3)),
        ("mthsrr0", mtspr(spr::HSRR0, 3)),
        ("mtamor", mtspr(spr::AMOR, 3)),
        ("stdcix", x(31, 3, 0, 4, 1013)),
        ("ldcix", x(31, 3, 0, 4, 885)),
        ("msgsnd", x(31, 0, 0, 3, 206)),
    ] {
        let c = run_code(&[insn::li(3, 0), word], 0, CODE);
        check(t, name, &c, Vector::PROGRAM, CODE + 4);
        t.is_true("hypervisor-only-srr1", c.msr & CAUSES != 0);
        t.note(format_args!("{name} SRR1 {:#x}", c.msr));
    }
}

fn facilities(t: &mut Report) {
    let lfd = insn::lfd(1, 0, 3);
    let lvx = insn::lvx(1, 0, 3);
    let lxvd2x = insn::lxvd2x(1, 0, 3);
    for (name, word, vector) in [
        ("fp", lfd, Vector::FP_UNAVAILABLE),
        ("vmx", lvx, Vector::VMX_UNAVAILABLE),
        ("vsx", lxvd2x, Vector::VSX_UNAVAILABLE),
    ] {
        let c = run_code(&[NOP, word], space::DATA, 0);
        check(t, name, &c, vector, CODE + 4);
        let mut c = Context { nip: place(&[NOP, word]), msr: MSR_REAL, ..Context::ZERO };
        c.msr |= (Msr::FP | Msr::VEC | Msr::VSX).bits();
        c.gpr[3] = space::DATA;
        run_context(&mut c);
        t.is_true("facility-on", c.finished());
    }
    // TAR in problem state, with FSCR refusing it (bit 55) and allowing it.
    let fscr = guests::cpu::mfspr::<{ spr::FSCR }>();
    guests::cpu::mtspr::<{ spr::FSCR }>(fscr & !0x100);
    let c = space::run_virtual(&[NOP, mfspr(3, spr::TAR)], true, 0, 0);
    check(t, "facility", &c, Vector::FACILITY, CODE_EA + 4);
    t.same("facility-cause", guests::cpu::mfspr::<{ spr::FSCR }>() >> 56, 8);
    guests::cpu::mtspr::<{ spr::FSCR }>(fscr | 0x100);
    let c = space::run_virtual(&[NOP, mfspr(3, spr::TAR)], true, 0, 0);
    t.is_true("facility-allowed", c.finished());
}

fn alignment(t: &mut Report) {
    let c = run_code(&[NOP, insn::lwarx(3, 0, 4)], 0, space::DATA + 2);
    check(t, "alignment", &c, Vector::ALIGNMENT, CODE + 4);
    t.same("alignment-dar", c.dar, space::DATA + 2);
    let c = space::run_virtual(&[NOP, insn::lwarx(3, 0, 4)], true, 0, space::DATA_EA + 1);
    check(t, "alignment-problem", &c, Vector::ALIGNMENT, CODE_EA + 4);
}

fn trace(t: &mut Report) {
    let mut c = Context { nip: place(&[insn::li(3, 7), insn::li(3, 8)]), msr: MSR_REAL, ..Context::ZERO };
    c.msr |= Msr::SE.bits();
    run_context(&mut c);
    check(t, "trace", &c, Vector::TRACE, CODE + 4);
    t.same("trace-one", c.gpr[3], 7);
    place(&[insn::li(3, 9), insn::li(3, 8)]);
    let mut c = Context { nip: CODE_EA, msr: guests::MSR_PROBLEM | Msr::SE.bits(), ..Context::ZERO };
    guests::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
    run_context(&mut c);
    check(t, "trace-problem", &c, Vector::TRACE, CODE_EA + 4);
    t.same("trace-problem-one", c.gpr[3], 9);
}

/// Real mode, where there is no memory: the guest gets a machine check or a storage interrupt, and lives on.
fn nowhere(t: &mut Report) {
    let end = platform::memory();
    for address in [end, end + 0x1000_0000, 1 << 39, 0x0fff_ffff_ffff_f000] {
        let mut c = Context { nip: place(&[insn::mtspr(spr::CTR, 3), BCTR]), msr: MSR_REAL, ..Context::ZERO };
        c.gpr[3] = address;
        run_context(&mut c);
        t.note(format_args!("jump to {address:#x}: {:#x} SRR0 {:#x} SRR1 {:#x}", c.arrival, c.nip, c.msr));
        t.is_true("nowhere-jump", matches!(c.vector(), Vector::MACHINE_CHECK | Vector::INST_STORAGE));
        t.same("nowhere-jump-srr0", c.nip, address);
        for (name, word) in [("nowhere-load", insn::ld(5, 0, 3)), ("nowhere-store", insn::std(5, 0, 3))] {
            let c = run_code(&[NOP, word], address, 0);
            t.note(format_args!(
                "{name} {address:#x}: {:#x} SRR1 {:#x} DSISR {:#x}",
                c.arrival, c.msr, c.dsisr
            ));
            t.is_true(name, matches!(c.vector(), Vector::MACHINE_CHECK | Vector::DATA_STORAGE));
        }
    }
    // Real mode is a segment of one TiB: what lies beyond may be the same again, if the processor says so.
    for address in [1 << 40, 1 << 50, 1 << 59] {
        let c = run_code(&[NOP, insn::ld(5, 0, 3)], address, 0);
        t.is_true("far-load", matches!(c.vector().0, 0x200 | 0x300 | 0xc00));
    }
}
