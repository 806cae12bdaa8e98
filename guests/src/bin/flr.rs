//! What a partition leaves in its device is gone when it starts again: the function is reset. With QEMU's `nvme`, which can do that.
//! Run twice by a reboot; the clock tells the second time from the first.
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
/// The controller's version, and its configuration (NVM Express 1.4, 3.1): 32 bits, little endian.
const VERSION: u64 = EA + 0x8;
const CONFIGURATION: u64 = EA + 0x14;
/// The sizes of queue entries; the controller stays disabled.
const SIZES: u32 = 0x0046_0000;

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
    t.equal("ids", device.ids, (0x1b36, 0x10));
    t.same("less-than-a-page", device.bytes, 16 << 10);
    t.same("page-of-its-own", device.base & 0xffff, 0);
    SEGMENT.enter(EA, device.base, K64, DEVICE).expect("the device");
    t.equal("version", load(VERSION), Some(0x0001_0400));
    t.equal("configuration", load(CONFIGURATION), Some(0));
    t.is_true("store", store(CONFIGURATION, SIZES));
    t.equal("configured", load(CONFIGURATION), Some(SIZES));
    if !again {
        rtas::call("set-time-of-day", &[2042, 1, 1, 0, 0, 0, 0], &mut []);
        rtas::call("system-reboot", &[], &mut []);
    }
}
