//! The networks: switches between partitions, by name. The host's NIC is a port of "lan" like any other ([`outside`]).

use alloc::sync::Arc;
use alloc::vec::Vec;

use bundle::DEFAULT_NETWORK;
use realmode::instructions::timebase;
use switch::{Network, Port, Sources};

use crate::partition::TIMEBASE_HZ;
use crate::sync::{Lock, Rank};

/// How long an address outside is remembered: five minutes, as 802.1D says.
const AGE: u64 = 300 * TIMEBASE_HZ;

/// All that anybody has spoken of. They stay: a manifest names a few.
static NETWORKS: Lock<Vec<Arc<Network>>> = Lock::new(Rank::Partition, Vec::new());

/// The network of this name. It is made if there is none.
pub fn named(name: &str) -> Arc<Network> {
    let mut networks = NETWORKS.lock();
    if let Some(network) = networks.iter().find(|network| network.name() == name) {
        return network.clone();
    }
    let network = Network::new(name, AGE, timebase);
    networks.push(network.clone());
    network
}

/// All networks.
pub fn all() -> Vec<Arc<Network>> {
    NETWORKS.lock().clone()
}

/// A port of "lan" for what is outside of the host: its NIC. Who has it gives it a listener ([`Port::listen`]), which may send what waits at
/// once, but is called with locks of a partition's devices held; then it connects it ([`Port::connect`]), sends in what the NIC receives
/// ([`Port::send`], with no checksum left open), and takes what is to go out ([`Port::receive`], and [`switch::Partial::finish`] where a
/// checksum is open).
pub fn outside() -> Port {
    Port::new(&named(DEFAULT_NETWORK), Sources::Any)
}
