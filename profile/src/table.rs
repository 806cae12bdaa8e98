//! Tables of what was counted.

use crate::counts::{Counts, Entry, Outside, Section, Way};
use crate::image::Image;
use std::collections::{BTreeMap, HashMap};

/// Which part of a run is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// Without what came before the first instruction of a guest.
    pub from_guest: bool,
    /// Only this way into the hypervisor.
    pub entry: Option<Entry>,
    /// Only the section of this row.
    pub row: Option<&'a str>,
}

impl Selection<'_> {
    fn sections(self, counts: &Counts) -> impl Iterator<Item = &Section> {
        counts.sections.iter().filter(move |section| self.row.is_none_or(|row| section.row == row))
    }

    /// The ways that are looked at. One may come several times.
    fn ways(self, counts: &Counts) -> impl Iterator<Item = (Entry, &Way)> {
        let wanted = move |entry| match self.entry {
            Some(only) => entry == only,
            None => !(self.from_guest && entry == Entry::Boot),
        };
        let ways = self.sections(counts).flat_map(|section| &section.ways);
        ways.map(|(&entry, way)| (entry, way)).filter(move |&(entry, _)| wanted(entry))
    }

    /// All of them as one.
    pub fn sum(self, counts: &Counts) -> Way {
        let mut sum = Way::default();
        self.ways(counts).for_each(|(_, way)| sum.add(way));
        sum
    }

    /// What firmware and guests did in that time.
    pub fn outside(self, counts: &Counts) -> Outside {
        let mut sum = Outside::default();
        for section in self.sections(counts) {
            let [boot, guests] = &section.outside;
            sum.add(guests);
            if !self.from_guest {
                sum.add(boot);
            }
        }
        sum
    }
}

/// A row: what, how often it was entered, and instructions executed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// How often it was entered; unknown of functions that have been inlined.
    pub calls: Option<u64>,
    /// Instructions.
    pub instructions: u64,
}

impl Row {
    /// Instructions each time.
    pub fn each(&self) -> Option<f64> {
        self.calls.filter(|&calls| calls != 0).map(|calls| self.instructions as f64 / calls as f64)
    }
}

/// The most first.
fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| b.instructions.cmp(&a.instructions).then_with(|| a.name.cmp(&b.name)));
    rows
}

/// By way into the hypervisor.
pub fn entries(counts: &Counts, selection: Selection<'_>) -> Vec<Row> {
    let mut sums: BTreeMap<Entry, (u64, u64)> = BTreeMap::new();
    for (entry, way) in selection.ways(counts) {
        let (arrivals, instructions) = sums.entry(entry).or_default();
        *arrivals += way.arrivals;
        *instructions += way.instructions();
    }
    let row = |(entry, (arrivals, instructions)): (Entry, (u64, u64))| Row {
        name: entry.to_string(),
        calls: (entry != Entry::Boot).then_some(arrivals),
        instructions,
    };
    sorted(sums.into_iter().map(row).collect())
}

/// By function, as the image has them.
pub fn functions(counts: &Counts, image: &Image, selection: Selection<'_>) -> Vec<Row> {
    let sum = selection.sum(counts);
    let mut own: BTreeMap<u32, u64> = BTreeMap::new();
    for (&at, count) in &sum.executed {
        *own.entry(image.owner(at)).or_default() += count;
    }
    let calls: HashMap<u32, u64> = sum.calls.into_iter().collect();
    sorted(
        own.into_iter()
            .map(|(function, instructions)| Row {
                name: image.function_name(function).to_owned(),
                calls: Some(calls.get(&function).copied().unwrap_or(0)),
                instructions,
            })
            .collect(),
    )
}

/// By something else that instructions have, such as the source's function.
pub fn grouped(counts: &Counts, selection: Selection<'_>, mut name: impl FnMut(u32) -> String) -> Vec<Row> {
    let mut own: BTreeMap<String, u64> = BTreeMap::new();
    for (&at, count) in &selection.sum(counts).executed {
        *own.entry(name(at)).or_default() += count;
    }
    let row = |(name, instructions)| Row { name, calls: None, instructions };
    sorted(own.into_iter().map(row).collect())
}

/// A number in groups of three digits.
pub fn grouped_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The rows as text, at most `most`, with their part of `whole`.
pub fn to_text(rows: &[Row], what: &str, whole: u64, most: usize) -> String {
    let percent = |part: u64| 100.0 * part as f64 / whole.max(1) as f64;
    let mut out = format!("{:>15} {:>7} {:>11} {:>11}  {what}\n", "instructions", "share", "calls", "each");
    for row in rows.iter().take(most) {
        let calls = row.calls.map_or_else(String::new, grouped_digits);
        let each = row.each().map_or_else(String::new, |each| format!("{each:.1}"));
        let (instructions, share) = (grouped_digits(row.instructions), percent(row.instructions));
        let name = cut(&row.name);
        out.push_str(&format!("{instructions:>15} {share:>6.2}% {calls:>11} {each:>11}  {name}\n"));
    }
    if let Some(rest) = rows.get(most..).filter(|rest| !rest.is_empty()) {
        let sum = rest.iter().map(|row| row.instructions).sum();
        let (instructions, share) = (grouped_digits(sum), percent(sum));
        out.push_str(&format!("{instructions:>15} {share:>6.2}% {:>23}  ({} more)\n", "", rest.len()));
    }
    out
}

/// Names of what is generic can be pages long.
fn cut(name: &str) -> String {
    const LETTERS: usize = 100;
    match name.char_indices().nth(LETTERS) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> (Counts, Image) {
        let image = Image::of(&[0; 8], &[("boot", 0), ("hcall", 2), ("h_enter", 4)]);
        let mut counts = Counts::default();
        counts.sections[0].outside[0].firmware = 1000;
        counts.sections[0].outside[1].privileged = 50;
        let way = |arrivals, executed: &[(u32, u64)], calls: &[(u32, u64)]| Way {
            arrivals,
            executed: executed.iter().copied().collect(),
            calls: calls.to_vec(),
            ..Way::default()
        };
        counts.sections[0].ways.insert(Entry::Boot, way(0, &[(0, 3), (1, 3)], &[(0, 1)]));
        counts.sections[0].ways.insert(Entry::Call(8), way(2, &[(2, 2), (3, 2), (5, 8)], &[(1, 2), (2, 2)]));
        counts.sections[0].ways.insert(Entry::Call(0x7c), way(1, &[(2, 1)], &[(1, 1)]));
        (counts, image)
    }

    #[test]
    fn by_function() {
        let (counts, image) = some();
        let row =
            |name: &str, calls, instructions| Row { name: name.into(), calls: Some(calls), instructions };
        let all = functions(&counts, &image, Selection::default());
        assert_eq!(all, [row("h_enter", 2, 8), row("boot", 1, 6), row("hcall", 3, 5)]);
        let guest = functions(&counts, &image, Selection { from_guest: true, ..Selection::default() });
        assert_eq!(guest, [row("h_enter", 2, 8), row("hcall", 3, 5)]);
        let unknown = Selection { entry: Some(Entry::Call(0x7c)), ..Selection::default() };
        assert_eq!(functions(&counts, &image, unknown), [row("hcall", 1, 1)]);
    }

    #[test]
    fn by_entry() {
        let (counts, _) = some();
        let rows = entries(&counts, Selection::default());
        let names: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.each())).collect();
        assert_eq!(names, [("H_ENTER", Some(6.0)), ("boot", None), ("hypercall 0x7c", Some(1.0))]);
    }

    #[test]
    fn before_and_after_the_first_guest() {
        let (counts, _) = some();
        assert_eq!(Selection::default().outside(&counts).firmware, 1000);
        let guest = Selection { from_guest: true, ..Selection::default() };
        assert_eq!((guest.outside(&counts).firmware, guest.outside(&counts).guests()), (0, 50));
    }

    #[test]
    fn by_row() {
        let (mut counts, _) = some();
        let mut row = counts.sections[0].clone();
        row.row = "h_enter".into();
        row.ways.remove(&Entry::Boot);
        counts.sections.insert(0, row);
        let all = entries(&counts, Selection::default());
        assert_eq!((all[0].name.as_str(), all[0].calls, all[0].instructions), ("H_ENTER", Some(4), 24));
        let only = Selection { row: Some("h_enter"), ..Selection::default() };
        assert_eq!((only.sum(&counts).arrivals, only.outside(&counts).guests()), (3, 50));
    }

    #[test]
    fn as_text() {
        let (counts, image) = some();
        let rows = functions(&counts, &image, Selection::default());
        let text = to_text(&rows, "function", 19, 1);
        assert_eq!(
            text,
            "   instructions   share       calls        each  function\n\
             \x20             8  42.11%           2         4.0  h_enter\n\
             \x20            11  57.89%                          (2 more)\n"
        );
        assert_eq!(grouped_digits(1_234_567), "1,234,567");
        assert_eq!(grouped_digits(123), "123");
    }
}
