//! Which partitions there are: defined from the boot archive at boot or from the monitor, by name, and the numbers that each has.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use bundle::Bundle;
use power::{CpuFeatures, Lpid};
use realmode::instructions::pause;
use sched::MAX_TASKS;
use spin::Once;

use crate::mmu::LPIDS;
use crate::partition::Partition;
use crate::partition::life::Doing;
use crate::sync::{Lock, Rank};
use crate::{memory, merge};

/// A virtual processor by its partition and server number.
#[derive(Clone)]
pub struct Task {
    /// Whose it is.
    pub partition: Arc<Partition>,
    /// Which of its vCPUs.
    pub server: usize,
}

/// What partitions are defined from.
pub struct Setup {
    /// The boot archive.
    pub bundle: Bundle<'static>,
    /// The processor.
    pub features: CpuFeatures,
}

static SETUP: Once<Setup> = Once::new();
static PARTITIONS: Lock<Vec<Arc<Partition>>> = Lock::new(Rank::Registry, Vec::new());
/// All virtual processors, by slot number. In the heap: the image is to be small.
static SLOTS: Lock<Vec<Option<Task>>> = Lock::new(Rank::Slots, Vec::new());

/// Remembers what partitions are defined from.
pub fn init(setup: Setup) {
    SETUP.call_once(|| setup);
    SLOTS.lock().resize_with(MAX_TASKS, || None);
}

/// What partitions are defined from.
pub fn setup() -> &'static Setup {
    SETUP.get().unwrap_or_else(|| unreachable!("the archive is opened before anything is defined"))
}

/// All of them, in the order in which they were defined.
pub fn all() -> Vec<Arc<Partition>> {
    PARTITIONS.lock().clone()
}

/// The one of this name.
pub fn find(name: &str) -> Option<Arc<Partition>> {
    PARTITIONS.lock().iter().find(|partition| partition.name == name).cloned()
}

/// The one of this number.
pub fn of(lpid: Lpid) -> Option<Arc<Partition>> {
    PARTITIONS.lock().iter().find(|partition| partition.core().lpid == lpid).cloned()
}

/// The virtual processor in a slot.
pub fn task(slot: usize) -> Option<Task> {
    SLOTS.lock().get(slot)?.clone()
}

/// Defines a partition from a table of the packed manifest, under a name of its own. An error is one line for the user.
pub fn define(table: &str, name: &str) -> Result<Arc<Partition>, String> {
    let tables = &setup().bundle.manifest().partitions;
    let table = tables
        .iter()
        .find(|t| t.name == table)
        .ok_or_else(|| format!("the manifest has no partition {table}"))?;
    define_as(table, name, None)
}

/// Defines a partition of the same shape as another one, to become a copy of it. Devices of the host stay where they are.
pub fn define_like(other: &Partition, name: &str) -> Result<Arc<Partition>, String> {
    let mut table = other.table.clone();
    table.devices.clear();
    define_as(&table, name, Some(other.hpt_bytes().trailing_zeros()))
}

fn define_as(table: &bundle::Partition, name: &str, copy_of: Option<u32>) -> Result<Arc<Partition>, String> {
    let setup = setup();
    let mut partitions = PARTITIONS.lock();
    if partitions.iter().any(|partition| partition.name == name) {
        return Err(format!("there is a partition {name} already"));
    }
    let lpid = (1..LPIDS as u32).find(|n| partitions.iter().all(|p| p.core().lpid.0 != *n));
    let lpid = Lpid(lpid.ok_or("there are no more partition numbers")?);
    // Who defines or undefines has the list of partitions, so they stay free.
    let slots = SLOTS.lock();
    let free: Vec<usize> =
        (0..MAX_TASKS).filter(|slot| slots[*slot].is_none()).take(table.vcpus as usize).collect();
    drop(slots);
    if free.len() < table.vcpus as usize {
        return Err(format!("{name}: more than {MAX_TASKS} virtual processors in all"));
    }
    let files = |file: &str| setup.bundle.file(file);
    let before = memory::allocated();
    let partition = Arc::new(Partition::define(lpid, name, table, copy_of, &free, files, &setup.features)?);
    let taken = memory::allocated().saturating_sub(before);
    partition.overhead.store(taken.saturating_sub(partition.hpt_bytes()), Ordering::Relaxed);
    let mut slots = SLOTS.lock();
    for (server, slot) in free.into_iter().enumerate() {
        slots[slot] = Some(Task { partition: partition.clone(), server });
    }
    drop(slots);
    partitions.push(partition.clone());
    Ok(partition)
}

/// May a partition be forgotten? Not while it runs.
pub fn may_undefine(partition: &Partition) -> Result<(), String> {
    let doing = partition.life.lock().doing.clone();
    if matches!(doing, Doing::Defined | Doing::Stopped) {
        return Ok(());
    }
    Err(format!("{} is {}: stop it first", partition.name, doing.name()))
}

/// Forgets a partition that does not run, and gives back all that it had.
pub fn undefine(name: &str) -> Result<(), String> {
    let mut partitions = PARTITIONS.lock();
    let at = partitions
        .iter()
        .position(|p| p.name == name)
        .ok_or_else(|| format!("there is no partition {name}"))?;
    let partition = partitions[at].clone();
    may_undefine(&partition)?;
    for slot in SLOTS.lock().iter_mut() {
        if slot.as_ref().is_some_and(|task| Arc::ptr_eq(&task.partition, &partition)) {
            *slot = None;
        }
    }
    partitions.remove(at);
    drop(partitions);
    merge::forget(&partition);
    // A CPU that has just parked its last vCPU may still look at it. Its number is free as soon as nobody does.
    while Arc::strong_count(&partition) > 1 {
        pause();
    }
    drop(partition);
    Ok(())
}

/// The names of the manifest's tables.
pub fn tables() -> Vec<String> {
    setup().bundle.manifest().partitions.iter().map(|table| table.name.to_string()).collect()
}
