//! Devices that have been moved in a partition ([`crate::Slots::move_device`]): what the hardware sees of them follows.

use power::hpte::page_sizes;
use power::{HpteR, HpteV};

use crate::access::absent_r;
use crate::mmu::{Backing, GuestMmu};
use crate::sync::{Ordering, fence};

impl GuestMmu<'_> {
    /// Makes every entry that leads to a device, or to nothing, lead to where its address is by now: to the device there, for the hardware; or to
    /// nothing, and it is absent. What the guest sees stays. No processor is in the partition, its TLBs are flushed before one enters, and nobody
    /// uses the table, which is not frozen.
    pub fn follow_devices(&self) {
        for (_, group, revs) in self.hpt.groups_with_entries() {
            for (hpte, rev) in group.0.iter().zip(&revs.0) {
                let (v, guest) = self.hpt.seen_by_guest(hpte, rev);
                if v.0 == 0 || rev.is_linked() {
                    continue;
                }
                let low = page_sizes(v, guest).map_or(0xfff, |(_, actual)| actual.bytes() - 1);
                let (bit, r) = match self.backing(guest, low) {
                    // RAM that came later than the entry: that is found when it faults.
                    Ok(Backing::Ram(..)) => continue,
                    Ok(Backing::Device(host)) => (HpteV::V, (guest.0 & (!HpteR::RPN | low)) | host),
                    Ok(Backing::Nothing) | Err(_) => (HpteV::ABSENT, absent_r(guest.0, low)),
                };
                rev.set_guest(guest);
                hpte.r.store(self.hpt.memory_r(v, r), Ordering::Relaxed);
                hpte.v.store(self.hpt.memory_v(HpteV((v.0 & !HpteV::V) | bit)), Ordering::Relaxed);
            }
        }
        fence(Ordering::SeqCst);
    }
}
