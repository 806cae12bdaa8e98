//! A partition: what it is made of, and how it starts, at first and after each reboot.
#![allow(unsafe_code)] // turns allocated blocks into the tables that live as long as the partition

pub mod dispatch;
pub mod identity;
pub mod life;
pub mod memory;
pub mod moves;
pub mod resize;
pub mod snapshot;
pub mod state;
pub mod table;
mod vcpu;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use ::trace::Stats;
use hpt::{Page, Slot, SlotKind, Slots};
use paging::Paging;
use papr::elf::{self, RTAS_BYTES};
use papr::rtas::{BLOB, PartitionClock};
use papr::tree::{self, FIRST_VTY, GuestConfig, VtyConfig};
use papr::vty::{Ring, Vty};
use papr::xics::{FIRST_SOURCE, Icp, Kick, Source, Xics};
use power::regs::{Lpcr, Msr};
use power::slb::SlbV;
use power::{CpuFeatures, GuestReal, Lpid, PageSize, spr};
use realmode::host as cpus;
use realmode::instructions::{mfspr, timebase};
use realmode::layout::{ExitCode, Vcpu};
use realmode::lock::Mutex;
use realmode::machine::flush_partition;
use realmode::mmio::Nowhere;
use realmode::partition::{Partition as Core, Presence, Residency};
use sched::{CpuSet, Gate};

pub use vcpu::{VirtualCpu, Waits};

use self::identity::Changing;
use self::life::Life;
use self::memory::GuestMemory;
use self::snapshot::Snapshot;
use self::table::{Block, Table, table};
use crate::devices::{self, Devices};
use crate::sync::{self, Guard, Lock, Rank};
use crate::watch::Watches;
use crate::{entropy, mmu, pci, percpu};

/// Ticks of the timebase in a second.
pub const TIMEBASE_HZ: u64 = 512_000_000;

/// The interrupt source of the console's input.
const VTY_SOURCE: u32 = FIRST_SOURCE;

/// Bytes of a partition's output that are kept, and of input that wait for it.
const VTY_OUTPUT: usize = 64 << 10;
const VTY_INPUT: usize = 4096;

/// How often a partition was left for virtual mode, by reason.
#[derive(Default)]
pub struct Exits([AtomicU64; 10]);

impl Exits {
    /// Notes one.
    pub fn count(&self, exit: ExitCode) {
        self.0[exit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were, of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Display for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |exit: ExitCode| self.0[exit as usize].load(Ordering::Relaxed);
        let (hcalls, faults) = (of(ExitCode::Hcall), of(ExitCode::Storage));
        write!(f, "{} exits: {hcalls} hypercalls, {faults} storage faults, ", self.total())?;
        write!(f, "{} ceded, {} slices", of(ExitCode::Cede), of(ExitCode::Slice))
    }
}

/// A partition as virtual mode has it.
pub struct Partition {
    /// What it is called.
    pub name: String,
    /// What it was defined by.
    pub table: bundle::Partition,
    /// Its vCPUs, by server number.
    pub vcpus: Vec<VirtualCpu>,
    /// Its clock.
    pub clock: Lock<PartitionClock>,
    /// Its memory in bytes.
    pub bytes: u64,
    /// What its definition has taken of the host's memory beside its page table, in bytes. If others have been given memory at that
    /// very time, theirs is in it.
    pub overhead: AtomicU64,
    /// Ticks that CPUs have spent on its devices, and no vCPU has been charged for.
    owed: AtomicU64,
    /// How many are started and not joined.
    pub unjoined: AtomicUsize,
    /// What it does.
    pub life: Lock<Life>,
    /// Whether its events go to the trace.
    pub traced: AtomicBool,
    /// How often it was left for virtual mode.
    pub exits: Exits,
    /// The host's devices that it has to itself.
    pub devices: pci::Claim,
    /// Its host bridge with emulated devices.
    pub pci: Option<Devices>,
    /// Its page table. It is exchanged only while the partition stands still, and its life's lock is held.
    pub tables: Lock<Table>,
    /// The page table that it is about to exchange it for.
    pub next_table: Lock<Option<Table>>,
    /// Who it is.
    identity: Lock<Changing>,
    /// What it can be put back to.
    pub snapshot: Lock<Option<Box<Snapshot>>>,
    /// What of its memory is watched.
    pub watches: Watches,
    image: Image,
    parts: Parts,
}

/// What a partition is started from: it lies in the boot archive, which is never overwritten.
struct Image {
    kernel: &'static [u8],
    kernel_name: String,
    initrd: Option<(&'static [u8], String)>,
    cmdline: String,
}

/// What real mode knows of the partition, and what that refers to: dropped in this order, with the vCPUs before.
struct Parts {
    core: Box<Core>,
    _icps: Box<[Icp]>,
    _sources: Box<[Source]>,
    _presences: Box<[Presence]>,
    _stats: Box<[Stats]>,
    _pages: Block,
    _identity_pages: Box<[Page]>,
}

/// A reference that outlives its scope: to something in a box that the partition keeps.
///
/// # Safety
/// The box is dropped after whoever has the reference.
unsafe fn kept<T: ?Sized>(of: &T) -> &'static T {
    // SAFETY: the caller's.
    unsafe { &*core::ptr::from_ref(of) }
}

impl Partition {
    /// Defines a partition from its table in the manifest, with one slot number for each vCPU; to become a copy of a partition with a page table
    /// of 2^`copy_of` bytes, if that is given. An error is one line for the user.
    pub fn define(
        lpid: Lpid,
        name: &str,
        table_of: &bundle::Partition,
        copy_of: Option<u32>,
        slots_of: &[usize],
        files: impl Fn(&str) -> Option<&'static [u8]>,
        features: &CpuFeatures,
    ) -> Result<Partition, String> {
        let bytes = table_of.memory;
        let unit: u64 = if table_of.huge_pages { 16 << 20 } else { 64 << 10 };
        if !bytes.is_multiple_of(unit) {
            return Err(format!("memory of {} KiB is not a multiple of {} KiB", bytes >> 10, unit >> 10));
        }
        let find = |name: &String| files(name).ok_or_else(|| format!("{name}: not in the boot archive"));
        let image = Image {
            kernel: find(&table_of.kernel)?,
            kernel_name: table_of.kernel.clone(),
            initrd: table_of
                .initrd
                .as_ref()
                .map(|name| Ok::<_, String>((find(name)?, name.clone())))
                .transpose()?,
            cmdline: table_of.cmdline.clone(),
        };
        let tables = match copy_of {
            Some(shift) => Table::new(shift, features.hpte_format)?,
            None => Table::for_memory(bytes, features.hpte_format)?,
        };
        let (pages, page_block) = table::<Page>(bytes / unit, "the page states")?;
        let mut slots = Slots::new(table_of.huge_pages);
        slots
            .add(Slot { base: GuestReal(0), len: bytes, kind: SlotKind::Ram(pages) })
            .map_err(|error| format!("memory of {} KiB: {error:?}", bytes >> 10))?;
        let mut units = bytes / unit;
        // Only partitions with small pages have one. A frame for its state would be too much.
        let len = if table_of.huge_pages { 0 } else { papr::identity::PAGE_BYTES };
        let identity_pages: Box<[Page]> = (0..len / unit).map(|_| Page::default()).collect();
        if len > 0 {
            // SAFETY: `Parts` drops the core, which has the slots, before the box.
            let pages = unsafe { kept(&*identity_pages) };
            slots
                .add(Slot { base: GuestReal(identity::PAGE.base), len, kind: SlotKind::Ram(pages) })
                .map_err(|error| format!("its identity page: {error:?}"))?;
            units += len / unit;
        }
        let devices = pci::claim(&table_of.devices)?;
        let emulated = devices::define(lpid, table_of, copy_of.is_some(), &devices, &files)?;
        if let Some(bridge) = emulated.as_ref().filter(|_| !devices.is_empty()) {
            devices.add_slots(&mut slots, &bridge.places())?;
        }
        let paging = Paging::new(units as usize, table_of.limit.unwrap_or(u64::MAX))
            .map_err(|error| format!("no memory for the page states: {error:?}"))?;
        let icps: Box<[Icp]> = (0..table_of.vcpus).map(|_| Icp::default()).collect();
        let sources = new_sources(emulated.is_some());
        let allowed = table_of.cpus.unwrap_or(CpuSet::ALL).and(&crate::cpus::online());
        let presences: Box<[Presence]> = slots_of.iter().map(|slot| Presence::new(*slot, allowed)).collect();
        let vrma = SlbV::vrma(PageSize::K64);
        // SAFETY: `Parts` drops the core, which has the references, before the boxes, and the vCPUs are dropped before `Parts`.
        let (controllers, known) = unsafe { (kept(&*icps), kept(&*presences)) };
        // SAFETY: likewise.
        let xics = Xics::new(controllers, unsafe { kept(&*sources) });
        let core = Box::new(Core {
            lpid,
            features: *features,
            hpt: UnsafeCell::new(tables.hpt()),
            slots,
            vrma,
            xics,
            vcpus: known,
            residency: Residency::default(),
            gate: Gate::closed(),
            interrupt_mode: AtomicU64::new(0),
            vty: Mutex::new(Vty::new(VTY_OUTPUT)),
            real_mode_area: Mutex::new(()),
            paging,
            nowhere: Nowhere::default(),
            devices: if emulated.is_some() { phb::layout::EMULATED } else { 0..0 },
            heard: devices::heard(&devices),
        });
        mmu::set_partition(lpid, tables.word(), vrma);
        let stats: Box<[Stats]> = slots_of.iter().map(|_| Stats::zero()).collect();
        // SAFETY: the vCPUs are dropped before `Parts`.
        let counted = unsafe { kept(&*stats) };
        let vcpus = controllers.iter().zip(counted).enumerate();
        let vcpus = vcpus
            .map(|(server, (icp, stats))| VirtualCpu::new(&raw const *core, server, icp, stats))
            .collect();
        Ok(Partition {
            name: name.into(),
            table: table_of.clone(),
            vcpus,
            clock: Lock::new(Rank::Partition, PartitionClock::default()),
            bytes,
            overhead: AtomicU64::new(0),
            owed: AtomicU64::new(0),
            unjoined: AtomicUsize::new(0),
            life: Lock::new(Rank::Life, Life::new()),
            traced: AtomicBool::new(true),
            exits: Exits::default(),
            devices,
            pci: emulated,
            tables: Lock::new(Rank::Partition, tables),
            next_table: Lock::new(Rank::Partition, None),
            identity: Lock::new(Rank::Partition, Changing::new(lpid, 0)),
            snapshot: Lock::new(Rank::Partition, None),
            watches: Watches::new(),
            image,
            parts: Parts {
                core,
                _icps: icps,
                _sources: sources,
                _presences: presences,
                _stats: stats,
                _pages: page_block,
                _identity_pages: identity_pages,
            },
        })
    }

    /// What real mode knows of it.
    pub fn core(&self) -> &Core {
        &self.parts.core
    }

    /// What backs its pages.
    pub fn paging(&self) -> &Paging {
        &self.core().paging
    }

    /// Its memory.
    pub fn memory(&self) -> GuestMemory<'_> {
        GuestMemory::new(&self.parts.core)
    }

    /// Its console.
    pub fn vty(&self) -> Guard<'_, Vty> {
        sync::lock(Rank::Partition, &self.core().vty)
    }

    /// What others know of a vCPU.
    pub fn presence(&self, vcpu: &VirtualCpu) -> &Presence {
        &self.parts.core.vcpus[vcpu.server]
    }

    /// Its weight in the run queues.
    pub fn weight(&self) -> u32 {
        self.table.weight
    }

    /// A CPU has done something on its behalf for so many ticks, in nobody's name: the next of its vCPUs that leaves a CPU is charged.
    pub fn owe(&self, ticks: u64) {
        self.owed.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Charges a vCPU, which has just been charged for its stay, for what the partition owes.
    pub fn pay(&self, server: usize) {
        if self.owed.load(Ordering::Relaxed) != 0 {
            self.charge(server, self.owed.swap(0, Ordering::Relaxed));
        }
    }

    /// Charges a vCPU that is parked for what a CPU has done on its behalf, in ticks of the timebase.
    pub fn charge(&self, server: usize, ticks: u64) {
        let ticks = ticks.saturating_mul(100) / u64::from(self.weight().max(1));
        self.vcpus[server].vtime.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Gives all its memory back and forgets all state: as before its first start. No vCPU of it is active, and the caller holds its
    /// life's lock.
    pub fn clear(&self) {
        let core = self.core();
        // They forget the guest's memory before it is given back, those of the host's first.
        self.devices.disable();
        if let Some(devices) = &self.pci {
            devices.reset(self);
        }
        moves::move_all(self);
        self.watches.end_all(self);
        snapshot::drop_kept(self);
        drop(self.next_table.lock().take());
        core.mmu().clear();
        self.tables.lock().trim();
        // Before the memory goes to somebody else.
        flush_partition(core.lpid, core.features.partition_table);
        core.residency.forget();
        self.memory().discard_all();
        core.xics.reset();
        core.interrupt_mode.store(0, Ordering::SeqCst);
        self.vty().input = Ring::none();
        self.update_vty_interrupt();
        self.unjoined.store(0, Ordering::SeqCst);
        for vcpu in &self.vcpus {
            // SAFETY: no vCPU is active, and only the holder of the life's lock starts one.
            unsafe { vcpu.reset() };
            vcpu.set_waits(Waits::Start);
            let _ = self.presence(vcpu).take_prod();
        }
    }

    /// Puts the partition into the state of a machine that was just switched on, with its kernel loaded and its first
    /// vCPU at the kernel's entry. False if its devices are not ready for that yet. An error is one line for the user. As for [`Partition::clear`].
    pub fn start(self: &Arc<Partition>) -> Result<bool, String> {
        self.clear();
        if !self.devices.are_ready() {
            return Ok(false);
        }
        let (entry, tree) = self.load()?;
        self.devices.enable(self)?;
        self.core().gate.open(0);
        self.start_vcpu(0, entry, tree.0);
        if let Some(devices) = &self.pci {
            devices.go_on();
        }
        Ok(true)
    }

    /// Copies kernel, initrd, RTAS and the device tree into place; the entry point and the tree's address.
    fn load(&self) -> Result<(GuestReal, GuestReal), String> {
        let image = &self.image;
        let name = &image.kernel_name;
        let plan = elf::plan(image.kernel, self.bytes).map_err(|error| format!("{name}: {error}"))?;
        let initrd_bytes = image.initrd.as_ref().map_or(0, |(data, _)| data.len() as u64);
        let servers: Vec<u32> = (0..self.vcpus.len() as u32).collect();
        // The tree's length does not depend on the addresses in it.
        let draft = self.tree(&servers, 0, None)?;
        let place = elf::place(&plan, self.bytes, draft.len() as u64, initrd_bytes).map_err(|error| {
            let what = image.initrd.as_ref().map_or(name, |(_, name)| name);
            format!("{what}: {error}")
        })?;
        let initrd = (initrd_bytes != 0).then_some((place.initrd.start, place.initrd.end));
        let tree = self.tree(&servers, place.rtas.0, initrd)?;
        let put = |at: GuestReal, data: &[u8]| {
            self.memory().write(at, data).map_err(|error| format!("loading {name} at {at:#x}: {error:?}"))
        };
        for segment in &plan.segments {
            put(segment.at, &image.kernel[segment.file.clone()])?;
            self.memory().sync_instructions(segment.at, segment.file.len() as u64);
        }
        if let Some((data, _)) = image.initrd {
            put(GuestReal(place.initrd.start), data)?;
        }
        put(place.rtas, &BLOB)?;
        self.memory().sync_instructions(place.rtas, RTAS_BYTES);
        put(place.tree, &tree)?;
        self.write_identity().map_err(|error| format!("{name}: its identity page: {error:?}"))?;
        Ok((plan.entry, place.tree))
    }

    fn tree(&self, servers: &[u32], rtas_base: u64, initrd: Option<(u64, u64)>) -> Result<Vec<u8>, String> {
        let features = &self.core().features;
        // SAFETY: PVR can always be read.
        let pvr = unsafe { mfspr::<{ spr::PVR }>() } as u32;
        tree::build(&GuestConfig {
            name: &self.name,
            number: self.core().lpid.0,
            uuid: None,
            generation: features.generation,
            pvr,
            memory_bytes: self.bytes,
            rma_bytes: self.bytes,
            hpt_shift: self.hpt_bytes().trailing_zeros(),
            cpus: servers,
            boot_cpu: 0,
            timebase_hz: TIMEBASE_HZ as u32,
            clock_hz: 4_000_000_000,
            slb_entries: features.slb_entries,
            large_decrementer_bits: None,
            huge_pages: self.core().slots.is_huge(),
            inhibited_64k: true,
            random: entropy::is_there(),
            rng_seed: seed(),
            hpt_resize: true,
            identity: self.identity_page(),
            cmdline: &self.image.cmdline,
            initrd: initrd.or(self.image.initrd.as_ref().map(|_| (0, 0))),
            rtas_base,
            pci: self.pci.as_ref().map(|devices| devices.tree(self)).as_ref(),
            vtys: &[VtyConfig { unit: FIRST_VTY, source: VTY_SOURCE, level: true }],
        })
        .map_err(|error| format!("partition {}: device tree: {error}", self.name))
    }

    /// Sets a parked vCPU to an entry point, as PAPR wants it (big endian, translation off), and lets it go; false if it is not
    /// waiting to be started. The caller is a vCPU of the partition, or holds the lock of its life.
    pub fn start_vcpu(&self, server: usize, entry: GuestReal, r3: u64) -> bool {
        let Some(vcpu) = self.vcpus.get(server) else { return false };
        let presence = self.presence(vcpu);
        if !vcpu.claim_start() {
            return false;
        }
        // SAFETY: it is parked, and it is this caller alone who has claimed its start.
        let regs = unsafe {
            vcpu.reset();
            vcpu.regs()
        };
        self.prepare(regs);
        regs.gpr[3] = r3;
        regs.pc = entry.0;
        regs.msr = (Msr::SF | Msr::ME).bits();
        regs.dec_expires = timebase() + i32::MAX as u64;
        let _ = presence.take_prod();
        vcpu.set_waits(Waits::Nothing);
        self.core().gate.join();
        self.unjoined.fetch_add(1, Ordering::SeqCst);
        self.release(vcpu);
        true
    }

    /// Hands a parked vCPU to a CPU.
    pub fn release(&self, vcpu: &VirtualCpu) {
        let presence = self.presence(vcpu);
        if presence.whereabouts.unpark() {
            let (_, last) = presence.whereabouts.look();
            cpus::hand(percpu::number(), presence, last);
        }
    }

    /// Whether the events of its vCPUs go to the trace.
    pub fn set_traced(&self, on: bool) {
        self.traced.store(on, Ordering::Relaxed);
        for vcpu in &self.vcpus {
            vcpu.set_trace_tag(self.trace_tag(vcpu.server));
        }
    }

    fn trace_tag(&self, server: usize) -> u64 {
        let traced = self.traced.load(Ordering::Relaxed);
        if traced { ::trace::tag(self.core().lpid, server as u32) } else { 0 }
    }

    /// What is the same in all its vCPUs' registers.
    fn prepare(&self, regs: &mut Vcpu) {
        *regs.trace_tag.get_mut() = self.trace_tag(regs.server as usize);
        regs.lpcr = self.lpcr().bits();
        regs.lpid = u64::from(self.core().lpid.0);
        regs.sdr1 = self.tables.lock().word();
    }

    /// LPCR of its vCPUs: all storage interrupts come to the hypervisor, external ones too. How the guest takes its own is added at
    /// each entry.
    fn lpcr(&self) -> Lpcr {
        let mut lpcr = Lpcr::VPM1 | Lpcr::HDICE | Lpcr::PECE_DEC | Lpcr::PECE_OTHER;
        if self.core().features.partition_table {
            lpcr |= Lpcr::HVICE;
        } else {
            // VRMASD: L and LP of the real mode area's segment, in bits 12 and 15:16.
            let l = (self.core().vrma.0 & power::slb::VSID_L) >> 8;
            let lp = (self.core().vrma.0 & power::slb::VSID_LP) >> 4;
            lpcr |= Lpcr::VPM0 | Lpcr::from_bits_retain((l << 4 | lp) << Lpcr::VRMASD_SHIFT);
        }
        lpcr
    }

    /// Gives all vCPUs, present and future, the interrupt mode that a guest asked for.
    pub fn set_interrupt_mode(&self, bits: Lpcr, value: Lpcr) {
        let change = |mode: u64| Some(mode & !bits.bits() | (value & bits).bits());
        let _ = self.core().interrupt_mode.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
        self.interrupt_all();
    }

    /// Makes every vCPU that runs leave its guest for a moment.
    pub fn interrupt_all(&self) {
        for vcpu in &self.vcpus {
            cpus::disturb(percpu::number(), self.presence(vcpu));
        }
    }

    /// Bytes for the guest's console; how many it had room for.
    pub fn type_in(&self, bytes: &[u8]) -> usize {
        let mut vty = self.vty();
        let n = if vty.input.provide(VTY_INPUT) { vty.input.push(bytes) } else { 0 };
        drop(vty);
        self.update_vty_interrupt();
        n
    }

    /// The console's interrupt is up as long as there is input.
    pub fn update_vty_interrupt(&self) {
        let vty = self.vty();
        // The source exists. Under the lock, so that the line agrees with the ring.
        let kick = match vty.input.is_empty() {
            true => self.core().xics.deassert(VTY_SOURCE).map(|()| Kick::NONE),
            false => self.core().xics.assert(VTY_SOURCE),
        };
        drop(vty);
        self.kick(kick.unwrap_or(Kick::NONE));
    }

    /// Wakes, or rings, the vCPUs for which an interrupt has been raised.
    pub fn kick(&self, kick: Kick) {
        for server in kick {
            if let Some(presence) = self.core().vcpus.get(server as usize) {
                let _ = cpus::wake(percpu::number(), presence);
            }
        }
    }

    /// The length of its page table.
    pub fn hpt_bytes(&self) -> u64 {
        self.tables.lock().bytes()
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.clear();
        mmu::clear_partition(self.core().lpid);
        flush_partition(self.core().lpid, self.core().features.partition_table);
    }
}

/// The interrupt sources that every partition has, masked, and those of its host bridge.
fn new_sources(pci: bool) -> Box<[Source]> {
    // The console's input, and a change of identity.
    let own = [Source::level(), Source::message()].into_iter();
    if pci { own.chain(devices::sources()).collect() } else { own.collect() }
}

/// A seed for the guest's random numbers.
fn seed() -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    entropy::fill(&mut seed).then_some(seed)
}
