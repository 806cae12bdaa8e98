//! One partition's interrupts: presentation, one controller per virtual processor ("server"), and sources
//! (LoPAR, "Interrupt Controller" and the calls H_XIRR, H_CPPR, H_EOI, H_IPI, H_IPOLL; RTAS `ibm,set-xive` and its
//! kin).
//!
//! Called on any number of CPUs at once, with translation off: no locks, no allocation, no panic. The state of a
//! presentation controller is one 64-bit word ([`Icp`]), that of a source another ([`Source`]), and every change is
//! a compare-and-swap of one of them. A swap fails only because another CPU's succeeded on the same word, so the
//! partition as a whole always gets on, and a loop goes round again only once per call made elsewhere.
//!
//! # Who has an interrupt
//!
//! A source that has an event to deliver is `BUSY`, from the event to the guest's EOI. While `BUSY` it is in exactly
//! one place:
//! - in the hands of the call that is delivering it;
//! - in a presentation controller, the one interrupt that H_XIRR would give;
//! - `QUEUED`, refused by its server, which remembers (`RESEND`) to ask when it becomes more receptive;
//! - with the guest, between H_XIRR and H_EOI.
//!
//! Only the call whose swap sets `BUSY`, or clears `QUEUED`, or takes it out of a controller holds it. So nothing is
//! presented twice and nothing is lost.
//!
//! # Lost wakeups
//!
//! A refused source is published in the order: `RESEND` in the controller, `QUEUED` in the source, look at the
//! controller again. A controller that becomes receptive goes: clear `RESEND`, look at the sources. Whatever the
//! interleaving one of the two sees the other (all of it is sequentially consistent).

mod copy;

#[cfg(loom)]
use loom::sync::atomic::AtomicU64;

#[cfg(not(loom))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use power::Status;

/// The source number that a controller presents for an inter-processor interrupt.
pub const IPI: u32 = 2;
/// The lowest number of a [`Source`].
pub const FIRST_SOURCE: u32 = 0x1000;
/// The most servers of a partition.
pub const MAX_SERVERS: usize = 128;
/// The most sources of a partition: what bounds a walk over all of them.
pub const MAX_SOURCES: usize = 256;
/// The least favoured priority: as a CPPR, everything gets through; of a source, it is masked.
pub const MASKED: u8 = 0xff;

/// Why a call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The partition has no server of this number.
    NoSuchServer,
    /// The partition has no source of this number.
    NoSuchSource,
}

impl From<Error> for Status {
    fn from(_: Error) -> Status {
        Status::PARAMETER
    }
}

/// The servers for which a call has raised an interrupt: each must be made to look (be it by an IPI, by being woken
/// from H_CEDE or, if it is the caller itself, on its way back into the guest).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Kick([u64; MAX_SERVERS / 64]);

impl Kick {
    /// Nobody.
    pub const NONE: Kick = Kick([0; MAX_SERVERS / 64]);

    /// Nobody?
    #[inline]
    pub const fn is_empty(self) -> bool {
        let [low, high] = self.0;
        low | high == 0
    }

    /// Is this server among them?
    #[inline]
    pub const fn contains(self, server: u32) -> bool {
        let [low, high] = self.0;
        let word = if server < 64 { low } else { high };
        server < MAX_SERVERS as u32 && word >> (server % 64) & 1 != 0
    }

    /// The lowest server among them, taken out.
    pub const fn take(&mut self) -> Option<u32> {
        let [low, high] = self.0;
        if low != 0 {
            self.0 = [low & (low - 1), high];
            return Some(low.trailing_zeros());
        }
        if high != 0 {
            self.0 = [low, high & (high - 1)];
            return Some(64 + high.trailing_zeros());
        }
        None
    }

    #[inline]
    fn add(&mut self, server: u32) {
        if let Some(word) = self.0.get_mut(server as usize / 64) {
            *word |= 1 << (server % 64);
        }
    }
}

impl Iterator for Kick {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.take()
    }
}

/// The word of a presentation controller: XISR in bits 0 to 23 (LSB numbering), `RESEND` 24, CPPR 32 to 39, MFRR 40 to 47, and the
/// priority of what is pending 48 to 55.
#[derive(Clone, Copy, PartialEq, Eq)]
struct IcpWord(u64);

impl IcpWord {
    const XISR: u64 = 0xff_ffff;
    const RESEND: u64 = 1 << 24;
    const CPPR: u32 = 32;
    const MFRR: u32 = 40;
    const PENDING: u32 = 48;
    /// Nothing pending, everything shut out, no IPI wanted.
    const RESET: IcpWord = IcpWord(0xff << Self::PENDING | 0xff << Self::MFRR);

    const fn xisr(self) -> u32 {
        (self.0 & Self::XISR) as u32
    }

    const fn cppr(self) -> u8 {
        (self.0 >> Self::CPPR) as u8
    }

    const fn mfrr(self) -> u8 {
        (self.0 >> Self::MFRR) as u8
    }

    /// 0xff when nothing is pending.
    const fn pending(self) -> u8 {
        (self.0 >> Self::PENDING) as u8
    }

    const fn resend(self) -> bool {
        self.0 & Self::RESEND != 0
    }

    /// With one of the three priorities changed.
    const fn with(self, which: u32, priority: u8) -> Self {
        IcpWord(self.0 & !(0xff << which) | (priority as u64) << which)
    }

    const fn with_resend(self, on: bool) -> Self {
        IcpWord(if on { self.0 | Self::RESEND } else { self.0 & !Self::RESEND })
    }

    const fn with_cppr(self, cppr: u8) -> Self {
        self.with(Self::CPPR, cppr)
    }

    const fn with_mfrr(self, mfrr: u8) -> Self {
        self.with(Self::MFRR, mfrr)
    }

    const fn with_pending(self, xisr: u32, priority: u8) -> Self {
        let rest = self.with(Self::PENDING, priority).0 & !Self::XISR;
        IcpWord(rest | xisr as u64 & Self::XISR)
    }

    /// Would an interrupt of this priority be taken in? An IPI of the same priority goes first.
    const fn accepts(self, priority: u8) -> bool {
        priority < self.cppr() && priority < self.mfrr() && priority < self.pending()
    }

    /// Present the IPI if it is wanted and nothing more favoured is there. The second value is the source displaced.
    const fn check_ipi(self) -> (Self, Option<u32>) {
        if self.mfrr() < self.cppr() && self.mfrr() <= self.pending() {
            (self.with_pending(IPI, self.mfrr()), self.displaced())
        } else {
            (self, None)
        }
    }

    /// The source that would have to go elsewhere if something else were presented. An IPI need not: the MFRR keeps it.
    const fn displaced(self) -> Option<u32> {
        match self.xisr() {
            0 | IPI => None,
            source => Some(source),
        }
    }

    /// Is there an interrupt now where there was none, or another one?
    const fn raised_over(self, old: Self) -> bool {
        self.xisr() != 0 && self.xisr() != old.xisr()
    }
}

/// A virtual processor's presentation controller.
#[derive(Debug)]
#[repr(transparent)]
pub struct Icp(AtomicU64);

impl Icp {
    /// H_XIRR (see [`Xics::h_xirr`]), unless something else happens to the controller just then.
    #[inline(always)]
    pub fn try_take(&self) -> Option<u32> {
        let old = IcpWord(self.0.load(Relaxed));
        if old.xisr() != 0 {
            let new = old.with_cppr(old.pending()).with_pending(0, MASKED);
            self.0.compare_exchange_weak(old.0, new.0, SeqCst, Relaxed).ok()?;
        }
        Some(xirr(old))
    }

    /// H_CPPR (see [`Xics::h_cppr`]), if it changes nothing but the priority: nothing is pending, no IPI is let in, and nothing has been
    /// refused that would have to be offered again. Otherwise, or if something else happens to the controller just then, nothing changes and the answer is
    /// false. All that counts is in one word, so the order of other accesses does not matter.
    #[inline(always)]
    pub fn try_set_cppr(&self, cppr: u8) -> bool {
        // In whole words: the compiler takes more instructions for bytes.
        let old = self.0.load(Relaxed);
        let (cppr, mfrr) = (u64::from(cppr), old >> IcpWord::MFRR & 0xff);
        // What is below CPPR is zero then.
        let new = old >> IcpWord::MFRR << IcpWord::MFRR | cppr << IcpWord::CPPR;
        old & (IcpWord::XISR | IcpWord::RESEND) == 0
            && cppr <= mfrr
            && self.0.compare_exchange_weak(old, new, Relaxed, Relaxed).is_ok()
    }

    /// H_EOI (see [`Xics::h_eoi`]) of an IPI, or of nothing, under the conditions of [`Icp::try_set_cppr`].
    #[inline(always)]
    pub fn try_end(&self, xirr: u32) -> bool {
        matches!(xirr & 0xff_ffff, 0 | IPI) && self.try_set_cppr((xirr >> 24) as u8)
    }
}

impl Default for Icp {
    fn default() -> Self {
        Icp(AtomicU64::new(IcpWord::RESET.0))
    }
}

/// The word of a source: server in bits 0 to 15, priority 16 to 23, priority before it was turned off 24 to 31, then flags.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SourceWord(u64);

impl SourceWord {
    /// Level-signalled: it has an event as long as its line is up.
    const LEVEL: u64 = 1 << 32;
    /// Level: the line is up. Message: an event came while it was masked.
    const PENDING: u64 = 1 << 33;
    /// See the module's description.
    const BUSY: u64 = 1 << 34;
    /// Refused by its server.
    const QUEUED: u64 = 1 << 35;
    /// Message: another event came while it was busy.
    const AGAIN: u64 = 1 << 36;

    const fn reset(level: bool) -> Self {
        SourceWord((MASKED as u64) << 24 | (MASKED as u64) << 16 | if level { Self::LEVEL } else { 0 })
    }

    const fn has(self, flags: u64) -> bool {
        self.0 & flags != 0
    }

    const fn with(self, flags: u64) -> Self {
        SourceWord(self.0 | flags)
    }

    const fn without(self, flags: u64) -> Self {
        SourceWord(self.0 & !flags)
    }

    const fn server(self) -> u32 {
        (self.0 & 0xffff) as u32
    }

    const fn priority(self) -> u8 {
        (self.0 >> 16) as u8
    }

    const fn saved(self) -> u8 {
        (self.0 >> 24) as u8
    }

    const fn masked(self) -> bool {
        self.priority() == MASKED
    }

    const fn route(self, server: u32, priority: u8, saved: u8) -> Self {
        let rest = self.0 & !0xffff_ffff;
        SourceWord(rest | (saved as u64) << 24 | (priority as u64) << 16 | (server & 0xffff) as u64)
    }

    /// If there is something to deliver that nobody holds, hold it: the word after that, and whether it is so.
    const fn claim(self) -> (Self, bool) {
        if self.has(Self::QUEUED) {
            // A message that comes while another waits is one with it.
            let one = if self.has(Self::LEVEL) { self } else { self.without(Self::PENDING) };
            return (one.without(Self::QUEUED), true);
        }
        if self.masked() || !self.has(Self::PENDING) {
            return (self, false);
        }
        let taken = if self.has(Self::LEVEL) { self } else { self.without(Self::PENDING) };
        if !self.has(Self::BUSY) {
            (taken.with(Self::BUSY), true)
        } else if self.has(Self::LEVEL) {
            (self, false)
        } else {
            (taken.with(Self::AGAIN), false)
        }
    }

    /// Must what was held be put down? So if the source is masked, or its line has gone down.
    const fn idle(self) -> bool {
        self.masked() || (self.has(Self::LEVEL) && !self.has(Self::PENDING))
    }

    /// Put down what was held; a masked message is remembered.
    const fn park(self) -> Self {
        let down = self.without(Self::BUSY | Self::QUEUED | Self::AGAIN);
        if self.has(Self::LEVEL) { down } else { down.with(Self::PENDING) }
    }

    /// The guest is done with it: the word after that, and whether there is more to deliver.
    const fn end(self) -> (Self, bool) {
        if !self.has(Self::BUSY) || self.has(Self::QUEUED) {
            return (self, false);
        }
        let more = if self.has(Self::LEVEL) { self.has(Self::PENDING) } else { self.has(Self::AGAIN) };
        if more { (self.without(Self::AGAIN), true) } else { (self.without(Self::BUSY), false) }
    }
}

/// An interrupt source: where its interrupts go and how far the current one has come.
#[derive(Debug)]
#[repr(transparent)]
pub struct Source(AtomicU64);

impl Source {
    /// A source that signals events by messages (an edge). Masked.
    pub fn message() -> Self {
        Source(AtomicU64::new(SourceWord::reset(false).0))
    }

    /// A source that signals by the level of a line. Masked.
    pub fn level() -> Self {
        Source(AtomicU64::new(SourceWord::reset(true).0))
    }
}

/// The interrupts of one partition: a view of its controllers, indexed by server number, and of its sources, from
/// number [`FIRST_SOURCE`] on. Of each no more than [`MAX_SERVERS`] and [`MAX_SOURCES`] count.
#[derive(Clone, Copy, Debug)]
pub struct Xics<'a> {
    icps: &'a [Icp],
    sources: &'a [Source],
}

impl<'a> Xics<'a> {
    /// A view of a partition's controllers and sources.
    pub fn new(icps: &'a [Icp], sources: &'a [Source]) -> Self {
        Xics {
            icps: icps.get(..MAX_SERVERS).unwrap_or(icps),
            sources: sources.get(..MAX_SOURCES).unwrap_or(sources),
        }
    }

    /// How many servers there are, numbered from 0.
    pub fn servers(&self) -> usize {
        self.icps.len()
    }

    fn controller(&self, server: u64) -> Result<&'a Icp, Error> {
        let n = usize::try_from(server).map_err(|_| Error::NoSuchServer)?;
        self.icps.get(n).ok_or(Error::NoSuchServer)
    }

    fn icp(&self, server: u64) -> Result<&'a AtomicU64, Error> {
        Ok(&self.controller(server)?.0)
    }

    fn source(&self, number: u32) -> Result<&'a AtomicU64, Error> {
        let n = number.checked_sub(FIRST_SOURCE).ok_or(Error::NoSuchSource)?;
        self.sources.get(n as usize).map(|source| &source.0).ok_or(Error::NoSuchSource)
    }

    /// Put everything back to how the partition found it at first, with the sources' lines down. Only while none of
    /// its processors runs.
    pub fn reset(&self) {
        for icp in self.icps {
            icp.0.store(IcpWord::RESET.0, SeqCst);
        }
        for source in self.sources {
            let level = SourceWord(source.0.load(SeqCst)).has(SourceWord::LEVEL);
            source.0.store(SourceWord::reset(level).0, SeqCst);
        }
    }

    /// Should the server's external interrupt be raised? So as long as H_XIRR would give a source.
    pub fn pending(&self, server: u32) -> bool {
        self.icp(server.into()).is_ok_and(|icp| IcpWord(icp.load(SeqCst)).xisr() != 0)
    }

    /// H_XIRR: take what is pending. CPPR in the upper eight bits, as it was before; the source in the lower ones, 0 if
    /// there is none. Taking a source raises the CPPR to its priority.
    pub fn h_xirr(&self, server: u32) -> Result<u32, Error> {
        let icp = self.controller(server.into())?;
        loop {
            if let Some(xirr) = icp.try_take() {
                return Ok(xirr);
            }
        }
    }

    /// H_IPOLL: what H_XIRR would give, and the MFRR, without a change.
    pub fn h_ipoll(&self, server: u64) -> Result<(u32, u8), Error> {
        let word = IcpWord(self.icp(server)?.load(SeqCst));
        Ok((xirr(word), word.mfrr()))
    }

    /// H_CPPR: the server's priority is now this one; only what is more favoured (a lower number) gets through.
    pub fn h_cppr(&self, server: u32, cppr: u8) -> Result<Kick, Error> {
        let mut kick = Kick::NONE;
        if !self.controller(server.into())?.try_set_cppr(cppr) {
            self.set_cppr(server, cppr, &mut kick)?;
        }
        Ok(kick)
    }

    /// H_EOI: the server is done with an interrupt, and its CPPR goes back; both as in H_XIRR's answer. A source whose
    /// line is still up, or which has had another event meanwhile, is presented again.
    pub fn h_eoi(&self, server: u32, xirr: u32) -> Result<Kick, Error> {
        let number = xirr & 0xff_ffff;
        let mut kick = Kick::NONE;
        if self.controller(server.into())?.try_end(xirr) {
            return Ok(kick);
        }
        let source = match number {
            0 | IPI => None,
            _ => Some(self.source(number)?),
        };
        self.set_cppr(server, (xirr >> 24) as u8, &mut kick)?;
        if let Some(source) = source
            && update_source(source, SourceWord::end)
        {
            self.deliver(number, &mut kick);
        }
        Ok(kick)
    }

    /// H_IPI: the priority of the IPI that the server should get; 0xff for none. One that has been presented stays.
    pub fn h_ipi(&self, server: u64, mfrr: u8) -> Result<Kick, Error> {
        let icp = self.icp(server)?;
        let server = server as u32;
        let mut kick = Kick::NONE;
        let mut displaced = None;
        let (old, new) = update_icp(icp, |old| {
            let new;
            (new, displaced) = old.with_mfrr(mfrr).check_ipi();
            // A less favoured IPI may let in what it had kept out.
            if mfrr > old.mfrr() { new.with_resend(false) } else { new }
        });
        if new.raised_over(old) {
            kick.add(server);
        }
        if let Some(number) = displaced {
            self.deliver(number, &mut kick);
        }
        if old.resend() && !new.resend() {
            self.resend(server, &mut kick);
        }
        Ok(kick)
    }

    /// `ibm,set-xive`: a source's interrupts go to this server at this priority; [`MASKED`] for nowhere.
    pub fn set_xive(&self, number: u32, server: u32, priority: u8) -> Result<Kick, Error> {
        self.icp(server.into())?;
        self.route(number, |w| w.route(server, priority, priority))
    }

    /// `ibm,get-xive`: a source's server and priority.
    pub fn get_xive(&self, number: u32) -> Result<(u32, u8), Error> {
        let word = SourceWord(self.source(number)?.load(SeqCst));
        Ok((word.server(), word.priority()))
    }

    /// `ibm,int-off`: mask a source and remember its priority.
    pub fn int_off(&self, number: u32) -> Result<Kick, Error> {
        self.route(number, |w| w.route(w.server(), MASKED, if w.masked() { w.saved() } else { w.priority() }))
    }

    /// `ibm,int-on`: give a source its priority back.
    pub fn int_on(&self, number: u32) -> Result<Kick, Error> {
        self.route(number, |w| w.route(w.server(), w.saved(), w.saved()))
    }

    /// A message source has an event; a level source's line goes up.
    pub fn assert(&self, number: u32) -> Result<Kick, Error> {
        self.route(number, |w| w.with(SourceWord::PENDING))
    }

    /// A level source's line goes down. What has been presented stays so. Nothing happens to a message source.
    pub fn deassert(&self, number: u32) -> Result<(), Error> {
        let source = self.source(number)?;
        update_source(source, |w| {
            (if w.has(SourceWord::LEVEL) { w.without(SourceWord::PENDING) } else { w }, false)
        });
        Ok(())
    }

    /// Change a source's word, and deliver it if that makes it ready.
    fn route(&self, number: u32, change: impl Fn(SourceWord) -> SourceWord) -> Result<Kick, Error> {
        let mut kick = Kick::NONE;
        if update_source(self.source(number)?, |w| change(w).claim()) {
            self.deliver(number, &mut kick);
        }
        Ok(kick)
    }

    fn set_cppr(&self, server: u32, cppr: u8, kick: &mut Kick) -> Result<(), Error> {
        let icp = self.icp(server.into())?;
        let mut displaced = None;
        let (old, new) = update_icp(icp, |old| {
            let mut new = old.with_cppr(cppr);
            if cppr <= old.pending() {
                // Shut out, or nothing there; an IPI comes back by its MFRR.
                displaced = old.displaced();
                new = new.with_pending(0, MASKED);
            } else {
                displaced = None;
            }
            let (new, by_ipi) = new.check_ipi();
            displaced = displaced.or(by_ipi);
            if cppr > old.cppr() { new.with_resend(false) } else { new }
        });
        if new.raised_over(old) {
            kick.add(server);
        }
        if let Some(number) = displaced {
            self.deliver(number, kick);
        }
        if old.resend() && !new.resend() {
            self.resend(server, kick);
        }
        Ok(())
    }

    /// Offer a source, which the caller holds, to its server; and what that displaces to its own, and so on. Each
    /// one displaced is less favoured than the one before, unless a call elsewhere has changed its priority meanwhile.
    fn deliver(&self, number: u32, kick: &mut Kick) {
        let mut next = Some(number);
        while let Some(number) = next {
            next = self.offer(number, kick);
        }
    }

    /// Offer a source, which the caller holds, to its server. Answers with the source, now held, that had to make room.
    fn offer(&self, number: u32, kick: &mut Kick) -> Option<u32> {
        let source = self.source(number).ok()?;
        loop {
            let word = SourceWord(source.load(SeqCst));
            let target = if word.idle() { None } else { self.icp(word.server().into()).ok() };
            let Some(icp) = target else {
                if swap(source, word.0, word.park().0) {
                    return None;
                }
                continue;
            };
            let (old, new) = update_icp(icp, |old| {
                if old.accepts(word.priority()) {
                    old.with_pending(number, word.priority())
                } else {
                    old.with_resend(true)
                }
            });
            if old.accepts(word.priority()) {
                if new.raised_over(old) {
                    kick.add(word.server());
                }
                return old.displaced();
            }
            // Refused. If the source has been routed elsewhere meanwhile, start over.
            if !swap(source, word.0, word.with(SourceWord::QUEUED).0) {
                continue;
            }
            // Anybody may hold it from here. If the controller has changed its mind, its walk over the sources may have
            // been too early for this one: take it back, if nobody else has.
            let now = IcpWord(icp.load(SeqCst));
            if now.resend() && !now.accepts(word.priority()) {
                return None;
            }
            if !update_source(source, take_queued) {
                return None;
            }
        }
    }

    /// The server has become more receptive: offer again what it had refused.
    fn resend(&self, server: u32, kick: &mut Kick) {
        for (n, source) in self.sources.iter().enumerate() {
            let word = SourceWord(source.0.load(SeqCst));
            if word.has(SourceWord::QUEUED)
                && word.server() == server
                && update_source(&source.0, take_queued)
            {
                self.deliver(FIRST_SOURCE.wrapping_add(n as u32), kick);
            }
        }
    }
}

/// Hold a source that is queued.
fn take_queued(word: SourceWord) -> (SourceWord, bool) {
    (word.without(SourceWord::QUEUED), word.has(SourceWord::QUEUED))
}

fn xirr(word: IcpWord) -> u32 {
    u32::from(word.cppr()) << 24 | word.xisr()
}

fn swap(word: &AtomicU64, old: u64, new: u64) -> bool {
    word.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
}

/// Change a controller's word: what it was, and what it is now.
fn update_icp(icp: &AtomicU64, mut change: impl FnMut(IcpWord) -> IcpWord) -> (IcpWord, IcpWord) {
    let mut old = icp.load(SeqCst);
    loop {
        let new = change(IcpWord(old));
        match icp.compare_exchange(old, new.0, SeqCst, SeqCst) {
            Ok(_) => return (IcpWord(old), new),
            Err(now) => old = now,
        }
    }
}

/// Change a source's word: the second of the values that `change` gave with what it is now.
fn update_source(source: &AtomicU64, change: impl Fn(SourceWord) -> (SourceWord, bool)) -> bool {
    let mut old = source.load(SeqCst);
    loop {
        let (new, answer) = change(SourceWord(old));
        match source.compare_exchange(old, new.0, SeqCst, SeqCst) {
            Ok(_) => return answer,
            Err(now) => old = now,
        }
    }
}

#[cfg(test)]
mod tests;
