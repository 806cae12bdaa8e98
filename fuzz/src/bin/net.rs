//! A network card, and a neighbour who sends and receives.
#![cfg_attr(feature = "libfuzzer", no_main)]

use fuzz::Input;
use fuzz::device::Subject;
use phb::Function;
use switch::{MAX_FRAME, Mac, Network, Partial, Port, Sources};
use virtio::Device;
use virtio::net::Card;

fuzz::target!(net, |data: &[u8]| {
    let network = Network::new("lan", 1, || 0);
    let mac = |n| Sources::Own(Mac([2, 0, 0, 0, 0, n]));
    let (card, other) = (Port::new(&network, mac(1)), Port::new(&network, mac(2)));
    let _ = other.connect();
    fuzz::device::run(data, Neighbour { card: Some(card), other });
});

struct Neighbour {
    card: Option<Port>,
    other: Port,
}

impl Subject for Neighbour {
    fn device(&mut self) -> Box<dyn Device> {
        Box::new(Card::new(self.card.take().expect("there is one card")))
    }

    fn outside(&mut self, input: &mut Input<'_>, _: &dyn Function) {
        let length = usize::from(input.u16()) % (MAX_FRAME + 2);
        let mut frame = vec![0x11; length.max(14)];
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, input.u8() % 4, 2, 0, 0, 0, 0, 2]);
        let partial = Partial::new(input.u8().into(), input.u8().into(), frame.len());
        self.other.send(&frame, partial);
        let mut received = [0; MAX_FRAME];
        while let Some((length, partial)) = self.other.receive(&mut received) {
            if let Some(partial) = partial {
                partial.finish(&mut received[..length]);
            }
        }
    }
}
