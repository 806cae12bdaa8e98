//! Loads and stores as something other than the processor carries them out, for a device or for a page that is watched: which
//! instruction a word is ([`decode`]), where its operand is ([`Instruction::operand`]), how its bytes become registers' and the other
//! way round ([`Instruction::load`], [`Instruction::store`]), what the processor would refuse ([`Instruction::refusal`]), and in which
//! pieces a device gets them ([`units`]). Power ISA 3.1B: book I, 1.6, 3.3, 4.6, 6.7 and 7.6; book II, 4.
//!
//! All loads and stores of the problem state are in one table (`table.rs`), but for `copy`, `paste.` and the hash instructions of ISA
//! 3.1.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod convert;
mod decode;
mod moves;
mod refusal;
mod row;
mod table;
#[cfg(test)]
mod tests;
mod units;

use power::Generation;

pub use decode::{decode, decode_prefixed, is_prefix};
pub use moves::Registers;
pub use refusal::{Facility, Refusal};
pub use row::{Operation, Row};
pub use units::units;

use row::{Bank, Fields, Form};

/// Bytes of a cache block: what `dcbz` fills with zeroes.
pub const BLOCK: u64 = 128;

/// The most bytes of memory that an instruction is about: all general purpose registers' words, or a cache block.
pub const MAX_BYTES: usize = 128;

/// All rows of the table: first those without a prefix.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    table::PLAIN.iter().chain(&table::PREFIXED)
}

/// What is added to the base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offset {
    /// This.
    Displacement(i64),
    /// A GPR.
    Gpr(u8),
}

/// What an operand's place depends on.
#[derive(Clone, Copy)]
pub struct State<'a> {
    /// The general purpose registers.
    pub gpr: &'a [u64; 32],
    /// XER.
    pub xer: u64,
    /// The instruction's own address.
    pub pc: u64,
    /// MSR\[SF\].
    pub wide: bool,
}

/// What an instruction is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    /// The effective address of its first byte.
    pub ea: u64,
    /// How many there are, at most [`MAX_BYTES`].
    pub bytes: usize,
}

/// A decoded load or store.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    row: &'static Row,
    /// Or 0.
    prefix: u32,
    word: u32,
}

impl Instruction {
    /// Its row of the table.
    pub const fn row(&self) -> &'static Row {
        self.row
    }

    /// What it does.
    #[inline]
    pub const fn operation(&self) -> Operation {
        self.row.operation
    }

    /// Has a processor of this generation got it?
    pub fn exists(&self, generation: Generation) -> bool {
        self.row.exists(generation)
    }

    /// Its own length in bytes.
    #[inline]
    pub const fn size(&self) -> u64 {
        if self.prefix == 0 { 4 } else { 8 }
    }

    /// Does it change memory?
    #[inline]
    pub const fn stores(&self) -> bool {
        use Operation::{Atomic, Conditional, Store, Zero};
        matches!(self.row.operation, Store | Zero | Conditional | Atomic)
    }

    /// The GPR that gets the effective address.
    #[inline]
    pub const fn update(&self) -> Option<u8> {
        if self.row.update { Some(self.ra()) } else { None }
    }

    /// The GPR and the bytes, if it does no more than to load or store one, up to eight of them: what nearly all accesses to devices do.
    #[inline]
    pub const fn simple(&self) -> Option<(u8, usize)> {
        let one = matches!(self.row.operation, Operation::Load | Operation::Store)
            && matches!(self.row.bank, Bank::Gpr)
            && matches!(self.row.form, Form::Number | Form::Signed | Form::Reversed);
        if one { Some((self.rt(), self.row.bytes as usize)) } else { None }
    }

    /// The effective address that base and offset make.
    #[inline]
    pub fn ea(&self, gpr: &[u64; 32], pc: u64, wide: bool) -> u64 {
        let value = |number: u8| gpr[usize::from(number & 31)];
        let base = match self.base() {
            Some(base) => value(base),
            None if self.is_relative() => pc,
            None => 0,
        };
        let ea = base.wrapping_add(match self.offset() {
            Offset::Displacement(d) => d as u64,
            Offset::Gpr(number) => value(number),
        });
        if wide { ea } else { ea & 0xffff_ffff }
    }

    /// The registers that [`Instruction::ea`] looks at, as bits.
    #[inline]
    pub const fn address_registers(&self) -> u32 {
        let base = match self.base() {
            Some(base) => 1 << (base & 31),
            None => 0,
        };
        match self.offset() {
            Offset::Displacement(_) => base,
            Offset::Gpr(number) => base | 1 << (number & 31),
        }
    }

    /// Its operand; `None` if it is an invalid form, in this state.
    pub fn operand(&self, state: &State<'_>) -> Option<Operand> {
        let ea = self.ea(state.gpr, state.pc, state.wide);
        let bytes = match self.row.form {
            Form::Length | Form::Left => (state.gpr[usize::from(self.rb() & 31)] >> 56).min(16),
            Form::Words => match self.row.fields {
                Fields::D => 4 * (32 - u64::from(self.rt())),
                Fields::Count => self.count(),
                _ => state.xer & 127,
            },
            _ => self.row.bytes.into(),
        };
        if self.row.form == Form::Words && self.row.fields == Fields::X && !self.stores() {
            let clash = |register| self.overwrites(bytes, register);
            if self.base().is_some_and(clash) || clash(self.rb()) {
                return None;
            }
        }
        // VMX and blocks round down.
        let align = match (self.row.bank, self.row.form, self.row.operation) {
            (_, _, Operation::Cache | Operation::Zero) => BLOCK,
            (Bank::Vr, Form::Lane | Form::Elements(_), _) => bytes,
            _ => 1,
        };
        Some(Operand { ea: ea & !(align - 1), bytes: bytes as usize })
    }
}
