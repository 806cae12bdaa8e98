//! Special purpose register numbers.
#![allow(missing_docs)] // the ISA's own names

macro_rules! sprs { ($($name:ident = $n:expr;)*) => { $(pub const $name: u32 = $n;)* }; }

sprs! {
    XER = 1; DSCR_USER = 3; LR = 8; CTR = 9; AMR_USER = 13; DSCR = 17; DSISR = 18; DAR = 19; DEC = 22;
    SDR1 = 25; SRR0 = 26; SRR1 = 27; CFAR = 28; AMR = 29; PIDR = 48; IAMR = 61;
    CTRL_READ = 136; CTRL = 152; FSCR = 153; UAMOR = 157; PSPB = 159; DPDES = 176; DAWR0 = 180; DAWR1 = 181;
    RPR = 186; CIABR = 187; DAWRX0 = 188; DAWRX1 = 189; HFSCR = 190; VRSAVE = 256; SPRG3_USER = 259;
    TB = 268; SPRG0 = 272; SPRG1 = 273; SPRG2 = 274; SPRG3 = 275; TBU40 = 286; PVR = 287;
    HSPRG0 = 304; HSPRG1 = 305; HDSISR = 306; HDAR = 307; SPURR = 308; PURR = 309; HDEC = 310; HRMOR = 313;
    HSRR0 = 314; HSRR1 = 315; LPCR = 318; LPIDR = 319; HMER = 336; HMEER = 337; PCR = 338; HEIR = 339; AMOR = 349;
    PTCR = 464; USPRG3 = 259; BESCRS = 800; BESCR = 806; EBBHR = 804; EBBRR = 805;
    TAR = 815; ASDR = 816; PSSCR_GUEST = 823; IC = 848; VTB = 849; PSSCR = 855; PPR = 896;
    SIER = 784; MMCR2 = 785; MMCRA = 786; PMC1 = 787; PMC2 = 788; PMC3 = 789; PMC4 = 790; PMC5 = 791; PMC6 = 792;
    MMCR0 = 795; SIAR = 796; SDAR = 797; MMCR1 = 798;
    MMCR3 = 754; SIER2 = 752; SIER3 = 753;
    MMCRS = 894; TACR = 888; TCSCR = 889; CSIGR = 890; SPMC1 = 892; SPMC2 = 893;
    HID0 = 1008; CIR = 1008; TIDR = 144; WORT = 895; PIR = 1023; TRIG0 = 880;
    TFHAR = 128; TFIAR = 129; TEXASR = 130;
}
