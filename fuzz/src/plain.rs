//! A runner without any help: seeds, and what becomes of them by chance. The same chance each time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What chance makes of a seed is at most so long.
const LONGEST: usize = 4096;
/// A test takes so long at most, beyond its seeds.
const TEST: Duration = Duration::from_secs(2);

/// Runs a target as a program: `TARGET [SECONDS]`, or `TARGET FILE…` for inputs in files.
pub fn main(name: &str, run: impl Fn(&[u8])) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match arguments.first().map(|argument| argument.parse()) {
        None => 10,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => {
            for file in arguments {
                match std::fs::read(&file) {
                    Ok(data) => run(&data),
                    Err(error) => {
                        eprintln!("{file}: {error}");
                        return ExitCode::FAILURE;
                    }
                }
            }
            return ExitCode::SUCCESS;
        }
    };
    let runs = seeds_and_chance(name, Duration::from_secs(seconds), &run);
    println!("{name}: {runs} inputs in {seconds} s");
    ExitCode::SUCCESS
}

/// Runs a target as a test.
pub fn test(name: &str, run: impl Fn(&[u8])) {
    seeds_and_chance(name, TEST, &run);
}

/// What is being run, to be seen if it panics.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("the input (for xxd -r -p): {hex}");
        }
    }
}

fn seeds_and_chance(name: &str, time: Duration, run: &impl Fn(&[u8])) -> u64 {
    let until = Instant::now() + time;
    let seeds = seeds(name);
    let show = |data: &[u8]| {
        let _shown = Shown(data);
        run(data);
    };
    seeds.iter().for_each(|seed| show(seed));
    let mut runs = seeds.len() as u64;
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    while Instant::now() < until {
        show(&chance.change(&seeds));
        runs += 1;
    }
    runs
}

/// The seeds of a target, a line in hexadecimal for each, and one that is nothing.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    let byte = |line: &str, at| line.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let bytes = |line: &str| (0..line.len()).step_by(2).map_while(|at| byte(line, at)).collect();
    lines.lines().map(bytes).chain([Vec::new()]).collect()
}

/// Random numbers (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn change(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(data.len() + 1);
            match self.below(5) {
                0 => data.truncate(at),
                1 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    data.splice(at..at, other[from..].iter().copied());
                }
                2 => {
                    let more: Vec<u8> = (0..self.below(20)).map(|_| self.below(256) as u8).collect();
                    data.splice(at..at, more);
                }
                _ if at == data.len() => {}
                3 => data[at] = self.below(256) as u8,
                _ => data[at] ^= 1 << self.below(8),
            }
        }
        data.truncate(LONGEST);
        data
    }
}
