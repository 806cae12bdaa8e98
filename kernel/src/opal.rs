//! The firmware: OPAL calls (skiboot, doc/opal-api). Every buffer and out-parameter is big endian and given by real
//! address. Calls work with translation on and off; they are serialised by their users where OPAL asks for it.
#![allow(unsafe_code)] // the calls leave Rust; each says why its buffers are sound

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use power::{HostReal, spr};
use volatile::VolatileRef;

mod interrupts;
mod pci;

pub use interrupts::*;
pub use pci::*;

global_asm!(
    include_str!("boot.S"),
    SRR0 = const spr::SRR0,
    SRR1 = const spr::SRR1,
    HSPRG0 = const spr::HSPRG0,
    PC_HOST_R1 = const core::mem::offset_of!(realmode::layout::PerCpu, host_r1),
);

/// Where OPAL's data and entry point are: what `opal_call` loads. Written once, at boot.
#[repr(C)]
struct Entry {
    base: AtomicU64,
    entry: AtomicU64,
}

#[unsafe(no_mangle)]
static OPAL: Entry = Entry { base: AtomicU64::new(0), entry: AtomicU64::new(0) };

unsafe extern "C" {
    fn opal_call(token: u64, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64, a5: u64, a6: u64) -> i64;
}

/// Call tokens (opal-api.h).
mod token {
    pub const CONSOLE_WRITE: u64 = 1;
    pub const CONSOLE_READ: u64 = 2;
    pub const RTC_READ: u64 = 3;
    pub const CEC_POWER_DOWN: u64 = 5;
    #[cfg(feature = "selftest")]
    pub const CEC_REBOOT: u64 = 6;
    pub const POLL_EVENTS: u64 = 10;
    pub const CONSOLE_WRITE_BUFFER_SPACE: u64 = 25;
    pub const START_CPU: u64 = 41;
    pub const REINIT_CPUS: u64 = 70;
    pub const CONSOLE_FLUSH: u64 = 117;
}

/// An OPAL return code that is not success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error(pub i64);

/// OPAL_NO_MEM.
pub const NO_MEMORY: i64 = -9;
/// OPAL_BUSY and OPAL_BUSY_EVENT: poll and try again.
const BUSY: [i64; 2] = [-2, -12];

/// OPAL_REINIT_CPUS: take hypervisor interrupts in little endian.
pub const REINIT_HILE_LE: u64 = 1 << 1;

/// Remembers the entry point that the firmware gave.
pub fn init(base: u64, entry: u64) {
    OPAL.base.store(base, Ordering::Relaxed);
    OPAL.entry.store(entry, Ordering::Relaxed);
}

fn call(token: u64, args: [u64; 3]) -> i64 {
    let [a0, a1, a2] = args;
    call_long(token, [a0, a1, a2, 0, 0, 0, 0])
}

fn call_long(token: u64, args: [u64; 7]) -> i64 {
    let [a0, a1, a2, a3, a4, a5, a6] = args;
    // SAFETY: `init` ran before anything else; every caller below passes what the token documents.
    unsafe { opal_call(token, a0, a1, a2, a3, a4, a5, a6) }
}

/// A call that may have to be made again while the firmware is busy.
fn call_until_done(token: u64, args: [u64; 7]) -> Result<(), Error> {
    for _ in 0..10_000 {
        match call_long(token, args) {
            code if BUSY.contains(&code) => poll_events(),
            code => return check(code),
        }
    }
    Err(Error(BUSY[0]))
}

fn check(code: i64) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error(code)) }
}

/// Where OPAL finds an out-parameter. It is written behind the compiler's back and read by [`answer`].
fn out<T>(object: &mut T) -> u64 {
    HostReal::of_ea(core::ptr::from_mut(object) as u64).0
}

/// What OPAL put into an out-parameter, still big endian.
fn answer<T: Copy>(object: &T) -> T {
    VolatileRef::from_ref(object).as_ptr().read()
}

/// Lets the firmware do its chores; console output does not move without it.
pub fn poll_events() {
    let mut events = 0u64;
    call(token::POLL_EVENTS, [out(&mut events), 0, 0]);
}

/// How many bytes the console takes at once now.
pub fn console_space() -> Result<usize, Error> {
    let mut space = 0u64;
    check(call(token::CONSOLE_WRITE_BUFFER_SPACE, [0, out(&mut space), 0]))?;
    Ok(u64::from_be(answer(&space)) as usize)
}

/// Writes to the console; the count that it took, which may be 0.
pub fn console_write(bytes: &[u8]) -> Result<usize, Error> {
    let mut len = (bytes.len() as u64).to_be();
    let code = call(token::CONSOLE_WRITE, [0, out(&mut len), HostReal::of_ea(bytes.as_ptr() as u64).0]);
    if BUSY.contains(&code) {
        return Ok(0);
    }
    check(code)?;
    Ok(u64::from_be(answer(&len)) as usize)
}

/// Waits until what was written has left the machine.
pub fn console_flush() {
    for _ in 0..100_000 {
        if !matches!(call(token::CONSOLE_FLUSH, [0, 0, 0]), -12 | -2 | -3) {
            return;
        }
        poll_events();
    }
}

/// Reads what was typed; the count of bytes, 0 if nothing.
pub fn console_read(buffer: &mut [u8]) -> usize {
    let mut len = (buffer.len() as u64).to_be();
    let at = HostReal::of_ea(buffer.as_mut_ptr() as u64).0;
    match call(token::CONSOLE_READ, [0, out(&mut len), at]) {
        0 => (u64::from_be(answer(&len)) as usize).min(buffer.len()),
        _ => 0,
    }
}

/// The real-time clock: year-month-day as BCD in the first word, hour-minute-second in the upper half of the second.
pub fn rtc_read() -> Result<(u32, u64), Error> {
    let (mut date, mut time) = (0u32, 0u64);
    for _ in 0..10_000 {
        match call(token::RTC_READ, [out(&mut date), out(&mut time), 0]) {
            0 => {
                let date = answer(&date);
                let time = answer(&time);
                return Ok((u32::from_be(date), u64::from_be(time)));
            }
            code if BUSY.contains(&code) => poll_events(),
            code => return Err(Error(code)),
        }
    }
    Err(Error(BUSY[0]))
}

/// Sets properties of all CPUs.
pub fn reinit_cpus(flags: u64) -> Result<(), Error> {
    check(call(token::REINIT_CPUS, [flags, 0, 0]))
}

/// Starts a CPU, big endian with translation off, at a real address. `server` is its `ibm,ppc-interrupt-server#s`.
pub fn start_cpu(server: u32, address: HostReal) -> Result<(), Error> {
    check(call(token::START_CPU, [u64::from(server), address.0, 0]))
}

/// Switches the machine off.
pub fn power_down() -> ! {
    halt(token::CEC_POWER_DOWN)
}

/// Starts the machine again.
#[cfg(feature = "selftest")]
pub fn reboot() -> ! {
    halt(token::CEC_REBOOT)
}

fn halt(token: u64) -> ! {
    console_flush();
    while BUSY.contains(&call(token, [0, 0, 0])) {
        poll_events();
    }
    // It has been asked for; the service processor takes its time.
    loop {
        poll_events();
    }
}
