//! `list` and `info`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use ::monitor::{Record, Table, Value};
use realmode::instructions::timebase;
use sched::Phase;

use super::{Paper, figures, hpt};
use crate::partition::{Partition, VirtualCpu, Waits};
use crate::{partitions, percpu, terminal};

/// A row for each partition.
pub fn list(json: bool) {
    let columns = &["name", "state", "vcpus", "memory", "weight", "cpu", "exits_per_second", "console"];
    let mut table = Table::new(columns);
    for partition in partitions::all() {
        let rate = figures::since_last(&partition);
        let state = partition.life.lock().doing.name();
        table.row([
            Value::Text(partition.name.clone()),
            Value::Text(state.into()),
            Value::Number(partition.vcpus.len() as u64),
            Value::Bytes(partition.bytes),
            Value::Number(partition.weight().into()),
            Value::Percent(rate.cpu),
            Value::Number(rate.exits),
            Value::Flag(terminal::was_attached(&partition)),
        ]);
    }
    table.print(json, &mut Paper::new());
}

/// All about one partition, then a row for each of its vCPUs, and for each of its devices.
pub fn info(partition: &Partition, json: bool) {
    let (table, rate) = (&partition.table, figures::since_start(partition));
    let life = partition.life.lock();
    let (state, started) = (life.doing.name(), life.started);
    let (alive, verdict) = (life.is_alive(), life.verdict.clone());
    drop(life);
    let unread = partition.vty().output.len();
    let text = |text: &str| Value::Text(text.into());
    let maybe = |text: Option<String>| text.map_or(Value::None, Value::Text);
    let ran = partition.vcpus.iter().map(|vcpu| figures::ran(partition, vcpu)).sum();
    Record::new()
        .field("name", text(&partition.name))
        .field("table", text(&table.name))
        .field("number", Value::Number(partition.core().lpid.0.into()))
        .field("state", text(state))
        .field("up", if alive { Value::Micros(figures::micros(timebase() - started)) } else { Value::None })
        .field("last_end", maybe(verdict.map(|(status, why)| format!("status {status}: {why}"))))
        .field("memory", Value::Bytes(partition.bytes))
        .field("huge_pages", Value::Flag(table.huge_pages))
        .field("page_table", Value::Bytes(partition.hpt_bytes()))
        .field("vcpus", Value::Number(partition.vcpus.len() as u64))
        .field("weight", Value::Number(partition.weight().into()))
        .field("cpus", text(&table.cpus.map_or("any".into(), |cpus| cpus.to_string())))
        .field("kernel", text(&table.kernel))
        .field("initrd", maybe(table.initrd.clone()))
        .field("cmdline", text(&table.cmdline))
        .field("autostart", Value::Flag(table.start))
        .field("ran", Value::Micros(figures::micros(ran)))
        .field("cpu", Value::Percent(rate.cpu))
        .field("exits", Value::Number(partition.exits.total()))
        .field("exits_per_second", Value::Number(rate.exits))
        .field("accesses_to_nowhere", Value::Number(partition.core().nowhere.accesses()))
        .field("traced", Value::Flag(partition.traced.load(Ordering::Relaxed)))
        .field("console", Value::Flag(terminal::was_attached(partition)))
        .field("unread_output", Value::Bytes(unread as u64))
        .print(json, &mut Paper::new());
    vcpus(partition, json);
    devices(partition, json);
}

/// A row for each of its emulated devices.
fn devices(partition: &Partition, json: bool) {
    let Some(devices) = &partition.pci else { return };
    let columns = &["slot", "device", "state", "queues", "requests", "notifies", "interrupts"];
    let mut table = Table::new(columns);
    for (slot, device) in devices.describe().into_iter().enumerate() {
        let sizes = device.queues.iter().map(|(size, _)| size.to_string());
        table.row([
            Value::Number(slot as u64),
            Value::Text(device.name.into()),
            Value::Text(device.state.into()),
            // A queue that is not used has no entries.
            Value::Text(sizes.collect::<Vec<_>>().join("+")),
            Value::Number(device.queues.iter().map(|(_, done)| done).sum()),
            Value::Number(device.notifies),
            Value::Number(device.interrupts),
        ]);
    }
    table.print(json, &mut Paper::new());
}

fn vcpus(partition: &Partition, json: bool) {
    let mut table = Table::new(&["vcpu", "state", "cpu", "ran", "dispatches", "stolen", "pc", "msr"]);
    for vcpu in &partition.vcpus {
        let (phase, cpu) = partition.presence(vcpu).whereabouts.look();
        let dispatches = vcpu.dispatches.load(Ordering::Relaxed);
        let stolen = vcpu.areas.lock().stolen();
        // What runs elsewhere has its registers in the machine.
        let known = dispatches != 0 && (phase != Phase::Running || cpu == percpu::number());
        let registers = known.then(|| hpt::Registers::of(vcpu));
        table.row([
            Value::Number(vcpu.server as u64),
            Value::Text(state(partition, vcpu).into()),
            if dispatches == 0 { Value::None } else { Value::Number(cpu as u64) },
            Value::Micros(figures::micros(figures::ran(partition, vcpu))),
            Value::Number(dispatches),
            Value::Micros(figures::micros(stolen)),
            registers.as_ref().map_or(Value::None, |registers| Value::Hex(registers.pc)),
            registers.as_ref().map_or(Value::None, |registers| Value::Hex(registers.msr.bits())),
        ]);
    }
    table.print(json, &mut Paper::new());
}

/// What a vCPU does, in a word.
pub fn state(partition: &Partition, vcpu: &VirtualCpu) -> &'static str {
    match (partition.presence(vcpu).whereabouts.look().0, vcpu.waits()) {
        (Phase::Running, _) => "running",
        (Phase::Ready, _) => "ready",
        (Phase::Parked, Waits::Start) => Waits::Start.name(),
        (Phase::Parked, _) => "paused",
        (Phase::Blocked, waits) => waits.name(),
    }
}
