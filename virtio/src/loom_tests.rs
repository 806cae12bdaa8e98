//! A queue and its driver on two processors, in every order that memory allows: `RUSTFLAGS="--cfg loom" cargo test --release -p virtio --lib`.

extern crate std;

use std::collections::BTreeMap;
use std::vec::Vec;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU16, Ordering, fence};
use loom::thread;
use phb::{Bus, DmaError};

use crate::{Layout, Queue, features};

/// A queue of two, each of whose descriptors is one buffer of two bytes.
const LAYOUT: Layout = Layout { size: 2, descriptors: 0x100, available: 0x200, used: 0x300 };
const BUFFER: u64 = 0x400;
const WRITE: u16 = 2;

/// Where the words are that change.
mod word {
    use super::LAYOUT;

    pub const FLAGS: u64 = LAYOUT.available;
    pub const AVAILABLE: u64 = LAYOUT.available + 2;
    pub const USED_EVENT: u64 = LAYOUT.available + 4 + 2 * LAYOUT.size as u64;
    pub const USED_FLAGS: u64 = LAYOUT.used;
    pub const USED: u64 = LAYOUT.used + 2;
    pub const AVAILABLE_EVENT: u64 = LAYOUT.used + 4 + 8 * LAYOUT.size as u64;

    pub fn head(n: u16) -> u64 {
        LAYOUT.available + 4 + 2 * u64::from(n % LAYOUT.size)
    }

    /// The low halves of an element's two words.
    pub fn element(n: u16) -> [u64; 2] {
        let at = LAYOUT.used + 4 + 8 * u64::from(n % LAYOUT.size);
        [at, at + 4]
    }
}

/// Words of 16 bits, without any order between them.
struct Words(BTreeMap<u64, AtomicU16>);

impl Words {
    fn new() -> Words {
        use word::*;
        let mut all = std::vec![FLAGS, AVAILABLE, USED_EVENT, USED_FLAGS, USED, AVAILABLE_EVENT];
        for n in 0..2 {
            all.extend([head(n), BUFFER + 2 * u64::from(n)]);
            all.extend(element(n));
        }
        Words(all.into_iter().map(|at| (at, AtomicU16::new(0))).collect())
    }

    fn get(&self, at: u64) -> u16 {
        self.0[&at].load(Ordering::Relaxed)
    }

    fn set(&self, at: u64, value: u16) {
        self.0[&at].store(value, Ordering::Relaxed);
    }

    /// The driver makes buffer n available. True if the device wants to hear of it.
    fn add(&self, n: u16, event_index: bool) -> bool {
        self.set(word::head(n), n % LAYOUT.size);
        fence(Ordering::Release);
        self.set(word::AVAILABLE, n + 1);
        fence(Ordering::SeqCst);
        if event_index { self.get(word::AVAILABLE_EVENT) == n } else { self.get(word::USED_FLAGS) & 1 == 0 }
    }
}

impl Bus for Words {
    fn read(&self, at: u64, to: &mut [u8]) -> Result<(), DmaError> {
        if at < LAYOUT.available {
            // Descriptors do not change.
            for (n, to) in ((at - LAYOUT.descriptors) / 16..).zip(to.chunks_mut(16)) {
                let descriptor = u128::from(BUFFER + 2 * n) | 2 << 64 | u128::from(WRITE) << 96;
                to.copy_from_slice(&descriptor.to_le_bytes());
            }
        } else {
            for (n, to) in (0..).zip(to.chunks_mut(2)) {
                to.copy_from_slice(&self.get(at + 2 * n).to_le_bytes());
            }
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<(), DmaError> {
        for (n, two) in (0..).zip(from.chunks(2)) {
            // The high halves of an element are always zero.
            if let Some(word) = self.0.get(&(at + 2 * n)) {
                word.store(u16::from_le_bytes([two[0], two[1]]), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn message(&self, _: u64, _: u32) {}

    fn line(&self, _: bool) {}
}

fn queue(event_index: bool) -> Queue {
    let mut queue = Queue::default();
    queue.enable(LAYOUT, if event_index { features::EVENT_INDEX } else { 0 }).unwrap();
    queue
}

/// Gives a buffer back, if there is one, with a word in it: which it was.
fn serve_one(queue: &mut Queue, words: &Words) -> Option<u16> {
    let chain = queue.take(words).unwrap()?;
    let head = chain.head;
    chain.write(0, &[7, 0], words).unwrap();
    queue.complete(chain, 2, words).unwrap();
    Some(head)
}

fn serve(queue: &mut Queue, words: &Words) -> Vec<u16> {
    core::iter::from_fn(|| serve_one(queue, words)).collect()
}

fn in_all_orders(run: impl Fn(bool) + Sync + Send + Clone + 'static) {
    for event_index in [false, true] {
        let run = run.clone();
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(move || run(event_index));
    }
}

/// A device that has found nothing sleeps until it is notified.
#[test]
fn no_notification_is_lost() {
    in_all_orders(|event_index| {
        let words = Arc::new(Words::new());
        let mut queue = queue(event_index);
        let driver = thread::spawn({
            let words = words.clone();
            move || [0, 1].map(|n| words.add(n, event_index)).contains(&true)
        });
        let mut served = serve(&mut queue, &words);
        if driver.join().unwrap() {
            served.extend(serve(&mut queue, &words));
        }
        assert_eq!(served, [0, 1]);
    });
}

/// A driver that has found nothing sleeps until it is interrupted. What it finds is whole.
#[test]
fn no_interrupt_is_lost() {
    in_all_orders(|event_index| {
        let words = Arc::new(Words::new());
        // It has said that it wants no interrupts.
        words.set(word::FLAGS, 1);
        words.set(word::USED_EVENT, 0x8000);
        words.add(0, event_index);
        let device = thread::spawn({
            let words = words.clone();
            move || {
                let mut queue = queue(event_index);
                serve_one(&mut queue, &words);
                queue.wants_interrupt(&*words).unwrap()
            }
        });
        let look = || {
            let any = words.get(word::USED) == 1;
            fence(Ordering::Acquire);
            if any {
                assert_eq!(words.get(BUFFER), 7, "what was written to the buffer");
                assert_eq!(word::element(0).map(|at| words.get(at)), [0, 2]);
            }
            any
        };
        words.set(word::USED_EVENT, 0);
        words.set(word::FLAGS, 0);
        fence(Ordering::SeqCst);
        let mut found = look();
        if device.join().unwrap() {
            found |= look();
        }
        assert!(found);
    });
}
