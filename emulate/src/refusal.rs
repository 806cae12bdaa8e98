//! What the processor would not do.

use power::Generation;
use power::regs::Msr;

use crate::row::{Bank, Fields, Form};
use crate::{Instruction, Operation};

/// Which bit of the MSR has to be on for an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Facility {
    /// None.
    Always,
    /// MSR\[FP\].
    FloatingPoint,
    /// MSR\[VEC\].
    Vector,
    /// MSR\[VSX\].
    VectorScalar,
}

/// The interrupt that the guest gets instead of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Program: there is no such instruction.
    Illegal,
    /// That the facility is not available.
    Unavailable(Facility),
    /// Alignment, with this DSISR.
    Alignment(u64),
    /// Data storage: the instruction is not for inhibited memory.
    Conflict,
}

impl Instruction {
    /// What has to be available.
    pub const fn facility(&self) -> Facility {
        let high = self.register() >= 32;
        match self.row.bank {
            Bank::Gpr => Facility::Always,
            Bank::Fpr => Facility::FloatingPoint,
            Bank::Vr => Facility::Vector,
            Bank::Half | Bank::HalfDq | Bank::HalfPrefixed if high => Facility::Vector,
            Bank::Vsr | Bank::Half | Bank::HalfDq | Bank::HalfPrefixed | Bank::Pair => Facility::VectorScalar,
        }
    }

    /// Why a guest with this MSR may not use it, wherever its operand is.
    pub fn refusal(&self, msr: Msr, generation: Generation) -> Option<Refusal> {
        if !self.exists(generation) {
            return Some(Refusal::Illegal);
        }
        let facility = self.facility();
        let needed = match facility {
            Facility::Always => Msr::empty(),
            Facility::FloatingPoint => Msr::FP,
            Facility::Vector => Msr::VEC,
            Facility::VectorScalar => Msr::VSX,
        };
        if !msr.contains(needed) {
            return Some(Refusal::Unavailable(facility));
        }
        let words = self.row.form == Form::Words;
        (words && msr.contains(Msr::LE)).then(|| self.misaligned())
    }

    /// Why it cannot be used on a device.
    pub fn refusal_by_device(&self) -> Option<Refusal> {
        match self.row.operation {
            Operation::Load | Operation::Store | Operation::Cache => None,
            Operation::Zero | Operation::Reserve | Operation::Conditional => Some(self.misaligned()),
            Operation::Atomic => Some(Refusal::Conflict),
        }
    }

    /// An alignment interrupt. Its DSISR is that of Power ISA 2.07B, book III-S, 6.5.8; later processors leave it undefined.
    pub const fn misaligned(&self) -> Refusal {
        let word = self.word;
        // Registers: bits 6 to 15 of the word are bits 22 to 31.
        let registers = word >> 16 & 0x3ff;
        let opcode = match self.row.fields {
            // Bits 29 and 30 are bits 15 and 16; 25 is 17; 21 to 24 are 18 to 21.
            Fields::X | Fields::Base | Fields::Count => {
                (word & 6) << 14 | (word & 0x40) << 8 | (word & 0x780) << 3
            }
            fields => {
                // Bits 30 and 31 are bits 12 and 13; 5 is 17; 1 to 4 are 18 to 21.
                let ds = if matches!(fields, Fields::Ds) { (word & 3) << 18 } else { 0 };
                ds | (word & 0x0400_0000) >> 12 | (word & 0x7800_0000) >> 17
            }
        };
        Refusal::Alignment((opcode | registers) as u64)
    }
}
