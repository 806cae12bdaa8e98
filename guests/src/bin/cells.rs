//! What a page's backing makes of a translation: memory that is shared with a snapshot, the common page of zeroes, nothing yet, or
//! private; mapped as the guest may write to it and as it may not, for each reason. A load or fetch takes no memory, a store does;
//! and a store that the guest itself has forbidden is refused as the bare machine would, whatever is behind it.
//!
//! Between the steps it waits, so that the monitor can tell how much memory each has taken.
#![no_std]
#![no_main]

use guests::copies::{hold, snapshot};
use guests::insn::{self, BLR, NOP};
use guests::mem::{read64, write32, write64};
use guests::space::{self, CODE_EA, FREE_SLOT, READ_ONLY, READ_WRITE, Segment, run_virtual};
use guests::{Context, Hcall, MSR_PROBLEM, MSR_VIRTUAL, Report, Status, hcall, rtas, status, team};
use power::PageSize::K4;
use power::hpte::HpteR;
use power::interrupt::Vector;
use power::regs::{Dsisr, Msr};
use power::slb::{SegmentSize, VSID_KP, VSID_KS};
use power::spr;

guests::main!(run);

const EA: u64 = 0x2000_0000;
/// The same pages once more, from here on: a second entry for each.
const ALIAS: u64 = EA + 0x800_0000;
const SEGMENT: Segment = Segment { ea: EA, vsid: 0x2b3, size: SegmentSize::M256, base: K4, flags: 0 };
/// Pages that the cells are about, one each.
const PAGES: u64 = 0x100_0000;
const PAGE: u64 = 0x1_0000;
/// Three more, for the calls: read, and stored to by two calls.
const CALLED: u64 = 0x180_0000;
/// In a cell: an instruction, and data.
const CODE_AT: u64 = 0x1000;
const DATA_AT: u64 = 0x1008;
const KEY: u64 = 5;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Backing {
    Shared,
    Zero,
    Absent,
    Private,
}
use Backing::{Absent, Private, Shared, Zero};

/// How a guest maps a page, and why it may not store to it then.
struct Asked {
    name: &'static str,
    /// What its entry has.
    r: u64,
    /// The flags of its segment.
    flags: u64,
    /// The access rights of its key: AMR.
    amr: u64,
    /// DSISR of a store, without what says that it was one; 0: it is allowed.
    refused: u64,
}

const PROTECTION: u64 = Dsisr::PROTFAULT.bits();
const KEYS: u64 = VSID_KS | VSID_KP;
const ASKED: [Asked; 5] = [
    Asked { name: "read-write", r: READ_WRITE, flags: 0, amr: 0, refused: 0 },
    Asked { name: "pp3", r: READ_ONLY, flags: 0, amr: 0, refused: PROTECTION },
    Asked { name: "pp6", r: READ_WRITE | HpteR::PP0, flags: 0, amr: 0, refused: PROTECTION },
    Asked { name: "pp1-key", r: HpteR::M | 1, flags: KEYS, amr: 0, refused: PROTECTION },
    Asked {
        name: "amr",
        r: READ_WRITE | (KEY >> 3 << 60) | (KEY & 7) << 9,
        flags: 0,
        amr: 2 << (62 - 2 * KEY),
        refused: Dsisr::KEYFAULT.bits(),
    },
];

/// One page, with two entries for it.
struct Cell {
    backing: Backing,
    asked: &'static Asked,
    /// Its place among the pages.
    n: u64,
    entries: [u64; 2],
}

impl Cell {
    fn ra(&self) -> u64 {
        PAGES + self.n * PAGE
    }

    fn ea(&self) -> u64 {
        EA + self.n * PAGE
    }

    /// What stands in it.
    fn data(&self) -> u64 {
        match self.backing {
            Shared | Private => 0x1234_0000 + self.n,
            Zero | Absent => 0,
        }
    }

    fn fill(&self) {
        write32(self.ra() + CODE_AT, BLR);
        write64(self.ra() + DATA_AT, self.data());
    }

    fn is(&self, backing: Backing) -> bool {
        self.backing == backing
    }

    /// The segment and rights that it is about.
    fn set(&self) {
        Segment { flags: self.asked.flags, ..SEGMENT }.install(FREE_SLOT);
        guests::cpu::mtspr::<{ spr::AMR }>(self.asked.amr);
    }

    fn r(&self, entry: usize) -> u64 {
        hcall(Hcall::READ, &[0, self.entries[entry]]).r5() & !HpteR::RPN
    }

    fn enter(&mut self) {
        self.entries = [self.ea(), self.ea() + (ALIAS - EA)]
            .map(|ea| SEGMENT.enter(ea + CODE_AT, self.ra() + CODE_AT, K4, self.asked.r).expect("an entry"));
    }

    /// How often each check of it failed shows with its name.
    fn told(&self, t: &mut Report, failed: u32) {
        if t.failed() > failed {
            t.note(format_args!("{:?} {}", self.backing, self.asked.name));
        }
    }

    /// A load and a fetch.
    fn reads(&self, t: &mut Report, problem: bool) {
        let c = run_virtual(&[insn::ld(5, 8, 3)], problem, self.ea() + CODE_AT, 0);
        t.same("load", c.vector().0, Vector::SYSTEM_CALL.0);
        t.same("load-value", c.gpr[5], self.data());
        // `bctrl`: what is there comes back, or is no instruction.
        let c = run_virtual(&[insn::mtspr(spr::CTR, 3), 0x4e80_0421], problem, self.ea() + CODE_AT, 0);
        let fetched = if self.data() == 0 { Vector::PROGRAM } else { Vector::SYSTEM_CALL };
        t.same("fetch", c.vector().0, fetched.0);
        t.same("read-r-c", self.r(0), self.asked.r | HpteR::R);
        t.same("read-other-entry", self.r(1), self.asked.r);
    }

    fn store(&self, entry: u64, problem: bool, value: u64) -> Context {
        run_virtual(&[NOP, insn::std(4, 8, 3)], problem, self.ea() + entry * (ALIAS - EA) + CODE_AT, value)
    }

    /// A store that the guest's own entry forbids: its interrupt, and nothing else.
    fn refused(&self, t: &mut Report, problem: bool) {
        for entry in 0..2 {
            let c = self.store(entry, problem, 0xbad);
            t.same("refused", c.vector().0, Vector::DATA_STORAGE.0);
            t.same("refused-dsisr", c.dsisr, self.asked.refused | Dsisr::ISSTORE.bits());
            t.same("refused-dar", c.dar, self.ea() + entry * (ALIAS - EA) + DATA_AT);
            t.same("refused-srr0", c.nip, CODE_EA + 4);
            // In problem state EE is always on.
            let msr = if problem { MSR_PROBLEM | Msr::EE.bits() } else { MSR_VIRTUAL };
            t.same("refused-srr1", c.msr, msr);
            t.same("refused-no-c", self.r(entry as usize) & HpteR::C, 0);
        }
        t.same("refused-unchanged", read64(self.ra() + DATA_AT), self.data());
    }

    /// Stores through both entries, which are as `r` says.
    fn stores(&self, t: &mut Report, r: u64) {
        t.same("store-no-c", self.r(0) & HpteR::C, 0);
        let c = self.store(0, true, 0x600d);
        t.same("store", c.vector().0, Vector::SYSTEM_CALL.0);
        t.same("store-value", read64(self.ra() + DATA_AT), 0x600d);
        t.same("store-r-c", self.r(0), r | HpteR::R | HpteR::C);
        t.same("store-other-entry", self.r(1) & HpteR::C, 0);
        let c = run_virtual(&[insn::ld(5, 8, 3)], true, self.ea() + (ALIAS - EA) + CODE_AT, 0);
        t.same("store-seen", c.gpr[5], 0x600d);
        let c = self.store(1, false, 0x700d);
        t.same("store-alias", c.vector().0, Vector::SYSTEM_CALL.0);
        let c = run_virtual(&[insn::ld(5, 8, 3)], false, self.ea() + CODE_AT, 0);
        t.same("store-alias-value", c.gpr[5], 0x700d);
        t.same("store-alias-r-c", self.r(1), r | HpteR::R | HpteR::C);
        for entry in self.entries {
            let a = hcall(Hcall::REMOVE, &[0, entry, 0]);
            t.same("removed", a.r5() & !HpteR::RPN, r | HpteR::R | HpteR::C);
        }
    }
}

fn run(t: &mut Report) {
    space::standard();
    SEGMENT.install(FREE_SLOT);
    team::assemble();
    let mut n = 0;
    let mut cells = [Shared, Zero, Absent, Private].map(|backing| {
        ASKED.each_ref().map(|asked| {
            n += 1;
            Cell { backing, asked, n: n - 1, entries: [0; 2] }
        })
    });
    let cells = cells.as_flattened_mut();
    for cell in cells.iter().filter(|cell| cell.is(Shared)) {
        cell.fill();
    }
    for cell in cells.iter().filter(|cell| cell.is(Zero)) {
        t.same("zero", read64(cell.ra()), 0);
    }
    write64(CALLED + PAGE, 1);
    // Entries that were made before pages became shared, and such that are made after.
    cells.iter_mut().filter(|cell| cell.n % 2 == 0).for_each(Cell::enter);
    t.equal("snapshot", snapshot().status, Status::SUCCESS);
    cells.iter_mut().filter(|cell| cell.n % 2 == 1).for_each(Cell::enter);
    cells.iter().filter(|cell| cell.is(Private)).for_each(Cell::fill);
    // The program's own pages are private from here on.
    run_virtual(&[NOP], false, 0, 0);
    hold("A");
    for (cell, problem) in cells.iter().flat_map(|cell| [(cell, false), (cell, true)]) {
        let failed = t.failed();
        cell.set();
        cell.reads(t, problem);
        if cell.asked.refused != 0 {
            cell.refused(t, problem);
        }
        cell.told(t, failed);
    }
    let called = hcall(Hcall::LOGICAL_CI_LOAD, &[8, CALLED]);
    t.equal("call-load", (called.status, called.r4()), (Status::SUCCESS, 0));
    hold("B");
    for cell in cells.iter().filter(|cell| cell.asked.refused == 0) {
        let failed = t.failed();
        cell.set();
        cell.stores(t, cell.asked.r);
        cell.told(t, failed);
    }
    hold("C");
    for cell in cells.iter().filter(|cell| cell.asked.refused != 0) {
        let failed = t.failed();
        cell.set();
        for entry in cell.entries {
            // Read-write, key 0, whatever it was.
            t.equal("protect", status(Hcall::PROTECT, &[2, entry, 0]), Status::SUCCESS);
        }
        t.same("protected-r-c", cell.r(0) & !HpteR::R, READ_WRITE);
        cell.stores(t, READ_WRITE);
        cell.told(t, failed);
    }
    hold("D");
    // The hypervisor's own stores for the guest.
    t.equal("call-store", status(Hcall::LOGICAL_CI_STORE, &[8, CALLED + PAGE, 7]), Status::SUCCESS);
    t.same("call-stored", u64::from_be(read64(CALLED + PAGE)), 7);
    let token = rtas::token("get-time-of-day").expect("a token");
    for (n, word) in [token, 0, 8].into_iter().enumerate() {
        write32(CALLED + 2 * PAGE + 4 * n as u64, word.to_be());
    }
    t.equal("call-rtas", status(Hcall::RTAS, &[CALLED + 2 * PAGE]), Status::SUCCESS);
    hold("E");
}
