//! How the hypervisor dies: it says which fault, where, with which registers and in whose service, and ends the
//! machine with a failure. Runs with translation off on a stack of its own, so it works when nothing else does.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use power::interrupt::Vector;
use power::regs::{Dsisr, Msr};
use realmode::host;
use realmode::instructions::pause;
use realmode::layout::CrashFrame;

use crate::{console, cpus, log, memory, opal, percpu};

/// The exit status of a hypervisor that crashed.
const CRASHED: u8 = 4;

static DYING: AtomicBool = AtomicBool::new(false);
/// The CPU that tells: the others stand still.
static TELLER: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Is a crash being reported?
pub fn is_dying() -> bool {
    DYING.load(Ordering::Relaxed)
}

/// Stands still if another CPU is dying, so that its words are the last.
pub fn stop_if_dying() {
    while is_dying() && TELLER.load(Ordering::Relaxed) != percpu::number() {
        pause();
    }
}

/// The first CPU to crash begins to tell; a second one stands still; true if this one has crashed while telling.
fn begin_to_tell() -> bool {
    let again = DYING.swap(true, Ordering::SeqCst);
    if !again {
        TELLER.store(percpu::number(), Ordering::SeqCst);
        (0..cpus::count())
            .filter(|cpu| *cpu != percpu::number())
            .for_each(|cpu| host::look(percpu::number(), cpu));
    }
    // A CPU that crashes in the moment between those two stores waits for the other.
    stop_if_dying();
    again
}

/// Ends the run: `partita: exit status: reason` is the last line.
pub fn end(status: u8, reason: fmt::Arguments<'_>) -> ! {
    console::verdict(status, reason);
    opal::power_down()
}

/// An interrupt hit the hypervisor that it cannot return from: called by the vectors.
pub extern "C" fn crash(frame: &CrashFrame) -> ! {
    let vector = Vector(frame.vector);
    if begin_to_tell() {
        end(CRASHED, format_args!("hypervisor crashed twice: {} at {:#x}", vector.name(), frame.pc));
    }
    log!("EPITAPH: {} interrupt ({:#x}) in the hypervisor", vector.name(), vector.0);
    let cause = Cause(frame);
    log!("  {cause}");
    log!(
        "  pc {:016x} msr {:016x} lr {:016x} ctr {:016x} cr {:08x}",
        frame.pc,
        frame.msr,
        frame.lr,
        frame.ctr,
        frame.cr
    );
    log!("  dar {:016x} dsisr {:08x}", frame.dar, frame.dsisr);
    for (n, four) in frame.gpr.chunks(4).enumerate() {
        log!("  r{:<2} {:016x} {:016x} {:016x} {:016x}", n * 4, four[0], four[1], four[2], four[3]);
    }
    crate::run::epitaph();
    end(CRASHED, format_args!("hypervisor crashed: {} interrupt, {cause}", vector.name()))
}

/// What an interrupt's registers mean, in words.
struct Cause<'a>(&'a CrashFrame);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        let dsisr = Dsisr::from_bits_retain(frame.dsisr);
        let access = if dsisr.contains(Dsisr::ISSTORE) { "store to" } else { "load from" };
        match Vector(frame.vector) {
            Vector::DATA_STORAGE | Vector::DATA_SEGMENT => {
                let what = memory::describe(frame.dar);
                // A segment interrupt leaves DSISR undefined (Power ISA 3.0C, book III, 6.5.4).
                if Vector(frame.vector) == Vector::DATA_SEGMENT {
                    write!(f, "access to {:#x} ({what})", frame.dar)
                } else {
                    write!(f, "{access} {:#x} ({what})", frame.dar)
                }
            }
            Vector::INST_STORAGE | Vector::INST_SEGMENT => {
                write!(f, "fetch from {:#x} ({})", frame.pc, memory::describe(frame.pc))
            }
            Vector::PROGRAM if frame.msr & 0x2_0000 != 0 => write!(f, "trap at {:#x}", frame.pc),
            _ => write!(f, "at {:#x} ({})", frame.pc, memory::describe(frame.pc)),
        }?;
        let msr = Msr::from_bits_retain(frame.msr);
        if msr.contains(Msr::IR | Msr::DR) { Ok(()) } else { f.write_str(", translation off") }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if begin_to_tell() {
        end(CRASHED, format_args!("hypervisor panicked while crashing"));
    }
    match info.location() {
        Some(at) => log!("EPITAPH: panic at {}:{}: {}", at.file(), at.line(), info.message()),
        None => log!("EPITAPH: panic: {}", info.message()),
    }
    crate::run::epitaph();
    end(CRASHED, format_args!("hypervisor panicked: {}", info.message()))
}
