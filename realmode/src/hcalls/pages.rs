//! The page table calls (PAPR 14.5.4.1): arguments to [`hpt`], answers back into registers.

use hpt::BULK_MAX;
use power::hcall::flags;
use power::{GuestReal, HpteR, HpteV, PteIndex, Status};

use super::{RM_IN_FULL, answer, partition};
use crate::layout::Vcpu;
use crate::machine::RealMode;

#[inline(always)]
fn machine(vcpu: &Vcpu) -> RealMode<'_> {
    RealMode::of(vcpu)
}

pub fn enter_plainly(vcpu: &mut Vcpu, flags: u64, index: u64, v: u64, r: u64) -> i64 {
    match partition(vcpu).mmu().enter_plainly(&machine(vcpu), flags, PteIndex(index), HpteV(v), HpteR(r)) {
        Some(index) => {
            vcpu.gpr[4] = index.0;
            Status::SUCCESS.0
        }
        None => RM_IN_FULL,
    }
}

pub fn enter(vcpu: &mut Vcpu, flags: u64, index: u64, v: u64, r: u64) -> i64 {
    match partition(vcpu).mmu().enter(&machine(vcpu), flags, PteIndex(index), HpteV(v), HpteR(r)) {
        Ok(index) => {
            vcpu.gpr[4] = index.0;
            Status::SUCCESS.0
        }
        Err(error) => answer(error),
    }
}

pub fn remove_plainly(vcpu: &mut Vcpu, flags: u64, index: u64, avpn: u64) -> i64 {
    match partition(vcpu).mmu().remove_plainly(&machine(vcpu), flags, PteIndex(index), avpn) {
        Some((v, r)) => {
            (vcpu.gpr[4], vcpu.gpr[5]) = (v.0, r.0);
            Status::SUCCESS.0
        }
        None => RM_IN_FULL,
    }
}

pub fn remove(vcpu: &mut Vcpu, flags: u64, index: u64, avpn: u64) -> i64 {
    match partition(vcpu).mmu().remove(&machine(vcpu), flags, PteIndex(index), avpn) {
        Ok((v, r)) => {
            (vcpu.gpr[4], vcpu.gpr[5]) = (v.0, r.0);
            Status::SUCCESS.0
        }
        Err(error) => answer(error),
    }
}

pub fn bulk_remove(vcpu: &mut Vcpu) -> i64 {
    let Some(registers) = vcpu.gpr.get(4..4 + 2 * BULK_MAX) else { return Status::HARDWARE.0 };
    let mut specifiers = [0; 2 * BULK_MAX];
    for (to, from) in specifiers.iter_mut().zip(registers) {
        *to = *from;
    }
    let result = partition(vcpu).mmu().bulk_remove(&machine(vcpu), &mut specifiers);
    for (to, from) in vcpu.gpr.iter_mut().skip(4).zip(&specifiers) {
        *to = *from;
    }
    match result {
        Ok(()) => Status::SUCCESS.0,
        Err(error) => answer(error),
    }
}

pub fn read(vcpu: &mut Vcpu, flags: u64, index: u64) -> i64 {
    let mmu = partition(vcpu).mmu();
    if flags & flags::READ_4 == 0 {
        return match mmu.read(PteIndex(index)) {
            Ok((v, r)) => {
                (vcpu.gpr[4], vcpu.gpr[5]) = (v.0, r.0);
                Status::SUCCESS.0
            }
            Err(error) => answer(error),
        };
    }
    match mmu.read_4(PteIndex(index)) {
        Ok(entries) => {
            for (n, (v, r)) in entries.iter().enumerate() {
                (vcpu.gpr[4 + 2 * n], vcpu.gpr[5 + 2 * n]) = (v.0, r.0);
            }
            Status::SUCCESS.0
        }
        Err(error) => answer(error),
    }
}

pub fn protect_plainly(vcpu: &mut Vcpu, flags: u64, index: u64, avpn: u64) -> i64 {
    match partition(vcpu).mmu().protect_plainly(&machine(vcpu), flags, PteIndex(index), avpn) {
        Some(()) => Status::SUCCESS.0,
        None => RM_IN_FULL,
    }
}

pub fn protect(vcpu: &mut Vcpu, flags: u64, index: u64, avpn: u64) -> i64 {
    match partition(vcpu).mmu().protect(&machine(vcpu), flags, PteIndex(index), avpn) {
        Ok(()) => Status::SUCCESS.0,
        Err(error) => answer(error),
    }
}

pub fn clear_mod(vcpu: &mut Vcpu, _flags: u64, index: u64) -> i64 {
    match partition(vcpu).mmu().clear_mod(&machine(vcpu), PteIndex(index)) {
        Ok(r) => {
            vcpu.gpr[4] = r.0;
            Status::SUCCESS.0
        }
        Err(error) => answer(error),
    }
}

pub fn clear_ref(vcpu: &mut Vcpu, _flags: u64, index: u64) -> i64 {
    match partition(vcpu).mmu().clear_ref(&machine(vcpu), PteIndex(index)) {
        Ok(r) => {
            vcpu.gpr[4] = r.0;
            Status::SUCCESS.0
        }
        Err(error) => answer(error),
    }
}

pub fn page_init(vcpu: &mut Vcpu, flags: u64, to: u64, from: u64) -> i64 {
    match partition(vcpu).mmu().page_init(&machine(vcpu), flags, GuestReal(to), GuestReal(from)) {
        Ok(()) => Status::SUCCESS.0,
        Err(error) => answer(error),
    }
}
