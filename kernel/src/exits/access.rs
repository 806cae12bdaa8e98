//! Loads and stores carried out by hand, as the processor would have done it: each page of the operand is translated as the guest has it, and
//! what is in it is memory, whoever protects it, or is on the bus. Nothing has happened if an instruction does not come to its end.

use emulate::{Instruction, MAX_BYTES, Operand, Operation, Refusal, State, units};
use hpt::{AccessKind, Target, XlateError};
use paging::Error;
use power::interrupt::{SRR1_ILLEGAL, Vector};
use power::regs::{Dsisr, Msr};
use power::{Ea, GuestReal};
use realmode::inject_saved;
use realmode::instructions::pause;
use realmode::layout::Vcpu;
use realmode::mmio::{finish, is_inhibited};

use super::storage::{access, insert_real_mode, machine_check};
use super::{After, Guest, mmio};
use crate::watch::Access;

/// How often something that others change meanwhile is tried before the guest is let go to fault again.
pub const ATTEMPTS: usize = 16;

/// The least page size: an access is in one page if it is in one of these.
const PAGE: u64 = 4096;

/// Why an access is not carried out here.
pub enum Stop {
    /// The guest goes on as it is: it has got an interrupt, or tries again.
    Resume,
    /// This can only be done by the processor.
    Aside,
    /// The processor would not do it: the guest is to get this.
    Refused(Refusal),
    /// The vCPU does not go on.
    End(After),
}

/// What a part of an operand is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Memory,
    Bus,
}

/// The part of an operand that is in one page.
#[derive(Clone, Copy)]
struct Part {
    ea: u64,
    real: GuestReal,
    start: usize,
    end: usize,
    place: Place,
}

/// Carries out the instruction at the vCPU's `pc`, and lets it go on behind it. Accesses to memory that a watch forbids are told.
pub fn perform(guest: &mut Guest<'_>, instruction: &Instruction) -> Result<(), Stop> {
    let msr = guest.regs.msr();
    let generation = guest.partition.core().features.generation;
    if let Some(refusal) = instruction.refusal(msr, generation) {
        return Err(Stop::Refused(refusal));
    }
    let (wide, little) = (msr.contains(Msr::SF), msr.contains(Msr::LE));
    let regs = &*guest.regs;
    let state = State { gpr: &regs.gpr, xer: regs.xer, pc: regs.pc, wide };
    let operand = instruction.operand(&state).ok_or(Stop::Refused(Refusal::Illegal))?;
    let kind = if instruction.stores() { AccessKind::Write } else { AccessKind::Read };
    let parts = parts(guest, &operand, wide, kind)?;
    let parts = || parts.iter().flatten();
    if parts().any(|part| part.place == Place::Bus)
        && let Some(refusal) = instruction.refusal_by_device()
    {
        return Err(Stop::Refused(refusal));
    }
    let mut bytes = [0; MAX_BYTES];
    let memory = &mut bytes[..operand.bytes.min(MAX_BYTES)];
    let done = match instruction.operation() {
        Operation::Load => {
            let read = parts().try_for_each(|part| load(guest, part, &mut memory[part.start..part.end]));
            read.map(|()| instruction.load(guest, memory, operand.ea, little))
        }
        Operation::Store => {
            instruction.store(guest, memory, operand.ea, little);
            parts().try_for_each(|part| store(guest, part, &memory[part.start..part.end]))
        }
        Operation::Zero => parts().try_for_each(|part| store(guest, part, &memory[part.start..part.end])),
        Operation::Cache => parts().try_for_each(|part| sync(guest, part)),
        Operation::Reserve | Operation::Conditional | Operation::Atomic => return Err(Stop::Aside),
    };
    done.map_err(|error| Stop::End(After::out_of_memory(guest.partition, error)))?;
    for part in parts().filter(|part| part.place == Place::Memory) {
        let report = Access {
            kind,
            ea: Ea(part.ea),
            real: part.real,
            pc: Ea(guest.regs.pc),
            server: guest.vcpu.server,
            bytes: Some(operand.bytes as u64),
            value: instruction.value(memory, little),
        };
        if guest.partition.watches.report(&report) {
            break;
        }
    }
    finish(guest.regs, instruction, operand.ea);
    Ok(())
}

fn load(guest: &Guest<'_>, part: &Part, to: &mut [u8]) -> Result<(), Error> {
    if part.place == Place::Memory {
        return guest.partition.memory().read_past(part.real, to);
    }
    for (offset, bytes) in units(part.real.0, to.len()) {
        mmio::load(
            guest,
            GuestReal(part.real.0.wrapping_add(offset as u64)),
            &mut to[offset..offset + bytes],
        );
    }
    Ok(())
}

fn store(guest: &Guest<'_>, part: &Part, from: &[u8]) -> Result<(), Error> {
    if part.place == Place::Memory {
        return guest.partition.memory().write_past(part.real, from);
    }
    for (offset, bytes) in units(part.real.0, from.len()) {
        mmio::store(guest, GuestReal(part.real.0.wrapping_add(offset as u64)), &from[offset..offset + bytes]);
    }
    Ok(())
}

/// Makes caches agree; devices have none.
fn sync(guest: &Guest<'_>, part: &Part) -> Result<(), Error> {
    match part.place {
        Place::Memory => guest.partition.memory().sync_past(part.real, (part.end - part.start) as u64),
        Place::Bus => Ok(()),
    }
}

/// Translates an operand, each page by itself. It has at most two.
fn parts(
    guest: &mut Guest<'_>,
    operand: &Operand,
    wide: bool,
    kind: AccessKind,
) -> Result<[Option<Part>; 2], Stop> {
    let (ea, bytes) = (operand.ea, operand.bytes);
    let here = bytes.min((PAGE - ea % PAGE) as usize);
    let mut part = |start: usize, end: usize| {
        if start == end {
            return Ok(None);
        }
        let ea = ea.wrapping_add(start as u64);
        let ea = if wide { ea } else { ea & 0xffff_ffff };
        let (real, place) = translate(guest, ea, kind)?;
        Ok(Some(Part { ea, real, start, end, place }))
    };
    Ok([part(0, here)?, part(here, bytes)?])
}

/// Translates an address as the processor would, or gives the guest the interrupt that it would get.
fn translate(guest: &mut Guest<'_>, ea: u64, kind: AccessKind) -> Result<(GuestReal, Place), Stop> {
    let core = guest.partition.core();
    let translated = guest.regs.msr().contains(Msr::DR);
    let slb = if translated { mmio::segment(guest.regs, ea) } else { Some(core.vrma) };
    let Some(slb) = slb else {
        guest.regs.dar = ea;
        inject_saved(guest.regs, Vector::DATA_SEGMENT, 0);
        return Err(Stop::Resume);
    };
    for _ in 0..ATTEMPTS {
        let denied = match core.mmu().xlate(&access(guest.regs, ea, slb, kind)) {
            Ok(translation) => {
                let real = translation.real;
                return match core.slots.find(real) {
                    Some(Target::Ram(..)) => Ok((real, Place::Memory)),
                    // A device of the host's: only an access that is not aligned comes to it here.
                    Some(Target::Device(..)) => Err(Stop::Aside),
                    None if is_inhibited(translation.guest_r) => Ok((real, Place::Bus)),
                    None => {
                        machine_check(guest.regs, ea);
                        Err(Stop::Resume)
                    }
                };
            }
            Err(XlateError::Busy) => {
                pause();
                continue;
            }
            Err(XlateError::NotFound(_)) if !translated => {
                if core.slots.page(GuestReal(slb.offset(Ea(ea)))).is_none() {
                    return Err(Stop::Aside);
                }
                insert_real_mode(guest.partition, Ea(ea)).map_err(Stop::End)?;
                continue;
            }
            Err(XlateError::NotFound(denied) | XlateError::Denied(denied)) => denied,
        };
        deny(guest.regs, ea, denied);
        return Err(Stop::Resume);
    }
    Err(Stop::Resume)
}

/// Gives the guest a data storage interrupt.
fn deny(regs: &mut Vcpu, ea: u64, why: Dsisr) {
    regs.dar = ea;
    regs.dsisr = why.bits();
    inject_saved(regs, Vector::DATA_STORAGE, 0);
}

/// Gives the guest what the processor gives it instead of an access.
pub fn refuse(regs: &mut Vcpu, instruction: &Instruction, refusal: Refusal) {
    use emulate::Facility;
    let vector = match refusal {
        Refusal::Illegal => return inject_saved(regs, Vector::PROGRAM, SRR1_ILLEGAL),
        Refusal::Unavailable(Facility::Vector) => Vector::VMX_UNAVAILABLE,
        Refusal::Unavailable(Facility::VectorScalar) => Vector::VSX_UNAVAILABLE,
        Refusal::Unavailable(Facility::FloatingPoint | Facility::Always) => Vector::FP_UNAVAILABLE,
        Refusal::Alignment(dsisr) => {
            regs.dar = instruction.ea(&regs.gpr, regs.pc, regs.msr().contains(Msr::SF));
            regs.dsisr = dsisr;
            Vector::ALIGNMENT
        }
        Refusal::Conflict => {
            let ea = instruction.ea(&regs.gpr, regs.pc, regs.msr().contains(Msr::SF));
            let store = if instruction.stores() { Dsisr::ISSTORE } else { Dsisr::empty() };
            return deny(regs, ea, Dsisr::BAD_ACCESS | store);
        }
    };
    inject_saved(regs, vector, 0);
}
