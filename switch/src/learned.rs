//! The addresses that have been seen at a port: a table of fixed size for each port, so that nobody fills another's.

use alloc::vec;
use alloc::vec::Vec;

use crate::frame::Mac;

/// Groups of places; an address has one group, by its hash.
const GROUPS: usize = 64;
const PLACES: usize = 4;

/// The table. What has not been seen for long counts no more, and gives its place away first.
#[derive(Debug)]
pub(crate) struct Learned {
    groups: Vec<[Option<(Mac, u64)>; PLACES]>,
    /// How long an address is remembered.
    age: u64,
}

impl Learned {
    pub(crate) fn new(age: u64) -> Learned {
        Learned { groups: vec![[None; PLACES]; GROUPS], age }
    }

    fn group(mac: Mac) -> usize {
        let number = mac.0.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize % GROUPS
    }

    /// It has been seen now. True if it was not known before.
    pub(crate) fn see(&mut self, mac: Mac, now: u64) -> bool {
        let known = self.knows(mac, now);
        let group = &mut self.groups[Self::group(mac)];
        // Its own place, or a free one, or that of whoever has been silent for longest.
        let place = group.iter_mut().min_by_key(|place| match place {
            Some((other, _)) if *other == mac => (0, 0),
            None => (1, 0),
            Some((_, seen)) => (2, *seen),
        });
        if let Some(place) = place {
            *place = Some((mac, now));
        }
        !known
    }

    pub(crate) fn knows(&self, mac: Mac, now: u64) -> bool {
        let places = self.groups[Self::group(mac)].iter().flatten();
        places.copied().any(|(other, seen)| other == mac && now.saturating_sub(seen) < self.age)
    }

    /// It has been seen elsewhere.
    pub(crate) fn forget(&mut self, mac: Mac) {
        for place in &mut self.groups[Self::group(mac)] {
            place.take_if(|(other, _)| *other == mac);
        }
    }
}
