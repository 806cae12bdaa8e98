//! A device of the host's reaches the partition's memory by itself, and nothing else, and its messages are interrupts of the partition's. QEMU's
//! `edu` copies between memory and a buffer of its own.
#![no_std]
#![no_main]

use guests::device::devices;
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

fn load(offset: u64) -> u32 {
    let lwz = if cfg!(target_endian = "little") { insn::lwbrx(5, 0, 3) } else { insn::lwz(5, 0, 3) };
    run_virtual(&[lwz], true, EA + offset, 0).gpr[5] as u32
}

fn store(offset: u64, value: u32) {
    let stw = if cfg!(target_endian = "little") { insn::stwbrx(4, 0, 3) } else { insn::stw(4, 0, 3) };
    run_virtual(&[stw], true, EA + offset, value.into());
}

fn store64(offset: u64, value: u64) {
    let value = if cfg!(target_endian = "little") { value.swap_bytes() } else { value };
    run_virtual(&[insn::std(4, 0, 3)], true, EA + offset, value);
}

fn begin(from: u64, to: u64, command: u64) {
    store64(register::FROM, from);
    store64(register::TO, to);
    store64(register::COUNT, LENGTH);
    store64(register::COMMAND, command);
}

/// Sleeps until an interrupt comes, for a second at most; its source, as H_XIRR has it.
fn wait() -> Option<u64> {
    guests::cpu::mtspr::<{ spr::DEC }>(512_000_000);
    let mut c = Context { nip: place(&[sc(1), B_SELF]), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = Hcall::CEDE.0;
    run_context(&mut c);
    (c.vector() == Vector::EXTERNAL).then(|| hcall(Hcall::XIRR, &[]).r4())
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

fn run(t: &mut Report) {
    space::standard();
    SEGMENT.install(FREE_SLOT);
    let Some(device) = devices().next() else { return t.is_true("device", false) };
    let Some(source) = device.source else { return t.is_true("interrupts", false) };
    SEGMENT.enter(EA, device.base, K64, DEVICE).expect("the device");
    for page in 1..4 {
        SEGMENT.enter(EA + page * 0x1_0000, device.base + page * 0x1_0000, K64, DEVICE).expect("the device");
    }
    status(Hcall::CPPR, &[0xff]);
    t.equal("set-xive", rtas::call("ibm,set-xive", &[source, 0, 5], &mut []), 0);
    interrupts(t, source);
    // There and back.
    for at in (0..LENGTH).step_by(8) {
        write64(HERE + at, at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    fill(THERE, 2 * LENGTH, 0x55);
    copy(t, source, HERE, BUFFER, IN);
    copy(t, source, BUFFER, THERE, OUT);
    t.is_true("copied", (0..LENGTH).step_by(8).all(|at| read64(THERE + at) == read64(HERE + at)));
    t.is_true("nothing-else", is_filled(THERE + LENGTH, LENGTH, 0x55));
    // Memory that nobody has touched so far, to its end.
    let last = platform::memory() - LENGTH;
    copy(t, source, BUFFER, last, OUT);
    t.is_true("at-the-end", (0..LENGTH).step_by(8).all(|at| read64(last + at) == read64(HERE + at)));
    stray(t, source);
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
    // Often, without looking at the clock.
    for _ in 0..20 {
        store(register::RAISE, 1);
        let xirr = wait();
        t.equal("each", xirr, Some(0xff00_0000 | u64::from(source)));
        store(register::END, 1);
        status(Hcall::EOI, &[xirr.unwrap_or(0)]);
    }
}

/// The device is told to reach what is not the partition's, the hypervisor's code among it: what it stores is lost, and it gets nothing of
/// what is there. (QEMU lets it go on then; host bridges of metal cut it off.)
fn stray(t: &mut Report, source: u32) {
    fill(HERE, LENGTH, 0x33);
    copy(t, source, HERE, BUFFER, IN);
    for at in [platform::memory(), 1 << 59, 1 << 59 | 0x3000_0000] {
        copy(t, source, BUFFER, at, OUT);
        copy(t, source, at, BUFFER, IN);
        copy(t, source, BUFFER, THERE, OUT);
        let got = read64(THERE);
        t.is_true("nothing-there", [0x33, 0, 0xff].iter().any(|byte| is_filled(THERE, LENGTH, *byte)));
        t.note(format_args!("from {at:#x}: {got:#x}"));
        fill(HERE, LENGTH, 0x33);
        copy(t, source, HERE, BUFFER, IN);
    }
}
