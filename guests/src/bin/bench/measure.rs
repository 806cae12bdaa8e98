//! A loop, how long a round of it takes, and whether all of it went as it should.
//!
//! The timebase ticks once in 1.953125 instructions where these are counted, so a batch has rounds enough for a tick more or less
//! not to matter. What the hypervisor does on its own account meanwhile is no part of an operation: it looks at its console every ten
//! milliseconds, and writes out what the program has printed, which takes a thousand instructions and more for each character. So
//! batches are short, and of several the cheapest counts.

use guests::cpu::mtspr;
use guests::insn::{addi, addic_record, bne, mfspr, mtspr as move_to, sc};
use guests::space::CODE_EA;
use guests::{CODE, Context, MSR_REAL, Report, divert, place, println, run, team};
use power::interrupt::Vector;
use power::regs::Msr;
use power::spr;

/// Rounds of a batch, if nothing else is said: of what takes some hundred instructions.
pub const ROUNDS: u64 = 1000;
/// Rounds of a batch of what takes some thousand, and batches: one that nothing comes between is among them.
pub const FEW: u64 = 50;
/// See [`FEW`].
pub const MANY: u64 = 8;

/// Where the statuses of all calls are added up: a loop's body does it.
pub const SUM: u32 = 22;
/// Counts the interrupts of a loop that has some.
const TAKEN: u32 = 23;
/// The address of the second instruction of a body. The first one is what faults, in loops where something does.
pub const NEXT: u32 = 24;
/// Rounds to go. Not the count register: KVM-HV loses that in calls which it leaves to QEMU.
const LEFT: u32 = 29;
const END: u32 = 30;
const BEGIN: u32 = 31;

/// What the entry to an interrupt of a loop does: it is counted.
pub const COUNT: u32 = addi(TAKEN, TAKEN, 1);

/// A loop to be measured.
pub struct Row<'a> {
    /// What the row is called.
    pub name: &'a str,
    /// What is done in each round. The two instructions at its end are the loop's. Calls keep general purpose registers but r3 and
    /// their results (PAPR does not promise that, but this hypervisor, KVM and QEMU do), so only these are loaded anew.
    pub body: &'a [u32],
    /// The interrupt that comes once in each round, and what is done then; [`COUNT`] and `rfid` are in it.
    pub interrupt: Option<(Vector, &'a [u32])>,
    /// With which MSR it runs: with translation on it is fetched through [`CODE_EA`].
    pub msr: u64,
    /// Rounds of a batch.
    pub rounds: u64,
    /// Operations in a round.
    pub operations: u64,
    /// Batches.
    pub batches: u64,
    /// What each call of a body that adds up its statuses answers.
    pub status: i64,
}

impl<'a> Row<'a> {
    /// In real mode, a thousand rounds, four times; calls succeed.
    pub const fn new(name: &'a str, body: &'a [u32]) -> Row<'a> {
        Row {
            name,
            body,
            interrupt: None,
            msr: MSR_REAL,
            rounds: ROUNDS,
            operations: 1,
            batches: 4,
            status: 0,
        }
    }

    /// Instructions of the guest's in a round, the one that leads to the hypervisor and those of the loop included.
    fn length(&self) -> u64 {
        let handler = self.interrupt.map_or(0, |(_, code)| 1 + code.len());
        (self.body.len() + 2 + handler) as u64
    }

    /// One batch, with registers as given: what they are afterwards.
    fn batch(&self, gpr: [u64; 32]) -> Context {
        let mut code = [0; 64];
        let (body, rest) = code[1..].split_at_mut(self.body.len());
        body.copy_from_slice(self.body);
        let again = bne(-4 * (self.body.len() as i32 + 1));
        rest[..4].copy_from_slice(&[addic_record(LEFT, LEFT, -1), again, mfspr(END, spr::TB), sc(0)]);
        let handler = 1 + self.body.len() + 4;
        let mut length = handler;
        if let Some((_, instructions)) = self.interrupt {
            length += instructions.len();
            code[handler..length].copy_from_slice(instructions);
        }
        code[0] = mfspr(BEGIN, spr::TB);
        place(&code[..length]);
        let diverted = self.interrupt.map(|(vector, _)| divert(vector, CODE + 4 * handler as u64));
        let translated = self.msr & Msr::IR.bits() != 0;
        let nip = if translated { CODE_EA } else { CODE };
        let mut c = Context { gpr, nip, msr: self.msr, ..Context::ZERO };
        c.gpr[NEXT as usize] = nip + 8;
        c.gpr[LEFT as usize] = self.rounds;
        run(&mut c);
        drop(diverted);
        c
    }

    /// Did a batch do all that it should?
    fn is_good(&self, c: &Context) -> bool {
        let sum = self.rounds.wrapping_mul(self.status.cast_unsigned());
        let taken = if self.interrupt.is_some() { self.rounds } else { 0 };
        c.finished() && c.gpr[SUM as usize] == sum && c.gpr[TAKEN as usize] == taken
    }

    /// Measures it and prints the row, with a check. `prepare` readies each batch: it is given its number, and the registers
    /// to set.
    pub fn measure(&self, t: &mut Report, mut prepare: impl FnMut(u64, &mut [u64; 32])) {
        let mut best = u64::MAX;
        // What has been printed is written out when the processor sleeps.
        team::cede(100);
        for number in 0..self.batches {
            let mut gpr = [0; 32];
            prepare(number, &mut gpr);
            mtspr::<{ spr::DEC }>(0x7fff_ffff);
            let c = self.batch(gpr);
            if !self.is_good(&c) {
                t.note(format_args!(
                    "{} ended by {:#x} at {:#x}, {} of {} rounds to go; r3 {:#x}, statuses {:#x}, {} interrupts, dar {:#x} dsisr {:#x}",
                    self.name, c.arrival, c.nip, c.gpr[LEFT as usize], self.rounds, c.gpr[3], c.gpr[SUM as usize],
                    c.gpr[TAKEN as usize], c.dar, c.dsisr
                ));
                return t.is_true(self.name, false);
            }
            best = best.min(c.gpr[END as usize] - c.gpr[BEGIN as usize]);
        }
        t.is_true(self.name, true);
        let operations = self.rounds * self.operations;
        print(self.name, best, operations, self.length() / self.operations);
    }
}

/// Prints a row: so many ticks for so many operations, with so many instructions of the guest's around each.
pub fn print(name: &str, ticks: u64, operations: u64, length: u64) {
    println!("@ bench {name} {} loop {length}", instructions(ticks, operations));
}

/// Instructions of one operation, where `ticks` are what so many take.
pub const fn instructions(ticks: u64, operations: u64) -> u64 {
    (ticks * 1_953_125 / 1_000_000 + operations / 2) / operations
}

/// Moves a register to DEC.
pub const fn to_dec(rs: u32) -> u32 {
    move_to(spr::DEC, rs)
}
