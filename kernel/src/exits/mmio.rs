//! Loads and stores where a partition has no memory: they go to what is on its bus ([`load`], [`store`]). What meets nothing there is real
//! mode's, as far as that carries it out ([`realmode::mmio`]).
#![allow(unsafe_code)] // reads instructions by their real addresses, and reaches into vector registers that are live in the machine

use emulate::{Instruction, Registers, decode, decode_prefixed, is_prefix};
use hpt::AccessKind;
use power::interrupt::{SRR1_ILLEGAL, Vector};
use power::regs::{Dsisr, Msr};
use power::slb::SlbV;
use power::{Generation, GuestReal};
use realmode::layout::Vcpu;
use realmode::mmio::finish;
use realmode::{context, inject_saved};

use super::access::{self, Stop};
use super::{After, Guest, storage};
use crate::devices::bus;
use crate::log;
use crate::partition::Partition;

/// SRR1 of a trace interrupt, and what the instruction did (Power ISA 3.0C, book III, 6.5.15).
const SRR1_TRACE: u64 = 1 << 30;
const SRR1_LOADED: u64 = 1 << 28;
const SRR1_STORED: u64 = 1 << 27;

/// Loads from what is on the partition's bus at `real`: up to eight bytes, naturally aligned. What meets nothing is all ones.
pub fn load(guest: &Guest<'_>, real: GuestReal, bytes: &mut [u8]) {
    bytes.fill(0xff);
    if !bus::load(guest.partition, real, bytes) {
        note(guest, "load from", real);
    }
}

/// Stores to what is there, likewise. What meets nothing is lost.
pub fn store(guest: &Guest<'_>, real: GuestReal, bytes: &[u8]) {
    if !bus::store(guest.partition, real, bytes) {
        note(guest, "store to", real);
    }
}

/// An access met nothing. The first few are told.
fn note(guest: &Guest<'_>, what: &str, real: GuestReal) {
    let (partition, pc) = (guest.partition, guest.regs.pc);
    if partition.core().nowhere.note(pc, real) {
        log!("{}: {what} {real:#x}, where nothing is, at {pc:#x}", partition.name);
    }
}

/// Emulates the instruction at the vCPU's `pc`, whose access went to `real`, on a bus.
pub fn emulate(guest: &mut Guest<'_>, real: GuestReal) -> Result<(), After> {
    let (pc, msr) = (guest.regs.pc, guest.regs.msr());
    let instruction = match fetch(guest.partition, guest.regs) {
        Some(Fetched::Known(instruction)) => instruction,
        Some(Fetched::Unknown(word)) => {
            if guest.partition.core().nowhere.note_unknown(word) {
                log!(
                    "{}: access to {real:#x}, where no memory is, by instruction {word:#010x} at {pc:#x} that is not emulated",
                    guest.partition.name
                );
            }
            inject_saved(guest.regs, Vector::PROGRAM, SRR1_ILLEGAL);
            return Ok(());
        }
        // The instruction itself is not to be had: the guest runs again and faults on it, or not.
        None => return Ok(()),
    };
    if !at_once(guest, &instruction, real) {
        match access::perform(guest, &instruction) {
            Ok(()) => {}
            Err(Stop::Resume) => return Ok(()),
            Err(Stop::Refused(refusal)) => {
                access::refuse(guest.regs, &instruction, refusal);
                return Ok(());
            }
            // Of a device of the host's, or nowhere after all: the processor would not have split it.
            Err(Stop::Aside) => {
                access::refuse(guest.regs, &instruction, instruction.misaligned());
                return Ok(());
            }
            Err(Stop::End(after)) => return Err(after),
        }
    }
    if msr.contains(Msr::SE) {
        let what = if instruction.stores() { SRR1_STORED } else { SRR1_LOADED };
        inject_saved(guest.regs, Vector::TRACE, SRR1_TRACE | what);
    }
    Ok(())
}

/// Carries out what nearly every access to a device is: one general purpose register, and nothing but the bytes that are at `real`.
fn at_once(guest: &mut Guest<'_>, instruction: &Instruction, real: GuestReal) -> bool {
    let Some((register, bytes)) = instruction.simple() else { return false };
    let regs = &*guest.regs;
    let msr = regs.msr();
    let ea = instruction.ea(&regs.gpr, regs.pc, msr.contains(Msr::SF));
    let stored = Dsisr::from_bits_retain(regs.fault.cause).contains(Dsisr::ISSTORE);
    // Otherwise the instruction is not the one that faulted, or more of it is to be translated.
    if ea != regs.fault.ea || ea & (bytes as u64 - 1) != 0 || instruction.stores() != stored {
        return false;
    }
    let little = msr.contains(Msr::LE);
    let register = usize::from(register & 31);
    if stored {
        let number = instruction.stored(regs.gpr[register], little);
        store(guest, real, &number.to_le_bytes()[..bytes.min(8)]);
    } else {
        let mut number = [0; 8];
        load(guest, real, &mut number[..bytes.min(8)]);
        guest.regs.gpr[register] = instruction.loaded(u64::from_le_bytes(number), little);
    }
    finish(guest.regs, instruction, ea);
    true
}

/// The registers of the vCPU, which has just been left.
impl Registers for Guest<'_> {
    fn gpr(&self, number: u8) -> u64 {
        self.regs.gpr[usize::from(number & 31)]
    }

    fn set_gpr(&mut self, number: u8, value: u64) {
        self.regs.gpr[usize::from(number & 31)] = value;
    }

    fn vsr(&mut self, number: u8) -> [u64; 2] {
        let generation = self.partition.core().features.generation;
        // SAFETY: the vCPU's registers are in the machine: it has just been left.
        unsafe { context::vsr(generation, self.regs.context.get_mut(), number) }
    }

    fn set_vsr(&mut self, number: u8, value: [u64; 2]) {
        let generation = self.partition.core().features.generation;
        // SAFETY: as above.
        unsafe { context::set_vsr(generation, self.regs.context.get_mut(), number, value) };
    }
}

/// What is at a vCPU's `pc`.
pub enum Fetched {
    /// A load, a store, or something like it.
    Known(Instruction),
    /// Something else: its first word.
    Unknown(u32),
}

/// The instruction at `pc`, through the guest's own translation; `None` if it is not to be had.
pub fn fetch(partition: &Partition, regs: &Vcpu) -> Option<Fetched> {
    let word = fetch_word(partition, regs, regs.pc)?;
    let generation = partition.core().features.generation;
    let instruction = if is_prefix(word) && generation >= Generation::Power10 {
        // Both are in 64 bytes, or the processor would not have come so far.
        decode_prefixed(word, fetch_word(partition, regs, regs.pc.wrapping_add(4))?)
    } else {
        decode(word)
    };
    Some(match instruction {
        Some(instruction) if instruction.exists(generation) => Fetched::Known(instruction),
        _ => Fetched::Unknown(word),
    })
}

/// A word of an instruction, likewise.
pub fn fetch_word(partition: &Partition, regs: &Vcpu, pc: u64) -> Option<u32> {
    let slb = if regs.msr().contains(Msr::IR) { segment(regs, pc)? } else { partition.core().vrma };
    let access = storage::access(regs, pc, slb, AccessKind::Execute);
    let translated = partition.core().mmu().xlate_with(&access, |translation| {
        // SAFETY: memory of the partition that it may read, aligned as the guest's `pc` is, and in one page.
        let word =
            translation.memory.map(|at| unsafe { (at.ea() as *const u32).read_volatile().to_ne_bytes() });
        (translation.real, word)
    });
    let bytes = match translated.ok()? {
        (_, Some(word)) => word,
        // Its page is protected. The guest has fetched it before.
        (real, None) => {
            let mut word = [0; 4];
            partition.memory().read_past(real, &mut word).ok()?;
            word
        }
    };
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
