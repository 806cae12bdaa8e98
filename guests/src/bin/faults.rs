//! Storage interrupts through the page table: what bare metal says in DAR, DSISR and SRR1, for each reason to refuse
//! an access, in both states, for loads, stores and fetches. And R and C, as H_READ shows them.
#![no_std]
#![no_main]

use guests::insn::{self, BLR, NOP};
use guests::mem::{read64, write32, write64};
use guests::space::{self, CODE_EA, FREE_SLOT, PP_KEY_READS, READ_ONLY, READ_WRITE, Segment, run_virtual};
use guests::{Context, Hcall, Report, Status, hcall, status};
use power::PageSize::K4;
use power::hpte::HpteR;
use power::interrupt::Vector;
use power::regs::Dsisr;
use power::slb::{SegmentSize, VSID_KP, VSID_KS, VSID_N};
use power::spr;

guests::main!(run);

const EA: u64 = 0x2000_0000;
const RA: u64 = 0x200_0000;
const SEGMENT: Segment = Segment { ea: EA, vsid: 0x2b3, size: SegmentSize::M256, base: K4, flags: 0 };

const NOHPTE: u64 = Dsisr::NOHPTE.bits();
const STORE: u64 = Dsisr::ISSTORE.bits();
const PROTECTION: u64 = Dsisr::PROTFAULT.bits();
const KEY: u64 = Dsisr::KEYFAULT.bits();
const NO_EXECUTE: u64 = Dsisr::NOEXEC_OR_GUARDED.bits();

#[derive(Clone, Copy, PartialEq, Debug)]
enum Access {
    Load,
    Store,
    Fetch,
}
use Access::*;

const ALL: [Access; 3] = [Load, Store, Fetch];

fn access(how: Access, ea: u64, problem: bool) -> Context {
    match how {
        Load => run_virtual(&[NOP, insn::ld(5, 0, 3)], problem, ea, 0),
        Store => run_virtual(&[NOP, insn::std(4, 0, 3)], problem, ea, 0x600d_600d),
        // The target is a `blr` that comes back here.
        Fetch => run_virtual(&[insn::mtspr(spr::CTR, 3), 0x4e80_0421], problem, ea, 0),
    }
}

/// The interrupt's status: DSISR, or what SRR1 says of a fetch.
fn fault_status(how: Access, c: &Context) -> u64 {
    if how == Fetch { c.srr1_status() } else { c.dsisr }
}

fn expect(t: &mut Report, name: &str, how: Access, ea: u64, problem: bool, want: u64) {
    let c = access(how, ea, problem);
    if want == 0 {
        if !c.finished() {
            let state = if problem { "problem state" } else { "supervisor" };
            t.note(format_args!(
                "{how:?} in {state}: {:#x} DSISR {:#x} SRR1 {:#x}",
                c.arrival, c.dsisr, c.msr
            ));
        }
        t.same(name, c.vector().0, Vector::SYSTEM_CALL.0);
        return;
    }
    let vector = if how == Fetch { Vector::INST_STORAGE } else { Vector::DATA_STORAGE };
    t.same(name, c.vector().0, vector.0);
    t.same(name, fault_status(how, &c), want | if how == Store { STORE } else { 0 });
    if how == Fetch {
        t.same(name, c.nip, ea);
    } else {
        t.same(name, c.dar, ea);
        t.same(name, c.nip, CODE_EA + 4);
    }
}

fn run(t: &mut Report) {
    space::standard();
    SEGMENT.install(FREE_SLOT);
    for at in (RA..RA + 0x10_0000).step_by(0x1000) {
        write32(at, BLR);
    }
    missing(t);
    segments(t);
    protection(t);
    execute(t);
    keys(t);
    referenced(t);
    changes(t);
    spread(t);
}

fn missing(t: &mut Report) {
    for problem in [false, true] {
        for how in ALL {
            expect(t, "missing", how, EA + 0x5000, problem, NOHPTE);
            expect(t, "missing-far", how, EA + 0xfff_f000, problem, NOHPTE);
        }
    }
}

fn segments(t: &mut Report) {
    for problem in [false, true] {
        for ea in [0x3000_0000, 0x7000_0000_0000_1000, 0xd000_0000_0000_0000] {
            let c = access(Load, ea, problem);
            t.same("no-segment-load", c.vector().0, Vector::DATA_SEGMENT.0);
            t.same("no-segment-dar", c.dar, ea);
            let c = access(Store, ea, problem);
            t.same("no-segment-store", c.vector().0, Vector::DATA_SEGMENT.0);
            let c = access(Fetch, ea, problem);
            t.same("no-segment-fetch", c.vector().0, Vector::INST_SEGMENT.0);
            t.same("no-segment-srr0", c.nip, ea);
        }
    }
}

/// Every PP with every key in both states, against the table of the ISA (book III, 5.7.10.3).
fn protection(t: &mut Report) {
    for flags in [0, VSID_KS, VSID_KP, VSID_KS | VSID_KP] {
        let segment = Segment { flags, ..SEGMENT };
        segment.install(FREE_SLOT);
        for pp in [0, 1, 2, 3, HpteR::PP0 | 2] {
            let index = segment.enter(EA, RA, K4, HpteR::M | pp).expect("an entry");
            for problem in [false, true] {
                let key = flags & if problem { VSID_KP } else { VSID_KS } != 0;
                let (read, write) = match (key, pp) {
                    (_, 2) | (false, 0..=1) => (true, true),
                    (true, 0) => (false, false),
                    (true, 1) | (_, 3) => (true, false),
                    // PP=110 is read-only, and only with key 0.
                    (key, _) => (!key, false),
                };
                for how in ALL {
                    let allowed = if how == Store { write } else { read };
                    let want = if allowed { 0 } else { PROTECTION };
                    let failed = t.failed();
                    expect(t, "protection", how, EA, problem, want);
                    if t.failed() > failed {
                        t.note(format_args!("key {key} pp {pp:#x} problem {problem} {how:?}"));
                    }
                    write32(RA, BLR);
                }
            }
            t.equal("protection-remove", status(Hcall::REMOVE, &[0, index, 0]), Status::SUCCESS);
        }
    }
    SEGMENT.install(FREE_SLOT);
}

fn execute(t: &mut Report) {
    for problem in [false, true] {
        let index = SEGMENT.enter(EA, RA, K4, READ_WRITE | HpteR::N).expect("an entry");
        expect(t, "no-execute", Fetch, EA, problem, NO_EXECUTE);
        expect(t, "no-execute-load", Load, EA, problem, 0);
        status(Hcall::REMOVE, &[0, index, 0]);
        let index = SEGMENT.enter(EA, RA, K4, READ_WRITE).expect("an entry");
        Segment { flags: VSID_N, ..SEGMENT }.install(FREE_SLOT);
        expect(t, "segment-no-execute", Fetch, EA, problem, NO_EXECUTE);
        expect(t, "segment-no-execute-load", Load, EA, problem, 0);
        SEGMENT.install(FREE_SLOT);
        expect(t, "execute", Fetch, EA, problem, 0);
        status(Hcall::REMOVE, &[0, index, 0]);
        if !t.differs_on_qemu("guarded", "it refuses RAM that is not WIMG=0010") {
            let index = SEGMENT.enter(EA, RA, K4, READ_WRITE | HpteR::G).expect("an entry");
            expect(t, "guarded", Fetch, EA, problem, NO_EXECUTE);
            expect(t, "guarded-load", Load, EA, problem, 0);
            status(Hcall::REMOVE, &[0, index, 0]);
        }
    }
}

fn keys(t: &mut Report) {
    let key = 5;
    let r = READ_WRITE | (key >> 3 << 60) | (key & 7) << 9;
    let index = SEGMENT.enter(EA, RA, K4, r).expect("an entry");
    for problem in [false, true] {
        for (amr, how, want) in [
            (0, Load, 0),
            (0, Store, 0),
            (1, Load, KEY),
            (1, Store, 0),
            (2, Load, 0),
            (2, Store, KEY),
            (3, Load, KEY),
            (3, Store, KEY),
            (3, Fetch, 0),
        ] {
            guests::cpu::mtspr::<{ spr::AMR }>(amr << (62 - 2 * key));
            flush(index);
            write32(RA, BLR);
            let failed = t.failed();
            expect(t, "amr", how, EA, problem, want);
            if t.failed() > failed {
                t.note(format_args!("AMR {amr} problem {problem} {how:?}"));
            }
            // Another page's key does not care.
            expect(
                t,
                "amr-other-key",
                how,
                space::DATA_EA + 8,
                problem,
                if how == Fetch { continue } else { 0 },
            );
        }
        guests::cpu::mtspr::<{ spr::AMR }>(0);
        flush(index);
        write32(RA, BLR);
        guests::cpu::mtspr::<{ spr::IAMR }>(1 << (62 - 2 * key));
        flush(index);
        let c = access(Fetch, EA, problem);
        t.note(format_args!("IAMR problem {problem}: {:#x} SRR1 {:#x}", c.arrival, c.msr));
        t.same("iamr", c.vector().0, Vector::INST_STORAGE.0);
        t.same("iamr-srr1", c.srr1_status() & KEY, KEY);
        expect(t, "iamr-load", Load, EA, problem, 0);
        guests::cpu::mtspr::<{ spr::IAMR }>(0);
        flush(index);
        expect(t, "iamr-off", Fetch, EA, problem, 0);
    }
    status(Hcall::REMOVE, &[0, index, 0]);
}

/// A change of AMR or IAMR does not reach QEMU's cached translations; protecting an entry otherwise, and then as it was, does.
fn flush(index: u64) {
    let r = hcall(Hcall::READ, &[0, index]).r5();
    let bits = (r & 0xe07) | r >> 55 & 0x100 | r >> 48 & 0x3000;
    for bits in [bits ^ 1, bits] {
        status(Hcall::PROTECT, &[bits, index, 0]);
    }
    space::install_standard();
    SEGMENT.install(FREE_SLOT);
}

fn rc(index: u64) -> u64 {
    hcall(Hcall::READ, &[0, index]).r5() & (HpteR::R | HpteR::C)
}

fn referenced(t: &mut Report) {
    const R: u64 = HpteR::R;
    const C: u64 = HpteR::C;
    for ra in [RA, 0x700_0000] {
        // The second address has not been touched yet.
        for (how, want) in [(Load, R), (Store, R | C), (Fetch, R)] {
            if ra != RA && how == Fetch {
                write32(ra, BLR);
            }
            let index = SEGMENT.enter(EA, ra, K4, READ_WRITE).expect("an entry");
            t.same("rc-before", rc(index), 0);
            expect(t, "rc-access", how, EA, false, 0);
            if rc(index) != want {
                t.note(format_args!("{how:?} at {ra:#x}"));
            }
            t.same("rc", rc(index), want);
            let a = hcall(Hcall::REMOVE, &[0, index, 0]);
            t.same("rc-remove", a.r5() & (R | C), want);
            write32(RA, BLR);
        }
    }
    // A refused store sets no C.
    let index = SEGMENT.enter(EA, RA, K4, READ_ONLY).expect("an entry");
    expect(t, "rc-refused", Store, EA, false, PROTECTION);
    t.same("rc-refused-c", rc(index) & C, 0);
    status(Hcall::REMOVE, &[0, index, 0]);
    // Read first, then written: C comes with the store.
    let index = SEGMENT.enter(EA, 0x710_0000, K4, READ_WRITE).expect("an entry");
    expect(t, "rc-read", Load, EA, true, 0);
    t.same("rc-read-only-r", rc(index), R);
    expect(t, "rc-written", Store, EA, true, 0);
    t.same("rc-written-both", rc(index), R | C);
    t.equal("rc-protect", status(Hcall::PROTECT, &[3, index, 0]), Status::SUCCESS);
    t.same("rc-protect-keeps", rc(index), R | C);
    if !t.differs_on_qemu("rc-clear", "it has neither H_CLEAR_MOD nor H_CLEAR_REF") {
        status(Hcall::PROTECT, &[2, index, 0]);
        let a = hcall(Hcall::CLEAR_MOD, &[0, index]);
        t.same("rc-clear-mod", a.r4() & C, C);
        t.same("rc-clear-mod-now", rc(index), R);
        expect(t, "rc-store-again", Store, EA, true, 0);
        t.same("rc-store-again-c", rc(index), R | C);
        hcall(Hcall::CLEAR_REF, &[0, index]);
        hcall(Hcall::CLEAR_MOD, &[0, index]);
        t.same("rc-cleared", rc(index), 0);
        expect(t, "rc-load-again", Load, EA, true, 0);
        t.same("rc-load-again-r", rc(index), R);
    }
    status(Hcall::REMOVE, &[0, index, 0]);
}

/// A call takes effect at once, whatever the processor has cached.
fn changes(t: &mut Report) {
    write64(RA + 8, 0x1234_5678);
    let index = SEGMENT.enter(EA, RA, K4, READ_WRITE).expect("an entry");
    let c = access(Load, EA + 8, true);
    t.same("change-value", c.gpr[5], 0x1234_5678);
    expect(t, "change-store", Store, EA + 16, true, 0);
    t.same("change-stored", read64(RA + 16), 0x600d_600d);
    status(Hcall::PROTECT, &[3, index, 0]);
    expect(t, "change-read-only", Store, EA + 16, true, PROTECTION);
    expect(t, "change-read-only-load", Load, EA + 16, true, 0);
    status(Hcall::PROTECT, &[2 | HpteR::N, index, 0]);
    expect(t, "change-no-execute", Fetch, EA, true, NO_EXECUTE);
    status(Hcall::PROTECT, &[2, index, 0]);
    expect(t, "change-back", Store, EA + 16, true, 0);
    status(Hcall::REMOVE, &[flags_avpn(), index, SEGMENT.v(EA, K4) & !0x7f]);
    for how in ALL {
        expect(t, "change-removed", how, EA + 8, true, NOHPTE);
    }
    // The same page again, elsewhere in memory.
    write64(RA + 0x1008, 0x8765_4321);
    let index = SEGMENT.enter(EA, RA + 0x1000, K4, READ_WRITE).expect("an entry");
    t.same("change-moved", access(Load, EA + 8, true).gpr[5], 0x8765_4321);
    let group = index & !7;
    let a = hcall(Hcall::BULK_REMOVE, &[1 << 62 | index, 0, 3 << 62, 0, 3 << 62, 0, 3 << 62, 0]);
    t.equal("change-bulk", a.status, Status::SUCCESS);
    expect(t, "change-bulk-removed", Load, EA + 8, true, NOHPTE);
    // An entry in the secondary group is found too.
    let v = SEGMENT.v(EA, K4) | power::HpteV::H;
    let a = hcall(Hcall::ENTER, &[0, SEGMENT.secondary_group(EA), v, RA | READ_WRITE]);
    t.equal("secondary", a.status, Status::SUCCESS);
    t.is_true("secondary-group", a.r4() & !7 != group);
    t.same("secondary-value", access(Load, EA + 8, true).gpr[5], 0x1234_5678);
    status(Hcall::REMOVE, &[0, a.r4(), 0]);
    // Supervisor-only memory beside it.
    let index = SEGMENT.enter(EA, RA, K4, PP_KEY_READS).expect("an entry");
    Segment { flags: VSID_KP, ..SEGMENT }.install(FREE_SLOT);
    expect(t, "key-reads", Load, EA, true, 0);
    expect(t, "key-reads-store", Store, EA, true, PROTECTION);
    expect(t, "key-reads-supervisor", Store, EA + 16, false, 0);
    SEGMENT.install(FREE_SLOT);
    status(Hcall::REMOVE, &[0, index, 0]);
}

fn flags_avpn() -> u64 {
    power::hcall::flags::AVPN
}

/// Accesses that cross from one page to another.
fn spread(t: &mut Report) {
    let one = SEGMENT.enter(EA, RA, K4, READ_WRITE).expect("an entry");
    let two = SEGMENT.enter(EA + 0x1000, RA + 0x5000, K4, READ_WRITE).expect("an entry");
    let store = run_virtual(&[insn::stw(4, 0, 3)], true, EA + 0xffe, 0xaabb_ccdd);
    t.is_true("crossing", store.finished());
    let load = run_virtual(&[insn::lwz(5, 0, 3)], true, EA + 0xffe, 0);
    t.same("crossing-value", load.gpr[5], 0xaabb_ccdd);
    status(Hcall::REMOVE, &[0, two, 0]);
    let c = run_virtual(&[insn::lwz(5, 0, 3)], true, EA + 0xffe, 0);
    t.is_true("crossing-missing", matches!(c.vector(), Vector::DATA_STORAGE | Vector::ALIGNMENT));
    if c.vector() == Vector::DATA_STORAGE {
        t.is_true("crossing-dar", c.dar == EA + 0xffe || c.dar == EA + 0x1000);
    }
    status(Hcall::REMOVE, &[0, one, 0]);
}
