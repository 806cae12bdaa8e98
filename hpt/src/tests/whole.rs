//! What is done to a [`World`] as a whole: snapshots, clones, another table.

use std::collections::HashMap;

use power::{GuestReal, HostReal, PteIndex};

use super::world::{Entry, PageModel, RC, World};
use crate::*;

/// What a partition was when its table was frozen.
#[derive(Debug)]
pub struct Snapshot {
    entries: HashMap<u64, Entry>,
    pages: Vec<(PageView, PageModel)>,
    /// How many groups had a part in the reverse map.
    groups: usize,
}

impl World<'_> {
    fn page_real(&self, n: usize) -> GuestReal {
        GuestReal(n as u64 * self.unit)
    }

    /// Remembers how all is, instead of what was remembered before.
    pub fn take_snapshot(&mut self) {
        self.forget_snapshot();
        self.share_all();
        self.mmu.hpt().freeze_all();
        assert!(self.mmu.hpt().is_frozen());
        let pages = self.pages.iter().enumerate().map(|(n, page)| {
            if page.state != PageState::NotPopulated {
                self.m.memory.hold(HostReal(page.host));
            }
            (self.mmu.page_view(self.page_real(n)).unwrap(), page.clone())
        });
        let groups = self.mmu.hpt().groups_used();
        self.snapshot = Some(Snapshot { pages: pages.collect(), entries: self.entries.clone(), groups });
        self.saw("snapshot");
    }

    /// Makes all as it was, if anything is remembered.
    pub fn revert(&mut self) {
        let Some(snapshot) = self.snapshot.take() else { return };
        self.m.flush();
        self.m.take_tlbies();
        for (n, (view, saved)) in snapshot.pages.iter().enumerate() {
            let page = self.pages[n].clone();
            let now = PageView::new(page.state, page.protection, HostReal(page.host));
            if now == *view {
                continue;
            }
            self.saw("page brought back");
            assert_eq!(self.mmu.restore(&Quiesced(self.m), self.page_real(n), *view), Ok(now));
            if saved.state != PageState::NotPopulated {
                self.m.memory.hold(HostReal(saved.host));
            }
            if page.state != PageState::NotPopulated {
                self.release(page.host);
            }
            self.pages[n] = PageModel { used: page.used, claimed: page.claimed, ..saved.clone() };
        }
        if self.mmu.hpt().logged() != 0 {
            self.saw("revert");
        }
        self.mmu.revert();
        assert_eq!((self.mmu.hpt().logged(), self.m.take_tlbies()), (0, 0));
        assert_eq!(self.mmu.hpt().groups_used(), snapshot.groups, "the reverse map has grown");
        self.entries = snapshot.entries.clone();
        self.accept_usage();
        self.snapshot = Some(snapshot);
    }

    /// Forgets what was remembered.
    pub fn forget_snapshot(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.mmu.hpt().unfreeze_all();
            assert_eq!((self.mmu.hpt().logged(), self.mmu.hpt().is_frozen()), (0, false));
            for (_, page) in snapshot.pages {
                if page.state != PageState::NotPopulated {
                    self.release(page.host);
                }
            }
        }
    }

    /// Entries may have more of R and C than the model says, and nothing else.
    fn accept_usage(&mut self) {
        for (index, entry) in &mut self.entries {
            let (v, r) = self.mmu.read(PteIndex(*index)).unwrap();
            assert_eq!((v, r.0 & !RC), (entry.v, entry.r.0 & !RC), "{index:#x}");
            assert_eq!(entry.r.0 & RC & !r.0, 0, "R or C is lost");
            entry.r = r;
        }
    }

    /// Has nothing any more.
    pub fn vacate(&mut self) {
        self.clear();
        for n in 0..self.pages.len() {
            self.protect_page(n, Protection::ReadWrite);
            if self.pages[n].state != PageState::NotPopulated {
                self.discard(n);
            }
        }
    }

    /// Another partition becomes what this one is.
    pub fn clone_to(&mut self, other: &mut World<'_>) {
        other.vacate();
        self.m.flush();
        let memory = self.m.memory.clone();
        let mut told = Vec::new();
        loop {
            let done = self.mmu.clone_into(&other.mmu, &mut |host, was_shared| {
                memory.hold(host);
                told.push((host.0, was_shared));
            });
            match done {
                Ok(()) => break,
                Err(error) => assert_eq!((error, told.len()), (CloneError::NoGroups, 0)),
            }
            other.mmu.hpt().add_groups(Box::leak(Box::default()));
        }
        assert_eq!(told, self.become_shared());
        assert_eq!(self.mmu.hpt().groups_used(), other.mmu.hpt().groups_used());
        let fresh = |page: &PageModel| PageModel {
            protection: Protection::ReadWrite,
            used: 0,
            claimed: 0,
            ..page.clone()
        };
        other.pages = self.pages.iter().map(fresh).collect();
        other.entries = self.entries.clone();
        self.saw("clone");
        self.check();
        other.check();
        for n in 0..self.pages.len() {
            let usage = other.mmu.usage_now(self.page_real(n)).unwrap();
            assert_eq!(usage, Usage::default(), "a clone has done nothing yet");
        }
    }
}
