//! A device of the host's, given to the partition: QEMU's `edu`, behind a PCI host bridge. Its registers are reached directly, with
//! the cache attribute of a device and no other.
#![no_std]
#![no_main]

use guests::cpu::timebase;
use guests::device::{Device, devices};
use guests::insn::{self, NOP};
use guests::space::{self, FREE_SLOT, Segment, run_virtual};
use guests::{Context, Hcall, MSR_REAL, Report, Status, hcall, place, platform, println, run as run_context};
use power::PageSize::{self, K4, K64, M16};
use power::hpte::HpteR;
use power::interrupt::Vector;
use power::slb::SegmentSize;
use power::spr;

guests::main!(run);

const EA: u64 = 0x2000_0000;
const SMALL: Segment = Segment { ea: EA, vsid: 0x2d3, size: SegmentSize::M256, base: K4, flags: 0 };
const WIDE: Segment =
    Segment { ea: EA + 0x1000_0000, vsid: 0x2d4, size: SegmentSize::M256, base: K64, flags: 0 };
/// Reads and writes of problem state, no execute.
const OPEN: u64 = HpteR::N | 2;

/// The device's registers (QEMU, docs/specs/edu.rst). They are 32 bits, in big endian as QEMU has it for this processor.
mod register {
    /// Which device it is: 0x010000ed.
    pub const IDENTIFICATION: u64 = 0x0;
    /// Reads as the complement of what was written.
    pub const LIVENESS: u64 = 0x4;
    /// The factorial of what was written, after a while.
    pub const FACTORIAL: u64 = 0x8;
    /// Bit 0: it is at work on the factorial.
    pub const STATUS: u64 = 0x20;
}
const EDU: u32 = 0x0100_00ed;

const fn lwz(rt: u32) -> u32 {
    if cfg!(target_endian = "little") { insn::lwbrx(rt, 0, 3) } else { insn::lwz(rt, 0, 3) }
}

const fn stw(rs: u32) -> u32 {
    if cfg!(target_endian = "little") { insn::stwbrx(rs, 0, 3) } else { insn::stw(rs, 0, 3) }
}

/// A register; `None` if the load did not end well.
fn load(ea: u64, problem: bool) -> Option<u32> {
    let c = run_virtual(&[lwz(5)], problem, ea, 0);
    c.finished().then_some(c.gpr[5] as u32)
}

/// Writes a register; false if that did not end well.
fn store(ea: u64, problem: bool, value: u32) -> bool {
    run_virtual(&[stw(4)], problem, ea, value.into()).finished()
}

fn run(t: &mut Report) {
    space::standard();
    let mut all = devices();
    let Some(device) = all.next() else { return t.is_true("device", false) };
    t.is_true("one-device", all.next().is_none());
    if platform::says("wait") {
        device.bridge.write(device.slot, 4, 2, 6);
        wait();
        device.bridge.write(device.slot, 4, 2, 2);
    }
    SMALL.install(FREE_SLOT);
    WIDE.install(FREE_SLOT + 1);
    if platform::says("byte") {
        return byte(device);
    }
    node(t, device);
    attributes(t, device);
    registers(t, device);
    sizes(t, device);
    cost(t, device);
    untranslated(t, device);
    moved(t, device);
}

/// Until a `q` is typed.
fn wait() {
    println!("@ waits");
    loop {
        let answer = hcall(Hcall::GET_TERM_CHAR, &[0]);
        if answer.r4() != 0 && (answer.r5() >> 56) as u8 == b'q' {
            return;
        }
    }
}

/// Bytes are no size of this device's: QEMU ends such an access with a machine check.
fn byte(device: Device) {
    SMALL.enter(EA, device.base, K4, space::DEVICE).expect("the device");
    run_virtual(&[insn::lbz(5, 0, 3)], true, EA, 0);
    println!("@ check byte fail it came back");
}

fn node(t: &mut Report, device: Device) {
    t.equal("ids", device.ids, (0x1234, 0x11e8));
    let pin = device.bridge.read(device.slot, 0x3d, 1);
    t.equal("pin", pin, Ok(if platform::says("lineless") { 0 } else { 1 }));
    t.same("bytes", device.bytes, 1 << 20);
    t.same("alignment", device.base & (device.bytes - 1), 0);
    t.is_true("above-memory", device.base >= platform::memory());
    t.is_true("below-the-end", device.base + device.bytes <= 1 << 40);
}

/// Dword 0 of the eight entries of an address's group.
fn group(ea: u64) -> [u64; 8] {
    let first = SMALL.group(ea);
    core::array::from_fn(|n| hcall(Hcall::READ, &[0, first + n as u64]).r4())
}

/// W and I must be the slot's, whatever M and G are; strong access order, W, I and M together, counts as M.
fn attributes(t: &mut Report, device: Device) {
    let (w, i, m, g) = (HpteR::W, HpteR::I, HpteR::M, HpteR::G);
    let mut ea = EA + 0x10_0000;
    for (name, wimg, good) in [
        ("none", 0, false),
        ("m", m, false),
        ("g", g, false),
        ("mg", m | g, false),
        ("w", w, false),
        ("wm", w | m, false),
        ("wg", w | g, false),
        ("wmg", w | m | g, false),
        ("wi", w | i, false),
        ("wim", w | i | m, false),
        ("wig", w | i | g, false),
        ("i", i, true),
        ("im", i | m, true),
        ("ig", i | g, true),
        ("img", i | m | g, true),
    ] {
        ea += 0x1000;
        let before = group(ea);
        let entered = SMALL.enter(ea, device.base, K4, wimg | OPEN);
        if good {
            t.is_true(name, entered.is_ok());
            t.equal("identification", load(ea, true), Some(EDU));
        } else {
            t.equal(name, entered, Err(Status::PARAMETER));
            t.is_true("nothing-changed", group(ea) == before);
            let c = run_virtual(&[lwz(5)], true, ea, 0);
            t.same("not-mapped", c.vector().0, Vector::DATA_STORAGE.0);
        }
    }
}

fn registers(t: &mut Report, device: Device) {
    let index = SMALL.enter(EA, device.base, K4, space::DEVICE).expect("the device");
    for problem in [false, true] {
        t.equal("identification", load(EA + register::IDENTIFICATION, problem), Some(EDU));
        for value in [0x1234_5678, 0, 0xffff_ffff, 0x8000_0001] {
            t.is_true("store", store(EA + register::LIVENESS, problem, value));
            t.equal("liveness", load(EA + register::LIVENESS, problem), Some(!value));
        }
    }
    for (n, want) in [(5, 120), (10, 3_628_800)] {
        t.is_true("store", store(EA + register::FACTORIAL, false, n));
        while load(EA + register::STATUS, false).is_some_and(|status| status & 1 != 0) {}
        t.equal("factorial", load(EA + register::FACTORIAL, false), Some(want));
    }
    // Read-only, by the guest's own will; then open again.
    let protect = |flags| guests::status(Hcall::PROTECT, &[flags, index, 0]);
    t.is_true("store", store(EA + register::LIVENESS, true, 0x77));
    t.equal("protect", protect(3), Status::SUCCESS);
    let c = run_virtual(&[stw(4)], true, EA + register::LIVENESS, 0x55);
    t.same("read-only", c.vector().0, Vector::DATA_STORAGE.0);
    t.equal("read-only-load", load(EA + register::LIVENESS, true), Some(!0x77));
    t.equal("protect-open", protect(2), Status::SUCCESS);
    t.is_true("store", store(EA + register::LIVENESS, true, 0x66));
    t.equal("open-load", load(EA + register::LIVENESS, true), Some(!0x66));
    let read = hcall(Hcall::READ, &[0, index]);
    t.same("read", read.r5() & HpteR::RPN & !0xfff, device.base);
    t.equal("remove", guests::status(Hcall::REMOVE, &[0, index, 0]), Status::SUCCESS);
    let c = run_virtual(&[lwz(5)], true, EA, 0);
    t.same("removed", c.vector().0, Vector::DATA_STORAGE.0);
}

/// Pages that lie within the range are mapped, and no larger ones.
fn sizes(t: &mut Report, device: Device) {
    let last = device.bytes - 0x1_0000;
    for (name, segment, ea, offset) in [
        ("wide", WIDE, WIDE.ea, 0),
        ("wide-end", WIDE, WIDE.ea + last, last),
        ("mixed", SMALL, EA + 0x200_0000, 0),
    ] {
        let entered = segment.enter(ea, device.base + offset, K64, space::DEVICE);
        t.is_true(name, entered.is_ok());
        if offset == 0 {
            t.equal("identification", load(ea, true), Some(EDU));
        }
    }
    // Behind it there is nothing, and what is entered there meets an empty bus.
    let behind = WIDE.ea + device.bytes;
    t.is_true("behind", WIDE.enter(behind, device.base + device.bytes, K64, space::DEVICE).is_ok());
    t.equal("behind", load(behind, true), Some(u32::MAX));
    // It is aligned for 16 MiB, but not as large.
    t.same("aligned", device.base & (M16.bytes() - 1), 0);
    for segment in [SMALL, WIDE] {
        let ea = segment.ea + 0x800_0000;
        t.equal("larger", segment.enter(ea, device.base, M16, space::DEVICE), Err(Status::PARAMETER));
    }
    let huge = platform::advertised(PageSize::M16, PageSize::M16);
    t.equal("huge-as-configured", huge, platform::says("huge"));
}

/// A hundred loads cost what a hundred loads cost: nobody is asked for them.
fn cost(t: &mut Report, device: Device) {
    SMALL.enter(EA + 0x300_0000, device.base, K4, space::DEVICE).expect("the device");
    let mut code = [lwz(5); 102];
    (code[0], code[101]) = (insn::mfspr(6, spr::TB), insn::mfspr(7, spr::TB));
    let ticks = |t: &mut Report| {
        let c = run_virtual(&code, true, EA + 0x300_0000, 0);
        t.same("loads", c.gpr[5] as u32, EDU);
        c.gpr[7] - c.gpr[6]
    };
    ticks(t);
    let (began, direct) = (timebase(), ticks(t));
    t.note(format_args!("100 loads: {direct} ticks of {} in all", timebase() - began));
    // Two ticks are about four instructions. An access that is emulated is left for virtual mode: a thousand and more.
    t.within("direct", direct, 40, 1000);
    let nowhere = EA + 0x301_0000;
    SMALL.enter(nowhere, device.base + device.bytes, K4, space::DEVICE).expect("nothing");
    let c = run_virtual(&[insn::mfspr(6, spr::TB), lwz(5), NOP, insn::mfspr(7, spr::TB)], true, nowhere, 0);
    t.note(format_args!("an emulated load: {} ticks", c.gpr[7] - c.gpr[6]));
    t.is_true("emulated-is-dear", c.gpr[7] - c.gpr[6] > 100);
}

/// The device's memory is where its base address register says, whatever was entered for it before.
fn moved(t: &mut Report, device: Device) {
    const BAR: u32 = 0x10;
    const COMMAND: u32 = 0x4;
    let there = device.base + 4 * device.bytes;
    let bus = |real: u64| (real - device.bridge.low.1 + device.bridge.low.0) as u32;
    let write = |at, bytes, value| device.bridge.write(device.slot, at, bytes, value);
    let (old, new, last) = (EA + 0x400_0000, EA + 0x500_0000, EA + 0x600_0000);
    for (ea, real) in [(old, device.base), (new, there), (last, there + device.bytes - 0x1_0000)] {
        SMALL.enter(ea, real, K4, space::DEVICE).expect("its page");
    }
    let everywhere = || [old, new].map(|ea| load(ea, true));
    let (here, nothing) = (Some(EDU), Some(u32::MAX));
    t.equal("not-moved", everywhere(), [here, nothing]);
    t.is_true("store", store(old + register::LIVENESS, true, 0x7654_3210));
    t.equal("move", write(BAR, 4, bus(there)), 0);
    t.equal("moved", everywhere(), [nothing, here]);
    t.equal("the-same", load(new + register::LIVENESS, true), Some(!0x7654_3210));
    t.is_true("lost", store(old + register::LIVENESS, true, 0));
    t.equal("not-written", load(new + register::LIVENESS, true), Some(!0x7654_3210));
    t.is_true("end", store(last, true, 0) && load(last, true).is_some());
    // What is entered now.
    let later = EA + 0x700_0000;
    t.is_true("enter", SMALL.enter(later, there, K4, space::DEVICE).is_ok());
    t.equal("entered", load(later, true), here);
    t.equal("cached", SMALL.enter(later + 0x1000, there, K4, HpteR::M | OPEN), Err(Status::PARAMETER));
    t.is_true("free", SMALL.enter(later + 0x2000, device.base, K4, HpteR::M | OPEN).is_ok());
    // Off, and on again; where nothing can be; and back.
    t.equal("off", write(COMMAND, 2, 0), 0);
    t.equal("is-off", everywhere(), [nothing, nothing]);
    t.equal("on", write(COMMAND, 2, 2), 0);
    t.equal("is-on", everywhere(), [nothing, here]);
    for elsewhere in [0, bus(there) & 0x7fff_ffff] {
        t.equal("out", write(BAR, 4, elsewhere), 0);
        t.equal("is-out", everywhere(), [nothing, nothing]);
    }
    t.equal("back", write(BAR, 4, bus(device.base)), 0);
    t.equal("is-back", everywhere(), [here, nothing]);
    t.equal("still", load(old + register::LIVENESS, true), Some(!0x7654_3210));
}

/// With translation off a load is cacheable, which a device does not take.
fn untranslated(t: &mut Report, device: Device) {
    let mut c = Context { nip: place(&[lwz(5)]), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = device.base;
    run_context(&mut c);
    t.note(format_args!("translation off: {:#x} {:#x}", c.arrival, c.gpr[5]));
    t.is_true("translation-off", matches!(c.vector(), Vector::MACHINE_CHECK | Vector::DATA_STORAGE));
    t.is_true("alive", run_virtual(&[NOP], true, 0, 0).finished());
}
