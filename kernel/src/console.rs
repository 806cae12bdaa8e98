//! The physical console and the hypervisor's own lines on it.
//!
//! A stage of the boot, a warning or an epitaph is one line, `[seconds.micros] text`, timed from the timebase at entry.
//! Output waits for the firmware's buffer; nothing is lost.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use realmode::instructions::{pause, timebase};

use crate::sync::{Lock, Rank};
use crate::{epitaph, opal};

/// Ticks of the timebase in a microsecond.
pub const TICKS_PER_MICRO: u64 = 512;

static START: AtomicU64 = AtomicU64::new(0);
static CONSOLE: Lock<Console> = Lock::new(Rank::Console, Console { column: 0 });
static KEPT: Lock<Kept> = Lock::new(Rank::Console, Kept { lines: 0, log: [0; LOG], logged: 0 });

/// Bytes of the hypervisor's own lines that are kept for the monitor.
const LOG: usize = 16 << 10;

/// Begins the clock of the log.
pub fn init() {
    START.store(timebase(), Ordering::Relaxed);
}

/// The timebase at the entry of the hypervisor.
pub fn start() -> u64 {
    START.load(Ordering::Relaxed)
}

/// Microseconds from the entry of the hypervisor to a time of the timebase.
pub fn micros(at: u64) -> u64 {
    at.saturating_sub(start()) / TICKS_PER_MICRO
}

/// The console as a formatter's sink; it knows whether a line is unfinished.
struct Console {
    column: usize,
}

/// The hypervisor's own lines, as a formatter's sink.
struct Kept {
    /// How many it has printed.
    lines: u64,
    /// The end of them, as a ring.
    log: [u8; LOG],
    /// How many bytes have gone into that.
    logged: usize,
}

impl Console {
    fn put(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match opal::console_write(&rest[..rest.len().min(opal::console_space().unwrap_or(0))]) {
                Ok(n) if n > 0 => rest = &rest[n.min(rest.len())..],
                Ok(_) => opal::poll_events(),
                Err(_) => return, // there is no console to complain on
            }
        }
        if let Some(&last) = bytes.last() {
            self.column = usize::from(last != b'\n');
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for line in s.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(text) => {
                    self.put(text.as_bytes());
                    self.put(b"\r\n");
                }
                None => self.put(line.as_bytes()),
            }
        }
        Ok(())
    }
}

impl Write for Kept {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            self.log[self.logged % LOG] = byte;
            self.logged += 1;
        }
        Ok(())
    }
}

/// A line of the hypervisor, through [`crate::log!`].
pub fn line(args: fmt::Arguments<'_>) {
    let micros = micros(timebase());
    with_console(|console| {
        if console.column != 0 {
            let _ = console.write_str("\n");
        }
        let _ = writeln!(console, "[{:3}.{:06}] {args}", micros / 1_000_000, micros % 1_000_000);
    });
    // Nobody reads it after a crash, and who held it then will not give it back.
    if !epitaph::is_dying() {
        let mut kept = KEPT.lock();
        let _ = writeln!(kept, "[{:3}.{:06}] {args}", micros / 1_000_000, micros % 1_000_000);
        kept.lines += 1;
    }
}

/// How many lines of its own the hypervisor has printed.
pub fn lines() -> u64 {
    KEPT.lock().lines
}

/// The last lines of its own, whole ones.
pub fn last_lines() -> String {
    let kept = KEPT.lock();
    let start = kept.logged.saturating_sub(LOG);
    let bytes: Vec<u8> = (start..kept.logged).map(|n| kept.log[n % LOG]).collect();
    drop(kept);
    let text = String::from_utf8_lossy(&bytes);
    let whole = if start == 0 { &text[..] } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    whole.into()
}

/// Text for whoever is at the monitor: the console as a sink.
pub struct Screen;

impl Write for Screen {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let mut result = Ok(());
        with_console(|console| result = console.write_str(s));
        result
    }
}

/// Ends an unfinished line.
pub fn fresh_line() {
    with_console(|console| {
        if console.column != 0 {
            let _ = console.write_str("\n");
        }
    });
}

/// The line by which whoever started the machine learns how the run ended, at the start of a line of its own.
pub fn verdict(status: u8, reason: fmt::Arguments<'_>) {
    with_console(|console| {
        if console.column != 0 {
            let _ = console.write_str("\n");
        }
        let _ = writeln!(console, "partita: exit {status}: {reason}");
    });
}

/// A partition's output, as much of it as the firmware takes at once; how much that was.
pub fn offer(bytes: &[u8]) -> usize {
    let mut taken = 0;
    with_console(|console| {
        let room = opal::console_space().unwrap_or(bytes.len()).min(bytes.len());
        taken = opal::console_write(&bytes[..room]).unwrap_or(bytes.len()).min(room);
        if let Some(&last) = bytes[..taken].last() {
            console.column = usize::from(last != b'\n');
        }
    });
    taken
}

/// What has been typed, as much as there is room for; how much that is.
pub fn read(buffer: &mut [u8]) -> usize {
    let mut n = 0;
    with_console(|_| {
        opal::poll_events();
        n = opal::console_read(buffer);
    });
    n
}

/// A partition's output, all of it, as it is.
pub fn raw(bytes: &[u8]) {
    with_console(|console| console.put(bytes));
}

/// How often the console is tried for before a crash goes on without it: another CPU may be writing a long line.
const PATIENCE: u32 = 10_000_000;

/// Runs with the console locked. Whoever reports a crash goes on without the lock if nobody gives it back.
fn with_console(body: impl FnOnce(&mut Console)) {
    if !epitaph::is_dying() {
        return body(&mut CONSOLE.lock());
    }
    for _ in 0..PATIENCE {
        if LOST.load(Ordering::Relaxed) {
            break;
        }
        if let Some(mut console) = CONSOLE.try_lock() {
            return body(&mut console);
        }
        pause();
    }
    LOST.store(true, Ordering::Relaxed);
    if let Some(mut console) = LAST_RESORT.try_lock() {
        body(&mut console);
    }
}

/// Nobody will give the console back.
static LOST: AtomicBool = AtomicBool::new(false);

/// For a crash of a CPU that holds the console.
static LAST_RESORT: Lock<Console> = Lock::new(Rank::Console, Console { column: 1 });

/// Prints a line on the physical console.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::console::line(format_args!($($arg)*)) };
}
