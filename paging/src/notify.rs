//! Protection notifiers: a temporary limit on pages, and somebody who hears of all that happens to them.
//!
//! [`Memory::protect`] limits a range of a partition's memory to no stores, to no access at all, or not at all, without touching what backs it. Pages that have no
//! memory get some, so that each page of the range is connected and its limit in force when it returns; it is *armed* then. From then on the notifier hears of every change of the page, and of
//! every access that its limit forbids, and says whether it goes on limiting this page or not. If several limit a page, the strictest limit
//! counts.
//!
//! Watching stores, or what a change of backing invalidates, are uses of this. Dirty tracking is not: see [`crate::dirty`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hpt::{AccessKind, Machine, Protection};
use power::{Ea, GuestReal};

use crate::host::Host;
use crate::state::{Error, Memory, Spot, bits};
use crate::sync::{AtomicU32, AtomicU64, Lock, Ordering, relax};
use crate::touch::{Reserve, forbids};

/// What is known about an access beside the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// The effective address.
    pub ea: Option<Ea>,
    /// The instruction's effective address.
    pub pc: Option<Ea>,
    /// The value, where the access is a store whose instruction was looked at.
    pub value: Option<u64>,
}

/// What happened to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The partition, or the hypervisor on its behalf, is about to do what the notifier's limit forbids.
    Fault {
        /// The access.
        access: AccessKind,
        /// More about it.
        context: Context,
    },
    /// It was shared and has memory of its own now.
    Unshared,
    /// Its memory is now shared with a clone, a snapshot or another page.
    Shared,
    /// Its memory was taken away.
    Discarded,
    /// It had no memory and has some now.
    Populated,
    /// It has the contents again that it had when the snapshot was taken.
    Reverted,
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Where: for a fault the address, otherwise the page's.
    pub real: GuestReal,
    /// What.
    pub what: What,
}

/// Whether a notifier goes on with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// No: its limit on this page is lifted, and it hears no more of it.
    Lift,
    /// Yes.
    Keep,
}

/// Somebody who wants to know. Called with no lock held, on the CPU that causes the change, on several at once if several do; a change of backing has
/// happened by then. It may use the partition's memory, but not unregister itself: it answers [`Answer::Lift`] instead.
pub trait Notifier: Send + Sync {
    /// Hears of a change.
    fn changed(&self, change: &Change) -> Answer;
}

/// A registration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Id(u64);

/// Why a range was not protected. Nothing is then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtectError {
    /// It is empty, not a multiple of the unit of backing, or its end overflows.
    Misaligned,
    /// Not all of it is RAM.
    NotRam,
    /// There is no memory for pages that had none.
    Memory(Error),
    /// There is no such registration, or the page is not in its range.
    Unknown,
}

/// A notifier, its limit and its pages.
struct Registration {
    id: Id,
    /// Page numbers are real addresses divided by the unit.
    first: u64,
    pages: u64,
    /// A bit for each page, changed under the page's stripe.
    armed: Box<[AtomicU64]>,
    limit: Protection,
    notifier: Arc<dyn Notifier>,
    /// Calls under way. Goes up under the registry's lock, only while the registration is there.
    calls: AtomicU32,
}

impl Registration {
    fn bit(&self, page: u64) -> Option<(&AtomicU64, u64)> {
        let n = page.checked_sub(self.first).filter(|n| *n < self.pages)?;
        Some((self.armed.get((n / 64) as usize)?, 1 << (n % 64)))
    }

    fn is_armed(&self, page: u64) -> bool {
        self.bit(page).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn arm(&self, page: u64) -> bool {
        self.bit(page).is_some_and(|(word, bit)| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    fn disarm(&self, page: u64) -> bool {
        self.bit(page).is_some_and(|(word, bit)| word.fetch_and(!bit, Ordering::Relaxed) & bit != 0)
    }
}

/// All registrations of a partition.
#[derive(Default)]
pub(crate) struct Registry {
    list: Lock<Registrations>,
    /// How many there are: nobody looks further when there are none.
    count: AtomicU64,
}

#[derive(Default)]
struct Registrations {
    /// In the order of their ids.
    all: Vec<Arc<Registration>>,
    last: u64,
}

impl core::fmt::Debug for Registry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Registry").field("count", &self.count.load(Ordering::Relaxed)).finish()
    }
}

impl Registry {
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Does anybody care for the page?
    pub(crate) fn is_armed(&self, page: u64) -> bool {
        !self.is_empty() && self.list.lock().all.iter().any(|r| r.is_armed(page))
    }

    /// The limit on a page: the strictest of those armed.
    fn limit(&self, page: u64) -> Protection {
        let list = self.list.lock();
        let limits = list.all.iter().filter(|r| r.is_armed(page)).map(|r| r.limit);
        limits.max().unwrap_or(Protection::ReadWrite)
    }

    fn add(&self, make: impl FnOnce(Id) -> Registration) -> Result<Arc<Registration>, Error> {
        let mut list = self.list.lock();
        list.all.try_reserve(1).map_err(|_| Error::Exhausted)?;
        list.last += 1;
        let new = Arc::new(make(Id(list.last)));
        list.all.push(new.clone());
        self.count.fetch_add(1, Ordering::Release);
        Ok(new)
    }

    fn get(&self, id: Id) -> Option<Arc<Registration>> {
        self.list.lock().all.iter().find(|r| r.id == id).cloned()
    }

    fn remove(&self, id: Id) -> Option<Arc<Registration>> {
        let mut list = self.list.lock();
        let at = list.all.iter().position(|r| r.id == id)?;
        self.count.fetch_sub(1, Ordering::Release);
        Some(list.all.remove(at))
    }

    /// The next registration after one that is armed for a page and that `wanted` accepts, with a call begun.
    fn begin_call(
        &self,
        page: u64,
        after: Id,
        wanted: impl Fn(&Registration) -> bool,
    ) -> Option<Arc<Registration>> {
        let list = self.list.lock();
        let found = list.all.iter().find(|r| r.id > after && r.is_armed(page) && wanted(r))?;
        found.calls.fetch_add(1, Ordering::Relaxed);
        Some(found.clone())
    }
}

impl<H: Host, M: Machine> Memory<'_, H, M> {
    pub(crate) fn page_number(&self, real: GuestReal) -> u64 {
        real.0 >> self.mmu.slots().unit_shift()
    }

    /// Limits what may be done to a range, populates it and arms the notifier for each of its pages: with memory of their own if the
    /// limit allows stores. `base` and `len` are in bytes. The notifier may be called before this returns.
    pub fn protect(
        &self,
        base: GuestReal,
        len: u64,
        limit: Protection,
        notifier: Arc<dyn Notifier>,
    ) -> Result<Id, ProtectError> {
        let unit = self.unit();
        if len == 0 || (base.0 | len) & (unit - 1) != 0 || base.0.checked_add(len - 1).is_none() {
            return Err(ProtectError::Misaligned);
        }
        let reals = (0..len / unit).map(|n| GuestReal(base.0 + n * unit));
        // Ranges of RAM are few; a range that starts in RAM is all RAM, or soon found not to be.
        if reals.clone().any(|real| self.spot(real).is_err()) {
            return Err(ProtectError::NotRam);
        }
        let pages = len / unit;
        let armed = bits(pages as usize).map_err(ProtectError::Memory)?;
        let spots = reals.filter_map(|real| self.spot(real).ok());
        let store = limit == Protection::ReadWrite;
        let mut reserve = self.put_by(spots.clone(), store).map_err(ProtectError::Memory)?;
        let first = self.page_number(base);
        let make = |id| Registration { id, first, pages, armed, limit, notifier, calls: AtomicU32::new(0) };
        let done = self.paging.registry.add(make).and_then(|registration| {
            for spot in spots {
                if let Err(error) = self.arm(&registration, &spot, &mut reserve) {
                    // Somebody has taken memory from pages that had it when it was put by.
                    self.unregister(registration.id);
                    return Err(error);
                }
            }
            Ok(registration.id)
        });
        self.give_back(&mut reserve);
        done.map_err(ProtectError::Memory)
    }

    /// Arms a notifier again for a page on which it has lifted its limit. Its answer to a call about the page that is still under way counts
    /// as the later of the two.
    pub fn rearm(&self, id: Id, at: GuestReal) -> Result<(), ProtectError> {
        let registration = self.paging.registry.get(id).ok_or(ProtectError::Unknown)?;
        let spot = self.spot(at).map_err(|_| ProtectError::Unknown)?;
        registration.bit(self.page_number(spot.real)).ok_or(ProtectError::Unknown)?;
        self.arm(&registration, &spot, &mut Reserve::default()).map_err(ProtectError::Memory)
    }

    /// Lifts the limit of a registration on one page, as if its notifier had answered [`Answer::Lift`]: until [`Memory::rearm`].
    pub fn disarm(&self, id: Id, at: GuestReal) -> Result<(), ProtectError> {
        let registration = self.paging.registry.get(id).ok_or(ProtectError::Unknown)?;
        let page = self.page_number(at);
        registration.bit(page).ok_or(ProtectError::Unknown)?;
        self.lift(&registration, page);
        Ok(())
    }

    fn arm(&self, registration: &Registration, spot: &Spot<'_>, reserve: &mut Reserve) -> Result<(), Error> {
        let changed = {
            let _stripe = self.paging.stripe(spot.index);
            let changed = self.prepare(spot, registration.limit == Protection::ReadWrite, reserve)?;
            registration.arm(self.page_number(spot.real));
            self.set_limit(spot);
            changed
        };
        if let Some(what) = changed {
            // It is no news to the one for whom it was done.
            self.tell(spot.real, what, Some(registration.id));
        }
        Ok(())
    }

    /// Ends a registration. When this returns, its limits are lifted and the notifier is not being called any more, nor will be: what it uses may go. Not to be
    /// called by the notifier. `false` if there is none.
    pub fn unregister(&self, id: Id) -> bool {
        let Some(registration) = self.paging.registry.remove(id) else { return false };
        for page in registration.first..registration.first + registration.pages {
            if registration.is_armed(page) {
                self.lift(&registration, page);
            }
        }
        while registration.calls.load(Ordering::Acquire) != 0 {
            relax();
        }
        true
    }

    /// Disarms a registration for a page.
    fn lift(&self, registration: &Registration, page: u64) {
        let real = GuestReal(page << self.mmu.slots().unit_shift());
        let Ok(spot) = self.spot(real) else { return };
        let _stripe = self.paging.stripe(spot.index);
        if registration.disarm(page) {
            self.set_limit(&spot);
        }
    }

    /// Puts the strictest limit on a page whose stripe is held.
    fn set_limit(&self, spot: &Spot<'_>) {
        let limit = self.paging.registry.limit(self.page_number(spot.real));
        // It is a page of RAM: no error.
        let _ = self.mmu.set_protection(self.machine, spot.real, limit);
    }

    /// Tells all that are armed for a page but one.
    pub(crate) fn tell(&self, real: GuestReal, what: What, except: Option<Id>) {
        if !self.paging.registry.is_empty() {
            self.call(&Change { real, what }, |r| Some(r.id) != except);
        }
    }

    /// Asks those whose limit forbids an access. Does anybody keep it? Nobody is asked about what is left of a registration that is just ending.
    #[inline(never)]
    pub(crate) fn ask(&self, real: GuestReal, access: AccessKind, context: &Context) -> bool {
        let what = What::Fault { access, context: *context };
        self.call(&Change { real, what }, |r| forbids(r.limit, access))
    }

    /// Tells those of a page's notifiers that `wanted` accepts. Does any keep its limit?
    #[inline(never)]
    fn call(&self, change: &Change, wanted: impl Fn(&Registration) -> bool) -> bool {
        let page = self.page_number(change.real);
        let mut after = Id(0);
        let mut kept = false;
        while let Some(registration) = self.paging.registry.begin_call(page, after, &wanted) {
            after = registration.id;
            match registration.notifier.changed(change) {
                Answer::Keep => kept = true,
                Answer::Lift => self.lift(&registration, page),
            }
            registration.calls.fetch_sub(1, Ordering::Release);
        }
        kept
    }

    /// Tells everybody that the memory of all their pages is shared now.
    pub(crate) fn tell_all_shared(&self) {
        let unit = self.unit();
        let mut after = Id(0);
        while let Some((id, first, pages)) = self.paging.registry.range_after(after) {
            after = id;
            for page in first..first + pages {
                let real = GuestReal(page * unit);
                let populated = self.mmu.page_view(real).is_some_and(|view| view.host().is_some());
                if populated {
                    self.call(&Change { real, what: What::Shared }, |r| r.id == id);
                }
            }
        }
    }
}

impl Registry {
    /// The range of the next registration after one.
    fn range_after(&self, after: Id) -> Option<(Id, u64, u64)> {
        let list = self.list.lock();
        list.all.iter().find(|r| r.id > after).map(|r| (r.id, r.first, r.pages))
    }
}
