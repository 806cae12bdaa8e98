//! What the table says of an instruction.

use power::Generation;

/// What an instruction does to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// It loads its register, or several.
    Load,
    /// It stores them.
    Store,
    /// It stores zeroes to a cache block.
    Zero,
    /// It cleans a block from caches, or fetches it into one: no byte changes.
    Cache,
    /// It loads and reserves: `larx`.
    Reserve,
    /// It stores if there is a reservation: `stcx.`.
    Conditional,
    /// It loads, computes and stores at once.
    Atomic,
}

/// Which registers the instruction's field for them names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bank {
    /// General purpose registers.
    Gpr,
    /// Floating point registers: doubleword 0 of the first half of the vector-scalar registers.
    Fpr,
    /// Vector registers: the second half of them.
    Vr,
    /// Any vector-scalar register: a sixth bit ends the word.
    Vsr,
    /// The same, and the second half belongs to the vector facility.
    Half,
    /// As `Half`; the bit is the fourth from the end.
    HalfDq,
    /// As `Half`; the bit ends the primary opcode.
    HalfPrefixed,
    /// A pair of vector-scalar registers, with the bit at the end of the register field.
    Pair,
}

/// How bytes in memory and registers correspond.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// A number without a sign: the low bytes of a GPR, or of a VSR's doubleword 0.
    Number,
    /// A number with one, which loads extend.
    Signed,
    /// A number whose bytes are in the other order than MSR\[LE\] says.
    Reversed,
    /// A floating point number: single in memory, double in doubleword 0.
    Single,
    /// All of a VSR: elements of so many bytes, the first one leftmost.
    Elements(u8),
    /// One element, which goes to all places of a VSR.
    Splat,
    /// One element of a VR, in the place that its address has in the aligned quadword.
    Lane,
    /// One element at the right end of a VSR.
    Right,
    /// As many bytes of a VSR as a GPR says, as a quadword's first.
    Length,
    /// The same, at the left end, whatever the byte order.
    Left,
    /// Two registers: the even one has what a larger number's left half would be.
    Twin,
    /// Two registers: the even one has what comes first in memory.
    Straight,
    /// As many registers as it takes, with four bytes each; big-endian guests only.
    Words,
}

/// Where the word says what the address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fields {
    /// Base and displacement.
    D,
    /// Its last two bits belong to the opcode.
    Ds,
    /// Its last four bits do not belong to it; those given are the opcode's, the others a register's or nobody's.
    Dq(u8),
    /// Base and index.
    X,
    /// Base, and a GPR with a length.
    Base,
    /// Base, and a number.
    Count,
    /// Base or the instruction's own address, and a displacement of which a prefix of type 0 (8LS) has a part.
    Prefixed8,
    /// The same with a prefix of type 2 (MLS).
    PrefixedM,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// How assemblers call it.
    #[cfg(feature = "names")]
    pub name: &'static str,
    /// The bits of the word that are the opcode.
    pub(crate) word: u32,
    pub(crate) since: Generation,
    pub(crate) operation: Operation,
    pub(crate) fields: Fields,
    pub(crate) bank: Bank,
    pub(crate) form: Form,
    /// Bytes of memory; 0 if it depends.
    pub(crate) bytes: u8,
    /// The base gets the address.
    pub(crate) update: bool,
}

impl Row {
    /// A number of so many bytes from or to a GPR; primary opcode 31 has an index, others a displacement.
    pub(crate) const fn new(word: u32, name: &'static str, operation: Operation, bytes: u8) -> Row {
        #[cfg(not(feature = "names"))]
        let _ = name;
        Row {
            #[cfg(feature = "names")]
            name,
            word,
            since: Generation::Power8,
            operation,
            fields: if word >> 26 == 31 { Fields::X } else { Fields::D },
            bank: Bank::Gpr,
            form: Form::Number,
            bytes,
            update: false,
        }
    }

    pub(crate) const fn since(self, since: Generation) -> Row {
        Row { since, ..self }
    }

    pub(crate) const fn fields(self, fields: Fields) -> Row {
        let since = match fields {
            Fields::Prefixed8 | Fields::PrefixedM => Generation::Power10,
            _ => self.since,
        };
        Row { fields, since, ..self }
    }

    pub(crate) const fn bank(self, bank: Bank) -> Row {
        Row { bank, ..self }
    }

    pub(crate) const fn form(self, form: Form) -> Row {
        Row { form, ..self }
    }

    pub(crate) const fn update(self) -> Row {
        Row { update: true, ..self }
    }

    /// The opcode: a prefix or 0, and a word.
    pub const fn opcode(&self) -> (u32, u32) {
        let prefix = match self.fields {
            Fields::Prefixed8 => 0x0400_0000,
            Fields::PrefixedM => 0x0600_0000,
            _ => 0,
        };
        (prefix, self.word)
    }

    /// The bits of them that are the opcode's, or have to be zero.
    pub const fn mask(&self) -> (u32, u32) {
        let primary = 0xfc00_0000;
        let word = match self.fields {
            Fields::D => primary,
            Fields::Ds => primary | 3,
            Fields::Dq(bits) => primary | bits as u32,
            Fields::X | Fields::Base | Fields::Count => match self.bank {
                Bank::Vsr | Bank::Half => primary | 0x7fe,
                _ => primary | 0x7ff,
            },
            Fields::Prefixed8 | Fields::PrefixedM => match self.bank {
                Bank::HalfPrefixed => primary & !(1 << 26),
                _ => primary,
            },
        };
        match self.fields {
            Fields::Prefixed8 | Fields::PrefixedM => (0xffec_0000, word),
            _ => (0, word),
        }
    }

    /// Has a processor of this generation got it?
    pub fn exists(&self, generation: Generation) -> bool {
        generation >= self.since
    }

    /// What it does.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Which registers it names, by the letter that assemblers have for them: `r`, `f`, `v`, or `s` for all vector-scalar registers.
    pub const fn registers(&self) -> char {
        match self.bank {
            Bank::Gpr => 'r',
            Bank::Fpr => 'f',
            Bank::Vr => 'v',
            _ => 's',
        }
    }
}
