//! Loads and stores where a partition has neither memory nor a device, as far as real mode does not carry them out
//! ([`realmode::mmio`]).
#![allow(unsafe_code)] // reaches into vector registers that are live in the machine

use hpt::{AccessKind, XlateError};
use papr::mmio::{MAX_BYTES, Operation, Register, decode};
use power::GuestReal;
use power::interrupt::{SRR1_ILLEGAL, Vector};
use power::regs::Msr;
use power::slb::SlbV;
use realmode::layout::Vcpu;
use realmode::mmio::complete;
pub use realmode::mmio::finish;
use realmode::{context, inject_saved};

use super::{After, Guest, storage};
use crate::log;
use crate::partition::Partition;

/// Emulates the instruction at the vCPU's `pc`, whose access went to `real`.
pub fn emulate(guest: &mut Guest<'_>, real: GuestReal) -> Result<(), After> {
    let partition = guest.partition;
    let Some(word) = fetch(partition, guest.regs) else {
        // The instruction itself is not to be had: the guest runs again and faults on it, or not.
        return Ok(());
    };
    let name = &partition.name;
    let regs = &mut *guest.regs;
    let pc = regs.pc;
    let logged = partition.core().nowhere.note(pc, real);
    let Some(instruction) = decode(word).filter(|instruction| instruction.operation != Operation::Zero)
    else {
        if logged {
            log!(
                "{name}: access to {real:#x}, where nothing is, by instruction {word:#010x} at {pc:#x} that is not emulated"
            );
        }
        inject_saved(regs, Vector::PROGRAM, SRR1_ILLEGAL);
        return Ok(());
    };
    if logged {
        let what = if instruction.operation == Operation::Load { "load from" } else { "store to" };
        log!("{name}: {what} {real:#x}, where nothing is, at {pc:#x}");
    }
    if !complete(regs, &instruction) {
        let ea = instruction.ea(&regs.gpr, regs.msr().contains(Msr::SF));
        let ones = [0xff; MAX_BYTES];
        let value = instruction.load(&ones[..ones.len().min(instruction.bytes as usize)], ea, true);
        set_register(guest, instruction.register, value);
        finish(guest.regs, &instruction, ea);
    }
    Ok(())
}

/// Sets a register of the vCPU, as [`papr::mmio::Instruction::load`] has it.
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
