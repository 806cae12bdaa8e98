//! Work that notices when memory and registers do not belong together: a number counted in a register, and in memory from which it
//! is read back each time.

use crate::cpu::{mfspr, mtspr, timebase};
use crate::insn::{TRAP, addi, ld, sc, std};
use crate::mem::{read64, write64};
use crate::space::{self, READ_WRITE, Segment};
use crate::{Context, MSR_PROBLEM, MSR_REAL, place_at, run};
use power::PageSize::K4;
use power::interrupt::Vector;
use power::slb::SegmentSize;
use power::spr;

/// Where processors count, 64 KiB each; the code is at the start, the number one page behind it.
const AREAS: u64 = 0xb0_0000;
const NUMBER: u64 = 0x1000;
/// Stores r6 to where r3 points, as often as CTR says, if what is there is one less; else it traps.
const CODE: [u32; 8] = [
    ld(5, 0, 3),
    0x7c25_3000, // cmpd r5, r6
    0x4082_0014, // bne +20
    addi(6, 6, 1),
    std(6, 0, 3),
    0x4200_ffec, // bdnz -20
    sc(0),
    TRAP,
];

/// One processor's count.
pub struct Counter {
    at: u64,
    nip: u64,
    msr: u64,
    context: Context,
}

impl Counter {
    /// In real mode, by the processor with this index.
    pub fn real(index: usize) -> Counter {
        let area = AREAS + 0x1_0000 * index as u64;
        let at = area + NUMBER;
        write64(at, 0);
        let mut context = Context::ZERO;
        context.gpr[3] = at;
        Counter { at, nip: place_at(area, &CODE), msr: MSR_REAL, context }
    }

    /// In problem state, through translations of its own.
    pub fn translated(index: usize) -> Counter {
        let number = index as u64;
        let segment =
            Segment { ea: 0x7000_0000, vsid: 0x700 + number, size: SegmentSize::M256, base: K4, flags: 0 };
        segment.install(space::FREE_SLOT + 1);
        let mut counter = Counter::real(index);
        for page in [0, NUMBER] {
            let ra = AREAS + 0x1_0000 * number + page;
            segment.enter(segment.ea + page, ra, K4, READ_WRITE).expect("an entry");
        }
        counter.context.gpr[3] = segment.ea + NUMBER;
        (counter.nip, counter.msr) = (segment.ea, MSR_PROBLEM);
        counter
    }

    /// Counts on so many times. Was all as it had to be?
    pub fn go(&mut self, times: u64) -> bool {
        const MOST: u64 = 0x7fff_ffff;
        let mut set = timebase();
        mtspr::<{ spr::DEC }>(MOST);
        let c = &mut self.context;
        (c.nip, c.msr, c.ctr) = (self.nip, self.msr, times);
        run(c);
        while c.vector() == Vector::DECREMENTER {
            // On a busy machine that time may have passed; and an emulator's timer that is about to expire when DEC is set may do so
            // afterwards.
            if timebase() - set < MOST && (mfspr::<{ spr::DEC }>() as i32) < 0 {
                return false;
            }
            set = timebase();
            mtspr::<{ spr::DEC }>(MOST);
            run(c);
        }
        c.vector() == Vector::SYSTEM_CALL && read64(self.at) == c.gpr[6]
    }
}
