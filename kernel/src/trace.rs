//! The last exits to virtual mode, for epitaphs and for the last words on a partition that was stopped.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use realmode::layout::{ExitCode, Vcpu};

use crate::console;
use crate::log;

/// How many are kept.
const LENGTH: usize = 16;

/// An exit: when, why and where. Written by the CPU that runs guests, read by whoever writes the epitaph.
struct Event {
    at: AtomicU64,
    code: AtomicU64,
    server: AtomicU64,
    pc: AtomicU64,
    detail: AtomicU64,
}

impl Event {
    /// None yet.
    const fn none() -> Event {
        Event {
            at: AtomicU64::new(0),
            code: AtomicU64::new(0),
            server: AtomicU64::new(0),
            pc: AtomicU64::new(0),
            detail: AtomicU64::new(0),
        }
    }
}

static EVENTS: [Event; LENGTH] = [const { Event::none() }; LENGTH];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Notes an exit.
pub fn record(exit: ExitCode, regs: &Vcpu, now: u64) {
    let event = &EVENTS[NEXT.load(Ordering::Relaxed) % LENGTH];
    let detail = match exit {
        ExitCode::Hcall => regs.gpr[3],
        ExitCode::Storage => regs.fault.ea,
        ExitCode::MachineCheck | ExitCode::Unexpected => regs.vector,
        _ => 0,
    };
    event.at.store(now, Ordering::Relaxed);
    event.code.store(exit as u64, Ordering::Relaxed);
    event.server.store(u64::from(regs.server), Ordering::Relaxed);
    event.pc.store(regs.pc, Ordering::Relaxed);
    event.detail.store(detail, Ordering::Relaxed);
    NEXT.fetch_add(1, Ordering::Relaxed);
}

/// Prints what is kept, oldest first.
pub fn dump() {
    let end = NEXT.load(Ordering::Relaxed);
    for n in end.saturating_sub(LENGTH)..end {
        let event = &EVENTS[n % LENGTH];
        let code = ExitCode::from_raw(event.code.load(Ordering::Relaxed));
        let detail = event.detail.load(Ordering::Relaxed);
        let what = match code {
            ExitCode::Hcall => power::Hcall(detail).name().unwrap_or("an unknown hypercall"),
            ExitCode::Storage => "at address",
            ExitCode::MachineCheck | ExitCode::Unexpected => "vector",
            _ => "",
        };
        log!(
            "  {:>12} us: vCPU {} left at {:016x}: {code:?}, {what} {detail:#x}",
            console::micros(event.at.load(Ordering::Relaxed)),
            event.server.load(Ordering::Relaxed),
            event.pc.load(Ordering::Relaxed),
        );
    }
}
