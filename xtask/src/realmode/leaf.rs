//! What the short ways of hypercalls may do (`realmode/src/hcalls/mod.rs: Kind`): hcall.S has saved r0, r3 to r12 and CR before it calls one, so it must
//! touch no other general register, neither LR nor CTR nor XER, and call nothing; one that is framed has a stack, and saves there what else it uses, as
//! any function does. The instructions are those that the compiler makes of such functions; what is not listed is an offence.

/// The general registers that a leaf may use. r13 is the vCPU, and not its.
const LEAF: u32 = 1 | 0x1ff8;
/// Those of a framed one: the same, the stack pointer, and those that functions keep.
const FRAMED: u32 = LEAF | 1 << 1 | 0xffff_c000;

const REGISTER: &str = "uses a register that is not saved for it";
const UNKNOWN: &str = "is an instruction that no leaf is known to need";

/// Checks one instruction.
pub(super) fn check(word: u32, framed: bool) -> Result<(), &'static str> {
    let used = registers(word).ok_or(UNKNOWN)?;
    let free = if framed { FRAMED } else { LEAF };
    if used & !free == 0 { Ok(()) } else { Err(REGISTER) }
}

/// The general registers that an instruction names, as a mask; `None` for one that is not known, or that changes LR, CTR or XER.
fn registers(word: u32) -> Option<u32> {
    let field = |shift: u32| 1 << (word >> shift & 31);
    // RT or RS, RA, RB. As a base register, 0 means none; r0 is free anyway.
    let (t, a, b) = (field(21), field(16), field(11));
    Some(match word >> 26 {
        // cmpli, cmpi.
        10 | 11 => a,
        // addi, addis; ori, oris, xori, xoris, andi., andis.; rlwimi, rlwinm; rld forms.
        14 | 15 | 20 | 21 | 24..=29 => t | a,
        30 if word >> 1 & 0xf < 8 => t | a,
        30 => t | a | b,
        // rlwnm.
        23 => t | a | b,
        // b and bc; with a decrement of CTR they are not for leaves.
        18 => 0,
        16 if word >> 21 & 0b00100 != 0 => 0,
        // bclr, and operations on bits of CR; isync.
        19 if matches!(word >> 1 & 0x3ff, 16) && word >> 21 & 0b00100 != 0 => 0,
        19 if matches!(word >> 1 & 0x3ff, 0 | 33 | 129 | 150 | 193 | 225 | 257 | 289 | 417 | 449) => 0,
        // lwz, lbz, stw, stb, lhz, sth; ld, ldu and lwa; std and stdu.
        32 | 34 | 36 | 38 | 40 | 44 => t | a,
        58 => t | a,
        62 if word & 2 == 0 => t | a,
        31 => return extended(word, t, a, b),
        _ => return None,
    })
}

/// Of opcode 31; all without OE, which would set XER.
fn extended(word: u32, t: u32, a: u32, b: u32) -> Option<u32> {
    let number = word >> 1 & 0x3ff;
    Some(match number {
        // cmp, cmpl.
        0 | 32 => a | b,
        // and, andc, nor, eqv, xor, orc, or, nand; slw, sld, srw, srd.
        28 | 60 | 124 | 284 | 316 | 412 | 444 | 476 | 24 | 27 | 536 | 539 => t | a | b,
        // subf, add, mullw, mulld.
        40 | 266 | 235 | 233 => t | a | b,
        // neg, cntlzw, cntlzd, extsh, extsb, extsw.
        104 | 26 | 58 | 922 | 954 | 986 => t | a,
        // Loads and stores with an index, some with a reservation or with bytes reversed.
        20 | 21 | 23 | 84 | 87 | 279 | 532 | 149 | 150 | 151 | 214 | 215 | 407 | 660 => t | a | b,
        // sync in all its forms, eieio, tlbsync.
        598 | 854 | 566 => 0,
        // tlbie, tlbiel.
        306 | 274 => t | b,
        // mfspr: the timebase only.
        339 if word >> 11 & 0x3ff == 12 << 5 | 8 => t,
        // isel has five bits only.
        _ if number & 31 == 15 => t | a | b,
        _ => return None,
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn instructions() {
        for word in [
            0x3860_0000, // li r3, 0
            0x7c83_2378, // mr r3, r4
            0xe8a3_03a0, // ld r5, 928(r3)
            0x7cc0_20a8, // ldarx r6, 0, r4
            0x7d00_21ad, // stdcx. r8, 0, r4
            0x7c20_04ac, // lwsync
            0x4082_0010, // bne
            0x4e80_0020, // blr
            0x78e8_0020, // clrldi r8, r7, 32
            0x7cec_42a6, // mftb r7
            0x7d28_409e, // isel r9, r8, r8, 2
        ] {
            assert_eq!(check(word, false), Ok(()), "{word:#x}");
        }
        for word in [
            0xf821_ffe1, // stdu r1, -32(r1)
            0x3842_0000, // addi r2, r2, 0
            0x7dc3_7378, // mr r3, r14
            0xe9a3_0000, // ld r13, 0(r3)
        ] {
            assert!(check(word, false).is_err(), "{word:#x}");
        }
        for (word, good) in [
            (0xf821_ffe1, true),  // stdu r1, -32(r1)
            (0xfbc1_fff0, true),  // std r30, -16(r1)
            (0x3842_0000, false), // addi r2, r2, 0
            (0xe9a3_0000, false), // ld r13, 0(r3)
        ] {
            assert_eq!(check(word, true).is_ok(), good, "{word:#x}");
        }
        for word in [
            0x7c08_02a6, // mflr r0
            0x7c69_03a6, // mtctr r3
            0x4200_fffc, // bdnz
            0x7c84_0e74, // sradi r4, r4, 1: sets CA
            0x2084_0000, // subfic r4, r4, 0: likewise
            0x7c84_2c14, // addo
            0x7c64_0194, // addze
            0xc023_0000, // lfs
        ] {
            assert_eq!(check(word, true), Err(UNKNOWN), "{word:#x}");
        }
    }
}
