//! Against functions as the specifications describe them.

extern crate std;

use core::cell::RefCell;
use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use crate::*;

/// Functions by their words: what they hold, and which bits can be written.
#[derive(Default)]
struct Bus {
    words: RefCell<HashMap<(u16, u16), (u32, u32)>>,
    resets: RefCell<Vec<u16>>,
    /// What the firmware answers while it resets what is behind its port, the last first.
    port: RefCell<Vec<Option<u64>>>,
}

const EDU: Function = Function(0x100);
const BRIDGE: Function = Function(0);

impl Bus {
    fn set(&self, function: Function, offset: u16, value: u32, writable: u32) {
        self.words.borrow_mut().insert((function.0, offset), (value, writable));
    }

    fn word(&self, function: Function, offset: u16) -> u32 {
        self.read(function, offset).unwrap()
    }

    /// An ordinary function with the writable bits of its base address registers, which hold their type in what is not.
    fn with(function: Function, bars: &[(u32, u32)]) -> Bus {
        let bus = Bus::default();
        bus.set(function, 0, 0x11e8_1234, 0);
        bus.set(function, 4, 0, 0x07ff);
        bus.set(function, 0xc, 0, 0);
        for (n, (kind, mask)) in bars.iter().enumerate() {
            bus.set(function, 0x10 + 4 * n as u16, *kind, *mask);
        }
        bus
    }
}

impl Config for Bus {
    fn read(&self, function: Function, offset: u16) -> Result<u32, AccessError> {
        assert!(offset.is_multiple_of(4));
        if function == Function(0xdead) {
            return Err(AccessError(-1));
        }
        Ok(self.words.borrow().get(&(function.0, offset)).map_or(0, |(value, _)| *value))
    }

    fn write(&self, function: Function, offset: u16, value: u32) -> Result<(), AccessError> {
        let mut words = self.words.borrow_mut();
        if let Some((old, writable)) = words.get_mut(&(function.0, offset)) {
            *old = *old & !*writable | value & *writable;
        }
        if value & 1 << 15 != 0 && offset == 0x58 || value == 1 && offset == 0x64 {
            self.resets.borrow_mut().push(offset);
        }
        Ok(())
    }

    fn reset_port(&self) -> Result<u64, AccessError> {
        self.poll_port()
    }

    fn poll_port(&self) -> Result<u64, AccessError> {
        self.port.borrow_mut().pop().flatten().ok_or(AccessError(-6))
    }
}

#[test]
fn sizes_of_32_and_64_bit_ranges() {
    let bus = Bus::with(
        EDU,
        &[
            (0, 0xfff0_0000),
            (0x0c, 0xffff_c000),
            (0, 0xffff_ffff),
            (1, 0xffff_ffe0),
            (0x0c, 0),
            (0, 0xffff_fffc),
        ],
    );
    bus.set(EDU, 4, 7, 0x07ff);
    let found = bars(&bus, EDU).unwrap();
    assert_eq!(
        found,
        [
            Bar { index: 0, bytes: 1 << 20, wide: false },
            Bar { index: 1, bytes: 16 << 10, wide: true },
            // I/O space in 3 is not ours.
            Bar { index: 4, bytes: 1 << 34, wide: true },
        ]
    );
    assert_eq!(bus.word(EDU, 4), 1 << 10, "memory, I/O and mastering are off while it is sized");
    assert_eq!(bus.word(EDU, 0x10), 0);
}

#[test]
fn what_is_no_device_with_memory() {
    assert_eq!(bars(&Bus::default(), EDU), Err(Error::Absent));
    let gone = Bus::default();
    gone.set(EDU, 0, u32::MAX, 0);
    assert_eq!(bars(&gone, EDU), Err(Error::Absent));
    let bridge = Bus::with(EDU, &[(0, 0xfff0_0000)]);
    bridge.set(EDU, 0xc, 1 << 16, 0);
    assert_eq!(bars(&bridge, EDU), Err(Error::NotADevice));
    let several = Bus::with(EDU, &[(0, 0xfff0_0000)]);
    several.set(EDU, 0xc, 0x80 << 16, 0);
    assert!(bars(&several, EDU).is_ok(), "one function of several");
    assert_eq!(bars(&Bus::with(EDU, &[(1, 0xffff_ffe0)]), EDU), Err(Error::NoMemory));
    assert_eq!(bars(&Bus::default(), Function(0xdead)), Err(Error::Access(AccessError(-1))));
}

#[test]
fn a_wide_range_cannot_begin_in_the_last_register() {
    let bus = Bus::with(EDU, &[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (4, 0xffff_0000)]);
    assert_eq!(bars(&bus, EDU).unwrap(), [Bar { index: 5, bytes: 1 << 16, wide: false }]);
}

#[test]
fn addresses_are_written_and_memory_switched() {
    let bus = Bus::with(EDU, &[(0x0c, 0xffff_c000), (0, 0xffff_ffff)]);
    let found = bars(&bus, EDU).unwrap();
    assign(&bus, EDU, found[0], 0x12_8010_0000).unwrap();
    assert_eq!((bus.word(EDU, 0x10), bus.word(EDU, 0x14)), (0x8010_000c, 0x12));
    switch(&bus, EDU, Active::Memory, false).unwrap();
    assert_eq!(bus.word(EDU, 4), 2 | 1 << 10);
    switch(&bus, EDU, Active::Master, false).unwrap();
    assert_eq!(bus.word(EDU, 4), 6 | 1 << 10);
    switch(&bus, EDU, Active::Master, true).unwrap();
    assert_eq!(bus.word(EDU, 4), 6);
    switch(&bus, EDU, Active::Nothing, false).unwrap();
    assert_eq!(bus.word(EDU, 4), 1 << 10);
}

#[test]
fn bridges_pass_what_they_are_told_to() {
    let bus = Bus::default();
    bus.set(BRIDGE, 0x20, 0x0000_fff0, 0xfff0_fff0);
    bus.set(BRIDGE, 4, 0, 0x07ff);
    open_bridge(&bus, BRIDGE, 0x8080_0000, 0x8180_0000).unwrap();
    assert_eq!(bus.word(BRIDGE, 0x20), 0x8170_8080);
    assert_eq!(bus.word(BRIDGE, 4), 6);
}

#[test]
fn places_are_aligned_and_nobody_elses() {
    let bar = |index, bytes| Bar { index, bytes, wide: false };
    let mut space = Space::new(0x8000_0000, 0x7fff_0000, 8 << 20).unwrap();
    let first = space.place(&[bar(0, 4096), bar(1, 1 << 20), bar(2, 16)]).unwrap();
    assert_eq!(first.addresses, [0x8090_0000, 0x8080_0000, 0x8091_0000]);
    assert_eq!((first.segment, first.segments), (1, 1));
    assert_eq!(space.range(&first), (0x8080_0000, 0x8100_0000));
    // Aligned to its own size, and to the segment.
    let second = space.place(&[bar(0, 32 << 20)]).unwrap();
    assert_eq!(second.addresses, [0x8200_0000]);
    assert_eq!((second.segment, second.segments), (4, 4));
    let third = space.place(&[bar(0, 64 << 10)]).unwrap();
    assert_eq!((third.segment, third.segments), (8, 1));
    assert_eq!(space.place(&[]), None);
    assert_eq!(space.place(&[bar(0, 1 << 31)]), None);
    assert_eq!(space.place(&[bar(0, 1 << 63)]), None);
    // The last segment is a little short.
    let mut full = 0;
    while space.place(&[bar(0, 4 << 20)]).is_some() {
        full += 1;
    }
    assert_eq!(full, 255 - 9);
    assert!(Space::new(0x8000_0000, 0x7fff_0000, 0).is_none());
    assert!(Space::new(0x8000_0000, 0x7fff_0000, 3 << 20).is_none());
    assert!(Space::new(0x8000_0000, 8 << 20, 8 << 20).is_none());
}

#[test]
fn ranges_are_where_they_fit() {
    const K: u64 = 1 << 10;
    let fit = |wanted: &[(u64, u64)]| fitting(wanted.iter().map(|place| Some(*place)));
    assert_eq!(fit(&[(128 * K, 64 * K), (64 * K, 64 * K)]), [Some(128 * K), Some(64 * K)], "side by side");
    // A page is one range's.
    assert_eq!(fit(&[(128 * K, 4 * K), (144 * K, 16 * K)]), [Some(128 * K), None]);
    assert_eq!(fit(&[(64 * K, 128 * K), (128 * K, 4 * K)]), [Some(64 * K), None]);
    assert_eq!(fit(&[(128 * K, 4 * K), (64 * K, 128 * K)]), [Some(128 * K), None]);
    // Who does not fit is in nobody's way.
    assert_eq!(fit(&[(32 * K, 128 * K), (64 * K, 4 * K)]), [None, Some(64 * K)]);
    assert_eq!(fit(&[(u64::MAX - 64 * K + 1, 64 * K)]), [None]);
    assert_eq!(fitting([None, Some((0, 4)), None].into_iter()), [None, Some(0), None]);
}

#[test]
fn resets_are_found() {
    let bus = Bus::with(EDU, &[]);
    assert_eq!(Reset::find(&bus, EDU), Ok((None, None)));
    bus.set(EDU, 4, 1 << 20, 0);
    bus.set(EDU, 0x34, 0x40, 0);
    bus.set(EDU, 0x40, 0x01 | 0x50 << 8, 0);
    bus.set(EDU, 0x44, 1 << 3, 0);
    bus.set(EDU, 0x50, 0x10 | 0x60 << 8, 0);
    bus.set(EDU, 0x60, 0x13 | 0x0306 << 16, 0);
    assert_eq!(Reset::find(&bus, EDU), Ok((Some(Reset::Advanced(0x60)), None)), "the others cannot");
    bus.set(EDU, 0x54, 1 << 28, 0);
    assert_eq!(Reset::find(&bus, EDU), Ok((Some(Reset::Express(0x50)), None)));
    for at in [0x44, 0x54, 0x60] {
        bus.set(EDU, at, 0, 0);
    }
    assert_eq!(Reset::find(&bus, EDU), Ok((None, Some(Reset::Power(0x40)))));
    // A list without an end.
    let bus = Bus::with(EDU, &[]);
    bus.set(EDU, 4, 1 << 20, 0);
    bus.set(EDU, 0x34, 0x40, 0);
    bus.set(EDU, 0x40, 0x05 | 0x40 << 8, 0);
    assert_eq!(Reset::find(&bus, EDU), Ok((None, None)));
}

/// Goes through a reset; the times that it takes.
fn reset(bus: &Bus, reset: Reset) -> Result<Vec<u64>, Error> {
    let (mut resetting, wait) = Resetting::begin(bus, EDU, reset)?;
    let mut waits = vec![wait];
    while let Some(wait) = resetting.go_on(bus, EDU)? {
        waits.push(wait);
    }
    Ok(waits)
}

#[test]
fn a_function_resets_itself() {
    let bus = Bus::with(EDU, &[]);
    bus.set(EDU, 0x58, 0x0009_2810, 0xffff);
    assert_eq!(reset(&bus, Reset::Express(0x50)), Ok(vec![100]));
    assert_eq!(bus.word(EDU, 0x58), 0x0009_a810, "with all else as it was");
    assert_eq!(reset(&bus, Reset::Advanced(0x60)), Ok(vec![100]));
    assert_eq!(*bus.resets.borrow(), vec![0x58, 0x64]);
}

#[test]
fn a_bus_is_held_and_let_go() {
    let bus = Bus::with(EDU, &[]);
    bus.set(BRIDGE, 0x3c, 0x0003_0100, 0xffff_00ff);
    let (mut resetting, wait) = Resetting::begin(&bus, EDU, Reset::Bus(BRIDGE)).unwrap();
    assert_eq!((wait, bus.word(BRIDGE, 0x3c)), (2, 0x0043_0100));
    assert_eq!(resetting.go_on(&bus, EDU), Ok(Some(100)));
    assert_eq!(bus.word(BRIDGE, 0x3c), 0x0003_0100);
    // It takes a second: first nothing answers, then the port for it.
    bus.set(EDU, 0, u32::MAX, 0);
    for _ in 0..5 {
        assert_eq!(resetting.go_on(&bus, EDU), Ok(Some(100)));
    }
    bus.set(EDU, 0, 0xffff_0001, 0);
    for _ in 0..5 {
        assert_eq!(resetting.go_on(&bus, EDU), Ok(Some(100)));
    }
    let mut late = resetting;
    bus.set(EDU, 0, 0x11e8_1234, 0);
    assert_eq!(resetting.go_on(&bus, EDU), Ok(None));
    bus.set(EDU, 0, u32::MAX, 0);
    assert_eq!(late.go_on(&bus, EDU), Err(Error::Absent));
}

#[test]
fn the_firmware_resets_what_is_behind_its_port() {
    let bus = Bus::with(EDU, &[]);
    bus.port.replace(vec![Some(0), Some(7), Some(1000), Some(1000)]);
    assert_eq!(reset(&bus, Reset::Port), Ok(vec![1000, 1000, 7, 1]));
    bus.port.replace(vec![Some(0), Some(1000), None]);
    assert_eq!(reset(&bus, Reset::Port), Ok(vec![1000, 1]), "the second time it does");
    bus.port.replace(vec![None, Some(1000)]);
    assert_eq!(reset(&bus, Reset::Port), Err(Error::Access(AccessError(-6))));
}

#[test]
fn power_goes_and_comes_back() {
    let bus = Bus::with(EDU, &[]);
    bus.set(EDU, 0x44, 0x1100, 0x1f03);
    let (mut resetting, wait) = Resetting::begin(&bus, EDU, Reset::Power(0x40)).unwrap();
    assert_eq!((wait, bus.word(EDU, 0x44)), (10, 0x1103));
    assert_eq!(resetting.go_on(&bus, EDU), Ok(Some(10)));
    assert_eq!(bus.word(EDU, 0x44), 0x1100);
    assert_eq!(resetting.go_on(&bus, EDU), Ok(None));
}

#[test]
fn what_the_firmware_has_set_up_comes_back() {
    let bus = Bus::with(EDU, &[]);
    bus.set(EDU, 4, 0x0010_0540, 0x0747);
    bus.set(EDU, 0xc, 0x20, 0xffff);
    bus.set(EDU, 0x34, 0x40, 0);
    bus.set(EDU, 0x40, 0x0002_0010, 0);
    // What is written as status would be cleared; here it would be set.
    for (at, value) in [(0x48, 0x2810), (0x50, 0x40), (0x68, 0x16)] {
        bus.set(EDU, at, value, !0);
    }
    let kept = Kept::of(&bus, EDU).unwrap();
    let all = [4, 0xc, 0x3c, 0x48, 0x50, 0x68];
    let before = all.map(|at| bus.word(EDU, at));
    all.iter().for_each(|at| bus.write(EDU, *at, 0).unwrap());
    assert_ne!(all.map(|at| bus.word(EDU, at)), before);
    kept.put_back(&bus, EDU).unwrap();
    assert_eq!(all.map(|at| bus.word(EDU, at)), before);
    // One without any of it.
    Kept::of(&Bus::with(EDU, &[]), EDU).unwrap().put_back(&bus, EDU).unwrap();
    assert_eq!(bus.word(EDU, 0), 0x11e8_1234);
}

#[test]
fn messages_are_found_and_set() {
    let bus = Bus::with(EDU, &[]);
    assert_eq!(Messages::find(&bus, EDU), Ok(None));
    bus.set(EDU, 4, 1 << 20, 0);
    bus.set(EDU, 0x34, 0x40, 0);
    // MSI with addresses of 64 bits and 4 vectors, of which 2 are on.
    bus.set(EDU, 0x40, 0x0094_0005, 0x0071_0000);
    bus.set(EDU, 0x44, 0, !3);
    bus.set(EDU, 0x48, 0, !0);
    bus.set(EDU, 0x4c, 0, 0xffff);
    let one = Messages::find(&bus, EDU).unwrap().unwrap();
    assert_eq!(one, Messages::One { at: 0x40, wide: true });
    assert_eq!((one.count(), one.is_narrow()), (1, false));
    one.set(&bus, EDU, 0x1000_0000_0000_0120, 7).unwrap();
    assert_eq!((bus.word(EDU, 0x44), bus.word(EDU, 0x48), bus.word(EDU, 0x4c)), (0x120, 0x1000_0000, 7));
    one.switch(&bus, EDU, true, false).unwrap();
    assert_eq!(bus.word(EDU, 0x40), 0x0085_0005, "one vector");
    one.switch(&bus, EDU, false, false).unwrap();
    assert_eq!(bus.word(EDU, 0x40), 0x0084_0005);
    // A narrow one, with its data earlier.
    bus.set(EDU, 0x40, 0x0000_0005, 0x0071_0000);
    bus.set(EDU, 0x48, 0, 0xffff);
    let narrow = Messages::find(&bus, EDU).unwrap().unwrap();
    assert!(narrow.is_narrow());
    narrow.set(&bus, EDU, 0xffff_0120, 9).unwrap();
    assert_eq!((bus.word(EDU, 0x44), bus.word(EDU, 0x48)), (0xffff_0120, 9));
    // A table is better.
    bus.set(EDU, 0x40, 0x0080_5005, 0x0071_0000);
    bus.set(EDU, 0x50, 0x4040_0011, 0xc000_0000);
    bus.set(EDU, 0x54, 0x2004, 0);
    let table = Messages::find(&bus, EDU).unwrap().unwrap();
    assert_eq!(table, Messages::Table { at: 0x50, count: 65, bar: 4, offset: 0x2000 });
    table.switch(&bus, EDU, true, false).unwrap();
    assert_eq!(bus.word(EDU, 0x50), 0x8040_0011);
    table.switch(&bus, EDU, true, true).unwrap();
    assert_eq!(bus.word(EDU, 0x50), 0xc040_0011);
    table.switch(&bus, EDU, false, false).unwrap();
    assert_eq!(bus.word(EDU, 0x50), 0x0040_0011);
}

#[test]
fn lines_are_found_in_the_map_of_the_bridge_above() {
    let bytes = |cells: &[u32]| cells.iter().flat_map(|cell| cell.to_be_bytes()).collect::<Vec<u8>>();
    let map = |devices: u32| {
        let pins = |device| (1..=4).map(move |pin| [device << 11, 0, 0, pin, 9, 100 + (device + pin) % 4, 1]);
        bytes(&(0..devices).flat_map(pins).flatten().collect::<Vec<u32>>())
    };
    let (port, bus) = (bytes(&[0, 0, 0, 7]), bytes(&[0xf800, 0, 0, 7]));
    // Behind a port there is one device; on a bus they take turns.
    for (pin, source) in [(1, Some(101)), (4, Some(100)), (0, None), (5, None)] {
        assert_eq!(line(&port, &map(1), 0x1_0000, pin), source);
    }
    let at = |device: u32, function: u32| 0x2_0000 | device << 11 | function << 8;
    assert_eq!(line(&bus, &map(32), at(2, 3), 1), Some(103));
    assert_eq!(line(&bus, &map(32), at(3, 0), 1), Some(100));
    assert_eq!(line(&bus, &map(2), at(3, 0), 1), None);
    assert_eq!(line(&[], &[], at(0, 0), 1), None);
}
