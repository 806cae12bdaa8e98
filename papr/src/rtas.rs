//! Run-time abstraction services (LoPAR, "Run-Time Abstraction Services"): the argument buffer, the tokens, and what
//! each call does, with the hypervisor behind the trait [`Platform`].
//!
//! A guest calls RTAS by branching to [`BLOB`], which only makes the H_RTAS hypervisor call with r4 at an argument
//! buffer: `{token, nargs, nret, args[nargs], rets[nret]}`, each of 32 bits and big endian whatever the guest is. The
//! order of work: read up to [`MAX_BYTES`] from the buffer; [`Call::parse`]; [`dispatch`]; write
//! [`Answer::results`] back at [`Call::results_offset`]; answer H_SUCCESS; then do [`Answer::action`]. With translation
//! on; this module may allocate.

mod clock;

pub use clock::{Civil, PartitionClock};

use alloc::format;
use alloc::vec::Vec;

use power::GuestReal;

use crate::xics;

/// The code of RTAS, entered in 32-bit big endian real mode with r3 at the argument buffer. Its place is
/// `linux,rtas-base` and `linux,rtas-entry` of the device tree.
pub const BLOB: [u8; 20] = {
    const CODE: [u32; 5] = [
        0x7c64_1b78, // mr   r4,r3         the argument buffer
        0x3c60_0000, // lis  r3,0
        0x6063_f000, // ori  r3,r3,0xf000  H_RTAS
        0x4400_0022, // sc   1
        0x4e80_0020, // blr
    ];
    let mut bytes = [0; 20];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = CODE[i / 4].to_be_bytes()[i % 4];
        i += 1;
    }
    bytes
};

/// Arguments and results of one call together, at most.
pub const MAX_CELLS: usize = 16;
/// The buffer's fixed part: token, nargs and nret.
pub const HEADER_BYTES: usize = 12;
/// The longest buffer.
pub const MAX_BYTES: usize = HEADER_BYTES + 4 * MAX_CELLS;

/// A status as the first result has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct RtasStatus(pub i32);

#[allow(missing_docs)] // the names are PAPR's own
impl RtasStatus {
    pub const SUCCESS: RtasStatus = RtasStatus(0);
    /// `event-scan` and `check-exception`: there was none.
    pub const NO_EVENT: RtasStatus = RtasStatus(1);
    pub const HARDWARE: RtasStatus = RtasStatus(-1);
    pub const BUSY: RtasStatus = RtasStatus(-2);
    /// A bad parameter, or a thing (sensor, indicator, system parameter) that does not exist.
    pub const PARAMETER: RtasStatus = RtasStatus(-3);
    pub const NOT_AUTHORIZED: RtasStatus = RtasStatus(-9002);
    /// `ibm,get-system-parameter`: the buffer is no good.
    pub const SYSPARM_PARAMETER: RtasStatus = RtasStatus(-9999);
}

macro_rules! services {
    ($($name:ident = $token:literal, $text:literal, $args:pat, $($rets:literal)|+;)*) => {
        /// A call that exists. The number is its token.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)] // the names are PAPR's own
        pub enum Service { $($name = $token,)* }

        impl Service {
            /// All of them: each is a property of `/rtas`.
            pub const ALL: &'static [Service] = &[$(Service::$name,)*];

            /// The call of a token.
            pub const fn of_token(token: u32) -> Option<Service> {
                match token {
                    $($token => Some(Service::$name),)*
                    _ => None,
                }
            }

            /// Its name in the device tree.
            pub const fn name(self) -> &'static str {
                match self { $(Service::$name => $text,)* }
            }

            /// Does it take that many arguments and results?
            pub const fn takes(self, nargs: usize, nret: usize) -> bool {
                match self { $(Service::$name => matches!(nargs, $args) && matches!(nret, $($rets)|+),)* }
            }
        }
    };
}

// Early debug code of Linux takes token 10 for display-character without a look at the device tree.
services! {
    GetTimeOfDay = 1, "get-time-of-day", 0, 8;
    SetTimeOfDay = 2, "set-time-of-day", 7, 1;
    PowerOff = 3, "power-off", 2, 1;
    SystemReboot = 4, "system-reboot", 0, 1;
    QueryCpuStoppedState = 5, "query-cpu-stopped-state", 1, 2;
    StartCpu = 6, "start-cpu", 3, 1;
    StopSelf = 7, "stop-self", 0, 1;
    GetSystemParameter = 8, "ibm,get-system-parameter", 3, 1;
    OsTerm = 9, "ibm,os-term", 1, 1;
    DisplayCharacter = 10, "display-character", 1, 1;
    SetXive = 11, "ibm,set-xive", 3, 1;
    GetXive = 12, "ibm,get-xive", 1, 3;
    IntOff = 13, "ibm,int-off", 1, 1;
    IntOn = 14, "ibm,int-on", 1, 1;
    EventScan = 15, "event-scan", 4, 1;
    CheckException = 16, "check-exception", 6 | 7, 1;
    GetSensorState = 17, "get-sensor-state", 2, 2;
    SetIndicator = 18, "set-indicator", 3, 1;
    ReadPciConfig = 32, "read-pci-config", 2, 2;
    WritePciConfig = 33, "write-pci-config", 3, 1;
    IbmReadPciConfig = 34, "ibm,read-pci-config", 4, 2;
    IbmWritePciConfig = 35, "ibm,write-pci-config", 5, 1;
    ChangeMsi = 36, "ibm,change-msi", 6, 3 | 4;
    QueryInterruptSource = 37, "ibm,query-interrupt-source-number", 4, 3;
    QueryDmaWindow = 38, "ibm,query-pe-dma-window", 3, 5 | 6;
    CreateDmaWindow = 39, "ibm,create-pe-dma-window", 5, 4;
    RemoveDmaWindow = 40, "ibm,remove-pe-dma-window", 1, 1;
    ResetDmaWindows = 41, "ibm,reset-pe-dma-windows", 3, 1;
    SetEehOption = 42, "ibm,set-eeh-option", 4, 1;
    SetSlotReset = 43, "ibm,set-slot-reset", 4, 1;
    ReadSlotResetState = 44, "ibm,read-slot-reset-state2", 3, 4 | 5;
    GetConfigAddrInfo = 45, "ibm,get-config-addr-info2", 4, 2;
    ConfigurePe = 46, "ibm,configure-pe", 3, 1;
    SlotErrorDetail = 47, "ibm,slot-error-detail", 8, 1;
}

impl Service {
    /// Its number.
    pub const fn token(self) -> u32 {
        self as u32
    }

    /// Is it about a PCI host bridge? Only partitions that have one are told of it.
    pub const fn is_pci(self) -> bool {
        self.token() >= Service::ReadPciConfig.token()
    }
}

/// A virtual processor, as `query-cpu-stopped-state` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuState {
    /// `start-cpu` can start it.
    Stopped = 0,
    /// It is on its way there.
    Stopping = 1,
    /// It runs, or has been told to.
    NotStopped = 2,
}

/// Why a processor was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The partition has no such processor.
    NoSuchCpu,
    /// It is not stopped.
    NotStopped,
}

/// What a partition is entitled to, for `ibm,get-system-parameter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entitlement {
    /// Its virtual processors.
    pub cpus: u32,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its identity, if it was given one.
    pub uuid: Option<[u8; 16]>,
}

/// The most results of a call about a PCI host bridge, behind the status.
pub const PCI_RESULTS: usize = 5;

/// What RTAS needs of the hypervisor, for the calling partition.
pub trait Platform {
    /// The partition's clock: nanoseconds since 1970-01-01 00:00 UTC (see [`PartitionClock`]).
    fn clock_ns(&mut self) -> u64;
    /// Set the partition's clock.
    fn set_clock_ns(&mut self, ns: u64);
    /// Start a stopped processor at a real address, in big endian real mode with r3 as given.
    fn start_cpu(&mut self, server: u32, entry: GuestReal, r3: u64) -> Result<(), StartError>;
    /// A processor's state; `None` if there is no such processor.
    fn cpu_state(&mut self, server: u32) -> Option<CpuState>;
    /// Write a byte to the partition's first console.
    fn display(&mut self, byte: u8);
    /// Write to the partition's memory; whether all of it was there.
    fn write(&mut self, at: GuestReal, bytes: &[u8]) -> bool;
    /// What the partition is entitled to.
    fn entitlement(&self) -> Entitlement;
    /// `ibm,set-xive`.
    fn set_xive(&mut self, source: u32, server: u32, priority: u8) -> Result<(), xics::Error>;
    /// `ibm,get-xive`.
    fn get_xive(&mut self, source: u32) -> Result<(u32, u8), xics::Error>;
    /// `ibm,int-off`.
    fn int_off(&mut self, source: u32) -> Result<(), xics::Error>;
    /// `ibm,int-on`.
    fn int_on(&mut self, source: u32) -> Result<(), xics::Error>;
    /// A call about a PCI host bridge, with as many results as are wanted behind the status.
    fn pci(&mut self, service: Service, args: &[u32], results: usize) -> (RtasStatus, [u32; PCI_RESULTS]);
}

/// Why a buffer is not an RTAS call: H_PARAMETER, and nothing is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadBuffer {
    /// It ends before its header or its cells do.
    Short,
    /// It announces more than [`MAX_CELLS`] cells.
    TooManyCells,
}

/// A call as its buffer has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// What to do.
    pub token: u32,
    nargs: usize,
    nret: usize,
    args: [u32; MAX_CELLS],
}

impl Call {
    /// Read a buffer; bytes beyond its end do not count.
    pub fn parse(buffer: &[u8]) -> Result<Call, BadBuffer> {
        let cell = |n: usize| -> Result<u32, BadBuffer> {
            let bytes = buffer.get(4 * n..4 * n + 4).ok_or(BadBuffer::Short)?;
            bytes.try_into().map(u32::from_be_bytes).map_err(|_| BadBuffer::Short)
        };
        let (token, nargs, nret) = (cell(0)?, cell(1)?, cell(2)?);
        if u64::from(nargs) + u64::from(nret) > MAX_CELLS as u64 {
            return Err(BadBuffer::TooManyCells);
        }
        let (nargs, nret) = (nargs as usize, nret as usize);
        if buffer.len() < HEADER_BYTES + 4 * (nargs + nret) {
            return Err(BadBuffer::Short);
        }
        let mut args = [0; MAX_CELLS];
        for (n, arg) in args.iter_mut().take(nargs).enumerate() {
            *arg = cell(3 + n)?;
        }
        Ok(Call { token, nargs, nret, args })
    }

    /// The arguments.
    pub fn args(&self) -> &[u32] {
        &self.args[..self.nargs]
    }

    /// How many results are wanted.
    pub fn nret(&self) -> usize {
        self.nret
    }

    /// Where in the buffer the results go.
    pub fn results_offset(&self) -> u64 {
        (HEADER_BYTES + 4 * self.nargs) as u64
    }

    /// An answer with this status, these results behind it, and zeroes up to the number that is wanted.
    fn answer(&self, status: RtasStatus, results: &[u32]) -> Answer {
        let mut bytes = Vec::with_capacity(4 * self.nret);
        for cell in core::iter::once(&(status.0 as u32)).chain(results).take(self.nret) {
            bytes.extend_from_slice(&cell.to_be_bytes());
        }
        bytes.resize(4 * self.nret, 0);
        Answer { results: bytes, action: None }
    }
}

/// What there is to do once the results have been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Stop the partition for good.
    PowerOff,
    /// Start the partition anew.
    Reboot,
    /// Stop the calling processor: this call does not return.
    StopSelf,
    /// The guest has panicked and its last words, ended by a NUL, are at this address. It goes on, to reboot or
    /// to stop by itself, as `ibm,extended-os-term` promises.
    OsTerm(GuestReal),
}

/// The outcome of a call. The hypervisor call itself has succeeded, whatever the status is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The bytes to write at [`Call::results_offset`].
    pub results: Vec<u8>,
    /// What to do then.
    pub action: Option<Action>,
}

impl Answer {
    /// The status, if a result was wanted.
    pub fn status(&self) -> Option<RtasStatus> {
        self.results.first_chunk().map(|cell| RtasStatus(i32::from_be_bytes(*cell)))
    }

    fn then(self, action: Action) -> Answer {
        Answer { action: Some(action), ..self }
    }
}

/// Carry a call out. An unknown token, or a known one with the wrong number of arguments or results, gets
/// [`RtasStatus::PARAMETER`].
pub fn dispatch(call: &Call, platform: &mut impl Platform) -> Answer {
    let status = |status| call.answer(status, &[]);
    let done = |result: Result<(), xics::Error>| match result {
        Ok(()) => status(RtasStatus::SUCCESS),
        Err(_) => status(RtasStatus::PARAMETER),
    };
    let Some(service) = Service::of_token(call.token).filter(|s| s.takes(call.nargs, call.nret)) else {
        return status(RtasStatus::PARAMETER);
    };
    let [a, b, c, ..] = call.args;
    match service {
        Service::GetTimeOfDay => {
            let ns = platform.clock_ns();
            let t = Civil::from_unix(ns / 1_000_000_000);
            let cells = [t.year, t.month, t.day, t.hour, t.minute, t.second, (ns % 1_000_000_000) as u32];
            call.answer(RtasStatus::SUCCESS, &cells)
        }
        Service::SetTimeOfDay => {
            let [year, month, day, hour, minute, second, ns, ..] = call.args;
            let seconds = Civil { year, month, day, hour, minute, second }.to_unix();
            // The clock of nanoseconds ends in 2554.
            match seconds.and_then(|s| s.checked_mul(1_000_000_000)?.checked_add(ns.into())) {
                Some(t) if ns < 1_000_000_000 => {
                    platform.set_clock_ns(t);
                    status(RtasStatus::SUCCESS)
                }
                _ => status(RtasStatus::PARAMETER),
            }
        }
        Service::PowerOff => status(RtasStatus::SUCCESS).then(Action::PowerOff),
        Service::SystemReboot => status(RtasStatus::SUCCESS).then(Action::Reboot),
        Service::QueryCpuStoppedState => match platform.cpu_state(a) {
            Some(state) => call.answer(RtasStatus::SUCCESS, &[state as u32]),
            None => status(RtasStatus::PARAMETER),
        },
        Service::StartCpu => match platform.start_cpu(a, GuestReal(b.into()), c.into()) {
            Ok(()) => status(RtasStatus::SUCCESS),
            Err(StartError::NoSuchCpu) => status(RtasStatus::PARAMETER),
            Err(StartError::NotStopped) => status(RtasStatus::HARDWARE),
        },
        Service::StopSelf => status(RtasStatus::SUCCESS).then(Action::StopSelf),
        Service::GetSystemParameter => status(system_parameter(a, GuestReal(b.into()), c, platform)),
        Service::OsTerm => status(RtasStatus::SUCCESS).then(Action::OsTerm(GuestReal(a.into()))),
        Service::DisplayCharacter => {
            platform.display(a as u8);
            status(RtasStatus::SUCCESS)
        }
        Service::SetXive => match u8::try_from(c) {
            Ok(priority) => done(platform.set_xive(a, b, priority)),
            Err(_) => status(RtasStatus::PARAMETER),
        },
        Service::GetXive => match platform.get_xive(a) {
            Ok((server, priority)) => call.answer(RtasStatus::SUCCESS, &[server, priority.into()]),
            Err(_) => status(RtasStatus::PARAMETER),
        },
        Service::IntOff => done(platform.int_off(a)),
        Service::IntOn => done(platform.int_on(a)),
        Service::EventScan | Service::CheckException => status(RtasStatus::NO_EVENT),
        Service::GetSensorState | Service::SetIndicator => status(RtasStatus::PARAMETER),
        Service::ReadPciConfig
        | Service::WritePciConfig
        | Service::IbmReadPciConfig
        | Service::IbmWritePciConfig
        | Service::ChangeMsi
        | Service::QueryInterruptSource
        | Service::QueryDmaWindow
        | Service::CreateDmaWindow
        | Service::RemoveDmaWindow
        | Service::ResetDmaWindows
        | Service::SetEehOption
        | Service::SetSlotReset
        | Service::ReadSlotResetState
        | Service::GetConfigAddrInfo
        | Service::ConfigurePe
        | Service::SlotErrorDetail => {
            let (done, results) = platform.pci(service, call.args(), call.nret.saturating_sub(1));
            call.answer(done, &results)
        }
    }
}

/// `ibm,get-system-parameter` (LoPAR, "System Parameters Option"): 16 bits of length, then as much of the value
/// as fits.
fn system_parameter(number: u32, buffer: GuestReal, length: u32, platform: &mut impl Platform) -> RtasStatus {
    const SPLPAR_CHARACTERISTICS: u32 = 20;
    const UUID: u32 = 48;

    let e = platform.entitlement();
    let value = match (number, e.uuid) {
        (SPLPAR_CHARACTERISTICS, _) => {
            // Capacity is in hundredths of a processor.
            let text = format!(
                "MaxEntCap={},DesMem={},DesProcs={},MaxPlatProcs={}\0",
                100 * u64::from(e.cpus),
                e.memory_bytes >> 20,
                e.cpus,
                e.cpus
            );
            text.into_bytes()
        }
        (UUID, Some(uuid)) => uuid.to_vec(),
        _ => return RtasStatus::PARAMETER,
    };
    let mut bytes = Vec::with_capacity(2 + value.len());
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&value);
    bytes.truncate(length as usize);
    if bytes.len() < 2 || !platform.write(buffer, &bytes) {
        return RtasStatus::SYSPARM_PARAMETER;
    }
    RtasStatus::SUCCESS
}

#[cfg(test)]
mod tests;
