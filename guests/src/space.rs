//! Address spaces for code under test: SLB entries, and page table entries through H_ENTER.

use crate::context::{CODE, MSR_PROBLEM, MSR_VIRTUAL};
use crate::cpu::{mtspr, slbmte};
use crate::{Context, Hcall, Status, hcall, platform, run};
use power::hpte::{HpteR, HpteV, PageSize, encode_page_sizes};
use power::slb::{self, SegmentSize, SlbV};
use power::spr;

/// A segment: where, how large, which VSID, and the flags of its SLB entry (Ks, Kp, N).
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its first effective address.
    pub ea: u64,
    /// Its virtual segment.
    pub vsid: u64,
    /// Its size.
    pub size: SegmentSize,
    /// Its base page size.
    pub base: PageSize,
    /// `VSID_KS`, `VSID_KP`, `VSID_N`.
    pub flags: u64,
}

impl Segment {
    /// Dword 0 of the entry for an address and the actual page size; not valid in any sense but its V.
    pub fn v(&self, ea: u64, actual: PageSize) -> u64 {
        let offset = ea & ((1 << self.size.shift()) - 1);
        let va_high = (self.vsid << (self.size.shift() - 23)) | offset >> 23;
        let below = self.base.shift().max(23) - 23;
        let (l, _) = encode_page_sizes(self.base, actual).expect("a pair of page sizes");
        self.size.b() << 62 | (va_high >> below << below) << 7 | l | HpteV::V
    }

    /// The primary hash of an address.
    pub fn hash(&self, ea: u64) -> u64 {
        let page = (ea & ((1 << self.size.shift()) - 1)) >> self.base.shift();
        match self.size {
            SegmentSize::M256 => (self.vsid & 0x7f_ffff_ffff) ^ page,
            SegmentSize::T1 => (self.vsid & 0x7f_ffff_ffff) ^ (self.vsid << 25 & 0x7f_ffff_ffff) ^ page,
        }
    }

    /// The index of the first entry of the address's primary group.
    pub fn group(&self, ea: u64) -> u64 {
        (self.hash(ea) & (platform::hpt_entries() / 8 - 1)) * 8
    }

    /// The same of the secondary group.
    pub fn secondary_group(&self, ea: u64) -> u64 {
        (!self.hash(ea) & (platform::hpt_entries() / 8 - 1)) * 8
    }

    /// Enters a translation; `r` has everything of dword 1 but the page number and size. Gives the entry's index.
    pub fn enter(&self, ea: u64, ra: u64, actual: PageSize, r: u64) -> Result<u64, Status> {
        let (_, lp) = encode_page_sizes(self.base, actual).expect("a pair of page sizes");
        let answer = hcall(Hcall::ENTER, &[0, self.group(ea), self.v(ea, actual), ra | lp | r]);
        match answer.status {
            Status::SUCCESS => Ok(answer.r4()),
            Status::PTEG_FULL => {
                let v = self.v(ea, actual) | HpteV::H;
                let answer = hcall(Hcall::ENTER, &[0, self.secondary_group(ea), v, ra | lp | r]);
                if answer.status == Status::SUCCESS { Ok(answer.r4()) } else { Err(answer.status) }
            }
            other => Err(other),
        }
    }

    /// Puts the segment in an SLB slot.
    pub fn install(&self, slot: u64) {
        let shift = match self.size {
            SegmentSize::M256 => slb::VSID_SHIFT,
            SegmentSize::T1 => slb::VSID_SHIFT_1T,
        };
        let vsid = self.size.b() << 62 | self.vsid << shift | self.flags | SlbV::llp(self.base);
        let ea = self.ea >> self.size.shift() << self.size.shift();
        slbmte(vsid, ea | slb::ESID_V | slot);
    }
}

/// Dword 1 of ordinary memory, readable and writable from both states.
pub const READ_WRITE: u64 = HpteR::M | 2;
/// The same with Ks/Kp = 1 kept out: PP=0.
pub const PP_SUPERVISOR: u64 = HpteR::M;
/// Read-only from both.
pub const READ_ONLY: u64 = HpteR::M | 3;
/// PP=1: with key 1 read-only, with key 0 read-write.
pub const PP_KEY_READS: u64 = HpteR::M | 1;
/// Caching inhibited and guarded, as for devices; no execute.
pub const DEVICE: u64 = HpteR::I | HpteR::G | HpteR::N | 2;

/// Where the code page shows in [`standard`]: its segment is open to problem state.
pub const CODE_EA: u64 = 0x1000_0000;
/// A data page beside the code, by its real address, and where it shows.
pub const DATA: u64 = CODE + 0x1_0000;
/// See [`DATA`].
pub const DATA_EA: u64 = CODE_EA + 0x1_0000;
/// SLB slots from here on are free for a test.
pub const FREE_SLOT: u64 = 2;

/// The segment of the program and the vectors.
pub const LINEAR: Segment = Segment {
    ea: 0xc000_0000_0000_0000,
    vsid: 0x100,
    size: SegmentSize::M256,
    base: PageSize::K64,
    flags: 0,
};
/// The segment of the code page.
pub const USER: Segment =
    Segment { ea: CODE_EA, vsid: 0x101, size: SegmentSize::M256, base: PageSize::K64, flags: slb::VSID_KP };

/// Empties the SLB and enters the program's own linear range and the code page.
pub fn standard() {
    clear_slb();
    for page in (0..0x40_0000).step_by(0x1_0000) {
        LINEAR.enter(LINEAR.ea + page, page, PageSize::K64, PP_SUPERVISOR).expect("the linear range");
    }
    USER.enter(CODE_EA, CODE, PageSize::K64, READ_WRITE).expect("the code page");
    USER.enter(DATA_EA, DATA, PageSize::K64, READ_WRITE).expect("the data page");
    install_standard();
}

/// The SLB entries of [`standard`] alone, for another processor.
pub fn install_standard() {
    LINEAR.install(0);
    USER.install(1);
}

/// Empties the SLB.
pub fn clear_slb() {
    for slot in 0..32 {
        slbmte(0, slot);
    }
}

/// Runs code from the code page through [`CODE_EA`], in supervisor state with translation on or in problem state.
pub fn run_virtual(code: &[u32], problem: bool, r3: u64, r4: u64) -> Context {
    crate::place(code);
    // In problem state EE is on: keep the decrementer away.
    mtspr::<{ spr::DEC }>(0x7fff_ffff);
    let mut c =
        Context { nip: CODE_EA, msr: if problem { MSR_PROBLEM } else { MSR_VIRTUAL }, ..Context::ZERO };
    c.gpr[3] = r3;
    c.gpr[4] = r4;
    run(&mut c);
    c
}
