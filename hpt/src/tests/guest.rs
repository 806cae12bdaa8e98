//! What guests do in a [`World`]: accesses, with everything the hypervisor does about their faults.

use power::HostReal;
use power::hpte::page_sizes;
use power::regs::Dsisr;

use super::mock::protection;
use super::world::{DEVICE_HOST, DEVICE_I, DEVICE_LEN, DEVICE_M, Entry, Outcome, RC, World};
use crate::*;
use power::HpteR;

impl World<'_> {
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
        let foretold = self.foretell(access, index);
        let mut got = None;
        let mut faults = 0;
        while got.is_none() {
            faults += 1;
            assert!(faults < 8, "no progress: {access:?}");
            match self.m.access(access) {
                Ok(host) => {
                    assert_eq!(want, Outcome::Done, "the hardware allows too much: {access:?}");
                    assert_eq!(foretold == Effect::Allowed, faults == 1, "{foretold:?} {access:?}");
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
        let so = match foretold {
            Effect::Interrupt(why) => Outcome::Reflected(why),
            Effect::Emulate | Effect::MachineCheck => Outcome::Mmio,
            _ => Outcome::Done,
        };
        assert!(so == got || index.is_none() && self.vas[va].is_vrma(), "{foretold:?} {got:?}");
        got
    }

    /// What the explanation of an access says of it, and of the entry that it goes through.
    fn foretell(&self, access: &Access, index: Option<u64>) -> Effect {
        let told = self.mmu.explain(access).unwrap();
        if let Some(index) = index {
            let (entry, model) = (told.entry.unwrap(), &self.entries[&index]);
            assert_eq!(entry.index.0, index);
            assert_eq!(entry.guest.0, model.v);
            assert_eq!((entry.guest.1.0 ^ model.r.0) & !RC, 0);
            assert_eq!(told.real.unwrap().0, self.real(model, access));
        }
        told.effects[access.kind as usize]
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
            let value = self.m.memory.new_value();
            page.contents.insert(frame, value);
            self.m.set(host, value);
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
                    self.move_page(n, true, self.m.memory.new_value().is_multiple_of(3));
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
                    let allowed = if store { page.is_writable() } else { page.is_present() };
                    let host = allowed.then_some(page.host + real % self.unit);
                    assert_eq!(t.memory.map(|h| h.0), host);
                } else {
                    assert_eq!(t.memory, None);
                }
            }
            Err(XlateError::NotFound(why) | XlateError::Denied(why)) => {
                assert_eq!(want, Outcome::Reflected(why));
            }
            Err(XlateError::Busy) => panic!("nobody holds a lock"),
        }
    }
}
