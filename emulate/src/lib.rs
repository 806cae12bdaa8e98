//! Loads and stores as something other than the processor carries them out, for a device or for a page that is watched: where they
//! go, how many bytes, and how these become a register's (Power ISA 3.0C, book I, 3.3.2 to 3.3.5, 4.6.2, 4.6.3, 6.7, 7.6; book II, 4.3.2).
//!
//! Decoded ([`decode`]) are the integer, floating point, VMX and VSX forms that move one register, and operations on cache blocks.
//! Everything else is `None`: multiple and string forms, quadwords, pairs, `larx` and `stcx.`, and ISA 3.1's prefixed forms.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod convert;
mod decode;
#[cfg(test)]
mod tests;

pub use decode::decode;

/// Bytes of a cache block: what `dcbz` fills with zeroes.
pub const BLOCK: u64 = 128;

/// The most bytes that an instruction moves from or to a register.
pub const MAX_BYTES: usize = 16;

/// What an instruction does to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// It loads [`Instruction::bytes`] into its register.
    Load,
    /// It stores as many from it.
    Store,
    /// It stores zeroes to a block.
    Zero,
    /// It cleans a block from caches, or fetches it into one: no byte changes.
    Cache,
}

/// A register that is loaded or stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// A general purpose register, 0 to 31.
    Gpr(u8),
    /// A vector-scalar register, 0 to 63. Doubleword 0 of the first half are the floating point registers; the second half are the
    /// vector registers.
    Vsr(u8),
    /// None.
    None,
}

/// Which bit of the MSR has to be on for the instruction.
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

/// How bytes in memory and a register correspond.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// A number: the low bytes of a GPR, or of a VSR's doubleword 0. Loads extend it.
    Number { signed: bool },
    /// A floating point number: single in memory, double in doubleword 0.
    Single,
    /// All of a VSR: elements of so many bytes, the first one leftmost.
    Vector { element: usize },
    /// One element, which goes to all places of a VSR.
    Splat,
    /// One element of a VR, in the place that its address has in the aligned quadword.
    Lane,
}

/// What is added to the base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offset {
    Displacement(i16),
    Gpr(u8),
}

/// A decoded load or store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What it does.
    pub operation: Operation,
    /// With which register.
    pub register: Register,
    /// How many bytes of memory it is about: 1, 2, 4, 8 or 16; for a block [`BLOCK`].
    pub bytes: u64,
    /// The GPR that gets the effective address, for update forms.
    pub update: Option<u8>,
    /// What has to be available.
    pub facility: Facility,
    form: Form,
    /// Its bytes are in the other order than MSR\[LE\] says.
    reversed: bool,
    /// The GPR of the base; none is zero.
    base: Option<u8>,
    offset: Offset,
    /// The address is rounded down to a multiple of this.
    align: u64,
}

impl Instruction {
    /// Does it change memory?
    pub const fn stores(&self) -> bool {
        matches!(self.operation, Operation::Store | Operation::Zero)
    }

    /// The effective address of its first byte. `wide` is MSR\[SF\].
    pub fn ea(&self, gpr: &[u64; 32], wide: bool) -> u64 {
        let value = |number: u8| gpr[usize::from(number & 31)];
        let offset = match self.offset {
            Offset::Displacement(d) => i64::from(d) as u64,
            Offset::Gpr(number) => value(number),
        };
        let ea = self.base.map_or(0, value).wrapping_add(offset);
        let ea = if wide { ea } else { ea & 0xffff_ffff };
        ea & !(self.align - 1)
    }

    /// What a load from `ea` leaves in its register: a GPR is doubleword 0, of a VSR both. `memory` has its [`Instruction::bytes`]; what
    /// is missing counts as zero. `little` is MSR\[LE\]. What the architecture leaves undefined is zero.
    pub fn load(&self, memory: &[u8], ea: u64, little: bool) -> [u64; 2] {
        let little = little != self.reversed;
        let number = convert::number(memory, little);
        let vector = match self.form {
            Form::Number { signed } => {
                let number = number as u64;
                let unused = 64 - 8 * memory.len().clamp(1, 8) as u32;
                let extended = ((number << unused) as i64 >> unused) as u64;
                return [if signed { extended } else { number }, 0];
            }
            Form::Single => return [convert::to_double(number as u32), 0],
            Form::Vector { element } => convert::join(memory.chunks(element), little),
            Form::Splat => convert::join((0..MAX_BYTES / memory.len().max(1)).map(|_| memory), little),
            Form::Lane => number << self.lane(ea, little),
        };
        [(vector >> 64) as u64, vector as u64]
    }

    /// What a load of nothing but ones leaves in a general purpose register.
    pub const fn ones(&self) -> u64 {
        match self.form {
            Form::Number { signed: false } if self.bytes < 8 => (1 << (8 * self.bytes)) - 1,
            _ => u64::MAX,
        }
    }

    /// What a store to `ea` of its register's value, as [`Instruction::load`] has it, leaves in memory: the first [`Instruction::bytes`].
    pub fn store(&self, value: [u64; 2], ea: u64, little: bool) -> [u8; MAX_BYTES] {
        let little = little != self.reversed;
        let vector = u128::from(value[0]) << 64 | u128::from(value[1]);
        let bytes = self.bytes as usize;
        let mut memory = [0; MAX_BYTES];
        let (element, mut rest) = match self.form {
            Form::Number { .. } => (bytes, u128::from(value[0])),
            Form::Single => (bytes, u128::from(convert::to_single(value[0]))),
            Form::Vector { element } => (element, vector),
            Form::Lane | Form::Splat => (bytes, vector >> self.lane(ea, little)),
        };
        // The last element is rightmost.
        for place in memory[..bytes.min(MAX_BYTES)].rchunks_mut(element) {
            convert::put(place, rest, little);
            rest = rest.checked_shr(8 * element as u32).unwrap_or(0);
        }
        memory
    }

    /// What it loads or stores as a number, to be shown: the bytes in the order in which the instruction takes them, or all of a VSR.
    pub fn value(&self, memory: &[u8], little: bool) -> u128 {
        let little = little != self.reversed;
        match self.form {
            Form::Vector { element } => convert::join(memory.chunks(element), little),
            _ => convert::number(memory, little),
        }
    }

    /// How far from the right an element stands, in bits.
    fn lane(&self, ea: u64, little: bool) -> u32 {
        let offset = ea & 15;
        let below = if little { offset } else { 16u64.saturating_sub(self.bytes + offset) };
        8 * below as u32
    }
}
