//! What an instruction makes of bytes and registers.

use crate::convert::{join, number, put, to_double, to_single};
use crate::row::{Bank, Form};
use crate::{Instruction, Operation};

/// A vCPU's registers.
pub trait Registers {
    /// A general purpose register.
    fn gpr(&self, number: u8) -> u64;
    /// Changes one.
    fn set_gpr(&mut self, number: u8, value: u64);
    /// A vector-scalar register: doubleword 0 first. That of the first half are the floating point registers; the second half are the vector
    /// registers.
    fn vsr(&mut self, number: u8) -> [u64; 2];
    /// Changes one.
    fn set_vsr(&mut self, number: u8, value: [u64; 2]);
}

/// Bytes of a vector-scalar register.
const QUADWORD: usize = 16;

fn halves(vector: u128) -> [u64; 2] {
    [(vector >> 64) as u64, vector as u64]
}

fn whole(halves: [u64; 2]) -> u128 {
    u128::from(halves[0]) << 64 | u128::from(halves[1])
}

/// Extends a number of so many bytes by its sign.
#[inline]
fn extend(number: u64, bytes: usize) -> u64 {
    let unused = 64 - 8 * bytes.clamp(1, 8) as u32;
    ((number << unused) as i64 >> unused) as u64
}

impl Instruction {
    /// What a load of this number of up to eight bytes, whose first byte is rightmost, leaves in a GPR. `little` is MSR\[LE\].
    #[inline]
    pub fn loaded(&self, little_number: u64, little: bool) -> u64 {
        let bytes = usize::from(self.row.bytes);
        let in_order = if little != (self.row.form == Form::Reversed) {
            little_number
        } else {
            little_number.swap_bytes() >> (64 - 8 * bytes.clamp(1, 8) as u32)
        };
        if self.row.form == Form::Signed { extend(in_order, bytes) } else { in_order }
    }

    /// What a store of a GPR's low bytes leaves in memory, as a number whose first byte is rightmost.
    #[inline]
    pub fn stored(&self, value: u64, little: bool) -> u64 {
        if little != (self.row.form == Form::Reversed) {
            return value;
        }
        value.swap_bytes() >> (64 - 8 * u32::from(self.row.bytes.clamp(1, 8)))
    }

    /// What a load of nothing but ones leaves in a general purpose register.
    #[inline]
    pub const fn ones(&self) -> u64 {
        match self.row.form {
            Form::Number | Form::Reversed if self.row.bytes < 8 => (1 << (8 * self.row.bytes)) - 1,
            _ => u64::MAX,
        }
    }

    /// Loads its registers with the bytes of its operand, which is at `ea`. `little` is MSR\[LE\]. What the architecture leaves undefined
    /// is zero.
    pub fn load(&self, registers: &mut impl Registers, memory: &[u8], ea: u64, little: bool) {
        let first = self.register();
        match self.row.form {
            Form::Words => {
                for (n, bytes) in (0..).zip(memory.chunks(4)) {
                    let mut word = [0; 4];
                    word[..bytes.len()].copy_from_slice(bytes);
                    registers.set_gpr(first.wrapping_add(n) & 31, u32::from_be_bytes(word).into());
                }
            }
            Form::Twin | Form::Straight => {
                let size = memory.len().div_ceil(2).max(1);
                for (n, half) in (0..).zip(memory.chunks(size)) {
                    let vector = number(half, little);
                    self.set(registers, first | self.place(n, little), vector, half.len());
                }
            }
            _ => {
                let vector = self.vector(memory, ea, little);
                self.set(registers, first, vector, if self.is_vector() { QUADWORD } else { 8 });
            }
        }
    }

    /// Stores its registers to its operand, likewise.
    pub fn store(&self, registers: &mut impl Registers, memory: &mut [u8], ea: u64, little: bool) {
        let first = self.register();
        match self.row.form {
            Form::Words => {
                for (n, bytes) in (0..).zip(memory.chunks_mut(4)) {
                    let word = registers.gpr(first.wrapping_add(n) & 31) as u32;
                    bytes.copy_from_slice(&word.to_be_bytes()[..bytes.len()]);
                }
            }
            Form::Twin | Form::Straight => {
                let size = memory.len().div_ceil(2).max(1);
                for (n, half) in (0..).zip(memory.chunks_mut(size)) {
                    let bytes = half.len();
                    let vector = self.get(registers, first | self.place(n, little), bytes);
                    put(half, vector, little);
                }
            }
            _ => {
                let vector = self.get(registers, first, if self.is_vector() { QUADWORD } else { 8 });
                self.bytes_of(vector, memory, ea, little);
            }
        }
    }

    /// What it loads or stores as a number, to be shown, if it is one: the bytes in the order in which the instruction takes them, or all of
    /// a VSR.
    pub fn value(&self, memory: &[u8], little: bool) -> Option<u128> {
        match self.row.operation {
            Operation::Zero => return Some(0),
            Operation::Load | Operation::Store if memory.len() <= QUADWORD => {}
            _ => return None,
        }
        Some(match self.row.form {
            Form::Elements(element) => join(memory.chunks(element.into()), little),
            Form::Reversed => number(memory, !little),
            Form::Words | Form::Left => number(memory, false),
            _ => number(memory, little),
        })
    }

    /// Is it about all of a VSR?
    const fn is_vector(&self) -> bool {
        use Form::{Elements, Lane, Left, Length, Right, Splat};
        matches!(self.row.form, Elements(_) | Splat | Lane | Right | Length | Left)
    }

    /// Which register of a pair the nth half in memory belongs to.
    fn place(&self, n: u8, little: bool) -> u8 {
        n ^ u8::from(little && self.row.form == Form::Twin)
    }

    /// Sets a register to a number of so many bytes.
    fn set(&self, registers: &mut impl Registers, register: u8, value: u128, bytes: usize) {
        match self.row.bank {
            Bank::Gpr => registers.set_gpr(register, value as u64),
            _ if bytes == QUADWORD => registers.set_vsr(register, halves(value)),
            _ => registers.set_vsr(register, [value as u64, 0]),
        }
    }

    /// What a register has, as a number of so many bytes.
    fn get(&self, registers: &mut impl Registers, register: u8, bytes: usize) -> u128 {
        match self.row.bank {
            Bank::Gpr => registers.gpr(register).into(),
            _ if bytes == QUADWORD => whole(registers.vsr(register)),
            _ => registers.vsr(register)[0].into(),
        }
    }

    /// Bytes as the register has them.
    fn vector(&self, memory: &[u8], ea: u64, little: bool) -> u128 {
        match self.row.form {
            Form::Number | Form::Right | Form::Twin | Form::Straight => number(memory, little),
            Form::Signed => extend(number(memory, little) as u64, memory.len()).into(),
            Form::Reversed => number(memory, !little),
            Form::Single => to_double(number(memory, little) as u32).into(),
            Form::Elements(element) => join(memory.chunks(element.into()), little),
            Form::Splat => join((0..QUADWORD / memory.len().max(1)).map(|_| memory), little),
            Form::Lane => number(memory, little) << self.lane(ea, little),
            Form::Length if little => number(memory, true),
            Form::Length | Form::Left | Form::Words => {
                number(memory, false).checked_shl(unused(memory.len())).unwrap_or(0)
            }
        }
    }

    /// The other way round.
    fn bytes_of(&self, vector: u128, memory: &mut [u8], ea: u64, little: bool) {
        match self.row.form {
            Form::Number | Form::Signed | Form::Right | Form::Twin | Form::Straight | Form::Splat => {
                put(memory, vector, little);
            }
            Form::Reversed => put(memory, vector, !little),
            Form::Single => put(memory, to_single(vector as u64).into(), little),
            Form::Elements(element) => {
                let mut rest = vector;
                // The last element is rightmost.
                for place in memory.rchunks_mut(element.into()) {
                    put(place, rest, little);
                    rest = rest.checked_shr(8 * u32::from(element)).unwrap_or(0);
                }
            }
            Form::Lane => put(memory, vector >> self.lane(ea, little), little),
            Form::Length if little => put(memory, vector, true),
            Form::Length | Form::Left | Form::Words => {
                let used = vector.checked_shr(unused(memory.len())).unwrap_or(0);
                put(memory, used, false);
            }
        }
    }

    /// How far from the right an element stands, in bits.
    fn lane(&self, ea: u64, little: bool) -> u32 {
        let offset = ea & 15;
        let below = if little { offset } else { 16u64.saturating_sub(u64::from(self.row.bytes) + offset) };
        8 * below as u32
    }
}

/// Bits of a quadword that so many bytes at its left end leave.
fn unused(bytes: usize) -> u32 {
    8 * QUADWORD.saturating_sub(bytes) as u32
}
