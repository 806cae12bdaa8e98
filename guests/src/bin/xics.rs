//! The interrupt controller (LoPAR 14.5.4.4 and 7.3.10): presentation by priority, IPIs, external interrupts, sources.
#![no_std]
#![no_main]

use guests::insn::{B_SELF, mfspr, mtmsrd_ee, sc};
use guests::{
    Context, Hcall, MSR_REAL, Report, Status, hcall, platform, println, rtas, run as run_context, status,
};
use power::interrupt::Vector;
use power::regs::Msr;
use power::spr;

guests::main!(run);

const IPI: u64 = 2;

fn xirr() -> u64 {
    hcall(Hcall::XIRR, &[]).r4()
}

fn cppr(priority: u64) -> Status {
    status(Hcall::CPPR, &[priority])
}

fn ipi(priority: u64) -> Status {
    status(Hcall::IPI, &[0, priority])
}

fn eoi(xirr: u64) -> Status {
    status(Hcall::EOI, &[xirr])
}

fn run(t: &mut Report) {
    presentation(t);
    external(t);
    sources(t);
    terminal(t);
}

fn presentation(t: &mut Report) {
    t.same("at-first", xirr(), 0);
    t.equal("cppr", cppr(0xff), Status::SUCCESS);
    t.same("nothing", xirr(), 0xff00_0000);
    t.equal("ipi", ipi(4), Status::SUCCESS);
    let a = hcall(Hcall::IPOLL, &[0]);
    t.equal("ipoll", a.status, Status::SUCCESS);
    t.same("ipoll-xirr", a.r4(), 0xff00_0000 | IPI);
    t.same("ipoll-mfrr", a.r5() & 0xff, 4);
    t.same("ipoll-changes-nothing", hcall(Hcall::IPOLL, &[0]).r4(), 0xff00_0000 | IPI);
    let a = hcall(Hcall::XIRR, &[]);
    t.equal("xirr", a.status, Status::SUCCESS);
    t.same("xirr-ipi", a.r4(), 0xff00_0000 | IPI);
    t.same("xirr-accepted", xirr(), 0x0400_0000);
    t.equal("ipi-withdrawn", ipi(0xff), Status::SUCCESS);
    t.equal("eoi", eoi(0xff00_0000 | IPI), Status::SUCCESS);
    t.same("eoi-restores", xirr(), 0xff00_0000);

    // An IPI that is not withdrawn comes again after the EOI.
    ipi(4);
    t.same("again-first", xirr(), 0xff00_0000 | IPI);
    eoi(0xff00_0000 | IPI);
    t.same("again", xirr(), 0xff00_0000 | IPI);
    ipi(0xff);
    eoi(0xff00_0000 | IPI);
    t.same("no-more", xirr(), 0xff00_0000);

    cppr(4);
    ipi(4);
    t.same("equal-priority-waits", xirr(), 0x0400_0000);
    cppr(4);
    ipi(3);
    let a = hcall(Hcall::XIRR_X, &[]);
    t.equal("xirr-x", a.status, Status::SUCCESS);
    t.same("more-favoured-comes", a.r4(), 0x0400_0000 | IPI);
    ipi(0xff);
    eoi(0x0400_0000 | IPI);
    ipi(5);
    t.same("less-favoured-waits", hcall(Hcall::IPOLL, &[0]).r4(), 0x0400_0000);
    cppr(6);
    t.same("cppr-lets-through", hcall(Hcall::IPOLL, &[0]).r4(), 0x0600_0000 | IPI);
    cppr(5);
    t.same("cppr-takes-back", hcall(Hcall::IPOLL, &[0]).r4(), 0x0500_0000);
    cppr(0xff);
    t.same("cppr-lets-through-again", xirr(), 0xff00_0000 | IPI);
    ipi(0xff);
    eoi(0xff00_0000 | IPI);

    for server in [77, u64::MAX, 1 << 32] {
        if server == 1 << 32 && t.differs_on_qemu("ipi-nobody", "it takes the server from the low 32 bits") {
            continue;
        }
        t.equal("ipi-nobody", status(Hcall::IPI, &[server, 4]), Status::PARAMETER);
        t.equal("ipoll-nobody", status(Hcall::IPOLL, &[server]), Status::PARAMETER);
    }
    t.same("nobody-got-it", xirr(), 0xff00_0000);
    // An EOI of what is no source must do no harm.
    eoi(0xff00_0000);
    eoi(0xffff_ffff);
    t.same("eoi-of-nothing", xirr(), 0xff00_0000);
}

/// Spins with EE on for at most ten million iterations.
fn wait_external() -> Context {
    let code = [mtmsrd_ee(4), mfspr(6, spr::TB), guests::insn::addi(5, 5, 1), 0x4bff_fff8];
    let mut c = Context { nip: guests::place(&code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[4] = Msr::EE.bits();
    guests::cpu::mtspr::<{ spr::DEC }>(51_200_000);
    run_context(&mut c);
    c
}

fn external(t: &mut Report) {
    ipi(3);
    let start = guests::cpu::timebase();
    let c = wait_external();
    let took = guests::cpu::timebase() - start;
    t.same("external", c.vector().0, Vector::EXTERNAL.0);
    t.within("external-at-once", took, 0, 512_000);
    t.same("external-srr1", c.msr & !2, MSR_REAL | Msr::EE.bits());
    println!("@ note delivered after {} rounds, {took} ticks", c.gpr[5]);
    t.same("external-source", xirr(), 0xff00_0000 | IPI);
    // Accepted: it does not come again before the EOI.
    let c = wait_external();
    t.same("external-accepted", c.vector().0, Vector::DECREMENTER.0);
    eoi(0xff00_0000 | IPI);
    let c = wait_external();
    t.same("external-again", c.vector().0, Vector::EXTERNAL.0);
    // Not accepted: the level stays.
    let c = wait_external();
    t.same("external-level", c.vector().0, Vector::EXTERNAL.0);
    cppr(2);
    let c = wait_external();
    t.same("external-masked", c.vector().0, Vector::DECREMENTER.0);
    cppr(0xff);
    t.same("external-unmasked", xirr(), 0xff00_0000 | IPI);
    ipi(0xff);
    eoi(0xff00_0000 | IPI);

    // With EE off it stays pending; H_CEDE turns EE on.
    ipi(1);
    guests::cpu::mtspr::<{ spr::DEC }>(51_200_000);
    let mut c = Context { nip: guests::place(&[sc(1), B_SELF]), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = Hcall::CEDE.0;
    let start = guests::cpu::timebase();
    run_context(&mut c);
    t.same("cede-pending", c.vector().0, Vector::EXTERNAL.0);
    t.within("cede-pending-at-once", guests::cpu::timebase() - start, 0, 512_000);
    t.same("cede-pending-status", c.gpr[3], 0);
    t.same("cede-pending-srr0", c.nip, guests::CODE + 4);
    t.same("cede-pending-srr1", c.msr & Msr::EE.bits(), Msr::EE.bits());
    ipi(0xff);
    t.same("cede-pending-source", xirr(), 0xff00_0000 | IPI);
    eoi(0xff00_0000 | IPI);
}

fn source() -> Option<u32> {
    platform::cell("/vdevice/vty@71000000", "interrupts", 0)
}

fn sources(t: &mut Report) {
    let Some(source) = source() else {
        t.is_true("vty-source", false);
        return;
    };
    println!("@ note the terminal's source is {source:#x}");
    t.equal("set-xive", rtas::call("ibm,set-xive", &[source, 0, 5], &mut []), 0);
    let mut at = [0; 2];
    t.equal("get-xive", rtas::call("ibm,get-xive", &[source], &mut at), 0);
    t.equal("get-xive-values", at, [0, 5]);
    t.equal("int-off", rtas::call("ibm,int-off", &[source], &mut []), 0);
    t.equal("get-xive-off", rtas::call("ibm,get-xive", &[source], &mut at), 0);
    t.equal("get-xive-off-priority", at[1], 0xff);
    t.equal("int-on", rtas::call("ibm,int-on", &[source], &mut []), 0);
    rtas::call("ibm,get-xive", &[source], &mut at);
    t.equal("get-xive-on", at, [0, 5]);
    for (name, bad) in [
        ("set-xive-no-source", [7, 0, 5]),
        ("set-xive-no-server", [source, 77, 5]),
        ("set-xive-priority", [source, 0, 256]),
    ] {
        t.equal(name, rtas::call("ibm,set-xive", &bad, &mut []), -3);
    }
    t.equal("get-xive-no-source", rtas::call("ibm,get-xive", &[0xffff_ffff], &mut at), -3);
    t.equal("int-on-no-source", rtas::call("ibm,int-on", &[3], &mut []), -3);
    t.equal("int-off-no-source", rtas::call("ibm,int-off", &[3], &mut []), -3);
}

/// The test's runner types a line when it sees the word.
fn terminal(t: &mut Report) {
    if platform::bootargs() != "typing" {
        return;
    }
    let source = source().unwrap_or(0);
    if platform::is_qemu() {
        // There the terminal interrupts only after this VIO call; H_VIO_SIGNAL is 0x104.
        status(Hcall(0x104), &[0x7100_0000, 1]);
    }
    rtas::call("ibm,set-xive", &[source, 0, 5], &mut []);
    rtas::call("ibm,int-on", &[source], &mut []);
    println!("type now");
    let mut text = [0u8; 16];
    let mut n = 0;
    while n < 5 {
        let start = guests::cpu::timebase();
        let c = loop {
            let c = wait_external();
            if c.vector() != Vector::DECREMENTER || guests::cpu::timebase() - start > 20 * guests::cpu::TB_HZ
            {
                break c;
            }
        };
        if c.vector() != Vector::EXTERNAL {
            break;
        }
        let x = xirr();
        t.same("typed-source", x, 0xff00_0000 | u64::from(source));
        loop {
            let a = hcall(Hcall::GET_TERM_CHAR, &[0]);
            if a.r4() == 0 {
                break;
            }
            for i in 0..a.r4() as usize {
                let byte = (a.r[1 + i / 8] >> (56 - 8 * (i % 8))) as u8;
                if n < text.len() {
                    text[n] = byte;
                    n += 1;
                }
            }
        }
        eoi(x);
    }
    t.equal("typed", core::str::from_utf8(&text[..n]).unwrap_or("?").trim_end(), "hello");
    t.same("typed-nothing-left", xirr(), 0xff00_0000);
}
