//! Who a partition is: its number, its name and a random identifier, which are others in a copy. A guest finds them in its identity page
//! ([`papr::identity`]) and hears of a change by an interrupt; or it asks with H_PARTITA_IDENTITY.

use papr::identity::{Identity, IdentityPage};
use papr::xics::{FIRST_SOURCE, Kick};
use power::{GuestReal, Lpid};
use realmode::instructions::timebase;

use super::Partition;
use crate::{entropy, log};

/// The interrupt source of a change.
const SOURCE: u32 = FIRST_SOURCE + 1;

/// Where the page is: above all memory that a partition can have, and below 1 TiB, where the real mode area ends.
pub const PAGE: IdentityPage = IdentityPage { base: 0xff_0000_0000, source: SOURCE };

/// What of it changes.
#[derive(Clone, Copy)]
pub struct Changing {
    /// A random number that nobody else has.
    id: [u8; 16],
    /// How often it has changed.
    count: u64,
}

impl Changing {
    /// A new one, after so many before.
    pub fn new(lpid: Lpid, count: u64) -> Changing {
        let mut id = [0; 16];
        for (n, half) in id.chunks_exact_mut(8).enumerate() {
            // Without a source of random numbers it is at least nobody else's.
            let unique = timebase() ^ u64::from(lpid.0) << 48 ^ count << 56 ^ n as u64;
            if !entropy::fill(half) {
                half.copy_from_slice(&scattered(unique).to_be_bytes());
            }
        }
        Changing { id, count }
    }
}

/// A number's bits, mixed; no two become the same (splitmix64).
const fn scattered(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

impl Partition {
    /// Where its identity page is; none in a partition with huge pages, where it would take 16 MiB.
    pub fn identity_page(&self) -> Option<IdentityPage> {
        (!self.core().slots.is_huge()).then_some(PAGE)
    }

    /// What H_PARTITA_IDENTITY answers in r4 to r7.
    pub fn identity_words(&self) -> [u64; 4] {
        let Changing { id, count } = *self.identity.lock();
        let (high, low) = Identity { id, name: &self.name, count }.words();
        [u64::from(self.core().lpid.0), high, low, count]
    }

    /// How often it has changed.
    pub fn identity_count(&self) -> u64 {
        self.identity.lock().count
    }

    /// Writes the identity page.
    pub fn write_identity(&self) -> Result<(), paging::Error> {
        let Some(page) = self.identity_page() else { return Ok(()) };
        let Changing { id, count } = *self.identity.lock();
        self.memory().write(GuestReal(page.base), &Identity { id, name: &self.name, count }.bytes())
    }

    /// Becomes another, `before` having been who it was, and tells the guest. It stands still.
    pub fn renew_identity(&self, before: &Partition) {
        let count = before.identity.lock().count + 1;
        *self.identity.lock() = Changing::new(self.core().lpid, count);
        let Some(page) = self.identity_page() else { return };
        // What is in the page is all written anew: it need not be copied first.
        let fresh = self.memory().pages(|pages| pages.discard(GuestReal(page.base)));
        if fresh.and_then(|()| self.write_identity()).is_err() {
            log!("{}: no memory to tell it that it is a copy", self.name);
        }
        // All its vCPUs look before they go on.
        let _: Kick = self.core().xics.assert(page.source).unwrap_or(Kick::NONE);
    }
}
