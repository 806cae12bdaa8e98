//! The words that could stand at the end of a line.

use alloc::string::String;
use alloc::vec::Vec;

use crate::commands::{COMMANDS, Word};
use crate::parse::{JSON, Names, find, is_option, words};

/// The words that could stand at the end of `line`, which is a line up to the cursor: whole words that begin with what is
/// there of the last one. Options only if it begins with `--`.
pub fn completions(line: &str, names: &Names<'_>) -> Vec<String> {
    let mut before: Vec<&str> = words(line).collect();
    if before.len() != line.split_whitespace().count() {
        return Vec::new(); // in a comment
    }
    let open = !line.is_empty() && !line.ends_with(char::is_whitespace);
    let word = if open { before.pop().unwrap_or("") } else { "" };

    let mut candidates: Vec<&str> = Vec::new();
    if is_option(word) {
        let command = before.iter().find(|word| !is_option(word));
        let options = command.and_then(|command| find(command).ok()).map_or(&[][..], |spec| spec.options);
        candidates.extend(options.iter().chain([&JSON]).filter(|option| !before.contains(option)));
    } else {
        match place(&before) {
            Word::Command => candidates.extend(COMMANDS.iter().map(|spec| spec.name)),
            Word::Partition => candidates.extend(names.partitions.iter().map(String::as_str)),
            Word::PartitionOrDump => {
                candidates.push("dump");
                candidates.extend(names.partitions.iter().map(String::as_str));
            }
            Word::Table => candidates.extend(names.tables.iter().map(String::as_str)),
            Word::OneOf(words) => candidates.extend(words),
            Word::Other => {}
        }
    }
    candidates.retain(|candidate| candidate.starts_with(word));
    candidates.into_iter().map(Into::into).collect()
}

/// What the word after these may be, if it is no option.
fn place(before: &[&str]) -> Word {
    if before.last() == Some(&"--vcpu") {
        return Word::Other;
    }
    let mut arguments = Vec::new();
    let mut rest = before.iter();
    while let Some(word) = rest.next() {
        if *word == "--vcpu" {
            rest.next(); // its value
        } else if !is_option(word) {
            arguments.push(*word);
        }
    }
    let Some((command, arguments)) = arguments.split_first() else { return Word::Command };
    let words = find(command).map_or(&[][..], |spec| spec.words);
    if words.first() == Some(&Word::PartitionOrDump) && arguments.first() == Some(&"dump") {
        return Word::Other;
    }
    if matches!(arguments, [_, .., "off"]) {
        return Word::Other; // nothing follows that
    }
    words.get(arguments.len()).copied().unwrap_or(Word::Other)
}
