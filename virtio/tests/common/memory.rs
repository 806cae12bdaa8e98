//! A guest's memory, and what its devices signal.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use phb::{Bus, DmaError};

/// What a function has signalled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    Message(u64, u32),
    Line(bool),
}

/// Memory from a bus address on. Writes outside of what is allowed to be written panic, if that is said.
pub struct Memory {
    base: u64,
    bytes: RefCell<Vec<u8>>,
    /// Bytes that a device may write.
    writable: RefCell<Option<Vec<bool>>>,
    wires: RefCell<VecDeque<Wire>>,
    /// How many accesses there were.
    pub accesses: Cell<usize>,
    /// What was given back: from where on, and how much.
    pub discarded: RefCell<Vec<(u64, u64)>>,
    /// What another processor writes after so many more accesses.
    ambush: RefCell<Option<(usize, u64, Vec<u8>)>>,
}

impl Memory {
    pub fn new(base: u64, bytes: usize) -> Memory {
        Memory {
            base,
            bytes: RefCell::new(vec![0; bytes]),
            writable: RefCell::default(),
            wires: RefCell::default(),
            accesses: Cell::new(0),
            discarded: RefCell::default(),
            ambush: RefCell::default(),
        }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    /// Another processor writes after so many accesses of a device.
    pub fn ambush(&self, after: usize, at: u64, bytes: &[u8]) {
        *self.ambush.borrow_mut() = Some((self.accesses.get() + after, at, bytes.to_vec()));
    }

    fn count_access(&self) {
        self.accesses.set(self.accesses.get() + 1);
        if let Some((_, at, bytes)) =
            self.ambush.borrow_mut().take_if(|(when, ..)| self.accesses.get() > *when)
        {
            self.put(at, &bytes);
        }
    }

    fn range(&self, at: u64, length: usize) -> Result<std::ops::Range<usize>, DmaError> {
        let start = at.checked_sub(self.base).ok_or(DmaError)?;
        let end = start.checked_add(length as u64).ok_or(DmaError)?;
        if end > self.bytes.borrow().len() as u64 {
            return Err(DmaError);
        }
        Ok(start as usize..end as usize)
    }

    /// As the guest's processors write.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        let range = self.range(at, bytes.len()).unwrap();
        self.bytes.borrow_mut()[range].copy_from_slice(bytes);
    }

    pub fn get(&self, at: u64, length: usize) -> Vec<u8> {
        let range = self.range(at, length).unwrap();
        self.bytes.borrow()[range].to_vec()
    }

    pub fn put_u16(&self, at: u64, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub fn get_u16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.get(at, 2).try_into().unwrap())
    }

    pub fn get_u32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().unwrap())
    }

    /// From now on a device may only write where it is let.
    pub fn forbid_writes(&self) {
        *self.writable.borrow_mut() = Some(vec![false; self.bytes.borrow().len()]);
    }

    pub fn let_write(&self, at: u64, length: usize, may: bool) {
        let range = self.range(at, length).unwrap();
        if let Some(writable) = &mut *self.writable.borrow_mut() {
            writable[range].fill(may);
        }
    }

    /// The next signal, oldest first.
    pub fn wire(&self) -> Option<Wire> {
        self.wires.borrow_mut().pop_front()
    }
}

impl Bus for Memory {
    fn read(&self, at: u64, to: &mut [u8]) -> Result<(), DmaError> {
        self.count_access();
        let range = self.range(at, to.len())?;
        to.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<(), DmaError> {
        self.count_access();
        let range = self.range(at, from.len())?;
        if let Some(writable) = &*self.writable.borrow() {
            assert!(
                writable[range.clone()].iter().all(|may| *may),
                "a device writes to {at:#x}, which it may not"
            );
        }
        self.bytes.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }

    fn message(&self, address: u64, data: u32) {
        self.wires.borrow_mut().push_back(Wire::Message(address, data));
    }

    fn line(&self, up: bool) {
        self.wires.borrow_mut().push_back(Wire::Line(up));
    }

    fn discard(&self, real: u64, bytes: u64) {
        self.discarded.borrow_mut().push((real, bytes));
    }
}
