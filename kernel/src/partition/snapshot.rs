//! Copies of a partition, and its way back to where it was: both while it stands still ([`super::life::quiesce`]).
//!
//! Neither copies memory. All pages become shared, between the partition and its copy or what is kept of it, and whoever stores to one
//! gets his own then. Of the page table a copy has the entries in use; a snapshot has nothing of it, but from then on each group
//! of entries is noted before it changes for the first time. So going back costs what was changed since.
#![allow(unsafe_code)] // reaches the registers of vCPUs that nobody runs

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use frames::FRAME;
use hpt::machine::Quiesced;
use power::Status;
use realmode::instructions::timebase;
use realmode::machine::{VirtualMode, flush_partition};

use super::Partition;
use super::memory::HostMemory;
use super::state::State;
use crate::exits::{After, Guest};
use crate::memory;

/// What is kept of a partition, beside its pages and the log of its page table.
pub struct Snapshot {
    state: State,
    /// The vCPU that asked for it, and gets an answer each time.
    asked: Option<usize>,
    /// How often the partition has gone back to it.
    reverts: u64,
    /// How often its identity had changed by then.
    identity: u64,
}

/// Forgets what the TLBs have of a partition that stands still.
pub fn flush(partition: &Partition) {
    let core = partition.core();
    flush_partition(core.lpid, core.features.partition_table);
    core.residency.forget();
}

/// Its pages, to be changed while no TLB has anything of them: [`flush`] comes after it.
fn still<T>(
    partition: &Partition,
    work: impl FnOnce(&paging::Memory<'_, HostMemory, Quiesced<'_, VirtualMode>>) -> T,
) -> T {
    let core = partition.core();
    let machine = VirtualMode::new(core.lpid);
    let machine = Quiesced(&machine);
    work(&paging::Memory::new(partition.paging(), core.mmu(), &HostMemory, &machine))
}

/// Its pages can be shared, unless devices reach them.
fn keeps_its_pages(partition: &Partition) -> Result<(), String> {
    if partition.devices.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} has a device that reaches its memory: that can neither be copied nor kept",
        partition.name
    ))
}

/// Makes new partitions of the same shape copies of one that stands still. An error, after which none of them is of any use, is one
/// line for the user.
pub fn copy(from: &Partition, copies: &[Arc<Partition>]) -> Result<(), String> {
    // All that can be refused comes before anything is shared.
    keeps_its_pages(from)?;
    let mut state = State::of(from)?;
    for copy in copies {
        copy.tables.lock().provide(from.core().hpt().groups_used())?;
    }
    let shared = copies.iter().try_for_each(|copy| {
        still(from, |pages| {
            pages.share_everything(|count| from.core().mmu().clone_into(&copy.core().mmu(), count))
        })
        .map_err(|error| format!("{} cannot be copied: {error:?}", from.name))?;
        copy.paging().adopt(from.paging());
        Ok::<_, String>(())
    });
    // Whatever came of it: pages that its TLBs know as writable may be shared by now.
    flush(from);
    shared?;
    for copy in copies {
        state.give(copy);
        copy.renew_identity(from);
    }
    Ok(())
}

/// Keeps the state of a partition that stands still, in place of what was kept before. An error, after which nothing is kept, is one line
/// for the user.
pub fn take(partition: &Partition, asked: Option<usize>) -> Result<(), String> {
    keeps_its_pages(partition)?;
    drop_kept(partition);
    let unit = 1 << partition.core().slots.unit_shift();
    // What is kept of each page has 16 bytes and some bits; blocks are powers of two, and small objects may have a frame each.
    let room = 2 * (State::bytes(partition) + partition.bytes / unit * 20) + 16 * FRAME;
    if !memory::is_spare(room) {
        return Err(format!("{}: no memory for a snapshot", partition.name));
    }
    let state = State::of(partition)?;
    let mmu = partition.core().mmu();
    let shared = still(partition, |pages| pages.snapshot(|count| mmu.share_all(count)));
    flush(partition);
    shared.map_err(|error| format!("{}: no memory for a snapshot: {error:?}", partition.name))?;
    mmu.hpt().freeze_all();
    if let Err(why) = partition.tables.lock().replenish() {
        drop_kept(partition);
        return Err(why);
    }
    let kept = Snapshot { state, asked, reverts: 0, identity: partition.identity_count() };
    *partition.snapshot.lock() = Some(Box::new(kept));
    Ok(())
}

/// Puts a partition that stands still back to where its snapshot was taken; how many pages that were. `told` is for who asked for the
/// snapshot. `None` if there is none.
pub fn go_back(partition: &Partition, told: u64) -> Option<u64> {
    let mut kept = partition.snapshot.lock().take()?;
    let pages = still(partition, |pages| pages.revert()).unwrap_or(0);
    partition.core().mmu().revert();
    flush(partition);
    kept.reverts += 1;
    if let Some(regs) = kept.asked.and_then(|server| kept.state.regs(server)) {
        regs.gpr[4..6].copy_from_slice(&[kept.reverts, told]);
    }
    kept.state.give(partition);
    if kept.identity != partition.identity_count() {
        // Without memory for it, it stays in its own eyes who it was then.
        let _ = partition.write_identity();
    }
    *partition.snapshot.lock() = Some(kept);
    Some(pages)
}

/// Forgets what is kept of a partition that stands still, if there is anything.
pub fn drop_kept(partition: &Partition) {
    partition.core().hpt().unfreeze_all();
    partition.memory().pages(|pages| pages.drop_snapshot());
    *partition.snapshot.lock() = None;
}

/// H_PARTITA_SNAPSHOT.
pub fn asked_for(guest: &mut Guest<'_>) -> After {
    let server = guest.vcpu.server;
    again(guest, move |partition| {
        // What is kept has the answer in it.
        let found = answer(partition, server, Status::SUCCESS, Some([0, 0]));
        // No line about it: who asks again and again would fill the log.
        if take(partition, Some(server)).is_err() {
            set(partition, server, Status::NO_MEM, Some(found));
        }
    })
}

/// H_PARTITA_REVERT.
pub fn go_back_asked_for(guest: &mut Guest<'_>) -> After {
    let told = guest.regs.gpr[4];
    if guest.partition.snapshot.lock().is_none() {
        guest.regs.gpr[3] = Status::NOT_AVAILABLE.0 as u64;
        return After::Continue;
    }
    // If it has been forgotten meanwhile, the vCPU asks again and is told so.
    again(guest, move |partition| {
        let _ = go_back(partition, told);
    })
}

/// A call whose work is done while the partition stands still.
pub fn while_still(guest: &mut Guest<'_>, work: fn(&Partition) -> Status) -> After {
    let server = guest.vcpu.server;
    again(guest, move |partition| {
        let status = work(partition);
        answer(partition, server, status, None);
    })
}

/// Has this done while the partition stands still. The vCPU is at its call again: should it not come to that, it asks once more.
pub fn again(guest: &mut Guest<'_>, work: impl FnOnce(&Partition) + Send + 'static) -> After {
    guest.regs.pc = guest.regs.pc.wrapping_sub(4);
    let server = guest.vcpu.server;
    After::Quiesce(Box::new(move |partition| {
        let began = timebase();
        work(partition);
        // It has left its CPU by now; but who asks again and again does so in its own time.
        partition.charge(server, timebase() - began);
    }))
}

/// Answers the call that a vCPU is at again; r4 and r5 as they were.
fn answer(partition: &Partition, server: usize, status: Status, outputs: Option<[u64; 2]>) -> [u64; 2] {
    // SAFETY: no vCPU of the partition runs, and who has made it stand still is the only one to touch them.
    let regs = unsafe { partition.vcpus[server].regs() };
    let found = [regs.gpr[4], regs.gpr[5]];
    regs.pc = regs.pc.wrapping_add(4);
    set(partition, server, status, outputs);
    found
}

fn set(partition: &Partition, server: usize, status: Status, outputs: Option<[u64; 2]>) {
    // SAFETY: as above.
    let regs = unsafe { partition.vcpus[server].regs() };
    regs.gpr[3] = status.0 as u64;
    if let Some(outputs) = outputs {
        regs.gpr[4..6].copy_from_slice(&outputs);
    }
}
