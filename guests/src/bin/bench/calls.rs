//! Hypercalls that need nothing but registers.

use crate::measure::{FEW, MANY, Row, SUM};
use guests::insn::{add, li, mr, sc};
use guests::mem::{write8, write64};
use guests::{Hcall, MSR_REAL, MSR_VIRTUAL, Report, SET_MODE_ENDIAN, Status, platform, status};
use power::regs::Msr;

/// r3 anew; call; status.
const PLAIN: [u32; 3] = [mr(3, 14), sc(1), add(SUM, SUM, 3)];

/// Memory that the calls may have.
pub const MEMORY: u64 = 0x200_0000;

/// A call whose arguments stay in their registers.
fn plain(t: &mut Report, name: &str, number: Hcall, arguments: &[u64]) {
    Row::new(name, &PLAIN).measure(t, |_, gpr| {
        gpr[14] = number.0;
        gpr[4..4 + arguments.len()].copy_from_slice(arguments);
    });
}

/// All of them.
pub fn rows(t: &mut Report) {
    // A number that PAPR has not given to anything.
    let unknown = |_, gpr: &mut [u64; 32]| gpr[14] = 0x7c;
    let status_of_unknown = Status::FUNCTION.0;
    Row { status: status_of_unknown, ..Row::new("unknown", &PLAIN) }.measure(t, unknown);
    Row { status: status_of_unknown, msr: MSR_VIRTUAL, ..Row::new("unknown_translated", &PLAIN) }
        .measure(t, unknown);
    plain(t, "h_cppr", Hcall::CPPR, &[0xff]);
    plain(t, "h_xirr", Hcall::XIRR, &[]);
    write64(MEMORY, 1);
    Row::new("h_logical_ci_load", &[mr(3, 14), li(4, 8), sc(1), add(SUM, SUM, 3)]).measure(t, |_, gpr| {
        gpr[14] = Hcall::LOGICAL_CI_LOAD.0;
        gpr[5] = MEMORY;
    });
    plain(t, "h_put_term_char", Hcall::PUT_TERM_CHAR, &[0, 0, 0, 0]);
    let little = u64::from(cfg!(target_endian = "little"));
    plain(t, "h_set_mode", Hcall::SET_MODE, &[little, SET_MODE_ENDIAN, 0, 0]);
    register_vpa(t);
    exits(t);
}

/// Each time anew: one that is registered moves.
fn register_vpa(t: &mut Report) {
    const LENGTH: u16 = 640;
    let server = u64::from(platform::servers().next().unwrap_or(0));
    let area = MEMORY + 0x1000;
    let [high, low] = LENGTH.to_be_bytes();
    write8(area + 4, high);
    write8(area + 5, low);
    plain(t, "h_register_vpa", Hcall::REGISTER_VPA, &[1 << 45, server, area]);
    t.equal("vpa-given-back", status(Hcall::REGISTER_VPA, &[5 << 45, server, 0]), Status::SUCCESS);
}

/// A call that virtual mode answers at once, alone and with floating point at work around it.
fn exits(t: &mut Report) {
    let registers = |_, gpr: &mut [u64; 32]| gpr[14] = Hcall::GET_CPU_CHARACTERISTICS.0;
    Row { rounds: 4 * FEW, batches: MANY, ..Row::new("full_exit", &PLAIN) }.measure(t, registers);
    let fadd = 63 << 26 | 1 << 21 | 1 << 16 | 1 << 11 | 21 << 1; // fadd f1, f1, f1
    let body = [mr(3, 14), sc(1), fadd, add(SUM, SUM, 3)];
    let msr = MSR_REAL | Msr::FP.bits();
    Row { msr, rounds: 4 * FEW, batches: MANY, ..Row::new("full_exit_fp", &body) }.measure(t, registers);
}
