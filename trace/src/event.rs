//! An event: four doublewords, and what they say.
//!
//! | doubleword | contents |
//! |---|---|
//! | 0 | the timebase |
//! | 1 | the tag |
//! | 2, 3 | two arguments, by kind |
//!
//! The tag, from the least significant bit:
//!
//! | bits | contents |
//! |---|---|
//! | 0–3 | kind |
//! | 4–7 | [`MARK`]: there is an event |
//! | 8–15 | code: the kind's own |
//! | 16–31 | stamp: the timebase's low 16 bits |
//! | 32–47 | partition (LPID); 0 for the hypervisor itself |
//! | 48–63 | vCPU: the server number |
//!
//! All but kind, code and stamp stands ready in the vCPU ([`tag`]). The mark is an event's size, so that the writer
//! gets to the next slot by adding the tag. Of a vCPU that is not traced that word is zero: its events lack
//! the mark, and the next one takes their slot. So nothing has to be asked. A hypercall, the most frequent event, has kind and code 0.

use core::fmt;

use power::interrupt::Vector;
use power::regs::{Dsisr, Msr};
use power::{Hcall, Lpid};

use crate::exit::ExitCode;

/// Bytes of an event.
pub const EVENT_BYTES: u64 = 32;
/// In the tag of every event: also the distance to the next.
pub const MARK: u64 = EVENT_BYTES;

/// Kinds: bits 0 to 3 of the tag.
pub mod kind {
    /// A hypercall. Arguments: number, r4.
    pub const HCALL: u64 = 0;
    /// A storage fault. Code: the [`Outcome`](super::Outcome), and [`FETCH`]. Arguments: address, cause.
    pub const FAULT: u64 = 1;
    /// A guest is entered from virtual mode. Arguments: pc, MSR.
    pub const ENTRY: u64 = 2;
    /// A guest is left for virtual mode. Code: the [`ExitCode`](super::ExitCode). Arguments: pc, MSR.
    pub const EXIT: u64 = 3;
    /// An interrupt from a guest. Arguments: vector, pc.
    pub const INTERRUPT: u64 = 4;
    /// Another vCPU takes the CPU. Arguments: who had it, who has it.
    pub const SWITCH: u64 = 5;
    /// A vCPU of the partition is woken. Arguments: its server number, the CPU it is handed to.
    pub const WAKE: u64 = 6;

    /// Code bit of a fault: an instruction fetch.
    pub const FETCH: u64 = 0x80;
}

/// Where the code begins.
pub const CODE_SHIFT: u32 = 8;
/// Where the stamp begins.
pub const STAMP_SHIFT: u32 = 16;
const LPID_SHIFT: u32 = 32;
const VCPU_SHIFT: u32 = 48;
const STAMP: u64 = 0xffff << STAMP_SHIFT;

/// The ready part of the tag for the events of a vCPU; 0 stands for one that is not traced. [`Lpid::HOST`] and 0 are the
/// hypervisor's own.
pub const fn tag(lpid: Lpid, vcpu: u32) -> u64 {
    (vcpu as u64) << VCPU_SHIFT | (lpid.0 as u64 & 0xffff) << LPID_SHIFT | MARK
}

/// The words of an event, with a ready tag.
pub(crate) fn words(time: u64, tag: u64, what: What) -> [u64; 4] {
    let (bits, a, b) = what.encode();
    [time, tag | bits | time << STAMP_SHIFT & STAMP, a, b]
}

/// Is it an event, all of it? Those of vCPUs that are not traced, and half-written ones, are not.
pub(crate) const fn is_whole(time: u64, tag: u64) -> bool {
    tag & MARK != 0 && (time << STAMP_SHIFT ^ tag) & STAMP == 0
}

/// What became of a storage fault in real mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Outcome {
    /// Nothing was wrong any more: the guest tries again.
    Retried = 0,
    /// The guest has got a storage interrupt of its own.
    Reflected = 1,
    /// The page was fine and the entry lagged behind: it was brought up to date.
    Resolved = 2,
    /// Virtual mode has to see to it.
    Escalated = 3,
    /// The page had no memory: it was given some.
    Populated = 4,
    /// Nothing was at the address: the instruction was carried out as on an empty bus.
    Emulated = 5,
}

impl Outcome {
    /// All of them, by value.
    pub const ALL: [Outcome; 6] = [
        Outcome::Retried,
        Outcome::Reflected,
        Outcome::Resolved,
        Outcome::Escalated,
        Outcome::Populated,
        Outcome::Emulated,
    ];

    /// What it is called in traces and statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Retried => "retried",
            Outcome::Reflected => "reflected",
            Outcome::Resolved => "resolved",
            Outcome::Escalated => "escalated",
            Outcome::Populated => "populated",
            Outcome::Emulated => "emulated",
        }
    }
}

/// A vCPU: partition and server number. Printed as `LPID.SERVER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Processor {
    /// Its partition, not [`Lpid::HOST`].
    pub lpid: Lpid,
    /// Its server number.
    pub vcpu: u16,
}

impl Processor {
    /// As an argument: 0 is nobody.
    fn encode(processor: Option<Processor>) -> u64 {
        processor.map_or(0, |p| u64::from(p.vcpu) << 16 | u64::from(p.lpid.0 & 0xffff))
    }

    fn decode(word: u64) -> Result<Option<Processor>, ()> {
        match (word >> 32, word >> 16, word & 0xffff) {
            (0, 0, 0) => Ok(None),
            (1.., _, _) | (_, _, 0) => Err(()),
            (_, vcpu, lpid) => Ok(Some(Processor { lpid: Lpid(lpid as u32), vcpu: vcpu as u16 })),
        }
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.lpid.0, self.vcpu)
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The guest made a hypercall.
    Hcall {
        /// r3.
        number: u64,
        /// r4, the first argument.
        r4: u64,
    },
    /// The guest took a hypervisor storage interrupt, and real mode was done with it.
    Fault {
        /// What became of it.
        outcome: Outcome,
        /// It was an instruction fetch.
        fetch: bool,
        /// The effective address.
        ea: u64,
        /// HDSISR; the cause bits of HSRR1 for a fetch.
        cause: u64,
    },
    /// The guest is entered from virtual mode.
    Entry {
        /// Where.
        pc: u64,
        /// Its MSR.
        msr: u64,
    },
    /// The guest is left for virtual mode.
    Exit {
        /// Why.
        reason: ExitCode,
        /// Where it goes on.
        pc: u64,
        /// Its MSR.
        msr: u64,
    },
    /// An interrupt came from the guest: any other than hypercalls and storage faults.
    Interrupt {
        /// Which.
        vector: u64,
        /// Where the guest was.
        pc: u64,
    },
    /// Another vCPU takes the CPU.
    Switch {
        /// Who had it; `None`: it was idle.
        from: Option<Processor>,
        /// Who has it; `None`: it will be idle.
        to: Option<Processor>,
    },
    /// A vCPU of the same partition, or the vCPU itself, was asleep and is handed to a CPU.
    Wake {
        /// Its server number.
        server: u64,
        /// The host CPU.
        cpu: u64,
    },
}

impl What {
    /// Kind and code for the tag, and the two arguments.
    #[inline(always)]
    pub fn encode(self) -> (u64, u64, u64) {
        match self {
            What::Hcall { number, r4 } => (kind::HCALL, number, r4),
            What::Fault { outcome, fetch, ea, cause } => {
                let fetch = if fetch { kind::FETCH } else { 0 };
                (kind::FAULT | (outcome as u64 | fetch) << CODE_SHIFT, ea, cause)
            }
            What::Entry { pc, msr } => (kind::ENTRY, pc, msr),
            What::Exit { reason, pc, msr } => (kind::EXIT | (reason as u64) << CODE_SHIFT, pc, msr),
            What::Interrupt { vector, pc } => (kind::INTERRUPT, vector, pc),
            What::Switch { from, to } => (kind::SWITCH, Processor::encode(from), Processor::encode(to)),
            What::Wake { server, cpu } => (kind::WAKE, server, cpu),
        }
    }

    /// The reverse. `None`: no writer makes such words.
    fn decode(kind: u64, code: u64, a: u64, b: u64) -> Option<What> {
        let what = match (kind, code) {
            (kind::HCALL, 0) => What::Hcall { number: a, r4: b },
            (kind::FAULT, _) => {
                let outcome = *Outcome::ALL.get((code & !kind::FETCH) as usize)?;
                What::Fault { outcome, fetch: code & kind::FETCH != 0, ea: a, cause: b }
            }
            (kind::ENTRY, 0) => What::Entry { pc: a, msr: b },
            (kind::EXIT, _) => What::Exit { reason: ExitCode::known(code)?, pc: a, msr: b },
            (kind::INTERRUPT, 0) => What::Interrupt { vector: a, pc: b },
            (kind::SWITCH, 0) => {
                What::Switch { from: Processor::decode(a).ok()?, to: Processor::decode(b).ok()? }
            }
            (kind::WAKE, 0) => What::Wake { server: a, cpu: b },
            _ => return None,
        };
        Some(what)
    }
}

/// Who is at a place in a guest: the kernel, a program, or either with translation off.
struct Mode(u64);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let msr = Msr::from_bits_retain(self.0);
        f.write_str(if msr.contains(Msr::PR) { "problem state" } else { "privileged" })?;
        if !msr.contains(Msr::IR) {
            f.write_str(", real")?;
        }
        Ok(())
    }
}

/// One line: without time, CPU and vCPU.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn interrupt(vector: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "interrupt {vector:#x} ({})", Vector(vector).name())
        }
        fn somebody(processor: Option<Processor>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match processor {
                Some(processor) => write!(f, "{processor}"),
                None => f.write_str("nobody"),
            }
        }
        match *self {
            What::Hcall { number, r4 } => match Hcall(number).name() {
                Some(name) => write!(f, "{name} r4={r4:#x}"),
                None => write!(f, "hypercall {number:#x} r4={r4:#x}"),
            },
            What::Fault { outcome, fetch, ea, cause } => {
                let store = Dsisr::from_bits_retain(cause).contains(Dsisr::ISSTORE);
                let access = match (fetch, store) {
                    (true, _) => "fetch from",
                    (false, true) => "store to",
                    (false, false) => "load from",
                };
                write!(f, "fault: {access} {ea:#x}, cause {cause:#x}: {}", outcome.name())
            }
            What::Entry { pc, msr } => write!(f, "entry at {pc:#x} ({})", Mode(msr)),
            What::Exit { reason, pc, msr } => write!(f, "exit: {} at {pc:#x} ({})", reason.name(), Mode(msr)),
            What::Interrupt { vector, pc } => {
                interrupt(vector, f)?;
                write!(f, " at {pc:#x}")
            }
            What::Switch { from, to } => {
                f.write_str("switch from ")?;
                somebody(from, f)?;
                f.write_str(" to ")?;
                somebody(to, f)
            }
            What::Wake { server, cpu } => write!(f, "wakes vCPU {server}, for CPU {cpu}"),
        }
    }
}

/// An event, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The timebase.
    pub time: u64,
    /// The partition; [`Lpid::HOST`] for the hypervisor itself.
    pub lpid: Lpid,
    /// The vCPU's server number.
    pub vcpu: u16,
    /// What happened.
    pub what: What,
}

/// Why four words are not an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadEvent {
    /// The slot has not been used, or by a vCPU that is not traced.
    Empty,
    /// It was read while it was being written.
    Torn,
    /// There is no such kind, or none with such a code or such arguments.
    Unknown,
}

impl fmt::Display for BadEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadEvent::Empty => "an empty event",
            BadEvent::Torn => "a half-written event",
            BadEvent::Unknown => "no kind of event",
        })
    }
}

impl Event {
    /// Whose event it is; `None`: the hypervisor's own.
    pub fn processor(&self) -> Option<Processor> {
        (self.lpid != Lpid::HOST).then_some(Processor { lpid: self.lpid, vcpu: self.vcpu })
    }

    /// Decodes.
    pub fn from_words([time, tag, a, b]: [u64; 4]) -> Result<Event, BadEvent> {
        if tag & MARK == 0 {
            return Err(BadEvent::Empty);
        }
        if !is_whole(time, tag) {
            return Err(BadEvent::Torn);
        }
        let (low, code) = (tag & 0xff & !MARK, tag >> CODE_SHIFT & 0xff);
        let lpid = Lpid((tag >> LPID_SHIFT & 0xffff) as u32);
        let what = What::decode(low, code, a, b).ok_or(BadEvent::Unknown)?;
        Ok(Event { time, lpid, vcpu: (tag >> VCPU_SHIFT) as u16, what })
    }

    /// The words that it was decoded from.
    pub fn words(&self) -> [u64; 4] {
        words(self.time, tag(self.lpid, u32::from(self.vcpu)), self.what)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_line_for_each_kind() {
        let some = |lpid, vcpu| Some(Processor { lpid: Lpid(lpid), vcpu });
        let fault = |outcome, fetch, cause| What::Fault { outcome, fetch, ea: 0x1000, cause };
        for (what, line) in [
            (What::Hcall { number: 8, r4: 0x80 }, "H_ENTER r4=0x80"),
            (What::Hcall { number: 0xf000, r4: 1 }, "H_RTAS r4=0x1"),
            (What::Hcall { number: 0x7c, r4: 0 }, "hypercall 0x7c r4=0x0"),
            (
                fault(Outcome::Retried, true, 0x4000_0000),
                "fault: fetch from 0x1000, cause 0x40000000: retried",
            ),
            (
                fault(Outcome::Reflected, false, 0x4200_0000),
                "fault: store to 0x1000, cause 0x42000000: reflected",
            ),
            (
                fault(Outcome::Escalated, false, 0x800_0000),
                "fault: load from 0x1000, cause 0x8000000: escalated",
            ),
            (What::Entry { pc: 0x100, msr: 0 }, "entry at 0x100 (privileged, real)"),
            (
                What::Exit { reason: ExitCode::Slice, pc: 0x200, msr: 0x4030 },
                "exit: end of slice at 0x200 (problem state)",
            ),
            (
                What::Interrupt { vector: 0x980, pc: 0x300 },
                "interrupt 0x980 (hypervisor decrementer) at 0x300",
            ),
            (What::Switch { from: some(1, 0), to: some(2, 3) }, "switch from 1.0 to 2.3"),
            (What::Switch { from: None, to: None }, "switch from nobody to nobody"),
            (What::Wake { server: 3, cpu: 1 }, "wakes vCPU 3, for CPU 1"),
        ] {
            assert_eq!(what.to_string(), line);
        }
    }

    /// What the assembly builds: the ready tag, a constant, the stamp.
    #[test]
    fn the_layout() {
        assert_eq!(tag(Lpid(2), 5), 0x0005_0002_0000_0020);
        let time = 0x1_2345_6789;
        let call = words(time, tag(Lpid(2), 5), What::Hcall { number: 4, r4: 6 });
        assert_eq!(call, [time, 0x0005_0002_6789_0020, 4, 6]);
        let exit = words(time, tag(Lpid(2), 5), What::Exit { reason: ExitCode::Cede, pc: 8, msr: 9 });
        assert_eq!(exit, [time, 0x0005_0002_6789_0523, 8, 9]);
    }

    #[test]
    fn what_is_not_an_event() {
        assert_eq!(Event::from_words([0; 4]), Err(BadEvent::Empty));
        // A vCPU that is not traced.
        let untraced = words(77, 0, What::Entry { pc: 1, msr: 2 });
        assert_eq!(Event::from_words(untraced), Err(BadEvent::Empty));
        let whole = words(0x1_0001, tag(Lpid(1), 0), What::Wake { server: 1, cpu: 1 });
        assert!(Event::from_words(whole).is_ok());
        assert_eq!(Event::from_words([whole[0] + 1, whole[1], 1, 0]), Err(BadEvent::Torn));
        for bits in [0xf, 0x10, 0x40, 0x100] {
            assert_eq!(
                Event::from_words([0, tag(Lpid(1), 0) | bits, 0, 0]),
                Err(BadEvent::Unknown),
                "{bits:#x}"
            );
        }
    }

    /// Words with a whole tag, of kinds that exist more often than not.
    fn plausible() -> impl Strategy<Value = [u64; 4]> {
        (any::<u64>(), any::<u32>(), 0u64..10, 0u64..12, any::<bool>(), 0u64..0x2_0002_0000, 0u64..0x3_0000)
            .prop_map(|(time, who, kind, code, fetch, a, b)| {
                let code = code | if fetch { kind::FETCH } else { 0 };
                [time, u64::from(who) << 32 | MARK | kind | code << 8 | time << 16 & STAMP, a, b]
            })
    }

    proptest! {
        #[test]
        fn decoding_loses_nothing(words in plausible()) {
            if let Ok(event) = Event::from_words(words) {
                prop_assert_eq!(event.words(), words);
                prop_assert!(!event.what.to_string().is_empty());
            }
        }

        #[test]
        fn any_words_are_judged(words: [u64; 4]) {
            if let Ok(event) = Event::from_words(words) {
                prop_assert_eq!(event.words(), words);
            }
        }
    }
}
