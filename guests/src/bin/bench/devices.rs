//! Accesses to a device: a register of a virtio disk, and a notification of a queue in which there is nothing, up to the device's look at it.

use crate::measure::{FEW, MANY, Row};
use guests::insn::{lhz, sth};
use guests::pci::Bridge;
use guests::virtio::{MEMORY, Virtio};
use guests::{MSR_VIRTUAL, Report};

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
}
