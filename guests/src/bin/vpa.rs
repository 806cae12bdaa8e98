//! H_REGISTER_VPA (LoPAR 14.11.3.2): the virtual processor area, the dispatch trace log and the SLB shadow.
#![no_std]
#![no_main]

use guests::mem::{fill, read8, read32, write8, write32};
use guests::{Hcall, Report, Status, platform, status};

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

fn run(t: &mut Report) {
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
