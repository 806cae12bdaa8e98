//! Storage faults, by what becomes of them: reflected, resolved in real mode, and those that make memory be there or go to where
//! nothing is.
//!
//! A fault that is only tried again (the entry has gone, or is valid by now) takes a race of two processors, so it has no row: it is
//! the search that all others begin with.

use crate::measure::{COUNT, FEW, MANY, NEXT, ROUNDS, Row};
use crate::table::{PAGES, back_pages, dword0};
use guests::insn::{RFID, add, lbz, ld, mtspr, std};
use guests::mem::write64;
use guests::space::{DEVICE, FREE_SLOT, READ_WRITE, Segment};
use guests::{Hcall, MSR_VIRTUAL, Report, Status, platform, status};
use power::PageSize::{self, K4, K64, M16};
use power::hcall::flags;
use power::interrupt::Vector;
use power::slb::SegmentSize;
use power::spr;

const PAGE: u64 = 0x1_0000;
const fn segment(ea: u64, vsid: u64, base: PageSize) -> Segment {
    Segment { ea, vsid, size: SegmentSize::M256, base, flags: 0 }
}

const SMALL: Segment = segment(0x2000_0000, 0x2400, K4);
pub const MEDIUM: Segment = segment(0x3000_0000, 0x2800, K64);
const LARGE: Segment = segment(0x4000_0000, 0x2c00, M16);
/// Addresses in `SMALL` that have no entry.
const NOWHERE: u64 = 0x2800_0000;

/// A store to each of so many places, r6 apart.
pub const STORE: [u32; 2] = [std(6, 0, 3), add(3, 3, 6)];
const LOAD: [u32; 2] = [ld(5, 0, 3), add(3, 3, 6)];

/// Memory of the partition that has not been touched: what comes after the first quarter.
pub struct Fresh(u64);

impl Fresh {
    pub fn new() -> Fresh {
        Fresh(platform::memory() / 4)
    }

    /// So many pages.
    fn take(&mut self, n: u64, size: u64) -> u64 {
        let at = self.0.next_multiple_of(size);
        self.0 = at + n * size;
        assert!(self.0 <= platform::memory(), "out of memory");
        at
    }
}

/// So many entries of the segment, `stride` bytes apart in both spaces.
fn enter(segment: &Segment, ea: u64, ra: u64, n: u64, stride: u64, r: u64) {
    for at in (0..n * stride).step_by(stride as usize) {
        segment.enter(ea + at, ra + at, segment.base, r).expect("an entry");
    }
}

/// What is accessed: the first address, and how far it is to the next.
fn walk(gpr: &mut [u64; 32], first: u64, stride: u64) {
    gpr[3] = first;
    gpr[6] = stride;
}

/// All but those of 16 MiB.
pub fn rows(t: &mut Report, fresh: &mut Fresh) {
    SMALL.install(FREE_SLOT);
    MEDIUM.install(FREE_SLOT + 1);
    reflected(t, "fault_reflected");
    resolved(t, fresh);
    first_touch(t, fresh);
    devices(t);
}

/// A load from where the guest has no entry. Its handler goes on with what follows.
fn reflected(t: &mut Report, name: &str) {
    let skip = [mtspr(spr::SRR0, NEXT), COUNT, RFID];
    let interrupt = Some((Vector::DATA_STORAGE, &skip[..]));
    Row { interrupt, msr: MSR_VIRTUAL, ..Row::new(name, &[lbz(4, 0, 3), add(3, 3, 6)]) }
        .measure(t, |_, gpr| walk(gpr, NOWHERE, 0x1000));
}

/// Entries of 4 KiB, made before their page of 64 KiB was there.
fn resolved(t: &mut Report, fresh: &mut Fresh) {
    let rounds = 62 * 16;
    Row { rounds, batches: 3, msr: MSR_VIRTUAL, ..Row::new("fault_resolved", &STORE) }.measure(
        t,
        |batch, gpr| {
            let (ra, ea) = (fresh.take(rounds / 16, PAGE), SMALL.ea + (batch << 24));
            enter(&SMALL, ea, ra, rounds, 0x1000, READ_WRITE);
            (0..rounds / 16).for_each(|n| write64(ra + n * PAGE, 1));
            walk(gpr, ea, 0x1000);
        },
    );
}

fn first_touch(t: &mut Report, fresh: &mut Fresh) {
    let row = |name, body| Row { rounds: FEW, batches: MANY, msr: MSR_VIRTUAL, ..Row::new(name, body) };
    row("first_touch_4k", &STORE).measure(t, |batch, gpr| {
        let (ra, ea) = (fresh.take(FEW, PAGE), SMALL.ea + 0x400_0000 + batch * FEW * PAGE);
        enter(&SMALL, ea, ra, FEW, PAGE, READ_WRITE);
        walk(gpr, ea, PAGE);
    });
    row("first_touch_64k", &STORE).measure(t, |batch, gpr| {
        let (ra, ea) = (fresh.take(FEW, PAGE), MEDIUM.ea + batch * FEW * PAGE);
        enter(&MEDIUM, ea, ra, FEW, PAGE, READ_WRITE);
        walk(gpr, ea, PAGE);
    });
    let real = Row { rounds: FEW, batches: MANY, ..Row::new("first_touch_real", &STORE) };
    real.measure(t, |_, gpr| walk(gpr, fresh.take(FEW, PAGE), PAGE));
    // A load first, then a store: nothing has to be copied of a page of zeroes.
    let (ra, ea) = (fresh.take(MANY * FEW, PAGE), MEDIUM.ea + 0x400_0000);
    enter(&MEDIUM, ea, ra, MANY * FEW, PAGE, READ_WRITE);
    for (name, body) in [("first_load", &LOAD), ("store_after_load", &STORE)] {
        row(name, body).measure(t, |batch, gpr| walk(gpr, ea + batch * FEW * PAGE, PAGE));
    }
}

/// Loads and stores of a place where the partition has neither memory nor a device.
fn devices(t: &mut Report) {
    if t.differs_on_qemu("mmio", "an access to where nothing is is a machine check") {
        return;
    }
    let hole = MEDIUM.ea + 0x800_0000;
    MEDIUM.enter(hole, 1 << 40, K64, DEVICE).expect("an entry for nothing");
    for (name, access) in [("mmio_load", ld(4, 0, 3)), ("mmio_store", std(4, 0, 3))] {
        Row { rounds: FEW, batches: MANY, msr: MSR_VIRTUAL, ..Row::new(name, &[access]) }
            .measure(t, |_, gpr| gpr[3] = hole);
    }
}

/// In a partition that has pages of 16 MiB.
pub fn rows_of_huge_pages(t: &mut Report) {
    let mut fresh = Fresh::new();
    LARGE.install(FREE_SLOT);
    let (touched, size) = (3, M16.bytes());
    Row { rounds: touched, batches: 2, msr: MSR_VIRTUAL, ..Row::new("first_touch_16m", &STORE) }.measure(
        t,
        |batch, gpr| {
            let (ra, ea) = (fresh.take(touched, size), LARGE.ea + batch * touched * size);
            enter(&LARGE, ea, ra, touched, size, READ_WRITE);
            walk(gpr, ea, size);
        },
    );
}

/// The search for an entry that is not there, in a page table that is a tenth full, half full, and nine tenths. It stays so.
pub fn rows_by_occupancy(t: &mut Report) {
    let memory = 0x40_0000;
    back_pages(memory);
    let (all, mut used) = (platform::hpt_entries(), 0);
    let mut before = 0;
    for (percent, name) in
        [(10, "fault_reflected_10"), (50, "fault_reflected_50"), (90, "fault_reflected_90")]
    {
        for index in 0..all {
            // Spread evenly, and the same every time.
            let chance = ((index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * 100) >> 32;
            if !(before..percent).contains(&chance) {
                continue;
            }
            let r = (PAGES + (index << 12) % memory) | READ_WRITE;
            match status(Hcall::ENTER, &[flags::EXACT, index, dword0(), r]) {
                // Or it is one of the program's own.
                Status::SUCCESS | Status::PTEG_FULL => used += 1,
                other => return t.equal("occupied", other, Status::SUCCESS),
            }
        }
        before = percent;
        t.within(name, used * 1000 / all, percent * 10 - 10, percent * 10 + 10);
        reflected(t, name);
    }
    t.is_true("rounds-in-segment", NOWHERE + ROUNDS * 0x1000 <= SMALL.ea + (1 << 28));
}
