//! Split virtqueues (section 2.7), as the device sees them.

use core::fmt;

use phb::{Bus, DmaError};

/// The driver has broken the rules: the device needs a reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken(pub &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Broken {}

impl From<DmaError> for Broken {
    fn from(_: DmaError) -> Broken {
        Broken("a queue or buffer is not in memory")
    }
}

/// A virtqueue.
#[derive(Clone, Debug, Default)]
pub struct Queue {}

/// A chain of descriptors that the device has taken from a queue: first what it may read, then what it may write. Any number of chains
/// may be out at a time, and they come back in any order.
#[derive(Clone, Debug)]
pub struct Chain {}

impl Queue {
    /// Takes the next chain; none if there is none.
    pub fn take(&mut self, _bus: &dyn Bus) -> Result<Option<Chain>, Broken> {
        Ok(None)
    }

    /// Puts the last chain that was taken back: there is no use for it now.
    pub fn put_back(&mut self) {}

    /// Gives a chain back to the driver, with so many bytes written to it from its first one on.
    pub fn complete(&mut self, _chain: Chain, _written: u32, _bus: &dyn Bus) -> Result<(), Broken> {
        Ok(())
    }
}

impl Chain {
    /// How many bytes the device may read, and how many it may write.
    pub fn lengths(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Reads from its readable part, from `offset` on; fewer bytes if it ends.
    pub fn read(&self, _offset: u64, _to: &mut [u8], _bus: &dyn Bus) -> Result<usize, Broken> {
        Ok(0)
    }

    /// Writes to its writable part, likewise.
    pub fn write(&self, _offset: u64, _from: &[u8], _bus: &dyn Bus) -> Result<usize, Broken> {
        Ok(0)
    }
}
