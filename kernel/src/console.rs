//! The physical console and the hypervisor's own lines on it.
//!
//! A stage of the boot, a warning or an epitaph is one line, `[seconds.micros] text`, timed from the timebase at entry.
//! Output waits for the firmware's buffer; nothing is lost.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use realmode::instructions::timebase;
use spin::Mutex;

use crate::opal;

/// Ticks of the timebase in a microsecond.
pub const TICKS_PER_MICRO: u64 = 512;

static START: AtomicU64 = AtomicU64::new(0);
static CONSOLE: Mutex<Console> = Mutex::new(Console { column: 0 });

/// Begins the clock of the log.
pub fn init() {
    START.store(timebase(), Ordering::Relaxed);
}

/// Microseconds from the entry of the hypervisor to a time of the timebase.
pub fn micros(at: u64) -> u64 {
    at.saturating_sub(START.load(Ordering::Relaxed)) / TICKS_PER_MICRO
}

/// The console as a formatter's sink; it knows whether a line is unfinished.
struct Console {
    column: usize,
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

/// A line of the hypervisor, through [`crate::log!`].
pub fn line(args: fmt::Arguments<'_>) {
    let micros = micros(timebase());
    with_console(|console| {
        if console.column != 0 {
            let _ = console.write_str("\n");
        }
        let _ = writeln!(console, "[{:3}.{:06}] {args}", micros / 1_000_000, micros % 1_000_000);
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
    let room = opal::console_space().unwrap_or(bytes.len()).min(bytes.len());
    let taken = opal::console_write(&bytes[..room]).unwrap_or(bytes.len()).min(room);
    if let Some(&last) = bytes[..taken].last() {
        with_console(|console| console.column = usize::from(last != b'\n'));
    }
    taken
}

/// A partition's output, all of it, as it is.
pub fn raw(bytes: &[u8]) {
    with_console(|console| console.put(bytes));
}

/// Runs with the console locked, but without it if a crash interrupted whoever holds it.
fn with_console(body: impl FnOnce(&mut Console)) {
    match CONSOLE.try_lock() {
        Some(mut console) => body(&mut console),
        None => body(&mut Console { column: 1 }),
    }
}

/// Prints a line on the physical console.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::console::line(format_args!($($arg)*)) };
}
