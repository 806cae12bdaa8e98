//! A machine to test with: memory, a TLB that remembers until told otherwise, and the hardware's own walk of the table, written
//! from the architecture and sharing nothing with the code under test but the layout of the entries.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use power::regs::Dsisr;
use power::{HostReal, HpteFormat, HpteR, HpteV, PteIndex};

use crate::access::{Access, AccessKind};
use crate::entry::Pteg;
use crate::machine::Machine;
use crate::sync::Ordering;

/// A translation as the hardware remembers it.
#[derive(Clone, Copy, Debug)]
pub struct Tlb {
    /// The low 64 bits of the virtual address, from the base page up.
    va: u64,
    b: u64,
    base: u32,
    actual: u32,
    r: u64,
    index: PteIndex,
}

/// The machine's memory, and who refers to it: several partitions have one.
#[derive(Default)]
pub struct Memory {
    /// One value for each 4 KiB, by 64 KiB; zero unless set.
    blocks: RefCell<HashMap<u64, [u64; 16]>>,
    /// How many pages and snapshots refer to a unit.
    references: RefCell<HashMap<u64, usize>>,
    next_host: Cell<u64>,
    next_value: Cell<u64>,
}

impl Memory {
    /// A unit that nobody has had before, with one reference.
    pub fn new_unit(&self, unit: u64) -> HostReal {
        let host = 0x100_0000_0000 + self.next_host.get();
        self.next_host.set(self.next_host.get() + unit);
        self.references.borrow_mut().insert(host, 1);
        HostReal(host)
    }

    /// A value that nobody has stored before.
    pub fn new_value(&self) -> u64 {
        self.next_value.set(self.next_value.get() + 1);
        self.next_value.get()
    }

    pub fn references(&self, host: HostReal) -> usize {
        self.references.borrow().get(&host.0).copied().unwrap_or(0)
    }

    /// One more refers to it.
    pub fn hold(&self, host: HostReal) {
        *self.references.borrow_mut().get_mut(&host.0).expect("nobody has it") += 1;
    }

    /// One less. Memory that nobody should use any more gets contents that nobody expects: were it still read, that would show.
    pub fn release(&self, host: HostReal, unit: u64) {
        let mut references = self.references.borrow_mut();
        let left = references.get_mut(&host.0).expect("nobody has it");
        *left -= 1;
        if *left == 0 {
            references.remove(&host.0);
            for i in 0..unit >> 16 {
                self.blocks.borrow_mut().insert((host.0 >> 16) + i, [u64::MAX; 16]);
            }
        }
    }

    /// How many units somebody refers to.
    pub fn units(&self) -> usize {
        self.references.borrow().len()
    }
}

pub struct Mock<'a> {
    pub groups: &'a [Pteg],
    pub format: HpteFormat,
    pub memory: Rc<Memory>,
    pub tlb: RefCell<Vec<Tlb>>,
    pending: RefCell<Vec<u64>>,
    pub tlbies: Cell<usize>,
    pub icache: Cell<u64>,
    /// A store that another processor makes just before the next `tlb_sync` completes.
    pub late: Cell<Option<Access>>,
}

/// The VSID and the virtual address of an access.
fn virtual_address(access: &Access) -> (u64, u64, u64, u32) {
    let word = access.slb.0;
    let b = word >> 62;
    let base = match word & 0x130 {
        0 => 12,
        0x110 => 16,
        0x100 => 24,
        _ => panic!("segment page size"),
    };
    let (vsid, bits) = if b == 1 { ((word << 2 >> 2) >> 24, 40) } else { ((word << 2 >> 2) >> 12, 28) };
    let offset = access.ea.0 & ((1u64 << bits) - 1);
    (vsid, offset, b, base)
}

/// log2 of the actual size that an entry encodes for a base size.
fn actual_shift(base: u32, v: u64, r: u64) -> Option<u32> {
    let field = |shift: u32| r & ((1u64 << shift) - 1) & !0xfff;
    if v & 4 == 0 {
        return (base == 12).then_some(12);
    }
    let choices: &[(u32, u64)] = match base {
        12 => &[(16, 0x7000), (24, 0x38000)],
        16 => &[(16, 0x1000), (24, 0x8000)],
        24 => &[(24, 0)],
        _ => return None,
    };
    choices.iter().find(|(shift, code)| field(*shift) == *code).map(|(shift, _)| *shift)
}

impl<'a> Mock<'a> {
    pub fn new(groups: &'a [Pteg], format: HpteFormat, memory: Rc<Memory>) -> Mock<'a> {
        Mock {
            groups,
            format,
            memory,
            tlb: RefCell::default(),
            pending: RefCell::default(),
            tlbies: Cell::new(0),
            icache: Cell::new(0),
            late: Cell::new(None),
        }
    }

    pub fn get(&self, at: HostReal) -> u64 {
        self.memory.blocks.borrow().get(&(at.0 >> 16)).map_or(0, |block| block[at.0 as usize >> 12 & 15])
    }

    pub fn set(&self, at: HostReal, value: u64) {
        self.memory.blocks.borrow_mut().entry(at.0 >> 16).or_default()[at.0 as usize >> 12 & 15] = value;
    }

    /// `tlbies` since the last call.
    pub fn take_tlbies(&self) -> usize {
        self.tlbies.take()
    }

    pub fn flush(&self) {
        self.tlb.borrow_mut().clear();
    }

    fn walk(&self, access: &Access) -> Option<(PteIndex, u64, u64, u32)> {
        let (vsid, offset, b, base) = virtual_address(access);
        let page = offset >> base << base;
        let hash = if b == 1 { vsid ^ (vsid << 25) ^ (page >> base) } else { vsid ^ (page >> base) };
        let bits = if b == 1 { 40 } else { 28 };
        let avpn = (((vsid as u128) << bits | page as u128) >> 23) as u64;
        for secondary in [0u64, 1] {
            let group = if secondary == 0 { hash } else { !hash } & (self.groups.len() as u64 - 1);
            for (i, hpte) in self.groups[group as usize].0.iter().enumerate() {
                let (mut v, mut r) = (hpte.v.load(Ordering::SeqCst), hpte.r.load(Ordering::SeqCst));
                if self.format == HpteFormat::V3_0 {
                    v = v & ((1 << 52) - 1) | (r >> 58 & 3) << 62;
                    r &= !(3 << 58);
                }
                if v & 1 == 0 || v >> 1 & 1 != secondary || v >> 62 != b {
                    continue;
                }
                if v << 2 >> 9 != avpn {
                    continue;
                }
                let Some(actual) = actual_shift(base, v, r) else { continue };
                return Some((PteIndex(group * 8 + i as u64), v, r, actual));
            }
        }
        None
    }

    /// Sets bits as the hardware does: one byte, from what it saw before.
    fn update(&self, index: PteIndex, r: u64, bits: u64) {
        let hpte = &self.groups[(index.0 >> 3) as usize].0[(index.0 & 7) as usize];
        let now = hpte.r.load(Ordering::SeqCst);
        let low = (r | bits) & 0xff;
        let next = if bits & 0x100 != 0 { (r | bits) >> 8 & 0xff } else { now >> 8 & 0xff };
        hpte.r.store(
            now & !0xffff | next << 8 | if bits & 0x80 != 0 { low } else { now & 0xff },
            Ordering::SeqCst,
        );
    }

    /// A store through a remembered translation whose entry the processor has read before: it sets C, from its copy of the
    /// entry, whether that is still valid or not.
    fn late_store(&self, access: &Access) {
        let (vsid, offset, b, base) = virtual_address(access);
        let va = (vsid << if b == 1 { 40 } else { 28 }) | offset;
        let tlb = self.tlb.borrow();
        let found = tlb.iter().find(|t| t.b == b && t.base == base && (t.va ^ va) >> t.actual == 0);
        let t = found.expect("the old translation is still there");
        assert!(protection(t.r, access).is_empty());
        self.update(t.index, t.r, 0x80);
    }

    /// An access as the hardware makes it.
    pub fn access(&self, access: &Access) -> Result<HostReal, Dsisr> {
        let fetch = access.kind == AccessKind::Execute;
        let store = access.kind == AccessKind::Write;
        if fetch && access.slb.0 & 0x200 != 0 {
            return Err(Dsisr::NOEXEC_OR_GUARDED);
        }
        let (vsid, offset, b, base) = virtual_address(access);
        let bits = if b == 1 { 40 } else { 28 };
        let va = (vsid << bits) | offset;
        let hit =
            self.tlb.borrow().iter().position(|t| t.b == b && t.base == base && (t.va ^ va) >> t.actual == 0);
        let mut entry = match hit {
            // C has to be set in memory.
            Some(i) if store && self.tlb.borrow()[i].r & 0x80 == 0 => {
                self.tlb.borrow_mut().remove(i);
                None
            }
            Some(i) => Some(self.tlb.borrow()[i]),
            None => None,
        };
        let mut index = None;
        if entry.is_none() {
            let (at, _, r, actual) = self.walk(access).ok_or(if store {
                Dsisr::NOHPTE | Dsisr::ISSTORE
            } else {
                Dsisr::NOHPTE
            })?;
            index = Some(at);
            entry = Some(Tlb { va: va >> base << base, b, base, actual, r, index: at });
        }
        let mut entry = entry.unwrap();
        let why = protection(entry.r, access);
        if !why.is_empty() {
            return Err(why);
        }
        if let Some(index) = index {
            if entry.r & 0x100 == 0 {
                self.update(index, entry.r, 0x100);
                entry.r |= 0x100;
            }
            if store && entry.r & 0x80 == 0 {
                self.update(index, entry.r, 0x80);
                entry.r |= 0x80;
            }
            self.tlb.borrow_mut().push(entry);
        }
        let low = (1u64 << entry.actual) - 1;
        Ok(HostReal(entry.r & 0x0fff_ffff_ffff_f000 & !low | offset & low))
    }
}

/// Power ISA 3.0C, book III, 5.7.11: which bits an access violates.
pub fn protection(r: u64, access: &Access) -> Dsisr {
    let key = access.slb.0 & if access.problem_state { 0x400 } else { 0x800 } != 0;
    let pp = r & 3 | r >> 63 << 2;
    // Columns: key 0, key 1. 0 none, 1 read, 2 read and write.
    let rights = [[2, 0], [2, 1], [2, 2], [1, 1], [0, 0], [0, 0], [1, 0], [0, 0]][pp as usize][key as usize];
    let class = (r >> 60 & 3) << 3 | r >> 9 & 7;
    let field = |register: u64| register << (2 * class) >> 62;
    let mut why = Dsisr::empty();
    match access.kind {
        AccessKind::Read => {
            why.set(Dsisr::PROTFAULT, rights == 0);
            why.set(Dsisr::KEYFAULT, field(access.amr) & 1 != 0);
        }
        AccessKind::Write => {
            why.set(Dsisr::PROTFAULT, rights < 2);
            why.set(Dsisr::KEYFAULT, field(access.amr) & 2 != 0);
            why.set(Dsisr::ISSTORE, !why.is_empty());
        }
        AccessKind::Execute => {
            let never = r & 0xc != 0;
            why.set(Dsisr::NOEXEC_OR_GUARDED, never);
            why.set(Dsisr::PROTFAULT, rights == 0 && !never);
            why.set(Dsisr::KEYFAULT, field(access.iamr) & 1 != 0);
        }
    }
    why
}

/// Does RB name this translation?
fn named(rb: u64, t: &Tlb) -> bool {
    if rb >> 8 & 3 != t.b {
        return false;
    }
    let (base, actual) = if rb & 1 == 0 {
        match rb >> 5 & 7 {
            0 => (12, 12),
            5 => (12, 16),
            4 => (12, 24),
            ap => panic!("AP {ap}"),
        }
    } else {
        match rb >> 12 & 0xff {
            0 => (24, 24),
            8 => (16, 24),
            lp if lp & 0xf == 1 => (16, 16),
            lp => panic!("LP {lp:#x}"),
        }
    };
    if (base, actual) != (t.base, t.actual) {
        return false;
    }
    // AVAL is the part of the address that LP covers, down to the base page.
    if rb & 1 == 1 && actual > base && rb & 0xfe != (t.va >> base << base) >> 12 & 0xfe {
        return false;
    }
    (rb ^ t.va) >> actual == 0
}

impl Machine for Mock<'_> {
    const BULK_LIMIT: u64 = 1 << 24;

    fn tlb_invalidate(&self, index: PteIndex, v: HpteV, r: HpteR) {
        self.tlbies.set(self.tlbies.get() + 1);
        self.pending.borrow_mut().push(crate::tlbie_rb(v, r, index));
    }

    fn tlb_sync(&self) {
        if let Some(access) = self.late.take() {
            self.late_store(&access);
        }
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        self.tlb.borrow_mut().retain(|t| !pending.iter().any(|rb| named(*rb, t)));
    }

    fn zero(&self, at: HostReal, len: u64) {
        assert!(at.0 & 0xfff == 0 && len & 0xfff == 0);
        if len & 0xffff == 0 {
            for i in 0..len >> 16 {
                self.memory.blocks.borrow_mut().remove(&((at.0 >> 16) + i));
            }
        } else {
            assert_eq!(len, 4096);
            self.set(at, 0);
        }
    }

    fn copy(&self, from: HostReal, to: HostReal, len: u64) {
        assert!((from.0 | to.0 | len) & 0xfff == 0);
        if len & 0xffff == 0 {
            for i in 0..len >> 16 {
                let block =
                    self.memory.blocks.borrow().get(&((from.0 >> 16) + i)).copied().unwrap_or_default();
                self.memory.blocks.borrow_mut().insert((to.0 >> 16) + i, block);
            }
        } else {
            assert_eq!(len, 4096);
            self.set(to, self.get(from));
        }
    }

    fn icache_sync(&self, at: HostReal, len: u64) {
        assert!(at.0 & 0xfff == 0);
        self.icache.set(self.icache.get() + len);
    }
}
