//! `trace`: whether a partition's events are recorded, and what has been recorded.

use alloc::format;
use alloc::string::{String, ToString};
use core::sync::atomic::Ordering;

use ::monitor::{Record, Value};
use power::Lpid;

use super::{named, say};
use crate::partition::Partition;
use crate::{console, partitions, trace};

/// Turns the recording of a partition's events on or off, or says which it is.
pub fn switch(partition: &Partition, on: Option<bool>, json: bool) {
    if let Some(on) = on {
        partition.set_traced(on);
    }
    let traced = partition.traced.load(Ordering::Relaxed);
    let not = if traced { "" } else { "not " };
    let record = named(&partition.name).field("traced", Value::Flag(traced));
    say(json, record, format_args!("{} is {not}traced", partition.name));
}

/// Prints the last events of all CPUs, or so many of them, oldest first. `raw`: for `cargo xtask trace`.
pub fn dump(raw: bool, last: Option<usize>, json: bool) {
    let all = partitions::all();
    let whose = |lpid: Lpid| -> String {
        match all.iter().find(|partition| partition.core().lpid == lpid) {
            Some(partition) => partition.name.clone(),
            None if lpid == Lpid::HOST => "host".into(),
            None => format!("partition {}", lpid.0),
        }
    };
    let records = trace::records();
    let first = records.len() - last.unwrap_or(records.len()).min(records.len());
    for record in &records[first..] {
        if raw {
            let line = record.to_string();
            say(json, Record::new().field("raw", Value::Text(line.clone())), format_args!("{line}"));
            continue;
        }
        let (cpu, event, name) = (record.cpu, &record.event, whose(record.event.lpid));
        let micros = console::micros(event.time);
        let answer = named(&name)
            .field("vcpu", Value::Number(event.vcpu.into()))
            .field("cpu", Value::Number(cpu.into()))
            .field("micros", Value::Micros(micros))
            .field("event", Value::Text(event.what.to_string()));
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let who = if event.lpid == Lpid::HOST { name } else { format!("{name}.{}", event.vcpu) };
        say(json, answer, format_args!("[{seconds:3}.{micros:06}] cpu {cpu} {who}: {}", event.what));
    }
}
