//! One test per behaviour of the sparse reverse map, snapshots, clones and tables of another size.

use power::hcall::flags as f;
use power::regs::Dsisr;
use power::{Ea, GuestReal, HostReal, HpteR, HpteV, PageSize, PteIndex};

use super::mock::Mock;
use super::unit::{BOTH, each, enter, hardware, va};
use super::world::{DEVICE_I, GROUPS, NOWHERE, Outcome, Va, World, with_world, with_world_in};
use crate::*;

const RW: u64 = HpteR::M | 2;
const RC: u64 = HpteR::R | HpteR::C;
const UNIT: u64 = 1 << 16;
const V: u64 = HpteV::V;
const ABSENT: u64 = HpteV::ABSENT;

/// A table of this size for a partition's slots, with memory for so many blocks of the reverse map.
fn with_table<T>(
    w: &World<'_>,
    groups: usize,
    blocks: usize,
    body: impl FnOnce(GuestMmu<'_>, Mock<'_>) -> T,
) -> T {
    let table: Vec<Pteg> = (0..groups).map(|_| Pteg::default()).collect();
    let words: Vec<RevWord> = (0..groups).map(|_| RevWord::default()).collect();
    let reserve = Reserve::default();
    let hpt = Hpt::new(&table, &words, &reserve, w.m.format).unwrap();
    (0..blocks).for_each(|_| hpt.add_groups(Box::leak(Box::default())));
    body(GuestMmu::new(&hpt, w.mmu.slots()), Mock::new(&table, w.m.format, w.m.memory.clone()))
}

fn add_log(w: &World<'_>) {
    w.mmu.hpt().add_log(Box::leak(Box::default()));
}

/// The first two virtual pages of 4 KiB, for stores.
fn stores(w: &World<'_>) -> [(usize, Access); 2] {
    let small: Vec<usize> = (0..w.vas.len()).filter(|n| w.vas[*n].actual == PageSize::K4).take(2).collect();
    [0, 1].map(|i| (small[i], w.vas[small[i]].access(0, AccessKind::Write)))
}

fn enter_other(w: &mut World<'_>, real: u64, bits: u64) -> PteIndex {
    let (n, _) = stores(w)[1];
    let (v, group) = w.vas[n].place(true);
    w.enter(Some(n), 0, group, v, w.vas[n].r(real, bits)).unwrap()
}

// ---- the sparse reverse map ----

#[test]
fn groups_get_their_part_when_they_are_needed() {
    each(|w| {
        with_table(w, GROUPS, 0, |mmu, m| {
            let hpt = mmu.hpt();
            let (v, r) = (HpteV(5 << 12), HpteR(UNIT | RW));
            assert!(hpt.needs_groups() && !hpt.needs_log());
            for flags in [0, f::EXACT, f::ZERO_PAGE] {
                assert_eq!(mmu.enter(&m, flags, PteIndex(8), v, r), Err(HptError::TooHard));
            }
            assert_eq!(mmu.insert_vrma(&m, PageSize::K64, Ea(UNIT)), Err(HptError::TooHard));
            assert_eq!((hpt.occupancy(), hpt.groups_used()), (Occupancy::default(), 0));
            // What is not there needs none to be told so.
            assert_eq!(mmu.read(PteIndex(8)), Ok((HpteV(0), HpteR(0))));
            assert_eq!(mmu.remove(&m, 0, PteIndex(8), 0), Err(HptError::NotFound));
            assert_eq!(mmu.protect(&m, 2, PteIndex(8), 0), Err(HptError::NotFound));
            let mut words = [1 << 62 | 8, 0, 1 << 62 | GROUPS as u64 * 8, 0, 3 << 62, 0, 0, 0];
            assert_eq!(mmu.bulk_remove(&m, &mut words), Err(HptError::Parameter));
            assert_eq!((words[0] >> 60, words[2] >> 60), (9, 10));
            hpt.add_groups(Box::leak(Box::default()));
            // Nor does an entry that is refused.
            assert_eq!(mmu.enter(&m, 0, PteIndex(8), v, HpteR(DEVICE_I | RW)), Err(HptError::Parameter));
            assert_eq!(hpt.groups_used(), 0);
            for (n, used) in [(8, 1), (9, 1), (16, 2), (24, 3), (32, 4), (40, 5)] {
                assert!(!hpt.needs_groups());
                mmu.enter(&m, 0, PteIndex(n), v, r).unwrap();
                assert_eq!(hpt.groups_used(), used);
            }
            assert!(hpt.needs_groups(), "a block has {}", RevBlock::ITEMS);
            assert_eq!(mmu.enter(&m, 0, PteIndex(48), v, r), Err(HptError::TooHard));
            mmu.enter(&m, 0, PteIndex(16), v, r).unwrap();
            for _ in 0..2 {
                hpt.add_groups(Box::leak(Box::default()));
            }
            for n in 6..16 {
                mmu.enter(&m, 0, PteIndex(n * 8), v, r).unwrap();
            }
            assert!(hpt.needs_groups());
            // All comes back at once, and clean.
            mmu.clear();
            assert_eq!((hpt.groups_used(), hpt.needs_groups()), (0, false));
            assert_eq!(mmu.chains(), Chains::default());
            for n in 20..35 {
                mmu.enter(&m, 0, PteIndex(n * 8), v, r).unwrap();
            }
            assert_eq!((hpt.occupancy().valid, hpt.needs_groups()), (15, true));
            let nowhere = HpteR(NOWHERE | RW);
            assert_eq!(mmu.enter(&m, f::EXACT, PteIndex(20 * 8 + 7), v, nowhere), Ok(PteIndex(20 * 8 + 7)));
            assert_eq!(mmu.chains(), Chains { pages: 1, entries: 15, longest: 15 });
            mmu.clear();
        });
        assert!(
            Hpt::new(w.m.groups, &[RevWord::default()], &Reserve::new(), w.m.format).is_none(),
            "one word per group"
        );
    });
}

#[test]
fn a_group_that_comes_again_is_on_no_chain() {
    each(|w| {
        let index = enter(w, UNIT, RW).unwrap();
        w.clear();
        // The same part of the reverse map, another entry of it, which is on no chain.
        let (n, page) = va(w, PageSize::K4, PageSize::K4);
        let (v, _) = page.place(false);
        let exact = PteIndex(index.0 ^ 7);
        w.enter(Some(n), f::EXACT, exact, v, page.r(UNIT, RW)).unwrap();
        w.enter(None, f::EXACT, index, HpteV(0x7700_0000), HpteR(NOWHERE | RW)).unwrap();
        w.check();
        w.remove(0, index.0, 0).unwrap();
        w.check();
    });
}

// ---- snapshots ----

#[test]
fn a_frozen_table_changes_only_with_a_log() {
    each(|w| {
        let index = enter(w, UNIT, RW | RC).unwrap();
        let before = w.mmu.read(index).unwrap();
        w.mmu.hpt().freeze_all();
        assert!(w.mmu.hpt().needs_log());
        let hard = Err(HptError::TooHard);
        let (v, r) = (HpteV(0x77_0000), HpteR(UNIT | RW));
        let mut words = [1 << 62 | index.0, 0, 3 << 62, 0, 0, 0, 0, 0];
        let asked = words;
        assert_eq!(w.mmu.enter(w.m, 0, index, v, r), hard);
        assert_eq!(w.mmu.enter(w.m, 0, PteIndex(index.0 ^ 0x800), v, r), hard);
        assert_eq!(w.mmu.remove(w.m, 0, index, 0).map(|_| PteIndex(0)), hard);
        assert_eq!(w.mmu.protect(w.m, 3, index, 0).map(|_| PteIndex(0)), hard);
        assert_eq!(w.mmu.clear_mod(w.m, index).map(|_| PteIndex(0)), hard);
        assert_eq!(w.mmu.clear_ref(w.m, index).map(|_| PteIndex(0)), hard);
        assert_eq!(w.mmu.bulk_remove(w.m, &mut words).map(|_| PteIndex(0)), hard);
        assert_eq!(words, asked);
        assert_eq!(w.mmu.insert_vrma(w.m, PageSize::K64, Ea(UNIT)), hard);
        assert_eq!((w.mmu.read(index), w.mmu.hpt().logged()), (Ok(before), 0));
        assert_eq!(w.mmu.hpt().occupancy().valid, 1);
        // What the guest does not see needs none: faults, changes of backing, and being asked.
        w.access(stores(w)[0].0, &stores(w)[0].1);
        w.make_shared(1);
        w.access(stores(w)[0].0, &stores(w)[0].1);
        w.harvest(1);
        w.discard(1);
        assert_eq!(w.mmu.hpt().logged(), 0);
        // Once is enough for a group.
        add_log(w);
        w.mmu.protect(w.m, 3, index, 0).unwrap();
        w.mmu.protect(w.m, 1, index, 0).unwrap();
        w.mmu.remove(w.m, 0, index, 0).unwrap();
        assert_eq!((w.mmu.hpt().logged(), w.mmu.hpt().needs_log()), (1, false));
        w.mmu.hpt().unfreeze_all();
        assert_eq!((w.mmu.hpt().logged(), w.mmu.hpt().is_frozen()), (0, false));
        w.clear();
    });
}

#[test]
fn bulk_remove_wants_the_log_for_all_first() {
    each(|w| {
        let all: Vec<PteIndex> = (1..=4)
            .map(|n| w.enter(None, 0, PteIndex(n * 8), HpteV(n << 12), HpteR(UNIT | RW)).unwrap())
            .collect();
        w.mmu.hpt().freeze_all();
        add_log(w);
        assert_eq!(LogBlock::ITEMS, 3, "which is not enough");
        let mut words = [0; 8];
        for (i, index) in all.iter().enumerate() {
            words[2 * i] = 1 << 62 | index.0;
        }
        let asked = words;
        assert_eq!(w.mmu.bulk_remove(w.m, &mut words), Err(HptError::TooHard));
        assert_eq!((words, w.mmu.hpt().occupancy().valid), (asked, 4));
        add_log(w);
        assert_eq!(w.mmu.bulk_remove(w.m, &mut words), Ok(()));
        assert_eq!((w.mmu.hpt().occupancy().valid, w.mmu.hpt().logged()), (0, 4));
        w.mmu.revert();
        w.check();
    });
}

#[test]
fn revert_brings_back_what_the_guest_saw() {
    each(|w| {
        let [(n, store), _] = stores(w);
        let index = enter(w, UNIT, RW).unwrap();
        w.access(n, &store);
        let gone = enter_other(w, 2 * UNIT, RW | HpteR::R);
        let (k, page) = va(w, PageSize::K64, PageSize::K64);
        let (v, group) = page.place(false);
        let device = w.enter(Some(k), 0, group, v, page.r(DEVICE_I, HpteR::I | RC | 2)).unwrap();
        let missing = w.enter(None, 0, PteIndex(0), HpteV(0x88_0000), HpteR(3 * UNIT | RW)).unwrap();
        w.take_snapshot();
        let all = [index, gone, device, missing];
        let seen = all.map(|at| w.mmu.read(at).unwrap());
        assert_eq!(seen[0].1.0 & RC, RC, "with what has been harvested");
        // Each way to change.
        w.protect(3, index.0, 0).unwrap();
        w.clear_usage(index.0, true);
        w.remove(0, gone.0, 0).unwrap();
        let (v, _) = w.vas[stores(w)[1].0].place(true);
        let other = w.enter(None, f::EXACT, gone, HpteV(v.0 ^ 0x1000), HpteR(UNIT | RW)).unwrap();
        assert_eq!(other, gone, "another in the same place");
        w.remove(0, device.0, 0).unwrap();
        w.remove(0, missing.0, 0).unwrap();
        let new = w.enter(None, 0, PteIndex(0x600), HpteV(0x99_0000), HpteR(UNIT | RW)).unwrap();
        w.populate(3, PageState::Private);
        let logged = w.mmu.hpt().logged();
        assert!((4..=5).contains(&logged));
        w.m.flush();
        w.mmu.revert();
        assert_eq!(all.map(|at| w.mmu.read(at).unwrap()), seen, "R and C, too");
        assert_eq!(w.mmu.read(new).unwrap(), (HpteV(0), HpteR(0)));
        // As the pages are now.
        assert_eq!(hardware(w, missing).0, V, "its page was populated");
        assert_eq!((hardware(w, device).0, hardware(w, index).1.pp()), (V, 3));
        // Frozen again: the same once more, now with the pages.
        assert!(w.mmu.hpt().is_frozen() && w.mmu.hpt().logged() == 0);
        w.mmu.remove(w.m, 0, index, 0).unwrap();
        assert_eq!(w.mmu.hpt().logged(), 1);
        w.revert();
        assert_eq!(hardware(w, missing).0, ABSENT);
        assert_eq!(all.map(|at| w.mmu.read(at).unwrap()), seen);
        w.check();
        assert_eq!(w.access(n, &store), Outcome::Done);
        // A snapshot again forgets what was logged for the first.
        w.remove(0, index.0, 0).unwrap();
        w.take_snapshot();
        assert_eq!(w.mmu.hpt().logged(), 0);
        w.revert();
        assert_eq!(w.mmu.read(index).unwrap(), (HpteV(0), HpteR(0)));
    });
}

/// The same virtual page, leading elsewhere or with other rights.
#[test]
fn revert_brings_back_where_an_entry_led() {
    each(|w| {
        let [(n, store), _] = stores(w);
        let index = enter(w, UNIT, RW | HpteR::N).unwrap();
        w.populate(0, PageState::Private);
        w.take_snapshot();
        let was = hardware(w, index);
        w.protect(3, index.0, 0).unwrap();
        w.revert();
        assert_eq!(hardware(w, index), was);
        w.remove(0, index.0, 0).unwrap();
        let (v, _) = w.vas[n].place(false);
        w.enter(Some(n), f::EXACT, index, v, w.vas[n].r(0, RW)).unwrap();
        assert_eq!(w.access(n, &store), Outcome::Done);
        w.revert();
        assert_eq!(hardware(w, index), was);
        w.check();
    });
}

#[test]
fn nothing_is_logged_in_vain() {
    each(|w| {
        with_table(w, GROUPS, 0, |mmu, m| {
            mmu.hpt().freeze_all();
            mmu.hpt().add_log(Box::leak(Box::default()));
            let r = HpteR(NOWHERE | RW);
            assert_eq!(mmu.enter(&m, 0, PteIndex(0), HpteV(5 << 12), r), Err(HptError::TooHard));
            assert_eq!(mmu.hpt().logged(), 0);
            mmu.hpt().add_groups(Box::leak(Box::default()));
            mmu.enter(&m, 0, PteIndex(0), HpteV(5 << 12), r).unwrap();
            assert_eq!(mmu.hpt().logged(), 1);
            mmu.revert();
            assert_eq!(mmu.hpt().occupancy(), Occupancy::default());
        });
    });
}

#[test]
fn revert_loses_no_store() {
    each(|w| {
        let [(n, store), _] = stores(w);
        let index = enter(w, UNIT, RW).unwrap();
        // An entry that stays what it was, and one that does not.
        for flags in [2, 1] {
            w.take_snapshot();
            w.harvest(1);
            w.protect(flags, index.0, 0).unwrap();
            w.access(n, &store);
            w.m.flush();
            w.mmu.revert();
            // The guest's entry knows nothing of it any more, the page does.
            assert!(!w.mmu.read(index).unwrap().1.any(RC));
            let usage = w.mmu.usage_now(GuestReal(UNIT)).unwrap();
            assert_eq!(usage, Usage { referenced: true, changed: true });
            w.revert();
        }
    });
}

// ---- clones ----

#[test]
fn a_clone_reads_the_same_and_writes_its_own() {
    for format in BOTH {
        with_world(format, false, |w| {
            with_world_in(w.m.memory.clone(), format, false, |c| {
                w.populate(1, PageState::Private);
                w.populate(4, PageState::Private);
                w.protect_page(4, Protection::None);
                let [(n, store), (_, other)] = stores(w);
                let index = enter(w, UNIT, RW).unwrap();
                let closed = enter_other(w, 4 * UNIT, RW);
                let (k, page) = va(w, PageSize::K64, PageSize::K64);
                let (v, group) = page.place(true);
                let device = w.enter(Some(k), 0, group, v, page.r(DEVICE_I, HpteR::I | 2)).unwrap();
                w.access(k, &page.access(0, AccessKind::Write));
                let (_, junk) = w.vas[3].place(false);
                let nowhere = w.enter(None, 0, junk, HpteV(0x9999_0000), HpteR(NOWHERE | RW)).unwrap();
                w.access(n, &store);
                w.clone_to(c);
                let view = c.mmu.page_view(GuestReal(UNIT)).unwrap();
                assert_eq!(Some(view), w.mmu.page_view(GuestReal(UNIT)));
                assert_eq!((hardware(w, index).1.pp(), hardware(c, index).1.pp()), (3, 3));
                for at in [index, closed, device, nowhere] {
                    assert_eq!(c.mmu.read(at), w.mmu.read(at));
                }
                assert_eq!(w.mmu.read(device).unwrap().1.0 & RC, RC);
                for at in [device, closed, nowhere] {
                    assert_eq!(hardware(c, at).0, ABSENT);
                }
                assert_eq!(hardware(w, device).0, V, "stays with its partition");
                let open = c.mmu.page_view(GuestReal(4 * UNIT)).unwrap();
                assert_eq!((open.protection(), open.state()), (Protection::ReadWrite, PageState::Shared));
                // Once more, for a third.
                with_world_in(w.m.memory.clone(), format, false, |third| {
                    w.clone_to(third);
                    assert_eq!(third.access(n, &store), Outcome::Done);
                    third.vacate();
                });
                assert_eq!(c.access(n, &store), Outcome::Done);
                assert_eq!(w.access(n, &store), Outcome::Done);
                assert_eq!(c.access(stores(c)[1].0, &other), Outcome::Done);
                // Its chain is its own.
                c.remove(0, index.0, 0).unwrap();
                assert!(!c.mmu.slots().page(GuestReal(UNIT)).unwrap().is_mapped());
                assert!(w.mmu.slots().page(GuestReal(UNIT)).unwrap().is_mapped());
                w.check();
                c.check();
            });
        });
    }
}

#[test]
fn only_what_is_alike_is_cloned() {
    each(|w| {
        let index = enter(w, UNIT, RW).unwrap();
        let before = (hardware(w, index), w.mmu.page_view(GuestReal(UNIT)));
        let refuse = |to: &GuestMmu<'_>, why| {
            let done = w.mmu.clone_into(to, &mut |_, _| panic!("nothing is shared"));
            assert_eq!(done, Err(why));
            assert_eq!(before, (hardware(w, index), w.mmu.page_view(GuestReal(UNIT))));
        };
        refuse(&w.mmu, CloneError::NotAlike);
        with_table(w, GROUPS, 0, |mmu, _| refuse(&mmu, CloneError::NoGroups));
        with_table(w, GROUPS * 2, 1, |mmu, _| refuse(&mmu, CloneError::NotAlike));
        with_table(w, GROUPS, 1, |mmu, m| {
            refuse(&GuestMmu::new(mmu.hpt(), &Slots::new(false)), CloneError::NotAlike);
            mmu.hpt().freeze_all();
            refuse(&mmu, CloneError::NotAlike);
            mmu.hpt().unfreeze_all();
            mmu.enter(&m, 0, PteIndex(0), HpteV(5 << 12), HpteR(NOWHERE | RW)).unwrap();
            refuse(&mmu, CloneError::NotAlike);
        });
        let format = BOTH[usize::from(w.m.format == BOTH[0])];
        with_world(format, false, |other| refuse(&other.mmu, CloneError::NotAlike));
    });
}

#[test]
fn a_clone_of_a_frozen_partition_is_not_frozen() {
    each(|w| {
        let format = w.m.format;
        let index = enter(w, UNIT, RW).unwrap();
        w.take_snapshot();
        with_world_in(w.m.memory.clone(), format, false, |c| {
            w.clone_to(c);
            c.remove(0, index.0, 0).unwrap();
            assert_eq!((c.mmu.hpt().logged(), c.mmu.hpt().is_frozen()), (0, false));
            c.vacate();
        });
        w.remove(0, index.0, 0).unwrap();
        assert_eq!(w.mmu.hpt().logged(), 1);
        w.revert();
    });
}

// ---- a table of another size ----

/// Virtual pages of every kind that share no group's number by chance, bolted or not.
fn many(huge: bool) -> Vec<Va> {
    super::world::universe(huge).into_iter().filter(|va| !va.is_vrma()).collect()
}

#[test]
fn bolted_entries_come_along() {
    for (format, huge) in [(BOTH[0], false), (BOTH[1], false), (BOTH[0], true), (BOTH[1], true)] {
        for groups in [GROUPS, 4 * GROUPS] {
            with_world(format, huge, |w| {
                w.populate(0, PageState::Private);
                w.populate(1, PageState::Shared);
                let unit = w.unit;
                // One in three stays behind; every second is found by the secondary hash.
                let pages = many(huge);
                let mut kept = Vec::new();
                for (i, page) in pages.iter().enumerate() {
                    let (v, group) = page.place(i % 2 == 1);
                    let bolted = if i % 3 == 0 { 0 } else { HpteV::BOLTED };
                    let real = [0, unit, 2 * unit, NOWHERE][i % if huge { 3 } else { 4 }];
                    let v = HpteV(v.0 | bolted);
                    let Ok(at) = w.enter(Some(i), 0, group, v, page.r(real, RW)) else { continue };
                    if bolted != 0 {
                        kept.push((i, at, w.mmu.read(at).unwrap()));
                    }
                }
                w.access(kept[0].0, &pages[kept[0].0].access(0, AccessKind::Write));
                let stored =
                    kept.iter().map(|(_, at, _)| w.mmu.read(*at).unwrap().1.0 & RC).collect::<Vec<_>>();
                w.m.flush();
                with_table(w, groups, 20, |mmu, m| {
                    w.mmu.rehash_into(&mmu).unwrap();
                    let used = mmu.hpt().occupancy();
                    assert_eq!((used.valid + used.absent, used.bolted), (kept.len(), kept.len()));
                    let on_chains = kept.iter().filter(|(_, _, (_, r))| r.0 & HpteR::RPN < NOWHERE).count();
                    assert_eq!(mmu.chains().entries, on_chains);
                    for (n, (i, old, (v, r))) in kept.iter().enumerate() {
                        let access = pages[*i].access(0, AccessKind::Read);
                        let found = mmu.xlate(&access).unwrap();
                        let (new_v, new_r) = mmu.read(found.index).unwrap();
                        assert_eq!((new_v, new_r.0 | HpteR::R), (*v, r.0 | stored[n] | HpteR::R));
                        if groups == GROUPS {
                            assert_eq!(found.index, *old, "nothing moves for nothing");
                        }
                        assert_eq!(found.index.0 & 7, old.0 & 7, "there was room");
                        // And so says the hardware, of pages that there are.
                        let seen = m.access(&access);
                        assert_eq!(seen.ok(), found.memory.filter(|_| r.0 & HpteR::RPN < 2 * unit));
                    }
                    // No store has been forgotten.
                    assert!(
                        mmu.usage_now(GuestReal(kept[0].2.1.0 & HpteR::RPN & !(unit - 1))).unwrap().changed
                    );
                    // It is a table like any other.
                    for (i, _, _) in &kept {
                        let at = mmu.xlate(&pages[*i].access(0, AccessKind::Read)).unwrap().index;
                        mmu.remove(&m, 0, at, 0).unwrap();
                    }
                    assert_eq!(
                        (mmu.hpt().occupancy(), mmu.chains()),
                        (Occupancy::default(), Chains::default())
                    );
                });
                w.clear();
            });
        }
    }
}

#[test]
fn a_table_too_small_is_refused() {
    each(|w| {
        with_table(w, 2 * GROUPS, 20, |mmu, m| {
            // Two groups of the large table that are one of the small one; the pages' numbers are those of the groups.
            let group = |n: u64| (0x100 + (n & 1) * GROUPS as u64) << 3;
            let enter = |n: u64, bolted: u64| {
                let page = (n / 2) << 11 | n & 1;
                let v = avpn(
                    0x100 ^ (n & 1) * (GROUPS as u64 ^ 1) ^ (n / 2) << 11,
                    power::slb::SegmentSize::M256,
                    PageSize::K4,
                    page << 12,
                );
                mmu.enter(&m, 0, PteIndex(group(n)), HpteV(v.0 | bolted), HpteR(UNIT | n << 12 | RW)).unwrap()
            };
            for n in 0..8 {
                enter(n, HpteV::BOLTED);
            }
            for n in 8..12 {
                enter(n, 0);
            }
            with_table(w, GROUPS, 20, |small, _| {
                mmu.rehash_into(&small).unwrap();
                assert_eq!(small.hpt().groups_by_use()[8], 1, "just so");
                // And back again, to the places where they were or others.
                with_table(w, 2 * GROUPS, 20, |large, _| {
                    small.rehash_into(&large).unwrap();
                    assert_eq!(large.hpt().groups_by_use()[4], 2);
                    large.clear();
                });
            });
            mmu.clear();
            let all: Vec<PteIndex> = (0..9).map(|n| enter(n, HpteV::BOLTED)).collect();
            let seen = |mmu: &GuestMmu<'_>| {
                let each = all.iter().map(|at| (mmu.hpt().peek(*at), mmu.read(*at)));
                (each.collect::<Vec<_>>(), mmu.chains(), mmu.hpt().occupancy())
            };
            let before = seen(&mmu);
            let refuse = |to: &GuestMmu<'_>, why| {
                assert_eq!(mmu.rehash_into(to), Err(why));
                assert_eq!(seen(&mmu), before);
            };
            with_table(w, GROUPS, 20, |small, _| refuse(&small, HptError::PtegFull));
            with_table(w, 4 * GROUPS, 0, |large, _| refuse(&large, HptError::TooHard));
            with_table(w, GROUPS / 2, 20, |tiny, _| refuse(&tiny, HptError::Parameter));
            with_table(w, 4 * GROUPS, 20, |large, _| {
                refuse(&GuestMmu::new(large.hpt(), &Slots::new(false)), HptError::Parameter);
                large.enter(&m, 0, PteIndex(0), HpteV(5 << 12), HpteR(NOWHERE | RW)).unwrap();
                refuse(&large, HptError::Parameter);
            });
            mmu.clear();
        });
    });
}

// ---- changes of backing that a snapshot needs ----

#[test]
fn a_page_is_restored() {
    each(|w| {
        let [(n, store), _] = stores(w);
        let index = enter(w, UNIT, RW).unwrap();
        let at = GuestReal(UNIT);
        assert_eq!(w.access(n, &store), Outcome::Done);
        w.make_shared(1);
        assert_eq!(hardware(w, index).1.pp(), 3);
        let saved = w.mmu.page_view(at).unwrap();
        assert_eq!(w.mmu.restore(w.m, GuestReal(NOWHERE), saved), Err(BackingError::NoPage));
        // With somebody in the partition, translations that were are forgotten.
        let nothing = PageView::new(PageState::NotPopulated, Protection::ReadOnly, HostReal(0));
        w.m.access(&w.vas[n].access(0, AccessKind::Read)).unwrap();
        w.m.take_tlbies();
        assert_eq!(w.mmu.restore(w.m, at, nothing), Ok(saved));
        assert_eq!((w.m.take_tlbies(), hardware(w, index).0), (1, ABSENT));
        assert!(w.m.access(&store).is_err_and(|why| why.contains(Dsisr::NOHPTE)));
        assert_eq!(w.mmu.page_view(at), Some(nothing));
        assert_eq!(w.mmu.restore(w.m, at, saved), Ok(nothing));
        assert_eq!(w.mmu.page_view(at), Some(saved));
        w.check();
    });
}

// ---- exactly what was stored to ----

#[test]
fn changed_says_that_there_was_a_store() {
    each(|w| {
        let at = GuestReal(UNIT);
        let [(n, store), (k, other)] = stores(w);
        let load = w.vas[n].access(0, AccessKind::Read);
        let changed = |w: &World<'_>| w.mmu.usage_now(at).unwrap().changed;
        // Whatever the guest claims, of entries the hardware sees or not.
        let index = enter(w, UNIT, RW | RC).unwrap();
        assert!(!changed(w) && w.mmu.read(index).unwrap().1.any(HpteR::C));
        w.access(n, &load);
        w.protect(3, index.0, 0).unwrap();
        w.protect(2, index.0, 0).unwrap();
        w.make_shared(1);
        w.harvest(1);
        w.protect_page(1, Protection::None);
        w.protect_page(1, Protection::ReadWrite);
        assert!(!changed(w));
        w.m.take_tlbies();
        // A fault that has been seen to is no store yet.
        let cause = w.m.access(&store).unwrap_err();
        let Triage::Escalate(e) = w.mmu.triage(&Fault { access: store, cause }) else { panic!() };
        w.move_page(1, true, true);
        assert_eq!(w.mmu.resolve(w.m, &e, AccessKind::Write), Resolved::Installed);
        assert!(!changed(w));
        assert_eq!(w.access(n, &store), Outcome::Done);
        assert!(changed(w));
        w.remove(0, index.0, 0).unwrap();
        assert!(changed(w), "though its entry is gone");
        w.harvest(1);
        // Neither is lost by what the guest clears for itself.
        let index = enter(w, UNIT, RW).unwrap();
        enter_other(w, UNIT, RW | RC);
        w.access(n, &store);
        w.clear_usage(index.0, true);
        assert!(changed(w));
        w.protect(3, index.0, 0).unwrap();
        assert!(changed(w));
        w.harvest(1);
        assert!(!changed(w));
        w.access(k, &other);
        w.protect(3, index.0, 0).unwrap();
        assert!(changed(w), "by any entry");
        assert_eq!(w.mmu.usage_now(GuestReal(NOWHERE)), Err(BackingError::NoPage));
        // The hypervisor's own stores, as it says itself.
        w.harvest(1);
        w.mmu.slots().page(at).unwrap().note_usage(RC);
        assert!(changed(w));
        w.mmu.slots().page(at).unwrap().take_usage();
    });
}

#[test]
fn absent_entries_say_nothing_of_use() {
    each(|w| {
        let index = enter(w, 3 * UNIT, RW | RC).unwrap();
        assert_eq!(hardware(w, index).1.0 & RC, 0);
        assert_eq!(w.mmu.usage_now(GuestReal(3 * UNIT)), Ok(Usage::default()));
    });
}
