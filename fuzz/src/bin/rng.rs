//! The entropy device.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuzz::Input;
use fuzz::device::Subject;
use phb::Function;
use virtio::Device;
use virtio::rng::{Entropy, Rng};

fuzz::target!(rng, |data: &[u8]| fuzz::device::run(data, Source::default()));

/// As many bytes as there are.
#[derive(Clone, Default)]
struct Source(Arc<AtomicUsize>);

impl Subject for Source {
    fn device(&mut self) -> Box<dyn Device> {
        Box::new(Rng::new(Box::new(self.clone())))
    }

    fn outside(&mut self, input: &mut Input<'_>, _: &dyn Function) {
        self.0.fetch_add(input.u8().into(), Ordering::Relaxed);
    }
}

impl Entropy for Source {
    fn fill(&mut self, to: &mut [u8]) -> usize {
        let bytes = to.len().min(self.0.load(Ordering::Relaxed));
        self.0.fetch_sub(bytes, Ordering::Relaxed);
        to[..bytes].fill(0x5a);
        bytes
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn copy(&self) -> Option<Box<dyn Entropy>> {
        Some(Box::new(self.clone()))
    }
}
