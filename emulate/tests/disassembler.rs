//! The table against an independent disassembler, binutils': every row is the instruction that it is there, on the generations that it is
//! there, with the same registers and the same offset; and of what is a load or a store there, nothing is missing here.
//!
//! Without `powerpc64le-linux-gnu-objdump` there is nothing to compare with; where $PARTITA_TOOLS is set, that is a failure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

use emulate::{Instruction, Offset, Operation, Row, decode, decode_prefixed, is_prefix, rows};
use power::Generation::{self, Power8, Power9, Power10};

const OBJDUMP: &str = "powerpc64le-linux-gnu-objdump";
const NOP: u32 = 0x6000_0000;

/// What binutils leave out from POWER7 on, though its processors have it.
const UNKNOWN: [&str; 4] = ["lfdp", "lfdpx", "stfdp", "stfdpx"];

/// What loads or stores, but is not for the table: other processors', the hypervisor's, what only makes a mask of an address, and what is mentioned in the
/// crate's own words.
const ELSEWHERE: [&str; 22] = [
    "dcbi", "lbzcix", "lhzcix", "lwzcix", "ldcix", "stbcix", "sthcix", "stwcix", "stdcix", "lvsl", "lvsr",
    "li", "lis", "lxvkq", "stop", "lnia", "lxvrl", "lxvrll", "lxvprl", "lxvprll", "stxvrl", "stxvprl",
];

/// The disassembler's text for each word or pair of words; nothing for what it does not know.
fn disassemble(generation: Generation, pairs: &[(u32, u32)]) -> Option<Vec<String>> {
    let name = format!("emulate-{}-{generation:?}.bin", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = std::fs::File::create(&path).expect("a file");
    let bytes: Vec<u8> =
        pairs.iter().flat_map(|(a, b)| [a.to_be_bytes(), b.to_be_bytes()].concat()).collect();
    file.write_all(&bytes).expect("its contents");
    drop(file);
    let machine = match generation {
        Power8 => "power8",
        Power9 => "power9",
        Power10 => "power10",
    };
    let output = Command::new(OBJDUMP)
        .args([
            "-D",
            "-b",
            "binary",
            "-m",
            "powerpc:common64",
            "-EB",
            "-z",
            "--no-show-raw-insn",
            "-M",
            machine,
        ])
        .arg(&path)
        .output();
    let _ = std::fs::remove_file(&path);
    let output = match output {
        Ok(output) => output,
        Err(error) if std::env::var_os("PARTITA_TOOLS").is_some() => panic!("{OBJDUMP}: {error}"),
        Err(_) => {
            eprintln!("there is no {OBJDUMP}: nothing is compared");
            return None;
        }
    };
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines = vec![String::new(); pairs.len()];
    for line in text.lines() {
        let Some((at, instruction)) = line.trim().split_once(":\t") else { continue };
        let Ok(at) = usize::from_str_radix(at, 16) else { continue };
        // Of a pair without prefix the second one is a nop.
        if at % 8 == 0 && !instruction.starts_with(".long") {
            let code = instruction.split('#').next().unwrap_or("");
            lines[at / 8] = code.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    }
    Some(lines)
}

fn of((a, b): (u32, u32)) -> Option<Instruction> {
    if is_prefix(a) { decode_prefixed(a, b) } else { decode(a) }
}

/// What the disassembler should make of it.
fn text(instruction: &Instruction, (a, b): (u32, u32)) -> String {
    let name = instruction.row().name;
    let bank = instruction.row().registers();
    let mut text = String::from(name);
    let _ = write!(text, " ");
    if !matches!(instruction.operation(), Operation::Cache | Operation::Zero) {
        let number = instruction.register();
        let _ = match bank {
            'v' => write!(text, "v{},", number - 32),
            's' => write!(text, "vs{number},"),
            other => write!(text, "{other}{number},"),
        };
    }
    let base = instruction.base().map_or("0".into(), |base| format!("r{base}"));
    let _ = match instruction.offset() {
        Offset::Gpr(index) => write!(text, "{base},r{index}"),
        Offset::Displacement(d) if instruction.is_relative() => write!(text, "{d}"),
        Offset::Displacement(d) if a >> 26 != 31 => write!(text, "{d}({base})"),
        // A length in a GPR, or a number in the instruction.
        Offset::Displacement(_) => match (name.starts_with('l') || name.starts_with("st"), a >> 11 & 31) {
            (true, rb) if name.contains("xvl") => write!(text, "{base},r{rb}"),
            (_, n) if name.ends_with("at") => write!(text, "{base},{n}"),
            (_, 0) => write!(text, "{base},32"),
            (_, n) => write!(text, "{base},{n}"),
        },
    };
    let _ = b;
    text
}

/// Numbers that look random, the same ones each time.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
}

/// Valid instructions of a row, with every kind of field.
fn samples(row: &Row, random: &mut Random) -> Vec<(u32, u32)> {
    let ((prefix, word), (fixed_prefix, fixed)) = (row.opcode(), row.mask());
    let block = matches!(row.operation(), Operation::Cache | Operation::Zero);
    let mut found = Vec::new();
    for n in 0.. {
        assert!(n < 1000, "{}", row.name);
        let mut word = word | random.word() & !fixed;
        if n % 4 == 0 {
            word &= !(31 << 16);
        }
        if block {
            // Hints are not compared.
            word &= !(31 << 21);
        }
        let pair = match prefix {
            0 => (word, NOP),
            _ => {
                let relative = if word >> 16 & 31 == 0 { random.word() & 1 << 20 } else { 0 };
                (prefix | random.word() & !fixed_prefix & !(1 << 20) | relative, word)
            }
        };
        if of(pair).is_some() {
            found.push(pair);
        }
        if found.len() == 32 {
            break;
        }
    }
    found
}

#[test]
fn every_row_is_what_the_disassembler_says() {
    let mut random = Random(1);
    let all: Vec<(&Row, (u32, u32))> =
        rows().flat_map(|row| samples(row, &mut random).into_iter().map(move |pair| (row, pair))).collect();
    let pairs: Vec<_> = all.iter().map(|(_, pair)| *pair).collect();
    for generation in [Power8, Power9, Power10] {
        let Some(lines) = disassemble(generation, &pairs) else { return };
        for ((row, pair), line) in all.iter().zip(lines) {
            if UNKNOWN.contains(&row.name) {
                assert_eq!(line, "", "{:#x?} on {generation:?}", pair);
                continue;
            }
            let instruction = of(*pair).expect("a sample");
            assert!(
                std::ptr::eq(instruction.row(), *row),
                "{:#x?}: {} or {}",
                pair,
                row.name,
                instruction.row().name
            );
            let expected = text(&instruction, *pair);
            // The plain form of a hint has a name of its own.
            let line = line.replacen("ct ", " ", 1);
            if instruction.exists(generation) {
                assert_eq!(line, expected, "{:#x?} on {generation:?}", pair);
            } else {
                assert_ne!(line, expected, "{:#x?} on {generation:?}", pair);
            }
        }
    }
}

/// Does this name sound like a load or a store, or like an operation on a cache block?
fn is_access(name: &str) -> bool {
    let plain = name.strip_prefix('p').unwrap_or(name);
    let starts = |text: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    starts(plain, &["lb", "lh", "lw", "ld", "lf", "lq", "lx", "lv", "lm", "ls", "st", "li", "ln"])
        || starts(name, &["dcb", "icb"])
}

#[test]
fn no_load_or_store_is_missing() {
    let mut random = Random(2);
    let mut pairs = Vec::new();
    for primary in (0..64u32).filter(|primary| ![1, 31].contains(primary)) {
        // All ways in which the last bits may be an opcode.
        pairs.extend((0..64).map(|low| (primary << 26 | 0x00c4_0000 | low, NOP)));
    }
    for low in 0..2048u32 {
        // Some want zeroes in one field or another.
        for fields in [0x00c4_2800, 0x00c4_0000, 0x0004_2800, 0x0000_2800, 0x0024_2800] {
            pairs.push((31 << 26 | fields | low, NOP));
        }
    }
    for primary in 0..64u32 {
        for kind in [0x0400_0000, 0x0600_0000, 0x0500_0000, 0x0700_0000] {
            pairs.push((kind | random.word() & 0xffff, primary << 26 | 0x00c4_0010));
        }
    }
    let Some(lines) = disassemble(Power10, &pairs) else { return };
    let mut missing = BTreeSet::new();
    let mut known = 0;
    for (pair, line) in pairs.iter().zip(&lines) {
        let name = line.split(' ').next().unwrap_or("");
        if !is_access(name) || ELSEWHERE.contains(&name) {
            continue;
        }
        match of(*pair) {
            Some(_) => known += 1,
            None => drop(missing.insert((name, pair.0, pair.1))),
        }
    }
    assert!(missing.is_empty(), "{missing:#x?}");
    assert!(known > 500, "{known}");
}
