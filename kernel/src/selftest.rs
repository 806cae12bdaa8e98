//! Deliberate faults of the hypervisor, one for each kind of epitaph, chosen by `selftest=` on the firmware's command
//! line. Only in test builds.
#![allow(unsafe_code)] // faults on purpose

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use realmode::instructions::timebase;

use crate::memory::image;

static LATE: AtomicBool = AtomicBool::new(false);
static STAYS: AtomicU64 = AtomicU64::new(0);

/// When a stay in a guest ends: as asked, or under `selftest=late-slice` in a tenth of a millisecond and before it
/// begins, in turn.
pub fn slice_end(end: u64) -> u64 {
    match (LATE.load(Ordering::Relaxed), STAYS.fetch_add(1, Ordering::Relaxed) % 2) {
        (false, _) => end,
        (true, 0) => timebase() + 51_200,
        (true, _) => timebase(),
    }
}

/// At the end of a run: what only these builds count.
pub fn tell() {
    let (local, global) = realmode::machine::count::so_far();
    crate::log!("selftest: {local} local invalidations, {global} global ones");
}

/// `memcpy` (`realmode/src/asm/copy.S`) copies what it is to copy, and nothing else, from and to any address.
fn check_copies() {
    let source: [u8; 160] = core::array::from_fn(|n| n as u8 + 1);
    for length in 0..=144 {
        for (from, to) in [(0, 0), (1, 0), (0, 3), (4, 1), (5, 7), (7, 5)] {
            let mut target = [0; 160];
            target[black_box(to)..][..length].copy_from_slice(&source[black_box(from)..][..length]);
            let expected = |n: usize| if (to..to + length).contains(&n) { source[from + n - to] } else { 0 };
            assert!(black_box(&target).iter().enumerate().all(|(n, byte)| *byte == expected(n)));
        }
    }
}

/// Does what the command line asks for, if anything.
pub fn run(bootargs: &str) {
    check_copies();
    let Some(name) = bootargs.split_whitespace().find_map(|word| word.strip_prefix("selftest=")) else {
        return;
    };
    crate::log!("selftest: {name}");
    match name {
        "null-deref" => read(8),
        "text-write" => write(image::text_end() - 8),
        "rodata-write" => write(image::rodata_end() - 8),
        // blr, on the stack.
        "data-execute" => call(&[0x4e80_0020]),
        "stack-overflow" => drop(black_box(recurse(black_box(1)))),
        // Nothing answers at this real address.
        "machine-check" => {
            crate::mmu::map_device(power::HostReal(0x0006_0fff_0000_0000), 8).into_iter().for_each(read)
        }
        // SAFETY: not safe: an illegal instruction.
        "illegal" => unsafe { core::arch::asm!(".long 0") },
        // Not a fault: every other stay in a guest is over before it begins.
        "late-slice" => {
            LATE.store(true, Ordering::Relaxed);
            return;
        }
        "reboot" => crate::opal::reboot(),
        "panic" => panic!("on purpose"),
        _ => {}
    }
    crate::log!("selftest: {name} came back");
}

fn read(ea: u64) {
    // SAFETY: not safe: there is nothing to read. The fault is the point.
    black_box(unsafe { (black_box(ea) as *const u64).read_volatile() });
}

fn write(ea: u64) {
    // SAFETY: not safe, likewise.
    unsafe { (black_box(ea) as *mut u64).write_volatile(1) };
}

fn call(code: &[u32; 1]) {
    // SAFETY: not safe, likewise: data are not to be executed.
    unsafe { core::arch::asm!("mtctr {}", "bctrl", in(reg) black_box(code), out("ctr") _, out("lr") _) };
}

#[allow(unconditional_recursion)]
fn recurse(n: u64) -> u64 {
    let frame = black_box([n; 64]);
    recurse(n + 1) + frame[(n % 64) as usize]
}
