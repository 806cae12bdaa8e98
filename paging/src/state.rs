//! What a partition keeps about its memory beside the pages' states, and the view that everything is done through.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hpt::{GuestMmu, Machine, Page, PageState, PageView};
use power::{GuestReal, HostReal};

use crate::host::Host;
use crate::notify::Registry;
use crate::snapshot::Snapshot;
use crate::sync::{AtomicBool, AtomicU64, Guard, Lock, Ordering};

/// How many locks the pages of a partition share.
#[cfg(not(loom))]
pub const STRIPES: usize = 16;
/// How many locks the pages of a partition share.
#[cfg(loom)]
pub const STRIPES: usize = 2;

/// Why memory of a partition cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no RAM at the address.
    NoRam,
    /// The partition has as much memory as it may have.
    Limit,
    /// The host has no memory left.
    Exhausted,
}

/// What a partition keeps.
#[derive(Debug)]
pub struct Paging {
    stripes: [Lock<()>; STRIPES],
    /// Units of memory that count against the limit, and the limit.
    charged: AtomicU64,
    limit: AtomicU64,
    pub(crate) unshared: AtomicU64,
    pub(crate) registry: Registry,
    /// A bit for each unit: it may have changed since the last reset, whatever R and C say.
    pub(crate) dirty: Box<[AtomicU64]>,
    pub(crate) snapshot: Lock<Option<Snapshot>>,
    /// Is there a snapshot? Changes only with all stripes held.
    pub(crate) has_snapshot: AtomicBool,
}

impl Paging {
    /// For a partition with at most so many units of RAM, ever, and so many bytes of memory: every page but those that are
    /// still the zero page counts, whether it is shared or not, so that no page that the partition has is ever beyond its means. `u64::MAX` is no limit.
    pub fn new(units: usize, limit: u64) -> Result<Paging, Error> {
        Ok(Paging {
            stripes: core::array::from_fn(|_| Lock::new(())),
            charged: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            unshared: AtomicU64::new(0),
            registry: Registry::default(),
            dirty: bits(units)?,
            snapshot: Lock::new(None),
            has_snapshot: AtomicBool::new(false),
        })
    }

    /// Units that count against the limit.
    pub fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit. What the partition has above it, it keeps.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// In a new clone, after its pages have been made: they count as they did in the partition that it was made from.
    pub fn adopt(&self, from: &Paging) {
        self.charged.store(from.charged(), Ordering::Relaxed);
    }

    pub(crate) fn charge(&self, units: u64, unit: u64) -> Result<(), Error> {
        let most = self.limit() >> unit.trailing_zeros();
        let more = |n: u64| n.checked_add(units).filter(|n| *n <= most);
        let done = self.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if done.is_ok() { Ok(()) } else { Err(Error::Limit) }
    }

    pub(crate) fn charge_beyond_limit(&self, units: u64) {
        self.charged.fetch_add(units, Ordering::Relaxed);
    }

    pub(crate) fn uncharge(&self, units: u64) {
        self.charged.fetch_sub(units, Ordering::Relaxed);
    }

    pub(crate) fn stripe(&self, index: usize) -> Guard<'_, ()> {
        self.stripes[index % STRIPES].lock()
    }

    /// The same without waiting.
    pub(crate) fn try_stripe(&self, index: usize) -> Option<Guard<'_, ()>> {
        self.stripes[index % STRIPES].try_lock()
    }

    /// All of them: nothing changes what backs any page until this is dropped.
    pub(crate) fn all_stripes(&self) -> [Guard<'_, ()>; STRIPES] {
        core::array::from_fn(|i| self.stripes[i].lock())
    }

    /// Notes that something else backs a page, whose stripe is held.
    pub(crate) fn backing_changed(&self, index: usize) {
        if self.has_snapshot.load(Ordering::Relaxed)
            && let Some(snapshot) = self.snapshot.lock().as_mut()
        {
            snapshot.note(index);
        }
    }

    /// Notes that a page's contents may have changed.
    pub(crate) fn mark_dirty(&self, index: usize) {
        if let Some(word) = self.dirty.get(index / 64) {
            word.fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
    }
}

/// So many bits, all 0.
pub(crate) fn bits(n: usize) -> Result<Box<[AtomicU64]>, Error> {
    let mut words = vector(n.div_ceil(64))?;
    words.extend((0..n.div_ceil(64)).map(|_| AtomicU64::new(0)));
    Ok(words.into_boxed_slice())
}

/// An empty vector with room for so many.
pub(crate) fn vector<T>(n: usize) -> Result<Vec<T>, Error> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| Error::Exhausted)?;
    Ok(v)
}

/// A partition's memory: what it keeps, its table and slots, and the machine. Cheap to make.
pub struct Memory<'a, H, M> {
    pub(crate) paging: &'a Paging,
    pub(crate) mmu: GuestMmu<'a>,
    pub(crate) host: &'a H,
    pub(crate) machine: &'a M,
}

impl<H, M> Clone for Memory<'_, H, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H, M> Copy for Memory<'_, H, M> {}

/// A page of RAM: where it is in all senses.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) page: &'a Page,
    /// Its number among the partition's pages of RAM, as bitmaps have it.
    pub(crate) index: usize,
    /// Its real address.
    pub(crate) real: GuestReal,
    /// The offset in it that was asked for.
    pub(crate) offset: u64,
}

impl<'a, H, M> Memory<'a, H, M> {
    /// Of a partition. All that changes what backs its pages, or their protection, has to go through such a view with the same [`Paging`].
    pub const fn new(paging: &'a Paging, mmu: GuestMmu<'a>, host: &'a H, machine: &'a M) -> Memory<'a, H, M> {
        Memory { paging, mmu, host, machine }
    }

    /// What the partition keeps.
    pub const fn paging(&self) -> &'a Paging {
        self.paging
    }

    /// The bytes of a unit of backing.
    pub const fn unit(&self) -> u64 {
        1 << self.mmu.slots().unit_shift()
    }

    /// Is a page that was never stored to the zero page? It has 64 KiB.
    pub(crate) const fn has_zero_page(&self) -> bool {
        !self.mmu.slots().is_huge()
    }

    #[inline]
    pub(crate) fn spot(&self, at: GuestReal) -> Result<Spot<'a>, Error> {
        let shift = self.mmu.slots().unit_shift();
        let mut before = 0;
        for (base, pages) in self.mmu.slots().ram() {
            let offset = at.0.wrapping_sub(base.0);
            let n = (offset >> shift) as usize;
            if let Some(page) = pages.get(n) {
                let within = offset & (self.unit() - 1);
                let index = before + n;
                if index / 64 >= self.paging.dirty.len() {
                    return Err(Error::NoRam);
                }
                return Ok(Spot { page, index, real: GuestReal(at.0 - within), offset: within });
            }
            before += pages.len();
        }
        Err(Error::NoRam)
    }

    /// All pages of RAM.
    pub(crate) fn spots(&self) -> impl Iterator<Item = Spot<'a>> {
        let shift = self.mmu.slots().unit_shift();
        let mut before = 0;
        let limit = self.paging.dirty.len() * 64;
        self.mmu
            .slots()
            .ram()
            .flat_map(move |(base, pages)| {
                let first = before;
                before += pages.len();
                pages.iter().enumerate().map(move |(n, page)| Spot {
                    page,
                    index: first + n,
                    real: GuestReal(base.0 + ((n as u64) << shift)),
                    offset: 0,
                })
            })
            .take_while(move |spot| spot.index < limit)
    }

    /// How many pages of RAM there are.
    pub(crate) fn pages(&self) -> usize {
        let pages: usize = self.mmu.slots().ram().map(|(_, pages)| pages.len()).sum();
        pages.min(self.paging.dirty.len() * 64)
    }

    /// The page of RAM with a number.
    pub(crate) fn numbered(&self, index: usize) -> Option<Spot<'a>> {
        if index >= self.pages() {
            return None;
        }
        let shift = self.mmu.slots().unit_shift();
        let mut before = 0;
        for (base, pages) in self.mmu.slots().ram() {
            if let Some(page) = index.checked_sub(before).and_then(|n| pages.get(n)) {
                let real = GuestReal(base.0 + (((index - before) as u64) << shift));
                return Some(Spot { page, index, real, offset: 0 });
            }
            before += pages.len();
        }
        None
    }
}

impl<H: Host, M: Machine> Memory<'_, H, M> {
    /// Does a page in this state count against the limit?
    pub(crate) fn is_charged(&self, view: PageView) -> bool {
        view.host().is_some_and(|host| !self.is_zero_page(host))
    }

    pub(crate) fn is_zero_page(&self, host: HostReal) -> bool {
        host == self.host.zero_page()
    }

    /// Lets go of what backed a page, which does not refer to it any more.
    pub(crate) fn let_go(&self, view: PageView) {
        let Some(host) = view.host() else { return };
        let last = match view.state() {
            PageState::Private => true,
            _ => !self.is_zero_page(host) && self.host.shares().drop_ref(host),
        };
        if last {
            self.host.release(host, self.unit());
        }
    }
}
