//! What a hypervisor call, H_CEDE, a fault and time leave of the registers: all of them but the documented results.
#![no_std]
#![no_main]

use guests::insn::{self, NOP, mfspr, mtspr, sc, x};
use guests::mem::write64;
use guests::space::{self, READ_WRITE};
use guests::{Context, Hcall, MSR_REAL, Report, place, run as run_context, units};
use power::Generation;
use power::interrupt::Vector;
use power::{PageSize, spr};

guests::main!(run);

const BUFFER: u64 = space::DATA;

fn run(t: &mut Report) {
    general(t);
    vectors(t);
    spaces(t);
    special(t);
}

fn pattern() -> Context {
    let mut c = Context::ZERO;
    for (i, r) in c.gpr.iter_mut().enumerate() {
        *r = 0x1111_0000_2222_0000 + i as u64 * 0x0001_0001_0001_0001;
    }
    c.cr = 0x1234_5678;
    c.lr = 0x3333_4444;
    c.ctr = 0x5555_6666;
    c.xer = 0xe000_0021; // SO, OV, CA and a string length
    c.msr = MSR_REAL;
    c
}

/// Calls with registers full of a pattern; r3 to r12 as given. Which registers changed, r3 apart?
fn changed(number: u64, arguments: &[u64], results: usize) -> (u64, bool) {
    let mut c = pattern();
    c.nip = place(&[sc(1), NOP]);
    c.gpr[3] = number;
    c.gpr[4..4 + arguments.len()].copy_from_slice(arguments);
    let before = c;
    run_context(&mut c);
    let mut which = 0;
    for i in 0..32 {
        if i != 3 && !(4..4 + results).contains(&i) && c.gpr[i] != before.gpr[i] {
            which |= 1 << i;
        }
    }
    let others =
        c.finished() && c.cr == before.cr && c.lr == before.lr && c.ctr == before.ctr && c.xer == before.xer;
    (which, others)
}

fn general(t: &mut Report) {
    let buffer = BUFFER;
    write64(buffer, u64::from_be_bytes([0, 0, 0x7f, 0xff, 0, 0, 0, 0]).to_be());
    write64(buffer + 8, 0);
    let calls: [(&str, u64, &[u64], usize); 15] = [
        ("unknown", 0x7c, &[], 0),
        ("unknown-huge", 1 << 50, &[], 0),
        ("read", Hcall::READ.0, &[0, 0], 2),
        ("read-refused", Hcall::READ.0, &[0, 1 << 50], 0),
        ("enter-refused", Hcall::ENTER.0, &[0, 1 << 50, 0, 0], 0),
        ("remove-refused", Hcall::REMOVE.0, &[0, 1 << 50, 0], 0),
        ("protect-refused", Hcall::PROTECT.0, &[0, 1 << 50, 0], 0),
        ("cppr", Hcall::CPPR.0, &[0], 0),
        ("xirr", Hcall::XIRR.0, &[], 1),
        ("eoi", Hcall::EOI.0, &[0], 0),
        ("put", Hcall::PUT_TERM_CHAR.0, &[0, 0, 0, 0], 0),
        ("ci-load", Hcall::LOGICAL_CI_LOAD.0, &[8, buffer], 1),
        ("set-mode-refused", Hcall::SET_MODE.0, &[0, 77, 0, 0], 0),
        ("rtas-unknown", Hcall::RTAS.0, &[buffer], 0),
        ("prod", Hcall::PROD.0, &[0], 0),
    ];
    for (name, number, arguments, results) in calls {
        let (which, others) = changed(number, arguments, results);
        t.same(name, which, 0);
        t.is_true("cr-lr-ctr-xer", others);
    }
}

fn vectors_across(middle: &[u32], set_up: impl Fn(&mut Context)) -> u64 {
    units::across(guests::CODE, BUFFER, 1, middle, set_up)
}

fn vectors(t: &mut Report) {
    t.same("vsx-unused", vectors_across(&[NOP], |_| ()), 0);
    // After `mr r3, r22` the call: r3 and r4 are free, r5 is not needed across it.
    let call = [x(31, 22, 3, 22, 444), x(31, 23, 4, 23, 444), x(31, 24, 5, 24, 444), sc(1)];
    for (name, number, a, b) in [
        ("vsx-unknown", 0x7c, 0, 0),
        ("vsx-read", Hcall::READ.0, 0, 0),
        ("vsx-ci-load", Hcall::LOGICAL_CI_LOAD.0, 8, BUFFER),
        ("vsx-put", Hcall::PUT_TERM_CHAR.0, 0, 0),
        ("vsx-page-init", Hcall::PAGE_INIT.0, power::hcall::flags::ZERO_PAGE, 0x300_0000),
    ] {
        let lost = vectors_across(&call, |c| {
            c.gpr[22] = number;
            c.gpr[23] = a;
            c.gpr[24] = b;
        });
        t.same(name, lost, 0);
    }
    // Touching memory for the first time, in real mode.
    let lost = vectors_across(&[insn::ld(4, 0, 22)], |c| c.gpr[22] = 0x500_0000);
    t.same("vsx-first-touch", lost, 0);
    // Waiting; the prod makes H_CEDE come back without an interrupt.
    guests::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
    let mut cede = [0; 5];
    cede[..4].copy_from_slice(&call);
    cede[4] = NOP;
    if !t.differs_on_qemu(
        "vsx-cede",
        "it forgets a prod when its emulation loop turns before the processor waits",
    ) {
        guests::status(Hcall::PROD, &[0]);
        let lost = vectors_across(&cede, |c| c.gpr[22] = Hcall::CEDE.0);
        t.same("vsx-cede", lost, 0);
    }
    // Giving way to nobody: the processor is left, and found again as nobody else has used it.
    let lost = vectors_across(&call, |c| {
        c.gpr[22] = Hcall::CONFER.0;
        c.gpr[23] = u64::MAX;
    });
    t.same("vsx-confer", lost, 0);
    // A third of a second of being preempted.
    let lost = vectors_across(&units::SPIN, |c| c.gpr[22] = 160_000_000);
    t.same("vsx-time", lost, 0);
}

fn spaces(t: &mut Report) {
    // A store to a fresh page through a translation, with everything full of a pattern.
    space::standard();
    let ra = 0x600_0000;
    let ea = space::CODE_EA + 0x100_0000;
    space::USER.enter(ea, ra, PageSize::K64, READ_WRITE).expect("a page");
    let mut c = pattern();
    place(&[insn::std(31, 0x40, 30), insn::ld(29, 0x40, 30), NOP]);
    c.nip = space::CODE_EA;
    c.msr = guests::MSR_PROBLEM;
    c.gpr[30] = ea;
    let before = c;
    guests::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
    run_context(&mut c);
    t.same("fault-vector", c.vector().0, Vector::SYSTEM_CALL.0);
    t.same("fault-value", c.gpr[29], before.gpr[31]);
    c.gpr[29] = before.gpr[29];
    t.is_true("fault-registers", c.gpr == before.gpr);
    t.is_true(
        "fault-others",
        c.cr == before.cr && c.lr == before.lr && c.ctr == before.ctr && c.xer == before.xer,
    );
}

/// Writes a register, lets something happen, and reads it.
fn kept(number: u32, value: u64, middle: &[u32], set_up: impl Fn(&mut Context)) -> Option<u64> {
    let mut code = [NOP; 16];
    code[0] = mtspr(number, 20);
    code[1] = insn::ISYNC;
    code[2..2 + middle.len()].copy_from_slice(middle);
    code[2 + middle.len()] = mfspr(21, number);
    let mut c = Context { nip: place(&code[..3 + middle.len()]), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[20] = value;
    set_up(&mut c);
    run_context(&mut c);
    c.finished().then_some(c.gpr[21])
}

fn special(t: &mut Report) {
    let isa3 = guests::cpu::generation() != Generation::Power8;
    let names: [(&str, u32, u64); 27] = [
        ("sprg1", spr::SPRG1, 0x1122_3344_5566_7788),
        ("sprg2", spr::SPRG2, 0x99aa_bbcc_ddee_ff00),
        ("sprg3", spr::SPRG3, 0x0f0f_0f0f_f0f0_f0f0),
        ("dscr", spr::DSCR, 0x5),
        ("tar", spr::TAR, 0x1234_5678_9abc_def0),
        ("amr", spr::AMR, 0xc000_0000_0000_0003),
        ("iamr", spr::IAMR, 0x1000_0000_0000_0000),
        ("uamor", spr::UAMOR, 0x3000_0000_0000_0000),
        ("ebbhr", spr::EBBHR, 0x1234_5670),
        ("ebbrr", spr::EBBRR, 0x2345_6780),
        ("bescr", spr::BESCR, 0x3),
        ("mmcr0", spr::MMCR0, 0x4000_0000),
        ("mmcr1", spr::MMCR1, 0x12),
        ("mmcr2", spr::MMCR2, 0x1000_0000_0000_0000),
        ("mmcra", spr::MMCRA, 0x10),
        ("pmc1", spr::PMC1, 0x11),
        ("pmc2", spr::PMC2, 0x22),
        ("pmc3", spr::PMC3, 0x33),
        ("pmc4", spr::PMC4, 0x44),
        ("siar", spr::SIAR, 0x1000),
        ("sdar", spr::SDAR, 0x2000),
        ("sier", spr::SIER, 0x40),
        ("vrsave", spr::VRSAVE, 0xdead_beef),
        ("dar", spr::DAR, 0x1357_9bdf),
        ("dsisr", spr::DSISR, 0x4000_0000),
        ("pspb", spr::PSPB, 0x7),
        ("fscr", spr::FSCR, 0x105),
    ];
    let prod = !t.differs_on_qemu(
        "spr-cede",
        "it forgets a prod when its emulation loop turns before the processor waits",
    );
    for (name, number, value) in names {
        if number == spr::PSPB && t.differs_on_qemu(name, "its PSPB is write-only in effect") {
            continue;
        }
        if number == spr::FSCR {
            // Read, change and keep what other facilities need.
            let mask = 0x105;
            let got = kept(number, value, &[NOP], |_| ()).map(|v| v & mask);
            t.equal(name, got, Some(mask));
            continue;
        }
        guests::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
        let plain = kept(number, value, &[NOP], |_| ());
        let Some(want) = plain else {
            t.note(format_args!("{name} cannot be accessed"));
            t.is_true(name, false);
            continue;
        };
        t.is_true(
            name,
            want == value || matches!(number, spr::UAMOR | spr::BESCR | spr::MMCRA | spr::MMCR0 | spr::SIER),
        );
        let call = [x(31, 22, 3, 22, 444), sc(1)];
        let got = kept(number, value, &call, |c| c.gpr[22] = 0x7c);
        t.equal("across-call", got, Some(want));
        let confer = [x(31, 22, 3, 22, 444), x(31, 23, 4, 23, 444), sc(1)];
        let got = kept(number, value, &confer, |c| {
            c.gpr[22] = Hcall::CONFER.0;
            c.gpr[23] = u64::MAX;
        });
        t.equal("across-confer", got, Some(want));
        if prod {
            guests::status(Hcall::PROD, &[0]);
            let got = kept(number, value, &call, |c| c.gpr[22] = Hcall::CEDE.0);
            t.equal("across-cede", got, Some(want));
        }
        let got = kept(number, value, &units::SPIN, |c| c.gpr[22] = 10_000_000);
        t.equal("across-time", got, Some(want));
        kept(number, 0, &[NOP], |_| ());
    }
    for (name, number) in [
        ("pvr", spr::PVR),
        ("pir", spr::PIR),
        ("ctrl", spr::CTRL_READ),
        ("dpdes", spr::DPDES),
        ("purr", spr::PURR),
        ("spurr", spr::SPURR),
        ("vtb", spr::VTB),
        ("pmc5", spr::PMC5),
        ("pmc6", spr::PMC6),
    ] {
        let c = guests::run_code(&[mfspr(3, number)], 0, 0);
        t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
    }
    if isa3 {
        let c = guests::run_code(&[mtspr(spr::TIDR, 3), mfspr(4, spr::TIDR)], 0x77, 0);
        t.note(format_args!("tidr {:#x} vector {:#x}", c.gpr[4], c.vector().0));
    }
    let c = guests::run_code(&[mtspr(spr::CTRL, 3), NOP], 1, 0);
    t.same("ctrl-write", c.vector().0, Vector::SYSTEM_CALL.0);
}
