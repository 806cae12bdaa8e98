//! A port of a network.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use spin::{Mutex, Once};

use crate::frame::{MAX_FRAME, Mac, Partial};
use crate::learned::Learned;
use crate::network::{Network, Taken};
use crate::queue::Queue;

/// From which addresses a port may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sources {
    /// This one: a partition's.
    Own(Mac),
    /// Any that no partition has: the network outside.
    Any,
}

/// What has gone through a port since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Frames that its holder sent, and their bytes.
    pub sent: u64,
    /// See `sent`.
    pub sent_bytes: u64,
    /// Frames that it may not send: another's address, too long, too short.
    pub refused: u64,
    /// Frames that came for it, and their bytes.
    pub received: u64,
    /// See `received`.
    pub received_bytes: u64,
    /// Frames that found its queue full.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    refused: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    dropped: AtomicU64,
}

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Who is called when a frame has come.
type Listener = Box<dyn Fn() + Send + Sync>;

/// A port as its network has it.
pub(crate) struct Member {
    pub(crate) sources: Sources,
    queue: Mutex<Queue>,
    /// How many frames wait. It changes with the queue's lock held, and is read without.
    waiting: AtomicUsize,
    /// What was seen there, if it may be anything.
    learned: Option<Mutex<Learned>>,
    listener: Once<Listener>,
    counts: Counts,
}

impl Member {
    pub(crate) fn learn(&self, source: Mac, now: u64) -> bool {
        self.learned.as_ref().is_some_and(|learned| learned.lock().see(source, now))
    }

    pub(crate) fn knows(&self, mac: Mac, now: u64) -> bool {
        self.learned.as_ref().is_some_and(|learned| learned.lock().knows(mac, now))
    }

    pub(crate) fn forget(&self, mac: Mac) {
        if let Some(learned) = &self.learned {
            learned.lock().forget(mac);
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let counts = &self.counts;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            sent: get(&counts.sent),
            sent_bytes: get(&counts.sent_bytes),
            refused: get(&counts.refused),
            received: get(&counts.received),
            received_bytes: get(&counts.received_bytes),
            dropped: get(&counts.dropped),
        }
    }

    /// A frame for it.
    pub(crate) fn put(&self, frame: &[u8], partial: Option<Partial>) {
        let before = {
            let mut queue = self.queue.lock();
            if !queue.push(frame, partial) {
                drop(queue);
                return count(&self.counts.dropped, 1);
            }
            self.waiting.fetch_add(1, Ordering::Release)
        };
        count(&self.counts.received, 1);
        count(&self.counts.received_bytes, frame.len() as u64);
        // Otherwise it has been told before, and has not come to the end of its queue.
        if before == 0
            && let Some(listener) = self.listener.get()
        {
            listener();
        }
    }
}

/// A port, in the hands of who sends and receives there. Dropped, it is disconnected.
pub struct Port {
    network: Arc<Network>,
    member: Arc<Member>,
    connected: AtomicBool,
}

impl Port {
    /// A port, not connected yet.
    pub fn new(network: &Arc<Network>, sources: Sources) -> Port {
        let learned = (sources == Sources::Any).then(|| Mutex::new(Learned::new(network.age())));
        let member = Member {
            sources,
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            learned,
            listener: Once::new(),
            counts: Counts::default(),
        };
        Port { network: network.clone(), member: Arc::new(member), connected: AtomicBool::new(false) }
    }

    /// Another port of the same network, not connected, with an address of its own.
    pub fn another(&self) -> Port {
        let sources = match self.member.sources {
            Sources::Own(mac) => Sources::Own(self.network.another_address(mac)),
            Sources::Any => Sources::Any,
        };
        Port::new(&self.network, sources)
    }

    /// Has somebody called when a frame comes and none waited before: by whoever sent it, on any processor, with none of the switch's locks
    /// held. Only the first one counts.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.member.listener.call_once(|| Box::new(listener));
    }

    /// The network.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// From where it may send.
    pub fn sources(&self) -> Sources {
        self.member.sources
    }

    /// Connects it: frames come from now on.
    pub fn connect(&self) -> Result<(), Taken> {
        if !self.member.queue.lock().prepare() {
            return Err(Taken::Memory);
        }
        self.network.connect(&self.member)?;
        self.connected.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Disconnects it: what waits is dropped. A frame that somebody is about to send may come yet, and is dropped too.
    pub fn disconnect(&self) {
        self.connected.store(false, Ordering::Relaxed);
        self.network.disconnect(&self.member);
        let mut queue = self.member.queue.lock();
        queue.clear();
        self.member.waiting.store(0, Ordering::Release);
    }

    /// Is it connected?
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8], partial: Option<Partial>) {
        let counts = &self.member.counts;
        if self.is_connected() && self.network.forward(&self.member, frame, partial) {
            count(&counts.sent, 1);
            count(&counts.sent_bytes, frame.len() as u64);
        } else {
            self.refuse();
        }
    }

    /// Counts what is no frame as one that may not be sent.
    pub fn refuse(&self) {
        count(&self.member.counts.refused, 1);
    }

    /// Does a frame wait?
    pub fn is_waiting(&self) -> bool {
        self.member.waiting.load(Ordering::Acquire) != 0
    }

    /// How long the next one is. It stays the next one until somebody takes it.
    pub fn next_length(&self) -> Option<usize> {
        self.member.queue.lock().next_length()
    }

    /// Takes the next frame: its length, and its checksum if that is not finished.
    pub fn receive(&self, to: &mut [u8; MAX_FRAME]) -> Option<(usize, Option<Partial>)> {
        let mut queue = self.member.queue.lock();
        let frame = queue.pop(to)?;
        self.member.waiting.fetch_sub(1, Ordering::Release);
        Some(frame)
    }

    /// What has gone through it.
    pub fn counters(&self) -> Counters {
        self.member.counters()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.disconnect();
    }
}
