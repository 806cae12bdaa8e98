//! The structures that assembly and Rust share. Offsets reach the assembly as `const offset_of!`
//! operands only; what the assembly assumes beyond them is asserted at the end.

use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};
use core::sync::atomic::AtomicU64;

pub use ::trace::ExitCode;
use ::trace::Stats;
use papr::xics::Icp;
use power::GuestReal;
use power::regs::Msr;

use crate::partition::Partition;
use crate::trace::Writer;

/// What a CPU needs when it enters the hypervisor with nothing but HSPRG0: one for each host CPU.
#[repr(C, align(128))]
pub struct PerCpu {
    /// The vCPU whose registers the CPU holds; set from entry to full exit.
    pub vcpu: *mut Vcpu,
    /// The TOC pointer of the image.
    pub toc: u64,
    /// Top of the stack for the hypercall and fault paths in real mode.
    pub realmode_stack: u64,
    /// r1 of the `enter_guest` call to which a full exit returns.
    pub host_r1: u64,
    /// LPCR while the hypervisor itself translates.
    pub host_lpcr: u64,
    /// SDR1 of the hypervisor's own HPT (POWER8).
    pub host_sdr1: u64,
    /// MSR of the virtual-mode hypervisor.
    pub host_msr: u64,
    /// VSID dword of the bolted segment 0.
    pub host_slb_v: u64,
    /// How many 256 MiB segments the linear map has.
    pub linear_segments: u64,
    /// The SLB entry that the next host segment miss takes, 1 to 31.
    pub slb_next: u64,
    /// Nonzero where the HPT comes from the partition table and SDR1 must not be touched.
    pub partition_table: u64,
    /// Scratch of the interrupt prologues.
    pub scratch: [u64; 8],
    /// Called with translation off and a [`CrashFrame`] when the hypervisor itself took an interrupt
    /// that has no business there. Does not return.
    pub crash: extern "C" fn(&CrashFrame) -> !,
    /// Top of the stack for that.
    pub emergency_stack: u64,
    /// r1 of the sleeping `idle` call; 0 when the CPU does not sleep.
    pub idle_r1: u64,
    /// The CPU's number: its place in [`crate::host::CPUS`].
    pub number: u64,
    /// Its ring of trace events.
    pub trace: Writer,
    /// The registers of the hypervisor at the crash.
    pub frame: CrashFrame,
}

/// The registers of the hypervisor when an interrupt hit it that it cannot return from.
#[repr(C)]
pub struct CrashFrame {
    /// r0 to r31.
    pub gpr: [u64; 32],
    /// Where it was.
    pub pc: u64,
    /// Its MSR.
    pub msr: u64,
    /// The vector's offset.
    pub vector: u64,
    /// Condition register.
    pub cr: u64,
    /// Link register.
    pub lr: u64,
    /// Count register.
    pub ctr: u64,
    /// Data address register.
    pub dar: u64,
    /// DSISR.
    pub dsisr: u64,
}

/// An entry of the SLB as `slbmte` takes it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct SlbEntry {
    /// ESID, V and the index.
    pub e: u64,
    /// VSID, B and the page size.
    pub v: u64,
}

/// A storage fault as real mode hands it to virtual mode.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StorageFault {
    /// The effective address; for a fetch the address of the instruction.
    pub ea: u64,
    /// HDSISR, or HSRR1's cause bits for a fetch.
    pub cause: u64,
    /// The VSID dword of the segment.
    pub slb_v: u64,
    /// Whether it was a fetch.
    pub fetch: bool,
    /// What is known of what is behind it.
    pub behind: Behind,
}

/// What real mode knows of what is behind a storage fault.
#[derive(Clone, Copy)]
pub enum Behind {
    /// An address in a real-mode area that has no entry.
    Nothing,
    /// This entry.
    Entry(hpt::Escalation),
    /// An entry by which the guest means a bus: the load or store went to this address, where there is no memory.
    Bus(GuestReal),
}

impl StorageFault {
    /// None yet.
    pub const NONE: StorageFault =
        StorageFault { ea: 0, cause: 0, slb_v: 0, fetch: false, behind: Behind::Nothing };
}

/// A virtual CPU: its registers while it does not run, and what the fast paths need while it does.
#[repr(C, align(128))]
pub struct Vcpu {
    /// r0 to r31.
    pub gpr: [u64; 32],
    /// Condition register.
    pub cr: u64,
    /// Link register.
    pub lr: u64,
    /// Count register.
    pub ctr: u64,
    /// Fixed point exception register.
    pub xer: u64,
    /// The next instruction.
    pub pc: u64,
    /// MSR.
    pub msr: u64,
    /// SRR0.
    pub srr0: u64,
    /// SRR1.
    pub srr1: u64,
    /// DAR.
    pub dar: u64,
    /// DSISR.
    pub dsisr: u64,
    /// AMR: left live it would deny the hypervisor its own memory.
    pub amr: u64,
    /// IAMR, likewise.
    pub iamr: u64,
    /// LPCR while this vCPU runs: the partition's with the vCPU's own ILE and AIL.
    pub lpcr: u64,
    /// LPIDR while this vCPU runs.
    pub lpid: u64,
    /// SDR1 while this vCPU runs (POWER8).
    pub sdr1: u64,
    /// The timebase at which the decrementer passes zero.
    pub dec_expires: u64,
    /// The timebase at which the guest must be left.
    pub slice_end: u64,
    /// The timebase at which HDEC fires: `slice_end`, or earlier to watch for MSR\[EE\].
    pub hdec_at: u64,
    /// The vector of the interrupt that ended the last run, for [`ExitCode::Unexpected`].
    pub vector: u64,
    /// How many of `slb` are to be loaded.
    pub slb_count: u64,
    /// The segments; compacted on exit.
    pub slb: [SlbEntry; 32],
    /// The partition it belongs to.
    pub partition: *const Partition,
    /// Its presentation controller.
    pub icp: &'static Icp,
    /// The host CPU it runs on: set on each entry.
    pub percpu: *mut PerCpu,
    /// How that CPU is known to [`crate::partition::Residency`]; likewise.
    pub residence: u32,
    /// The server number: its identity in interrupt and CPU calls.
    pub server: u32,
    /// HEIR at the last emulation assist interrupt.
    pub heir: u32,
    /// The last storage fault that real mode escalated.
    pub fault: StorageFault,
    /// The timebase when the guest was last left, be it only for real mode.
    pub left_at: u64,
    /// The ready part of its events' tags ([`::trace::tag`]); 0 while its partition is not traced.
    pub trace_tag: AtomicU64,
    /// What it is left for: its counters, which live as long as it does.
    pub stats: *const Stats,
    /// An external interrupt is held back by EE=0: HDEC comes early to look again.
    pub watching_ee: bool,
    /// How long until it looks again, in timebase ticks.
    pub watch_ticks: u64,
    /// The vCPU, by server number, for whose sake `slice_end` was brought forward.
    pub hurry_for: u32,
    /// Registers that stay in the machine until another vCPU runs there.
    pub context: UnsafeCell<Context>,
}

/// Registers that stay live across full exits and change hands only between vCPUs.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct Context {
    /// VSR 0 to 63: the floating point registers and the vector registers.
    pub vsx: [[u64; 2]; 64],
    /// FPSCR, as a vector whose first doubleword it is.
    pub fpscr: [u64; 2],
    /// VSCR, as a vector; follows FPSCR.
    pub vscr: [u64; 2],
    /// MMCR0, which stops and starts the counters among `sprs`.
    pub mmcr0: u64,
    /// The special purpose registers of [`crate::sprs::SWITCHED`], in its order.
    pub sprs: [u64; crate::sprs::MAX_SWITCHED],
}

impl Vcpu {
    /// A vCPU at its partition's start: all registers zero. It is not traced until `trace_tag` is set; `icp` is its presentation
    /// controller, and `stats` are where its CPU counts. `None` if the partition has no such server.
    pub fn new(partition: *const Partition, icp: &'static Icp, server: u32, stats: *const Stats) -> Vcpu {
        Vcpu {
            gpr: [0; 32],
            cr: 0,
            lr: 0,
            ctr: 0,
            xer: 0,
            pc: 0,
            msr: 0,
            srr0: 0,
            srr1: 0,
            dar: 0,
            dsisr: 0,
            amr: 0,
            iamr: 0,
            lpcr: 0,
            lpid: 0,
            sdr1: 0,
            dec_expires: 0,
            slice_end: 0,
            hdec_at: 0,
            vector: 0,
            slb_count: 0,
            slb: [SlbEntry::default(); 32],
            partition,
            icp,
            percpu: core::ptr::null_mut(),
            residence: 0,
            server,
            heir: 0,
            fault: StorageFault::NONE,
            left_at: 0,
            trace_tag: AtomicU64::new(0),
            stats,
            watching_ee: false,
            watch_ticks: 0,
            hurry_for: 0,
            context: UnsafeCell::new(Context::INITIAL),
        }
    }

    /// Takes over all that the guest can see of another vCPU, neither of which runs. To whom it belongs, and how it is traced,
    /// stays.
    pub fn take_state(&mut self, from: &mut Vcpu) {
        let Vcpu {
            gpr,
            cr,
            lr,
            ctr,
            xer,
            pc,
            msr,
            srr0,
            srr1,
            dar,
            dsisr,
            amr,
            iamr,
            dec_expires,
            slb_count,
            slb,
            context,
            // Told by its partition, or set at its next entry.
            lpcr: _,
            lpid: _,
            sdr1: _,
            partition: _,
            icp: _,
            percpu: _,
            residence: _,
            server: _,
            trace_tag: _,
            stats: _,
            slice_end: _,
            hdec_at: _,
            watching_ee: _,
            watch_ticks: _,
            hurry_for: _,
            // About its last exit, which is over.
            vector: _,
            heir: _,
            fault: _,
            left_at: _,
        } = from;
        (self.gpr, self.cr, self.lr, self.ctr, self.xer) = (*gpr, *cr, *lr, *ctr, *xer);
        (self.pc, self.msr, self.srr0, self.srr1) = (*pc, *msr, *srr0, *srr1);
        (self.dar, self.dsisr, self.amr, self.iamr) = (*dar, *dsisr, *amr, *iamr);
        (self.dec_expires, self.slb_count, self.slb) = (*dec_expires, *slb_count, *slb);
        *self.context.get_mut() = *context.get_mut();
    }

    /// Its MSR, with names.
    pub fn msr(&self) -> Msr {
        Msr::from_bits_retain(self.msr)
    }
}

/// MMCR0: counters are frozen (IBM bit 32).
pub const MMCR0_FC: u64 = 1 << 31;

impl Context {
    /// As a vCPU starts: zero, but for counters that are frozen and the priority, which is medium.
    pub const INITIAL: Context = Context {
        vsx: [[0; 2]; 64],
        fpscr: [0; 2],
        vscr: [0; 2],
        mmcr0: MMCR0_FC,
        sprs: crate::sprs::INITIAL,
    };
}

const _: () = {
    assert!(size_of::<SlbEntry>() == 16);
    // Loads and stores with a displacement reach 32 KiB, and ld/std want it to be a multiple of 4.
    assert!(offset_of!(Vcpu, context) < 0x7000);
    assert!(offset_of!(PerCpu, frame) < 0x7000);
    assert!(offset_of!(Vcpu, slb) % 8 == 0);
    assert!(offset_of!(Context, vscr) == offset_of!(Context, fpscr) + 16);
};
