//! Demand paging and unsharing: what a page has to be for an access.
//!
//! A page that nobody stored to is the host's one zero page. The first store gives it memory of its own; so does a store
//! to a page that is shared with others, and if there are no others any more, the memory is taken where it is. Reading never unshares.
//! A partition with units of 16 MiB has no zero page: its pages are private at once.

use alloc::vec::Vec;

use hpt::{AccessKind, Machine, PageState, PageView, Protection};
use power::{GuestReal, HostReal, HpteR};

use crate::host::Host;
use crate::notify::{Context, What};
use crate::state::{Error, Memory, Spot, vector};
use crate::sync::Ordering;

/// How often a page may be found changed by others before the guest is let go to fault again.
const ATTEMPTS: usize = 4;

/// What a page is like after it was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touched {
    /// As the access needs it.
    Usable,
    /// Protected against the access: nothing was changed.
    Protected,
}

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The page is as the access needs it, or somebody is about to see to it: resolve the entry again.
    Retry,
    /// A notifier keeps its limit: the access has to be carried out on the guest's behalf, past it ([`Memory::reach`]).
    Emulate,
    /// There is no memory for it.
    Failed(Error),
}

/// Does the limit forbid it?
pub(crate) fn forbids(protection: Protection, access: AccessKind) -> bool {
    match protection {
        Protection::ReadWrite => false,
        Protection::ReadOnly => matches!(access, AccessKind::Write),
        Protection::None => true,
    }
}

/// Is such a page what an access needs, whatever its protection? Nearly every page is that the hypervisor reaches.
#[inline(always)]
fn is_ready(view: PageView, write: bool) -> bool {
    match view.state() {
        PageState::Private => true,
        PageState::Shared => !write,
        PageState::NotPopulated => false,
    }
}

/// Memory put by for several pages, so that there is enough for all or for none.
#[derive(Default)]
pub(crate) struct Reserve {
    blocks: Vec<HostReal>,
    charged: u64,
}

impl<H: Host, M: Machine> Memory<'_, H, M> {
    /// Makes a page what an access to it needs. Notifiers hear of the change, but are not asked about their limits: see [`Memory::fault`].
    pub fn touch(&self, at: GuestReal, access: AccessKind) -> Result<Touched, Error> {
        let spot = self.spot(at)?;
        let write = matches!(access, AccessKind::Write);
        let changed = {
            let _stripe = self.paging.stripe(spot.index);
            if forbids(spot.page.view().protection(), access) {
                return Ok(Touched::Protected);
            }
            let changed = self.prepare(&spot, write, &mut Reserve::default())?;
            if write && changed.is_some() {
                // The store is about to come.
                self.paging.mark_dirty(spot.index);
            }
            changed
        };
        if let Some(what) = changed {
            self.tell(spot.real, what, None);
        }
        Ok(Touched::Usable)
    }

    /// What to do when a page's state or protection is in the way of a guest's access (`hpt`'s `Resolved::Blocked`).
    pub fn fault(&self, at: GuestReal, access: AccessKind, context: &Context) -> Outcome {
        for _ in 0..ATTEMPTS {
            match self.touch(at, access) {
                Ok(Touched::Usable) => return Outcome::Retry,
                Err(error) => return Outcome::Failed(error),
                Ok(Touched::Protected) if self.ask(at, access, context) => return Outcome::Emulate,
                Ok(Touched::Protected) => {}
            }
        }
        Outcome::Retry
    }

    /// Gives `body` what backs an address to the end of its page, for an access of the hypervisor on the guest's behalf: populated, and
    /// private if it is stored to. The page stays as it is until `body` returns, which runs under a lock and must not come back to the partition's memory.
    ///
    /// No protection stands in the way. With a context, the notifiers whose limit it goes past hear of it as of any fault; without, they have been asked
    /// before ([`Outcome::Emulate`]).
    pub fn reach<T>(
        &self,
        at: GuestReal,
        access: AccessKind,
        tell: Option<&Context>,
        body: impl FnOnce(HostReal, u64) -> T,
    ) -> Result<T, Error> {
        let spot = self.spot(at)?;
        if let Some(context) = tell
            && forbids(spot.page.view().protection(), access)
        {
            self.ask(at, access, context);
        }
        let write = matches!(access, AccessKind::Write);
        let (result, changed) = {
            let _stripe = self.paging.stripe(spot.index);
            let changed = if is_ready(spot.page.view(), write) { None } else { self.prepare_at(at, write)? };
            let host = spot.page.view().host().ok_or(Error::NoRam)?;
            spot.page.note_usage(if write { HpteR::R | HpteR::C } else { HpteR::R });
            (body(HostReal(host.0 + spot.offset), self.unit() - spot.offset), changed)
        };
        if let Some(what) = changed {
            self.tell(spot.real, what, None);
        }
        Ok(result)
    }

    /// Takes a page's memory away, if it has any: it reads as zeroes from then on.
    pub fn discard(&self, at: GuestReal) -> Result<(), Error> {
        let spot = self.spot(at)?;
        if self.take_away(&spot) {
            self.tell(spot.real, What::Discarded, None);
        }
        Ok(())
    }

    /// Takes all pages' memory away. A snapshot keeps its own.
    pub fn discard_all(&self) {
        for spot in self.spots() {
            if spot.page.view().host().is_some() && self.take_away(&spot) {
                self.tell(spot.real, What::Discarded, None);
            }
        }
    }

    fn take_away(&self, spot: &Spot<'_>) -> bool {
        let _stripe = self.paging.stripe(spot.index);
        let view = spot.page.view();
        let Ok((_, usage)) = self.mmu.discard(self.machine, spot.real) else { return false };
        let charged = self.is_charged(view);
        if charged {
            self.paging.uncharge(1);
        }
        if charged || usage.changed {
            self.paging.mark_dirty(spot.index);
        }
        self.paging.backing_changed(spot.index);
        self.let_go(view);
        true
    }

    /// [`Memory::prepare`] for the page of an address, with nothing put by.
    #[inline(never)]
    fn prepare_at(&self, at: GuestReal, write: bool) -> Result<Option<What>, Error> {
        self.prepare(&self.spot(at)?, write, &mut Reserve::default())
    }

    /// Makes a page whose stripe is held what an access needs, whatever its protection; answers what has changed.
    pub(crate) fn prepare(
        &self,
        spot: &Spot<'_>,
        write: bool,
        reserve: &mut Reserve,
    ) -> Result<Option<What>, Error> {
        let view = spot.page.view();
        let what = match view.host() {
            _ if is_ready(view, write) => return Ok(None),
            Some(old) => {
                self.unshare(spot, old, reserve)?;
                What::Unshared
            }
            None => {
                self.populate(spot, write, reserve)?;
                What::Populated
            }
        };
        self.paging.backing_changed(spot.index);
        Ok(Some(what))
    }

    fn populate(&self, spot: &Spot<'_>, write: bool, reserve: &mut Reserve) -> Result<(), Error> {
        if !write && self.has_zero_page() {
            let done = self.mmu.populate(spot.real, PageState::Shared, self.host.zero_page());
            return done.map_err(|_| Error::NoRam);
        }
        let new = self.zeroes(reserve)?;
        // With the stripe held, and an aligned block, nothing can go wrong.
        self.mmu.populate(spot.real, PageState::Private, new).map_err(|_| Error::NoRam)
    }

    fn unshare(&self, spot: &Spot<'_>, old: HostReal, reserve: &mut Reserve) -> Result<(), Error> {
        let shares = self.host.shares();
        if self.is_zero_page(old) {
            let new = self.zeroes(reserve)?;
            self.make_private(spot, new)?;
        } else if shares.take_exclusive(old) {
            self.make_private(spot, old)?;
        } else {
            // It counts against the limit already.
            let new = self.block(reserve)?;
            self.host.copy(old, new, self.unit());
            self.make_private(spot, new)?;
            if shares.drop_ref(old) {
                // The others have left meanwhile.
                self.host.release(old, self.unit());
            }
        }
        self.paging.unshared.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn make_private(&self, spot: &Spot<'_>, new: HostReal) -> Result<(), Error> {
        self.mmu.make_private(self.machine, spot.real, new).map(drop).map_err(|_| Error::NoRam)
    }

    fn block(&self, reserve: &mut Reserve) -> Result<HostReal, Error> {
        match reserve.blocks.pop() {
            Some(block) => Ok(block),
            None => self.host.allocate(self.unit()).ok_or(Error::Exhausted),
        }
    }

    /// A block of zeroes that counts against the limit.
    fn zeroes(&self, reserve: &mut Reserve) -> Result<HostReal, Error> {
        if reserve.charged == 0 {
            self.paging.charge(1, self.unit())?;
            reserve.charged = 1;
        }
        reserve.charged -= 1;
        let block = self.block(reserve);
        match block {
            Ok(block) => self.host.zero(block, self.unit()),
            Err(_) => self.paging.uncharge(1),
        }
        block
    }

    /// Puts by what [`Memory::prepare`] will take for these pages, as they are now.
    pub(crate) fn put_by<'s>(
        &self,
        spots: impl Iterator<Item = Spot<'s>> + Clone,
        write: bool,
    ) -> Result<Reserve, Error> {
        // Whether a page needs a block, and whether it counts anew.
        let needs = |view: PageView| match (view.state(), view.host()) {
            (PageState::NotPopulated, _) => (write || !self.has_zero_page(), true),
            (PageState::Shared, Some(old)) if self.is_zero_page(old) => (write, true),
            (PageState::Shared, Some(old)) => (write && self.host.shares().count(old) != 1, false),
            _ => (false, false),
        };
        let (mut blocks, mut charged) = (0, 0);
        for spot in spots {
            let (block, anew) = needs(spot.page.view());
            blocks += u64::from(block);
            charged += u64::from(block && anew);
        }
        let mut reserve = Reserve { blocks: vector(blocks as usize)?, charged: 0 };
        self.paging.charge(charged, self.unit())?;
        reserve.charged = charged;
        while (reserve.blocks.len() as u64) < blocks {
            match self.host.allocate(self.unit()) {
                Some(block) => reserve.blocks.push(block),
                None => {
                    self.give_back(&mut reserve);
                    return Err(Error::Exhausted);
                }
            }
        }
        Ok(reserve)
    }

    /// Gives back what was put by and not needed.
    pub(crate) fn give_back(&self, reserve: &mut Reserve) {
        for block in reserve.blocks.drain(..) {
            self.host.release(block, self.unit());
        }
        self.paging.uncharge(core::mem::take(&mut reserve.charged));
    }
}
