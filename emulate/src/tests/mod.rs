//! What instructions are, and what they make of memory: by hand for each form, against the host's arithmetic for singles.

mod wide;

use super::convert::{to_double, to_single};
use super::*;

const ONES: u64 = u64::MAX;
/// A quadword whose bytes say where they are.
const MEMORY: [u8; 16] =
    [0x10, 0x91, 0x12, 0x93, 0x14, 0x95, 0x16, 0x97, 0x18, 0x99, 0x1a, 0x9b, 0x1c, 0x9d, 0x1e, 0x9f];

/// Registers, which have nothing in common with [`MEMORY`].
struct Set {
    gpr: [u64; 32],
    vsr: [[u64; 2]; 64],
}

impl Set {
    fn new() -> Set {
        let mut set = Set { gpr: [0; 32], vsr: [[0; 2]; 64] };
        for n in 0..64 {
            let value = 0x5a5a_0000_a5a5_0000 | n as u64;
            set.gpr[n % 32] = value;
            set.vsr[n] = [value, !value];
        }
        set
    }
}

impl Registers for Set {
    fn gpr(&self, number: u8) -> u64 {
        self.gpr[usize::from(number)]
    }

    fn set_gpr(&mut self, number: u8, value: u64) {
        self.gpr[usize::from(number)] = value;
    }

    fn vsr(&mut self, number: u8) -> [u64; 2] {
        self.vsr[usize::from(number)]
    }

    fn set_vsr(&mut self, number: u8, value: [u64; 2]) {
        self.vsr[usize::from(number)] = value;
    }
}

fn of(word: u32) -> Instruction {
    decode(word).unwrap_or_else(|| panic!("{word:#x}"))
}

/// A register's value, as if it were a VSR.
fn value_of(instruction: &Instruction, set: &Set) -> [u64; 2] {
    let number = usize::from(instruction.register());
    if instruction.row().registers() == 'r' { [set.gpr[number], 0] } else { set.vsr[number] }
}

fn bytes_of(instruction: &Instruction) -> usize {
    usize::from(instruction.row().bytes)
}

/// What it loads from an address that ends in `low`, in both byte orders: big, little.
fn loads(word: u32, low: u64) -> [[u64; 2]; 2] {
    let instruction = of(word);
    assert_eq!(instruction.operation(), Operation::Load, "{word:#x}");
    [false, true].map(|little| {
        let mut set = Set::new();
        instruction.load(&mut set, &MEMORY[..bytes_of(&instruction)], 0x1000 + low, little);
        value_of(&instruction, &set)
    })
}

/// What it stores, likewise.
fn stores(word: u32, value: [u64; 2], low: u64) -> [Vec<u8>; 2] {
    let instruction = of(word);
    assert_eq!(instruction.operation(), Operation::Store, "{word:#x}");
    let mut set = Set::new();
    set.gpr[usize::from(instruction.register() & 31)] = value[0];
    set.vsr[usize::from(instruction.register())] = value;
    [false, true].map(|little| {
        let mut memory = vec![0; bytes_of(&instruction)];
        instruction.store(&mut set, &mut memory, 0x1000 + low, little);
        memory
    })
}

#[test]
fn nothing_but_ones() {
    for word in (0..1u32 << 16).map(|n| n << 16).chain((0..1024).map(|xo| 31 << 26 | 0x64 << 16 | xo << 1)) {
        let Some(instruction) = decode(word) else { continue };
        if let (Operation::Load, Some((register, bytes))) = (instruction.operation(), instruction.simple()) {
            let mut set = Set::new();
            instruction.load(&mut set, &[0xff; 8][..bytes], 0x1000, true);
            assert_eq!(instruction.ones(), set.gpr[usize::from(register)], "{word:#x}");
        }
    }
    assert_eq!(of(0x8864_0000).ones(), 0xff); // lbz r3,0(r4)
    assert_eq!(of(0xa864_0000).ones(), ONES); // lha r3,0(r4)
}

#[test]
fn integer_loads() {
    for (word, register, update, big, little) in [
        (0x8064_0008, 3, None, 0x1091_1293, 0x9312_9110), // lwz r3,8(r4)
        (0x8c64_0001, 3, Some(4), 0x10, 0x10),            // lbzu r3,1(r4)
        (0xa864_0000, 3, None, 0x1091, 0xffff_ffff_ffff_9110), // lha r3,0(r4)
        (0xe864_0000, 3, None, 0x1091_1293_1495_1697, 0x9716_9514_9312_9110), // ld r3,0(r4)
        (0xe864_fffe, 3, None, 0x1091_1293, 0xffff_ffff_9312_9110), // lwa r3,-4(r4)
        (0x7ca0_262c, 5, None, 0x9110, 0x1091),           // lhbrx r5,0,r4
        (0x7ca4_32ea, 5, Some(4), 0x1091_1293, 0xffff_ffff_9312_9110), // lwaux r5,r4,r6
        (0x7ca4_3428, 5, None, 0x9716_9514_9312_9110, 0x1091_1293_1495_1697_u64), // ldbrx r5,r4,r6
    ] {
        let instruction = of(word);
        assert_eq!((instruction.register(), instruction.update()), (register, update), "{word:#x}");
        assert_eq!(instruction.facility(), Facility::Always);
        assert_eq!(loads(word, 0), [[big, 0], [little, 0]], "{word:#x}");
    }
}

#[test]
fn integer_stores() {
    let value = [0x0123_4567_89ab_cdef, 0];
    for (word, register, update, big) in [
        (0x9861_0010, 3, None, &[0xef][..]),               // stb r3,16(r1)
        (0x7ca6_236e, 5, Some(6), &[0xcd, 0xef]),          // sthux r5,r6,r4
        (0x9061_0010, 3, None, &[0x89, 0xab, 0xcd, 0xef]), // stw r3,16(r1)
        (0xf861_0010, 3, None, &[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]), // std r3,16(r1)
        (0xf861_fff1, 3, Some(1), &[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]), // stdu r3,-16(r1)
        (0x7ca6_2528, 5, None, &[0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]), // stdbrx r5,r6,r4
    ] {
        let instruction = of(word);
        assert!(instruction.stores());
        assert_eq!((instruction.register(), instruction.update()), (register, update), "{word:#x}");
        let little: Vec<u8> = big.iter().rev().copied().collect();
        assert_eq!(stores(word, value, 0), [big.to_vec(), little], "{word:#x}");
    }
}

#[test]
fn addresses() {
    let mut gpr = [0; 32];
    gpr[1] = 0x1000;
    gpr[3] = 0x1_0000_0008;
    gpr[4] = 0xffff_fff4;
    gpr[6] = 0x20;
    for (word, wide, narrow) in [
        (0xf861_fff1, 0xff0, 0xff0), // stdu r3,-16(r1): its low bits are the opcode's
        (0xe864_fffe, 0xffff_fff0, 0xffff_fff0), // lwa r3,-4(r4)
        (0x7ca4_3428, 0x1_0000_0014, 0x14), // ldbrx r5,r4,r6
        (0x7ca0_262c, 0xffff_fff4, 0xffff_fff4), // lhbrx r5,0,r4: no base
        (0xf4e3_fffd, 0xffff_fff8, 0xffff_fff8), // stxv vs39,-16(r3)
        (0xf4e3_0019, 0x1_0000_0018, 0x18), // lxv vs39,16(r3)
        (0xf4e3_000f, 0x1_0000_0014, 0x14), // stxssp v7,12(r3)
        (0x7ce0_18ce, 0x1_0000_0000, 0), // lvx v7,0,r3: aligned
        (0x7ce0_184e, 0x1_0000_0008, 8), // lvehx v7,0,r3
        (0x7ce4_31ce, 0x1_0000_0010, 0x10), // stvx v7,r4,r6
        (0x7c04_1fec, 0x1_ffff_ff80, 0xffff_ff80), // dcbz r4,r3
    ] {
        let ea = |wide| of(word).operand(&State { gpr: &gpr, xer: 0, pc: 0, wide }).expect("valid").ea;
        assert_eq!((ea(true), ea(false)), (wide, narrow), "{word:#x}");
    }
    let indexed = of(0x7ce1_180e); // lvebx v7,r1,r3
    assert_eq!(indexed.ea(&gpr, 0, true), 0x1_0000_1008);
}

#[test]
fn scalars() {
    for (word, register, facility, big, little) in [
        (0xc8e3_0000, 7, Facility::FloatingPoint, 0x1091_1293_1495_1697, 0x9716_9514_9312_9110), // lfd f7,0(r3)
        (0x7ce0_1eae, 7, Facility::FloatingPoint, 0x1091_1293, 0xffff_ffff_9312_9110), // lfiwax f7,0,r3
        (0x7ce0_1eee, 7, Facility::FloatingPoint, 0x1091_1293, 0x9312_9110),           // lfiwzx f7,0,r3
        (0xe4e3_000a, 39, Facility::Vector, 0x1091_1293_1495_1697, 0x9716_9514_9312_9110), // lxsd v7,8(r3)
        (0x7ce0_1898, 7, Facility::VectorScalar, 0x1091_1293, 0xffff_ffff_9312_9110),  // lxsiwax vs7,0,r3
        (0x7ce0_1e1a, 7, Facility::VectorScalar, 0x10, 0x10_u64),                      // lxsibzx vs7,0,r3
    ] {
        let instruction = of(word);
        assert_eq!((instruction.register(), instruction.facility()), (register, facility), "{word:#x}");
        assert_eq!(loads(word, 0), [[big, 0], [little, 0]], "{word:#x}");
    }
    for word in [0xc0e3_0000, 0xc4e3_0004, 0xe4e3_000b, 0x7ce0_1c18] {
        // lfs lfsu lxssp lxsspx
        let single = |bits: u32| f64::from(f32::from_bits(bits)).to_bits();
        assert_eq!(loads(word, 0), [[single(0x1091_1293), 0], [single(0x9312_9110), 0]], "{word:#x}");
    }
    let value = [0x4028_8000_1234_5678, 0x5555];
    for (word, big) in [
        (0xd8e3_0000, &[0x40, 0x28, 0x80, 0, 0x12, 0x34, 0x56, 0x78][..]), // stfd f7,0(r3)
        (0xf4e3_000a, &[0x40, 0x28, 0x80, 0, 0x12, 0x34, 0x56, 0x78]),     // stxsd v7,8(r3)
        (0x7ce0_1fae, &[0x12, 0x34, 0x56, 0x78]),                          // stfiwx f7,0,r3
        (0x7ce0_1f5a, &[0x56, 0x78]),                                      // stxsihx vs7,0,r3
        (0xd0e3_0000, &[0x41, 0x44, 0, 0]),                                // stfs f7,0(r3): 12.25
        (0xf4e3_000f, &[0x41, 0x44, 0, 0]),                                // stxssp v7,12(r3)
    ] {
        let little: Vec<u8> = big.iter().rev().copied().collect();
        assert_eq!(stores(word, value, 0), [big.to_vec(), little], "{word:#x}");
    }
}

#[test]
fn vectors() {
    let (high, low) = (0x1091_1293_1495_1697_u64, 0x1899_1a9b_1c9d_1e9f_u64);
    let swapped = |n: u64| n.swap_bytes();
    let words = |n: u64| n.swap_bytes().rotate_left(32);
    let halves = |n: u64| words(n) << 16 & 0xffff_0000_ffff_0000 | words(n) >> 16 & 0xffff_0000_ffff;
    let whole = [[high, low], [swapped(low), swapped(high)]];
    for (load, store, register, facility, want) in [
        (0x7ce0_18ce, 0x7ce0_19ce, 39, Facility::Vector, whole), // lvx v7,0,r3
        (0x7ce0_1a19, 0x7ce0_1b19, 39, Facility::Vector, whole), // lxvx vs39,0,r3
        (0xf4e3_0019, 0xf4e3_fffd, 39, Facility::Vector, whole), // lxv vs39,16(r3)
        (0xf4e3_0011, 0xf4e3_fff5, 7, Facility::VectorScalar, whole), // lxv vs7,16(r3)
        // lxvd2x vs7,0,r3; vs39
        (0x7ce0_1e98, 0x7ce0_1f98, 7, Facility::VectorScalar, [[high, low], [swapped(high), swapped(low)]]),
        (0x7ce0_1e99, 0x7ce0_1f99, 39, Facility::VectorScalar, [[high, low], [swapped(high), swapped(low)]]),
        // lxvw4x vs7,0,r3
        (0x7ce0_1e18, 0x7ce0_1f18, 7, Facility::VectorScalar, [[high, low], [words(high), words(low)]]),
        // lxvh8x vs7,0,r3
        (0x7ce0_1e58, 0x7ce0_1f58, 7, Facility::VectorScalar, [[high, low], [halves(high), halves(low)]]),
        // lxvb16x vs39,0,r3
        (0x7ce0_1ed9, 0x7ce0_1fd9, 39, Facility::Vector, [[high, low], [high, low]]),
    ] {
        for word in [load, store] {
            let instruction = of(word);
            let found = (instruction.register(), instruction.facility(), bytes_of(&instruction));
            assert_eq!(found, (register, facility, 16), "{word:#x}");
        }
        assert_eq!(loads(load, 0), want, "{load:#x}");
        for (value, little) in want.into_iter().zip([false, true]) {
            assert_eq!(stores(store, value, 0)[usize::from(little)], MEMORY, "{store:#x}");
            let shown = of(store).value(&MEMORY, little).expect("one value");
            assert_eq!([(shown >> 64) as u64, shown as u64], value, "{store:#x}");
        }
    }
    let (splat, words) = (high.swap_bytes(), 0x9312_9110_9312_9110);
    assert_eq!(loads(0x7ce0_1a98, 0), [[high; 2], [splat; 2]]); // lxvdsx vs7,0,r3
    assert_eq!(loads(0x7ce0_1ad8, 0), [[0x1091_1293_1091_1293; 2], [words; 2]]); // lxvwsx vs7,0,r3
}

#[test]
fn elements_stand_where_their_address_says() {
    for low in (0..16).step_by(2) {
        // lvehx, stvehx
        let [big, little] = loads(0x7ce0_184e, low);
        let value = |[a, b]: [u64; 2]| u128::from(a) << 64 | u128::from(b);
        assert_eq!(value(big), 0x1091 << (112 - 8 * low));
        assert_eq!(value(little), 0x9110 << (8 * low));
        assert_eq!(stores(0x7ce0_194e, big, low)[0], &MEMORY[..2]);
        assert_eq!(stores(0x7ce0_194e, little, low)[1], &MEMORY[..2]);
    }
    assert_eq!(loads(0x7ce0_180e, 15), [[0, 0x10], [0x10 << 56, 0]]); // lvebx
    assert_eq!(loads(0x7ce0_188e, 12), [[0, 0x1091_1293], [0x9312_9110 << 32, 0]]); // lvewx
}

#[test]
fn singles() {
    for bits in (0..=u32::MAX).step_by(65_521).chain([0, 1, 0x7f_ffff, 0x80_0000, 0x7f80_0000, 0x8000_0001]) {
        let (single, double) = (f32::from_bits(bits), to_double(bits));
        if single.is_nan() {
            // A signalling NaN stays one.
            assert_eq!(double << 12, u64::from(bits) << 41, "{bits:#x}");
            assert!(f64::from_bits(double).is_nan());
        } else {
            assert_eq!(double, f64::from(single).to_bits(), "{bits:#x}");
        }
        assert_eq!(to_single(double), bits);
    }
    // What is no single is undefined, but no more than that.
    assert_eq!(to_single(1), 0);
    assert_eq!(to_single(1 << 63 | 1), 1 << 31);
}

#[test]
fn blocks() {
    for (word, operation) in [
        (0x7c00_186c, Operation::Cache), // dcbst
        (0x7c00_18ac, Operation::Cache), // dcbf
        (0x7c00_1fac, Operation::Cache), // icbi
        (0x7c04_1fec, Operation::Zero),  // dcbz
    ] {
        let instruction = of(word);
        assert_eq!((instruction.operation(), bytes_of(&instruction) as u64), (operation, BLOCK));
        assert_eq!(instruction.update(), None);
        assert_eq!(instruction.stores(), operation == Operation::Zero);
    }
}

#[test]
fn everything_else() {
    for word in [
        0x6000_0000, // nop
        0x8463_0004, // lwzu r3,4(r3): invalid
        0x8460_0004, // lwzu r3,4(0): invalid
        0xb863_0000, // lmw r3,0(r3): invalid
        0xb800_0000, // lmw r0,0(0): invalid
        0x7c65_24aa, // lswi r3,r5,4
        0x7c64_442a, // lswx r3,r4,r8
        0xe064_0000, // lq r3,0(r4): no pair
        0xf864_0002, // stq r3,0(r4)
        0xe084_0000, // lq r4,0(r4): invalid
        0xe464_0000, // lfdp f3,0(r4): no pair
        0x0400_0000, // a prefix
        0x7c64_2e2a, // lhzcix
    ] {
        let expected = [0x7c65_24aa, 0x7c64_442a].contains(&word);
        assert_eq!(decode(word).is_some(), expected, "{word:#x}");
    }
    // An update into the register of the address is only invalid if that is what is loaded.
    assert_eq!(decode(0xc463_0004).map(|i| i.update()), Some(Some(3))); // lfsu f3,4(r3)
}
