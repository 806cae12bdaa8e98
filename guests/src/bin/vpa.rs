//! H_REGISTER_VPA (LoPAR 14.11.3.2): the virtual processor area, the dispatch trace log and the SLB shadow.
#![no_std]
#![no_main]

use guests::cpu::{mtspr, timebase};
use guests::insn::sc;
use guests::mem::{fill, read8, read32, read64, write8, write32};
use guests::{Hcall, Report, Status, platform, run_code, status};
use power::interrupt::Vector;
use power::spr;

guests::main!(run);

const VPA: u64 = 1;
const DTL: u64 = 2;
const SHADOW: u64 = 3;
const AREA: u64 = 0x210_0000;

fn register(function: u64, address: u64) -> Status {
    status(Hcall::REGISTER_VPA, &[function << 45, 0, address])
}

fn deregister(function: u64) -> Status {
    register(function | 4, 0)
}

fn area(address: u64, length: u32) {
    fill(address, 0x400, 0);
    // A VPA's length is the 16 bits at 4, those of the others the 32 bits there: both are set.
    write32(address + 4, length.to_be());
}

fn vpa_area(address: u64, length: u16) {
    area(address, 0);
    let [a, b] = length.to_be_bytes();
    write8(address + 4, a);
    write8(address + 5, b);
}

/// Being off the CPU shows: the counter goes on by two, odd in between, and the log has an entry.
fn dispatch(t: &mut Report) {
    vpa_area(AREA, 640);
    area(AREA + 0x2000, 96);
    t.equal("dispatch-vpa", register(VPA, AREA), Status::SUCCESS);
    t.equal("dispatch-dtl", register(DTL, AREA + 0x2000), Status::SUCCESS);
    write8(AREA + 184, 7);
    let counter = || u32::from_be(read32(AREA + 256));
    let before = counter();
    t.same("dispatch-even", before & 1, 0);
    for n in 1..=3u32 {
        let start = timebase();
        mtspr::<{ spr::DEC }>(100_000);
        let c = run_code(&[sc(1)], Hcall::CEDE.0, 0);
        t.same("dispatch-woken", c.vector().0, Vector::DECREMENTER.0);
        mtspr::<{ spr::DEC }>(0x7fff_ffff);
        t.same("dispatch-counted", counter() & 1, 0);
        t.is_true("dispatch-counted", counter().wrapping_sub(before) >= 2 * n);
        if t.differs_on_qemu("dispatch-log", "it keeps none") {
            continue;
        }
        t.same("dispatch-index", u64::from_be(read64(AREA + 536)), u64::from(n));
        // Two entries fit; they are used in turn.
        let entry = AREA + 0x2000 + u64::from((n - 1) % 2) * 48;
        t.same("dispatch-reason", read8(entry + 1), 0);
        let waited = u64::from(u32::from_be(read32(entry + 12)));
        t.within("dispatch-waited", waited, 50_000, timebase() - start);
        t.within("dispatch-time", u64::from_be(read64(entry + 16)), start, timebase());
    }
    t.equal("dispatch-end-dtl", deregister(DTL), Status::SUCCESS);
    t.equal("dispatch-end-vpa", deregister(VPA), Status::SUCCESS);
}

fn run(t: &mut Report) {
    dispatch(t);
    vpa_area(AREA, 640);
    area(AREA + 0x1000, 0x400);
    area(AREA + 0x2000, 0x1000);
    t.equal("dtl-before-vpa", register(DTL, AREA + 0x2000), Status::RESOURCE);
    t.equal("shadow-before-vpa", register(SHADOW, AREA + 0x1000), Status::RESOURCE);
    t.equal("vpa", register(VPA, AREA), Status::SUCCESS);
    t.same("vpa-shared-processor", read8(AREA + 9) & 2, 2);
    t.equal("vpa-again", register(VPA, AREA), Status::SUCCESS);
    t.equal("shadow", register(SHADOW, AREA + 0x1000), Status::SUCCESS);
    t.equal("dtl", register(DTL, AREA + 0x2000), Status::SUCCESS);
    t.equal("vpa-in-use", deregister(VPA), Status::RESOURCE);
    t.equal("shadow-gone", deregister(SHADOW), Status::SUCCESS);
    t.equal("vpa-in-use-by-dtl", deregister(VPA), Status::RESOURCE);
    t.equal("dtl-gone", deregister(DTL), Status::SUCCESS);
    t.equal("vpa-gone", deregister(VPA), Status::SUCCESS);

    for (name, offset, length) in
        [("short", 0u64, 639u16), ("empty", 0, 0), ("crosses-page", 0xe00, 640), ("too-long", 0, 0x1001)]
    {
        vpa_area(AREA + offset, length);
        t.equal(name, register(VPA, AREA + offset), Status::PARAMETER);
    }
    vpa_area(AREA, 640);
    area(AREA + 8, 640);
    vpa_area(AREA + 8, 640);
    t.equal("misaligned", register(VPA, AREA + 8), Status::PARAMETER);
    vpa_area(AREA, 640);
    if !t.differs_on_qemu(
        "outside",
        "it reads zero from where nothing is, which is a bad length, not a bad address",
    ) {
        for outside in [platform::memory(), 1 << 45, 1 << 63, !0x7f] {
            t.equal("outside", register(VPA, outside), Status::PARAMETER);
        }
    }
    for function in [0, 4] {
        t.equal("no-function", register(function, AREA), Status::PARAMETER);
    }
    t.equal("no-flags", status(Hcall::REGISTER_VPA, &[0x1234_5678, 0, AREA]), Status::PARAMETER);
    t.equal("no-processor", status(Hcall::REGISTER_VPA, &[VPA << 45, 77, AREA]), Status::PARAMETER);
    t.equal(
        "no-processor-huge",
        status(Hcall::REGISTER_VPA, &[VPA << 45, u64::MAX, AREA]),
        Status::PARAMETER,
    );
    t.equal("register", register(VPA, AREA), Status::SUCCESS);
    area(AREA + 0x1000, 4);
    t.equal("shadow-short", register(SHADOW, AREA + 0x1000), Status::PARAMETER);
    area(AREA + 0x1000, 47);
    t.equal("dtl-short", register(DTL, AREA + 0x1000), Status::PARAMETER);
    area(AREA + 0x1e00, 0x400);
    t.equal("shadow-crosses-page", register(SHADOW, AREA + 0x1e00), Status::PARAMETER);
    t.same("counter-even", u32::from_be(read32(AREA + 256)) & 1, 0);
    t.equal("end", deregister(VPA), Status::SUCCESS);
    t.equal("end-again", deregister(VPA), Status::SUCCESS);
}
