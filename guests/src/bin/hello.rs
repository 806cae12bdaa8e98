//! The least: the program starts, sees its device tree, prints and powers off.
#![no_std]
#![no_main]

use guests::{Report, context, platform, println};

guests::main!(run);

fn run(t: &mut Report) {
    println!(
        "memory {:#x}, page table 2^{}, {:?}",
        platform::memory(),
        platform::hpt_shift(),
        platform::bootargs()
    );
    t.is_true("memory", platform::memory() >= 16 << 20);
    t.within("page-table-shift", platform::hpt_shift().into(), 18, 46);
    t.equal("server", platform::servers().next(), Some(0));
    let c = guests::run_code(&[guests::insn::li(3, 42)], 0, 0);
    t.same("vector", c.arrival & 0x0fff_ffff_ffff_ffff, 0xc00);
    t.same("result", c.gpr[3], 42);
    t.same("msr", c.msr, context::MSR_REAL);
}
