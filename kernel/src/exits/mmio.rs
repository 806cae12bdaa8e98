//! Loads and stores where a partition has neither memory nor a device: an empty bus. Loads read all ones, stores are
//! dropped.
#![allow(unsafe_code)] // reaches into vector registers that are live in the machine

use core::sync::atomic::Ordering;

use hpt::{AccessKind, XlateError};
use papr::mmio::{Instruction, Target as Register, decode};
use power::GuestReal;
use power::interrupt::{SRR1_ILLEGAL, Vector};
use power::regs::Msr;
use power::slb::SlbV;
use realmode::layout::Vcpu;
use realmode::{context, inject_saved};

use super::{After, Guest, storage};
use crate::log;
use crate::partition::Partition;

/// How many accesses to nowhere a partition gets a line for.
const LOGGED: u32 = 8;

/// Emulates the instruction at the vCPU's `pc`, whose access went to `real`.
pub fn emulate(guest: &mut Guest<'_>, real: GuestReal) -> Result<(), After> {
    let partition = guest.partition;
    let Some(word) = fetch(partition, guest.regs) else {
        // The instruction itself is not to be had: the guest runs again and faults on it, or not.
        return Ok(());
    };
    let logged = partition.accesses_to_nowhere.load(Ordering::Relaxed) < LOGGED;
    if logged {
        partition.accesses_to_nowhere.fetch_add(1, Ordering::Relaxed);
    }
    let name = &partition.name;
    let generation = partition.core().features.generation;
    let regs = &mut *guest.regs;
    let pc = regs.pc;
    let Some(Instruction { store, target, update }) = decode(word) else {
        if logged {
            log!(
                "{name}: access to {real:#x}, where nothing is, by instruction {word:#010x} at {pc:#x} that is not emulated"
            );
        }
        inject_saved(regs, Vector::PROGRAM, SRR1_ILLEGAL);
        return Ok(());
    };
    if logged {
        let what = if store { "store to" } else { "load from" };
        log!("{name}: {what} {real:#x}, where nothing is, at {pc:#x}");
    }
    match target {
        Register::Gpr { number, value } => regs.gpr[number as usize] = value,
        // SAFETY: the vCPU's registers are in the machine: it has just been left.
        Register::Vsr { number, value } => unsafe {
            context::set_vsr(generation, regs.context.get_mut(), number, value);
        },
        Register::None => {}
    }
    if let Some(base) = update {
        regs.gpr[base as usize] = regs.fault.ea;
    }
    regs.pc = pc.wrapping_add(4);
    Ok(())
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
    partition.memory().read(host, &mut bytes).ok()?;
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
