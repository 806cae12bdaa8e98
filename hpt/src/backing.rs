//! Changes of what backs a page. Each sets the page's new state and then walks its chain of entries, so that when it returns the hardware has no
//! entry that the state does not allow. For virtual mode: these wait for locks.
//!
//! Entries are only ever reduced here, or moved; more rights come with the next fault. Operations on one page may overlap, but who
//! means something by their order has to see to it.

use power::hpte::page_sizes;
use power::{GuestReal, HostReal, HpteR, PteIndex};

use crate::access::{pp_writable, ram_r, read_only};
use crate::entry::{ABSENT, END, LINKED, VALID};
use crate::machine::Machine;
use crate::mmu::{GuestMmu, RC};
use crate::page::{Page, PageState, PageView, Protection, Usage};
use crate::sync::Ordering;
use crate::table::Entry;

/// Why a page was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackingError {
    /// There is no RAM at the address.
    NoPage,
    /// The page is not in a state from which this leads on.
    WrongState(PageView),
    /// The host address is not a multiple of the unit.
    Misaligned,
}

impl GuestMmu<'_> {
    /// Gives a page that has none memory: private, or shared (the zero page).
    pub fn populate(&self, real: GuestReal, state: PageState, host: HostReal) -> Result<(), BackingError> {
        let page = self.ram_page(real)?;
        self.check_host(host)?;
        let view = lock(page);
        let fresh = view.host().is_none() && state != PageState::NotPopulated;
        page.unlock(if fresh { view.with_backing(state, host) } else { view });
        // Its entries are absent, and stay so until they fault.
        if fresh { Ok(()) } else { Err(BackingError::WrongState(view)) }
    }

    /// The same at once, which real mode may do, too: only if nobody has the page, and with what `memory` answers if there is any.
    pub fn populate_at_once(
        &self,
        real: GuestReal,
        state: PageState,
        memory: impl FnOnce() -> Option<HostReal>,
    ) -> bool {
        let Some(page) = self.slots.page(real) else { return false };
        let Some(view) = page.try_lock() else { return false };
        let fresh = view.host().is_none() && state != PageState::NotPopulated;
        let host = if fresh { memory() } else { None };
        page.unlock(host.map_or(view, |host| view.with_backing(state, host)));
        host.is_some()
    }

    /// Gives a shared page memory of its own at once, which real mode may do, too: only if nobody has the page, its memory is `old`, and the entry
    /// `by` is the only one that may lead there. The caller holds that one, and installs it anew whatever it is.
    pub fn make_private_at_once(
        &self,
        real: GuestReal,
        by: PteIndex,
        old: HostReal,
        memory: impl FnOnce() -> Option<HostReal>,
    ) -> bool {
        let Some(page) = self.slots.page(real) else { return false };
        let Some(view) = page.try_lock() else { return false };
        let private = |host| view.with_backing(PageState::Private, host);
        let alone = page.head() == by.0 as u32 | LINKED
            && self.hpt.entry(by).is_ok_and(|entry| entry.rev.forward.load(Ordering::Relaxed) == END);
        let fit = alone && (view.state(), view.host()) == (PageState::Shared, Some(old));
        let host = if fit && private(old).is_writable() { memory() } else { None };
        page.unlock(host.map_or(view, private));
        host.is_some()
    }

    /// Makes a populated page shared: nobody can write to it when this returns.
    pub fn make_shared<M: Machine>(&self, m: &M, real: GuestReal) -> Result<HostReal, BackingError> {
        let page = self.ram_page(real)?;
        let view = lock(page);
        let Some(host) = view.host() else {
            page.unlock(view);
            return Err(BackingError::WrongState(view));
        };
        self.change(m, page, view.with_backing(PageState::Shared, host), false);
        Ok(host)
    }

    /// Moves a shared page to other memory with the same contents, where it is shared as well (a merge). Answers where it was.
    pub fn move_shared<M: Machine>(
        &self,
        m: &M,
        real: GuestReal,
        host: HostReal,
    ) -> Result<HostReal, BackingError> {
        self.leave_shared(m, real, PageState::Shared, host)
    }

    /// Gives a shared page memory of its own, into which the caller has copied the contents; or, if nobody else has
    /// it any more, the memory where it is. Answers where it was.
    pub fn make_private<M: Machine>(
        &self,
        m: &M,
        real: GuestReal,
        host: HostReal,
    ) -> Result<HostReal, BackingError> {
        self.leave_shared(m, real, PageState::Private, host)
    }

    fn leave_shared<M: Machine>(
        &self,
        m: &M,
        real: GuestReal,
        state: PageState,
        host: HostReal,
    ) -> Result<HostReal, BackingError> {
        let page = self.ram_page(real)?;
        self.check_host(host)?;
        let view = lock(page);
        let (PageState::Shared, Some(old)) = (view.state(), view.host()) else {
            page.unlock(view);
            return Err(BackingError::WrongState(view));
        };
        self.change(m, page, view.with_backing(state, host), false);
        Ok(old)
    }

    /// Limits what may be done to a page, or lifts the limit. Answers the limit it had.
    pub fn set_protection<M: Machine>(
        &self,
        m: &M,
        real: GuestReal,
        protection: Protection,
    ) -> Result<Protection, BackingError> {
        let page = self.ram_page(real)?;
        let view = lock(page);
        let old = view.protection();
        if protection <= old {
            page.unlock(view.with_protection(protection));
        } else {
            self.change(m, page, view.with_protection(protection), false);
        }
        Ok(old)
    }

    /// Takes a page's memory away. Answers where it was and whether it was used; its protection stays.
    pub fn discard<M: Machine>(&self, m: &M, real: GuestReal) -> Result<(HostReal, Usage), BackingError> {
        let page = self.ram_page(real)?;
        let view = lock(page);
        let Some(host) = view.host() else {
            page.unlock(view);
            return Err(BackingError::WrongState(view));
        };
        self.change(m, page, view.with_backing(PageState::NotPopulated, HostReal(0)), false);
        Ok((host, page.take_usage()))
    }

    /// Makes a page what it was at another time, whatever it is: backing and protection. Answers what it was until now. Its R and C stay.
    pub fn restore<M: Machine>(
        &self,
        m: &M,
        real: GuestReal,
        saved: PageView,
    ) -> Result<PageView, BackingError> {
        let page = self.ram_page(real)?;
        self.check_host(HostReal(saved.host_bits()))?;
        let view = lock(page);
        self.change(m, page, saved, false);
        Ok(view)
    }

    /// Has a page been used since that was last taken ([`GuestMmu::harvest`], [`Page::take_usage`])? Looks at R and C of its entries, too, and changes
    /// nothing. A store that is made meanwhile may be missing; who has excluded those gets all.
    pub fn usage_now(&self, real: GuestReal) -> Result<Usage, BackingError> {
        let page = self.ram_page(real)?;
        let view = lock(page);
        let mut rc = 0;
        let mut link = page.head();
        // A chain has no more entries than the table.
        for _ in 0..self.hpt.len() {
            let Some(entry) = self.on_chain(link) else { break };
            // Whoever clears them has added them to the page before. Those of an absent entry are clear.
            rc |= entry.hpte.r.load(Ordering::Acquire);
            link = entry.rev.forward.load(Ordering::Relaxed);
        }
        let usage = page.usage_with(rc);
        page.unlock(view);
        Ok(usage)
    }

    /// Has a page been used since this was last asked? Takes R and C of its entries, too; the guest goes on seeing them.
    pub fn harvest<M: Machine>(&self, m: &M, real: GuestReal) -> Result<Usage, BackingError> {
        let page = self.ram_page(real)?;
        let view = lock(page);
        self.change(m, page, view, true);
        Ok(page.take_usage())
    }

    fn ram_page(&self, real: GuestReal) -> Result<&Page, BackingError> {
        self.slots.page(real).ok_or(BackingError::NoPage)
    }

    fn check_host(&self, host: HostReal) -> Result<(), BackingError> {
        let aligned = host.0 & ((1 << self.slots.unit_shift()) - 1) == 0 && host.0 & !HpteR::RPN == 0;
        if aligned { Ok(()) } else { Err(BackingError::Misaligned) }
    }

    /// Sets a locked page's state, makes all its entries conform to it and unlocks it.
    fn change<M: Machine>(&self, m: &M, page: &Page, view: PageView, harvest: bool) {
        page.set_locked(view);
        let mut view = view;
        while let Some(busy) = self.walk(m, page, view, harvest) {
            // Its holder may be waiting for the page: let go of it, and begin again. What conforms already is passed over.
            page.unlock(view);
            busy.hpte.wait();
            view = lock(page);
        }
        page.unlock(view);
    }

    /// One pass over a locked page's chain; answers the entry that somebody else holds, if any.
    fn walk<M: Machine>(&self, m: &M, page: &Page, view: PageView, harvest: bool) -> Option<Entry<'_>> {
        let mut link = page.head();
        // A chain has no more entries than the table.
        for _ in 0..self.hpt.len() {
            let entry = self.on_chain(link)?;
            let Some(raw_v) = entry.hpte.try_lock() else { return Some(entry) };
            let raw_v = self.conform(m, page, view, &entry, raw_v, harvest);
            entry.hpte.unlock(raw_v);
            link = entry.rev.forward.load(Ordering::Relaxed);
        }
        None
    }

    /// The entry that a link leads to.
    fn on_chain(&self, link: u32) -> Option<Entry<'_>> {
        if link & LINKED == 0 { None } else { self.hpt.entry(PteIndex(u64::from(link & !LINKED))).ok() }
    }

    /// Makes a locked entry conform to its page; answers its raw dword 0.
    fn conform<M: Machine>(
        &self,
        m: &M,
        page: &Page,
        view: PageView,
        entry: &Entry<'_>,
        raw_v: u64,
        harvest: bool,
    ) -> u64 {
        if raw_v & VALID == 0 {
            return raw_v;
        }
        let (v, r) = self.hpt.decode(entry.hpte);
        let low = page_sizes(v, r).map_or(0xfff, |(_, actual)| actual.bytes() - 1);
        let guest = entry.rev.guest();
        let unit = (1u64 << self.slots.unit_shift()) - 1;
        let host = view.host_bits() | (guest.0 & HpteR::RPN & unit & !low);
        let moved = r.0 & HpteR::RPN & !low != host;
        let reduced = pp_writable(r.0) && !view.is_writable();
        let wanted = harvest && r.any(RC);
        if view.is_present() && !(moved || reduced || wanted) {
            return raw_v;
        }
        let rc = self.invalidate(m, entry, raw_v, v, r);
        page.note_usage(rc);
        let guest = HpteR(guest.0 | rc);
        entry.rev.set_guest(guest);
        if !view.is_present() {
            entry.hpte.r.store(self.absent_memory_r(v, r, guest), Ordering::Relaxed);
            return (raw_v & !VALID) | ABSENT;
        }
        let new = if moved {
            ram_r(guest.0 & !RC, low, host, view)
        } else if reduced {
            read_only(r.0) & !RC
        } else {
            r.0 & !RC
        };
        entry.hpte.r.store(self.hpt.memory_r(v, new), Ordering::Relaxed);
        raw_v
    }
}

/// Locks a page, however long it takes.
fn lock(page: &Page) -> PageView {
    loop {
        if let Some(view) = page.lock() {
            return view;
        }
    }
}
