//! Storage faults in virtual mode: memory that has to be populated or made private, the real mode area, and addresses
//! where there is nothing.

use hpt::{Access, AccessKind, Escalation, HptError, Resolved};
use paging::{Context, Error, Outcome};
use power::interrupt::Vector;
use power::regs::{Dsisr, Msr};
use power::slb::SlbV;
use power::{Ea, GuestReal, HpteR, PageSize};
use realmode::inject_saved;
use realmode::layout::{Behind, StorageFault, Vcpu};
use realmode::machine::VirtualMode;
use realmode::mmio::is_inhibited;

use super::{After, Guest, mmio, past};
use crate::partition::Partition;
use crate::sync::{self, Rank};

/// How often a fault may lead to another change of its page before the guest is let go to fault again.
const ATTEMPTS: usize = 4;

/// What the fault was: a fetch, a store or a load.
pub fn kind(fault: &StorageFault) -> AccessKind {
    let store = Dsisr::from_bits_retain(fault.cause).contains(Dsisr::ISSTORE);
    match (fault.fetch, store) {
        (true, _) => AccessKind::Execute,
        (false, true) => AccessKind::Write,
        (false, false) => AccessKind::Read,
    }
}

/// The access behind a fault of this vCPU.
pub fn access(regs: &Vcpu, ea: u64, slb: SlbV, kind: AccessKind) -> Access {
    let relocate = if kind == AccessKind::Execute { Msr::IR } else { Msr::DR };
    let (amr, iamr) = if regs.msr().contains(relocate) { (regs.amr, regs.iamr) } else { (0, 0) };
    Access { ea: Ea(ea), slb, kind, problem_state: regs.msr().contains(Msr::PR), amr, iamr }
}

/// Handles the fault that real mode has left in the vCPU.
pub fn handle(guest: &mut Guest<'_>) -> After {
    let result = match guest.regs.fault.behind {
        Behind::Bus(real) => mmio::emulate(guest, real),
        Behind::Entry(escalation) => backed(guest, &escalation),
        Behind::Nothing => real_mode(guest),
    };
    match result {
        Ok(()) => After::Continue,
        Err(after) => after,
    }
}

/// Makes a page what the access behind a fault needs. What fails is that there is no memory at the address: without memory for it the
/// partition ends.
fn prepare(guest: &Guest<'_>, real: GuestReal) -> Result<Outcome, After> {
    let fault = &guest.regs.fault;
    let context = Context { ea: Some(Ea(fault.ea)), pc: Some(Ea(guest.regs.pc)), value: None };
    match guest.partition.memory().fault(real, kind(fault), &context) {
        Outcome::Failed(error @ (Error::Limit | Error::Exhausted)) => {
            Err(After::out_of_memory(guest.partition, error))
        }
        outcome => Ok(outcome),
    }
}

/// A fault whose entry is known: make the page what the access needs, which it is not as far as real mode could see; then the entry.
fn backed(guest: &mut Guest<'_>, escalation: &Escalation) -> Result<(), After> {
    let core = guest.partition.core();
    let kind = kind(&guest.regs.fault);
    let real = escalation.real(Ea(guest.regs.fault.ea));
    // Nothing is to be done to the entry then.
    if core.slots.find(real).is_none() {
        return nothing_there(guest, real, Some(escalation.guest_r));
    }
    let is_memory = core.slots.page(real).is_some();
    for _ in 0..ATTEMPTS {
        if is_memory && prepare(guest, real)? == Outcome::Emulate {
            return past::carry_out(guest, real, kind);
        }
        match core.mmu().resolve(&VirtualMode::new(core.lpid), escalation, kind) {
            Resolved::Installed | Resolved::Changed => return Ok(()),
            Resolved::Blocked(_) => {}
            Resolved::NoPage => return nothing_there(guest, real, Some(escalation.guest_r)),
        }
    }
    Ok(())
}

/// A guest in real mode reached a page that has no entry yet: the hypervisor inserts it, on first touch as all else.
fn real_mode(guest: &mut Guest<'_>) -> Result<(), After> {
    let (ea, kind) = (Ea(guest.regs.fault.ea), kind(&guest.regs.fault));
    let real = GuestReal(SlbV(guest.regs.fault.slb_v).offset(ea));
    match prepare(guest, real)? {
        Outcome::Retry => {}
        Outcome::Emulate => return past::carry_out(guest, real, kind),
        Outcome::Failed(_) => return nothing_there(guest, real, None),
    }
    insert_real_mode(guest.partition, ea)
}

/// Inserts the entry of a page of the real mode area.
pub fn insert_real_mode(partition: &Partition, ea: Ea) -> Result<(), After> {
    let core = partition.core();
    let size = core.vrma.base_page().unwrap_or(PageSize::K64);
    let alone = sync::lock(Rank::Partition, &core.real_mode_area);
    let inserted = core.mmu().insert_vrma(&VirtualMode::new(core.lpid), size, ea);
    drop(alone);
    match inserted {
        Ok(_) => Ok(()),
        Err(HptError::TooHard) => partition.tables.lock().replenish().map_err(After::crash),
        Err(_) => Err(After::crash(alloc::format!(
            "partition {}: no room in its page table for its real mode area at {ea:#x}",
            partition.name
        ))),
    }
}

/// No slot claims the address. A cache-inhibited access meets an empty bus; for anything else there should have been
/// memory, and there is none.
fn nothing_there(guest: &mut Guest<'_>, real: GuestReal, guest_r: Option<HpteR>) -> Result<(), After> {
    let inhibited = guest_r.is_some_and(is_inhibited);
    if inhibited && !guest.regs.fault.fetch {
        return mmio::emulate(guest, real);
    }
    machine_check(guest.regs, guest.regs.fault.ea);
    Ok(())
}

/// The guest gets what a real address that does not exist gives. SRR1 and DSISR of that differ by processor; the guest's handler sees
/// that it was not recovered, and by DAR where it was.
pub fn machine_check(regs: &mut Vcpu, ea: u64) {
    regs.dar = ea;
    regs.dsisr = 0;
    inject_saved(regs, Vector::MACHINE_CHECK, 0);
}
