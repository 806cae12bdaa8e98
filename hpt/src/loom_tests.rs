//! The lock protocol, in every interleaving of two threads (within a bound of preemptions) and with every value that the
//! memory model lets a load see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p hpt`

use loom::sync::Arc;
use loom::thread;
use power::hcall::flags as f;
use power::regs::Dsisr;
use power::slb::SlbV;
use power::{Ea, GuestReal, HostReal, HpteFormat, HpteR, HpteV, PteIndex};

use crate::entry::{IN_USE, LINKED, LOCK};
use crate::sync::Ordering;
use crate::*;

/// A table of one group, and two pages, of which the first is private.
struct Shared {
    groups: Vec<Pteg>,
    revs: Vec<RevGroup>,
    pages: Vec<Page>,
}

struct Quiet;

impl Machine for Quiet {
    fn tlb_invalidate(&self, _: PteIndex, _: HpteV, _: HpteR) {}
    fn tlb_sync(&self) {}
    fn zero(&self, _: HostReal, _: u64) {}
    fn copy(&self, _: HostReal, _: HostReal, _: u64) {}
    fn icache_sync(&self, _: HostReal, _: u64) {}
}

const RW: u64 = HpteR::M | 2;
const AT: GuestReal = GuestReal(0);

/// Dword 0 of the page of 4 KiB at `8 MiB * n` in segment 5. There is one group, so any hash will do.
fn v(n: u64) -> HpteV {
    HpteV(5 << 12 | n << 7)
}

fn access(n: u64, kind: AccessKind) -> Access {
    let slb = SlbV(5 << 12);
    Access { ea: Ea(n << 23), slb, kind, problem_state: false, amr: 0, iamr: 0 }
}

impl Shared {
    /// With `filled` entries of other pages in front.
    fn new(filled: u64) -> Shared {
        let shared = Shared {
            groups: vec![Pteg::default()],
            revs: vec![RevGroup::default()],
            pages: vec![Page::default(), Page::default()],
        };
        shared.with(|mmu| {
            mmu.populate(AT, PageState::Private, HostReal(0x10_0000)).unwrap();
            for i in 0..filled {
                let r = HpteR(1 << 40 | RW);
                mmu.enter(&Quiet, f::EXACT, PteIndex(i), v(16 + i), r).unwrap();
            }
        });
        shared
    }

    fn with<T>(&self, body: impl FnOnce(GuestMmu<'_>) -> T) -> T {
        let hpt = Hpt::new(&self.groups, &self.revs, HpteFormat::V3_0).unwrap();
        let mut slots = Slots::new(false);
        slots.add(Slot { base: AT, len: 2 << 16, kind: SlotKind::Ram(&self.pages) }).unwrap();
        body(GuestMmu::new(&hpt, &slots))
    }

    /// Nothing is locked, the first page's chain has just its entries, and the hardware's rights are no more than the page's.
    fn check(&self) {
        self.with(|mmu| {
            let page = &self.pages[0];
            let view = page.view();
            assert!(page.try_lock().is_some());
            let mut on_chain = Vec::new();
            let head = page.head();
            let mut link = head;
            while link & LINKED != 0 {
                on_chain.push((link & !LINKED) as u64);
                link = mmu.follow(link).unwrap().forward.load(Ordering::Relaxed);
                if link == head {
                    break;
                }
                assert!(on_chain.len() <= 8);
            }
            on_chain.sort();
            let mut entries = Vec::new();
            for i in 0..8 {
                let entry = mmu.hpt().entry(PteIndex(i)).unwrap();
                let raw = entry.hpte.v.load_raw(Ordering::Relaxed);
                assert_eq!(raw & LOCK, 0);
                if raw & IN_USE == 0 || entry.rev.guest().0 & HpteR::RPN != 0 {
                    continue;
                }
                entries.push(i);
                let (v, r) = mmu.hpt().peek(PteIndex(i)).unwrap();
                if v.any(HpteV::V) {
                    assert!(view.is_present());
                    assert!(view.is_writable() || r.pp() == 3, "writable entry of a read-only page");
                    assert_eq!(Some(HostReal(r.0 & HpteR::RPN)), view.host());
                } else {
                    assert_eq!(r.0 & HpteR::RPN, 0);
                }
            }
            assert_eq!(on_chain, entries);
        });
    }
}

/// Runs both at once and checks what is left. Each is the one that begins in turn: what loom tries first decides what it thinks of trying.
fn both<A: 'static, B: 'static>(
    filled: u64,
    before: fn(GuestMmu<'_>),
    one: fn(GuestMmu<'_>) -> A,
    other: fn(GuestMmu<'_>) -> B,
    after: fn(GuestMmu<'_>, A, B),
) {
    model(filled, before, one, other, after);
    model(filled, before, other, one, move |mmu, b, a| after(mmu, a, b));
}

fn model<A: 'static, B: 'static>(
    filled: u64,
    before: fn(GuestMmu<'_>),
    one: fn(GuestMmu<'_>) -> A,
    other: fn(GuestMmu<'_>) -> B,
    after: impl Fn(GuestMmu<'_>, A, B) + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let shared = Arc::new(Shared::new(filled));
        shared.with(before);
        let theirs = shared.clone();
        let thread = thread::spawn(move || theirs.with(one));
        let b = shared.with(other);
        let a = thread.join().unwrap();
        shared.check();
        shared.with(|mmu| after(mmu, a, b));
    });
}

/// Several at once, of which the last is this thread, and checks what is left.
fn crowd<const N: usize>(
    preemptions: usize,
    before: fn(GuestMmu<'_>),
    others: [fn(GuestMmu<'_>); N],
    last: fn(GuestMmu<'_>),
    after: fn(GuestMmu<'_>),
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let shared = Arc::new(Shared::new(5));
        shared.with(before);
        let threads = others.map(|other| {
            let theirs = shared.clone();
            thread::spawn(move || theirs.with(other))
        });
        shared.with(last);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        shared.check();
        shared.with(after);
    });
}

fn enter(mmu: GuestMmu<'_>, n: u64) -> Result<PteIndex, HptError> {
    mmu.enter(&Quiet, 0, PteIndex(0), v(n), HpteR(RW))
}

fn entered(mmu: GuestMmu<'_>) {
    assert_eq!(enter(mmu, 0), Ok(PteIndex(6)));
}

fn read_only(mmu: GuestMmu<'_>) {
    entered(mmu);
    mmu.protect(&Quiet, 3, PteIndex(6), 0).unwrap();
}

fn share(mmu: GuestMmu<'_>) {
    mmu.make_shared(&Quiet, AT).unwrap();
}

#[test]
fn enter_and_enter() {
    both(
        6,
        |_| {},
        |mmu| enter(mmu, 0),
        |mmu| enter(mmu, 1),
        |_, a, b| {
            assert!(a.is_ok() && b.is_ok() && a != b);
        },
    );
    both(
        7,
        |_| {},
        |mmu| enter(mmu, 0),
        |mmu| enter(mmu, 1),
        |_, a, b| {
            assert!(a.is_ok() != b.is_ok() && (a == Err(HptError::PtegFull) || b == Err(HptError::PtegFull)))
        },
    );
}

#[test]
fn enter_and_remove() {
    both(
        6,
        entered,
        |mmu| enter(mmu, 1),
        |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0),
        |mmu, a, b| {
            assert!(a.is_ok() && b.is_ok());
            assert_eq!(mmu.hpt().occupancy().valid, 1);
        },
    );
}

#[test]
fn remove_and_remove() {
    both(
        6,
        |mmu| {
            entered(mmu);
            enter(mmu, 1).unwrap();
        },
        |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0).is_ok(),
        |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0).is_ok(),
        |_, a, b| assert!(a != b),
    );
    both(
        6,
        |mmu| {
            entered(mmu);
            enter(mmu, 1).unwrap();
        },
        |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0).is_ok(),
        |mmu| mmu.remove(&Quiet, 0, PteIndex(7), 0).is_ok(),
        |_, a, b| assert!(a && b),
    );
}

#[test]
fn bulk_remove_and_bulk_remove() {
    let prepare = |mmu: GuestMmu<'_>| {
        entered(mmu);
        enter(mmu, 1).unwrap();
    };
    fn bulk(mmu: GuestMmu<'_>, first: u64, second: u64) -> u32 {
        let mut words = [1 << 62 | first, 0, 1 << 62 | second, 0, 3 << 62, 0, 0, 0];
        mmu.bulk_remove(&Quiet, &mut words).unwrap();
        u32::from(words[0] >> 60 == 8) + u32::from(words[2] >> 60 == 8)
    }
    // In opposite order: neither waits with a lock in hand.
    both(6, prepare, |mmu| bulk(mmu, 6, 7), |mmu| bulk(mmu, 7, 6), |_, a, b| assert_eq!(a + b, 2));
}

#[test]
fn protect_and_remove() {
    both(
        6,
        entered,
        |mmu| mmu.protect(&Quiet, 3, PteIndex(6), 0),
        |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0),
        |mmu, a, b| {
            let pp = b.unwrap().1.pp();
            assert!(a == Ok(()) && pp == 3 || a == Err(HptError::NotFound) && pp == 2);
            assert_eq!(mmu.read(PteIndex(6)), Ok((HpteV(0), HpteR(0))));
        },
    );
}

#[test]
fn protect_and_triage() {
    // While H_PROTECT has the entry invalid, another processor's fault is not the guest's affair.
    both(
        6,
        entered,
        |mmu| mmu.protect(&Quiet, 3, PteIndex(6), 0).unwrap(),
        |mmu| mmu.triage(&Fault { access: access(0, AccessKind::Read), cause: Dsisr::NOHPTE }),
        |_, (), b| assert_eq!(b, Triage::Retry),
    );
}

#[test]
fn remove_and_triage() {
    both(
        6,
        entered,
        |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0).unwrap(),
        |mmu| mmu.triage(&Fault { access: access(0, AccessKind::Read), cause: Dsisr::NOHPTE }),
        |_, _, b| assert!(b == Triage::Retry || b == Triage::Reflect(Dsisr::NOHPTE)),
    );
}

#[test]
fn enter_and_triage() {
    both(
        6,
        |_| {},
        |mmu| enter(mmu, 0),
        |mmu| mmu.triage(&Fault { access: access(0, AccessKind::Read), cause: Dsisr::NOHPTE }),
        |_, a, b| {
            a.unwrap();
            assert!(b == Triage::Retry || b == Triage::Reflect(Dsisr::NOHPTE));
        },
    );
}

#[test]
fn enter_and_walk() {
    both(
        6,
        |_| {},
        |mmu| enter(mmu, 0),
        share,
        |mmu, a, ()| {
            assert_eq!(mmu.hpt().peek(a.unwrap()).unwrap().1.pp(), 3);
        },
    );
}

#[test]
fn remove_and_walk() {
    both(
        6,
        entered,
        |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0).unwrap(),
        share,
        |_, (_, r), ()| assert_eq!(r.pp(), 2),
    );
}

#[test]
fn protect_and_walk() {
    // The guest makes its entry writable just when the page stops being so.
    both(
        6,
        read_only,
        |mmu| mmu.protect(&Quiet, 2, PteIndex(6), 0).unwrap(),
        share,
        |mmu, (), ()| {
            assert_eq!(mmu.read(PteIndex(6)).unwrap().1.pp(), 2);
        },
    );
}

#[test]
fn resolve_and_walk() {
    fn store() -> Access {
        access(0, AccessKind::Write)
    }
    both(
        6,
        |mmu| {
            entered(mmu);
            share(mmu);
            mmu.make_private(&Quiet, AT, HostReal(0x10_0000)).unwrap();
        },
        |mmu| {
            let cause = Dsisr::PROTFAULT | Dsisr::ISSTORE;
            match mmu.triage(&Fault { access: store(), cause }) {
                Triage::Escalate(e) => Some(mmu.resolve(&Quiet, &e, AccessKind::Write)),
                Triage::Retry => None,
                Triage::Reflect(_) => panic!(),
            }
        },
        |mmu| {
            mmu.discard(&Quiet, AT).unwrap();
        },
        |mmu, a, ()| {
            assert!(matches!(a, None | Some(Resolved::Installed | Resolved::Blocked(_) | Resolved::Changed)));
            assert!(mmu.hpt().peek(PteIndex(6)).unwrap().0.any(HpteV::ABSENT));
        },
    );
}

/// Virtual processors, and a walker, on one page: its entries come, go and change rights while it is taken from writable to shared.
mod on_one_page {
    use super::*;

    /// Entry 5 can be written, entry 6 not.
    fn before(mmu: GuestMmu<'_>) {
        assert_eq!(enter(mmu, 0), Ok(PteIndex(5)));
        assert_eq!(enter(mmu, 1), Ok(PteIndex(6)));
        mmu.protect(&Quiet, 3, PteIndex(6), 0).unwrap();
    }

    fn comes(mmu: GuestMmu<'_>) {
        assert!(matches!(enter(mmu, 2), Ok(PteIndex(5 | 7))));
    }

    fn goes(mmu: GuestMmu<'_>) {
        assert_eq!(mmu.remove(&Quiet, 0, PteIndex(5), 0).unwrap().1.pp(), 2);
    }

    fn becomes_writable(mmu: GuestMmu<'_>) {
        mmu.protect(&Quiet, 2, PteIndex(6), 0).unwrap();
    }

    fn valid(mmu: GuestMmu<'_>) -> u64 {
        mmu.hpt().occupancy().valid as u64
    }

    #[test]
    fn enter_remove_and_walk() {
        crowd(2, before, [comes, goes], share, |mmu| assert_eq!(valid(mmu), 2));
    }

    #[test]
    fn enter_protect_and_walk() {
        crowd(2, before, [comes, becomes_writable], share, |mmu| assert_eq!(valid(mmu), 3));
    }

    #[test]
    fn remove_protect_and_walk() {
        crowd(2, before, [goes, becomes_writable], share, |mmu| assert_eq!(valid(mmu), 1));
    }

    #[test]
    fn enter_remove_and_protect() {
        crowd(2, before, [comes, goes], becomes_writable, |mmu| assert_eq!(valid(mmu), 2));
    }

    #[test]
    fn enter_remove_protect_and_walk() {
        crowd(1, before, [comes, goes, becomes_writable], share, |mmu| {
            assert_eq!(valid(mmu), 2);
            assert_eq!(mmu.read(PteIndex(6)).unwrap().1.pp(), 2);
        });
    }
}
