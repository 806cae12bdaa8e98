//! Random numbers, for guests too: the processor's own (`darn`, POWER9 and later), or those of the host's virtio source. There is nothing
//! else that they could be made of.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use phb::Doorbell;
use power::CpuFeatures;
use realmode::instructions::darn;
use virtio::rng::Entropy;

use crate::host;

/// The processor has `darn`.
static DARN: AtomicBool = AtomicBool::new(false);
/// How often it is asked before it counts as failing (Power ISA 3.0C, book I, 3.3.9).
const TRIES: usize = 10;

/// Notes what the processor can do.
pub fn init(features: &CpuFeatures) {
    DARN.store(features.darn, Ordering::Relaxed);
}

/// Is there a source?
pub fn is_there() -> bool {
    DARN.load(Ordering::Relaxed) || host::rng().is_some()
}

/// Fills a buffer with random numbers. False if there is no source, or not so much of it at the moment; what is in the buffer then is
/// not random.
pub fn fill(to: &mut [u8]) -> bool {
    if !DARN.load(Ordering::Relaxed) {
        return host::rng().is_some_and(|rng| rng.fill(to, None) == to.len());
    }
    to.chunks_mut(8).all(|piece| {
        let Some(word) = (0..TRIES).find_map(|_| darn()) else { return false };
        piece.copy_from_slice(&word.to_ne_bytes()[..piece.len()]);
        true
    })
}

/// The source as a partition's device has it.
#[derive(Default)]
pub struct Source {
    bell: Option<Arc<dyn Doorbell>>,
}

impl Entropy for Source {
    fn fill(&mut self, to: &mut [u8]) -> usize {
        match host::rng().filter(|_| !DARN.load(Ordering::Relaxed)) {
            Some(rng) => rng.fill(to, self.bell.as_ref()),
            None if fill(to) => to.len(),
            // The processor's will be back.
            None => 0,
        }
    }

    fn is_ready(&self) -> bool {
        DARN.load(Ordering::Relaxed) || host::rng().is_some_and(host::Rng::is_ready)
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        self.bell = Some(doorbell);
    }

    fn copy(&self) -> Option<Box<dyn Entropy>> {
        Some(Box::new(Source::default()))
    }
}
