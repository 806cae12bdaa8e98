//! Why a guest is left for the virtual-mode hypervisor.

macro_rules! exits {
    ($($(#[$doc:meta])* $variant:ident = $value:literal, $text:literal;)*) => {
        /// Why the guest was left for the virtual-mode hypervisor: the raw value that the assembly carries.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub enum ExitCode {
            $($(#[$doc])* $variant = $value,)*
        }

        impl ExitCode {
            /// All of them, by value; the first has the value 1.
            pub const ALL: &[ExitCode] = &[$(ExitCode::$variant,)*];

            /// What it is called in traces and statistics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ExitCode::$variant => $text,)*
                }
            }
        }
    };
}

exits! {
    /// A hypercall that real mode does not do: the number is in r3.
    Hcall = 1, "hypercall";
    /// A storage fault that needs its backing changed or its device emulated: `Vcpu::fault`.
    Storage = 2, "storage fault";
    /// The slice is over.
    Slice = 3, "end of slice";
    /// A host interrupt wants the virtual-mode hypervisor.
    HostInterrupt = 4, "host interrupt";
    /// H_CEDE with nothing pending.
    Cede = 5, "cede";
    /// A machine check hit the guest.
    MachineCheck = 6, "machine check";
    /// An interrupt that no guest should be able to cause.
    Unexpected = 7, "unexpected interrupt";
    /// H_CONFER: let another vCPU run.
    Yield = 8, "yield";
    /// The guest used a facility that it does not have.
    Facility = 9, "facility";
}

impl ExitCode {
    /// From the value that `enter_guest` returns; what is not one of them is [`ExitCode::Unexpected`].
    #[inline]
    pub const fn from_raw(raw: u64) -> ExitCode {
        match ExitCode::known(raw) {
            Some(code) => code,
            None => ExitCode::Unexpected,
        }
    }

    /// From a raw value; `None` if it is not one.
    pub(crate) const fn known(raw: u64) -> Option<ExitCode> {
        if raw == 0 || raw > ExitCode::ALL.len() as u64 {
            return None;
        }
        Some(ExitCode::ALL[raw as usize - 1])
    }
}

const _: () = {
    let mut n = 0;
    while n < ExitCode::ALL.len() {
        assert!(ExitCode::ALL[n] as usize == n + 1);
        n += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_values() {
        for &code in ExitCode::ALL {
            assert_eq!(ExitCode::from_raw(code as u64), code);
        }
        for raw in [0, ExitCode::ALL.len() as u64 + 1, u64::MAX] {
            assert_eq!(ExitCode::from_raw(raw), ExitCode::Unexpected);
            assert_eq!(ExitCode::known(raw), None);
        }
    }
}
