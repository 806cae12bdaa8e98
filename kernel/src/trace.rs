//! Reading the trace: the rings of all CPUs, for the monitor, for epitaphs and for the last words on a partition that crashed.
#![allow(unsafe_code)] // reaches into this CPU's structure

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use ::trace::{Record, What};
use power::Lpid;
use realmode::layout::Vcpu;

use crate::{console, cpus, log, percpu};

/// How many events an epitaph shows.
const LAST: usize = 16;

/// Records an event of a vCPU that this CPU has.
pub fn record(regs: &Vcpu, what: What) {
    let tag = regs.trace_tag.load(Ordering::Relaxed);
    // SAFETY: this CPU's own, of which only atomics are looked at.
    unsafe { &(*percpu::this()).trace }.record(tag, what);
}

/// What the rings of all CPUs hold, in no order.
fn all() -> impl Iterator<Item = Record> {
    (0..cpus::count())
        .filter_map(|cpu| Some((cpu, percpu::ring(cpu)?)))
        .flat_map(|(cpu, ring)| ring.records(cpu as u32))
}

/// What the rings of all CPUs hold, oldest first.
pub fn records() -> Vec<Record> {
    let mut records: Vec<Record> = all().collect();
    ::trace::sort(&mut records);
    records
}

/// Prints the last events of all partitions, or of one. Allocates nothing: the hypervisor may be dying.
pub fn dump(lpid: Option<Lpid>) {
    let mut last: [Option<Record>; LAST] = [None; LAST];
    for record in all().filter(|record| lpid.is_none_or(|lpid| lpid == record.event.lpid)) {
        // The oldest one of those that are kept, or an empty place, which is older.
        let time = |kept: &Option<Record>| kept.map_or(0, |kept| kept.event.time);
        if let Some(oldest) = last.iter_mut().min_by_key(|kept| time(kept))
            && time(oldest) <= record.event.time
        {
            *oldest = Some(record);
        }
    }
    last.sort_unstable_by_key(|kept| kept.map_or(0, |kept| kept.event.time));
    for Record { cpu, event } in last.into_iter().flatten() {
        log!(
            "  {:>12} us: cpu {cpu}, vCPU {}.{}: {}",
            console::micros(event.time),
            event.lpid.0,
            event.vcpu,
            event.what
        );
    }
}
