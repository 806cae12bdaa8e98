//! Much text in both directions: what the console cannot take is refused (H_BUSY) and offered again, and of what is typed
//! at full speed nothing is lost.
//!
//! Words of the command line: `lines=` to print (2000), `paste=` bytes to read (none). Line n of the output, and byte n
//! of the input, are as [`printed`] and [`pasted`] say; the judges know them too.
#![no_std]
#![no_main]

use guests::cpu::{TB_HZ, timebase};
use guests::{Hcall, Report, Status, hcall, platform, println, status, team};

guests::main!(run);

/// Columns of a line, without its end.
const COLUMNS: usize = 60;

/// Line `n`: `chatter`, its number in five digits, and letters that follow from it.
fn printed(n: u64) -> [u8; COLUMNS + 2] {
    let mut line = [0; COLUMNS + 2];
    line[..8].copy_from_slice(b"chatter ");
    let mut rest = n;
    for digit in line[8..13].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    line[13] = b' ';
    for (i, letter) in line[14..COLUMNS].iter_mut().enumerate() {
        *letter = b'a' + ((n + i as u64) % 26) as u8;
    }
    line[COLUMNS..].copy_from_slice(b"\r\n");
    line
}

/// Byte `n` of what is typed: lines of 49 letters.
fn pasted(n: u64) -> u8 {
    if n % 50 == 49 { b'\n' } else { b'a' + ((n / 50 + n % 50) % 26) as u8 }
}

/// Prints bytes, as many at a time as a call takes. Gives how often it was refused.
fn put(bytes: &[u8]) -> u64 {
    let mut refused = 0;
    for chunk in bytes.chunks(16) {
        let mut words = [0; 16];
        words[..chunk.len()].copy_from_slice(chunk);
        let (a, b) = words.split_at(8);
        let [a, b] = [a, b].map(|w| u64::from_be_bytes(w.try_into().expect("eight bytes")));
        loop {
            match status(Hcall::PUT_TERM_CHAR, &[0, chunk.len() as u64, a, b]) {
                Status::SUCCESS => break,
                Status::BUSY => refused += 1,
                other => {
                    println!("@ check put fail got={other:?}");
                    return refused;
                }
            }
        }
    }
    refused
}

fn write(t: &mut Report, lines: u64) {
    println!("@ writing {lines}");
    let mut refused = 0;
    for n in 0..lines {
        refused += put(&printed(n));
    }
    println!("@ written {lines}");
    t.note(format_args!("{refused} refusals"));
}

fn read(t: &mut Report, bytes: u64) {
    println!("@ paste now");
    let (mut n, mut wrong, mut last) = (0, 0, timebase());
    while n < bytes && timebase() - last < 4 * TB_HZ {
        let answer = hcall(Hcall::GET_TERM_CHAR, &[0]);
        let length = answer.r4();
        if answer.status != Status::SUCCESS || length > 16 {
            t.equal("get", answer.status, Status::SUCCESS);
            t.within("get-length", length, 0, 16);
            return;
        }
        if length == 0 {
            team::cede(TB_HZ / 1000);
            continue;
        }
        last = timebase();
        let [high, low] = [answer.r[1], answer.r[2]].map(u64::to_be_bytes);
        for &byte in high.iter().chain(&low).take(length as usize) {
            // A terminal's carriage return is the same to us.
            let byte = if byte == b'\r' { b'\n' } else { byte };
            if byte != pasted(n) {
                if wrong == 0 {
                    println!("@ note byte {n}: {byte:#x} instead of {:#x}", pasted(n));
                }
                wrong += 1;
            }
            n += 1;
        }
    }
    t.same("paste-wrong", wrong, 0);
    t.equal("paste-count", n, bytes);
}

fn run(t: &mut Report) {
    team::assemble();
    let lines = platform::number("lines", 2000);
    write(t, lines);
    match platform::number("paste", 0) {
        0 => t.is_true("written", lines > 0),
        bytes => read(t, bytes),
    }
}
