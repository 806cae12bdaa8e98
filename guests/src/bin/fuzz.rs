//! A hostile guest: random calls with random arguments, and random RTAS buffers. What they answer does not matter; that
//! the partition is still there, and that its neighbours and the hypervisor are, does.
#![no_std]
#![no_main]

use guests::insn::{self, NOP};
use guests::mem::{write32, write64};
use guests::{
    Context, Hcall, MSR_REAL, Report, Status, hcall, place, platform, println, rtas, run as run_context,
    status,
};
use power::spr;

guests::main!(run);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number as an attacker would choose it.
    fn value(&mut self) -> u64 {
        let memory = platform::memory();
        match self.below(12) {
            0 => 0,
            1 => u64::MAX - self.below(16),
            2 => 1 << self.below(64),
            3 => (1 << self.below(64)) - 1,
            4 => platform::hpt_entries().wrapping_add(self.below(16)).wrapping_sub(8),
            5 => memory.wrapping_add(self.below(64)).wrapping_sub(32),
            6 => ARENA + self.below(0x100) * 0x1000,
            7 => ARENA + self.below(0x10_0000),
            8 => self.below(32),
            9 => self.next() & 0xffff_ffff,
            10 => self.next() & 0xe000_0000_0000 | self.below(4),
            _ => self.next(),
        }
    }
}

const ARENA: u64 = 0x300_0000;
const ITERATIONS: u64 = 4000;

/// Calls that end the partition, wait for somebody who will not come, or take the program's own memory.
fn harmful(number: u64, argument: u64, last: u64) -> bool {
    match Hcall(number) {
        // Nobody would wake it; stopping is RTAS's, below.
        Hcall::CEDE | Hcall::JOIN => true,
        Hcall::CONFER => true,
        // It could write anywhere in the partition, this program included.
        Hcall::LOGICAL_CI_STORE => last < guests::mem::ARENA,
        Hcall::PAGE_INIT => argument < guests::mem::ARENA,
        Hcall::RTAS | Hcall::PUT_TERM_CHAR => true,
        _ => number == 0x44 || number == 0x48,
    }
}

fn run(t: &mut Report) {
    let seed = platform::bootargs()
        .split(' ')
        .find_map(|w| w.strip_prefix("seed=")?.parse().ok())
        .unwrap_or(20_210_607);
    println!("@ note seed {seed}");
    let mut random = Random(seed);
    if t.differs_on_qemu("fuzz", "some of its calls abort the emulator on such arguments") {
        t.is_true("started", true);
        return;
    }
    calls(&mut random);
    t.is_true("calls", alive());
    table(&mut random);
    t.is_true("table", alive());
    buffers(&mut random);
    t.is_true("buffers", alive());
    instructions(&mut random);
    t.is_true("instructions", alive());
    // The page table still works.
    let s = guests::space::Segment {
        ea: 0,
        vsid: 0x3f,
        size: power::slb::SegmentSize::M256,
        base: power::PageSize::K4,
        flags: 0,
    };
    for index in 0..platform::hpt_entries().min(1 << 13) {
        status(Hcall::REMOVE, &[0, index, 0]);
    }
    let index = s.enter(0, ARENA, power::PageSize::K4, guests::space::READ_WRITE);
    t.is_true("enter", index.is_ok());
}

fn alive() -> bool {
    status(Hcall(0x7c), &[]) == Status::FUNCTION
}

fn calls(random: &mut Random) {
    for _ in 0..ITERATIONS {
        let number = match random.below(4) {
            0 => random.value(),
            _ => random.below(0x130) * 4,
        };
        let mut r = [0u64; 9];
        for value in &mut r {
            *value = random.value();
        }
        if Hcall(number) == Hcall::REGISTER_VPA {
            // Areas in the arena only, or nowhere: the hypervisor writes there.
            r[2] = ARENA + random.below(0x100) * 128;
            write32(r[2] + 4, (random.next() as u32 & 0xfff).to_be());
        }
        if harmful(number, r[1], r[1]) || (Hcall(number) == Hcall::SET_MODE && matches!(r[1], 3 | 4)) {
            continue;
        }
        hcall(Hcall(number), &r);
    }
    for area in [5, 6, 7] {
        status(Hcall::REGISTER_VPA, &[area << 45, 0, 0]);
    }
    for area in [5, 6, 7] {
        status(Hcall::REGISTER_VPA, &[area << 45, 0, 0]);
    }
    status(Hcall::CPPR, &[0]);
}

/// The page table calls with arguments that are nearly right.
fn table(random: &mut Random) {
    for _ in 0..ITERATIONS {
        let index = random.below(1 << 13);
        let flags = match random.below(3) {
            0 => 0,
            1 => 1 << random.below(64),
            _ => random.next(),
        } & !(power::hcall::flags::ZERO_PAGE | power::hcall::flags::COPY_PAGE);
        let v = match random.below(3) {
            0 => random.next(),
            _ => random.below(1 << 20) << 7 | random.below(8) | 1 << 62 & random.next(),
        };
        let page = ARENA + random.below(0x40) * 0x1000;
        let r = page | random.next() & 0x1ff | random.next() & 0x8000_0000_0000_0000;
        match random.below(7) {
            0..=2 => hcall(Hcall::ENTER, &[flags, index, v, r]),
            3 => hcall(Hcall::REMOVE, &[flags, index, v]),
            4 => hcall(Hcall::PROTECT, &[flags, index, v]),
            5 => hcall(
                Hcall::BULK_REMOVE,
                &[1 << 62 | index, v, random.next(), v, random.next(), 0, 3 << 62, 0],
            ),
            _ => hcall(Hcall::READ, &[flags, index]),
        };
    }
}

fn buffers(random: &mut Random) {
    let last_words = ["power-off", "system-reboot", "ibm,os-term", "stop-self", "start-cpu"].map(rtas::token);
    for _ in 0..ITERATIONS / 2 {
        let at = ARENA + random.below(0x1000) * 4;
        let token = match random.below(3) {
            0 => random.next() as u32,
            1 => random.below(0x100) as u32,
            _ => rtas::token(
                ["ibm,set-xive", "ibm,int-on", "get-time-of-day", "query-cpu-stopped-state"]
                    [random.below(4) as usize],
            )
            .unwrap_or(0),
        };
        if last_words.contains(&Some(token)) {
            continue;
        }
        write32(at, token.to_be());
        for i in 1..20 {
            let word = if random.below(2) == 0 { random.below(20) } else { random.next() };
            write32(at + 4 * i, (word as u32).to_be());
        }
        status(Hcall::RTAS, &[at]);
    }
    for _ in 0..200 {
        let value = random.value();
        // Whatever is there; not the program itself, where a token could stand by chance.
        if value >= guests::mem::ARENA && !(ARENA..ARENA + 0x20_0000).contains(&value) {
            status(Hcall::RTAS, &[value]);
        }
    }
}

/// Random words as instructions, in real mode and with random registers, each one followed by a known end. A store may
/// go anywhere: r1 to r31 point into the arena or out of memory.
fn instructions(random: &mut Random) {
    let mut seen = [0u32; 32];
    for _ in 0..ITERATIONS {
        let word = match random.below(3) {
            0 => random.next() as u32,
            1 => 31 << 26 | random.next() as u32 & 0x03ff_ffff,
            _ => 19 << 26 | random.next() as u32 & 0x03ff_ffff,
        };
        if dangerous(word) {
            continue;
        }
        guests::cpu::mtspr::<{ spr::DEC }>(100_000);
        let mut c =
            Context { nip: place(&[NOP, word, NOP, insn::TRAP]), msr: MSR_REAL | 1 << 15, ..Context::ZERO };
        for r in &mut c.gpr {
            *r =
                if random.below(4) == 0 { random.next() | 1 << 50 } else { ARENA + random.below(0x1000) * 8 };
        }
        c.ctr = guests::CODE + 8;
        c.lr = guests::CODE + 8;
        run_context(&mut c);
        seen[(c.arrival >> 7) as usize % 32] += 1;
    }
    println!("@ note interrupts by vector: {seen:?}");
    write64(ARENA, 0);
}

/// What would spoil the experiment rather than the hypervisor: branches to anywhere and stores to absolute addresses
/// below the arena, calls (above), and this processor's own SPRG0.
fn dangerous(word: u32) -> bool {
    let (op, ra, xo) = (word >> 26, word >> 16 & 31, word >> 1 & 0x3ff);
    let spr_number = ra | (word >> 11 & 31) << 5;
    match op {
        16 | 18 => true,
        17 => true,
        // Displacements with ra = 0 are absolute; indexed likewise.
        36..=39 | 44 | 45 | 47 | 52..=55 | 61 | 62 => ra == 0,
        31 if xo == 467 => matches!(spr_number, spr::SPRG0 | spr::DEC | spr::HID0),
        31 if matches!(xo, 146 | 178) => true, // mtmsr(d): could put it anywhere
        31 => {
            // Stores of all kinds, with ra = 0: rb alone is an address in the arena, fine. String stores are not.
            matches!(xo, 661 | 725)
        }
        19 => matches!(xo, 18 | 274 | 82 | 50 | 51 | 370 | 434 | 498 | 402),
        _ => false,
    }
}
