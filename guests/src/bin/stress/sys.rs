//! Linux on ppc64le without a library: the entry, system calls, signals.
#![allow(unsafe_code)] // system calls, and memory that they map

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};

// _start: r1 points to argc, argv follows; r12 is the address of this entry (ELFv2). clone_vm: r3 = stack of the child,
// r4 = its function, r5 = the function's argument; gives clone's answer to the parent, never returns in the child.
global_asm!(
    ".globl _start",
    "_start:",
    "addis 2, 12, .TOC.-_start@ha",
    "addi 2, 2, .TOC.-_start@l",
    "mr 3, 1",
    "li 0, 0",
    "stdu 0, -128(1)",
    "bl {start}",
    "nop",
    "trap",
    ".globl clone_vm",
    "clone_vm:",
    // Volatile registers do not survive the call; the child's stack does.
    "std 4, 32(3)",
    "std 5, 40(3)",
    "mr 4, 3",
    "lis 3, {flags}@h",
    "ori 3, 3, {flags}@l",
    "li 5, 0",
    "li 6, 0",
    "li 0, 120",
    "sc",
    "bso 1f",
    "cmpdi 3, 0",
    "bnelr",
    "ld 12, 32(1)",
    "ld 3, 40(1)",
    "mtctr 12",
    "bctrl",
    "trap",
    "1: neg 3, 3",
    "blr",
    start = sym start,
    flags = const CLONE_VM | CLONE_FILES | SIGCHLD,
);

const CLONE_VM: usize = 0x100;
const CLONE_FILES: usize = 0x400;
const SIGCHLD: usize = 17;
/// Sent to and fro for its own sake.
pub const SIGUSR1: usize = 10;
/// A bad access.
pub const SIGSEGV: usize = 11;

unsafe extern "C" {
    fn clone_vm(stack: usize, function: extern "C" fn(usize) -> !, argument: usize) -> isize;
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: Linux puts argc there, and after it as many pointers to strings.
    let arguments = |n: usize| unsafe {
        if n >= *stack {
            return None;
        }
        core::ffi::CStr::from_ptr(*stack.add(1 + n) as *const core::ffi::c_char).to_str().ok()
    };
    exit(crate::run(&arguments))
}

/// A system call; the error is Linux's number.
fn call(number: usize, a: [usize; 6]) -> Result<usize, usize> {
    let (result, cr): (usize, usize);
    // SAFETY: what the call does to memory is its caller's business here: it names memory that it owns.
    unsafe {
        asm!(
            "sc", "mfcr {cr}",
            cr = lateout(reg) cr,
            inlateout("r0") number => _,
            inlateout("r3") a[0] => result,
            inlateout("r4") a[1] => _,
            inlateout("r5") a[2] => _,
            inlateout("r6") a[3] => _,
            inlateout("r7") a[4] => _,
            inlateout("r8") a[5] => _,
            lateout("r9") _, lateout("r10") _, lateout("r11") _, lateout("r12") _,
            lateout("ctr") _, lateout("xer") _, lateout("cr0") _,
            options(nostack),
        );
    }
    if cr & 0x1000_0000 == 0 { Ok(result) } else { Err(result) }
}

const EINTR: usize = 4;

/// The same, again as long as a signal interrupts it.
fn patient(number: usize, a: [usize; 6]) -> Result<usize, usize> {
    loop {
        match call(number, a) {
            Err(EINTR) => {}
            other => return other,
        }
    }
}

/// Ends the process and whoever shares its memory.
pub fn exit(status: usize) -> ! {
    let _ = call(234, [status, 0, 0, 0, 0, 0]);
    loop {
        core::hint::spin_loop();
    }
}

/// Ends this one alone, if it shares its memory.
pub fn leave(status: usize) -> ! {
    let _ = call(1, [status, 0, 0, 0, 0, 0]);
    loop {
        core::hint::spin_loop();
    }
}

/// A copy of this process: 0 in the copy.
pub fn fork() -> Result<usize, usize> {
    call(120, [SIGCHLD, 0, 0, 0, 0, 0])
}

/// A process that shares this one's memory and runs a function on a stack of its own. `stack` is its upper end.
pub fn share(stack: usize, function: extern "C" fn(usize) -> !, argument: usize) -> Result<usize, usize> {
    // SAFETY: the stack is the child's alone; the function does not return.
    let answer = unsafe { clone_vm(stack - 256, function, argument) };
    usize::try_from(answer).map_err(|_| answer.unsigned_abs())
}

/// Waits for a child; gives its wait status.
pub fn wait(pid: usize) -> Result<u32, usize> {
    let mut status = 0u32;
    patient(114, [pid, (&raw mut status) as usize, 0, 0, 0, 0])?;
    Ok(status)
}

/// Has it ended? Its wait status then.
pub fn ended(pid: usize) -> Result<Option<u32>, usize> {
    const WNOHANG: usize = 1;
    let mut status = 0u32;
    let answer = patient(114, [pid, (&raw mut status) as usize, WNOHANG, 0, 0, 0])?;
    Ok((answer != 0).then_some(status))
}

/// Its number.
pub fn pid() -> usize {
    call(20, [0; 6]).unwrap_or(0)
}

/// Sends a signal.
pub fn kill(pid: usize, signal: usize) {
    let _ = call(37, [pid, signal, 0, 0, 0, 0]);
}

/// Gives up the processor.
pub fn relax() {
    let _ = call(158, [0; 6]);
}

/// Sleeps, or until a signal comes.
pub fn sleep_ms(ms: u64) {
    let time = [ms / 1000, ms % 1000 * 1_000_000];
    let _ = call(162, [time.as_ptr() as usize, 0, 0, 0, 0, 0]);
}

/// Which processors it may run on: the first 64.
pub fn affinity() -> u64 {
    let mut mask = [0u64; 16];
    let _ = call(223, [0, size_of_val(&mask), mask.as_mut_ptr() as usize, 0, 0, 0]);
    mask[0]
}

/// Runs on these only from now on.
pub fn set_affinity(mask: u64) -> bool {
    call(222, [0, 8, (&raw const mask) as usize, 0, 0, 0]).is_ok()
}

/// No access.
pub const NONE: usize = 0;
/// Loads.
pub const READ: usize = 1;
/// Loads and stores.
pub const READ_WRITE: usize = 3;

const MAP_SHARED: usize = 1;
const MAP_PRIVATE: usize = 2;
const MAP_FIXED: usize = 0x10;
const MAP_ANONYMOUS: usize = 0x20;

/// New memory of this process.
pub fn map(length: usize) -> Result<usize, usize> {
    call(90, [0, length, READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, usize::MAX, 0])
}

/// New memory at this place, instead of what was there.
pub fn map_at(address: usize, length: usize) -> Result<usize, usize> {
    call(90, [address, length, READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, usize::MAX, 0])
}

/// New memory that copies of this process share.
pub fn map_shared(length: usize) -> Result<usize, usize> {
    call(90, [0, length, READ_WRITE, MAP_SHARED | MAP_ANONYMOUS, usize::MAX, 0])
}

/// Gives memory back.
pub fn unmap(address: usize, length: usize) -> Result<usize, usize> {
    call(91, [address, length, 0, 0, 0, 0])
}

/// Changes the rights to memory.
pub fn protect(address: usize, length: usize, rights: usize) -> Result<usize, usize> {
    call(125, [address, length, rights, 0, 0, 0])
}

/// Makes it longer or shorter, perhaps elsewhere. Gives the place.
pub fn remap(address: usize, length: usize, new_length: usize) -> Result<usize, usize> {
    const MAYMOVE: usize = 1;
    call(163, [address, length, new_length, MAYMOVE, 0, 0])
}

/// Gives the pages back and keeps the place: they read as zeroes.
pub fn forget(address: usize, length: usize) -> Result<usize, usize> {
    const DONTNEED: usize = 4;
    call(205, [address, length, DONTNEED, 0, 0, 0])
}

/// A pipe: the end to read from and the end to write to.
pub fn pipe() -> Result<[u32; 2], usize> {
    let mut ends = [0u32; 2];
    call(42, [ends.as_mut_ptr() as usize, 0, 0, 0, 0, 0])?;
    Ok(ends)
}

/// Closes a file.
pub fn close(file: u32) {
    let _ = call(6, [file as usize, 0, 0, 0, 0, 0]);
}

/// Reads until the buffer is full or the file ends. Gives how much came.
pub fn read(file: u32, bytes: &mut [u8]) -> usize {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        match patient(3, [file as usize, rest.as_mut_ptr() as usize, rest.len(), 0, 0, 0]) {
            Ok(0) | Err(_) => break,
            Ok(n) => done += n,
        }
    }
    done
}

/// Writes all of it.
pub fn write(file: u32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match patient(4, [file as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) {
            Ok(n) => bytes = &bytes[n..],
            Err(_) => return,
        }
    }
}

/// What to do about a signal: its number, the address of a bad access, and the interrupted instruction, which it may move.
pub type Handler = fn(signal: usize, address: usize, next: &mut usize);

static mut HANDLER: Handler = |_, _, _| {};

extern "C" fn on_signal(signal: usize, info: *const u8, context: *mut u8) {
    // siginfo's si_addr; ucontext's uc_mcontext (168) gp_regs (64), of which the 32nd is the instruction's address.
    const ADDRESS: usize = 16;
    const NEXT: usize = 168 + 64 + 32 * 8;
    // SAFETY: Linux hands over these structures; the handler was set before the first signal.
    unsafe { HANDLER(signal, *info.add(ADDRESS).cast::<usize>(), &mut *context.add(NEXT).cast::<usize>()) }
}

/// From now on this handles SIGSEGV and SIGUSR1.
pub fn handle(handler: Handler) -> bool {
    const SIGINFO: usize = 4;
    const RESTART: usize = 0x1000_0000;
    // SAFETY: no signal can come yet.
    unsafe { HANDLER = handler };
    let action = [on_signal as *const () as usize, SIGINFO | RESTART, 0, 0];
    [SIGSEGV, SIGUSR1]
        .into_iter()
        .all(|signal| call(173, [signal, action.as_ptr() as usize, 0, 8, 0, 0]).is_ok())
}

/// The timebase: 512 ticks are a microsecond.
pub fn timebase() -> u64 {
    let time;
    // SAFETY: reading it changes nothing.
    unsafe { asm!("mfspr {}, 268", out(reg) time, options(nomem, nostack, preserves_flags)) };
    time
}

/// One load instruction.
pub fn load(address: usize) -> u64 {
    let value;
    // SAFETY: if nothing is there the handler ends the process or steps over it.
    unsafe { asm!("ld {}, 0({})", inout(reg) 0u64 => value, in(reg_nonzero) address, options(nostack)) };
    value
}

/// One store instruction.
pub fn store(address: usize, value: u64) {
    // SAFETY: as for a load; only memory of the tests is stored to.
    unsafe { asm!("std {}, 0({})", in(reg) value, in(reg_nonzero) address, options(nostack)) };
}

/// A line on the console, written at once so that lines do not mix.
pub fn print(arguments: fmt::Arguments) {
    struct Line([u8; 256], usize);
    impl Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                *self.0.get_mut(self.1).ok_or(fmt::Error)? = byte;
                self.1 += 1;
            }
            Ok(())
        }
    }
    let mut line = Line([0; 256], 0);
    let _ = line.write_fmt(arguments);
    let _ = line.write_str("\n");
    write(1, &line.0[..line.1]);
}

/// Says what is wrong and ends.
pub fn bad(what: fmt::Arguments) -> ! {
    print(format_args!("stress: BAD {what}"));
    exit(1)
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    bad(format_args!("{info}"))
}
