//! Interrupt vectors: offsets from real address 0 (Power ISA 3.0C, book III, figure 65).

/// An interrupt's vector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Vector(pub u64);

/// SRR1 of a program interrupt: illegal instruction (IBM bit 44; Power ISA 3.0C, book III, 6.5.9).
pub const SRR1_ILLEGAL: u64 = 0x8_0000;

macro_rules! vectors {
    ($($name:ident = $value:expr, $text:literal;)*) => {
        #[allow(missing_docs)] // the ISA's own names
        impl Vector {
            $(pub const $name: Vector = Vector($value);)*

            /// The interrupt's name in the ISA.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => $text,)*
                    _ => "unknown vector",
                }
            }
        }
    };
}

vectors! {
    SYSTEM_RESET = 0x100, "system reset";
    MACHINE_CHECK = 0x200, "machine check";
    DATA_STORAGE = 0x300, "data storage";
    DATA_SEGMENT = 0x380, "data segment";
    INST_STORAGE = 0x400, "instruction storage";
    INST_SEGMENT = 0x480, "instruction segment";
    EXTERNAL = 0x500, "external";
    ALIGNMENT = 0x600, "alignment";
    PROGRAM = 0x700, "program";
    FP_UNAVAILABLE = 0x800, "floating point unavailable";
    DECREMENTER = 0x900, "decrementer";
    HDEC = 0x980, "hypervisor decrementer";
    DOORBELL = 0xa00, "directed privileged doorbell";
    SYSTEM_CALL = 0xc00, "system call";
    TRACE = 0xd00, "trace";
    HDSI = 0xe00, "hypervisor data storage";
    HISI = 0xe20, "hypervisor instruction storage";
    HEA = 0xe40, "hypervisor emulation assist";
    HMI = 0xe60, "hypervisor maintenance";
    HDOORBELL = 0xe80, "directed hypervisor doorbell";
    HVI = 0xea0, "hypervisor virtualization";
    PERF_MONITOR = 0xf00, "performance monitor";
    VMX_UNAVAILABLE = 0xf20, "vector unavailable";
    VSX_UNAVAILABLE = 0xf40, "VSX unavailable";
    FACILITY = 0xf60, "facility unavailable";
    HFACILITY = 0xf80, "hypervisor facility unavailable";
    SOFTPATCH = 0x1500, "soft patch";
}
