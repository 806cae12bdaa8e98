//! A second console, of virtio: what is said there, and what is typed there.
#![no_std]
#![no_main]

use guests::cpu::TB_HZ;
use guests::mem::{ARENA, read8, write8};
use guests::virtqueue::{Polled, find, status};
use guests::{Hcall, Report, hcall, println, space};

guests::main!(run);

const QUEUES: u64 = ARENA + 0x10_0000;
const TYPED: u64 = QUEUES + 0x2_0000;
const SAID: u64 = TYPED + 0x1000;
const PATIENCE: u64 = 20 * TB_HZ;

fn say(tx: &mut Polled, text: &str) -> bool {
    (SAID..).zip(text.bytes()).for_each(|(at, byte)| write8(at, byte));
    tx.add(&[(SAID, text.len() as u32, false)]);
    tx.kick();
    tx.wait(PATIENCE).is_some()
}

fn run(t: &mut Report) {
    space::standard();
    let Some((console, _)) = find(3, 0) else { return t.is_true("console", false) };
    let [mut rx, mut tx] = [0, 1].map(|n| Polled::new(console, n, 16, QUEUES + u64::from(n) * 0x1_0000));
    console.start();
    t.is_true("said", say(&mut tx, "before\n"));
    println!("@ ready");
    let mut typed = [0; 5];
    let mut have = 0;
    while have < typed.len() {
        rx.add(&[(TYPED, 2, true)]);
        rx.kick();
        let Some((_, n)) = rx.wait(60 * TB_HZ) else { break };
        for at in 0..u64::from(n) {
            if let Some(place) = typed.get_mut(have) {
                *place = read8(TYPED + at);
            }
            have += 1;
        }
    }
    t.equal("typed", core::str::from_utf8(&typed), Ok("hello"));
    // More than there is room for: it goes on as it is shown.
    let mut all = true;
    for _ in 0..500 {
        all &= say(&mut tx, "0123456789012345678901234567890\n");
    }
    all &= say(&mut tx, "the end\n");
    t.is_true("all-said", all);
    // Until somebody has seen it.
    while hcall(Hcall::GET_TERM_CHAR, &[0]).r4() == 0 {}
    t.same("status", console.status() & status::NEEDS_RESET, 0);
}
