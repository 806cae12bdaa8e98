//! Numbers for people.

use hpt::{Machine, PageState, Protection};

use crate::host::Host;
use crate::state::Memory;
use crate::sync::Ordering;

/// What a partition's pages are, in units of backing. They change while they are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Bytes of a unit.
    pub unit: u64,
    /// Pages with memory that nobody else refers to.
    pub private: u64,
    /// Pages whose memory others refer to as well: clones and snapshots.
    pub shared: u64,
    /// Pages whose memory others refer to as well, and which the merge knows.
    pub merged: u64,
    /// Pages that are the zero page.
    pub zero: u64,
    /// Pages that have no memory.
    pub absent: u64,
    /// Pages of any of these kinds that a notifier limits.
    pub protected: u64,
    /// Pages that count against the limit.
    pub charged: u64,
    /// Bytes that the partition may have; `u64::MAX` is no limit.
    pub limit: u64,
    /// How often a shared page became private, since the partition was made.
    pub unshared: u64,
}

impl<H: Host, M: Machine> Memory<'_, H, M> {
    /// Counts.
    pub fn figures(&self) -> Figures {
        let mut sum = Figures {
            unit: self.unit(),
            charged: self.paging.charged(),
            limit: self.paging.limit(),
            unshared: self.paging.unshared.load(Ordering::Relaxed),
            ..Figures::default()
        };
        let shares = self.host.shares();
        for spot in self.spots() {
            let view = spot.page.view();
            let kind = match (view.state(), view.host()) {
                (PageState::NotPopulated, _) | (_, None) => &mut sum.absent,
                (PageState::Private, _) => &mut sum.private,
                (PageState::Shared, Some(host)) if self.is_zero_page(host) => &mut sum.zero,
                (PageState::Shared, Some(host)) if shares.count(host) <= 1 => &mut sum.private,
                (PageState::Shared, Some(host)) if shares.is_merged(host) => &mut sum.merged,
                (PageState::Shared, _) => &mut sum.shared,
            };
            *kind += 1;
            sum.protected += u64::from(view.protection() != Protection::ReadWrite);
        }
        sum
    }
}
