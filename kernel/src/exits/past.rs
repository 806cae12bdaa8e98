//! Accesses to pages that somebody keeps protected: the instruction is carried out here, past the limit, as the processor would have done it.
//!
//! That goes for what moves one register or one cache block ([`emulate`]). For everything else (reservations, multiple and string forms,
//! prefixed instructions, single steps, fetches) the limits of watches on the page are lifted until the instruction has run.

use emulate::{BLOCK, Facility, Instruction, MAX_BYTES, Operation, decode};
use hpt::{AccessKind, XlateError};
use paging::{Context, Error, Outcome};
use power::interrupt::Vector;
use power::regs::{Dsisr, Msr};
use power::{Ea, GuestReal};
use realmode::inject_saved;
use realmode::instructions::pause;
use realmode::layout::Vcpu;

use super::storage::{access, insert_real_mode};
use super::{After, Guest, mmio};
use crate::watch::Access;

/// How often something that others change meanwhile is tried before the guest is let go to fault again.
const ATTEMPTS: usize = 16;

/// The least page size: an access is in one page if it is in one of these.
const PAGE: u64 = 4096;

/// Why an access is not carried out here.
enum Stop {
    /// The guest goes on as it is: it has got an interrupt, or tries again.
    Resume,
    /// The processor has to do it.
    Aside,
    /// The vCPU does not go on.
    End(After),
}

/// The part of an access that is in one page.
#[derive(Clone, Copy)]
struct Piece {
    ea: u64,
    real: GuestReal,
    start: usize,
    end: usize,
}

/// Carries out the instruction whose access of this kind to `real` somebody's limit forbids.
pub fn carry_out(guest: &mut Guest<'_>, real: GuestReal, kind: AccessKind) -> Result<(), After> {
    let stop = match by_hand(guest, kind) {
        Ok(()) => return Ok(()),
        Err(stop) => stop,
    };
    match stop {
        Stop::Resume => Ok(()),
        Stop::Aside => step_aside(guest, real, kind),
        Stop::End(after) => Err(after),
    }
}

fn by_hand(guest: &mut Guest<'_>, kind: AccessKind) -> Result<(), Stop> {
    // After an instruction that is traced there is an interrupt.
    if kind == AccessKind::Execute || guest.regs.msr().intersects(Msr::SE | Msr::BE) {
        return Err(Stop::Aside);
    }
    // An instruction that is not to be had any more, or that is in a device: the guest runs again and faults on it, or not.
    let word = mmio::fetch(guest.partition, guest.regs).ok_or(Stop::Aside)?;
    let usable = |instruction: &Instruction| is_available(guest.regs, instruction.facility);
    let instruction = decode(word).filter(usable).ok_or(Stop::Aside)?;
    let wide = guest.regs.msr().contains(Msr::SF);
    let ea = instruction.ea(&guest.regs.gpr, wide);
    let kind = if instruction.stores() { AccessKind::Write } else { AccessKind::Read };
    let (first, second) = pieces(guest, &instruction, ea, wide, kind)?;
    let value = perform(guest, &instruction, ea, [Some(first), second]).map_err(|error| match error {
        // A device, or nothing.
        Error::NoRam => Stop::Aside,
        error => Stop::End(After::out_of_memory(guest.partition, error)),
    })?;
    for piece in [Some(first), second].into_iter().flatten() {
        let report = Access {
            kind,
            ea: Ea(piece.ea),
            real: piece.real,
            pc: Ea(guest.regs.pc),
            server: guest.vcpu.server,
            bytes: Some(instruction.bytes),
            value,
        };
        if guest.partition.watches.report(&report) {
            break;
        }
    }
    mmio::finish(guest.regs, &instruction, ea);
    Ok(())
}

/// May the guest use the facility? If not, the interrupt that says so comes first.
fn is_available(regs: &Vcpu, facility: Facility) -> bool {
    let needed = match facility {
        Facility::Always => Msr::empty(),
        Facility::FloatingPoint => Msr::FP,
        Facility::Vector => Msr::VEC,
        Facility::VectorScalar => Msr::VSX,
    };
    regs.msr().contains(needed)
}

/// Translates an access, each page by itself.
fn pieces(
    guest: &mut Guest<'_>,
    instruction: &Instruction,
    ea: u64,
    wide: bool,
    kind: AccessKind,
) -> Result<(Piece, Option<Piece>), Stop> {
    let bytes = instruction.bytes.min(PAGE);
    let here = bytes.min(PAGE - ea % PAGE);
    let first = Piece { ea, real: translate(guest, ea, kind)?, start: 0, end: here as usize };
    if here == bytes {
        return Ok((first, None));
    }
    let ea = ea.wrapping_add(here);
    let ea = if wide { ea } else { ea & 0xffff_ffff };
    let second = Piece { ea, real: translate(guest, ea, kind)?, start: here as usize, end: bytes as usize };
    Ok((first, Some(second)))
}

/// Translates an address as the processor would, or gives the guest the interrupt that it would get.
fn translate(guest: &mut Guest<'_>, ea: u64, kind: AccessKind) -> Result<GuestReal, Stop> {
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
            Ok(translation) => return Ok(translation.real),
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
        return Err(deny(guest.regs, ea, denied));
    }
    Err(Stop::Resume)
}

/// Gives the guest a data storage interrupt.
fn deny(regs: &mut Vcpu, ea: u64, why: Dsisr) -> Stop {
    regs.dar = ea;
    regs.dsisr = why.bits();
    inject_saved(regs, Vector::DATA_STORAGE, 0);
    Stop::Resume
}

/// Does the access, memory and register; answers the value, if there is one.
fn perform(
    guest: &mut Guest<'_>,
    instruction: &Instruction,
    ea: u64,
    pieces: [Option<Piece>; 2],
) -> Result<Option<u128>, Error> {
    let partition = guest.partition;
    let memory = partition.memory();
    let little = guest.regs.msr().contains(Msr::LE);
    let pieces = pieces.into_iter().flatten();
    let mut bytes = [0; MAX_BYTES];
    let len = bytes.len().min(instruction.bytes as usize);
    match instruction.operation {
        Operation::Load => {
            for piece in pieces {
                memory.read_past(piece.real, &mut bytes[piece.start..piece.end])?;
            }
            let value = instruction.load(&bytes[..len], ea, little);
            mmio::set_register(guest, instruction.register, value);
        }
        Operation::Store => {
            let value = mmio::register(guest, instruction.register);
            bytes = instruction.store(value, ea, little);
            for piece in pieces {
                memory.write_past(piece.real, &bytes[piece.start..piece.end])?;
            }
        }
        Operation::Zero => {
            for piece in pieces {
                memory.write_past(piece.real, &[0; BLOCK as usize])?;
            }
            return Ok(Some(0));
        }
        Operation::Cache => {
            for piece in pieces {
                memory.sync_past(piece.real, BLOCK)?;
            }
            return Ok(None);
        }
    }
    Ok(Some(instruction.value(&bytes[..len], little)))
}

/// Lets the processor do it, past the limits of watches.
fn step_aside(guest: &mut Guest<'_>, real: GuestReal, kind: AccessKind) -> Result<(), After> {
    let partition = guest.partition;
    let (ea, pc) = (Ea(guest.regs.fault.ea), Ea(guest.regs.pc));
    let report = Access { kind, ea, real, pc, server: guest.vcpu.server, bytes: None, value: None };
    for _ in 0..ATTEMPTS {
        if partition.watches.step_aside(partition, &report) {
            return Ok(());
        }
        // No watch forbids it any more. Does anybody?
        let context = Context { ea: Some(ea), pc: Some(pc), value: None };
        if partition.memory().fault(real, kind, &context) != Outcome::Emulate {
            return Ok(());
        }
    }
    Err(After::crash(alloc::format!(
        "partition {}: an access to {real:#x} by the instruction at {pc:#x} cannot be carried out past a protection",
        partition.name
    )))
}
