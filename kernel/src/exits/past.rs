//! Accesses to pages that somebody keeps protected: the instruction is carried out here, past the limit, as the processor would have done it.
//!
//! That goes for loads, stores and cache operations ([`access`]). For everything else (reservations, single steps, fetches, what the processor
//! refuses) the limits of watches on the page are lifted until the instruction has run.

use hpt::AccessKind;
use paging::{Context, Outcome};
use power::regs::Msr;
use power::{Ea, GuestReal};

use super::access::{self, ATTEMPTS, Stop};
use super::mmio::{self, Fetched};
use super::{After, Guest};
use crate::watch::Access;

/// Carries out the instruction whose access of this kind to `real` somebody's limit forbids.
pub fn carry_out(guest: &mut Guest<'_>, real: GuestReal, kind: AccessKind) -> Result<(), After> {
    let stop = match by_hand(guest, kind) {
        Ok(()) => return Ok(()),
        Err(stop) => stop,
    };
    match stop {
        Stop::Resume => Ok(()),
        Stop::Aside | Stop::Refused(_) => step_aside(guest, real, kind),
        Stop::End(after) => Err(after),
    }
}

fn by_hand(guest: &mut Guest<'_>, kind: AccessKind) -> Result<(), Stop> {
    // After an instruction that is traced there is an interrupt.
    if kind == AccessKind::Execute || guest.regs.msr().intersects(Msr::SE | Msr::BE) {
        return Err(Stop::Aside);
    }
    // An instruction that is not to be had any more, or that is in a device: the guest runs again and faults on it, or not.
    match mmio::fetch(guest.partition, guest.regs) {
        Some(Fetched::Known(instruction)) => access::perform(guest, &instruction),
        Some(Fetched::Unknown(_)) | None => Err(Stop::Aside),
    }
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
