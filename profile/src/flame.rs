//! The tree of calls as folded stacks, and as a picture.

use crate::counts::{Counts, Frame, Phase};
use crate::image::Image;
use crate::table::grouped_digits;
use std::fmt::Write as _;

impl Frame {
    /// Its name on a stack.
    fn name(self, image: &Image) -> String {
        match self {
            Frame::Root(Phase::Boot) => "before the first guest".into(),
            Frame::Root(Phase::Guests) => "from the first guest on".into(),
            // A semicolon separates frames.
            Frame::Function(function) => image.function_name(function).replace(';', ","),
            Frame::Firmware => "firmware".into(),
            Frame::Guest => "guest".into(),
            Frame::Entry(entry) => entry.to_string(),
        }
    }
}

/// Folded stacks, one a line: frames from the bottom, separated by semicolons, and the instructions executed there. Many
/// tools read this.
pub fn folded(counts: &Counts, image: &Image, from_guest: bool) -> String {
    let mut paths: Vec<String> = Vec::with_capacity(counts.nodes.len());
    let mut out = String::new();
    for (number, node) in (0..).zip(&counts.nodes) {
        let name = node.frame.name(image);
        let path = match number {
            0 | 1 => name,
            _ => format!("{};{name}", paths[node.parent as usize]),
        };
        if node.own != 0 && !(from_guest && counts.phase(number) == Phase::Boot) {
            // Writing to a String does not fail.
            let _ = writeln!(out, "{path} {}", node.own);
        }
        paths.push(path);
    }
    out
}

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const HEIGHT: f64 = 17.0;
/// What is narrower is not drawn.
const NARROW: f64 = 0.4;
/// The width of a letter.
const LETTER: f64 = 6.6;

/// What the colours mean.
const LEGEND: [(&str, &str); 8] = [
    (FIRMWARE, "firmware"),
    (GUEST, "guest"),
    (INTERRUPT, "interrupt"),
    (ASSEMBLY, "assembly, C ABI"),
    (REALMODE, "realmode"),
    (KERNEL, "kernel"),
    (LOGIC, "other crates"),
    (LIBRARY, "core library"),
];
const FIRMWARE: &str = "#b9b9b9";
const GUEST: &str = "#9fc5e8";
const INTERRUPT: &str = "#b6d7a8";
const ASSEMBLY: &str = "#f4cccc";
const REALMODE: &str = "#f9cb9c";
const KERNEL: &str = "#f6b26b";
const LOGIC: &str = "#ea9999";
const LIBRARY: &str = "#ffe599";

/// A flame graph of what the hypervisor did, and of what firmware did for it. What guests did is left out, for it is not
/// the hypervisor's to change, and so is firmware before the hypervisor. Callers are below, and a frame is as wide as the
/// instructions in it and its callees are many; from left to right is the order of the first call.
pub fn svg(counts: &Counts, image: &Image, from_guest: bool, [title, below]: [&str; 2]) -> String {
    let picture = Picture::new(counts, image, from_guest);
    let depth = picture.depth();
    let height = HEIGHT * (depth as f64 + 1.0) + 84.0;
    let (middle, title, below) = (WIDTH / 2.0, escape(title), escape(below));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fffdf8\"/>\n\
         <text x=\"{middle}\" y=\"22\" font-size=\"15\" text-anchor=\"middle\">{title}</text>\n\
         <text x=\"{middle}\" y=\"40\" text-anchor=\"middle\">{below}</text>\n"
    );
    for (place, (colour, name)) in LEGEND.into_iter().enumerate() {
        let left = middle + 110.0 * (place as f64 - LEGEND.len() as f64 / 2.0);
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "<rect x=\"{left}\" y=\"50\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"59\">{name}</text>",
            left + 14.0
        );
    }
    let mut left = MARGIN;
    for root in 0..2 {
        left = picture.draw(&mut out, root, left, 0, height - 10.0 - HEIGHT);
    }
    out.push_str("</svg>\n");
    out
}

struct Picture<'a> {
    counts: &'a Counts,
    image: &'a Image,
    children: Vec<Vec<u32>>,
    /// Instructions of each node and of those above it.
    all: Vec<u64>,
    scale: f64,
}

impl<'a> Picture<'a> {
    fn new(counts: &'a Counts, image: &'a Image, from_guest: bool) -> Self {
        let mut children = vec![Vec::new(); counts.nodes.len()];
        let shown = |number: usize| {
            let node = counts.nodes[number];
            let before = node.frame == Frame::Firmware && node.parent < 2;
            let boot = from_guest && counts.phase(number as u32) == Phase::Boot;
            if node.frame == Frame::Guest || before || boot { 0 } else { node.own }
        };
        let mut all: Vec<u64> = (0..counts.nodes.len()).map(shown).collect();
        // Parents come before children.
        for number in (2..counts.nodes.len()).rev() {
            let parent = counts.nodes[number].parent as usize;
            all[parent] += all[number];
            children[parent].push(number as u32);
        }
        children.iter_mut().for_each(|list| list.reverse());
        let scale = (WIDTH - 2.0 * MARGIN) / ((all[0] + all[1]).max(1)) as f64;
        Self { counts, image, children, all, scale }
    }

    fn width(&self, node: u32) -> f64 {
        self.all[node as usize] as f64 * self.scale
    }

    /// How high the highest stack is, of those that are drawn.
    fn depth(&self) -> usize {
        fn of(picture: &Picture<'_>, node: u32) -> usize {
            if picture.width(node) < NARROW {
                return 0;
            }
            1 + picture.children[node as usize].iter().map(|&child| of(picture, child)).max().unwrap_or(0)
        }
        of(self, 0).max(of(self, 1))
    }

    /// Draws a node and what is above it. Gives where it ends.
    fn draw(&self, out: &mut String, node: u32, left: f64, level: usize, bottom: f64) -> f64 {
        let width = self.width(node);
        if width < NARROW {
            return left + width;
        }
        let name = self.counts.nodes[node as usize].frame.name(self.image);
        let y = bottom - HEIGHT * level as f64;
        let whole = self.all[0] + self.all[1];
        let instructions = self.all[node as usize];
        let _ = write!(
            out,
            "<g><title>{}: {} instructions, {:.2}%</title><rect x=\"{left:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\" rx=\"1\"/>",
            escape(&name),
            grouped_digits(instructions),
            100.0 * instructions as f64 / whole as f64,
            (width - 0.3).max(0.1),
            HEIGHT - 1.0,
            self.colour(node),
        );
        let letters = ((width - 4.0) / LETTER) as usize;
        if letters >= 3 {
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                left + 2.0,
                y + 12.0,
                escape(&fit(&simple(&name), letters))
            );
        }
        out.push_str("</g>\n");
        let mut next = left;
        for &child in &self.children[node as usize] {
            next = self.draw(out, child, next, level + 1, bottom);
        }
        left + width
    }

    /// By what it is; a function by its crate.
    fn colour(&self, node: u32) -> &'static str {
        match self.counts.nodes[node as usize].frame {
            Frame::Root(_) => "#d9d4c7",
            Frame::Firmware => FIRMWARE,
            Frame::Guest => GUEST,
            Frame::Entry(_) => INTERRUPT,
            Frame::Function(function) => match simple(self.image.function_name(function)).split_once("::") {
                None => ASSEMBLY,
                Some(("kernel", _)) => KERNEL,
                Some(("realmode", _)) => REALMODE,
                Some(("core" | "alloc" | "compiler_builtins", _)) => LIBRARY,
                Some(_) => LOGIC,
            },
        }
    }
}

/// A name without types in angle brackets, but for the one that a method belongs to: `a::B::f` of `<a::B<C> as D>::f::<E>`.
fn simple(name: &str) -> String {
    // Two functions of one name have their addresses behind it.
    let name = name.split(" at ").next().unwrap_or(name);
    let mut depth = 0;
    let (mut own, mut out, mut previous) = (name.starts_with('<'), String::new(), ' ');
    for (at, char) in name.char_indices() {
        match char {
            '<' => {
                if depth == 0 && out.ends_with("::") {
                    out.truncate(out.len() - 2);
                }
                depth += 1;
            }
            // Not an arrow.
            '>' if previous != '-' => {
                depth -= 1;
                own &= depth != 0;
            }
            // What a trait's method belongs to stands before the trait.
            ' ' if own && depth == 1 && name[at..].starts_with(" as ") => own = false,
            char if depth == i32::from(own) => out.push(char),
            _ => {}
        }
        previous = char;
    }
    out
}

/// As much of a name as there is room for; the end says more than the beginning.
fn fit(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    let mut parts: Vec<&str> = name.split("::").collect();
    while parts.len() > 1 {
        parts.remove(0);
        let short = parts.join("::");
        if short.chars().count() <= letters {
            return short;
        }
    }
    let last = parts.first().copied().unwrap_or(name);
    let cut: String = last.chars().take(letters.saturating_sub(1)).collect();
    format!("{cut}…")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::{Entry, Node};

    fn some() -> (Counts, Image) {
        let image = Image::of(&[0; 3], &[("boot", 0), ("kernel::run::stay", 1), ("hcall", 2)]);
        let mut counts = Counts::default();
        for (parent, frame, own) in [
            (0, Frame::Firmware, 5000),
            (0, Frame::Function(0), 100),
            (1, Frame::Function(1), 60),
            (4, Frame::Guest, 9000),
            (5, Frame::Entry(Entry::Call(8)), 0),
            (6, Frame::Function(2), 40),
        ] {
            counts.nodes.push(Node { parent, frame, own });
        }
        (counts, image)
    }

    #[test]
    fn stacks_fold() {
        let (counts, image) = some();
        assert_eq!(
            folded(&counts, &image, false),
            "before the first guest;firmware 5000\n\
             before the first guest;boot 100\n\
             from the first guest on;kernel::run::stay 60\n\
             from the first guest on;kernel::run::stay;guest 9000\n\
             from the first guest on;kernel::run::stay;guest;H_ENTER;hcall 40\n"
        );
        assert!(folded(&counts, &image, true).starts_with("from the first guest on;kernel"));
    }

    #[test]
    fn widths_are_the_hypervisors_instructions() {
        let (counts, image) = some();
        let picture = svg(&counts, &image, false, ["a <title>", "b"]);
        assert!(picture.contains("a &lt;title&gt;"));
        assert!(picture.contains("<title>boot: 100 instructions, 50.00%</title>"));
        assert!(picture.contains("<title>kernel::run::stay: 100 instructions, 50.00%</title>"));
        assert!(picture.contains("<title>guest: 40 instructions, 20.00%</title>"), "its own are not counted");
        assert!(
            picture.contains("<title>hcall: 40 instructions, 20.00%</title><rect x=\"600.0\""),
            "{picture}"
        );
        assert!(!picture.contains("<title>firmware"));
        let guests = svg(&counts, &image, true, ["t", ""]);
        assert!(guests.contains("<title>hcall: 40 instructions, 40.00%</title>"));
    }

    #[test]
    fn names_without_types() {
        for (name, plain) in [
            ("hcall", "hcall"),
            ("a::handler at c0000000000da050", "a::handler"),
            ("<kernel::run::Cpu>::visits", "kernel::run::Cpu::visits"),
            (
                "<hpt::mmu::GuestMmu>::enter::<realmode::machine::Hardware<65536>>",
                "hpt::mmu::GuestMmu::enter",
            ),
            ("<kernel::Log<A> as core::fmt::Write>::write_str", "kernel::Log::write_str"),
            ("a::each::<fn(u8) -> u8>::{closure#0}", "a::each::{closure#0}"),
        ] {
            assert_eq!(simple(name), plain);
        }
    }

    #[test]
    fn long_names_are_cut_where_it_hurts_least() {
        assert_eq!(fit("kernel::run::stay", 20), "kernel::run::stay");
        assert_eq!(fit("kernel::run::stay", 10), "run::stay");
        assert_eq!(fit("kernel::run::stay", 4), "stay");
        assert_eq!(fit("kernel::run::stay", 3), "st…");
    }
}
