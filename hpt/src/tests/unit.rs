//! One test per behaviour of hypervisor calls and pages.

use power::hcall::flags as f;
use power::slb::SegmentSize;
use power::{Ea, GuestReal, HostReal, HpteFormat, HpteR, HpteV, PageSize, PteIndex, Status};

use super::world::{DEVICE_HOST, DEVICE_I, DEVICE_M, GROUPS, NOWHERE, Va, World, with_world};
use crate::order::elsewhere;
use crate::*;

pub const BOTH: [HpteFormat; 2] = [HpteFormat::V2_07, HpteFormat::V3_0];
const RW: u64 = HpteR::M | 2;
const RO: u64 = HpteR::M | 3;
const V: u64 = HpteV::V;
const ABSENT: u64 = HpteV::ABSENT;
const END: u64 = 3 << 62;

/// For each format: a partition in which page 1 is private, page 2 shared, page 3 not populated, page 4 private but read-only and
/// page 5 private but inaccessible.
pub fn each(mut body: impl FnMut(&mut World<'_>)) {
    for format in BOTH {
        with_world(format, false, |w| {
            for (n, state, protection) in [
                (1, PageState::Private, Protection::ReadWrite),
                (2, PageState::Shared, Protection::ReadWrite),
                (4, PageState::Private, Protection::ReadOnly),
                (5, PageState::Private, Protection::None),
            ] {
                w.populate(n, state);
                w.protect_page(n, protection);
            }
            body(w);
            w.check();
        });
    }
}

/// The first virtual page of these sizes, and its number.
pub fn va(w: &World<'_>, base: PageSize, actual: PageSize) -> (usize, Va) {
    let found = w.vas.iter().position(|v| (v.base, v.actual) == (base, actual) && !v.is_vrma());
    (found.unwrap(), w.vas[found.unwrap()])
}

/// Enters the first 4 KiB virtual page for an address.
pub fn enter(w: &mut World<'_>, real: u64, bits: u64) -> Result<PteIndex, HptError> {
    let (n, page) = va(w, PageSize::K4, PageSize::K4);
    let (v, index) = page.place(false);
    w.enter(Some(n), 0, index, v, page.r(real, bits))
}

pub fn hardware(w: &World<'_>, index: PteIndex) -> (u64, HpteR) {
    let (v, r) = w.mmu.hpt().peek(index).unwrap();
    (v.0 & (V | ABSENT | HpteV::HVLOCK), r)
}

const UNIT: u64 = 1 << 16;

#[test]
fn what_enter_installs() {
    each(|w| {
        // (real address, what the guest asks, what the hardware gets)
        for (real, asks, v, pp) in [
            (UNIT, RW, V, 2),
            (UNIT, RO, V, 3),
            (UNIT, HpteR::M, V, 0),
            (2 * UNIT, RW, V, 3),
            (2 * UNIT, HpteR::M | 1, V, 3),
            (2 * UNIT, HpteR::M, V, 6),
            (2 * UNIT, RO, V, 3),
            (2 * UNIT, HpteR::M | HpteR::PP0 | 2, V, 6),
            (4 * UNIT, RW, V, 3),
            (4 * UNIT, RO, V, 3),
            // Whatever the cache attribute, RAM is RAM.
            (2 * UNIT, HpteR::I | HpteR::G | 2, V, 3),
            (2 * UNIT, HpteR::W | 3, V, 3),
            (4 * UNIT, HpteR::I | 2, V, 3),
            (UNIT, HpteR::I | 3, V, 3),
            (3 * UNIT, HpteR::I | 2, ABSENT, 2),
            (5 * UNIT, HpteR::W | 3, ABSENT, 3),
            (5 * UNIT, RO, ABSENT, 3),
            (3 * UNIT, RW, ABSENT, 2),
            (3 * UNIT, RO, ABSENT, 3),
            (5 * UNIT, RW, ABSENT, 2),
            (NOWHERE, HpteR::I | 2, ABSENT, 2),
            (NOWHERE, RO, ABSENT, 3),
            (DEVICE_I, HpteR::I | HpteR::G | 2, V, 2),
            (DEVICE_I, HpteR::I | HpteR::M | 3, V, 3),
            (DEVICE_M, RW, V, 2),
            (DEVICE_M, RO, V, 3),
            (NOWHERE, HpteR::I | 3, ABSENT, 3),
            (DEVICE_M, HpteR::W | HpteR::I | HpteR::M | 2, V, 2),
        ] {
            let index = enter(w, real, asks).unwrap();
            let (got, r) = hardware(w, index);
            assert_eq!((got, r.pp()), (v, pp), "{real:#x} {asks:#x}");
            // The guest sees what it asked for.
            assert_eq!(w.mmu.read(index).unwrap().1, HpteR(real | asks));
            if got == ABSENT {
                assert_eq!(r.0 & HpteR::RPN, 0);
            }
            w.check();
            w.remove(0, index.0, 0).unwrap();
        }
    });
}

#[test]
fn ram_is_mapped_cacheable() {
    each(|w| {
        for (asks, wimg, n) in [
            (HpteR::I | HpteR::G, HpteR::M, HpteR::N),
            (HpteR::W, HpteR::M, 0),
            (HpteR::W | HpteR::M, HpteR::M, 0),
            (0, HpteR::M, 0),
            (HpteR::M | HpteR::G, HpteR::M, HpteR::N),
            (HpteR::W | HpteR::I | HpteR::M, HpteR::W | HpteR::I | HpteR::M, 0),
        ] {
            let index = enter(w, UNIT, asks | 2).unwrap();
            let (_, r) = hardware(w, index);
            assert_eq!((r.0 & HpteR::WIMG, r.0 & HpteR::N), (wimg, n), "{asks:#x}");
            // Permission to fetch comes and goes with the guest's view, through H_PROTECT too.
            w.protect(HpteR::N | 2, index.0, 0).unwrap();
            w.protect(2, index.0, 0).unwrap();
            assert_eq!(hardware(w, index).1.0 & HpteR::N, n);
            w.remove(0, index.0, 0).unwrap();
        }
    });
}

#[test]
fn devices_want_their_cache_attribute() {
    each(|w| {
        for (real, asks) in [
            (DEVICE_I, HpteR::M),
            (DEVICE_I, HpteR::W | HpteR::I),
            (DEVICE_I, HpteR::W),
            (DEVICE_I, HpteR::W | HpteR::I | HpteR::M),
            (DEVICE_M, HpteR::I),
            (DEVICE_M, HpteR::W | HpteR::M),
        ] {
            assert_eq!(enter(w, real, asks | 2), Err(HptError::Parameter), "{real:#x} {asks:#x}");
        }
    });
}

/// Write-through and inhibited count separately, SAO as neither; a refusal changes nothing.
#[test]
fn every_cache_attribute_of_devices() {
    const W: u64 = HpteR::W;
    const I: u64 = HpteR::I;
    const M: u64 = HpteR::M;
    each(|w| {
        for attribute in [0, W, I, W | I] {
            let mut slots = Slots::new(false);
            let host = HostReal(DEVICE_HOST);
            // Bits that are none of a cache attribute do not matter.
            let kind = SlotKind::Device { host, attribute: attribute | M | HpteR::C };
            slots.add(Slot { base: GuestReal(NOWHERE), len: UNIT, kind }).unwrap();
            let mmu = GuestMmu::new(w.mmu.hpt(), &slots);
            let groups = mmu.hpt().groups_used();
            for wimg in (0..16).map(|bits| bits << 3) {
                let asks = if wimg == W | I | M { 0 } else { wimg & (W | I) };
                let done = mmu.enter(w.m, 0, PteIndex(0x90), HpteV(0x77_0000), HpteR(NOWHERE | wimg | 2));
                if asks != attribute {
                    assert_eq!(done, Err(HptError::Parameter), "{attribute:#x} {wimg:#x}");
                    assert_eq!(mmu.hpt().occupancy(), Occupancy::default());
                    continue;
                }
                let at = done.unwrap();
                assert_eq!(mmu.hpt().peek(at).unwrap().1.0, DEVICE_HOST | wimg | 2, "as asked");
                // H_PROTECT changes rights and nothing else.
                mmu.protect(w.m, 3, at, 0).unwrap();
                assert_eq!(mmu.hpt().peek(at).unwrap().1.0, DEVICE_HOST | wimg | 3);
                mmu.protect(w.m, 2, at, 0).unwrap();
                assert_eq!(mmu.hpt().peek(at).unwrap().1.0, DEVICE_HOST | wimg | 2);
                assert_eq!(mmu.remove(w.m, 0, at, 0).unwrap().1, HpteR(NOWHERE | wimg | 2));
            }
            assert_eq!(mmu.hpt().groups_used(), groups.max(1));
        }
    });
}

/// What the guest entered for the old place leads nowhere, and what it entered for the new one there; as the guest sees them they stay.
#[test]
fn entries_follow_a_device_that_moves() {
    each(|w| {
        let mut slots = Slots::new(false);
        let host = HostReal(DEVICE_HOST);
        let kind = SlotKind::Device { host, attribute: HpteR::I };
        slots.add(Slot { base: GuestReal(NOWHERE), len: 2 * UNIT, kind }).unwrap();
        let mmu = GuestMmu::new(w.mmu.hpt(), &slots);
        let there = NOWHERE + 8 * UNIT;
        let enter = |slot: u64, real: u64, wimg: u64| {
            let (v, r) = (HpteV(0x77_0000 + (slot << 12)), HpteR(real | wimg | 2));
            mmu.enter(w.m, 0, PteIndex(0x90), v, r).unwrap()
        };
        let page = NOWHERE + UNIT + 0x3000;
        let from = enter(0, page, HpteR::I | HpteR::G);
        let to = enter(1, there + 0x1000, HpteR::I);
        // Not as this device is to be mapped: nothing but a machine check is there.
        let odd = enter(2, there + 0x2000, HpteR::W);
        let seen = [from, to, odd].map(|at| mmu.read(at).unwrap());
        let now = |at| {
            let (v, r) = mmu.hpt().peek(at).unwrap();
            (v.0 & (V | ABSENT), r.0 & HpteR::RPN)
        };
        let absent = |at| now(at).0 == ABSENT;
        assert_eq!((now(from), absent(to)), ((V, DEVICE_HOST + UNIT + 0x3000), true));
        slots.move_device(host, Some(GuestReal(there)));
        assert_eq!(slots.device(host), Some(GuestReal(there)));
        mmu.follow_devices();
        assert_eq!((absent(from), now(to), absent(odd)), (true, (V, DEVICE_HOST + 0x1000), true));
        assert_eq!([from, to, odd].map(|at| mmu.read(at).unwrap()), seen);
        slots.move_device(host, None);
        mmu.follow_devices();
        assert!(absent(from) && absent(to) && slots.device(host).is_none());
        slots.move_device(host, Some(GuestReal(NOWHERE)));
        mmu.follow_devices();
        assert_eq!((now(from), absent(to)), ((V, DEVICE_HOST + UNIT + 0x3000), true));
        for (at, seen) in [from, to, odd].into_iter().zip(seen) {
            assert_eq!(mmu.remove(w.m, 0, at, 0).unwrap(), seen);
        }
    });
}

/// Entries of RAM are as they were, on their pages.
#[test]
fn memory_does_not_follow_devices() {
    each(|w| {
        let entered = [UNIT, 2 * UNIT, 3 * UNIT].map(|real| enter(w, real, RW).unwrap());
        let before = entered.map(|at| hardware(w, at));
        w.mmu.follow_devices();
        assert_eq!(entered.map(|at| hardware(w, at)), before);
    });
}

#[test]
fn large_pages_of_devices_need_aligned_ranges() {
    const M16: u64 = 16 << 20;
    for format in BOTH {
        with_world(format, true, |w| {
            let (_, page) = va(w, PageSize::K64, PageSize::M16);
            let (v, group) = page.place(false);
            // (base, host, length, where the page is, is it fine)
            for (base, host, len, real, fine) in [
                (NOWHERE, 8 * M16, 2 * M16, NOWHERE, true),
                (NOWHERE, 8 * M16, 2 * M16, NOWHERE + M16, true),
                (NOWHERE + UNIT, 8 * M16 + UNIT, 2 * M16, NOWHERE + M16, true),
                (NOWHERE, 8 * M16 + UNIT, 2 * M16, NOWHERE, false),
                (NOWHERE, 8 * M16, 2 * M16 - UNIT, NOWHERE + M16, false),
                (NOWHERE + UNIT, 8 * M16 + UNIT, 2 * M16, NOWHERE, false),
            ] {
                let mut slots = Slots::new(true);
                let kind = SlotKind::Device { host: HostReal(host), attribute: HpteR::I };
                slots.add(Slot { base: GuestReal(base), len, kind }).unwrap();
                let mmu = GuestMmu::new(w.mmu.hpt(), &slots);
                let done = mmu.enter(w.m, 0, group, v, page.r(real, HpteR::I | 2));
                // The first real address of the page is in no slot: it is not a device's, and too large to be nothing.
                assert_eq!(done.is_ok(), fine, "{base:#x} {host:#x} {len:#x} {real:#x}");
                match done {
                    Ok(at) => {
                        let r = mmu.hpt().peek(at).unwrap().1.0 & HpteR::RPN & !(M16 - 1);
                        assert_eq!(r, host + (real - base));
                        mmu.remove(w.m, 0, at, 0).unwrap();
                    }
                    Err(why) => assert_eq!(why, HptError::Parameter),
                }
            }
        });
    }
}

#[test]
fn enter_refuses_nonsense() {
    each(|w| {
        let (n, page) = va(w, PageSize::K4, PageSize::K4);
        let (v, index) = page.place(false);
        let r = page.r(UNIT, RW);
        let last = PteIndex(GROUPS as u64 * 8);
        for (flags, index, v, r) in [
            (0, last, v, r),
            (0, PteIndex(u64::MAX), v, r),
            (f::COPY_PAGE, index, v, r),
            // An LP that nobody defined; 16 MiB in a partition without; reserved B; reserved PP.
            (0, index, HpteV(v.0 | HpteV::L), HpteR(r.0 | 0x2000)),
            (0, index, HpteV(v.0 | HpteV::L), HpteR(HpteR::M | 2)),
            (0, index, HpteV(v.0 | 1 << 63), r),
            (0, index, v, HpteR(UNIT | HpteR::M | HpteR::PP0)),
            (0, index, v, HpteR(UNIT | HpteR::M | HpteR::PP0 | 1)),
            (0, index, v, HpteR(UNIT | HpteR::M | HpteR::PP0 | 3)),
            (f::ZERO_PAGE, index, v, page.r(DEVICE_M, RW)),
            (f::ZERO_PAGE, index, v, page.r(NOWHERE, RW)),
        ] {
            assert_eq!(w.enter(Some(n), flags, index, v, r), Err(HptError::Parameter));
        }
        let wide = w.enter(None, 0, index, HpteV(v.0 | 1 << 55), r);
        assert_eq!(wide.is_ok(), w.mmu.hpt().format() == HpteFormat::V2_07);
    });
}

#[test]
fn software_bits_of_dword_0_are_the_hypervisors() {
    each(|w| {
        for real in [UNIT, NOWHERE] {
            let (n, page) = va(w, PageSize::K4, PageSize::K4);
            let (v, index) = page.place(false);
            let v = HpteV(v.0 | HpteV::HVLOCK | HpteV::ABSENT | HpteV::BOLTED | 8);
            let index = w.enter(Some(n), 0, index, v, page.r(real, RW | 1 << 62)).unwrap();
            let (seen, r) = w.mmu.read(index).unwrap();
            assert_eq!(seen.0, v.0 & !0x60 | HpteV::V);
            assert_eq!(r.0 & 1 << 62, 0);
            assert_eq!(w.remove(0, index.0, 0).unwrap().0, seen);
        }
        assert_eq!(w.mmu.hpt().occupancy(), Occupancy::default());
    });
}

#[test]
fn groups_fill_up() {
    each(|w| {
        let index = PteIndex(0x40 * 8);
        let v = |i: u64| HpteV(0x1_0000 + (i << 7));
        for i in 0..8 {
            assert_eq!(
                w.enter(None, 0, PteIndex(index.0 + 5), v(i), HpteR(UNIT | RW)).unwrap().0,
                index.0 + i
            );
        }
        assert_eq!(w.enter(None, 0, index, v(9), HpteR(UNIT | RW)), Err(HptError::PtegFull));
        assert_eq!(w.enter(None, f::EXACT, PteIndex(index.0 + 3), v(9), HpteR(RW)), Err(HptError::PtegFull));
        w.remove(0, index.0 + 3, 0).unwrap();
        assert_eq!(
            w.enter(None, f::EXACT, PteIndex(index.0 + 2), v(9), HpteR(UNIT | RW)),
            Err(HptError::PtegFull)
        );
        w.enter(None, f::EXACT, PteIndex(index.0 + 3), v(9), HpteR(UNIT | RW)).unwrap();
        assert_eq!(w.mmu.hpt().occupancy().valid, 8);
    });
}

#[test]
fn zeroed_and_synchronized_on_entry() {
    each(|w| {
        let (n, page) = va(w, PageSize::K4, PageSize::K4);
        let (v, index) = page.place(false);
        let host = w.mmu.page_view(GuestReal(UNIT)).unwrap().host().unwrap();
        w.m.set(HostReal(host.0 + 0x3000), 7);
        w.m.set(HostReal(host.0 + 0x4000), 7);
        let flags = f::ZERO_PAGE | f::ICACHE_SYNCHRONIZE;
        let at = w.enter(Some(n), flags, index, v, page.r(UNIT + 0x3000, RW)).unwrap();
        assert_eq!(w.m.get(HostReal(host.0 + 0x3000)), 0);
        assert_eq!(w.m.get(HostReal(host.0 + 0x4000)), 7, "only the page that is entered");
        assert_eq!(w.m.icache.get(), 4096);
        w.remove(0, at.0, 0).unwrap();
        for real in [2 * UNIT, 3 * UNIT, 4 * UNIT, 5 * UNIT] {
            let r = page.r(real, RW);
            assert_eq!(w.enter(Some(n), f::ZERO_PAGE, index, v, r), Err(HptError::TooHard));
        }
        assert_eq!(w.mmu.hpt().occupancy(), Occupancy::default());
    });
}

#[test]
fn remove_has_conditions() {
    each(|w| {
        for real in [UNIT, 3 * UNIT, NOWHERE] {
            let index = enter(w, real, RW).unwrap().0;
            let v = w.mmu.read(PteIndex(index)).unwrap().0.0;
            for (flags, avpn) in
                [(f::AVPN, v & !0x7f ^ 0x80), (f::AVPN, v), (f::ANDCOND, HpteV::V), (f::ANDCOND, v)]
            {
                assert_eq!(w.remove(flags, index, avpn), Err(HptError::NotFound));
            }
            w.remove(f::AVPN | f::ANDCOND, index, v & !0x7f).unwrap_err();
            w.remove(f::AVPN, index, v & !0x7f).unwrap();
            assert_eq!(w.remove(0, index, 0), Err(HptError::NotFound));
        }
        assert_eq!(w.remove(0, GROUPS as u64 * 8, 0), Err(HptError::Parameter));
    });
}

#[test]
fn bulk_remove_answers_in_place() {
    each(|w| {
        let request = |cond: u64, index: u64| 1 << 62 | cond << 56 | index;
        let first = enter(w, UNIT, RW | HpteR::R | HpteR::C).unwrap().0;
        let (n, page) = va(w, PageSize::K64, PageSize::K64);
        let (v, group) = page.place(false);
        let second = w.enter(Some(n), 0, group, v, page.r(2 * UNIT, RO | HpteR::R)).unwrap().0;
        let mut words =
            [request(0, first), 0, request(2, second), 0x80, request(2, second), v.0 & !0x7f, END, 5];
        w.m.take_tlbies();
        w.bulk(words);
        assert_eq!(w.m.take_tlbies(), 2);
        // Gone; and the rest is untouched behind an end.
        words = [request(0, first), 0, request(1, second), 0, END, 1, request(0, 0), 2];
        let mut got = words;
        w.mmu.bulk_remove(w.m, &mut got).unwrap();
        assert_eq!(got[0] >> 56, 0x90);
        assert_eq!(got[2] >> 56, 0x91);
        assert_eq!(got[4..], words[4..]);
        // Bad ones end it: a response type, both conditions, an index out of range.
        for bad in [2 << 62 | first, request(3, first), request(0, GROUPS as u64 * 8), 0] {
            let index = enter(w, UNIT, RW).unwrap().0;
            let mut got = [request(0, index), 0, bad, 0, request(0, index), 0, END, 0];
            let rest = got[4];
            assert_eq!(w.mmu.bulk_remove(w.m, &mut got), Err(HptError::Parameter));
            assert_eq!((got[0] >> 60, got[2] >> 60, got[4]), (8, 0xa, rest));
            w.clear();
        }
        // The same entry twice.
        let index = enter(w, UNIT, RW).unwrap().0;
        w.bulk([request(0, index), 0, request(0, index), 0, request(0, index), 0, request(0, index), 0]);
    });
}

#[test]
fn protect_never_makes_a_read_only_page_writable() {
    each(|w| {
        for n in [2, 4] {
            let index = enter(w, n * UNIT, RO).unwrap();
            w.m.take_tlbies();
            w.protect(2, index.0, 0).unwrap();
            assert_eq!(hardware(w, index).1.pp(), 3);
            assert_eq!(w.m.take_tlbies(), 0, "nothing changed for the hardware");
            w.protect(0, index.0, 0).unwrap();
            assert_eq!(hardware(w, index).1.pp(), 6);
            assert_eq!(w.m.take_tlbies(), 1);
            w.remove(0, index.0, 0).unwrap();
        }
        let index = enter(w, UNIT, RO).unwrap();
        w.protect(2, index.0, 0).unwrap();
        assert_eq!(hardware(w, index).1.pp(), 2, "nothing speaks against it");
        w.protect(3, index.0, 0).unwrap();
        assert_eq!(hardware(w, index).1.pp(), 3);
    });
}

#[test]
fn protect_sets_keys_and_finds_by_avpn() {
    each(|w| {
        let index = enter(w, UNIT, RW).unwrap();
        let v = w.mmu.read(index).unwrap().0.0;
        assert_eq!(w.protect(f::AVPN | 3, index.0, v & !0x7f ^ 0x100), Err(HptError::NotFound));
        w.protect(f::AVPN | 21 << 9 | 4 | 1 << 8 | 2, index.0, v & !0x7f).unwrap();
        let r = w.mmu.read(index).unwrap().1;
        assert_eq!((r.key(), r.pp(), r.0 & HpteR::N), (21, 6, HpteR::N));
        assert_eq!(w.protect(1 << 8, index.0, 0), Err(HptError::Parameter));
        assert_eq!(w.protect(2, index.0 + 1, 0), Err(HptError::NotFound));
        assert_eq!(w.protect(2, 1 << 40, 0), Err(HptError::Parameter));
    });
}

#[test]
fn absent_entries_need_no_tlbie() {
    each(|w| {
        for real in [3 * UNIT, 5 * UNIT, NOWHERE] {
            w.m.take_tlbies();
            let index = enter(w, real, RW | HpteR::R | HpteR::C).unwrap();
            w.protect(3, index.0, 0).unwrap();
            w.clear_usage(index.0, true);
            w.clear_usage(index.0, false);
            w.remove(0, index.0, 0).unwrap();
            assert_eq!(w.m.take_tlbies(), 0);
        }
    });
}

/// A store through the old translation, while it is being invalidated, must not be lost.
#[test]
fn changed_is_read_after_the_invalidation() {
    each(|w| {
        let (n, page) = va(w, PageSize::K4, PageSize::K4);
        let load = page.access(0, AccessKind::Read);
        let store = page.access(0, AccessKind::Write);
        let index = enter(w, UNIT, RW).unwrap();
        let late = |w: &mut World<'_>| {
            w.access(n, &load);
            assert!(!w.mmu.read(index).unwrap().1.any(HpteR::C));
            w.m.late.set(Some(store));
        };
        late(w);
        w.mmu.protect(w.m, 3, index, 0).unwrap();
        assert!(w.mmu.read(index).unwrap().1.any(HpteR::C), "H_PROTECT");
        w.mmu.protect(w.m, 2, index, 0).unwrap();
        assert!(w.mmu.clear_mod(w.m, index).unwrap().any(HpteR::C));
        w.mmu.slots().page(GuestReal(UNIT)).unwrap().take_usage();
        // H_CLEAR_REF invalidates too, and meets the store. So do a page's own changes.
        late(w);
        w.mmu.clear_ref(w.m, index).unwrap();
        assert!(w.mmu.read(index).unwrap().1.any(HpteR::C), "H_CLEAR_REF");
        w.mmu.clear_mod(w.m, index).unwrap();
        w.mmu.slots().page(GuestReal(UNIT)).unwrap().take_usage();
        late(w);
        let usage = w.mmu.harvest(w.m, GuestReal(UNIT)).unwrap();
        assert!(usage.changed, "harvest");
        w.mmu.clear_mod(w.m, index).unwrap();
        late(w);
        w.mmu.make_shared(w.m, GuestReal(UNIT)).unwrap();
        assert!(w.mmu.read(index).unwrap().1.any(HpteR::C), "sharing");
        let host = w.mmu.page_view(GuestReal(UNIT)).unwrap().host().unwrap();
        w.mmu.make_private(w.m, GuestReal(UNIT), host).unwrap();
        w.mmu.clear_mod(w.m, index).unwrap();
        w.mmu.remove(w.m, 0, index, 0).unwrap();
        w.clear();
        let index = enter(w, UNIT, RW).unwrap();
        w.access(n, &load);
        w.m.late.set(Some(store));
        let (_, r) = w.mmu.remove(w.m, 0, index, 0).unwrap();
        assert!(r.any(HpteR::C), "H_REMOVE");
        w.clear();
        let index = enter(w, UNIT, RW).unwrap();
        w.access(n, &load);
        w.m.late.set(Some(store));
        let mut words = [1 << 62 | index.0, 0, END, 0, 0, 0, 0, 0];
        w.mmu.bulk_remove(w.m, &mut words).unwrap();
        assert_eq!(words[0] >> 56, 0x8c, "H_BULK_REMOVE");
        w.clear();
    });
}

#[test]
fn clearing_usage_tells_what_it_was() {
    each(|w| {
        let (n, page) = va(w, PageSize::K4, PageSize::K4);
        let index = enter(w, UNIT, RW).unwrap();
        w.access(n, &page.access(0, AccessKind::Write));
        assert!(w.mmu.read(index).unwrap().1.any(HpteR::C));
        w.clear_usage(index.0, true);
        w.clear_usage(index.0, false);
        assert!(!w.mmu.read(index).unwrap().1.any(HpteR::R | HpteR::C));
        // The translation was forgotten, so the next store shows again.
        w.access(n, &page.access(0, AccessKind::Write));
        assert!(w.mmu.read(index).unwrap().1.any(HpteR::C));
        assert_eq!(w.mmu.clear_ref(w.m, PteIndex(3)), Err(HptError::NotFound));
        assert_eq!(w.mmu.clear_mod(w.m, PteIndex(u64::MAX)), Err(HptError::Parameter));
    });
}

#[test]
fn a_held_lock_is_too_hard_and_changes_nothing() {
    each(|w| {
        let index = enter(w, UNIT, RW).unwrap();
        let request = 1 << 62 | index.0;
        let page = w.mmu.slots().page(GuestReal(UNIT)).unwrap();
        let before = w.mmu.hpt().peek(index);
        let view = elsewhere(|| page.lock().unwrap());
        assert_eq!(w.mmu.remove(w.m, 0, index, 0), Err(HptError::TooHard));
        let mut words = [request, 0, END, 0, 0, 0, 0, 0];
        assert_eq!(w.mmu.bulk_remove(w.m, &mut words), Err(HptError::TooHard));
        assert_eq!(words, [request, 0, END, 0, 0, 0, 0, 0]);
        let (v, group) = va(w, PageSize::K64, PageSize::K64).1.place(false);
        let r = HpteR(UNIT | 0x1000 | RW);
        assert_eq!(w.mmu.enter(w.m, 0, group, v, r), Err(HptError::TooHard));
        assert_eq!(w.mmu.page_init(w.m, f::ZERO_PAGE, GuestReal(UNIT), GuestReal(0)), Err(HptError::TooHard));
        // One of two can be done; the other one later.
        let other = w.mmu.enter(w.m, 0, group, v, HpteR(2 * UNIT | 0x1000 | RW)).unwrap();
        let mut both = [1 << 62 | other.0, 0, request, 0, END, 0, 0, 0];
        assert_eq!(w.mmu.bulk_remove(w.m, &mut both), Err(HptError::TooHard));
        assert_eq!(w.mmu.bulk_remove_again(w.m, &mut both), Err(HptError::TooHard));
        assert_eq!((both[0] >> 60, both[2], both[4]), (8, request, END));
        page.unlock(view);
        assert_eq!(w.mmu.hpt().peek(index), before);

        let hpte = w.mmu.hpt().entry(index).unwrap().hpte;
        let raw = elsewhere(|| hpte.try_lock().unwrap());
        assert_eq!(w.mmu.remove(w.m, 0, index, 0), Err(HptError::TooHard));
        assert_eq!(w.mmu.read(index), Err(HptError::TooHard));
        assert_eq!(w.mmu.protect(w.m, 2, index, 0), Err(HptError::TooHard));
        assert_eq!(w.mmu.clear_mod(w.m, index), Err(HptError::TooHard));
        let mut words = [request, 0, END, 0, 0, 0, 0, 0];
        assert_eq!(w.mmu.bulk_remove(w.m, &mut words), Err(HptError::TooHard));
        hpte.unlock(raw);
        assert_eq!(w.mmu.hpt().peek(index), before);
        assert_eq!(w.mmu.bulk_remove_again(w.m, &mut both), Ok(()));
        assert_eq!((both[0] >> 60, both[2] >> 60, both[4]), (8, 8, END));
        assert_eq!(w.mmu.remove(w.m, 0, index, 0), Err(HptError::NotFound));
        w.clear();
    });
}

#[test]
fn page_init_respects_pages() {
    each(|w| {
        for (flags, to, from) in [
            (f::ZERO_PAGE, UNIT, 0),
            (f::ZERO_PAGE, 2 * UNIT, 0),
            (f::ZERO_PAGE, 3 * UNIT, 0),
            (f::ZERO_PAGE, 4 * UNIT, 0),
            (f::COPY_PAGE, UNIT, 2 * UNIT),
            (f::COPY_PAGE, UNIT, UNIT + 0x3000),
            (f::COPY_PAGE, UNIT, UNIT),
            (f::COPY_PAGE, UNIT, 3 * UNIT),
            (f::COPY_PAGE, UNIT, 5 * UNIT),
            (f::COPY_PAGE | f::ZERO_PAGE | f::PAGE_STATE, UNIT + 0x1000, 4 * UNIT),
            (f::ICACHE_SYNCHRONIZE, 2 * UNIT, 0),
            (f::ZERO_PAGE, UNIT + 1, 0),
            (f::COPY_PAGE, UNIT, NOWHERE),
            (f::ZERO_PAGE, DEVICE_M, 0),
            (f::ZERO_PAGE | 1, UNIT, 0),
        ] {
            w.page_init(flags, to, from);
        }
        assert_eq!(w.m.icache.get(), 4096);
    });
}

#[test]
fn huge_pages_only_in_huge_partitions() {
    for format in BOTH {
        with_world(format, true, |w| {
            w.populate(1, PageState::Private);
            for base in [PageSize::M16, PageSize::K64, PageSize::K4] {
                let (n, page) = va(w, base, PageSize::M16);
                let (v, index) = page.place(false);
                assert_eq!(
                    w.enter(Some(n), 0, index, v, HpteR(page.r(1 << 24, RW).0 | 1 << 20)),
                    Err(HptError::Parameter)
                );
                let at = w.enter(Some(n), 0, index, v, page.r(1 << 24, RW)).unwrap();
                w.access(n, &page.access(0x5000, AccessKind::Write));
                w.check();
                assert_eq!(hardware(w, at).0, V);
                // A device is smaller than that.
                let r = page.r(DEVICE_M, RW);
                assert_eq!(w.enter(Some(n), 0, index, v, r), Err(HptError::Parameter));
                w.remove(0, at.0, 0).unwrap();
                let r = page.r(NOWHERE, RW);
                assert_eq!(w.enter(Some(n), 0, index, v, r), Err(HptError::Parameter));
            }
            assert!(w.mmu.slots().is_huge());
        });
        with_world(format, false, |w| {
            for (_, lp) in [(PageSize::M16, 0), (PageSize::K64, 0x8000), (PageSize::K4, 0x3_8000)] {
                for real in [0, DEVICE_M, NOWHERE] {
                    let r = HpteR(real | lp | RW);
                    let got = w.enter(None, 0, PteIndex(8), HpteV(HpteV::L), r);
                    assert_eq!(got, Err(HptError::Parameter));
                }
            }
        });
    }
}

#[test]
fn bolted_entries_of_the_hypervisor() {
    for format in BOTH {
        with_world(format, false, |w| {
            let mapping = Mapping {
                vsid: 0x1234,
                segment: SegmentSize::T1,
                offset: 5 << 24,
                base: PageSize::K64,
                actual: PageSize::M16,
                host: HostReal(7 << 24),
                flags: HpteR::M | HpteR::R | HpteR::C,
            };
            let table = Hpt::without_reverse_map(w.m.groups, format).unwrap();
            let at = table.insert_bolted(&mapping).unwrap();
            let page = Va {
                slb: power::slb::SlbV(1 << 62 | 0x1234 << 24 | 0x110),
                offset: 5 << 24,
                base: PageSize::K64,
                actual: PageSize::M16,
            };
            let found = w.m.access(&page.access(0x123, AccessKind::Write)).unwrap();
            assert_eq!(found.0, 7 << 24 | 0x123);
            let raw =
                w.m.groups[(at.0 >> 3) as usize].0[(at.0 & 7) as usize].v.load(crate::sync::Ordering::SeqCst);
            assert_eq!(raw >> 62, u64::from(format == HpteFormat::V2_07), "where B is");
            let mut secondary = 0;
            for _ in 1..16 {
                let at = table.insert_bolted(&mapping).unwrap();
                secondary += usize::from(table.peek(at).unwrap().0.any(HpteV::H));
            }
            assert_eq!(secondary, 8);
            assert_eq!(table.insert_bolted(&mapping), None);
            for bad in [
                Mapping { host: HostReal(1 << 16), ..mapping },
                Mapping { offset: 1 << 40, ..mapping },
                Mapping { flags: 1 << 12, ..mapping },
                Mapping { base: PageSize::M16, actual: PageSize::K4, ..mapping },
            ] {
                assert_eq!(table.insert_bolted(&bad), None);
            }
            let o = table.occupancy();
            assert_eq!((o.valid, o.bolted, o.secondary), (16, 16, 8));
        });
    }
}

#[test]
fn tlbie_operands() {
    // Written out by hand from the format of RB: address, LP or AVAL, B, AP, L.
    let index = |hash: u64| PteIndex((hash & 0x7ff) << 3);
    let v = |vsid: u64, segment, base, offset| avpn(vsid, segment, base, offset).0 | V;
    use PageSize::*;
    use SegmentSize::*;
    let r = HpteR(0);
    let hash = |vsid: u64, page: u64| index(vsid ^ page);
    assert_eq!(tlbie_rb(HpteV(v(0x55, M256, K4, 0x123_4000)), r, hash(0x55, 0x1234)), 0x5_5123_4000);
    let secondary = HpteV(v(0x55, M256, K4, 0x123_4000) | HpteV::H);
    assert_eq!(tlbie_rb(secondary, r, index(!(0x55 ^ 0x1234))), 0x5_5123_4000);
    let l = HpteV::L;
    let mixed = HpteV(v(0x55, M256, K4, 0x123_4000) | l);
    assert_eq!(tlbie_rb(mixed, HpteR(0x7000), hash(0x55, 0x1234)), 0x5_5123_40a0);
    let k64 = HpteV(v(0x55, M256, K64, 0x123_0000) | l);
    assert_eq!(tlbie_rb(k64, HpteR(0x1000), hash(0x55, 0x123)), 0x5_5123_1000 | 0x23 << 4 & 0xfe | 1);
    let t1 = HpteV(v(0x55, T1, K64, 0x12_3456_0000) | l);
    assert_eq!(
        tlbie_rb(t1, HpteR(0x1000), hash(0x55, 0x12_3456)),
        0x5512_3456_1000 | 0x100 | 0x456 << 4 & 0xfe | 1
    );
    let m16 = HpteV(v(0x55, T1, M16, 0x12_3400_0000 & !0xff_ffff) | l);
    assert_eq!(tlbie_rb(m16, HpteR(0), hash(0x55, 0x1234)), 0x5512_3400_0000 | 0x100 | 1);
    let k64_m16 = HpteV(v(0x55, M256, K64, 0x123_0000) | l);
    assert_eq!(tlbie_rb(k64_m16, HpteR(0x8000), hash(0x55, 0x123)), 0x5_5100_8000 | 0x23 << 4 & 0xfe | 1);
}

#[test]
fn slots_are_checked() {
    let pages: Vec<Page> = (0..4).map(|_| Page::default()).collect();
    let mut slots = Slots::new(false);
    let ram = |base: u64, len: u64| Slot { base: GuestReal(base), len, kind: SlotKind::Ram(&pages) };
    let device = |base: u64, len: u64, host: u64| Slot {
        base: GuestReal(base),
        len,
        kind: SlotKind::Device { host: HostReal(host), attribute: HpteR::I },
    };
    assert_eq!(slots.add(ram(0, 5 << 16)), Err(SlotError::WrongTable));
    assert_eq!(slots.add(ram(0, 0)), Err(SlotError::Misaligned));
    assert_eq!(slots.add(ram(0x1000, 4 << 16)), Err(SlotError::Misaligned));
    assert_eq!(slots.add(ram(0u64.wrapping_sub(2 << 16), 4 << 16)), Err(SlotError::Misaligned));
    slots.add(ram(1 << 16, 4 << 16)).unwrap();
    assert_eq!(slots.add(device(4 << 16, 1 << 16, 0)), Err(SlotError::Overlap));
    assert_eq!(slots.add(device(8 << 16, 1 << 16, 0x1000)), Err(SlotError::Misaligned));
    for i in 0..7 {
        slots.add(device((8 + i) << 16, 1 << 16, 0)).unwrap();
    }
    assert_eq!(slots.add(device(0, 1 << 16, 0)), Err(SlotError::Full));
    for (to, moved) in [
        (20 << 16, true),
        (20 << 16 | 0x1000, false),
        (1 << 16, false),
        (9 << 16, false),
        (0u64.wrapping_sub(1 << 16), false),
        (8 << 16, true),
    ] {
        slots.move_device(HostReal(0), Some(GuestReal(to)));
        assert_eq!(slots.device(HostReal(0)), moved.then_some(GuestReal(to)), "{to:#x}");
        assert_eq!(slots.find(GuestReal(8 << 16)).is_some(), to == 8 << 16);
    }
    slots.move_device(HostReal(5 << 16), Some(GuestReal(0)));
    assert_eq!(slots.device(HostReal(5 << 16)), None, "there is none");
    assert!(slots.find(GuestReal(0xffff)).is_none());
    assert!(matches!(slots.find(GuestReal(0x1_0000)), Some(Target::Ram(_, 0))));
    assert!(matches!(slots.find(GuestReal(0x8_0123)), Some(Target::Device(HostReal(0x123), _))));
    assert!(slots.page(GuestReal(0x8_0000)).is_none());
    assert_eq!(Slots::new(true).add(ram(0, 4 << 16)), Err(SlotError::Misaligned));
    let groups: Vec<Pteg> = (0..3).map(|_| Pteg::default()).collect();
    assert!(Hpt::new(&groups, &[], &Reserve::new(), HpteFormat::V3_0).is_none());
}

#[test]
fn errors_are_paprs_at_the_edge() {
    for (error, status) in [
        (HptError::Parameter, Status::PARAMETER),
        (HptError::PtegFull, Status::PTEG_FULL),
        (HptError::NotFound, Status::NOT_FOUND),
        (HptError::Hardware, Status::HARDWARE),
        (HptError::TooHard, Status::BUSY),
    ] {
        assert_eq!(Status::from(error), status);
    }
}

#[test]
fn vrma_entries_are_made_room_for() {
    each(|w| {
        let n = w.vas.iter().position(Va::is_vrma).unwrap() + 1;
        let page = w.vas[n];
        let fill = |w: &mut World<'_>, bolted: u64| {
            for secondary in [false, true] {
                let (_, group) = page.place(secondary);
                for i in 0..8 {
                    let v = HpteV(0x77_0000 + (i << 7) | bolted);
                    w.enter(None, 0, group, v, HpteR(2 * UNIT | RW)).unwrap();
                }
            }
        };
        fill(w, HpteV::BOLTED);
        w.insert_vrma(n);
        assert_eq!(w.mmu.insert_vrma(w.m, PageSize::K64, Ea(page.offset)), Err(HptError::PtegFull));
        w.clear();
        fill(w, 0);
        w.insert_vrma(n);
        assert_eq!(w.seen.borrow().get("vrma evicts"), Some(&1));
        w.access(n, &page.access(0x100, AccessKind::Write));
        w.access(n, &page.access(0x100, AccessKind::Execute));
        // Once more is the same entry.
        w.insert_vrma(n);
        assert_eq!(w.mmu.insert_vrma(w.m, PageSize::K64, Ea(NOWHERE)), Err(HptError::Parameter));
        assert_eq!(w.mmu.insert_vrma(w.m, PageSize::M16, Ea(0)), Err(HptError::Parameter));
    });
}
