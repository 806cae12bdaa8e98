//! The machine's memory: the map that the firmware describes, the frame allocator on it, the heap on top.
#![allow(unsafe_code)] // the allocators hand out raw memory; each block says why it is nobody else's

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use fdt::Fdt;
use frames::{FRAME, Frames, Range, Ranges, STRETCHES, Store, order_for};
use linked_list_allocator::Heap;
use paging::{Shares, Stretch};
use power::{HostReal, addr::LINEAR_BASE};
pub use realmode::memory::zero_page;
use realmode::memory::{STORE, ZERO_PAGE};
use spin::Once;

use crate::sync::{self, Guard, Lock, Rank};
use crate::{mmu, percpu};

/// Pieces that a memory map may have.
const PIECES: usize = 128;
/// The heap's size: many times what the tables of a few hundred partitions need.
const HEAP_SIZE: u64 = 16 * FRAME;

/// Where the image's parts are, as the linker script lays them out: addresses of the linear map.
pub mod image {
    unsafe extern "C" {
        static __text_end: u8;
        static __rodata_end: u8;
        static __bss_end: u8;
        static __boot_ring: u8;
        static __stack_bottom: u8;
        static __realmode_stack_bottom: u8;
        static __realmode_stack_top: u8;
        static __emergency_stack_top: u8;
        static __image_end: u8;
    }

    macro_rules! symbols {
        ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
            $($(#[$doc])* pub fn $name() -> u64 { (&raw const $symbol) as u64 })*
        };
    }

    symbols! {
        /// End of the text, which starts at the linear map's base.
        text_end = __text_end;
        /// End of the read-only data.
        rodata_end = __rodata_end;
        /// End of the static data; what comes then is the boot CPU's ring and stacks.
        data_end = __bss_end;
        /// The boot CPU's ring of trace events: a frame of memory that is not cleared at the start.
        boot_ring = __boot_ring;
        /// Lowest address of the virtual-mode stack; the frame below is never mapped.
        stack_bottom = __stack_bottom;
        /// Lowest address of the real-mode stack; the frame below is never mapped.
        realmode_stack_bottom = __realmode_stack_bottom;
        /// Its top.
        realmode_stack_top = __realmode_stack_top;
        /// Top of the stack that epitaphs are written on.
        emergency_stack_top = __emergency_stack_top;
        /// End of it all.
        end = __image_end;
    }
}

/// What the device tree says of memory.
pub struct Map {
    /// Usable memory: neither the firmware's, nor the boot archive, nor the image.
    pub usable: Ranges<PIECES>,
    /// All memory of the machine.
    pub all: Ranges<PIECES>,
    /// The boot archive.
    pub archive: Option<Range>,
}

impl Map {
    /// Reads memory nodes, the reserve map, `/reserved-memory`, and where the boot archive is.
    pub fn from_tree(tree: &Fdt<'_>, tree_at: Range) -> Result<Map, &'static str> {
        let mut all = Ranges::default();
        for node in tree.all_nodes() {
            let memory = node.property("device_type").is_some_and(|p| p.as_str() == Some("memory"));
            for region in memory.then(|| node.reg()).flatten().into_iter().flatten() {
                let range = Range::sized(region.starting_address as u64, region.size.unwrap_or(0) as u64);
                all.add(range).map_err(|_| "the memory map has too many pieces")?;
            }
        }
        let mut usable = all.clone();
        let mut reserve =
            |range: Range| usable.remove(range).map_err(|_| "the reserve map has too many pieces");
        for entry in tree.memory_reservations() {
            reserve(Range::sized(entry.address() as u64, entry.size() as u64))?;
        }
        for node in tree.find_node("/reserved-memory").iter().flat_map(|n| n.children()) {
            for region in node.reg().into_iter().flatten() {
                reserve(Range::sized(region.starting_address as u64, region.size.unwrap_or(0) as u64))?;
            }
        }
        let archive = archive(tree);
        let inside =
            |range: &Range| all.as_slice().iter().any(|m| m.start <= range.start && range.end <= m.end);
        if !archive.iter().all(inside) {
            return Err("boot archive: it is said to be where there is no memory");
        }
        for range in
            archive.into_iter().chain([tree_at, Range { start: 0, end: HostReal::of_ea(image::end()).0 }])
        {
            reserve(Range { start: range.start & !(FRAME - 1), end: range.end.next_multiple_of(FRAME) })?;
        }
        Ok(Map { usable, all, archive })
    }
}

impl Map {
    /// Takes memory out of the first segment, where the linear map has small pages; aligned to a frame.
    pub fn take_low(&mut self, bytes: u64) -> Option<HostReal> {
        let mut low = self.usable.clone();
        low.remove(Range { start: mmu::SEGMENT, end: u64::MAX }).ok()?;
        let at = low.find_high(bytes, FRAME)?;
        self.usable.remove(Range::sized(at, bytes)).ok()?;
        Some(HostReal(at))
    }
}

/// Where the boot archive is: by the command line, `archive=START+BYTES` in hexadecimal with 0x, or else the firmware's initrd, for
/// which QEMU has 128 MiB.
fn archive(tree: &Fdt<'_>) -> Option<Range> {
    let chosen = tree.find_node("/chosen")?;
    let bootargs = chosen.property("bootargs").and_then(|property| property.as_str()).unwrap_or("");
    let told = bootargs.split_whitespace().find_map(|word| word.strip_prefix("archive="));
    if let Some((start, bytes)) = told.and_then(|told| told.split_once('+')) {
        let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        let start = number(start)?;
        return Some(Range { start, end: start.checked_add(number(bytes)?)? });
    }
    let at = |name| {
        let value = chosen.property(name)?.value;
        Some(value.iter().fold(0u64, |n, b| n << 8 | u64::from(*b)))
    };
    let range = Range { start: at("linux,initrd-start")?, end: at("linux,initrd-end")? };
    (!range.is_empty()).then_some(range)
}

/// All free memory. Real mode takes frames from it as well.
fn store() -> Guard<'static, Store<'static>> {
    sync::lock(Rank::Frames, &STORE)
}

static TOTAL: AtomicU64 = AtomicU64::new(0);

/// Where all memory is below.
static END: AtomicU64 = AtomicU64::new(0);

/// The first real address above all memory.
pub fn end() -> u64 {
    END.load(Ordering::Relaxed)
}

/// What the allocator's own tables take, in bytes.
static TABLES: AtomicU64 = AtomicU64::new(0);

/// How many pages refer to each frame that several share: counts beside each allocator.
static SHARES: Once<[Stretch<'static>; STRETCHES]> = Once::new();

/// Starts the frame allocator on the usable memory.
pub fn init(map: &Map) -> Result<(), &'static str> {
    END.store(map.all.as_slice().iter().map(|range| range.end).fold(0, u64::max), Ordering::Relaxed);
    let mut store = store();
    let mut shared = [const { Stretch { base: HostReal(0), counts: &[] } }; STRETCHES];
    for (counted, stretch) in shared.iter_mut().zip(stretches(map)) {
        let mut usable = map.usable.clone();
        for outside in [Range { start: 0, end: stretch.start }, Range { start: stretch.end, end: u64::MAX }] {
            usable.remove(outside).map_err(|_| "the memory map has too many pieces")?;
        }
        let words = take(&mut usable, Frames::words_for(stretch) * 8)?;
        let base = stretch.start & !(FRAME - 1);
        let counts = (stretch.end.next_multiple_of(FRAME) - base) / FRAME;
        let at = take(&mut usable, counts as usize * size_of::<AtomicU32>())?;
        TABLES.fetch_add(words.1 + at.1, Ordering::Relaxed);
        // SAFETY: usable memory of the machine that was taken out of the map and is reached by nobody else. Zeroes are no references.
        let words = unsafe {
            zero(at.0, at.1);
            *counted = Stretch {
                base: HostReal(base),
                counts: core::slice::from_raw_parts(at.0.ea() as *const AtomicU32, counts as usize),
            };
            core::slice::from_raw_parts_mut(words.0.ea() as *mut u64, words.1 as usize / 8)
        };
        let mut frames = Frames::new(stretch, words).ok_or("the frame allocator's bitmaps are too small")?;
        usable.as_slice().iter().for_each(|r| frames.add(*r));
        TOTAL.fetch_add(frames.free() * FRAME, Ordering::Relaxed);
        store.add(frames);
    }
    store.set_reserve(bundle::MIN_RESERVE / FRAME);
    drop(store);
    SHARES.call_once(|| shared);
    let zeroes = allocate(FRAME).ok_or("no memory for the page of zeroes")?;
    // SAFETY: a new block of that size.
    unsafe { zero(zeroes, FRAME) };
    ZERO_PAGE.store(zeroes.0, Ordering::Relaxed);
    Ok(())
}

/// Takes whole frames for `bytes` out of the usable memory: where, and how much.
fn take(usable: &mut Ranges<PIECES>, bytes: usize) -> Result<(HostReal, u64), &'static str> {
    let bytes = (bytes as u64).next_multiple_of(FRAME);
    let at = usable.find_high(bytes, FRAME).ok_or("no room for the frame allocator's tables")?;
    usable.remove(Range::sized(at, bytes)).map_err(|_| "the memory map has too many pieces")?;
    Ok((HostReal(at), bytes))
}

/// How many pages refer to each shared frame.
pub fn shares() -> Shares<'static> {
    Shares::new(SHARES.get().map_or(&[], |stretches| &stretches[..]))
}

/// Memory that lies together, give or take a factor of two: what one allocator can cover without much waste.
fn stretches(map: &Map) -> impl Iterator<Item = Range> {
    let mut joined = Ranges::<STRETCHES>::default();
    for range in map.all.as_slice() {
        let near =
            joined.as_slice().last().filter(|last| range.end - last.start <= 2 * (last.len() + range.len()));
        let start = near.map_or(range.start, |last| last.start);
        // More stretches than there are places for: the rest of the machine's memory stays unused.
        let _ = joined.add(Range { start, end: range.end });
    }
    let mut n = 0;
    core::iter::from_fn(move || {
        n += 1;
        joined.as_slice().get(n - 1).copied()
    })
}

/// A block of at least `bytes`, a power of two of 64 KiB frames, aligned to its size. Its contents are undefined.
pub fn allocate(bytes: u64) -> Option<HostReal> {
    store().allocate(order_for(bytes)).map(HostReal)
}

/// Guests leave so many bytes to the hypervisor itself from now on.
pub fn set_reserve(bytes: u64) {
    store().set_reserve(bytes.div_ceil(FRAME));
}

/// What guests leave to the hypervisor, in bytes.
pub fn reserve() -> u64 {
    store().reserve() * FRAME
}

/// As [`allocate`], for a guest's memory: not the last that there is.
pub fn allocate_for_guest(bytes: u64) -> Option<HostReal> {
    store().allocate_for_guest(order_for(bytes)).map(HostReal)
}

/// Is there so much, in bytes, that guests may have? For what a guest's call takes in small objects, which come out of the reserve
/// otherwise.
pub fn is_spare(bytes: u64) -> bool {
    free() >= bytes.saturating_add(reserve())
}

/// Gives back what [`allocate`] gave for the same size.
pub fn release(block: HostReal, bytes: u64) {
    let done = store().release(block.0, order_for(bytes));
    assert!(done.is_ok(), "block {block:?} of {bytes} bytes was not allocated");
}

/// Free memory in bytes.
pub fn free() -> u64 {
    store().free() * FRAME
}

/// What the allocator and the heap started with, in bytes.
pub fn total() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

/// The image with its static data, in bytes.
pub fn image_bytes() -> u64 {
    HostReal::of_ea(image::data_end()).0
}

/// What the hypervisor had of the machine's memory before it defined its first partition, in bytes.
static BEFORE_GUESTS: AtomicU64 = AtomicU64::new(0);

/// Notes what the hypervisor has of the machine's memory by now, as [`before_guests`].
pub fn note_before_guests() {
    let image = HostReal::of_ea(image::end()).0;
    let own = image + percpu::area_bytes() + TABLES.load(Ordering::Relaxed) + total() - free();
    BEFORE_GUESTS.store(own, Ordering::Relaxed);
}

/// What the hypervisor had of the machine's memory before it defined its first partition, in bytes: image and stacks, the areas of the
/// other CPUs, the tables and the heap.
pub fn before_guests() -> u64 {
    BEFORE_GUESTS.load(Ordering::Relaxed)
}

/// What is allocated, in bytes: frames, but of the heap what is in use.
pub fn allocated() -> u64 {
    let (size, used) = heap();
    total() - free() - size + used
}

/// Fills memory with zeroes.
///
/// # Safety
/// `at..at + len` is memory of the caller's, both multiples of 128 bytes.
pub unsafe fn zero(at: HostReal, len: u64) {
    // SAFETY: the caller's; the layout of the cache block is that of all supported processors.
    unsafe { realmode::machine::zero_blocks(at, len) }
}

/// Small objects from a heap; large ones, which grow with the machine or with a partition, and what the heap has no room for, from
/// frames of their own.
struct KernelHeap(Lock<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(Lock::new(Rank::Heap, Heap::empty()));

/// From this size on an object has frames of its own.
const LARGE: usize = FRAME as usize / 2;

/// From this size on it is for a guest: it grows with its memory, and leaves the reserve alone. Whoever asks for so much can do without.
const HUGE: usize = 2 * FRAME as usize;

/// Starts the heap on memory of its own: in the first segment, which is always loaded, because each visit of a guest needs what is there.
pub fn init_heap(map: &mut Map) -> Result<(), &'static str> {
    let block = map.take_low(HEAP_SIZE).ok_or("no memory for the heap")?;
    TOTAL.fetch_add(HEAP_SIZE, Ordering::Relaxed);
    // SAFETY: the block was taken out of the map just now, is never released, and the heap had no memory before.
    unsafe { HEAP.0.lock().init(block.ea() as *mut u8, HEAP_SIZE as usize) };
    Ok(())
}

// SAFETY: all blocks come from and go back to one heap, or the frame store, each under its lock. A frame is aligned to its size,
// and to more than any object asks for.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() < LARGE
            && let Ok(block) = self.0.lock().allocate_first_fit(layout)
        {
            return block.as_ptr();
        }
        let bytes = layout.size() as u64;
        let block = if layout.size() < HUGE { allocate(bytes) } else { allocate_for_guest(bytes) };
        block.map_or(null_mut(), |block| block.ea() as *mut u8)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mut heap = self.0.lock();
        let ours = (heap.bottom()..heap.top()).contains(&block);
        match NonNull::new(block).filter(|_| ours) {
            // SAFETY: the caller's: `alloc` gave it for the same layout, and from the heap.
            Some(block) => unsafe { heap.deallocate(block, layout) },
            None => {
                drop(heap);
                release(HostReal::of_ea(block as u64), layout.size() as u64);
            }
        }
    }
}

/// The size of the heap, and how much of it is in use; in bytes.
pub fn heap() -> (u64, u64) {
    let heap = HEAP.0.lock();
    (heap.size() as u64, heap.used() as u64)
}

/// What lies at an address, for an epitaph.
pub fn describe(ea: u64) -> &'static str {
    let guard = |bottom: u64| (bottom - FRAME..bottom).contains(&ea);
    match ea {
        0..0x1_0000 => "page zero: a null pointer",
        _ if guard(image::stack_bottom()) => "the guard page below the stack: a stack overflow",
        _ if guard(image::realmode_stack_bottom()) => {
            "the guard page below the real-mode stack: a stack overflow"
        }
        _ if percpu::is_guard(ea) => "a guard page below a CPU's stack: a stack overflow",
        _ if (LINEAR_BASE..image::text_end()).contains(&ea) => "the hypervisor's text: read-only",
        _ if (image::text_end()..image::rodata_end()).contains(&ea) => "the hypervisor's read-only data",
        _ if (image::rodata_end()..image::end()).contains(&ea) => "the hypervisor's data",
        _ if ea >> 60 == 0xc => "the linear map",
        _ if ea >> 60 == 0xd => "the device windows",
        _ => "not mapped",
    }
}
