//! What somebody may have meant.

use alloc::vec::Vec;

/// The candidate nearest to a word, if one is near enough to be meant: about one slip for three letters.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .filter_map(|candidate| {
            let longer = word.chars().count().max(candidate.chars().count());
            let distance = distance(word, candidate);
            (distance <= (longer + 1) / 3).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, deleted, replaced or exchanged with their neighbour to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Three rows of the table of distances between the beginnings of both words.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i);
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = core::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slips() {
        for (a, b, slips) in [
            ("", "", 0),
            ("", "abc", 3),
            ("list", "list", 0),
            ("lst", "list", 1),
            ("lisst", "list", 1),
            ("lost", "list", 1),
            ("lsit", "list", 1),
            ("shutdwon", "shutdown", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
            assert_eq!(distance(b, a), slips, "{b} {a}");
        }
    }

    #[test]
    fn finds_the_nearest_if_near() {
        let words = || ["list", "log", "console", "a"].into_iter();
        assert_eq!(nearest("lst", words()), Some("list"));
        assert_eq!(nearest("lo", words()), Some("log"));
        assert_eq!(nearest("cnosoel", words()), Some("console"));
        assert_eq!(nearest("virsh", words()), None);
        assert_eq!(nearest("x", words()), None, "one letter is not a slip of another");
        assert_eq!(nearest("", words()), None);
    }
}
