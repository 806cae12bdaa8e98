//! Functions behind the partition's PCI host bridge: configuration space by RTAS, memory through mapped pages, messages as interrupts.

use crate::insn;
use crate::space::{self, FREE_SLOT, Segment, run_virtual};
use crate::{platform, rtas};
use power::PageSize::K64;
use power::slb::SegmentSize;

/// Where functions' memory shows: [`SPACE`] bytes for each slot, a page for each base address register.
const EA: u64 = 0x2000_0000;
const SPACE: u64 = 0x10_0000;
const PAGE: u64 = 0x1_0000;
const SEGMENT: Segment = Segment { ea: EA, vsid: 0x2e3, size: SegmentSize::M256, base: K64, flags: 0 };

/// The host bridge.
#[derive(Clone, Copy, Debug)]
pub struct Bridge {
    /// Its unit, by which calls name it.
    pub unit: u64,
    /// 32-bit addresses on the bus: the first, and where the partition has it.
    pub low: (u64, u64),
    /// Its first DMA window: number, base, bytes.
    pub window: (u64, u64, u64),
    /// The token of the call that leaves it with that one alone.
    pub reset: u32,
}

fn cells<'a>(value: &'a [u8]) -> impl Iterator<Item = u64> + use<'a> {
    value.as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell).into())
}

impl Bridge {
    /// The one of the device tree. Its functions' memory can be mapped from now on.
    pub fn find() -> Option<Bridge> {
        let node = platform::tree()
            .find_node("/")?
            .children()
            .find(|node| node.property("device_type").and_then(|p| p.as_str()) == Some("pci"))?;
        let all = |name| node.property(name).map_or(&[][..], |p| p.value);
        let wide = |cells: &[u64]| cells[0] << 32 | cells[1];
        let mut reg = cells(all("reg"));
        let unit = reg.next()? << 32 | reg.next()?;
        let mut ranges = cells(all("ranges"));
        let low = loop {
            let mut range = [0; 7];
            for cell in &mut range {
                *cell = ranges.next()?;
            }
            if range[0] >> 24 & 3 == 2 {
                break (wide(&range[1..]), wide(&range[3..]));
            }
        };
        let mut window = [0; 5];
        cells(all("ibm,dma-window")).zip(&mut window).for_each(|(cell, to)| *to = cell);
        SEGMENT.install(FREE_SLOT);
        let reset = cells(all("ibm,ddw-extensions")).nth(1)? as u32;
        Some(Bridge { unit, low, window: (window[0], wide(&window[1..]), wide(&window[3..])), reset })
    }

    /// The unit in two cells.
    pub fn cells(&self) -> [u32; 2] {
        [(self.unit >> 32) as u32, self.unit as u32]
    }

    /// Reads configuration space of function 0 of a slot; the status, if that is none of the function's.
    pub fn read(&self, slot: u32, at: u32, bytes: u32) -> Result<u32, i32> {
        let [high, low] = self.cells();
        let mut value = [0];
        let address = slot << 11 | at >> 8 << 28 | at & 0xff;
        match rtas::call("ibm,read-pci-config", &[address, high, low, bytes], &mut value) {
            0 => Ok(value[0]),
            status => Err(status),
        }
    }

    /// Writes it: the status.
    pub fn write(&self, slot: u32, at: u32, bytes: u32, value: u32) -> i32 {
        let [high, low] = self.cells();
        let address = slot << 11 | at >> 8 << 28 | at & 0xff;
        rtas::call("ibm,write-pci-config", &[address, high, low, bytes, value], &mut [])
    }

    /// The first slot with this vendor and device.
    pub fn slot(&self, vendor: u32, device: u32) -> Option<u32> {
        (0..32).find(|slot| self.read(*slot, 0, 4) == Ok(device << 16 | vendor))
    }

    /// Where a capability is, from another one (or 0) on.
    pub fn capability(&self, slot: u32, id: u32, after: u32) -> Option<u32> {
        let mut at =
            if after == 0 { self.read(slot, 0x34, 1) } else { self.read(slot, after + 1, 1) }.ok()?;
        while at != 0 {
            if self.read(slot, at, 1).ok()? == id {
                return Some(at);
            }
            at = self.read(slot, at + 1, 1).ok()?;
        }
        None
    }

    /// Gives each base address register of memory an address in the 32-bit window, a page each, and maps it; memory and bus mastering are on
    /// then. How many there are.
    pub fn place(&self, slot: u32) -> u32 {
        let (bus, real) = self.low;
        let (mut found, mut bar) = (0, 0);
        while bar < 6 {
            let at = 0x10 + 4 * bar;
            self.write(slot, at, 4, !0);
            let ones = self.read(slot, at, 4).unwrap_or(0);
            let wide = ones & 7 == 4;
            if ones & 1 == 0 && ones & !0xf != 0 {
                let offset = u64::from(slot) * SPACE + u64::from(bar) * PAGE;
                self.write(slot, at, 4, (bus + offset) as u32);
                if wide {
                    self.write(slot, at + 4, 4, 0);
                }
                let entered = SEGMENT.enter(EA + offset, real + offset, K64, space::DEVICE);
                found += u32::from(entered.is_ok());
            }
            bar += 1 + u32::from(wide);
        }
        self.write(slot, 4, 2, 6);
        found
    }

    /// The partition's real address of a place behind a base address register.
    pub const fn real(&self, ea: u64) -> u64 {
        self.low.1 + (ea - EA)
    }

    /// `ibm,change-msi`: the status and the results.
    pub fn change_msi(&self, slot: u32, function: u32, count: u32) -> (i32, [u32; 3]) {
        let [high, low] = self.cells();
        let mut more = [0; 3];
        let status = rtas::call("ibm,change-msi", &[slot << 11, high, low, function, count, 1], &mut more);
        (status, more)
    }

    /// The interrupt source of a slot's line, by pin A.
    pub fn line(&self, slot: u32) -> Option<u32> {
        let root = platform::tree().find_node("/")?;
        let node = root.children().find(|node| node.property("interrupt-map").is_some())?;
        let map = node.property("interrupt-map")?.value;
        let cell =
            |entry: &[u8; 28], n: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| entry[4 * n + byte]));
        let mask = 0xf800;
        let entries = map.as_chunks::<28>().0;
        let entry = entries.iter().find(|e| cell(e, 0) & mask == slot << 11 && cell(e, 3) == 1)?;
        Some(cell(entry, 5))
    }

    /// The interrupt source of a function's message.
    pub fn source(&self, slot: u32, n: u32) -> Result<u32, i32> {
        let [high, low] = self.cells();
        let mut more = [0; 2];
        match rtas::call("ibm,query-interrupt-source-number", &[slot << 11, high, low, n], &mut more) {
            0 => Ok(more[0]),
            status => Err(status),
        }
    }
}

/// Where memory behind a base address register shows.
pub const fn at(slot: u32, bar: u32, offset: u64) -> u64 {
    EA + slot as u64 * SPACE + bar as u64 * PAGE + offset
}

const LITTLE: bool = cfg!(target_endian = "little");

/// Loads a little endian number of 1, 2 or 4 bytes.
pub fn load(ea: u64, bytes: u32) -> u32 {
    let word = match bytes {
        1 => insn::lbz(5, 0, 3),
        2 if LITTLE => insn::lhz(5, 0, 3),
        2 => insn::lhbrx(5, 0, 3),
        _ if LITTLE => insn::lwz(5, 0, 3),
        _ => insn::lwbrx(5, 0, 3),
    };
    let c = run_virtual(&[word], false, ea, 0);
    assert!(c.finished(), "load from {ea:#x}: {:#x}", c.arrival);
    c.gpr[5] as u32
}

/// Stores one.
pub fn store(ea: u64, bytes: u32, value: u32) {
    let word = match bytes {
        1 => insn::stb(4, 0, 3),
        2 if LITTLE => insn::sth(4, 0, 3),
        2 => insn::sthbrx(4, 0, 3),
        _ if LITTLE => insn::stw(4, 0, 3),
        _ => insn::stwbrx(4, 0, 3),
    };
    let c = run_virtual(&[word], false, ea, value.into());
    assert!(c.finished(), "store to {ea:#x}: {:#x}", c.arrival);
}
