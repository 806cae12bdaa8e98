//! Processes that share memory, on several processors: one changes the translations of what the others access.
//!
//! A page has an even number, which is also in [`SEEN`]; while the page changes, that is odd. Who reads the page
//! between two equal even numbers must find the number in it. Another page is stored to without end: while it is
//! read-only nothing in it may change.

use crate::memory::PAGE;
use crate::sys::{self, NONE, READ, READ_WRITE};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

const STACK: usize = 2 * PAGE;
/// The two pages, and a page between.
const LENGTH: usize = 3 * PAGE;
const STORED: usize = 2 * PAGE;

/// Accesses from here to [`LENGTH`] further on may fail: they are tried again. Zero: none.
static REGION: AtomicUsize = AtomicUsize::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);
static READS: AtomicU64 = AtomicU64::new(0);
static OVER: AtomicBool = AtomicBool::new(false);

/// What the signal handler asks: is this an access to try again?
pub fn to_try_again(address: usize) -> bool {
    let region = REGION.load(SeqCst);
    region != 0 && (region..region + LENGTH).contains(&address)
}

extern "C" fn reader(mask: usize) -> ! {
    sys::set_affinity(mask as u64);
    let page = REGION.load(SeqCst);
    while !OVER.load(SeqCst) {
        let before = SEEN.load(SeqCst);
        let got = sys::load(page);
        let after = SEEN.load(SeqCst);
        if before == after && before.is_multiple_of(2) {
            READS.fetch_add(1, SeqCst);
            if got != before {
                sys::bad(format_args!("a stale load: {got} instead of {before}"));
            }
        }
    }
    sys::leave(0)
}

extern "C" fn writer(mask: usize) -> ! {
    sys::set_affinity(mask as u64);
    let mut n = 0;
    let page = REGION.load(SeqCst) + STORED;
    while !OVER.load(SeqCst) {
        n += 1;
        sys::store(page, n);
    }
    sys::leave(0)
}

/// So many changes, with helpers on the processors of the masks. Gives how often a page was read in between.
pub fn run(changes: u64, masks: [u64; 2]) -> Result<u64, usize> {
    let (region, stacks) = (sys::map(LENGTH)?, sys::map(2 * STACK)?);
    READS.store(0, SeqCst);
    OVER.store(false, SeqCst);
    SEEN.store(0, SeqCst);
    REGION.store(region, SeqCst);
    let first = sys::share(stacks + STACK, reader, masks[0] as usize)?;
    let second = sys::share(stacks + 2 * STACK, writer, masks[1] as usize)?;
    for n in 1..=changes {
        SEEN.store(2 * n - 1, SeqCst);
        match n % 4 {
            0 => drop(sys::forget(region, PAGE)?),
            1 => drop(sys::map_at(region, PAGE)?),
            2 => {
                sys::unmap(region, PAGE)?;
                sys::map_at(region, PAGE)?;
            }
            _ => {
                sys::protect(region, PAGE, NONE)?;
                sys::protect(region, PAGE, READ_WRITE)?;
            }
        }
        sys::store(region, 2 * n);
        SEEN.store(2 * n, SeqCst);

        sys::protect(region + STORED, PAGE, READ)?;
        let before = sys::load(region + STORED);
        for _ in 0..500 {
            core::hint::spin_loop();
        }
        let after = sys::load(region + STORED);
        if before != after {
            sys::bad(format_args!("a stale store: {after} came after {before}"));
        }
        sys::protect(region + STORED, PAGE, READ_WRITE)?;
    }
    OVER.store(true, SeqCst);
    for helper in [first, second] {
        if sys::wait(helper)? != 0 {
            sys::bad(format_args!("a helper failed"));
        }
    }
    REGION.store(0, SeqCst);
    sys::unmap(region, LENGTH)?;
    sys::unmap(stacks, 2 * STACK)?;
    Ok(READS.load(SeqCst))
}
