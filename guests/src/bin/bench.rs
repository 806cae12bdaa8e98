//! What operations cost, in instructions: under `-icount shift=0` an instruction is a nanosecond, and the timebase
//! ticks every 1.953125 of them. Loop included.
#![no_std]
#![no_main]

use guests::insn::{self, mfspr};
use guests::space::{self, DEVICE, FREE_SLOT, READ_WRITE, Segment};
use guests::{Context, Hcall, MSR_REAL, Report, place, platform, println, run as run_context, status};
use power::hcall::flags;
use power::slb::SegmentSize;
use power::{PageSize, spr};

guests::main!(run);

/// Ticks to instructions, times `n`.
fn instructions(ticks: u64, n: u64) -> u64 {
    (ticks * 1_953_125 / 1_000_000 + n / 2) / n
}

const ROUNDS: u64 = 1000;

/// A loop around one `sc 1`: r14 to r17 hold r3 to r6 of each call; r18 and r19 are added to r15 and r17 after it.
fn calls(number: Hcall, arguments: [u64; 3], steps: [u64; 2]) -> u64 {
    let mr = |to, from| insn::x(31, from, to, from, 444);
    let add = |to: u32, by: u32| 31u32 << 26 | to << 21 | to << 16 | by << 11 | 266 << 1;
    let code = [
        mfspr(20, spr::TB),
        mr(3, 14),
        mr(4, 15),
        mr(5, 16),
        mr(6, 17),
        insn::li(7, 0),
        insn::sc(1),
        31 << 26 | 3 << 21 | 22 << 16 | 22 << 11 | 444 << 1, // or r22, r3, r22: any failure stays
        add(16, 18),
        add(17, 19),
        insn::addi(21, 21, -1),
        0x2c35_0000, // cmpdi r21, 0
        0x4082_ffd4, // bne to mr r3
        mfspr(23, spr::TB),
    ];
    let mut c = Context { nip: place(&code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[14] = number.0;
    c.gpr[15] = arguments[0];
    c.gpr[16] = arguments[1];
    c.gpr[17] = arguments[2];
    c.gpr[18] = steps[0];
    c.gpr[19] = steps[1];
    c.gpr[21] = ROUNDS;
    run_context(&mut c);
    if !c.finished() {
        println!("@ note loop ended by {:#x} at {:#x}", c.arrival, c.nip);
    }
    let expected_failure = number == Hcall(0x7c);
    if c.gpr[22] != 0 && !expected_failure {
        println!("@ note {:?} failed: {:#x}", number.name(), c.gpr[22]);
    }
    instructions(c.gpr[23] - c.gpr[20], ROUNDS)
}

/// The page table calls: an entry in each of a thousand groups, for as many pages.
fn table(t: &mut Report) {
    let mr = |to, from| insn::x(31, from, to, from, 444);
    let add = |to: u32, by: u32| 31u32 << 26 | to << 21 | to << 16 | by << 11 | 266 << 1;
    // r3 = r14, r4 = r15 (flags), r5 = r16 (index, += r18), r6 = r17 (dword 0), r7 = r24 (dword 1, += r19)
    let code = [
        mfspr(20, spr::TB),
        mr(3, 14),
        mr(4, 15),
        mr(5, 16),
        mr(6, 17),
        mr(7, 24),
        insn::sc(1),
        31 << 26 | 3 << 21 | 22 << 16 | 22 << 11 | 444 << 1,
        add(16, 18),
        add(24, 19),
        insn::addi(21, 21, -1),
        0x2c35_0000,
        0x4082_ffd4,
        mfspr(23, spr::TB),
    ];
    let segment = Segment { ea: 0, vsid: 0x4000, size: SegmentSize::M256, base: PageSize::K4, flags: 0 };
    let first = segment.group(0);
    let ra = 0x200_0000;
    for page in (0..ROUNDS * 0x1000).step_by(0x1_0000) {
        guests::mem::write64(ra + page, 1); // backed
    }
    // The first entry that a group ever has costs more than those after it.
    for (name, number, flag) in [
        ("h_enter_first", Hcall::ENTER, flags::EXACT),
        ("h_remove_first", Hcall::REMOVE, 0),
        ("h_enter", Hcall::ENTER, flags::EXACT),
        ("h_read", Hcall::READ, 0),
        ("h_protect", Hcall::PROTECT, 1),
        ("h_remove", Hcall::REMOVE, 0),
    ] {
        let mut c = Context { nip: place(&code), msr: MSR_REAL, ..Context::ZERO };
        c.gpr[14] = number.0;
        c.gpr[15] = flag;
        c.gpr[16] = first;
        c.gpr[17] = segment.v(0, PageSize::K4);
        c.gpr[18] = 8;
        c.gpr[19] = 0x1000;
        c.gpr[21] = ROUNDS;
        c.gpr[24] = ra | READ_WRITE;
        run_context(&mut c);
        if c.gpr[22] != 0 || !c.finished() {
            println!("@ note {name} failed: {:#x} {:#x}", c.gpr[22], c.arrival);
        }
        t.is_true(name, c.gpr[22] == 0 && c.finished());
        println!("@ bench {name} {}", instructions(c.gpr[23] - c.gpr[20], ROUNDS));
    }
}

/// A loop around one instruction, with data translation on; r3 grows by r5 each round.
fn accesses(word: u32, ea: u64, step: u64, rounds: u64) -> u64 {
    let code = [
        mfspr(20, spr::TB),
        word,
        31 << 26 | 3 << 21 | 3 << 16 | 5 << 11 | 266 << 1, // add r3, r3, r5
        insn::addi(21, 21, -1),
        0x2c35_0000, // cmpdi r21, 0
        0x4082_fff0, // bne to the instruction
        mfspr(23, spr::TB),
    ];
    place(&code);
    let mut c = Context { nip: space::CODE_EA, msr: guests::MSR_VIRTUAL, ..Context::ZERO };
    c.gpr[3] = ea;
    c.gpr[5] = step;
    c.gpr[21] = rounds;
    run_context(&mut c);
    if !c.finished() {
        println!("@ note access loop ended by {:#x} at {:#x}", c.arrival, c.nip);
    }
    instructions(c.gpr[23] - c.gpr[20], rounds)
}

fn run(t: &mut Report) {
    println!("@ bench unknown {}", calls(Hcall(0x7c), [0; 3], [0; 2]));
    table(t);
    println!("@ bench h_cppr {}", calls(Hcall::CPPR, [0; 3], [0; 2]));
    println!("@ bench h_xirr {}", calls(Hcall::XIRR, [0; 3], [0; 2]));
    println!("@ bench h_logical_ci_load {}", calls(Hcall::LOGICAL_CI_LOAD, [8, 0x200_0000, 0], [0; 2]));
    println!("@ bench h_put_term_char {}", calls(Hcall::PUT_TERM_CHAR, [0, 0, 0], [0; 2]));
    println!("@ bench h_random {}", calls(Hcall::RANDOM, [0; 3], [0; 2]));

    space::standard();
    let segment =
        Segment { ea: 0x2000_0000, vsid: 0x2b3, size: SegmentSize::M256, base: PageSize::K64, flags: 0 };
    segment.install(FREE_SLOT);
    let pages = 500.min(platform::memory() / 0x1_0000 / 4);
    let fresh = platform::memory() / 2;
    for n in 0..pages {
        segment
            .enter(segment.ea + n * 0x1_0000, fresh + n * 0x1_0000, PageSize::K64, READ_WRITE)
            .expect("an entry");
    }
    println!("@ bench first_touch {}", accesses(insn::std(5, 0, 3), segment.ea, 0x1_0000, pages));
    println!("@ bench touch_again {}", accesses(insn::std(5, 0, 3), segment.ea, 0x1_0000, pages));
    if platform::is_qemu() {
        t.note(format_args!("mmio not measured: there is nothing but machine checks under QEMU"));
    } else {
        let hole = segment.ea + 0x800_0000;
        segment.enter(hole, 1 << 40, PageSize::K64, DEVICE).expect("a hole");
        println!("@ bench mmio_load {}", accesses(insn::ld(4, 0, 3), hole, 0, ROUNDS));
        println!("@ bench mmio_store {}", accesses(insn::std(4, 0, 3), hole, 0, ROUNDS));
    }
    status(Hcall::CPPR, &[0]);
}
