//! The monitor: carries out what is typed after Ctrl-]. What that may be, and what an answer looks like, is the crate `monitor`'s.
//!
//! It runs on the boot CPU, which has the terminal's lock, between two visits of a guest or while nothing runs. So it never waits: what
//! takes its time is looked at again and again ([`Follow::Wait`]). The guests that other CPUs run go on, and figures are of about
//! the same moment only.

mod copies;
mod devices;
mod figures;
mod host;
mod hpt;
mod life;
mod memory;
mod partitions;
mod stats;
mod trace;
mod watch;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use ::monitor::{Command, Names, Record, Value};
use virtio::console::Line;

use crate::console::Screen;
use crate::partition::Partition;
use crate::partition::life::Ending;
use crate::partitions as registry;

/// What comes after a command.
pub enum Follow {
    /// The next one.
    Done,
    /// The console goes to a partition.
    Attach(Arc<Partition>),
    /// It goes to a partition's second console.
    AttachSecond(Arc<Partition>, Arc<Line>),
    /// The next one, when this says so.
    Wait(Box<dyn Fn() -> bool + Send>),
}

/// Words that could stand at the end of a line.
pub fn completions(line: &str) -> Vec<String> {
    with_names(|names| ::monitor::completions(line, names))
}

/// Carries out a line.
pub fn run(line: &str) -> Follow {
    let json = ::monitor::wants_json(line);
    let follow = match with_names(|names| ::monitor::parse(line, names)) {
        Ok(None) => Ok(Follow::Done),
        Ok(Some(parsed)) => carry_out(parsed.command, json),
        Err(error) => Err(error),
    };
    follow.unwrap_or_else(|error| {
        ::monitor::print_error(&error, json, &mut Paper::new());
        Follow::Done
    })
}

fn with_names<R>(work: impl FnOnce(&Names<'_>) -> R) -> R {
    let partitions: Vec<String> = registry::all().iter().map(|partition| partition.name.clone()).collect();
    work(&Names { partitions: &partitions, tables: &registry::tables() })
}

fn carry_out(command: Command, json: bool) -> Result<Follow, String> {
    match command {
        Command::Help(topic) => ::monitor::help(topic.as_deref(), json, &mut Paper::new()),
        Command::List => partitions::list(json),
        Command::Info(name) => partitions::info(&*find(&name)?, json),
        Command::Stats(name) => stats::print(&some_or_all(name)?, json),
        Command::Start(name) => return life::start(&find(&name)?, json),
        Command::Resume(name) => return life::resume(&find(&name)?, json),
        Command::Pause(name) => return life::end(find(&name)?, Ending::Pause, json),
        Command::Stop(name) => return life::end(find(&name)?, Ending::Stop, json),
        Command::Reset(name) => return life::end(find(&name)?, Ending::Reset, json),
        Command::Define { table, name } => life::define(&table, name.as_deref().unwrap_or(&table), json)?,
        Command::Undefine(name) => life::undefine(&name, json)?,
        Command::Memory(name) => memory::of_partition(&*find(&name)?, json),
        Command::HostMemory => memory::of_host(json),
        Command::Clone { name, copies } => return self::copies::clone(&find(&name)?, copies, json),
        Command::Snapshot(name) => return Ok(copies::snapshot(&find(&name)?, json)),
        Command::Revert(name) => return copies::revert(&find(&name)?, json),
        Command::Merge(order) => return Ok(memory::merge(order, json)),
        Command::Dirty { name, reset } => memory::dirty(&find(&name)?, reset, json)?,
        Command::Watch { name, order } => watch::watch(&find(&name)?, order, json)?,
        Command::Hpt { name, ea, vcpu } => return hpt::print(find(&name)?, ea, vcpu, json),
        Command::Trace { name, on } => trace::switch(&*find(&name)?, on, json),
        Command::TraceDump { raw, last } => trace::dump(raw, last, json),
        Command::Cpus => host::cpus(json),
        Command::Devices => host::devices(json),
        Command::Log => host::log(json),
        Command::Console { name, second: false } => return Ok(Follow::Attach(find(&name)?)),
        Command::Console { name, second: true } => return devices::second_console(find(&name)?),
        Command::Balloon { name, bytes } => devices::balloon(&*find(&name)?, bytes, json)?,
        Command::Network => devices::network(json),
        Command::Shutdown => return Ok(life::shutdown()),
    }
    Ok(Follow::Done)
}

fn find(name: &str) -> Result<Arc<Partition>, String> {
    registry::find(name).ok_or_else(|| format!("there is no partition {name}"))
}

fn some_or_all(name: Option<String>) -> Result<Vec<Arc<Partition>>, String> {
    name.map_or_else(|| Ok(registry::all()), |name| Ok([find(&name)?].into()))
}

/// Prints one line; with `json` the record that says the same.
fn say(json: bool, record: Record, line: fmt::Arguments<'_>) {
    let mut paper = Paper::new();
    if json {
        record.print(json, &mut paper);
    } else {
        // Paper takes everything.
        let _ = writeln!(paper, "{line}");
    }
}

/// A record that begins with a partition's name.
fn named(name: &str) -> Record {
    Record::new().field("name", Value::Text(name.into()))
}

/// The screen, whole lines at a time: what other CPUs have to say comes between them.
struct Paper(String);

impl Paper {
    fn new() -> Paper {
        Paper(String::new())
    }
}

impl Write for Paper {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            self.0.push_str(part);
            if part.ends_with('\n') {
                Screen.write_str(&self.0)?;
                self.0.clear();
            }
        }
        Ok(())
    }
}
