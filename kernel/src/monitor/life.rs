//! `start`, `stop`, `reset`, `pause`, `resume`, `define`, `undefine` and `shutdown`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use ::monitor::{Value, print_error};
use realmode::instructions::timebase;

use super::{Follow, Paper, named, say};
use crate::partition::life::{self, Doing, Ending};
use crate::partition::{Partition, TIMEBASE_HZ};
use crate::{epitaph, partitions, terminal};

/// How long a partition may take to come to a stop before the monitor goes on without it: 10 s.
const PATIENCE: u64 = 10 * TIMEBASE_HZ;

/// Says what has become of a partition.
fn tell(name: &str, state: &str, json: bool) {
    say(json, named(name).field("state", Value::Text(state.into())), format_args!("{name} is {state}"));
}

fn tell_state(partition: &Partition, json: bool) {
    let state = partition.life.lock().doing.name();
    tell(&partition.name, state, json);
}

/// Starts a partition that does not run.
pub fn start(partition: &Arc<Partition>, json: bool) -> Result<Follow, String> {
    life::start(partition)?;
    tell_state(partition, json);
    Ok(Follow::Done)
}

/// Lets a paused partition go on.
pub fn resume(partition: &Arc<Partition>, json: bool) -> Result<Follow, String> {
    life::resume(partition)?;
    tell_state(partition, json);
    Ok(Follow::Done)
}

/// Stops, resets or pauses a partition, and waits until that has been done and its line in the log, if there is one, has been printed.
pub fn end(partition: Arc<Partition>, ending: Ending, json: bool) -> Result<Follow, String> {
    let logged = ending != Ending::Pause;
    life::end(&partition, ending)?;
    let deadline = timebase() + PATIENCE;
    Ok(Follow::Wait(Box::new(move || {
        // Whoever has it for long starts the partition anew.
        let Some(life) = partition.life.try_lock() else { return false };
        let done = !matches!(life.doing, Doing::Ending(_) | Doing::Still) && life.news.is_none();
        let state = life.doing.name();
        drop(life);
        if !done && timebase() < deadline {
            return false;
        }
        if !done {
            print_error(&format!("{} is still {state}", partition.name), json, &mut Paper::new());
        } else if json || !logged {
            tell(&partition.name, state, json);
        }
        true
    })))
}

/// Defines a partition as a table of the manifest says.
pub fn define(table: &str, name: &str, json: bool) -> Result<(), String> {
    partitions::define(table, name)?;
    tell(name, Doing::Defined.name(), json);
    Ok(())
}

/// Forgets a partition that does not run.
pub fn undefine(name: &str, json: bool) -> Result<(), String> {
    let partition = super::find(name)?;
    partitions::may_undefine(&partition)?;
    terminal::forget(&partition);
    drop(partition);
    partitions::undefine(name)?;
    tell(name, "undefined", json);
    Ok(())
}

/// Stops all partitions and then the machine, with the worst status that one of them has ended with by itself.
pub fn shutdown() -> Follow {
    let deadline = timebase() + PATIENCE;
    Follow::Wait(Box::new(move || {
        let all = partitions::all();
        // One that is about to reboot cannot be stopped just now: the next time.
        all.iter().for_each(|partition| drop(life::end(partition, Ending::Stop)));
        let left = all.iter().any(|partition| {
            partition.life.try_lock().is_none_or(|life| life.is_alive() || life.news.is_some())
        });
        if left && timebase() < deadline {
            return false;
        }
        match terminal::worst(&all) {
            Some((status, why)) if status != 0 => epitaph::end(status, format_args!("{why}")),
            _ => epitaph::end(0, format_args!("shut down from the monitor")),
        }
    }))
}
