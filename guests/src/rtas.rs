//! RTAS calls, through H_RTAS.
#![allow(unsafe_code)] // the argument buffer's address goes to the hypervisor

use crate::hcall::status;
use crate::platform;
use power::{Hcall, Status};

/// Most arguments and results together.
pub const MAX: usize = 16;

#[repr(C, align(64))]
struct Buffer([u32; 3 + MAX]);

/// The token of a call, from the device tree.
pub fn token(name: &str) -> Option<u32> {
    platform::cell("/rtas", name, 0)
}

/// Makes a call; `Err` is the hypervisor call's own status.
pub fn call_token(token: u32, arguments: &[u32], results: &mut [u32]) -> Result<(), Status> {
    let mut buffer = Buffer([0; 3 + MAX]);
    let (nargs, nret) = (arguments.len(), results.len());
    assert!(nargs + nret <= MAX);
    buffer.0[0] = token.to_be();
    buffer.0[1] = (nargs as u32).to_be();
    buffer.0[2] = (nret as u32).to_be();
    for (to, from) in buffer.0[3..].iter_mut().zip(arguments) {
        *to = from.to_be();
    }
    let address = (&raw mut buffer) as u64 & 0xffff_ffff;
    let status = status(Hcall::RTAS, &[address]);
    for (i, to) in results.iter_mut().enumerate() {
        // SAFETY: in bounds; volatile, because the hypervisor wrote it.
        *to = u32::from_be(unsafe { (&raw const buffer.0[3 + nargs + i]).read_volatile() });
    }
    if status == Status::SUCCESS { Ok(()) } else { Err(status) }
}

/// Makes a call by name; gives the first result, the call's status, and puts the others in `more`.
pub fn call(name: &str, arguments: &[u32], more: &mut [u32]) -> i32 {
    let Some(token) = token(name) else { return i32::MIN };
    let mut results = [0; MAX];
    if call_token(token, arguments, &mut results[..1 + more.len()]).is_err() {
        return i32::MIN + 1;
    }
    more.copy_from_slice(&results[1..1 + more.len()]);
    results[0].cast_signed()
}

/// Ends the partition.
pub fn power_off() -> ! {
    call("power-off", &[0, 0], &mut []);
    loop {
        core::hint::spin_loop();
    }
}
