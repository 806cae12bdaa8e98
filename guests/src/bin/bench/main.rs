//! What operations cost: a row for each, `@ bench NAME N loop M`, in instructions of the guest and the hypervisor together, of which
//! M are the guest's own loop. It counts ticks of the timebase, which are instructions under `-icount shift=0`.
//!
//! It runs here, under QEMU's own pseries machine (whose calls take no instructions: what is left is the loop) and under KVM-HV. By the
//! command line:
//!
//! - without a word: all that one processor does, and the change to another one on the same CPU if there are two;
//! - `several`: page table calls of one, two and four processors at once, and invalidations that reach all of them;
//! - `devices`: accesses to a virtio device;
//! - `network`: frames from one network card to another;
//! - `huge`: the first touch of a page of 16 MiB;
//! - `hold`: has pages and entries, and waits until it is copied; the monitor says what that took.
#![no_std]
#![no_main]

mod calls;
mod copies;
mod devices;
mod faults;
mod interrupts;
mod measure;
mod network;
mod several;
mod table;

use guests::copies::{hold, identity};
use guests::cpu::generation;
use guests::{Report, platform, println, space, team};

guests::main!(run);

fn run(t: &mut Report) {
    let processors = team::assemble();
    let under = match identity() {
        Some(_) => "partita",
        None if platform::is_qemu() => "qemu",
        None if platform::is_kvm() => "kvm",
        None => "another hypervisor",
    };
    println!("@ processor {} under {under}", generation().name());
    space::standard();
    if platform::says("several") {
        return several::throughput(t, processors);
    }
    if platform::says("network") {
        return network::rows(t);
    }
    if platform::says("devices") {
        return devices::rows(t);
    }
    if platform::says("huge") {
        return faults::rows_of_huge_pages(t);
    }
    if platform::says("hold") {
        table::back_pages(HELD);
        t.is_true("held", table::fill());
        return hold("hold");
    }
    calls::rows(t);
    table::rows(t);
    interrupts::rows(t);
    faults::rows(t, &mut faults::Fresh::new());
    if processors > 1 {
        several::confer(t);
    }
    copies::rows(t);
    // It leaves the page table full.
    faults::rows_by_occupancy(t);
}

/// Bytes of memory that a copy of [`hold`] has in common with it.
const HELD: u64 = 32 << 20;
