//! Every load, store and cache operation that there is does the same on memory that somebody watches, where the hypervisor carries it out, as on
//! memory where the processor does: to all registers, to memory around it, and in what interrupt it gives, if it gives one.
//!
//! The range [`WATCHED`] is to be watched, with no access. The program says `@ watch me` and waits for a byte on its console.
#![no_std]
#![no_main]

use emulate::{Operation, Row, decode, decode_prefixed, is_prefix, rows};
use guests::cpu::{TB_HZ, delay, generation, mtspr};
use guests::insn;
use guests::mem::{read64, write64};
use guests::space::{self, CODE_EA, FREE_SLOT, READ_WRITE, Segment};
use guests::{
    Context, Hcall, MSR_PROBLEM, MSR_REAL, MSR_VIRTUAL, Report, Status, hcall, place, place_at, println,
    run as run_context,
};
use power::PageSize::K4;
use power::regs::Msr;
use power::slb::SegmentSize;
use power::spr;

guests::main!(run);

/// Where instructions are carried out by hand, and where by the processor. Both are [`EA`], in turn.
const WATCHED: u64 = 0x480_0000;
const PLAIN: u64 = 0x484_0000;
/// How much of each is used, in pages of 4 KiB.
const USED: u64 = 0x4000;
/// Where they show.
const EA: u64 = 0x2000_0000;

const SEGMENTS: [Segment; 2] = [segment(0x2d1), segment(0x2d2)];

const fn segment(vsid: u64) -> Segment {
    Segment { ea: EA, vsid, size: SegmentSize::M256, base: K4, flags: 0 }
}

/// Code that loads all vector-scalar registers, and code that stores them; their values before and afterwards.
const LOAD_ALL: u64 = 0x500_0000;
const STORE_ALL: u64 = 0x500_1000;
const BEFORE: u64 = 0x500_2000;
const AFTER: [u64; 2] = [0x500_3000, 0x500_4000];
/// A page to look at.
const SCRATCH: u64 = 0x501_0000;

/// All units on.
const UNITS: u64 = Msr::FP.bits() | Msr::VEC.bits() | Msr::VSX.bits();

/// How many of each instruction.
const SAMPLES: u32 = 40;

/// Numbers that look random, the same ones each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let mut step = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 32
        };
        step() << 32 | step()
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// An instruction, and what it finds.
struct Sample {
    code: [u32; 2],
    at: u64,
    context: Context,
}

fn instruction(code: [u32; 2]) -> Option<emulate::Instruction> {
    if is_prefix(code[0]) { decode_prefixed(code[0], code[1]) } else { decode(code[0]) }
}

/// One of a row, whose operand is at a random place of the range, with random registers; `None` if that was not to be had this time.
fn sample(row: &'static Row, random: &mut Random) -> Option<Sample> {
    let ((prefix, word), (fixed_prefix, fixed)) = (row.opcode(), row.mask());
    // Fields that processors before POWER9 want to be zero, or that say what is only a hint.
    let hint = if row.operation() == Operation::Cache { 31 << 21 } else { 0 };
    let word = word | random.next() as u32 & !fixed & !hint;
    let narrow = random.below(4) == 0;
    // Across the end of a page, aligned, or anywhere.
    let at = EA
        + match random.below(4) {
            0 => 0x2000 - random.below(130),
            1 => 0x1000 + random.below(0xf00) / 16 * 16,
            _ => 0x1000 + random.below(0xf00),
        };
    let relative = prefix != 0 && word >> 16 & 31 == 0;
    let code = if relative {
        let far = at.wrapping_sub(CODE_EA);
        [prefix | 1 << 20 | (far >> 16) as u32 & 0x3_ffff, word & 0xffff_0000 | far as u32 & 0xffff]
    } else if prefix != 0 {
        [prefix | random.next() as u32 & !fixed_prefix & 0x3_ffff, word]
    } else {
        [word, insn::NOP]
    };
    let decoded = instruction(code)?;
    let mut context = Context { nip: CODE_EA, xer: random.next() & 0xe000_007f, ..Context::ZERO };
    context.cr = random.next() & 0xffff_ffff;
    (context.lr, context.ctr) = (random.next(), random.next());
    context.msr = if random.below(2) == 0 { MSR_PROBLEM } else { MSR_VIRTUAL };
    context.msr |= UNITS;
    if narrow {
        context.msr &= !Msr::SF.bits();
    }
    context.gpr.iter_mut().for_each(|gpr| *gpr = random.next());
    let base = decoded.base().map(usize::from);
    match (decoded.offset(), base) {
        (emulate::Offset::Displacement(d), Some(base)) => {
            // Some have a length in another register.
            let length = (word >> 11 & 31) as usize;
            context.gpr[length] = random.below(20) << 56 | random.next() >> 8;
            context.gpr[base] = at.wrapping_sub(d as u64);
        }
        (emulate::Offset::Displacement(_), None) if decoded.is_relative() => {}
        (emulate::Offset::Displacement(_), None) => return None,
        (emulate::Offset::Gpr(index), None) => context.gpr[usize::from(index)] = at,
        (emulate::Offset::Gpr(index), Some(base)) if usize::from(index) == base => {
            if at & 1 != 0 {
                return None;
            }
            context.gpr[base] = at / 2;
        }
        (emulate::Offset::Gpr(index), Some(base)) => {
            context.gpr[base] = at.wrapping_sub(context.gpr[usize::from(index)]);
        }
    }
    if narrow && let Some(base) = base {
        context.gpr[base] ^= random.next() << 32;
    }
    Some(Sample { code, at, context })
}

/// Carries out a sample in one of the two places.
fn carry_out(sample: &Sample, n: usize) -> Context {
    run_real(LOAD_ALL, BEFORE);
    place(&sample.code);
    guests::cpu::slbie(EA);
    SEGMENTS[n].install(FREE_SLOT);
    mtspr::<{ spr::DEC }>(0x7fff_ffff);
    let mut context = sample.context;
    run_context(&mut context);
    run_real(STORE_ALL, AFTER[n]);
    context
}

/// Runs code of ours in real mode.
fn run_real(nip: u64, r5: u64) {
    let mut c = Context { nip, msr: MSR_REAL | UNITS, ..Context::ZERO };
    c.gpr[5] = r5;
    run_context(&mut c);
    assert!(c.finished());
}

/// Of a vector-scalar register that is loaded, what is not undefined: its number, and the bits of its doublewords.
fn defined(row: &Row, sample: &Sample) -> (u64, [u64; 2]) {
    let register = instruction(sample.code).map_or(0, |instruction| instruction.register());
    let element = match row.name {
        "lvebx" => 1,
        "lvehx" => 2,
        "lvewx" => 4,
        // Zero by ISA 3.1, undefined before; QEMU leaves it.
        "lxsiwzx" | "lxsiwax" | "lxsspx" | "lxsdx" | "lxsibzx" | "lxsihzx" => {
            return (register.into(), [u64::MAX, 0]);
        }
        _ => return (register.into(), [u64::MAX; 2]),
    };
    let offset = sample.at & 15 & !(element - 1);
    let left = if cfg!(target_endian = "little") { 16 - element - offset } else { offset };
    let mask = (u128::MAX << (128 - 8 * element)) >> (8 * left);
    (register.into(), [(mask >> 64) as u64, mask as u64])
}

/// The first of the registers that is different after the two, if any is: which, and what it has after each.
fn difference(
    want: &Context,
    got: &Context,
    defined: (u64, [u64; 2]),
) -> Option<(&'static str, u64, [u64; 2])> {
    let gprs = (0..).zip(want.gpr.iter().zip(&got.gpr)).map(|(n, (want, got))| ("gpr", n, [*want, *got]));
    let others = [
        ("nip", [want.nip, got.nip]),
        ("msr", [want.msr, got.msr]),
        ("cr", [want.cr, got.cr]),
        ("lr", [want.lr, got.lr]),
        ("ctr", [want.ctr, got.ctr]),
        ("xer", [want.xer, got.xer]),
        ("arrival", [want.arrival, got.arrival]),
        ("dar", [want.dar, got.dar]),
        ("dsisr", [want.dsisr, got.dsisr]),
    ];
    let others = others.into_iter().map(|(name, values)| (name, 0, values));
    let mask = |n: u64| if n / 2 == defined.0 { defined.1[n as usize & 1] } else { u64::MAX };
    let vsrs = (0..128).map(|n| ("vsr", n, AFTER.map(|at| read64(at + 8 * n) & mask(n))));
    gprs.chain(others).chain(vsrs).find(|(_, _, [want, got])| want != got)
}

/// Copies a page, which the hypervisor does: that is nothing for a watch to carry out.
fn copy(from: u64, to: u64) {
    let answer = hcall(Hcall::PAGE_INIT, &[0x4000, to, from]);
    assert!(answer.status == Status::SUCCESS);
}

/// Is all memory of the two places the same? If not it is made so.
fn is_same_memory() -> bool {
    let mut same = true;
    for page in (0..USED).step_by(0x1000) {
        copy(WATCHED + page, SCRATCH);
        let differs = |at: &u64| read64(PLAIN + page + at) != read64(SCRATCH + at);
        if let Some(at) = (0..0x1000).step_by(8).find(differs) {
            let [want, got] = [PLAIN + page, SCRATCH].map(|start| read64(start + at));
            println!("@ note memory at {:#x}: {got:#x}, not {want:#x}", page + at);
            copy(PLAIN + page, WATCHED + page);
            same = false;
        }
    }
    same
}

/// All samples of a row. How many were carried out to their end, and whether all came to the same.
fn compare(row: &'static Row, random: &mut Random) -> (u32, bool) {
    let (mut finished, mut same) = (0, true);
    let mut left = SAMPLES;
    for _ in 0..20 * SAMPLES {
        if left == 0 {
            break;
        }
        let Some(sample) = sample(row, random) else { continue };
        left -= 1;
        let want = carry_out(&sample, 0);
        let got = carry_out(&sample, 1);
        finished += u32::from(want.finished());
        if let Some((name, n, [want, got])) = difference(&want, &got, defined(row, &sample)) {
            if same {
                let [a, b] = sample.code;
                println!(
                    "@ note {} {a:#010x} {b:#010x} at {:#x}: {name}{n} is {got:#x}, not {want:#x}",
                    row.name, sample.at
                );
            }
            same = false;
        }
    }
    if matches!(row.operation(), Operation::Store | Operation::Zero) {
        same &= is_same_memory();
    }
    (finished, same && left == 0)
}

fn set_up(random: &mut Random) {
    space::standard();
    for (segment, real) in SEGMENTS.iter().zip([PLAIN, WATCHED]) {
        for page in (0..USED).step_by(0x1000) {
            segment.enter(EA + page, real + page, K4, READ_WRITE).expect("an entry");
        }
    }
    for at in (0..USED).step_by(8) {
        let value = random.next();
        write64(PLAIN + at, value);
        write64(WATCHED + at, value);
    }
    for at in (0..0x400).step_by(8) {
        write64(BEFORE + at, random.next());
    }
    for (code, form) in [(LOAD_ALL, insn::lxvd2x(0, 0, 5)), (STORE_ALL, insn::stxvd2x(0, 0, 5))] {
        let words: [u32; 128] = core::array::from_fn(|n| {
            let register = n as u32 / 2;
            let each = [form | (register & 31) << 21 | register >> 5, insn::addi(5, 5, 16)];
            each[n & 1]
        });
        place_at(code, &words);
    }
}

fn run(t: &mut Report) {
    let mut random = Random(1);
    set_up(&mut random);
    println!("@ watch me");
    while hcall(Hcall::GET_TERM_CHAR, &[0]).r4() == 0 {
        delay(TB_HZ / 1000);
    }
    let there = |row: &&Row| row.exists(generation());
    let processor = |row: &&Row| {
        // Reservations and what is atomic are let through.
        !matches!(row.operation(), Operation::Reserve | Operation::Conditional | Operation::Atomic)
    };
    for row in rows().filter(there).filter(processor) {
        let (finished, same) = compare(row, &mut random);
        t.is_true(row.name, same);
        // Little-endian guests have no multiple and string forms, and QEMU has no icbt.
        let words = matches!(row.name, "lmw" | "stmw" | "lswi" | "lswx" | "stswi" | "stswx");
        let never = words && cfg!(target_endian = "little") || row.name == "icbt";
        t.equal(row.name, finished == 0, never);
    }
}
