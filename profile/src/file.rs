//! The text file that carries [`Counts`] from QEMU to `cargo xtask profile`: a word and its values on each line.

use crate::counts::{Counts, Entry, Frame, Node, Outside, Phase, Section};
use std::fmt::{self, Write as _};
use std::str::FromStr;

const HEAD: &str = "partita-profile 2";

impl Counts {
    /// Writes the file.
    pub fn to_text(&self) -> String {
        let mut out = format!("{HEAD}\n");
        // Writing to a String does not fail.
        for section in &self.sections {
            let _ = writeln!(out, "section {}", section.row);
            for (phase, outside) in section.outside.iter().enumerate() {
                let Outside { firmware, privileged, problem, faulted } = outside;
                let _ = writeln!(out, "outside {phase} {firmware} {privileged} {problem} {faulted}");
            }
            for (entry, way) in &section.ways {
                let _ = writeln!(out, "entry {} {}", Key(*entry), way.arrivals);
                for (at, count) in &way.executed {
                    let _ = writeln!(out, "count {at} {count}");
                }
                for (function, calls) in &way.calls {
                    let before = way.before.get(function).copied().unwrap_or(0);
                    let _ = writeln!(out, "calls {function} {calls} {before}");
                }
            }
        }
        for node in &self.nodes {
            let frame = match node.frame {
                Frame::Root(_) => "root".into(),
                Frame::Function(function) => function.to_string(),
                Frame::Firmware => "firmware".into(),
                Frame::Guest => "guest".into(),
                Frame::Entry(entry) => Key(entry).to_string(),
            };
            let _ = writeln!(out, "node {} {frame} {}", node.parent, node.own);
        }
        for (at, text) in &self.text {
            let _ = writeln!(out, "text {at} {text}");
        }
        out.push_str("end\n");
        out
    }

    /// Reads it; the error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(head, _)| head != HEAD) {
            return Err("line 1: not a profile".into());
        }
        let mut counts = Self { sections: Vec::new(), nodes: Vec::new(), ..Self::default() };
        let (mut entry, mut ended) = (None, false);
        for (line, number) in lines {
            let mut read = |line: &str| -> Option<()> {
                let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
                let mut fields = rest.split(' ');
                match word {
                    "section" => {
                        counts.sections.push(Section { row: rest.to_owned(), ..Section::default() });
                        entry = None;
                    }
                    "outside" => {
                        let phase: usize = fields.next()?.parse().ok()?;
                        let mut next = || fields.next()?.parse().ok();
                        let (firmware, privileged, problem, faulted) = (next()?, next()?, next()?, next()?);
                        *counts.sections.last_mut()?.outside.get_mut(phase)? =
                            Outside { firmware, privileged, problem, faulted };
                    }
                    "entry" => {
                        let key = fields.next()?.parse::<Key>().ok()?.0;
                        let arrivals = fields.next()?.parse().ok()?;
                        counts.sections.last_mut()?.ways.entry(key).or_default().arrivals = arrivals;
                        entry = Some(key);
                    }
                    "count" | "calls" => {
                        let (what, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
                        let way = counts.sections.last_mut()?.ways.get_mut(&entry?)?;
                        if word == "calls" {
                            way.enter(what, count, fields.next()?.parse().ok()?);
                        } else {
                            way.executed.insert(what, count);
                        }
                    }
                    "node" => {
                        let parent = fields.next()?.parse().ok()?;
                        let frame = match (fields.next()?, counts.nodes.len()) {
                            ("root", 0) => Frame::Root(Phase::Boot),
                            ("root", 1) => Frame::Root(Phase::Guests),
                            ("firmware", _) => Frame::Firmware,
                            ("guest", _) => Frame::Guest,
                            (text, _) => match text.parse::<Key>() {
                                Ok(Key(entry)) => Frame::Entry(entry),
                                Err(()) => Frame::Function(text.parse().ok()?),
                            },
                        };
                        let limit = counts.nodes.len().max(2);
                        counts.nodes.push(Node { parent, frame, own: fields.next()?.parse().ok()? });
                        ((parent as usize) < limit).then_some(())?;
                    }
                    "text" => {
                        let (at, text) = rest.split_once(' ')?;
                        counts.text.insert(at.parse().ok()?, text.to_owned());
                    }
                    "end" => ended = true,
                    _ => return None,
                }
                Some(())
            };
            read(line).ok_or_else(|| format!("line {number}: cannot be read: {line}"))?;
        }
        if !ended || counts.nodes.len() < 2 {
            return Err("it is not complete".into());
        }
        Ok(counts)
    }
}

/// An entry as the file has it.
struct Key(Entry);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Entry::Boot => f.write_str("boot"),
            Entry::Other => f.write_str("other"),
            Entry::Call(number) => write!(f, "call:{number:x}"),
            Entry::Interrupt(vector) => write!(f, "interrupt:{vector:x}"),
        }
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "boot" => return Ok(Key(Entry::Boot)),
            "other" => return Ok(Key(Entry::Other)),
            _ => {}
        }
        let (kind, number) = text.split_once(':').ok_or(())?;
        let number = u64::from_str_radix(number, 16).map_err(drop)?;
        match kind {
            "call" => Ok(Key(Entry::Call(number))),
            "interrupt" => Ok(Key(Entry::Interrupt(number.try_into().map_err(drop)?))),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Counts;
    use crate::counts::tests::some;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Counts::parse(&some().to_text()).unwrap(), some());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let text = some().to_text();
        assert_eq!(Counts::parse("hello\n").unwrap_err(), "line 1: not a profile");
        let cut = text.strip_suffix("end\n").unwrap();
        assert_eq!(Counts::parse(cut).unwrap_err(), "it is not complete");
        let wrong = text.replace("node 3 7", "node 9 7");
        assert_eq!(Counts::parse(&wrong).unwrap_err(), "line 13: cannot be read: node 9 7 6");
        assert!(Counts::parse(&text.replace("count 5", "count x")).is_err());
    }
}
