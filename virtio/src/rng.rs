//! The entropy device (section 5.4): fills buffers with random bytes.

use alloc::boxed::Box;
use alloc::sync::Arc;

use phb::{Bus, Doorbell};

use crate::{Broken, Device, Kind, Queue};

/// Where random bytes come from.
pub trait Entropy: Send {
    /// Fills with bytes that nobody else gets, copies included, from the start on. How many there were: fewer if there are no more for
    /// now. Then it rings once there are some.
    fn fill(&mut self, to: &mut [u8]) -> usize;

    /// Whether there are some after there were too few.
    fn is_ready(&self) -> bool {
        false
    }

    /// Gives it the doorbell.
    fn attach(&mut self, _doorbell: Arc<dyn Doorbell>) {}

    /// The same source, for a copy of the partition.
    fn copy(&self) -> Option<Box<dyn Entropy>>;
}

/// An entropy device.
pub struct Rng {
    source: Box<dyn Entropy>,
}

/// Bytes for one buffer, however long it is: a driver asks again. And buffers until others have their turn.
const MOST_BYTES: u64 = 1024;
const BUFFERS_AT_ONCE: u32 = 8;

impl Rng {
    /// A device over a source.
    pub fn new(source: Box<dyn Entropy>) -> Rng {
        Rng { source }
    }
}

impl Device for Rng {
    fn kind(&self) -> Kind {
        Kind { id: 4, class: 0x10_8000, name: "rng" }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16]
    }

    fn reset(&mut self) {}

    fn serve(&mut self, index: usize, queues: &mut [Queue], bus: &dyn Bus) -> Result<bool, Broken> {
        let Some(queue) = queues.get_mut(index) else { return Ok(false) };
        for _ in 0..BUFFERS_AT_ONCE {
            let Some(chain) = queue.take(bus)? else { return Ok(false) };
            let (readable, writable) = chain.lengths();
            if readable != 0 || writable == 0 {
                return Err(Broken("a buffer for random bytes cannot be written"));
            }
            let mut written = 0;
            while written < writable.min(MOST_BYTES) {
                let mut bytes = [0; 64];
                let most = bytes.len().min((writable.min(MOST_BYTES) - written) as usize);
                let filled = self.source.fill(&mut bytes[..most]);
                chain.write(written, &bytes[..filled], bus)?;
                written += filled as u64;
                if filled < most {
                    break;
                }
            }
            if written == 0 {
                queue.put_back();
                return Ok(false);
            }
            queue.complete(chain, written as u32, bus)?;
        }
        Ok(true)
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        self.source.attach(doorbell);
    }

    fn pending(&self) -> u32 {
        self.source.is_ready().into()
    }

    fn copy(&self) -> Option<Box<dyn Device>> {
        Some(Box::new(Rng { source: self.source.copy()? }))
    }
}
