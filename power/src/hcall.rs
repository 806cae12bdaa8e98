//! Hypervisor calls: numbers, return codes and flags (PAPR 14.5 and Appendix B; LoPAR 1.1).

macro_rules! hcalls {
    ($($(#[$doc:meta])* $name:ident = $value:expr, $text:literal;)*) => {
        /// A hypervisor call's number, as a guest passes it in r3.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct Hcall(pub u64);

        #[allow(missing_docs)] // the names are PAPR's own
        impl Hcall {
            $($(#[$doc])* pub const $name: Hcall = Hcall($value);)*

            /// The name in PAPR, for traces; `None` when the number means nothing here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

hcalls! {
    REMOVE = 0x04, "H_REMOVE";
    ENTER = 0x08, "H_ENTER";
    READ = 0x0c, "H_READ";
    CLEAR_MOD = 0x10, "H_CLEAR_MOD";
    CLEAR_REF = 0x14, "H_CLEAR_REF";
    PROTECT = 0x18, "H_PROTECT";
    GET_TCE = 0x1c, "H_GET_TCE";
    PUT_TCE = 0x20, "H_PUT_TCE";
    SET_SPRG0 = 0x24, "H_SET_SPRG0";
    SET_DABR = 0x28, "H_SET_DABR";
    PAGE_INIT = 0x2c, "H_PAGE_INIT";
    LOGICAL_CI_LOAD = 0x3c, "H_LOGICAL_CI_LOAD";
    LOGICAL_CI_STORE = 0x40, "H_LOGICAL_CI_STORE";
    LOGICAL_CACHE_LOAD = 0x44, "H_LOGICAL_CACHE_LOAD";
    LOGICAL_CACHE_STORE = 0x48, "H_LOGICAL_CACHE_STORE";
    LOGICAL_ICBI = 0x4c, "H_LOGICAL_ICBI";
    LOGICAL_DCBF = 0x50, "H_LOGICAL_DCBF";
    GET_TERM_CHAR = 0x54, "H_GET_TERM_CHAR";
    PUT_TERM_CHAR = 0x58, "H_PUT_TERM_CHAR";
    EOI = 0x64, "H_EOI";
    CPPR = 0x68, "H_CPPR";
    IPI = 0x6c, "H_IPI";
    IPOLL = 0x70, "H_IPOLL";
    XIRR = 0x74, "H_XIRR";
    REGISTER_VPA = 0xdc, "H_REGISTER_VPA";
    CEDE = 0xe0, "H_CEDE";
    CONFER = 0xe4, "H_CONFER";
    PROD = 0xe8, "H_PROD";
    BULK_REMOVE = 0x124, "H_BULK_REMOVE";
    SET_XDABR = 0x134, "H_SET_XDABR";
    STUFF_TCE = 0x138, "H_STUFF_TCE";
    PUT_TCE_INDIRECT = 0x13c, "H_PUT_TCE_INDIRECT";
    GET_CPU_CHARACTERISTICS = 0x1c8, "H_GET_CPU_CHARACTERISTICS";
    JOIN = 0x298, "H_JOIN";
    HOME_NODE_ASSOCIATIVITY = 0x2ec, "H_HOME_NODE_ASSOCIATIVITY";
    XIRR_X = 0x2fc, "H_XIRR_X";
    RANDOM = 0x300, "H_RANDOM";
    SET_MODE = 0x31c, "H_SET_MODE";
    RESIZE_HPT_PREPARE = 0x36c, "H_RESIZE_HPT_PREPARE";
    RESIZE_HPT_COMMIT = 0x370, "H_RESIZE_HPT_COMMIT";
    REGISTER_PROC_TBL = 0x37c, "H_REGISTER_PROC_TBL";
    RTAS = 0xf000, "H_RTAS";
    /// Keep the partition's state as it is, in place of what was kept before. H_SUCCESS, with 0 in r4 and r5; and once more after each
    /// [`Hcall::PARTITA_REVERT`], with how often that has been in r4, and in r5 what it was given. H_NO_MEM if there is no memory
    /// to keep it in: what was kept before is lost then. No arguments.
    PARTITA_SNAPSHOT = 0xf400, "H_PARTITA_SNAPSHOT";
    /// Put the partition back into the state that is kept. It does not return: the snapshot does, once more, on the vCPU that took
    /// it, and r4 is what it returns in r5; all others go on where they were then. H_NOT_AVAILABLE if nothing is kept.
    PARTITA_REVERT = 0xf404, "H_PARTITA_REVERT";
    /// Who the partition is, which a clone has to ask again: H_SUCCESS; in r4 its number, as in `ibm,partition-no`; in r5 and r6
    /// its random identifier, first byte first; in r7 how often that has changed (by being cloned or reverted). No arguments.
    PARTITA_IDENTITY = 0xf408, "H_PARTITA_IDENTITY";
}

impl Hcall {
    /// The highest number of the range that PAPR spaces four apart.
    pub const MAX: u64 = 0x48c;
    /// The last number of this hypervisor's own range, the four from [`Hcall::PARTITA_SNAPSHOT`] on. PAPR ends far below. Above it
    /// KVM and QEMU have their own from 0xf000 to 0xf005 (H_RTAS among them) and from 0xf800 on, the ultravisor its from 0xf100
    /// to 0xf1ff, and secure guests theirs from 0xef00 on. The range is aligned, so `number | 0xc` tells whether it is one of these.
    pub const PRIVATE_LAST: u64 = 0xf40c;
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:expr, $text:literal;)*) => {
        /// What a hypervisor call answers in r3 (PAPR table 170).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(transparent)]
        pub struct Status(pub i64);

        #[allow(missing_docs)] // the names are PAPR's own
        impl Status {
            $($(#[$doc])* pub const $name: Status = Status($value);)*

            /// The name in PAPR.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0, "H_SUCCESS";
    BUSY = 1, "H_BUSY";
    CLOSED = 2, "H_CLOSED";
    NOT_AVAILABLE = 3, "H_NOT_AVAILABLE";
    CONSTRAINED = 4, "H_CONSTRAINED";
    PARTIAL = 5, "H_PARTIAL";
    PAGE_REGISTERED = 15, "H_PAGE_REGISTERED";
    CONTINUE = 18, "H_CONTINUE";
    LONG_BUSY_ORDER_1_MSEC = 9900, "H_LONG_BUSY_ORDER_1_MSEC";
    LONG_BUSY_ORDER_10_MSEC = 9901, "H_LONG_BUSY_ORDER_10_MSEC";
    LONG_BUSY_ORDER_100_MSEC = 9902, "H_LONG_BUSY_ORDER_100_MSEC";
    LONG_BUSY_ORDER_1_SEC = 9903, "H_LONG_BUSY_ORDER_1_SEC";
    LONG_BUSY_ORDER_10_SEC = 9904, "H_LONG_BUSY_ORDER_10_SEC";
    LONG_BUSY_ORDER_100_SEC = 9905, "H_LONG_BUSY_ORDER_100_SEC";
    HARDWARE = -1, "H_HARDWARE";
    FUNCTION = -2, "H_FUNCTION";
    PRIVILEGE = -3, "H_PRIVILEGE";
    PARAMETER = -4, "H_PARAMETER";
    BAD_MODE = -5, "H_BAD_MODE";
    PTEG_FULL = -6, "H_PTEG_FULL";
    NOT_FOUND = -7, "H_NOT_FOUND";
    RESERVED_DABR = -8, "H_RESERVED_DABR";
    NO_MEM = -9, "H_NO_MEM";
    AUTHORITY = -10, "H_AUTHORITY";
    PERMISSION = -11, "H_PERMISSION";
    DROPPED = -12, "H_DROPPED";
    RESOURCE = -16, "H_RESOURCE";
    IN_USE = -43, "H_IN_USE";
    P2 = -55, "H_P2";
    P3 = -56, "H_P3";
    P4 = -57, "H_P4";
    UNSUPPORTED_FLAG_START = -256, "H_UNSUPPORTED_FLAG_START";
}

/// Flags of the page table calls (PAPR 14.5.4.1). PAPR numbers them in IBM order within 64 bits.
pub mod flags {
    /// H_ENTER: use this very entry or none.
    pub const EXACT: u64 = 1 << (63 - 24);
    /// H_READ: answer with the four entries of the aligned group of four.
    pub const READ_4: u64 = 1 << (63 - 26);
    /// Bits of the page usage state (H_ENTER, H_PAGE_INIT), accepted and ignored.
    pub const PAGE_STATE: u64 = 0x7 << (63 - 30);
    /// H_REMOVE, H_PROTECT: act only if the entry's AVPN is the one given.
    pub const AVPN: u64 = 1 << (63 - 32);
    /// H_REMOVE: act only if the value given and the entry's dword 0 have no bit in common.
    pub const ANDCOND: u64 = 1 << (63 - 33);
    /// Invalidate the page in the instruction cache.
    pub const ICACHE_INVALIDATE: u64 = 1 << (63 - 40);
    /// Make the instruction cache agree with the page's data.
    pub const ICACHE_SYNCHRONIZE: u64 = 1 << (63 - 41);
    /// Fill the page with zeroes.
    pub const ZERO_PAGE: u64 = 1 << (63 - 48);
    /// Copy another page to it.
    pub const COPY_PAGE: u64 = 1 << (63 - 49);
    /// H_PROTECT: no-execute (dword 1's N).
    pub const N: u64 = 1 << (63 - 61);
    /// H_PROTECT: PP bits 1 and 2 (dword 1's low two bits).
    pub const PP: u64 = 3;
    /// H_PROTECT: PP bit 0 (dword 1's bit 0).
    pub const PP0: u64 = 1 << (63 - 55);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_range() {
        let own = |number: u64| number | 0xc == Hcall::PRIVATE_LAST;
        for call in [Hcall::PARTITA_SNAPSHOT, Hcall::PARTITA_REVERT, Hcall::PARTITA_IDENTITY] {
            assert!(own(call.0) && call.name().is_some_and(|name| name.starts_with("H_PARTITA_")));
        }
        let first = Hcall::PARTITA_SNAPSHOT.0;
        let numbers = (0..0x1_0000).chain([first | 1 << 32, !0]).filter(|number| own(*number));
        assert!(numbers.eq((0..4).map(|n| first + 4 * n)));
    }
}
