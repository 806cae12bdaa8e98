//! A frame of 1514 bytes from one network card to another one of the same partition: from the notification until it has been copied out, switched,
//! copied in, and the guest has it. Alone, and many with one notification.

use crate::devices::DONE;
use crate::faults::MEDIUM;
use crate::measure::{MANY, Row};
use guests::insn::sth;
use guests::mem::{ARENA, fill, write8};
use guests::space::{FREE_SLOT, READ_WRITE};
use guests::virtqueue::{Device, Polled, devices, feature};
use guests::{MSR_VIRTUAL, Report, space};
use power::PageSize::K64;

const HEADER: u32 = 12;
const FRAME: u32 = 1514;
const BUFFER: u64 = 2048;
const BATCH: u64 = 32;

const QUEUES: u64 = ARENA + 0x10_0000;
const SENT: u64 = QUEUES + 0x1_0000;
const RECEIVED: u64 = SENT + 0x1_0000;

fn card(device: Option<Device>, at: u64) -> Option<(Device, Polled, Polled)> {
    let device = device?;
    device.negotiate(feature::VERSION_1)?;
    let queues = (Polled::new(device, 0, 64, at), Polled::new(device, 1, 64, at + 0x1000));
    device.start();
    Some((device, queues.0, queues.1))
}

pub fn rows(t: &mut Report) {
    space::standard();
    let mut all = devices(1);
    let (from, to) = (card(all.next(), QUEUES), card(all.next(), QUEUES + 0x2000));
    let (Some((from, _, mut tx)), Some((to, mut rx, _))) = (from, to) else {
        return t.is_true("cards", false);
    };
    fill(SENT, BUFFER, 0);
    for (offset, device) in [(0, to), (6, from)] {
        (0..6).for_each(|n| write8(SENT + u64::from(HEADER) + offset + n, device.load(n, 1) as u8));
    }
    MEDIUM.install(FREE_SLOT + 1);
    MEDIUM.enter(MEDIUM.ea, QUEUES, K64, READ_WRITE).expect("the queues");
    let used = MEDIUM.ea + rx.queue.used() + 2 - QUEUES;
    let (mut sent, mut came) = (0, 0);
    let [load, compare, again] = DONE;
    let body = [sth(4, 0, 3), load, compare, again];
    for (name, frames) in [("frame", 1), ("frame_of_32", BATCH)] {
        let row =
            Row { rounds: 1, operations: frames, batches: MANY, msr: MSR_VIRTUAL, ..Row::new(name, &body) };
        row.measure(t, |_, gpr| {
            while tx.wait(0).is_some() {}
            while let Some((_, bytes)) = rx.wait(0) {
                came += u64::from(bytes == HEADER + FRAME);
            }
            for n in 0..frames {
                rx.add(&[(RECEIVED + n * BUFFER, BUFFER as u32, true)]);
                tx.add(&[(SENT, HEADER + FRAME, false)]);
            }
            sent += frames;
            (gpr[3], gpr[4], gpr[6], gpr[10]) = (tx.doorbell, 1, sent, used);
        });
    }
    while let Some((_, bytes)) = rx.wait(0) {
        came += u64::from(bytes == HEADER + FRAME);
    }
    t.same("came", came, MANY * (1 + BATCH));
}
