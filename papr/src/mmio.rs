//! Loads and stores as an emulated device meets them: which register, how wide, which direction (Power ISA 3.0C,
//! book I, 3.3.2 to 3.3.5). Integer forms of a word each; everything else is `None`.

/// The register that an access is from or to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A general purpose register, and what a load of all ones puts there.
    Gpr {
        /// 0 to 31.
        number: u8,
        /// Ones in as many bits as are loaded, extended as the instruction does.
        value: u64,
    },
}

/// A decoded load or store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// It stores.
    pub store: bool,
    /// What.
    pub target: Target,
    /// The register that gets the effective address, for update forms.
    pub update: Option<u8>,
}

/// Width and direction of a form.
#[derive(Clone, Copy)]
enum Form {
    Load { bytes: u32, signed: bool, update: bool },
    Store { update: bool },
}

const fn load(bytes: u32) -> Form {
    Form::Load { bytes, signed: false, update: false }
}

const fn load_update(bytes: u32) -> Form {
    Form::Load { bytes, signed: false, update: true }
}

const fn load_signed(bytes: u32, update: bool) -> Form {
    Form::Load { bytes, signed: true, update }
}

const STORE: Form = Form::Store { update: false };
const STORE_UPDATE: Form = Form::Store { update: true };

/// Decodes an instruction word; `None` for everything but integer loads and stores of one register.
pub const fn decode(word: u32) -> Option<Instruction> {
    let (rt, ra) = ((word >> 21 & 31) as u8, (word >> 16 & 31) as u8);
    let form = match word >> 26 {
        32 => load(4),                 // lwz
        33 => load_update(4),          // lwzu
        34 => load(1),                 // lbz
        35 => load_update(1),          // lbzu
        36 | 38 | 44 => STORE,         // stw stb sth
        37 | 39 | 45 => STORE_UPDATE,  // stwu stbu sthu
        40 => load(2),                 // lhz
        41 => load_update(2),          // lhzu
        42 => load_signed(2, false),   // lha
        43 => load_signed(2, true),    // lhau
        58 => match word & 3 {
            0 => load(8),              // ld
            1 => load_update(8),       // ldu
            2 => load_signed(4, false), // lwa
            _ => return None,
        },
        62 => match word & 3 {
            0 => STORE,                // std
            1 => STORE_UPDATE,         // stdu
            _ => return None,
        },
        31 => match word >> 1 & 0x3ff {
            21 | 532 => load(8),       // ldx ldbrx
            53 => load_update(8),      // ldux
            23 | 534 => load(4),       // lwzx lwbrx
            55 => load_update(4),      // lwzux
            87 => load(1),             // lbzx
            119 => load_update(1),     // lbzux
            279 | 790 => load(2),      // lhzx lhbrx
            311 => load_update(2),     // lhzux
            341 => load_signed(4, false), // lwax
            373 => load_signed(4, true), // lwaux
            343 => load_signed(2, false), // lhax
            375 => load_signed(2, true), // lhaux
            149 | 151 | 215 | 407 | 660 | 662 | 918 => STORE, // stdx stwx stbx sthx stdbrx stwbrx sthbrx
            181 | 183 | 247 | 439 => STORE_UPDATE, // stdux stwux stbux sthux
            _ => return None,
        },
        _ => return None,
    };
    let (store, update, value) = match form {
        Form::Load { bytes, signed, update } => {
            let ones = u64::MAX >> (64 - 8 * bytes);
            (false, update, if signed { u64::MAX } else { ones })
        }
        Form::Store { update } => (true, update, 0),
    };
    // Update forms with RA=0, or loads with RA=RT, are invalid.
    if update && (ra == 0 || (!store && ra == rt)) {
        return None;
    }
    let target = Target::Gpr { number: rt, value };
    Some(Instruction { store, target, update: if update { Some(ra) } else { None } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpr(word: u32) -> (bool, u8, u64, Option<u8>) {
        let Instruction { store, target: Target::Gpr { number, value }, update } = decode(word).unwrap();
        (store, number, value, update)
    }

    #[test]
    fn loads_and_stores() {
        assert_eq!(gpr(0x8064_0008), (false, 3, 0xffff_ffff, None)); // lwz r3,8(r4)
        assert_eq!(gpr(0x8c64_0001), (false, 3, 0xff, Some(4))); // lbzu r3,1(r4)
        assert_eq!(gpr(0xa864_0000), (false, 3, u64::MAX, None)); // lha r3,0(r4)
        assert_eq!(gpr(0xe864_0000), (false, 3, u64::MAX, None)); // ld r3,0(r4)
        assert_eq!(gpr(0xe864_0002), (false, 3, u64::MAX, None)); // lwa r3,0(r4)
        assert_eq!(gpr(0x7ca0_262c), (false, 5, 0xffff, None)); // lhbrx r5,0,r4
        assert_eq!(gpr(0x7ca6_212a), (true, 5, 0, None)); // stdx r5,r6,r4
        assert_eq!(gpr(0xf861_fff1), (true, 3, 0, Some(1))); // stdu r3,-16(r1)
    }

    #[test]
    fn everything_else() {
        assert_eq!(decode(0x6000_0000), None); // nop
        assert_eq!(decode(0xc864_0000), None); // lfd f3,0(r4)
        assert_eq!(decode(0x8463_0004), None); // lwzu r3,4(r3): invalid
        assert_eq!(decode(0x7c64_2828), None); // lwarx
    }
}
