//! Feature bits of queues and transport (section 6). A device's own are below 24 and from 50 on.

/// VIRTIO_F_INDIRECT_DESC: a descriptor may stand for a table of them.
pub const INDIRECT: u64 = 1 << 28;
/// VIRTIO_F_EVENT_IDX: either side says at which buffer it wants to hear of the other again.
pub const EVENT_INDEX: u64 = 1 << 29;
/// VIRTIO_F_VERSION_1: a driver without it is of another age.
pub const VERSION_1: u64 = 1 << 32;
/// VIRTIO_F_ACCESS_PLATFORM: addresses are the bus's, translated by the host bridge.
pub const ACCESS_PLATFORM: u64 = 1 << 33;

/// What the transport offers for every device.
pub(crate) const TRANSPORT: u64 = INDIRECT | EVENT_INDEX | VERSION_1;
