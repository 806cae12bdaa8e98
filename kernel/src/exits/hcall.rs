//! Hypercalls in virtual mode: those that real mode never does, and those that it found too hard.
//!
//! To add one: its number in `power::hcall`, a handler here or in `realmode::hcalls` (and its row in the table there), and
//! its name in the device tree's `ibm,hypertas-functions` if PAPR has one for it.

use core::sync::atomic::Ordering;

use hpt::{AccessKind, BULK_MAX, HptError, Target};
use paging::{Context, Error, Outcome as Faulted};
use papr::cpuchars::{self, SetMode};
use papr::vpa::{Area, Change, Request, SHARED_PROCESSOR, offset};
use papr::vty;
use power::hcall::flags;
use power::hpte::page_sizes;
use power::regs::{Lpcr, Msr};
use power::{GuestReal, Hcall, HpteR, HpteV, PteIndex, Status};
use realmode::hcalls::UNHURRIED;
use realmode::instructions::{pause, timebase};
use realmode::machine::VirtualMode;

use super::{After, Guest, dma, mmio, rtas};
use crate::partition::{Partition, TIMEBASE_HZ, Waits, resize, snapshot};
use crate::{entropy, terminal};

/// A call's end: its status, or what becomes of the partition.
pub(super) type Outcome = Result<Status, After>;

/// Carries out the call in the vCPU's registers.
pub fn handle(guest: &mut Guest<'_>) -> After {
    let partition = guest.partition;
    let regs = &mut *guest.regs;
    let call = Hcall(regs.gpr[3]);
    let args: [u64; 8] = core::array::from_fn(|n| regs.gpr[4 + n]);
    let outcome = match call {
        Hcall::ENTER
        | Hcall::REMOVE
        | Hcall::PROTECT
        | Hcall::READ
        | Hcall::BULK_REMOVE
        | Hcall::CLEAR_MOD
        | Hcall::CLEAR_REF
        | Hcall::PAGE_INIT => pages(guest, call, args),
        Hcall::LOGICAL_CI_LOAD | Hcall::LOGICAL_CACHE_LOAD => load(guest, args),
        Hcall::LOGICAL_CI_STORE | Hcall::LOGICAL_CACHE_STORE => store(guest, args),
        Hcall::REGISTER_VPA => register_vpa(partition, args),
        Hcall::SET_MODE => set_mode(partition, args),
        Hcall::PUT_TERM_CHAR => Ok(put_term_char(partition, args)),
        Hcall::GET_TERM_CHAR => Ok(get_term_char(guest, args)),
        Hcall::GET_CPU_CHARACTERISTICS => {
            let known = cpuchars::unknown_firmware(partition.core().features.generation);
            guest.regs.gpr[4..6].copy_from_slice(&[known.character, known.behaviour]);
            Ok(Status::SUCCESS)
        }
        Hcall::EOI => Ok(end_of_interrupt(guest, args[0])),
        Hcall::RANDOM => Ok(random(guest)),
        Hcall::HOME_NODE_ASSOCIATIVITY => {
            let vcpus = partition.vcpus.len() as u64;
            cpuchars::home_node(args[0], args[1], |n| n < vcpus)
                .map(|domains| guest.regs.gpr[4..10].copy_from_slice(&domains))
                .map_or_else(Ok, |()| Ok(Status::SUCCESS))
        }
        Hcall::REGISTER_PROC_TBL => Ok(register_process_table(partition, args)),
        Hcall::RESIZE_HPT_PREPARE => Ok(resize::prepare(partition, args[0], args[1])),
        Hcall::RESIZE_HPT_COMMIT => return resize::commit(guest),
        Hcall::JOIN => return join(guest),
        Hcall::GET_TCE | Hcall::PUT_TCE | Hcall::PUT_TCE_INDIRECT | Hcall::STUFF_TCE => {
            dma::handle(guest, call, args)
        }
        Hcall::RTAS => return rtas::handle(guest),
        Hcall::PARTITA_IDENTITY => {
            guest.regs.gpr[4..8].copy_from_slice(&partition.identity_words());
            Ok(Status::SUCCESS)
        }
        Hcall::PARTITA_SNAPSHOT => return snapshot::asked_for(guest),
        Hcall::PARTITA_REVERT => return snapshot::go_back_asked_for(guest),
        _ => Ok(Status::FUNCTION),
    };
    match outcome {
        Ok(status) => {
            guest.regs.gpr[3] = status.0 as u64;
            After::Continue
        }
        Err(after) => after,
    }
}

/// H_EOI of a line that a device of the host's may have raised.
fn end_of_interrupt(guest: &Guest<'_>, xirr: u64) -> Status {
    let partition = guest.partition;
    if let Some(devices) = &partition.pci {
        devices.ended(partition, xirr as u32 & 0xff_ffff);
    }
    match partition.core().xics.h_eoi(guest.regs.server, xirr as u32) {
        Ok(kick) => {
            partition.kick(kick);
            Status::SUCCESS
        }
        Err(error) => error.into(),
    }
}

/// How long a page table call tries to get at entries that others have locked. They hold them for some hundred instructions,
/// unless an emulator has stopped their CPU meanwhile; guests take H_BUSY of these calls for the end of the world.
const PATIENCE: u64 = TIMEBASE_HZ / 5;

/// The page table calls: once more, with the pages they need made usable when real mode had found them wanting.
fn pages(guest: &mut Guest<'_>, call: Hcall, a: [u64; 8]) -> Outcome {
    let partition = guest.partition;
    let core = partition.core();
    let (mmu, machine) = (core.mmu(), VirtualMode::new(core.lpid));
    let regs = &mut *guest.regs;
    let deadline = timebase() + PATIENCE;
    loop {
        let index = PteIndex(a[1]);
        let result = match call {
            Hcall::ENTER => {
                mmu.enter(&machine, a[0], index, HpteV(a[2]), HpteR(a[3])).map(|at| regs.gpr[4] = at.0)
            }
            Hcall::REMOVE => mmu
                .remove(&machine, a[0], index, a[2])
                .map(|(v, r)| regs.gpr[4..6].copy_from_slice(&[v.0, r.0])),
            Hcall::PROTECT => mmu.protect(&machine, a[0], index, a[2]),
            Hcall::READ if a[0] & flags::READ_4 != 0 => mmu.read_4(index).map(|four| {
                four.iter().enumerate().for_each(|(n, (v, r))| {
                    regs.gpr[4 + 2 * n..6 + 2 * n].copy_from_slice(&[v.0, r.0]);
                });
            }),
            Hcall::READ => mmu.read(index).map(|(v, r)| regs.gpr[4..6].copy_from_slice(&[v.0, r.0])),
            Hcall::BULK_REMOVE => {
                let mut specifiers: [u64; 2 * BULK_MAX] = core::array::from_fn(|n| regs.gpr[4 + n]);
                // Real mode may have done some of them.
                let result = mmu.bulk_remove_again(&machine, &mut specifiers);
                regs.gpr[4..4 + 2 * BULK_MAX].copy_from_slice(&specifiers);
                result
            }
            Hcall::CLEAR_MOD => mmu.clear_mod(&machine, index).map(|r| regs.gpr[4] = r.0),
            Hcall::CLEAR_REF => mmu.clear_ref(&machine, index).map(|r| regs.gpr[4] = r.0),
            _ => mmu.page_init(&machine, a[0], GuestReal(a[1]), GuestReal(a[2])),
        };
        match result {
            Ok(()) => return Ok(Status::SUCCESS),
            Err(HptError::TooHard) if timebase() < deadline => {
                if let Err(why) = partition.tables.lock().replenish() {
                    return Err(After::crash(why));
                }
                pause();
            }
            Err(error) => return Ok(error.into()),
        }
        // Which page it was does not come back: all that the call names are made usable.
        let sets = a[0] & (flags::ZERO_PAGE | flags::COPY_PAGE) != 0;
        let synchronizes = a[0] & (flags::ICACHE_INVALIDATE | flags::ICACHE_SYNCHRONIZE) != 0;
        let (to, from) = match call {
            // Only with these has it anything to do with the page's contents.
            Hcall::ENTER if sets || synchronizes => (a[3] & HpteR::RPN, None),
            Hcall::PAGE_INIT => (a[1], (a[0] & flags::COPY_PAGE != 0).then_some(a[2])),
            _ => continue,
        };
        for (at, write) in [(Some(to), sets), (from, false)] {
            let Some(at) = at else { continue };
            let kind = if write { AccessKind::Write } else { AccessKind::Read };
            match partition.memory().fault(GuestReal(at), kind, &Context::default()) {
                Faulted::Retry | Faulted::Failed(Error::NoRam) => {}
                // Whoever has protected the page has heard of it, and wants to keep it so.
                Faulted::Emulate => return initialize(guest, call, a),
                Faulted::Failed(error) => return Err(After::out_of_memory(partition, error)),
            }
        }
    }
}

/// H_ENTER with H_ZERO_PAGE, and H_PAGE_INIT, of memory that is protected: its contents are set past the protection, of which whoever
/// protects it has heard. Flags and alignment have been checked.
fn initialize(guest: &mut Guest<'_>, call: Hcall, mut a: [u64; 8]) -> Outcome {
    const PIECE: u64 = 4096;
    let memory = guest.partition.memory();
    let (asked, to, from, len) = match call {
        Hcall::ENTER => {
            let len = page_sizes(HpteV(a[2]), HpteR(a[3])).map_or(PIECE, |(_, actual)| actual.bytes());
            (a[0], a[3] & HpteR::RPN & !(len - 1), None, len)
        }
        _ => (a[0], a[1], (a[0] & flags::COPY_PAGE != 0).then_some(a[2]), PIECE),
    };
    let mut piece = [0; PIECE as usize];
    for offset in (0..len).step_by(piece.len()) {
        let copied = from.map_or(Ok(()), |from| memory.read(GuestReal(from), &mut piece));
        let zero = asked & flags::ZERO_PAGE != 0;
        let write = || memory.write_past(GuestReal(to + offset), &piece);
        if let Err(error) = copied.and_then(|()| if zero || from.is_some() { write() } else { Ok(()) }) {
            return status_of(guest.partition, Err(error));
        }
    }
    memory.sync_instructions(GuestReal(to), len);
    if call == Hcall::ENTER {
        a[0] &= !(flags::ZERO_PAGE | flags::ICACHE_INVALIDATE | flags::ICACHE_SYNCHRONIZE);
        return pages(guest, call, a);
    }
    Ok(Status::SUCCESS)
}

pub(super) fn status_of(partition: &Partition, result: Result<(), Error>) -> Outcome {
    match result {
        Ok(()) => Ok(Status::SUCCESS),
        Err(Error::NoRam) => Ok(Status::PARAMETER),
        Err(error) => Err(After::out_of_memory(partition, error)),
    }
}

/// H_LOGICAL_CI_LOAD of memory that was not populated, or of an emulated device. Size and alignment have been checked.
fn load(guest: &mut Guest<'_>, [size, at, ..]: [u64; 8]) -> Outcome {
    let partition = guest.partition;
    if partition.core().devices.contains(&at) {
        let mut bytes = [0; 8];
        mmio::load(guest, GuestReal(at), &mut bytes[8usize.saturating_sub(size as usize)..]);
        guest.regs.gpr[4] = u64::from_be_bytes(bytes);
        return Ok(Status::SUCCESS);
    }
    if let Some(Target::Device(..)) = partition.core().slots.find(GuestReal(at)) {
        return Ok(Status::PARAMETER);
    }
    let at = GuestReal(at);
    let value = match size {
        1 => partition.memory().read_be::<1>(at),
        2 => partition.memory().read_be::<2>(at),
        4 => partition.memory().read_be::<4>(at),
        _ => partition.memory().read_be::<8>(at),
    };
    let result = value.map(|value| guest.regs.gpr[4] = value);
    status_of(partition, result)
}

/// H_LOGICAL_CI_STORE, likewise.
fn store(guest: &Guest<'_>, [size, at, value, ..]: [u64; 8]) -> Outcome {
    let (partition, at) = (guest.partition, GuestReal(at));
    let bytes = value.to_be_bytes();
    let from = bytes.get(8usize.saturating_sub(size as usize)..).unwrap_or(&bytes);
    if partition.core().devices.contains(&at.0) {
        mmio::store(guest, at, from);
        return Ok(Status::SUCCESS);
    }
    let result = partition.memory().write(at, from);
    status_of(partition, result)
}

/// H_REGISTER_VPA (PAPR 14.11.3.2): the areas that a vCPU shares with the hypervisor.
fn register_vpa(partition: &Partition, [flags, target, address, ..]: [u64; 8]) -> Outcome {
    let Some(target) = usize::try_from(target).ok().filter(|n| *n < partition.vcpus.len()) else {
        return Ok(Status::PARAMETER);
    };
    let request = match Request::decode(flags, address) {
        Ok(request) => request,
        Err(status) => return Ok(status),
    };
    let length = match request.length_at() {
        None => Ok(0),
        Some((at, 2)) => partition.memory().read_be::<2>(at),
        Some((at, _)) => partition.memory().read_be::<4>(at),
    };
    let length = match length {
        Ok(length) => length as u32,
        Err(error) => return status_of(partition, Err(error)),
    };
    // The whole area must be memory before anything is registered.
    if let Request::Register(_, at) = request {
        let end = at.0.checked_add(u64::from(length)).filter(|end| *end <= partition.bytes);
        if end.is_none() {
            return Ok(Status::PARAMETER);
        }
    }
    let mut areas = partition.vcpus[target].areas.lock();
    match areas.vpa.apply(request, length) {
        Ok(Change::Registered(Area::Vpa, region)) => {
            let write = |at, bytes: &[u8]| partition.memory().write(GuestReal(region.base.0 + at), bytes);
            // It runs, so its counter is even; 0 stands for "not counted" with some guests.
            let result = write(offset::STATUS, &[SHARED_PROCESSOR])
                .and_then(|()| write(offset::DISPATCH_COUNTER, &2u32.to_be_bytes()));
            status_of(partition, result)
        }
        Ok(Change::Registered(Area::Dtl, _)) => {
            areas.dtl_next = 0;
            Ok(Status::SUCCESS)
        }
        Ok(_) => Ok(Status::SUCCESS),
        Err(status) => Ok(status),
    }
}

/// H_SET_MODE (PAPR 14.5.4.3): how interrupts are taken. Breakpoint registers are refused: nobody would switch them back.
fn set_mode(partition: &Partition, a: [u64; 8]) -> Outcome {
    let ail = |on| if on { Lpcr::AIL } else { Lpcr::empty() };
    match cpuchars::set_mode(partition.core().features.generation, a[0], a[1], a[2], a[3]) {
        Ok(SetMode::LittleEndian(on)) => {
            partition.set_interrupt_mode(Lpcr::ILE, if on { Lpcr::ILE } else { Lpcr::empty() });
            Ok(Status::SUCCESS)
        }
        Ok(SetMode::InterruptsTranslated(on)) => {
            partition.set_interrupt_mode(Lpcr::AIL, ail(on));
            Ok(Status::SUCCESS)
        }
        Ok(SetMode::Ciabr(0) | SetMode::Dawr { dawrx: 0, .. }) => Ok(Status::SUCCESS),
        Ok(SetMode::Ciabr(_) | SetMode::Dawr { .. }) => Ok(Status::P2),
        Err(status) => Ok(status),
    }
}

/// H_REGISTER_PROC_TBL (LoPAR 14.5.4.9): a guest with hashed page tables has none to register, and says so.
fn register_process_table(partition: &Partition, [flags, ..]: [u64; 8]) -> Status {
    match flags {
        _ if !partition.core().features.partition_table => Status::FUNCTION,
        0 => Status::SUCCESS,
        _ => Status::PARAMETER,
    }
}

/// H_RANDOM where the processor has no random numbers of its own: 64 bits in r4.
fn random(guest: &mut Guest<'_>) -> Status {
    let mut bytes = [0; 8];
    if entropy::fill(&mut bytes) {
        guest.regs.gpr[4] = u64::from_ne_bytes(bytes);
        Status::SUCCESS
    } else if entropy::is_there() {
        Status::HARDWARE
    } else {
        Status::FUNCTION
    }
}

/// H_PUT_TERM_CHAR (PAPR 16.5.1). What is put reaches the physical console at the end of the stay, or when there is much of
/// it: a call to the firmware costs more than all else here.
fn put_term_char(partition: &Partition, [unit, length, high, low, ..]: [u64; 8]) -> Status {
    if !vty::is_first(unit) {
        return Status::PARAMETER;
    }
    let read = partition.core().is_attached();
    let mut vty = partition.vty();
    let status = vty.put_term_char(length, high, low, read);
    let waiting = vty.output.len();
    drop(vty);
    if read && waiting >= UNHURRIED {
        terminal::flush_lines(partition);
    }
    status
}

/// H_GET_TERM_CHAR (PAPR 16.5.2).
fn get_term_char(guest: &mut Guest<'_>, [unit, ..]: [u64; 8]) -> Status {
    if !vty::is_first(unit) {
        return Status::PARAMETER;
    }
    let (length, high, low) = guest.partition.vty().get_term_char();
    guest.regs.gpr[4..7].copy_from_slice(&[length, high, low]);
    guest.partition.update_vty_interrupt();
    Status::SUCCESS
}

/// H_JOIN (LoPAR, "H_JOIN"): waits for a prod, with interrupts off. The last vCPU to do so gets H_CONTINUE instead.
fn join(guest: &mut Guest<'_>) -> After {
    let partition = guest.partition;
    let mut answer = |status: Status| guest.regs.gpr[3] = status.0 as u64;
    if Msr::from_bits_retain(guest.regs.msr).contains(Msr::EE) {
        answer(Status::BAD_MODE);
        return After::Continue;
    }
    answer(Status::SUCCESS);
    if partition.presence(guest.vcpu).take_prod() {
        return After::Continue;
    }
    if partition.unjoined.fetch_sub(1, Ordering::SeqCst) == 1 {
        partition.unjoined.fetch_add(1, Ordering::SeqCst);
        guest.regs.gpr[3] = Status::CONTINUE.0 as u64;
        return After::Continue;
    }
    After::Wait(Waits::Prod)
}
