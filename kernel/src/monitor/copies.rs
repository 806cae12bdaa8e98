//! `clone`, `snapshot` and `revert`: what is done to a partition while it stands still.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use ::monitor::{Record, Value, print_error};
use realmode::instructions::timebase;

use super::{Follow, Paper, named, say};
use crate::console::TICKS_PER_MICRO;
use crate::partition::life::{self, Work};
use crate::partition::{Partition, TIMEBASE_HZ, snapshot};
use crate::sync::{Lock, Rank};
use crate::{memory, partitions};

/// What came of the work: seen from outside, once it has been done.
type Outcome<T> = Arc<Lock<Option<Result<T, String>>>>;

/// How long a partition may be busy standing still for its own guest: 10 s.
const PATIENCE: u64 = 10 * TIMEBASE_HZ;

/// Has something done to a partition that stands still, and waits for it. `tell` says what came of it; `undo` puts away what was prepared if
/// nothing did.
fn quiesced<T: Send + 'static>(
    partition: &Arc<Partition>,
    json: bool,
    work: impl FnOnce(&Arc<Partition>) -> Result<T, String> + Send + 'static,
    tell: impl Fn(T) + Send + 'static,
    undo: impl Fn() + Send + 'static,
) -> Follow {
    let outcome: Outcome<T> = Arc::new(Lock::new(Rank::Partition, None));
    let theirs = outcome.clone();
    let work: Work = Box::new(move |partition| {
        let done = work(partition);
        *theirs.lock() = Some(done);
    });
    let waiting = Lock::new(Rank::Partition, Some(work));
    let deadline = timebase() + PATIENCE;
    let partition = partition.clone();
    Follow::Wait(Box::new(move || {
        let work = waiting.lock().take();
        let refused = work.and_then(|work| life::quiesce(&partition, work).err());
        let failed = match refused {
            // Its guest has something done to it just now, perhaps again and again.
            Some(refused) if refused.later && timebase() < deadline => {
                *waiting.lock() = Some(refused.work);
                return false;
            }
            Some(refused) => refused.why,
            None => {
                let dropped = Arc::strong_count(&outcome) == 1;
                let done = outcome.lock().take();
                match done {
                    Some(Ok(done)) => {
                        tell(done);
                        return true;
                    }
                    Some(Err(why)) => why,
                    None if dropped => format!("{} ended before that could be done", partition.name),
                    None => return false,
                }
            }
        };
        undo();
        print_error(&failed, json, &mut Paper::new());
        true
    }))
}

fn micros(ticks: u64) -> u64 {
    ticks / TICKS_PER_MICRO
}

/// Copies a running or paused partition; the copies run as it does.
pub fn clone(source: &Arc<Partition>, names: Vec<String>, json: bool) -> Result<Follow, String> {
    let (began, free) = (timebase(), memory::free());
    let mut copies: Vec<Arc<Partition>> = Vec::new();
    for name in &names {
        match partitions::define_like(source, name) {
            Ok(copy) => copies.push(copy),
            Err(why) => {
                drop(copies);
                undefine(&names);
                return Err(why);
            }
        }
    }
    let prepared = timebase() - began;
    let work = move |source: &Arc<Partition>| {
        let began = timebase();
        snapshot::copy(source, &copies)?;
        copies.iter().for_each(life::begin_as_copy);
        Ok((prepared + timebase() - began, free.saturating_sub(memory::free())))
    };
    let (told, source_name) = (names.clone(), source.name.clone());
    let tell = move |(ticks, bytes): (u64, u64)| {
        let each = bytes / told.len() as u64;
        for name in &told {
            let record = named(name)
                .field("copy_of", Value::Text(source_name.clone()))
                .field("micros", Value::Number(micros(ticks)))
                .field("memory", Value::Bytes(each));
            let kib = each >> 10;
            say(json, record, format_args!("{name} is a copy of {source_name}, and takes {kib} KiB"));
        }
        if !json {
            say(json, Record::new(), format_args!("copied in {} us", micros(ticks)));
        }
    };
    Ok(quiesced(source, json, work, tell, move || undefine(&names)))
}

/// Forgets copies that came to nothing.
fn undefine(names: &[String]) {
    for name in names {
        // Some were never defined.
        let _ = partitions::undefine(name);
    }
}

/// Keeps the state of a partition.
pub fn snapshot(partition: &Arc<Partition>, json: bool) -> Follow {
    let name = partition.name.clone();
    let work = move |partition: &Arc<Partition>| {
        let began = timebase();
        snapshot::take(partition, None)?;
        Ok(timebase() - began)
    };
    let tell = move |ticks| {
        let record = named(&name).field("micros", Value::Number(micros(ticks)));
        say(json, record, format_args!("{name}: snapshot taken in {} us", micros(ticks)));
    };
    quiesced(partition, json, work, tell, || ())
}

/// Puts a partition back to its snapshot.
pub fn revert(partition: &Arc<Partition>, json: bool) -> Result<Follow, String> {
    if partition.snapshot.lock().is_none() {
        return Err(format!("{} has no snapshot: 'snapshot {}' takes one", partition.name, partition.name));
    }
    let name = partition.name.clone();
    let work = move |partition: &Arc<Partition>| {
        let began = timebase();
        let pages = snapshot::go_back(partition, 0);
        let pages = pages.ok_or_else(|| format!("{} has no snapshot any more", partition.name))?;
        partition.renew_identity(partition);
        Ok((pages, timebase() - began))
    };
    let tell = move |(pages, ticks)| {
        let record =
            named(&name).field("pages", Value::Number(pages)).field("micros", Value::Number(micros(ticks)));
        say(
            json,
            record,
            format_args!("{name}: back at its snapshot, {pages} pages in {} us", micros(ticks)),
        );
    };
    Ok(quiesced(partition, json, work, tell, || ()))
}
