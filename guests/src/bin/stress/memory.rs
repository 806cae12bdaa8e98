//! Memory that is mapped, changed, moved and given back, and what must stand in it at every moment.

use crate::sys::{self, NONE, READ, READ_WRITE};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The largest page size of Linux on this machine: everything is done in multiples of it.
pub const PAGE: usize = 0x1_0000;
/// Words are checked at this distance.
const STRIDE: usize = 256;
const MOST_PAGES: usize = 12;
const MAPPINGS: usize = 10;

/// Numbers that look random.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % n
    }
}

/// A piece of memory. Each page has what its key, its number in the piece and its generation give.
#[derive(Clone, Copy)]
pub struct Mapping {
    at: usize,
    pages: usize,
    key: u64,
    generation: u64,
}

impl Mapping {
    /// No memory.
    pub const NONE: Mapping = Mapping { at: 0, pages: 0, key: 0, generation: 0 };

    fn length(&self) -> usize {
        self.pages * PAGE
    }

    fn word(&self, offset: usize) -> u64 {
        (self.key ^ self.generation.rotate_left(48) ^ offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// New memory, not filled yet.
    pub fn new(pages: usize, key: u64) -> Result<Mapping, usize> {
        Ok(Mapping { at: sys::map(pages * PAGE)?, pages, key, generation: 0 })
    }

    /// Writes all of it anew.
    pub fn fill(&mut self) {
        self.generation += 1;
        for offset in (0..self.length()).step_by(STRIDE) {
            sys::store(self.at + offset, self.word(offset));
        }
    }

    /// It has what was written last.
    pub fn check(&self, when: &str) {
        for offset in (0..self.length()).step_by(STRIDE) {
            let (got, want) = (sys::load(self.at + offset), self.word(offset));
            if got != want {
                sys::bad(format_args!(
                    "{:#x} has {got:#x}, not {want:#x}, {when}; process {}, piece {:#x}, generation {}",
                    self.at + offset,
                    sys::pid(),
                    self.at,
                    self.generation
                ));
            }
        }
    }

    fn check_zero(&self, when: &str) {
        for offset in (0..self.length()).step_by(STRIDE) {
            let got = sys::load(self.at + offset);
            if got != 0 {
                sys::bad(format_args!("{:#x} has {got:#x}, not zero, {when}", self.at + offset));
            }
        }
    }
}

/// The address at which the next access is to fail; then it did.
static EXPECTED: AtomicUsize = AtomicUsize::new(0);
const FAILED: usize = 1;

/// What the signal handler asks: was this access meant to fail? The instruction after it is next then.
pub fn meant_to_fail(address: usize) -> bool {
    EXPECTED.compare_exchange(address, FAILED, SeqCst, SeqCst).is_ok()
}

fn must_fail(address: usize, what: &str, access: impl Fn(usize)) {
    EXPECTED.store(address, SeqCst);
    access(address);
    if EXPECTED.swap(0, SeqCst) != FAILED {
        sys::bad(format_args!("a {what} at {address:#x} did not fail"));
    }
}

fn works<T>(what: &str, answer: Result<T, usize>) -> T {
    answer.unwrap_or_else(|error| sys::bad(format_args!("{what}: error {error}")))
}

/// What one process has.
pub struct Memory {
    mappings: [Mapping; MAPPINGS],
    key: u64,
}

impl Memory {
    /// Nothing yet. What will be in it is told apart by the seed, and by the process.
    pub fn new(seed: u64) -> Memory {
        let key = (sys::pid() as u64) << 32 ^ seed.wrapping_mul(0xd134_2543_de82_ef95);
        Memory { mappings: [Mapping::NONE; MAPPINGS], key }
    }

    /// Everything is as it must be.
    pub fn check(&self, when: &str) {
        for mapping in &self.mappings {
            mapping.check(when);
        }
    }

    /// Writes some of it anew, everything else stays.
    pub fn rewrite(&mut self, random: &mut Random) {
        let mapping = &mut self.mappings[random.below(MAPPINGS)];
        if mapping.pages != 0 {
            mapping.fill();
        }
    }

    /// One change, of some kind.
    pub fn change(&mut self, random: &mut Random) {
        self.key += 1;
        let pages = 1 + random.below(MOST_PAGES);
        let m = &mut self.mappings[random.below(MAPPINGS)];
        if m.pages == 0 {
            *m = works("mmap", Mapping::new(pages, self.key));
            m.check_zero("new");
            return m.fill();
        }
        let page = m.at + random.below(m.pages) * PAGE + 8 * random.below(PAGE / 8);
        match random.below(8) {
            0 => {
                m.check("before its end");
                works("munmap", sys::unmap(m.at, m.length()));
                must_fail(page, "load after munmap", |at| {
                    sys::load(at);
                });
                *m = Mapping::NONE;
            }
            1 if m.pages > 1 => {
                let left = 1 + random.below(m.pages - 1);
                works("munmap", sys::unmap(m.at + left * PAGE, m.length() - left * PAGE));
                m.pages = left;
                m.check("shortened");
            }
            2 => {
                works("mprotect", sys::protect(m.at, m.length(), READ));
                must_fail(page, "store to what is read-only", |at| sys::store(at, 0xbad));
                m.check("read-only");
                works("mprotect", sys::protect(m.at, m.length(), READ_WRITE));
                m.fill();
            }
            3 => {
                works("mprotect", sys::protect(m.at, m.length(), NONE));
                must_fail(page, "load without rights", |at| {
                    sys::load(at);
                });
                must_fail(page, "store without rights", |at| sys::store(at, 0xbad));
                works("mprotect", sys::protect(m.at, m.length(), READ_WRITE));
                m.check("accessible again");
            }
            4 => {
                let kept = Mapping { pages: pages.min(m.pages), ..*m };
                m.at = works("mremap", sys::remap(m.at, m.length(), pages * PAGE));
                m.pages = pages;
                Mapping { at: m.at, ..kept }.check("moved");
                m.fill();
            }
            5 => {
                works("madvise", sys::forget(m.at, m.length()));
                m.check_zero("forgotten");
                m.fill();
            }
            6 => {
                works("mmap", sys::map_at(m.at, m.length()));
                m.check_zero("mapped over");
                m.fill();
            }
            _ => {
                m.fill();
                m.check("filled");
            }
        }
    }
}
