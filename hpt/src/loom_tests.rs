//! The lock protocol, in every interleaving of two threads (within a bound of preemptions) and with every value that the
//! memory model lets a load see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p hpt`

use loom::sync::Arc;
use loom::thread;
use power::regs::Dsisr;
use power::slb::SlbV;
use power::{Ea, HostReal, HpteR, HpteV, PteIndex};

use crate::crowded::{AT, Quiet, RW, Shared, v};
use crate::*;

fn access(n: u64, kind: AccessKind) -> Access {
    let slb = SlbV(5 << 12);
    Access { ea: Ea(n << 23), slb, kind, problem_state: false, amr: 0, iamr: 0 }
}

/// Runs both at once and checks what is left. Each is the one that begins in turn: what loom tries first decides what it thinks of trying.
fn both<A: 'static, B: 'static>(
    filled: u64,
    before: fn(GuestMmu<'_>),
    one: fn(GuestMmu<'_>) -> A,
    other: fn(GuestMmu<'_>) -> B,
    after: fn(GuestMmu<'_>, A, B),
) {
    both_within(builder(3), filled, before, one, other, after);
}

/// For what has so many interleavings that there is no time for all.
fn both_for_a_while<A: 'static, B: 'static>(
    filled: u64,
    before: fn(GuestMmu<'_>),
    one: fn(GuestMmu<'_>) -> A,
    other: fn(GuestMmu<'_>) -> B,
    after: fn(GuestMmu<'_>, A, B),
) {
    let mut builder = builder(2);
    builder.max_duration = Some(core::time::Duration::from_secs(5));
    both_within(builder, filled, before, one, other, after);
}

fn builder(preemptions: usize) -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder
}

fn both_within<A: 'static, B: 'static>(
    builder: loom::model::Builder,
    filled: u64,
    before: fn(GuestMmu<'_>),
    one: fn(GuestMmu<'_>) -> A,
    other: fn(GuestMmu<'_>) -> B,
    after: fn(GuestMmu<'_>, A, B),
) {
    model(&builder, filled, before, one, other, after);
    model(&builder, filled, before, other, one, move |mmu, b, a| after(mmu, a, b));
}

fn model<A: 'static, B: 'static>(
    builder: &loom::model::Builder,
    filled: u64,
    before: fn(GuestMmu<'_>),
    one: fn(GuestMmu<'_>) -> A,
    other: fn(GuestMmu<'_>) -> B,
    after: impl Fn(GuestMmu<'_>, A, B) + Send + Sync + 'static,
) {
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

/// Several at once, of which the last is this thread, and checks what is left; as many interleavings as there is time for.
fn crowd<const N: usize>(
    preemptions: usize,
    before: fn(GuestMmu<'_>),
    others: [fn(GuestMmu<'_>); N],
    last: fn(GuestMmu<'_>),
) {
    let mut builder = builder(preemptions);
    builder.max_duration = Some(core::time::Duration::from_secs(10));
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

/// The group's first entries, by two at once: it gets one part in the reverse map.
#[test]
fn two_first_entries() {
    both(
        0,
        |_| {},
        |mmu| enter(mmu, 0),
        |mmu| enter(mmu, 1),
        |mmu, a, b| {
            assert!(a.is_ok() && b.is_ok() && a != b);
            assert_eq!((mmu.hpt().groups_used(), mmu.hpt().occupancy().valid), (1, 2));
        },
    );
}

/// A frozen group, and two who change it at once: it is logged once, as it was before.
mod frozen {
    use super::*;

    fn before(mmu: GuestMmu<'_>) {
        entered(mmu);
        mmu.hpt().add_log(Box::leak(Box::default()));
        mmu.hpt().freeze_all();
    }

    fn as_before(mmu: GuestMmu<'_>) {
        assert_eq!(mmu.hpt().logged(), 1);
        mmu.revert();
        assert_eq!(mmu.read(PteIndex(6)), Ok((HpteV(v(0).0 | HpteV::V), HpteR(RW))));
        assert_eq!(mmu.read(PteIndex(7)), Ok((HpteV(0), HpteR(0))));
        assert_eq!(mmu.chains(), Chains { pages: 1, entries: 1, longest: 1 });
    }

    #[test]
    fn enter_and_remove() {
        both(
            6,
            before,
            |mmu| enter(mmu, 1).unwrap(),
            |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0).unwrap(),
            |mmu, _, (_, r)| {
                assert_eq!(r.pp(), 2);
                as_before(mmu);
            },
        );
    }

    #[test]
    fn remove_and_protect() {
        both(
            6,
            before,
            |mmu| mmu.remove(&Quiet, 0, PteIndex(6), 0).unwrap(),
            |mmu| mmu.protect(&Quiet, 3, PteIndex(6), 0),
            |mmu, _, b| {
                assert!(b == Ok(()) || b == Err(HptError::NotFound));
                as_before(mmu);
            },
        );
    }

    #[test]
    fn enter_and_walk() {
        // What only the hardware sees goes on meanwhile.
        both(6, before, |mmu| enter(mmu, 1).unwrap(), share, |mmu, _, ()| as_before(mmu));
    }
}

/// A processor's store through a read-only entry, with what virtual mode does about it, against changes of its page.
mod store_and_sharing {
    use super::*;

    const OTHERS: [HostReal; 2] = [HostReal(0x20_0000), HostReal(0x30_0000)];

    /// What became of the fault, and whether this one has made the page private.
    fn store(mmu: GuestMmu<'_>, own: HostReal) -> (Option<Resolved>, bool) {
        let access = access(0, AccessKind::Write);
        let cause = Dsisr::PROTFAULT | Dsisr::ISSTORE;
        let escalation = match mmu.triage(&Fault { access, cause }) {
            Triage::Escalate(escalation) => escalation,
            Triage::Retry => return (None, false),
            Triage::Reflect(_) => panic!("not the guest's affair"),
        };
        match mmu.resolve(&Quiet, &escalation, AccessKind::Write) {
            Resolved::Blocked(_) => {
                let made = mmu.make_private(&Quiet, AT, own).is_ok();
                (Some(mmu.resolve(&Quiet, &escalation, AccessKind::Write)), made)
            }
            other => (Some(other), false),
        }
    }

    fn shared(mmu: GuestMmu<'_>) {
        entered(mmu);
        share(mmu);
    }

    #[test]
    fn two_stores() {
        both_for_a_while(
            6,
            shared,
            |mmu| store(mmu, OTHERS[0]),
            |mmu| store(mmu, OTHERS[1]),
            |mmu, a, b| {
                // One has given it memory of its own, and that is where the entry leads.
                assert!(a.1 != b.1);
                assert!(
                    !matches!(a.0, Some(Resolved::Blocked(_))) && !matches!(b.0, Some(Resolved::Blocked(_)))
                );
                let page = mmu.page_view(AT).unwrap();
                assert_eq!((page.state(), page.host()), (PageState::Private, Some(OTHERS[usize::from(b.1)])));
                assert_eq!(mmu.hpt().peek(PteIndex(6)).unwrap().1.pp(), 2);
            },
        );
    }

    #[test]
    fn store_and_share() {
        both_for_a_while(
            6,
            |mmu| {
                shared(mmu);
                mmu.make_private(&Quiet, AT, OTHERS[1]).unwrap();
            },
            |mmu| store(mmu, OTHERS[0]),
            share,
            // Nobody can write to what is shared: `Shared::check`.
            |mmu, (_, made), ()| {
                let state = mmu.page_view(AT).unwrap().state();
                assert!(state == PageState::Shared || made);
            },
        );
    }

    #[test]
    fn store_and_protection() {
        both_for_a_while(
            6,
            shared,
            |mmu| store(mmu, OTHERS[0]),
            |mmu| mmu.set_protection(&Quiet, AT, Protection::ReadOnly).unwrap(),
            |mmu, (_, made), _| {
                assert!(made);
                assert_eq!(mmu.page_view(AT).unwrap().protection(), Protection::ReadOnly);
            },
        );
    }
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

    /// With more than two threads two of them can wait for each other's turns until they give up, and the third that has the lock is never
    /// let on: that is no error. What is left is right all the same.
    fn gave_up<T>(result: &Result<T, HptError>) -> bool {
        matches!(result, Err(HptError::TooHard))
    }

    fn comes(mmu: GuestMmu<'_>) {
        let result = enter(mmu, 2);
        assert!(gave_up(&result) || matches!(result, Ok(PteIndex(5 | 7))));
    }

    fn goes(mmu: GuestMmu<'_>) {
        let result = mmu.remove(&Quiet, 0, PteIndex(5), 0);
        assert!(gave_up(&result) || result.unwrap().1.pp() == 2);
    }

    fn becomes_writable(mmu: GuestMmu<'_>) {
        let result = mmu.protect(&Quiet, 2, PteIndex(6), 0);
        assert!(gave_up(&result) || result == Ok(()));
    }

    #[test]
    fn enter_remove_and_walk() {
        crowd(1, before, [comes, goes], share);
    }

    #[test]
    fn enter_protect_and_walk() {
        crowd(1, before, [comes, becomes_writable], share);
    }

    #[test]
    fn remove_protect_and_walk() {
        crowd(2, before, [goes, becomes_writable], share);
    }

    #[test]
    fn enter_remove_and_protect() {
        crowd(2, before, [comes, goes], becomes_writable);
    }

    #[test]
    fn enter_remove_protect_and_walk() {
        crowd(1, before, [comes, goes, becomes_writable], share);
    }
}
