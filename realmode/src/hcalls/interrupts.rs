//! H_XIRR, H_XIRR_X, H_CPPR, H_EOI, H_IPI, H_IPOLL (PAPR 14.5.4.5): the presentation controller.

use papr::xics::{FIRST_SOURCE, Kick};
use power::Status;

use super::cpu::wake;
use super::{RM_DELIVER, RM_TOO_HARD, partition};
use crate::instructions::timebase;
use crate::layout::Vcpu;

/// Status of a call that may have raised interrupts: other vCPUs are woken or rung, the caller is delivered its own.
#[inline(always)]
fn kicked(vcpu: &mut Vcpu, kick: Kick) -> i64 {
    if kick.is_empty() { Status::SUCCESS.0 } else { kicked_some(vcpu, kick) }
}

#[inline(never)]
fn kicked_some(vcpu: &mut Vcpu, kick: Kick) -> i64 {
    let mut status = Status::SUCCESS.0;
    for server in kick {
        if server == vcpu.server {
            status = RM_DELIVER;
        } else {
            wake(vcpu, u64::from(server));
        }
    }
    status
}

pub fn xirr(vcpu: &mut Vcpu) -> i64 {
    match partition(vcpu).xics.h_xirr(vcpu.server) {
        Ok(xirr) => {
            vcpu.gpr[4] = u64::from(xirr);
            Status::SUCCESS.0
        }
        Err(error) => Status::from(error).0,
    }
}

/// As H_XIRR, with the timebase at which the interrupt was taken in r5.
pub fn xirr_x(vcpu: &mut Vcpu) -> i64 {
    let status = xirr(vcpu);
    vcpu.gpr[5] = timebase();
    status
}

pub fn cppr(vcpu: &mut Vcpu, cppr: u64) -> i64 {
    match partition(vcpu).xics.h_cppr(vcpu.server, cppr as u8) {
        Ok(kick) => kicked(vcpu, kick),
        Err(error) => Status::from(error).0,
    }
}

pub fn eoi(vcpu: &mut Vcpu, xirr: u64) -> i64 {
    let source = (xirr as u32 & 0xff_ffff).wrapping_sub(FIRST_SOURCE);
    if source < u64::BITS && partition(vcpu).heard >> source & 1 != 0 {
        return RM_TOO_HARD;
    }
    match partition(vcpu).xics.h_eoi(vcpu.server, xirr as u32) {
        Ok(kick) => kicked(vcpu, kick),
        Err(error) => Status::from(error).0,
    }
}

pub fn ipi(vcpu: &mut Vcpu, server: u64, mfrr: u64) -> i64 {
    match partition(vcpu).xics.h_ipi(server, mfrr as u8) {
        Ok(kick) => kicked(vcpu, kick),
        Err(error) => Status::from(error).0,
    }
}

pub fn ipoll(vcpu: &mut Vcpu, server: u64) -> i64 {
    match partition(vcpu).xics.h_ipoll(server) {
        Ok((xirr, mfrr)) => {
            vcpu.gpr[4] = u64::from(xirr);
            vcpu.gpr[5] = u64::from(mfrr);
            Status::SUCCESS.0
        }
        Err(error) => Status::from(error).0,
    }
}
