//! Frames, checksums, queues and tables by themselves.

use std::collections::VecDeque;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::frame::{MAX_FRAME, Mac, Partial};
use crate::learned::Learned;
use crate::queue::{QUEUE_BYTES, Queue};

#[test]
fn addresses() {
    assert_eq!(Mac([0x52, 0x54, 0, 1, 2, 0xab]).to_string(), "52:54:00:01:02:ab");
    assert!(Mac::BROADCAST.is_group() && !Mac([0x52; 6]).is_group());
    assert_eq!(Mac::made_up(b"one", 0), Mac::made_up(b"one", 0));
    assert_ne!(Mac::made_up(b"one", 0), Mac::made_up(b"one", 1));
    assert_ne!(Mac::made_up(b"one", 0), Mac::made_up(b"two", 0));
}

/// As RFC 1071 says it, byte by byte.
fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn a_checksum_outside_of_its_frame_is_none() {
    assert!(Partial::new(14, 4, 20).is_some());
    assert!(Partial::new(14, 5, 20).is_none());
    assert!(Partial::new(13, 4, 20).is_none());
    assert!(Partial::new(0xffff, 0xffff, MAX_FRAME).is_none());
}

#[test]
fn a_sum_of_zero_is_stored_as_ones() {
    let mut frame = [0; 20];
    frame[14..16].copy_from_slice(&[0xff, 0xff]);
    Partial::new(14, 4, 20).unwrap().finish(&mut frame);
    assert_eq!(frame[18..], [0xff, 0xff]);
}

#[test]
fn a_full_table_forgets_who_was_silent_longest() {
    let mut learned = Learned::new(100);
    let macs: Vec<Mac> = (0..10_000).map(|n| Mac::made_up(b"", n)).collect();
    for (now, mac) in macs.iter().enumerate() {
        assert!(learned.see(*mac, now as u64));
        assert!(learned.knows(*mac, now as u64));
    }
    let known = macs.iter().filter(|mac| learned.knows(**mac, 9_999)).count();
    assert!((50..=100).contains(&known), "{known}");
    assert!(learned.knows(macs[9_999], 9_999 + 99) && !learned.knows(macs[9_999], 9_999 + 100));
    learned.forget(macs[9_999]);
    assert!(!learned.knows(macs[9_999], 9_999));
}

proptest! {
    #[test]
    fn of_a_finished_checksum_a_receiver_makes_ones(mut frame in prop::collection::vec(any::<u8>(), 40..200), start in 14..20u16, half in 0..9u16) {
        let (at, first) = (usize::from(start + 2 * half), usize::from(start));
        frame[at..at + 2].fill(0);
        let partial = Partial::new(start, 2 * half, frame.len()).unwrap();
        let plain = !plain_sum(&frame[first..]);
        partial.finish(&mut frame);
        prop_assert_eq!(u16::from_be_bytes([frame[at], frame[at + 1]]), if plain == 0 { 0xffff } else { plain });
        prop_assert_eq!(plain_sum(&frame[first..]), 0xffff);
    }

    #[test]
    fn a_queue_is_a_queue(ops in prop::collection::vec((any::<bool>(), 14..=MAX_FRAME, any::<u8>(), 0..2000u16), 0..800)) {
        let mut queue = Queue::default();
        prop_assert!(!queue.push(&[0; 14], None), "there is no memory yet");
        prop_assert!(queue.prepare());
        let mut model = VecDeque::new();
        let mut used = 0;
        for (pop, length, byte, start) in ops {
            if pop {
                let mut to = [0; MAX_FRAME];
                prop_assert_eq!(queue.next_length(), model.front().map(|(frame, _): &(Vec<u8>, _)| frame.len()));
                let taken = queue.pop(&mut to).map(|(n, partial)| (to[..n].to_vec(), partial));
                prop_assert_eq!(&taken, &model.pop_front());
                used -= taken.map_or(0, |(frame, _)| frame.len() + 8);
            } else {
                let frame = vec![byte; length];
                let partial = Partial::new(start, 6, length);
                let fits = used + 8 + length <= QUEUE_BYTES;
                prop_assert_eq!(queue.push(&frame, partial), fits);
                if fits {
                    used += 8 + length;
                    model.push_back((frame, partial));
                }
            }
            prop_assert_eq!(queue.is_empty(), model.is_empty());
        }
    }
}
