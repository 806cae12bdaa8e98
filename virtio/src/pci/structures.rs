//! Where the device's structures are (section 4.1.4): capabilities in configuration space lead to windows of its memory.

use phb::Config;

/// The base address register with the structures, and the bytes behind it: a page for each structure.
pub const BAR: u8 = 4;
pub const BYTES: u64 = 4 * PAGE;
/// The one with MSI-X, and where its pending bits are.
pub const MSIX_BAR: u8 = 1;
pub const MSIX_BYTES: u64 = PAGE;
pub const MSIX_PENDING: u32 = 0x800;

const PAGE: u64 = 0x1000;

/// Bytes between the notification addresses of two queues.
pub const NOTIFY_STEP: usize = 4;

/// The kinds of structures (VIRTIO_PCI_CAP_…).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Structure {
    Common,
    Notify,
    Isr,
    Device,
}

/// A place in a structure.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub structure: Structure,
    pub offset: usize,
}

/// In the order of their pages.
const STRUCTURES: [Structure; 4] = [Structure::Common, Structure::Notify, Structure::Isr, Structure::Device];

/// What is behind a base address register at an offset.
pub fn find(bar: usize, offset: u64) -> Option<Window> {
    let structure = *STRUCTURES.get((offset / PAGE) as usize)?;
    (bar == BAR.into()).then_some(Window { structure, offset: (offset % PAGE) as usize })
}

/// Offsets in a capability (struct virtio_pci_cap), from its ID on.
pub mod capability {
    pub const BAR: u16 = 4;
    pub const OFFSET: u16 = 8;
    pub const LENGTH: u16 = 12;
    /// In that of PCI configuration access only.
    pub const DATA: u16 = 16;
}

const VENDOR_SPECIFIC: u8 = 9;
const PCI_ACCESS: u8 = 5;

/// Adds the capabilities; the answer is where that of PCI configuration access is (section 4.1.4.9): a window that the driver moves.
pub fn describe(config: &mut Config) -> u16 {
    for (page, structure) in (0..).zip(STRUCTURES) {
        let mut body = body(structure as u8 + 1, BAR);
        body[6..10].copy_from_slice(&(page * PAGE as u32).to_le_bytes());
        body[10..14].copy_from_slice(&(PAGE as u32).to_le_bytes());
        body[14..18].copy_from_slice(&(NOTIFY_STEP as u32).to_le_bytes());
        let length = if structure == Structure::Notify { 20 } else { 16 };
        body[0] = length;
        config.add_capability(VENDOR_SPECIFIC, &body[..usize::from(length) - 2]);
    }
    let at = config.add_capability(VENDOR_SPECIFIC, &body(PCI_ACCESS, 0));
    config.allow(at + capability::BAR, &[0xff]);
    config.allow(at + capability::OFFSET, &[0xff; 8]);
    at
}

/// A capability's bytes from its length on.
fn body(kind: u8, bar: u8) -> [u8; 18] {
    let mut body = [0; 18];
    body[..3].copy_from_slice(&[20, kind, bar]);
    body
}
