//! Rings that no driver makes: whatever is wrong with one, its device says that it needs a reset, works again after it, and other devices
//! of the partition work all the time. Two disks are there, with the same contents: the first is mistreated.
#![no_std]
#![no_main]

use guests::mem::{ARENA, fill, is_filled, read64, write16, write64};
use guests::virtqueue::{
    Device, Disk, INDIRECT, NEXT, READ, WRITE, WRITE_OUT, describe, devices, feature, status,
};
use guests::{Report, platform, space};

guests::main!(run);

/// What is done to a queue of 64 descriptors: a table of indirect descriptors is at TABLE.
struct Wrong {
    name: &'static str,
    ring: fn(&mut Disk),
}

/// Memory: the disks', a table, and where nothing is written.
const FIRST: u64 = ARENA;
const SECOND: u64 = ARENA + 0x1_0000;
const TABLE: u64 = ARENA + 0x2_0000;

const WRONG: &[Wrong] = &[
    Wrong { name: "head", ring: |d| d.queue.offer(64) },
    Wrong {
        name: "next",
        ring: |d| {
            d.queue.describe(0, d.header(), 16, NEXT, 64);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "loop-of-one",
        ring: |d| {
            d.queue.describe(0, d.header(), 16, NEXT, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "loop-of-all",
        ring: |d| {
            (0..64).for_each(|n| d.queue.describe(n, d.header(), 16, NEXT, (n + 1) % 64));
            d.queue.offer(5);
        },
    },
    Wrong {
        name: "readable-after-writable",
        ring: |d| {
            d.queue.describe(0, d.data(), 512, NEXT | WRITE, 1);
            d.queue.describe(1, d.header(), 16, 0, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "wraps",
        ring: |d| {
            d.queue.describe(0, u64::MAX - 7, 16, 0, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "longer-than-can-be",
        ring: |d| {
            d.queue.describe(0, 0, u32::MAX, NEXT, 1);
            d.queue.describe(1, 0, u32::MAX, WRITE, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "no-memory",
        ring: |d| {
            d.queue.describe(0, platform::memory() - 8, 16, NEXT, 1);
            d.queue.describe(1, d.status(), 1, WRITE, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "no-memory-for-status",
        ring: |d| {
            d.put_header(READ, 0);
            d.queue.describe(0, d.header(), 16, NEXT, 1);
            d.queue.describe(1, 1 << 40, 1, WRITE, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "indirect-in-indirect",
        ring: |d| {
            d.queue.describe(0, TABLE, 16, INDIRECT, 0);
            describe(TABLE, 0, TABLE, 16, INDIRECT, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "indirect-and-next",
        ring: |d| {
            d.queue.describe(0, TABLE, 16, INDIRECT | NEXT, 1);
            describe(TABLE, 0, d.status(), 1, WRITE, 0);
            d.queue.describe(1, d.status(), 1, WRITE, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "indirect-loop",
        ring: |d| {
            d.queue.describe(0, TABLE, 32, INDIRECT, 0);
            describe(TABLE, 0, d.header(), 16, NEXT, 1);
            describe(TABLE, 1, d.header(), 16, NEXT, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "indirect-next",
        ring: |d| {
            d.queue.describe(0, TABLE, 16, INDIRECT, 0);
            describe(TABLE, 0, d.header(), 16, NEXT, 1);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "indirect-empty",
        ring: |d| {
            d.queue.describe(0, TABLE, 0, INDIRECT, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "indirect-length",
        ring: |d| {
            d.queue.describe(0, TABLE, 24, INDIRECT, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "indirect-nowhere",
        ring: |d| {
            d.queue.describe(0, 1 << 50, 16, INDIRECT, 0);
            d.queue.offer(0);
        },
    },
    Wrong { name: "too-many", ring: |d| write16(d.queue.available() + 2, (d.queue.offered + 65).to_le()) },
    Wrong {
        name: "backwards",
        ring: |d| write16(d.queue.available() + 2, (d.queue.offered.wrapping_sub(1)).to_le()),
    },
    Wrong {
        name: "no-header",
        ring: |d| {
            d.queue.describe(0, d.header(), 15, NEXT, 1);
            d.queue.describe(1, d.status(), 1, WRITE, 0);
            d.queue.offer(0);
        },
    },
    Wrong {
        name: "no-status",
        ring: |d| {
            d.queue.describe(0, d.header(), 16, 0, 0);
            d.queue.offer(0);
        },
    },
];

/// Each eight bytes of a disk are their offset, in little endian.
fn works(t: &mut Report, disk: &mut Disk) {
    fill(disk.data(), 0x1000, 0x33);
    t.equal("read", disk.request(READ, 64, 4096), Some(0));
    let good = |at| u64::from_le(read64(disk.data() + at)) == 64 * 512 + at;
    t.is_true("contents", (0..4096).step_by(8).all(good));
}

fn start(device: Device, at: u64) -> Disk {
    Disk::start(device, at, feature::INDIRECT_DESC).expect("a disk")
}

fn run(t: &mut Report) {
    space::standard();
    let mut all = devices(2);
    let (Some(victim), Some(other)) = (all.next(), all.next()) else { return t.is_true("disks", false) };
    let (mut disk, mut bystander) = (start(victim, FIRST), start(other, SECOND));
    works(t, &mut disk);
    works(t, &mut bystander);
    for wrong in WRONG {
        // What it has to look at is not what the last one left.
        fill(TABLE, 0x1000, 0);
        (wrong.ring)(&mut disk);
        victim.interrupts();
        victim.notify(0);
        t.equal(wrong.name, victim.status() & status::NEEDS_RESET, status::NEEDS_RESET);
        t.equal("interrupts", victim.interrupts() & 2, 2);
        works(t, &mut bystander);
        // It does nothing more, whatever comes.
        t.equal("deaf", disk.request(READ, 0, 512), None);
        disk = start(victim, FIRST);
        works(t, &mut disk);
    }
    queues(t, victim);
    odd(t, victim);
    contents(t, victim, &mut bystander);
}

/// Queues that cannot be where they are.
fn queues(t: &mut Report, device: Device) {
    for (name, at, size) in
        [("unaligned", FIRST + 8, 64), ("end-of-addresses", u64::MAX - 0xfff, 64), ("nowhere", 1 << 50, 64)]
    {
        device.negotiate(feature::VERSION_1 | feature::ACCESS_PLATFORM);
        let queue = guests::virtqueue::Queue { descriptors: at, size, offered: 0, taken: 0 };
        device.set_up(0, &queue, (0xffff, 0xffff));
        device.start();
        device.notify(0);
        t.equal(name, device.status() & status::NEEDS_RESET, status::NEEDS_RESET);
    }
    works(t, &mut start(device, FIRST));
}

/// Chains that are odd, but not wrong.
fn odd(t: &mut Report, device: Device) {
    let mut disk = start(device, FIRST);
    // Buffers of no bytes, the same memory twice, and the status in the header's own place.
    disk.put_header(READ, 0);
    disk.queue.describe(0, disk.header(), 16, NEXT, 1);
    disk.queue.describe(1, 1 << 60, 0, NEXT | WRITE, 2);
    disk.queue.describe(2, disk.data(), 512, NEXT | WRITE, 3);
    disk.queue.describe(3, disk.data(), 512, NEXT | WRITE, 4);
    disk.queue.describe(4, disk.header(), 1, WRITE, 0);
    disk.queue.offer(0);
    device.notify(0);
    t.equal("overlap", disk.queue.next(), Some((0, 1025)));
    // A chain as long as the queue.
    disk.put_header(READ, 0);
    disk.queue.describe(0, disk.header(), 16, NEXT, 1);
    (1..63).for_each(|n| disk.queue.describe(n, disk.data() + 512 * u64::from(n), 512, NEXT | WRITE, n + 1));
    disk.queue.describe(63, disk.status(), 1, WRITE, 0);
    disk.queue.offer(0);
    device.notify(0);
    t.equal("longest", disk.queue.next(), Some((0, 62 * 512 + 1)));
    // It says that there are more while it has them.
    t.equal("in-order", device.status() & status::NEEDS_RESET, 0);
}

/// What one writes the other does not read.
fn contents(t: &mut Report, device: Device, bystander: &mut Disk) {
    let mut disk = start(device, FIRST);
    fill(disk.data(), 0x2000, 0x5a);
    t.equal("write", disk.request(WRITE_OUT, 1, 0x2000), Some(0));
    fill(disk.data(), 0x2000, 0);
    t.equal("read-back", disk.request(READ, 1, 0x2000), Some(0));
    t.is_true("its-own", is_filled(disk.data(), 0x2000, 0x5a));
    works(t, &mut disk);
    write64(bystander.data(), 0);
    t.equal("read-other", bystander.request(READ, 1, 0x2000), Some(0));
    t.is_true("not-the-other", !is_filled(bystander.data(), 0x2000, 0x5a));
    t.equal("beyond", disk.request(READ, u64::MAX >> 9, 512), Some(1));
    works(t, bystander);
}
