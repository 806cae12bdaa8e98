//! A learning Ethernet switch between partitions, as pure logic (IEEE 802.3, 802.1D's filtering database; no spanning tree: nothing here
//! can form a loop).
//!
//! A [`Network`] has a name and [`Port`]s. What holds a port (a partition's network device, the host's NIC) sends frames into it and takes
//! those that have come for it; each port has a bounded queue, and what does not fit is dropped and counted.
//!
//! - **Who gets a frame.** A partition's port has one address, its own. A frame to it goes there and nowhere else. Broadcasts and
//!   multicasts go to all other ports. An address that nobody has goes to the ports behind which there may be many ([`Sources::Any`]: the
//!   host's NIC), or to the one of them that has been seen to have it: not to partitions, whose addresses are known.
//! - **What may be sent.** A partition sends from its own address only, so it can neither take another's frames nor fill a table. From
//!   outside nothing comes in under a partition's address. Frames are 14 to 1518 bytes (a VLAN tag included, which nobody looks at).
//! - **Checksums** may come unfinished ([`Partial`]), and are passed on so: between two guests nobody has to add up. Who cannot leave
//!   it so calls [`Partial::finish`].
//!
//! # Locks
//! A network's list of ports, a port's queue, and what a port has learned each have a short lock, and no two are ever held together. Whoever
//! [listens](Port::listen) at a port is called with none of them held.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod frame;
mod learned;
mod network;
mod port;
mod queue;
#[cfg(test)]
mod tests;

pub use frame::{MAX_FRAME, MIN_FRAME, Mac, Partial};
pub use network::{Network, Taken};
pub use port::{Counters, Port, Sources};
pub use queue::QUEUE_BYTES;
