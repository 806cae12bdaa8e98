//! The host's devices that the program has to itself: functions behind its host bridge.

use crate::pci::Bridge;

/// Base address registers.
const BAR: u32 = 0x10;
const BAR_HIGH: u32 = 0x14;

/// A device, and its first range of memory.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// The host bridge, and the slot.
    pub bridge: Bridge,
    /// See `bridge`.
    pub slot: u32,
    /// PCI's vendor and its device.
    pub ids: (u32, u32),
    /// The real address of the first range.
    pub base: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// The devices, in the order of their slots. Segments that are not the program's own are to be set after this.
pub fn devices() -> impl Iterator<Item = Device> {
    let bridge = Bridge::find();
    bridge.into_iter().flat_map(|bridge| (0..32).filter_map(move |slot| find(bridge, slot)))
}

fn find(bridge: Bridge, slot: u32) -> Option<Device> {
    let ids = bridge.read(slot, 0, 4).ok()?;
    let word = |at| bridge.read(slot, at, 4).unwrap_or(0);
    let (low, high) = (word(BAR), word(BAR_HIGH));
    bridge.write(slot, BAR, 4, !0);
    let bytes = u64::from(!(word(BAR) & !0xf)) + 1;
    bridge.write(slot, BAR, 4, low);
    let wide = low & 7 == 4;
    let bus = u64::from(low & !0xf) | if wide { u64::from(high) << 32 } else { 0 };
    let base = if bus < 1 << 32 { bus - bridge.low.0 + bridge.low.1 } else { bus };
    Some(Device { bridge, slot, ids: (ids & 0xffff, ids >> 16), base, bytes })
}
