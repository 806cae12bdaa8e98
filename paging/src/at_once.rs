//! The first touch of a page, and the first store to it, without waiting for anybody: what real mode can do by itself.
//!
//! Nearly all first touches need a block of zeroes, or the page of zeroes, and nothing else; so does a first store to a page that was only read
//! and has no other entry. What is more than that is left to [`Memory::fault`]: who
//! has asked to hear of changes, a snapshot that keeps a list of them, pages of 16 MiB, a limit that is reached, memory that is short or
//! that somebody else is after right now. Nothing has changed then.

use hpt::{AccessKind, Machine, PageState};
use power::{GuestReal, HostReal, PteIndex};

use crate::host::Supply;
use crate::state::Memory;
use crate::sync::Ordering;

impl<H: Supply, M: Machine> Memory<'_, H, M> {
    /// Gives a page that has no memory, or only the page of zeroes, what an access to it needs; false if that is not done, and has to be done by
    /// [`Memory::fault`], if at all. The access is by the entry `by`, which the caller holds and installs anew.
    pub fn populate_at_once(&self, at: GuestReal, access: AccessKind, by: PteIndex) -> bool {
        let Ok(spot) = self.spot(at) else { return false };
        let Some(_stripe) = self.paging.try_stripe(spot.index) else { return false };
        // Neither begins to care for this page while its stripe is held.
        let somebody_cares =
            !self.paging.registry.is_empty() || self.paging.has_snapshot.load(Ordering::Relaxed);
        let unit = self.unit();
        if somebody_cares || unit > M::BULK_LIMIT {
            return false;
        }
        let write = matches!(access, AccessKind::Write);
        if !write && self.has_zero_page() {
            let zeroes = || Some(self.host.zero_page());
            return self.mmu.populate_at_once(spot.real, PageState::Shared, zeroes);
        }
        if self.paging.charge(1, unit).is_err() {
            return false;
        }
        let zeroed = || self.host.allocate(unit).inspect(|block| self.host.zero(*block, unit));
        let done = self.mmu.populate_at_once(spot.real, PageState::Private, zeroed)
            || self.unshare_zeroes(spot.real, by, zeroed);
        if !done {
            self.paging.uncharge(1);
        } else if write {
            // The store is about to come.
            self.paging.mark_dirty(spot.index);
        }
        done
    }
    /// Gives a page that has only the page of zeroes its own.
    #[cold]
    fn unshare_zeroes(
        &self,
        real: GuestReal,
        by: PteIndex,
        zeroed: impl FnOnce() -> Option<HostReal>,
    ) -> bool {
        let done = self.mmu.make_private_at_once(real, by, self.host.zero_page(), zeroed);
        self.paging.unshared.fetch_add(u64::from(done), Ordering::Relaxed);
        done
    }
}
