//! The block device, over an image with copy-on-write blocks. The first byte says how many of these there may be.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::Arc;

use fuzz::device::Subject;
use virtio::Device;
use virtio::blk::{BLOCK_BYTES, Blk, Block, Overlay};

fuzz::target!(blk, |data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    fuzz::device::run(rest, Disk { most: usize::from(first % 8), read_only: first & 0x80 != 0 });
});

static IMAGE: [u8; 3 * BLOCK_BYTES + 700] = [0xd1; 3 * BLOCK_BYTES + 700];

struct Disk {
    most: usize,
    read_only: bool,
}

impl Subject for Disk {
    fn device(&mut self) -> Box<dyn Device> {
        let overlay = Overlay::<Heap>::new(&IMAGE, self.most, self.read_only, "fuzz");
        Box::new(Blk::new(Box::new(overlay)))
    }
}

#[derive(Clone)]
struct Heap(Arc<Vec<u8>>);

impl Block for Heap {
    fn allocate() -> Option<Heap> {
        Some(Heap(Arc::new(vec![0; BLOCK_BYTES])))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.0).map(Vec::as_mut_slice)
    }
}
