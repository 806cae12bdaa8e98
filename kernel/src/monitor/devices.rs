//! `network`, `balloon` and `console NAME 2`: what others than its guest have of a partition's devices.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use ::monitor::{Table, Value};
use switch::{Counters, Sources};
use virtio::OtherEnd;
use virtio::balloon::Balloon;

use super::{Follow, Paper, named};
use crate::partition::Partition;
use crate::{network, partitions};

fn ends(partition: &Partition) -> Vec<OtherEnd> {
    partition.pci.as_ref().map_or_else(Vec::new, |devices| devices.other_ends())
}

/// A partition's balloon.
pub fn balloon_of(partition: &Partition) -> Option<Arc<Balloon>> {
    ends(partition).into_iter().find_map(|end| match end {
        OtherEnd::Balloon(balloon) => Some(balloon),
        _ => None,
    })
}

/// Says how large a partition's balloon is, or is to be.
pub fn balloon(partition: &Partition, bytes: Option<u64>, json: bool) -> Result<(), String> {
    let balloon = balloon_of(partition).ok_or_else(|| {
        format!("{} has no balloon: its table says so, with 'balloon = true'", partition.name)
    })?;
    if let Some(bytes) = bytes {
        if bytes > partition.bytes {
            return Err(format!("{} has only {} bytes of memory", partition.name, partition.bytes));
        }
        balloon.set_target(bytes);
    }
    let figures = balloon.figures();
    named(&partition.name)
        .field("memory", Value::Bytes(partition.bytes))
        .field("wanted", Value::Bytes(figures.target))
        .field("said_to_be_given", Value::Bytes(figures.actual))
        .field("given", Value::Bytes(figures.inside))
        .field("discarded", Value::Bytes(figures.discarded))
        .field("reported_free", Value::Bytes(figures.reported))
        .print(json, &mut Paper::new());
    Ok(())
}

/// The console goes to a partition's second one.
pub fn second_console(partition: Arc<Partition>) -> Result<Follow, String> {
    let line = ends(&partition).into_iter().find_map(|end| match end {
        OtherEnd::Line(line) => Some(line),
        _ => None,
    });
    let name = &partition.name;
    let none = || format!("{name} has no second console: its table says so, with 'second-console = true'");
    let line = line.ok_or_else(none)?;
    Ok(Follow::AttachSecond(partition, line))
}

/// A row for each port.
pub fn network(json: bool) {
    let columns = &[
        "network",
        "of",
        "address",
        "connected",
        "sent",
        "sent_bytes",
        "received",
        "received_bytes",
        "dropped",
        "refused",
    ];
    let mut table = Table::new(columns);
    let mut row = |network: &str, of: &str, address: Value, connected: bool, counters: Counters| {
        table.row([
            Value::Text(network.into()),
            Value::Text(of.into()),
            address,
            Value::Flag(connected),
            Value::Number(counters.sent),
            Value::Bytes(counters.sent_bytes),
            Value::Number(counters.received),
            Value::Bytes(counters.received_bytes),
            Value::Number(counters.dropped),
            Value::Number(counters.refused),
        ]);
    };
    for network in network::all() {
        network
            .outside()
            .into_iter()
            .for_each(|counters| row(network.name(), "host", Value::None, true, counters));
    }
    for partition in partitions::all() {
        for end in ends(&partition) {
            let OtherEnd::Port(port) = end else { continue };
            let address = match port.sources() {
                Sources::Own(mac) => Value::Text(mac.to_string()),
                Sources::Any => Value::None,
            };
            row(port.network().name(), &partition.name, address, port.is_connected(), port.counters());
        }
    }
    table.print(json, &mut Paper::new());
}
