//! H_CEDE, H_CONFER, H_PROD (PAPR 14.11), H_RANDOM, H_SET_DABR and H_SET_XDABR.
#![allow(unsafe_code)] // reads the decrementer

use ::trace::What;
use power::regs::Msr;
use power::{Status, spr};
use sched::Phase;

use super::{RM_CEDE, RM_CONFER, RM_TOO_HARD, partition};
use crate::deliver::{cpu_of, deliver_pending, hurry};
use crate::host::{self, Woken};
use crate::instructions::{darn, mfspr, mtspr};
use crate::layout::{ExitCode, Vcpu};
use crate::trace::record;

pub fn cede(_: &mut Vcpu) -> i64 {
    RM_CEDE
}

/// H_CEDE with the vCPU's state at hand: MSR\[EE\] is set, and the guest goes on at once if there is a reason to.
pub fn cede_now(vcpu: &mut Vcpu) -> u64 {
    vcpu.gpr[3] = Status::SUCCESS.0 as u64;
    vcpu.msr |= Msr::EE.bits();
    let partition = partition(vcpu);
    // SAFETY: the guest's decrementer is in the machine.
    let expired = (unsafe { mfspr::<{ spr::DEC }>() } as i32) < 0;
    let prodded = partition.vcpus.get(vcpu.server as usize).is_some_and(|own| own.take_prod());
    if prodded || expired || partition.xics.pending(vcpu.server) {
        deliver_pending(vcpu);
        return 0;
    }
    ExitCode::Cede as u64
}

/// Lets others run. With nobody else to run there is nothing to give, and the call returns.
pub fn confer(vcpu: &mut Vcpu, target: u64) -> i64 {
    let vcpus = partition(vcpu).vcpus;
    let all = target == u64::MAX || target == 0xffff_ffff;
    if !all && target >= vcpus.len() as u64 {
        return Status::PARAMETER.0;
    }
    let prodded = vcpus.get(vcpu.server as usize).is_some_and(|own| own.take_prod());
    if prodded || vcpus.len() == 1 { Status::SUCCESS.0 } else { RM_CONFER }
}

/// Another vCPU of the partition has been given something to do: it is woken or rung. If it waits for a CPU, the caller may be what
/// it waits for.
pub fn wake(vcpu: &mut Vcpu, server: u64) {
    let other = usize::try_from(server).ok().and_then(|n| partition(vcpu).vcpus.get(n));
    match other.map(|other| host::wake(cpu_of(vcpu), other)) {
        Some(Woken::Handed(cpu)) => record(vcpu, What::Wake { server, cpu: cpu as u64 }),
        Some(Woken::Waits) => hurry(vcpu, server as u32),
        Some(Woken::Rung) | None => {}
    }
}

pub fn prod(vcpu: &mut Vcpu, target: u64) -> i64 {
    match usize::try_from(target).ok().and_then(|n| partition(vcpu).vcpus.get(n)) {
        Some(other) => {
            other.prod();
            // One that runs finds it when it waits.
            if target != u64::from(vcpu.server) && other.whereabouts.look().0 != Phase::Running {
                wake(vcpu, target);
            }
            Status::SUCCESS.0
        }
        None => Status::PARAMETER.0,
    }
}

/// 64 random bits in r4, from `darn`. Where the processor has no such source, virtual mode may have another one.
pub fn random(vcpu: &mut Vcpu) -> i64 {
    if !partition(vcpu).features.darn {
        return RM_TOO_HARD;
    }
    for _ in 0..10 {
        if let Some(value) = darn() {
            vcpu.gpr[4] = value;
            return Status::SUCCESS.0;
        }
    }
    Status::HARDWARE.0
}

/// H_SET_SPRG0, for guests that think they cannot write it themselves.
pub fn set_sprg0(_: &mut Vcpu, value: u64) -> i64 {
    // SAFETY: SPRG0 is the guest's and is in the machine while its vCPU is loaded.
    unsafe { mtspr::<{ spr::SPRG0 }>(value) };
    Status::SUCCESS.0
}

/// There is no data address breakpoint register on POWER8 and later. Clearing it is granted. Never H_PRIVILEGE: guests
/// take that for a broken `sc 1`.
pub fn set_dabr(_: &mut Vcpu, dabr: u64) -> i64 {
    if dabr == 0 { Status::SUCCESS.0 } else { Status::HARDWARE.0 }
}

pub fn set_xdabr(_: &mut Vcpu, dabr: u64, flags: u64) -> i64 {
    match (dabr, flags) {
        (_, flags) if flags & !0xf != 0 => Status::PARAMETER.0,
        (0, _) => Status::SUCCESS.0,
        _ => Status::HARDWARE.0,
    }
}
