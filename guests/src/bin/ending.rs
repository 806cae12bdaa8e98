//! How a partition ends; its command line says which way.
#![no_std]
#![no_main]

use guests::{Context, MSR_REAL, Report, place, platform, println, rtas, run as run_context};

guests::main!(run);

fn run(t: &mut Report) {
    println!("@ end {}", platform::bootargs());
    match platform::bootargs() {
        // Twice through here is the test: the clock, set once, tells the second time from the first.
        "reboot" => {
            let mut time = [0; 7];
            rtas::call("get-time-of-day", &[], &mut time);
            let again = time[0] == 2042;
            println!("@ boot {}", if again { "second" } else { "first" });
            if !again {
                rtas::call("set-time-of-day", &[2042, 1, 1, 0, 0, 0, 0], &mut []);
                // Left in memory, in the interrupt controller and in the timer: nothing of it may be found again.
                guests::mem::write64(0x300_0000, 0x5ec7e7);
                guests::status(guests::Hcall::IPI, &[0, 3]);
                guests::status(guests::Hcall::CPPR, &[0xff]);
                guests::status(guests::Hcall::SET_MODE, &[3, 3, 0, 0]);
                rtas::call("system-reboot", &[], &mut []);
            } else {
                t.is_true("again", true);
                t.same("cppr-again", guests::hcall(guests::Hcall::XIRR, &[]).r4(), 0);
                let c = guests::run_code(&[], 0, 0);
                t.is_true("vectors-again", c.finished());
            }
        }
        "os-term" => {
            let text = b"the guest gives up\0";
            for (i, byte) in text.iter().enumerate() {
                guests::mem::write8(0x300_0000 + i as u64, *byte);
            }
            rtas::call("ibm,os-term", &[0x300_0000], &mut [])
                .eq(&0)
                .then(|| println!("@ check os-term fail it came back"));
        }
        // Nothing left to run: with every vector gone, an interrupt loop that never ends. The hypervisor cannot tell it
        // from work, so this is ended from outside.
        "stop" => {
            rtas::call("stop-self", &[], &mut []);
            println!("@ check stop-self fail it came back");
        }
        "machine-check" => {
            let mut c = Context { nip: place(&[guests::insn::ld(3, 0, 3)]), msr: MSR_REAL, ..Context::ZERO };
            c.gpr[3] = 1 << 39;
            run_context(&mut c);
            t.is_true("machine-check-lived", true);
        }
        other => {
            println!("@ note unknown ending {other:?}");
            t.is_true("known-ending", false);
        }
    }
}
