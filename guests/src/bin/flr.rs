//! What a partition leaves in its device is gone when it starts again: the function is reset. With QEMU's `nvme`, which can do that by
//! itself, and `qemu-xhci`, which cannot, so its bus is. Run twice by a reboot; the clock tells the second time from the first.
#![no_std]
#![no_main]

use guests::cpu::timebase;
use guests::device::{Device, devices};
use guests::insn;
use guests::space::{self, DEVICE, FREE_SLOT, Segment, run_virtual};
use guests::{Report, platform, println, rtas};
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

/// As a driver does after an error. There has been none: the emulator's host bridges stop nothing.
fn recover(t: &mut Report, device: &Device, version: u64, expected: u32, configuration: u64) {
    const BAR: u32 = 0x10;
    const COMMAND: u32 = 0x4;
    let [high, low] = device.bridge.cells();
    let call = |name, address, more: &[u32], results: &mut [u32]| {
        let mut args = [address, high, low, 0, 0, 0, 0, 0];
        args[3..].iter_mut().zip(more).for_each(|(to, from)| *to = *from);
        rtas::call(name, &args[..3 + more.len()], results)
    };
    let (own, mut endpoint, mut shared) = (device.slot << 11, [0], [0]);
    t.equal("shared", (call("ibm,get-config-addr-info2", own, &[1], &mut shared), shared), (0, [1]));
    t.same("endpoint", call("ibm,get-config-addr-info2", own, &[0], &mut endpoint) as u64, 0);
    let [endpoint] = endpoint;
    t.is_true("not-0", endpoint != 0);
    t.equal("enable", call("ibm,set-eeh-option", own, &[1], &mut []), 0);
    let state = || {
        let mut state = [0; 3];
        let status = call("ibm,read-slot-reset-state2", endpoint, &[], &mut state);
        (status, state)
    };
    t.equal("not-stopped", state(), (0, [0, 1, 0]));
    t.equal("thaw-memory", call("ibm,set-eeh-option", endpoint, &[2], &mut []), 0);
    t.equal("thaw-dma", call("ibm,set-eeh-option", endpoint, &[3], &mut []), 0);
    let before = [BAR, BAR + 4].map(|at| device.bridge.read(device.slot, at, 4).unwrap_or(0));
    t.equal("reset", call("ibm,set-slot-reset", endpoint, &[1], &mut []), 0);
    t.equal("held", state(), (0, [1, 1, 0]));
    t.equal("off", load(version), Some(u32::MAX));
    t.equal("let-go", call("ibm,set-slot-reset", endpoint, &[0], &mut []), 0);
    let began = timebase();
    let (mut now, mut waited) = (state(), 0);
    while now.1[0] == 5 && waited < 100 {
        let until = timebase() + u64::from(now.1[2]) * 512_000;
        while timebase() < until {}
        (now, waited) = (state(), waited + 1);
    }
    t.note(format_args!("it took {} us", (timebase() - began) / 512));
    t.is_true("waited", waited != 0);
    t.equal("back", now, (0, [0, 1, 0]));
    t.equal("configure", call("ibm,configure-pe", endpoint, &[], &mut []), 0);
    t.equal("no-address", device.bridge.read(device.slot, BAR, 4).map(|bar| bar & !0xf), Ok(0));
    for (at, value) in [(BAR, before[0]), (BAR + 4, before[1]), (COMMAND, 2)] {
        t.equal("restore", device.bridge.write(device.slot, at, 4, value), 0);
    }
    t.equal("version", load(version), Some(expected));
    t.equal("forgotten", load(configuration), Some(0));
    t.equal("no-log", call("ibm,slot-error-detail", endpoint, &[0, 0, 0, 0, 1], &mut []), 1);
}

/// What one of them finds, and leaves.
fn one(t: &mut Report, device: &Device, ea: u64, again: bool) {
    let Some(known) = KNOWN.iter().find(|known| known.ids == device.ids) else {
        return t.is_true("ids", false);
    };
    let (version, configuration) = (ea + known.version.0, ea + known.configuration.0);
    t.same("less-than-a-page", device.bytes, 16 << 10);
    t.same("page-of-its-own", device.base & 0xffff, 0);
    SEGMENT.enter(ea, device.base, K64, DEVICE).expect("the device");
    t.equal("version", load(version), Some(known.version.1));
    t.equal("configuration", load(configuration), Some(0));
    t.is_true("store", store(configuration, known.configuration.1));
    t.equal("configured", load(configuration), Some(known.configuration.1));
    if again && platform::says("recover") {
        recover(t, device, version, known.version.1, configuration);
    }
    if platform::says("together") {
        // It would be the other's reset, too.
        let [high, low] = device.bridge.cells();
        let asked = [device.slot << 11, high, low, 1];
        t.same("not-offered", rtas::call("ibm,set-eeh-option", &asked, &mut []) as u64, -3i64 as u64);
        t.same("not-reset", rtas::call("ibm,set-slot-reset", &asked, &mut []) as u64, -3i64 as u64);
    }
}

fn run(t: &mut Report) {
    let mut time = [0; 7];
    rtas::call("get-time-of-day", &[], &mut time);
    let again = time[0] == 2042;
    println!("@ boot {}", if again { "second" } else { "first" });
    space::standard();
    let all: [Option<Device>; 2] = {
        let mut devices = devices();
        [devices.next(), devices.next()]
    };
    t.is_true("device", all[0].is_some());
    SEGMENT.install(FREE_SLOT);
    for (device, n) in all.iter().flatten().zip(0..) {
        one(t, device, EA + n * 0x1_0000, again);
    }
    if !again {
        rtas::call("set-time-of-day", &[2042, 1, 1, 0, 0, 0, 0], &mut []);
        rtas::call("system-reboot", &[], &mut []);
    }
}
