//! The monitor: carries out what is typed after Ctrl-].

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::console::Screen;
use crate::partition::Partition;
use crate::partitions;

/// What comes after a command.
pub enum Follow {
    /// The next one.
    Done,
    /// The console goes to a partition.
    Attach(Arc<Partition>),
    /// The next one, when this says so.
    Wait(Box<dyn Fn() -> bool + Send>),
}

/// Words that could stand at the end of a line.
pub fn completions(line: &str) -> Vec<String> {
    with_names(|names| ::monitor::completions(line, names))
}

fn with_names<R>(work: impl FnOnce(&::monitor::Names<'_>) -> R) -> R {
    let names: Vec<String> = partitions::all().iter().map(|partition| partition.name.clone()).collect();
    work(&::monitor::Names { partitions: &names, tables: &partitions::tables() })
}

/// Carries out a line.
pub fn run(line: &str) -> Follow {
    match with_names(|names| ::monitor::parse(line, names)) {
        Ok(None) => Follow::Done,
        Ok(Some(_parsed)) => Follow::Done,
        Err(error) => {
            ::monitor::print_error(&error, ::monitor::wants_json(line), &mut Screen);
            Follow::Done
        }
    }
}
