//! Fuzz targets: programs that give a part of the hypervisor whatever bytes they are given, to find some that it does not bear. Each is a
//! file in `src/bin`, and may have seeds: inputs from which others are made, a line in hexadecimal for each in a file of `seeds`.
//!
//! `cargo xtask fuzz` builds them with libFuzzer, which sees what the bytes reach. Without a C++ compiler, and in tests, a plain runner
//! takes its place: it goes through the seeds, and then through what becomes of them by chance.

#[path = "../../virtio/tests/common/mod.rs"]
mod common;
pub mod device;
mod input;
pub mod plain;

pub use input::Input;

/// libFuzzer, for the macro.
#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;

/// Makes a target of a function of bytes: a program and a test. Its file begins with `#![cfg_attr(feature = "libfuzzer", no_main)]`.
#[macro_export]
macro_rules! target {
    ($name:ident, $run:expr) => {
        #[cfg(feature = "libfuzzer")]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $run(data));

        #[cfg(not(feature = "libfuzzer"))]
        fn main() -> std::process::ExitCode {
            $crate::plain::main(stringify!($name), $run)
        }

        #[cfg(test)]
        #[test]
        fn $name() {
            $crate::plain::test(stringify!($name), $run);
        }
    };
}
