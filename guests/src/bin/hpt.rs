//! The page table calls: every answer that PAPR gives H_ENTER, H_READ, H_REMOVE, H_PROTECT, H_BULK_REMOVE,
//! H_CLEAR_MOD and H_CLEAR_REF (LoPAR 14.5.4.1), without the processor ever using an entry.
#![no_std]
#![no_main]

use guests::mem::{fill, is_filled};
use guests::space::{READ_WRITE, Segment};
use guests::{Hcall, Report, Status, hcall, platform, println, status};
use power::hcall::flags;
use power::hpte::{HpteR, HpteV, PageSize};
use power::slb::SegmentSize;

guests::main!(run);

const PAGE: u64 = 0x200_0000;
const V_SOFT: u64 = HpteV::HVLOCK | HpteV::ABSENT | 0x18;

fn segment() -> Segment {
    Segment { ea: 0, vsid: 0x3a5f, size: SegmentSize::M256, base: PageSize::K4, flags: 0 }
}

fn run(t: &mut Report) {
    let s = segment();
    let group = s.group(0);
    for slot in 0..8 {
        let a = hcall(Hcall::READ, &[0, group + slot]);
        if a.r4() & HpteV::V != 0 {
            println!("@ note entry {:#x} was in use", group + slot);
            hcall(Hcall::REMOVE, &[0, group + slot, 0]);
        }
    }
    enter(t, &s, group);
    read(t, &s, group);
    protect(t, &s, group);
    remove(t, &s, group);
    bulk(t, &s, group);
    clear(t, &s, group);
    sizes(t);
    attributes(t, &s, group);
    flags_of_enter(t, &s, group);
}

fn put(s: &Segment, index: u64, n: u64) -> Status {
    status(Hcall::ENTER, &[flags::EXACT, index, v(s, n), (PAGE + n * 0x1000) | READ_WRITE])
}

/// Dword 0 of entry number `n`: eight AVPNs that differ.
fn v(s: &Segment, n: u64) -> u64 {
    s.v(n << 23, PageSize::K4)
}

fn empty(group: u64) {
    for slot in 0..8 {
        status(Hcall::REMOVE, &[0, group + slot, 0]);
    }
}

fn enter(t: &mut Report, s: &Segment, group: u64) {
    let a = hcall(Hcall::ENTER, &[flags::EXACT, group + 5, v(s, 0), PAGE | READ_WRITE]);
    t.equal("enter-exact", a.status, Status::SUCCESS);
    t.same("enter-exact-index", a.r4(), group + 5);
    t.equal("enter-exact-taken", put(s, group + 5, 1), Status::PTEG_FULL);
    for n in 0..7u64 {
        // The low bits of the index do not matter to the search; entry 5 is taken.
        let a = hcall(Hcall::ENTER, &[0, group + 7, v(s, n + 1), PAGE | READ_WRITE]);
        t.equal("enter-search", a.status, Status::SUCCESS);
        t.same("enter-search-index", a.r4(), group + n + u64::from(n >= 5));
    }
    let a = hcall(Hcall::ENTER, &[0, group, v(s, 9), PAGE | READ_WRITE]);
    t.equal("enter-group-full", a.status, Status::PTEG_FULL);
    empty(group);

    let entries = platform::hpt_entries();
    for (name, index) in [
        ("enter-index-end", entries),
        ("enter-index-beyond", entries + group),
        ("enter-index-huge", 1 << 60),
        ("enter-index-negative", u64::MAX - 7),
    ] {
        t.equal(name, put(s, index, 0), Status::PARAMETER);
    }
    let last = entries - 1;
    t.equal("enter-last-entry", put(s, last, 0), Status::SUCCESS);
    t.equal("remove-last-entry", status(Hcall::REMOVE, &[0, last, 0]), Status::SUCCESS);
    t.equal(
        "enter-undefined-page-size",
        status(Hcall::ENTER, &[0, group, v(s, 0) | HpteV::L, PAGE | 2 << 12 | READ_WRITE]),
        Status::PARAMETER,
    );
    // V is the hypervisor's to set: an entry passed without it counts all the same.
    let a = hcall(Hcall::ENTER, &[flags::EXACT, group, v(s, 0) & !HpteV::V, PAGE | READ_WRITE]);
    if !t.differs_on_qemu("enter-sets-valid", "it stores the dword as given") {
        t.equal("enter-sets-valid", a.status, Status::SUCCESS);
        t.same("enter-sets-valid-v", hcall(Hcall::READ, &[0, group]).r4() & HpteV::V, HpteV::V);
    }
    empty(group);
}

fn read(t: &mut Report, s: &Segment, group: u64) {
    for n in 0..4 {
        put(s, group + n, n);
    }
    let a = hcall(Hcall::READ, &[0, group + 2]);
    t.equal("read", a.status, Status::SUCCESS);
    t.same("read-v", a.r4() & !V_SOFT, v(s, 2));
    t.same("read-r", a.r5(), (PAGE + 0x2000) | READ_WRITE);
    let a = hcall(Hcall::READ, &[0, group + 6]);
    t.equal("read-empty", a.status, Status::SUCCESS);
    t.same("read-empty-v", a.r4() & HpteV::V, 0);
    let a = hcall(Hcall::READ, &[flags::READ_4, group + 3]);
    t.equal("read-4", a.status, Status::SUCCESS);
    for n in 0..4 {
        t.same("read-4-v", a.r[2 * n as usize] & !V_SOFT, v(s, n));
        t.same("read-4-r", a.r[2 * n as usize + 1], (PAGE + n * 0x1000) | READ_WRITE);
    }
    let entries = platform::hpt_entries();
    for index in [entries, entries + 5, u64::MAX, 1 << 63] {
        t.equal("read-bad-index", status(Hcall::READ, &[0, index]), Status::PARAMETER);
        t.equal("read-4-bad-index", status(Hcall::READ, &[flags::READ_4, index]), Status::PARAMETER);
    }
    empty(group);
}

fn protect(t: &mut Report, s: &Segment, group: u64) {
    put(s, group, 0);
    let p = |flags, index, avpn| status(Hcall::PROTECT, &[flags, index, avpn]);
    t.equal("protect", p(HpteR::N | 3, group, 0), Status::SUCCESS);
    t.same("protect-r", hcall(Hcall::READ, &[0, group]).r5(), PAGE | HpteR::M | HpteR::N | 3);
    t.same("protect-keeps-v", hcall(Hcall::READ, &[0, group]).r4() & !V_SOFT, v(s, 0));
    t.equal("protect-avpn", p(flags::AVPN | 2, group, v(s, 0) & !0x7f), Status::SUCCESS);
    t.same("protect-avpn-r", hcall(Hcall::READ, &[0, group]).r5(), PAGE | READ_WRITE);
    t.equal("protect-other-avpn", p(flags::AVPN | 2, group, v(s, 1) & !0x7f), Status::NOT_FOUND);
    t.equal("protect-empty", p(2, group + 1, 0), Status::NOT_FOUND);
    for index in [platform::hpt_entries(), u64::MAX] {
        t.equal("protect-bad-index", p(2, index, 0), Status::PARAMETER);
    }
    // Keys: bits 50:51 and 52:54 of the flags; PP0: bit 55.
    t.equal("protect-key", p(0x3000 | 0xe00 | 0x100 | 2, group, 0), Status::SUCCESS);
    t.same(
        "protect-key-r",
        hcall(Hcall::READ, &[0, group]).r5(),
        PAGE | HpteR::M | HpteR::PP0 | HpteR::KEY_HI | HpteR::KEY_LO | 2,
    );
    t.equal("protect-key-back", p(2, group, 0), Status::SUCCESS);
    t.same("protect-key-back-r", hcall(Hcall::READ, &[0, group]).r5(), PAGE | READ_WRITE);
    empty(group);
}

fn remove(t: &mut Report, s: &Segment, group: u64) {
    put(s, group, 0);
    let a = hcall(Hcall::REMOVE, &[0, group, 0]);
    t.equal("remove", a.status, Status::SUCCESS);
    t.same("remove-v", a.r4() & !V_SOFT, v(s, 0));
    t.same("remove-r", a.r5(), PAGE | READ_WRITE);
    t.same("remove-empties", hcall(Hcall::READ, &[0, group]).r4() & HpteV::V, 0);
    t.equal("remove-again", status(Hcall::REMOVE, &[0, group, 0]), Status::NOT_FOUND);

    put(s, group, 0);
    let r = |flags, argument| status(Hcall::REMOVE, &[flags, group, argument]);
    t.equal("remove-other-avpn", r(flags::AVPN, v(s, 1) & !0x7f), Status::NOT_FOUND);
    t.same("remove-other-avpn-stays", hcall(Hcall::READ, &[0, group]).r4() & HpteV::V, HpteV::V);
    t.equal("remove-avpn", r(flags::AVPN, v(s, 0) & !0x7f), Status::SUCCESS);

    put(s, group, 0);
    t.equal("remove-andcond-common", r(flags::ANDCOND, HpteV::V), Status::NOT_FOUND);
    t.equal("remove-andcond", r(flags::ANDCOND, HpteV::H | HpteV::L), Status::SUCCESS);
    for index in [platform::hpt_entries(), u64::MAX, 1 << 59] {
        t.equal("remove-bad-index", status(Hcall::REMOVE, &[0, index, 0]), Status::PARAMETER);
    }
    // A bolted entry is one that ANDCOND was made for.
    status(Hcall::ENTER, &[flags::EXACT, group, v(s, 0) | HpteV::BOLTED, PAGE | READ_WRITE]);
    t.equal("remove-bolted-kept", r(flags::ANDCOND, HpteV::BOLTED), Status::NOT_FOUND);
    t.equal("remove-bolted", r(0, 0), Status::SUCCESS);
}

const REQUEST: u64 = 1 << 62;
const RESPONSE: u64 = 2 << 62;
const END: u64 = 3 << 62;
const TYPE: u64 = 3 << 62;
const CODE: u64 = 3 << 60;
const NOT_FOUND: u64 = 1 << 60;
const PARAMETER: u64 = 2 << 60;
const BY_ANDCOND: u64 = 1 << 56;
const BY_AVPN: u64 = 2 << 56;

fn bulk(t: &mut Report, s: &Segment, group: u64) {
    for n in 0..4 {
        put(s, group + n, n);
    }
    let a = hcall(
        Hcall::BULK_REMOVE,
        &[
            REQUEST | group,
            0,
            REQUEST | BY_AVPN | (group + 1),
            v(s, 1) & !0x7f,
            REQUEST | BY_AVPN | (group + 2),
            v(s, 1) & !0x7f,
            REQUEST | BY_ANDCOND | (group + 3),
            HpteV::H,
        ],
    );
    t.equal("bulk", a.status, Status::SUCCESS);
    for (n, code) in [0, 0, NOT_FOUND, 0].into_iter().enumerate() {
        t.same("bulk-response", a.r[2 * n] & TYPE, RESPONSE);
        t.same("bulk-code", a.r[2 * n] & CODE, code);
        t.same("bulk-index", a.r[2 * n] & 0xff_ffff_ffff, group + n as u64);
        let valid = hcall(Hcall::READ, &[0, group + n as u64]).r4() & HpteV::V;
        t.same("bulk-left", valid, u64::from(code != 0));
    }
    put(s, group, 0);
    let a = hcall(Hcall::BULK_REMOVE, &[REQUEST | group, 0, END, 0, REQUEST | (group + 2), 0, END, 0]);
    t.equal("bulk-end", a.status, Status::SUCCESS);
    t.same("bulk-end-stops", hcall(Hcall::READ, &[0, group + 2]).r4() & HpteV::V, HpteV::V);
    t.same("bulk-end-untouched", a.r[2], END);
    let a = hcall(Hcall::BULK_REMOVE, &[RESPONSE | group, 0, END, 0, END, 0, END, 0]);
    t.equal("bulk-not-a-request", a.status, Status::PARAMETER);
    let a =
        hcall(Hcall::BULK_REMOVE, &[REQUEST | BY_AVPN | BY_ANDCOND | (group + 2), 0, END, 0, END, 0, END, 0]);
    t.equal("bulk-both-conditions", a.status, Status::PARAMETER);
    t.same("bulk-both-conditions-code", a.r[0] & (TYPE | CODE), RESPONSE | PARAMETER);
    let index = platform::hpt_entries();
    let a = hcall(Hcall::BULK_REMOVE, &[REQUEST | (group + 2), 0, REQUEST | index, 0, END, 0, END, 0]);
    t.equal("bulk-bad-index", a.status, Status::PARAMETER);
    t.same("bulk-bad-index-code", a.r[2] & (TYPE | CODE), RESPONSE | PARAMETER);
    t.same("bulk-bad-index-first-done", hcall(Hcall::READ, &[0, group + 2]).r4() & HpteV::V, 0);
    empty(group);
}

fn clear(t: &mut Report, s: &Segment, group: u64) {
    status(Hcall::ENTER, &[flags::EXACT, group, v(s, 0), PAGE | READ_WRITE | HpteR::R | HpteR::C]);
    if t.differs_on_qemu("clear-mod", "it has neither H_CLEAR_MOD nor H_CLEAR_REF") {
        empty(group);
        return;
    }
    let a = hcall(Hcall::CLEAR_MOD, &[0, group]);
    t.equal("clear-mod", a.status, Status::SUCCESS);
    t.same("clear-mod-was", a.r4() & (HpteR::R | HpteR::C), HpteR::R | HpteR::C);
    t.same("clear-mod-now", hcall(Hcall::READ, &[0, group]).r5() & (HpteR::R | HpteR::C), HpteR::R);
    let a = hcall(Hcall::CLEAR_REF, &[0, group]);
    t.equal("clear-ref", a.status, Status::SUCCESS);
    t.same("clear-ref-was", a.r4() & (HpteR::R | HpteR::C), HpteR::R);
    t.same("clear-ref-now", hcall(Hcall::READ, &[0, group]).r5() & (HpteR::R | HpteR::C), 0);
    for call in [Hcall::CLEAR_MOD, Hcall::CLEAR_REF] {
        t.equal("clear-empty", status(call, &[0, group + 1]), Status::NOT_FOUND);
        t.equal("clear-bad-index", status(call, &[0, platform::hpt_entries()]), Status::PARAMETER);
        t.equal("clear-far-index", status(call, &[0, u64::MAX]), Status::PARAMETER);
    }
    empty(group);
}

fn sizes(t: &mut Report) {
    use PageSize::*;
    t.is_true("advertised-4k", platform::advertised(K4, K4));
    t.is_true("advertised-64k", platform::advertised(K64, K64));
    for (base, actual) in [(K4, K4), (K4, K64), (K4, M16), (K64, K64), (K64, M16), (M16, M16)] {
        for size in [SegmentSize::M256, SegmentSize::T1] {
            let s = Segment { ea: 0, vsid: 0x7b31, size, base, flags: 0 };
            let got = s.enter(0, PAGE, actual, READ_WRITE);
            println!("@ note {base:?}/{actual:?} in {size:?}: {got:x?}");
            t.equal(
                "size-as-advertised",
                got.err(),
                (!platform::advertised(base, actual)).then_some(Status::PARAMETER),
            );
            if let Ok(index) = got {
                let a = hcall(Hcall::REMOVE, &[0, index, 0]);
                t.same("size-v", a.r4() & !V_SOFT & !HpteV::H, s.v(0, actual));
            }
        }
    }
    println!(
        "@ note 16M pages {}",
        if platform::advertised(M16, M16) { "advertised" } else { "not advertised" }
    );
}

fn attributes(t: &mut Report, s: &Segment, group: u64) {
    let e = |r: u64| {
        let status = status(Hcall::ENTER, &[flags::EXACT, group, v(s, 0), r]);
        let back = hcall(Hcall::REMOVE, &[0, group, 0]);
        (status, back.r5())
    };
    let r = PAGE | HpteR::M | HpteR::R | HpteR::C | 1;
    t.equal("keeps-r-and-c", e(r), (Status::SUCCESS, r));
    let hole = (1 << 40) | HpteR::I | HpteR::G | 2;
    t.equal("hole-inhibited", e(hole), (Status::SUCCESS, hole));
    if !t.differs_on_qemu("ram-inhibited", "it refuses RAM that is not WIMG=0010, and a hole that is") {
        let r = PAGE | HpteR::I | HpteR::M | 2;
        t.equal("ram-inhibited", e(r), (Status::SUCCESS, r));
        let r = PAGE | HpteR::W | HpteR::I | HpteR::M | 2;
        t.equal("ram-strong-order", e(r), (Status::SUCCESS, r));
        let r = (1 << 40) | HpteR::M | 2;
        t.equal("hole-cacheable", e(r), (Status::SUCCESS, r));
        let r = platform::memory() | HpteR::I | HpteR::G | 2;
        t.equal("end-of-memory", e(r), (Status::SUCCESS, r));
    }
}

fn flags_of_enter(t: &mut Report, s: &Segment, group: u64) {
    let e = |f: u64| {
        let status = status(Hcall::ENTER, &[f | flags::EXACT, group, v(s, 0), PAGE | READ_WRITE]);
        hcall(Hcall::REMOVE, &[0, group, 0]);
        status
    };
    t.equal("enter-icache-invalidate", e(flags::ICACHE_INVALIDATE), Status::SUCCESS);
    t.equal("enter-icache-synchronize", e(flags::ICACHE_SYNCHRONIZE), Status::SUCCESS);
    t.equal("enter-page-state", e(flags::PAGE_STATE), Status::SUCCESS);
    fill(PAGE, 0x1000, 0x5a);
    if t.differs_on_qemu("enter-zero-page", "H_ENTER ignores the flag") {
        return;
    }
    t.equal("enter-zero-page", e(flags::ZERO_PAGE), Status::SUCCESS);
    t.is_true("enter-zero-page-zeroes", is_filled(PAGE, 0x1000, 0));
}
