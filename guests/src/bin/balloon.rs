//! A memory balloon, as a driver uses it and as it should not. The monitor asks for 1 MiB of it; the pages that are given read as zeroes when
//! they are touched again.
#![no_std]
#![no_main]

use guests::cpu::TB_HZ;
use guests::mem::{ARENA, fill, is_filled, write32};
use guests::virtqueue::{Polled, feature, find, status};
use guests::{Hcall, Report, hcall, platform, println, space};

guests::main!(run);

const QUEUES: u64 = ARENA + 0x10_0000;
/// Where requests name pages.
const NAMES: u64 = QUEUES + 0x4_0000;
/// What is given: 16 units of 64 KiB.
const GIVEN: u64 = 0x100_0000;
const BYTES: u64 = 0x10_0000;
const UNIT: u64 = 0x1_0000;

const PATIENCE: u64 = 20 * TB_HZ;

fn request(queue: &mut Polled, pages: impl Iterator<Item = u64>) -> bool {
    let mut count = 0;
    for page in pages {
        write32(NAMES + 4 * count, (page as u32).to_le());
        count += 1;
    }
    queue.add(&[(NAMES, 4 * count as u32, false)]);
    queue.kick();
    queue.wait(PATIENCE).is_some()
}

fn pages(at: u64, bytes: u64) -> impl Iterator<Item = u64> {
    (at..at + bytes).step_by(0x1000).map(|at| at >> 12)
}

fn run(t: &mut Report) {
    space::standard();
    let Some((balloon, agreed)) = find(5, 1 << 5) else { return t.is_true("balloon", false) };
    // About real addresses: not behind the host bridge's windows. And free memory is to be reported.
    t.same("features", agreed, feature::VERSION_1 | 1 << 5);
    let [mut inflate, mut deflate, mut report] =
        [0, 1, 2].map(|n| Polled::new(balloon, n, 64, QUEUES + u64::from(n) * UNIT));
    let wanted = || u64::from(balloon.load(0, 4));
    let broken = || balloon.status() & status::NEEDS_RESET;
    balloon.start();
    t.same("target", wanted(), 0);
    fill(GIVEN, BYTES, 0x5a);
    println!("@ ready");
    let mut looks = 0u64;
    while wanted() != BYTES >> 12 && looks < 1_000_000 {
        looks += 1;
    }
    t.same("target", wanted(), BYTES >> 12);
    // All but the last page of each unit: nothing is gone yet.
    let last = |page: &u64| page % 16 == 15;
    t.is_true("inflate", request(&mut inflate, pages(GIVEN, BYTES).filter(|page| !last(page))));
    t.is_true("still-there", is_filled(GIVEN, BYTES, 0x5a));
    t.is_true("inflate-again", request(&mut inflate, pages(GIVEN, BYTES).filter(|page| !last(page))));
    t.is_true("inflate-rest", request(&mut inflate, pages(GIVEN, BYTES).filter(last)));
    balloon.store(4, 4, (BYTES >> 12) as u32);
    println!("@ given");
    while hcall(Hcall::GET_TERM_CHAR, &[0]).r4() == 0 {}
    t.is_true("zeroes", is_filled(GIVEN, BYTES, 0));
    t.is_true("beside", is_filled(GIVEN + BYTES, UNIT, 0));
    fill(GIVEN, BYTES, 0xa5);
    // Nonsense is passed over.
    let beyond = platform::memory() >> 12;
    t.is_true("nonsense", request(&mut inflate, [beyond, beyond + 1, 0xffff_ffff, 0x8000_0000].into_iter()));
    t.is_true("nonsense", request(&mut deflate, [beyond, 3, 0xffff_ffff].into_iter()));
    t.is_true("deflate", request(&mut deflate, pages(GIVEN, BYTES)));
    t.is_true("own-again", is_filled(GIVEN, BYTES, 0xa5));
    // Free memory goes at once, whole units of it.
    report.add(&[
        (GIVEN + 0x1000, 0x2_f000, true),
        (GIVEN + 8 * UNIT, UNIT as u32, true),
        (u64::MAX - UNIT, UNIT as u32, true),
    ]);
    report.kick();
    t.is_true("report", report.wait(PATIENCE).is_some());
    t.is_true("not-a-part", is_filled(GIVEN, UNIT, 0xa5));
    t.is_true("free", is_filled(GIVEN + UNIT, 2 * UNIT, 0) && is_filled(GIVEN + 8 * UNIT, UNIT, 0));
    t.is_true("not-free", is_filled(GIVEN + 3 * UNIT, 5 * UNIT, 0xa5));
    t.same("status", broken(), 0);
    // A request that is longer than any sensible one.
    inflate.add(&[(NAMES, 0x10_0000, false)]);
    inflate.kick();
    t.same("too-long", broken(), status::NEEDS_RESET);
    balloon.reset();
    t.same("reset", balloon.status(), 0);
}
