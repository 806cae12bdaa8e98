//! Configuration space as a driver's operating system uses it.

extern crate std;

use core::cell::RefCell;
use std::vec::Vec;

use crate::*;

/// What a function has signalled.
#[derive(Default)]
struct Wires {
    messages: RefCell<Vec<(u64, u32)>>,
    line: RefCell<Vec<bool>>,
}

impl Bus for Wires {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), DmaError> {
        Err(DmaError)
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), DmaError> {
        Err(DmaError)
    }

    fn message(&self, address: u64, data: u32) {
        self.messages.borrow_mut().push((address, data));
    }

    fn line(&self, up: bool) {
        self.line.borrow_mut().push(up);
    }
}

fn function() -> Config {
    let id = Identity {
        vendor: 0x1af4,
        device: 0x1044,
        subsystem_vendor: 0x1af4,
        subsystem: 0x40,
        class: 0xff00,
        revision: 1,
    };
    let mut config = Config::new(&id);
    config.add_memory(1, 4096, Width::Low);
    config.add_memory(4, 16384, Width::WidePrefetchable);
    config.add_msix(3, 1, 0, 2048);
    config.add_capability(9, &[20, 1, 2, 3, 4, 5]);
    config
}

#[test]
fn says_what_it_is() {
    let config = function();
    assert_eq!(config.read(0, 4), 0x1044_1af4);
    assert_eq!(config.read(8, 4), 0x00ff_0001);
    assert_eq!(config.read(0x2c, 4), 0x0040_1af4);
    assert_eq!(config.read(0x3d, 1), 1);
    assert_eq!(config.read(0xff, 4), 0, "beyond the end is nothing");
}

#[test]
fn the_size_of_its_memory_is_what_reads_back_from_ones() {
    let (mut config, bus) = (function(), Wires::default());
    for bar in 0..6 {
        config.write(0x10 + 4 * bar, 4, !0, &bus);
    }
    let read: Vec<u32> = (0..6).map(|bar| config.read(0x10 + 4 * bar, 4)).collect();
    assert_eq!(read, [0, !0xfff, 0, 0, 0xffff_c00c, !0]);
}

#[test]
fn a_window_is_there_only_with_memory_on() {
    let (mut config, bus) = (function(), Wires::default());
    config.write(0x14, 4, 0x8000_1000, &bus);
    config.write(0x20, 4, 0x4000, &bus);
    config.write(0x24, 4, 0xf1, &bus);
    assert_eq!(config.window(1), None);
    config.write(4, 2, 2, &bus);
    assert_eq!(config.window(1), Some((0x8000_1000, 4096)));
    assert_eq!(config.window(4), Some((0xf1_0000_4000, 16384)));
    assert_eq!([config.window(0), config.window(5), config.window(6)], [None; 3]);
    config.reset(&bus);
    assert_eq!(config.window(1), None);
    assert_eq!(config.read(0x14, 4), 0);
}

#[test]
fn capabilities_are_a_list() {
    let config = function();
    assert_eq!(config.read(6, 2) & 0x10, 0x10);
    let first = config.read(0x34, 1) as u16;
    assert_eq!(config.read(first, 1), 0x11);
    assert_eq!(config.read(first + 2, 2), 2, "three vectors");
    let second = config.read(first + 1, 1) as u16;
    assert_eq!(config.read(second, 4), 0x0114_0009);
    assert!(second.is_multiple_of(4));
}

#[test]
fn messages_wait_until_they_are_let_through() {
    let (mut config, bus) = (function(), Wires::default());
    config.write(4, 2, 6, &bus);
    for vector in 0..3u64 {
        assert!(config.msix_store(1, 16 * vector, &0x4000_0000u64.to_le_bytes(), &bus));
        assert!(config.msix_store(1, 16 * vector + 8, &(0x1000 + vector as u32).to_le_bytes(), &bus));
    }
    config.signal(0, &bus);
    let mut bits = [0];
    assert!(config.msix_load(1, 2048, &mut bits));
    assert_eq!(bits, [0], "MSI-X is off: nothing is pending");
    config.write(0x42, 2, 0x8000, &bus);
    config.signal(1, &bus);
    config.signal(7, &bus);
    assert!(config.msix_load(1, 2048, &mut bits));
    assert_eq!((bits, bus.messages.borrow().len()), ([2], 0), "the vector is masked");
    assert!(config.msix_store(1, 28, &0u32.to_le_bytes(), &bus));
    assert_eq!(*bus.messages.borrow(), [(0x4000_0000, 0x1001)]);
    config.write(0x42, 2, 0xc000, &bus);
    config.signal(1, &bus);
    assert_eq!(bus.messages.borrow().len(), 1, "all are masked");
    config.write(0x42, 2, 0x8000, &bus);
    assert_eq!(bus.messages.borrow().len(), 2);
    assert!(!config.msix_store(4, 0, &[0; 4], &bus) && !config.msix_load(1, 3 * 16, &mut bits));
}

#[test]
fn the_line_is_up_unless_it_is_disabled() {
    let (mut config, bus) = (function(), Wires::default());
    config.set_line(true, &bus);
    config.set_line(true, &bus);
    assert_eq!(*bus.line.borrow(), [true]);
    assert_eq!(config.read(6, 2) & 8, 8);
    config.write(4, 2, 0x400, &bus);
    assert_eq!(*bus.line.borrow(), [true, false]);
    assert_eq!(config.read(6, 2) & 8, 8, "status says so nevertheless");
    config.write(4, 2, 0, &bus);
    config.reset(&bus);
    assert_eq!(*bus.line.borrow(), [true, false, true, false]);
}
