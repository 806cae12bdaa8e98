//! Interrupts into the guest, as the hardware would deliver them (Power ISA 3.0C, book III, 6.4.3 and 6.5).
#![allow(unsafe_code)] // SRR0, SRR1, HDEC and LPCR belong to the guest or to its schedule

use power::interrupt::Vector;
use power::regs::{Lpcr, Msr};
use power::spr;

use crate::host;
use crate::instructions::{mfspr, mtspr, timebase};
use crate::layout::Vcpu;
use crate::partition::Residency;

/// SRR1 bits that an interrupt sets by its own rules (IBM bits 33:36 and 42:47); the rest is MSR.
const SRR1_CAUSE: u64 = 0x783f_0000;

/// How long a vCPU goes on after it has given another one something to do, in timebase ticks: 50 µs.
const HURRY_TICKS: u64 = 25_600;

/// SRR1: the instruction was prefixed (IBM bit 34; Power ISA 3.1).
const SRR1_PREFIXED: u64 = 1 << 29;

/// How soon to look again whether a guest has set MSR\[EE\], in timebase ticks: 2 µs, then twice that, and so on up to 64 µs. Only for
/// machines, or emulators, that do not deliver a mediated interrupt by themselves.
const WATCH_TICKS: u64 = 1024;
const WATCH_TICKS_MOST: u64 = 32 * WATCH_TICKS;

/// For how long to watch now; the next time it is twice that.
fn watch_for(vcpu: &mut Vcpu) -> u64 {
    let ticks = vcpu.watch_ticks.clamp(WATCH_TICKS, WATCH_TICKS_MOST);
    vcpu.watch_ticks = 2 * ticks;
    ticks
}

/// Makes the guest take an interrupt: `pc` and `msr` become those of its handler, SRR0 and SRR1 (which are in the machine,
/// in real mode) what it returns with. `cause` goes to SRR1's cause bits.
pub fn inject(vcpu: &mut Vcpu, vector: Vector, cause: u64) {
    let (srr0, srr1) = enter_handler(vcpu, vector, cause);
    // SAFETY: SRR0 and SRR1 are the guest's while its vCPU is loaded, which the real-mode paths' callers see to.
    unsafe {
        mtspr::<{ spr::SRR0 }>(srr0);
        mtspr::<{ spr::SRR1 }>(srr1);
    }
}

/// As [`inject`], for a vCPU that is not loaded.
pub fn inject_saved(vcpu: &mut Vcpu, vector: Vector, cause: u64) {
    (vcpu.srr0, vcpu.srr1) = enter_handler(vcpu, vector, cause);
}

fn enter_handler(vcpu: &mut Vcpu, vector: Vector, cause: u64) -> (u64, u64) {
    let (pc, msr) = (vcpu.pc, vcpu.msr());
    let lpcr = Lpcr::from_bits_retain(vcpu.lpcr);
    // ME stays on, whatever the architecture says of machine checks: a guest could not set it again, and with it off the
    // next one that a device of its makes stops the machine.
    let mut new = Msr::SF | Msr::ME;
    new.set(Msr::LE, lpcr.contains(Lpcr::ILE));
    vcpu.pc = vector.0;
    let both = Msr::IR | Msr::DR;
    if lpcr.contains(Lpcr::AIL) && msr.contains(both) && vector != Vector::MACHINE_CHECK {
        vcpu.pc = 0xc000_0000_0000_4000 | vector.0;
        new |= both;
    }
    vcpu.msr = new.bits();
    // Interrupts that an instruction causes say whether it was a prefixed one.
    let caused = matches!(
        vector,
        Vector::DATA_STORAGE
            | Vector::PROGRAM
            | Vector::ALIGNMENT
            | Vector::FP_UNAVAILABLE
            | Vector::VMX_UNAVAILABLE
            | Vector::VSX_UNAVAILABLE
            | Vector::TRACE
    );
    let prefixed = if caused { msr.bits() & SRR1_PREFIXED } else { 0 };
    (pc, msr.bits() & !SRR1_CAUSE | prefixed | cause)
}

/// Gives the guest the external interrupt that its presentation controller holds, if it holds one: now if MSR\[EE\] is
/// set, else as soon as it is. `vcpu.pc` and `vcpu.msr` are current and the vCPU is loaded.
pub fn deliver_pending(vcpu: &mut Vcpu) {
    // SAFETY: a vCPU's partition outlives it.
    let partition = unsafe { &*vcpu.partition };
    let pending = partition.xics.pending(vcpu.server);
    if pending && vcpu.msr().contains(Msr::EE) {
        inject(vcpu, Vector::EXTERNAL, 0);
        return watch(vcpu, false);
    }
    watch(vcpu, pending);
}

/// As [`deliver_pending`], for a vCPU that is about to be entered on CPU `cpu`: gives it its interrupt or arranges to watch for
/// MSR\[EE\], sets how the guest takes interrupts, and the end of its stay, a timebase value.
pub fn prepare_stay(vcpu: &mut Vcpu, cpu: usize, slice_end: u64) {
    // SAFETY: a vCPU's partition outlives it.
    let partition = unsafe { &*vcpu.partition };
    let mode = Lpcr::ILE | Lpcr::AIL;
    vcpu.lpcr = vcpu.lpcr & !mode.bits() | (partition.interrupt_mode() & mode).bits();
    let pending = partition.xics.pending(vcpu.server);
    let now = pending && vcpu.msr().contains(Msr::EE);
    if now {
        inject_saved(vcpu, Vector::EXTERNAL, 0);
    }
    vcpu.watching_ee = pending && !now;
    let mer = if vcpu.watching_ee { Lpcr::MER.bits() } else { 0 };
    vcpu.lpcr = vcpu.lpcr & !Lpcr::MER.bits() | mer;
    vcpu.slice_end = slice_end;
    vcpu.residence = Residency::name_of(cpu);
    let end = if vcpu.watching_ee {
        slice_end.min(timebase().wrapping_add(watch_for(vcpu)))
    } else {
        vcpu.watch_ticks = 0;
        slice_end
    };
    vcpu.hdec_at = host::shared_deadline(cpu, end);
}

/// The number of the CPU that a loaded vCPU runs on.
#[inline(always)]
pub fn cpu_of(vcpu: &Vcpu) -> usize {
    // SAFETY: set by the entry that loaded it, to the CPU's own structure.
    unsafe { (*vcpu.percpu).number as usize }
}

/// Makes HDEC fire at a time of the timebase. The vCPU is loaded.
pub fn set_hdec(vcpu: &Vcpu, at: u64) {
    let at = host::shared_deadline(cpu_of(vcpu), at);
    // SAFETY: HDEC is the hypervisor's. Never negative: see world.S.
    unsafe { mtspr::<{ spr::HDEC }>(at.saturating_sub(timebase())) };
}

/// Brings the end of the vCPU's stay forward: another vCPU of the partition, which waits for a CPU, has been given something to do,
/// and may be waited for. Not at once: the caller may hold a lock that the other one will want.
pub fn hurry(vcpu: &mut Vcpu, server: u32) {
    let soon = timebase().wrapping_add(HURRY_TICKS);
    if soon < vcpu.slice_end {
        vcpu.slice_end = soon;
        vcpu.hurry_for = server;
        if !vcpu.watching_ee {
            set_hdec(vcpu, soon);
        }
    }
}

/// Watches for MSR\[EE\], or stops. LPCR\[MER\] makes the processor do it; for those on which it has no effect, HDEC
/// comes early.
fn watch(vcpu: &mut Vcpu, on: bool) {
    if on || vcpu.watching_ee {
        vcpu.watching_ee = on;
        let mer = if on { Lpcr::MER.bits() } else { 0 };
        vcpu.lpcr = vcpu.lpcr & !Lpcr::MER.bits() | mer;
        let end = if on {
            vcpu.slice_end.min(timebase().wrapping_add(watch_for(vcpu)))
        } else {
            vcpu.watch_ticks = 0;
            vcpu.slice_end
        };
        set_hdec(vcpu, end);
        // SAFETY: LPCR differs from the loaded one in MER only.
        unsafe {
            let lpcr = mfspr::<{ spr::LPCR }>() & !Lpcr::MER.bits() | mer;
            mtspr::<{ spr::LPCR }>(lpcr);
        }
    }
}
