//! The console device, and somebody who types and looks.
#![cfg_attr(feature = "libfuzzer", no_main)]

use fuzz::Input;
use fuzz::device::Subject;
use phb::Function;
use virtio::console::Console;
use virtio::{Device, OtherEnd, Transport};

fuzz::target!(console, |data: &[u8]| fuzz::device::run(data, Terminal));

struct Terminal;

impl Subject for Terminal {
    fn device(&mut self) -> Box<dyn Device> {
        Box::new(Console::new())
    }

    fn outside(&mut self, input: &mut Input<'_>, function: &dyn Function) {
        let OtherEnd::Line(line) = Transport::other_end(function) else { return };
        let length = usize::from(input.u8());
        match length % 3 {
            0 => line.set_shown(length & 4 != 0),
            1 => line.show(|piece| piece.len().min(length)),
            _ => _ = line.type_in(&vec![0x41; 16 * length]),
        }
    }
}
