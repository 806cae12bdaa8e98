//! Base address registers (PCI 3.0, 6.2.5.1): how much memory a function wants, and where it is to answer.

use alloc::vec::Vec;

use crate::{Active, Config, Error, Function, offset, switch};

/// Registers of an ordinary function.
const REGISTERS: u8 = 6;
/// Bit 0: I/O space.
const IO: u32 = 1;
/// Bits 2:1: where it can be; 2 stands for anywhere in 64 bits, in two registers.
const TYPE: u32 = 3 << 1;
const TYPE_64: u32 = 2 << 1;
/// Bit 3: prefetchable.
const FLAGS: u32 = 0xf;

/// A range of memory that a function answers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Its register, 0 to 5; the first of two if it is `wide`.
    pub index: u8,
    /// Its size, a power of two from 16 on.
    pub bytes: u64,
    /// Its address has 64 bits.
    pub wide: bool,
}

const fn register(index: u8) -> u16 {
    offset::BAR + 4 * index as u16
}

/// Finds the ranges of memory of an ordinary function. Its memory is off then, and none of its registers has an address.
pub fn bars(config: &impl Config, function: Function) -> Result<Vec<Bar>, Error> {
    if matches!(config.read(function, offset::ID)? & 0xffff, 0 | 0xffff) {
        return Err(Error::Absent);
    }
    if config.read(function, offset::HEADER)? >> 16 & 0x7f != 0 {
        return Err(Error::NotADevice);
    }
    switch(config, function, Active::Nothing, false)?;
    config.write(function, offset::ROM, 0)?;
    let mut found = Vec::new();
    let mut index = 0;
    while index < REGISTERS {
        let low = writable(config, function, index)?;
        let wide = low & IO == 0 && low & TYPE == TYPE_64 && index + 1 < REGISTERS;
        let high = if wide { writable(config, function, index + 1)? } else { 0 };
        let mask = u64::from(high) << 32 | u64::from(low & !FLAGS);
        if low & IO == 0 && mask != 0 {
            found.push(Bar { index, bytes: 1 << mask.trailing_zeros(), wide });
        }
        index += 1 + u8::from(wide);
    }
    if found.is_empty() { Err(Error::NoMemory) } else { Ok(found) }
}

/// What a register reads after ones were written; it holds zeroes afterwards.
fn writable(config: &impl Config, function: Function, index: u8) -> Result<u32, Error> {
    config.write(function, register(index), u32::MAX)?;
    let mask = config.read(function, register(index))?;
    config.write(function, register(index), 0)?;
    Ok(mask)
}

/// Gives a range its address on the bus.
pub fn assign(config: &impl Config, function: Function, bar: Bar, address: u64) -> Result<(), Error> {
    config.write(function, register(bar.index), address as u32)?;
    if bar.wide {
        config.write(function, register(bar.index + 1), (address >> 32) as u32)?;
    }
    Ok(())
}
