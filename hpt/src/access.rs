//! Storage protection: what a guest's entry allows, and what of it the hardware's entry may allow
//! (Power ISA 3.0C, book III, 5.7.11 and 5.8.2).

use power::hpte::page_sizes;
use power::regs::Dsisr;
use power::slb::{SlbV, VSID_N};
use power::{Ea, GuestReal, HpteR, HpteV, PageSize, PteIndex};

use crate::page::PageView;

/// What a guest does to an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AccessKind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// An access of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Where.
    pub ea: Ea,
    /// The segment; for a guest in real mode [`SlbV::vrma`].
    pub slb: SlbV,
    /// What.
    pub kind: AccessKind,
    /// MSR\[PR\].
    pub problem_state: bool,
    /// The guest's AMR; 0 for a guest in real mode, where keys are not checked.
    pub amr: u64,
    /// The guest's IAMR; 0 likewise.
    pub iamr: u64,
}

/// A hypervisor data or instruction storage interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The access that faulted.
    pub access: Access,
    /// HDSISR, or the cause bits of HSRR1.
    pub cause: Dsisr,
}

/// What to do about a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Triage {
    /// Return to the guest: the cause has gone.
    Retry,
    /// The guest's own affair: give it a storage interrupt with this DSISR, or these bits in SRR1.
    Reflect(Dsisr),
    /// The guest may do this, the hardware's entry does not say so: for virtual mode.
    Escalate(Escalation),
}

/// The entry behind a fault that the hypervisor has to handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Escalation {
    /// Which entry.
    pub index: PteIndex,
    /// Its dword 0 in the 2.07 layout, without the lock bit.
    pub v: HpteV,
    /// Its dword 1 as the hardware has it, in the 2.07 layout.
    pub r: HpteR,
    /// Its dword 1 as the guest has it.
    pub guest_r: HpteR,
}

impl Escalation {
    /// Where in the partition an address leads.
    #[inline]
    pub fn real(&self, ea: Ea) -> GuestReal {
        let size = page_sizes(self.v, self.r).map_or(PageSize::K4, |(_, actual)| actual);
        let low = size.bytes() - 1;
        GuestReal(self.guest_r.0 & HpteR::RPN & !low | ea.0 & low)
    }
}

/// Dword 1 bits that a guest does not control: bit 1 is reserved. All of RPN is its own.
pub(crate) const GUEST_RESERVED: u64 = 1 << 62;

/// Is PP one of the values that the architecture defines?
#[inline]
pub(crate) const fn pp_defined(r: u64) -> bool {
    // 0 to 3 and 6.
    r & HpteR::PP0 == 0 || r & HpteR::PP == 2
}

/// May this PP be stored through under any key?
#[inline]
pub(crate) const fn pp_writable(r: u64) -> bool {
    r & HpteR::PP0 == 0 && r & HpteR::PP != 3
}

/// The same without permission to store: 0 becomes 6, 1 and 2 become 3.
#[inline(always)]
pub(crate) const fn read_only(r: u64) -> u64 {
    if !pp_writable(r) {
        r
    } else if r & HpteR::PP == 0 {
        r | HpteR::PP0 | 2
    } else {
        r | 3
    }
}

/// Strong access ordering: W = I = M = 1 (Power ISA 2.07B, book III-S, 5.8.2.1).
const SAO: u64 = HpteR::W | HpteR::I | HpteR::M;

/// W and I as they count against a cache attribute: SAO is cacheable memory.
#[inline]
pub(crate) const fn cache_attribute(r: u64) -> u64 {
    if r & HpteR::WIMG == SAO { 0 } else { r & (HpteR::W | HpteR::I) }
}

/// A guest's flags as the hardware gets them for RAM: cacheable whatever the guest thinks. Guarded memory must not be fetched from,
/// and N says that too.
#[inline(always)]
pub(crate) const fn ram_flags(r: u64) -> u64 {
    match r & HpteR::WIMG {
        HpteR::M | SAO => r,
        wimg => (r & !HpteR::WIMG) | HpteR::M | if wimg & HpteR::G != 0 { HpteR::N } else { 0 },
    }
}

/// Dword 1 for the hardware: RAM at `host` (a multiple of the actual page size), from the guest's flags; `low` has the bits below the
/// actual page size.
#[inline(always)]
pub(crate) const fn ram_r(guest: u64, low: u64, host: u64, view: PageView) -> u64 {
    // C is left to the hardware, whatever the guest says of it: so it says that there was a store.
    let r = (ram_flags(guest) & (!HpteR::RPN | low) & !HpteR::C) | host;
    if view.is_writable() { r } else { read_only(r) }
}

/// Dword 1 of an absent entry: no real page, but the page size; and no R and C, for nobody has used it.
#[inline]
pub(crate) const fn absent_r(guest: u64, low: u64) -> u64 {
    guest & (!HpteR::RPN | low) & !(HpteR::R | HpteR::C)
}

/// Does PP allow it under this storage key?
const fn pp_allows(r: HpteR, key: bool, kind: AccessKind) -> bool {
    let write = matches!(kind, AccessKind::Write);
    match (r.pp(), key) {
        (0 | 1, false) | (2, _) => true,
        (3, _) | (6, false) | (1, true) => !write,
        _ => false,
    }
}

/// Does the virtual page class key allow it?
const fn key_allows(r: HpteR, access: &Access) -> bool {
    let shift = 62 - 2 * r.key();
    let (register, bit) = match access.kind {
        AccessKind::Read => (access.amr, 1),
        AccessKind::Write => (access.amr, 2),
        AccessKind::Execute => (access.iamr, 1),
    };
    (register >> shift) & bit == 0
}

/// What the guest's own entry has against an access, as DSISR or SRR1 would say it; empty when it is allowed.
pub fn denial(guest_r: HpteR, access: &Access) -> Dsisr {
    let pp = pp_allows(guest_r, access.slb.key(access.problem_state), access.kind);
    let key = key_allows(guest_r, access);
    let mut why = Dsisr::empty();
    if matches!(access.kind, AccessKind::Execute) {
        if access.slb.0 & VSID_N != 0 {
            return Dsisr::NOEXEC_OR_GUARDED;
        }
        if guest_r.any(HpteR::N | HpteR::G) {
            why = Dsisr::NOEXEC_OR_GUARDED;
        } else if !pp {
            why = Dsisr::PROTFAULT;
        }
    } else if !pp {
        why = Dsisr::PROTFAULT;
    }
    if !key {
        why = why.union(Dsisr::KEYFAULT);
    }
    if matches!(access.kind, AccessKind::Write) && !why.is_empty() {
        why = why.union(Dsisr::ISSTORE);
    }
    why
}
