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
    take(to, None) == to.len()
}

/// Fills a buffer from its start on: how much of it. If the host's source has no more, it rings the bell when it has; the processor's will be
/// back.
fn take(to: &mut [u8], bell: Option<&Arc<dyn Doorbell>>) -> usize {
    if !DARN.load(Ordering::Relaxed) {
        return host::rng().map_or(0, |rng| rng.fill(to, bell));
    }
    let mut filled = 0;
    for piece in to.chunks_mut(8) {
        let Some(word) = (0..TRIES).find_map(|_| darn()) else { break };
        piece.copy_from_slice(&word.to_ne_bytes()[..piece.len()]);
        filled += piece.len();
    }
    filled
}

/// The source as a partition's device has it.
#[derive(Default)]
pub struct Source {
    bell: Option<Arc<dyn Doorbell>>,
}

impl Entropy for Source {
    fn fill(&mut self, to: &mut [u8]) -> usize {
        take(to, self.bell.as_ref())
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
