//! Into a guest and out of it, and to sleep: the assembly's Rust side.
#![allow(unsafe_code)] // binds the assembly and wraps its three functions

use core::arch::global_asm;
use core::mem::offset_of;

use power::regs::Msr;
use power::{Status, spr};

use crate::hcalls::{RM_SPECIAL, RM_TOO_HARD};
use crate::layout::{CrashFrame, ExitCode, PerCpu, Vcpu};

/// VSIDs of the hypervisor's own segments: segment n of the linear map, 256 MiB each, has `HOST_VSID + n * VSID_STRIDE`.
pub const HOST_VSID: u64 = 0x10 << 16;
/// As many as a segment has pages: the hash is VSID xor page, so every page of the linear map has a group of its own.
pub const VSID_STRIDE: u64 = 16;
/// The segment of the device windows.
pub const HOST_DEVICE_VSID: u64 = 0x20 << 16;

const _: () = assert!(offset_of!(CrashFrame, dsisr) == 39 * 8);

// One assembly, so that its files share macros and constants.
global_asm!(
    include_str!("asm/macros.S"),
    include_str!("asm/hcall.S"),
    include_str!("asm/vectors.S"),
    include_str!("asm/fault.S"),
    include_str!("asm/world.S"),
    include_str!("asm/copy.S"),
    AMR = const spr::AMR,
    DAR = const spr::DAR,
    DEC = const spr::DEC,
    DSISR = const spr::DSISR,
    HDAR = const spr::HDAR,
    HDEC = const spr::HDEC,
    HDSISR = const spr::HDSISR,
    HSPRG0 = const spr::HSPRG0,
    HSPRG1 = const spr::HSPRG1,
    HSRR0 = const spr::HSRR0,
    HSRR1 = const spr::HSRR1,
    IAMR = const spr::IAMR,
    LPCR = const spr::LPCR,
    LPIDR = const spr::LPIDR,
    SDR1 = const spr::SDR1,
    SRR0 = const spr::SRR0,
    SRR1 = const spr::SRR1,
    TB = const spr::TB,
    PC_CRASH = const offset_of!(PerCpu, crash),
    PC_EMERGENCY = const offset_of!(PerCpu, emergency_stack),
    PC_FRAME = const offset_of!(PerCpu, frame),
    PC_HOST_LPCR = const offset_of!(PerCpu, host_lpcr),
    PC_HOST_MSR = const offset_of!(PerCpu, host_msr),
    PC_HOST_R1 = const offset_of!(PerCpu, host_r1),
    PC_HOST_SDR1 = const offset_of!(PerCpu, host_sdr1),
    PC_HOST_SLB_V = const offset_of!(PerCpu, host_slb_v),
    PC_IDLE_R1 = const offset_of!(PerCpu, idle_r1),
    PC_PARTITION_TABLE = const offset_of!(PerCpu, partition_table),
    PC_RM_STACK = const offset_of!(PerCpu, realmode_stack),
    PC_SCRATCH = const offset_of!(PerCpu, scratch),
    PC_SEGMENTS = const offset_of!(PerCpu, linear_segments),
    PC_SLB_NEXT = const offset_of!(PerCpu, slb_next),
    PC_TOC = const offset_of!(PerCpu, toc),
    PC_TRACE = const offset_of!(PerCpu, trace),
    PC_VCPU = const offset_of!(PerCpu, vcpu),
    V_AMR = const offset_of!(Vcpu, amr),
    V_CR = const offset_of!(Vcpu, cr),
    V_CTR = const offset_of!(Vcpu, ctr),
    V_DAR = const offset_of!(Vcpu, dar),
    V_DEC_EXPIRES = const offset_of!(Vcpu, dec_expires),
    V_DSISR = const offset_of!(Vcpu, dsisr),
    V_GPR = const offset_of!(Vcpu, gpr),
    V_HDEC_AT = const offset_of!(Vcpu, hdec_at),
    V_IAMR = const offset_of!(Vcpu, iamr),
    V_LEFT_AT = const offset_of!(Vcpu, left_at),
    V_LPCR = const offset_of!(Vcpu, lpcr),
    V_LPID = const offset_of!(Vcpu, lpid),
    V_LR = const offset_of!(Vcpu, lr),
    V_MSR = const offset_of!(Vcpu, msr),
    V_PC = const offset_of!(Vcpu, pc),
    V_PERCPU = const offset_of!(Vcpu, percpu),
    V_SDR1 = const offset_of!(Vcpu, sdr1),
    V_SLB = const offset_of!(Vcpu, slb),
    V_SLB_COUNT = const offset_of!(Vcpu, slb_count),
    V_SRR0 = const offset_of!(Vcpu, srr0),
    V_SRR1 = const offset_of!(Vcpu, srr1),
    V_STATS = const offset_of!(Vcpu, stats),
    V_TRACE_TAG = const offset_of!(Vcpu, trace_tag),
    V_XER = const offset_of!(Vcpu, xer),
    COUNTER_TICKS = const trace::stats::TICKS,
    EMULATE = const crate::interrupts::EMULATE,
    EXIT_HCALL = const ExitCode::Hcall as u64,
    HCALL_MAX = const power::Hcall::MAX,
    HOST_DEVICE_VSID_HI = const HOST_DEVICE_VSID >> 16,
    HOST_VSID_HI = const HOST_VSID >> 16,
    HOST_VSID_SHIFT = const VSID_STRIDE.trailing_zeros(),
    H_FUNCTION = const Status::FUNCTION.0,
    H_PRIVILEGE = const Status::PRIVILEGE.0,
    H_RTAS = const power::Hcall::RTAS.0,
    PRIVATE_LAST = const power::Hcall::PRIVATE_LAST,
    MSR_IR_DR = const Msr::IR.bits() | Msr::DR.bits(),
    MSR_PR = const Msr::PR.bits(),
    RM_SPECIAL = const RM_SPECIAL,
    RM_TOO_HARD = const RM_TOO_HARD,
    STATS_REFUSED = const trace::stats::REFUSED,
    TRACE_CODE = const trace::event::CODE_SHIFT,
    TRACE_ENTRY = const trace::event::kind::ENTRY,
    TRACE_EXIT = const trace::event::kind::EXIT,
    TRACE_STAMP = const trace::event::STAMP_SHIFT,
);

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
