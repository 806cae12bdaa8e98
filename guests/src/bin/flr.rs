//! What a partition leaves in its device is gone when it starts again: the function is reset. With QEMU's `nvme`, which can do that by
//! itself, and `qemu-xhci`, which cannot, so its bus is. Run twice by a reboot; the clock tells the second time from the first.
#![no_std]
#![no_main]

use guests::device::devices;
use guests::insn;
use guests::space::{self, DEVICE, FREE_SLOT, Segment, run_virtual};
use guests::{Report, println, rtas};
use power::PageSize::K64;
use power::slb::SegmentSize;

guests::main!(run);

const EA: u64 = 0x2000_0000;
const SEGMENT: Segment = Segment { ea: EA, vsid: 0x2d5, size: SegmentSize::M256, base: K64, flags: 0 };
/// A controller's registers, 32 bits, little endian: one that says what it is, and one that holds what is written to it.
struct Registers {
    ids: (u32, u32),
    version: (u64, u32),
    configuration: (u64, u32),
}

const KNOWN: [Registers; 2] = [
    // NVM Express 1.4, 3.1: the version, and the sizes of queue entries; the controller stays disabled.
    Registers { ids: (0x1b36, 0x10), version: (0x8, 0x0001_0400), configuration: (0x14, 0x0046_0000) },
    // xHCI 1.2, 5.3 and 5.4: the length of the capability registers and the version, and how many device slots are on.
    Registers { ids: (0x1b36, 0x0d), version: (0, 0x0100_0040), configuration: (0x78, 0x0000_0007) },
];

fn load(ea: u64) -> Option<u32> {
    let lwz = if cfg!(target_endian = "little") { insn::lwz(5, 0, 3) } else { insn::lwbrx(5, 0, 3) };
    let c = run_virtual(&[lwz], true, ea, 0);
    c.finished().then_some(c.gpr[5] as u32)
}

fn store(ea: u64, value: u32) -> bool {
    let stw = if cfg!(target_endian = "little") { insn::stw(4, 0, 3) } else { insn::stwbrx(4, 0, 3) };
    run_virtual(&[stw], true, ea, value.into()).finished()
}

fn run(t: &mut Report) {
    let mut time = [0; 7];
    rtas::call("get-time-of-day", &[], &mut time);
    let again = time[0] == 2042;
    println!("@ boot {}", if again { "second" } else { "first" });
    space::standard();
    let Some(device) = devices().next() else { return t.is_true("device", false) };
    SEGMENT.install(FREE_SLOT);
    let Some(known) = KNOWN.iter().find(|known| known.ids == device.ids) else {
        return t.is_true("ids", false);
    };
    let (version, configuration) = (EA + known.version.0, EA + known.configuration.0);
    t.same("less-than-a-page", device.bytes, 16 << 10);
    t.same("page-of-its-own", device.base & 0xffff, 0);
    SEGMENT.enter(EA, device.base, K64, DEVICE).expect("the device");
    t.equal("version", load(version), Some(known.version.1));
    t.equal("configuration", load(configuration), Some(0));
    t.is_true("store", store(configuration, known.configuration.1));
    t.equal("configured", load(configuration), Some(known.configuration.1));
    if !again {
        rtas::call("set-time-of-day", &[2042, 1, 1, 0, 0, 0, 0], &mut []);
        rtas::call("system-reboot", &[], &mut []);
    }
}
