//! The table: its two layouts, the search for an entry, and the hypervisor's own bolted entries
//! (Power ISA 3.0C, book III, 5.7.9).

use power::hpte::{encode_page_sizes, page_sizes};
use power::slb::{SegmentSize, SlbV};
use power::{Ea, HostReal, HpteFormat, HpteR, HpteV, PageSize, PteIndex};

use crate::entry::{GROUP, Hpte, IN_USE, LOCK, Pteg, RevEntry, RevGroup, RevWord};
use crate::error::HptError;
use crate::hash::{avpn, pteg_hash};
use crate::reserve::{LogBlock, Reserve, RevBlock};
use crate::sync::{Ordering, raw};

/// A hashed page table with what belongs to it. Its memory starts all zero.
#[derive(Clone, Copy, Debug)]
pub struct Hpt<'a> {
    groups: &'a [Pteg],
    rev: &'a [RevWord],
    reserve: Option<&'a Reserve>,
    mask: u64,
    format: HpteFormat,
    bits: FormatBits,
}

/// What a layout has where, for those in a hurry: as [`HpteFormat`], without a branch.
#[derive(Clone, Copy, Debug)]
struct FormatBits {
    /// What dword 0 keeps of its 2.07 form.
    v: u64,
    /// Where B is in dword 1; none in the 2.07 layout.
    b: u64,
    /// See [`Hpt::unusable_v`].
    unusable_v: u64,
}

impl FormatBits {
    const fn of(format: HpteFormat) -> FormatBits {
        const RESERVED_B: u64 = 1 << 63;
        let (v, b) = format.to_memory(HpteV(!0), HpteR(0));
        FormatBits { v, b, unusable_v: RESERVED_B | !v & !HpteV::B }
    }
}

/// An entry in its place.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) index: PteIndex,
    pub(crate) hpte: &'a Hpte,
    pub(crate) rev: &'a RevEntry,
}

/// What a search came to.
pub(crate) enum Search<'a> {
    /// The entry, locked, and its raw dword 0 without the lock.
    Found(Entry<'a>, u64),
    /// There is none.
    None,
    /// An entry stays locked.
    Busy,
}

/// Where the 3.0 layout has B in dword 1.
const B_SHIFT: u32 = 58;

/// How full a table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Occupancy {
    /// Entries that the hardware sees.
    pub valid: usize,
    /// Entries that only the guest sees.
    pub absent: usize,
    /// Of both, those with the guest's BOLTED bit.
    pub bolted: usize,
    /// Of both, those that the secondary hash finds.
    pub secondary: usize,
}

impl<'a> Hpt<'a> {
    /// A table over this memory; `None` unless the number of groups is a power of two, the same in both slices,
    /// and at most 2^27. The hardware wants 2^11 groups at least, and the table aligned to its size.
    pub fn new(
        groups: &'a [Pteg],
        rev: &'a [RevWord],
        reserve: &'a Reserve,
        format: HpteFormat,
    ) -> Option<Hpt<'a>> {
        let fits = rev.len() == groups.len();
        let bare = Hpt::without_reverse_map(groups, format)?;
        fits.then_some(Hpt { rev, reserve: Some(reserve), ..bare })
    }

    /// The hypervisor's own table, whose entries are never looked up by a guest: no reverse map.
    pub fn without_reverse_map(groups: &'a [Pteg], format: HpteFormat) -> Option<Hpt<'a>> {
        let n = groups.len();
        let fits = n.is_power_of_two() && n <= 1 << 27;
        let mask = (n as u64).wrapping_sub(1);
        fits.then_some(Hpt { groups, rev: &[], reserve: None, mask, format, bits: FormatBits::of(format) })
    }

    /// How entries lie in memory.
    pub const fn format(&self) -> HpteFormat {
        self.format
    }

    /// The number of entries.
    pub const fn len(&self) -> u64 {
        (self.groups.len() * GROUP) as u64
    }

    /// Has it no entries? It always has.
    pub const fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Are only a few groups left to give to the reverse map? Then operations may soon be `TooHard`, until [`Hpt::add_groups`].
    pub fn needs_groups(&self) -> bool {
        self.reserve.is_some_and(Reserve::needs_groups)
    }

    /// More memory for the reverse map. The block has not been handed over before.
    pub fn add_groups(&self, block: &'static RevBlock) {
        if let Some(reserve) = self.reserve {
            reserve.add_groups(block);
        }
    }

    /// Gives all memory of the reverse map and of the log back to whom it is from. The table is as [`crate::GuestMmu::clear`] leaves it, and
    /// nobody uses it. A block that is handed over again is zeroed before.
    pub fn give_back(&self) {
        if let Some(reserve) = self.reserve {
            reserve.groups.give_back();
            reserve.log.give_back();
        }
    }

    /// Is the table frozen, and only little left of the memory for its log? Then operations may soon be `TooHard`, until [`Hpt::add_log`].
    pub fn needs_log(&self) -> bool {
        self.reserve.is_some_and(Reserve::needs_log)
    }

    /// More memory for the log. The block has not been handed over before.
    pub fn add_log(&self, block: &'static LogBlock) {
        if let Some(reserve) = self.reserve {
            reserve.add_log(block);
        }
    }

    /// How many groups have a part in the reverse map: what a clone needs.
    pub fn groups_used(&self) -> usize {
        self.reserve.map_or(0, |reserve| reserve.groups.taken() as usize)
    }

    /// How many groups have changed since the table was frozen.
    pub fn logged(&self) -> usize {
        self.reserve.map_or(0, |reserve| reserve.log.taken() as usize)
    }

    pub(crate) fn reserve(&self) -> Option<&'a Reserve> {
        self.reserve
    }

    /// A group, and its word of the reverse map.
    #[inline(always)]
    #[allow(unsafe_code)] // one bound for two slices of one length
    pub(crate) fn group(&self, index: PteIndex) -> Option<(&'a Pteg, &'a RevWord)> {
        let group = usize::try_from(index.0 >> 3).ok()?;
        let word = self.rev.get(group)?;
        // SAFETY: `new` has seen that there are as many groups as words of the reverse map; without one there is no word.
        Some((unsafe { self.groups.get_unchecked(group) }, word))
    }

    /// An entry, and the word of the reverse map of its group.
    #[inline(always)]
    #[allow(unsafe_code)] // groups as the one run of entries that they are
    fn hpte(&self, index: PteIndex) -> Option<(&'a Hpte, &'a RevWord)> {
        let index = usize::try_from(index.0).ok()?;
        let word = self.rev.get(index / GROUP)?;
        // SAFETY: as above; a group is `GROUP` entries and nothing else.
        Some((unsafe { &*self.groups.as_ptr().cast::<Hpte>().add(index) }, word))
    }

    /// An entry: `Parameter` if there is no such index, `NotFound` if its group has never had one.
    #[inline(always)]
    pub(crate) fn entry(&self, index: PteIndex) -> Result<Entry<'a>, HptError> {
        let (hpte, word) = self.hpte(index).ok_or(HptError::Parameter)?;
        in_group(hpte, word.0.get().ok_or(HptError::NotFound)?, index)
    }

    /// An entry whose group may be changed at once.
    #[inline(always)]
    pub(crate) fn open_entry(&self, index: PteIndex) -> Result<Entry<'a>, HptError> {
        let (hpte, word) = self.hpte(index).ok_or(HptError::Parameter)?;
        in_group(hpte, word.0.flagged().ok_or(HptError::TooHard)?, index)
    }

    /// An entry of which the guest is to see something else: as [`Hpt::entry`], or `TooHard`.
    #[inline(always)]
    pub(crate) fn entry_to_change(&self, index: PteIndex) -> Result<Entry<'a>, HptError> {
        let (hpte, word) = self.hpte(index).ok_or(HptError::Parameter)?;
        let revs = match word.0.flagged() {
            Some(revs) => revs,
            None => self.thaw(index)?,
        };
        in_group(hpte, revs, index)
    }

    /// The group of an entry that is to be changed and does not say that it may be.
    #[cold]
    #[inline(never)]
    fn thaw(&self, index: PteIndex) -> Result<&'static RevGroup, HptError> {
        self.entry(index)?;
        self.open(index)
    }

    /// The entry's [`RevEntry`].
    #[inline(always)]
    pub(crate) fn rev(&self, index: u32) -> Option<&'a RevEntry> {
        self.rev.get((index >> 3) as usize)?.0.get()?.0.get((index & 7) as usize)
    }

    /// Both dwords of an entry in the 2.07 layout, dword 0 without the lock.
    #[inline(always)]
    pub(crate) fn decode(&self, hpte: &Hpte) -> (HpteV, HpteR) {
        let (v, r) = (hpte.v.load(Ordering::Relaxed), hpte.r.load(Ordering::Relaxed));
        let b = (r & self.bits.b) << (62 - B_SHIFT);
        (HpteV(v & self.bits.v & !HpteV::HVLOCK | b), HpteR(r & !self.bits.b))
    }

    /// Dword 1 for memory.
    #[inline(always)]
    pub(crate) fn memory_r(&self, v: HpteV, r: u64) -> u64 {
        r | (v.0 >> (62 - B_SHIFT) & self.bits.b)
    }

    /// Dword 0 for memory.
    #[inline(always)]
    pub(crate) fn memory_v(&self, v: HpteV) -> u64 {
        v.0 & self.bits.v
    }

    /// Bits of dword 0 that this layout cannot hold or that no entry may have: the reserved bit of B, and an AVPN beyond
    /// the 68 bits of virtual address that the 3.0 layout has.
    #[inline]
    pub(crate) const fn unusable_v(&self) -> u64 {
        self.bits.unusable_v
    }

    /// Finds and locks the entry that translates an address. `wanted` is a raw mask of VALID and ABSENT: which entries count.
    #[inline(always)]
    pub(crate) fn search(&self, slb: SlbV, ea: Ea, wanted: u64) -> Search<'a> {
        let Some(base) = slb.base_page() else { return Search::None };
        let segment = slb.segment();
        let offset = slb.offset(ea);
        let key = avpn(slb.vsid(), segment, base, offset);
        if key.any(self.unusable_v()) {
            return Search::None;
        }
        let hash = pteg_hash(slb.vsid(), segment, base, offset);
        let mask = self.memory_v(HpteV(HpteV::B | HpteV::AVPN | HpteV::H));
        let mut pteg = hash & self.mask;
        let mut want = self.memory_v(key);
        loop {
            let Some((group, word)) = self.group(PteIndex(pteg << 3)) else { return Search::None };
            // A group without a part in the reverse map has never had an entry.
            if let Some(revs) = word.0.get() {
                for (slot, (hpte, rev)) in group.0.iter().zip(&revs.0).enumerate() {
                    let seen = hpte.v.load(Ordering::Relaxed);
                    if (seen ^ want) & mask != 0 || raw(seen) & wanted == 0 {
                        continue;
                    }
                    let Some(raw_v) = hpte.lock() else { return Search::Busy };
                    let (v, r) = self.decode(hpte);
                    let same = (v.0 ^ want) & mask | (v.0 ^ key.0) & HpteV::B == 0 && raw_v & wanted != 0;
                    if same && page_sizes(v, r).is_some_and(|(b, _)| b as u8 == base as u8) {
                        let index = PteIndex((pteg << 3) | slot as u64);
                        return Search::Found(Entry { index, hpte, rev }, raw_v);
                    }
                    hpte.unlock(raw_v);
                }
            }
            if want & HpteV::H != 0 {
                return Search::None;
            }
            want |= HpteV::H;
            pteg = !hash & self.mask;
        }
    }

    /// Claims a free entry of a group that can be had at once, this one or (unless that is `exact`) one behind it: locked, with a raw dword 0 of 0 to
    /// come back to.
    #[inline(always)]
    pub(crate) fn claim_at_once(&self, group: &Pteg, mut slot: usize, exact: bool) -> Option<usize> {
        const BUSY: u64 = IN_USE | LOCK;
        loop {
            let hpte = group.0.get(slot)?;
            if hpte.v.load_raw(Ordering::Relaxed) & BUSY == 0 && hpte.try_lock_unless(BUSY).is_some() {
                return Some(slot);
            }
            if exact {
                return None;
            }
            slot += 1;
        }
    }

    /// Claims a free entry of a group. `Err(true)` when there is none, `Err(false)` when an entry stays locked.
    pub(crate) fn claim(&self, group: &Pteg) -> Result<usize, bool> {
        if let Some(slot) = self.claim_at_once(group, 0, false) {
            return Ok(slot);
        }
        // Some looked locked.
        for (slot, hpte) in group.0.iter().enumerate() {
            if hpte.v.load_raw(Ordering::Relaxed) & IN_USE != 0 {
                continue;
            }
            let v = hpte.lock().ok_or(false)?;
            if v & IN_USE == 0 {
                return Ok(slot);
            }
            hpte.unlock(v);
        }
        Err(true)
    }

    /// Counts entries, without locking: entries that change meanwhile count as either.
    pub fn occupancy(&self) -> Occupancy {
        let mut sum = Occupancy::default();
        for hpte in self.groups.iter().flat_map(|g| &g.0) {
            let v = HpteV(hpte.v.load(Ordering::Relaxed));
            if !v.any(HpteV::V | HpteV::ABSENT) {
                continue;
            }
            if v.any(HpteV::V) {
                sum.valid += 1;
            } else {
                sum.absent += 1;
            }
            sum.bolted += usize::from(v.any(HpteV::BOLTED));
            sum.secondary += usize::from(v.any(HpteV::H));
        }
        sum
    }

    /// The groups that have a part in the reverse map, in order, with their number: all that have entries. Where there are none for a while, that
    /// costs two instructions for each.
    pub(crate) fn groups_with_entries(&self) -> impl Iterator<Item = (usize, &'a Pteg, &'static RevGroup)> {
        const RUN: usize = 16;
        let runs = self.groups.chunks(RUN).zip(self.rev.chunks(RUN)).enumerate();
        let used = runs.filter(|(_, (_, words))| words.iter().fold(0, |any, word| any | word.0.bits()) != 0);
        used.flat_map(|(run, (groups, words))| {
            let each = groups.iter().zip(words).enumerate();
            each.filter_map(move |(n, (group, word))| Some((run * RUN + n, group, word.0.get()?)))
        })
    }

    /// A group, with its word of the reverse map.
    pub(crate) fn at(&self, n: usize) -> Option<(&'a Pteg, &'a RevWord)> {
        Some((self.groups.get(n)?, self.rev.get(n)?))
    }

    /// The words of the reverse map.
    pub(crate) fn words(&self) -> &'a [RevWord] {
        self.rev
    }

    /// Writes a valid bolted entry of the hypervisor's own; `None` when there is no room or the mapping makes no sense.
    /// `flags` are dword 1's bits other than RPN: PP, key, R, C, WIMG and N.
    pub fn insert_bolted(&self, mapping: &Mapping) -> Option<PteIndex> {
        let (l, lp) = encode_page_sizes(mapping.base, mapping.actual)?;
        let in_segment = mapping.offset >> mapping.segment.shift() == 0;
        let v = avpn(mapping.vsid, mapping.segment, mapping.base, mapping.offset);
        if !in_segment
            || v.any(self.unusable_v())
            || mapping.host.0 & (mapping.actual.bytes() - 1) != 0
            || mapping.host.0 & !HpteR::RPN != 0
            || mapping.flags & HpteR::RPN != 0
        {
            return None;
        }
        let v = HpteV(v.0 | l | HpteV::BOLTED | HpteV::V);
        let r = mapping.host.0 | lp | mapping.flags;
        let hash = pteg_hash(mapping.vsid, mapping.segment, mapping.base, mapping.offset);
        for (pteg, v) in [(hash & self.mask, v), (!hash & self.mask, HpteV(v.0 | HpteV::H))] {
            let group = self.groups.get(pteg as usize)?;
            if let Ok(slot) = self.claim(group) {
                let hpte = group.0.get(slot)?;
                hpte.r.store(self.memory_r(v, r), Ordering::Relaxed);
                hpte.unlock_value(self.memory_v(v));
                return Some(PteIndex((pteg << 3) | slot as u64));
            }
        }
        None
    }

    /// An entry in the 2.07 layout as the hardware has it, for dumps: not locked, so a change under way may show.
    pub fn peek(&self, index: PteIndex) -> Option<(HpteV, HpteR)> {
        let hpte = self.groups.get(usize::try_from(index.0 >> 3).ok()?)?.0.get((index.0 & 7) as usize)?;
        let v = hpte.v.load(Ordering::Acquire);
        Some(self.format.from_memory(v, hpte.r.load(Ordering::Relaxed)))
    }
}

/// A translation of the hypervisor's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The segment's VSID.
    pub vsid: u64,
    /// The segment's size.
    pub segment: SegmentSize,
    /// Where in the segment.
    pub offset: u64,
    /// Base page size: the segment's.
    pub base: PageSize,
    /// Actual page size.
    pub actual: PageSize,
    /// The page's real address.
    pub host: HostReal,
    /// Dword 1's flags.
    pub flags: u64,
}

/// An entry with its part of the reverse map.
#[inline(always)]
fn in_group<'a>(hpte: &'a Hpte, revs: &'a RevGroup, index: PteIndex) -> Result<Entry<'a>, HptError> {
    match revs.0.get((index.0 & 7) as usize) {
        Some(rev) => Ok(Entry { index, hpte, rev }),
        None => Err(HptError::Parameter),
    }
}
