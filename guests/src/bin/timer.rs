//! The decrementer and what waits for it: it fires when it should, with EE on, after EE came on, and out of H_CEDE.
#![no_std]
#![no_main]

use guests::cpu::{TB_HZ, mfspr, mtspr, timebase};
use guests::insn::{self, B_SELF, mtmsrd_ee, mtspr as mtspr_insn, sc};
use guests::{Context, Hcall, MSR_REAL, Report, println, run as run_context, status};
use power::interrupt::Vector;
use power::regs::Msr;
use power::spr;

guests::main!(run);

const MILLISECOND: u64 = TB_HZ / 1000;

/// Sets the decrementer and spins with EE on; ticks that it took, and the context at the interrupt.
fn spin(ticks: u64) -> (u64, Context) {
    let code = [mtspr_insn(spr::DEC, 3), mtmsrd_ee(4), B_SELF];
    let mut c = Context { nip: guests::place(&code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = ticks;
    c.gpr[4] = Msr::EE.bits();
    let start = timebase();
    run_context(&mut c);
    (timebase() - start, c)
}

fn cede(ticks: u64) -> (u64, Context) {
    let code = [mtspr_insn(spr::DEC, 4), sc(1), B_SELF];
    let mut c = Context { nip: guests::place(&code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = Hcall::CEDE.0;
    c.gpr[4] = ticks;
    let start = timebase();
    run_context(&mut c);
    (timebase() - start, c)
}

fn run(t: &mut Report) {
    mtspr::<{ spr::DEC }>(1_000_000);
    let (d, b) = (mfspr::<{ spr::DEC }>(), timebase());
    guests::cpu::delay(10_000);
    let (d2, b2) = (mfspr::<{ spr::DEC }>(), timebase());
    t.within("counts-like-timebase", (d - d2).abs_diff(b2 - b), 0, 100);

    for ticks in [100, 10_000, MILLISECOND, 30 * MILLISECOND] {
        let (took, c) = spin(ticks);
        t.same("spin", c.vector().0, Vector::DECREMENTER.0);
        t.within("spin-ticks", took, ticks, ticks + MILLISECOND / 2);
        t.same("spin-srr1", c.msr & !2, MSR_REAL | Msr::EE.bits());
        println!("@ note {ticks} ticks: {took}");
    }
    for ticks in [100, 10_000, MILLISECOND, 30 * MILLISECOND] {
        let (took, c) = cede(ticks);
        t.same("cede", c.vector().0, Vector::DECREMENTER.0);
        t.within("cede-ticks", took, ticks, ticks + MILLISECOND);
        t.same("cede-status", c.gpr[3], 0);
        t.same("cede-srr0", c.nip, guests::CODE + 8);
        t.same("cede-srr1", c.msr & Msr::EE.bits(), Msr::EE.bits());
        println!("@ note {ticks} ticks of H_CEDE: {took}");
    }
    // Expired with EE off: it waits for EE.
    mtspr::<{ spr::DEC }>(100);
    guests::cpu::delay(10_000);
    t.is_true("negative", mfspr::<{ spr::DEC }>() >> 31 & 1 == 1);
    let code = [mtmsrd_ee(4), B_SELF];
    let mut c = Context { nip: guests::place(&code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[4] = Msr::EE.bits();
    run_context(&mut c);
    t.same("late", c.vector().0, Vector::DECREMENTER.0);
    t.same("late-srr0", c.nip, guests::CODE + 4);
    // Still negative: H_CEDE does not wait.
    let code = [sc(1), B_SELF];
    let mut c = Context { nip: guests::place(&code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = Hcall::CEDE.0;
    let start = timebase();
    run_context(&mut c);
    t.same("cede-expired", c.vector().0, Vector::DECREMENTER.0);
    t.within("cede-expired-at-once", timebase() - start, 0, MILLISECOND);
    // Set positive again: no longer pending. It must not fire before its time.
    mtspr::<{ spr::DEC }>(3 * MILLISECOND);
    let code = [mtmsrd_ee(4), B_SELF];
    let mut c = Context { nip: guests::place(&code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[4] = Msr::EE.bits();
    let start = timebase();
    run_context(&mut c);
    t.within("taken-back", timebase() - start, 2 * MILLISECOND, 4 * MILLISECOND);
    // A prod ends H_CEDE, once.
    if !t.differs_on_qemu(
        "cede-prodded",
        "it forgets a prod when its emulation loop turns before the processor waits",
    ) {
        prodded(t);
    }
    let (took, _) = cede(2 * MILLISECOND);
    t.within("prod-used-up", took, 2 * MILLISECOND, 3 * MILLISECOND);
    // Days of sleep do not overflow anything, nor does a negative value.
    let (took, _) = spin(0xffff_ffff_8000_0000);
    t.within("most-negative", took, 0, MILLISECOND);
    long(t);
}

fn prodded(t: &mut Report) {
    mtspr::<{ spr::DEC }>(100 * MILLISECOND);
    status(Hcall::PROD, &[0]);
    let code = [sc(1), insn::NOP];
    let mut c = Context { nip: guests::place(&code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = Hcall::CEDE.0;
    let start = timebase();
    run_context(&mut c);
    t.is_true("cede-prodded", c.finished());
    t.within("cede-prodded-at-once", timebase() - start, 0, MILLISECOND);
}

/// A second with EE off and no call at all: the hypervisor must keep its own time meanwhile.
fn long(t: &mut Report) {
    mtspr::<{ spr::DEC }>(0x7fff_ffff);
    println!("@ note a second of silence");
    let start = timebase();
    guests::cpu::delay(TB_HZ + TB_HZ / 4);
    t.within("spun", timebase() - start, TB_HZ, 2 * TB_HZ);
    t.within("decrementer-kept", 0x7fff_ffff - mfspr::<{ spr::DEC }>(), TB_HZ, 2 * TB_HZ);
}
