//! Queues against a driver: by a model, and with rings that no driver makes.
#![cfg(not(loom))]

mod common;

use common::{Driver, Memory, Part};
use proptest::prelude::*;
use virtio::{Broken, Queue, features};

const BASE: u64 = 0x10_0000;
/// Buffers are from here on, tables of indirect descriptors between them and the queue.
const TABLES: u64 = BASE + 0x1_0000;
const BUFFERS: u64 = BASE + 0x4_0000;

fn both(size: u16, event_index: bool) -> (Memory, Driver, Queue) {
    let memory = Memory::new(BASE, 0x10_0000);
    let driver = Driver::new(BASE, size, event_index, &memory);
    let mut queue = Queue::default();
    let negotiated = features::INDIRECT | if event_index { features::EVENT_INDEX } else { 0 };
    queue.enable(driver.layout, negotiated).unwrap();
    (memory, driver, queue)
}

/// What a driver or its device does.
#[derive(Clone, Debug)]
enum Step {
    /// A chain of buffers with these lengths, so many of them readable, and where an indirect table begins.
    Add(Vec<u32>, usize, Option<usize>),
    Take,
    PutBack,
    /// One of those that are out.
    Complete(prop::sample::Index, u32),
    Collect,
    Want(Option<u16>),
}

fn step() -> impl Strategy<Value = Step> {
    let lengths = prop::collection::vec(prop_oneof![Just(0u32), 1..200u32], 1..8);
    prop_oneof![
        4 => (lengths, 0..8usize, prop::option::of(0..4usize)).prop_map(|(l, r, i)| Step::Add(l, r, i)),
        4 => Just(Step::Take),
        1 => Just(Step::PutBack),
        4 => (any::<prop::sample::Index>(), 0..400u32).prop_map(|(i, w)| Step::Complete(i, w)),
        2 => Just(Step::Collect),
        1 => prop::option::of(0..3u16).prop_map(Step::Want),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Each chain comes to the device once, in order, as it was made; is written only where it may be; and comes back once. Whoever has to
    /// hear of something hears of it.
    #[test]
    fn nothing_is_lost(
        steps in prop::collection::vec(step(), 1..300),
        size in (0..6u32).prop_map(|n| 1u16 << n),
        event_index: bool,
        start in prop::bool::weighted(0.05),
    ) {
        let (memory, mut driver, mut queue) = both(size, event_index);
        if start {
            // Near the wrap of the indices: 65,500 buffers go through first.
            let part = Part { at: BUFFERS, bytes: 1, writable: false };
            for _ in 0..65_500 {
                driver.add(&[part], None, &memory).unwrap();
                let chain = queue.take(&memory).unwrap().unwrap();
                queue.complete(chain, 0, &memory).unwrap();
                let _ = queue.wants_interrupt(&memory);
                driver.next(&memory).unwrap();
            }
            let _ = driver.kick(&memory);
        }
        memory.forbid_writes();
        memory.let_write(driver.layout.used, 6 + 8 * usize::from(size), true);
        let mut waiting = std::collections::VecDeque::new();
        let mut out: Vec<(u16, Vec<Part>, virtio::Chain)> = Vec::new();
        let mut back = std::collections::VecDeque::new();
        let mut last = false;
        // The device sleeps: it has found nothing. The driver wants to hear.
        let mut sleeps = false;
        let mut cursor = 0;
        for step in steps {
            match step {
                Step::Add(lengths, readable, indirect) => {
                    if lengths.len() > usize::from(size) {
                        continue;
                    }
                    let mut parts = Vec::new();
                    for (n, bytes) in lengths.into_iter().enumerate() {
                        parts.push(Part { at: BUFFERS + cursor, bytes, writable: n >= readable });
                        cursor = (cursor + 200) % 0xa_0000;
                    }
                    let table = TABLES + (cursor / 200) % 0x100 * 0x100;
                    if let Some(head) = driver.add(&parts, indirect.map(|direct| (table, direct)), &memory) {
                        waiting.push_back((head, parts));
                        let kick = driver.kick(&memory);
                        prop_assert!(kick || !sleeps, "a device that found nothing is notified");
                        sleeps &= !kick;
                    }
                }
                Step::Take => {
                    let taken = queue.take(&memory).unwrap();
                    prop_assert_eq!(taken.is_some(), !waiting.is_empty());
                    last = taken.is_some();
                    sleeps = !last;
                    if let (Some(chain), Some((head, parts))) = (taken, waiting.pop_front()) {
                        let sum = |writable| parts.iter().filter(|p| p.writable == writable).map(|p| u64::from(p.bytes)).sum();
                        prop_assert_eq!(chain.lengths(), (sum(false), sum(true)));
                        out.push((head, parts, chain));
                    }
                }
                Step::PutBack => {
                    if last {
                        queue.put_back();
                        let (head, parts, _) = out.pop().unwrap();
                        waiting.push_front((head, parts));
                        last = false;
                    }
                }
                Step::Complete(which, written) => {
                    if out.is_empty() {
                        continue;
                    }
                    last = false;
                    let (head, parts, chain) = out.remove(which.index(out.len()));
                    let written = check_contents(&memory, &parts, &chain, written)?;
                    queue.complete(chain, written, &memory).unwrap();
                    back.push_back((head, written));
                    queue.wants_interrupt(&memory).unwrap();
                }
                Step::Collect => {
                    while let Some(event) = driver.next(&memory) {
                        prop_assert_eq!(back.pop_front(), Some((event.head, event.written)));
                    }
                    prop_assert!(back.is_empty());
                    prop_assert_eq!(driver.out(), out.len() + waiting.len());
                }
                Step::Want(after) => driver.want_interrupt(after, &memory),
            }
        }
        // Chains that were taken are either still out or have come back.
        prop_assert_eq!(queue.figures().0, size);
    }
}

/// Reads all that is readable, writes `written` bytes: both are where the driver said.
fn check_contents(
    memory: &Memory,
    parts: &[Part],
    chain: &virtio::Chain,
    written: u32,
) -> Result<u32, TestCaseError> {
    let mut expected = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        let fill: Vec<u8> = (0..part.bytes).map(|i| (i + n as u32 * 7) as u8).collect();
        memory.put(part.at, &fill);
        if !part.writable {
            expected.extend(fill);
        }
    }
    let mut read = vec![0; expected.len() + 5];
    prop_assert_eq!(chain.read(0, &mut read, memory).unwrap(), expected.len());
    read.truncate(expected.len());
    prop_assert_eq!(&read, &expected);
    let from = expected.len() / 2;
    let mut tail = vec![0; expected.len() - from];
    chain.read(from as u64, &mut tail, memory).unwrap();
    prop_assert_eq!(&tail[..], &expected[from..]);

    let writable: Vec<&Part> = parts.iter().filter(|part| part.writable).collect();
    let total: u32 = writable.iter().map(|part| part.bytes).sum();
    let mut left = written.min(total);
    for part in &writable {
        let bytes = left.min(part.bytes);
        memory.let_write(part.at, bytes as usize, true);
        left -= bytes;
    }
    let data: Vec<u8> = (0..written.min(total)).map(|i| (i * 3) as u8).collect();
    let split = data.len() / 3;
    let first = chain.write(0, &data[..split], memory).unwrap();
    let second = chain.write(split as u64, &data[split..], memory).unwrap();
    prop_assert_eq!(first + second, data.len());
    let mut found = Vec::new();
    for part in &writable {
        found.extend(memory.get(part.at, part.bytes as usize));
        memory.let_write(part.at, part.bytes as usize, false);
    }
    prop_assert_eq!(&found[..data.len()], &data[..]);
    Ok(data.len() as u32)
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// One of the descriptors of a hostile chain: (table, index, address, bytes, flags, next).
type Raw = (u64, u16, u64, u32, u16, u16);

/// What the device makes of a ring of eight whose first chain is these descriptors.
fn hostile(descriptors: &[Raw]) -> Result<Option<virtio::Chain>, Broken> {
    let (memory, mut driver, mut queue) = both(8, true);
    for &(table, index, at, bytes, flags, next) in descriptors {
        Driver::describe(table, index, at, bytes, flags, next, &memory);
    }
    driver.offer(0, &memory);
    let taken = queue.take(&memory);
    assert!(memory.accesses.get() < 40, "a chain is read in bounded time");
    taken
}

#[test]
fn malformed_chains_break_the_queue() {
    let broken = |descriptors: &[Raw]| hostile(descriptors).unwrap_err().0;
    let loops = "a chain of descriptors has no end";
    assert_eq!(broken(&[(BASE, 0, BUFFERS, 1, NEXT, 0)]), loops);
    assert_eq!(broken(&[(BASE, 0, BUFFERS, 1, NEXT, 1), (BASE, 1, BUFFERS, 1, NEXT, 0)]), loops);
    let inside = (TABLES, 0, BUFFERS, 1, NEXT, 0);
    assert_eq!(broken(&[(BASE, 0, TABLES, 64, INDIRECT, 0), inside]), loops);
    let beyond = "a descriptor's index is beyond the table";
    assert_eq!(broken(&[(BASE, 0, BUFFERS, 1, NEXT, 8)]), beyond);
    assert_eq!(broken(&[(BASE, 0, TABLES, 32, INDIRECT, 0), (TABLES, 0, BUFFERS, 1, NEXT, 2)]), beyond);
    let order = "a readable descriptor follows a writable one";
    assert_eq!(broken(&[(BASE, 0, BUFFERS, 1, NEXT | WRITE, 1), (BASE, 1, BUFFERS, 1, 0, 0)]), order);
    let nested = "a descriptor is indirect that may not be";
    assert_eq!(broken(&[(BASE, 0, TABLES, 64, INDIRECT, 0), (TABLES, 0, TABLES, 64, INDIRECT, 0)]), nested);
    let next = "a descriptor is indirect and has a next one";
    assert_eq!(broken(&[(BASE, 0, TABLES, 64, INDIRECT | NEXT, 1)]), next);
    let table = "an indirect table is no number of descriptors";
    assert_eq!(broken(&[(BASE, 0, TABLES, 0, INDIRECT, 0)]), table);
    assert_eq!(broken(&[(BASE, 0, TABLES, 24, INDIRECT, 0)]), table);
    assert_eq!(
        broken(&[(BASE, 0, u64::MAX - 20, 32, INDIRECT, 0)]),
        "an indirect table wraps around the address space"
    );
    assert_eq!(broken(&[(BASE, 0, u64::MAX - 1, 4, 0, 0)]), "a buffer wraps around the address space");
    let huge = "a chain of descriptors holds more than 4 GiB";
    assert_eq!(broken(&[(BASE, 0, 0, u32::MAX, NEXT, 1), (BASE, 1, 0, 2, 0, 0)]), huge);
    assert_eq!(broken(&[(BASE, 0, 1 << 40, 64, INDIRECT, 0)]), "a queue or buffer is not in memory");
}

#[test]
fn odd_chains_are_borne() {
    let chain = hostile(&[(BASE, 0, BUFFERS, 0, NEXT, 1), (BASE, 1, BUFFERS, 0, WRITE, 0)]).unwrap().unwrap();
    assert_eq!(chain.lengths(), (0, 0));
    // Two buffers are the same memory; one is as long as can be, and memory is not.
    let raw = [(BASE, 0, BUFFERS, 8, NEXT, 1), (BASE, 1, BUFFERS, u32::MAX - 8, WRITE, 0)];
    let chain = hostile(&raw).unwrap().unwrap();
    let memory = Memory::new(BASE, 0x10_0000);
    assert_eq!(chain.write(0, &[1; 8], &memory), Ok(8));
    let broken = Broken("a queue or buffer is not in memory");
    assert_eq!(chain.write(0xffff_0000, &[1; 8], &memory), Err(broken));
    // A table may be longer than the queue, but the chain may not.
    let mut raw = vec![(BASE, 0, TABLES, 16 * 100, INDIRECT, 0), (TABLES, 0, BUFFERS, 1, NEXT, 99)];
    raw.push((TABLES, 99, BUFFERS, 1, 0, 0));
    assert_eq!(hostile(&raw).unwrap().unwrap().lengths(), (2, 0));
}

#[test]
fn a_head_is_in_the_table() {
    let (memory, mut driver, mut queue) = both(8, false);
    driver.offer(8, &memory);
    assert_eq!(queue.take(&memory).unwrap_err().0, "a descriptor's index is beyond the table");
}

#[test]
fn the_available_index_does_not_jump() {
    let jumps = "the index of available buffers jumps";
    let (memory, mut driver, mut queue) = both(8, true);
    memory.put_u16(driver.layout.available + 2, 9);
    assert_eq!(queue.clone().take(&memory).unwrap_err().0, jumps);
    memory.put_u16(driver.layout.available + 2, 0xffff);
    assert_eq!(queue.clone().take(&memory).unwrap_err().0, jumps);
    memory.put_u16(driver.layout.available + 2, 0);
    let part = Part { at: BUFFERS, bytes: 1, writable: false };
    for _ in 0..3 {
        driver.add(&[part], None, &memory);
        queue.take(&memory).unwrap().unwrap();
    }
    // Back: what was made available is so no more.
    memory.put_u16(driver.layout.available + 2, 1);
    assert_eq!(queue.clone().take(&memory).unwrap_err().0, jumps);
    // More are out than the queue has: the same heads again.
    memory.put_u16(driver.layout.available + 2, 9);
    assert_eq!(queue.take(&memory).unwrap_err().0, jumps);
}

#[test]
fn a_queue_is_where_queues_may_be() {
    let (_, driver, _) = both(8, true);
    let enable = |change: fn(&mut virtio::Layout)| {
        let mut layout = driver.layout;
        change(&mut layout);
        Queue::default().enable(layout, 0).is_ok()
    };
    assert!(enable(|_| ()));
    assert!(!enable(|layout| layout.size = 0));
    assert!(!enable(|layout| layout.size = 7));
    assert!(!enable(|layout| layout.size = 1 << 15 | 1));
    assert!(!enable(|layout| layout.descriptors += 8));
    assert!(!enable(|layout| layout.available += 1));
    assert!(!enable(|layout| layout.used += 2));
    assert!(!enable(|layout| layout.used = u64::MAX - 15));
}

/// Of many chains that are made available at once, the ring and the table are read a few at a time.
#[test]
fn many_at_once_take_few_accesses() {
    let (memory, mut driver, mut queue) = both(64, true);
    for n in 0..64 {
        driver.add(&[Part { at: BUFFERS + n, bytes: 1, writable: false }], None, &memory).unwrap();
    }
    memory.accesses.set(0);
    for _ in 0..64 {
        let chain = queue.take(&memory).unwrap().unwrap();
        queue.complete(chain, 0, &memory).unwrap();
    }
    assert!(driver.next(&memory).is_none(), "it is shown all of them at once");
    queue.wants_interrupt(&memory).unwrap();
    assert_eq!(std::iter::from_fn(|| driver.next(&memory)).count(), 64);
    // The index, heads and descriptors by fours, elements, the index and the wish.
    assert!(memory.accesses.get() <= 1 + 16 + 16 + 64 + 2, "{}", memory.accesses.get());
}

/// Chains of many descriptors: not all are taken at a time, but all in the end.
#[test]
fn what_is_out_is_bounded() {
    let (memory, mut driver, mut queue) = both(256, true);
    let parts = [Part { at: BUFFERS, bytes: 1, writable: false }; 256];
    for n in 0..256 {
        driver.add(&parts, Some((TABLES, 0)), &memory).unwrap_or_else(|| panic!("no room for {n}"));
    }
    let mut taken = 0;
    loop {
        let mut out: Vec<_> = std::iter::from_fn(|| queue.take(&memory).unwrap()).collect();
        assert!(out.len() <= 8, "{} chains of 256 descriptors are out", out.len());
        if out.is_empty() {
            break;
        }
        taken += out.len();
        out.drain(..).for_each(|chain| queue.complete(chain, 0, &memory).unwrap());
    }
    assert_eq!(taken, 256);
}

#[test]
fn interrupts_come_as_they_are_wanted() {
    for event_index in [false, true] {
        let (memory, mut driver, mut queue) = both(8, event_index);
        let part = Part { at: BUFFERS, bytes: 1, writable: false };
        let mut go_round = |driver: &mut Driver, chains: usize| {
            for _ in 0..chains {
                driver.add(&[part], None, &memory);
                let chain = queue.take(&memory).unwrap().unwrap();
                queue.complete(chain, 0, &memory).unwrap();
            }
            let wanted = queue.wants_interrupt(&memory).unwrap();
            assert!(!queue.wants_interrupt(&memory).unwrap(), "nothing new");
            while driver.next(&memory).is_some() {}
            wanted
        };
        assert!(go_round(&mut driver, 1));
        driver.want_interrupt(None, &memory);
        assert!(!go_round(&mut driver, 3));
        driver.want_interrupt(Some(0), &memory);
        assert!(go_round(&mut driver, 2));
        if event_index {
            driver.want_interrupt(Some(2), &memory);
            assert!(!go_round(&mut driver, 2));
            assert!(go_round(&mut driver, 1));
        }
    }
}
