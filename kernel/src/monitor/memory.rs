//! `memory`, `merge` and `dirty`: where the host's memory has gone, and how a partition's is backed.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use ::hpt::{Page, PageState};
use ::monitor::{Merge, Record, Table, Value, print_error};
use paging::Figures;
use power::GuestReal;

use super::{Follow, Paper, devices, figures, named, say};
use crate::partition::Partition;
use crate::partition::life;
use crate::{memory as host, merge, partitions};

/// How many of a partition's pages are so.
fn count(partition: &Partition, so: impl Fn(&Page) -> bool) -> u64 {
    partition.core().slots.pages().filter(|page| so(page)).count() as u64
}

/// Bytes of the states of a partition's pages.
fn page_states(partition: &Partition) -> u64 {
    count(partition, |_| true) * size_of::<Page>() as u64
}

fn figures_of(partition: &Partition) -> Figures {
    partition.memory().pages(|pages| pages.figures())
}

/// A partition's memory.
pub fn of_partition(partition: &Partition, json: bool) {
    // Held, so that its page table is not exchanged meanwhile.
    let life = partition.life.lock();
    let pages = figures_of(partition);
    let hpt = partition.core().hpt();
    let used = hpt.occupancy();
    let entries = (used.valid + used.absent) as u64;
    let (states, mapped) = (page_states(partition), count(partition, Page::is_mapped));
    let use_of_table = Value::Percent(figures::tenths(entries, hpt.len()));
    let beside = partition.tables.lock().beside();
    drop(life);
    let unit = pages.unit;
    let bytes = |pages: u64| Value::Bytes(pages * unit);
    let mut record = named(&partition.name)
        .field("memory", Value::Bytes(partition.bytes))
        .field("page", Value::Bytes(unit));
    if pages.limit != u64::MAX {
        record = record.field("limit", Value::Bytes(pages.limit));
    }
    if let Some(balloon) = devices::balloon_of(partition) {
        record = record.field("balloon", Value::Bytes(balloon.figures().inside));
    }
    record
        .field("private", bytes(pages.private))
        .field("shared", bytes(pages.shared))
        .field("merged", bytes(pages.merged))
        .field("zero", bytes(pages.zero))
        .field("absent", bytes(pages.absent))
        .field("unshared_since_start", bytes(pages.unshared))
        .field("protected", bytes(pages.protected))
        .field("mapped", bytes(mapped))
        .field("page_table", Value::Bytes(partition.hpt_bytes()))
        .field("page_table_entries", Value::Number(entries))
        .field("page_table_use", use_of_table)
        .field("reverse_map_and_log", Value::Bytes(beside))
        .field("page_states", Value::Bytes(states))
        .field("overhead", Value::Bytes(partition.overhead.load(Ordering::Relaxed)))
        .print(json, &mut Paper::new());
}

/// The host's memory.
pub fn of_host(json: bool) {
    let (mut private, mut tables, mut zero) = (0, 0, 0);
    let (mut large, mut saved, mut overhead) = (0, 0, 0);
    for partition in partitions::all() {
        let pages = figures_of(&partition);
        // What only one page refers to, of all that is shared, is with what is shared here.
        private += count(&partition, |page| page.view().state() == PageState::Private) * pages.unit;
        zero += pages.zero * pages.unit;
        tables += partition.hpt_bytes() + partition.tables.lock().beside() + page_states(&partition);
        overhead += partition.overhead.load(Ordering::Relaxed);
        // A large page has the count of its first frame: the others are shared among those who refer to it.
        for at in partition.core().slots.pages().filter_map(|page| page.view().host()) {
            let references = u64::from(host::shares().count(at));
            let rest = (pages.unit - frames::FRAME) / references.max(1);
            large += if references > 0 { rest } else { 0 };
            saved += rest * references.saturating_sub(1);
        }
    }
    let (total, free) = (host::total(), host::free());
    let (heap, heap_used) = host::heap();
    let (frames, references) = host::shares().totals();
    let shared = frames * frames::FRAME + large;
    let known = free + private + shared + tables + heap;
    Record::new()
        .field("total", Value::Bytes(total))
        .field("free", Value::Bytes(free))
        .field("reserve", Value::Bytes(host::reserve()))
        .field("private", Value::Bytes(private))
        .field("shared", Value::Bytes(shared))
        .field("saved_by_sharing", Value::Bytes((references - frames) * frames::FRAME + saved + zero))
        .field("tables", Value::Bytes(tables))
        .field("heap", Value::Bytes(heap))
        .field("heap_used", Value::Bytes(heap_used))
        .field("other", Value::Bytes(total.saturating_sub(known)))
        .field("image", Value::Bytes(host::image_bytes()))
        .field("before_guests", Value::Bytes(host::before_guests()))
        .field("overhead", Value::Bytes(overhead))
        .print(json, &mut Paper::new());
}

/// Pages that `merge now` looks at before it lets the console be seen to.
const PIECE: u64 = 32;

/// Switches merging on or off, has it done at once, or says how far it has come.
pub fn merge(order: Option<Merge>, json: bool) -> Follow {
    match order {
        Some(Merge::On) => merge::set(true),
        Some(Merge::Off) => merge::set(false),
        Some(Merge::Now) => {
            // A page is merged when it is the second time found as it was.
            let (_, before) = merge::figures();
            return Follow::Wait(Box::new(move || {
                if merge::hurry(PIECE).is_none() {
                    print_error("there is no memory to find equal pages with", json, &mut Paper::new());
                    return true;
                }
                let over = merge::figures().1 >= before + 3;
                if over {
                    tell_merge(json);
                }
                over
            }));
        }
        None => {}
    }
    tell_merge(json);
    Follow::Done
}

fn tell_merge(json: bool) {
    let (done, passes) = merge::figures();
    let unit = |pages: u64| Value::Bytes(pages * frames::FRAME);
    let (frames, references) = host::shares().totals();
    Record::new()
        .field("merging", Value::Text(if merge::is_on() { "on" } else { "off" }.into()))
        .field("passes", Value::Number(passes))
        .field("looked_at", unit(done.looked))
        .field("changing", unit(done.changing))
        .field("became_zero", unit(done.zeroed))
        .field("merged", unit(done.merged))
        .field("shared", unit(frames))
        .field("saved", unit(references - frames))
        .print(json, &mut Paper::new());
}

/// The most ranges that `dirty` lists.
const RANGES: usize = 64;

/// Which pages a partition has written since the last reset, or its definition.
pub fn dirty(partition: &Arc<Partition>, reset: bool, json: bool) -> Result<(), String> {
    let life = life::undisturbed(partition)?;
    if !partition.devices.is_empty() {
        return Err(format!(
            "{} has a device that reaches its memory: what that writes is not seen",
            partition.name
        ));
    }
    let unit = 1u64 << partition.core().slots.unit_shift();
    // Only so many: what a guest does is not to fill the hypervisor's memory.
    let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(RANGES);
    let (mut count, mut all, mut end) = (0, 0, 0);
    partition.memory().pages(|pages| {
        pages.dirty(|GuestReal(at)| {
            count += 1;
            let follows = at == core::mem::replace(&mut end, at + unit);
            let goes_on = follows && all > 0;
            all += u64::from(!goes_on);
            if !goes_on && ranges.len() < RANGES {
                ranges.push((at, unit));
            } else if goes_on
                && all <= RANGES as u64
                && let Some((_, bytes)) = ranges.last_mut()
            {
                *bytes += unit;
            }
        });
        if reset {
            pages.dirty_reset();
        }
    });
    drop(life);
    if !ranges.is_empty() {
        let mut table = Table::new(&["start", "bytes"]);
        for (start, bytes) in &ranges {
            table.row([Value::Hex(*start), Value::Bytes(*bytes)]);
        }
        table.print(json, &mut Paper::new());
    }
    let record = named(&partition.name)
        .field("pages", Value::Number(count))
        .field("bytes", Value::Bytes(count * unit))
        .field("ranges", Value::Number(all));
    let shown = ranges.len();
    say(
        json,
        record,
        format_args!("{}: {count} pages written, {shown} of {all} ranges shown", partition.name),
    );
    Ok(())
}
