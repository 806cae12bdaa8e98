//! Which instruction a word is.

use crate::row::{Bank, Fields, Form, Operation, Row};
use crate::table::{PLAIN, PREFIXED};
use crate::{Instruction, Offset};

/// Words that primary opcode 31 distinguishes, and those that the others do.
const EXTENDED: usize = 1024;
const OTHERS: usize = 64 * 16;

/// No row.
const NONE: u8 = u8::MAX;

/// Where a word's row is said in [`INDEX`].
const fn place(word: u32) -> usize {
    let primary = word >> 26;
    if primary == 31 {
        (word >> 1) as usize % EXTENDED
    } else {
        EXTENDED + (primary << 4 | word & 15) as usize
    }
}

/// The rows of [`PLAIN`], by [`place`].
static INDEX: [u8; EXTENDED + OTHERS] = {
    let mut index = [NONE; EXTENDED + OTHERS];
    let mut n = 0;
    while n < PLAIN.len() {
        let (opcode, mask) = (PLAIN[n].opcode().1, PLAIN[n].mask().1);
        let mut low = 0;
        while low < 16 {
            // Bits that belong to the opcode are not free.
            let word = if opcode >> 26 == 31 { opcode } else { opcode | low };
            if (word ^ opcode) & mask == 0 {
                assert!(index[place(word)] == NONE || index[place(word)] as usize == n);
                index[place(word)] = n as u8;
            }
            low += 1;
        }
        n += 1;
    }
    index
};

const _: () = assert!(PLAIN.len() < NONE as usize);

/// Does this word begin an instruction of eight bytes?
pub const fn is_prefix(word: u32) -> bool {
    word >> 26 == 1
}

/// Decodes an instruction word. Invalid forms are `None` too; whether the processor has it is [`Instruction::exists`]'s to say.
#[inline]
pub fn decode(word: u32) -> Option<Instruction> {
    let row = PLAIN.get(usize::from(INDEX[place(word)]))?;
    let instruction = Instruction { row, prefix: 0, word };
    instruction.is_valid().then_some(instruction)
}

/// Decodes a prefix and the word that follows it, likewise.
pub fn decode_prefixed(prefix: u32, word: u32) -> Option<Instruction> {
    let row = PREFIXED.iter().find(|row| {
        let (opcode, mask) = (row.opcode(), row.mask());
        // Bits of the prefix that are reserved do not matter.
        (prefix ^ opcode.0) >> 23 == 0 && (word ^ opcode.1) & mask.1 == 0
    })?;
    let instruction = Instruction { row, prefix, word };
    instruction.is_valid().then_some(instruction)
}

impl Instruction {
    /// Is it not one of the forms that the architecture calls invalid?
    #[inline]
    fn is_valid(&self) -> bool {
        let Row { operation, form, bank, .. } = *self.row;
        let (rt, ra) = (self.rt(), self.ra());
        let loads = matches!(operation, Operation::Load | Operation::Reserve) && bank == Bank::Gpr;
        let indexed_by_itself = self.row.fields == Fields::X && self.rb() == rt;
        if self.row.update {
            return ra != 0 && !(loads && ra == rt);
        }
        match form {
            Form::Twin | Form::Straight if bank != Bank::Pair => {
                rt & 1 == 0 && !(loads && (ra == rt || indexed_by_itself)) && self.is_relative_without_base()
            }
            Form::Words if loads && self.row.fields == Fields::D => ra < rt,
            Form::Words if loads && self.row.fields == Fields::Count => !self.overwrites(self.count(), ra),
            Form::Words if loads => rt != ra && !indexed_by_itself,
            _ => self.is_relative_without_base(),
        }
    }

    /// The instruction's own address takes the base's place.
    fn is_relative_without_base(&self) -> bool {
        !self.is_relative() || self.ra() == 0
    }

    /// Does a load of so many bytes change a register?
    pub(crate) fn overwrites(&self, bytes: u64, register: u8) -> bool {
        let nth = register.wrapping_sub(self.rt()) & 31;
        u64::from(nth) < bytes.div_ceil(4)
    }

    /// How many bytes `lswi` and `stswi` are about.
    pub(crate) fn count(&self) -> u64 {
        match self.rb() {
            0 => 32,
            n => n.into(),
        }
    }

    /// The register field.
    pub(crate) const fn rt(&self) -> u8 {
        (self.word >> 21 & 31) as u8
    }

    pub(crate) const fn ra(&self) -> u8 {
        (self.word >> 16 & 31) as u8
    }

    pub(crate) const fn rb(&self) -> u8 {
        (self.word >> 11 & 31) as u8
    }

    /// The number of its first register: of a GPR, or of a VSR.
    #[inline]
    pub const fn register(&self) -> u8 {
        let (rt, word) = (self.rt(), self.word);
        match self.row.bank {
            Bank::Gpr | Bank::Fpr => rt,
            Bank::Vr => rt | 32,
            Bank::Vsr | Bank::Half => rt | ((word & 1) << 5) as u8,
            Bank::HalfDq => rt | ((word >> 3 & 1) << 5) as u8,
            Bank::HalfPrefixed => rt | ((word >> 26 & 1) << 5) as u8,
            Bank::Pair => rt & 30 | (rt & 1) << 5,
        }
    }

    /// The GPR of its base; none is zero, or the instruction's own address.
    #[inline]
    pub const fn base(&self) -> Option<u8> {
        match self.ra() {
            0 => None,
            ra => Some(ra),
        }
    }

    /// Is its address relative to its own?
    #[inline]
    pub const fn is_relative(&self) -> bool {
        self.prefix >> 20 & 1 != 0
    }

    /// What is added to the base.
    #[inline]
    pub const fn offset(&self) -> Offset {
        let low = self.word as i16;
        Offset::Displacement(match self.row.fields {
            Fields::D => low as i64,
            Fields::Ds => (low & !3) as i64,
            Fields::Dq(_) => (low & !15) as i64,
            Fields::X => return Offset::Gpr(self.rb()),
            Fields::Base | Fields::Count => 0,
            Fields::Prefixed8 | Fields::PrefixedM => {
                let both = (self.prefix as u64 & 0x3_ffff) << 16 | self.word as u64 & 0xffff;
                (both as i64) << 30 >> 30
            }
        })
    }
}
