//! The host's CPUs as real mode knows them: how to ring one, and how a virtual processor that sleeps is woken.
//!
//! A ring is a directed hypervisor doorbell (`msgsnd`; Power ISA 3.0C, book III, 11.2), which POWER9 and later send to any
//! thread and POWER8 to threads of its own core only. Between cores of a POWER8 it is an inter-processor interrupt of the
//! host's own presentation controller. A ring stays pending until the CPU acknowledges it, and wakes one that sleeps.
#![allow(unsafe_code)] // doorbells, and the presentation controller's registers

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use power::regs::Msr;
use sched::{IdleCpus, MAX_CPUS, Mailbox, Phase, Wake};

use crate::instructions::timebase;
use crate::partition::Presence;

/// The priority of the host's own inter-processor interrupts (POWER8).
pub const IPI_PRIORITY: u8 = 4;
/// The one of its devices' interrupts there: the least favoured that is let through.
pub const DEVICE_PRIORITY: u8 = 5;

/// A host CPU.
#[repr(align(128))]
pub struct HostCpu {
    /// Virtual processors that others have woken for it.
    pub mailbox: Mailbox,
    /// It is to look for something better to do than what it runs.
    pub look: AtomicBool,
    /// Its number in the processor identification register.
    pub pir: AtomicU32,
    /// The number of its core's first thread, and how many there are.
    pub core: AtomicU32,
    /// See `core`.
    pub threads: AtomicU32,
    /// The timebase at which HDEC is to fire for it, while a guest runs there. Only where threads share HDEC.
    pub deadline: AtomicU64,
    /// The partition that runs there: its LPID, or 0.
    pub lpid: AtomicU32,
    /// Its presentation controller (POWER8): the real address and the one in the device windows; 0 where rings are doorbells.
    pub icp_real: AtomicU64,
    /// See `icp_real`.
    pub icp_mapped: AtomicU64,
    /// An interrupt of a device that the controller has handed over and that virtual mode is to serve: XIRR as it was read; 0 if
    /// there is none.
    pub taken: AtomicU32,
}

impl HostCpu {
    const fn new() -> HostCpu {
        HostCpu {
            mailbox: Mailbox::new(),
            look: AtomicBool::new(false),
            pir: AtomicU32::new(0),
            core: AtomicU32::new(0),
            threads: AtomicU32::new(1),
            deadline: AtomicU64::new(u64::MAX),
            lpid: AtomicU32::new(0),
            icp_real: AtomicU64::new(0),
            icp_mapped: AtomicU64::new(0),
            taken: AtomicU32::new(0),
        }
    }

    /// Its thread's number in its core.
    pub fn thread(&self, number: usize) -> u32 {
        number as u32 - self.core.load(Ordering::Relaxed)
    }
}

/// All of them, by number: what there is of them is written once, at boot.
pub static CPUS: [HostCpu; MAX_CPUS] = [const { HostCpu::new() }; MAX_CPUS];

/// Those that sleep.
pub static IDLE: IdleCpus = IdleCpus::new();

/// Doorbells reach every CPU (POWER9 and later), not only those of a core.
pub static GLOBAL_DOORBELLS: AtomicBool = AtomicBool::new(false);

/// Threads of a core have one HDEC between them (POWER8).
pub static SHARED_HDEC: AtomicBool = AtomicBool::new(false);

/// How late HDEC may come where threads share it, in timebase ticks: 1 ms. A sibling that writes it at the same moment may
/// put it off.
const SHARED_HDEC_TICKS: u64 = 512_000;

/// `msgsnd` and `msgclr` of a directed hypervisor doorbell: message type 5.
const DOORBELL: u64 = 5 << 27;
/// Registers of the presentation controller: XIRR, whose first byte is CPPR, and MFRR.
const XIRR: u64 = 4;
const MFRR: u64 = 12;
/// XIRR's lower bits name the source: none, or a ring.
const SOURCE: u32 = 0xff_ffff;
const NO_SOURCE: u32 = 0;
const RING: u32 = 2;

/// Rings a CPU. `from` is the caller's number.
pub fn ring(from: usize, to: usize) {
    let Some(cpu) = CPUS.get(to) else { return };
    let same_core = CPUS
        .get(from)
        .is_some_and(|own| own.core.load(Ordering::Relaxed) == cpu.core.load(Ordering::Relaxed));
    let tag = if GLOBAL_DOORBELLS.load(Ordering::Relaxed) {
        cpu.pir.load(Ordering::Relaxed)
    } else if same_core {
        cpu.thread(to)
    } else if cpu.icp_real.load(Ordering::Relaxed) != 0 {
        return icp_store(cpu, MFRR, IPI_PRIORITY);
    } else {
        return;
    };
    // SAFETY: what was stored before is seen by who is rung; an interrupt of a CPU of our own changes nothing else. The words are `msgsnd r3`.
    unsafe {
        asm!("sync", ".long 0x7c00199c", in("r3") DOORBELL | u64::from(tag), options(nostack, preserves_flags));
    }
}

/// Takes note of all rings of this CPU, `own`, so that later ones count anew. If a device interrupts, virtual mode is to look.
pub fn acknowledge(own: usize) {
    // SAFETY: clears this CPU's own doorbell; what others stored before they rang is seen afterwards, for which POWER9 and later need
    // `msgsync`, which POWER8 does not have (Power ISA 3.0C, book III, 11.2.3). The words are `msgclr r3` and `msgsync`.
    unsafe {
        asm!(".long 0x7c0019dc", in("r3") DOORBELL, options(nostack, preserves_flags));
        if GLOBAL_DOORBELLS.load(Ordering::Relaxed) {
            asm!(".long 0x7c0006ec", "lwsync", options(nostack, preserves_flags));
        }
    }
    let Some(cpu) = CPUS.get(own) else { return };
    if cpu.icp_real.load(Ordering::Relaxed) != 0 {
        let xirr = take(cpu);
        if xirr != 0 {
            cpu.taken.store(xirr, Ordering::Relaxed);
            cpu.look.store(true, Ordering::SeqCst);
        }
    }
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Takes what the presentation controller of this CPU has. A ring is over with that: 0. A device's interrupt is to be ended ([`end`]); until
/// then only rings come.
fn take(cpu: &HostCpu) -> u32 {
    let xirr = icp_load_xirr(cpu);
    match source(xirr) {
        NO_SOURCE => 0,
        RING => {
            icp_store(cpu, MFRR, 0xff);
            icp_store_xirr(cpu, xirr);
            0
        }
        _ => xirr,
    }
}

/// What a presentation controller lets through: what is more favoured than this. It is the CPU's that runs this.
pub fn admit(cpu: &HostCpu, priority: u8) {
    icp_store(cpu, XIRR, priority);
}

/// Ends an interrupt that was taken, on the CPU that took it.
pub fn end(cpu: &HostCpu, xirr: u32) {
    icp_store_xirr(cpu, xirr);
}

/// The source of what was taken.
pub fn source(xirr: u32) -> u32 {
    xirr & SOURCE
}

fn translated() -> bool {
    let msr: u64;
    // SAFETY: reads MSR.
    unsafe { asm!("mfmsr {}", out(reg) msr, options(nomem, nostack, preserves_flags)) };
    Msr::from_bits_retain(msr).contains(Msr::DR)
}

fn icp_store(cpu: &HostCpu, register: u64, value: u8) {
    // SAFETY: the register of a presentation controller, by its window in virtual mode and by its real address otherwise (`stbcix`).
    unsafe {
        if translated() {
            asm!("sync", "stb {}, 0({})", in(reg) value, in(reg_nonzero) cpu.icp_mapped.load(Ordering::Relaxed) + register, options(nostack, preserves_flags));
        } else {
            asm!("sync", "stbcix {}, 0, {}", in(reg) value, in(reg) cpu.icp_real.load(Ordering::Relaxed) + register, options(nostack, preserves_flags));
        }
    }
}

/// XIRR is big endian.
fn icp_load_xirr(cpu: &HostCpu) -> u32 {
    let value: u32;
    // SAFETY: as above; the load takes the interrupt.
    unsafe {
        if translated() {
            asm!("lwbrx {}, 0, {}", "sync", out(reg) value, in(reg) cpu.icp_mapped.load(Ordering::Relaxed) + XIRR, options(nostack, preserves_flags));
            value
        } else {
            asm!("lwzcix {}, 0, {}", "sync", out(reg) value, in(reg) cpu.icp_real.load(Ordering::Relaxed) + XIRR, options(nostack, preserves_flags));
            u32::from_be(value)
        }
    }
}

fn icp_store_xirr(cpu: &HostCpu, xirr: u32) {
    // SAFETY: as above; ends the interrupt.
    unsafe {
        if translated() {
            asm!("sync", "stwbrx {}, 0, {}", in(reg) xirr, in(reg) cpu.icp_mapped.load(Ordering::Relaxed) + XIRR, options(nostack, preserves_flags));
        } else {
            asm!("sync", "stwcix {}, 0, {}", in(reg) xirr.to_be(), in(reg) cpu.icp_real.load(Ordering::Relaxed) + XIRR, options(nostack, preserves_flags));
        }
    }
}

/// What waking a virtual processor came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// It slept, and was handed to this CPU.
    Handed(usize),
    /// It runs: its CPU was rung.
    Rung,
    /// It waits for its turn, or to be started.
    Waits,
}

/// Something has come that a virtual processor may wait for.
pub fn wake(own: usize, presence: &Presence) -> Woken {
    match presence.whereabouts.wake() {
        Wake::Hand(last) => return Woken::Handed(hand(own, presence, last)),
        Wake::Running(cpu) if cpu != own => ring(own, cpu),
        Wake::Running(_) => {}
        Wake::Nothing => return Woken::Waits,
    }
    Woken::Rung
}

/// If the virtual processor runs, on another CPU, makes it leave its guest for virtual mode, for a moment.
pub fn disturb(own: usize, presence: &Presence) {
    if let (Phase::Running, cpu) = presence.whereabouts.look()
        && cpu != own
    {
        look(own, cpu);
    }
}

/// Makes a CPU leave its guest, or its sleep, and look for what there is to do.
pub fn look(own: usize, cpu: usize) {
    if let Some(other) = CPUS.get(cpu) {
        other.look.store(true, Ordering::SeqCst);
        ring(own, cpu);
    }
}

/// Hands a virtual processor that is ready to a CPU, and answers to which: the one that it ran on last if that is idle or no other
/// is. An idle one does not count as idle from then on: what is woken next goes to another.
pub fn hand(own: usize, presence: &Presence, last: usize) -> usize {
    let allowed = &presence.allowed;
    let stay = allowed.contains(last);
    let idle = if stay && IDLE.contains(last) { Some(last) } else { IDLE.any(allowed) };
    let to = idle.or(stay.then_some(last)).or_else(|| allowed.lowest()).unwrap_or(own);
    if let Some(cpu) = CPUS.get(to) {
        IDLE.set(to, false);
        cpu.mailbox.post(presence.slot);
        ring(own, to);
    }
    to
}

/// When HDEC has to fire for CPU `own`, which wants it at `at` (timebase): earlier, if threads share it and a sibling needs it earlier.
pub fn shared_deadline(own: usize, at: u64) -> u64 {
    if !SHARED_HDEC.load(Ordering::Relaxed) {
        return at;
    }
    let Some(cpu) = CPUS.get(own) else { return at };
    cpu.deadline.store(at, Ordering::SeqCst);
    let first = cpu.core.load(Ordering::Relaxed) as usize;
    let threads = cpu.threads.load(Ordering::Relaxed) as usize;
    let siblings = CPUS.iter().skip(first).take(threads);
    let soonest = siblings.map(|cpu| cpu.deadline.load(Ordering::SeqCst)).fold(at, u64::min);
    soonest.min(timebase().wrapping_add(SHARED_HDEC_TICKS))
}
