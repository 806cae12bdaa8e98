//! Resets: a function forgets all that its user has left in it, addresses included. By itself (function level reset: PCI Express Base 3.0,
//! 6.6.2; Conventional PCI Advanced Capabilities ECN), with all else on its bus (hot reset: 6.6.1; PCI-to-PCI Bridge 1.2, 3.2.5.18), or
//! by a moment without power (PCI Power Management 1.2, 3.2.4, 5.4.1).
//!
//! A reset takes its time, in which nobody need wait: [`Resetting`] says when to go on.

use crate::{AccessError, Config, Error, Function, capability, offset};

/// Capabilities, by ID.
const POWER: u8 = 0x01;
const EXPRESS: u8 = 0x10;
const ADVANCED_FEATURES: u8 = 0x13;
/// Device capabilities of PCI Express: it can be reset.
const EXPRESS_CAN: u32 = 1 << 28;
/// Device control: reset. The upper half of the word is status, where a 0 changes nothing.
const EXPRESS_DO: u32 = 1 << 15;
/// Advanced features, in the capability's first word: it can be reset.
const ADVANCED_CAN: u32 = 1 << 25;
const ADVANCED_DO: u32 = 1;
/// Power management control: the state (0: on, 3: off), and that nothing is forgotten between the two.
const STATE: u32 = 3;
const OFF: u32 = 3;
const REMEMBERS: u32 = 1 << 3;
/// What is written to it: the upper bytes are not for software, and bit 15, where a 1 clears, stays.
const POWER_MASK: u32 = 0x7fff;
/// Bridge control, in the upper half of its word: what is behind the bridge is being reset.
const BUS_RESET: u32 = 1 << 22;

/// Milliseconds: how long a bus is being reset, how long power management takes to go from one state to the other, how long a function
/// needs to come back at least, and how often that is waited for.
const HOLD: u64 = 2;
const CHANGE: u64 = 10;
const RETURN: u64 = 100;
const RETURNS: u32 = 10;

/// How a function can be reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// By its PCI Express capability at this offset.
    Express(u16),
    /// By its Advanced Features capability at this offset.
    Advanced(u16),
    /// With its bus, by this bridge.
    Bus(Function),
    /// With all that is behind the host bridge's only port, by the firmware, which tells that bridge what to expect of the link.
    Port,
    /// By its power management capability at this offset.
    Power(u16),
}

impl Reset {
    /// How this function can be reset without others: by itself (`None` of the first), and if that cannot be, by its power (the second).
    pub fn find(
        config: &impl Config,
        function: Function,
    ) -> Result<(Option<Reset>, Option<Reset>), AccessError> {
        let mut power = None;
        let own = capability::find(config, function, |at, head| {
            Ok(match head as u8 {
                EXPRESS if config.read(function, at + 4)? & EXPRESS_CAN != 0 => Some(Reset::Express(at)),
                ADVANCED_FEATURES if head & ADVANCED_CAN != 0 => Some(Reset::Advanced(at)),
                POWER if config.read(function, at + 4)? & REMEMBERS == 0 => {
                    power = Some(Reset::Power(at));
                    None
                }
                _ => None,
            })
        })?;
        Ok((own, power))
    }
}

/// A reset that has begun. The function may not be touched before it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resetting {
    reset: Reset,
    step: Step,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The second half: the bus is let go, power comes back, or the firmware is asked how far it is.
    Second,
    /// It is looked whether the function answers, so many times more.
    Answer(u32),
}

impl Resetting {
    /// Begins to reset a function; in how many milliseconds to go on.
    pub fn begin(
        config: &impl Config,
        function: Function,
        reset: Reset,
    ) -> Result<(Resetting, u64), AccessError> {
        let (step, wait) = match reset {
            Reset::Express(at) => {
                let control = config.read(function, at + 8)? & 0xffff;
                config.write(function, at + 8, control | EXPRESS_DO)?;
                (Step::Answer(RETURNS), RETURN)
            }
            Reset::Advanced(at) => {
                config.write(function, at + 4, ADVANCED_DO)?;
                (Step::Answer(RETURNS), RETURN)
            }
            Reset::Bus(bridge) => {
                let control = config.read(bridge, offset::BRIDGE_CONTROL)?;
                config.write(bridge, offset::BRIDGE_CONTROL, control | BUS_RESET)?;
                (Step::Second, HOLD)
            }
            // Some firmware has not noticed yet that the link has been up since the boot. It refuses, and then it has.
            Reset::Port => (Step::Second, config.reset_port().or_else(|_| config.reset_port())?),
            Reset::Power(at) => {
                power(config, function, at, OFF)?;
                (Step::Second, CHANGE)
            }
        };
        Ok((Resetting { reset, step }, wait))
    }

    /// That time is over; in how many milliseconds to go on again, or `None`: the function is as after power-on.
    pub fn go_on(&mut self, config: &impl Config, function: Function) -> Result<Option<u64>, Error> {
        match self.step {
            Step::Second => {
                let wait = match self.reset {
                    Reset::Bus(bridge) => {
                        let control = config.read(bridge, offset::BRIDGE_CONTROL)?;
                        config.write(bridge, offset::BRIDGE_CONTROL, control & !BUS_RESET)?;
                        RETURN
                    }
                    Reset::Power(at) => {
                        power(config, function, at, 0)?;
                        CHANGE
                    }
                    Reset::Port => match config.poll_port()? {
                        0 => 1,
                        wait => return Ok(Some(wait)),
                    },
                    Reset::Express(_) | Reset::Advanced(_) => RETURN,
                };
                self.step = Step::Answer(RETURNS);
                Ok(Some(wait))
            }
            // What is not there reads as ones; what is not ready yet may say so as vendor 1.
            Step::Answer(left) => match (config.read(function, offset::ID)? & 0xffff, left) {
                (1 | 0xffff, 0) => Err(Error::Absent),
                (1 | 0xffff, left) => {
                    self.step = Step::Answer(left - 1);
                    Ok(Some(RETURN))
                }
                _ => Ok(None),
            },
        }
    }
}

fn power(config: &impl Config, function: Function, at: u16, state: u32) -> Result<(), AccessError> {
    let control = config.read(function, at + 4)? & POWER_MASK & !STATE;
    config.write(function, at + 4, control | state)
}

/// What the firmware has set up in a function's configuration space beside its addresses, and a reset forgets: above all how long packets may
/// be on its link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept([(u16, u32); Kept::WORDS]);

impl Kept {
    const WORDS: usize = 6;
    /// The words' lower halves. The upper ones are status, where a 0 changes nothing, or cannot be written.
    const MASK: u32 = 0xffff;

    /// Of a function as it is now. It takes part in nothing.
    pub fn of(config: &impl Config, function: Function) -> Result<Kept, AccessError> {
        let express = capability::find(config, function, |at, head| {
            // Device and link control; from version 2 on there are two of each.
            let second = head >> 16 & 0xf >= 2;
            Ok((head as u8 == EXPRESS).then(|| [at + 0x8, at + 0x10, if second { at + 0x28 } else { 0 }]))
        })?;
        let [device, link, device_2] = express.unwrap_or_default();
        let places = [offset::COMMAND, offset::HEADER, offset::INTERRUPT, device, link, device_2];
        let mut kept = Kept(places.map(|at| (at, 0)));
        for (at, word) in kept.0.iter_mut().filter(|(at, _)| *at != 0) {
            *word = config.read(function, *at)? & Kept::MASK;
        }
        Ok(kept)
    }

    /// Sets it up again.
    pub fn put_back(&self, config: &impl Config, function: Function) -> Result<(), AccessError> {
        let mut words = self.0.iter().filter(|(at, _)| *at != 0);
        words.try_for_each(|(at, word)| config.write(function, *at, *word))
    }
}
