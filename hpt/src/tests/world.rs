//! A partition, a simple model of it, and steps that do the same to both and compare.
//!
//! The model is two maps: entries by index, and pages by number with the contents they should have. It knows nothing of hashes,
//! locks, TLBs or chains. The guest's view of R and C is compared exactly, rights and contents at every access.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use power::hcall::flags as f;
use power::hpte::{encode_page_sizes, page_sizes};
use power::regs::Dsisr;
use power::slb::{SegmentSize, SlbV, VRMA_VSID};
use power::{Ea, GuestReal, HostReal, HpteFormat, HpteR, HpteV, PageSize, PteIndex};

use super::mock::{Memory, Mock};
use super::whole::Snapshot;
use crate::entry::END;
use crate::*;

pub const GROUPS: usize = 2048;
pub const DEVICE_I: u64 = 0x1_0000_0000;
pub const DEVICE_M: u64 = 0x1_0100_0000;
pub const NOWHERE: u64 = 0x2_0000_0000;
pub const DEVICE_LEN: u64 = 0x10_0000;
pub const DEVICE_HOST: u64 = 0x600_0000_0000;

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
    all.push(Va::new(near(9, 0x5_4321), T1, 0x5_4321_0000, K64, K64));
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
pub struct Entry {
    pub v: HpteV,
    /// With R and C exactly as the guest must see them.
    pub r: HpteR,
    /// Which of the universe, if it can be reached.
    pub va: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct PageModel {
    pub state: PageState,
    pub protection: Protection,
    pub host: u64,
    /// Contents of each 4 KiB that is not zero.
    pub contents: HashMap<u64, u64>,
    /// What was done to it since the last harvest, and the R that a guest might add: it says so of an entry.
    pub used: u64,
    pub claimed: u64,
}

impl PageModel {
    pub fn is_writable(&self) -> bool {
        self.state == PageState::Private && self.protection == Protection::ReadWrite
    }

    pub fn is_present(&self) -> bool {
        self.state != PageState::NotPopulated && self.protection != Protection::None
    }
}

pub struct World<'a> {
    pub mmu: GuestMmu<'a>,
    pub m: &'a Mock<'a>,
    pub vas: Vec<Va>,
    pub entries: HashMap<u64, Entry>,
    pub pages: Vec<PageModel>,
    pub unit: u64,
    pub snapshot: Option<Snapshot>,
    /// What happened, to see that everything does.
    pub seen: RefCell<HashMap<&'static str, usize>>,
}

/// Makes a partition and hands it out.
pub fn with_world<T>(format: HpteFormat, huge: bool, body: impl FnOnce(&mut World<'_>) -> T) -> T {
    with_world_in(Rc::default(), format, huge, body)
}

/// Makes a partition in memory that others have as well.
pub fn with_world_in<T>(
    memory: Rc<Memory>,
    format: HpteFormat,
    huge: bool,
    body: impl FnOnce(&mut World<'_>) -> T,
) -> T {
    let groups: Vec<Pteg> = (0..GROUPS).map(|_| Pteg::default()).collect();
    let words: Vec<RevWord> = (0..GROUPS).map(|_| RevWord::default()).collect();
    let reserve = Reserve::new();
    let pages: Vec<Page> = (0..if huge { 3 } else { 24 }).map(|_| Page::default()).collect();
    let hpt = Hpt::new(&groups, &words, &reserve, format).unwrap();
    // What some tests need that do not ask for more.
    hpt.add_groups(Box::leak(Box::default()));
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
    let m = Mock::new(&groups, format, memory);
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
        snapshot: None,
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

pub const RC: u64 = HpteR::R | HpteR::C;

impl World<'_> {
    pub fn saw(&self, what: &'static str) {
        *self.seen.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn new_host(&self) -> HostReal {
        self.m.memory.new_unit(self.unit)
    }

    pub fn release(&self, host: u64) {
        self.m.memory.release(HostReal(host), self.unit);
    }

    /// Gives the reserve what it lacks; `false` if that is nothing.
    pub fn supply(&self) -> bool {
        let hpt = self.mmu.hpt();
        let (groups, log) = (hpt.needs_groups(), hpt.needs_log());
        if groups {
            self.saw("groups added");
            hpt.add_groups(Box::leak(Box::default()));
        }
        if log {
            self.saw("log added");
            hpt.add_log(Box::leak(Box::default()));
        }
        groups || log
    }

    /// Does something again and again until the reserve has enough for it.
    pub fn supplied<T>(&self, body: impl Fn() -> Result<T, HptError>) -> Result<T, HptError> {
        loop {
            match body() {
                Err(HptError::TooHard) if self.supply() => {}
                result => return result,
            }
        }
    }

    pub fn page_at(&self, real: u64) -> Option<usize> {
        let n = (real / self.unit) as usize;
        (n < self.pages.len()).then_some(n)
    }

    pub fn entry_of(&self, va: usize) -> Option<u64> {
        self.entries.iter().find(|(_, e)| e.va == Some(va)).map(|(i, _)| *i)
    }

    // ---- what backs pages ----

    pub fn populate(&mut self, n: usize, state: PageState) {
        let real = GuestReal(n as u64 * self.unit);
        let host = self.new_host();
        let done = self.mmu.populate(real, state, host);
        if self.pages[n].state == PageState::NotPopulated {
            done.unwrap();
            let page = &mut self.pages[n];
            page.state = state;
            page.host = host.0;
            page.contents.clear();
        } else {
            assert!(matches!(done, Err(BackingError::WrongState(_))));
            self.release(host.0);
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
        let host = self.other_host(n, in_place && private && self.m.memory.references(HostReal(old)) == 1);
        let done = if private {
            self.mmu.make_private(self.m, real, host)
        } else {
            self.mmu.move_shared(self.m, real, host)
        };
        let was_shared = self.pages[n].state == PageState::Shared;
        if was_shared {
            assert_eq!(done.unwrap().0, old);
            self.pages[n].state = if private { PageState::Private } else { PageState::Shared };
        } else {
            done.unwrap_err();
        }
        self.moved(n, host, was_shared);
    }

    /// Where a page might go: other memory with the same contents, or where it is.
    fn other_host(&self, n: usize, in_place: bool) -> HostReal {
        let page = &self.pages[n];
        if in_place && page.state != PageState::NotPopulated {
            return HostReal(page.host);
        }
        let host = self.new_host();
        if page.state != PageState::NotPopulated {
            self.m.copy(HostReal(page.host), host, self.unit);
        }
        host
    }

    /// It is there now, or has stayed where it was: either is left behind.
    fn moved(&mut self, n: usize, host: HostReal, done: bool) {
        let old = self.pages[n].host;
        if host.0 == old && self.pages[n].state != PageState::NotPopulated {
            return;
        }
        if done {
            self.pages[n].host = host.0;
            self.release(old);
        } else {
            self.release(host.0);
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
        self.release(host.0);
        self.check_usage(n, usage);
    }

    pub fn harvest(&mut self, n: usize) {
        let real = GuestReal(n as u64 * self.unit);
        self.m.take_tlbies();
        let peeked = self.mmu.usage_now(real).unwrap();
        assert_eq!(self.mmu.usage_now(real), Ok(peeked), "looked at, not taken");
        assert_eq!(self.m.take_tlbies(), 0);
        let usage = self.mmu.harvest(self.m, real).unwrap();
        assert_eq!(usage, peeked);
        self.check_usage(n, usage);
        // Asked again at once, there is nothing new.
        let usage = self.mmu.harvest(self.m, GuestReal(n as u64 * self.unit)).unwrap();
        assert_eq!(usage, Usage::default());
    }

    fn check_usage(&mut self, n: usize, usage: Usage) {
        let page = &mut self.pages[n];
        let bits = if usage.referenced { HpteR::R } else { 0 } | if usage.changed { HpteR::C } else { 0 };
        assert_eq!(page.used & !bits, 0, "page {n}: used {:#x}, harvested {bits:#x}", page.used);
        let most = page.used | page.claimed & HpteR::R;
        assert_eq!(bits & !most, 0, "page {n}: harvested more than was used");
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
        let mut told = Vec::new();
        self.mmu.share_all(&mut |host, was_shared| told.push((host.0, was_shared)));
        assert_eq!(told, self.become_shared());
    }

    /// The model's pages become shared; which were populated, and whether they were shared before.
    pub fn become_shared(&mut self) -> Vec<(u64, bool)> {
        let populated = self.pages.iter_mut().filter(|page| page.state != PageState::NotPopulated);
        let told = populated.map(|page| {
            let was_shared = page.state == PageState::Shared;
            page.state = PageState::Shared;
            (page.host, was_shared)
        });
        told.collect()
    }

    pub fn clear(&mut self) {
        self.m.flush();
        self.forget_snapshot();
        self.mmu.clear();
        for n in 0..self.pages.len() {
            self.mmu.slots().page(GuestReal(n as u64 * self.unit)).unwrap().take_usage();
            self.pages[n].used = 0;
            self.pages[n].claimed = 0;
        }
        self.entries.clear();
    }

    // ---- hypervisor calls ----

    /// H_ENTER of a virtual page at a real address, with everything that the model says about it.
    pub fn enter(
        &mut self,
        va: Option<usize>,
        flags: u64,
        index: PteIndex,
        v: HpteV,
        r: HpteR,
    ) -> Result<PteIndex, HptError> {
        self.m.take_tlbies();
        let result = self.supplied(|| self.mmu.enter(self.m, flags, index, v, r));
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
                        page.claimed |= HpteR::R;
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
            if !page.is_present() || (flags & f::ZERO_PAGE != 0 && !page.is_writable()) {
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
        let result = self.supplied(|| self.mmu.remove(self.m, flags, PteIndex(index), avpn));
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
        let got = RefCell::new(specifiers);
        let result = self.supplied(|| self.mmu.bulk_remove(self.m, &mut got.borrow_mut()));
        let got = got.into_inner();
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
        let result = self.supplied(|| self.mmu.protect(self.m, flags, PteIndex(index), avpn));
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
        let result = self.supplied(|| {
            if modified {
                self.mmu.clear_mod(self.m, PteIndex(index))
            } else {
                self.mmu.clear_ref(self.m, PteIndex(index))
            }
        });
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
        let (p, q) = (&self.pages[n], &self.pages[k]);
        if !p.is_present() || (write && !p.is_writable()) || (copy && !q.is_present()) {
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
            self.pages[n].claimed |= HpteR::R;
            self.pages[n].contents.insert(to % unit >> 12, value);
        }
    }

    pub fn insert_vrma(&mut self, va: usize) {
        let page = self.vas[va];
        let before = self.entry_of(va);
        let result = self.supplied(|| self.mmu.insert_vrma(self.m, page.base, Ea(page.offset)));
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
                assert!(page.is_present());
                assert!(
                    page.is_writable() || matches!(r.pp(), 3 | 6),
                    "writable entry of a page that is not"
                );
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
            let (mut link, mut before) = (page.head(), END);
            while let Some(rev) = self.mmu.follow(link) {
                found.push(u64::from(link & !crate::entry::LINKED));
                assert_eq!(rev.back.load(crate::sync::Ordering::SeqCst), before);
                before = link;
                link = rev.forward.load(crate::sync::Ordering::SeqCst);
                assert!(found.len() <= self.entries.len());
            }
            assert!(link == if found.is_empty() { 0 } else { END });
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
}
