//! XIVE, the interrupt controller of POWER9 and later, in the mode in which the hypervisor uses it itself (skiboot, doc/xive.rst): a
//! source's event goes to a queue in memory that belongs to a CPU and a priority, and the CPU's thread area says that there is something.
#![allow(unsafe_code)] // device registers and the queues, which the interrupt controller writes

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use fdt::Fdt;
use power::HostReal;
use realmode::host::{self, CPUS};
use spin::Once;
use volatile::VolatileRef;

use crate::opal::{self, Error};
use crate::sync::{Lock, Rank};
use crate::{cpus, mmu};

/// Registers of the physical hypervisor ring (QW3) in the thread interrupt management area, whose second range is the hypervisor's view.
/// The area shows each CPU its own. NSR says in its upper two bits whether the CPU is interrupted.
const NSR: u64 = 0x30;
const CPPR: u64 = 0x31;
/// A load of 16 bits: NSR and CPPR; the interrupt is taken, and CPPR lets nothing through that is not more favoured.
const ACKNOWLEDGE: u64 = 0x830;
/// CPPR that lets everything through. 0 lets nothing.
const OPEN: u8 = 0xff;
/// NSR bits 0:1 (HE), in the first byte of what [`ACKNOWLEDGE`] loads, too.
const SOMETHING: u8 = 3 << 6;

/// The priority of all sources.
const PRIORITY: u8 = 6;
/// The length of a queue, as the firmware wants it: log 2 of its bytes.
const QUEUE_SHIFT: u32 = 12;
const ENTRIES: u32 = 1 << QUEUE_SHIFT >> 2;
/// An entry's bit 0: the queue's generation. It changes each time around.
const GENERATION: u32 = 1 << 31;

/// Offsets in a source's page of state; loads and stores of 64 bits.
const STORE_END: u64 = 0x400;
const LOAD_END: u64 = 0;
const ENABLE: u64 = 0xc00;
const DISABLE: u64 = 0xd00;
/// What [`ENABLE`] loads: another event has come since the last one.
const AGAIN: u64 = 1;

/// How many interrupts a CPU serves before it sees to other things.
const AT_ONCE: usize = 32;

/// Where the thread area is mapped; 0 if there is none.
static AREA: AtomicU64 = AtomicU64::new(0);

/// What came of taking the controller over from the firmware. That is left until there is a source to serve: it takes long.
static TAKEN: Once<Result<(), Error>> = Once::new();

/// A CPU's queue: where it is, and how many entries have been read.
struct Queue {
    at: AtomicU64,
    read: AtomicU32,
}

/// By CPU number.
static QUEUES: Once<Vec<Queue>> = Once::new();

fn queue(cpu: usize) -> &'static Queue {
    let none = || Queue { at: AtomicU64::new(0), read: AtomicU32::new(0) };
    &QUEUES.call_once(|| (0..cpus::count()).map(|_| none()).collect())[cpu]
}

/// Finds the thread area.
pub fn find(tree: &Fdt<'_>) -> bool {
    let range = tree.find_compatible(&["ibm,opal-xive-pe"]).and_then(|node| node.reg()?.nth(1));
    let Some(ea) = range.and_then(|r| mmu::map_device(HostReal(r.starting_address as u64), 0x1000)) else {
        return false;
    };
    AREA.store(ea, Ordering::Relaxed);
    true
}

/// Takes the controller over from the firmware. From then on nothing interrupts but what is registered.
fn take_over() -> Result<(), Error> {
    *TAKEN.call_once(opal::xive_reset)
}

/// Is it used?
pub fn is_there() -> bool {
    AREA.load(Ordering::Relaxed) != 0
}

/// Keeps from this CPU what the firmware may have left enabled, until the CPU has a queue.
pub fn close() {
    let area = AREA.load(Ordering::Relaxed);
    if area != 0 {
        write(area + CPPR, 0u8);
    }
}

/// Is this CPU interrupted?
pub fn is_pending() -> bool {
    let area = AREA.load(Ordering::Relaxed);
    area != 0 && read::<u8>(area + NSR) & SOMETHING != 0
}

/// Serves this CPU's queue.
pub fn serve(own: usize, handle: impl Fn(u32)) {
    let area = AREA.load(Ordering::Relaxed);
    let queue = queue(own);
    if queue.at.load(Ordering::Acquire) == 0 {
        return;
    }
    // What it says besides is known: there is one priority.
    let _ = read::<u16>(area + ACKNOWLEDGE);
    let mut left = AT_ONCE;
    while let Some(source) = queue.next() {
        handle(source);
        left -= 1;
        if left == 0 {
            // Soon again: it will not be told anew of what is in the queue.
            host::look(own, own);
            break;
        }
    }
    write(area + CPPR, OPEN);
}

impl Queue {
    fn next(&self) -> Option<u32> {
        let count = self.read.load(Ordering::Relaxed);
        let at = self.at.load(Ordering::Relaxed) + u64::from(count % ENTRIES) * 4;
        let entry = u32::from_be(read::<u32>(at));
        // The first time around it is 1, in memory that was zero.
        if (entry & GENERATION != 0) != (count / ENTRIES).is_multiple_of(2) {
            return None;
        }
        self.read.store(count.wrapping_add(1), Ordering::Relaxed);
        Some(entry & !GENERATION)
    }
}

/// A CPU has a queue from when the first source interrupts it, and opens its thread area when it looks there.
fn prepare(cpu: usize) -> Result<(), Error> {
    /// Who makes one. Several CPUs may be about to, and the firmware knows one of each CPU's.
    static MAKER: Lock<()> = Lock::new(Rank::Interrupts, ());
    let _alone = MAKER.lock();
    let queue = queue(cpu);
    if queue.at.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    // SAFETY: a power of two, and no more than fits.
    let layout = unsafe { Layout::from_size_align_unchecked(1 << QUEUE_SHIFT, 1 << QUEUE_SHIFT) };
    // SAFETY: the layout has a size. Nobody frees a queue that is in use: the controller writes it as long as the machine runs.
    let at = unsafe { alloc_zeroed(layout) };
    if at.is_null() {
        return Err(Error(opal::NO_MEMORY));
    }
    let pir = CPUS[cpu].pir.load(Ordering::Relaxed);
    if let Err(error) = opal::xive_set_queue(pir, PRIORITY, HostReal::of_ea(at as u64), QUEUE_SHIFT) {
        // SAFETY: it is from here, and the controller has not taken it.
        unsafe { dealloc(at, layout) };
        return Err(error);
    }
    queue.at.store(at as u64, Ordering::Release);
    host::look(crate::percpu::number(), cpu);
    Ok(())
}

/// A source's pages.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The one of its state.
    state: u64,
    /// The one where a store makes an event.
    trigger: u64,
    /// It is ended by a store.
    by_store: bool,
    /// Its events are levels.
    is_level: bool,
}

impl Source {
    /// Maps the pages of a source. It must be registered before it is used.
    pub fn find(source: u32) -> Result<Source, Error> {
        take_over()?;
        let info = opal::xive_irq_info(source)?;
        let map = |page: HostReal| mmu::map_device(page, 0x1000).ok_or(Error(opal::NO_MEMORY));
        let state = map(info.state)?;
        let trigger = match info.trigger.0 {
            0 => 0,
            at if at == info.state.0 => state,
            _ => map(info.trigger)?,
        };
        Ok(Source { state, trigger, by_store: info.by_store, is_level: info.is_level })
    }

    /// Has it interrupt a CPU.
    pub fn target(&self, source: u32, cpu: usize) -> Result<(), Error> {
        prepare(cpu)?;
        opal::xive_set_irq(source, CPUS[cpu].pir.load(Ordering::Relaxed), PRIORITY, source)?;
        let _ = read::<u64>(self.state + ENABLE);
        if self.is_level {
            // It may be up already.
            self.end();
        }
        Ok(())
    }

    /// Its events are levels.
    pub fn is_level(&self) -> bool {
        self.is_level
    }

    /// Holds it back.
    pub fn switch_off(&self, source: u32) -> Result<(), Error> {
        let _ = read::<u64>(self.state + DISABLE);
        opal::xive_set_irq(source, 0, opal::MASKED, source)
    }

    /// Ends its event, so that another one counts.
    pub fn end(&self) {
        if self.by_store {
            write(self.state + STORE_END, 0u64);
        } else if self.is_level {
            let _ = read::<u64>(self.state + LOAD_END);
        } else if u64::from_be(read::<u64>(self.state + ENABLE)) & AGAIN != 0 && self.trigger != 0 {
            write(self.trigger, 0u64);
        }
    }
}

/// Reads a register, big endian as it is.
fn read<T: Copy>(ea: u64) -> T {
    // SAFETY: a register in a mapped window of this module's, or an entry of a queue: any bits are good.
    unsafe { VolatileRef::new_read_only(NonNull::new_unchecked(ea as *mut T)) }.as_ptr().read()
}

fn write<T: Copy>(ea: u64, value: T) {
    // SAFETY: a register in a mapped window of this module's.
    let mut register = unsafe { VolatileRef::new(NonNull::new_unchecked(ea as *mut T)) };
    realmode::instructions::ptesync();
    register.as_mut_ptr().write(value);
}
