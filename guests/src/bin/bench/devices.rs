//! Accesses to a device: a register of a virtio disk, a notification of a queue in which there is nothing, up to the device's look at it, and
//! requests.

use crate::faults::MEDIUM;
use crate::measure::{FEW, MANY, Row};
use guests::insn::{LWSYNC, addi, bne, cmpd, lhbrx, lhz, sth, sthbrx};
use guests::mem::{ARENA, read8, read16, write16};
use guests::pci::Bridge;
use guests::space::{FREE_SLOT, READ_WRITE};
use guests::virtio::{MEMORY, Virtio};
use guests::virtqueue::{Disk, NEXT, READ, WRITE, devices, feature};
use guests::{MSR_VIRTUAL, Report};
use power::PageSize::K64;

/// Waits until a used ring's index, at r10, is r6. Here it always is when a notification is over; a device may have a thread of its own
/// elsewhere.
pub const DONE: [u32; 3] =
    [if cfg!(target_endian = "little") { lhz(7, 0, 10) } else { lhbrx(7, 0, 10) }, cmpd(7, 6), bne(-8)];

pub fn rows(t: &mut Report) {
    let device = Bridge::find().and_then(|bridge| {
        // A disk, or a balloon.
        let slot = [0x1042, 0x1045].into_iter().find_map(|device| bridge.slot(0x1af4, device))?;
        (bridge.place(slot) >= 2).then_some(())?;
        Virtio::new(&bridge, slot, MEMORY, 0)
    });
    let Some(mut device) = device else { return t.is_true("device", false) };
    let [_, high] = device.features();
    t.is_true("agreed", device.start([0, high & 1]));
    // The number of the queue that is chosen: 0, and it stays.
    let register = device.register(guests::virtio::common::QUEUE);
    for (name, access, at) in [
        ("device_load", lhz(4, 0, 3), register),
        ("device_store", sth(4, 0, 3), register),
        ("notify", sth(4, 0, 3), device.notification()),
    ] {
        Row { rounds: FEW, batches: MANY, msr: MSR_VIRTUAL, ..Row::new(name, &[access]) }
            .measure(t, |_, gpr| gpr[3] = at);
    }
    requests(t);
}

/// Reads of 4 KiB from a virtio disk in memory, one at a time: the guest makes the request available, notifies, and waits until it
/// has it.
fn requests(t: &mut Report) {
    let Some(mut disk) = devices(2).next().and_then(|device| Disk::start(device, ARENA, feature::EVENT_IDX))
    else {
        return t.is_true("disk", false);
    };
    MEDIUM.install(FREE_SLOT + 1);
    MEDIUM.enter(MEDIUM.ea, ARENA, K64, READ_WRITE).expect("the queue");
    // No interrupts: the event index is that of one that does not come. And each place of the ring has the same request.
    write16(disk.queue.available() + 4 + 2 * u64::from(disk.queue.size), 0xffff);
    disk.put_header(READ, 8);
    disk.queue.describe(0, disk.header(), 16, NEXT, 1);
    disk.queue.describe(1, disk.data(), 4096, NEXT | WRITE, 2);
    disk.queue.describe(2, disk.status(), 1, WRITE, 0);
    let doorbell = disk.device.doorbell(0);
    let index = |ring: u64| MEDIUM.ea + ring + 2 - ARENA;
    let (available, used) = (index(disk.queue.available()), index(disk.queue.used()));
    let store = if cfg!(target_endian = "little") { sth(6, 0, 9) } else { sthbrx(6, 0, 9) };
    let [load, compare, again] = DONE;
    let body = [addi(6, 6, 1), store, LWSYNC, sth(0, 0, 3), load, compare, again];
    Row { rounds: FEW, batches: MANY, msr: MSR_VIRTUAL, ..Row::new("disk_read_4k", &body) }.measure(
        t,
        |batch, gpr| {
            (gpr[3], gpr[6], gpr[9], gpr[10]) = (doorbell, batch * FEW, available, used);
        },
    );
    t.same("requests", u64::from(u16::from_le(read16(disk.queue.used() + 2))), MANY * FEW);
    t.equal("status", read8(disk.status()), 0);
    disk.queue.offered = (MANY * FEW) as u16;
    disk.queue.taken = disk.queue.offered;
    t.equal("goes-on", disk.request(READ, 0, 512), Some(0));
}
