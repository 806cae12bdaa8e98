//! A device of the host's reaches the partition's memory by itself, and nothing else, and its line and messages are interrupts of the partition's. QEMU's
//! `edu` copies between memory and a buffer of its own.
#![no_std]
#![no_main]

use guests::cpu::timebase;
use guests::device::{Device, devices};
use guests::insn::{self, B_SELF, sc};
use guests::mem::{fill, is_filled, read64, write64};
use guests::space::{self, DEVICE, FREE_SLOT, Segment, run_virtual};
use guests::{
    Context, Hcall, MSR_REAL, Report, Status, hcall, place, platform, rtas, run as run_context, status,
};
use power::PageSize::K64;
use power::interrupt::Vector;
use power::slb::SegmentSize;
use power::spr;

guests::main!(run);

const EA: u64 = 0x2000_0000;
const SEGMENT: Segment = Segment { ea: EA, vsid: 0x2d6, size: SegmentSize::M256, base: K64, flags: 0 };

/// The device's registers (QEMU, docs/specs/edu.rst), in big endian as QEMU has it for this processor.
mod register {
    /// What has interrupted; a store to the next raises, one to the third ends.
    pub const CAUSE: u64 = 0x24;
    pub const RAISE: u64 = 0x60;
    pub const END: u64 = 0x64;
    /// Of 64 bits: from where, to where, how much, and what.
    pub const FROM: u64 = 0x80;
    pub const TO: u64 = 0x88;
    pub const COUNT: u64 = 0x90;
    pub const COMMAND: u64 = 0x98;
}
/// The device's own buffer, as it sees it.
const BUFFER: u64 = 0x4_0000;
const LENGTH: u64 = 0x1000;
/// Commands: into the buffer, or out of it; with an interrupt at the end, of this cause.
const IN: u64 = 1 | 4;
const OUT: u64 = 1 | 2 | 4;
const DONE: u32 = 0x100;

/// Where the partition has its part of it.
const HERE: u64 = 0x100_0000;
const THERE: u64 = 0x200_0000;

// An access in supervisor state, where EE is off: in problem state an interrupt of the device's that is pending comes before it.
fn load(offset: u64) -> u32 {
    let lwz = if cfg!(target_endian = "little") { insn::lwbrx(5, 0, 3) } else { insn::lwz(5, 0, 3) };
    let c = run_virtual(&[lwz], false, EA + offset, 0);
    assert!(c.finished(), "load from {offset:#x}: {:#x}", c.arrival);
    c.gpr[5] as u32
}

fn store(offset: u64, value: u32) {
    let stw = if cfg!(target_endian = "little") { insn::stwbrx(4, 0, 3) } else { insn::stw(4, 0, 3) };
    put(stw, offset, value.into());
}

fn store64(offset: u64, value: u64) {
    let value = if cfg!(target_endian = "little") { value.swap_bytes() } else { value };
    put(insn::std(4, 0, 3), offset, value);
}

fn put(access: u32, offset: u64, value: u64) {
    let c = run_virtual(&[access], false, EA + offset, value);
    assert!(c.finished(), "store to {offset:#x}: {:#x}", c.arrival);
}

fn begin(from: u64, to: u64, command: u64) {
    store64(register::FROM, from);
    store64(register::TO, to);
    store64(register::COUNT, LENGTH);
    store64(register::COMMAND, command);
}

/// Sleeps until an interrupt comes, for a second at most; its source, as H_XIRR has it.
fn wait() -> Option<u64> {
    wait_for(512_000_000)
}

/// For 50 ms at most: the device raises its line at once, or not at all.
fn wait_a_moment() -> Option<u64> {
    wait_for(25_600_000)
}

fn wait_for(ticks: u64) -> Option<u64> {
    guests::cpu::mtspr::<{ spr::DEC }>(ticks);
    let mut c = Context { nip: place(&[sc(1), B_SELF]), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = Hcall::CEDE.0;
    run_context(&mut c);
    (c.vector() == Vector::EXTERNAL).then(|| hcall(Hcall::XIRR, &[]).r4())
}

/// Often, without looking at the clock: the device interrupts, as H_XIRR has it. How long it takes at least is told.
fn often(t: &mut Report, name: &str, from: &str, interrupt: u64) {
    let mut least = u64::MAX;
    for _ in 0..20 {
        let began = timebase();
        store(register::RAISE, 1);
        let xirr = wait();
        least = least.min(timebase() - began);
        t.equal(name, xirr, Some(interrupt));
        store(register::END, 1);
        status(Hcall::EOI, &[xirr.unwrap_or(0)]);
    }
    t.note(format_args!("from {from} to H_XIRR: {least} ticks"));
}

/// Has the device copy, and waits until it has done it.
fn copy(t: &mut Report, source: u32, from: u64, to: u64, command: u64) {
    begin(from, to, command);
    let xirr = wait();
    t.equal("interrupted", xirr, Some(0xff00_0000 | u64::from(source)));
    t.equal("cause", load(register::CAUSE), DONE);
    store(register::END, DONE);
    t.equal("no-cause", load(register::CAUSE), 0);
    t.equal("eoi", status(Hcall::EOI, &[xirr.unwrap_or(0)]), Status::SUCCESS);
}

/// Is the same there as the partition has [`HERE`]?
fn is_copy(there: u64) -> bool {
    (0..LENGTH).step_by(8).all(|at| read64(there + at) == read64(HERE + at))
}

fn run(t: &mut Report) {
    space::standard();
    let Some(device) = devices().next() else { return t.is_true("device", false) };
    SEGMENT.install(FREE_SLOT);
    SEGMENT.enter(EA, device.base, K64, DEVICE).expect("the device");
    for page in 1..4 {
        SEGMENT.enter(EA + page * 0x1_0000, device.base + page * 0x1_0000, K64, DEVICE).expect("the device");
    }
    status(Hcall::CPPR, &[0xff]);
    let Some(line) = line(t, &device) else { return t.is_true("line", false) };
    let Some(source) = messages(t, &device) else { return t.is_true("messages", false) };
    t.equal("set-xive", rtas::call("ibm,set-xive", &[source, 0, 5], &mut []), 0);
    // What the line has said is over with that.
    status(Hcall::EOI, &[0xff00_0000 | u64::from(line)]);
    store(register::END, 1);
    interrupts(t, source);
    for page in [HERE, THERE, platform::memory() - LENGTH] {
        map(t, &device, page, page | 3);
    }
    // There and back.
    for at in (0..LENGTH).step_by(8) {
        write64(HERE + at, at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    fill(THERE, 2 * LENGTH, 0x55);
    copy(t, source, HERE, BUFFER, IN);
    copy(t, source, BUFFER, THERE, OUT);
    t.is_true("copied", is_copy(THERE));
    t.is_true("nothing-else", is_filled(THERE + LENGTH, LENGTH, 0x55));
    // Memory that nobody has touched so far, to its end, by another address.
    let last = platform::memory() - LENGTH;
    map(t, &device, 0x3000_0000, last | 2);
    copy(t, source, BUFFER, 0x3000_0000, OUT);
    t.is_true("at-the-end", is_copy(last));
    second_window(t, &device, source);
    stray(t, &device, source);
    end_with_line_up(t, &device, line);
}

/// Its interrupt line, which is up from when the device is told to raise it until it is told to end that; the line's source. It is left up, with
/// its interrupt taken.
fn line(t: &mut Report, device: &Device) -> Option<u32> {
    let Device { bridge, slot, .. } = *device;
    t.equal("pin", bridge.read(slot, 0x3d, 1), Ok(1));
    let source = bridge.line(slot)?;
    t.equal("set-xive", rtas::call("ibm,set-xive", &[source, 0, 5], &mut []), 0);
    let line = 0xff00_0000 | u64::from(source);
    let none = 0xff00_0000;
    t.equal("line-down", hcall(Hcall::XIRR, &[]).r4(), none);
    store(register::RAISE, 0x10);
    t.equal("line-up", wait(), Some(line));
    t.equal("line-status", bridge.read(slot, 6, 2).map(|status| status & 8), Ok(8));
    t.equal("line-once", hcall(Hcall::XIRR, &[]).r4() & 0xff_ffff, 0);
    // As long as it is up each end brings another one, however many they are.
    let mut again = 0;
    while again < 300 && status(Hcall::EOI, &[line]) == Status::SUCCESS && wait() == Some(line) {
        again += 1;
    }
    t.same("line-still-up", again, 300);
    store(register::END, 0x10);
    status(Hcall::EOI, &[line]);
    t.equal("line-down-again", wait_a_moment(), None);
    // Not if the command register says so.
    bridge.write(slot, 4, 2, 0x402);
    store(register::RAISE, 0x20);
    t.equal("line-disabled", wait_a_moment(), None);
    bridge.write(slot, 4, 2, 2);
    t.equal("line-enabled", wait(), Some(line));
    // It is disabled while it is up, lowered, and enabled.
    bridge.write(slot, 4, 2, 0x402);
    status(Hcall::EOI, &[line]);
    store(register::END, 0x20);
    bridge.write(slot, 4, 2, 2);
    t.equal("line-lowered", wait_a_moment(), None);
    often(t, "each-line", "the device's line", line);
    store(register::RAISE, 1);
    t.equal("line-before-messages", wait(), Some(line));
    Some(source)
}

/// Without messages again the partition ends with the line up, and with an interrupt of it that nobody ends. What that does to others, others see.
fn end_with_line_up(t: &mut Report, device: &Device, line: u32) {
    let Device { bridge, slot, .. } = *device;
    let Some(at) = bridge.capability(slot, 5, 0) else { return };
    let control = bridge.read(slot, at + 2, 2).unwrap_or(0);
    bridge.write(slot, at + 2, 2, control & !1);
    store(register::RAISE, 4);
    t.equal("line-at-the-end", wait(), Some(0xff00_0000 | u64::from(line)));
}

/// One message, by MSI, and the device may reach memory; the message's source.
fn messages(t: &mut Report, device: &Device) -> Option<u32> {
    let Device { bridge, slot, .. } = *device;
    t.equal("change-msi", bridge.change_msi(slot, 3, 1).0, 0);
    let at = bridge.capability(slot, 5, 0)?;
    let control = bridge.read(slot, at + 2, 2).ok()?;
    bridge.write(slot, at + 2, 2, control | 1);
    bridge.write(slot, 4, 2, 6);
    bridge.source(slot, 0).ok()
}

/// Sets the first window's entry of a bus address.
fn map(t: &mut Report, device: &Device, bus: u64, entry: u64) {
    let status = status(Hcall::PUT_TCE, &[device.bridge.window.0, bus, entry]);
    t.equal("put-tce", status, Status::SUCCESS);
}

/// A window with pages of 64 KiB, for half of memory, at its end.
fn second_window(t: &mut Report, device: &Device, source: u32) {
    let [high, low] = device.bridge.cells();
    let mut made = [0; 3];
    let args = [device.slot << 11, high, low, 16, 25];
    t.equal("create", rtas::call("ibm,create-pe-dma-window", &args, &mut made), 0);
    let base = u64::from(made[1]) << 32 | u64::from(made[2]);
    let status = status(Hcall::PUT_TCE, &[made[0].into(), base + 0x3_0000, THERE | 3]);
    t.equal("put-tce", status, Status::SUCCESS);
    fill(THERE, 2 * LENGTH, 0);
    copy(t, source, BUFFER, base + 0x3_0000 + LENGTH, OUT);
    t.is_true("second", is_copy(THERE + LENGTH));
    t.is_true("only-there", is_filled(THERE, LENGTH, 0));
    t.equal("remove", rtas::call("ibm,remove-pe-dma-window", &[made[0]], &mut []), 0);
}

fn interrupts(t: &mut Report, source: u32) {
    t.equal("quiet", hcall(Hcall::XIRR, &[]).r4(), 0xff00_0000);
    store(register::RAISE, 0x10);
    let first = wait();
    t.equal("raised", first, Some(0xff00_0000 | u64::from(source)));
    // Another one before the end of the first comes after it.
    store(register::RAISE, 0x20);
    t.equal("one-at-a-time", hcall(Hcall::XIRR, &[]).r4() & 0xff_ffff, 0);
    status(Hcall::EOI, &[first.unwrap_or(0)]);
    let second = wait();
    t.equal("again", second, Some(0xff00_0000 | u64::from(source)));
    t.equal("causes", load(register::CAUSE), 0x30);
    store(register::END, 0x30);
    status(Hcall::EOI, &[second.unwrap_or(0)]);
    t.equal("quiet-again", hcall(Hcall::XIRR, &[]).r4(), 0xff00_0000);
    // Far more than anybody could take. There is an end to it, and after it all is as before.
    for _ in 0..1000 {
        store(register::RAISE, 2);
    }
    let mut left = 0;
    while let Some(xirr) = wait() {
        left += 1;
        status(Hcall::EOI, &[xirr]);
    }
    t.within("storm-over", left, 1, 4);
    store(register::END, 2);
    often(t, "each", "the device", 0xff00_0000 | u64::from(source));
}

/// The device is told to reach what is not mapped, or not the partition's, the hypervisor's code among it: what it stores is lost, and it
/// gets nothing of what is there. (QEMU lets it go on then; host bridges of metal cut it off.)
fn stray(t: &mut Report, device: &Device, source: u32) {
    let beyond = 0x3800_0000;
    map(t, device, beyond, platform::memory() | 3);
    map(t, device, 0x3000_0000, 0);
    for at in [beyond, 0x3000_0000, 1 << 59, 1 << 59 | 0x3000_0000] {
        fill(HERE, LENGTH, 0x33);
        copy(t, source, HERE, BUFFER, IN);
        copy(t, source, BUFFER, at, OUT);
        copy(t, source, at, BUFFER, IN);
        copy(t, source, BUFFER, THERE, OUT);
        t.is_true("nothing-there", [0x33, 0, 0xff].iter().any(|byte| is_filled(THERE, LENGTH, *byte)));
    }
    // It may be read, not written.
    map(t, device, THERE, THERE | 1);
    fill(THERE, LENGTH, 0x77);
    copy(t, source, HERE, BUFFER, IN);
    copy(t, source, BUFFER, THERE, OUT);
    t.is_true("read-only", is_filled(THERE, LENGTH, 0x77));
    // Nor without mastering, of which there is no word.
    device.bridge.write(device.slot, 4, 2, 2);
    begin(BUFFER, HERE, OUT);
    t.equal("no-master", wait(), None);
    t.is_true("no-master-nothing", is_filled(HERE, LENGTH, 0x33));
}
