//! What is about more than a register, or about part of one; prefixed forms; what is refused.

use power::Generation::{Power8, Power9, Power10};
use power::regs::Msr;
use proptest::prelude::*;

use super::*;

/// Longer than any operand.
fn long() -> [u8; MAX_BYTES] {
    core::array::from_fn(|n| (n as u8).wrapping_mul(29) ^ 0xa3)
}

fn operand(instruction: &Instruction, set: &Set, xer: u64) -> Option<Operand> {
    instruction.operand(&State { gpr: &set.gpr, xer, pc: 0x1_0000, wide: true })
}

#[test]
fn multiples() {
    let memory = long();
    let lmw = of(0xbb83_0010); // lmw r28,16(r3)
    let mut set = Set::new();
    let found = operand(&lmw, &set, 0).unwrap();
    assert_eq!(found, Operand { ea: set.gpr[3] + 16, bytes: 16 });
    lmw.load(&mut set, &memory[..16], found.ea, false);
    for n in 0..4 {
        let word = u32::from_be_bytes(memory[4 * n..4 * n + 4].try_into().unwrap());
        assert_eq!(set.gpr[28 + n], word.into());
    }
    let mut stored = [0; 16];
    of(0xbf83_0010).store(&mut set, &mut stored, found.ea, false); // stmw
    assert_eq!(stored, memory[..16]);
    assert_eq!(operand(&of(0xbc03_0000), &set, 0).unwrap().bytes, MAX_BYTES); // stmw r0,0(r3)
}

#[test]
fn strings() {
    let memory = long();
    // lswi r30,r3,11 and lswi r29,r9,32: the registers go on with r0.
    for (word, bytes) in [(0x7fc3_5caa, 11), (0x7fa9_04aa, 32)] {
        let instruction = of(word);
        let mut set = Set::new();
        let found = operand(&instruction, &set, 0).unwrap();
        assert_eq!(found.bytes, bytes, "{word:#x}");
        instruction.load(&mut set, &memory[..bytes], found.ea, false);
        let first = usize::from(instruction.register());
        let mut rest = memory[..bytes].to_vec();
        rest.resize(bytes.next_multiple_of(4), 0);
        for (n, word) in rest.chunks(4).enumerate() {
            let word = u32::from_be_bytes(word.try_into().unwrap());
            assert_eq!(set.gpr[(first + n) % 32], word.into(), "{word:#x} {n}");
        }
        let store = of(word + 0x100); // stswi
        let mut stored = vec![0; bytes];
        store.store(&mut set, &mut stored, found.ea, false);
        assert_eq!(stored, memory[..bytes]);
    }
    let lswx = of(0x7cc3_242a); // lswx r6,r3,r4
    let mut set = Set::new();
    assert_eq!(operand(&lswx, &set, 0x8000_0007).unwrap().bytes, 7);
    assert_eq!(operand(&lswx, &set, 0x80).unwrap().bytes, 0);
    // Of so many registers the base would be one.
    assert_eq!(operand(&lswx, &set, 4 * 29).map(|o| o.bytes), Some(116));
    assert_eq!(operand(&lswx, &set, 4 * 29 + 1), None);
    assert_eq!(operand(&of(0x7cc3_252a), &set, 127).unwrap().bytes, 127); // stswx
    let before = set.gpr;
    lswx.load(&mut set, &[], 0, false);
    assert_eq!(set.gpr, before);
}

#[test]
fn pairs() {
    let memory = long();
    let number = |at: usize, len: usize, little: bool| crate::convert::number(&memory[at..at + len], little);
    // lq r6,16(r3), lfdp f6,16(r3), lxvp vs38,16(r3); and their stores
    for (load, store, first, half) in [
        (0xe0c3_0010, 0xf8c3_0012, 6, 8),
        (0xe4c3_0010, 0xf4c3_0010, 6, 8),
        (0x18e3_0010, 0x18e3_0011, 38, 16),
    ] {
        for little in [false, true] {
            let instruction = of(load);
            assert_eq!(instruction.register(), first, "{load:#x}");
            let mut set = Set::new();
            let found = operand(&instruction, &set, 0).unwrap();
            assert_eq!(found, Operand { ea: set.gpr[3] + 16, bytes: 2 * half }, "{load:#x}");
            instruction.load(&mut set, &memory[..2 * half], found.ea, little);
            for n in 0..2 {
                let register = usize::from(first) + (n ^ usize::from(little));
                let value = match instruction.row().registers() {
                    'r' => set.gpr[register].into(),
                    'f' => {
                        assert_eq!(set.vsr[register][1], 0);
                        set.vsr[register][0].into()
                    }
                    _ => u128::from(set.vsr[register][0]) << 64 | u128::from(set.vsr[register][1]),
                };
                assert_eq!(value, number(n * half, half, little), "{load:#x} {little} {n}");
            }
            let mut stored = vec![0; 2 * half];
            of(store).store(&mut set, &mut stored, found.ea, little);
            assert_eq!(stored, memory[..2 * half], "{store:#x} {little}");
        }
    }
}

#[test]
fn some_bytes() {
    let memory = long();
    // lxvl vs7,r3,r4, lxvll vs7,r3,r4; and their stores
    for (load, store, left) in [(0x7ce3_221a, 0x7ce3_231a, false), (0x7ce3_225a, 0x7ce3_235a, true)] {
        for (length, little) in (0..20usize).flat_map(|n| [(n, false), (n, true)]) {
            let mut set = Set::new();
            set.gpr[4] = (length as u64) << 56 | 0xff_ffff;
            let found = operand(&of(load), &set, 0).unwrap();
            let bytes = length.min(16);
            assert_eq!(found, Operand { ea: set.gpr[3], bytes }, "{load:#x}");
            of(load).load(&mut set, &memory[..bytes], found.ea, little);
            let mut rest = memory[..bytes].to_vec();
            rest.resize(16, 0);
            let vector = crate::convert::number(&rest, little && !left);
            assert_eq!(set.vsr[7], [(vector >> 64) as u64, vector as u64], "{load:#x} {length} {little}");
            let mut stored = vec![0; bytes];
            of(store).store(&mut set, &mut stored, found.ea, little);
            assert_eq!(stored, memory[..bytes], "{store:#x} {length} {little}");
        }
    }
    assert_eq!(loads(0x7ce3_205a, 0)[0], [0, 0x1091]); // lxvrhx vs7,r3,r4
    assert_eq!(stores(0x7ce3_215a, [1, 0x0123_4567_89ab_cdef], 0), [vec![0xcd, 0xef], vec![0xef, 0xcd]]);
}

#[test]
fn prefixed() {
    let mut set = Set::new();
    set.gpr[4] = 0x1000;
    for (prefix, word, name, bytes, ea) in [
        (0x0600_0001, 0x8064_0008, "plwz", 4, 0x1_1008),
        (0x0603_ffff, 0x8064_fff8, "plwz", 4, 0xff8),
        (0x0613_ffff, 0x8060_fff8, "plwz", 4, 0xfff8),
        (0x0410_0000, 0xe460_0004, "pld", 8, 0x1_0004),
        (0x0402_0000, 0xcc64_0010, "plxv", 16, 0xffff_fffe_0000_1010),
        (0x0400_0000, 0xe884_0010, "plxvp", 32, 0x1010),
        (0x0400_0000, 0xe084_0010, "plq", 16, 0x1010),
    ] {
        // A load into a pair that has the base in it is invalid.
        let word = if name == "plq" { 0xe0c4_0010 } else { word };
        let instruction = decode_prefixed(prefix, word).expect(name);
        assert_eq!((instruction.row().name, instruction.size()), (name, 8));
        assert_eq!(operand(&instruction, &set, 0), Some(Operand { ea, bytes }), "{name}");
        assert!(instruction.exists(Power10) && !instruction.exists(Power9));
    }
    assert_eq!(decode_prefixed(0x0400_0000, 0xcc64_0010).unwrap().register(), 35);
    // In little-endian guests, too, its first register has what comes first.
    decode_prefixed(0x0400_0000, 0xe0c4_0010).unwrap().load(&mut set, &MEMORY, 0x1010, true);
    assert_eq!((set.gpr[6], set.gpr[7]), (0x9716_9514_9312_9110, 0x9f1e_9d1c_9b1a_9918));
    for (prefix, word) in [
        (0x0610_0000, 0x8064_0008), // a base and its own address
        (0x0400_0000, 0x8064_0008), // lwz with a prefix of the other type
        (0x0500_0000, 0x8064_0008),
        (0x0700_0000, 0x8064_0008),
        (0x0700_0000, 0x6000_0000),
        (0x0400_0000, 0xe084_0010), // plq r4,16(r4)
    ] {
        assert!(decode_prefixed(prefix, word).is_none(), "{prefix:#x} {word:#x}");
    }
    // The length says nothing about others.
    assert_eq!(of(0x8064_0008).size(), 4);
}

#[test]
fn refusals() {
    let all = Msr::FP | Msr::VEC | Msr::VSX;
    for (word, without, facility) in [
        (0xc8e3_0000, Msr::FP, Facility::FloatingPoint), // lfd
        (0x7ce0_18ce, Msr::VEC, Facility::Vector),       // lvx
        (0x7ce0_1e98, Msr::VSX, Facility::VectorScalar), // lxvd2x
        (0x7ce0_1e99, Msr::VSX, Facility::VectorScalar), // lxvd2x vs39
        (0xf4e3_0011, Msr::VSX, Facility::VectorScalar), // lxv vs7
        (0xf4e3_0019, Msr::VEC, Facility::Vector),       // lxv vs39
        (0x18e3_0010, Msr::VSX, Facility::VectorScalar), // lxvp vs38
    ] {
        let instruction = of(word);
        assert_eq!(instruction.refusal(all, Power10), None, "{word:#x}");
        let unavailable = Some(Refusal::Unavailable(facility));
        assert_eq!(instruction.refusal(all & !without, Power10), unavailable, "{word:#x}");
        assert_eq!(instruction.refusal(without, Power10), None, "{word:#x}");
        assert_eq!(instruction.refusal_by_device(), None);
    }
    // What there is not comes first.
    assert_eq!(of(0xf4e3_0011).refusal(Msr::empty(), Power8), Some(Refusal::Illegal));
    assert_eq!(of(0x18e3_0010).refusal(all, Power9), Some(Refusal::Illegal));
    assert_eq!(of(0x8064_0008).refusal(Msr::LE, Power8), None);
    // lmw r3,0(r2): opcode 46 is 101110, of which bit 5 is 0 and 1 to 4 are 0111.
    assert_eq!(of(0xb862_0000).refusal(Msr::empty(), Power8), None);
    let misaligned = Some(Refusal::Alignment(7 << 10 | 3 << 5 | 2));
    assert_eq!(of(0xb862_0000).refusal(Msr::LE, Power8), misaligned);
    // lwarx r3,r4,r5: extended opcode 20 is 0000010100, of which bits 29 and 30 are 00, 25 is 0, 21 to 24 are 0000.
    assert_eq!(of(0x7c64_2828).refusal_by_device(), Some(Refusal::Alignment(3 << 5 | 4)));
    // stwcx. r3,r4,r5: 150 is 0010010110, of which bits 29 and 30 are 10, 25 is 0, 21 to 24 are 0010.
    assert_eq!(of(0x7c64_292d).refusal_by_device(), Some(Refusal::Alignment(2 << 15 | 2 << 10 | 3 << 5 | 4)));
    // dcbz r4,r3: 1014 is 1111110110: 10, 1, 1111.
    assert_eq!(
        of(0x7c04_1fec).refusal_by_device(),
        Some(Refusal::Alignment(2 << 15 | 1 << 14 | 15 << 10 | 4))
    );
    assert_eq!(of(0x7c64_3c8c).refusal_by_device(), Some(Refusal::Conflict)); // lwat
    assert_eq!(of(0x7c00_186c).refusal_by_device(), None); // dcbst
}

#[test]
fn all_of_a_range_in_aligned_units() {
    for at in 0..32u64 {
        for len in 0..40 {
            let mut end = 0;
            for (start, bytes) in units(at, len) {
                assert_eq!(start, end);
                assert!(
                    matches!(bytes, 1 | 2 | 4 | 8) && (at as usize + start).is_multiple_of(bytes),
                    "{at} {len}"
                );
                // And none is smaller than it has to be.
                let next = (at as usize + start).is_multiple_of(2 * bytes) && start + 2 * bytes <= len;
                assert!(bytes == 8 || !next, "{at} {len} {start}");
                end += bytes;
            }
            assert_eq!(end, len);
        }
    }
    assert_eq!(units(u64::MAX, 2).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
}

#[test]
fn the_short_way_is_the_same() {
    for word in (0..1u32 << 16).map(|n| n << 16).chain((0..1024).map(|xo| 31 << 26 | 0x64 << 16 | xo << 1)) {
        let Some(instruction) = decode(word) else { continue };
        let Some((register, bytes)) = instruction.simple() else { continue };
        for little in [false, true] {
            let mut set = Set::new();
            let mut word = [0; 8];
            if instruction.stores() {
                instruction.store(&mut set, &mut word[..bytes], 0x1000, little);
                let stored = instruction.stored(set.gpr[usize::from(register)], little).to_le_bytes();
                assert_eq!(stored[..bytes], word[..bytes], "{instruction:x?}");
            } else {
                word[..bytes].copy_from_slice(&MEMORY[1..1 + bytes]);
                instruction.load(&mut set, &word[..bytes], 0x1000, little);
                let loaded = instruction.loaded(u64::from_le_bytes(word), little);
                assert_eq!(loaded, set.gpr[usize::from(register)], "{instruction:x?}");
            }
        }
    }
}

proptest! {
    /// No word makes trouble, whatever it is carried out on; and what is stored is what was loaded, wherever all of it is.
    #[test]
    fn any_word(prefix: u32, word: u32, extended in 0u32..1024, gpr: [u64; 32], xer: u64, pc: u64, wide: bool, little: bool, kind: u8) {
        let word = if kind & 1 == 0 { word } else { 31 << 26 | word & 0x03ff_f801 | extended << 1 };
        let prefix = 0x0400_0000 | prefix & 0x031f_ffff & !(1 << 24);
        let decoded = if kind & 2 == 0 { decode(word) } else { decode_prefixed(prefix, word) };
        if let Some(instruction) = decoded {
            let Some(Operand { ea, bytes }) = instruction.operand(&State { gpr: &gpr, xer, pc, wide }) else {
                return Ok(());
            };
            prop_assert!(bytes <= MAX_BYTES);
            prop_assert!(wide || ea >> 32 == 0);
            let _ = (instruction.refusal(Msr::from_bits_retain(xer), Power9), instruction.refusal_by_device());
            let memory = &long()[..bytes];
            let _ = instruction.value(memory, little);
            let mut set = Set::new();
            if matches!(instruction.operation(), Operation::Load | Operation::Store) {
                instruction.load(&mut set, memory, ea, little);
                let mut stored = vec![0; bytes];
                instruction.store(&mut set, &mut stored, ea, little);
                prop_assert!(stored == memory, "{:x?}", instruction);
            }
        }
    }
}
