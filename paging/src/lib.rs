//! What backs the memory of partitions, as pure logic over the states that [`hpt`] keeps of each page.
//!
//! `hpt` knows how to change what backs a page so that no stale translation is left. Here is when and to what: memory is given
//! on first touch, pages are shared between partitions and made private again, people and programs are told of changes, and
//! what was written is known. All of it is for virtual mode: it allocates and takes short spin locks. But for the plain first touch, which
//! real mode does by itself ([`Memory::populate_at_once`]).
//!
//! - [`host`]: what is needed of the machine's memory. [`shares`]: how many pages refer to a shared block.
//! - [`state`]: what a partition keeps ([`Paging`]), and the view that everything is done through ([`Memory`]).
//! - `at_once`: the plain first touch, in either mode. [`touch`]: demand paging, unsharing, access on the guest's behalf, discarding.
//! - [`notify`]: protection notifiers. [`dirty`]: pages written since.
//! - [`snapshot`]: references of clones and snapshots, and the way back to a snapshot. [`merge`]: equal pages become one.
//! - [`figures`]: numbers for people.
//!
//! # Locks
//! A page's *stripe* (one of [`state::STRIPES`], by its number) is held while its backing or its protection is changed, so that
//! under it state, protection, and memory of the page stand still. Below it are the locks of `hpt`, and three leaves that are never held together: the
//! list of notifiers, the list of pages changed since a snapshot, and the host's allocator. Notifiers are called with no lock held.
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod at_once;
pub mod dirty;
pub mod figures;
pub mod host;
pub mod merge;
pub mod notify;
pub mod shares;
pub mod snapshot;
pub mod state;
mod sync;
pub mod touch;

pub use figures::Figures;
pub use host::{Host, Supply};
pub use merge::{MergeFigures, Merger, Step};
pub use notify::{Answer, Change, Context, Id, Notifier, ProtectError, What};
pub use shares::{Shares, Stretch};
pub use state::{Error, Memory, Paging};
pub use sync::AtomicU32;
pub use touch::{Outcome, Touched};
