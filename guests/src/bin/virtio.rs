//! A PCI host bridge with virtio devices: configuration space and messages by RTAS, memory at the addresses that base address registers
//! have, DMA windows, and requests to a source of random numbers and a disk, which is all zeroes at first. With `iommu` the devices reach
//! memory through DMA windows only. With `copied` it is held until it has been copied: original and copy go on with devices of their own.
#![no_std]
#![no_main]

use guests::copies::{hold, identity, there_and_back};
use guests::cpu::{self, TB_HZ, timebase};
use guests::insn;
use guests::mem::{fill, is_filled, read8, read64, write32, write64};
use guests::pci::{self, Bridge};
use guests::virtio::{ACCESS_PLATFORM, MEMORY, VERSION_1, Virtio, common};
use guests::{
    Context, Hcall, MSR_VIRTUAL, Report, Status, hcall, place, platform, rtas, run as run_context, space,
    status, team,
};
use power::regs::Msr;

guests::main!(run);

const VENDOR: u32 = 0x1af4;
const RNG: u32 = 0x1044;
const DISK: u32 = 0x1042;

/// What is added to a real address for the bus, with `iommu`: the first page of the second half of the first window is real address 0.
const MAPPED: u64 = 0x2000_0000;
/// So much memory is mapped.
const BYTES: u64 = 0x80_0000;

fn run(t: &mut Report) {
    space::standard();
    let Some(bridge) = Bridge::find() else { return t.is_true("bridge", false) };
    let Some(slot) = bridge.slot(VENDOR, DISK) else { return t.is_true("disk", false) };
    configuration(t, &bridge, slot);
    assigned(t, &bridge, slot);
    windows(t, &bridge);
    second_window(t, &bridge);
    t.is_true("memory", bridge.place(slot) >= 2);
    let offset = if platform::says("iommu") { map(t, &bridge) } else { 0 };
    let disk = Virtio::new(&bridge, slot, MEMORY + 0x1_0000, offset);
    let Some(disk) = disk else { return t.is_true("structures", false) };
    moved(t, &bridge, slot);
    widths(t, &bridge, slot);
    sectors(t, disk);
    if !platform::is_qemu() {
        put_back(t, &bridge, disk);
    }
    if platform::says("copied") {
        return copied(t, &bridge, disk);
    }
    messages(t, &bridge, disk);
    line(t, &bridge, disk);
    broken(t, disk);
    // Hosts without a source of random numbers have none for guests.
    let rng = bridge.slot(VENDOR, RNG);
    t.equal("rng", rng.is_some(), cpu::generation() > power::Generation::Power8 || platform::is_qemu());
    if let Some(slot) = rng {
        t.is_true("rng-memory", bridge.place(slot) >= 2);
        let Some(rng) = Virtio::new(&bridge, slot, MEMORY, offset) else {
            return t.is_true("structures", false);
        };
        random(t, rng);
    }
}

fn configuration(t: &mut Report, bridge: &Bridge, slot: u32) {
    t.equal("vendor", bridge.read(slot, 0, 2), Ok(VENDOR));
    t.equal("device", bridge.read(slot, 2, 2), Ok(DISK));
    t.equal("header", bridge.read(slot, 0xe, 1).map(|header| header & 0x7f), Ok(0));
    t.equal("absent", bridge.read(31, 0, 4), Err(-1));
    t.equal("misaligned", bridge.read(slot, 1, 2), Err(-1));
    t.equal("size", bridge.read(slot, 0, 3), Err(-1));
    t.same("write-misaligned", bridge.write(slot, 5, 2, 0), -1);
    t.same("write-absent", bridge.write(31, 4, 2, 0), -1);
    t.same("read-only", bridge.write(slot, 0, 4, 0), 0);
    t.equal("read-only-stays", bridge.read(slot, 0, 2), Ok(VENDOR));
    t.same("line", bridge.write(slot, 0x3c, 1, 0x5a), 0);
    t.equal("line-reads", bridge.read(slot, 0x3c, 1), Ok(0x5a));
    let other = Bridge { unit: bridge.unit ^ 1, ..*bridge };
    t.is_true("other-bridge", other.read(slot, 0, 4).is_err());
}

/// Firmware leaves memory placed, and says so in the tree.
fn assigned(t: &mut Report, bridge: &Bridge, slot: u32) {
    if t.differs_on_qemu("assigned", "there firmware does it, and this program has taken its place") {
        return;
    }
    let mut found = 0;
    let nodes = platform::tree().all_nodes().filter(|node| node.name.starts_with("pci1af4,1042@"));
    for node in nodes {
        let Some(value) = node.property("assigned-addresses") else { continue };
        for entry in value.value.as_chunks::<20>().0 {
            let cell = |n: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| entry[4 * n + byte]));
            let at = cell(0) & 0xff;
            t.same("assigned-slot", cell(0) >> 11 & 31, slot);
            t.same("assigned-low", bridge.read(slot, at, 4).unwrap_or(0) & !0xf, cell(2));
            if cell(0) >> 24 & 3 == 3 {
                t.same("assigned-high", bridge.read(slot, at + 4, 4).unwrap_or(!0), cell(1));
            }
            found += 1;
        }
    }
    t.same("assigned", found, 2);
    t.equal("memory-is-on", bridge.read(slot, 4, 2).map(|command| command & 2), Ok(2));
}

/// The first DMA window.
fn windows(t: &mut Report, bridge: &Bridge) {
    let (number, base, bytes) = bridge.window;
    let last = base + bytes - 0x1000;
    t.same("window", base, 0);
    t.is_true("window-bytes", bytes >= 1 << 28);
    let put = |at, entry| status(Hcall::PUT_TCE, &[number, at, entry]);
    let get = |at| {
        let answer = hcall(Hcall::GET_TCE, &[number, at]);
        (answer.status, answer.r4())
    };
    t.equal("put", put(0x5000, 0x12_3003), Status::SUCCESS);
    t.equal("get", get(0x5000), (Status::SUCCESS, 0x12_3003));
    t.equal("within-the-page", get(0x5fff), (Status::SUCCESS, 0x12_3003));
    t.equal("next", get(0x6000), (Status::SUCCESS, 0));
    t.equal("last", put(last, 0x1003), Status::SUCCESS);
    t.equal("beyond", put(last + 0x1000, 0x1003), Status::PARAMETER);
    t.equal("no-window", status(Hcall::PUT_TCE, &[0x1234, 0, 0]), Status::PARAMETER);
    t.equal("get-no-window", hcall(Hcall::GET_TCE, &[0x1234, 0]).status, Status::PARAMETER);
    let stuff = |at, entry, count| status(Hcall::STUFF_TCE, &[number, at, entry, count]);
    t.equal("stuff", stuff(0x10_0000, 0x7000 | 1, 512), Status::SUCCESS);
    t.equal("stuffed", get(0x10_0000 + 511 * 0x1000), (Status::SUCCESS, 0x7001));
    t.equal("not-stuffed", get(0x10_0000 + 512 * 0x1000), (Status::SUCCESS, 0));
    if !t.differs_on_qemu("stuff-too-many", "there is no limit there") {
        t.equal("stuff-too-many", stuff(0x10_0000, 0, 513), Status::PARAMETER);
    }
    for n in 0..512 {
        write64(MEMORY + 8 * n, (n << 12 | 3).to_be());
    }
    let indirect = |at, list, count| status(Hcall::PUT_TCE_INDIRECT, &[number, at, list, count]);
    t.equal("indirect", indirect(0x20_0000, MEMORY, 512), Status::SUCCESS);
    t.equal("indirect-entry", get(0x20_0000 + 77 * 0x1000), (Status::SUCCESS, 77 << 12 | 3));
    t.equal("indirect-too-many", indirect(0x20_0000, MEMORY, 513), Status::PARAMETER);
    t.equal("indirect-misaligned", indirect(0x20_0000, MEMORY + 8, 1), Status::PARAMETER);
    t.equal("clear", stuff(0x20_0000, 0, 512), Status::SUCCESS);
    t.equal("cleared", get(0x20_0000 + 77 * 0x1000), (Status::SUCCESS, 0));
    t.equal("clear-first", stuff(0x10_0000, 0, 512), Status::SUCCESS);
    t.equal("clear-last", put(last, 0), Status::SUCCESS);
}

/// A window that is made as it is asked for.
fn second_window(t: &mut Report, bridge: &Bridge) {
    let [high, low] = bridge.cells();
    let mut query = [0; 4];
    t.same("query", rtas::call("ibm,query-pe-dma-window", &[0, high, low], &mut query), 0);
    t.is_true("window-left", query[0] >= 1);
    t.same("page-sizes", query[2] & 6, 6);
    let mut made = [0; 3];
    let create = |page, shift, made: &mut [u32]| {
        rtas::call("ibm,create-pe-dma-window", &[0, high, low, page, shift], made)
    };
    t.is_true("odd-page", create(13, 28, &mut made) < 0);
    // As many pages as there may be, whichever they are.
    for page in [16, 24] {
        t.same("largest", create(page, page + query[1].ilog2(), &mut made), 0);
        t.same("remove-largest", rtas::call("ibm,remove-pe-dma-window", &[made[0]], &mut []), 0);
    }
    t.same("create", create(16, 28, &mut made), 0);
    let (number, base) = (u64::from(made[0]), u64::from(made[1]) << 32 | u64::from(made[2]));
    t.is_true("elsewhere", base >= 1 << 32);
    let put = |at, entry| status(Hcall::PUT_TCE, &[number, at, entry]);
    t.equal("put-second", put(base + 0x3_0000, 0x5_0003), Status::SUCCESS);
    t.equal("get-second", hcall(Hcall::GET_TCE, &[number, base + 0x3_0000]).r4(), 0x5_0003);
    t.equal("end-second", put(base + (1 << 28), 3), Status::PARAMETER);
    t.same("remove", rtas::call("ibm,remove-pe-dma-window", &[made[0]], &mut []), 0);
    t.equal("removed", put(base, 3), Status::PARAMETER);
    t.is_true("removed-already", rtas::call("ibm,remove-pe-dma-window", &[made[0]], &mut []) < 0);
    let mut done = [1];
    let called = rtas::call_token(bridge.reset, &[0, high, low], &mut done);
    t.equal("reset", (called, done), (Ok(()), [0]));
    t.equal("first-is-there", status(Hcall::PUT_TCE, &[bridge.window.0, 0, 0]), Status::SUCCESS);
}

/// Maps memory for devices; what is to be added to real addresses.
fn map(t: &mut Report, bridge: &Bridge) -> u64 {
    for page in (0..BYTES).step_by(0x1000) {
        let put = status(Hcall::PUT_TCE, &[bridge.window.0, MAPPED + page, page | 3]);
        if put != Status::SUCCESS {
            t.equal("map", put, Status::SUCCESS);
        }
    }
    MAPPED
}

/// Memory goes where its register says, and is there only while it is on.
fn moved(t: &mut Report, bridge: &Bridge, slot: u32) {
    let bar = bridge.read(slot, 0x20, 4).unwrap_or(0);
    let at = pci::at(slot, 4, 0);
    let first = pci::load(at, 4);
    t.is_true("there", first != !0);
    if t.differs_on_qemu("memory-off", "there a load from nothing is a machine check") {
        return;
    }
    bridge.write(slot, 4, 2, 4);
    t.same("off", pci::load(at, 4), !0);
    bridge.write(slot, 4, 2, 6);
    t.same("on", pci::load(at, 4), first);
    bridge.write(slot, 0x20, 4, bar + 0x10_0000);
    t.same("gone", pci::load(at, 4), !0);
    bridge.write(slot, 0x20, 4, bar);
    t.same("back", pci::load(at, 4), first);
}

/// Where the table of messages shows.
fn table(bridge: &Bridge, slot: u32) -> Option<u64> {
    let msix = bridge.capability(slot, 0x11, 0)?;
    let table = bridge.read(slot, msix + 4, 4).ok()?;
    Some(pci::at(slot, table & 7, u64::from(table & !7)))
}

/// What is wider than a register of the device comes to it in pieces, and calls come to it as well.
fn widths(t: &mut Report, bridge: &Bridge, slot: u32) {
    let Some(table) = table(bridge, slot) else { return t.is_true("table", false) };
    let value = 0x1020_3040_5060_7080_u64;
    // In the order of memory.
    let words = |value: u64| {
        let value = u64::from_le_bytes(value.to_ne_bytes());
        [value as u32, (value >> 32) as u32]
    };
    let store = space::run_virtual(&[insn::std(4, 0, 3)], false, table, value);
    t.is_true("doubleword", store.finished());
    t.equal("doubleword", [pci::load(table, 4), pci::load(table + 4, 4)], words(value));
    pci::store(table + 8, 4, 0x5a);
    let rest = [pci::load(table + 8, 4), pci::load(table + 12, 4)];
    let code = [insn::lxvd2x(7, 0, 3), insn::stxvd2x(7, 0, 4)];
    place(&code);
    let msr = MSR_VIRTUAL | Msr::VSX.bits();
    let mut c = Context { nip: space::CODE_EA, msr, ..Context::ZERO };
    (c.gpr[3], c.gpr[4]) = (table, space::DATA_EA);
    run_context(&mut c);
    t.is_true("quadword", c.finished());
    t.same("quadword", read64(space::DATA), value);
    t.equal("quadword", words(read64(space::DATA + 8)), rest);
    if !t.differs_on_qemu("misaligned", "that is an error there") {
        let c = space::run_virtual(&[insn::ld(5, 0, 3)], false, table + 4, 0);
        t.equal("misaligned", words(c.gpr[5]), [words(value)[1], rest[0]]);
    }
    let real = bridge.real(table);
    let called = hcall(Hcall::LOGICAL_CI_LOAD, &[4, real + 8]);
    t.equal("call-load", (called.status, called.r4() as u32), (Status::SUCCESS, rest[0].swap_bytes()));
    t.equal("call-store", status(Hcall::LOGICAL_CI_STORE, &[4, real, 0x4030_2010]), Status::SUCCESS);
    t.same("call-stored", pci::load(table, 4), 0x1020_3040);
}

/// What a driver has to agree to.
fn needed() -> [u32; 2] {
    [0, if platform::says("iommu") { VERSION_1 | ACCESS_PLATFORM } else { VERSION_1 }]
}

fn random(t: &mut Report, mut rng: Virtio) {
    let [_, high] = rng.features();
    t.same("version", high & VERSION_1, VERSION_1);
    t.equal("translated", high & ACCESS_PLATFORM != 0, platform::says("iommu"));
    t.same("queues", rng.common(common::QUEUES, 2), 1);
    if !t.differs_on_qemu("another-age", "such drivers are let in there") {
        t.is_true("another-age", !rng.start([0, 0]));
    }
    t.is_true("agreed", rng.start(needed()));
    let buffer = MEMORY + 0x2000;
    fill(buffer, 256, 0);
    let written = rng.request(&[(buffer, 64, true)]);
    t.equal("random", written, Some(64));
    t.is_true("not-zero", !is_filled(buffer, 64, 0));
    t.is_true("no-more", is_filled(buffer + 64, 192, 0));
    for _ in 0..20 {
        t.equal("again", rng.request(&[(buffer, 8, true), (buffer + 100, 8, true)]), Some(16));
    }
    t.is_true("stopped", {
        rng.set_common(common::STATUS, 1, 0);
        rng.common(common::STATUS, 1) == 0
    });
}

/// The next interrupt of the first processor, if one comes within a second.
fn interrupt() -> u64 {
    let deadline = timebase() + TB_HZ;
    loop {
        let xirr = hcall(Hcall::XIRR, &[]).r4();
        if xirr & 0xff_ffff != 0 || timebase() > deadline {
            return xirr;
        }
    }
}

/// The next interrupt is this source's; its end.
fn interrupted(t: &mut Report, name: &str, source: u32) {
    let xirr = interrupt();
    t.same(name, xirr & 0xff_ffff, source.into());
    status(Hcall::EOI, &[xirr]);
}

fn set_xive(source: u32, priority: u32) -> i32 {
    rtas::call("ibm,set-xive", &[source, 0, priority], &mut [])
}

fn messages(t: &mut Report, bridge: &Bridge, mut disk: Virtio) {
    let slot = disk.slot;
    let Some(msix) = bridge.capability(slot, 0x11, 0) else { return t.is_true("msi-x", false) };
    let Some(table) = table(bridge, slot) else { return t.is_true("table", false) };
    t.is_true("source-before", bridge.source(slot, 0).is_err());
    let (done, [count, sequence, kind]) = bridge.change_msi(slot, 4, 2);
    t.equal("change-msi", (done, count, sequence, kind), (0, 2, 2, 2));
    let sources = (bridge.source(slot, 0), bridge.source(slot, 1));
    let (Ok(first), Ok(second)) = sources else { return t.equal("sources", sources, (Ok(1), Ok(2))) };
    t.same("in-a-row", second, first + 1);
    t.is_true("source-beyond", bridge.source(slot, 2).is_err());
    t.same("message-data", pci::load(table + 16 + 8, 4), second);
    t.same("set-xive", set_xive(second, 5), 0);
    status(Hcall::CPPR, &[0xff]);
    bridge.write(slot, msix + 2, 2, 0x8000);
    pci::store(table + 16 + 12, 4, 0);
    t.is_true("agreed", disk.start(needed()));
    disk.set_common(common::QUEUE, 2, 0);
    disk.set_common(common::QUEUE_VECTOR, 2, 1);
    t.same("vector", disk.common(common::QUEUE_VECTOR, 2), 1);
    t.equal("request", ask(&mut disk, request::READ, 0, DATA, 512), Some(0));
    interrupted(t, "message", second);
    t.same("once", hcall(Hcall::XIRR, &[]).r4() & 0xff_ffff, 0);
    // A vector that is masked is pending until it is let through.
    pci::store(table + 16 + 12, 4, 1);
    t.equal("request", ask(&mut disk, request::READ, 0, DATA, 512), Some(0));
    let pending = bridge.read(slot, msix + 8, 4).unwrap_or(0);
    let pending = pci::at(slot, pending & 7, u64::from(pending & !7));
    t.same("pending", pci::load(pending, 4), 2);
    t.same("masked", hcall(Hcall::XIRR, &[]).r4() & 0xff_ffff, 0);
    pci::store(table + 16 + 12, 4, 0);
    interrupted(t, "unmasked", second);
    // And so with all vectors.
    bridge.write(slot, msix + 2, 2, 0xc000);
    t.equal("request", ask(&mut disk, request::READ, 0, DATA, 512), Some(0));
    t.same("all-masked", hcall(Hcall::XIRR, &[]).r4() & 0xff_ffff, 0);
    bridge.write(slot, msix + 2, 2, 0x8000);
    interrupted(t, "all-unmasked", second);
    disk.set_common(common::STATUS, 1, 0);
    bridge.write(slot, msix + 2, 2, 0);
    t.same("release", bridge.change_msi(slot, 4, 0).0, 0);
    t.is_true("released", bridge.source(slot, 0).is_err());
}

/// Without messages there is the line, which is up until the interrupt status is read.
fn line(t: &mut Report, bridge: &Bridge, mut disk: Virtio) {
    let slot = disk.slot;
    let Some(source) = bridge.line(slot) else { return t.is_true("line-source", false) };
    t.same("set-xive", set_xive(source, 5), 0);
    t.is_true("agreed", disk.start(needed()));
    t.equal("request", ask(&mut disk, request::READ, 0, DATA, 512), Some(0));
    interrupted(t, "line", source);
    let xirr = interrupt();
    t.same("still-up", xirr & 0xff_ffff, source.into());
    t.equal("status", bridge.read(slot, 6, 2).map(|status| status & 8), Ok(8));
    t.same("cause", disk.interrupt_status(), 1);
    status(Hcall::EOI, &[xirr]);
    t.same("down", hcall(Hcall::XIRR, &[]).r4() & 0xff_ffff, 0);
    t.same("cause-is-cleared", disk.interrupt_status(), 0);
    // Not if the command register says so.
    bridge.write(slot, 4, 2, 0x406);
    t.equal("request", ask(&mut disk, request::READ, 0, DATA, 512), Some(0));
    t.same("disabled", hcall(Hcall::XIRR, &[]).r4() & 0xff_ffff, 0);
    bridge.write(slot, 4, 2, 6);
    let xirr = interrupt();
    t.same("enabled", xirr & 0xff_ffff, source.into());
    disk.interrupt_status();
    status(Hcall::EOI, &[xirr]);
    disk.set_common(common::STATUS, 1, 0);
    set_xive(source, 0xff);
}

/// Where data of requests is.
const DATA: u64 = MEMORY + 0x1_4000;

/// Requests of a disk: read, write, flush.
mod request {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
}

/// Asks the disk; its status.
fn ask(disk: &mut Virtio, kind: u32, sector: u64, data: u64, bytes: u32) -> Option<u8> {
    let (header, answer) = (MEMORY + 0x1_2000, MEMORY + 0x1_2010);
    write32(header, kind.to_le());
    write32(header + 4, 0);
    write64(header + 8, sector.to_le());
    fill(answer, 8, 0xee);
    let pieces = [(header, 16, false), (data, bytes, kind == request::READ), (answer, 1, true)];
    if bytes == 0 {
        disk.request(&[pieces[0], pieces[2]])?;
    } else {
        disk.request(&pieces)?;
    }
    Some(read8(answer))
}

fn sectors(t: &mut Report, mut disk: Virtio) {
    let [low, _] = disk.features();
    t.is_true("flush", low >> 9 & 1 != 0);
    t.is_true("agreed", disk.start([1 << 9, needed()[1]]));
    let sectors = pci::load(disk.own(0), 4);
    t.same("capacity", sectors, 2048);
    let data = DATA;
    fill(data, 4096, 0x55);
    t.equal("read", ask(&mut disk, request::READ, 8, data, 4096), Some(0));
    t.is_true("zeroes", is_filled(data, 4096, 0));
    fill(data, 1024, 0xa5);
    t.equal("write", ask(&mut disk, request::WRITE, 7, data, 1024), Some(0));
    t.equal("flushed", ask(&mut disk, request::FLUSH, 0, 0, 0), Some(0));
    fill(data, 4096, 0x55);
    t.equal("read-back", ask(&mut disk, request::READ, 6, data, 2048), Some(0));
    t.is_true("before", is_filled(data, 512, 0));
    t.is_true("written", is_filled(data + 512, 1024, 0xa5));
    t.is_true("behind", is_filled(data + 1536, 512, 0));
    t.equal("last", ask(&mut disk, request::READ, u64::from(sectors) - 1, data, 512), Some(0));
    t.equal("beyond", ask(&mut disk, request::READ, u64::from(sectors), data, 512), Some(1));
    t.equal("over-the-end", ask(&mut disk, request::WRITE, u64::from(sectors) - 1, data, 1024), Some(1));
    t.equal("unknown", ask(&mut disk, 77, 0, data, 512), Some(2));
    t.equal("alive", ask(&mut disk, request::READ, 7, data, 512), Some(0));
    t.is_true("alive", is_filled(data, 512, 0xa5));
}

/// The device goes back with the partition: its registers, its queue, what is on it.
fn put_back(t: &mut Report, bridge: &Bridge, mut disk: Virtio) {
    t.is_true("agreed", disk.start(needed()));
    t.equal("before", ask(&mut disk, request::READ, 7, DATA, 512), Some(0));
    let told = there_and_back(|| {
        let (mut disk, bar) = (disk, bridge.read(disk.slot, 0x20, 4).unwrap_or(0));
        fill(DATA, 512, 0x11);
        let mut good = ask(&mut disk, request::WRITE, 7, DATA, 512) == Some(0);
        disk.set_common(common::STATUS, 1, 0);
        good &=
            bridge.write(disk.slot, 0x20, 4, bar + 0x10_0000) == 0 && bridge.write(disk.slot, 4, 2, 0) == 0;
        u64::from(good)
    });
    t.same("went", told, 1);
    t.same("status-is-back", disk.common(common::STATUS, 1), 0xf);
    t.same("used-is-back", disk.used().into(), 1);
    t.equal("after", ask(&mut disk, request::READ, 7, DATA, 512), Some(0));
    t.is_true("disk-is-back", is_filled(DATA, 512, 0xa5));
}

/// A copy's devices do what the original's would, and neither sees what the other does.
fn copied(t: &mut Report, bridge: &Bridge, mut disk: Virtio) {
    let slot = disk.slot;
    let Some(msix) = bridge.capability(slot, 0x11, 0) else { return t.is_true("msi-x", false) };
    let Some(table) = table(bridge, slot) else { return t.is_true("table", false) };
    bridge.change_msi(slot, 4, 2);
    let Ok(source) = bridge.source(slot, 1) else { return t.is_true("source", false) };
    set_xive(source, 5);
    status(Hcall::CPPR, &[0xff]);
    bridge.write(slot, msix + 2, 2, 0x8000);
    pci::store(table + 16 + 12, 4, 0);
    t.is_true("agreed", disk.start(needed()));
    disk.set_common(common::QUEUE_VECTOR, 2, 1);
    t.equal("before", ask(&mut disk, request::READ, 7, DATA, 512), Some(0));
    status(Hcall::EOI, &[interrupt()]);
    hold("hold");
    t.equal("read", ask(&mut disk, request::READ, 7, DATA, 512), Some(0));
    t.is_true("as-before", is_filled(DATA, 512, 0xa5));
    interrupted(t, "message", source);
    let own = identity().map_or(0, |identity| identity.number as u8 + 0x40);
    for _ in 0..4 {
        fill(DATA, 1024, own);
        t.equal("write", ask(&mut disk, request::WRITE, 7, DATA, 1024), Some(0));
        team::sleep_until(timebase() + TB_HZ / 100);
        fill(DATA, 1024, 0);
        t.equal("read", ask(&mut disk, request::READ, 7, DATA, 1024), Some(0));
        t.is_true("own", is_filled(DATA, 1024, own));
        status(Hcall::EOI, &[interrupt()]);
    }
}

/// A driver that breaks the rules is told, and a reset helps.
fn broken(t: &mut Report, mut disk: Virtio) {
    t.is_true("agreed", disk.start([1 << 9, needed()[1]]));
    // A chain of two that leads to itself. QEMU's device may look by itself, so it is wrong from the start.
    disk.describe(&[(MEMORY + 0x1_2000, 16, false), (DATA, 512, true)]);
    guests::mem::write16(disk.ring + 12, 1u16.to_le());
    guests::mem::write16(disk.ring + 14, 0u16.to_le());
    disk.publish();
    pci::store(disk.notification(), 2, 0);
    let deadline = timebase() + TB_HZ;
    while disk.common(common::STATUS, 1) & 64 == 0 && timebase() < deadline {}
    t.same("needs-reset", disk.common(common::STATUS, 1) & 64, 64);
    t.is_true("agreed", disk.start([1 << 9, needed()[1]]));
    t.equal("mended", ask(&mut disk, request::READ, 7, DATA, 512), Some(0));
}
