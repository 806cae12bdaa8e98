//! One test per behaviour of faults, translation and changes of backing.

use power::regs::Dsisr;
use power::slb::SegmentSize;
use power::{Ea, GuestReal, HostReal, HpteR, HpteV, PageSize, PteIndex};

use super::unit::{each, enter, hardware, va};
use super::world::{DEVICE_I, NOWHERE, Outcome, World, with_world};
use crate::*;

const RW: u64 = HpteR::M | 2;
const RO: u64 = HpteR::M | 3;
const UNIT: u64 = 1 << 16;

fn fault(access: Access, cause: Dsisr) -> Fault {
    Fault { access, cause }
}

fn first(w: &World<'_>, kind: AccessKind) -> (usize, Access) {
    let (n, page) = va(w, PageSize::K4, PageSize::K4);
    (n, page.access(0, kind))
}

#[test]
fn triage_step_by_step() {
    each(|w| {
        let (_, load) = first(w, AccessKind::Read);
        let (_, store) = first(w, AccessKind::Write);
        let missing = Dsisr::NOHPTE | Dsisr::ISSTORE;
        let denied = Dsisr::PROTFAULT | Dsisr::ISSTORE;
        // Nothing there: the guest's own miss; a protection fault on what has gone is tried again.
        assert_eq!(w.mmu.triage(&fault(store, missing)), Triage::Reflect(missing));
        assert_eq!(w.mmu.triage(&fault(store, denied)), Triage::Retry);
        // Absent: escalated, though for a protection fault there is none.
        let index = enter(w, 3 * UNIT, RW).unwrap();
        let Triage::Escalate(e) = w.mmu.triage(&fault(store, missing)) else { panic!() };
        assert_eq!((e.index, e.guest_r), (index, HpteR(3 * UNIT | RW)));
        assert!(e.v.any(HpteV::ABSENT) && !e.v.any(HpteV::V | HpteV::HVLOCK));
        assert_eq!(w.mmu.triage(&fault(store, denied)), Triage::Retry);
        w.remove(0, index.0, 0).unwrap();
        // Valid by now: tried again.
        let index = enter(w, UNIT, RW).unwrap();
        assert_eq!(w.mmu.triage(&fault(load, Dsisr::NOHPTE)), Triage::Retry);
        assert_eq!(w.mmu.triage(&fault(store, denied)), Triage::Retry);
        w.remove(0, index.0, 0).unwrap();
        // Read-only because of the page: escalated. Because of the guest: reflected.
        let index = enter(w, 2 * UNIT, RW).unwrap();
        let Triage::Escalate(e) = w.mmu.triage(&fault(store, denied)) else { panic!() };
        assert_eq!((e.r.pp(), e.guest_r.pp()), (3, 2));
        w.remove(0, index.0, 0).unwrap();
        enter(w, 2 * UNIT, RO).unwrap();
        assert_eq!(w.mmu.triage(&fault(store, denied)), Triage::Reflect(denied));
        // What the hypervisor has no part in.
        for cause in
            [Dsisr::KEYFAULT, Dsisr::NOEXEC_OR_GUARDED, Dsisr::DAWR, Dsisr::BAD_ACCESS | Dsisr::ISSTORE]
        {
            assert_eq!(w.mmu.triage(&fault(load, cause)), Triage::Reflect(cause));
        }
    });
}

#[test]
fn reflected_causes_are_bare_metals() {
    use AccessKind::*;
    each(|w| {
        // An absent entry: the hardware says "not found", the guest's own entry says no for another reason.
        let (n, page) = va(w, PageSize::K4, PageSize::K4);
        let keyed = 1 << 60 | 3 << 9; // key 11
        for (bits, kind, slb, amr, iamr, want) in [
            (RO, Write, 0, 0, 0, Dsisr::PROTFAULT | Dsisr::ISSTORE),
            (HpteR::M, Read, 0x400, 0, 0, Dsisr::PROTFAULT),
            (HpteR::M | 1, Write, 0x400, 0, 0, Dsisr::PROTFAULT | Dsisr::ISSTORE),
            (HpteR::M, Execute, 0x400, 0, 0, Dsisr::PROTFAULT),
            (RW | HpteR::N, Execute, 0, 0, 0, Dsisr::NOEXEC_OR_GUARDED),
            (HpteR::M | HpteR::N, Execute, 0x400, 0, 0, Dsisr::NOEXEC_OR_GUARDED),
            (HpteR::I | HpteR::G | 2, Execute, 0, 0, 0, Dsisr::NOEXEC_OR_GUARDED),
            (RW, Execute, 0x200, 0, 0, Dsisr::NOEXEC_OR_GUARDED),
            (RW | keyed, Read, 0, 1 << 40, 0, Dsisr::KEYFAULT),
            (RW | keyed, Write, 0, 2 << 40, 0, Dsisr::KEYFAULT | Dsisr::ISSTORE),
            (RW | keyed, Execute, 0, 3 << 40, 1 << 40, Dsisr::KEYFAULT),
            (RO | keyed, Write, 0, 3 << 40, 0, Dsisr::KEYFAULT | Dsisr::PROTFAULT | Dsisr::ISSTORE),
        ] {
            for real in [NOWHERE, 3 * UNIT, UNIT] {
                let index = enter(w, real, bits).unwrap();
                let mut access = page.access(0, kind);
                access.slb.0 |= slb;
                access.problem_state = slb & 0x400 != 0;
                (access.amr, access.iamr) = (amr, iamr);
                assert_eq!(w.access(n, &access), Outcome::Reflected(want), "{bits:#x} {kind:?}");
                assert_eq!(w.mmu.xlate(&access), Err(XlateError::Denied(want)));
                w.remove(0, index.0, 0).unwrap();
            }
        }
        // A key that says nothing about this access, or about another key.
        let index = enter(w, UNIT, RW | keyed).unwrap();
        let mut access = page.access(0, Read);
        access.amr = 2 << 40 | 1 << 42 | 1 << 38;
        assert_eq!(w.access(n, &access), Outcome::Done);
        w.remove(0, index.0, 0).unwrap();
    });
}

#[test]
fn resolve_only_what_faulted() {
    each(|w| {
        let (n, store) = first(w, AccessKind::Write);
        let cause = Dsisr::PROTFAULT | Dsisr::ISSTORE;
        let escalate = |w: &World<'_>| match w.mmu.triage(&fault(store, cause)) {
            Triage::Escalate(e) => e,
            other => panic!("{other:?}"),
        };
        let index = enter(w, 2 * UNIT, RW).unwrap();
        let e = escalate(w);
        assert!(
            matches!(w.mmu.resolve(w.m, &e, AccessKind::Write), Resolved::Blocked(v) if v.state() == PageState::Shared)
        );
        // The guest changes its entry, or replaces it.
        w.protect(1, index.0, 0).unwrap();
        assert_eq!(w.mmu.resolve(w.m, &e, AccessKind::Write), Resolved::Changed);
        w.remove(0, index.0, 0).unwrap();
        assert_eq!(w.mmu.resolve(w.m, &e, AccessKind::Write), Resolved::Changed);
        enter(w, UNIT, RW).unwrap();
        assert_eq!(w.mmu.resolve(w.m, &e, AccessKind::Write), Resolved::Changed);
        w.remove(0, index.0, 0).unwrap();
        // R, C and another processor's resolution do not count as a change.
        enter(w, 2 * UNIT, RW).unwrap();
        let e = escalate(w);
        w.access(n, &first(w, AccessKind::Read).1);
        w.move_page(2, true, false);
        w.m.take_tlbies();
        assert_eq!(w.mmu.resolve(w.m, &e, AccessKind::Write), Resolved::Installed);
        assert_eq!(w.m.take_tlbies(), 0, "it moved with its page, with all rights");
        w.access(n, &store);
        assert_eq!(w.mmu.resolve(w.m, &e, AccessKind::Write), Resolved::Installed);
        let bad = Escalation { index: PteIndex(u64::MAX), ..e };
        assert_eq!(w.mmu.resolve(w.m, &bad, AccessKind::Write), Resolved::Changed);
    });
}

#[test]
fn the_old_entry_goes_before_the_new_one_comes() {
    each(|w| {
        let (n, load) = first(w, AccessKind::Read);
        let (_, store) = first(w, AccessKind::Write);
        enter(w, 2 * UNIT, RW).unwrap();
        w.access(n, &load);
        // In place: the read-only translation that the TLB remembers has to go.
        w.move_page(2, true, true);
        w.m.take_tlbies();
        assert_eq!(w.access(n, &store), Outcome::Done);
        assert_eq!(w.m.take_tlbies(), 1);
    });
}

#[test]
fn reading_does_not_unshare() {
    each(|w| {
        let (n, load) = first(w, AccessKind::Read);
        let index = enter(w, 2 * UNIT, RW).unwrap();
        assert_eq!(w.access(n, &load), Outcome::Done);
        assert_eq!(w.access(n, &first(w, AccessKind::Execute).1), Outcome::Done);
        w.xlate(n, &load);
        let view = w.mmu.page_view(GuestReal(2 * UNIT)).unwrap();
        assert_eq!(view.state(), PageState::Shared);
        assert!(!w.mmu.read(index).unwrap().1.any(HpteR::C));
        assert!(w.mmu.read(index).unwrap().1.any(HpteR::R));
        let usage = w.mmu.harvest(w.m, GuestReal(2 * UNIT)).unwrap();
        assert_eq!(usage, Usage { referenced: true, changed: false });
        assert_eq!(w.access(n, &first(w, AccessKind::Write).1), Outcome::Done);
        assert_eq!(w.mmu.page_view(GuestReal(2 * UNIT)).unwrap().state(), PageState::Private);
    });
}

#[test]
fn xlate_marks_stores_only() {
    each(|w| {
        let (n, load) = first(w, AccessKind::Read);
        let (_, store) = first(w, AccessKind::Write);
        assert_eq!(w.mmu.xlate(&load), Err(XlateError::NotFound(Dsisr::NOHPTE)));
        assert_eq!(w.mmu.xlate(&store), Err(XlateError::NotFound(Dsisr::NOHPTE | Dsisr::ISSTORE)));
        let index = enter(w, UNIT, RW).unwrap();
        w.xlate(n, &load);
        w.xlate(n, &first(w, AccessKind::Execute).1);
        assert!(!w.mmu.read(index).unwrap().1.any(HpteR::C));
        w.xlate(n, &store);
        assert!(w.mmu.read(index).unwrap().1.any(HpteR::C));
        let page = w.mmu.slots().page(GuestReal(UNIT)).unwrap();
        assert_eq!(page.usage(), Usage { referenced: true, changed: true });
        w.remove(0, index.0, 0).unwrap();
        // Neither a device nor nothing is memory.
        for real in [DEVICE_I, NOWHERE] {
            let index = enter(w, real, HpteR::I | 2).unwrap();
            let t = w.mmu.xlate(&store).unwrap();
            assert_eq!((t.real, t.size, t.memory), (GuestReal(real), PageSize::K4, None));
            w.mmu.remove(w.m, 0, index, 0).unwrap();
            w.clear();
        }
    });
}

#[test]
fn guests_miss_what_has_no_slot() {
    each(|w| {
        let (n, load) = first(w, AccessKind::Read);
        enter(w, NOWHERE, HpteR::I | HpteR::G | 2).unwrap();
        assert_eq!(w.access(n, &load), Outcome::Mmio);
        assert_eq!(w.access(n, &first(w, AccessKind::Write).1), Outcome::Mmio);
    });
}

#[test]
fn backing_changes_reach_every_entry() {
    each(|w| {
        // Entries of several sizes for one page.
        let mut entries = Vec::new();
        for (base, actual) in
            [(PageSize::K4, PageSize::K4), (PageSize::K64, PageSize::K64), (PageSize::K4, PageSize::K64)]
        {
            let (n, page) = va(w, base, actual);
            let (v, index) = page.place(false);
            entries.push((n, page, w.enter(Some(n), 0, index, v, page.r(UNIT, RW)).unwrap()));
        }
        let all = |w: &mut World<'_>, kind: AccessKind| {
            for (n, page, _) in &entries {
                assert_eq!(w.access(*n, &page.access(0, kind)), Outcome::Done);
            }
        };
        let seen = |w: &World<'_>| entries.iter().filter(|e| hardware(w, e.2).0 == HpteV::V).count();
        all(w, AccessKind::Write);
        w.m.take_tlbies();
        w.make_shared(1);
        assert_eq!(w.m.take_tlbies(), 3);
        w.check();
        all(w, AccessKind::Read);
        w.move_page(1, false, false);
        assert_eq!(w.m.take_tlbies(), 3);
        all(w, AccessKind::Read);
        assert_eq!(w.m.take_tlbies(), 0);
        w.move_page(1, true, false);
        all(w, AccessKind::Write);
        w.m.take_tlbies();
        w.protect_page(1, Protection::ReadOnly);
        assert_eq!(w.m.take_tlbies(), 3);
        w.protect_page(1, Protection::None);
        assert_eq!((w.m.take_tlbies(), seen(w)), (3, 0));
        w.protect_page(1, Protection::ReadWrite);
        assert_eq!((w.m.take_tlbies(), seen(w)), (0, 0), "rights come back with the next fault");
        all(w, AccessKind::Write);
        assert_eq!(seen(w), 3);
        w.harvest(1);
        w.discard(1);
        assert_eq!(seen(w), 0);
        all(w, AccessKind::Read);
        all(w, AccessKind::Write);
    });
}

#[test]
fn backing_changes_need_the_right_state() {
    each(|w| {
        let at = |n: u64| GuestReal(n * UNIT);
        let host = HostReal(0x5000_0000);
        let wrong = |r: Result<HostReal, BackingError>| matches!(r, Err(BackingError::WrongState(_)));
        assert!(matches!(w.mmu.populate(at(1), PageState::Private, host), Err(BackingError::WrongState(_))));
        assert!(matches!(
            w.mmu.populate(at(3), PageState::NotPopulated, host),
            Err(BackingError::WrongState(_))
        ));
        assert!(wrong(w.mmu.make_private(w.m, at(1), host)));
        assert!(wrong(w.mmu.move_shared(w.m, at(1), host)));
        assert!(wrong(w.mmu.make_shared(w.m, at(3))));
        assert!(matches!(w.mmu.discard(w.m, at(3)), Err(BackingError::WrongState(_))));
        let crooked = HostReal(host.0 + 0x1000);
        assert_eq!(w.mmu.populate(at(3), PageState::Private, crooked), Err(BackingError::Misaligned));
        assert_eq!(w.mmu.make_private(w.m, at(2), crooked), Err(BackingError::Misaligned));
        assert_eq!(w.mmu.discard(w.m, GuestReal(NOWHERE)), Err(BackingError::NoPage));
        assert_eq!(w.mmu.harvest(w.m, GuestReal(DEVICE_I)), Err(BackingError::NoPage));
        assert_eq!(
            w.mmu.set_protection(w.m, GuestReal(NOWHERE), Protection::None),
            Err(BackingError::NoPage)
        );
    });
}

#[test]
fn cleared_is_empty() {
    each(|w| {
        enter(w, UNIT, RW).unwrap();
        w.insert_vrma(w.vas.iter().position(|v| v.is_vrma()).unwrap());
        assert!(w.mmu.hpt().occupancy() != Occupancy::default());
        w.clear();
        assert_eq!(w.mmu.hpt().occupancy(), Occupancy::default());
        assert!(!w.mmu.slots().page(GuestReal(UNIT)).unwrap().is_mapped());
        // What backs it is still there.
        assert_eq!(w.mmu.page_view(GuestReal(UNIT)).unwrap().state(), PageState::Private);
    });
}

#[test]
fn ram_that_comes_later_is_found_by_the_fault() {
    for format in super::unit::BOTH {
        with_world(format, false, |w| {
            let (n, store) = first(w, AccessKind::Write);
            let _ = n;
            let index = enter(w, NOWHERE, RW).unwrap();
            let pages = [Page::default()];
            let mut slots = w.mmu.slots().clone();
            slots.add(Slot { base: GuestReal(NOWHERE), len: UNIT, kind: SlotKind::Ram(&pages) }).unwrap();
            let mmu = GuestMmu::new(w.mmu.hpt(), &slots);
            mmu.populate(GuestReal(NOWHERE), PageState::Private, HostReal(0x7_0000_0000)).unwrap();
            let cause = w.m.access(&store).unwrap_err();
            let Triage::Escalate(e) = mmu.triage(&fault(store, cause)) else { panic!() };
            assert_eq!(mmu.resolve(w.m, &e, AccessKind::Write), Resolved::Installed);
            assert_eq!(w.m.access(&store), Ok(HostReal(0x7_0000_0000)));
            mmu.discard(w.m, GuestReal(NOWHERE)).unwrap();
            assert!(w.m.access(&store).is_err());
            mmu.remove(w.m, 0, index, 0).unwrap();
            assert!(!pages[0].is_mapped());
        });
    }
}

#[test]
fn nothing_matches_a_segment_that_is_not_offered() {
    each(|w| {
        enter(w, UNIT, RW).unwrap();
        let (_, mut access) = first(w, AccessKind::Read);
        access.slb.0 |= 0x120;
        assert_eq!(w.mmu.xlate(&access), Err(XlateError::NotFound(Dsisr::NOHPTE)));
        access.slb.0 ^= 0x120 ^ 0x110;
        assert_eq!(w.mmu.xlate(&access), Err(XlateError::NotFound(Dsisr::NOHPTE)), "base page size differs");
        access.slb.0 ^= 0x110 | 1 << 62;
        access.ea = Ea(0);
        assert_eq!(w.mmu.xlate(&access), Err(XlateError::NotFound(Dsisr::NOHPTE)), "segment size differs");
        // Segments of both sizes can have a page with the same hash and AVPN; B alone tells them apart.
        let v = avpn(0x800, SegmentSize::T1, PageSize::K4, 0);
        assert_eq!(v.0 & HpteV::AVPN, avpn(0x80_0000, SegmentSize::M256, PageSize::K4, 0).0);
        w.enter(None, 0, PteIndex(0), v, HpteR(UNIT | RW)).unwrap();
        access.slb.0 = 1 << 62 | 0x800 << 24;
        assert!(w.mmu.xlate(&access).is_ok());
        w.m.access(&access).unwrap();
        access.slb.0 = 0x80_0000 << 12;
        assert_eq!(w.mmu.xlate(&access), Err(XlateError::NotFound(Dsisr::NOHPTE)), "B");
        w.clear();
    });
}
