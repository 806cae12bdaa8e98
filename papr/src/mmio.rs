//! Loads and stores as an emulated device meets them: which register, which direction, and what a load of all ones leaves
//! there (Power ISA 3.0C, book I, 3.3.2 to 3.3.5, 4.6.2, 6.7, 7.6; ISA 3.1's prefixed forms are not decoded).
//!
//! Decoded are the integer, floating point, VMX and VSX forms that move one register, and cache operations, which do nothing.
//! Everything else is `None`: load multiple and string, `larx` and `stcx.`, paired vectors.

/// What an access moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A general purpose register, and what a load of all ones puts there.
    Gpr {
        /// 0 to 31.
        number: u8,
        /// Ones in as many bits as are loaded, extended as the instruction does.
        value: u64,
    },
    /// A vector-scalar register, likewise. Doubleword 0 is the floating point register.
    Vsr {
        /// 0 to 63.
        number: u8,
        /// Doublewords 0 and 1.
        value: [u64; 2],
    },
    /// No register: a cache operation.
    None,
}

/// A decoded load or store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// It stores, or changes nothing.
    pub store: bool,
    /// What.
    pub target: Target,
    /// The register that gets the effective address, for update forms.
    pub update: Option<u8>,
}

const ONES: u64 = u64::MAX;
/// A load of four bytes of ones as a single, in double format: the NaN that it is.
const SINGLE: u64 = 0xffff_ffff_e000_0000;

/// What an opcode moves, before its register fields are looked at.
#[derive(Clone, Copy)]
enum Form {
    /// A GPR gets this.
    Load(u64),
    /// FPR: its doubleword gets this.
    LoadFp(u64),
    /// VR, all of it.
    LoadVr,
    /// VSR with its sixth bit at the word's bit given (from the right), and what its doublewords get.
    LoadVsr(u32, [u64; 2]),
    Store,
    Cache,
}

/// The opcode's form, and whether it updates RA.
const fn form(word: u32) -> Option<(Form, bool)> {
    use Form::*;
    Some(match word >> 26 {
        op @ (32 | 33) => (Load(0xffff_ffff), op == 33), // lwz lwzu
        op @ (34 | 35) => (Load(0xff), op == 35),        // lbz lbzu
        op @ (40 | 41) => (Load(0xffff), op == 41),      // lhz lhzu
        op @ (42 | 43) => (Load(ONES), op == 43),        // lha lhau
        op @ (48 | 49) => (LoadFp(SINGLE), op == 49),    // lfs lfsu
        op @ (50 | 51) => (LoadFp(ONES), op == 51),      // lfd lfdu
        op @ (36..=39 | 44 | 45 | 52..=55) => (Store, op & 1 == 1), // stw stb sth stfs stfd and u
        57 => match word & 3 {
            2 | 3 => (LoadVr, false), // lxsd lxssp: VSR 32 to 63
            _ => return None,
        },
        58 => match word & 3 {
            0 => (Load(ONES), false), // ld
            1 => (Load(ONES), true),  // ldu
            2 => (Load(ONES), false), // lwa
            _ => return None,
        },
        61 => match word & 7 {
            1 => (LoadVsr(3, [ONES; 2]), false), // lxv
            5 | 2 | 3 | 6 | 7 => (Store, false), // stxv stxsd stxssp
            _ => return None,
        },
        62 => match word & 3 {
            0 => (Store, false), // std
            1 => (Store, true),  // stdu
            _ => return None,
        },
        31 => return extended(word >> 1 & 0x3ff),
        _ => return None,
    })
}

/// The same for primary opcode 31.
const fn extended(xo: u32) -> Option<(Form, bool)> {
    use Form::*;
    Some(match xo {
        21 | 532 => (Load(ONES), false),                           // ldx ldbrx
        53 => (Load(ONES), true),                                  // ldux
        23 | 534 => (Load(0xffff_ffff), false),                    // lwzx lwbrx
        55 => (Load(0xffff_ffff), true),                           // lwzux
        87 => (Load(0xff), false),                                 // lbzx
        119 => (Load(0xff), true),                                 // lbzux
        279 | 790 => (Load(0xffff), false),                        // lhzx lhbrx
        311 => (Load(0xffff), true),                               // lhzux
        341 | 343 => (Load(ONES), false),                          // lwax lhax
        373 | 375 => (Load(ONES), true),                           // lwaux lhaux
        149 | 151 | 215 | 407 | 660 | 662 | 918 => (Store, false), // stdx stwx stbx sthx stdbrx stwbrx sthbrx
        181 | 183 | 247 | 439 => (Store, true),                    // stdux stwux stbux sthux
        535 => (LoadFp(SINGLE), false),                            // lfsx
        567 => (LoadFp(SINGLE), true),                             // lfsux
        599 | 855 => (LoadFp(ONES), false),                        // lfdx lfiwax
        631 => (LoadFp(ONES), true),                               // lfdux
        887 => (LoadFp(0xffff_ffff), false),                       // lfiwzx
        663 | 727 | 983 => (Store, false),                         // stfsx stfdx stfiwx
        695 | 759 => (Store, true),                                // stfsux stfdux
        7 | 39 | 71 | 103 | 359 => (LoadVr, false),                // lvebx lvehx lvewx lvx lvxl
        135 | 167 | 199 | 231 | 487 => (Store, false),             // stvebx stvehx stvewx stvx stvxl
        // lxvx lxvdsx lxvwsx lxvw4x lxvh8x lxvd2x lxvb16x
        268 | 332 | 364 | 780 | 812 | 844 | 876 => (LoadVsr(0, [ONES; 2]), false),
        588 | 76 => (LoadVsr(0, [ONES, 0]), false), // lxsdx lxsiwax
        12 => (LoadVsr(0, [0xffff_ffff, 0]), false), // lxsiwzx
        524 => (LoadVsr(0, [SINGLE, 0]), false),    // lxsspx
        781 => (LoadVsr(0, [0xff, 0]), false),      // lxsibzx
        813 => (LoadVsr(0, [0xffff, 0]), false),    // lxsihzx
        // stxsiwx stxvx stxsspx stxsdx stxvw4x stxsibx stxvh8x stxsihx stxvd2x stxvb16x
        140 | 396 | 652 | 716 | 908 | 909 | 940 | 941 | 972 | 1004 => (Store, false),
        54 | 86 | 246 | 278 | 982 => (Cache, false), // dcbst dcbf dcbtst dcbt icbi
        _ => return None,
    })
}

/// Decodes an instruction word.
pub const fn decode(word: u32) -> Option<Instruction> {
    let (rt, ra) = ((word >> 21 & 31) as u8, (word >> 16 & 31) as u8);
    let Some((form, update)) = form(word) else { return None };
    // Update forms with RA=0, or loads with RA=RT, are invalid.
    if update && (ra == 0 || (matches!(form, Form::Load(_)) && ra == rt)) {
        return None;
    }
    let (store, target) = match form {
        Form::Load(value) => (false, Target::Gpr { number: rt, value }),
        Form::LoadFp(value) => (false, Target::Vsr { number: rt, value: [value, 0] }),
        Form::LoadVr => (false, Target::Vsr { number: rt | 32, value: [ONES; 2] }),
        Form::LoadVsr(bit, value) => {
            let high = (word >> bit & 1) as u8;
            (false, Target::Vsr { number: rt | high << 5, value })
        }
        Form::Store | Form::Cache => (true, Target::None),
    };
    Some(Instruction { store, target, update: if update { Some(ra) } else { None } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpr(word: u32) -> (u8, u64, Option<u8>) {
        match decode(word).unwrap() {
            Instruction { store: false, target: Target::Gpr { number, value }, update } => {
                (number, value, update)
            }
            other => panic!("{other:?}"),
        }
    }

    fn vsr(word: u32) -> (u8, [u64; 2]) {
        match decode(word).unwrap() {
            Instruction { store: false, target: Target::Vsr { number, value }, update: None } => {
                (number, value)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn integer_loads() {
        assert_eq!(gpr(0x8064_0008), (3, 0xffff_ffff, None)); // lwz r3,8(r4)
        assert_eq!(gpr(0x8c64_0001), (3, 0xff, Some(4))); // lbzu r3,1(r4)
        assert_eq!(gpr(0xa864_0000), (3, ONES, None)); // lha r3,0(r4)
        assert_eq!(gpr(0xe864_0000), (3, ONES, None)); // ld r3,0(r4)
        assert_eq!(gpr(0xe864_0002), (3, ONES, None)); // lwa r3,0(r4)
        assert_eq!(gpr(0x7ca0_262c), (5, 0xffff, None)); // lhbrx r5,0,r4
    }

    #[test]
    fn vector_and_floating_point_loads() {
        assert_eq!(vsr(0xc8e3_0000), (7, [ONES, 0])); // lfd f7,0(r3)
        assert_eq!(vsr(0xc0e3_0000), (7, [SINGLE, 0])); // lfs f7,0(r3)
        assert_eq!(vsr(0x7ce0_18ce), (39, [ONES; 2])); // lvx v7,0,r3
        assert_eq!(vsr(0x7ce0_1e98), (7, [ONES; 2])); // lxvd2x vs7,0,r3
        assert_eq!(vsr(0x7ce0_1e99), (39, [ONES; 2])); // lxvd2x vs39,0,r3
        assert_eq!(vsr(0xf4e3_0009), (39, [ONES; 2])); // lxv vs39,0(r3)
    }

    #[test]
    fn stores_and_cache_operations() {
        for word in [0x7ca6_212a, 0xf861_0010, 0xd8e3_0000, 0x7ce0_1f98, 0x7c00_18ac] {
            let Instruction { store, target, update } = decode(word).unwrap();
            assert!(store && target == Target::None && update.is_none(), "{word:#x}");
        }
        assert_eq!(decode(0xf861_fff1).unwrap().update, Some(1)); // stdu r3,-16(r1)
    }

    #[test]
    fn everything_else() {
        assert_eq!(decode(0x6000_0000), None); // nop
        assert_eq!(decode(0x8463_0004), None); // lwzu r3,4(r3): invalid
        assert_eq!(decode(0x7c64_2828), None); // lwarx
        assert_eq!(decode(0xb864_0000), None); // lmw
    }
}
