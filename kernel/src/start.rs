//! From the boot archive to running partitions: the last stage of the boot.
#![allow(unsafe_code)] // reads the boot archive by its real address

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use bundle::{Bundle, MANIFEST, MONITOR, Manifest, Partition as Table, Size};
use fdt::Fdt;
use power::{CpuFeatures, Generation, HostReal};
use sched::CpuSet;

use crate::memory::Map;
use crate::partition::{Partition, life};
use crate::partitions::{self, Setup};
use crate::{cpus, entropy, epitaph, host, log, memory, merge, pci, run, schedule, terminal};

/// Exit status: something given by the user cannot be used.
const UNUSABLE: u8 = 2;

/// Defines what the boot archive asks for, starts what is to be started, and becomes one of the CPUs that run it.
pub fn start(tree: &Fdt<'_>, map: &Map, features: &CpuFeatures) -> ! {
    if let Err(why) = set_up(tree, map, features) {
        epitaph::end(UNUSABLE, format_args!("{why}"));
    }
    run::join(features)
}

fn set_up(tree: &Fdt<'_>, map: &Map, features: &CpuFeatures) -> Result<(), String> {
    let archive = map.archive.ok_or("boot archive: the machine was started without one (QEMU's -initrd)")?;
    // SAFETY: the firmware put the archive there, the memory map keeps it reserved, and nobody writes to it.
    let archive: &'static [u8] = unsafe {
        core::slice::from_raw_parts(HostReal(archive.start).ea() as *const u8, archive.len() as usize)
    };
    let bundle = Bundle::open(archive).map_err(|error| format!("{error}"))?;
    check(bundle.manifest())?;
    entropy::init(features);
    host::set_up(&pci::set_up(tree, bundle.manifest())?);
    memory::set_reserve(bundle.manifest().hypervisor.reserve);
    merge::set(bundle.manifest().hypervisor.merge);
    // POWER8 has one partition to a core, whatever is asked for; where threads are independent it is a matter of isolation.
    let threads = cpus::threads_per_core() > 1;
    let asked = bundle.manifest().hypervisor.core_scheduling;
    schedule::init(threads && (asked || features.generation == Generation::Power8));
    if schedule::is_by_core() {
        log!("threads of a core only ever run one partition at a time");
    }
    partitions::init(Setup { bundle, features: *features });
    memory::note_before_guests();
    let manifest = partitions::setup().bundle.manifest();
    for table in &manifest.partitions {
        let partition = partitions::define(&table.name, &table.name)
            .map_err(|why| format!("partition {}: {why}", table.name))?;
        tell(&partition);
    }
    terminal::start_with(at_console(manifest));
    for partition in partitions::all().iter().filter(|partition| partition.table.start) {
        log!("starting {}", partition.name);
        life::start(partition)?;
    }
    // All is well: what has been handed to other CPUs may run.
    cpus::let_go();
    Ok(())
}

/// What only the machine can tell: whether memory and CPUs are there. Partitions may have more memory than the host: they get what they
/// touch. But the tables of all must fit, also of those that are not started.
fn check(manifest: &Manifest) -> Result<(), String> {
    let wrong = |line: usize, what: String| Err(format!("{MANIFEST}:{line}: {what}"));
    let online = cpus::online();
    let mut left = memory::free().saturating_sub(manifest.hypervisor.reserve);
    for table in &manifest.partitions {
        let tables = bundle::tables::least_bytes(table.memory);
        if tables > left {
            let (tables, left) = (Size(tables.next_multiple_of(1 << 20)), Size(left >> 20 << 20));
            return wrong(
                table.lines.memory,
                format!(
                    "memory: {} needs tables of {tables}, and of the host's memory {left} are left for them",
                    Size(table.memory)
                ),
            );
        }
        left -= tables;
        if let Some(cpus) = table.cpus.filter(|cpus| cpus.and(&online) != *cpus) {
            let missing: CpuSet = cpus.iter().filter(|cpu| !online.contains(*cpu)).collect();
            return wrong(
                table.lines.cpus,
                format!("cpus: the host has no CPU {missing}: there is {online}"),
            );
        }
    }
    Ok(())
}

fn tell(partition: &Partition) {
    let used = (memory::total() - memory::free()) >> 10;
    log!(
        "partition {}: {} MiB, {} vCPU, page table {} KiB; {used} KiB of the host in use",
        partition.name,
        partition.bytes >> 20,
        partition.vcpus.len(),
        partition.hpt_bytes() >> 10
    );
}

/// Who has the console at first: who the manifest names, or the first partition that is started, or the monitor.
fn at_console(manifest: &Manifest) -> Option<Arc<Partition>> {
    let started = |table: &&Table| table.start;
    match manifest.hypervisor.console.as_deref() {
        Some(MONITOR) => None,
        Some(name) => partitions::find(name),
        None => partitions::find(&manifest.partitions.iter().find(started)?.name),
    }
}
