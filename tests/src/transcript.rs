//! What came out of a console, and the judges that read it.

/// One `@ check` record of a guest program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// `ok`, or what was wrong.
    pub outcome: Result<(), String>,
}

/// The console output of one run.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    /// The text, as it came, with carriage returns removed and anything that is not UTF-8 replaced.
    pub text: String,
    /// QEMU ended by itself, before the timeout.
    pub ended: bool,
}

impl Transcript {
    /// From a console's raw bytes.
    pub fn new(bytes: &[u8], ended: bool) -> Transcript {
        Transcript { text: String::from_utf8_lossy(bytes).replace('\r', ""), ended }
    }

    /// The records after a word: `records("note")` gives what follows each `@ note `. A record starts its line, but
    /// for the prefix that the hypervisor may put before a partition's lines.
    pub fn records<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(move |line| {
            let at = line.find("@ ")?;
            line[at + 2..].strip_prefix(kind)?.strip_prefix(' ').map(str::trim_end)
        })
    }

    /// All checks, in order. The hypervisor may have said something in the middle of one: then it goes on after that.
    pub fn checks(&self) -> Vec<Check> {
        const CHECK: &str = "@ check ";
        const OK: &str = "ok";
        let mut lines = self.text.lines();
        let mut checks = Vec::new();
        while let Some(line) = lines.next() {
            let Some(at) = line.find(CHECK) else { continue };
            let mut record = line[at + CHECK.len()..].to_owned();
            let outcome = record.split_once(' ').map(|(_, outcome)| outcome.trim_end());
            if outcome.is_none_or(|outcome| outcome != OK && OK.starts_with(outcome)) {
                record.extend(lines.by_ref().find(|line| !line.starts_with('[')));
            }
            let (name, rest) = record.trim_end().split_once(' ').unwrap_or((&record, "no outcome"));
            let outcome = if rest == OK { Ok(()) } else { Err(rest.to_owned()) };
            checks.push(Check { name: name.to_owned(), outcome });
        }
        checks
    }

    /// The outcome of the check with this name; the last one, if it ran more than once.
    pub fn check(&self, name: &str) -> Option<Result<(), String>> {
        self.checks().into_iter().rev().find(|c| c.name == name).map(|c| c.outcome)
    }

    /// `(name, instructions)` of each `@ bench NAME N loop M` record.
    pub fn bench(&self) -> Vec<(String, u64)> {
        self.records("bench")
            .filter_map(|r| {
                let (name, rest) = r.split_once(' ')?;
                let (n, length) = rest.split_once(" loop ")?;
                length.parse::<u64>().ok()?;
                Some((name.to_owned(), n.parse().ok()?))
            })
            .collect()
    }

    /// Of the program `counted`: how many calls it made, what each cost in instructions, and how many of these are its own.
    pub fn counted(&self) -> Option<[u64; 3]> {
        let mut numbers = self.records("counted").last()?.split(' ').map(|number| number.parse().ok());
        Some([numbers.next()??, numbers.next()??, numbers.next()??])
    }

    /// How often the hypervisor says that it was entered in virtual mode: `N exits: …` when the partition ends.
    pub fn exits(&self) -> Option<u64> {
        let (before, _) = self.text.split_once(" exits: ")?;
        before.rsplit(' ').next()?.parse().ok()
    }

    /// What the hypervisor said last: the number and the reason of `partita: exit N: reason`.
    pub fn exit(&self) -> Option<(u32, &str)> {
        self.text.lines().rev().find_map(|line| {
            let rest = &line[line.find("partita: exit ")? + "partita: exit ".len()..];
            let (number, reason) = rest.split_once(':')?;
            Some((number.trim().parse().ok()?, reason.trim()))
        })
    }

    /// How often a text occurs.
    pub fn count(&self, needle: &str) -> usize {
        self.text.matches(needle).count()
    }

    /// Is the text in it?
    pub fn contains(&self, needle: &str) -> bool {
        self.text.contains(needle)
    }
}

/// Fails if a check did: one line for each.
pub fn none_failed(t: &Transcript) -> Result<(), String> {
    let failed = t.checks().into_iter().filter_map(|c| Some(format!("{}: {}", c.name, c.outcome.err()?)));
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// The judge of most guest programs: they ran to their end, every check is `ok`, and their own count of checks is
/// the number that arrived.
pub fn all_checks_pass(t: &Transcript) -> Result<(), String> {
    none_failed(t)?;
    let checks = t.checks();
    let Some(done) = t.records("done").last() else {
        return Err(match checks.last() {
            Some(last) => {
                format!("no end: stopped after {} checks, the last one was {}", checks.len(), last.name)
            }
            None => "silence: not one check".to_owned(),
        });
    };
    if checks.is_empty() || done != format!("passed={} failed=0", checks.len()) {
        return Err(format!("{} checks arrived, but the guest says {done}", checks.len()));
    }
    Ok(())
}

/// A judge for runs that only have to end with their status.
pub fn any(_: &Transcript) -> Result<(), String> {
    Ok(())
}

/// Fails unless each text occurs, in this order.
pub fn in_order(t: &Transcript, wanted: &[&str]) -> Result<(), String> {
    let mut rest = t.text.as_str();
    for want in wanted {
        match rest.find(want) {
            Some(at) => rest = &rest[at + want.len()..],
            None => return Err(format!("{want:?} is missing or out of order")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Transcript {
        Transcript::new(text.as_bytes(), true)
    }

    #[test]
    fn a_check_that_was_interrupted_goes_on() {
        let text = b"@ check a-\n[  0.1] two: something\nb ok\n@ check c \n[  0.2] x\nok\n\
            @ check o o\n[  0.3] x\nk\n@ check no fail o\n@ check d\n[  0.4] y\n";
        let checks = Transcript::new(text, true).checks();
        let check = |name: &str, outcome| Check { name: name.into(), outcome };
        let none = Err("no outcome".to_string());
        let good = ["a-b", "c", "o"].map(|name| check(name, Ok(())));
        let bad = [check("no", Err("fail o".to_string())), check("d", none)];
        assert_eq!(checks, [&good[..], &bad].concat());
    }

    #[test]
    fn reads_records() {
        let t = t(
            "SLOF\r\n@ check a ok\r\n[p1] @ check b fail got=1 want=2\r\n@ bench h_read 95 loop 6\npartita: exit 3: it fell\n",
        );
        assert_eq!(t.check("a"), Some(Ok(())));
        assert_eq!(t.check("b"), Some(Err("fail got=1 want=2".into())));
        assert_eq!(t.bench(), [("h_read".to_owned(), 95)]);
        assert_eq!(t.exit(), Some((3, "it fell")));
    }

    #[test]
    fn reads_what_a_profile_is_compared_with() {
        let t = t("@ counted 3000 97 5\n[ 0.02] guest ran for 12 us; 136 exits: 31 hypercalls\n");
        assert_eq!((t.counted(), t.exits()), (Some([3000, 97, 5]), Some(136)));
        let cut = Transcript::new(b"@ counted 3000 97\nno exits\n", true);
        assert_eq!((cut.counted(), cut.exits()), (None, None));
    }

    #[test]
    fn silence_and_loss_are_failures() {
        assert!(all_checks_pass(&t("")).unwrap_err().contains("silence"));
        assert!(all_checks_pass(&t("@ check a ok\n")).unwrap_err().contains("no end"));
        assert!(all_checks_pass(&t("@ check a ok\n@ done passed=2 failed=0\n")).is_err());
        assert!(all_checks_pass(&t("@ done passed=0 failed=0\n")).is_err());
        assert!(all_checks_pass(&t("@ check a ok\n@ done passed=1 failed=0\n")).is_ok());
        assert!(
            all_checks_pass(&t("@ check a fail x\n@ done passed=0 failed=1\n"))
                .unwrap_err()
                .contains("a: fail")
        );
    }

    #[test]
    fn order_matters() {
        assert!(in_order(&t("a b c"), &["a", "c"]).is_ok());
        assert!(in_order(&t("a b c"), &["c", "a"]).is_err());
    }
}
