//! Hypervisor storage interrupts, translation on the guest's behalf, and the virtualized real mode area
//! (Power ISA 3.0C, book III, 5.7.3.3, 5.7.9 and 6.5).

use power::hcall::flags;
use power::hpte::{encode_page_sizes, page_sizes};
use power::regs::Dsisr;
use power::slb::{SegmentSize, SlbV, VRMA_VSID, VSID_N};
use power::{Ea, GuestReal, HostReal, HpteR, HpteV, PageSize, PteIndex};

use crate::access::{Access, AccessKind, Escalation, Fault, Triage, absent_r, denial, pp_writable, ram_r};
use crate::entry::{IN_USE, LOCK, VALID};
use crate::error::HptError;
use crate::hash::{avpn, pteg_hash};
use crate::machine::Machine;
use crate::mmu::{Backing, GuestMmu, RC, guest_v};
use crate::page::{PageView, Target};
use crate::sync::{Ordering, raw};
use crate::table::Search;

/// What became of an entry that the hypervisor was asked to install.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// The hardware has it, as far as page and guest allow: return to the guest.
    Installed,
    /// It is not the entry that faulted any more, or is in somebody's hands: return to the guest, which may fault again.
    Changed,
    /// The page does not allow the access as it is: populate it, make it private or ask who protects it.
    Blocked(PageView),
    /// There is no RAM at the address, and no device that may be mapped like this: emulate.
    NoPage,
}

/// Where a guest's address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The partition's real address of the byte.
    pub real: GuestReal,
    /// The actual size of the page it is in.
    pub size: PageSize,
    /// The entry that translates it.
    pub index: PteIndex,
    /// The guest's dword 1.
    pub guest_r: HpteR,
    /// The machine's real address of the byte, if it is memory that allows the access right now. It is good until
    /// [`GuestMmu::xlate_with`] lets go of it, or for as long as the caller keeps the page from being changed.
    pub memory: Option<HostReal>,
}

/// Why a translation fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XlateError {
    /// No entry. With DSISR or SRR1 bits for the guest.
    NotFound(Dsisr),
    /// The guest's own entry forbids it. Likewise.
    Denied(Dsisr),
    /// The entry is locked for long: try again.
    Busy,
}

impl GuestMmu<'_> {
    /// Decides what a hypervisor storage interrupt means, without changing anything.
    pub fn triage(&self, fault: &Fault) -> Triage {
        let access = &fault.access;
        if !fault.cause.intersects(Dsisr::NOHPTE.union(Dsisr::PROTFAULT)) {
            // Keys, N, guarded storage, watchpoints: never the hypervisor's doing.
            return Triage::Reflect(fault.cause);
        }
        let missing = fault.cause.intersects(Dsisr::NOHPTE);
        let wanted = if missing { IN_USE } else { VALID };
        let (entry, raw_v) = match self.hpt.search(access.slb, access.ea, wanted) {
            Search::Found(entry, raw_v) => (entry, raw_v),
            Search::None if missing => return Triage::Reflect(fault.cause),
            Search::None | Search::Busy => return Triage::Retry,
        };
        let (v, r) = self.hpt.decode(entry.hpte);
        let guest_r = entry.rev.guest();
        entry.hpte.unlock(raw_v);
        if missing && raw_v & VALID != 0 {
            return Triage::Retry;
        }
        let why = denial(guest_r, access);
        if !why.is_empty() {
            return Triage::Reflect(why);
        }
        if !missing && (!matches!(access.kind, AccessKind::Write) || pp_writable(r.0)) {
            // The entry allows it by now.
            return Triage::Retry;
        }
        Triage::Escalate(Escalation { index: entry.index, v, r, guest_r })
    }

    /// Installs the entry behind an escalated fault for the hardware, if it is still the one that faulted and what backs it allows the access:
    /// the old one is invalidated, its R and C are harvested, and the new one is as the guest wants it and the page allows.
    pub fn resolve<M: Machine>(&self, m: &M, escalation: &Escalation, kind: AccessKind) -> Resolved {
        self.resolve_or(m, escalation, kind, || false)
    }

    /// The same. If what backs the page does not allow the access, `prepare` may make it do so, and says whether it has. An entry is locked then: it
    /// only tries to lock pages, and whatever else it locks.
    #[inline(always)]
    pub fn resolve_or<M: Machine>(
        &self,
        m: &M,
        escalation: &Escalation,
        kind: AccessKind,
        prepare: impl FnOnce() -> bool,
    ) -> Resolved {
        let Ok(entry) = self.hpt.entry(escalation.index) else { return Resolved::Changed };
        let Some(raw_v) = entry.hpte.lock() else { return Resolved::Changed };
        let (v, r) = self.hpt.decode(entry.hpte);
        let guest = entry.rev.guest();
        let same = raw_v & IN_USE != 0
            && guest_v(v) == guest_v(escalation.v)
            && (guest.0 ^ escalation.guest_r.0) & !RC == 0;
        let sizes = page_sizes(v, r);
        let (true, Some((_, actual))) = (same, sizes) else {
            entry.hpte.unlock(raw_v);
            return Resolved::Changed;
        };
        let low = actual.bytes() - 1;
        let write = matches!(kind, AccessKind::Write);
        let mut page_used = None;
        let new = match self.backing(guest, low) {
            Ok(Backing::Ram(page, offset)) => {
                let mut view = if entry.rev.is_linked() {
                    page.view()
                } else {
                    // RAM that was added later than the entry.
                    let Some(view) = page.lock() else {
                        entry.hpte.unlock(raw_v);
                        return Resolved::Changed;
                    };
                    self.link(page, &entry);
                    page.unlock(view);
                    view
                };
                let blocks = |view: PageView| !view.is_present() || (write && !view.is_writable());
                if blocks(view) && prepare() {
                    view = page.view();
                }
                if blocks(view) {
                    entry.hpte.unlock(raw_v);
                    return Resolved::Blocked(view);
                }
                page_used = Some(page);
                ram_r(guest.0 & !RC, low, view.host_bits() | offset, view)
            }
            Ok(Backing::Device(host)) => (guest.0 & (!HpteR::RPN | low) & !RC) | host,
            Ok(Backing::Nothing) | Err(_) => {
                entry.hpte.unlock(raw_v);
                return Resolved::NoPage;
            }
        };
        if raw_v & VALID != 0 {
            if (new ^ r.0) & !RC == 0 {
                entry.hpte.unlock(raw_v);
                return Resolved::Installed;
            }
            let rc = self.invalidate(m, &entry, raw_v, v, r);
            entry.rev.set_guest(HpteR(guest.0 | rc));
            if let Some(page) = page_used {
                page.note_usage(rc);
            }
        }
        // R, because the access will be made again at once. C is the hardware's to set, when it is. And see `usage_now`.
        entry.hpte.r.store(self.hpt.memory_r(v, new | HpteR::R), Ordering::Release);
        let v = HpteV(v.0 & !HpteV::ABSENT | HpteV::V);
        entry.hpte.unlock_value(self.hpt.memory_v(v));
        m.pte_sync();
        Resolved::Installed
    }

    /// Translates an address as the hardware would for the guest, with the guest's own permissions. R is set, and C for a store only,
    /// in the guest's view and for the page.
    pub fn xlate(&self, access: &Access) -> Result<Translation, XlateError> {
        self.xlate_with(access, |translation| *translation)
    }

    /// The same, for something to be done with the translation while it is one: what backs the address does not change meanwhile.
    #[inline(always)]
    pub fn xlate_with<T>(
        &self,
        access: &Access,
        body: impl FnOnce(&Translation) -> T,
    ) -> Result<T, XlateError> {
        let write = matches!(access.kind, AccessKind::Write);
        if matches!(access.kind, AccessKind::Execute) && access.slb.0 & VSID_N != 0 {
            return Err(XlateError::Denied(Dsisr::NOEXEC_OR_GUARDED));
        }
        let (entry, raw_v) = match self.hpt.search(access.slb, access.ea, IN_USE) {
            Search::Found(entry, raw_v) => (entry, raw_v),
            Search::None => {
                let store = if write { Dsisr::ISSTORE } else { Dsisr::empty() };
                return Err(XlateError::NotFound(Dsisr::NOHPTE.union(store)));
            }
            Search::Busy => return Err(XlateError::Busy),
        };
        let (v, r) = self.hpt.decode(entry.hpte);
        let guest = entry.rev.guest();
        let why = denial(guest, access);
        let (true, Some((_, size))) = (why.is_empty(), page_sizes(v, r)) else {
            entry.hpte.unlock(raw_v);
            return Err(XlateError::Denied(why));
        };
        let low = size.bytes() - 1;
        let real = GuestReal((guest.0 & HpteR::RPN & !low) | (access.ea.0 & low));
        let used = if write { RC } else { HpteR::R };
        let guest = HpteR(guest.0 | used);
        entry.rev.set_guest(guest);
        let memory = match self.slots.find(real) {
            Some(Target::Ram(page, offset)) => {
                page.note_usage(used);
                let view = page.view();
                let allowed = if write { view.is_writable() } else { view.is_present() };
                // Who changes the page locks its entries afterwards, this one if it is on the page's chain, and lets go of the memory only then.
                (allowed && entry.rev.is_linked()).then_some(HostReal(view.host_bits() | offset))
            }
            Some(Target::Device(..)) | None => None,
        };
        let result = body(&Translation { real, size, index: entry.index, guest_r: guest, memory });
        entry.hpte.unlock(raw_v);
        Ok(result)
    }

    /// Inserts the entry that translates an address of a guest in real mode: a bolted one that the guest can see, in the VRMA's segment,
    /// of the given base and actual page size. An entry that is there already is answered. If both groups are full, one that the guest has not
    /// bolted has to go: it will fault and come back. Two callers must not insert the same page at once.
    pub fn insert_vrma<M: Machine>(&self, m: &M, size: PageSize, ea: Ea) -> Result<PteIndex, HptError> {
        let slb = SlbV::vrma(size);
        match self.hpt.search(slb, ea, IN_USE) {
            Search::Found(entry, raw_v) => {
                entry.hpte.unlock(raw_v);
                return Ok(entry.index);
            }
            Search::Busy => return Err(HptError::TooHard),
            Search::None => {}
        }
        let offset = slb.offset(ea);
        let real = GuestReal(offset & !(size.bytes() - 1));
        if self.slots.find(real).is_none() {
            return Err(HptError::Parameter);
        }
        let (l, lp) = encode_page_sizes(size, size).ok_or(HptError::Parameter)?;
        let primary = avpn(VRMA_VSID, SegmentSize::T1, size, offset).0 | l | HpteV::BOLTED | HpteV::V;
        // PP 0 is read-write: the segment's key is 0.
        let r = HpteR(real.0 | lp | HpteR::M);
        let hash = pteg_hash(VRMA_VSID, SegmentSize::T1, size, offset);
        let groups = self.hpt.len() >> 3;
        let places = [(hash, primary), (!hash, primary | HpteV::H)]
            .map(|(hash, v)| (PteIndex((hash & groups.wrapping_sub(1)) << 3), HpteV(v)));
        for (index, v) in places {
            match self.enter(m, 0, index, v, r) {
                Err(HptError::PtegFull) => {}
                other => return other,
            }
        }
        for (index, v) in places {
            for slot in 0..8 {
                let index = PteIndex(index.0 | slot);
                let Ok(victim) = self.hpt.entry(index) else { continue };
                let seen = victim.hpte.v.load_raw(Ordering::Relaxed);
                if seen & (raw(HpteV::BOLTED) | LOCK) == 0
                    && self.remove(m, 0, index, 0).is_ok()
                    && let Ok(index) = self.enter(m, flags::EXACT, index, v, r)
                {
                    return Ok(index);
                }
            }
        }
        Err(HptError::PtegFull)
    }

    /// Dword 1 of an entry that the hardware must not see, for memory.
    pub(crate) fn absent_memory_r(&self, v: HpteV, r: HpteR, guest: HpteR) -> u64 {
        let low = page_sizes(v, r).map_or(0xfff, |(_, actual)| actual.bytes() - 1);
        self.hpt.memory_r(v, absent_r(guest.0, low))
    }
}
