//! A virtual CPU as virtual mode has it.
#![allow(unsafe_code)] // hands out registers to the CPU that runs them

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use ::trace::Stats;
use papr::xics::Icp;
use realmode::layout::{Context, Vcpu};
use realmode::partition::Partition as Core;

use super::dispatch::Areas;
use crate::sync::{Lock, Rank};

/// What a vCPU waits for when it does not want a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Waits {
    /// Nothing: it runs, or would if a CPU were free.
    Nothing = 0,
    /// `start-cpu`.
    Start = 1,
    /// An interrupt, its decrementer or a prod, in H_CEDE.
    Event = 2,
    /// A prod, in H_JOIN.
    Prod = 3,
}

impl Waits {
    /// In a word, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Waits::Nothing => "ready",
            Waits::Start => "stopped",
            Waits::Event => "ceded",
            Waits::Prod => "joined",
        }
    }
}

/// No CPU has its registers.
const NOWHERE: usize = usize::MAX;

/// A vCPU: its registers, which belong to the CPU that runs it, and what everybody may look at.
pub struct VirtualCpu {
    regs: UnsafeCell<Vcpu>,
    /// What it was left for: how often, and how long that took.
    pub stats: &'static Stats,
    /// The number that the partition knows it by.
    pub server: usize,
    waits: AtomicU8,
    /// The timebase at which its decrementer expires, while it waits.
    pub wakes_at: AtomicU64,
    /// The timebase at which it last became ready for a CPU.
    pub ready_at: AtomicU64,
    /// How much it has had of the CPUs, divided by its weight: the run queues' clock.
    pub vtime: AtomicU64,
    /// For how many ticks it has run, and how often it was put on a CPU.
    pub ran: AtomicU64,
    /// See `ran`.
    pub dispatches: AtomicU64,
    /// The areas that it shares with its guest.
    pub areas: Lock<Areas>,
    /// The CPU that its switched registers were last saved on: they are still there if nobody else has run there since.
    saved_on: AtomicUsize,
}

// SAFETY: the registers are reached through `regs` only, by the one CPU on which the vCPU runs or, while its partition has no active
// vCPU, by the one that starts it; all else is atomic or locked.
unsafe impl Sync for VirtualCpu {}
// SAFETY: as above; the pointers in the registers are to the partition that owns it and to CPUs' structures, which are never freed.
unsafe impl Send for VirtualCpu {}

impl VirtualCpu {
    /// One that is not started. Its partition keeps `icp` and `stats` longer than it.
    pub fn new(core: *const Core, server: usize, icp: &'static Icp, stats: &'static Stats) -> VirtualCpu {
        VirtualCpu {
            regs: UnsafeCell::new(Vcpu::new(core, icp, server as u32, stats)),
            stats,
            server,
            waits: AtomicU8::new(Waits::Start as u8),
            wakes_at: AtomicU64::new(u64::MAX),
            ready_at: AtomicU64::new(0),
            vtime: AtomicU64::new(0),
            ran: AtomicU64::new(0),
            dispatches: AtomicU64::new(0),
            areas: Lock::new(Rank::Areas, Areas::NEW),
            saved_on: AtomicUsize::new(NOWHERE),
        }
    }

    /// Its registers.
    ///
    /// # Safety
    /// The vCPU runs on this CPU, or it is parked and nobody else can start it; there is no other reference to them.
    #[allow(clippy::mut_from_ref)] // the caller's promise
    pub unsafe fn regs(&self) -> &mut Vcpu {
        // SAFETY: the caller's.
        unsafe { &mut *self.regs.get() }
    }

    /// How its events are marked from now on; 0: they are not recorded.
    pub fn set_trace_tag(&self, tag: u64) {
        // SAFETY: an atomic field, by its address: no reference to all the registers is made.
        unsafe { (*self.regs.get()).trace_tag.store(tag, Ordering::Relaxed) };
    }

    /// A look at its registers from elsewhere, for reports only: they may change meanwhile.
    pub fn peek(&self) -> *const Vcpu {
        self.regs.get()
    }

    /// Forgets its registers and areas, as for a partition that starts anew. What it waits for stays: whoever has claimed its start
    /// has it alone.
    ///
    /// # Safety
    /// As for [`VirtualCpu::regs`].
    pub unsafe fn reset(&self) {
        // SAFETY: the caller's.
        let regs = unsafe { self.regs() };
        *regs = Vcpu::new(regs.partition, regs.icp, self.server as u32, self.stats);
        *regs.context.get_mut() = Context::INITIAL;
        *self.areas.lock() = Areas::NEW;
        self.saved_on.store(NOWHERE, Ordering::Relaxed);
    }

    /// What it waits for.
    pub fn waits(&self) -> Waits {
        match self.waits.load(Ordering::SeqCst) {
            0 => Waits::Nothing,
            1 => Waits::Start,
            2 => Waits::Event,
            _ => Waits::Prod,
        }
    }

    /// Claims the right to start it: true for one caller, if it waits for that.
    pub fn claim_start(&self) -> bool {
        let (from, to) = (Waits::Start as u8, Waits::Nothing as u8);
        self.waits.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// It waits for this from now on.
    pub fn set_waits(&self, waits: Waits) {
        self.waits.store(waits as u8, Ordering::SeqCst);
    }

    /// Its switched registers have been saved on this CPU.
    pub fn note_saved(&self, cpu: usize) {
        self.saved_on.store(cpu, Ordering::Relaxed);
    }

    /// Where they were saved last.
    pub fn was_saved_on(&self, cpu: usize) -> bool {
        self.saved_on.load(Ordering::Relaxed) == cpu
    }
}
