//! The executed instructions of functions, with how often each ran.

use crate::counts::Counts;
use crate::image::Image;
use crate::lines::{Lines, Place};
use crate::table::{Selection, grouped_digits};
use std::fmt::Write as _;

/// Lists the functions whose name `wanted` accepts, in the order in which they were first entered. `None` if nothing was
/// executed there.
pub fn listing(
    counts: &Counts,
    image: &Image,
    lines: &Lines<'_>,
    selection: Selection<'_>,
    wanted: impl Fn(&str) -> bool,
) -> Option<String> {
    let sum = selection.sum(counts);
    let mut order: Vec<(u32, u64)> = sum.calls.clone();
    // Where a way begins in the middle of a function, that is not a call.
    for &at in sum.executed.keys() {
        let owner = image.owner(at);
        if order.iter().all(|&(known, _)| known != owner) {
            order.push((owner, 0));
        }
    }
    let mut out = String::new();
    for (function, calls) in order {
        let name = image.function_name(function);
        let Some(range) = image.range(function).filter(|_| wanted(name)) else { continue };
        let executed: Vec<_> = sum.executed.range(range).map(|(&at, &count)| (at, count)).collect();
        if executed.is_empty() {
            continue;
        }
        // Of a single way into the hypervisor, what each arrival costs is of interest; otherwise, each call.
        let whole = if selection.entry.is_some() { sum.arrivals } else { calls };
        let total = executed.iter().map(|(_, count)| count).sum();
        let before = match sum.before.get(&function) {
            Some(&before) if selection.entry.is_some() && calls != 0 => {
                format!(", {:.1} after the arrival", before as f64 / calls as f64)
            }
            _ => String::new(),
        };
        let (total, calls) = (grouped_digits(total), grouped_digits(calls));
        // Writing to a String does not fail.
        let _ = writeln!(out, "{name}: {total} instructions, entered {calls} times{before}");
        let mut before = Vec::new();
        for (at, count) in executed {
            let places = lines.places(at);
            if places != before {
                source(&mut out, &places);
                before = places;
            }
            let each = if whole == 0 { String::new() } else { format!("{:.2}", count as f64 / whole as f64) };
            let text = instruction(counts, image, at);
            let _ =
                writeln!(out, "{:>13} {each:>8}  {:016x}  {text}", grouped_digits(count), image.address(at));
        }
        out.push('\n');
    }
    (!out.is_empty()).then_some(out)
}

/// A line for where the instructions below come from: the innermost function, and those it was inlined into.
fn source(out: &mut String, places: &[Place]) {
    let Some((first, rest)) = places.split_first() else { return };
    let _ = write!(out, "  {:<32}  {}", first.at, first.name());
    for place in rest {
        let _ = write!(out, " < {}", place.name());
    }
    out.push('\n');
}

/// An instruction as text. The addresses that branches show are those of one of the modes: here they are linked ones.
fn instruction(counts: &Counts, image: &Image, at: u32) -> String {
    let text = match counts.text.get(&at) {
        // QEMU's disassembler does not know all of them.
        Some(text) if !text.is_empty() && !text.starts_with('.') => text.clone(),
        _ if image.word(at) == 0x4c00_0224 => "hrfid".into(),
        _ => format!(".long {:#010x}", image.word(at)),
    };
    let Some(target) = image.target(at) else { return text };
    let Some(split) = text.rfind("0x") else { return text };
    let (owner, same) = (image.owner(target), image.owner(target) == image.owner(at));
    let name = image.function_name(owner);
    let offset = 4 * u64::from(target - image.functions().get(owner as usize).map_or(target, |f| f.start));
    let whither = if same { format!("+{offset:#x}") } else { format!("{name}+{offset:#x}") };
    format!("{}{:x} <{whither}>", &text[..split], image.address(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::{Entry, Way};

    #[test]
    fn branches_show_linked_addresses() {
        // bl .+8; blr; nop
        let image = Image::of(&[0x4800_0009, 0x4e80_0020, 0x6000_0000], &[("a", 0), ("b", 2)]);
        let mut counts = Counts::default();
        counts.text.insert(0, "bl 0x8".into());
        assert_eq!(instruction(&counts, &image, 0), "bl c000000000000008 <b+0x0>");
        assert_eq!(instruction(&counts, &image, 1), ".long 0x4e800020");
    }

    #[test]
    fn functions_in_the_order_of_their_first_call() {
        let image = Image::of(&[1, 2, 3, 4], &[("a", 0), ("b", 2)]);
        let mut counts = Counts::default();
        let way = Way {
            arrivals: 2,
            executed: [(0, 2), (2, 3), (3, 2)].into(),
            calls: vec![(1, 3), (0, 2)],
            before: [(1, 9), (0, 1)].into(),
        };
        counts.sections[0].ways.insert(Entry::Call(8), way);
        let selection = Selection { entry: Some(Entry::Call(8)), ..Selection::default() };
        let lines = Lines::none();
        let text = listing(&counts, &image, &lines, selection, |_| true).unwrap();
        assert_eq!(
            text,
            "b: 5 instructions, entered 3 times, 3.0 after the arrival\n\
             \x20           3     1.50  c000000000000008  .long 0x00000003\n\
             \x20           2     1.00  c00000000000000c  .long 0x00000004\n\n\
             a: 2 instructions, entered 2 times, 0.5 after the arrival\n\
             \x20           2     1.00  c000000000000000  .long 0x00000001\n\n"
        );
        assert!(listing(&counts, &image, &lines, selection, |name| name == "c").is_none());
    }
}
