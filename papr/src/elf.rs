//! A guest's kernel image: what has to be copied where in its memory, and where everything else goes.
//!
//! Images are 64-bit PowerPC ELF of either endianness: `vmlinux` (virtual addresses from 0xc000000000000000, real ones
//! from 0), the self-unpacking `zImage.pseries` (64 MiB up), or a small program linked at its real address.
//! [`plan`] trusts nothing in the file. [`place`] finds room for RTAS, the device tree and the initrd (LoPAR,
//! "Boot Process": all within the real mode area, RTAS below 4 GiB).

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use elf::ElfBytes;
use elf::abi::{EI_CLASS, ELFCLASS32, EM_PPC64, ET_DYN, ET_EXEC, PT_LOAD};
use elf::endian::{AnyEndian, EndianParse};
use elf::parse::ParseError;
use power::GuestReal;

use crate::size::Size;

/// In real mode the top four bits of an address do not count (Power ISA 3.0C, book III, 5.7.3): an image may have its
/// linear map's addresses where real ones belong.
const REAL: u64 = !(0xf << 60);

/// A piece of the image: `file` bytes go to `at`, zeroes behind them up to `bytes`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it is in the file; inside the file.
    pub file: Range<usize>,
    /// Where it goes; inside memory.
    pub at: GuestReal,
    /// How much memory it takes, at least as much as in the file.
    pub bytes: u64,
}

impl Segment {
    /// Where it ends.
    pub fn end(&self) -> GuestReal {
        GuestReal(self.at.0 + self.bytes)
    }
}

/// How to load an image. The segments are in ascending order and do not overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadPlan {
    /// At least one.
    pub segments: Vec<Segment>,
    /// The first instruction.
    pub entry: GuestReal,
    /// The image's own endianness. It is entered big endian all the same.
    pub little_endian: bool,
}

impl LoadPlan {
    /// Where the image begins.
    pub fn start(&self) -> GuestReal {
        self.segments.first().map_or(GuestReal(0), |s| s.at)
    }

    /// Where it ends, with what it wants cleared.
    pub fn end(&self) -> GuestReal {
        self.segments.last().map_or(GuestReal(0), Segment::end)
    }
}

/// Why an image cannot be loaded. `index` is that of a program header.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the messages say it
pub enum ElfError {
    NotElf,
    Truncated { bytes: usize, needed: usize },
    Malformed,
    ThirtyTwoBit,
    Machine(u16),
    Type(u16),
    NoSegments,
    SegmentOutsideFile { index: usize, end: u64, file: usize },
    SegmentShrinks { index: usize, file: u64, memory: u64 },
    SegmentWraps { index: usize, at: u64, bytes: u64 },
    SegmentOutsideMemory { index: usize, end: u64, memory: u64 },
    SegmentsOverlap { at: u64 },
    Entry(u64),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ElfError::*;
        match *self {
            NotElf => write!(f, "not an ELF image"),
            Truncated { bytes, needed } => {
                write!(
                    f,
                    "the file is cut off: {} instead of at least {}",
                    Size(bytes as u64),
                    Size(needed as u64)
                )
            }
            Malformed => write!(f, "the ELF header contradicts itself"),
            ThirtyTwoBit => write!(f, "a 32-bit image, but partitions start in 64-bit mode"),
            Machine(found) => {
                write!(f, "an image for ELF machine {found}, not for 64-bit PowerPC ({EM_PPC64})")
            }
            Type(found) => write!(f, "ELF type {found}: neither an executable (2) nor a shared object (3)"),
            NoSegments => write!(f, "nothing to load: no PT_LOAD segment that takes memory"),
            SegmentOutsideFile { index, end, file } => {
                write!(f, "segment {index} ends {} into a file of {}", Size(end), Size(file as u64))
            }
            SegmentShrinks { index, file, memory } => {
                write!(f, "segment {index} is {} in the file but {} in memory", Size(file), Size(memory))
            }
            SegmentWraps { index, at, bytes } => {
                write!(
                    f,
                    "segment {index} of {} at {at:#x} runs past the end of the address space",
                    Size(bytes)
                )
            }
            SegmentOutsideMemory { index, end, memory } => {
                let (end, memory) = (Size(end), Size(memory));
                write!(f, "segment {index} ends at {end} in a partition with {memory} of memory there")
            }
            SegmentsOverlap { at } => write!(f, "two segments overlap at real address {at:#x}"),
            Entry(entry) => write!(f, "the entry point {entry:#x} is not an instruction of the image"),
        }
    }
}

impl core::error::Error for ElfError {}

impl From<ParseError> for ElfError {
    fn from(error: ParseError) -> ElfError {
        match error {
            ParseError::BadMagic(_) => ElfError::NotElf,
            ParseError::SliceReadError((_, needed)) => ElfError::Truncated { bytes: 0, needed },
            _ => ElfError::Malformed,
        }
    }
}

/// Check an image, and plan how it goes into `memory` bytes from real address 0.
///
/// The entry point is a virtual address, and the plan's the real one of the same byte. It is the address of an
/// instruction in both ABIs: kernels do not use the function descriptors of ELFv1 for it.
pub fn plan(image: &[u8], memory: u64) -> Result<LoadPlan, ElfError> {
    if image.get(..4) != Some(b"\x7fELF") {
        return Err(ElfError::NotElf);
    }
    // Before anything is read by the 64-bit layout.
    if image.get(EI_CLASS) == Some(&ELFCLASS32) {
        return Err(ElfError::ThirtyTwoBit);
    }
    let file = ElfBytes::<AnyEndian>::minimal_parse(image).map_err(|e| match e.into() {
        ElfError::Truncated { needed, .. } => ElfError::Truncated { bytes: image.len(), needed },
        other => other,
    })?;
    if file.ehdr.e_machine != EM_PPC64 {
        return Err(ElfError::Machine(file.ehdr.e_machine));
    }
    if !matches!(file.ehdr.e_type, ET_EXEC | ET_DYN) {
        return Err(ElfError::Type(file.ehdr.e_type));
    }
    let mut segments = Vec::new();
    let mut entry = None;
    for (index, ph) in file.segments().iter().flat_map(|table| table.iter()).enumerate() {
        if ph.p_type != PT_LOAD || ph.p_memsz == 0 {
            continue;
        }
        if ph.p_filesz > ph.p_memsz {
            return Err(ElfError::SegmentShrinks { index, file: ph.p_filesz, memory: ph.p_memsz });
        }
        let end = ph.p_offset.saturating_add(ph.p_filesz);
        if end > image.len() as u64 {
            return Err(ElfError::SegmentOutsideFile { index, end, file: image.len() });
        }
        let at = ph.p_paddr & REAL;
        let Some(top) = at.checked_add(ph.p_memsz).filter(|top| *top <= 1 << 60) else {
            return Err(ElfError::SegmentWraps { index, at: ph.p_paddr, bytes: ph.p_memsz });
        };
        if top > memory {
            return Err(ElfError::SegmentOutsideMemory { index, end: top, memory });
        }
        let into = file.ehdr.e_entry.wrapping_sub(ph.p_vaddr);
        if into < ph.p_filesz && (at + into).is_multiple_of(4) && entry.is_none() {
            entry = Some(GuestReal(at + into));
        }
        segments.push(Segment {
            file: ph.p_offset as usize..end as usize,
            at: GuestReal(at),
            bytes: ph.p_memsz,
        });
    }
    if segments.is_empty() {
        return Err(ElfError::NoSegments);
    }
    segments.sort_by_key(|s| s.at);
    for pair in segments.windows(2) {
        if let [a, b] = pair
            && b.at < a.end()
        {
            return Err(ElfError::SegmentsOverlap { at: b.at.0 });
        }
    }
    let entry = entry.ok_or(ElfError::Entry(file.ehdr.e_entry))?;
    Ok(LoadPlan { segments, entry, little_endian: file.ehdr.endianness.is_little() })
}

/// How much memory RTAS gets: [`crate::rtas::BLOB`] is much shorter.
pub const RTAS_BYTES: u64 = 0x1000;
/// What everything that [`place`] puts somewhere is aligned to: the largest ordinary page.
const ALIGN: u64 = 0x1_0000;
/// RTAS and the device tree lie below this: no guest can fail to reach them, in 32-bit mode or early at boot.
const LOW: u64 = 1 << 30;
/// An image that begins this high unpacks another one below it, and keeps its heap above.
const WRAPPER: u64 = 16 << 20;
/// Room for that heap.
const WRAPPER_HEAP: u64 = 32 << 20;

/// Where things are in a partition's memory. Nothing overlaps, nor does the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// For [`crate::rtas::BLOB`].
    pub rtas: GuestReal,
    /// For the device tree.
    pub tree: GuestReal,
    /// For the initrd; empty if there is none.
    pub initrd: Range<u64>,
}

/// What does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the messages say it
pub enum PlaceError {
    Firmware { memory: u64, kernel_end: u64 },
    Initrd { bytes: u64, room: u64 },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PlaceError::Firmware { memory, kernel_end } => write!(
                f,
                "no room for RTAS and the device tree: {} of memory, and the kernel needs the first {}",
                Size(memory),
                Size(kernel_end)
            ),
            PlaceError::Initrd { bytes, room } => {
                write!(f, "initrd of {} does not fit: there is room for {}", Size(bytes), Size(room))
            }
        }
    }
}

impl core::error::Error for PlaceError {}

/// Find room for everything but the kernel in the partition's first block of `memory` bytes: from the top (but below
/// 1 GiB) down RTAS, the device tree and the initrd, so that all between the kernel and them is free in one piece.
/// An initrd that does not fit there may go above.
pub fn place(
    kernel: &LoadPlan,
    memory: u64,
    tree_bytes: u64,
    initrd_bytes: u64,
) -> Result<Layout, PlaceError> {
    let down = |from: u64, bytes: u64| from.checked_sub(bytes).map(|at| at & !(ALIGN - 1));
    let heap = if kernel.start().0 >= WRAPPER { WRAPPER_HEAP } else { 0 };
    let kernel_end = kernel.end().0.saturating_add(heap);
    let floor = kernel_end.checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX);
    let nowhere = PlaceError::Firmware { memory, kernel_end };

    let rtas = down(memory.min(LOW), RTAS_BYTES).ok_or(nowhere)?;
    let tree = down(rtas, tree_bytes).filter(|at| *at >= floor).ok_or(nowhere)?;
    let room_below = tree - floor;
    let room_above = memory.saturating_sub(floor.max(LOW));
    let initrd = match initrd_bytes {
        0 => 0,
        n if n <= room_below => (tree - n) & !(ALIGN - 1),
        n if n <= room_above => floor.max(LOW),
        bytes => return Err(PlaceError::Initrd { bytes, room: room_below.max(room_above) }),
    };
    Ok(Layout { rtas: GuestReal(rtas), tree: GuestReal(tree), initrd: initrd..initrd + initrd_bytes })
}

#[cfg(test)]
mod tests;
