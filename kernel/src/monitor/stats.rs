//! `stats`: what guests were left for, how often and for how long.

use alloc::string::ToString;
use alloc::sync::Arc;

use ::monitor::{Table, Value};
use ::trace::{Counter, Subject};

use super::{Paper, figures};
use crate::console::TICKS_PER_MICRO;
use crate::partition::Partition;

/// A row for all that has happened to these partitions since they were defined.
pub fn print(partitions: &[Arc<Partition>], json: bool) {
    let mut table = Table::new(&["event", "count", "total", "mean_ns"]);
    let stats = || partitions.iter().flat_map(|partition| &partition.vcpus).map(|vcpu| &vcpu.stats);
    for subject in Subject::all() {
        let counters = || stats().filter_map(|stats| stats.counter(subject));
        let count: u64 = counters().map(Counter::count).sum();
        let ticks: u64 = counters().map(Counter::ticks).sum();
        if count == 0 {
            continue;
        }
        let mean = u128::from(ticks) * 1000 / u128::from(TICKS_PER_MICRO) / u128::from(count);
        table.row([
            Value::Text(subject.to_string()),
            Value::Number(count),
            Value::Micros(figures::micros(ticks)),
            Value::Number(mean as u64),
        ]);
    }
    table.print(json, &mut Paper::new());
}
