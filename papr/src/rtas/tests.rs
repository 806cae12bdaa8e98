use super::*;
use proptest::prelude::*;

/// A partition of two processors, the first of them running, and one interrupt source.
#[derive(Default)]
struct Fake {
    ns: u64,
    started: Option<(u32, u64, u64)>,
    shown: Vec<u8>,
    memory: Vec<u8>,
    xive: (u32, u8),
}

impl Platform for Fake {
    fn clock_ns(&mut self) -> u64 {
        self.ns
    }
    fn set_clock_ns(&mut self, ns: u64) {
        self.ns = ns;
    }
    fn start_cpu(&mut self, server: u32, entry: GuestReal, r3: u64) -> Result<(), StartError> {
        match server {
            0 => Err(StartError::NotStopped),
            1 => {
                self.started = Some((server, entry.0, r3));
                Ok(())
            }
            _ => Err(StartError::NoSuchCpu),
        }
    }
    fn cpu_state(&mut self, server: u32) -> Option<CpuState> {
        [CpuState::NotStopped, CpuState::Stopped].get(server as usize).copied()
    }
    fn display(&mut self, byte: u8) {
        self.shown.push(byte);
    }
    fn write(&mut self, at: GuestReal, bytes: &[u8]) -> bool {
        match self.memory.get_mut(at.0 as usize..).and_then(|m| m.get_mut(..bytes.len())) {
            Some(to) => {
                to.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
    fn entitlement(&self) -> Entitlement {
        Entitlement { cpus: 2, memory_bytes: 512 << 20, uuid: Some([7; 16]) }
    }
    fn set_xive(&mut self, source: u32, server: u32, priority: u8) -> Result<(), xics::Error> {
        self.int_on(source)?;
        self.xive = (server, priority);
        Ok(())
    }
    fn get_xive(&mut self, source: u32) -> Result<(u32, u8), xics::Error> {
        self.int_on(source).map(|()| self.xive)
    }
    fn int_off(&mut self, source: u32) -> Result<(), xics::Error> {
        self.int_on(source)
    }
    fn int_on(&mut self, source: u32) -> Result<(), xics::Error> {
        if source == xics::FIRST_SOURCE { Ok(()) } else { Err(xics::Error::NoSuchSource) }
    }
    fn pci(&mut self, service: Service, args: &[u32], results: usize) -> (RtasStatus, [u32; PCI_RESULTS]) {
        (RtasStatus::BUSY, [service.token(), args.len() as u32, args[0], results as u32, 0])
    }
}

fn buffer(token: u32, args: &[u32], nret: u32) -> Vec<u8> {
    let cells = [token, args.len() as u32, nret];
    let rets = vec![0; nret as usize];
    cells.iter().chain(args).chain(&rets).flat_map(|c| c.to_be_bytes()).collect()
}

fn call(fake: &mut Fake, service: Service, args: &[u32], nret: u32) -> (Vec<i32>, Option<Action>) {
    let parsed = Call::parse(&buffer(service.token(), args, nret)).unwrap();
    assert_eq!(parsed.results_offset(), 12 + 4 * args.len() as u64);
    let answer = dispatch(&parsed, fake);
    assert_eq!(answer.results.len(), 4 * nret as usize);
    let cells = answer.results.chunks(4).map(|c| i32::from_be_bytes(c.try_into().unwrap())).collect();
    (cells, answer.action)
}

fn results(fake: &mut Fake, service: Service, args: &[u32], nret: u32) -> Vec<i32> {
    let (cells, action) = call(fake, service, args, nret);
    assert_eq!(action, None);
    cells
}

#[test]
fn the_blob_is_five_instructions() {
    assert_eq!(BLOB[..4], [0x7c, 0x64, 0x1b, 0x78]);
    assert_eq!(BLOB[8..12], [0x60, 0x63, 0xf0, 0x00]);
    assert_eq!(BLOB[16..], [0x4e, 0x80, 0x00, 0x20]);
    assert_eq!(power::Hcall::RTAS.0, 0xf000);
}

#[test]
fn tokens_are_distinct_and_named() {
    for service in Service::ALL {
        assert_eq!(Service::of_token(service.token()), Some(*service));
        // One name is longer than a device tree's may be.
        assert!(service.name().len() <= 31 || *service == Service::QueryInterruptSource);
    }
    assert_eq!(Service::of_token(0), None);
    assert_eq!(Service::of_token(!0), None);
}

#[test]
fn bad_buffers() {
    assert_eq!(Call::parse(&[0; 11]), Err(BadBuffer::Short));
    let full = buffer(1, &[], 8);
    assert!(Call::parse(&full).is_ok());
    assert_eq!(Call::parse(&full[..full.len() - 1]), Err(BadBuffer::Short));
    assert!(Call::parse(&buffer(1, &[0; 9], 7)).is_ok());
    assert_eq!(Call::parse(&buffer(1, &[0; 9], 8)), Err(BadBuffer::TooManyCells));
    let wrap: Vec<u8> = [1, !0u32, 2].iter().flat_map(|c| c.to_be_bytes()).collect();
    assert_eq!(Call::parse(&wrap), Err(BadBuffer::TooManyCells));
}

#[test]
fn wrong_counts_and_unknown_tokens() {
    let mut fake = Fake::default();
    for service in Service::ALL {
        let (cells, action) = call(&mut fake, *service, &[0; 10], 2);
        assert_eq!((cells, action), (vec![-3, 0], None), "{service:?}");
        let (cells, action) = call(&mut fake, *service, &[], 0);
        assert_eq!((cells.len(), action), (0, None), "{service:?}");
    }
    let unknown = Call::parse(&buffer(99, &[], 1)).unwrap();
    assert_eq!(dispatch(&unknown, &mut fake).status(), Some(RtasStatus::PARAMETER));
}

#[test]
fn time_of_day() {
    let mut fake = Fake { ns: 951_868_799_000_000_123, ..Fake::default() };
    assert_eq!(results(&mut fake, Service::GetTimeOfDay, &[], 8), [0, 2000, 2, 29, 23, 59, 59, 123]);
    assert_eq!(results(&mut fake, Service::SetTimeOfDay, &[2026, 11, 5, 1, 2, 3, 4], 1), [0]);
    assert_eq!(results(&mut fake, Service::GetTimeOfDay, &[], 8), [0, 2026, 11, 5, 1, 2, 3, 4]);
    for bad in [[2026, 11, 31, 1, 2, 3, 4], [2026, 11, 5, 1, 2, 3, 1_000_000_000], [3000, 1, 1, 0, 0, 0, 0]] {
        assert_eq!(results(&mut fake, Service::SetTimeOfDay, &bad, 1), [-3]);
    }
    assert_eq!(fake.ns % 1_000_000_000, 4);
}

#[test]
fn actions() {
    let mut fake = Fake::default();
    assert_eq!(call(&mut fake, Service::PowerOff, &[!0, !0], 1), (vec![0], Some(Action::PowerOff)));
    assert_eq!(call(&mut fake, Service::SystemReboot, &[], 1), (vec![0], Some(Action::Reboot)));
    assert_eq!(call(&mut fake, Service::StopSelf, &[], 1), (vec![0], Some(Action::StopSelf)));
    let last_words = Some(Action::OsTerm(GuestReal(0x1234_5678)));
    assert_eq!(call(&mut fake, Service::OsTerm, &[0x1234_5678], 1), (vec![0], last_words));
}

#[test]
fn processors() {
    let mut fake = Fake::default();
    assert_eq!(results(&mut fake, Service::QueryCpuStoppedState, &[0], 2), [0, 2]);
    assert_eq!(results(&mut fake, Service::QueryCpuStoppedState, &[1], 2), [0, 0]);
    assert_eq!(results(&mut fake, Service::QueryCpuStoppedState, &[2], 2), [-3, 0]);
    assert_eq!(results(&mut fake, Service::StartCpu, &[1, 0xc000, 1], 1), [0]);
    assert_eq!(fake.started, Some((1, 0xc000, 1)));
    assert_eq!(results(&mut fake, Service::StartCpu, &[0, 0xc000, 0], 1), [-1]);
    assert_eq!(results(&mut fake, Service::StartCpu, &[2, 0xc000, 2], 1), [-3]);
}

#[test]
fn interrupts_and_the_rest() {
    let mut fake = Fake::default();
    let source = xics::FIRST_SOURCE;
    assert_eq!(results(&mut fake, Service::SetXive, &[source, 1, 5], 1), [0]);
    assert_eq!(results(&mut fake, Service::GetXive, &[source], 3), [0, 1, 5]);
    assert_eq!(results(&mut fake, Service::GetXive, &[2], 3), [-3, 0, 0]);
    assert_eq!(results(&mut fake, Service::SetXive, &[source, 1, 256], 1), [-3]);
    assert_eq!(results(&mut fake, Service::IntOff, &[source], 1), [0]);
    assert_eq!(results(&mut fake, Service::IntOn, &[source + 1], 1), [-3]);
    assert_eq!(results(&mut fake, Service::DisplayCharacter, &[u32::from(b'x')], 1), [0]);
    assert_eq!(fake.shown, b"x");
    assert_eq!(results(&mut fake, Service::EventScan, &[0; 4], 1), [1]);
    assert_eq!(results(&mut fake, Service::CheckException, &[0; 6], 1), [1]);
    assert_eq!(results(&mut fake, Service::CheckException, &[0; 7], 1), [1]);
    assert_eq!(results(&mut fake, Service::GetSensorState, &[9003, 0], 2), [-3, 0]);
    assert_eq!(results(&mut fake, Service::SetIndicator, &[9005, 0, 1], 1), [-3]);
}

#[test]
fn calls_about_pci_go_on_with_their_arguments() {
    let mut fake = Fake::default();
    let token = Service::ChangeMsi.token() as i32;
    assert_eq!(results(&mut fake, Service::ChangeMsi, &[9, 0, 0, 4, 2, 1], 4), [-2, token, 6, 9]);
    assert_eq!(results(&mut fake, Service::ChangeMsi, &[9, 0, 0, 4, 2, 1], 3), [-2, token, 6]);
    assert_eq!(results(&mut fake, Service::ChangeMsi, &[9, 0, 0, 4, 2, 1], 2), [-3, 0]);
    assert!(Service::ALL.iter().all(|service| service.is_pci() == (service.token() >= 32)));
}

#[test]
fn system_parameters() {
    let mut fake = Fake { memory: vec![0; 128], ..Fake::default() };
    let text = b"MaxEntCap=200,DesMem=512,DesProcs=2,MaxPlatProcs=2\0";
    assert_eq!(results(&mut fake, Service::GetSystemParameter, &[20, 8, 100], 1), [0]);
    assert_eq!(fake.memory[8..10], (text.len() as u16).to_be_bytes());
    assert_eq!(fake.memory[10..10 + text.len()], *text);
    assert_eq!(results(&mut fake, Service::GetSystemParameter, &[48, 0, 5], 1), [0]);
    assert_eq!(fake.memory[..6], [0, 16, 7, 7, 7, 0], "cut off where the buffer ends");
    assert_eq!(results(&mut fake, Service::GetSystemParameter, &[20, 8, 1], 1), [-9999]);
    assert_eq!(results(&mut fake, Service::GetSystemParameter, &[20, 127, 100], 1), [-9999]);
    assert_eq!(results(&mut fake, Service::GetSystemParameter, &[42, 0, 100], 1), [-3]);
}

proptest! {
    #[test]
    fn no_buffer_panics(token in 0..45u32, bytes in prop::collection::vec(any::<u8>(), 0..90), small in any::<bool>()) {
        let mut bytes = bytes;
        if small && bytes.len() >= 12 {
            bytes[..12].copy_from_slice(&buffer(token, &[0; 3], 1)[..12]);
        }
        if let Ok(call) = Call::parse(&bytes) {
            let answer = dispatch(&call, &mut Fake { memory: vec![0; 64], ..Fake::default() });
            prop_assert_eq!(answer.results.len(), 4 * call.nret());
            prop_assert!(call.results_offset() as usize + answer.results.len() <= bytes.len());
        }
    }
}
