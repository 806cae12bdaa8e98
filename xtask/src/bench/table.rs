//! How the benchmark's rows are shown.

use super::Measured;
use super::history::Line;
use std::fmt::Write as _;
use tests::Machine;
use tests::budgets::{Budget, Limit, Unit};

/// A number in groups of three digits.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A value with its unit, for people.
fn shown(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Instructions => grouped(value),
        Unit::Bytes => format!("{} KiB", grouped(value.div_ceil(1024))),
        Unit::PerMille => format!("{}.{:03}", value / 1000, value % 1000),
    }
}

fn optional(unit: Unit, value: Option<u64>) -> String {
    value.map_or_else(|| "-".into(), |value| shown(unit, value))
}

/// How many times the one is the other.
fn ratio(kvm: Option<u64>, ours: u64) -> String {
    kvm.map_or_else(|| "-".into(), |kvm| format!("{:.1}", kvm as f64 / ours.max(1) as f64))
}

fn kvm(budget: &Budget, machine: Machine) -> Option<u64> {
    budget.kvm.map(|values| values[machine as usize])
}

/// The same, of this very guest.
fn again(kvm: &Measured, budget: &Budget, machine: Machine) -> Option<u64> {
    kvm.get(budget.row)?[machine as usize]
}

/// What is to be said of a row.
fn remark(budget: &Budget, value: u64) -> String {
    let over = budget.budget.is_some_and(|most| value > most);
    match (budget.limit, budget.exceeded(value)) {
        (Limit::Budget, Some(_)) => "OVER".into(),
        (_, Some(most)) => format!("OVER its ceiling, {}", shown(budget.unit, most)),
        (Limit::Budget, None) if over => "over, within 2 %".into(),
        (Limit::Ceiling(most, _), None) if over => format!("over; ceiling {}", shown(budget.unit, most)),
        (Limit::Open(_), None) if over => "over; not held".into(),
        _ => String::new(),
    }
}

/// A table for each machine.
pub fn text(
    machines: &[Machine],
    rows: &[&Budget],
    measured: &Measured,
    kvm_hv: &Measured,
    last: Option<&Line>,
) -> String {
    let mut text = String::new();
    for &machine in machines {
        let head = ["row", "operation", "ours", "KVM-HV", "same guest", "ratio", "budget", "was", ""]
            .map(String::from);
        let mut lines = vec![head];
        for budget in rows {
            let Some(value) = measured[budget.row][machine as usize] else { continue };
            let (unit, theirs, same) = (budget.unit, kvm(budget, machine), again(kvm_hv, budget, machine));
            lines.push([
                budget.row.into(),
                budget.operation.into(),
                shown(unit, value),
                optional(unit, theirs),
                optional(unit, same),
                ratio(same.or(theirs), value),
                optional(unit, budget.budget),
                optional(unit, last.and_then(|line| line.value(budget.row, machine))),
                remark(budget, value),
            ]);
        }
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", machine.name());
        aligned(&mut text, &lines);
        text.push('\n');
    }
    text
}

const COLUMNS: usize = 9;
const LAST: usize = COLUMNS - 1;

/// Words on the left, numbers on the right.
fn aligned(text: &mut String, lines: &[[String; COLUMNS]]) {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    for line in lines {
        let mut cells = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 | 1 | LAST => write!(cells, "{cell:<width$}  "),
                _ => write!(cells, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(text, "{}", cells.trim_end());
    }
}

/// One object a line.
pub fn json(rows: &[&Budget], measured: &Measured, kvm_hv: &Measured, last: Option<&Line>) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "null".into(), |value| value.to_string());
    let mut text = String::new();
    for &machine in Machine::ALL {
        for budget in rows {
            let Some(value) = measured[budget.row][machine as usize] else { continue };
            let unit = match budget.unit {
                Unit::Instructions => "instructions",
                Unit::Bytes => "bytes",
                Unit::PerMille => "per mille",
            };
            let _ = writeln!(
                text,
                "{{\"machine\":\"{}\",\"row\":\"{}\",\"unit\":\"{unit}\",\"value\":{value},\"kvm\":{},\"kvm_same_guest\":{},\"budget\":{},\"limit\":{},\"was\":{},\"over\":{}}}",
                machine.name(),
                budget.row,
                number(kvm(budget, machine)),
                number(again(kvm_hv, budget, machine)),
                number(budget.budget),
                number(budget.most()),
                number(last.and_then(|line| line.value(budget.row, machine))),
                budget.exceeded(value).is_some(),
            );
        }
    }
    text
}

/// One table of all machines, with KVM-HV's figures: of the same guest, or else of what the budgets were set by.
pub fn markdown(rows: &[&Budget], measured: &Measured, kvm_hv: &Measured) -> String {
    let mut text =
        String::from("| operation | powernv8 | powernv9 | powernv10 | budget | KVM-HV, powernv8, 9, 10 |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for budget in rows {
        let [eight, nine, ten] = measured[budget.row].map(|value| optional(budget.unit, value));
        let most = optional(budget.unit, budget.budget);
        let theirs = |&machine| again(kvm_hv, budget, machine).or(kvm(budget, machine));
        let theirs = on_each(budget.unit, &Machine::ALL.iter().map(theirs).collect::<Vec<_>>());
        let _ = writeln!(text, "| {} | {eight} | {nine} | {ten} | {most} | {theirs} |", budget.operation);
    }
    text
}

/// What it is on each machine, said once if that is always the same.
fn on_each(unit: Unit, values: &[Option<u64>]) -> String {
    let words: Vec<_> = values.iter().map(|value| optional(unit, *value)).collect();
    let same = words.windows(2).all(|two| two[0] == two[1]);
    match words.first() {
        Some(word) if same && word == "-" => word.clone(),
        Some(word) if same => format!("{word} each"),
        _ => words.join(", "),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const ROW: Budget = Budget {
        row: "h_thing",
        operation: "H_THING",
        case: "bench",
        unit: Unit::Instructions,
        kvm: Some([1000, 4000, 5000]),
        budget: Some(100),
        limit: Limit::Budget,
    };

    fn measured(value: u64) -> Measured {
        Measured::from([("h_thing", [None, Some(value), None])])
    }

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(shown(Unit::Bytes, 4 << 20), "4,096 KiB");
        assert_eq!(shown(Unit::PerMille, 1042), "1.042");
    }

    #[test]
    fn a_table_and_its_remarks() {
        let last = "2026-01-31\tBegin\th_thing=1/2/3".parse().unwrap();
        let kvm = Measured::from([("h_thing", [None, Some(4400), None])]);
        let table = text(&[Machine::PowerNv9], &[&ROW], &measured(80), &kvm, Some(&last));
        assert_eq!(
            table,
            "powernv9\n\
             row      operation  ours  KVM-HV  same guest  ratio  budget  was\n\
             h_thing  H_THING      80   4,000       4,400   55.0     100    2\n\n"
        );
        let of = |limit, value| remark(&Budget { limit, ..ROW }, value);
        assert_eq!(of(Limit::Budget, 100), "");
        assert_eq!(of(Limit::Budget, 102), "over, within 2 %");
        assert_eq!(of(Limit::Budget, 103), "OVER");
        let ceiling = Limit::Ceiling(120, "why");
        assert_eq!(of(ceiling, 110), "over; ceiling 120");
        assert_eq!(of(ceiling, 130), "OVER its ceiling, 120");
        assert_eq!(of(Limit::Open("why"), 130), "over; not held");
    }

    #[test]
    fn for_programs() {
        assert_eq!(
            json(&[&ROW], &measured(103), &Measured::new(), None),
            "{\"machine\":\"powernv9\",\"row\":\"h_thing\",\"unit\":\"instructions\",\"value\":103,\"kvm\":4000,\"kvm_same_guest\":null,\"budget\":100,\
             \"limit\":100,\"was\":null,\"over\":true}\n"
        );
        let table = markdown(&[&ROW], &measured(103), &Measured::new());
        assert!(table.ends_with("| H_THING | - | 103 | - | 100 | 1,000, 4,000, 5,000 |\n"));
        assert_eq!(on_each(Unit::Instructions, &[None, Some(17_424), Some(5)]), "-, 17,424, 5");
        assert_eq!(on_each(Unit::Instructions, &[Some(1_000); 3]), "1,000 each");
        assert_eq!(on_each(Unit::Instructions, &[None; 3]), "-");
    }
}
