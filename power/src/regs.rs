//! Machine registers with named bits. Values are LSB masks; the IBM number of each bit is in its comment.

use bitflags::bitflags;

bitflags! {
    /// Machine State Register (Power ISA 3.0C, book III, 4.2.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[repr(transparent)]
    pub struct Msr: u64 {
        /// Sixty-four bit mode (0).
        const SF = 1 << 63;
        /// Hypervisor state (3).
        const HV = 1 << 60;
        /// Transaction state (29:30).
        const TS = 3 << 33;
        /// Transactional memory available (31).
        const TM = 1 << 32;
        /// Vector available (38).
        const VEC = 1 << 25;
        /// VSX available (40).
        const VSX = 1 << 23;
        /// External interrupt enable (48).
        const EE = 1 << 15;
        /// Problem state (49).
        const PR = 1 << 14;
        /// Floating point available (50).
        const FP = 1 << 13;
        /// Machine check enable (51).
        const ME = 1 << 12;
        /// Floating point exception mode 0 (52).
        const FE0 = 1 << 11;
        /// Single-step trace (53); with BE the trace enable field.
        const SE = 1 << 10;
        /// Branch trace (54).
        const BE = 1 << 9;
        /// Floating point exception mode 1 (55).
        const FE1 = 1 << 8;
        /// Instruction relocate (58).
        const IR = 1 << 5;
        /// Data relocate (59).
        const DR = 1 << 4;
        /// Performance monitor mark (61).
        const PMM = 1 << 2;
        /// Recoverable interrupt (62).
        const RI = 1 << 1;
        /// Little endian (63).
        const LE = 1;
        const _ = !0;
    }
}

bitflags! {
    /// Logical Partitioning Control Register (Power ISA 2.07B and 3.0C, book III, 2.2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[repr(transparent)]
    pub struct Lpcr: u64 {
        /// Virtualized partition memory, real mode (0; 2.07 only).
        const VPM0 = 1 << 63;
        /// Virtualized partition memory, translated (1).
        const VPM1 = 1 << 62;
        /// Ignore large page, second (2; 2.07).
        const ISL = 1 << 61;
        /// Hypervisor virtualization interrupts exit sleep (17; 3.0: HVEE).
        const PECE_HVEE = 1 << 46;
        /// Use process table (41; 3.0).
        const UPRT = 1 << 22;
        /// The guest's decrementer has more than 32 bits (46; 3.0).
        const LD = 1 << 17;
        /// Interrupts of the guest are taken in little endian (38).
        const ILE = 1 << 25;
        /// Alternate interrupt location: 3 is 0xc000_0000_0000_4000 (39:40).
        const AIL = 3 << 23;
        /// Host radix (43; 3.0).
        const HR = 1 << 20;
        /// Privileged doorbell exits sleep (47; PECEDP).
        const PECE_DP = 1 << 16;
        /// Hypervisor doorbell exits sleep (48; PECEDH).
        const PECE_DH = 1 << 15;
        /// External interrupts exit sleep (49; PECE0).
        const PECE_EE = 1 << 14;
        /// The decrementer exits sleep (50; PECE1).
        const PECE_DEC = 1 << 13;
        /// Machine check and maintenance exit sleep (51; PECE2).
        const PECE_OTHER = 1 << 12;
        /// Mediated external exception request (52).
        const MER = 1 << 11;
        /// Guest translation shootdown (53; 3.0).
        const GTSE = 1 << 10;
        /// Translation control: no secondary PTEG search (54).
        const TC = 1 << 9;
        /// External interrupts go to the guest (60).
        const LPES0 = 1 << 3;
        /// Which real mode the guest gets (61; 2.06).
        const LPES1 = 1 << 2;
        /// Hypervisor virtualization interrupts are taken (62 in 3.0).
        const HVICE = 1 << 1;
        /// HDEC interrupts are taken (63).
        const HDICE = 1;
        const _ = !0;
    }
}

impl Lpcr {
    /// Default prefetch depth (52:..): bits of DPFD, left as found.
    pub const DPFD: Lpcr = Lpcr::from_bits_retain(7 << 52);
    /// Where VRMASD starts (2.07, bits 12:16): L, LP as an SLB entry has them.
    pub const VRMASD_SHIFT: u32 = 47;
    /// Where AIL starts.
    pub const AIL_SHIFT: u32 = 23;
}

bitflags! {
    /// DSISR and HDSISR of a data storage interrupt, and the cause bits that an instruction storage
    /// interrupt leaves in SRR1 or HSRR1 (Power ISA 3.0C, book III, 6.5.3 and 6.5.5).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[repr(transparent)]
    pub struct Dsisr: u64 {
        /// No translation found (33).
        const NOHPTE = 0x4000_0000;
        /// Access to no-execute or guarded storage (35); instruction fetches only.
        const NOEXEC_OR_GUARDED = 0x1000_0000;
        /// Denied by the page's protection (36).
        const PROTFAULT = 0x0800_0000;
        /// An instruction that needs cacheable memory met inhibited memory (37).
        const BAD_ACCESS = 0x0400_0000;
        /// The access was a store (38).
        const ISSTORE = 0x0200_0000;
        /// Data address watch match (41).
        const DAWR = 0x0040_0000;
        /// Denied by the virtual page class key (42).
        const KEYFAULT = 0x0020_0000;
        const _ = !0;
    }
}

bitflags! {
    /// Hypervisor Facility Status and Control Register (Power ISA 3.0C, book III, 6.2.11).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[repr(transparent)]
    pub struct Hfscr: u64 {
        /// Floating point (63).
        const FP = 1;
        /// VMX and VSX (62).
        const VECVSX = 1 << 1;
        /// DSCR at its user number (61).
        const DSCR = 1 << 2;
        /// Performance monitor (60).
        const PM = 1 << 3;
        /// Branch history rolling buffer (59).
        const BHRB = 1 << 4;
        /// Transactional memory (58).
        const TM = 1 << 5;
        /// Event-based branches (56).
        const EBB = 1 << 7;
        /// Target address register (55).
        const TAR = 1 << 8;
        /// `msgsndp` and DPDES (53).
        const MSGP = 1 << 10;
        /// `scv` (51).
        const SCV = 1 << 12;
        /// Prefixed instructions (50).
        const PREFIX = 1 << 13;
        const _ = !0;
    }
}
