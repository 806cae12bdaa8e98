//! Loads and stores where a partition has neither memory nor a device: an empty bus. Loads read all ones, stores are dropped.
//!
//! Real mode carries out what moves one general purpose register and stays within its alignment. Virtual mode has the rest: what a line is
//! said about, other registers, and instructions that are refused.
#![allow(unsafe_code)] // reads an instruction by its real address

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use emulate::{Instruction, decode};
use hpt::AccessKind;
use power::regs::Msr;
use power::{GuestReal, HpteR};

use crate::interrupts::access;
use crate::layout::Vcpu;
use crate::partition::Partition;

/// How many accesses to nowhere a partition gets a line for.
const LINES: u32 = 8;

/// What a partition has looked for where nothing is.
#[derive(Default)]
pub struct Nowhere {
    accesses: AtomicU64,
    lines: AtomicU32,
    /// The last one that there was a line about: the instruction, and where it went.
    pc: AtomicU64,
    real: AtomicU64,
    /// How often an instruction that is not emulated was worth a line, and the last one.
    unknown: AtomicU32,
    word: AtomicU32,
}

impl Nowhere {
    /// How many accesses there were.
    pub fn accesses(&self) -> u64 {
        self.accesses.load(Ordering::Relaxed)
    }

    /// Has all been said about an access? Of one that is made again and again there is one line.
    fn is_told(&self, pc: u64, real: GuestReal) -> bool {
        self.lines.load(Ordering::Relaxed) >= LINES
            || (self.pc.load(Ordering::Relaxed), self.real.load(Ordering::Relaxed)) == (pc, real.0)
    }

    /// Counts an access.
    fn count(&self) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an access. True if it is worth a line.
    pub fn note(&self, pc: u64, real: GuestReal) -> bool {
        self.count();
        if self.is_told(pc, real) {
            return false;
        }
        self.pc.store(pc, Ordering::Relaxed);
        self.real.store(real.0, Ordering::Relaxed);
        self.lines.fetch_add(1, Ordering::Relaxed) < LINES
    }

    /// An instruction that is not emulated was to access something. True if that is worth a line: each word once, in turn.
    pub fn note_unknown(&self, word: u32) -> bool {
        let told = self.unknown.load(Ordering::Relaxed);
        if told >= LINES || (told != 0 && self.word.load(Ordering::Relaxed) == word) {
            return false;
        }
        self.word.store(word, Ordering::Relaxed);
        self.unknown.fetch_add(1, Ordering::Relaxed) < LINES
    }
}

/// Is it a bus that the guest means, by its dword 1, and not memory? Strong access ordering (W = I = M = 1) is memory.
pub const fn is_inhibited(guest: HpteR) -> bool {
    guest.any(HpteR::I) && guest.0 & HpteR::WIMG != HpteR::W | HpteR::I | HpteR::M
}

/// Does the vCPU's access, by an entry of the guest's with this dword 1, go to a bus, where there is no memory?
#[inline(always)]
pub(crate) fn is_for_bus(partition: &Partition, real: GuestReal, guest: HpteR) -> bool {
    is_inhibited(guest) && partition.slots.find(real).is_none()
}

/// Is nothing there, and nothing more to say about that?
#[inline(always)]
pub(crate) fn is_told_nothing(vcpu: &Vcpu, partition: &Partition, real: GuestReal) -> bool {
    !partition.devices.contains(&real.0) && partition.nowhere.is_told(vcpu.pc, real)
}

/// The general purpose registers that are in the vCPU whenever real mode has been entered, as bits.
pub(crate) const VOLATILE: u32 = 0x1fff;
/// All of them.
pub(crate) const ALL: u32 = !0;

/// Carries out the instruction at the vCPU's `pc`, whose access to `ea` met nothing; false if it is virtual mode's to do, or names other
/// registers than those that are `saved`, as bits, in the vCPU.
#[inline(always)]
pub(crate) fn emulate(vcpu: &mut Vcpu, partition: &Partition, ea: u64, saved: u32) -> bool {
    let Some(instruction) = fetch(vcpu, partition).and_then(decode) else { return false };
    let Some((register, bytes)) = instruction.simple() else { return false };
    let named = instruction.address_registers() | 1 << (register & 31);
    let msr = vcpu.msr();
    // After an instruction that is traced there is an interrupt.
    if named & !saved != 0 || msr.contains(Msr::SE) {
        return false;
    }
    // Of an access that is not aligned, another part may meet something.
    if instruction.ea(&vcpu.gpr, vcpu.pc, msr.contains(Msr::SF)) != ea || ea & (bytes as u64 - 1) != 0 {
        return false;
    }
    // --- point of no return ---
    partition.nowhere.count();
    if !instruction.stores() {
        vcpu.gpr[usize::from(register & 31)] = instruction.ones();
    }
    finish(vcpu, &instruction, ea);
    true
}

/// An instruction that accessed `ea` has been carried out.
pub fn finish(vcpu: &mut Vcpu, instruction: &Instruction, ea: u64) {
    if let Some(base) = instruction.update() {
        vcpu.gpr[usize::from(base & 31)] = ea;
    }
    vcpu.pc = vcpu.pc.wrapping_add(instruction.size());
}

/// The instruction word at `pc`, through the guest's own translation.
#[inline(always)]
fn fetch(vcpu: &Vcpu, partition: &Partition) -> Option<u32> {
    let access = access(vcpu, partition, vcpu.pc, AccessKind::Execute)?;
    let word = partition.mmu().xlate_with(&access, |translation| {
        // SAFETY: memory of the partition that it may read, aligned as the guest's `pc` is, and in one page.
        translation.memory.map(|at| unsafe { (at.ea() as *const u32).read_volatile() })
    });
    let word = word.ok()??;
    Some(if vcpu.msr().contains(Msr::LE) { u32::from_le(word) } else { u32::from_be(word) })
}
