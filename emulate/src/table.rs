//! The instructions there are (Power ISA 3.1B, book I, chapters 3, 4, 6 and 7, book II, chapter 4): one row for each.

use power::Generation::{Power9, Power10};

use crate::row::Bank::{Fpr, Half, HalfDq, HalfPrefixed, Pair, Vr, Vsr};
use crate::row::Fields::{Base, Count, Dq, Ds, Prefixed8, PrefixedM};
use crate::row::Form::{
    Elements, Lane, Left, Length, Reversed, Right, Signed, Single, Splat, Straight, Twin, Words,
};
use crate::row::Operation::{Atomic, Cache, Conditional, Load, Reserve, Store, Zero};
use crate::row::{Operation, Row};

const fn load(word: u32, name: &'static str, bytes: u8) -> Row {
    Row::new(word, name, Load, bytes)
}

const fn store(word: u32, name: &'static str, bytes: u8) -> Row {
    Row::new(word, name, Store, bytes)
}

const fn reserve(extended: u32, name: &'static str, bytes: u8) -> Row {
    Row::new(x(extended), name, Reserve, bytes)
}

/// A conditional store, which always records.
const fn conditional(extended: u32, name: &'static str, bytes: u8) -> Row {
    Row::new(x(extended) | 1, name, Conditional, bytes)
}

const fn block(extended: u32, name: &'static str, operation: Operation) -> Row {
    Row::new(x(extended), name, operation, 128)
}

/// Primary opcode 31.
const fn x(extended: u32) -> u32 {
    31 << 26 | extended << 1
}

/// A primary opcode, and the bits of an extended one at the end of the word.
const fn d(primary: u32, extended: u32) -> u32 {
    primary << 26 | extended
}

/// Those without a prefix.
pub(crate) static PLAIN: [Row; 152] = [
    load(d(32, 0), "lwz", 4),
    load(d(33, 0), "lwzu", 4).update(),
    load(d(34, 0), "lbz", 1),
    load(d(35, 0), "lbzu", 1).update(),
    store(d(36, 0), "stw", 4),
    store(d(37, 0), "stwu", 4).update(),
    store(d(38, 0), "stb", 1),
    store(d(39, 0), "stbu", 1).update(),
    load(d(40, 0), "lhz", 2),
    load(d(41, 0), "lhzu", 2).update(),
    load(d(42, 0), "lha", 2).form(Signed),
    load(d(43, 0), "lhau", 2).form(Signed).update(),
    store(d(44, 0), "sth", 2),
    store(d(45, 0), "sthu", 2).update(),
    load(d(46, 0), "lmw", 0).form(Words),
    store(d(47, 0), "stmw", 0).form(Words),
    load(d(48, 0), "lfs", 4).bank(Fpr).form(Single),
    load(d(49, 0), "lfsu", 4).bank(Fpr).form(Single).update(),
    load(d(50, 0), "lfd", 8).bank(Fpr),
    load(d(51, 0), "lfdu", 8).bank(Fpr).update(),
    store(d(52, 0), "stfs", 4).bank(Fpr).form(Single),
    store(d(53, 0), "stfsu", 4).bank(Fpr).form(Single).update(),
    store(d(54, 0), "stfd", 8).bank(Fpr),
    store(d(55, 0), "stfdu", 8).bank(Fpr).update(),
    // With less of a displacement.
    load(d(58, 0), "ld", 8).fields(Ds),
    load(d(58, 1), "ldu", 8).fields(Ds).update(),
    load(d(58, 2), "lwa", 4).fields(Ds).form(Signed),
    store(d(62, 0), "std", 8).fields(Ds),
    store(d(62, 1), "stdu", 8).fields(Ds).update(),
    load(d(56, 0), "lq", 16).fields(Dq(0)).form(Twin),
    store(d(62, 2), "stq", 16).fields(Ds).form(Twin),
    load(d(57, 0), "lfdp", 16).fields(Ds).bank(Fpr).form(Twin),
    store(d(61, 0), "stfdp", 16).fields(Ds).bank(Fpr).form(Twin),
    load(d(57, 2), "lxsd", 8).fields(Ds).bank(Vr).since(Power9),
    store(d(61, 2), "stxsd", 8).fields(Ds).bank(Vr).since(Power9),
    load(d(57, 3), "lxssp", 4).fields(Ds).bank(Vr).form(Single).since(Power9),
    store(d(61, 3), "stxssp", 4).fields(Ds).bank(Vr).form(Single).since(Power9),
    load(d(61, 1), "lxv", 16).fields(Dq(7)).bank(HalfDq).form(Elements(16)).since(Power9),
    store(d(61, 5), "stxv", 16).fields(Dq(7)).bank(HalfDq).form(Elements(16)).since(Power9),
    load(d(6, 0), "lxvp", 32).fields(Dq(15)).bank(Pair).form(Twin).since(Power10),
    store(d(6, 1), "stxvp", 32).fields(Dq(15)).bank(Pair).form(Twin).since(Power10),
    // Integers.
    load(x(21), "ldx", 8),
    load(x(53), "ldux", 8).update(),
    load(x(23), "lwzx", 4),
    load(x(55), "lwzux", 4).update(),
    load(x(87), "lbzx", 1),
    load(x(119), "lbzux", 1).update(),
    load(x(279), "lhzx", 2),
    load(x(311), "lhzux", 2).update(),
    load(x(341), "lwax", 4).form(Signed),
    load(x(373), "lwaux", 4).form(Signed).update(),
    load(x(343), "lhax", 2).form(Signed),
    load(x(375), "lhaux", 2).form(Signed).update(),
    load(x(532), "ldbrx", 8).form(Reversed),
    load(x(534), "lwbrx", 4).form(Reversed),
    load(x(790), "lhbrx", 2).form(Reversed),
    store(x(149), "stdx", 8),
    store(x(181), "stdux", 8).update(),
    store(x(151), "stwx", 4),
    store(x(183), "stwux", 4).update(),
    store(x(215), "stbx", 1),
    store(x(247), "stbux", 1).update(),
    store(x(407), "sthx", 2),
    store(x(439), "sthux", 2).update(),
    store(x(660), "stdbrx", 8).form(Reversed),
    store(x(662), "stwbrx", 4).form(Reversed),
    store(x(918), "sthbrx", 2).form(Reversed),
    load(x(597), "lswi", 0).fields(Count).form(Words),
    load(x(533), "lswx", 0).form(Words),
    store(x(725), "stswi", 0).fields(Count).form(Words),
    store(x(661), "stswx", 0).form(Words),
    // Floating point.
    load(x(535), "lfsx", 4).bank(Fpr).form(Single),
    load(x(567), "lfsux", 4).bank(Fpr).form(Single).update(),
    load(x(599), "lfdx", 8).bank(Fpr),
    load(x(631), "lfdux", 8).bank(Fpr).update(),
    load(x(855), "lfiwax", 4).bank(Fpr).form(Signed),
    load(x(887), "lfiwzx", 4).bank(Fpr),
    load(x(791), "lfdpx", 16).bank(Fpr).form(Twin),
    store(x(663), "stfsx", 4).bank(Fpr).form(Single),
    store(x(695), "stfsux", 4).bank(Fpr).form(Single).update(),
    store(x(727), "stfdx", 8).bank(Fpr),
    store(x(759), "stfdux", 8).bank(Fpr).update(),
    store(x(983), "stfiwx", 4).bank(Fpr),
    store(x(919), "stfdpx", 16).bank(Fpr).form(Twin),
    // VMX.
    load(x(7), "lvebx", 1).bank(Vr).form(Lane),
    load(x(39), "lvehx", 2).bank(Vr).form(Lane),
    load(x(71), "lvewx", 4).bank(Vr).form(Lane),
    load(x(103), "lvx", 16).bank(Vr).form(Elements(16)),
    load(x(359), "lvxl", 16).bank(Vr).form(Elements(16)),
    store(x(135), "stvebx", 1).bank(Vr).form(Lane),
    store(x(167), "stvehx", 2).bank(Vr).form(Lane),
    store(x(199), "stvewx", 4).bank(Vr).form(Lane),
    store(x(231), "stvx", 16).bank(Vr).form(Elements(16)),
    store(x(487), "stvxl", 16).bank(Vr).form(Elements(16)),
    // VSX.
    load(x(12), "lxsiwzx", 4).bank(Vsr),
    load(x(76), "lxsiwax", 4).bank(Vsr).form(Signed),
    store(x(140), "stxsiwx", 4).bank(Vsr),
    load(x(524), "lxsspx", 4).bank(Vsr).form(Single),
    store(x(652), "stxsspx", 4).bank(Vsr).form(Single),
    load(x(588), "lxsdx", 8).bank(Vsr),
    store(x(716), "stxsdx", 8).bank(Vsr),
    load(x(332), "lxvdsx", 8).bank(Vsr).form(Splat),
    load(x(780), "lxvw4x", 16).bank(Vsr).form(Elements(4)),
    store(x(908), "stxvw4x", 16).bank(Vsr).form(Elements(4)),
    load(x(844), "lxvd2x", 16).bank(Vsr).form(Elements(8)),
    store(x(972), "stxvd2x", 16).bank(Vsr).form(Elements(8)),
    load(x(364), "lxvwsx", 4).bank(Half).form(Splat).since(Power9),
    load(x(812), "lxvh8x", 16).bank(Half).form(Elements(2)).since(Power9),
    store(x(940), "stxvh8x", 16).bank(Half).form(Elements(2)).since(Power9),
    load(x(876), "lxvb16x", 16).bank(Half).form(Elements(1)).since(Power9),
    store(x(1004), "stxvb16x", 16).bank(Half).form(Elements(1)).since(Power9),
    load(x(268), "lxvx", 16).bank(Half).form(Elements(16)).since(Power9),
    store(x(396), "stxvx", 16).bank(Half).form(Elements(16)).since(Power9),
    load(x(781), "lxsibzx", 1).bank(Half).since(Power9),
    load(x(813), "lxsihzx", 2).bank(Half).since(Power9),
    store(x(909), "stxsibx", 1).bank(Half).since(Power9),
    store(x(941), "stxsihx", 2).bank(Half).since(Power9),
    load(x(269), "lxvl", 0).fields(Base).bank(Half).form(Length).since(Power9),
    load(x(301), "lxvll", 0).fields(Base).bank(Half).form(Left).since(Power9),
    store(x(397), "stxvl", 0).fields(Base).bank(Half).form(Length).since(Power9),
    store(x(429), "stxvll", 0).fields(Base).bank(Half).form(Left).since(Power9),
    load(x(333), "lxvpx", 32).bank(Pair).form(Twin).since(Power10),
    store(x(461), "stxvpx", 32).bank(Pair).form(Twin).since(Power10),
    load(x(13), "lxvrbx", 1).bank(Vsr).form(Right).since(Power10),
    load(x(45), "lxvrhx", 2).bank(Vsr).form(Right).since(Power10),
    load(x(77), "lxvrwx", 4).bank(Vsr).form(Right).since(Power10),
    load(x(109), "lxvrdx", 8).bank(Vsr).form(Right).since(Power10),
    store(x(141), "stxvrbx", 1).bank(Vsr).form(Right).since(Power10),
    store(x(173), "stxvrhx", 2).bank(Vsr).form(Right).since(Power10),
    store(x(205), "stxvrwx", 4).bank(Vsr).form(Right).since(Power10),
    store(x(237), "stxvrdx", 8).bank(Vsr).form(Right).since(Power10),
    // What needs memory: to reserve, or to change something at once.
    reserve(52, "lbarx", 1),
    reserve(116, "lharx", 2),
    reserve(20, "lwarx", 4),
    reserve(84, "ldarx", 8),
    reserve(276, "lqarx", 16).form(Twin),
    conditional(694, "stbcx.", 1),
    conditional(726, "sthcx.", 2),
    conditional(150, "stwcx.", 4),
    conditional(214, "stdcx.", 8),
    conditional(182, "stqcx.", 16).form(Twin),
    Row::new(x(582), "lwat", Atomic, 4).fields(Count).since(Power9),
    Row::new(x(614), "ldat", Atomic, 8).fields(Count).since(Power9),
    Row::new(x(710), "stwat", Atomic, 4).fields(Count).since(Power9),
    Row::new(x(742), "stdat", Atomic, 8).fields(Count).since(Power9),
    // Cache blocks.
    block(54, "dcbst", Cache),
    block(86, "dcbf", Cache),
    block(246, "dcbtst", Cache),
    block(278, "dcbt", Cache),
    block(982, "icbi", Cache),
    block(22, "icbt", Cache),
    block(1014, "dcbz", Zero),
];

/// Those with a prefix, by the word that follows it.
pub(crate) static PREFIXED: [Row; 24] = [
    load(d(32, 0), "plwz", 4).fields(PrefixedM),
    load(d(34, 0), "plbz", 1).fields(PrefixedM),
    store(d(36, 0), "pstw", 4).fields(PrefixedM),
    store(d(38, 0), "pstb", 1).fields(PrefixedM),
    load(d(40, 0), "plhz", 2).fields(PrefixedM),
    load(d(42, 0), "plha", 2).fields(PrefixedM).form(Signed),
    store(d(44, 0), "psth", 2).fields(PrefixedM),
    load(d(48, 0), "plfs", 4).fields(PrefixedM).bank(Fpr).form(Single),
    load(d(50, 0), "plfd", 8).fields(PrefixedM).bank(Fpr),
    store(d(52, 0), "pstfs", 4).fields(PrefixedM).bank(Fpr).form(Single),
    store(d(54, 0), "pstfd", 8).fields(PrefixedM).bank(Fpr),
    load(d(41, 0), "plwa", 4).fields(Prefixed8).form(Signed),
    load(d(42, 0), "plxsd", 8).fields(Prefixed8).bank(Vr),
    load(d(43, 0), "plxssp", 4).fields(Prefixed8).bank(Vr).form(Single),
    store(d(46, 0), "pstxsd", 8).fields(Prefixed8).bank(Vr),
    store(d(47, 0), "pstxssp", 4).fields(Prefixed8).bank(Vr).form(Single),
    load(d(50, 0), "plxv", 16).fields(Prefixed8).bank(HalfPrefixed).form(Elements(16)),
    store(d(54, 0), "pstxv", 16).fields(Prefixed8).bank(HalfPrefixed).form(Elements(16)),
    load(d(56, 0), "plq", 16).fields(Prefixed8).form(Straight),
    load(d(57, 0), "pld", 8).fields(Prefixed8),
    store(d(60, 0), "pstq", 16).fields(Prefixed8).form(Straight),
    store(d(61, 0), "pstd", 8).fields(Prefixed8),
    load(d(58, 0), "plxvp", 32).fields(Prefixed8).bank(Pair).form(Twin),
    store(d(62, 0), "pstxvp", 32).fields(Prefixed8).bank(Pair).form(Twin),
];
