//! Access by real address.

use power::GuestReal;

use super::unit::each;
use super::world::{DEVICE_I, NOWHERE};
use crate::order::elsewhere;
use crate::*;

#[test]
fn what_a_page_allows() {
    each(|w| {
        let at = |n: u64| GuestReal(n << 16 | 0x123);
        let load = |n| w.mmu.with_bytes(at(n), false, |host| host.0 & 0xffff);
        let store = |n| w.mmu.with_bytes(at(n), true, |host| host.0 & 0xffff);
        let hard = Err(HptError::TooHard);
        assert_eq!([1, 2, 3, 4, 5].map(load), [Ok(0x123), Ok(0x123), hard, Ok(0x123), hard]);
        assert_eq!([1, 2, 3, 4, 5].map(store), [Ok(0x123), hard, hard, hard, hard]);
        for nowhere in [DEVICE_I, NOWHERE] {
            assert_eq!(w.mmu.with_bytes(GuestReal(nowhere), false, |_| ()), Err(HptError::Parameter));
        }
        let used = |n: u64| w.mmu.slots().page(at(n)).unwrap().take_usage();
        assert_eq!(used(1), Usage { referenced: true, changed: true });
        assert_eq!(used(2), Usage { referenced: true, changed: false });
        assert_eq!(used(3), Usage::default());
    });
}

#[test]
fn the_page_stays_as_it_is_meanwhile() {
    each(|w| {
        let at = GuestReal(1 << 16);
        // Its lock is held: whoever wants to share it waits.
        let inner = w.mmu.with_bytes(at, true, |_| elsewhere(|| w.mmu.with_bytes(at, false, |_| ())));
        assert_eq!(inner, Ok(Err(HptError::TooHard)));
        assert_eq!(w.mmu.with_bytes(at, false, |_| ()), Ok(()));
        let _ = w.mmu.slots().page(at).unwrap().take_usage();
    });
}
