//! Memory that real mode takes from without allocating: groups of the reverse map, and entries of the log ([`crate::snapshot`]).
//!
//! Virtual mode hands blocks over and keeps account of them; they stay in the reserve for as long as there is one. What has been taken is only
//! given back all at once, as new.

use power::{HpteR, HpteV};

use crate::entry::{GROUP, RevGroup};
use crate::link::Link;
use crate::order::{self, Kind};
use crate::sync::{AtomicU32, AtomicU64, Ordering, SPINS, relax};

/// A piece of memory for `N` of something: 64 KiB on the machine. All zero is a new one.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Block<T: 'static, const N: usize> {
    next: Link<Block<T, N>>,
    /// How many of the items have been taken.
    used: AtomicU32,
    items: [T; N],
}

#[cfg(not(any(test, loom)))]
const PER_BLOCK: (usize, usize) = (511, 481);
/// So few that they run out.
#[cfg(any(test, loom))]
const PER_BLOCK: (usize, usize) = (if cfg!(loom) { 1 } else { 5 }, if cfg!(loom) { 1 } else { 3 });

/// Fewer than this are few.
const FEW: u32 = if cfg!(any(test, loom)) { 1 } else { 32 };

/// Memory for groups of the reverse map.
pub type RevBlock = Block<RevGroup, { PER_BLOCK.0 }>;
/// Memory for the log.
pub type LogBlock = Block<LogEntry, { PER_BLOCK.1 }>;

#[cfg(not(any(test, loom)))]
const _: () = assert!(size_of::<RevBlock>() == 1 << 16 && size_of::<LogBlock>() == 1 << 16);

impl<T, const N: usize> Block<T, N> {
    /// How many items it has.
    pub const ITEMS: usize = N;
}

impl<T: Default, const N: usize> Default for Block<T, N> {
    fn default() -> Self {
        Block { next: Link::new(), used: AtomicU32::new(0), items: core::array::from_fn(|_| T::default()) }
    }
}

/// What the guest saw of a group before it changed.
#[derive(Debug, Default)]
#[repr(C)]
pub struct LogEntry {
    /// Twice its number, and 1 for a new one.
    group: AtomicU64,
    /// Both dwords in the 2.07 layout; zeroes for an entry not in use.
    entries: [(AtomicU64, AtomicU64); GROUP],
}

impl LogEntry {
    /// Its number; `new`: it had no part in the reverse map.
    pub(crate) fn set_group(&self, group: u64, new: bool) {
        self.group.store(group << 1 | u64::from(new), Ordering::Relaxed);
    }

    pub(crate) fn group(&self) -> u64 {
        self.group.load(Ordering::Relaxed) >> 1
    }

    /// Had it no part in the reverse map?
    pub(crate) fn is_new(&self) -> bool {
        self.group.load(Ordering::Relaxed) & 1 != 0
    }

    pub(crate) fn set(&self, slot: usize, v: HpteV, r: HpteR) {
        if let Some(place) = self.entries.get(slot) {
            place.0.store(v.0, Ordering::Relaxed);
            place.1.store(r.0, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, slot: usize) -> (HpteV, HpteR) {
        self.entries.get(slot).map_or((HpteV(0), HpteR(0)), |place| {
            (HpteV(place.0.load(Ordering::Relaxed)), HpteR(place.1.load(Ordering::Relaxed)))
        })
    }
}

/// Blocks of one kind, used up one after the other. Under the reserve's lock, or nobody else uses it.
#[derive(Debug)]
pub(crate) struct Stock<T: 'static, const N: usize> {
    first: Link<Block<T, N>>,
    last: Link<Block<T, N>>,
    /// Where the next item comes from.
    current: Link<Block<T, N>>,
    left: AtomicU32,
    taken: AtomicU32,
}

impl<T, const N: usize> Stock<T, N> {
    fn new() -> Stock<T, N> {
        Stock {
            first: Link::new(),
            last: Link::new(),
            current: Link::new(),
            left: AtomicU32::new(0),
            taken: AtomicU32::new(0),
        }
    }

    fn add(&self, block: &'static Block<T, N>) {
        match self.last.get() {
            Some(last) => last.next.set(Some(block), false),
            None => self.first.set(Some(block), false),
        }
        self.last.set(Some(block), false);
        if self.current.get().is_none() {
            self.current.set(Some(block), false);
        }
        self.left.store(self.left().wrapping_add(N as u32), Ordering::Relaxed);
    }

    /// An item; it has whatever was last in it.
    #[inline]
    pub(crate) fn take(&self) -> Option<&'static T> {
        let block = self.current.get()?;
        let n = block.used.load(Ordering::Relaxed);
        let item = block.items.get(n as usize)?;
        block.used.store(n.wrapping_add(1), Ordering::Relaxed);
        if n as usize + 1 == N {
            self.current.set(block.next.get(), false);
        }
        self.left.store(self.left().wrapping_sub(1), Ordering::Relaxed);
        self.taken.store(self.taken().wrapping_add(1), Ordering::Relaxed);
        Some(item)
    }

    /// Items one after the other, cheaply: nobody else uses the stock until the feed is done.
    pub(crate) fn feed(&self) -> Feed<'_, T, N> {
        Feed { stock: self, items: self.rest().iter() }
    }

    /// What has not been taken of the current block.
    fn rest(&self) -> &'static [T] {
        let block = self.current.get();
        block.and_then(|block| block.items.get(block.used.load(Ordering::Relaxed) as usize..)).unwrap_or(&[])
    }

    /// `left` items of the current block have not been taken.
    fn settle(&self, left: usize) {
        let Some(block) = self.current.get() else { return };
        let used = (N as u32).wrapping_sub(left as u32);
        let taken = used.wrapping_sub(block.used.load(Ordering::Relaxed));
        block.used.store(used, Ordering::Relaxed);
        self.left.store(self.left().wrapping_sub(taken), Ordering::Relaxed);
        self.taken.store(self.taken().wrapping_add(taken), Ordering::Relaxed);
        if left == 0 {
            self.current.set(block.next.get(), false);
        }
    }

    /// How many are left.
    pub(crate) fn left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }

    /// How many have been taken.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// All items that have been taken.
    pub(crate) fn each(&self, mut body: impl FnMut(&'static T)) {
        let mut at = self.first.get();
        while let Some(block) = at {
            block.items.iter().take(block.used.load(Ordering::Relaxed) as usize).for_each(&mut body);
            at = block.next.get();
        }
    }

    /// It has no blocks any more.
    pub(crate) fn give_back(&self) {
        for link in [&self.first, &self.last, &self.current] {
            link.set(None, false);
        }
        self.left.store(0, Ordering::Relaxed);
        self.taken.store(0, Ordering::Relaxed);
    }

    /// Nothing has been taken.
    pub(crate) fn reset(&self) {
        self.rewind(0);
    }

    /// Only the first `kept` items have been taken, at most.
    pub(crate) fn rewind(&self, kept: u32) {
        let kept = kept.min(self.taken());
        let mut rest = kept as usize;
        self.current.set(None, false);
        let mut at = self.first.get();
        while let Some(block) = at {
            let used = rest.min(N);
            rest = rest.wrapping_sub(used);
            block.used.store(used as u32, Ordering::Relaxed);
            if used < N && self.current.get().is_none() {
                self.current.set(Some(block), false);
            }
            at = block.next.get();
        }
        let back = self.taken().wrapping_sub(kept);
        self.left.store(self.left().wrapping_add(back), Ordering::Relaxed);
        self.taken.store(kept, Ordering::Relaxed);
    }
}

/// Items of a stock. What has been taken is accounted for when a block is used up and at the end.
pub(crate) struct Feed<'a, T: 'static, const N: usize> {
    stock: &'a Stock<T, N>,
    items: core::slice::Iter<'static, T>,
}

impl<T, const N: usize> Feed<'_, T, N> {
    /// An item; it has whatever was last in it.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<&'static T> {
        let item = self.items.next();
        if item.is_some() { item } else { self.turn() }
    }

    #[cold]
    fn turn(&mut self) -> Option<&'static T> {
        self.stock.settle(0);
        self.items = self.stock.rest().iter();
        self.items.next()
    }
}

impl<T, const N: usize> Drop for Feed<'_, T, N> {
    fn drop(&mut self) {
        self.stock.settle(self.items.len());
    }
}

/// The memory beside a page table from which real mode takes. All zero is a new one.
#[derive(Debug)]
pub struct Reserve {
    lock: AtomicU32,
    /// 1: the guest's changes are logged ([`crate::snapshot`]).
    frozen: AtomicU32,
    /// How many groups had a part in the reverse map when the table was frozen.
    known: AtomicU32,
    pub(crate) groups: Stock<RevGroup, { PER_BLOCK.0 }>,
    pub(crate) log: Stock<LogEntry, { PER_BLOCK.1 }>,
}

impl Default for Reserve {
    fn default() -> Self {
        Reserve::new()
    }
}

impl Reserve {
    /// With nothing in it.
    pub fn new() -> Reserve {
        Reserve {
            lock: AtomicU32::new(0),
            frozen: AtomicU32::new(0),
            known: AtomicU32::new(0),
            groups: Stock::new(),
            log: Stock::new(),
        }
    }

    /// Does something under its lock, which is the last in the order: nothing is waited for then. `None` if the lock stays held.
    pub(crate) fn locked<T>(&self, body: impl FnOnce() -> T) -> Option<T> {
        order::waits(Kind::Reserve);
        for _ in 0..SPINS {
            if self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                order::taken(Kind::Reserve, self);
                let result = body();
                order::released(self);
                self.lock.store(0, Ordering::Release);
                return Some(result);
            }
            relax();
        }
        None
    }

    /// Does something under its lock, however long it takes.
    fn locked_at_last(&self, body: impl Fn()) {
        while self.locked(&body).is_none() {}
    }

    pub(crate) fn add_groups(&self, block: &'static RevBlock) {
        self.locked_at_last(|| self.groups.add(block));
    }

    pub(crate) fn add_log(&self, block: &'static LogBlock) {
        self.locked_at_last(|| self.log.add(block));
    }

    pub(crate) fn needs_groups(&self) -> bool {
        self.groups.left() < FEW
    }

    pub(crate) fn needs_log(&self) -> bool {
        self.is_frozen() && self.log.left() < FEW
    }

    #[inline]
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen.into(), Ordering::Relaxed);
        self.known.store(self.groups.taken(), Ordering::Relaxed);
    }

    /// The log is empty, and what the reverse map has got since the table was frozen is given back: nobody refers to it.
    pub(crate) fn rewind(&self) {
        self.log.reset();
        self.groups.rewind(self.known.load(Ordering::Relaxed));
    }
}
