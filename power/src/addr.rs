//! Addresses and indices that must not be confused with each other.

use core::fmt;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{:#x}"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

newtype!(
    /// A real address of the machine, in bytes.
    HostReal,
    "host"
);
newtype!(
    /// A real address as a partition sees it, in bytes: what its page table entries and its real mode name.
    GuestReal,
    "guest"
);
newtype!(
    /// An effective address, in bytes, before the SLB and the hashed page table.
    Ea,
    "ea"
);
newtype!(
    /// The number of an entry in a hashed page table: eight of them make a PTEG (Power ISA 3.0C, book III, 5.7.9.1).
    PteIndex,
    "pte"
);

impl PteIndex {
    /// The first entry of the PTEG that holds this one.
    pub const fn group(self) -> PteIndex {
        PteIndex(self.0 & !7)
    }
}

/// Where the linear map starts: an effective address that names the same byte in hypervisor real mode
/// (the top four bits are ignored there) and in virtual mode.
pub const LINEAR_BASE: u64 = 0xc000_0000_0000_0000;

impl HostReal {
    /// The effective address of this byte, valid in both modes. Only for addresses below 2^60.
    pub const fn ea(self) -> u64 {
        LINEAR_BASE | self.0
    }

    /// The real address behind a linear effective address.
    pub const fn of_ea(ea: u64) -> HostReal {
        HostReal(ea & !(0xf << 60))
    }
}

/// A logical partition's number as LPIDR holds it. 0 is the hypervisor itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Lpid(pub u32);

impl Lpid {
    /// The hypervisor's own.
    pub const HOST: Lpid = Lpid(0);
}
