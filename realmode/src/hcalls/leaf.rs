//! The short ways of the commonest calls (see [`super::in_full`]), which hcall.S calls with next to nothing saved.

use power::hcall::flags;
use power::{PteIndex, Status};

use super::{RM_IN_FULL, partition};
use crate::layout::Vcpu;

pub fn unknown(_: &mut Vcpu) -> i64 {
    Status::FUNCTION.0
}

pub fn xirr(vcpu: &mut Vcpu) -> i64 {
    match vcpu.icp.try_take() {
        Some(xirr) => {
            vcpu.gpr[4] = u64::from(xirr);
            Status::SUCCESS.0
        }
        None => RM_IN_FULL,
    }
}

pub fn cppr(vcpu: &mut Vcpu, cppr: u64) -> i64 {
    if vcpu.icp.try_set_cppr(cppr as u8) { Status::SUCCESS.0 } else { RM_IN_FULL }
}

pub fn eoi(vcpu: &mut Vcpu, xirr: u64) -> i64 {
    if vcpu.icp.try_end(xirr as u32) { Status::SUCCESS.0 } else { RM_IN_FULL }
}

pub fn read(vcpu: &mut Vcpu, flags: u64, index: u64) -> i64 {
    if flags & flags::READ_4 != 0 {
        return RM_IN_FULL;
    }
    match partition(vcpu).mmu().read_plainly(PteIndex(index)) {
        Some((v, r)) => {
            (vcpu.gpr[4], vcpu.gpr[5]) = (v.0, r.0);
            Status::SUCCESS.0
        }
        None => RM_IN_FULL,
    }
}
