//! Instructions that a guest has the hypervisor carry out, one after the other on the same registers and memory.
#![cfg_attr(feature = "libfuzzer", no_main)]

use emulate::{
    Instruction, MAX_BYTES, Operation, Registers, State, decode, decode_prefixed, is_prefix, rows, units,
};
use fuzz::Input;
use power::Generation::{Power8, Power9, Power10};
use power::regs::Msr;

fuzz::target!(instruction, run);

/// A guest's registers.
#[derive(Clone, PartialEq, Debug)]
struct Set {
    gpr: [u64; 32],
    vsr: [[u64; 2]; 64],
}

impl Registers for Set {
    fn gpr(&self, number: u8) -> u64 {
        self.gpr[usize::from(number)]
    }

    fn set_gpr(&mut self, number: u8, value: u64) {
        self.gpr[usize::from(number)] = value;
    }

    fn vsr(&mut self, number: u8) -> [u64; 2] {
        self.vsr[usize::from(number)]
    }

    fn set_vsr(&mut self, number: u8, value: [u64; 2]) {
        self.vsr[usize::from(number)] = value;
    }
}

fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut set = Set { gpr: core::array::from_fn(|n| n as u64), vsr: [[0; 2]; 64] };
    let mut memory = [0x5a; MAX_BYTES];
    while !input.is_empty() {
        let msr = Msr::from_bits_retain(input.u64());
        let word = input.u32();
        let second = if is_prefix(word) { input.u32() } else { 0 };
        set.gpr[usize::from(input.u8() & 31)] = input.u64();
        memory[usize::from(input.u8()) % MAX_BYTES] = input.u8();
        let xer = input.u8().into();
        let decoded = if is_prefix(word) { decode_prefixed(word, second) } else { decode(word) };
        if let Some(instruction) = decoded {
            is_one_row(&instruction, word, second);
            carry_out(&instruction, &mut set, &mut memory, msr, xer);
        }
    }
}

/// What has been decoded is what its row says, and no other row's.
fn is_one_row(instruction: &Instruction, word: u32, second: u32) {
    let pair = if is_prefix(word) { (word, second) } else { (0, word) };
    let fits = |row: &&emulate::Row| {
        let (opcode, mask) = (row.opcode(), row.mask());
        // Of a prefix nine bits are the opcode's; in others bits after it may be reserved.
        (pair.0 ^ opcode.0) >> 23 == 0 && (pair.1 ^ opcode.1) & mask.1 & !1 == 0
    };
    let found: Vec<_> = rows().filter(fits).map(|row| row.name).collect();
    assert!(found.contains(&instruction.row().name), "{word:#x} {second:#x}: {found:?}");
}

fn carry_out(instruction: &Instruction, set: &mut Set, memory: &mut [u8; MAX_BYTES], msr: Msr, xer: u64) {
    let (wide, little) = (msr.contains(Msr::SF), msr.contains(Msr::LE));
    let refusals = [Power8, Power9, Power10].map(|generation| instruction.refusal(msr, generation));
    let _ = instruction.refusal_by_device();
    let state = State { gpr: &set.gpr, xer, pc: 0x1000, wide };
    let Some(operand) = instruction.operand(&state) else { return };
    assert!(operand.bytes <= MAX_BYTES && (wide || operand.ea >> 32 == 0), "{instruction:x?}");
    let covered: usize = units(operand.ea, operand.bytes).map(|(_, bytes)| bytes).sum();
    assert_eq!(covered, operand.bytes, "{instruction:x?}");
    if refusals[2].is_some() {
        return;
    }
    let memory = &mut memory[..operand.bytes];
    let before = (set.clone(), memory.to_vec());
    match instruction.operation() {
        Operation::Load => {
            instruction.load(set, memory, operand.ea, little);
            // Memory is as it was, and what has been loaded is what is stored.
            let mut stored = vec![0; operand.bytes];
            instruction.store(set, &mut stored, operand.ea, little);
            assert_eq!(stored, before.1, "{instruction:x?}");
            if let Some((register, bytes)) = instruction.simple() {
                let mut number = [0; 8];
                number[..bytes].copy_from_slice(memory);
                let loaded = instruction.loaded(u64::from_le_bytes(number), little);
                assert_eq!(loaded, set.gpr[usize::from(register)], "{instruction:x?}");
            }
        }
        Operation::Store => {
            instruction.store(set, memory, operand.ea, little);
            assert_eq!(*set, before.0, "{instruction:x?}");
            if let Some((register, bytes)) = instruction.simple() {
                let stored = instruction.stored(set.gpr[usize::from(register)], little);
                assert_eq!(stored.to_le_bytes()[..bytes], *memory, "{instruction:x?}");
            }
        }
        _ => {}
    }
    let _ = instruction.value(memory, little);
}
