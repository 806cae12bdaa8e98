//! How an address is translated, step by step, and how full a table is: for people. Nothing is changed by it, not even R and C.

use power::hpte::page_sizes;
use power::regs::Dsisr;
use power::slb::{VRMA_VSID, VSID_N};
use power::{GuestReal, HpteR, HpteV, PageSize, PteIndex};

use crate::access::{Access, AccessKind, cache_attribute, denial};
use crate::entry::{GROUP, IN_USE, VALID};
use crate::fault::XlateError;
use crate::hash::{avpn, pteg_hash};
use crate::mmu::{GuestMmu, guest_v};
use crate::page::{Page, PageState, Protection, Target};
use crate::sync::Ordering;
use crate::table::{Hpt, Search};

/// What a search for an address goes through, and what it comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// B and AVPN: what an entry must have in dword 0 (2.07 layout).
    pub avpn: HpteV,
    /// The primary hash, not yet cut to the size of the table.
    pub hash: u64,
    /// The primary and the secondary group: the number of its first entry, and how many of its entries are in use.
    pub groups: [(PteIndex, usize); 2],
    /// The entry.
    pub entry: Option<EntryView>,
    /// Where it leads: the partition's real address. In the real mode area it is known without an entry.
    pub real: Option<GuestReal>,
    /// What comes of a load, a store and a fetch.
    pub effects: [Effect; 3],
}

/// An entry at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryView {
    /// Its number.
    pub index: PteIndex,
    /// Both dwords as they lie in memory, without the lock bit.
    pub memory: (u64, u64),
    /// Does the hardware see it? If not, only the guest does.
    pub valid: bool,
    /// Both dwords as the guest sees them, without what R and C may have gained since they were last looked at.
    pub guest: (HpteV, HpteR),
    /// Its actual page size.
    pub size: PageSize,
}

/// What comes of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The hardware does it.
    Allowed,
    /// The guest gets a storage interrupt, with this DSISR or these bits in SRR1.
    Interrupt(Dsisr),
    /// The hypervisor gives the page memory.
    Populate,
    /// The hypervisor gives the page memory of its own, with the contents of what is shared.
    Unshare,
    /// The hypervisor asks whoever has protected the page.
    Protected,
    /// The hypervisor makes the hardware's entry what the guest asked for: all else is fine.
    Install,
    /// The hypervisor emulates the access.
    Emulate,
    /// The guest gets a machine check.
    MachineCheck,
}

/// How long the chains of entries are that name the same page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chains {
    /// Pages with at least one entry.
    pub pages: usize,
    /// Entries on all chains together.
    pub entries: usize,
    /// On the longest.
    pub longest: usize,
}

impl Hpt<'_> {
    /// How many groups have none, one, two… up to eight of their entries in use. Counted without locking.
    pub fn groups_by_use(&self) -> [usize; GROUP + 1] {
        let mut sum = [0; GROUP + 1];
        for group in 0..self.len() / GROUP as u64 {
            if let Some(n) = sum.get_mut(self.used(PteIndex(group * GROUP as u64))) {
                *n += 1;
            }
        }
        sum
    }

    /// Entries in use in a group.
    fn used(&self, first: PteIndex) -> usize {
        let Some((group, _)) = self.group(first) else { return 0 };
        group.0.iter().filter(|hpte| hpte.v.load_raw(Ordering::Relaxed) & IN_USE != 0).count()
    }
}

impl GuestMmu<'_> {
    /// Explains the translation of an address; what is done to it does not matter. `NotFound`: no entry can have the segment's page size.
    pub fn explain(&self, access: &Access) -> Result<Explanation, XlateError> {
        let slb = access.slb;
        let base = slb.base_page().ok_or(XlateError::NotFound(Dsisr::NOHPTE))?;
        let (vsid, segment, offset) = (slb.vsid(), slb.segment(), slb.offset(access.ea));
        let hash = pteg_hash(vsid, segment, base, offset);
        let mask = (self.hpt.len() >> 3).wrapping_sub(1);
        let group = |hash: u64| {
            let first = PteIndex((hash & mask) << 3);
            (first, self.hpt.used(first))
        };
        let found = match self.hpt.search(slb, access.ea, IN_USE) {
            Search::Found(entry, raw_v) => {
                let (v, r) = self.hpt.decode(entry.hpte);
                let guest = entry.rev.guest();
                let memory = self.hpt.format().to_memory(v, r);
                entry.hpte.unlock(raw_v);
                let size = page_sizes(v, r).map_or(base, |(_, actual)| actual);
                let valid = raw_v & VALID != 0;
                Some((EntryView { index: entry.index, memory, valid, guest: (guest_v(v), guest), size }, r))
            }
            Search::None => None,
            Search::Busy => return Err(XlateError::Busy),
        };
        let real = match &found {
            Some((entry, _)) => {
                let low = entry.size.bytes() - 1;
                Some(GuestReal(entry.guest.1.0 & HpteR::RPN & !low | access.ea.0 & low))
            }
            None if vsid == VRMA_VSID => Some(GuestReal(offset)),
            None => None,
        };
        let effects = [AccessKind::Read, AccessKind::Write, AccessKind::Execute].map(|kind| {
            let access = Access { kind, ..*access };
            match (&found, real) {
                _ if kind == AccessKind::Execute && slb.0 & VSID_N != 0 => {
                    Effect::Interrupt(Dsisr::NOEXEC_OR_GUARDED)
                }
                (Some((entry, r)), Some(real)) => self.effect(&access, entry, *r, real),
                (None, Some(real)) => self.effect_of_page(real, kind, None),
                (_, None) if kind == AccessKind::Write => Effect::Interrupt(Dsisr::NOHPTE | Dsisr::ISSTORE),
                (_, None) => Effect::Interrupt(Dsisr::NOHPTE),
            }
        });
        let avpn = avpn(vsid, segment, base, offset);
        let entry = found.map(|(entry, _)| entry);
        Ok(Explanation { avpn, hash, groups: [group(hash), group(!hash)], entry, real, effects })
    }

    /// What an access through an entry comes to; `r` is the hardware's dword 1.
    fn effect(&self, access: &Access, entry: &EntryView, r: HpteR, real: GuestReal) -> Effect {
        let guest_r = entry.guest.1;
        let why = denial(guest_r, access);
        if !why.is_empty() {
            Effect::Interrupt(why)
        } else if entry.valid && denial(r, access).is_empty() {
            Effect::Allowed
        } else {
            self.effect_of_page(real, access.kind, Some(guest_r))
        }
    }

    /// What the hypervisor does about an access that the guest may make and the hardware does not know of.
    fn effect_of_page(&self, real: GuestReal, kind: AccessKind, guest_r: Option<HpteR>) -> Effect {
        let asked = guest_r.map(|r| cache_attribute(r.0));
        match self.slots.find(real) {
            Some(Target::Ram(page, _)) => effect_of_ram(page, kind),
            Some(Target::Device(_, attribute)) if asked == Some(attribute) => Effect::Install,
            _ if asked.unwrap_or(0) & HpteR::I != 0 && kind != AccessKind::Execute => Effect::Emulate,
            _ => Effect::MachineCheck,
        }
    }

    /// Measures the chains of all pages, each with its page locked for a moment; a page that stays locked is left out.
    pub fn chains(&self) -> Chains {
        let mut sum = Chains::default();
        for length in self.slots.pages().filter(|page| page.is_mapped()).map(|page| self.chain(page)) {
            sum.pages += usize::from(length != 0);
            sum.entries += length;
            sum.longest = sum.longest.max(length);
        }
        sum
    }

    /// How many entries are on a page's chain.
    fn chain(&self, page: &Page) -> usize {
        let Some(view) = page.lock() else { return 0 };
        let (mut at, mut length) = (page.head(), 0);
        while let Some(rev) = self.follow(at) {
            length += 1;
            at = rev.forward.load(Ordering::Relaxed);
            // No chain is longer than the table.
            if length as u64 >= self.hpt.len() {
                break;
            }
        }
        page.unlock(view);
        length
    }
}

fn effect_of_ram(page: &Page, kind: AccessKind) -> Effect {
    let (view, write) = (page.view(), kind == AccessKind::Write);
    match (view.state(), view.protection()) {
        (_, Protection::None) => Effect::Protected,
        (_, Protection::ReadOnly) if write => Effect::Protected,
        (PageState::NotPopulated, _) => Effect::Populate,
        (PageState::Shared, _) if write => Effect::Unshare,
        _ => Effect::Install,
    }
}
