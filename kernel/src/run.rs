//! Running partitions: from the boot archive to their end, one host CPU, vCPUs in turn.
#![allow(unsafe_code)] // enters guests, and reads the boot archive by its real address

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicPtr, Ordering};

use bundle::Bundle;
use power::interrupt::Vector;
use power::{CpuFeatures, HostReal, Lpid, spr};
use realmode::context;
use realmode::instructions::{mtspr, timebase};
use realmode::layout::{ExitCode, Vcpu};
use realmode::prepare_stay;
use realmode::world;

use crate::exits::{After, hcall, storage};
use crate::memory::Map;
use crate::partition::dispatch::{self, Reason};
use crate::partition::{Partition, State, TIMEBASE_HZ};
use crate::{console, epitaph, idle, log, memory, opal, trace};

/// How long a vCPU runs before the console is looked at and others have their turn: 10 ms.
const SLICE: u64 = TIMEBASE_HZ / 100;

/// Exit status: the guest crashed or was stopped.
const STOPPED: u8 = 3;
/// Exit status: something given by the user cannot be used.
const UNUSABLE: u8 = 2;

/// The vCPU that is running or ran last, for the epitaph.
static CURRENT: AtomicPtr<Vcpu> = AtomicPtr::new(core::ptr::null_mut());

/// Defines what the boot archive asks for and runs it to its end.
pub fn start(map: &Map, features: &CpuFeatures) -> ! {
    let mut partition = match define(map, features) {
        Ok(partition) => partition,
        Err(why) => epitaph::end(UNUSABLE, format_args!("{why}")),
    };
    let used = (memory::total() - memory::free()) >> 10;
    log!(
        "partition {}: {} MiB, {} vCPU, page table {} KiB; {used} KiB of the host in use",
        partition.name,
        partition.bytes >> 20,
        partition.vcpus.len(),
        partition.hpt_bytes() >> 10
    );
    if let Err(why) = partition.start() {
        epitaph::end(UNUSABLE, format_args!("{why}"));
    }
    log!("starting {}", partition.name);
    let started = timebase();
    let end = run(&mut partition);
    hcall::drain(&mut partition);
    log!(
        "{} ran for {} us; {}",
        partition.name,
        (timebase() - started) / console::TICKS_PER_MICRO,
        partition.exits
    );
    match end {
        After::Stop(why) => {
            trace::dump();
            epitaph::end(STOPPED, format_args!("{why}"))
        }
        _ => epitaph::end(0, format_args!("partition {} switched itself off", partition.name)),
    }
}

fn define(map: &Map, features: &CpuFeatures) -> Result<Partition, String> {
    let archive = map.archive.ok_or("boot archive: the machine was started without one (QEMU's -initrd)")?;
    // SAFETY: the firmware put the archive there, the memory map keeps it reserved, and nobody writes to it.
    let archive: &'static [u8] = unsafe {
        core::slice::from_raw_parts(HostReal(archive.start).ea() as *const u8, archive.len() as usize)
    };
    let bundle = Bundle::open(archive).map_err(|error| format!("{error}"))?;
    let [table] = bundle.manifest().partitions.as_slice() else {
        return Err(format!(
            "{}: one partition is supported, it has {}",
            bundle::MANIFEST,
            bundle.manifest().partitions.len()
        ));
    };
    Partition::define(Lpid(1), table, |name| bundle.file(name), features)
        .map_err(|why| format!("partition {}: {why}", table.name))
}

/// Runs the partition's vCPUs in turn until it ends.
fn run(partition: &mut Partition) -> After {
    // The vCPU whose registers are in the machine, the one that has the CPU, and the one whose turn it is.
    let (mut loaded, mut running, mut turn) = (None, None, 0);
    let mut next_poll = 0;
    loop {
        let n = partition.vcpus.len();
        if timebase() >= next_poll {
            poll_console(partition);
            next_poll = timebase() + SLICE;
            // The slice may have ended while virtual mode worked for the vCPU: it is over all the same.
            if let Some(server) = running.take().filter(|_| n > 1) {
                dispatch::leave(&mut partition.vcpus[server], partition.memory, Reason::Preempted);
                turn = server + 1;
            }
        }
        let Some(server) = (0..n).map(|i| (turn + i) % n).find(|s| partition.vcpus[*s].wants_cpu()) else {
            if partition.vcpus.iter().all(|vcpu| vcpu.state == State::Stopped) {
                return After::Stop(format!(
                    "partition {}: all its vCPUs have stopped themselves",
                    partition.name
                ));
            }
            sleep(partition, next_poll);
            continue;
        };
        (running, turn) = (Some(server), server);
        if loaded != Some(server) {
            // SAFETY: the registers are those of the vCPU in `loaded`; nobody has used them since.
            unsafe {
                if let Some(old) = loaded {
                    let old: &mut crate::partition::VirtualCpu = &mut partition.vcpus[old];
                    context::save(partition.core.features.generation, old.regs.context.get_mut());
                }
                context::load(
                    partition.core.features.generation,
                    partition.vcpus[server].regs.context.get_mut(),
                );
            }
            loaded = Some(server);
        }
        dispatch::enter(&mut partition.vcpus[server], partition.memory);
        match enter(partition, server, next_poll) {
            After::Continue => {}
            After::Yield => {
                (running, turn) = (None, server + 1);
                let vcpu = &mut partition.vcpus[server];
                let reason = if vcpu.state == State::Runnable { Reason::Preempted } else { Reason::Ceded };
                // Alone, it goes on at once.
                if n > 1 || reason == Reason::Ceded {
                    dispatch::leave(vcpu, partition.memory, reason);
                }
            }
            After::Reboot => {
                hcall::drain(partition);
                log!("{} reboots", partition.name);
                if let Err(why) = partition.start() {
                    return After::Stop(why);
                }
                (loaded, running, turn) = (None, None, 0);
            }
            end @ (After::PowerOff | After::Stop(_)) => return end,
        }
    }
}

/// One stay in the guest, and what it led to.
fn enter(partition: &mut Partition, server: usize, slice_end: u64) -> After {
    #[cfg(feature = "selftest")]
    let slice_end = crate::selftest::slice_end(slice_end);
    let regs = &mut *partition.vcpus[server].regs;
    prepare_stay(regs, slice_end);
    CURRENT.store(regs, Ordering::Relaxed);
    // SAFETY: EE is off as always, HSPRG0 is this CPU's, and there is no other CPU. The partition's page table names
    // nothing but its own memory, which is what the hpt crate sees to.
    let exit = unsafe { world::run(regs) };
    trace::record(exit, regs, timebase());
    partition.exits.count(exit);
    match exit {
        ExitCode::Hcall => hcall::handle(partition, server),
        ExitCode::Storage => storage::handle(partition, server),
        ExitCode::Slice | ExitCode::Yield => After::Yield,
        ExitCode::HostInterrupt => {
            opal::poll_events();
            After::Continue
        }
        ExitCode::Cede => {
            partition.vcpus[server].state = State::Ceded;
            After::Yield
        }
        ExitCode::MachineCheck | ExitCode::Unexpected => {
            let regs = &partition.vcpus[server].regs;
            After::Stop(format!(
                "partition {}: {} interrupt ({:#x}) at {:#x}, msr {:#x}",
                partition.name,
                Vector(regs.vector).name(),
                regs.vector,
                regs.pc,
                regs.msr
            ))
        }
    }
}

/// What the partition has put on its console goes out, and typed bytes go to it, as many as it has room for.
fn poll_console(partition: &mut Partition) {
    opal::poll_events();
    hcall::flush(partition);
    let mut bytes = [0; 64];
    let room = partition.vty.input.room().min(bytes.len());
    let n = opal::console_read(&mut bytes[..room]);
    if n != 0 {
        partition.type_in(&bytes[..n]);
    }
}

/// Nothing to run: until the first decrementer or the next look at the console.
fn sleep(partition: &mut Partition, next_poll: u64) {
    let wake = partition
        .vcpus
        .iter()
        .filter(|vcpu| vcpu.state == State::Ceded)
        .map(|vcpu| vcpu.regs.dec_expires)
        .fold(next_poll, u64::min);
    hcall::flush(partition);
    let left = wake.saturating_sub(timebase());
    if left > 0 {
        // SAFETY: DEC is the hypervisor's while no guest runs.
        unsafe { mtspr::<{ spr::DEC }>(left.min(i32::MAX as u64)) };
        idle::sleep(&partition.core.features);
    }
}

/// What ran when the hypervisor crashed, and what came before.
pub fn epitaph() {
    // SAFETY: vCPUs are never freed; a torn read of registers is good enough for a crash report.
    if let Some(regs) = unsafe { CURRENT.load(Ordering::Relaxed).as_ref() } {
        // SAFETY: partitions are never freed, either.
        let lpid = unsafe { (*regs.partition).lpid.0 };
        log!(
            "  last in partition {lpid}, vCPU {}: pc {:016x} msr {:016x} lr {:016x}",
            regs.server,
            regs.pc,
            regs.msr,
            regs.lr
        );
        log!(
            "  r1 {:016x} r3 {:016x} r4 {:016x} r5 {:016x}",
            regs.gpr[1],
            regs.gpr[3],
            regs.gpr[4],
            regs.gpr[5]
        );
    }
    trace::dump();
}
