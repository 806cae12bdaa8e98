//! Interrupts from a guest into real mode, other than hypercalls: which are the guest's own, which end here and which
//! need virtual mode.
#![allow(unsafe_code)] // called by assembly; reads the registers that describe the interrupt

use core::sync::atomic::Ordering;

use ::trace::{Outcome, Subject, What};
use hpt::{Access, AccessKind, Fault, Resolved, Triage};
use power::interrupt::{SRR1_ILLEGAL, Vector};
use power::regs::{Dsisr, Msr};
use power::slb::SlbV;
use power::{Ea, Hcall, spr};

use crate::deliver::{cpu_of, deliver_pending, inject, set_hdec};
use crate::host;
use crate::instructions::{mfspr, mtspr, slbfee, timebase};
use crate::layout::{Behind, ExitCode, StorageFault, Vcpu};
use crate::machine::RealMode;
use crate::memory::{insert_real_mode, populate};
use crate::mmio;
use crate::partition::Partition;
use crate::trace::{count, record};

/// What the assembly does next: 0 to return to the guest, an [`ExitCode`], or after a storage fault this: to call [`rm_emulate`].
const RESUME: u64 = 0;
/// See [`RESUME`].
pub const EMULATE: u64 = 0x100;

/// The cause bits that an instruction storage interrupt leaves in HSRR1.
const FETCH_CAUSES: Dsisr =
    Dsisr::NOHPTE.union(Dsisr::NOEXEC_OR_GUARDED).union(Dsisr::PROTFAULT).union(Dsisr::KEYFAULT);

/// Causes that the page table decides on. Everything else is the guest's own affair.
const TABLE_CAUSES: Dsisr = FETCH_CAUSES;

/// HDSI and HISI (Power ISA 3.0C, book III, 6.5.18 and 6.5.19). `ea` is HDAR or the fetch's address, `cause` HDSISR or HSRR1.
#[unsafe(no_mangle)]
extern "C" fn rm_storage_fault(vcpu: &mut Vcpu, ea: u64, cause: u64, fetch: u64) -> u64 {
    vcpu.left_at = timebase();
    let fetch = fetch != 0;
    let mut cause = Dsisr::from_bits_retain(cause);
    if fetch {
        cause &= FETCH_CAUSES;
    }
    match storage_fault(vcpu, ea, cause, fetch) {
        Ok(outcome) => after_fault(vcpu, outcome, ea, cause, fetch),
        Err(Unsaved) => EMULATE,
    }
}

/// The access behind the vCPU's storage fault went to where nothing is; all its general purpose registers are in the vCPU, to be read and
/// changed.
#[unsafe(no_mangle)]
extern "C" fn rm_emulate(vcpu: &mut Vcpu) -> u64 {
    // SAFETY: a vCPU's partition outlives it.
    let partition = unsafe { &*vcpu.partition };
    let (ea, cause) = (vcpu.fault.ea, Dsisr::from_bits_retain(vcpu.fault.cause));
    let done = mmio::emulate(vcpu, partition, ea, mmio::ALL);
    let outcome = if done { Outcome::Emulated } else { Outcome::Escalated };
    after_fault(vcpu, outcome, ea, cause, false)
}

/// Tells what became of a fault.
#[inline(always)]
fn after_fault(vcpu: &Vcpu, outcome: Outcome, ea: u64, cause: Dsisr, fetch: bool) -> u64 {
    record(vcpu, What::Fault { outcome, fetch, ea, cause: cause.bits() });
    count(vcpu, Subject::Fault(outcome));
    if outcome == Outcome::Escalated { ExitCode::Storage as u64 } else { RESUME }
}

/// An instruction is to be carried out that names registers which are not in the vCPU yet.
struct Unsaved;

/// Decides what a storage fault means and does what can be done at once.
#[inline(always)]
fn storage_fault(vcpu: &mut Vcpu, ea: u64, cause: Dsisr, fetch: bool) -> Result<Outcome, Unsaved> {
    // SAFETY: a vCPU's partition outlives it.
    let partition = unsafe { &*vcpu.partition };
    let kind = match (fetch, cause.contains(Dsisr::ISSTORE)) {
        (true, _) => AccessKind::Execute,
        (false, true) => AccessKind::Write,
        (false, false) => AccessKind::Read,
    };
    // Without its segment, which has gone, the guest takes a segment interrupt of its own.
    let Some(access) = access(vcpu, partition, ea, kind) else { return Ok(Outcome::Retried) };
    if !cause.intersects(TABLE_CAUSES) {
        return Ok(reflect(vcpu, ea, cause, fetch));
    }
    let translated = is_translated(vcpu, kind);
    let behind = match partition.mmu().triage(&Fault { access, cause }) {
        Triage::Retry => return Ok(Outcome::Retried),
        // In real mode the entry is not the guest's to insert.
        Triage::Reflect(bits) if !translated && bits.contains(Dsisr::NOHPTE) => {
            if insert_real_mode(vcpu, access.slb, access.ea, kind) {
                return Ok(Outcome::Populated);
            }
            Behind::Nothing
        }
        Triage::Reflect(bits) => return Ok(reflect(vcpu, ea, bits, fetch)),
        // What backs the page may allow the access by now, and the entry only lag behind: one page of the host is many
        // of a guest that uses small ones.
        Triage::Escalate(escalation) => {
            let real = escalation.real(Ea(ea));
            if !fetch && mmio::is_for_bus(partition, real, escalation.guest_r) {
                let told = mmio::is_told_nothing(vcpu, partition, real);
                if told && mmio::emulate(vcpu, partition, ea, mmio::VOLATILE) {
                    return Ok(Outcome::Emulated);
                }
                leave(vcpu, &access, cause, fetch, Behind::Bus(real));
                return if told { Err(Unsaved) } else { Ok(Outcome::Escalated) };
            }
            let machine = RealMode::of(vcpu);
            let mut populated = false;
            let prepare = || {
                populated = populate(partition, &machine, real, kind, escalation.index);
                populated
            };
            match partition.mmu().resolve_or(&machine, &escalation, kind, prepare) {
                Resolved::Installed if populated => return Ok(Outcome::Populated),
                Resolved::Installed => return Ok(Outcome::Resolved),
                Resolved::Changed => return Ok(Outcome::Retried),
                Resolved::Blocked(_) | Resolved::NoPage => Behind::Entry(escalation),
            }
        }
    };
    leave(vcpu, &access, cause, fetch, behind);
    Ok(Outcome::Escalated)
}

/// Leaves a fault to who looks at it next.
#[inline(always)]
fn leave(vcpu: &mut Vcpu, access: &Access, cause: Dsisr, fetch: bool, behind: Behind) {
    let (ea, slb_v) = (access.ea.0, access.slb.0);
    vcpu.fault = StorageFault { ea, cause: cause.bits(), slb_v, fetch, behind };
}

/// Does the vCPU run with translation on, for this kind of access?
#[inline(always)]
fn is_translated(vcpu: &Vcpu, kind: AccessKind) -> bool {
    vcpu.msr().contains(if matches!(kind, AccessKind::Execute) { Msr::IR } else { Msr::DR })
}

/// An access of the vCPU, which is loaded; `None` if it has no segment there.
#[inline(always)]
pub(crate) fn access(vcpu: &Vcpu, partition: &Partition, ea: u64, kind: AccessKind) -> Option<Access> {
    let (slb, amr, iamr) = if is_translated(vcpu, kind) {
        // SAFETY: the guest's own keys, live in the machine.
        unsafe { (SlbV(slbfee(ea)?), mfspr::<{ spr::AMR }>(), mfspr::<{ spr::IAMR }>()) }
    } else {
        // Without translation keys do not count.
        (partition.vrma, 0, 0)
    };
    Some(Access { ea: Ea(ea), slb, kind, problem_state: vcpu.msr().contains(Msr::PR), amr, iamr })
}

/// Gives the guest the storage interrupt that bare metal would.
fn reflect(vcpu: &mut Vcpu, ea: u64, bits: Dsisr, fetch: bool) -> Outcome {
    if fetch {
        inject(vcpu, Vector::INST_STORAGE, bits.bits());
    } else {
        // SAFETY: DAR and DSISR are the guest's while its vCPU is loaded.
        unsafe {
            mtspr::<{ spr::DAR }>(ea);
            mtspr::<{ spr::DSISR }>(bits.bits());
        }
        inject(vcpu, Vector::DATA_STORAGE, 0);
    }
    Outcome::Reflected
}

/// Everything else. `vcpu.pc` and `vcpu.msr` are the interrupted ones.
#[unsafe(no_mangle)]
extern "C" fn rm_interrupt(vcpu: &mut Vcpu, vector: u64) -> u64 {
    vcpu.left_at = timebase();
    vcpu.vector = vector;
    let vector = Vector(vector);
    record(vcpu, What::Interrupt { vector: vector.0, pc: vcpu.pc });
    let next = interrupt(vcpu, vector);
    if next == RESUME {
        count(vcpu, Subject::Interrupt(vector));
    }
    next
}

#[inline(always)]
fn interrupt(vcpu: &mut Vcpu, vector: Vector) -> u64 {
    match vector {
        Vector::HDEC => {
            // Spurious ones happen: HDEC does not forget that it passed zero.
            if timebase() >= vcpu.slice_end {
                return ExitCode::Slice as u64;
            }
            deliver_pending(vcpu);
            if !vcpu.watching_ee {
                set_hdec(vcpu, vcpu.slice_end);
            }
            RESUME
        }
        // Another CPU rings, or, if it is mediated, the guest can take now what it could not before.
        Vector::EXTERNAL | Vector::HDOORBELL => {
            let own = cpu_of(vcpu);
            host::acknowledge(own);
            if wanted(vcpu, own) {
                return ExitCode::HostInterrupt as u64;
            }
            deliver_pending(vcpu);
            RESUME
        }
        // A device of the host's, which virtual mode asks for.
        Vector::HVI => {
            if let Some(cpu) = host::CPUS.get(cpu_of(vcpu)) {
                cpu.look.store(true, Ordering::SeqCst);
            }
            ExitCode::HostInterrupt as u64
        }
        // Illegal for the guest: an instruction that does not exist, one of the hypervisor's, or a facility it does not have.
        Vector::HEA => {
            // SAFETY: set by the interrupt.
            vcpu.heir = unsafe { mfspr::<{ spr::HEIR }>() } as u32;
            inject(vcpu, Vector::PROGRAM, SRR1_ILLEGAL);
            RESUME
        }
        Vector::HFACILITY => ExitCode::Facility as u64,
        Vector::MACHINE_CHECK => ExitCode::MachineCheck as u64,
        _ => ExitCode::Unexpected as u64,
    }
}

/// Does virtual mode want this CPU, whose guest was interrupted by a ring?
fn wanted(vcpu: &Vcpu, own: usize) -> bool {
    // SAFETY: a vCPU's partition outlives it.
    let closed = unsafe { (*vcpu.partition).gate.is_closed() };
    let cpu = host::CPUS.get(own);
    closed || cpu.is_some_and(|cpu| !cpu.mailbox.is_empty() || cpu.look.load(Ordering::SeqCst))
}

/// A hypercall whose handler answered with a code other than `RM_TOO_HARD`; `vcpu.pc` and `vcpu.msr` are current.
#[unsafe(no_mangle)]
extern "C" fn rm_hcall_special(vcpu: &mut Vcpu, code: i64) -> u64 {
    let number = Hcall(vcpu.gpr[3]);
    let next = crate::hcalls::special(vcpu, code);
    // What virtual mode does it counts itself.
    if next != ExitCode::Hcall as u64 {
        count(vcpu, Subject::Hcall(number));
    }
    next
}
