//! What a vCPU shares with its guest about being dispatched: the counter in the VPA, by which other vCPUs see whether
//! a lock's holder runs, and the dispatch trace log (LoPAR, "Per Virtual Processor Area", "Dispatch Trace Log").

use papr::vpa::{DTL_ENTRY, offset};
use power::GuestReal;
use realmode::instructions::timebase;

use super::VirtualCpu;
use super::memory::GuestMemory;

/// Why a vCPU was taken off its CPU, as a log entry has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Reason {
    /// It ceded, or conferred its time.
    Ceded = 0,
    /// Its slice was over.
    Preempted = 1,
}

/// A vCPU that is off its CPU: since when, and why.
#[derive(Clone, Copy)]
pub struct Off {
    since: u64,
    reason: Reason,
}

/// The vCPU leaves the CPU. Nothing happens if it has left already.
pub fn leave(vcpu: &mut VirtualCpu, memory: GuestMemory, reason: Reason) {
    if vcpu.off.is_none() {
        vcpu.off = Some(Off { since: timebase(), reason });
        count(vcpu, memory, true);
    }
}

/// The vCPU gets the CPU back: it counts, and is logged.
pub fn enter(vcpu: &mut VirtualCpu, memory: GuestMemory) {
    if let Some(off) = vcpu.off.take() {
        count(vcpu, memory, false);
        log(vcpu, memory, off);
    }
}

/// Moves the dispatch counter on: odd while the vCPU is off.
fn count(vcpu: &VirtualCpu, memory: GuestMemory, odd: bool) {
    let Some(vpa) = vcpu.vpa.vpa else { return };
    let at = GuestReal(vpa.base.0 + offset::DISPATCH_COUNTER);
    let Ok(counter) = memory.read_be::<4>(at) else { return };
    let next = (counter as u32).wrapping_add(1);
    // A guest that writes to it sets it off by one at most.
    let next = if (next & 1 != 0) == odd { next } else { next.wrapping_add(1) };
    let _ = memory.write(at, &next.to_be_bytes());
}

/// Adds an entry to the dispatch trace log, if there is one.
fn log(vcpu: &mut VirtualCpu, memory: GuestMemory, off: Off) {
    let (Some(vpa), Some(dtl)) = (vcpu.vpa.vpa, vcpu.vpa.dtl) else { return };
    let entries = u64::from(dtl.bytes / DTL_ENTRY).max(1);
    let now = timebase();
    let waited = u32::try_from(now - off.since).unwrap_or(u32::MAX);
    let mut entry = [0; DTL_ENTRY as usize];
    // Dispatch reason 0: it was its turn, or what it waited for has come.
    entry[1] = off.reason as u8;
    entry[2..4].copy_from_slice(&(vcpu.regs.server as u16).to_be_bytes());
    // From being enqueued to being dispatched, when preempted; from waiting to being ready, when it had ceded.
    let place = if off.reason == Reason::Preempted { 4 } else { 12 };
    entry[place..place + 4].copy_from_slice(&waited.to_be_bytes());
    entry[16..24].copy_from_slice(&now.to_be_bytes());
    entry[32..40].copy_from_slice(&vcpu.regs.pc.to_be_bytes());
    entry[40..48].copy_from_slice(&vcpu.regs.msr.to_be_bytes());
    let at = GuestReal(dtl.base.0 + vcpu.dtl_next % entries * u64::from(DTL_ENTRY));
    vcpu.dtl_next += 1;
    let written = memory.write(at, &entry).is_ok();
    if written {
        let _ = memory.write(GuestReal(vpa.base.0 + offset::DTL_INDEX), &vcpu.dtl_next.to_be_bytes());
    }
}
