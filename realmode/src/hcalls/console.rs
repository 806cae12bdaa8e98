//! H_PUT_TERM_CHAR and H_GET_TERM_CHAR (PAPR 16.5), as far as they only concern the partition's own rings: what is put waits there for the
//! end of the stay, and what virtual mode has read for the guest is taken from there by it.

use papr::vty;
use power::Status;

use super::{RM_TOO_HARD, partition};
use crate::layout::Vcpu;

/// How much of the console's output may wait: with more, virtual mode writes it out at once.
pub const UNHURRIED: usize = 1024;

pub fn put_term_char(vcpu: &mut Vcpu, unit: u64, length: u64, high: u64, low: u64) -> i64 {
    let partition = partition(vcpu);
    if !vty::is_first(unit) {
        return Status::PARAMETER.0;
    }
    let read = partition.is_attached();
    let Some(mut vty) = partition.vty.try_lock() else { return RM_TOO_HARD };
    if read && vty.output.len() >= UNHURRIED {
        return RM_TOO_HARD;
    }
    // --- point of no return ---
    vty.put_term_char(length, high, low, read).0
}

/// Most of the time there is nothing. Otherwise the interrupt's line may have to fall, which goes with the ring.
pub fn get_term_char(vcpu: &mut Vcpu, unit: u64) -> i64 {
    let partition = partition(vcpu);
    if !vty::is_first(unit) {
        return Status::PARAMETER.0;
    }
    match partition.vty.try_lock() {
        Some(vty) if vty.input.is_empty() => {}
        _ => return RM_TOO_HARD,
    }
    // --- point of no return ---
    for register in vcpu.gpr.iter_mut().skip(4).take(3) {
        *register = 0;
    }
    Status::SUCCESS.0
}
