//! Small questions a guest asks about its processor, and H_SET_MODE: the arguments decoded, the answers computed.
//!
//! LoPAR, "Logical Partitioning Option": H_GET_CPU_CHARACTERISTICS, H_HOME_NODE_ASSOCIATIVITY, H_SET_MODE.

use power::{Generation, Status};

/// H_GET_CPU_CHARACTERISTICS, r4: what the processor can do about speculation.
pub mod character {
    /// `ori r31,r31,0` is a speculation barrier (0).
    pub const SPEC_BARRIER_ORI31: u64 = 1 << 63;
    /// `bcctrl` is serialised (1).
    pub const BCCTRL_SERIALISED: u64 = 1 << 62;
    /// `ori r30,r30,0` flushes the L1 data cache (2).
    pub const L1D_FLUSH_ORI30: u64 = 1 << 61;
    /// `mtspr TRIG2` flushes the L1 data cache (3).
    pub const L1D_FLUSH_TRIG2: u64 = 1 << 60;
    /// Threads of a core do not see each other's lines of the L1 data cache (4).
    pub const L1D_THREAD_PRIVATE: u64 = 1 << 59;
    /// Branch hints of the program are honoured (5).
    pub const HONOUR_BRANCH_HINTS: u64 = 1 << 58;
    /// The count cache is off (7).
    pub const COUNT_CACHE_DISABLED: u64 = 1 << 56;
    /// A special `bcctr` flushes the count cache (9).
    pub const BCCTR_FLUSH_ASSIST: u64 = 1 << 54;
}

/// H_GET_CPU_CHARACTERISTICS, r5: what the guest ought to do about it.
pub mod behaviour {
    /// Prefer security to performance (0).
    pub const FAVOUR_SECURITY: u64 = 1 << 63;
    /// Flush the L1 data cache on the way from privileged to problem state (1).
    pub const L1D_FLUSH_PR: u64 = 1 << 62;
    /// Put a speculation barrier behind bounds checks (2).
    pub const BOUNDS_CHECK_BARRIER: u64 = 1 << 61;
    /// Flush the count cache on a context switch (5).
    pub const FLUSH_COUNT_CACHE: u64 = 1 << 58;
    /// No flush of the L1 data cache is needed on entry to privileged state (7).
    pub const NO_L1D_FLUSH_ENTRY: u64 = 1 << 56;
    /// No flush of the L1 data cache is needed after accesses to user memory (8).
    pub const NO_L1D_FLUSH_UACCESS: u64 = 1 << 55;
}

/// The two registers that H_GET_CPU_CHARACTERISTICS answers with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Characteristics {
    /// r4: bits of [`character`].
    pub character: u64,
    /// r5: bits of [`behaviour`].
    pub behaviour: u64,
}

/// When firmware says nothing about speculation, as under an emulator: the processor's own weaknesses, and the
/// instructions that are harmless on every revision of it.
///
/// The barrier and flush forms of `ori` came to POWER8 and POWER9 by microcode and are no-ops without it. TRIG2 is
/// not promised: where it is missing, writing it is a privileged operation. A count cache flush is not asked for:
/// without the assist, which only firmware can vouch for, it costs thousands of instructions at every context switch.
pub const fn unknown_firmware(generation: Generation) -> Characteristics {
    use behaviour::*;
    use character::*;
    match generation {
        Generation::Power8 | Generation::Power9 => Characteristics {
            character: HONOUR_BRANCH_HINTS | SPEC_BARRIER_ORI31 | L1D_FLUSH_ORI30 | L1D_THREAD_PRIVATE,
            behaviour: FAVOUR_SECURITY | L1D_FLUSH_PR | BOUNDS_CHECK_BARRIER,
        },
        // Fixed in hardware, but for bounds checks.
        Generation::Power10 => Characteristics {
            character: HONOUR_BRANCH_HINTS | SPEC_BARRIER_ORI31 | L1D_THREAD_PRIVATE,
            behaviour: FAVOUR_SECURITY | BOUNDS_CHECK_BARRIER | NO_L1D_FLUSH_ENTRY | NO_L1D_FLUSH_UACCESS,
        },
    }
}

/// What firmware says, as names under `/ibm,opal/fw-features` in the host's device tree: `enabled(name)` is whether
/// that node exists and has the property `enabled`.
///
/// A need counts unless firmware denies it, an ability only if firmware grants it.
pub fn from_firmware(
    mut enabled: impl FnMut(&str) -> bool,
    mut disabled: impl FnMut(&str) -> bool,
) -> Characteristics {
    let able = [
        ("inst-spec-barrier-ori31,31,0", character::SPEC_BARRIER_ORI31),
        ("fw-bcctrl-serialized", character::BCCTRL_SERIALISED),
        ("inst-l1d-flush-ori30,30,0", character::L1D_FLUSH_ORI30),
        ("inst-l1d-flush-trig2", character::L1D_FLUSH_TRIG2),
        ("fw-l1d-thread-split", character::L1D_THREAD_PRIVATE),
        ("fw-count-cache-disabled", character::COUNT_CACHE_DISABLED),
        ("fw-count-cache-flush-bcctr2,0,0", character::BCCTR_FLUSH_ASSIST),
    ];
    let needed = [
        ("speculation-policy-favor-security", behaviour::FAVOUR_SECURITY),
        ("needs-l1d-flush-msr-pr-0-to-1", behaviour::L1D_FLUSH_PR),
        ("needs-spec-barrier-for-bound-checks", behaviour::BOUNDS_CHECK_BARRIER),
    ];
    let mut c = Characteristics { character: character::HONOUR_BRANCH_HINTS, behaviour: 0 };
    for (name, bit) in able {
        if enabled(name) {
            c.character |= bit;
        }
    }
    for (name, bit) in needed {
        if !disabled(name) {
            c.behaviour |= bit;
        }
    }
    if enabled("needs-count-cache-flush-on-context-switch") {
        c.behaviour |= behaviour::FLUSH_COUNT_CACHE;
    }
    if enabled("no-need-l1d-flush-msr-pr-1-to-0") {
        c.behaviour |= behaviour::NO_L1D_FLUSH_ENTRY;
    }
    if enabled("no-need-l1d-flush-kernel-on-user-access") {
        c.behaviour |= behaviour::NO_L1D_FLUSH_UACCESS;
    }
    c
}

/// H_HOME_NODE_ASSOCIATIVITY: r4 to r9, for a virtual processor of the (only) node 0. `known` says whether the
/// partition has a processor of a given number.
///
/// The associativity is that of a one-node machine, four zero domains and the processor's own number, two to a
/// register, and the registers left over are all ones.
pub fn home_node(flags: u64, processor: u64, known: impl FnOnce(u64) -> bool) -> Result<[u64; 6], Status> {
    // Flag 1: the number is one of H_REGISTER_VPA's. The other form takes a processor of the machine.
    if flags != 1 {
        return Err(Status::FUNCTION);
    }
    if !known(processor) {
        return Err(Status::P2);
    }
    let own = processor & 0xffff_ffff;
    Ok([0, 0, own << 32 | 0xffff_ffff, !0, !0, !0])
}

/// What H_SET_MODE asks for, once it has been found to be well formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetMode {
    /// The caller's CIABR gets this value.
    Ciabr(u64),
    /// The caller's DAWR and DAWRX number 0 or 1 get these values.
    Dawr {
        /// Which one.
        index: u8,
        /// The address.
        dawr: u64,
        /// The conditions; never with the hypervisor bit.
        dawrx: u64,
    },
    /// Every processor of the partition, also those started later, takes its interrupts with translation
    /// on (LPCR\[AIL\] is 3) or off.
    InterruptsTranslated(bool),
    /// Every processor of the partition, also those started later, takes its interrupts in little endian
    /// (LPCR\[ILE\]) or in big endian.
    LittleEndian(bool),
}

/// Decode H_SET_MODE's r4 to r7. An answer for flags that are not supported is H_UNSUPPORTED_FLAG_START, as LoPAR
/// has it for the first flag of the word, and callers only look for its sign.
pub const fn set_mode(
    generation: Generation,
    flags: u64,
    resource: u64,
    value1: u64,
    value2: u64,
) -> Result<SetMode, Status> {
    match resource {
        1 => {
            if flags != 0 {
                return Err(Status::UNSUPPORTED_FLAG_START);
            }
            if value2 != 0 {
                return Err(Status::P4);
            }
            // Matching in hypervisor state is not the guest's to ask for.
            if value1 & 3 == 3 {
                return Err(Status::P3);
            }
            Ok(SetMode::Ciabr(value1))
        }
        2 | 5 => {
            // The second watchpoint came with Power ISA 3.1.
            if resource == 5 && !matches!(generation, Generation::Power10) {
                return Err(Status::P2);
            }
            if flags != 0 {
                return Err(Status::UNSUPPORTED_FLAG_START);
            }
            // DAWRX[HYP], as above.
            if value2 & 4 != 0 {
                return Err(Status::P4);
            }
            Ok(SetMode::Dawr { index: (resource == 5) as u8, dawr: value1, dawrx: value2 })
        }
        3 | 4 => {
            if value1 != 0 {
                return Err(Status::P3);
            }
            if value2 != 0 {
                return Err(Status::P4);
            }
            match (resource, flags) {
                (3, 0) => Ok(SetMode::InterruptsTranslated(false)),
                (3, 3) => Ok(SetMode::InterruptsTranslated(true)),
                (4, 0) => Ok(SetMode::LittleEndian(false)),
                (4, 1) => Ok(SetMode::LittleEndian(true)),
                _ => Err(Status::UNSUPPORTED_FLAG_START),
            }
        }
        _ => Err(Status::P2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Generation::*;

    #[test]
    fn set_mode_decodes_and_refuses() {
        assert_eq!(set_mode(Power8, 1, 4, 0, 0), Ok(SetMode::LittleEndian(true)));
        assert_eq!(set_mode(Power8, 0, 4, 0, 0), Ok(SetMode::LittleEndian(false)));
        assert_eq!(set_mode(Power8, 2, 4, 0, 0), Err(Status::UNSUPPORTED_FLAG_START));
        assert_eq!(set_mode(Power8, 2, 4, 1, 1), Err(Status::P3));
        assert_eq!(set_mode(Power8, 2, 4, 0, 1), Err(Status::P4));
        assert_eq!(set_mode(Power9, 3, 3, 0, 0), Ok(SetMode::InterruptsTranslated(true)));
        assert_eq!(set_mode(Power9, 2, 3, 0, 0), Err(Status::UNSUPPORTED_FLAG_START));
        assert_eq!(set_mode(Power9, 0, 1, 0x1001, 0), Ok(SetMode::Ciabr(0x1001)));
        assert_eq!(set_mode(Power9, 0, 1, 0x1003, 0), Err(Status::P3));
        assert_eq!(set_mode(Power9, 0, 1, 0, 9), Err(Status::P4));
        assert_eq!(set_mode(Power9, 0, 2, 8, 3), Ok(SetMode::Dawr { index: 0, dawr: 8, dawrx: 3 }));
        assert_eq!(set_mode(Power9, 0, 2, 8, 7), Err(Status::P4));
        assert_eq!(set_mode(Power9, 0, 5, 8, 3), Err(Status::P2));
        assert_eq!(set_mode(Power10, 0, 5, 8, 3), Ok(SetMode::Dawr { index: 1, dawr: 8, dawrx: 3 }));
        assert_eq!(set_mode(Power10, 0, 6, 0, 0), Err(Status::P2));
    }

    #[test]
    fn home_node_is_the_only_one() {
        assert_eq!(home_node(1, 3, |n| n < 4).unwrap(), [0, 0, 0x3_ffff_ffff, !0, !0, !0]);
        assert_eq!(home_node(2, 3, |_| true), Err(Status::FUNCTION));
        assert_eq!(home_node(1, 4, |n| n < 4), Err(Status::P2));
    }

    #[test]
    fn firmware_grants_abilities_and_denies_needs() {
        let silent = from_firmware(|_| false, |_| false);
        assert_eq!(silent.character, character::HONOUR_BRANCH_HINTS);
        assert_eq!(
            silent.behaviour,
            behaviour::FAVOUR_SECURITY | behaviour::L1D_FLUSH_PR | behaviour::BOUNDS_CHECK_BARRIER
        );
        let fixed = from_firmware(
            |n| n.starts_with("inst-l1d-flush-trig2"),
            |n| n == "needs-l1d-flush-msr-pr-0-to-1",
        );
        assert_eq!(fixed.character, character::HONOUR_BRANCH_HINTS | character::L1D_FLUSH_TRIG2);
        assert_eq!(fixed.behaviour & behaviour::L1D_FLUSH_PR, 0);
    }
}
