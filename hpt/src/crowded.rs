//! For the tests with several threads: a table of one group, so that all get into each other's way, and what must be true when they are done.

use power::hcall::flags as f;
use power::{GuestReal, HostReal, HpteFormat, HpteR, HpteV, PteIndex};

use crate::entry::{END, IN_USE, LINKED, LOCK};
use crate::sync::Ordering;
use crate::*;

/// A table of one group, and two pages, of which the first is private.
pub(crate) struct Shared {
    groups: Vec<Pteg>,
    words: Vec<RevWord>,
    reserve: Reserve,
    pages: Vec<Page>,
}

/// A machine without TLBs and memory.
pub(crate) struct Quiet;

impl Machine for Quiet {
    fn tlb_invalidate(&self, _: PteIndex, _: HpteV, _: HpteR) {}
    fn tlb_sync(&self) {}
    fn zero(&self, _: HostReal, _: u64) {}
    fn copy(&self, _: HostReal, _: HostReal, _: u64) {}
    fn icache_sync(&self, _: HostReal, _: u64) {}
}

pub(crate) const RW: u64 = HpteR::M | 2;
pub(crate) const AT: GuestReal = GuestReal(0);

/// Dword 0 of the page of 4 KiB at `8 MiB * n` in segment 5. There is one group, so any hash will do.
pub(crate) fn v(n: u64) -> HpteV {
    HpteV(5 << 12 | n << 7)
}

impl Shared {
    /// With `filled` entries of other pages in front.
    pub(crate) fn new(filled: u64) -> Shared {
        let shared = Shared {
            groups: vec![Pteg::default()],
            words: vec![RevWord::default()],
            reserve: Reserve::new(),
            pages: vec![Page::default(), Page::default()],
        };
        shared.with(|mmu| {
            mmu.hpt().add_groups(Box::leak(Box::default()));
            mmu.populate(AT, PageState::Private, HostReal(0x10_0000)).unwrap();
            for i in 0..filled {
                let r = HpteR(1 << 40 | RW);
                mmu.enter(&Quiet, f::EXACT, PteIndex(i), v(16 + i), r).unwrap();
            }
        });
        shared
    }

    pub(crate) fn with<T>(&self, body: impl FnOnce(GuestMmu<'_>) -> T) -> T {
        let hpt = Hpt::new(&self.groups, &self.words, &self.reserve, HpteFormat::V3_0).unwrap();
        let mut slots = Slots::new(false);
        slots.add(Slot { base: AT, len: 2 << 16, kind: SlotKind::Ram(&self.pages) }).unwrap();
        body(GuestMmu::new(&hpt, &slots))
    }

    /// Nothing is locked, the first page's chain has just its entries, and the hardware's rights are no more than the page's.
    pub(crate) fn check(&self) {
        self.with(|mmu| {
            let page = &self.pages[0];
            let view = page.view();
            assert!(page.try_lock().is_some());
            page.unlock(view);
            let mut on_chain = Vec::new();
            let mut link = page.head();
            while link & LINKED != 0 && link != END {
                on_chain.push((link & !LINKED) as u64);
                link = mmu.follow(link).unwrap().forward.load(Ordering::Relaxed);
                assert!(on_chain.len() <= 8);
            }
            on_chain.sort();
            let mut entries = Vec::new();
            for i in 0..8 {
                let entry = mmu.hpt().entry(PteIndex(i)).unwrap();
                let raw = entry.hpte.v.load_raw(Ordering::Relaxed);
                assert_eq!(raw & LOCK, 0);
                if raw & IN_USE == 0 || entry.rev.guest().0 & HpteR::RPN != 0 {
                    continue;
                }
                entries.push(i);
                let (v, r) = mmu.hpt().peek(PteIndex(i)).unwrap();
                if v.any(HpteV::V) {
                    assert!(view.is_present());
                    assert!(view.is_writable() || r.pp() == 3, "writable entry of a read-only page");
                    assert_eq!(Some(HostReal(r.0 & HpteR::RPN)), view.host());
                } else {
                    assert_eq!(r.0 & HpteR::RPN, 0);
                }
            }
            assert_eq!(on_chain, entries);
        });
    }
}
