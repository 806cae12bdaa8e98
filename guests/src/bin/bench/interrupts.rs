//! Interrupts that a guest takes, and H_CEDE when there is one.

use crate::measure::{COUNT, Row, SUM, to_dec};
use guests::cpu::mtspr;
use guests::insn::{RFID, add, li, mfspr, mr, mtspr as move_to, sc};
use guests::{Hcall, MSR_REAL, Report, Status, hcall, platform, status, team};
use power::interrupt::Vector;
use power::regs::Msr;
use power::spr;

const PRIORITY: u64 = 4;
const MSR_ENABLED: u64 = MSR_REAL | Msr::EE.bits();
/// Far off, for DEC.
const NEVER: u64 = 0x7fff_ffff;
/// Past, for DEC of any width.
const EXPIRED: u64 = u64::MAX;

/// All of them.
pub fn rows(t: &mut Report) {
    let own = u64::from(platform::servers().next().unwrap_or(0));
    status(Hcall::CPPR, &[0xff]);
    ipi(t, own);
    cede(t, own);
    decrementer(t);
}

/// To itself, and all that its handler does: it takes the interrupt, takes it back, and ends it.
fn ipi(t: &mut Report, own: u64) {
    let body = [mr(3, 14), mr(4, 15), li(5, PRIORITY as i32), sc(1), add(SUM, SUM, 3)];
    let taken = [
        // A call has SRR0 and SRR1 for itself.
        mfspr(19, spr::SRR0),
        mfspr(20, spr::SRR1),
        mr(3, 16),
        sc(1),
        add(SUM, SUM, 3),
        mr(18, 4),
        mr(3, 14),
        mr(4, 15),
        li(5, 0xff),
        sc(1),
        add(SUM, SUM, 3),
        mr(3, 17),
        mr(4, 18),
        sc(1),
        move_to(spr::SRR0, 19),
        move_to(spr::SRR1, 20),
        COUNT,
        RFID,
    ];
    let interrupt = Some((Vector::EXTERNAL, &taken[..]));
    Row { msr: MSR_ENABLED, interrupt, ..Row::new("h_ipi_taken", &body) }.measure(t, |_, gpr| {
        gpr[14] = Hcall::IPI.0;
        gpr[15] = own;
        gpr[16] = Hcall::XIRR.0;
        gpr[17] = Hcall::EOI.0;
    });
}

/// With an interrupt pending, which H_CEDE lets in, and which stays pending.
fn cede(t: &mut Report, own: u64) {
    let body = [mr(3, 14), sc(1), add(SUM, SUM, 3)];
    let back = [move_to(spr::SRR1, 15), COUNT, RFID];
    let row = |name, vector| Row { interrupt: Some((vector, &back[..])), ..Row::new(name, &body) };
    let registers = |gpr: &mut [u64; 32]| {
        gpr[14] = Hcall::CEDE.0;
        gpr[15] = MSR_REAL;
    };
    status(Hcall::IPI, &[own, PRIORITY]);
    row("h_cede_pending", Vector::EXTERNAL).measure(t, |_, gpr| registers(gpr));
    let xirr = hcall(Hcall::XIRR, &[]).r4();
    status(Hcall::IPI, &[own, 0xff]);
    t.equal("ipi-ended", status(Hcall::EOI, &[xirr]), Status::SUCCESS);
    t.same("ipi-was-pending", xirr, 0xff00_0000 | team::IPI);
    let body = [to_dec(16), mr(3, 14), sc(1), add(SUM, SUM, 3)];
    let back = [to_dec(17), move_to(spr::SRR1, 15), COUNT, RFID];
    let interrupt = Some((Vector::DECREMENTER, &back[..]));
    Row { interrupt, ..Row::new("h_cede_expired", &body) }.measure(t, |_, gpr| {
        registers(gpr);
        gpr[16] = EXPIRED;
        gpr[17] = NEVER;
    });
    mtspr::<{ spr::DEC }>(NEVER);
    t.equal("enabled", status(Hcall::CPPR, &[0xff]), Status::SUCCESS);
}

/// It is the guest's: the hypervisor has no part in it.
fn decrementer(t: &mut Report) {
    let taken = [to_dec(17), COUNT, RFID];
    let interrupt = Some((Vector::DECREMENTER, &taken[..]));
    Row { msr: MSR_ENABLED, interrupt, ..Row::new("decrementer", &[to_dec(16)]) }.measure(t, |_, gpr| {
        gpr[16] = EXPIRED;
        gpr[17] = NEVER;
    });
}
