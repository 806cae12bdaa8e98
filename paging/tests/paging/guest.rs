//! A partition to test with: its table, its pages, and accesses as the hardware makes them, by way of faults where it cannot.
#![allow(unsafe_code)] // the hardware sets R and C in entries

use std::sync::atomic::{AtomicU64, Ordering};

use hpt::{
    Access, AccessKind, Fault, GuestMmu, Hpt, Page, PageView, Protection, Pteg, Reserve, Resolved, RevBlock,
    RevWord, Slot, SlotKind, Slots, Triage, avpn, pteg_hash,
};
use paging::{Context, Error, Memory, Outcome, Paging};
use power::hpte::encode_page_sizes;
use power::regs::Dsisr;
use power::slb::{SegmentSize, SlbV};
use power::{Ea, GuestReal, HostReal, HpteFormat, HpteR, HpteV, PageSize, PteIndex};

use super::host::{CELLS, Contents, Sim, SimHost};

pub const GROUPS: usize = 16;
const VSID: u64 = 5;
/// Where 16 MiB of a device are.
pub const DEVICE: GuestReal = GuestReal(1 << 32);

pub struct Guest {
    pub hpt: &'static Hpt<'static>,
    pub slots: &'static Slots<'static>,
    pub paging: Paging,
    pub pages: usize,
    groups: &'static [Pteg],
    /// Entries of each page: one that allows stores and one that does not.
    pub entries: Vec<[Option<PteIndex>; 2]>,
}

/// What came of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Got {
    Done(u64),
    Reflected,
    Failed(Error),
    NotMapped,
}

fn leak<T>(n: usize, make: impl Fn() -> T) -> &'static [T] {
    Box::leak((0..n).map(|_| make()).collect::<Vec<_>>().into_boxed_slice())
}

impl Guest {
    /// With RAM in two slots, of which the upper one was added first.
    pub fn new(format: HpteFormat, huge: bool, pages: usize, limit: u64) -> Guest {
        let groups = leak(GROUPS, Pteg::default);
        let words = leak(GROUPS, RevWord::default);
        let hpt = Hpt::new(groups, words, &leak(1, Reserve::new)[0], format).unwrap();
        hpt.add_groups(&leak(1, RevBlock::default)[0]);
        let mut slots = Slots::new(huge);
        let unit = 1u64 << slots.unit_shift();
        let low = pages / 2;
        for (first, n) in [(low, pages - low), (0, low)] {
            let kind = SlotKind::Ram(leak(n, Page::default));
            slots.add(Slot { base: GuestReal(first as u64 * unit), len: n as u64 * unit, kind }).unwrap();
        }
        let kind = SlotKind::Device { host: HostReal(1 << 44), attribute: HpteR::I };
        slots.add(Slot { base: DEVICE, len: 1 << 24, kind }).unwrap();
        Guest {
            hpt: Box::leak(Box::new(hpt)),
            slots: Box::leak(Box::new(slots)),
            paging: Paging::new(pages, limit).unwrap(),
            pages,
            groups,
            entries: vec![[None; 2]; pages],
        }
    }

    pub fn mmu(&self) -> GuestMmu<'_> {
        GuestMmu::new(self.hpt, self.slots)
    }

    pub fn memory<'a>(&'a self, host: &'a SimHost) -> Memory<'a, SimHost, Sim> {
        Memory::new(&self.paging, self.mmu(), host, &Sim)
    }

    pub fn unit(&self) -> u64 {
        1 << self.slots.unit_shift()
    }

    pub fn real(&self, page: usize) -> GuestReal {
        GuestReal(page as u64 * self.unit())
    }

    pub fn view(&self, page: usize) -> PageView {
        self.slots.page(self.real(page)).unwrap().view()
    }

    pub fn protection(&self, page: usize) -> Protection {
        self.view(page).protection()
    }

    fn va(page: usize, which: usize) -> (SlbV, u64) {
        (SlbV(VSID << 12 | SlbV::llp(PageSize::K64)), (page * 2 + which) as u64 * 0x1_0000)
    }

    /// H_ENTER.
    pub fn enter(&mut self, page: usize, which: usize) {
        if self.entries[page][which].is_some() {
            return;
        }
        let (_, offset) = Guest::va(page, which);
        let (l, lp) = encode_page_sizes(PageSize::K64, PageSize::K64).unwrap();
        let v = HpteV(avpn(VSID, SegmentSize::M256, PageSize::K64, offset).0 | l);
        let r = HpteR(self.real(page).0 | lp | HpteR::M | if which == 0 { 2 } else { 3 });
        let group = pteg_hash(VSID, SegmentSize::M256, PageSize::K64, offset) & (GROUPS as u64 - 1);
        self.entries[page][which] = Some(self.mmu().enter(&Sim, 0, PteIndex(group << 3), v, r).unwrap());
    }

    /// H_REMOVE.
    pub fn remove(&mut self, page: usize, which: usize) {
        if let Some(index) = self.entries[page][which].take() {
            self.mmu().remove(&Sim, 0, index, 0).unwrap();
        }
    }

    /// The hardware's walk and the setting of R and C.
    fn hardware(&self, index: PteIndex, kind: AccessKind) -> Result<HostReal, Dsisr> {
        let store = kind == AccessKind::Write;
        let mark = if store { Dsisr::ISSTORE } else { Dsisr::empty() };
        let (v, r) = self.hpt.peek(index).unwrap();
        if !v.any(HpteV::V) {
            return Err(Dsisr::NOHPTE | mark);
        }
        if store && r.pp() != 2 {
            return Err(Dsisr::PROTFAULT | mark);
        }
        let bits = if store { HpteR::R | HpteR::C } else { HpteR::R };
        let words = self.groups.as_ptr().cast::<AtomicU64>();
        // SAFETY: the table is nothing but doublewords, which are atomic; dword 1 of the entry is one of them.
        let dword = unsafe { &*words.add(index.0 as usize * 2 + 1) };
        dword.fetch_or(bits.to_be(), Ordering::SeqCst);
        Ok(HostReal(r.0 & HpteR::RPN & !0xffff))
    }

    /// An access of the guest to a cell of a page, with all that the hypervisor does about it; a store stores `value`.
    pub fn access(
        &self,
        host: &SimHost,
        page: usize,
        which: usize,
        kind: AccessKind,
        cell: usize,
        value: u64,
    ) -> Got {
        let Some(index) = self.entries[page][which] else { return Got::NotMapped };
        let store = kind == AccessKind::Write;
        let (slb, offset) = Guest::va(page, which);
        let within = (cell * (0x1_0000 / CELLS)) as u64;
        let access = Access { ea: Ea(offset + within), slb, kind, problem_state: false, amr: 0, iamr: 0 };
        let use_it = |at: HostReal| {
            if store {
                host.store(at, value);
                value
            } else {
                host.load(at)
            }
        };
        let real = GuestReal(self.real(page).0 + within);
        let memory = self.memory(host);
        for _ in 0..8 {
            let cause = match self.hardware(index, kind) {
                Ok(at) => return Got::Done(use_it(HostReal(at.0 + within))),
                Err(cause) => cause,
            };
            let escalation = match self.mmu().triage(&Fault { access, cause }) {
                Triage::Retry => continue,
                Triage::Reflect(_) => return Got::Reflected,
                Triage::Escalate(escalation) => escalation,
            };
            // As real mode does.
            let at_once = || memory.populate_at_once(real, kind, index);
            match self.mmu().resolve_or(&Sim, &escalation, kind, at_once) {
                Resolved::Installed | Resolved::Changed => continue,
                Resolved::NoPage => panic!("it is RAM"),
                Resolved::Blocked(_) => {}
            }
            let context = Context { ea: Some(access.ea), ..Context::default() };
            match memory.fault(real, kind, &context) {
                Outcome::Retry => {}
                Outcome::Failed(error) => return Got::Failed(error),
                Outcome::Emulate => {
                    return match memory.reach(real, kind, None, |at, left| {
                        assert_eq!(left, self.unit() - within);
                        use_it(at)
                    }) {
                        Ok(value) => Got::Done(value),
                        Err(error) => Got::Failed(error),
                    };
                }
            }
        }
        panic!("no progress");
    }

    /// What the partition has in a page.
    pub fn contents(&self, host: &SimHost, page: usize) -> Contents {
        self.view(page).host().map_or([0; CELLS], |at| host.contents(at))
    }

    /// The hardware sees no more than the page's state allows.
    pub fn check_entries(&self) {
        for (page, which) in (0..self.pages).flat_map(|p| [(p, 0), (p, 1)]) {
            let Some(index) = self.entries[page][which] else { continue };
            let (v, r) = self.hpt.peek(index).unwrap();
            if v.any(HpteV::V) {
                let view = self.view(page);
                assert!(view.is_present(), "an entry of an absent page");
                assert_eq!(view.host(), Some(HostReal(r.0 & HpteR::RPN & !0xffff)), "a stale entry");
                assert!(
                    view.is_writable() || r.pp() != 2,
                    "a writable entry of a page that is not: {view:?}"
                );
            }
        }
    }
}
