//! Random sequences of everything, against the model.
//!
//! `PROPTEST_CASES` scales the first; the second always does a million steps.

use power::HpteFormat;
use proptest::prelude::*;

use super::world::with_world;

const ALL: [(HpteFormat, bool); 4] = [
    (HpteFormat::V2_07, false),
    (HpteFormat::V3_0, false),
    (HpteFormat::V2_07, true),
    (HpteFormat::V3_0, true),
];

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
        with_world(format, huge, |world| {
            for step in steps {
                world.step(step);
            }
            world.check();
        });
    }
}

#[test]
fn a_million_steps() {
    let total: u64 = 1_000_000;
    for (i, (format, huge)) in ALL.into_iter().enumerate() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_add(i as u64);
        with_world(format, huge, |world| {
            for _ in 0..total / ALL.len() as u64 {
                // xorshift64*
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                world.step(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
            }
            world.check();
            let seen = world.seen.borrow();
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
            ] {
                assert!(seen.get(what).is_some_and(|n| *n > 10), "{what} hardly ever happens: {seen:?}");
            }
        });
    }
}
