//! A disk of the host: what has been written and flushed is there to stay, whatever becomes of the partition and of the machine.
//!
//! Each start is counted on the disk. All but the last one end in the middle of writing: what they have left behind comes before what the
//! next one writes, or never.
#![no_std]
#![no_main]

use guests::mem::{fill, is_filled, read8, read64, write8, write32, write64};
use guests::pci::{self, Bridge};
use guests::virtio::{MEMORY, VERSION_1, Virtio};
use guests::{Report, cpu, println, rtas, space};

guests::main!(run);

const VENDOR: u32 = 0x1af4;
const DISK: u32 = 0x1042;
/// VIRTIO_BLK_F_FLUSH, in the lower half of the features; kinds of requests.
const FLUSHES: u32 = 1 << 9;
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const ZERO: u32 = 13;

/// Memory: a request's header and status, and data.
const HEADER: u64 = MEMORY;
const STATUS: u64 = MEMORY + 16;
const DATA: u64 = MEMORY + 0x10_0000;

/// Where starts are counted, and how many there are to be.
const COUNT: u64 = 8;
const STARTS: u64 = 3;
/// A part that each start writes, in requests longer than the host takes at once: the first sector, and bytes.
const PART: u64 = 128;
const BYTES: u32 = 0x4_0000;

/// Makes a request and waits; its status.
fn request(disk: &mut Virtio, kind: u32, sector: u64, bytes: u32) -> Option<u8> {
    header(kind, sector);
    let (before, data, after) = ((HEADER, 16, false), (DATA, bytes, kind == READ), (STATUS, 1, true));
    let written =
        if bytes == 0 { disk.request(&[before, after]) } else { disk.request(&[before, data, after]) };
    written.map(|_| read8(STATUS))
}

fn header(kind: u32, sector: u64) {
    write32(HEADER, kind.to_le());
    write32(HEADER + 4, 0);
    write64(HEADER + 8, sector.to_le());
    write8(STATUS, 0xff);
}

fn run(t: &mut Report) {
    space::standard();
    let Some(bridge) = Bridge::find() else { return t.is_true("bridge", false) };
    let Some(slot) = bridge.slot(VENDOR, DISK) else { return t.is_true("disk", false) };
    bridge.place(slot);
    let Some(mut disk) = Virtio::new(&bridge, slot, MEMORY + 0x1_0000, 0) else {
        return t.is_true("structures", false);
    };
    t.is_true("flushes", disk.features()[0] & FLUSHES != 0);
    t.is_true("start", disk.start([FLUSHES, VERSION_1]));
    let sectors = pci::load(disk.own(0), 4);
    t.equal("sectors", sectors, 8192);

    t.equal("read-count", request(&mut disk, READ, COUNT, 512), Some(0));
    let start = read64(DATA) + 1;
    println!("@ start {start}");
    write64(DATA, start);
    t.equal("write-count", request(&mut disk, WRITE, COUNT, 512), Some(0));
    t.equal("flush-count", request(&mut disk, FLUSH, 0, 0), Some(0));
    fill(DATA, BYTES.into(), start as u8);
    if start < STARTS {
        // It is not waited for.
        header(WRITE, PART);
        disk.give(&[(HEADER, 16, false), (DATA, BYTES, false), (STATUS, 1, true)]);
        pci::store(disk.notification(), 2, 0);
        rtas::call("system-reboot", &[], &mut []);
    }
    t.equal("write", request(&mut disk, WRITE, PART, BYTES), Some(0));
    fill(DATA, BYTES.into(), 0);
    t.equal("read", request(&mut disk, READ, PART, BYTES), Some(0));
    t.is_true("contents", is_filled(DATA, BYTES.into(), start as u8));

    // The last sector, and what lies beyond it.
    fill(DATA, 512, 0x77);
    t.equal("write-last", request(&mut disk, WRITE, u64::from(sectors) - 1, 512), Some(0));
    t.equal("beyond", request(&mut disk, READ, u64::from(sectors) - 1, 1024), Some(1));
    // Eight sectors in the middle of the part are zeroed.
    write64(DATA, (PART + 64).to_le());
    write32(DATA + 8, 8u32.to_le());
    write32(DATA + 12, 0);
    t.equal("zero", request(&mut disk, ZERO, 0, 16), Some(0));
    t.equal("flush", request(&mut disk, FLUSH, 0, 0), Some(0));
    println!("@ flushed");
    // The machine ends here.
    for _ in 0..1000 {
        cpu::delay(cpu::TB_HZ / 100);
    }
    t.is_true("ended", false);
}
