//! Recovery as a guest goes about it, of a function that only remembers.

extern crate std;

use std::boxed::Box;
use std::sync::Arc;
use std::sync::Mutex;
use std::vec::Vec;

use super::*;
use crate::layout::UNIT;
use crate::tests::Machine;
use crate::{Bus, Config, Description, Function, Identity, Part, Width, command, offset};

/// What the function is in, and what has been done to it.
#[derive(Default)]
struct State {
    stopped: Option<Stopped>,
    thawed: Vec<Part>,
    resets: usize,
    refuses: bool,
}

struct Fake {
    config: Config,
    state: Arc<Mutex<State>>,
}

impl Function for Fake {
    fn config_read(&mut self, offset: u16, bytes: usize, _: &dyn Bus) -> u32 {
        self.config.read(offset, bytes)
    }

    fn config_write(&mut self, offset: u16, bytes: usize, value: u32, bus: &dyn Bus) -> bool {
        self.config.write(offset, bytes, value, bus);
        false
    }

    fn window(&self, bar: usize) -> Option<(u64, u64)> {
        self.config.window(bar)
    }

    fn load(&mut self, _: usize, _: u64, _: &mut [u8], _: &dyn Bus) {}

    fn store(&mut self, _: usize, _: u64, _: &[u8], _: &dyn Bus) -> bool {
        false
    }

    fn reset(&mut self, bus: &dyn Bus) {
        self.config.reset(bus);
    }

    fn stopped(&mut self, _: &dyn Bus) -> Option<Stopped> {
        self.state.lock().unwrap().stopped
    }

    fn thaw(&mut self, part: Part) -> bool {
        let mut state = self.state.lock().unwrap();
        state.thawed.push(part);
        !state.refuses
    }

    fn begin_reset(&mut self, bus: &dyn Bus) -> bool {
        self.config.reset(bus);
        let mut state = self.state.lock().unwrap();
        state.resets += 1;
        !state.refuses
    }

    fn describe(&self) -> Description {
        Description::default()
    }

    fn copy(&self) -> Option<Box<dyn Function>> {
        None
    }
}

/// Two functions: one that is never stopped, and one that may be.
struct World {
    bridge: HostBridge,
    machine: Machine,
    state: Arc<Mutex<State>>,
}

impl World {
    fn new() -> World {
        let mut bridge = HostBridge::new(0x1002, 64 << 20);
        let state = Arc::new(Mutex::new(State { stopped: Some(Stopped::Nothing), ..State::default() }));
        for state in [Arc::default(), state.clone()] {
            let id = Identity {
                vendor: 1,
                device: 2,
                subsystem_vendor: 0,
                subsystem: 0,
                class: 0xff_0000,
                revision: 0,
            };
            let mut config = Config::new(&id);
            config.add_memory(0, 4096, Width::Low);
            assert!(bridge.add(Box::new(Fake { config, state }), true));
        }
        let machine = Machine::default();
        bridge.reset(&machine);
        World { bridge, machine, state }
    }

    /// A call about the function of an address, with whatever comes behind its name.
    fn call(&mut self, service: Service, address: u32, more: &[u32]) -> (i32, [u32; 3]) {
        let named = [address, (UNIT >> 32) as u32, UNIT as u32];
        let args: Vec<u32> = named.iter().chain(more).copied().collect();
        let (status, results) = self.bridge.call(service, &args, 4, &self.machine);
        (status.0, [results[0], results[1], results[2]])
    }

    fn state(&mut self, stopped: Stopped) -> [u32; 3] {
        self.state.lock().unwrap().stopped = Some(stopped);
        let (status, results) = self.call(Service::ReadSlotResetState, ENDPOINT, &[]);
        assert_eq!(status, 0);
        results
    }
}

/// The second function, and its endpoint.
const ADDRESS: u32 = 1 << 11;
const ENDPOINT: u32 = 2 << 16;

#[test]
fn what_the_firmware_says() {
    for (state, error, stopped) in [
        (0, 0, Stopped::Nothing),
        (1, 4, Stopped::All),
        (2, 5, Stopped::Dma),
        (3, 3, Stopped::All),
        (3, 2, Stopped::ForGood),
        (4, 0, Stopped::For(100)),
        (5, 0, Stopped::For(100)),
        (6, 0, Stopped::ForGood),
        (77, 0, Stopped::ForGood),
    ] {
        assert_eq!(Stopped::of_firmware(state, error), stopped, "{state} {error}");
    }
}

#[test]
fn a_guest_finds_the_endpoint_and_its_state() {
    let mut w = World::new();
    assert_eq!(w.call(Service::GetConfigAddrInfo, ADDRESS, &[1]), (0, [1, 0, 0]));
    assert_eq!(w.call(Service::GetConfigAddrInfo, ADDRESS, &[0]), (0, [ENDPOINT, 0, 0]));
    assert_eq!(w.call(Service::GetConfigAddrInfo, ADDRESS, &[2]).0, -3);
    for option in [0, 1] {
        assert_eq!(w.call(Service::SetEehOption, ADDRESS, &[option]).0, 0);
    }
    for (stopped, cells) in [
        (Stopped::Nothing, [0, 1, 0]),
        (Stopped::All, [2, 1, 0]),
        (Stopped::Dma, [4, 1, 0]),
        (Stopped::For(40), [5, 1, 40]),
        (Stopped::For(0), [5, 1, 1]),
        (Stopped::ForGood, [5, 1, 0]),
    ] {
        assert_eq!(w.state(stopped), cells);
    }
    assert_eq!(w.call(Service::SlotErrorDetail, ENDPOINT, &[0, 0, 0, 0, 1]).0, 1, "no log");
}

#[test]
fn it_is_not_offered_for_others() {
    let mut w = World::new();
    let calls = [
        (Service::GetConfigAddrInfo, &[1][..]),
        (Service::SetEehOption, &[1]),
        (Service::SetSlotReset, &[1]),
        (Service::ReadSlotResetState, &[]),
        (Service::ConfigurePe, &[]),
        (Service::SlotErrorDetail, &[0, 0, 0, 0, 1]),
    ];
    // One that is emulated, its endpoint, no function, none either, and a mixture.
    for address in [0, 1 << 16, 2 << 11, 3 << 16, 32 << 16, 0xff << 16, ENDPOINT | ADDRESS, ADDRESS | 1 << 8]
    {
        for (service, more) in calls {
            assert_eq!(w.call(service, address, more), (-3, [0; 3]), "{address:#x} {service:?}");
        }
    }
    for service in [Service::SetEehOption, Service::SetSlotReset] {
        for option in [4, 9, u32::MAX] {
            assert_eq!(w.call(service, ENDPOINT, &[option]).0, -3);
        }
    }
}

#[test]
fn parts_go_on() {
    let mut w = World::new();
    assert_eq!(w.call(Service::SetEehOption, ENDPOINT, &[2]).0, 0);
    assert_eq!(w.call(Service::SetEehOption, ENDPOINT, &[3]).0, 0);
    assert_eq!(w.state.lock().unwrap().thawed, [Part::Memory, Part::Dma]);
    w.state.lock().unwrap().refuses = true;
    assert_eq!(w.call(Service::SetEehOption, ENDPOINT, &[2]).0, -1);
}

#[test]
fn a_reset_is_held_and_let_go() {
    let mut w = World::new();
    assert_eq!(w.bridge.places().count(), 2);
    assert_eq!(w.state(Stopped::All), [2, 1, 0]);
    for kind in [1, 1, 3] {
        assert_eq!(w.call(Service::SetSlotReset, ENDPOINT, &[kind]).0, 0);
        assert_eq!(w.state(Stopped::For(100)), [1, 1, 0], "held");
    }
    assert_eq!(w.state.lock().unwrap().resets, 1, "once");
    assert_eq!(w.bridge.places().count(), 1, "its memory is off");
    assert_eq!(w.call(Service::SetSlotReset, ENDPOINT, &[0]).0, 0);
    assert_eq!(w.state(Stopped::For(60)), [5, 1, 60]);
    assert_eq!(w.state(Stopped::Nothing), [0, 1, 0]);
    assert_eq!(w.call(Service::ConfigurePe, ENDPOINT, &[]).0, 0);
    // The guest puts its addresses back.
    for (at, value) in [(offset::BAR, 0x8010_0000), (offset::COMMAND, command::MEMORY.into())] {
        let more = [4, value];
        assert_eq!(w.call(Service::IbmWritePciConfig, ADDRESS | u32::from(at), &more).0, 0);
    }
    assert_eq!(w.bridge.places().nth(1).unwrap().2, 0xf0_8010_0000);
    // Another time, and one that cannot be.
    assert_eq!(w.call(Service::SetSlotReset, ENDPOINT, &[3]).0, 0);
    assert_eq!(w.state.lock().unwrap().resets, 2);
    w.bridge.reset(&w.machine);
    assert_eq!(w.state(Stopped::Nothing), [0, 1, 0], "a start ends it");
    w.state.lock().unwrap().refuses = true;
    assert_eq!(w.call(Service::SetSlotReset, ENDPOINT, &[1]).0, -1);
    assert_eq!(w.state(Stopped::All), [2, 1, 0]);
}
