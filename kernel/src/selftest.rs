//! Deliberate faults of the hypervisor, one for each kind of epitaph, chosen by `selftest=` on the firmware's command
//! line. Only in test builds.
#![allow(unsafe_code)] // faults on purpose

use core::hint::black_box;

use crate::memory::image;

/// Does what the command line asks for, if anything.
pub fn run(bootargs: &str) {
    let Some(name) = bootargs.split_whitespace().find_map(|word| word.strip_prefix("selftest=")) else { return };
    crate::log!("selftest: {name}");
    match name {
        // SAFETY (all of these): there is none; the fault is the point.
        "null-deref" => drop(black_box(unsafe { (black_box(8) as *const u64).read_volatile() })),
        "text-write" => unsafe { (black_box(image::text_end() - 8) as *mut u64).write_volatile(1) },
        "rodata-write" => unsafe { (black_box(image::rodata_end() - 8) as *mut u64).write_volatile(1) },
        "data-execute" => {
            static WORD: u32 = 0;
            let data = [0x4e80_0020u32, WORD]; // blr
            unsafe { core::arch::asm!("mtctr {}", "bctrl", in(reg) black_box(&data), out("ctr") _, out("lr") _) };
        }
        "stack-overflow" => drop(black_box(recurse(black_box(1)))),
        // Nothing answers at this real address.
        "machine-check" => {
            let ea = crate::mmu::map_device(power::HostReal(0x0006_0fff_0000_0000), 8);
            drop(black_box(ea.map(|ea| unsafe { (ea as *const u64).read_volatile() })));
        }
        "illegal" => unsafe { core::arch::asm!(".long 0") },
        "reboot" => crate::opal::reboot(),
        "panic" => panic!("on purpose"),
        _ => {}
    }
    crate::log!("selftest: {name} came back");
}

#[allow(unconditional_recursion)]
fn recurse(n: u64) -> u64 {
    let frame = black_box([n; 64]);
    recurse(n + 1) + frame[(n % 64) as usize]
}
