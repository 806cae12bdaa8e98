//! H_LOGICAL_CI_LOAD, H_LOGICAL_CI_STORE and their cacheable twins, H_LOGICAL_ICBI, H_LOGICAL_DCBF (PAPR 14.5.4.2): access
//! to the partition's memory by real address. Memory that nothing backs yet is virtual mode's to populate.
#![allow(unsafe_code)] // memory by real address, after the slots have vouched for it

use hpt::{Machine, Target};
use power::{GuestReal, HostReal, Status};

use super::{RM_TOO_HARD, partition};
use crate::layout::Vcpu;
use crate::machine::{CACHE_BLOCK, RealMode, flush_data};

/// Where an access goes, or what to answer instead.
#[inline(always)]
fn locate(vcpu: &Vcpu, address: u64, store: bool) -> Result<HostReal, i64> {
    match partition(vcpu).slots.find(GuestReal(address)) {
        Some(Target::Ram(page, offset)) => {
            let view = page.view();
            let ready = if store { view.is_writable() } else { view.is_present() };
            match view.host().filter(|_| ready) {
                Some(host) => Ok(HostReal(host.0.wrapping_add(offset))),
                None => Err(RM_TOO_HARD),
            }
        }
        Some(Target::Device(..)) => Err(RM_TOO_HARD),
        None => Err(Status::PARAMETER.0),
    }
}

#[inline(always)]
const fn aligned(size: u64, address: u64) -> bool {
    matches!(size, 1 | 2 | 4 | 8) && address & (size - 1) == 0
}

pub fn ci_load(vcpu: &mut Vcpu, size: u64, address: u64) -> i64 {
    if !aligned(size, address) {
        return Status::PARAMETER.0;
    }
    let at = match locate(vcpu, address, false) {
        Ok(host) => host.ea(),
        Err(code) => return code,
    };
    // SAFETY: populated memory of the partition, aligned to the size, which lies in one page. The guest sees its own byte
    // order: values cross in big endian, as all of PAPR's do.
    vcpu.gpr[4] = unsafe {
        match size {
            1 => u64::from((at as *const u8).read_volatile()),
            2 => u64::from(u16::from_be((at as *const u16).read_volatile())),
            4 => u64::from(u32::from_be((at as *const u32).read_volatile())),
            _ => u64::from_be((at as *const u64).read_volatile()),
        }
    };
    Status::SUCCESS.0
}

pub fn ci_store(vcpu: &mut Vcpu, size: u64, address: u64, value: u64) -> i64 {
    if !aligned(size, address) {
        return Status::PARAMETER.0;
    }
    let at = match locate(vcpu, address, true) {
        Ok(host) => host.ea(),
        Err(code) => return code,
    };
    // SAFETY: as above, and the page is the partition's alone.
    unsafe {
        match size {
            1 => (at as *mut u8).write_volatile(value as u8),
            2 => (at as *mut u16).write_volatile((value as u16).to_be()),
            4 => (at as *mut u32).write_volatile((value as u32).to_be()),
            _ => (at as *mut u64).write_volatile(value.to_be()),
        }
    }
    Status::SUCCESS.0
}

pub fn icbi(vcpu: &mut Vcpu, address: u64) -> i64 {
    match locate(vcpu, address, false) {
        Ok(host) => {
            RealMode::of(vcpu).icache_sync(host, CACHE_BLOCK);
            Status::SUCCESS.0
        }
        // What is not there is in no cache.
        Err(RM_TOO_HARD) => Status::SUCCESS.0,
        Err(code) => code,
    }
}

pub fn dcbf(vcpu: &mut Vcpu, address: u64) -> i64 {
    match locate(vcpu, address, false) {
        Ok(host) => {
            flush_data(host, CACHE_BLOCK);
            Status::SUCCESS.0
        }
        Err(RM_TOO_HARD) => Status::SUCCESS.0,
        Err(code) => code,
    }
}
