//! `watch`: which accesses to a partition's memory are told.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use ::hpt::Protection;
use ::monitor::{Rights, Table, Value, Watch};

use super::{Paper, named, say};
use crate::partition::Partition;
use crate::partition::life::{self, Doing, Ending};

/// Lists the watches of a partition, or begins or ends some.
pub fn watch(partition: &Arc<Partition>, order: Option<Watch>, json: bool) -> Result<(), String> {
    let Some(order) = order else {
        list(partition, json);
        return Ok(());
    };
    let life = life::undisturbed(partition)?;
    match life.doing {
        Doing::Running | Doing::Paused | Doing::Ending(Ending::Pause) => {}
        // About to stand still.
        Doing::Ending(Ending::Quiesce) => return Err(life::in_transit(partition, &life)),
        _ => {
            return Err(format!(
                "{} is {}: only what runs can be watched",
                partition.name,
                life.doing.name()
            ));
        }
    }
    let done = carry_out(partition, order);
    drop(life);
    let (done, watches) = (done?, partition.watches.summaries().len());
    let name = &partition.name;
    let seen = partition.devices.is_empty();
    let record =
        named(name).field("watches", Value::Number(watches as u64)).field("sees_dma", Value::Flag(seen));
    let unseen = if seen || watches == 0 { "" } else { "; what its devices do there is not seen" };
    say(json, record, format_args!("{name}: {done}; watches: {watches}{unseen}"));
    Ok(())
}

/// Does it, and says what in some words.
fn carry_out(partition: &Partition, order: Watch) -> Result<String, String> {
    let watches = &partition.watches;
    let name = &partition.name;
    let (start, bytes, limit) = match order {
        Watch::Off => return Ok(format!("{} ended", watches.end_all(partition))),
        Watch::Range { start, bytes, rights: Rights::ReadWrite } => {
            return match watches.end(partition, start, bytes) {
                true => Ok(format!("{start:#x}+{bytes:#x} is not watched any more")),
                false => Err(format!("{name}: there is no watch of {start:#x}+{bytes:#x}")),
            };
        }
        Watch::Range { start, bytes, rights: Rights::ReadOnly } => (start, bytes, Protection::ReadOnly),
        Watch::Range { start, bytes, rights: Rights::None } => (start, bytes, Protection::None),
    };
    watches.begin(partition, start, bytes, limit).map_err(|error| format!("{name}: {error}"))?;
    Ok(format!("{start:#x}+{bytes:#x} is watched"))
}

fn list(partition: &Partition, json: bool) {
    let mut table = Table::new(&["start", "bytes", "allows", "accesses"]);
    for watch in partition.watches.summaries() {
        let allows = if watch.limit == Protection::None { "nothing" } else { "reading" };
        table.row([
            Value::Hex(watch.start),
            Value::Bytes(watch.bytes),
            Value::Text(allows.into()),
            Value::Number(watch.accesses),
        ]);
    }
    table.print(json, &mut Paper::new());
}
