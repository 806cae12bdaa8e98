//! A network: the ports that are connected, and who of them gets a frame.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;

use crate::frame::{Mac, Partial};
use crate::port::{Counters, Member, Sources};

/// A port cannot be connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Another port of the network has its address.
    Address,
    /// There is no memory for its queue.
    Memory,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Taken::Address => "another port has its address",
            Taken::Memory => "there is no memory for its queue",
        })
    }
}

impl core::error::Error for Taken {}

/// The ports that are connected. A list is never changed: who sends goes on with the one that it has.
#[derive(Clone, Default)]
struct Members {
    /// Those with one address, in the order of addresses.
    own: Vec<(Mac, Arc<Member>)>,
    /// Those behind which there may be many.
    any: Vec<Arc<Member>>,
}

/// A network.
pub struct Network {
    name: String,
    members: Mutex<Arc<Members>>,
    /// How long an address that was seen at a port is remembered.
    age: u64,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    made_up: AtomicU32,
}

impl Network {
    /// Without ports. An address that was seen at a port and was silent for `age` of the clock is forgotten.
    pub fn new(name: &str, age: u64, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Arc<Network> {
        let clock = Box::new(clock);
        Arc::new(Network {
            name: name.into(),
            members: Mutex::default(),
            age,
            clock,
            made_up: AtomicU32::new(0),
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many ports are connected.
    pub fn connected(&self) -> usize {
        let members = self.members();
        members.own.len() + members.any.len()
    }

    /// What has gone through the connected ports that lead outside.
    pub fn outside(&self) -> Vec<Counters> {
        self.members().any.iter().map(|member| member.counters()).collect()
    }

    pub(crate) fn age(&self) -> u64 {
        self.age
    }

    /// An address for a copy of a port.
    pub(crate) fn another_address(&self, of: Mac) -> Mac {
        Mac::made_up(&of.0, self.made_up.fetch_add(1, Ordering::Relaxed))
    }

    fn members(&self) -> Arc<Members> {
        self.members.lock().clone()
    }

    pub(crate) fn connect(&self, member: &Arc<Member>) -> Result<(), Taken> {
        let mut members = self.members.lock();
        let mut new = Members::clone(&members);
        match member.sources {
            Sources::Own(mac) => match new.own.binary_search_by_key(&mac, |(mac, _)| *mac) {
                Ok(at) if Arc::ptr_eq(&new.own[at].1, member) => return Ok(()),
                Ok(_) => return Err(Taken::Address),
                Err(at) => new.own.insert(at, (mac, member.clone())),
            },
            Sources::Any if new.any.iter().any(|other| Arc::ptr_eq(other, member)) => return Ok(()),
            Sources::Any => new.any.push(member.clone()),
        }
        *members = Arc::new(new);
        Ok(())
    }

    pub(crate) fn disconnect(&self, member: &Arc<Member>) {
        let mut members = self.members.lock();
        let mut new = Members::clone(&members);
        new.own.retain(|(_, other)| !Arc::ptr_eq(other, member));
        new.any.retain(|other| !Arc::ptr_eq(other, member));
        *members = Arc::new(new);
    }

    /// Hands a frame out to who is to have it; false if it may not be sent by this port.
    pub(crate) fn forward(&self, from: &Arc<Member>, frame: &[u8], partial: Option<Partial>) -> bool {
        let Some((to, source)) = Mac::of_frame(frame) else { return false };
        let members = self.members();
        let owner = |mac: Mac| {
            let at = members.own.binary_search_by_key(&mac, |(mac, _)| *mac).ok()?;
            Some(&members.own[at].1)
        };
        match from.sources {
            Sources::Own(own) if own != source => return false,
            Sources::Own(_) => {}
            Sources::Any if source.is_group() || owner(source).is_some() => return false,
            Sources::Any => {
                if from.learn(source, (self.clock)()) {
                    let others = members.any.iter().filter(|other| !Arc::ptr_eq(other, from));
                    others.for_each(|other| other.forget(source));
                }
            }
        }
        let put = |member: &Arc<Member>| {
            if !Arc::ptr_eq(member, from) {
                member.put(frame, partial);
            }
        };
        if to.is_group() {
            members.own.iter().map(|(_, member)| member).chain(&members.any).for_each(put);
        } else if let Some(member) = owner(to) {
            put(member);
        } else if !members.any.is_empty() {
            let now = (self.clock)();
            match members.any.iter().find(|member| member.knows(to, now)) {
                Some(member) => put(member),
                None => members.any.iter().for_each(put),
            }
        }
        true
    }
}
