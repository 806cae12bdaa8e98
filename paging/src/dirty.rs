//! Which pages may have other contents than at the last reset.
//!
//! The hardware says so itself: it sets C in an entry at the first store through it (Power ISA 3.0C, book III, 5.7.12), and `hpt` keeps C of every entry that goes. So nothing has to be
//! write-protected, and no store takes a fault on account of this. A reset clears C, for which just the entries that have R or C set are invalidated
//! once; asking changes nothing. What the hardware does not see has a bit here: stores of the hypervisor on the guest's behalf,
//! and pages that were discarded or reverted.
//!
//! C of a page is for this alone to take: whoever else has to ([`hpt::GuestMmu::discard`]) puts it here.

use hpt::Machine;
use power::GuestReal;

use crate::host::Host;
use crate::state::{Memory, Spot};
use crate::sync::Ordering;

impl<H: Host, M: Machine> Memory<'_, H, M> {
    /// Forgets what was written so far. A store that goes on meanwhile is known afterwards, or was before.
    pub fn dirty_reset(&self) {
        for spot in self.spots() {
            let _stripe = self.paging.stripe(spot.index);
            // It is a page of RAM: no error.
            let _ = self.mmu.harvest(self.machine, spot.real);
            if let Some(word) = self.paging.dirty.get(spot.index / 64) {
                word.fetch_and(!(1 << (spot.index % 64)), Ordering::Relaxed);
            }
        }
    }

    /// Names each page that was written since the last reset, by its real address.
    pub fn dirty(&self, mut each: impl FnMut(GuestReal)) {
        for spot in self.spots() {
            if self.is_dirty(&spot) {
                each(spot.real);
            }
        }
    }

    fn is_dirty(&self, spot: &Spot<'_>) -> bool {
        let _stripe = self.paging.stripe(spot.index);
        let word = self.paging.dirty.get(spot.index / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (spot.index % 64) & 1 != 0)
            || self.mmu.usage_now(spot.real).is_ok_and(|usage| usage.changed)
    }
}
