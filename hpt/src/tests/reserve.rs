//! Memory that comes and goes.

use power::{HpteFormat, PteIndex};

use crate::*;

fn leaked<T: Default>() -> &'static T {
    Box::leak(Box::default())
}

#[test]
fn what_was_given_back_is_not_used() {
    let groups: Vec<Pteg> = (0..8).map(|_| Pteg::default()).collect();
    let words: Vec<RevWord> = (0..8).map(|_| RevWord::default()).collect();
    let reserve = Reserve::new();
    let hpt = Hpt::new(&groups, &words, &reserve, HpteFormat::V3_0).unwrap();
    let slots = Slots::new(false);
    let mmu = GuestMmu::new(&hpt, &slots);
    let enter = |group: u64| hpt.open(PteIndex(group * 8)).map(drop);
    hpt.add_groups(leaked());
    hpt.add_groups(leaked());
    (0..7).for_each(|group| enter(group).unwrap());
    assert_eq!(hpt.groups_used(), 7);
    mmu.clear();
    hpt.give_back();
    assert!(hpt.needs_groups());
    assert_eq!((hpt.groups_used(), enter(0)), (0, Err(HptError::TooHard)));
    hpt.add_groups(leaked());
    assert_eq!(enter(0), Ok(()));
    assert_eq!(hpt.groups_used(), 1);
}
