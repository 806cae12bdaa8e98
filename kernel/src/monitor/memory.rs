//! `memory`: where the host's memory has gone, and how a partition's is backed.

use ::hpt::{Page, PageState, Protection, RevGroup, SlotKind};
use ::monitor::{Record, Value};

use super::{Paper, figures};
use crate::partition::Partition;
use crate::{memory as host, partitions};

/// How a partition's RAM is backed, in pages.
#[derive(Default)]
struct Pages {
    all: u64,
    private: u64,
    shared: u64,
    protected: u64,
    mapped: u64,
    changed: u64,
}

impl Pages {
    fn of(partition: &Partition) -> Pages {
        let mut sum = Pages::default();
        for slot in partition.core().slots.iter() {
            let SlotKind::Ram(pages) = slot.kind else { continue };
            for page in pages {
                let view = page.view();
                sum.all += 1;
                sum.private += u64::from(view.state() == PageState::Private);
                sum.shared += u64::from(view.state() == PageState::Shared);
                sum.protected += u64::from(view.protection() != Protection::ReadWrite);
                sum.mapped += u64::from(page.is_mapped());
                sum.changed += u64::from(page.usage().changed);
            }
        }
        sum
    }
}

/// Bytes of the reverse map beside a partition's page table, and of the states of its pages.
fn tables(partition: &Partition, pages: &Pages) -> (u64, u64) {
    let groups = partition.core().hpt.len() / 8;
    (groups * size_of::<RevGroup>() as u64, pages.all * size_of::<Page>() as u64)
}

/// A partition's memory.
pub fn of_partition(partition: &Partition, json: bool) {
    let (pages, hpt) = (Pages::of(partition), &partition.core().hpt);
    let used = hpt.occupancy();
    let entries = (used.valid + used.absent) as u64;
    let unit = 1 << partition.core().slots.unit_shift();
    let bytes = |pages: u64| Value::Bytes(pages * unit);
    let (reverse_map, page_states) = tables(partition, &pages);
    Record::new()
        .field("name", Value::Text(partition.name.clone()))
        .field("memory", Value::Bytes(partition.bytes))
        .field("page", Value::Bytes(unit))
        .field("populated", bytes(pages.private + pages.shared))
        .field("private", bytes(pages.private))
        .field("shared", bytes(pages.shared))
        .field("not_populated", bytes(pages.all - pages.private - pages.shared))
        .field("protected", bytes(pages.protected))
        .field("mapped", bytes(pages.mapped))
        .field("known_changed", bytes(pages.changed))
        .field("page_table", Value::Bytes(partition.hpt_bytes()))
        .field("page_table_entries", Value::Number(entries))
        .field("page_table_use", Value::Percent(figures::tenths(entries, hpt.len())))
        .field("reverse_map", Value::Bytes(reverse_map))
        .field("page_states", Value::Bytes(page_states))
        .print(json, &mut Paper::new());
}

/// The host's memory.
pub fn of_host(json: bool) {
    let (mut populated, mut all_tables) = (0, 0);
    for partition in partitions::all() {
        let pages = Pages::of(&partition);
        let (reverse_map, page_states) = tables(&partition, &pages);
        populated += (pages.private + pages.shared) << partition.core().slots.unit_shift();
        all_tables += partition.hpt_bytes() + reverse_map + page_states;
    }
    let (total, free) = (host::total(), host::free());
    let (heap, heap_used) = host::heap();
    let known = free + populated + all_tables + heap;
    Record::new()
        .field("total", Value::Bytes(total))
        .field("free", Value::Bytes(free))
        .field("partitions", Value::Bytes(populated))
        .field("tables", Value::Bytes(all_tables))
        .field("heap", Value::Bytes(heap))
        .field("heap_used", Value::Bytes(heap_used))
        .field("other", Value::Bytes(total.saturating_sub(known)))
        .print(json, &mut Paper::new());
}
