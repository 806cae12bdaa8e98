//! The one table of registers that a guest can write, and what becomes of each.
//!
//! *Saved* registers are exchanged by assembly on every full exit and entry: with the guest's value in them the
//! hypervisor could not run. *Switched* ones stay in the machine until another vCPU runs there. What is neither is
//! set by the hypervisor and cannot be written by a guest (Power ISA 3.0C, book III, figure 18).
//!
//! | register | rule |
//! |---|---|
//! | r0–r31, CR, LR, CTR, XER, NIP, MSR | saved; hypercalls and storage faults that end in real mode save the volatile ones only |
//! | SRR0, SRR1, DAR, DSISR | saved: the hypervisor's own `rfid` and segment misses use them |
//! | AMR, IAMR | saved, zero in the hypervisor: keys of a guest would deny it its own memory |
//! | DEC | saved as the timebase of its expiry, so that it runs on while the vCPU does not |
//! | SLB | saved, the hypervisor's own segments loaded |
//! | FP, VMX, VSX registers, FPSCR, VSCR | switched (the hypervisor is soft-float) |
//! | SPRG0–3, DSCR, FSCR, TAR, UAMOR, PSPB, VRSAVE, CTRL, PPR, PIDR, BESCR, EBBHR, EBBRR, PMU, CIABR, DAWR, … | switched: [`SWITCHED`] |
//! | MMCR0 | switched by [`crate::context`]: frozen before, and thawed after, the counters change hands |
//! | TB, PURR, SPURR, VTB, PVR, PIR | the machine's; not writable by a guest |
//! | HDEC, LPCR, LPIDR, SDR1, PTCR, HFSCR, HRMOR, AMOR, PCR | the hypervisor's |
#![allow(unsafe_code)] // privileged register access, one per row of the table

use power::Generation;
use power::spr;

/// How many switched registers there are room for.
pub const MAX_SWITCHED: usize = 56;

/// Which processors have a register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Has {
    /// All supported ones.
    All,
    /// POWER8 only.
    Power8,
    /// POWER9 only.
    Power9,
    /// POWER10 and later.
    Isa31,
}

impl Has {
    /// Does this generation have it?
    pub fn on(self, generation: Generation) -> bool {
        match self {
            Has::All => true,
            Has::Power8 => generation == Generation::Power8,
            Has::Power9 => generation == Generation::Power9,
            Has::Isa31 => generation >= Generation::Power10,
        }
    }
}

macro_rules! switched {
    (@write $spr:ident) => { spr::$spr };
    (@write $spr:ident $write:ident) => { spr::$write };
    ($($spr:ident $(/ $write:ident)? $has:ident;)*) => {
        /// Number of each switched register and the processors that have it; some are written under another number.
        pub const SWITCHED: &[(u32, Has)] = &[$((spr::$spr, Has::$has),)*];

        /// Saves the switched registers to `to`, in the table's order.
        ///
        /// # Safety
        /// The CPU is of `generation` and in hypervisor state.
        #[cfg(target_arch = "powerpc64")]
        pub unsafe fn save(generation: Generation, to: &mut [u64; MAX_SWITCHED]) {
            let mut slots = to.iter_mut();
            $(if let Some(slot) = slots.next() && Has::$has.on(generation) {
                // SAFETY: the register exists on this generation, and reading it has no effect.
                *slot = unsafe { crate::instructions::mfspr::<{ spr::$spr }>() };
            })*
        }

        /// Loads the switched registers from `from`.
        ///
        /// # Safety
        /// As for [`save`]; whoever owned the registers has been saved.
        #[cfg(target_arch = "powerpc64")]
        pub unsafe fn load(generation: Generation, from: &[u64; MAX_SWITCHED]) {
            let mut slots = from.iter();
            $(if let Some(slot) = slots.next() && Has::$has.on(generation) {
                // SAFETY: the register exists on this generation and belongs to the guest.
                unsafe { crate::instructions::mtspr::<{ switched!(@write $spr $($write)?) }>(*slot) };
            })*
        }
    };
}

switched! {
    SPRG0 All; SPRG1 All; SPRG2 All; SPRG3 All;
    DSCR All; FSCR All; TAR All; UAMOR All; VRSAVE All; CTRL_READ / CTRL All;
    PSPB All; BESCR All; EBBHR All; EBBRR All;
    DPDES All; CIABR All; DAWR0 All; DAWRX0 All; WORT All; TIDR Power9; ACOP Power8; PIDR All; EAR All; PPR All;
    TACR All; TCSCR All; CSIGR All; SPMC1 All; SPMC2 All; MMCRS All; HASHKEYR Isa31; DEXCR Isa31;
    DAWR1 Isa31; DAWRX1 Isa31;
    MMCR1 All; MMCR2 All; MMCRA All; SIAR All; SDAR All; SIER All;
    PMC1 All; PMC2 All; PMC3 All; PMC4 All; PMC5 All; PMC6 All;
    MMCR3 Isa31; SIER2 Isa31; SIER3 Isa31;
}

const _: () = assert!(SWITCHED.len() <= MAX_SWITCHED);

/// PPR: medium priority (IBM bits 11:13).
const PPR_MEDIUM: u64 = 4 << 50;

/// What the switched registers of a vCPU start with.
pub const INITIAL: [u64; MAX_SWITCHED] = {
    let mut values = [0; MAX_SWITCHED];
    let mut n = 0;
    while n < SWITCHED.len() {
        if SWITCHED[n].0 == spr::PPR {
            values[n] = PPR_MEDIUM;
        }
        n += 1;
    }
    values
};
