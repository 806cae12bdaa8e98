//! Random sequences of everything, against the model.
//!
//! `PROPTEST_CASES` scales the first; the second always does a million steps.

use std::rc::Rc;

use power::HpteFormat;
use proptest::prelude::*;

use super::mock::Memory;
use super::world::{World, with_world_in};

const ALL: [(HpteFormat, bool); 4] = [
    (HpteFormat::V2_07, false),
    (HpteFormat::V3_0, false),
    (HpteFormat::V2_07, true),
    (HpteFormat::V3_0, true),
];

/// Two partitions on one machine.
fn two_worlds(format: HpteFormat, huge: bool, body: impl FnOnce(&mut World<'_>, &mut World<'_>)) {
    let memory = Rc::<Memory>::default();
    with_world_in(memory.clone(), format, huge, |one| {
        with_world_in(memory, format, huge, |other| body(one, other));
    });
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 128;
    }
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn hypercalls_faults_and_pages_match_the_model(
        steps in prop::collection::vec(any::<[u8; 8]>(), 1..400),
        which in 0..ALL.len(),
    ) {
        let (format, huge) = ALL[which];
        two_worlds(format, huge, |one, other| {
            for (i, step) in steps.into_iter().enumerate() {
                if i % 101 == 100 {
                    one.clone_to(other);
                }
                if (step[7] ^ step[0]) & 1 == 0 { one.step(step) } else { other.step(step) }
            }
            one.check();
            other.check();
        });
    }
}

#[test]
fn a_million_steps() {
    let total: u64 = 1_000_000;
    for (i, (format, huge)) in ALL.into_iter().enumerate() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_add(i as u64);
        two_worlds(format, huge, |one, other| {
            for step in 0..total / ALL.len() as u64 {
                // xorshift64*
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                if step % 3000 == 2999 {
                    // Mostly the first, so that it has some time to become something.
                    if step % 5 == 0 { other.clone_to(one) } else { one.clone_to(other) }
                }
                let bytes = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
                if state >> 63 == 0 { one.step(bytes) } else { other.step(bytes) }
            }
            one.check();
            other.check();
            one.vacate();
            other.vacate();
            assert_eq!(one.m.memory.units(), 0, "pages are lost");
            let seen = one.seen.borrow();
            println!("{format:?} huge={huge} {seen:?}");
            for what in [
                "enter",
                "remove",
                "bulk remove",
                "protect",
                "page init",
                "load",
                "store",
                "device access",
                "escalation",
                "unshare",
                "notifier",
                "vrma",
                "snapshot",
                "revert",
                "page brought back",
                "clone",
            ] {
                assert!(seen.get(what).is_some_and(|n| *n > 10), "{what} hardly ever happens: {seen:?}");
            }
            // What has been added is there for good.
            assert!(seen.contains_key("groups added") && seen.contains_key("log added"), "{seen:?}");
        });
    }
}
