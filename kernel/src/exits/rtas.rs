//! H_RTAS: the run-time services, on behalf of [`papr::rtas`].

use paging::Error;
use papr::rtas::{
    Action, Call, CpuState, Entitlement, MAX_BYTES, PCI_RESULTS, Platform, RtasStatus, Service, StartError,
    dispatch,
};
use papr::xics;
use power::{GuestReal, Status};

use super::{After, Guest};
use crate::partition::life::Ending;
use crate::partition::{Partition, Waits, moves};
use crate::{clock, terminal};

/// Carries out the call whose argument buffer r4 names.
pub fn handle(guest: &mut Guest<'_>) -> After {
    let partition = guest.partition;
    let at = GuestReal(guest.regs.gpr[4]);
    let mut finish = |status: Status| guest.regs.gpr[3] = status.0 as u64;
    let mut buffer = [0; MAX_BYTES];
    // The buffer may end with memory: as much of it as there is.
    let room = partition.bytes.saturating_sub(at.0).min(MAX_BYTES as u64) as usize;
    if at.0 & 3 != 0 || partition.memory().read(at, &mut buffer[..room]).is_err() {
        finish(Status::PARAMETER);
        return After::Continue;
    }
    let Ok(call) = Call::parse(&buffer[..room]) else {
        finish(Status::PARAMETER);
        return After::Continue;
    };
    let answer = dispatch(&call, &mut Services(partition));
    let service = Service::of_token(call.token);
    let moves = [Service::WritePciConfig, Service::IbmWritePciConfig, Service::SetSlotReset];
    if service.is_some_and(|service| moves.contains(&service))
        && let Some(after) = moves::follow(guest)
    {
        return after;
    }
    let mut finish = |status: Status| guest.regs.gpr[3] = status.0 as u64;
    let results = GuestReal(at.0 + call.results_offset());
    match partition.memory().write(results, &answer.results) {
        // The status says so too, but there may be no room for one.
        Ok(()) if service.is_none() => finish(Status::PARAMETER),
        Ok(()) => finish(Status::SUCCESS),
        Err(Error::NoRam) => finish(Status::PARAMETER),
        Err(error) => return After::out_of_memory(partition, error),
    }
    match answer.action {
        None => After::Continue,
        Some(Action::PowerOff) => After::End(Ending::PowerOff),
        Some(Action::Reboot) => After::End(Ending::Reboot),
        Some(Action::StopSelf) => After::Wait(Waits::Start),
        Some(Action::OsTerm(text)) => {
            let mut words = [0; 128];
            let room = partition.bytes.saturating_sub(text.0).min(words.len() as u64) as usize;
            let _ = partition.memory().read(text, &mut words[..room]);
            let words = words.split(|b| *b == 0).next().unwrap_or(&[]);
            let words = alloc::string::String::from_utf8_lossy(words);
            After::crash(alloc::format!("partition {} crashed: {}", partition.name, words.escape_debug()))
        }
    }
}

struct Services<'a>(&'a Partition);

impl Platform for Services<'_> {
    fn clock_ns(&mut self) -> u64 {
        self.0.clock.lock().now(clock::now())
    }

    fn set_clock_ns(&mut self, ns: u64) {
        self.0.clock.lock().set(clock::now(), ns);
    }

    fn start_cpu(&mut self, server: u32, entry: GuestReal, r3: u64) -> Result<(), StartError> {
        match self.cpu_state(server) {
            None => Err(StartError::NoSuchCpu),
            // It may have been started by somebody else meanwhile.
            Some(CpuState::Stopped) if self.0.start_vcpu(server as usize, entry, r3) => Ok(()),
            Some(_) => Err(StartError::NotStopped),
        }
    }

    fn cpu_state(&mut self, server: u32) -> Option<CpuState> {
        let vcpu = self.0.vcpus.get(server as usize)?;
        Some(if vcpu.waits() == Waits::Start { CpuState::Stopped } else { CpuState::NotStopped })
    }

    fn display(&mut self, byte: u8) {
        // As with H_PUT_TERM_CHAR; a guest that does not wait when the console is slow loses what it says.
        if self.0.vty().output.room() == 0 {
            terminal::flush(self.0);
        }
        terminal::put(self.0, &[byte]);
    }

    fn write(&mut self, at: GuestReal, bytes: &[u8]) -> bool {
        self.0.memory().write(at, bytes).is_ok()
    }

    fn entitlement(&self) -> Entitlement {
        Entitlement { cpus: self.0.vcpus.len() as u32, memory_bytes: self.0.bytes, uuid: None }
    }

    fn set_xive(&mut self, source: u32, server: u32, priority: u8) -> Result<(), xics::Error> {
        self.0.core().xics.set_xive(source, server, priority).map(|kick| self.0.kick(kick))
    }

    fn get_xive(&mut self, source: u32) -> Result<(u32, u8), xics::Error> {
        self.0.core().xics.get_xive(source)
    }

    fn int_off(&mut self, source: u32) -> Result<(), xics::Error> {
        self.0.core().xics.int_off(source).map(|kick| self.0.kick(kick))
    }

    fn int_on(&mut self, source: u32) -> Result<(), xics::Error> {
        self.0.core().xics.int_on(source).map(|kick| self.0.kick(kick))
    }

    fn pci(&mut self, service: Service, args: &[u32], results: usize) -> (RtasStatus, [u32; PCI_RESULTS]) {
        match &self.0.pci {
            Some(devices) => devices.call(self.0, service, args, results),
            None => (RtasStatus::PARAMETER, [0; PCI_RESULTS]),
        }
    }
}
