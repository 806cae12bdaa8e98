//! Into a guest and out of it, and to sleep: the assembly's Rust side.
#![allow(unsafe_code)] // binds the assembly and wraps its three functions

use core::arch::global_asm;
use core::mem::offset_of;

use power::regs::Msr;
use power::{Status, spr};

use crate::hcalls::{RM_SPECIAL, RM_TOO_HARD};
use crate::layout::{CrashFrame, ExitCode, PerCpu, Vcpu};

/// VSIDs of the hypervisor's own segments: segment n of the linear map, 256 MiB each, has `HOST_VSID + n`.
pub const HOST_VSID: u64 = 0x10 << 16;
/// The segment of the device windows.
pub const HOST_DEVICE_VSID: u64 = 0x20 << 16;

const _: () = assert!(offset_of!(CrashFrame, dsisr) == 39 * 8);

macro_rules! assembly {
    ($($file:literal: $($name:ident = $value:expr),* $(,)?;)*) => {
        $(global_asm!(include_str!(concat!("asm/", $file)), $($name = const $value),*);)*
    };
}

assembly! {
    "vectors.S":
        HSPRG0 = spr::HSPRG0, HSPRG1 = spr::HSPRG1, SRR0 = spr::SRR0, SRR1 = spr::SRR1, HSRR0 = spr::HSRR0,
        HSRR1 = spr::HSRR1, DAR = spr::DAR, DSISR = spr::DSISR,
        PC_SCRATCH = offset_of!(PerCpu, scratch), PC_IDLE_R1 = offset_of!(PerCpu, idle_r1), PC_VCPU = offset_of!(PerCpu, vcpu),
        PC_RM_STACK = offset_of!(PerCpu, realmode_stack), PC_TOC = offset_of!(PerCpu, toc), PC_FRAME = offset_of!(PerCpu, frame),
        PC_EMERGENCY = offset_of!(PerCpu, emergency_stack), PC_CRASH = offset_of!(PerCpu, crash),
        PC_SEGMENTS = offset_of!(PerCpu, linear_segments), PC_SLB_NEXT = offset_of!(PerCpu, slb_next),
        V_GPR = offset_of!(Vcpu, gpr), V_CR = offset_of!(Vcpu, cr), V_PC = offset_of!(Vcpu, pc), V_MSR = offset_of!(Vcpu, msr),
        V_LR = offset_of!(Vcpu, lr), V_CTR = offset_of!(Vcpu, ctr), V_XER = offset_of!(Vcpu, xer),
        HOST_VSID_HI = HOST_VSID >> 16, HOST_DEVICE_VSID_HI = HOST_DEVICE_VSID >> 16;
    "hcall.S":
        HSPRG0 = spr::HSPRG0, HSPRG1 = spr::HSPRG1, SRR0 = spr::SRR0, SRR1 = spr::SRR1,
        PC_VCPU = offset_of!(PerCpu, vcpu), PC_RM_STACK = offset_of!(PerCpu, realmode_stack), PC_TOC = offset_of!(PerCpu, toc),
        V_GPR = offset_of!(Vcpu, gpr), V_CR = offset_of!(Vcpu, cr), V_PC = offset_of!(Vcpu, pc), V_MSR = offset_of!(Vcpu, msr),
        V_LR = offset_of!(Vcpu, lr), V_CTR = offset_of!(Vcpu, ctr), V_XER = offset_of!(Vcpu, xer),
        V_PERCPU = offset_of!(Vcpu, percpu),
        MSR_PR = Msr::PR.bits(), HCALL_MAX = power::Hcall::MAX, RM_SPECIAL = RM_SPECIAL, RM_TOO_HARD = RM_TOO_HARD,
        H_RTAS = power::Hcall::RTAS.0, EXIT_HCALL = ExitCode::Hcall as u64,
        H_FUNCTION = Status::FUNCTION.0, H_PRIVILEGE = Status::PRIVILEGE.0;
    "fault.S":
        HSPRG0 = spr::HSPRG0, HSPRG1 = spr::HSPRG1, HSRR0 = spr::HSRR0, HSRR1 = spr::HSRR1,
        HDAR = spr::HDAR, HDSISR = spr::HDSISR,
        PC_VCPU = offset_of!(PerCpu, vcpu), PC_RM_STACK = offset_of!(PerCpu, realmode_stack), PC_TOC = offset_of!(PerCpu, toc),
        V_GPR = offset_of!(Vcpu, gpr), V_CR = offset_of!(Vcpu, cr), V_PC = offset_of!(Vcpu, pc), V_MSR = offset_of!(Vcpu, msr),
        V_LR = offset_of!(Vcpu, lr), V_CTR = offset_of!(Vcpu, ctr), V_XER = offset_of!(Vcpu, xer),
        V_PERCPU = offset_of!(Vcpu, percpu);
    "world.S":
        HSPRG0 = spr::HSPRG0, HSPRG1 = spr::HSPRG1, SRR0 = spr::SRR0, SRR1 = spr::SRR1, HSRR0 = spr::HSRR0,
        HSRR1 = spr::HSRR1, DAR = spr::DAR, DSISR = spr::DSISR, AMR = spr::AMR, IAMR = spr::IAMR, TB = spr::TB,
        DEC = spr::DEC, HDEC = spr::HDEC, SDR1 = spr::SDR1, LPIDR = spr::LPIDR, LPCR = spr::LPCR,
        MSR_IR_DR = Msr::IR.bits() | Msr::DR.bits(),
        PC_HOST_R1 = offset_of!(PerCpu, host_r1), PC_VCPU = offset_of!(PerCpu, vcpu), PC_TOC = offset_of!(PerCpu, toc),
        PC_PARTITION_TABLE = offset_of!(PerCpu, partition_table), PC_HOST_LPCR = offset_of!(PerCpu, host_lpcr),
        PC_HOST_SDR1 = offset_of!(PerCpu, host_sdr1), PC_HOST_MSR = offset_of!(PerCpu, host_msr),
        PC_HOST_SLB_V = offset_of!(PerCpu, host_slb_v), PC_SLB_NEXT = offset_of!(PerCpu, slb_next),
        PC_IDLE_R1 = offset_of!(PerCpu, idle_r1),
        V_GPR = offset_of!(Vcpu, gpr), V_CR = offset_of!(Vcpu, cr), V_PC = offset_of!(Vcpu, pc), V_MSR = offset_of!(Vcpu, msr),
        V_LR = offset_of!(Vcpu, lr), V_CTR = offset_of!(Vcpu, ctr), V_XER = offset_of!(Vcpu, xer),
        V_SRR0 = offset_of!(Vcpu, srr0), V_SRR1 = offset_of!(Vcpu, srr1), V_DAR = offset_of!(Vcpu, dar),
        V_DSISR = offset_of!(Vcpu, dsisr), V_AMR = offset_of!(Vcpu, amr), V_IAMR = offset_of!(Vcpu, iamr),
        V_LPID = offset_of!(Vcpu, lpid), V_LPCR = offset_of!(Vcpu, lpcr), V_SDR1 = offset_of!(Vcpu, sdr1),
        V_SLB_COUNT = offset_of!(Vcpu, slb_count), V_SLB = offset_of!(Vcpu, slb),
        V_DEC_EXPIRES = offset_of!(Vcpu, dec_expires), V_HDEC_AT = offset_of!(Vcpu, hdec_at);
}

#[allow(improper_ctypes)] // the assembly knows the offsets it uses, and nothing else
unsafe extern "C" {
    fn enter_guest(vcpu: *mut Vcpu) -> u64;
    fn idle_nap();
    fn idle_stop();
}

/// Runs a vCPU on this CPU until it needs virtual mode.
///
/// # Safety
/// Called with translation on and MSR\[EE\] off. HSPRG0 holds this CPU's filled-in [`PerCpu`]; the vCPU belongs to no
/// other CPU; its partition's page table, LPID and LPCR are such that it reaches nothing but its own memory.
pub unsafe fn run(vcpu: &mut Vcpu) -> ExitCode {
    // SAFETY: the caller's.
    ExitCode::from_raw(unsafe { enter_guest(vcpu) })
}

/// Sleeps until DEC passes zero or something else wakes the CPU that LPCR lets through.
///
/// # Safety
/// Called with translation off and MSR\[EE\] off; HSPRG0 holds the CPU's [`PerCpu`]. `stop` says whether the CPU
/// has that instruction, with PSSCR set for a shallow level and EC=1.
pub unsafe fn sleep(stop: bool) {
    // SAFETY: the caller's.
    unsafe { if stop { idle_stop() } else { idle_nap() } }
}
