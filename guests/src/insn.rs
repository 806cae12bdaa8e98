//! Encodings of the instructions that tests put together (Power ISA 3.1, book I, and its appendices).

const fn d(op: u32, rt: u32, ra: u32, imm: i32) -> u32 {
    op << 26 | rt << 21 | ra << 16 | (imm as u32 & 0xffff)
}

/// X-form under primary opcode 31 (or another one).
pub const fn x(op: u32, rt: u32, ra: u32, rb: u32, xo: u32) -> u32 {
    op << 26 | rt << 21 | ra << 16 | rb << 11 | xo << 1
}

macro_rules! d_forms { ($($(#[$m:meta])* $name:ident = $op:expr;)*) => { $(
    $(#[$m])* pub const fn $name(rt: u32, imm: i32, ra: u32) -> u32 { d($op, rt, ra, imm) }
)* } }

d_forms! {
    /// Load byte.
    lbz = 34;
    /// Load halfword.
    lhz = 40;
    /// Load halfword algebraic.
    lha = 42;
    /// Load word.
    lwz = 32;
    /// Load word with update.
    lwzu = 33;
    /// Load doubleword (DS-form).
    ld = 58;
    /// Store byte.
    stb = 38;
    /// Store halfword.
    sth = 44;
    /// Store word.
    stw = 36;
    /// Store word with update.
    stwu = 37;
    /// Store doubleword (DS-form).
    std = 62;
    /// Load multiple words.
    lmw = 46;
    /// Load float double.
    lfd = 50;
    /// Store float double.
    stfd = 54;
}

macro_rules! x_forms { ($($(#[$m:meta])* $name:ident = $xo:expr;)*) => { $(
    $(#[$m])* pub const fn $name(rt: u32, ra: u32, rb: u32) -> u32 { x(31, rt, ra, rb, $xo) }
)* } }

x_forms! {
    /// Load doubleword indexed.
    ldx = 21;
    /// Load word indexed.
    lwzx = 23;
    /// Load byte indexed.
    lbzx = 87;
    /// Load word byte-reversed.
    lwbrx = 534;
    /// Load halfword byte-reversed.
    lhbrx = 790;
    /// Load doubleword byte-reversed.
    ldbrx = 532;
    /// Store word byte-reversed.
    stwbrx = 662;
    /// Store halfword byte-reversed.
    sthbrx = 918;
    /// Store doubleword indexed.
    stdx = 149;
    /// Load word and reserve.
    lwarx = 20;
    /// Load VSX two doublewords.
    lxvd2x = 844;
    /// Store VSX two doublewords.
    stxvd2x = 972;
    /// Load vector.
    lvx = 103;
    /// Store vector.
    stvx = 231;
}

/// `lwsync`
pub const LWSYNC: u32 = 0x7c20_04ac;

/// `li rt, imm`
pub const fn li(rt: u32, imm: i32) -> u32 {
    d(14, rt, 0, imm)
}

/// `addi rt, ra, imm`
pub const fn addi(rt: u32, ra: u32, imm: i32) -> u32 {
    d(14, rt, ra, imm)
}

/// `addic. rt, ra, imm`: compares what comes of it with zero.
pub const fn addic_record(rt: u32, ra: u32, imm: i32) -> u32 {
    d(13, rt, ra, imm)
}

/// `mr ra, rs`
pub const fn mr(ra: u32, rs: u32) -> u32 {
    x(31, rs, ra, rs, 444)
}

/// `add rt, ra, rb`
pub const fn add(rt: u32, ra: u32, rb: u32) -> u32 {
    x(31, rt, ra, rb, 266)
}

/// `cmpd ra, rb`, to CR0
pub const fn cmpd(ra: u32, rb: u32) -> u32 {
    x(31, 1, ra, rb, 0)
}

/// `b` over so many bytes, which may be negative.
pub const fn b(offset: i32) -> u32 {
    18 << 26 | (offset as u32 & 0x03ff_fffc)
}

/// `bdnz` over so many bytes, which may be negative.
pub const fn bdnz(offset: i32) -> u32 {
    16 << 26 | 16 << 21 | (offset as u32 & 0xfffc)
}

/// `bne` over so many bytes, which may be negative.
pub const fn bne(offset: i32) -> u32 {
    16 << 26 | 4 << 21 | 2 << 16 | (offset as u32 & 0xfffc)
}

/// `sc lev`: 0 is a system call, 1 a hypervisor call.
pub const fn sc(lev: u32) -> u32 {
    0x4400_0002 | lev << 5
}

/// `mtspr n, rs`
pub const fn mtspr(n: u32, rs: u32) -> u32 {
    31 << 26 | rs << 21 | (n & 31) << 16 | (n >> 5) << 11 | 467 << 1
}

/// `mfspr rt, n`
pub const fn mfspr(rt: u32, n: u32) -> u32 {
    31 << 26 | rt << 21 | (n & 31) << 16 | (n >> 5) << 11 | 339 << 1
}

/// `mtmsrd rs`, all bits that it can change.
pub const fn mtmsrd(rs: u32) -> u32 {
    x(31, rs, 0, 0, 178)
}

/// `mtmsrd rs, 1`: EE and RI.
pub const fn mtmsrd_ee(rs: u32) -> u32 {
    x(31, rs, 1, 0, 178)
}

/// `bctr`
pub const BCTR: u32 = 0x4e80_0420;
/// `blr`
pub const BLR: u32 = 0x4e80_0020;
/// `b .`
pub const B_SELF: u32 = 0x4800_0000;
/// `nop`
pub const NOP: u32 = 0x6000_0000;
/// `trap`
pub const TRAP: u32 = 0x7fe0_0008;
/// `rfid`
pub const RFID: u32 = 0x4c00_0024;
/// `hrfid`: hypervisor only.
pub const HRFID: u32 = 0x4c00_0224;
/// `isync`
pub const ISYNC: u32 = 0x4c00_012c;
/// `sync`
pub const SYNC: u32 = 0x7c00_04ac;
/// `slbia`
pub const SLBIA: u32 = 0x7c00_03e4;
/// A word that is no instruction in any version of the ISA.
pub const ILLEGAL: u32 = 0;

/// Instructions that load a constant of 64 bits: how many of `code` were used, at most five.
pub fn load_constant(code: &mut [u32], rt: u32, value: u64) -> usize {
    let half = |n: u32| (value >> (16 * n)) as i32;
    code[0] = d(15, rt, 0, half(3)); // lis
    code[1] = d(24, rt, rt, half(2)); // ori
    code[2] = 30 << 26 | rt << 21 | rt << 16 | 0x07c6; // sldi rt, rt, 32
    code[3] = d(25, rt, rt, half(1)); // oris
    code[4] = d(24, rt, rt, half(0)); // ori
    5
}
