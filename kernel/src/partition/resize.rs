//! A partition exchanges its page table for one of another length (LoPAR, "H_RESIZE_HPT_PREPARE", "H_RESIZE_HPT_COMMIT"). It prepares the
//! new one while it runs; when it commits itself to it, with all its other vCPUs held up, the bolted entries move there and all others
//! go.
#![allow(unsafe_code)] // exchanges the table and reaches the registers of vCPUs that nobody runs

use bundle::tables::{MIN_SHIFT, usual_shift};
use hpt::{GuestMmu, HptError};
use power::Status;

use super::table::Table;
use super::{Partition, snapshot};
use crate::exits::{After, Guest};
use crate::mmu;

/// H_RESIZE_HPT_PREPARE: a table of 2^shift bytes is to be ready; 0: none any more.
pub fn prepare(partition: &Partition, flags: u64, shift: u64) -> Status {
    let most = usual_shift(partition.bytes) + 1;
    let shift = match (flags, u32::try_from(shift)) {
        (0, Ok(0)) => {
            drop(partition.next_table.lock().take());
            return Status::SUCCESS;
        }
        (0, Ok(shift)) if shift >= MIN_SHIFT => shift,
        _ => return Status::PARAMETER,
    };
    if shift > most {
        return Status::RESOURCE;
    }
    let mut next = partition.next_table.lock();
    if next.as_ref().is_some_and(|table| table.bytes() == 1 << shift) {
        return Status::SUCCESS;
    }
    *next = None;
    match Table::new(shift, partition.core().features.hpte_format) {
        Ok(table) => *next = Some(table),
        Err(_) => return Status::NO_MEM,
    }
    Status::SUCCESS
}

/// H_RESIZE_HPT_COMMIT: the table that was prepared is the partition's from now on.
pub fn commit(guest: &mut Guest<'_>) -> After {
    let (flags, shift) = (guest.regs.gpr[4], guest.regs.gpr[5]);
    let prepared = guest.partition.next_table.lock().as_ref().map(Table::bytes);
    let status = match (flags, prepared) {
        (0, Some(bytes)) if u64::from(bytes.trailing_zeros()) == shift => {
            return snapshot::while_still(guest, exchange);
        }
        (0, _) => Status::CLOSED,
        _ => Status::PARAMETER,
    };
    guest.regs.gpr[3] = status.0 as u64;
    After::Continue
}

/// The partition stands still.
fn exchange(partition: &Partition) -> Status {
    let Some(mut next) = partition.next_table.lock().take() else { return Status::CLOSED };
    // What is kept of the old table does not fit the new one.
    snapshot::drop_kept(partition);
    let core = partition.core();
    // In a longer table each of the entries that come along may have a group of its own.
    let groups = (core.hpt().occupancy().bolted).min(next.hpt().len() as usize >> 3);
    if next.provide(groups).is_err() {
        return Status::NO_MEM;
    }
    let hpt = next.hpt();
    match core.mmu().rehash_into(&GuestMmu::new(&hpt, &core.slots)) {
        Ok(()) => {}
        Err(HptError::PtegFull) => return Status::PTEG_FULL,
        Err(_) => return Status::RESOURCE,
    }
    let word = next.word();
    let life = partition.life.lock();
    // SAFETY: the partition stands still, and the lock of its life is held.
    unsafe { core.set_hpt(hpt) };
    let old = core::mem::replace(&mut *partition.tables.lock(), next);
    drop(life);
    mmu::set_partition(core.lpid, word, core.vrma);
    for vcpu in &partition.vcpus {
        // SAFETY: no vCPU runs, and who has made the partition stand still is the only one to touch them.
        unsafe { vcpu.regs() }.sdr1 = word;
    }
    snapshot::flush(partition);
    drop(old);
    Status::SUCCESS
}
