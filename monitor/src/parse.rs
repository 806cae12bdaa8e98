//! From a line to a command, or to one line that says what would be right.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::commands::{COMMANDS, Command, Merge, Rights, Spec, Watch};
use crate::nearest::nearest;
use crate::range;

/// The option that every command takes.
pub(crate) const JSON: &str = "--json";

/// The most copies that one command makes.
const MAX_COPIES: u32 = 256;

/// The names that a command can speak of.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The partitions that are defined.
    pub partitions: &'a [String],
    /// The partitions of the packed manifest.
    pub tables: &'a [String],
}

/// A line that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What to do.
    pub command: Command,
    /// `--json` was given: the answer is one JSON object a line.
    pub json: bool,
}

/// Reads a line: a command, or none if it is empty or a comment (`#` at the beginning of a word). The error is one line that says
/// what would be right; print it with [`print_error`](crate::print_error), as JSON if [`wants_json`] says so.
pub fn parse(line: &str, names: &Names<'_>) -> Result<Option<Parsed>, String> {
    let mut words: Vec<&str> = words(line).filter(|&word| word != JSON).collect();
    let json = wants_json(line);
    if words.is_empty() {
        // Only `--json` is no command, and nothing to be silent about.
        return if json { Err("--json belongs to a command: try 'help'".into()) } else { Ok(None) };
    }
    let spec = find(words.remove(0))?;
    if let Some(option) = words.iter().find(|word| is_option(word) && !spec.options.contains(word)) {
        return Err(format!("{} has no option '{option}'; usage: {}", spec.name, spec.usage()));
    }
    let mut args = Args { spec, words, names };
    let command = (spec.read)(&mut args)?;
    match args.words.first() {
        None => Ok(Some(Parsed { command, json })),
        Some(word) => Err(format!("'{word}' is too much; usage: {}", spec.usage())),
    }
}

/// Whether a line asks for an answer in JSON, whatever else is wrong with it.
pub fn wants_json(line: &str) -> bool {
    words(line).any(|word| word == JSON)
}

/// A line's words, up to a comment.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().take_while(|word| !word.starts_with('#'))
}

/// Whether a word is an option. No command takes any other word that begins so.
pub(crate) fn is_option(word: &str) -> bool {
    word.starts_with("--")
}

/// The command of this name, or the only one that begins so.
pub(crate) fn find(word: &str) -> Result<&'static Spec, String> {
    if let Some(spec) = COMMANDS.iter().find(|spec| spec.name == word) {
        return Ok(spec);
    }
    if ["exit", "quit"].contains(&word) {
        let advice = "'console NAME' goes to a partition, Ctrl-] comes back, 'shutdown' ends everything";
        return Err(format!("the monitor has no '{word}': {advice}"));
    }
    let names: Vec<&str> =
        COMMANDS.iter().map(|spec| spec.name).filter(|name| name.starts_with(word)).collect();
    match names[..] {
        [] => Err(match nearest(word, COMMANDS.iter().map(|spec| spec.name)) {
            Some(name) => format!("no command '{word}': do you mean '{name}'?"),
            None => format!("no command '{word}': try 'help'"),
        }),
        [only] => find(only),
        _ => Err(format!("'{word}' can be any of {}", names.join(", "))),
    }
}

/// The arguments of a command that have not been read yet.
pub(crate) struct Args<'a> {
    spec: &'static Spec,
    words: Vec<&'a str>,
    names: &'a Names<'a>,
}

impl<'a> Args<'a> {
    /// The next argument.
    fn optional(&mut self) -> Option<&'a str> {
        (!self.words.is_empty()).then(|| self.words.remove(0))
    }

    /// The next argument, which must be there.
    fn required(&mut self) -> Result<&'a str, String> {
        self.optional().ok_or_else(|| self.usage())
    }

    fn usage(&self) -> String {
        format!("usage: {}", self.spec.usage())
    }

    /// Whether an option without a value is there.
    fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|&word| word != name);
        self.words.len() != before
    }

    /// The value of an option, which can be there once.
    fn option(&mut self, name: &str) -> Result<Option<&'a str>, String> {
        let Some(at) = self.words.iter().position(|&word| word == name) else { return Ok(None) };
        self.words.remove(at);
        if self.words.get(at).is_none_or(|word| is_option(word)) {
            return Err(self.usage());
        }
        let value = self.words.remove(at);
        if self.words.contains(&name) { Err(self.usage()) } else { Ok(Some(value)) }
    }

    /// The whole name of a command, if there is another argument.
    pub(crate) fn command(&mut self) -> Result<Option<String>, String> {
        self.optional().map(|word| Ok(find(word)?.name.into())).transpose()
    }

    pub(crate) fn partition(&mut self) -> Result<String, String> {
        let word = self.required()?;
        known("partition", word, self.names.partitions)
    }

    pub(crate) fn optional_partition(&mut self) -> Result<Option<String>, String> {
        if self.words.is_empty() { Ok(None) } else { self.partition().map(Some) }
    }

    pub(crate) fn define(&mut self) -> Result<Command, String> {
        let word = self.required()?;
        let table = known("table", word, self.names.tables)?;
        let name = self.optional();
        match name {
            None if self.taken(&table) => Err(format!(
                "there is a partition '{table}' already: give another name, as in 'define {table} NAME'"
            )),
            Some(name) => Ok(Command::Define { table, name: Some(self.fresh(name)?) }),
            None => Ok(Command::Define { table, name: None }),
        }
    }

    fn taken(&self, name: &str) -> bool {
        self.names.partitions.iter().any(|other| other == name)
    }

    /// A name for a new partition.
    fn fresh(&self, name: &str) -> Result<String, String> {
        if self.taken(name) {
            return Err(format!("there is a partition '{name}' already"));
        }
        if !is_name(name) {
            return Err(format!(
                "'{name}' is no name: use 1 to 32 letters, digits, '-', '_' and '.', not 'monitor'"
            ));
        }
        Ok(name.into())
    }

    pub(crate) fn clones(&mut self) -> Result<Command, String> {
        let name = self.partition()?;
        let new = self.required()?;
        let copies = match self.optional() {
            None => [self.fresh(new)?].into(),
            Some(word) => {
                let count: u32 = number(word, "how many copies")?;
                if !(1..=MAX_COPIES).contains(&count) {
                    return Err(format!("{count} is not how many copies: expected 1 to {MAX_COPIES}"));
                }
                (1..=count).map(|n| self.fresh(&format!("{new}-{n}"))).collect::<Result<_, _>>()?
            }
        };
        Ok(Command::Clone { name, copies })
    }

    pub(crate) fn console(&mut self) -> Result<Command, String> {
        let name = self.partition()?;
        let second = match self.optional() {
            None => false,
            Some("2") => true,
            Some(word) => return Err(format!("'{word}' is not '2'")),
        };
        Ok(Command::Console { name, second })
    }

    pub(crate) fn balloon(&mut self) -> Result<Command, String> {
        let name = self.partition()?;
        let size = |word| {
            range::size(word).ok_or_else(|| {
                format!("'{word}' is not a size: expected a number with K, M or G, as in 256M")
            })
        };
        let bytes = self.optional().map(size).transpose()?;
        Ok(Command::Balloon { name, bytes })
    }

    pub(crate) fn merge(&mut self) -> Result<Command, String> {
        let order = match self.optional() {
            None => None,
            Some("on") => Some(Merge::On),
            Some("off") => Some(Merge::Off),
            Some("now") => Some(Merge::Now),
            Some(word) => return Err(format!("'{word}' is none of 'on', 'off' and 'now'")),
        };
        Ok(Command::Merge(order))
    }

    pub(crate) fn dirty(&mut self) -> Result<Command, String> {
        let name = self.partition()?;
        let reset = match self.optional() {
            None => false,
            Some("reset") => true,
            Some(word) => return Err(format!("'{word}' is not 'reset'")),
        };
        Ok(Command::Dirty { name, reset })
    }

    pub(crate) fn watch(&mut self) -> Result<Command, String> {
        let name = self.partition()?;
        let order = match self.optional() {
            None => None,
            Some("off") => Some(Watch::Off),
            Some(word) => {
                let (start, bytes) = range::parse(word)?;
                let rights = match self.required()? {
                    "none" => Rights::None,
                    "ro" => Rights::ReadOnly,
                    "rw" => Rights::ReadWrite,
                    word => return Err(format!("'{word}' is none of 'none', 'ro' and 'rw'")),
                };
                Some(Watch::Range { start, bytes, rights })
            }
        };
        Ok(Command::Watch { name, order })
    }

    pub(crate) fn hpt(&mut self) -> Result<Command, String> {
        let vcpu = self.option("--vcpu")?.map(|word| number(word, "the number of a vCPU")).transpose()?;
        let name = self.partition()?;
        let ea = self.optional().map(address).transpose()?;
        Ok(Command::Hpt { name, ea, vcpu })
    }

    pub(crate) fn trace(&mut self) -> Result<Command, String> {
        let raw = self.flag("--raw");
        if self.words.first() == Some(&"dump") {
            self.words.remove(0);
            let last = self.optional().map(|word| number(word, "how many events")).transpose()?;
            return Ok(Command::TraceDump { raw, last });
        }
        if raw {
            return Err(self.usage());
        }
        let name = self.partition()?;
        let on = match self.optional() {
            None => None,
            Some("on") => Some(true),
            Some("off") => Some(false),
            Some(word) => return Err(format!("'{word}' is neither 'on' nor 'off'")),
        };
        Ok(Command::Trace { name, on })
    }
}

/// A name that is in a list.
fn known(kind: &str, word: &str, names: &[String]) -> Result<String, String> {
    if names.iter().any(|name| name == word) {
        return Ok(word.into());
    }
    let list = if names.is_empty() { "none".into() } else { names.join(", ") };
    Err(match nearest(word, names.iter().map(String::as_str)) {
        Some(name) => format!("no {kind} '{word}': do you mean '{name}'? There is {list}"),
        None => format!("no {kind} '{word}': there is {list}"),
    })
}

/// Whether a partition can be called so: the manifest's rule.
fn is_name(word: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=32).contains(&word.len()) && word.chars().all(fine) && word != "monitor"
}

/// A decimal number.
fn number<T: core::str::FromStr>(word: &str, what: &str) -> Result<T, String> {
    word.parse()
        .ok()
        .filter(|_| !word.starts_with('+'))
        .ok_or_else(|| format!("'{word}' is not {what}: expected a decimal number"))
}

/// A 64-bit address in hexadecimal.
fn address(word: &str) -> Result<u64, String> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')).ok_or_else(|| {
        format!("'{word}' is not an address: expected up to 16 hexadecimal digits, with or without 0x")
    })
}
