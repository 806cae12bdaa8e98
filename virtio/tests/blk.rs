//! The block device against a plain vector of bytes: at once and later, with copies, and with requests that are wrong.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;

use common::{Driver, Host, Memory, Part};
use proptest::prelude::*;
use virtio::blk::{BLOCK_BYTES, Blk, Block, Buffer, Disk, Failure, Operation, Overlay, SECTOR, Start, Token};
use virtio::{Queue, features};

const BASE: u64 = 0x10_0000;
const BUFFERS: u64 = BASE + 0x2_0000;
const BYTES: usize = 0x20_0000;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// A block of the host's memory.
#[derive(Clone)]
struct Heap(Arc<Vec<u8>>);

impl Block for Heap {
    fn allocate() -> Option<Heap> {
        Some(Heap(Arc::new(vec![0xdb; BLOCK_BYTES])))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.0).map(Vec::as_mut_slice)
    }
}

thread_local! {
    /// How many flushes the last disk that was asked for something has been asked for.
    static FLUSHES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// A disk that takes its time: it does a bit whenever it is asked, the last first, and at times is busy.
#[derive(Clone)]
struct Slow {
    bytes: Vec<u8>,
    under_way: Vec<(Token, Operation)>,
    result: Option<Vec<u8>>,
    turns: u32,
    flushes: u32,
}

impl Disk for Slow {
    fn sectors(&self) -> u64 {
        self.bytes.len() as u64 / SECTOR
    }

    fn block_bytes(&self) -> u32 {
        512
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn id(&self) -> &str {
        "a disk with a very long name"
    }

    fn most_bytes(&self) -> u64 {
        4 * SECTOR
    }

    fn start(&mut self, token: Token, operation: Operation, buffer: &Buffer<'_>) -> Start {
        self.turns += 1;
        self.flushes += u32::from(operation == Operation::Flush);
        FLUSHES.with(|flushes| flushes.set(self.flushes));
        if self.under_way.len() == 3 {
            return Start::Busy;
        }
        if let Operation::Write(range) = operation {
            let (at, end) =
                ((range.first * SECTOR) as usize, ((range.first + range.sectors) * SECTOR) as usize);
            if let Err(failure) = buffer.read(0, &mut self.bytes[at..end]) {
                return Start::Done(Err(failure));
            }
        }
        if self.turns.is_multiple_of(5) && !matches!(operation, Operation::Read(_)) {
            return Start::Done(Ok(()));
        }
        assert!(self.under_way.iter().all(|(other, _)| *other != token), "a token is used twice");
        self.under_way.push((token, operation));
        Start::Later
    }

    fn has_finished(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn finished(&mut self) -> Option<Token> {
        let (token, operation) = self.under_way.pop()?;
        if let Operation::Read(range) = operation {
            let (at, end) =
                ((range.first * SECTOR) as usize, ((range.first + range.sectors) * SECTOR) as usize);
            self.result = Some(self.bytes[at..end].to_vec());
        }
        Some(token)
    }

    fn finish(&mut self, _: Token, buffer: &Buffer<'_>) -> Result<(), Failure> {
        self.result.take().map_or(Ok(()), |bytes| buffer.write(0, &bytes))
    }

    fn forget(&mut self) {
        self.under_way.clear();
    }

    fn copy(&self) -> Option<Box<dyn Disk>> {
        Some(Box::new(self.clone()))
    }
}

/// A machine with a disk, and its driver.
struct Machine {
    host: Host,
    driver: Driver,
    cursor: u64,
}

impl Machine {
    fn new(disk: Box<dyn Disk>) -> Machine {
        let mut host = Host::new(Box::new(Blk::new(disk)), Memory::new(BASE, BYTES));
        let driver = Machine::set_up(&mut host);
        Machine { host, driver, cursor: 0 }
    }

    fn set_up(host: &mut Host) -> Driver {
        let offered = host.offered();
        let driver = Driver::new(BASE, 128, true, &host.memory);
        host.negotiate(offered);
        host.set_up_queue(0, driver.layout, 0);
        host.start();
        driver
    }

    /// Memory for so many bytes.
    fn place(&mut self, bytes: usize) -> u64 {
        if self.cursor + bytes as u64 > BYTES as u64 - 0x2_0000 {
            self.cursor = 0;
        }
        let at = BUFFERS + self.cursor;
        self.cursor += bytes as u64;
        at
    }

    /// Makes a request, its data in parts of so many bytes. Where input and status will be.
    fn submit(&mut self, kind: u32, sector: u64, output: &[u8], input: usize, part: usize) -> (u64, u64) {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        header.extend(output);
        let out = self.place(header.len());
        let into = self.place(input + 1);
        self.host.memory.put(out, &header);
        self.host.memory.put(into, &vec![0x99; input + 1]);
        let mut parts = vec![];
        for (at, bytes, writable) in [(out, header.len(), false), (into, input + 1, true)] {
            for n in (0..bytes).step_by(part) {
                let bytes = part.min(bytes - n) as u32;
                parts.push(Part { at: at + n as u64, bytes, writable });
            }
        }
        let table = self.place(16 * parts.len());
        self.driver.add(&parts, Some((table, 0)), &self.host.memory).expect("there is room");
        (into, into + input as u64)
    }

    fn notify(&mut self) {
        self.host.notify(0);
        self.host.more = true;
        self.host.work();
    }

    /// Makes a request and waits for it: its status, and what was read.
    fn request(&mut self, kind: u32, sector: u64, output: &[u8], input: usize) -> (u8, Vec<u8>) {
        let (into, status) = self.submit(kind, sector, output, input, 5000);
        for _ in 0..1000 {
            self.notify();
            if let Some(event) = self.driver.next(&self.host.memory) {
                let status = self.host.memory.get(status, 1)[0];
                let good = if status == OK { input as u32 + 1 } else { 0 };
                assert!(event.written == good || input == 0);
                return (status, self.host.memory.get(into, input));
            }
        }
        panic!("no answer");
    }

    fn read(&mut self, sector: u64, sectors: usize) -> Vec<u8> {
        let (status, data) = self.request(IN, sector, &[], sectors * 512);
        assert_eq!(status, OK);
        data
    }

    fn copy(&self) -> Machine {
        let function = self.host.function.copy().unwrap();
        let memory = Memory::new(BASE, BYTES);
        memory.put(BASE, &self.host.memory.get(BASE, BYTES));
        Machine {
            host: Host { function, memory, more: false },
            driver: self.driver.clone(),
            cursor: self.cursor,
        }
    }
}

fn image(bytes: usize) -> &'static [u8] {
    Vec::leak((0..bytes).map(|n| (n / 512 + n) as u8).collect())
}

fn range(first: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut raw = first.to_le_bytes().to_vec();
    raw.extend(sectors.to_le_bytes());
    raw.extend(flags.to_le_bytes());
    raw
}

/// What a driver does with one of some copies of a disk.
#[derive(Clone, Debug)]
enum Step {
    Read(u64, usize),
    Write(u64, usize, u8),
    Discard(u64, u32),
    Zero(u64, u32),
    Flush,
    Copy,
    Reset,
}

fn step(sectors: u64) -> impl Strategy<Value = (prop::sample::Index, Step)> {
    let at = 0..sectors;
    let step = prop_oneof![
        4 => (at.clone(), 0..300usize).prop_map(|(at, n)| Step::Read(at, n)),
        4 => (at.clone(), 0..300usize, any::<u8>()).prop_map(|(at, n, byte)| Step::Write(at, n, byte)),
        1 => (at.clone(), 0..600u32).prop_map(|(at, n)| Step::Discard(at, n)),
        1 => (at, 0..600u32).prop_map(|(at, n)| Step::Zero(at, n)),
        1 => Just(Step::Flush),
        1 => Just(Step::Copy),
        1 => Just(Step::Reset),
    ];
    (any::<prop::sample::Index>(), step)
}

/// Carries steps out on machines and vectors.
fn run(
    disk: Box<dyn Disk>,
    model: Vec<u8>,
    steps: Vec<(prop::sample::Index, Step)>,
) -> Result<(), TestCaseError> {
    let sectors = model.len() as u64 / SECTOR;
    let mut machines = vec![(Machine::new(disk), model)];
    for (which, step) in steps {
        let which = which.index(machines.len());
        let enough = machines.len() == 4;
        let (machine, model) = &mut machines[which];
        let status = |good: bool| if good { OK } else { IO_ERROR };
        let place = |at: u64, n: usize| (at * SECTOR) as usize..(at as usize + n) * SECTOR as usize;
        match step {
            Step::Read(at, n) => {
                let (status_is, data) = machine.request(IN, at, &[], n * 512);
                prop_assert_eq!(status_is, status(at + n as u64 <= sectors));
                prop_assert!(status_is != OK || data == model[place(at, n)]);
            }
            Step::Write(at, n, byte) => {
                let data: Vec<u8> = (0..n * 512).map(|i| byte.wrapping_add((i / 512) as u8)).collect();
                let good = at + n as u64 <= sectors;
                prop_assert_eq!(machine.request(OUT, at, &data, 0).0, status(good));
                if good {
                    model[place(at, n)].copy_from_slice(&data);
                }
            }
            Step::Discard(at, n) => {
                let good = at + u64::from(n) <= sectors;
                prop_assert_eq!(machine.request(DISCARD, 0, &range(at, n, 0), 0).0, status(good));
                if good {
                    // What is there now may be anything, but nobody else's: what was there, or nothing.
                    let now = machine.read(at, n as usize);
                    let place = place(at, n as usize);
                    prop_assert!(
                        now.iter().zip(&model[place.clone()]).all(|(is, was)| is == was || *is == 0)
                    );
                    model[place].copy_from_slice(&now);
                }
            }
            Step::Zero(at, n) => {
                let good = at + u64::from(n) <= sectors;
                prop_assert_eq!(machine.request(WRITE_ZEROES, 0, &range(at, n, 1), 0).0, status(good));
                if good {
                    model[place(at, n as usize)].fill(0);
                }
            }
            Step::Flush => prop_assert_eq!(machine.request(FLUSH, 0, &[], 0).0, OK),
            Step::Copy if enough => {}
            Step::Copy => {
                let copy = (machine.copy(), model.clone());
                machines.push(copy);
            }
            Step::Reset => machine.driver = Machine::set_up(&mut machine.host),
        }
    }
    for (mut machine, model) in machines {
        prop_assert_eq!(machine.read(0, sectors as usize), model);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_overlay_is_a_disk(steps in prop::collection::vec(step(1030), 1..60)) {
        // Eight blocks, and some sectors of the ninth, the last of which is not whole.
        let image = image(1029 * 512 + 100);
        let mut model = image.to_vec();
        model.resize(1030 * 512, 0);
        run(Box::new(Overlay::<Heap>::new(image, 9, false, "d")), model, steps)?;
    }

    /// Each request comes back with its own data, however long it takes and in however many pieces.
    #[test]
    fn slow_disks_are_disks(
        requests in prop::collection::vec((any::<bool>(), 0..60u64, 0..20usize), 1..60),
        at_once in 1..40usize,
    ) {
        let bytes: Vec<u8> = (0..80 * 512).map(|n| (n / 512) as u8).collect();
        let slow =
            Slow { bytes: bytes.clone(), under_way: vec![], result: None, turns: 0, flushes: 0 };
        let mut machine = Machine::new(Box::new(slow));
        for group in requests.chunks(at_once) {
            let mut expected = std::collections::HashMap::new();
            for (read, at, n) in group {
                let data = &bytes[*at as usize * 512..][..n * 512];
                // What is written is what is there already, so the order does not matter.
                let (output, input) = if *read { (&[][..], n * 512) } else { (data, 0) };
                let (into, status) = machine.submit(if *read { IN } else { OUT }, *at, output, input, 700);
                expected.insert(status, (into, if *read { data } else { &[] }));
            }
            for _ in 0..500 {
                machine.notify();
                while machine.driver.next(&machine.host.memory).is_some() {}
            }
            prop_assert_eq!(machine.driver.out(), 0);
            for (status, (into, data)) in expected {
                prop_assert_eq!(machine.host.memory.get(status, 1)[0], OK);
                prop_assert!(machine.host.memory.get(into, data.len()) == data);
            }
        }
    }
}

#[test]
fn a_disk_says_what_it_is() {
    let mut machine = Machine::new(Box::new(Overlay::<Heap>::new(image(1000), 9, true, "serial")));
    let offered = machine.host.offered();
    assert_eq!(offered & 0xffff, 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10);
    assert_ne!(offered & features::EVENT_INDEX, 0);
    let word = |host: &mut Host, at: u64| u32::from_le_bytes(host.load(0x3000 + at));
    assert_eq!(word(&mut machine.host, 0), 2, "two sectors");
    assert_eq!(word(&mut machine.host, 8), 0x1_0000);
    assert_eq!(word(&mut machine.host, 12), 126);
    assert_eq!(word(&mut machine.host, 20), 512);
    assert_eq!(word(&mut machine.host, 24), 8 << 16 | 3);
    let (status, id) = machine.request(GET_ID, 0, &[], 20);
    assert_eq!((status, &id[..8]), (OK, &b"serial\0\0"[..]));
    let writes = [(OUT, vec![0; 512]), (DISCARD, range(0, 1, 0)), (WRITE_ZEROES, range(0, 1, 0))];
    for (kind, output) in writes {
        assert_eq!(machine.request(kind, 0, &output, 0).0, IO_ERROR);
    }
    assert_eq!(machine.read(1, 1)[488..], [0; 24], "what is beyond the image");
}

#[test]
fn wrong_requests_are_refused() {
    let mut machine = Machine::new(Box::new(Overlay::<Heap>::new(image(0x2_0000), 9, false, "d")));
    assert_eq!(machine.request(77, 0, &[], 512).0, UNSUPPORTED);
    assert_eq!(machine.request(IN, 0, &[], 511).0, IO_ERROR);
    assert_eq!(machine.request(OUT, 0, &[0; 513], 0).0, IO_ERROR);
    assert_eq!(machine.request(IN, 256, &[], 512).0, IO_ERROR);
    assert_eq!(machine.request(IN, u64::MAX, &[], 512).0, IO_ERROR);
    assert_eq!(machine.request(IN, u64::MAX >> 9, &[], 1024).0, IO_ERROR);
    assert_eq!(machine.request(DISCARD, 0, &range(u64::MAX, 1, 0), 0).0, IO_ERROR);
    assert_eq!(machine.request(DISCARD, 0, &range(0, u32::MAX, 0), 0).0, IO_ERROR);
    assert_eq!(machine.request(DISCARD, 0, &range(0, 1, 1), 0).0, UNSUPPORTED);
    assert_eq!(machine.request(WRITE_ZEROES, 0, &range(0, 1, 2), 0).0, UNSUPPORTED);
    assert_eq!(machine.request(DISCARD, 0, &[0; 32], 0).0, UNSUPPORTED);
    assert_eq!(machine.read(0, 256), image(0x2_0000));
    // No header, no status, memory that is not there: that is no request.
    let no_status = [Part { at: BUFFERS, bytes: 16, writable: false }];
    let no_header =
        [Part { at: BUFFERS, bytes: 15, writable: false }, Part { at: BUFFERS, bytes: 1, writable: true }];
    let nowhere =
        [Part { at: BUFFERS, bytes: 16, writable: false }, Part { at: 0, bytes: 1, writable: true }];
    for parts in [&no_status[..], &no_header, &nowhere] {
        machine.driver = Machine::set_up(&mut machine.host);
        machine.driver.add(parts, None, &machine.host.memory).unwrap();
        machine.notify();
        assert_eq!(machine.host.status() & 64, 64);
    }
    machine.driver = Machine::set_up(&mut machine.host);
    assert_eq!(machine.read(0, 256), image(0x2_0000));
}

#[test]
fn an_overlay_has_its_limit() {
    let mut machine = Machine::new(Box::new(Overlay::<Heap>::new(image(8 * BLOCK_BYTES), 2, false, "d")));
    assert_eq!(machine.request(OUT, 0, &[1; 512], 0).0, OK);
    assert_eq!(machine.request(OUT, 128, &[1; 512], 0).0, OK);
    assert_eq!(machine.request(OUT, 256, &[1; 512], 0).0, IO_ERROR);
    assert_eq!(machine.request(OUT, 1, &[1; 512], 0).0, OK, "that block it has");
    let mut copy = machine.copy();
    assert_eq!(copy.request(OUT, 1, &[2; 512], 0).0, OK, "shared, but counted");
    assert_eq!(copy.request(OUT, 256, &[1; 512], 0).0, IO_ERROR);
    assert_eq!(machine.request(DISCARD, 0, &range(0, 128, 0), 0).0, OK);
    assert_eq!(machine.request(OUT, 256, &[1; 512], 0).0, OK);
    assert_eq!(machine.read(0, 1), [0; 512]);
    assert_eq!((copy.read(0, 1), copy.read(1, 1)), (vec![1; 512], vec![2; 512]));
}

/// A driver that does not flush hears of what it has written when that lasts.
#[test]
fn who_does_not_flush_writes_through() {
    let slow = Slow { bytes: vec![7; 0x1_0000], under_way: vec![], result: None, turns: 0, flushes: 0 };
    let mut machine = Machine::new(Box::new(slow));
    assert_eq!(machine.request(OUT, 0, &[1; 4096], 0).0, OK);
    assert_eq!(FLUSHES.get(), 0);
    machine.host.negotiate(features::EVENT_INDEX | features::INDIRECT);
    machine.driver = Driver::new(BASE, 128, true, &machine.host.memory);
    machine.host.set_up_queue(0, machine.driver.layout, 0);
    machine.host.start();
    assert_eq!(machine.request(OUT, 8, &[1; 4096], 0).0, OK);
    assert_eq!(FLUSHES.get(), 1);
    assert_eq!(machine.request(IN, 8, &[], 4096), (OK, vec![1; 4096]));
    assert_eq!(FLUSHES.get(), 1);
}

/// What was under way before a reset does not come back after it.
#[test]
fn a_reset_forgets() {
    let slow = Slow { bytes: vec![7; 0x1_0000], under_way: vec![], result: None, turns: 0, flushes: 0 };
    let mut machine = Machine::new(Box::new(slow));
    for sector in 0..8 {
        machine.submit(IN, sector, &[], 512, 512);
    }
    // One store: the disk has begun, and is busy.
    let store = [0, 0];
    machine.host.store(0x1000, &store);
    machine.driver = Machine::set_up(&mut machine.host);
    for _ in 0..20 {
        machine.notify();
    }
    assert_eq!(machine.driver.next(&machine.host.memory), None);
    assert_eq!(machine.read(0, 1), [7; 512]);
}

/// All that a guest asks for is done in turns.
#[test]
fn a_turn_is_bounded() {
    let mut blk = Blk::new(Box::new(Overlay::<Heap>::new(image(0x10_0000), 99, false, "d")));
    let memory = Memory::new(BASE, BYTES);
    let mut driver = Driver::new(BASE, 128, false, &memory);
    let mut queue = Queue::default();
    queue.enable(driver.layout, 0).unwrap();
    let mut queues = [queue];
    let serve = |blk: &mut Blk, queues: &mut [Queue]| {
        let more = virtio::Device::serve(blk, 0, queues, &memory).unwrap();
        queues[0].wants_interrupt(&memory).unwrap();
        more
    };
    memory.put(BUFFERS, &[0; 16]);
    let header = Part { at: BUFFERS, bytes: 16, writable: false };
    // Twelve requests of 600 KiB into the same memory; then 50 that are small.
    for (requests, bytes, per_turn) in [(12, 600 << 10, 2), (40, 512, 32)] {
        for _ in 0..requests {
            let data = Part { at: BUFFERS + 16, bytes, writable: true };
            let status = Part { at: BUFFERS + 16, bytes: 1, writable: true };
            driver.add(&[header, data, status], None, &memory).unwrap();
        }
        assert!(serve(&mut blk, &mut queues), "there is more");
        assert_eq!(std::iter::from_fn(|| driver.next(&memory)).count(), per_turn);
        while serve(&mut blk, &mut queues) {}
        assert_eq!(std::iter::from_fn(|| driver.next(&memory)).count(), requests - per_turn);
    }
}
