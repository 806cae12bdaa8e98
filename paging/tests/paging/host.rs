//! A machine to test with: blocks of memory of which a few words stand for all, and an allocator that knows who has what.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use hpt::Machine;
use paging::{AtomicU32, Host, Shares, Stretch, Supply};
use power::{HostReal, HpteR, HpteV, PteIndex};

/// Words that are kept of 64 KiB: one for each 16 KiB.
pub const CELLS: usize = 4;
pub const UNIT: u64 = 1 << 16;
const BASE: u64 = 0x10_0000_0000;
/// Where blocks of 16 MiB are: of them only the first words are kept.
const LARGE: u64 = 0x20_0000_0000;

pub type Contents = [u64; CELLS];

/// What memory is full of that nobody has.
const POISON: Contents = [0xdead_dead_dead_dead; CELLS];

pub struct SimHost {
    stretches: Vec<Stretch<'static>>,
    memory: RefCell<HashMap<u64, Contents>>,
    free: RefCell<Vec<u64>>,
    /// How many blocks are out, of what size.
    pub out: RefCell<HashMap<u64, u64>>,
    pub reserve: Cell<usize>,
    /// What is counted as one to see costs.
    pub copies: Cell<u64>,
    pub hashes: Cell<u64>,
    /// Different contents have the same hash this often.
    pub weak_hash: Cell<bool>,
    /// A guest's store to a block between two looks at it: where, what, and after how many looks.
    pub meddle: Cell<Option<(HostReal, u64, u32)>>,
}

impl SimHost {
    /// With so many blocks of 64 KiB to give.
    pub fn new(blocks: usize) -> SimHost {
        let counts = |n: usize| -> &'static [AtomicU32] {
            (0..n).map(|_| AtomicU32::new(0)).collect::<Vec<_>>().leak()
        };
        let (counts, large) = (counts(blocks + 1), counts((blocks + 1) << 8));
        let free = (1..=blocks as u64).collect();
        // Two stretches with a gap, as machines have.
        let (low, high) = counts.split_at(blocks / 2);
        let stretches = vec![
            Stretch { base: HostReal(BASE), counts: low },
            Stretch { base: HostReal(BASE + low.len() as u64 * UNIT), counts: high },
            Stretch { base: HostReal(LARGE), counts: large },
        ];
        let host = SimHost {
            stretches,
            memory: RefCell::default(),
            free: RefCell::new(free),
            out: RefCell::default(),
            reserve: Cell::new(0),
            copies: Cell::new(0),
            hashes: Cell::new(0),
            weak_hash: Cell::new(false),
            meddle: Cell::new(None),
        };
        host.memory.borrow_mut().insert(BASE, [0; CELLS]);
        host
    }

    pub fn free_blocks(&self) -> usize {
        self.free.borrow().len()
    }

    pub fn contents(&self, at: HostReal) -> Contents {
        self.memory.borrow().get(&(at.0 & !(UNIT - 1))).copied().unwrap_or(POISON)
    }

    pub fn load(&self, at: HostReal) -> u64 {
        self.contents(at)[(at.0 % UNIT) as usize / (UNIT as usize / CELLS)]
    }

    pub fn store(&self, at: HostReal, value: u64) {
        assert_ne!(at.0 & !(UNIT - 1), BASE, "a store to the zero page");
        let mut memory = self.memory.borrow_mut();
        let block = memory.get_mut(&(at.0 & !(UNIT - 1))).expect("a store to memory that nobody has");
        block[(at.0 % UNIT) as usize / (UNIT as usize / CELLS)] = value;
    }

    fn looked(&self, at: HostReal) {
        if let Some((block, value, looks)) = self.meddle.get()
            && block == at
        {
            self.meddle.set((looks > 1).then_some((block, value, looks - 1)));
            if looks == 1 {
                self.store(at, value);
            }
        }
    }
}

impl Supply for SimHost {
    fn allocate(&self, bytes: u64) -> Option<HostReal> {
        let mut free = self.free.borrow_mut();
        if free.len() <= self.reserve.get() {
            return None;
        }
        let n = free.pop()?;
        let at = if bytes == UNIT { BASE + n * UNIT } else { LARGE + n * bytes };
        self.out.borrow_mut().insert(at, bytes);
        self.memory.borrow_mut().insert(at, POISON);
        Some(HostReal(at))
    }

    fn zero(&self, at: HostReal, _: u64) {
        *self.memory.borrow_mut().get_mut(&at.0).expect("zeroed and not out") = [0; CELLS];
    }

    fn zero_page(&self) -> HostReal {
        HostReal(BASE)
    }
}

impl Host for SimHost {
    fn release(&self, at: HostReal, bytes: u64) {
        assert_eq!(self.out.borrow_mut().remove(&at.0), Some(bytes), "released and not out: {at:?}");
        assert_eq!(self.shares().count(at), 0, "released and referred to");
        self.memory.borrow_mut().remove(&at.0);
        let n = if bytes == UNIT { (at.0 - BASE) / UNIT } else { (at.0 - LARGE) / bytes };
        self.free.borrow_mut().insert(0, n);
    }

    fn copy(&self, from: HostReal, to: HostReal, _: u64) {
        self.copies.set(self.copies.get() + 1);
        let contents = *self.memory.borrow().get(&from.0).expect("copied from nowhere");
        *self.memory.borrow_mut().get_mut(&to.0).expect("copied to nowhere") = contents;
    }

    fn same(&self, a: HostReal, b: HostReal, _: u64) -> bool {
        assert!(self.shares().count(a) > 0 && self.shares().count(b) > 0, "compared while stores may come");
        self.contents(a) == self.contents(b)
    }

    fn is_zero(&self, at: HostReal, _: u64) -> bool {
        let zero = self.contents(at) == [0; CELLS];
        self.looked(at);
        zero
    }

    fn hash(&self, at: HostReal, _: u64) -> u64 {
        self.hashes.set(self.hashes.get() + 1);
        let contents = self.contents(at);
        self.looked(at);
        if self.weak_hash.get() {
            return contents.iter().sum::<u64>() % 3 + 7;
        }
        contents.iter().fold(5, |h, c| (h ^ c).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }

    fn shares(&self) -> Shares<'_> {
        Shares::new(&self.stretches)
    }
}

/// A machine without TLBs: every access walks the table.
pub struct Sim;

impl Machine for Sim {
    fn tlb_invalidate(&self, _: PteIndex, _: HpteV, _: HpteR) {}
    fn tlb_sync(&self) {}
    fn zero(&self, _: HostReal, _: u64) {}
    fn copy(&self, _: HostReal, _: HostReal, _: u64) {}
    fn icache_sync(&self, _: HostReal, _: u64) {}
}
