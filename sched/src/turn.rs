//! Whose turn it is on a core whose threads may only run tasks of one group at a time.

/// The turn of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) group: u16,
    /// Since when it has the core.
    pub(crate) since: u64,
    pub(crate) stage: Stage,
}

/// How far a turn is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The group was elected. No thread runs it yet, but one that can has been kicked.
    Promised,
    /// Threads run it.
    Held,
    /// Nothing is handed out any more; whoever picks when the last thread has left elects the next group.
    Draining,
}

impl Turn {
    pub(crate) fn elected(group: u16, now: u64) -> Turn {
        Turn { group, since: now, stage: Stage::Promised }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.stage == Stage::Draining
    }
}
