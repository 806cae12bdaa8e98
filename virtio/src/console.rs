//! A console (section 5.3) of one port: a [`Line`] with a guest's terminal at one end and whoever shows it at the other.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use phb::{Bus, Doorbell};
use spin::{Mutex, Once};

use crate::{Broken, Chain, Device, Kind, OtherEnd, Queue};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// What a line keeps of the output at most.
pub const OUTPUT: usize = 16 << 10;
/// What waits for the guest at most.
pub const INPUT: usize = 4 << 10;

/// How much is moved in one piece, and how many pieces before others have their turn.
const PIECE: usize = 256;
const AT_ONCE: usize = 16;

/// Bytes under way in both directions.
#[derive(Clone)]
struct Bytes {
    output: VecDeque<u8>,
    input: VecDeque<u8>,
    /// Somebody shows the output: it waits for them. Otherwise the oldest bytes give way.
    shown: bool,
    /// The guest has output for which there was no room.
    held_back: bool,
}

/// A line between a guest and who shows its console. Its lock is short, and nothing else is taken under it but memory from the heap.
pub struct Line {
    bytes: Mutex<Bytes>,
    bell: Once<Arc<dyn Doorbell>>,
}

impl Line {
    fn new(bytes: Bytes) -> Arc<Line> {
        Arc::new(Line { bytes: Mutex::new(bytes), bell: Once::new() })
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// Whether somebody shows the output from now on: it waits until they take it ([`Line::show`]).
    pub fn set_shown(&self, shown: bool) {
        self.bytes.lock().shown = shown;
        self.ring();
    }

    /// Hands what the guest has put out to `screen`, which answers how much of it it has taken.
    ///
    /// The lock is not held meanwhile: a screen is slow. What waits stays where it is then, as it is shown.
    pub fn show(&self, mut screen: impl FnMut(&[u8]) -> usize) {
        let mut bytes = self.bytes.lock();
        // What comes from now on is for the next time.
        let mut left = bytes.output.len();
        while left > 0 {
            let mut piece = [0; PIECE];
            let n = left.min(PIECE);
            piece.iter_mut().zip(bytes.output.iter().take(n)).for_each(|(to, from)| *to = *from);
            drop(bytes);
            let taken = screen(&piece[..n]).min(n);
            bytes = self.bytes.lock();
            let waits = bytes.output.len();
            bytes.output.drain(..taken.min(waits));
            left = if taken == 0 { 0 } else { left - taken };
        }
        let resumed = bytes.held_back && bytes.output.len() < OUTPUT;
        drop(bytes);
        if resumed {
            self.ring();
        }
    }

    /// Types bytes in, as many as there is room for.
    pub fn type_in(&self, typed: &[u8]) -> usize {
        let n = {
            let mut bytes = self.bytes.lock();
            let n = typed.len().min(INPUT - bytes.input.len());
            bytes.input.extend(typed.iter().take(n));
            n
        };
        if n != 0 {
            self.ring();
        }
        n
    }
}

/// A console.
pub struct Console {
    line: Arc<Line>,
    /// Output of which a part has been taken: how much.
    part: Option<(Chain, u64)>,
}

impl Console {
    /// A console with nothing under way.
    pub fn new() -> Console {
        let bytes = Bytes {
            output: VecDeque::with_capacity(OUTPUT),
            input: VecDeque::with_capacity(INPUT),
            shown: false,
            held_back: false,
        };
        Console { line: Line::new(bytes), part: None }
    }

    fn receive(&mut self, queue: &mut Queue, bus: &dyn Bus) -> Result<bool, Broken> {
        for _ in 0..AT_ONCE {
            if self.line.bytes.lock().input.is_empty() {
                return Ok(false);
            }
            let Some(chain) = queue.take(bus)? else { return Ok(false) };
            let mut piece = [0; PIECE];
            let n = {
                let mut bytes = self.line.bytes.lock();
                let n = PIECE.min(bytes.input.len()).min(usize::try_from(chain.lengths().1).unwrap_or(PIECE));
                piece.iter_mut().zip(bytes.input.drain(..n)).for_each(|(to, byte)| *to = byte);
                n
            };
            chain.write(0, piece.get(..n).unwrap_or(&[]), bus)?;
            queue.complete(chain, n as u32, bus)?;
        }
        Ok(true)
    }

    fn transmit(&mut self, queue: &mut Queue, bus: &dyn Bus) -> Result<bool, Broken> {
        for _ in 0..AT_ONCE {
            let (chain, at) = match self.part.take() {
                Some(part) => part,
                None => match queue.take(bus)? {
                    Some(chain) => (chain, 0),
                    None => return Ok(false),
                },
            };
            let mut piece = [0; PIECE];
            let n = chain.read(at, &mut piece, bus)?;
            let taken = self.put(piece.get(..n).unwrap_or(&[]));
            let at = at + taken as u64;
            if at < chain.lengths().0 && n != 0 {
                self.part = Some((chain, at));
                if taken < n {
                    return Ok(false);
                }
            } else {
                queue.complete(chain, 0, bus)?;
            }
        }
        Ok(true)
    }

    /// Appends to the output; how much of it.
    fn put(&self, piece: &[u8]) -> usize {
        let mut bytes = self.line.bytes.lock();
        let room = OUTPUT - bytes.output.len();
        let n = if bytes.shown {
            piece.len().min(room)
        } else {
            let lost = piece.len().saturating_sub(room);
            bytes.output.drain(..lost);
            piece.len()
        };
        bytes.output.extend(piece.iter().take(n));
        bytes.held_back = n < piece.len();
        n
    }
}

impl Default for Console {
    fn default() -> Self {
        Console::new()
    }
}

impl Device for Console {
    fn kind(&self) -> Kind {
        Kind { id: 3, class: 0x07_8000, name: "console" }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64, 64]
    }

    fn reset(&mut self) {
        self.part = None;
        self.line.bytes.lock().held_back = false;
    }

    fn serve(&mut self, index: usize, queues: &mut [Queue], bus: &dyn Bus) -> Result<bool, Broken> {
        match (index, queues.get_mut(index)) {
            (RECEIVE, Some(queue)) => self.receive(queue, bus),
            (TRANSMIT, Some(queue)) => self.transmit(queue, bus),
            _ => Ok(false),
        }
    }

    fn attach(&mut self, doorbell: Arc<dyn Doorbell>) {
        self.line.bell.call_once(|| doorbell);
    }

    fn pending(&self) -> u32 {
        let bytes = self.line.bytes.lock();
        let resumed = bytes.held_back && (!bytes.shown || bytes.output.len() < OUTPUT);
        u32::from(!bytes.input.is_empty()) << RECEIVE | u32::from(resumed) << TRANSMIT
    }

    fn other_end(&self) -> OtherEnd {
        OtherEnd::Line(self.line.clone())
    }

    /// What has come out meanwhile was seen, and stays.
    fn take_over(&mut self, end: OtherEnd) {
        let OtherEnd::Line(line) = end else { return };
        {
            let input = core::mem::take(&mut self.line.bytes.lock().input);
            let mut bytes = line.bytes.lock();
            bytes.input = input;
            bytes.held_back = self.part.is_some();
        }
        self.line = line;
    }

    /// A copy has the same input before it, and nothing has come out of it.
    fn copy(&self) -> Option<Box<dyn Device>> {
        let mut bytes = self.line.bytes.lock().clone();
        bytes.output.clear();
        bytes.shown = false;
        Some(Box::new(Console { line: Line::new(bytes), part: self.part.clone() }))
    }
}
