//! The ring of a host CPU: written by it alone, read by any.
//!
//! A ring is [`RING_BYTES`] long and aligned to that. The address of the next slot wraps because its writer only
//! replaces the low 16 bits. The writer asks nothing and waits for nobody.
//!
//! **Readers.** A slot may be overwritten while it is read. The writer stores the time first and the tag, with the time's low
//! bits, last; the reader goes the other way. So words of two events do not pass for one: the stamp shows it (or, once in
//! 65,536 times, does not). The writer's stores are not fenced: that would cost more than all the rest. A processor that lets
//! them be seen in another order may show an event with the arguments of the one before, to a reader that comes within
//! nanoseconds of the writer. Only people read them: nothing depends on it.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::dump::Record;
use crate::event::{EVENT_BYTES, Event, MARK, is_whole};

/// Bytes of a ring, and its alignment.
pub const RING_BYTES: u64 = 1 << 16;
/// Events that a ring keeps.
pub const RING_EVENTS: usize = (RING_BYTES / EVENT_BYTES) as usize;

/// Room for an event.
#[repr(C, align(32))]
struct Slot([AtomicU64; 4]);

impl Slot {
    const fn empty() -> Slot {
        Slot([const { AtomicU64::new(0) }; 4])
    }

    /// The event's words; `None` if there is none, or it is being written.
    fn read(&self) -> Option<[u64; 4]> {
        let tag = self.0[1].load(Ordering::Acquire);
        let a = self.0[2].load(Ordering::Relaxed);
        let b = self.0[3].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let time = self.0[0].load(Ordering::Relaxed);
        is_whole(time, tag).then_some([time, tag, a, b])
    }
}

/// The events of a CPU.
#[repr(C, align(65536))]
pub struct Ring([Slot; RING_EVENTS]);

impl Ring {
    /// Without events: all zero.
    pub const fn empty() -> Ring {
        Ring([const { Slot::empty() }; RING_EVENTS])
    }

    /// What is there now, in no order: see [`crate::sort`]. `cpu` is the number of the CPU whose ring it is.
    pub fn records(&self, cpu: u32) -> impl Iterator<Item = Record> {
        let events = self.0.iter().filter_map(|slot| Event::from_words(slot.read()?).ok());
        events.map(move |event| Record { cpu, event })
    }
}

const _: () = {
    assert!(size_of::<Slot>() as u64 == EVENT_BYTES);
    assert!(size_of::<Ring>() as u64 == RING_BYTES);
    // What the assembly assumes: a ready tag's low halfword, added to a slot's address, leads to the next.
    assert!(MARK == EVENT_BYTES && RING_BYTES == 1 << 16);
};

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::sync::atomic::AtomicBool;
    use std::vec::Vec;

    use power::Lpid;

    use super::*;
    use crate::event::{What, tag, words};

    fn ring() -> Box<Ring> {
        Box::new(Ring::empty())
    }

    impl Slot {
        /// In the order of the assembly. Fenced, because the test's compiler and machine are others.
        fn write(&self, [time, tag, a, b]: [u64; 4]) {
            self.0[0].store(time, Ordering::Relaxed);
            fence(Ordering::Release);
            self.0[2].store(a, Ordering::Relaxed);
            self.0[3].store(b, Ordering::Relaxed);
            self.0[1].store(tag, Ordering::Release);
        }
    }

    const TAG: u64 = tag(Lpid(1), 2);

    /// Writes as the assembly does: by the address of the next slot, of which the ready tag replaces the low halfword.
    fn write(ring: &Ring, next: u64, time: u64, what: What) -> u64 {
        ring.0[(next % RING_BYTES / EVENT_BYTES) as usize].write(words(time, TAG, what));
        next & !0xffff | (next + TAG) & 0xffff
    }

    #[test]
    fn the_oldest_give_way() {
        let ring = ring();
        assert_eq!(ring.records(0).count(), 0);
        let base = 0xc000_0000_0123_0000;
        let mut next = base;
        for time in 0..RING_EVENTS as u64 + 5 {
            assert_eq!(next & !(RING_BYTES - 1), base);
            next = write(&ring, next, time, What::Hcall { number: 4, r4: time });
        }
        assert_eq!(next, base + 5 * EVENT_BYTES);
        let mut records: Vec<_> = ring.records(3).collect();
        crate::sort(&mut records);
        assert_eq!(records.len(), RING_EVENTS);
        for (record, time) in records.iter().zip(5..) {
            assert_eq!((record.cpu, record.event.time, record.event.vcpu), (3, time, 2));
            assert_eq!(record.event.what, What::Hcall { number: 4, r4: time });
        }
    }

    #[test]
    fn words_of_two_events_are_nobody_s() {
        let slot = Slot::empty();
        assert_eq!(slot.read(), None);
        let event = |time| words(time, TAG, What::Wake { server: time, cpu: time });
        slot.write(event(100));
        assert_eq!(slot.read(), Some(event(100)));
        // The next one, up to its time, and up to its arguments.
        slot.0[0].store(101, Ordering::Relaxed);
        assert_eq!(slot.read(), None);
        slot.0[2].store(101, Ordering::Relaxed);
        assert_eq!(slot.read(), None);
        slot.write(event(101));
        assert_eq!(slot.read(), Some(event(101)));
    }

    #[test]
    fn a_reader_beside_the_writer_sees_whole_events_only() {
        let (ring, done) = (ring(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut next = 0;
                // Fewer than the stamp tells apart.
                for time in 1..0x1_0000u64 {
                    next = write(&ring, next, time, What::Hcall { number: time, r4: !time });
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                for Record { event, .. } in ring.records(0) {
                    assert_eq!(event.what, What::Hcall { number: event.time, r4: !event.time });
                }
            }
        });
        assert_eq!(ring.records(0).count(), RING_EVENTS);
    }
}
