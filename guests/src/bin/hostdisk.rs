//! A disk of the host: what has been written and flushed is there to stay, whatever becomes of the partition and of the machine.
//!
//! Each start is counted on the disk. All but the last one end in the middle of writing: what they have left behind comes before what the
//! next one writes, or never.
#![no_std]
#![no_main]

use guests::mem::{ARENA, fill, is_filled, read64, write32, write64};
use guests::virtqueue::{Disk, FLUSH, READ, WRITE_OUT, WRITE_ZEROES, devices, feature};
use guests::{Report, cpu, println, rtas, space};

guests::main!(run);

/// Where starts are counted, and how many there are to be.
const COUNT: u64 = 8;
const STARTS: u64 = 3;
/// A part that each start writes, in requests longer than the host takes at once: the first sector, and bytes.
const PART: u64 = 128;
const BYTES: u32 = 0x4_0000;

fn run(t: &mut Report) {
    space::standard();
    let Some(device) = devices(2).next() else { return t.is_true("disk", false) };
    let Some(mut disk) = Disk::start(device, ARENA, feature::BLK_FLUSH) else {
        return t.is_true("start", false);
    };
    t.is_true("flushes", disk.agreed & feature::BLK_FLUSH != 0);
    // What is on it is not in memory: a second.
    disk.patience = cpu::TB_HZ / 1000;
    let data = disk.data();
    let sectors = device.load(0, 4);
    t.equal("sectors", sectors, 8192);

    t.equal("read-count", disk.request(READ, COUNT, 512), Some(0));
    let start = read64(data) + 1;
    println!("@ start {start}");
    write64(data, start);
    t.equal("write-count", disk.request(WRITE_OUT, COUNT, 512), Some(0));
    t.equal("flush-count", disk.request(FLUSH, 0, 0), Some(0));
    fill(data, BYTES.into(), start as u8);
    if start < STARTS {
        // It is not waited for.
        disk.begin(WRITE_OUT, PART, BYTES);
        rtas::call("system-reboot", &[], &mut []);
    }
    t.equal("write", disk.request(WRITE_OUT, PART, BYTES), Some(0));
    fill(data, BYTES.into(), 0);
    t.equal("read", disk.request(READ, PART, BYTES), Some(0));
    t.is_true("contents", is_filled(data, BYTES.into(), start as u8));

    // The last sector, and what lies beyond it.
    fill(data, 512, 0x77);
    t.equal("write-last", disk.request(WRITE_OUT, u64::from(sectors) - 1, 512), Some(0));
    t.equal("beyond", disk.request(READ, u64::from(sectors) - 1, 1024), Some(1));
    // Eight sectors in the middle of the part are zeroed.
    write64(data, (PART + 64).to_le());
    write32(data + 8, 8u32.to_le());
    write32(data + 12, 0);
    t.equal("zero", disk.request(WRITE_ZEROES, 0, 16), Some(0));
    t.equal("flush", disk.request(FLUSH, 0, 0), Some(0));
    println!("@ flushed");
    // The machine ends here.
    for _ in 0..1000 {
        cpu::delay(cpu::TB_HZ / 100);
    }
    t.is_true("ended", false);
}
