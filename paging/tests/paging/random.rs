//! Random sequences of everything, against the model.
//!
//! `PROPTEST_CASES` scales the first; the second always does a million steps (fewer in debug builds).

use power::HpteFormat;
use proptest::prelude::*;

use super::world::World;

/// Format, units of 16 MiB, and the share of all steps.
const KINDS: [(HpteFormat, bool, u64); 4] = [
    (HpteFormat::V2_07, false, 4),
    (HpteFormat::V3_0, false, 4),
    (HpteFormat::V2_07, true, 1),
    (HpteFormat::V3_0, true, 1),
];

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn partitions_match_the_model(
        steps in prop::collection::vec(any::<[u8; 8]>(), 1..300),
        which in 0..KINDS.len(),
        blocks in 4usize..60,
    ) {
        let mut world = World::new(KINDS[which].0, KINDS[which].1, blocks);
        for step in steps {
            world.step(step);
        }
        world.end();
    }
}

#[test]
fn a_million_steps() {
    let total: u64 = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for (format, huge, share) in KINDS {
        let mut world = World::new(format, huge, 22);
        for _ in 0..total * share / 10 {
            // xorshift64*
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            world.step(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        println!("{format:?} huge={huge} {:?}", world.seen);
        for what in [
            "store",
            "load",
            "fault",
            "lift",
            "limit",
            "exhausted",
            "protect",
            "merge",
            "merge zeroes",
            "merge first",
            "merge unequal",
            "snapshot",
            "revert",
            "clone",
            "dirty reset",
        ] {
            let merged = what.starts_with("merge");
            assert!(
                merged && huge || world.seen.get(what).is_some_and(|n| *n > 10),
                "{what} hardly ever happens"
            );
        }
        world.end();
    }
}
