//! H_SET_MODE's address translation mode 3: with translation on, interrupts arrive at 0xc000_0000_0000_4000 and on, with
//! translation still on; with it off, and for machine checks, at their old places.
#![no_std]
#![no_main]

use guests::insn::{self, B_SELF, ILLEGAL, NOP};
use guests::space::{self, run_virtual};
use guests::{Context, Hcall, MSR_VIRTUAL, Report, Status, place, run as run_context, run_code, status};
use power::regs::Msr;
use power::spr;

guests::main!(run);

const MOVED: u64 = 0xc000_0000_0000_4000;

fn run(t: &mut Report) {
    space::standard();
    check_all(t, 0);
    t.equal("set", status(Hcall::SET_MODE, &[3, 3, 0, 0]), Status::SUCCESS);
    check_all(t, MOVED);
    let c = run_code(&[NOP], 0, 0);
    t.same("real-mode", c.arrival & 0x0fff_ffff_ffff_ffff, 0xc00);
    // In real mode nothing moves, nor does it when half of the translation is off.
    let mut c = Context { nip: place(&[NOP]), msr: guests::MSR_REAL | Msr::DR.bits(), ..Context::ZERO };
    run_context(&mut c);
    t.same("half-translated", c.arrival & 0x0fff_ffff_ffff_ffff, 0xc00);
    t.equal("unset", status(Hcall::SET_MODE, &[0, 3, 0, 0]), Status::SUCCESS);
    check_all(t, 0);
}

fn check_all(t: &mut Report, base: u64) {
    for problem in [false, true] {
        for (name, word, offset) in [
            ("system-call", NOP, 0xc00),
            ("program", ILLEGAL, 0x700),
            ("data-storage", insn::ld(5, 0, 3), 0x300),
            ("data-segment", insn::ld(5, 0, 4), 0x380),
            ("fp-unavailable", insn::lfd(1, 0, 3), 0x800),
        ] {
            let c = run_virtual(&[word], problem, space::CODE_EA + 0x800_0000, 0x7000_0000_0000);
            t.same(name, c.arrival, base + offset);
        }
        place(&[B_SELF]);
        let msr = if problem { guests::MSR_PROBLEM } else { MSR_VIRTUAL | Msr::EE.bits() };
        let mut c = Context { nip: space::CODE_EA, msr, ..Context::ZERO };
        guests::cpu::mtspr::<{ spr::DEC }>(10_000);
        run_context(&mut c);
        t.same("decrementer", c.arrival, base + 0x900);
        guests::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
        status(Hcall::CPPR, &[0xff]);
        status(Hcall::IPI, &[0, 4]);
        let mut c = Context { nip: space::CODE_EA, msr, ..Context::ZERO };
        run_context(&mut c);
        t.same("external", c.arrival, base + 0x500);
        status(Hcall::IPI, &[0, 0xff]);
        status(Hcall::EOI, &[guests::hcall(Hcall::XIRR, &[]).r4()]);
    }
}
