//! `hpt`: a partition's page table, and how one of its addresses is translated.
#![allow(unsafe_code)] // looks at registers that belong to another CPU

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use ::hpt::{
    Access, AccessKind, Effect, Explanation, PageState, Protection, Slot, SlotKind, Target, XlateError,
};
use ::monitor::{Record, Value};
use power::regs::{Dsisr, Msr};
use power::slb::{SlbV, VSID_KP, VSID_KS, VSID_N};
use power::{Ea, GuestReal, HpteR};
use realmode::host::{self, CPUS};
use realmode::instructions::timebase;
use realmode::layout::SlbEntry;
use sched::Phase;

use super::{Follow, Paper, figures, partitions};
use crate::partition::life::{self, Doing};
use crate::partition::{Partition, TIMEBASE_HZ, VirtualCpu};
use crate::percpu;

/// How long a vCPU may take to leave its guest before its registers are looked at anyhow: 1 s.
const PATIENCE: u64 = TIMEBASE_HZ;

/// Of a vCPU's registers, as it last left its guest.
pub struct Registers {
    /// The next instruction.
    pub pc: u64,
    /// MSR.
    pub msr: Msr,
    amr: u64,
    iamr: u64,
    slb: Vec<SlbEntry>,
}

impl Registers {
    /// A copy. If the vCPU runs, it may be a mixture of two moments.
    pub fn of(vcpu: &VirtualCpu) -> Registers {
        let regs = vcpu.peek();
        // SAFETY: they live as long as the vCPU, and any bits make sense. The CPU that has the vCPU may store to them at the same
        // time, so each is read once, and by itself.
        unsafe {
            let count = (&raw const (*regs).slb_count).read_volatile();
            let slb = (&raw const (*regs).slb).cast::<SlbEntry>();
            Registers {
                pc: (&raw const (*regs).pc).read_volatile(),
                msr: Msr::from_bits_retain((&raw const (*regs).msr).read_volatile()),
                amr: (&raw const (*regs).amr).read_volatile(),
                iamr: (&raw const (*regs).iamr).read_volatile(),
                slb: (0..count.min(32) as usize).map(|n| slb.add(n).read_volatile()).collect(),
            }
        }
    }

    /// The SLB entry that translates an address.
    fn segment(&self, ea: u64) -> Option<&SlbEntry> {
        self.slb.iter().find(|entry| {
            let shift = SlbV(entry.v).segment().shift();
            entry.e >> shift == ea >> shift
        })
    }
}

/// How full a partition's page table is; with an effective address, how a vCPU's guest gets from there to memory.
pub fn print(
    partition: Arc<Partition>,
    ea: Option<u64>,
    vcpu: Option<u32>,
    json: bool,
) -> Result<Follow, String> {
    let (server, count) = (vcpu.unwrap_or(0) as usize, partition.vcpus.len());
    let Some(ea) = ea else {
        if vcpu.is_some() {
            return Err("--vcpu says whose segments translate an address: give one, in hexadecimal".into());
        }
        return table(&partition, json).map(|()| Follow::Done);
    };
    let Some(vcpu) = partition.vcpus.get(server) else {
        return Err(format!(
            "{} has no vCPU {server}: they are numbered from 0 to {}",
            partition.name,
            count - 1
        ));
    };
    // If it runs, its segments are in the machine. The CPU takes note of the request when it has left the guest.
    let own = percpu::number();
    host::disturb(own, partition.presence(vcpu));
    let deadline = timebase() + PATIENCE;
    Ok(Follow::Wait(Box::new(move || {
        let vcpu = &partition.vcpus[server];
        let (phase, cpu) = partition.presence(vcpu).whereabouts.look();
        let inside = phase == Phase::Running && cpu != own && CPUS[cpu].look.load(Ordering::SeqCst);
        if inside && timebase() < deadline {
            return false;
        }
        // Not while the table is being cleared: what is looked at is locked and put back.
        let Some(life) = partition.life.try_lock() else { return false };
        if life.doing == Doing::Still {
            return false;
        }
        translation(&partition, vcpu, ea).print(json, &mut Paper::new());
        true
    })))
}

/// The figures of the table.
fn table(partition: &Partition, json: bool) -> Result<(), String> {
    let core = partition.core();
    // Not while the table is being cleared, or worked on without its locks: what is looked at is locked and put back.
    let life = life::undisturbed(partition)?;
    let (used, chains, by_use) = (core.hpt().occupancy(), core.mmu().chains(), core.hpt().groups_by_use());
    let all = core.hpt().len();
    drop(life);
    let number = |n: usize| Value::Number(n as u64);
    let entries = used.valid + used.absent;
    let counts: Vec<String> = by_use.iter().map(usize::to_string).collect();
    Record::new()
        .field("name", Value::Text(partition.name.clone()))
        .field("size", Value::Bytes(partition.hpt_bytes()))
        .field("entries", Value::Number(all))
        .field("used", number(entries))
        .field("use", Value::Percent(figures::tenths(entries as u64, all)))
        .field("valid", number(used.valid))
        .field("absent", number(used.absent))
        .field("bolted", number(used.bolted))
        .field("by_secondary_hash", number(used.secondary))
        .field("groups", Value::Number(all / 8))
        .field("groups_with_0_to_8", Value::Text(counts.join(" ")))
        .field("mapped_pages", number(chains.pages))
        .field("chained_entries", number(chains.entries))
        .field("longest_chain", number(chains.longest))
        .print(json, &mut Paper::new());
    Ok(())
}

/// The steps of a translation.
fn translation(partition: &Partition, vcpu: &VirtualCpu, ea: u64) -> Record {
    let registers = Registers::of(vcpu);
    let problem_state = registers.msr.contains(Msr::PR);
    let translated = registers.msr.contains(Msr::DR);
    // Within a few instructions of the guest's, interrupt handlers most of all.
    let fetches_differ = registers.msr.contains(Msr::IR) != translated;
    let record = Record::new()
        .field("name", Value::Text(partition.name.clone()))
        .field("vcpu", Value::Number(vcpu.server as u64))
        .field("state", Value::Text(partitions::state(partition, vcpu).into()))
        .field("ea", Value::Hex(ea))
        .field("translated", Value::Flag(translated))
        .field("problem_state", Value::Flag(problem_state));
    let (slb, keys, record) = if !translated {
        let area = Value::Text("the real mode area".into());
        (partition.core().vrma, (0, 0), record.field("segment", area))
    } else if let Some(entry) = registers.segment(ea) {
        let record = record
            .field("segment", Value::Text(format!("SLB entry {}", entry.e & power::slb::ESID_INDEX)))
            .field("slb_esid", Value::Hex(entry.e))
            .field("slb_vsid", Value::Hex(entry.v));
        (SlbV(entry.v), (registers.amr, registers.iamr), record)
    } else {
        let none = format!("none of the {} in the SLB", registers.slb.len());
        let record = record.field("segment", Value::Text(none));
        return ["read", "write", "fetch"].into_iter().fold(record, |record, access| {
            record.field(access, Value::Text("the guest gets a segment interrupt".into()))
        });
    };
    let (amr, iamr) = keys;
    let access = Access { ea: Ea(ea), slb, kind: AccessKind::Read, problem_state, amr, iamr };
    let record = of_segment(record, slb);
    match partition.core().mmu().explain(&access) {
        Ok(told) => of_entry(record, partition, &told, fetches_differ),
        Err(XlateError::Busy) => record.field("entry", Value::Text("locked by somebody: try again".into())),
        Err(_) => record.field("entry", Value::Text("none can have the segment's page size".into())),
    }
}

fn of_segment(record: Record, slb: SlbV) -> Record {
    let named = [(VSID_KS, "Ks"), (VSID_KP, "Kp"), (VSID_N, "N")];
    let flags: Vec<&str> = named.iter().filter(|(bit, _)| slb.0 & bit != 0).map(|(_, name)| *name).collect();
    record
        .field("vsid", Value::Hex(slb.vsid()))
        .field("segment_size", Value::Bytes(1 << slb.segment().shift()))
        .field("base_page", slb.base_page().map_or(Value::None, |size| Value::Bytes(size.bytes())))
        .field("segment_flags", if flags.is_empty() { Value::None } else { Value::Text(flags.join(" ")) })
}

fn of_entry(record: Record, partition: &Partition, told: &Explanation, fetches_differ: bool) -> Record {
    let [primary, secondary] = told.groups;
    let mut record = record
        .field("hash", Value::Hex(told.hash))
        .field("avpn", Value::Hex(told.avpn.0))
        .field("primary_group", Value::Hex(primary.0.0 >> 3))
        .field("primary_used", Value::Number(primary.1 as u64))
        .field("secondary_group", Value::Hex(secondary.0.0 >> 3))
        .field("secondary_used", Value::Number(secondary.1 as u64));
    record = match told.entry {
        None => record.field("entry", Value::None),
        Some(entry) => {
            let (_, guest_r) = entry.guest;
            let found = if entry.index.group() == primary.0 { "primary" } else { "secondary" };
            record
                .field("entry", Value::Hex(entry.index.0))
                .field("found_in", Value::Text(found.into()))
                .field("hardware_sees_it", Value::Flag(entry.valid))
                .field("hardware_v", Value::Hex(entry.memory.0))
                .field("hardware_r", Value::Hex(entry.memory.1))
                .field("guest_v", Value::Hex(entry.guest.0.0))
                .field("guest_r", Value::Hex(guest_r.0))
                .field("page_size", Value::Bytes(entry.size.bytes()))
                .field("guest_pp", Value::Number(guest_r.pp()))
                .field("guest_key", Value::Number(guest_r.key()))
                .field("guest_wimg", Value::Text(wimg(guest_r)))
        }
    };
    if let Some(real) = told.real {
        record = of_page(record.field("real", Value::Hex(real.0)), partition, real);
    }
    let [read, write, fetch] = told.effects.map(words);
    let fetch = if fetches_differ { "at the moment MSR[IR] is not as MSR[DR]".into() } else { fetch };
    record
        .field("read", Value::Text(read))
        .field("write", Value::Text(write))
        .field("fetch", Value::Text(fetch))
}

fn wimg(r: HpteR) -> String {
    let named = [(HpteR::W, 'W'), (HpteR::I, 'I'), (HpteR::M, 'M'), (HpteR::G, 'G'), (HpteR::N, 'N')];
    let set: String = named.iter().filter(|(bit, _)| r.any(*bit)).map(|(_, name)| *name).collect();
    if set.is_empty() { "none".into() } else { set }
}

/// What backs a real address of the partition.
fn of_page(record: Record, partition: &Partition, real: GuestReal) -> Record {
    let slots = &partition.core().slots;
    let has = |slot: &Slot<'_>| slot.base.0 <= real.0 && real.0 - slot.base.0 < slot.len;
    let slot = slots.iter().find(has).map_or("none".into(), |slot| {
        let kind = if matches!(slot.kind, SlotKind::Ram(_)) { "RAM" } else { "device" };
        format!("{kind} at {:#x}, {}", slot.base, Value::Bytes(slot.len))
    });
    let record = record.field("slot", Value::Text(slot));
    match slots.find(real) {
        None => record,
        Some(Target::Device(host, _)) => record.field("host", Value::Hex(host.0)),
        Some(Target::Ram(page, offset)) => {
            let view = page.view();
            let state = match view.state() {
                PageState::NotPopulated => "not populated",
                PageState::Private => "private",
                PageState::Shared => "shared",
            };
            let protection = match view.protection() {
                Protection::ReadWrite => Value::None,
                Protection::ReadOnly => Value::Text("read-only".into()),
                Protection::None => Value::Text("no access".into()),
            };
            record
                .field("page", Value::Text(state.into()))
                .field("page_protection", protection)
                .field("host", view.host().map_or(Value::None, |host| Value::Hex(host.0 + offset)))
        }
    }
}

/// What comes of an access.
fn words(effect: Effect) -> String {
    match effect {
        Effect::Allowed => "the hardware does it".into(),
        Effect::Interrupt(why) => {
            let causes = [
                (Dsisr::NOHPTE, "no entry"),
                (Dsisr::PROTFAULT, "page protection"),
                (Dsisr::NOEXEC_OR_GUARDED, "no execute"),
                (Dsisr::KEYFAULT, "storage key"),
            ];
            let names: Vec<&str> =
                causes.iter().filter(|(bit, _)| why.contains(*bit)).map(|(_, name)| *name).collect();
            format!("the guest gets a storage interrupt: {}", names.join(", "))
        }
        Effect::Populate => "the hypervisor gives the page memory".into(),
        Effect::Unshare => "the hypervisor gives the guest a page of its own".into(),
        Effect::Protected => "the hypervisor asks who protects the page".into(),
        Effect::Install => "the hypervisor shows the hardware the entry".into(),
        Effect::Emulate => "the hypervisor emulates it: nothing is there".into(),
        Effect::MachineCheck => "the guest gets a machine check: nothing is there".into(),
    }
}
