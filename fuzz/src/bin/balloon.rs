//! The memory balloon of a partition with eight units and a half.
#![cfg_attr(feature = "libfuzzer", no_main)]

use fuzz::Input;
use fuzz::device::Subject;
use phb::Function;
use virtio::balloon::BalloonDevice;
use virtio::{Device, OtherEnd, Transport};

fuzz::target!(balloon, |data: &[u8]| fuzz::device::run(data, Owner));

struct Owner;

impl Subject for Owner {
    fn device(&mut self) -> Box<dyn Device> {
        Box::new(BalloonDevice::new(0x8_8000, 0x1_0000))
    }

    fn outside(&mut self, input: &mut Input<'_>, function: &dyn Function) {
        let OtherEnd::Balloon(balloon) = Transport::other_end(function) else { return };
        balloon.set_target(u64::from(input.u16()) << (input.u8() % 40));
        balloon.figures();
    }
}
