//! The firmware's calls for PCI: configuration space, partitionable endpoints ("PE"), their DMA and their messages.

use super::{Error, answer, call, call_long, check, out};
use power::HostReal;

/// Call tokens (opal-api.h).
const CONFIG_READ_WORD: u64 = 15;
const CONFIG_WRITE_WORD: u64 = 18;
const EEH_FREEZE_STATUS: u64 = 23;
const EEH_FREEZE_CLEAR: u64 = 26;
const MAP_PE_MMIO_WINDOW: u64 = 29;
const SET_PE: u64 = 31;
const SET_PELTV: u64 = 32;
const SET_XIVE_PE: u64 = 37;
const GET_MSI_32: u64 = 39;
const GET_MSI_64: u64 = 40;
const MAP_PE_DMA_WINDOW: u64 = 44;
const MAP_PE_DMA_WINDOW_REAL: u64 = 45;
const PCI_RESET: u64 = 49;
const PCI_POLL: u64 = 62;
const MSI_EOI: u64 = 63;
const TCE_KILL: u64 = 126;

/// Reads an aligned word of a function's configuration space: by the host bridge's number and the function's routing ID.
pub fn pci_config_read(bridge: u64, function: u16, offset: u16) -> Result<u32, Error> {
    let mut value = 0u32;
    let args = [bridge, function.into(), offset.into(), out(&mut value), 0, 0, 0];
    check(call_long(CONFIG_READ_WORD, args))?;
    Ok(u32::from_be(answer(&value)))
}

/// Writes an aligned word of a function's configuration space.
pub fn pci_config_write(bridge: u64, function: u16, offset: u16, value: u32) -> Result<(), Error> {
    let args = [bridge, function.into(), offset.into(), value.into(), 0, 0, 0];
    check(call_long(CONFIG_WRITE_WORD, args))
}

/// Makes a function, and it alone, a partitionable endpoint of a host bridge, of this number.
pub fn pci_set_endpoint(bridge: u64, endpoint: u64, function: u16) -> Result<(), Error> {
    // All bits of bus, device and function are compared (OpalPciBusAll, 1, 1); OPAL_MAP_PE.
    check(call_long(SET_PE, [bridge, endpoint, function.into(), 7, 1, 1, 1]))?;
    // Its errors stop it, and it alone (OPAL_ADD_PE_TO_DOMAIN).
    check(call_long(SET_PELTV, [bridge, endpoint, endpoint, 1, 0, 0, 0]))
}

/// Makes a segment of a host bridge's window for 32-bit addresses an endpoint's.
pub fn pci_map_segment(bridge: u64, endpoint: u64, segment: u16) -> Result<(), Error> {
    /// OPAL_M32_WINDOW_TYPE; there is one such window, 0.
    const M32: u64 = 1;
    check(call_long(MAP_PE_MMIO_WINDOW, [bridge, endpoint, M32, 0, segment.into(), 0, 0]))
}

/// What of an endpoint goes on after errors (OPAL_EEH_ACTION_CLEAR_FREEZE_…).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Thaw {
    /// Loads from and stores to it.
    Memory = 1,
    /// Its accesses to memory.
    Dma = 2,
    /// Both.
    All = 3,
}

/// Lets an endpoint go on after errors.
pub fn pci_clear_freeze(bridge: u64, endpoint: u64, what: Thaw) -> Result<(), Error> {
    check(call(EEH_FREEZE_CLEAR, [bridge, endpoint, what as u64]))
}

/// Whether an endpoint has been stopped after an error, as its state, and the kind of error.
pub fn pci_freeze_status(bridge: u64, endpoint: u64) -> Result<(u8, u16), Error> {
    let (mut state, mut error) = (0u8, 0u16);
    let args = [bridge, endpoint, out(&mut state), out(&mut error), 0, 0, 0];
    check(call_long(EEH_FREEZE_STATUS, args))?;
    Ok((answer(&state), u16::from_be(answer(&error))))
}

/// Begins a hot reset of all that is behind a host bridge's port. In how many milliseconds to ask how far it is.
pub fn pci_reset_port(bridge: u64) -> Result<u64, Error> {
    /// OPAL_RESET_PCI_HOT, OPAL_ASSERT_RESET. The firmware ends it by itself.
    const HOT: u64 = 4;
    const ASSERT: u64 = 1;
    waits(call(PCI_RESET, [bridge, HOT, ASSERT]))
}

/// Asks; in how many milliseconds to ask again, or 0: it is done.
pub fn pci_poll_port(bridge: u64) -> Result<u64, Error> {
    waits(call(PCI_POLL, [bridge, 0, 0]))
}

fn waits(code: i64) -> Result<u64, Error> {
    u64::try_from(code).map_err(|_| Error(code))
}

/// An endpoint has two windows for DMA; bit 59 of the bus address says which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Window {
    /// From bus address 0 on.
    Low = 0,
    /// From 1 << 59 on.
    High = 1,
}

impl Window {
    /// Both.
    pub const ALL: [Window; 2] = [Window::Low, Window::High];

    /// Its first bus address.
    pub fn base(self) -> u64 {
        (self as u64) << 59
    }

    fn id(self, endpoint: u64) -> u64 {
        endpoint << 1 | self as u64
    }
}

/// Lets an endpoint reach all memory below `bytes`, a multiple of 16 MiB, at its real address behind the window's base. 0 closes the window.
pub fn pci_map_all(bridge: u64, endpoint: u64, window: Window, bytes: u64) -> Result<(), Error> {
    let args = [bridge, endpoint, window.id(endpoint), window.base(), bytes, 0, 0];
    check(call_long(MAP_PE_DMA_WINDOW_REAL, args))
}

/// Lets an endpoint reach what a table of translation entries says: one level, `bytes` (a power of two of at least 4096) at `table`, for pages of
/// `page` bytes. 0 bytes close the window.
pub fn pci_map_table(
    bridge: u64,
    endpoint: u64,
    window: Window,
    table: HostReal,
    bytes: u64,
    page: u64,
) -> Result<(), Error> {
    let args = [bridge, endpoint, window.id(endpoint), 1, table.0, bytes, page];
    check(call_long(MAP_PE_DMA_WINDOW, args))
}

/// Makes a host bridge forget the translations of an endpoint (POWER9 and later).
pub fn pci_forget_translations(bridge: u64, endpoint: u64) -> Result<(), Error> {
    /// OPAL_PCI_TCE_KILL_PE.
    const PE: u64 = 1;
    check(call_long(TCE_KILL, [bridge, PE, endpoint, 0, 0, 0, 0]))
}

/// Makes a host bridge take a message from an endpoint only, and answers what to write where for it, within 32 bits if `narrow`. `message` is counted
/// from the bridge's first.
pub fn pci_message(bridge: u64, endpoint: u64, message: u32, narrow: bool) -> Result<(u64, u32), Error> {
    let message = u64::from(message);
    check(call(SET_XIVE_PE, [bridge, endpoint, message]))?;
    let mut data = 0u32;
    let address = if narrow {
        let mut address = 0u32;
        let (at, to) = (out(&mut address), out(&mut data));
        check(call_long(GET_MSI_32, [bridge, endpoint, message, 1, at, to, 0]))?;
        u32::from_be(answer(&address)).into()
    } else {
        let mut address = 0u64;
        let (at, to) = (out(&mut address), out(&mut data));
        check(call_long(GET_MSI_64, [bridge, endpoint, message, 1, at, to, 0]))?;
        u64::from_be(answer(&address))
    };
    Ok((address, u32::from_be(answer(&data))))
}

/// Ends a message at its host bridge (POWER8), by its source number.
pub fn pci_msi_eoi(bridge: u64, source: u32) -> Result<(), Error> {
    check(call(MSI_EOI, [bridge, source.into(), 0]))
}
