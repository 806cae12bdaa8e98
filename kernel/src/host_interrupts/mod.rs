//! The interrupts of the host's devices.
//!
//! A *source* is the firmware's number of an interrupt. Who serves one registers a handler ([`register`]), which from then on runs on a
//! CPU of the hypervisor's choice, with translation on and nothing else of virtual mode under way: it may take locks, and may not wait.
//! Other sources are held back; one that comes nevertheless is switched off. A message is over when its handler is; a line, which comes again as
//! long as it is up, is held back until who it is for has seen to that ([`end_line`]).
//!
//! An interrupt of a CPU in a guest makes it leave for virtual mode; one that comes in the hypervisor waits for that, because interrupts
//! are off there; and a sleeping CPU wakes. In each case [`serve`] is next. On POWER8 the presentation controllers ([`icp`]) also carry the
//! rings between cores, which real mode takes ([`host::acknowledge`]). Later processors have XIVE ([`xive`]), with the firmware's help.

mod icp;
mod xive;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use fdt::Fdt;
use power::CpuFeatures;
use realmode::host::{self, CPUS};
use realmode::instructions::timebase;
use spin::Once;

use crate::partition::TIMEBASE_HZ;
use crate::sync::{Guard, Lock, Rank};
use crate::{cpus, log, opal};

/// What is done about an interrupt.
pub type Handler = Arc<dyn Fn() + Send + Sync>;

/// Where interrupts come from, and how they are ended there.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// Messages of a host bridge of POWER8, by the firmware's number of the bridge.
    Bridge(u64),
    /// A line of one of these, and the CPU that it interrupts.
    Line(usize),
    /// A source with its own pages of state.
    Xive(xive::Source),
}

impl Origin {
    /// It interrupts as long as it is up.
    fn is_level(self) -> bool {
        match self {
            Origin::Bridge(_) => false,
            Origin::Line(_) => true,
            Origin::Xive(state) => state.is_level(),
        }
    }
}

/// Who holds a level back: who it is for, and the CPU, until its period is over.
const USER: u8 = 1;
const CPU: u8 = 2;

struct Served {
    source: u32,
    origin: Origin,
    /// Who holds it back.
    held: u8,
    handler: Option<Handler>,
}

/// Those that have ever been served.
static SERVED: Lock<Vec<Served>> = Lock::new(Rank::Interrupts, Vec::new());

/// The CPU that gets the next source.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// How many interrupts a CPU serves in a period, 1 ms: what comes beyond is not ended at its source before the period is over, and so comes
/// again then. A guest whose device interrupts without end leaves others most of the CPU.
const AT_MOST: u32 = 100;
const PERIOD: u64 = TIMEBASE_HZ / 1000;

/// What a CPU has served lately.
struct Lately {
    /// When the period began.
    since: u64,
    /// How many interrupts there were in it.
    count: u32,
    /// Those that are to be ended when it is over.
    held: Vec<(u32, Origin)>,
}

/// By CPU number.
static LATELY: Once<Vec<Lock<Lately>>> = Once::new();

fn lately(own: usize) -> Guard<'static, Lately> {
    let none = || Lock::new(Rank::Interrupts, Lately { since: 0, count: 0, held: Vec::new() });
    LATELY.call_once(|| (0..cpus::count()).map(|_| none()).collect())[own].lock()
}

/// Finds the controllers of all CPUs and sets the one of this CPU; false if there is none that is known.
pub fn init(tree: &Fdt<'_>, features: &CpuFeatures) -> bool {
    let found = if features.partition_table { xive::find(tree) } else { icp::find(tree) };
    set_own();
    found
}

/// Sets this CPU's controller, and forgets what the firmware may have left pending there.
pub fn set_own() {
    let own = crate::percpu::number();
    icp::open(own);
    xive::close();
    host::acknowledge(own);
}

/// Has a source served from now on: a message of a host bridge, by the firmware's number of it, or a line.
pub fn register(source: u32, bridge: Option<u64>, handler: Handler) -> Result<(), opal::Error> {
    let online = cpus::online();
    let turn = NEXT.fetch_add(1, Ordering::Relaxed) % cpus::count();
    let cpu = (turn..cpus::count()).find(|cpu| online.contains(*cpu)).unwrap_or(cpus::boot());
    let mut all = SERVED.lock();
    let known = all.iter_mut().find(|served| served.source == source);
    let origin = match (&known, bridge) {
        (Some(Served { origin: Origin::Xive(state), .. }), _) => Origin::Xive(*state),
        (None, _) if xive::is_there() => Origin::Xive(xive::Source::find(source)?),
        (_, Some(bridge)) => Origin::Bridge(bridge),
        (_, None) => Origin::Line(cpu),
    };
    let now = Served { source, origin, held: 0, handler: Some(handler) };
    let before = match known {
        Some(served) => Some(core::mem::replace(served, now)),
        None => {
            all.push(now);
            None
        }
    };
    drop(all);
    // Not under the lock: what it refers to may be long to drop.
    drop(before);
    match origin {
        Origin::Bridge(_) | Origin::Line(_) => icp::target(source, cpu),
        Origin::Xive(state) => state.target(source, cpu),
    }
}

/// Has it no longer served. A handler that runs elsewhere may go on for a moment.
pub fn unregister(source: u32) {
    let mut all = SERVED.lock();
    let Some(served) = all.iter_mut().find(|served| served.source == source) else { return };
    let handler = served.handler.take();
    let origin = served.origin;
    served.held = 0;
    drop(all);
    switch_off(source, Some(origin));
    drop(handler);
}

fn switch_off(source: u32, origin: Option<Origin>) {
    let done = match origin {
        Some(Origin::Xive(state)) => state.switch_off(source),
        None if xive::is_there() => opal::xive_set_irq(source, 0, opal::MASKED, source),
        _ => opal::set_xive(source, 0, opal::MASKED),
    };
    if let Err(error) = done {
        log!("interrupt {source:#x} cannot be switched off (code {})", error.0);
    }
}

/// A CPU that has slept looks whether it was for an interrupt of a device; on POWER8, real mode has looked.
pub fn look(own: usize) {
    if xive::is_pending() {
        CPUS[own].look.store(true, Ordering::SeqCst);
    }
}

/// Serves what this CPU has been interrupted for. When it has to [`release`] something.
pub fn serve(own: usize) -> Option<u64> {
    let before = lately(own).held.len();
    if xive::is_there() {
        xive::serve(own, |source| handle(own, source));
    } else {
        icp::serve(own, |source| handle(own, source));
    }
    let lately = lately(own);
    (before == 0 && !lately.held.is_empty()).then_some(lately.since + PERIOD)
}

/// The period is over.
pub fn release(own: usize) {
    let held = core::mem::take(&mut lately(own).held);
    for (source, origin) in held {
        if origin.is_level() {
            let_go(source, CPU);
        } else {
            end(source, origin);
        }
    }
}

/// One interrupt: its handler, and its end where it comes from.
fn handle(own: usize, source: u32) {
    let too_many = is_one_too_many(own);
    let mut all = SERVED.lock();
    let served = all.iter_mut().find(|served| served.source == source);
    let origin = served.as_ref().map(|served| served.origin);
    let handler = served.and_then(|served| {
        let handler = served.handler.clone()?;
        if served.origin.is_level() {
            served.held = if too_many { USER | CPU } else { USER };
            hold(source, served.origin);
        }
        Some(handler)
    });
    drop(all);
    let (Some(handler), Some(origin)) = (handler, origin) else { return switch_off(source, origin) };
    handler();
    if too_many {
        lately(own).held.push((source, origin));
    } else if !origin.is_level() {
        end(source, origin);
    }
}

/// Counts an interrupt of this CPU's: is it beyond what a period may have?
fn is_one_too_many(own: usize) -> bool {
    let now = timebase();
    let mut lately = lately(own);
    if now - lately.since > PERIOD {
        (lately.since, lately.count) = (now, 0);
    }
    lately.count += 1;
    lately.count > AT_MOST
}

/// Who a line is for has seen to what it said.
pub fn end_line(source: u32) {
    let_go(source, USER);
}

/// A level comes again, if it is still up, when nobody holds it back any longer.
fn let_go(source: u32, who: u8) {
    let mut all = SERVED.lock();
    let held = all.iter_mut().find(|served| served.source == source && served.held & who != 0);
    if let Some(served) = held {
        served.held &= !who;
        if served.held == 0 {
            end(source, served.origin);
        }
    }
}

/// Keeps a level from coming again. XIVE does that by itself until the end.
fn hold(source: u32, origin: Origin) {
    if let Origin::Line(_) = origin {
        let _ = opal::set_xive(source, 0, opal::MASKED);
    }
}

/// Ends an interrupt where it comes from: another one counts from then on.
fn end(source: u32, origin: Origin) {
    match origin {
        Origin::Line(cpu) => {
            let _ = icp::target(source, cpu);
        }
        Origin::Bridge(bridge) => {
            let _ = opal::pci_msi_eoi(bridge, source);
        }
        Origin::Xive(state) => state.end(),
    }
}
