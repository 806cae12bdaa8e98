//! A partition, a simple model of it, and steps that do the same to both and compare.
//!
//! The model is two maps: entries by index, and pages by number with the contents they should have. It knows nothing of hashes,
//! locks, TLBs or chains. The guest's view of R and C is compared exactly, rights and contents at every access.

use std::cell::RefCell;
use std::collections::HashMap;

use power::hcall::flags as f;
use power::hpte::{encode_page_sizes, page_sizes};
use power::regs::Dsisr;
use power::slb::{SegmentSize, SlbV, VRMA_VSID};
use power::{Ea, GuestReal, HostReal, HpteFormat, HpteR, HpteV, PageSize, PteIndex};

use super::mock::{Mock, protection};
use crate::*;

pub const GROUPS: usize = 2048;
pub const DEVICE_I: u64 = 0x1_0000_0000;
pub const DEVICE_M: u64 = 0x1_0100_0000;
pub const NOWHERE: u64 = 0x2_0000_0000;
const DEVICE_LEN: u64 = 0x10_0000;
const DEVICE_HOST: u64 = 0x600_0000_0000;

/// A virtual page that the guest uses, always with the same sizes.
#[derive(Clone, Copy, Debug)]
pub struct Va {
    pub slb: SlbV,
    pub offset: u64,
    pub base: PageSize,
    pub actual: PageSize,
}

impl Va {
    fn new(vsid: u64, segment: SegmentSize, offset: u64, base: PageSize, actual: PageSize) -> Va {
        let shift = segment.shift() - 16;
        Va { slb: SlbV(segment.b() << 62 | vsid << shift | SlbV::llp(base)), offset, base, actual }
    }

    fn vrma(size: PageSize, offset: u64) -> Va {
        Va { slb: SlbV::vrma(size), offset, base: size, actual: size }
    }

    pub fn is_vrma(&self) -> bool {
        self.slb.segment() == SegmentSize::T1 && self.slb.vsid() == VRMA_VSID
    }

    /// Dword 0 for H_ENTER, and an index in the group.
    pub fn place(&self, secondary: bool) -> (HpteV, PteIndex) {
        let (vsid, segment) = (self.slb.vsid(), self.slb.segment());
        let hash = pteg_hash(vsid, segment, self.base, self.offset);
        let group = if secondary { !hash } else { hash } & (GROUPS as u64 - 1);
        let (l, _) = encode_page_sizes(self.base, self.actual).unwrap();
        let h = if secondary { HpteV::H } else { 0 };
        (HpteV(avpn(vsid, segment, self.base, self.offset).0 | l | h), PteIndex(group * 8))
    }

    /// Dword 1 for H_ENTER.
    pub fn r(&self, real: u64, bits: u64) -> HpteR {
        let (_, lp) = encode_page_sizes(self.base, self.actual).unwrap();
        HpteR(real & !(self.actual.bytes() - 1) | lp | bits)
    }

    pub fn access(&self, within: u64, kind: AccessKind) -> Access {
        let ea = Ea(0x7000_0000_0000_0000 | self.offset | within & (self.base.bytes() - 1));
        Access { ea, slb: self.slb, kind, problem_state: false, amr: 0, iamr: 0 }
    }
}

/// The guest's virtual pages: most of them hash to one group, so that groups fill up.
pub fn universe(huge: bool) -> Vec<Va> {
    use PageSize::*;
    use SegmentSize::*;
    const TARGET: u64 = 0x123;
    let mut all = Vec::new();
    let near = |high: u64, page: u64| high << 11 | (TARGET ^ page) & 0x7ff;
    for i in 0..5u64 {
        let page = 0x100 * i + i;
        all.push(Va::new(near(i + 1, page), M256, page << 12, K4, K4));
    }
    for i in 0..5u64 {
        let page = 0x1d * i;
        all.push(Va::new(near(i + 17, page), M256, page << 16, K64, K64));
    }
    for i in 0..3u64 {
        let page = 0x310 * i + 3;
        all.push(Va::new(near(i + 33, page), M256, page << 12, K4, K64));
    }
    all.push(Va::new(0x777, T1, 0x12_3456_7000, K4, K4));
    all.push(Va::new(near(9, 0x54_321), T1, 0x54_3210_000, K64, K64));
    // The same page number in another kind of segment, and the complement's group.
    all.push(Va::new(near(1, 0), T1, 0, K4, K4));
    all.push(Va::new(near(5, 0) ^ 0x7ff, M256, 0, K64, K64));
    for i in 0..4 {
        all.push(Va::vrma(K64, i << 16));
    }
    if huge {
        for i in 0..3u64 {
            all.push(Va::new(near(i + 49, i), M256, i << 24, M16, M16));
            all.push(Va::new(near(i + 65, 0x1007 * i), M256, (0x1007 * i) << 12, K4, M16));
            all.push(Va::new(near(i + 81, 0x104 * i), M256, (0x104 * i) << 16, K64, M16));
        }
    }
    all
}

#[derive(Clone, Debug)]
struct Entry {
    v: HpteV,
    /// With R and C exactly as the guest must see them.
    r: HpteR,
    /// Which of the universe, if it can be reached.
    va: Option<usize>,
}

#[derive(Clone, Debug)]
struct PageModel {
    state: PageState,
    protection: Protection,
    host: u64,
    /// Contents of each 4 KiB that is not zero.
    contents: HashMap<u64, u64>,
    /// What was surely done to it since the last harvest, and what a guest's R and C might add.
    used: u64,
    claimed: u64,
}

pub struct World<'a> {
    pub mmu: GuestMmu<'a>,
    pub m: &'a Mock<'a>,
    pub vas: Vec<Va>,
    entries: HashMap<u64, Entry>,
    pages: Vec<PageModel>,
    unit: u64,
    next_host: u64,
    next_value: u64,
    /// What happened, to see that everything does.
    pub seen: RefCell<HashMap<&'static str, usize>>,
}

/// Makes a partition and hands it out.
pub fn with_world<T>(format: HpteFormat, huge: bool, body: impl FnOnce(&mut World<'_>) -> T) -> T {
    let groups: Vec<Pteg> = (0..GROUPS).map(|_| Pteg::default()).collect();
    let revs: Vec<RevGroup> = (0..GROUPS).map(|_| RevGroup::default()).collect();
    let pages: Vec<Page> = (0..if huge { 3 } else { 24 }).map(|_| Page::default()).collect();
    let hpt = Hpt::new(&groups, &revs, format).unwrap();
    let mut slots = Slots::new(huge);
    let unit = 1u64 << slots.unit_shift();
    slots
        .add(Slot { base: GuestReal(0), len: unit * pages.len() as u64, kind: SlotKind::Ram(&pages) })
        .unwrap();
    for (base, host, attribute) in
        [(DEVICE_I, DEVICE_HOST, HpteR::I), (DEVICE_M, DEVICE_HOST + 0x100_0000, 0)]
    {
        let kind = SlotKind::Device { host: HostReal(host), attribute };
        slots.add(Slot { base: GuestReal(base), len: DEVICE_LEN, kind }).unwrap();
    }
    let m = Mock::new(&groups, format);
    let page = PageModel {
        state: PageState::NotPopulated,
        protection: Protection::ReadWrite,
        host: 0,
        contents: HashMap::new(),
        used: 0,
        claimed: 0,
    };
    let mut world = World {
        mmu: GuestMmu::new(&hpt, &slots),
        m: &m,
        vas: universe(huge),
        entries: HashMap::new(),
        pages: vec![page; pages.len()],
        unit,
        next_host: 0x100_0000_0000,
        next_value: 0,
        seen: RefCell::default(),
    };
    body(&mut world)
}

/// What a guest's access should come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    Reflected(Dsisr),
    Mmio,
}

const RC: u64 = HpteR::R | HpteR::C;

impl World<'_> {
    fn saw(&self, what: &'static str) {
        *self.seen.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn new_host(&mut self) -> HostReal {
        self.next_host += self.unit;
        HostReal(self.next_host)
    }

    fn page_at(&self, real: u64) -> Option<usize> {
        let n = (real / self.unit) as usize;
        (n < self.pages.len()).then_some(n)
    }

    fn entry_of(&self, va: usize) -> Option<u64> {
        self.entries.iter().find(|(_, e)| e.va == Some(va)).map(|(i, _)| *i)
    }

    // ---- what backs pages ----

    pub fn populate(&mut self, n: usize, state: PageState) {
        let real = GuestReal(n as u64 * self.unit);
        let host = self.new_host();
        let done = self.mmu.populate(real, state, host);
        let page = &mut self.pages[n];
        if page.state == PageState::NotPopulated {
            done.unwrap();
            page.state = state;
            page.host = host.0;
            page.contents.clear();
        } else {
            assert!(matches!(done, Err(BackingError::WrongState(_))));
        }
    }

    pub fn make_shared(&mut self, n: usize) {
        let done = self.mmu.make_shared(self.m, GuestReal(n as u64 * self.unit));
        let page = &mut self.pages[n];
        if page.state == PageState::NotPopulated {
            done.unwrap_err();
        } else {
            assert_eq!(done.unwrap().0, page.host);
            page.state = PageState::Shared;
        }
    }

    /// A shared page goes to other memory, as private or as shared.
    pub fn move_page(&mut self, n: usize, private: bool, in_place: bool) {
        let real = GuestReal(n as u64 * self.unit);
        let old = self.pages[n].host;
        let host = if in_place && private { HostReal(old) } else { self.new_host() };
        if self.pages[n].state == PageState::Shared && host.0 != old {
            self.m.copy(HostReal(old), host, self.unit);
        }
        let done = if private {
            self.mmu.make_private(self.m, real, host)
        } else {
            self.mmu.move_shared(self.m, real, host)
        };
        let page = &mut self.pages[n];
        if page.state == PageState::Shared {
            assert_eq!(done.unwrap().0, old);
            page.host = host.0;
            page.state = if private { PageState::Private } else { PageState::Shared };
            // What is left behind is not the guest's any more: were it still read, that would show.
            if host.0 != old {
                self.m.poison(HostReal(old), self.unit);
            }
        } else {
            done.unwrap_err();
        }
    }

    pub fn protect_page(&mut self, n: usize, protection: Protection) {
        let old = self.mmu.set_protection(self.m, GuestReal(n as u64 * self.unit), protection).unwrap();
        assert_eq!(old, self.pages[n].protection);
        self.pages[n].protection = protection;
    }

    pub fn discard(&mut self, n: usize) {
        let done = self.mmu.discard(self.m, GuestReal(n as u64 * self.unit));
        let page = &mut self.pages[n];
        if page.state == PageState::NotPopulated {
            done.unwrap_err();
            return;
        }
        let (host, usage) = done.unwrap();
        assert_eq!(host.0, page.host);
        page.state = PageState::NotPopulated;
        page.contents.clear();
        self.m.poison(host, self.unit);
        self.check_usage(n, usage);
    }

    pub fn harvest(&mut self, n: usize) {
        let usage = self.mmu.harvest(self.m, GuestReal(n as u64 * self.unit)).unwrap();
        self.check_usage(n, usage);
        // Asked again at once, there is nothing new.
        let usage = self.mmu.harvest(self.m, GuestReal(n as u64 * self.unit)).unwrap();
        assert_eq!(usage, Usage::default());
    }

    fn check_usage(&mut self, n: usize, usage: Usage) {
        let page = &mut self.pages[n];
        let bits = if usage.referenced { HpteR::R } else { 0 } | if usage.changed { HpteR::C } else { 0 };
        assert_eq!(page.used & !bits, 0, "page {n}: used {:#x}, harvested {bits:#x}", page.used);
        assert_eq!(bits & !(page.used | page.claimed), 0, "page {n}: harvested more than was used");
        page.used = 0;
        page.claimed = 0;
        // What guests claim in entries that exist may come again.
        let unit = self.unit;
        for e in self.entries.values() {
            if (e.r.0 & HpteR::RPN) / unit == n as u64 {
                self.pages[n].claimed |= e.r.0 & RC;
            }
        }
    }

    pub fn share_all(&mut self) {
        self.m.flush();
        self.mmu.share_all_quiesced();
        for page in &mut self.pages {
            if page.state != PageState::NotPopulated {
                page.state = PageState::Shared;
            }
        }
    }

    pub fn clear(&mut self) {
        self.m.flush();
        self.mmu.clear();
        for n in 0..self.pages.len() {
            self.pages[n].used = 0;
            self.pages[n].claimed = RC;
        }
        self.entries.clear();
    }

    // ---- hypervisor calls ----

    /// H_ENTER of a virtual page at a real address, with everything that the model says about it.
    #[allow(clippy::too_many_arguments)]
    pub fn enter(
        &mut self,
        va: Option<usize>,
        flags: u64,
        index: PteIndex,
        v: HpteV,
        r: HpteR,
    ) -> Result<PteIndex, HptError> {
        let before = self.m.take_tlbies();
        let _ = before;
        let result = self.mmu.enter(self.m, flags, index, v, r);
        assert_eq!(self.m.take_tlbies(), 0, "entering needs no tlbie");
        let expected = self.expect_enter(flags, index, v, r);
        match (result, expected) {
            (Ok(at), Ok(())) => {
                self.saw("enter");
                assert_eq!(at.group(), index.group());
                assert!(flags & f::EXACT == 0 || at == index);
                assert!(!self.entries.contains_key(&at.0));
                let guest_v = HpteV(v.0 & !0x60 | 1);
                let guest_r = HpteR(r.0 & !(1 << 62));
                self.entries.insert(at.0, Entry { v: guest_v, r: guest_r, va });
                if let Some(n) = self.page_at(guest_r.0 & HpteR::RPN) {
                    self.pages[n].claimed |= guest_r.0 & RC;
                    if flags & f::ZERO_PAGE != 0 {
                        let (_, actual) = page_sizes(v, r).unwrap();
                        let real = guest_r.0 & HpteR::RPN & !(actual.bytes() - 1);
                        let unit = self.unit;
                        let page = &mut self.pages[n];
                        page.used |= HpteR::C;
                        page.claimed |= RC;
                        let first = real % unit >> 12;
                        page.contents.retain(|k, _| *k < first || *k >= first + (actual.bytes() >> 12));
                    }
                }
            }
            (got, want) => assert_eq!(got.map(|_| ()), want),
        }
        result
    }

    fn expect_enter(&self, flags: u64, index: PteIndex, v: HpteV, r: HpteR) -> Result<(), HptError> {
        let Some((_, actual)) = page_sizes(v, r) else { return Err(HptError::Parameter) };
        if index.0 >= GROUPS as u64 * 8 || flags & f::COPY_PAGE != 0 || actual.bytes() > self.unit {
            return Err(HptError::Parameter);
        }
        if actual == PageSize::M16 && r.0 & 0xf0_0000 != 0 {
            return Err(HptError::Parameter);
        }
        let wide = self.m.format == HpteFormat::V3_0 && v.0 & 0x3ff0_0000_0000_0000 != 0;
        if v.0 >> 63 != 0 || wide || matches!(r.pp(), 4 | 5 | 7) {
            return Err(HptError::Parameter);
        }
        let real = r.0 & HpteR::RPN & !(actual.bytes() - 1);
        let wimg = r.0 & HpteR::WIMG;
        let w_i = if wimg == 0x70 { 0 } else { wimg & 0x60 };
        let page = self.page_at(real);
        let special = flags & (f::ZERO_PAGE | f::ICACHE_INVALIDATE | f::ICACHE_SYNCHRONIZE);
        if page.is_none() {
            let nowhere = real >= NOWHERE || (real >= self.unit * self.pages.len() as u64 && real < DEVICE_I);
            if actual == PageSize::M16 && nowhere {
                return Err(HptError::Parameter);
            }
            let within = |base: u64| real >= base && real + actual.bytes() <= base + DEVICE_LEN;
            let touches = |base: u64| real < base + DEVICE_LEN && real + actual.bytes() > base;
            for (base, attribute) in [(DEVICE_I, HpteR::I), (DEVICE_M, 0)] {
                if touches(base) && (!within(base) || w_i != attribute) {
                    return Err(HptError::Parameter);
                }
            }
            if flags & f::ZERO_PAGE != 0 {
                return Err(HptError::Parameter);
            }
        }
        let free = |i: u64| !self.entries.contains_key(&i);
        let room =
            if flags & f::EXACT != 0 { free(index.0) } else { (0..8).any(|i| free(index.group().0 + i)) };
        if !room {
            return Err(HptError::PtegFull);
        }
        if let Some(n) = page
            && special != 0
        {
            let page = &self.pages[n];
            let present = page.state != PageState::NotPopulated && page.protection != Protection::None;
            let writable = page.state == PageState::Private && page.protection == Protection::ReadWrite;
            if !present || (flags & f::ZERO_PAGE != 0 && !writable) {
                return Err(HptError::TooHard);
            }
        }
        Ok(())
    }

    fn holds(&self, flags: u64, index: u64, avpn: u64) -> Result<(), HptError> {
        if index >= GROUPS as u64 * 8 {
            return Err(HptError::Parameter);
        }
        match self.entries.get(&index) {
            None => Err(HptError::NotFound),
            Some(e) if flags & f::AVPN != 0 && e.v.0 & !0x7f != avpn => Err(HptError::NotFound),
            Some(e) if flags & f::ANDCOND != 0 && e.v.0 & avpn != 0 => Err(HptError::NotFound),
            Some(_) => Ok(()),
        }
    }

    pub fn remove(&mut self, flags: u64, index: u64, avpn: u64) -> Result<(HpteV, HpteR), HptError> {
        self.m.take_tlbies();
        let valid = self.hardware_sees(index);
        let result = self.mmu.remove(self.m, flags, PteIndex(index), avpn);
        assert_eq!(result.map(|_| ()), self.holds(flags, index, avpn));
        assert_eq!(self.m.take_tlbies(), usize::from(valid && result.is_ok()));
        if let Ok((v, r)) = result {
            self.saw("remove");
            let e = self.entries.remove(&index).unwrap();
            assert_eq!((v, r), (e.v, e.r));
            assert!(!self.hardware_sees(index));
        }
        result
    }

    pub fn bulk(&mut self, specifiers: [u64; 8]) {
        self.m.take_tlbies();
        let mut got = specifiers;
        let result = self.mmu.bulk_remove(self.m, &mut got);
        let mut want = specifiers;
        let mut expected = Ok(());
        for i in 0..4 {
            let (word, avpn) = (specifiers[2 * i], specifiers[2 * i + 1]);
            if word >> 62 == 3 {
                break;
            }
            let (cond, index) = (word >> 56 & 3, word & ((1 << 56) - 1));
            let bare = 2 << 62 | cond << 56 | index;
            let flags = [0, f::ANDCOND, f::AVPN, 0][cond as usize];
            let found = self.holds(flags, index, avpn);
            if word >> 62 != 1 || cond == 3 || found == Err(HptError::Parameter) {
                want[2 * i] = bare | 2 << 60;
                expected = Err(HptError::Parameter);
                break;
            }
            want[2 * i] = match found {
                Ok(()) => {
                    let e = self.entries.remove(&index).unwrap();
                    self.saw("bulk remove");
                    bare | (e.r.0 >> 8 & 1) << 59 | (e.r.0 >> 7 & 1) << 58
                }
                Err(_) => bare | 1 << 60,
            };
        }
        assert_eq!(result, expected);
        assert_eq!(got.map(|w| format!("{w:#x}")), want.map(|w| format!("{w:#x}")));
    }

    pub fn read(&self, index: u64) {
        let result = self.mmu.read(PteIndex(index));
        let want = match self.entries.get(&index) {
            _ if index >= GROUPS as u64 * 8 => Err(HptError::Parameter),
            Some(e) => Ok((e.v, e.r)),
            None => Ok((HpteV(0), HpteR(0))),
        };
        assert_eq!(result, want, "H_READ {index:#x}");
    }

    pub fn read_4(&self, index: u64) {
        let result = self.mmu.read_4(PteIndex(index)).unwrap();
        for (i, got) in result.iter().enumerate() {
            assert_eq!(self.mmu.read(PteIndex(index & !3 | i as u64)), Ok(*got));
        }
    }

    pub fn protect(&mut self, flags: u64, index: u64, avpn: u64) -> Result<(), HptError> {
        let result = self.mmu.protect(self.m, flags, PteIndex(index), avpn);
        let pp = flags & 3 | (flags >> 8 & 1) << 2;
        let bad = matches!(pp, 4 | 5 | 7);
        let want = if bad { Err(HptError::Parameter) } else { self.holds(flags & f::AVPN, index, avpn) };
        assert_eq!(result, want);
        if result.is_ok() {
            self.saw("protect");
            let e = self.entries.get_mut(&index).unwrap();
            let key = flags >> 9 & 0x1f;
            e.r.0 &= !(7 | 1 << 63 | 3 << 60 | 0xe00);
            e.r.0 |= flags & 7 | (pp >> 2) << 63 | (key >> 3) << 60 | (key & 7) << 9;
        }
        result
    }

    pub fn clear_usage(&mut self, index: u64, modified: bool) {
        let bit = if modified { HpteR::C } else { HpteR::R };
        let result = if modified {
            self.mmu.clear_mod(self.m, PteIndex(index))
        } else {
            self.mmu.clear_ref(self.m, PteIndex(index))
        };
        match self.holds(0, index, 0) {
            Ok(()) => {
                let e = self.entries.get_mut(&index).unwrap();
                assert_eq!(result, Ok(e.r));
                e.r.0 &= !bit;
            }
            Err(e) => assert_eq!(result, Err(e)),
        }
    }

    pub fn page_init(&mut self, flags: u64, to: u64, from: u64) {
        let result = self.mmu.page_init(self.m, flags, GuestReal(to), GuestReal(from));
        let copy = flags & f::COPY_PAGE != 0;
        let write = copy || flags & f::ZERO_PAGE != 0;
        let known =
            f::COPY_PAGE | f::ZERO_PAGE | f::ICACHE_INVALIDATE | f::ICACHE_SYNCHRONIZE | f::PAGE_STATE;
        let ram = |real: u64| self.page_at(real).filter(|_| real & 0xfff == 0);
        let (to_page, from_page) = (ram(to), if copy { ram(from) } else { Some(0) });
        let (Some(n), Some(k), true) = (to_page, from_page, flags & !known == 0) else {
            assert_eq!(result, Err(HptError::Parameter));
            return;
        };
        let present = |p: &PageModel| p.state != PageState::NotPopulated && p.protection != Protection::None;
        let writable = |p: &PageModel| p.state == PageState::Private && p.protection == Protection::ReadWrite;
        let (p, q) = (&self.pages[n], &self.pages[k]);
        if !present(p) || (write && !writable(p)) || (copy && !present(q)) {
            assert_eq!(result, Err(HptError::TooHard));
            return;
        }
        assert_eq!(result, Ok(()));
        self.saw("page init");
        let value = if copy { q.contents.get(&(from % self.unit >> 12)).copied().unwrap_or(0) } else { 0 };
        if copy {
            self.pages[k].claimed |= HpteR::R;
        }
        if write {
            let unit = self.unit;
            self.pages[n].used |= HpteR::C;
            self.pages[n].claimed |= RC;
            self.pages[n].contents.insert(to % unit >> 12, value);
        }
    }

    pub fn insert_vrma(&mut self, va: usize) {
        let page = self.vas[va];
        let before = self.entry_of(va);
        let result = self.mmu.insert_vrma(self.m, page.base, Ea(page.offset));
        if let Some(index) = before {
            assert_eq!(result, Ok(PteIndex(index)));
            return;
        }
        let (v, primary) = page.place(false);
        let (_, secondary) = page.place(true);
        if self.page_at(page.offset).is_none() {
            assert_eq!(result, Err(HptError::Parameter));
            return;
        }
        match result {
            Ok(at) => {
                self.saw("vrma");
                let h = if at.group() == primary { 0 } else { HpteV::H };
                assert!(at.group() == primary || at.group() == secondary);
                if let Some(victim) = self.entries.remove(&at.0) {
                    self.saw("vrma evicts");
                    assert!(!victim.v.any(HpteV::BOLTED));
                    for group in [primary, secondary] {
                        assert!(
                            (0..8).all(|i| i + group.0 == at.0 || self.entries.contains_key(&(group.0 + i)))
                        );
                    }
                }
                let e = Entry {
                    v: HpteV(v.0 | h | HpteV::BOLTED | HpteV::V),
                    r: page.r(page.offset, HpteR::M),
                    va: Some(va),
                };
                self.entries.insert(at.0, e);
            }
            Err(error) => {
                assert_eq!(error, HptError::PtegFull);
                for group in [primary, secondary] {
                    assert!((0..8).all(|i| {
                        self.entries.get(&(group.0 + i)).is_some_and(|e| e.v.any(HpteV::BOLTED))
                    }));
                }
            }
        }
    }

    // ---- what guests do ----

    /// What should come of an access, and the entry it goes through.
    fn expect(&self, va: usize, access: &Access) -> (Outcome, Option<u64>) {
        let store = access.kind == AccessKind::Write;
        if access.kind == AccessKind::Execute && access.slb.0 & 0x200 != 0 {
            return (Outcome::Reflected(Dsisr::NOEXEC_OR_GUARDED), None);
        }
        let Some(index) = self.entry_of(va) else {
            let why = if store { Dsisr::NOHPTE | Dsisr::ISSTORE } else { Dsisr::NOHPTE };
            return (Outcome::Reflected(why), None);
        };
        let e = &self.entries[&index];
        let why = protection(e.r.0, access);
        if !why.is_empty() {
            return (Outcome::Reflected(why), None);
        }
        let real = self.real(e, access);
        let device = [DEVICE_I, DEVICE_M].iter().any(|d| (*d..*d + DEVICE_LEN).contains(&real));
        if self.page_at(real).is_none() && !device {
            return (Outcome::Mmio, Some(index));
        }
        (Outcome::Done, Some(index))
    }

    fn real(&self, e: &Entry, access: &Access) -> u64 {
        let (_, actual) = page_sizes(e.v, e.r).unwrap();
        let low = actual.bytes() - 1;
        e.r.0 & HpteR::RPN & !low | access.ea.0 & low
    }

    /// Notes a use of an entry in the model.
    fn note(&mut self, index: u64, real: u64, store: bool) {
        let bits = if store { RC } else { HpteR::R };
        self.entries.get_mut(&index).unwrap().r.0 |= bits;
        if let Some(n) = self.page_at(real) {
            self.pages[n].used |= bits;
        }
    }

    /// A guest's access, with everything the hypervisor does until it is over.
    pub fn access(&mut self, va: usize, access: &Access) -> Outcome {
        let (want, index) = self.expect(va, access);
        let mut got = None;
        let mut faults = 0;
        while got.is_none() {
            faults += 1;
            assert!(faults < 8, "no progress: {access:?}");
            match self.m.access(access) {
                Ok(host) => {
                    assert_eq!(want, Outcome::Done, "the hardware allows too much: {access:?}");
                    self.touch(index.unwrap(), access, host);
                    got = Some(Outcome::Done);
                }
                Err(cause) => match self.mmu.triage(&Fault { access: *access, cause }) {
                    Triage::Retry => self.saw("retry"),
                    Triage::Reflect(why) => got = Some(Outcome::Reflected(why)),
                    Triage::Escalate(escalation) => got = self.escalated(&escalation, access.kind),
                },
            }
        }
        let got = got.unwrap();
        assert_eq!(got, want, "{:x?} {access:x?}", self.vas[va]);
        got
    }

    fn touch(&mut self, index: u64, access: &Access, host: HostReal) {
        let store = access.kind == AccessKind::Write;
        let real = self.real(&self.entries[&index], access);
        self.note(index, real, store);
        let Some(n) = self.page_at(real) else {
            self.saw("device access");
            let device = if real < DEVICE_M { DEVICE_I } else { DEVICE_M };
            assert_eq!(host.0, real - device + DEVICE_HOST + if device == DEVICE_M { 0x100_0000 } else { 0 });
            return;
        };
        self.saw(if store { "store" } else { "load" });
        let unit = self.unit;
        let page = &mut self.pages[n];
        assert_eq!(host.0, page.host + real % unit, "wrong memory");
        assert_ne!(page.protection, Protection::None);
        let frame = real % unit >> 12;
        if store {
            assert_eq!((page.state, page.protection), (PageState::Private, Protection::ReadWrite));
            self.next_value += 1;
            page.contents.insert(frame, self.next_value);
            self.m.set(host, self.next_value);
        } else {
            assert_ne!(page.state, PageState::NotPopulated);
            assert_eq!(self.m.get(host), page.contents.get(&frame).copied().unwrap_or(0), "wrong contents");
        }
    }

    /// Virtual mode's part.
    fn escalated(&mut self, escalation: &Escalation, kind: AccessKind) -> Option<Outcome> {
        self.saw("escalation");
        match self.mmu.resolve(self.m, escalation, kind) {
            Resolved::Installed => None,
            Resolved::Changed => panic!("nobody else is here"),
            Resolved::NoPage => Some(Outcome::Mmio),
            Resolved::Blocked(view) => {
                let n = self.page_at(escalation.guest_r.0 & HpteR::RPN).unwrap();
                let page = self.pages[n].clone();
                assert_eq!((view.state(), view.protection()), (page.state, page.protection));
                let write = kind == AccessKind::Write;
                if page.protection == Protection::None || (write && page.protection != Protection::ReadWrite)
                {
                    self.saw("notifier");
                    self.protect_page(n, Protection::ReadWrite);
                } else if page.state == PageState::NotPopulated {
                    let state = if write { PageState::Private } else { PageState::Shared };
                    self.populate(n, state);
                } else {
                    assert!(write && page.state == PageState::Shared, "blocked for nothing");
                    self.saw("unshare");
                    self.move_page(n, true, self.next_value % 3 == 0);
                }
                None
            }
        }
    }

    pub fn xlate(&mut self, va: usize, access: &Access) {
        let (want, index) = self.expect(va, access);
        match self.mmu.xlate(access) {
            Ok(t) => {
                let index = index.expect("translated what is not there");
                assert_eq!(t.index.0, index);
                let real = self.real(&self.entries[&index], access);
                assert_eq!(t.real.0, real);
                let store = access.kind == AccessKind::Write;
                self.note(index, real, store);
                assert_eq!(t.guest_r.0 & !RC, self.entries[&index].r.0 & !RC);
                if let Some(n) = self.page_at(real) {
                    let page = &self.pages[n];
                    let writable =
                        page.state == PageState::Private && page.protection == Protection::ReadWrite;
                    let present =
                        page.state != PageState::NotPopulated && page.protection != Protection::None;
                    let host = if store { writable } else { present }.then_some(page.host + real % self.unit);
                    assert_eq!(t.host.map(|h| h.0), host);
                } else {
                    assert_eq!(t.host.is_some(), want == Outcome::Done);
                }
            }
            Err(XlateError::NotFound(why) | XlateError::Denied(why)) => {
                assert_eq!(want, Outcome::Reflected(why));
            }
            Err(XlateError::Busy) => panic!("nobody holds a lock"),
        }
    }

    // ---- the whole ----

    fn hardware_sees(&self, index: u64) -> bool {
        self.mmu.hpt().peek(PteIndex(index)).is_some_and(|(v, _)| v.any(HpteV::V))
    }

    /// Every entry is as the model has it, and what the hardware sees is no more than page and guest allow.
    pub fn check(&self) {
        let o = self.mmu.hpt().occupancy();
        assert_eq!(o.valid + o.absent, self.entries.len());
        for (index, e) in &self.entries {
            self.read(*index);
            let (v, r) = self.mmu.hpt().peek(PteIndex(*index)).unwrap();
            assert!(!v.any(HpteV::HVLOCK) && v.any(HpteV::V) != v.any(HpteV::ABSENT));
            let linked = self.mmu.hpt().entry(PteIndex(*index)).unwrap().rev.is_linked();
            let Some(n) = self.page_at(e.r.0 & HpteR::RPN) else {
                assert!(!linked);
                continue;
            };
            assert!(linked);
            let page = &self.pages[n];
            if v.any(HpteV::V) {
                let write = page.state == PageState::Private && page.protection == Protection::ReadWrite;
                assert!(page.state != PageState::NotPopulated && page.protection != Protection::None);
                assert!(write || matches!(r.pp(), 3 | 6), "writable entry of a page that is not");
                assert!(matches!(r.0 & HpteR::WIMG, HpteR::M | 0x70), "RAM is cacheable");
                let (_, actual) = page_sizes(v, r).unwrap();
                let low = actual.bytes() - 1;
                assert_eq!(r.0 & HpteR::RPN & !low, page.host + (e.r.0 & HpteR::RPN & !low) % self.unit);
            }
        }
        self.check_chains();
    }

    /// Each page's chain has exactly the entries of the page.
    fn check_chains(&self) {
        for n in 0..self.pages.len() {
            let page = self.mmu.slots().page(GuestReal(n as u64 * self.unit)).unwrap();
            let mut found = Vec::new();
            let head = page.head();
            let mut link = head;
            while let Some(rev) = self.mmu.follow(link) {
                found.push(u64::from(link & !crate::entry::LINKED));
                let next = rev.forward.load(crate::sync::Ordering::SeqCst);
                let back = self.mmu.follow(next).unwrap().back.load(crate::sync::Ordering::SeqCst);
                assert_eq!(back, link);
                link = next;
                if link == head {
                    break;
                }
                assert!(found.len() <= self.entries.len());
            }
            found.sort();
            let mut want: Vec<u64> = self
                .entries
                .iter()
                .filter(|(_, e)| self.page_at(e.r.0 & HpteR::RPN) == Some(n))
                .map(|(i, _)| *i)
                .collect();
            want.sort();
            assert_eq!(found, want, "chain of page {n}");
        }
    }

    /// One step, chosen by eight bytes.
    pub fn step(&mut self, bytes: [u8; 8]) {
        let [kind, a, b, c, d, e, g, h] = bytes;
        let mut va = a as usize % self.vas.len();
        if kind < 100 && a & 3 != 0 {
            // Mostly something that is there.
            let mut there: Vec<usize> = self.entries.values().filter_map(|e| e.va).collect();
            there.sort();
            va = there.get(a as usize * there.len() / 256).copied().unwrap_or(va);
        }
        let n = b as usize % self.pages.len();
        let page = self.vas[va];
        let indices: Vec<u64> = if kind < 145 { Vec::new() } else { self.entries.keys().copied().collect() };
        // An entry that exists, mostly; or one of the crowded group; or nonsense.
        let pick = |x: u8, y: u8| -> u64 {
            let mut sorted = indices.clone();
            sorted.sort();
            match y {
                0..4 => GROUPS as u64 * 8 + x as u64,
                4..24 => 0x123 * 8 + x as u64 % 8,
                _ if sorted.is_empty() => x as u64,
                _ => sorted[x as usize * sorted.len() / 256],
            }
        };
        let condition = |index: u64, x: u8| -> (u64, u64) {
            let v = self.entries.get(&index).map_or(0, |e| e.v.0);
            match x % 8 {
                0 => (f::AVPN, v & !0x7f),
                1 => (f::AVPN, v & !0x7f ^ 0x80),
                2 => (f::ANDCOND, HpteV::BOLTED),
                3 => (f::ANDCOND, 0),
                _ => (0, 0),
            }
        };
        match kind {
            0..100 => {
                let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Execute][c as usize % 3];
                let mut access = page.access(u64::from(e) << 8, kind);
                if !page.is_vrma() {
                    access.problem_state = d & 1 != 0;
                    access.slb.0 |= u64::from(d >> 1 & 7) << 9;
                    if d & 0xe == 0xe {
                        // Most segments are ordinary: Ks = 0, Kp = 1.
                        access.slb.0 = access.slb.0 & !0xe00 | 0x400;
                    }
                    let keys = u64::from(h) << 56 | u64::from(h) << 38;
                    (access.amr, access.iamr) = match g % 8 {
                        0 => (keys, 0),
                        1 => (0, keys),
                        _ => (0, 0),
                    };
                }
                if kind == AccessKind::Execute && d & 0x80 == 0 {
                    access.slb.0 &= !0x200;
                }
                if g & 0xf0 == 0xf0 {
                    self.xlate(va, &access);
                } else {
                    self.access(va, &access);
                }
            }
            100..145 if !page.is_vrma() && self.entry_of(va).is_none() => {
                let (v, index) = page.place(b & 1 != 0);
                let v = HpteV(
                    v.0 | u64::from(c & 0x1f & h) & 0x78 | if c & 0x80 != 0 { HpteV::BOLTED } else { 0 },
                );
                let mut flags = if d < 32 { f::EXACT } else { 0 };
                flags |= match d % 16 {
                    0 => f::ZERO_PAGE,
                    1 => f::ICACHE_SYNCHRONIZE,
                    2 => f::ZERO_PAGE | f::ICACHE_INVALIDATE,
                    3 if d & 0x80 != 0 => f::COPY_PAGE,
                    _ => 0,
                };
                let ram = self.unit * self.pages.len() as u64;
                let real = match e {
                    0..10 => DEVICE_I + u64::from(g) * 0x1000,
                    10..20 => DEVICE_M + u64::from(g) * 0x1000,
                    20..30 => NOWHERE + u64::from(g) * 0x1000,
                    _ => (u64::from(e) << 8 | u64::from(g)) * 0x1000 % ram,
                };
                let wimg = match e {
                    0..8 => HpteR::I | HpteR::G,
                    10..18 => 0x70,
                    _ => [2, 2, 2, 2, 2, 2, 2, 14, 4, 5, 6, 0, 1, 3, 8, 13][c as usize & 15] << 3,
                };
                let pp = [2, 2, 2, 0, 1, 3, 4, 2][(h & 7) as usize] | if h & 7 == 6 { HpteR::PP0 } else { 0 };
                let pp = if h & 7 == 6 && c & 4 != 0 { HpteR::PP0 | 2 } else { pp & !4 };
                let key = if h & 0x30 == 0x30 { u64::from(h >> 6) << 9 | u64::from(h >> 6) << 60 } else { 0 };
                let n = if h & 0xc8 == 0x48 { HpteR::N } else { 0 };
                let rc = if g & 7 == 0 { u64::from(g >> 4) << 7 & RC } else { 0 };
                let r = page.r(real, wimg | pp | key | n | rc);
                let exact = PteIndex(index.0 | u64::from(c >> 5));
                let _ = self.enter(Some(va), flags, exact, v, r);
            }
            // Junk that no address leads to fills the groups.
            100..145 => {
                let group = page.place(b & 1 != 0).1;
                let bolted = if c & 1 != 0 { HpteV::BOLTED } else { 0 };
                let v = HpteV(0x3_f00d_0000_0000 | u64::from(d) << 7 | u64::from(h & 1) << 63 | bolted);
                let real = u64::from(e) << 12;
                let _ = self.enter(None, 0, group, v, HpteR(real | HpteR::M | 2));
            }
            145..160 => {
                let index = pick(b, c);
                let (flags, avpn) = condition(index, d);
                let _ = self.remove(flags, index, avpn);
            }
            160..165 => {
                let mut words = [0; 8];
                for i in 0..4 {
                    let x = bytes[1 + i].wrapping_mul(31 + i as u8);
                    let index = pick(x, x.rotate_left(3) | if h & 3 == 0 { 0 } else { 64 });
                    let (flags, avpn) = condition(index, bytes[4 + i]);
                    let cond = match flags {
                        f::AVPN => 2,
                        f::ANDCOND => 1,
                        _ => u64::from(x & 0x3f == 0) * 3,
                    };
                    let kind = if x % 29 == 0 { 3 } else { 1 + u64::from(x % 61 == 0) };
                    words[2 * i] = kind << 62 | cond << 56 | index;
                    words[2 * i + 1] = avpn;
                }
                self.bulk(words);
            }
            165..195 => {
                let index = pick(b, c);
                let (flags, avpn) = condition(index, d);
                let pp = [0, 1, 2, 2, 2, 3, 0x102, 0x101][(e & 7) as usize];
                let key = if e & 0xe0 == 0xe0 { u64::from(g & 0x1f) << 9 } else { 0 };
                let n = if e & 0x18 == 0x18 { 4 } else { 0 };
                let _ = self.protect(flags | pp | key | n, index, avpn);
            }
            195..200 => self.read(pick(b, c)),
            200..202 => self.read_4(pick(b, 100)),
            202..208 => self.clear_usage(pick(b, c), d & 1 != 0),
            208..214 => {
                let flag =
                    [f::ZERO_PAGE, f::COPY_PAGE, f::ICACHE_SYNCHRONIZE, 1][(c as usize & 15).min(10) % 4];
                let ram = self.unit * self.pages.len() as u64;
                let to = (u64::from(d) << 16 | u64::from(e) << 12) % ram | u64::from(c == 255);
                self.page_init(flag, to, (u64::from(g) << 16 | u64::from(h) << 12) % (ram + 0x1000));
            }
            214..222 => self.populate(n, if c & 3 == 0 { PageState::Shared } else { PageState::Private }),
            222..228 => self.make_shared(n),
            228..233 => self.move_page(n, c & 1 != 0, c & 2 != 0),
            233..239 => self.protect_page(
                n,
                [Protection::ReadWrite, Protection::ReadOnly, Protection::None][c as usize % 3],
            ),
            239..242 => self.discard(n),
            242..245 => self.harvest(n),
            245..254 => {
                let first = self.vas.iter().position(Va::is_vrma).unwrap();
                self.insert_vrma(first + c as usize % 4);
            }
            254 if c < 32 => self.share_all(),
            255 if c < 8 => self.clear(),
            _ => self.check(),
        }
    }
}
