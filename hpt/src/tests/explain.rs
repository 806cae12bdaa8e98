//! What is said about translations, and figures about the table. That an explanation agrees with what an access does is checked at
//! each access of the other tests ([`super::guest`]).

use power::regs::Dsisr;
use power::slb::SlbV;
use power::{Ea, HpteR, HpteV, PageSize, PteIndex};

use super::unit::{each, enter, va};
use super::world::{DEVICE_I, GROUPS, NOWHERE, World};
use crate::*;

const RW: u64 = HpteR::M | 2;
const UNIT: u64 = 1 << 16;

fn explain(w: &World<'_>) -> Explanation {
    let access = va(w, PageSize::K4, PageSize::K4).1.access(0x123, AccessKind::Read);
    let used = w.mmu.hpt().occupancy();
    let told = w.mmu.explain(&access).unwrap();
    assert_eq!(w.mmu.hpt().occupancy(), used);
    told
}

#[test]
fn the_way_to_an_entry() {
    each(|w| {
        let page = va(w, PageSize::K4, PageSize::K4).1;
        let hash = pteg_hash(page.slb.vsid(), page.slb.segment(), page.base, page.offset);
        let told = explain(w);
        assert_eq!((told.hash, told.entry, told.real), (hash, None, None));
        assert_eq!(told.avpn, avpn(page.slb.vsid(), page.slb.segment(), page.base, page.offset));
        let store = Dsisr::NOHPTE | Dsisr::ISSTORE;
        assert_eq!(told.effects, [Dsisr::NOHPTE, store, Dsisr::NOHPTE].map(Effect::Interrupt));
        let index = enter(w, UNIT, RW).unwrap();
        let told = explain(w);
        let mask = GROUPS as u64 - 1;
        let groups = [(hash & mask, 1), (!hash & mask, 0)].map(|(group, used)| (PteIndex(group << 3), used));
        assert_eq!(told.groups, groups);
        let entry = told.entry.unwrap();
        assert_eq!((entry.index, entry.size, entry.valid), (index, PageSize::K4, true));
        assert_eq!(entry.guest, w.mmu.read(index).unwrap());
        assert_eq!(told.real.unwrap().0, UNIT + 0x123);
        let (v, r) = w.mmu.hpt().format().from_memory(entry.memory.0, entry.memory.1);
        assert_eq!((v, r), w.mmu.hpt().peek(index).unwrap());
        assert!(v.any(HpteV::V) && r.0 & HpteR::RPN == w.pages[1].host);
        // No R or C from being looked at.
        assert_eq!(w.mmu.read(index).unwrap().1.0 & (HpteR::R | HpteR::C), 0);
    });
}

#[test]
fn what_comes_of_an_access() {
    use Effect::*;
    let denied = Interrupt(Dsisr::PROTFAULT | Dsisr::ISSTORE);
    each(|w| {
        for (real, bits, effects) in [
            (UNIT, RW, [Allowed; 3]),
            (UNIT, RW | 3, [Allowed, denied, Allowed]),
            (UNIT, RW | HpteR::N, [Allowed, Allowed, Interrupt(Dsisr::NOEXEC_OR_GUARDED)]),
            (2 * UNIT, RW, [Allowed, Unshare, Allowed]),
            (3 * UNIT, RW, [Populate; 3]),
            (4 * UNIT, RW, [Allowed, Protected, Allowed]),
            (5 * UNIT, RW, [Protected; 3]),
            (DEVICE_I, HpteR::I | 2, [Allowed; 3]),
            (NOWHERE, HpteR::I | 2, [Emulate, Emulate, MachineCheck]),
            (NOWHERE, RW, [MachineCheck; 3]),
        ] {
            let index = enter(w, real, bits).unwrap();
            assert_eq!(explain(w).effects, effects, "{real:#x} {bits:#x}");
            w.remove(0, index.0, 0).unwrap();
        }
        // The page has got its memory since.
        let index = enter(w, 3 * UNIT, RW).unwrap();
        w.populate(3, PageState::Private);
        assert_eq!(explain(w).effects, [Install; 3]);
        w.remove(0, index.0, 0).unwrap();
    });
}

#[test]
fn the_real_mode_area_needs_no_entry() {
    each(|w| {
        let mut access = va(w, PageSize::K4, PageSize::K4).1.access(0, AccessKind::Read);
        access.slb = SlbV::vrma(PageSize::K64);
        for (real, effect) in [
            (UNIT + 5, Effect::Install),
            (3 * UNIT, Effect::Populate),
            (DEVICE_I, Effect::MachineCheck),
            (NOWHERE, Effect::MachineCheck),
        ] {
            access.ea = Ea(real);
            let told = w.mmu.explain(&access).unwrap();
            assert_eq!((told.real.unwrap().0, told.effects), (real, [effect; 3]));
        }
        access.slb.0 |= 0x130;
        assert!(matches!(w.mmu.explain(&access), Err(XlateError::NotFound(_))));
    });
}

#[test]
fn figures() {
    each(|w| {
        let mut by_use = [0; 9];
        by_use[0] = GROUPS;
        assert_eq!((w.mmu.hpt().groups_by_use(), w.mmu.chains()), (by_use, Chains::default()));
        // Five pages of the same group, two of them for the same memory, and one where there is none.
        let pages: Vec<usize> =
            (0..w.vas.len()).filter(|n| w.vas[*n].actual == PageSize::K4).take(5).collect();
        let (mut groups, mut indices) = (std::collections::HashMap::new(), Vec::new());
        for (n, real) in pages.into_iter().zip([UNIT, 2 * UNIT, 3 * UNIT, UNIT, NOWHERE]) {
            let (v, group) = w.vas[n].place(false);
            let index = w.enter(Some(n), 0, group, v, w.vas[n].r(real, RW)).unwrap();
            *groups.entry(index.group()).or_insert(0) += 1;
            indices.push(index);
        }
        by_use[0] -= groups.len();
        groups.values().for_each(|used: &usize| by_use[*used] += 1);
        assert_eq!(w.mmu.hpt().groups_by_use(), by_use);
        assert_eq!(w.mmu.chains(), Chains { pages: 3, entries: 4, longest: 2 });
        for index in indices {
            w.remove(0, index.0, 0).unwrap();
        }
        assert_eq!(w.mmu.chains(), Chains::default());
    });
}
