//! RTAS: hostile argument buffers, the clock, and the entry point in memory, in 32-bit big endian mode.
#![no_std]
#![no_main]

use guests::mem::{fill, read32, write32};
use guests::{Context, Hcall, Report, Status, platform, println, rtas, run as run_context, status};
use power::interrupt::Vector;
use power::regs::Msr;

guests::main!(run);

const BUFFER: u64 = 0x200_0000;

fn run(t: &mut Report) {
    buffers(t);
    clock(t);
    blob(t);
    tokens(t);
}

fn raw(address: u64, words: &[u32]) -> (Status, [u32; 4]) {
    for (i, word) in words.iter().enumerate() {
        write32(address + 4 * i as u64, word.to_be());
    }
    let s = status(Hcall::RTAS, &[address]);
    let end = platform::memory();
    let word = |at| if at < end { u32::from_be(read32(at)) } else { 0 };
    (s, core::array::from_fn(|i| word(address + 12 + 4 * i as u64)))
}

fn buffers(t: &mut Report) {
    fill(BUFFER, 0x1000, 0);
    let query = rtas::token("query-cpu-stopped-state").unwrap_or(0);
    t.is_true("token", query != 0);
    let (s, words) = raw(BUFFER, &[query, 1, 2, 0, 0x77, 0x77]);
    t.equal("good", s, Status::SUCCESS);
    t.equal("good-results", words, [0, 0, 2, 0]);
    let (s, words) = raw(BUFFER, &[query, 1, 2, 77, 0x77, 0x77]);
    t.equal("no-processor", s, Status::SUCCESS);
    t.equal("no-processor-result", words[1].cast_signed(), -3);
    for (nargs, nret) in [(0, 1), (2, 2), (1, 1), (7, 9)] {
        let (s, words) = raw(BUFFER, &[query, nargs, nret, 0, 0x77, 0x77]);
        t.equal("wrong-counts", s, Status::SUCCESS);
        if (nargs as usize) < 4 {
            t.equal("wrong-counts-result", words[nargs as usize].cast_signed(), -3);
        }
    }
    let unknown = [0, 1, 0x1fff, 0x7fff_ffff, 0xffff_ffff];
    for token in unknown {
        let (s, words) = raw(BUFFER, &[token, 0, 1, 0x77]);
        t.is_true("unknown", s == Status::PARAMETER || matches!(words[0].cast_signed(), -1 | -3));
    }
    for (nargs, nret) in [
        (17, 0),
        (0, 17),
        (16, 1),
        (u32::MAX, 1),
        (1, u32::MAX),
        (u32::MAX, u32::MAX),
        (0x4000_0000, 0x4000_0000),
    ] {
        if nargs > 16
            && t.differs_on_qemu("too-many", "it has no bound, and looks at the counts of each call")
        {
            continue;
        }
        let (s, _) = raw(BUFFER, &[query, nargs, nret, 0, 0, 0]);
        if !platform::is_qemu() {
            t.equal("too-many", s, Status::PARAMETER);
        }
    }
    let memory = platform::memory();
    if !t.differs_on_qemu("outside", "it reads zero from where nothing is, an unknown token") {
        for address in [memory, memory - 4, memory - 8, 1 << 40, 1 << 45, 1 << 63, u64::MAX - 3, u64::MAX] {
            t.equal("outside", status(Hcall::RTAS, &[address]), Status::PARAMETER);
        }
        // The header lies in memory and its arguments do not.
        write32(memory - 12, query.to_be());
        write32(memory - 8, 1u32.to_be());
        write32(memory - 4, 2u32.to_be());
        t.equal("half-outside", status(Hcall::RTAS, &[memory - 12]), Status::PARAMETER);
    }
    // Misaligned: refused, or carried out as it stands.
    for offset in 1..4 {
        fill(BUFFER, 64, 0);
        for (i, byte) in [query, 1, 2, 0, 0x77, 0x77].iter().flat_map(|w| w.to_be_bytes()).enumerate() {
            guests::mem::write8(BUFFER + offset + i as u64, byte);
        }
        let s = status(Hcall::RTAS, &[BUFFER + offset]);
        t.is_true("misaligned", matches!(s, Status::SUCCESS | Status::PARAMETER));
    }
    // The last words of memory are as good as any.
    let at = memory - 24;
    let (s, _) = raw(at, &[query, 1, 2, 0, 0x77, 0x77]);
    t.equal("last-words", s, Status::SUCCESS);
}

type Time = [u32; 7];

fn now() -> (i32, Time) {
    let mut time = [0; 7];
    let status = rtas::call("get-time-of-day", &[], &mut time);
    (status, time)
}

fn clock(t: &mut Report) {
    let (s, time) = now();
    println!("@ note it is {time:?}");
    t.equal("time", s, 0);
    t.within("year", time[0].into(), 2024, 2100);
    t.within("month", time[1].into(), 1, 12);
    t.within("day", time[2].into(), 1, 31);
    t.within("hour", time[3].into(), 0, 23);
    t.within("minute", time[4].into(), 0, 59);
    t.within("second", time[5].into(), 0, 60);
    if !t.differs_on_qemu("nanosecond", "it gives the low 32 bits of the nanoseconds since 1970") {
        t.within("nanosecond", time[6].into(), 0, 999_999_999);
    }
    let seconds = |t: Time| u64::from(t[3]) * 3600 + u64::from(t[4]) * 60 + u64::from(t[5]);
    t.equal("set-time", rtas::call("set-time-of-day", &[2031, 2, 28, 23, 59, 59, 0], &mut []), 0);
    let (_, time) = now();
    t.equal("set-time-date", [time[0], time[1], time[2]], [2031, 2, 28]);
    t.within("set-time-second", seconds(time), 86399, 86399);
    guests::cpu::delay(guests::cpu::TB_HZ + guests::cpu::TB_HZ / 8);
    let (_, time) = now();
    t.equal("midnight", [time[0], time[1], time[2]], [2031, 3, 1]);
    t.within("midnight-second", seconds(time), 0, 2);
    if !t.differs_on_qemu("bad-times", "it computes with any numbers") {
        for bad in [
            [2031, 13, 1, 0, 0, 0, 0],
            [2031, 0, 1, 0, 0, 0, 0],
            [2031, 1, 32, 0, 0, 0, 0],
            [2031, 1, 1, 24, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [u32::MAX; 7],
        ] {
            t.equal("bad-time", rtas::call("set-time-of-day", &bad, &mut []), -3);
        }
    }
}

/// Calls through `linux,rtas-entry`, as an operating system does.
fn blob(t: &mut Report) {
    let (Some(base), Some(entry)) =
        (platform::cell("/rtas", "linux,rtas-base", 0), platform::cell("/rtas", "linux,rtas-entry", 0))
    else {
        if !t.differs_on_qemu("entry-point", "its firmware would provide it") {
            t.is_true("entry-point", false);
        }
        return;
    };
    println!("@ note RTAS at {base:#x}, entry {entry:#x}");
    let query = rtas::token("query-cpu-stopped-state").unwrap_or(0);
    for (i, word) in [query, 1, 2, 0, 0x77, 0x77].iter().enumerate() {
        write32(BUFFER + 4 * i as u64, word.to_be());
    }
    // It returns to an `sc`, in big endian.
    write32(guests::CODE, guests::insn::sc(0).to_be());
    guests::cpu::sync_code(guests::CODE);
    let mut c = Context { nip: entry.into(), msr: Msr::ME.bits(), lr: guests::CODE, ..Context::ZERO };
    c.gpr[3] = BUFFER;
    c.gpr[4] = base.into();
    run_context(&mut c);
    t.same("entry-point-vector", c.vector().0, Vector::SYSTEM_CALL.0);
    t.same("entry-point-returned", c.nip, guests::CODE + 4);
    t.same("entry-point-status", c.gpr[3], 0);
    t.equal("entry-point-result", u32::from_be(read32(BUFFER + 16)), 0);
    t.equal("entry-point-state", u32::from_be(read32(BUFFER + 20)), 2);
}

fn tokens(t: &mut Report) {
    for name in [
        "ibm,get-xive",
        "ibm,set-xive",
        "ibm,int-on",
        "ibm,int-off",
        "query-cpu-stopped-state",
        "start-cpu",
        "stop-self",
        "power-off",
        "system-reboot",
        "get-time-of-day",
        "set-time-of-day",
        "ibm,os-term",
    ] {
        t.is_true(name, rtas::token(name).is_some());
    }
}
