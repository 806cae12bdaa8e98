//! Random bytes for guests: the processor's own, where it has a source.

use alloc::boxed::Box;

use realmode::instructions::darn;
use virtio::rng::Entropy;

/// The processor's source (`darn`), on POWER9 and later.
pub struct Darn;

impl Entropy for Darn {
    fn fill(&mut self, to: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in to.chunks_mut(8) {
            let Some(word) = darn() else { break };
            piece.copy_from_slice(&word.to_ne_bytes()[..piece.len()]);
            done += piece.len();
        }
        done
    }

    fn copy(&self) -> Option<Box<dyn Entropy>> {
        Some(Box::new(Darn))
    }
}
