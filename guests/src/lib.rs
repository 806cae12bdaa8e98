//! What the test programs share: entry, interrupts, hypervisor calls, console, device tree, RTAS, translations.
//!
//! A program is a pseries guest of its own: `guests::main!(run)` and a function `fn run(t: &mut Report)`. It starts in
//! real mode on one virtual processor, prints a record for each thing that it checks, and powers off. The same image
//! runs in a partition and, flattened, as the firmware of QEMU's pseries machine.
#![no_std]

pub mod console;
pub mod context;
pub mod copies;
pub mod counting;
pub mod cpu;
pub mod device;
pub mod hcall;
pub mod insn;
pub mod mem;
pub mod pci;
pub mod platform;
pub mod report;
pub mod rtas;
pub mod space;
pub mod team;
pub mod units;
pub mod virtio;
pub mod virtqueue;
pub mod vpa;

pub use context::{
    CODE, Context, MSR_PROBLEM, MSR_REAL, MSR_VIRTUAL, divert, place, place_at, run, run_code,
};
pub use hcall::{Answer, hcall, status};
pub use power::{Hcall, Status};
pub use report::Report;

/// Resource 4 of H_SET_MODE: the byte order in which interrupts are taken.
pub const SET_MODE_ENDIAN: u64 = 4;

pub(crate) fn begin(dtb: u64) -> ! {
    platform::keep(dtb);
    if cfg!(target_endian = "little") {
        let s = status(Hcall::SET_MODE, &[1, SET_MODE_ENDIAN, 0, 0]);
        if s != Status::SUCCESS {
            println!("@ check set-mode-little-endian fail got={s:?}");
            rtas::power_off();
        }
    }
    let mut report = Report::default();
    context::guest_main(&mut report);
    report.done();
    rtas::power_off()
}

/// Names the function that is the program.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        #[allow(unsafe_code)] // the one symbol that the library calls
        #[unsafe(no_mangle)]
        fn guest_main(report: &mut $crate::Report) {
            $run(report)
        }
    };
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("@ check panic fail {info}");
    rtas::power_off()
}
