//! What this hypervisor has of its own: a snapshot that a partition takes of itself, its identity; and waiting for who sits at the
//! monitor.

use crate::cpu::TB_HZ;
use crate::{Answer, Hcall, Status, hcall, println, rtas, status, team};

/// H_PARTITA_SNAPSHOT. It comes back each time that the partition goes back to it: how often in r4, and in r5 what [`revert`] was
/// told.
pub fn snapshot() -> Answer {
    hcall(Hcall::PARTITA_SNAPSHOT, &[])
}

/// H_PARTITA_REVERT. That it comes back says that it did nothing.
pub fn revert(told: u64) -> Status {
    status(Hcall::PARTITA_REVERT, &[told])
}

/// Takes a snapshot, does something, and goes back. Gives what that came to; all else of it has never been. So it may print no
/// checks: they would be counted by whoever reads them, and not here.
pub fn there_and_back(between: impl FnOnce() -> u64) -> u64 {
    let taken = snapshot();
    if taken.status != Status::SUCCESS {
        team::give_up("a snapshot");
    }
    if taken.r4() == 0 {
        let told = between();
        let refused = revert(told);
        println!("@ check goes-back fail {refused:?}");
        rtas::power_off();
    }
    taken.r5()
}

/// What H_PARTITA_IDENTITY answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The partition's number.
    pub number: u64,
    /// Its random identifier, first byte first.
    pub id: [u64; 2],
    /// How often that has changed.
    pub count: u64,
}

/// H_PARTITA_IDENTITY; `None` if it fails.
pub fn identity() -> Option<Identity> {
    let answer = hcall(Hcall::PARTITA_IDENTITY, &[]);
    let [number, high, low, count, ..] = answer.r;
    (answer.status == Status::SUCCESS).then_some(Identity { number, id: [high, low], count })
}

/// Says where the program is, and waits until somebody types a byte on its console: time for the monitor to look at it. Nothing of
/// the program's memory is touched for the first time meanwhile.
pub fn hold(place: &str) {
    team::cede(100);
    println!("@ at {place}");
    typed();
}

/// The next byte from the console, slept for.
pub fn typed() -> u8 {
    loop {
        let answer = hcall(Hcall::GET_TERM_CHAR, &[0]);
        if answer.r4() != 0 {
            return (answer.r5() >> 56) as u8;
        }
        team::cede(TB_HZ / 500);
    }
}
