//! The firmware's calls for interrupts: XICS of POWER8, XIVE of later processors (skiboot, doc/xive.rst).

use super::{Error, answer, call, call_long, call_until_done, check, out};
use power::HostReal;

/// Call tokens (opal-api.h).
const SET_XIVE: u64 = 19;
const XIVE_RESET: u64 = 128;
const XIVE_GET_IRQ_INFO: u64 = 129;
const XIVE_SET_IRQ_CONFIG: u64 = 131;
const XIVE_SET_QUEUE_INFO: u64 = 133;

/// The priority of a source that is switched off.
pub const MASKED: u8 = 0xff;

/// Has a source interrupt a server, with a priority.
pub fn set_xive(source: u32, server: u32, priority: u8) -> Result<(), Error> {
    // The firmware's server numbers have two bits for links, which there are not.
    check(call(SET_XIVE, [source.into(), u64::from(server) << 2, priority.into()]))
}

/// Takes XIVE over from the firmware, with all sources switched off.
pub fn xive_reset() -> Result<(), Error> {
    /// OPAL_XIVE_MODE_EXPL.
    const EXPLOITATION: u64 = 1;
    check(call(XIVE_RESET, [EXPLOITATION, 0, 0]))
}

/// What is known of a source of XIVE's.
pub struct IrqInfo {
    /// Its page of state.
    pub state: HostReal,
    /// Its page for making events; 0 if there is none.
    pub trigger: HostReal,
    /// Events are ended by a store.
    pub by_store: bool,
    /// Its events are levels.
    pub is_level: bool,
}

/// Asks for it.
pub fn xive_irq_info(source: u32) -> Result<IrqInfo, Error> {
    const LEVEL: u64 = 1 << 2;
    const STORE_EOI: u64 = 1 << 6;
    let (mut flags, mut state, mut trigger, mut shift, mut chip) = (0u64, 0u64, 0u64, 0u32, 0u32);
    let args = [
        source.into(),
        out(&mut flags),
        out(&mut state),
        out(&mut trigger),
        out(&mut shift),
        out(&mut chip),
        0,
    ];
    check(call_long(XIVE_GET_IRQ_INFO, args))?;
    let flags = u64::from_be(answer(&flags));
    let page = |value: &u64| HostReal(u64::from_be(answer(value)));
    Ok(IrqInfo {
        state: page(&state),
        trigger: page(&trigger),
        by_store: flags & STORE_EOI != 0,
        is_level: flags & LEVEL != 0,
    })
}

/// Has a source put `entry` into the queue of a server and a priority.
pub fn xive_set_irq(source: u32, server: u32, priority: u8, entry: u32) -> Result<(), Error> {
    let args = [source.into(), server.into(), priority.into(), entry.into(), 0, 0, 0];
    call_until_done(XIVE_SET_IRQ_CONFIG, args)
}

/// Gives a server its queue for a priority: 1 << `shift` bytes of zeroes.
pub fn xive_set_queue(server: u32, priority: u8, at: HostReal, shift: u32) -> Result<(), Error> {
    /// Enabled, and each event is told.
    const FLAGS: u64 = 1 | 2;
    let args = [server.into(), priority.into(), at.0, shift.into(), FLAGS, 0, 0];
    call_until_done(XIVE_SET_QUEUE_INFO, args)
}
