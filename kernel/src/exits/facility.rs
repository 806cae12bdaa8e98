//! Facilities that a guest does not have, or not as the processor gives them.

use power::interrupt::{SRR1_ILLEGAL, Vector};
use power::spr;
use realmode::inject_saved;

use super::{After, Guest, mmio};

/// `mfspr RT,SPR` and `mtspr SPR,RS` (Power ISA 3.0C, book I, 3.3.17): the opcodes, without register and SPR.
const MFSPR: u32 = 0x7c00_02a6;
const MTSPR: u32 = 0x7c00_03a6;
const REGISTER: u32 = 0x1f << 21;

/// An SPR's number as an instruction has it: its halves of five bits swapped.
const fn field(spr: u32) -> u32 {
    (spr & 0x1f) << 16 | (spr >> 5 & 0x1f) << 11
}

/// The guest used a facility that HFSCR does not give it. DPDES reads zero and takes no message: a guest whose cores have one
/// thread has nobody to send one to. All else is an illegal instruction.
pub fn handle(guest: &mut Guest<'_>) -> After {
    let Some(word) = mmio::fetch_word(guest.partition, guest.regs, guest.regs.pc) else {
        // The instruction is not to be had: the guest runs again and faults on it, or not.
        return After::Continue;
    };
    let register = (word & REGISTER) >> 21;
    match word & !REGISTER {
        read if read == MFSPR | field(spr::DPDES) => guest.regs.gpr[register as usize] = 0,
        write if write == MTSPR | field(spr::DPDES) => {}
        _ => {
            inject_saved(guest.regs, Vector::PROGRAM, SRR1_ILLEGAL);
            return After::Continue;
        }
    }
    guest.regs.pc = guest.regs.pc.wrapping_add(4);
    After::Continue
}
