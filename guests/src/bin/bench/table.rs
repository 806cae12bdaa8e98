//! The page table calls: a thousand entries, one in each of as many groups, for a thousand pages of 4 KiB of memory that is there.

use crate::measure::{ROUNDS, Row, SUM};
use guests::insn::{add, addi, li, mr, sc};
use guests::mem::write64;
use guests::space::{READ_WRITE, Segment};
use guests::{Hcall, MSR_VIRTUAL, Report, Status, hcall, platform, status};
use power::hcall::flags;
use power::slb::SegmentSize;
use power::{HpteV, PageSize};

/// The pages.
pub const PAGES: u64 = 0x300_0000;
const PAGE: u64 = 0x1000;
/// The first group of the entries, and of those that have an entry for the first time. Neither the program's own translations nor
/// its real mode area hash to either.
const GROUP: u64 = 0x800;
const NEW_GROUP: u64 = 0x1000;
/// What calls with H_EXACT say of the entry's virtual page: any will do, as none is accessed.
const SEGMENT: Segment =
    Segment { ea: 0, vsid: 0x4000, size: SegmentSize::M256, base: PageSize::K4, flags: 0 };

/// Dword 0 of all entries.
pub fn dword0() -> u64 {
    SEGMENT.v(0, PageSize::K4)
}

/// Makes the pages be there, in all the memory that the calls name.
pub fn back_pages(length: u64) {
    for page in (0..length).step_by(0x1_0000) {
        write64(PAGES + page, 1);
    }
}

/// r7 and r5 go on to the next page and group.
const ENTER: [u32; 6] =
    [mr(3, 14), mr(4, 15), addi(5, 5, 8), addi(7, 7, PAGE as i32), sc(1), add(SUM, SUM, 3)];
/// r16 is the index, for H_REMOVE answers in r4 and r5.
const REMOVE: [u32; 6] = [mr(3, 14), li(4, 0), addi(16, 16, 8), mr(5, 16), sc(1), add(SUM, SUM, 3)];

fn enter_from(group: u64, gpr: &mut [u64; 32]) {
    gpr[14] = Hcall::ENTER.0;
    gpr[15] = flags::EXACT;
    gpr[5] = 8 * group - 8;
    gpr[6] = dword0();
    gpr[7] = (PAGES - PAGE) | READ_WRITE;
}

fn remove_from(group: u64, gpr: &mut [u64; 32]) {
    gpr[14] = Hcall::REMOVE.0;
    gpr[16] = 8 * group - 8;
}

/// All entries, made by calls that are not measured. Whatever was there is gone.
pub fn fill() -> bool {
    (0..ROUNDS).all(|n| {
        let index = 8 * (GROUP + n);
        status(Hcall::REMOVE, &[0, index, 0]);
        let arguments = [flags::EXACT, index, dword0(), (PAGES + PAGE * n) | READ_WRITE];
        status(Hcall::ENTER, &arguments) == Status::SUCCESS
    })
}

fn clear() {
    for n in 0..ROUNDS {
        status(Hcall::REMOVE, &[0, 8 * (GROUP + n), 0]);
    }
}

/// All of them.
pub fn rows(t: &mut Report) {
    t.is_true("table-is-large-enough", platform::hpt_entries() >= 8 * 0x4000);
    back_pages(ROUNDS * PAGE);
    Row { batches: 3, ..Row::new("h_enter_first", &ENTER) }
        .measure(t, |batch, gpr| enter_from(NEW_GROUP + ROUNDS * batch, gpr));
    Row::new("h_enter", &ENTER).measure(t, |_, gpr| {
        clear();
        enter_from(GROUP, gpr);
    });
    // Where there is room in the group, as kernels ask for it.
    Row::new("h_enter_anywhere", &ENTER).measure(t, |_, gpr| {
        clear();
        enter_from(GROUP, gpr);
        gpr[15] = 0;
    });
    read(t);
    protect_and_remove(t, ["h_protect", "h_remove"]);
    bulk_remove(t);
}

/// The answer is in r4 and r5, so both are loaded each time.
fn read(t: &mut Report) {
    t.is_true("read-filled", fill());
    let body = [mr(3, 14), li(4, 0), mr(5, 15), sc(1), add(SUM, SUM, 3)];
    let registers = |_, gpr: &mut [u64; 32]| {
        gpr[14] = Hcall::READ.0;
        gpr[15] = 8 * GROUP;
    };
    Row::new("h_read", &body).measure(t, registers);
    Row { msr: MSR_VIRTUAL, ..Row::new("h_read_translated", &body) }.measure(t, registers);
    // Bits of software's may be in it.
    let shown = hcall(Hcall::READ, &[0, 8 * GROUP]).r4() & (HpteV::B | HpteV::AVPN | HpteV::V);
    t.same("read-right", shown, dword0());
}

/// Of entries that are valid: each leads to an invalidation. H_PROTECT takes the right to write, as `fork` does.
pub fn protect_and_remove(t: &mut Report, [protect, remove]: [&str; 2]) {
    let mut full = true;
    let body = [mr(3, 14), addi(5, 5, 8), sc(1), add(SUM, SUM, 3)];
    Row::new(protect, &body).measure(t, |_, gpr| {
        full &= fill();
        gpr[14] = Hcall::PROTECT.0;
        gpr[4] = 3;
        gpr[5] = 8 * GROUP - 8;
    });
    Row::new(remove, &REMOVE).measure(t, |_, gpr| {
        full &= fill();
        remove_from(GROUP, gpr);
    });
    t.is_true("filled", full);
}

/// Four at a time: the specifiers come back changed.
fn bulk_remove(t: &mut Report) {
    let mut full = true;
    let body = [
        mr(4, 16),
        addi(6, 16, 8),
        addi(8, 16, 16),
        addi(10, 16, 24),
        addi(16, 16, 32),
        mr(3, 14),
        sc(1),
        add(SUM, SUM, 3),
    ];
    Row { rounds: ROUNDS / 4, ..Row::new("h_bulk_remove_4", &body) }.measure(t, |_, gpr| {
        full &= fill();
        gpr[14] = Hcall::BULK_REMOVE.0;
        gpr[16] = (1 << 62) | (8 * GROUP);
    });
    t.is_true("bulk-filled", full);
}
