//! The hashed page table of a partition, as pure logic (Power ISA 3.0C, book III, 5.7.9; PAPR 14.5.4.1).
//!
//! A guest reaches its page table only through hypervisor calls. What the hardware gets to see of what the guest
//! asked for depends on what backs the page; what the guest asked for is kept beside it and is all the guest ever hears of.
//!
//! - [`table`]: the table, its layouts, the search. [`entry`]: entries and their lock. [`hash`]: the hash function and `tlbie` operands.
//! - [`page`]: slots, and the state of each page of RAM. [`access`]: storage protection.
//! - [`enter`]: H_ENTER. [`hcall`]: H_REMOVE, H_BULK_REMOVE, H_READ, H_PROTECT, H_CLEAR_REF, H_CLEAR_MOD; [`init`]: H_PAGE_INIT.
//! - [`fault`]: what to do about storage interrupts, translation on the guest's behalf, and the VRMA.
//! - [`backing`]: changes of what backs a page, which reach every entry through the reverse map. [`reserve`]: where its memory comes from.
//! - [`clone`], [`snapshot`], [`resize`]: a whole table copied, brought back to what it was, and moved to another.
//! - [`explain`]: the steps of a translation, and figures about the table, for people.
//!
//! Memory and TLBs are behind the trait [`Machine`], so the same code runs in hypervisor real mode, in virtual mode and in a test. It does
//! not panic, allocate or format, and no loop is unbounded.
#![cfg_attr(not(any(test, loom)), no_std)]

pub mod access;
pub mod backing;
pub mod bytes;
pub mod clone;
pub mod enter;
pub mod entry;
pub mod error;
pub mod explain;
pub mod fault;
pub mod hash;
pub mod hcall;
pub mod init;
mod link;
pub mod machine;
pub mod mmu;
mod moved;
mod order;
pub mod page;
pub mod reserve;
pub mod resize;
pub mod snapshot;
mod sync;
pub mod table;

pub use access::{Access, AccessKind, Escalation, Fault, Triage, denial};
pub use backing::BackingError;
pub use clone::CloneError;
pub use entry::{Hpte, Pteg, RevEntry, RevGroup, RevWord};
pub use error::HptError;
pub use explain::{Chains, Effect, EntryView, Explanation};
pub use fault::{Resolved, Translation, XlateError};
pub use hash::{avpn, pteg_hash, tlbie_rb};
pub use hcall::BULK_MAX;
pub use machine::{Machine, Quiesced};
pub use mmu::GuestMmu;
pub use page::{Page, PageState, PageView, Protection, Slot, SlotError, SlotKind, Slots, Target, Usage};
pub use reserve::{Block, LogBlock, LogEntry, Reserve, RevBlock};
pub use sync::BeAtomicU64;
pub use table::{Hpt, Mapping, Occupancy};

#[cfg(test)]
mod crowded;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
