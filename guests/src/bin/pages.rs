//! Page sizes, segment sizes, fresh memory, and all of memory in real mode.
#![no_std]
#![no_main]

use guests::insn::{self, NOP};
use guests::mem::{fill, is_filled, read64, write64};
use guests::space::{self, FREE_SLOT, READ_WRITE, Segment, run_virtual};
use guests::{Hcall, Report, Status, platform, println, status};
use power::PageSize::{self, K4, K64, M16};
use power::interrupt::Vector;
use power::slb::SegmentSize::{self, M256, T1};

guests::main!(run);

fn run(t: &mut Report) {
    space::standard();
    fresh(t);
    let mut huge = 0;
    for size in [M256, T1] {
        for (base, actual) in [(K4, K4), (K4, K64), (K4, M16), (K64, K64), (K64, M16), (M16, M16)] {
            huge += u32::from(pages(t, size, base, actual) && actual == M16);
        }
    }
    println!("@ note {huge} combinations with 16 MiB pages worked");
    if let Some(word) = platform::bootargs().split(' ').find(|w| w.starts_with("huge=")) {
        t.equal("huge-as-configured", huge, if word == "huge=on" { 6 } else { 0 });
    }
    real_mode(t);
    many(t);
}

/// Memory that nobody has touched reads as zeroes, wherever it is touched first and however.
fn fresh(t: &mut Report) {
    let ea = 0x2000_0000;
    let segment = Segment { ea, vsid: 0x111, size: M256, base: K4, flags: 0 };
    segment.install(FREE_SLOT);
    let ra = 0x480_0000;
    for (n, name) in [
        "fresh-load",
        "fresh-store",
        "fresh-fetch",
        "fresh-real",
        "fresh-call",
        "fresh-byte",
        "fresh-dcbz",
        "fresh-reserve",
        "fresh-update",
    ]
    .iter()
    .enumerate()
    {
        let ra = ra + 0x2_0000 * n as u64;
        segment.enter(ea + 0x1000 * n as u64, ra + 0x3000, K4, READ_WRITE).expect("an entry");
        let at = ea + 0x1000 * n as u64;
        match n {
            0 => {
                let c = run_virtual(&[insn::ld(5, 0x78, 3)], true, at, 0);
                t.same(name, c.gpr[5], 0);
            }
            1 => {
                let c = run_virtual(&[insn::std(4, 0x78, 3), insn::ld(5, 0x78, 3)], true, at, 0x77);
                t.same(name, c.gpr[5], 0x77);
                t.same(name, read64(ra + 0x3078), 0x77);
                write64(ra + 0x3078, 0);
            }
            2 => {
                let c = run_virtual(&[insn::mtspr(9, 3), insn::BCTR], true, at, 0);
                t.same(name, c.vector().0, Vector::PROGRAM.0);
                t.same(name, c.nip, at);
            }
            3 => t.same(name, read64(ra + 0xff8), 0),
            4 => {
                let a = guests::hcall(Hcall::LOGICAL_CI_LOAD, &[8, ra + 0x3000]);
                t.equal(name, a.status, Status::SUCCESS);
                t.same(name, a.r4(), 0);
            }
            6 => {
                let c = run_virtual(&[insn::x(31, 0, 0, 3, 1014)], true, at, 0);
                t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
            }
            7 => {
                // lwarx, addi, stwcx. until it worked; then back to zero.
                let code =
                    [insn::lwarx(5, 0, 3), insn::addi(5, 5, 7), insn::x(31, 5, 0, 3, 150) | 1, 0x4082_fff4];
                let c = run_virtual(&code, true, at + 8, 0);
                t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
                t.same(name, u64::from(guests::mem::read32(ra + 0x3008)), 7);
                write64(ra + 0x3008, 0);
            }
            8 => {
                let c = run_virtual(&[insn::stwu(4, 0x10, 3)], true, at, 0x55);
                t.same(name, c.gpr[3], at + 0x10);
                t.same(name, u64::from(guests::mem::read32(ra + 0x3010)), 0x55);
                write64(ra + 0x3010, 0);
            }
            _ => {
                let c = run_virtual(&[insn::lbz(5, 0xfff, 3)], false, at, 0);
                t.same(name, c.gpr[5], 0);
            }
        }
        t.is_true("fresh-all-zeroes", is_filled(ra, 0x1_0000, 0) && is_filled(ra + 0x1_0000, 0x1_0000, 0));
    }
    // What was written is still there through another translation of another size.
    fill(ra, 0x1_0000, 0x3c);
    let wide = Segment { ea: ea + 0x1000_0000, vsid: 0x112, size: T1, base: K64, flags: 0 };
    let wide = Segment { ea: wide.ea >> 40 << 40 | 0x0100_0000_0000, ..wide };
    wide.install(FREE_SLOT + 1);
    wide.enter(wide.ea, ra, K64, READ_WRITE).expect("an entry");
    let c = run_virtual(&[insn::ld(5, 0x7ff8, 3)], true, wide.ea + 0x7000, 0);
    t.same("fresh-alias", c.gpr[5], 0x3c3c_3c3c_3c3c_3c3c);
}

/// Maps a page of some size, and looks at its start, its end and what is beyond. Is there such a size here?
fn pages(t: &mut Report, size: SegmentSize, base: PageSize, actual: PageSize) -> bool {
    let ea = if size == M256 { 0x4000_0000 } else { 0x0200_0000_0000 };
    let vsid = 0x200 + (base.shift() + actual.shift()) as u64 + size.b() * 0x100;
    let segment = Segment { ea, vsid, size, base, flags: 0 };
    let (at, ra) = (ea + 0x300_0000, 0x600_0000);
    if !platform::advertised(base, actual) {
        println!("@ note {base:?}/{actual:?} is not advertised");
        t.equal("refused", segment.enter(at, ra, actual, READ_WRITE), Err(Status::PARAMETER));
        t.is_true("basic-size-advertised", base != actual || actual == M16);
        return false;
    }
    segment.install(FREE_SLOT);
    let first = segment.enter(at, ra, actual, READ_WRITE).expect("an advertised size");
    let step = base.bytes();
    let count = actual.bytes() / base.bytes();
    // A page that is larger than its base size needs an entry for each piece that is used: those of the last piece.
    let last = if count > 1 {
        Some(segment.enter(at + (count - 1) * step, ra, actual, READ_WRITE).expect("the last piece"))
    } else {
        None
    };
    let end = actual.bytes() - 8;
    write64(ra, 0x11);
    write64(ra + 0x230, 0x22);
    write64(ra + end, 0x33);
    for (offset, want) in [(0, 0x11), (0x230, 0x22), (end, 0x33)] {
        let c = run_virtual(&[insn::ld(5, 0, 3), NOP], true, at + offset, 0);
        t.same("page-vector", c.vector().0, Vector::SYSTEM_CALL.0);
        t.same("page-value", c.gpr[5], want);
    }
    run_virtual(&[insn::std(4, 0, 3)], true, at + end, 0x4444);
    t.same("page-store", read64(ra + end), 0x4444);
    let c = run_virtual(&[insn::ld(5, 0, 3)], true, at + actual.bytes(), 0);
    t.same("page-beyond", c.vector().0, Vector::DATA_STORAGE.0);
    if at > ea {
        let c = run_virtual(&[insn::ld(5, 0, 3)], true, at - 8, 0);
        t.same("page-before", c.vector().0, Vector::DATA_STORAGE.0);
    }
    for index in [Some(first), last].into_iter().flatten() {
        t.equal("page-protect", status(Hcall::PROTECT, &[3, index, 0]), Status::SUCCESS);
    }
    let c = run_virtual(&[insn::std(5, 0, 3)], true, at + end, 0);
    t.same("page-read-only", c.dsisr, 0x0a00_0000);
    for index in [Some(first), last].into_iter().flatten() {
        t.equal("page-remove", status(Hcall::REMOVE, &[0, index, 0]), Status::SUCCESS);
    }
    let c = run_virtual(&[insn::ld(5, 0, 3)], true, at + end, 0);
    t.same("page-removed", c.dsisr, 0x4000_0000);
    true
}

/// Real mode reaches all of memory, and every byte of it is its own.
fn real_mode(t: &mut Report) {
    let end = platform::memory();
    println!("@ note real mode up to {end:#x}");
    for at in (0x100_0000..end).step_by(0x1_0000) {
        write64(at, at);
        write64(at + 0xfff8, !at);
    }
    let wrong = (0x100_0000..end)
        .step_by(0x1_0000)
        .filter(|&at| read64(at) != at || read64(at + 0xfff8) != !at)
        .count();
    t.same("real-mode", wrong, 0);
    t.is_true("real-mode-zeroes", is_filled(end / 4 * 3 + 8, 0xfff0, 0));
}

/// More translations than any cache holds, several times over.
fn many(t: &mut Report) {
    let segment = Segment { ea: 0x0300_0000_0000, vsid: 0x777, size: T1, base: K4, flags: 0 };
    segment.install(FREE_SLOT);
    let mut indices = [0; 3000];
    for round in 0..2u64 {
        for (n, index) in indices.iter_mut().enumerate() {
            let n = n as u64;
            let ea = segment.ea + n * 0x1_1000;
            *index = segment.enter(ea, 0x200_0000 + (n + round) * 0x1000, K4, READ_WRITE).expect("an entry");
        }
        for n in 0..3000 {
            write64(0x200_0000 + n * 0x1000 + 8, n);
        }
        // One pass of loads, in one piece of code: r3 the address, r4 the count, r6 the sum.
        let code = [
            insn::ld(5, 8, 3),
            31 << 26 | 6 << 21 | 6 << 16 | 5 << 11 | 266 << 1, // add r6, r6, r5
            15 << 26 | 3 << 21 | 3 << 16 | 1,                  // addis r3, r3, 1
            insn::addi(3, 3, 0x1000),
            insn::addi(4, 4, -1),
            0x2c24_0000, // cmpdi r4, 0
            0x4082_ffe8, // bne -24
        ];
        let c = run_virtual(&code, true, segment.ea, 2999);
        t.is_true("many-finished", c.finished());
        let want: u64 = (0..2999).map(|n| n + round).sum();
        t.same("many-sum", c.gpr[6], want);
        let removed =
            indices.iter().filter(|&&i| status(Hcall::REMOVE, &[0, i, 0]) == Status::SUCCESS).count();
        t.same("many-removed", removed, 3000);
    }
}
