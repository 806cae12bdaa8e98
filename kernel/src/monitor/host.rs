//! `cpus`, `devices` and `log`: the host.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering;

use ::monitor::{Record, Table, Value};
use realmode::host::{CPUS, IDLE};

use super::{Paper, figures, say};
use crate::run::ACCOUNTS;
use crate::{console, cpus, host, partitions, schedule};

/// A row for each CPU.
pub fn cpus(json: bool) {
    let columns = &["cpu", "pir", "core", "thread", "state", "vcpu", "busy", "stays", "waiting"];
    let mut table = Table::new(columns);
    let (count, online) = (cpus::count(), cpus::online());
    for (number, busy) in figures::busy(count).into_iter().enumerate() {
        let cpu = &CPUS[number];
        let first = cpu.core.load(Ordering::Relaxed) as usize;
        // Cores are counted by their first threads.
        let core = (0..first).filter(|n| CPUS[*n].core.load(Ordering::Relaxed) as usize == *n).count();
        let state = if !online.contains(number) {
            "offline"
        } else if IDLE.contains(number) {
            "idle"
        } else if cpu.lpid.load(Ordering::Relaxed) != 0 {
            "guest"
        } else {
            "host"
        };
        table.row([
            Value::Number(number as u64),
            Value::Hex(cpu.pir.load(Ordering::Relaxed).into()),
            Value::Number(core as u64),
            Value::Number(cpu.thread(number).into()),
            Value::Text(state.into()),
            occupant(number).map_or(Value::None, Value::Text),
            Value::Percent(busy),
            Value::Number(ACCOUNTS[number].stays.load(Ordering::Relaxed)),
            Value::Number(schedule::waiting(number) as u64),
        ]);
    }
    table.print(json, &mut Paper::new());
}

/// A row for each device.
pub fn devices(json: bool) {
    let mut table = Table::new(&["device", "address", "id", "size", "interrupts", "busy", "used"]);
    for device in host::describe() {
        table.row([
            Value::Text(device.name),
            Value::Text(format!("{}", device.address)),
            device.id.map_or(Value::None, Value::Text),
            device.bytes.map_or(Value::None, Value::Bytes),
            Value::Flag(device.interrupts),
            Value::Flag(device.busy),
            Value::Flag(device.used),
        ]);
    }
    table.print(json, &mut Paper::new());
}

/// The vCPU that has a CPU now.
fn occupant(number: usize) -> Option<String> {
    let account = &ACCOUNTS[number];
    if account.stay() == 0 {
        return None;
    }
    let current = account.current.load(Ordering::Relaxed);
    partitions::all().iter().find_map(|partition| {
        let vcpu = partition.vcpus.iter().find(|vcpu| core::ptr::eq(vcpu.peek(), current))?;
        Some(format!("{}.{}", partition.name, vcpu.server))
    })
}

/// The hypervisor's own lines.
pub fn log(json: bool) {
    for line in console::last_lines().lines() {
        let (micros, said) = timed(line).unwrap_or((0, line));
        let text = |text: &str| Value::Text(text.into());
        let record = Record::new().field("micros", Value::Micros(micros)).field("text", text(said));
        say(json, record, format_args!("{}", text(line)));
    }
}

/// The microseconds before a line, and the rest: see [`console::line`].
fn timed(line: &str) -> Option<(u64, &str)> {
    let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
    let (seconds, micros) = time.split_once('.')?;
    let seconds: u64 = seconds.trim_start().parse().ok()?;
    Some((seconds * 1_000_000 + micros.parse::<u64>().ok()?, text))
}
