//! H_LOGICAL_CI_LOAD, H_LOGICAL_CI_STORE and their cacheable twins, H_LOGICAL_ICBI, H_LOGICAL_DCBF (PAPR 14.5.4.2): access
//! to the partition's memory by real address. Memory that nothing backs yet is virtual mode's to populate.
#![allow(unsafe_code)] // memory by real address, after the slots have vouched for it

use hpt::Machine;
use power::{GuestReal, HostReal, Status};

use super::{RM_TOO_HARD, partition};
use crate::layout::Vcpu;
use crate::machine::{CACHE_BLOCK, RealMode, flush_data};

/// Does something to the bytes of memory at an address, or says what to answer instead. The host's devices are not reached like this: what
/// they answer to a wrong access would be the hypervisor's machine check. Emulated ones are virtual mode's.
#[inline(always)]
fn at<T>(vcpu: &Vcpu, address: u64, store: bool, body: impl FnOnce(HostReal) -> T) -> Result<T, i64> {
    let partition = partition(vcpu);
    partition.mmu().with_bytes(GuestReal(address), store, body).map_err(|error| {
        if partition.devices.contains(&address) { RM_TOO_HARD } else { super::answer(error) }
    })
}

#[inline(always)]
const fn aligned(size: u64, address: u64) -> bool {
    matches!(size, 1 | 2 | 4 | 8) && address & (size - 1) == 0
}

/// H_LOGICAL_CI_LOAD, and H_LOGICAL_CACHE_LOAD.
pub fn load(vcpu: &mut Vcpu, size: u64, address: u64) -> i64 {
    if !aligned(size, address) {
        return Status::PARAMETER.0;
    }
    // SAFETY: populated memory of the partition, aligned to the size, which lies in one page. The guest sees its own byte
    // order: values cross in big endian, as all of PAPR's do.
    let value = at(vcpu, address, false, |host| unsafe {
        let at = host.ea();
        match size {
            1 => u64::from((at as *const u8).read_volatile()),
            2 => u64::from(u16::from_be((at as *const u16).read_volatile())),
            4 => u64::from(u32::from_be((at as *const u32).read_volatile())),
            _ => u64::from_be((at as *const u64).read_volatile()),
        }
    });
    match value {
        Ok(value) => {
            vcpu.gpr[4] = value;
            Status::SUCCESS.0
        }
        Err(code) => code,
    }
}

/// H_LOGICAL_CI_STORE, and H_LOGICAL_CACHE_STORE.
pub fn store(vcpu: &mut Vcpu, size: u64, address: u64, value: u64) -> i64 {
    if !aligned(size, address) {
        return Status::PARAMETER.0;
    }
    // SAFETY: as above, and the page is the partition's alone, and stays so meanwhile.
    let done = at(vcpu, address, true, |host| unsafe {
        let at = host.ea();
        match size {
            1 => (at as *mut u8).write_volatile(value as u8),
            2 => (at as *mut u16).write_volatile((value as u16).to_be()),
            4 => (at as *mut u32).write_volatile((value as u32).to_be()),
            _ => (at as *mut u64).write_volatile(value.to_be()),
        }
    });
    done.map_or_else(|code| code, |()| Status::SUCCESS.0)
}

/// H_LOGICAL_ICBI.
pub fn icbi(vcpu: &mut Vcpu, address: u64) -> i64 {
    let machine = RealMode::of(vcpu);
    done(at(vcpu, address, false, |host| machine.icache_sync(host, CACHE_BLOCK)))
}

/// H_LOGICAL_DCBF.
pub fn dcbf(vcpu: &mut Vcpu, address: u64) -> i64 {
    done(at(vcpu, address, false, |host| flush_data(host, CACHE_BLOCK)))
}

/// What is not there is in no cache.
fn done(result: Result<(), i64>) -> i64 {
    match result {
        Ok(()) | Err(RM_TOO_HARD) => Status::SUCCESS.0,
        Err(code) => code,
    }
}
