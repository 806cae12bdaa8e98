//! Loads and stores where a partition has no memory: they go to what is on its bus ([`load`], [`store`]). What meets nothing there is real
//! mode's, as far as that carries it out ([`realmode::mmio`]).
#![allow(unsafe_code)] // reaches into vector registers that are live in the machine

use emulate::{MAX_BYTES, Operation, Register, decode};
use hpt::{AccessKind, XlateError};
use power::GuestReal;
use power::interrupt::{SRR1_ILLEGAL, Vector};
use power::regs::Msr;
use power::slb::SlbV;
use realmode::layout::Vcpu;
pub use realmode::mmio::finish;
use realmode::{context, inject_saved};

use super::{After, Guest, storage};
use crate::log;
use crate::partition::Partition;

/// Loads from what is on the partition's bus at `real`: at most eight bytes, naturally aligned. False if nothing is, and they stay.
fn load(_partition: &Partition, _real: GuestReal, _bytes: &mut [u8]) -> bool {
    false
}

/// Stores to what is there, likewise.
fn store(_partition: &Partition, _real: GuestReal, _bytes: &[u8]) -> bool {
    false
}

/// Emulates the instruction at the vCPU's `pc`, whose access went to `real`.
pub fn emulate(guest: &mut Guest<'_>, real: GuestReal) -> Result<(), After> {
    let partition = guest.partition;
    let Some(word) = fetch(partition, guest.regs) else {
        // The instruction itself is not to be had: the guest runs again and faults on it, or not.
        return Ok(());
    };
    let Some(instruction) = decode(word).filter(|instruction| instruction.operation != Operation::Zero)
    else {
        if partition.core().nowhere.note(guest.regs.pc, real) {
            let (name, pc) = (&partition.name, guest.regs.pc);
            log!(
                "{name}: access to {real:#x}, where no memory is, by instruction {word:#010x} at {pc:#x} that is not emulated"
            );
        }
        inject_saved(guest.regs, Vector::PROGRAM, SRR1_ILLEGAL);
        return Ok(());
    };
    let msr = guest.regs.msr();
    let (wide, little) = (msr.contains(Msr::SF), msr.contains(Msr::LE));
    let ea = instruction.ea(&guest.regs.gpr, wide);
    let mut bytes = [0xff; MAX_BYTES];
    let len = bytes.len().min(instruction.bytes as usize);
    let (met, what) = match instruction.operation {
        Operation::Load => {
            let met = load(partition, real, &mut bytes[..len]);
            set_register(guest, instruction.register, instruction.load(&bytes[..len], ea, little));
            (met, "load from")
        }
        Operation::Store => {
            let value = register(guest, instruction.register);
            bytes = instruction.store(value, ea, little);
            (store(partition, real, &bytes[..len]), "store to")
        }
        Operation::Zero | Operation::Cache => (false, "cache operation on"),
    };
    if !met && partition.core().nowhere.note(guest.regs.pc, real) {
        log!("{}: {what} {real:#x}, where nothing is, at {:#x}", partition.name, guest.regs.pc);
    }
    finish(guest.regs, &instruction, ea);
    Ok(())
}

/// Sets a register of the vCPU, as [`emulate::Instruction::load`] has it.
pub fn set_register(guest: &mut Guest<'_>, register: Register, value: [u64; 2]) {
    let generation = guest.partition.core().features.generation;
    match register {
        Register::Gpr(number) => guest.regs.gpr[usize::from(number & 31)] = value[0],
        // SAFETY: the vCPU's registers are in the machine: it has just been left.
        Register::Vsr(number) => unsafe {
            context::set_vsr(generation, guest.regs.context.get_mut(), number, value);
        },
        Register::None => {}
    }
}

/// What a register has.
pub fn register(guest: &mut Guest<'_>, register: Register) -> [u64; 2] {
    let generation = guest.partition.core().features.generation;
    match register {
        Register::Gpr(number) => [guest.regs.gpr[usize::from(number & 31)], 0],
        // SAFETY: as above.
        Register::Vsr(number) => unsafe { context::vsr(generation, guest.regs.context.get_mut(), number) },
        Register::None => [0; 2],
    }
}

/// The instruction word at `pc`, through the guest's own translation.
pub fn fetch(partition: &Partition, regs: &Vcpu) -> Option<u32> {
    let slb = if regs.msr().contains(Msr::IR) { segment(regs, regs.pc)? } else { partition.core().vrma };
    let access = storage::access(regs, regs.pc, slb, AccessKind::Execute);
    let host = match partition.core().mmu().xlate(&access) {
        Ok(translation) => translation.real,
        Err(XlateError::NotFound(_) | XlateError::Denied(_) | XlateError::Busy) => return None,
    };
    let mut bytes = [0; 4];
    // The guest has fetched it before.
    partition.memory().read_past(host, &mut bytes).ok()?;
    let little = regs.msr().contains(Msr::LE);
    Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
}

/// The VSID dword of the segment that an address is in, among those saved with the vCPU.
pub fn segment(regs: &Vcpu, ea: u64) -> Option<SlbV> {
    regs.slb.get(..regs.slb_count as usize)?.iter().find_map(|entry| {
        let slb = SlbV(entry.v);
        let shift = slb.segment().shift();
        (entry.e >> shift == ea >> shift).then_some(slb)
    })
}
