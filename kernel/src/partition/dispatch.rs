//! What a vCPU shares with its guest about being dispatched: the counters in the VPA, by which its other vCPUs see whether a lock's
//! holder runs and its kernel how much time was stolen, and the dispatch trace log (LoPAR, "Per Virtual Processor Area",
//! "Dispatch Trace Log").

use papr::vpa::{DTL_ENTRY, VpaState, offset};
use power::GuestReal;
use realmode::instructions::timebase;

use super::VirtualCpu;
use super::memory::GuestMemory;
use core::sync::atomic::Ordering;

/// Why a vCPU was taken off its CPU, as a log entry has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Reason {
    /// It waits for something, or has conferred its time.
    Ceded = 0,
    /// Its slice was over.
    Preempted = 1,
}

/// The areas of a vCPU and what has been counted in them.
#[derive(Clone)]
pub struct Areas {
    /// Where they are.
    pub vpa: VpaState,
    /// It is off its CPU since then, and why.
    off: Option<(u64, Reason)>,
    /// How many entries its dispatch trace log has had.
    pub dtl_next: u64,
    /// Ticks from being ready to being put on a CPU: what the guest calls stolen.
    stolen: u64,
    /// Ticks from waiting to being ready.
    waited: u64,
    /// Dispatches on another CPU than the last one, and that one.
    dispersions: u32,
    last_cpu: Option<usize>,
}

impl Areas {
    /// None yet.
    pub const NEW: Areas = Areas {
        vpa: VpaState::NEW,
        off: None,
        dtl_next: 0,
        stolen: 0,
        waited: 0,
        dispersions: 0,
        last_cpu: None,
    };

    /// Ticks that it was ready and had no CPU.
    pub fn stolen(&self) -> u64 {
        self.stolen
    }
}

/// The vCPU leaves the CPU. Nothing happens if it has left already.
pub fn leave(vcpu: &VirtualCpu, memory: GuestMemory<'_>, reason: Reason) {
    let mut areas = vcpu.areas.lock();
    if areas.off.is_none() {
        areas.off = Some((timebase(), reason));
        count(&areas, memory, true);
    }
}

/// The vCPU gets a CPU: it counts, and is logged. `pc` and `msr` are where it goes on.
pub fn enter(vcpu: &VirtualCpu, memory: GuestMemory<'_>, cpu: usize, pc: u64, msr: u64) {
    let mut areas = vcpu.areas.lock();
    if areas.last_cpu.is_some_and(|last| last != cpu) {
        areas.dispersions = areas.dispersions.wrapping_add(1);
    }
    areas.last_cpu = Some(cpu);
    let Some((since, reason)) = areas.off.take() else { return };
    // Another CPU's timebase may have been a tick ahead.
    let now = timebase().max(since);
    let ready = match reason {
        Reason::Preempted => since,
        Reason::Ceded => vcpu.ready_at.load(Ordering::Relaxed).clamp(since, now),
    };
    areas.waited += ready - since;
    areas.stolen += now - ready;
    count(&areas, memory, false);
    if let Some(vpa) = areas.vpa.vpa {
        let put = |at, bytes: &[u8]| {
            let _ = memory.write(GuestReal(vpa.base.0 + at), bytes);
        };
        put(offset::DISPERSION_COUNTER, &areas.dispersions.to_be_bytes());
        put(offset::ENQUEUE_DISPATCH_TB, &areas.stolen.to_be_bytes());
        put(offset::WAIT_READY_TB, &areas.waited.to_be_bytes());
    }
    let waits = Waits { enqueued: now - ready, waited: ready - since };
    log(&mut areas, vcpu, memory, reason, waits, [now, pc, msr]);
}

/// How long a vCPU was off its CPU, in ticks.
struct Waits {
    enqueued: u64,
    waited: u64,
}

/// Moves the dispatch counter on: odd while the vCPU is off.
fn count(areas: &Areas, memory: GuestMemory<'_>, odd: bool) {
    let Some(vpa) = areas.vpa.vpa else { return };
    let at = GuestReal(vpa.base.0 + offset::DISPATCH_COUNTER);
    let Ok(counter) = memory.read_be::<4>(at) else { return };
    let next = (counter as u32).wrapping_add(1);
    // A guest that writes to it sets it off by one at most.
    let next = if (next & 1 != 0) == odd { next } else { next.wrapping_add(1) };
    let _ = memory.write(at, &next.to_be_bytes());
}

/// Adds an entry to the dispatch trace log, if there is one.
fn log(
    areas: &mut Areas,
    vcpu: &VirtualCpu,
    memory: GuestMemory<'_>,
    reason: Reason,
    waits: Waits,
    [now, pc, msr]: [u64; 3],
) {
    let (Some(vpa), Some(dtl)) = (areas.vpa.vpa, areas.vpa.dtl) else { return };
    let entries = u64::from(dtl.bytes / DTL_ENTRY).max(1);
    let short = |ticks: u64| u32::try_from(ticks).unwrap_or(u32::MAX).to_be_bytes();
    let mut entry = [0; DTL_ENTRY as usize];
    // Dispatch reason 0: it was its turn, or what it waited for has come.
    entry[1] = reason as u8;
    entry[2..4].copy_from_slice(&(vcpu.server as u16).to_be_bytes());
    entry[4..8].copy_from_slice(&short(waits.enqueued));
    entry[12..16].copy_from_slice(&short(waits.waited));
    entry[16..24].copy_from_slice(&now.to_be_bytes());
    entry[32..40].copy_from_slice(&pc.to_be_bytes());
    entry[40..48].copy_from_slice(&msr.to_be_bytes());
    let at = GuestReal(dtl.base.0 + areas.dtl_next % entries * u64::from(DTL_ENTRY));
    areas.dtl_next += 1;
    if memory.write(at, &entry).is_ok() {
        let _ = memory.write(GuestReal(vpa.base.0 + offset::DTL_INDEX), &areas.dtl_next.to_be_bytes());
    }
}
