//! Steps for a [`World`], made of random bytes.

use power::hcall::flags as f;
use power::{HpteR, HpteV, PteIndex};

use super::world::{DEVICE_I, DEVICE_M, GROUPS, NOWHERE, RC, Va, World};
use crate::*;

impl World<'_> {
    /// One step, chosen by eight bytes.
    pub fn step(&mut self, bytes: [u8; 8]) {
        let [kind, a, b, c, d, e, g, h] = bytes;
        let mut va = a as usize % self.vas.len();
        if kind < 100 && a & 3 != 0 {
            // Mostly something that is there.
            let mut there: Vec<usize> = self.entries.values().filter_map(|e| e.va).collect();
            there.sort();
            va = there.get(a as usize * there.len() / 256).copied().unwrap_or(va);
        }
        let n = b as usize % self.pages.len();
        let page = self.vas[va];
        let mut sorted: Vec<u64> =
            if matches!(kind, 145..208) { self.entries.keys().copied().collect() } else { Vec::new() };
        sorted.sort_unstable();
        // An entry that exists, mostly; or one of the crowded group; or nonsense.
        let pick = |x: u8, y: u8| -> u64 {
            match y {
                0..4 => GROUPS as u64 * 8 + x as u64,
                4..24 => 0x123 * 8 + x as u64 % 8,
                _ if sorted.is_empty() => x as u64,
                _ => sorted[x as usize * sorted.len() / 256],
            }
        };
        let condition = |index: u64, x: u8| -> (u64, u64) {
            let v = self.entries.get(&index).map_or(0, |e| e.v.0);
            match x % 8 {
                0 => (f::AVPN, v & !0x7f),
                1 => (f::AVPN, v & !0x7f ^ 0x80),
                2 => (f::ANDCOND, HpteV::BOLTED),
                3 => (f::ANDCOND, 0),
                _ => (0, 0),
            }
        };
        match kind {
            0..100 => {
                let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Execute][c as usize % 3];
                let mut access = page.access(u64::from(e) << 8, kind);
                if !page.is_vrma() {
                    access.problem_state = d & 1 != 0;
                    access.slb.0 |= u64::from(d >> 1 & 7) << 9;
                    if d & 0xe == 0xe {
                        // Most segments are ordinary: Ks = 0, Kp = 1.
                        access.slb.0 = access.slb.0 & !0xe00 | 0x400;
                    }
                    let keys = u64::from(h) << 56 | u64::from(h) << 38;
                    (access.amr, access.iamr) = match g % 8 {
                        0 => (keys, 0),
                        1 => (0, keys),
                        _ => (0, 0),
                    };
                }
                if kind == AccessKind::Execute && d & 0x80 == 0 {
                    access.slb.0 &= !0x200;
                }
                if g & 0xf0 == 0xf0 {
                    self.xlate(va, &access);
                } else {
                    self.access(va, &access);
                }
            }
            100..145 if !page.is_vrma() && self.entry_of(va).is_none() => {
                let (v, index) = page.place(b & 1 != 0);
                let v = HpteV(
                    v.0 | u64::from(c & 0x1f & h) & 0x78 | if c & 0x80 != 0 { HpteV::BOLTED } else { 0 },
                );
                let mut flags = if d < 32 { f::EXACT } else { 0 };
                flags |= match d % 16 {
                    0 => f::ZERO_PAGE,
                    1 => f::ICACHE_SYNCHRONIZE,
                    2 => f::ZERO_PAGE | f::ICACHE_INVALIDATE,
                    3 if d & 0x80 != 0 => f::COPY_PAGE,
                    _ => 0,
                };
                let ram = self.unit * self.pages.len() as u64;
                let real = match e {
                    0..10 => DEVICE_I + u64::from(g) * 0x1000,
                    10..20 => DEVICE_M + u64::from(g) * 0x1000,
                    20..30 => NOWHERE + u64::from(g) * 0x1000,
                    _ => (u64::from(e) << 8 | u64::from(g)) * 0x1000 % ram,
                };
                let wimg = match e {
                    0..8 => HpteR::I | HpteR::G,
                    10..18 => 0x70,
                    _ => [2, 2, 2, 2, 2, 2, 2, 14, 4, 5, 6, 0, 1, 3, 8, 13][c as usize & 15] << 3,
                };
                let pp = [2, 2, 2, 0, 1, 3, 4, 2][(h & 7) as usize] | if h & 7 == 6 { HpteR::PP0 } else { 0 };
                let pp = if h & 7 == 6 && c & 4 != 0 { HpteR::PP0 | 2 } else { pp & !4 };
                let key = if h & 0x30 == 0x30 { u64::from(h >> 6) << 9 | u64::from(h >> 6) << 60 } else { 0 };
                let n = if h & 0xc8 == 0x48 { HpteR::N } else { 0 };
                let rc = if g & 7 == 0 { u64::from(g >> 4) << 7 & RC } else { 0 };
                let r = page.r(real, wimg | pp | key | n | rc);
                let exact = PteIndex(index.0 | u64::from(c >> 5));
                let _ = self.enter(Some(va), flags, exact, v, r);
            }
            // Junk that no address leads to fills the groups.
            100..145 => {
                let group = page.place(b & 1 != 0).1;
                let bolted = if c & 1 != 0 { HpteV::BOLTED } else { 0 };
                let v = HpteV(0x3_f00d_0000_0000 | u64::from(d) << 7 | u64::from(h & 1) << 63 | bolted);
                let real = u64::from(e) << 12;
                let _ = self.enter(None, 0, group, v, HpteR(real | HpteR::M | 2));
            }
            145..160 => {
                let index = pick(b, c);
                let (flags, avpn) = condition(index, d);
                let _ = self.remove(flags, index, avpn);
            }
            160..165 => {
                let mut words = [0; 8];
                for i in 0..4 {
                    let x = bytes[1 + i].wrapping_mul(31 + i as u8);
                    let index = pick(x, x.rotate_left(3) | if h & 3 == 0 { 0 } else { 64 });
                    let (flags, avpn) = condition(index, bytes[4 + i]);
                    let cond = match flags {
                        f::AVPN => 2,
                        f::ANDCOND => 1,
                        _ => u64::from(x & 0x3f == 0) * 3,
                    };
                    let kind = if x.is_multiple_of(29) { 3 } else { 1 + u64::from(x.is_multiple_of(61)) };
                    words[2 * i] = kind << 62 | cond << 56 | index;
                    words[2 * i + 1] = avpn;
                }
                self.bulk(words);
            }
            165..195 => {
                let index = pick(b, c);
                let (flags, avpn) = condition(index, d);
                let pp = [0, 1, 2, 2, 2, 3, 0x102, 0x101][(e & 7) as usize];
                let key = if e & 0xe0 == 0xe0 { u64::from(g & 0x1f) << 9 } else { 0 };
                let n = if e & 0x18 == 0x18 { 4 } else { 0 };
                let _ = self.protect(flags | pp | key | n, index, avpn);
            }
            195..200 => self.read(pick(b, c)),
            200..202 => self.read_4(pick(b, 100)),
            202..208 => self.clear_usage(pick(b, c), d & 1 != 0),
            208..214 => {
                let flag =
                    [f::ZERO_PAGE, f::COPY_PAGE, f::ICACHE_SYNCHRONIZE, 1][(c as usize & 15).min(10) % 4];
                let ram = self.unit * self.pages.len() as u64;
                let to = (u64::from(d) << 16 | u64::from(e) << 12) % ram | u64::from(c == 255);
                self.page_init(flag, to, (u64::from(g) << 16 | u64::from(h) << 12) % (ram + 0x1000));
            }
            214..222 => self.populate(n, if c & 3 == 0 { PageState::Shared } else { PageState::Private }),
            222..228 => self.make_shared(n),
            228..233 => self.move_page(n, c & 1 != 0, c & 2 != 0),
            233..239 => self.protect_page(
                n,
                [Protection::ReadWrite, Protection::ReadOnly, Protection::None][c as usize % 3],
            ),
            239..242 => self.discard(n),
            242..245 => self.harvest(n),
            245..254 => {
                let first = self.vas.iter().position(Va::is_vrma).unwrap();
                self.insert_vrma(first + c as usize % 4);
            }
            254 if c < 32 => self.share_all(),
            254 if c < 64 => self.take_snapshot(),
            254 if c < 160 => self.revert(),
            254 if c < 164 => self.forget_snapshot(),
            255 if c < 8 => self.clear(),
            _ => self.check(),
        }
    }
}
