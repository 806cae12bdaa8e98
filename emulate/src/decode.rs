//! Which instruction a word is.

use super::{BLOCK, Facility, Form, Instruction, Offset, Operation, Register};

/// What an opcode does, before its register fields are looked at.
struct Kind {
    operation: Operation,
    bytes: u64,
    form: Form,
    bank: Bank,
    update: bool,
    reversed: bool,
}

/// Which registers an opcode names, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bank {
    Gpr,
    Fpr,
    Vr,
    /// VSR with its sixth bit at this bit of the word (from the right).
    Vsr(u32),
    /// The same; the second half belongs to the vector facility.
    Either(u32),
    None,
}

const NUMBER: Form = Form::Number { signed: false };
const SIGNED: Form = Form::Number { signed: true };
const QUADWORD: Form = Form::Vector { element: 16 };

impl Kind {
    const fn new(operation: Operation, bytes: u64, form: Form, bank: Bank) -> Kind {
        Kind { operation, bytes, form, bank, update: false, reversed: false }
    }

    const fn load(bytes: u64, form: Form) -> Kind {
        Kind::new(Operation::Load, bytes, form, Bank::Gpr)
    }

    const fn store(bytes: u64) -> Kind {
        Kind::new(Operation::Store, bytes, NUMBER, Bank::Gpr)
    }

    const fn block(operation: Operation) -> Kind {
        Kind::new(operation, BLOCK, NUMBER, Bank::None)
    }

    const fn updating(self, update: bool) -> Kind {
        Kind { update, ..self }
    }

    const fn reversed(self) -> Kind {
        Kind { reversed: true, ..self }
    }
}

/// What has a displacement, and how many of its low bits belong to the opcode.
const fn displaced(word: u32) -> Option<(Kind, u32)> {
    use Bank::{Either, Fpr, Vr};
    use Operation::{Load, Store};
    let op = word >> 26;
    let update = op & 1 == 1;
    let kind = match op {
        32 | 33 => Kind::load(4, NUMBER).updating(update), // lwz lwzu
        34 | 35 => Kind::load(1, NUMBER).updating(update), // lbz lbzu
        36 | 37 => Kind::store(4).updating(update),        // stw stwu
        38 | 39 => Kind::store(1).updating(update),        // stb stbu
        40 | 41 => Kind::load(2, NUMBER).updating(update), // lhz lhzu
        42 | 43 => Kind::load(2, SIGNED).updating(update), // lha lhau
        44 | 45 => Kind::store(2).updating(update),        // sth sthu
        48 | 49 => Kind::new(Load, 4, Form::Single, Fpr).updating(update), // lfs lfsu
        50 | 51 => Kind::new(Load, 8, NUMBER, Fpr).updating(update), // lfd lfdu
        52 | 53 => Kind::new(Store, 4, Form::Single, Fpr).updating(update), // stfs stfsu
        54 | 55 => Kind::new(Store, 8, NUMBER, Fpr).updating(update), // stfd stfdu
        57 => match word & 3 {
            2 => return Some((Kind::new(Load, 8, NUMBER, Vr), 2)), // lxsd
            3 => return Some((Kind::new(Load, 4, Form::Single, Vr), 2)), // lxssp
            _ => return None,
        },
        58 => match word & 3 {
            n @ (0 | 1) => return Some((Kind::load(8, NUMBER).updating(n == 1), 2)), // ld ldu
            2 => return Some((Kind::load(4, SIGNED), 2)),                            // lwa
            _ => return None,
        },
        61 => match word & 7 {
            1 => return Some((Kind::new(Load, 16, QUADWORD, Either(3)), 4)), // lxv
            5 => return Some((Kind::new(Store, 16, QUADWORD, Either(3)), 4)), // stxv
            2 | 6 => return Some((Kind::new(Store, 8, NUMBER, Vr), 2)),      // stxsd
            3 | 7 => return Some((Kind::new(Store, 4, Form::Single, Vr), 2)), // stxssp
            _ => return None,
        },
        62 => match word & 3 {
            n @ (0 | 1) => return Some((Kind::store(8).updating(n == 1), 2)), // std stdu
            _ => return None,
        },
        _ => return None,
    };
    Some((kind, 0))
}

/// What has an index register: primary opcode 31, by its extended one.
const fn indexed(xo: u32) -> Option<Kind> {
    use Bank::{Either, Fpr, Vr, Vsr};
    use Operation::{Cache, Load, Store, Zero};
    Some(match xo {
        21 => Kind::load(8, NUMBER),                                          // ldx
        53 => Kind::load(8, NUMBER).updating(true),                           // ldux
        23 => Kind::load(4, NUMBER),                                          // lwzx
        55 => Kind::load(4, NUMBER).updating(true),                           // lwzux
        87 => Kind::load(1, NUMBER),                                          // lbzx
        119 => Kind::load(1, NUMBER).updating(true),                          // lbzux
        279 => Kind::load(2, NUMBER),                                         // lhzx
        311 => Kind::load(2, NUMBER).updating(true),                          // lhzux
        341 => Kind::load(4, SIGNED),                                         // lwax
        373 => Kind::load(4, SIGNED).updating(true),                          // lwaux
        343 => Kind::load(2, SIGNED),                                         // lhax
        375 => Kind::load(2, SIGNED).updating(true),                          // lhaux
        532 => Kind::load(8, NUMBER).reversed(),                              // ldbrx
        534 => Kind::load(4, NUMBER).reversed(),                              // lwbrx
        790 => Kind::load(2, NUMBER).reversed(),                              // lhbrx
        149 => Kind::store(8),                                                // stdx
        181 => Kind::store(8).updating(true),                                 // stdux
        151 => Kind::store(4),                                                // stwx
        183 => Kind::store(4).updating(true),                                 // stwux
        215 => Kind::store(1),                                                // stbx
        247 => Kind::store(1).updating(true),                                 // stbux
        407 => Kind::store(2),                                                // sthx
        439 => Kind::store(2).updating(true),                                 // sthux
        660 => Kind::store(8).reversed(),                                     // stdbrx
        662 => Kind::store(4).reversed(),                                     // stwbrx
        918 => Kind::store(2).reversed(),                                     // sthbrx
        535 => Kind::new(Load, 4, Form::Single, Fpr),                         // lfsx
        567 => Kind::new(Load, 4, Form::Single, Fpr).updating(true),          // lfsux
        599 => Kind::new(Load, 8, NUMBER, Fpr),                               // lfdx
        631 => Kind::new(Load, 8, NUMBER, Fpr).updating(true),                // lfdux
        855 => Kind::new(Load, 4, SIGNED, Fpr),                               // lfiwax
        887 => Kind::new(Load, 4, NUMBER, Fpr),                               // lfiwzx
        663 => Kind::new(Store, 4, Form::Single, Fpr),                        // stfsx
        695 => Kind::new(Store, 4, Form::Single, Fpr).updating(true),         // stfsux
        727 => Kind::new(Store, 8, NUMBER, Fpr),                              // stfdx
        759 => Kind::new(Store, 8, NUMBER, Fpr).updating(true),               // stfdux
        983 => Kind::new(Store, 4, NUMBER, Fpr),                              // stfiwx
        7 => Kind::new(Load, 1, Form::Lane, Vr),                              // lvebx
        39 => Kind::new(Load, 2, Form::Lane, Vr),                             // lvehx
        71 => Kind::new(Load, 4, Form::Lane, Vr),                             // lvewx
        103 | 359 => Kind::new(Load, 16, QUADWORD, Vr),                       // lvx lvxl
        135 => Kind::new(Store, 1, Form::Lane, Vr),                           // stvebx
        167 => Kind::new(Store, 2, Form::Lane, Vr),                           // stvehx
        199 => Kind::new(Store, 4, Form::Lane, Vr),                           // stvewx
        231 | 487 => Kind::new(Store, 16, QUADWORD, Vr),                      // stvx stvxl
        12 => Kind::new(Load, 4, NUMBER, Vsr(0)),                             // lxsiwzx
        76 => Kind::new(Load, 4, SIGNED, Vsr(0)),                             // lxsiwax
        140 => Kind::new(Store, 4, NUMBER, Vsr(0)),                           // stxsiwx
        524 => Kind::new(Load, 4, Form::Single, Vsr(0)),                      // lxsspx
        652 => Kind::new(Store, 4, Form::Single, Vsr(0)),                     // stxsspx
        588 => Kind::new(Load, 8, NUMBER, Vsr(0)),                            // lxsdx
        716 => Kind::new(Store, 8, NUMBER, Vsr(0)),                           // stxsdx
        332 => Kind::new(Load, 8, Form::Splat, Vsr(0)),                       // lxvdsx
        364 => Kind::new(Load, 4, Form::Splat, Either(0)),                    // lxvwsx
        780 => Kind::new(Load, 16, Form::Vector { element: 4 }, Vsr(0)),      // lxvw4x
        908 => Kind::new(Store, 16, Form::Vector { element: 4 }, Vsr(0)),     // stxvw4x
        844 => Kind::new(Load, 16, Form::Vector { element: 8 }, Vsr(0)),      // lxvd2x
        972 => Kind::new(Store, 16, Form::Vector { element: 8 }, Vsr(0)),     // stxvd2x
        812 => Kind::new(Load, 16, Form::Vector { element: 2 }, Either(0)),   // lxvh8x
        940 => Kind::new(Store, 16, Form::Vector { element: 2 }, Either(0)),  // stxvh8x
        876 => Kind::new(Load, 16, Form::Vector { element: 1 }, Either(0)),   // lxvb16x
        1004 => Kind::new(Store, 16, Form::Vector { element: 1 }, Either(0)), // stxvb16x
        268 => Kind::new(Load, 16, QUADWORD, Either(0)),                      // lxvx
        396 => Kind::new(Store, 16, QUADWORD, Either(0)),                     // stxvx
        781 => Kind::new(Load, 1, NUMBER, Either(0)),                         // lxsibzx
        813 => Kind::new(Load, 2, NUMBER, Either(0)),                         // lxsihzx
        909 => Kind::new(Store, 1, NUMBER, Either(0)),                        // stxsibx
        941 => Kind::new(Store, 2, NUMBER, Either(0)),                        // stxsihx
        54 | 86 | 246 | 278 | 982 => Kind::block(Cache),                      // dcbst dcbf dcbtst dcbt icbi
        1014 => Kind::block(Zero),                                            // dcbz
        _ => return None,
    })
}

/// Decodes an instruction word. Invalid forms are `None` too.
pub const fn decode(word: u32) -> Option<Instruction> {
    let (rt, ra, rb) = ((word >> 21 & 31) as u8, (word >> 16 & 31) as u8, (word >> 11 & 31) as u8);
    let (kind, offset) = if word >> 26 == 31 {
        let Some(kind) = indexed(word >> 1 & 0x3ff) else { return None };
        (kind, Offset::Gpr(rb))
    } else {
        let Some((kind, low)) = displaced(word) else { return None };
        (kind, Offset::Displacement((word >> low << low) as i16))
    };
    let loads = matches!(kind.operation, Operation::Load);
    // Update forms with RA=0, or loads with RA=RT, are invalid.
    if kind.update && (ra == 0 || (loads && matches!(kind.bank, Bank::Gpr) && ra == rt)) {
        return None;
    }
    let (register, facility) = match kind.bank {
        Bank::Gpr => (Register::Gpr(rt), Facility::Always),
        Bank::Fpr => (Register::Vsr(rt), Facility::FloatingPoint),
        Bank::Vr => (Register::Vsr(rt | 32), Facility::Vector),
        Bank::Vsr(bit) | Bank::Either(bit) => {
            let high = (word >> bit & 1) as u8;
            let by_half = matches!(kind.bank, Bank::Either(_)) && high == 1;
            let facility = if by_half { Facility::Vector } else { Facility::VectorScalar };
            (Register::Vsr(rt | high << 5), facility)
        }
        Bank::None => (Register::None, Facility::Always),
    };
    // VMX and blocks.
    let aligned = matches!(
        (kind.bank, kind.form),
        (Bank::Vr, Form::Lane) | (Bank::Vr, Form::Vector { .. }) | (Bank::None, _)
    );
    Some(Instruction {
        operation: kind.operation,
        register,
        bytes: kind.bytes,
        update: if kind.update { Some(ra) } else { None },
        facility,
        form: kind.form,
        reversed: kind.reversed,
        base: if ra == 0 { None } else { Some(ra) },
        offset,
        align: if aligned { kind.bytes } else { 1 },
    })
}
