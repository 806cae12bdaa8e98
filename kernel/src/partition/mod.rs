//! A partition: what it is made of, and how it starts, at first and after each reboot.
#![allow(unsafe_code)] // turns allocated blocks into the tables that live as long as the partition

pub mod dispatch;
pub mod memory;
mod vcpu;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use hpt::{Hpt, Page, RevGroup, Slot, SlotKind, Slots};
use papr::elf::{self, RTAS_BYTES};
use papr::rtas::{BLOB, PartitionClock};
use papr::tree::{self, FIRST_VTY, GuestConfig, VtyConfig};
use papr::vty::Vty;
use papr::xics::{FIRST_SOURCE, Icp, Source, Xics};
use power::regs::{Lpcr, Msr};
use power::slb::SlbV;
use power::{CpuFeatures, GuestReal, HostReal, Lpid, PageSize, spr};
use realmode::instructions::{mfspr, timebase};
use realmode::layout::ExitCode;
use realmode::machine::flush_partition;
use realmode::partition::{Partition as Core, Presence};

pub use vcpu::{State, VirtualCpu};

use self::memory::GuestMemory;
use crate::{memory as host, mmu};

/// Ticks of the timebase in a second.
pub const TIMEBASE_HZ: u64 = 512_000_000;

/// The interrupt source of the console's input.
const VTY_SOURCE: u32 = FIRST_SOURCE;

/// How often a partition was left for virtual mode, by reason.
#[derive(Default)]
pub struct Exits([u64; 9]);

impl Exits {
    /// Notes one.
    pub fn count(&mut self, exit: ExitCode) {
        self.0[exit as usize] += 1;
    }
}

impl fmt::Display for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |exit: ExitCode| self.0[exit as usize];
        let (total, hcalls, faults) =
            (self.0.iter().sum::<u64>(), of(ExitCode::Hcall), of(ExitCode::Storage));
        write!(f, "{total} exits: {hcalls} hypercalls, {faults} storage faults, ")?;
        write!(f, "{} ceded, {} slices", of(ExitCode::Cede), of(ExitCode::Slice))
    }
}

/// A partition as virtual mode has it.
pub struct Partition {
    /// What it is called in messages.
    pub name: String,
    /// What real mode knows of it.
    pub core: &'static Core,
    /// Its memory.
    pub memory: GuestMemory,
    /// Its vCPUs, by server number.
    pub vcpus: Vec<VirtualCpu>,
    /// Its console.
    pub vty: Vty<4096, 4096>,
    /// Its clock.
    pub clock: PartitionClock,
    /// Its memory in bytes.
    pub bytes: u64,
    /// How often it was left.
    pub exits: Exits,
    /// Accesses to addresses where it has nothing.
    pub accesses_to_nowhere: u32,
    hpt_bytes: u64,
    hpt_at: HostReal,
    /// Its interrupts: LPCR\[ILE\] and \[AIL\], the same on all vCPUs.
    pub interrupt_mode: Lpcr,
    image: Image,
}

/// What a partition is started from: it lies in the boot archive, which is never overwritten.
struct Image {
    kernel: &'static [u8],
    kernel_name: String,
    initrd: Option<(&'static [u8], String)>,
    cmdline: String,
}

/// log2 of a partition's page table in bytes: 1/128 of its memory, at least 256 KiB.
fn hpt_shift(bytes: u64) -> u32 {
    (bytes / 128).next_power_of_two().trailing_zeros().max(18)
}

/// A zeroed table of `n` entries that is never freed.
fn leak_table<T: 'static>(n: u64, what: &str) -> Result<&'static [T], String> {
    let bytes = (n * size_of::<T>() as u64).next_multiple_of(frames::FRAME);
    let at = host::allocate(bytes).ok_or_else(|| format!("no memory for {what}, {} KiB", bytes >> 10))?;
    // SAFETY: a new block of that size; all zeroes is a valid empty `T` for the tables made here, which say so.
    unsafe {
        host::zero(at, bytes);
        Ok(core::slice::from_raw_parts(at.ea() as *const T, n as usize))
    }
}

impl Partition {
    /// Defines a partition from its table in the manifest. An error is one line for the user.
    pub fn define(
        lpid: Lpid,
        table: &bundle::Partition,
        files: impl Fn(&str) -> Option<&'static [u8]>,
        features: &CpuFeatures,
    ) -> Result<Partition, String> {
        let bytes = table.memory;
        let unit: u64 = if table.huge_pages { 16 << 20 } else { 64 << 10 };
        if !bytes.is_multiple_of(unit) {
            return Err(format!("memory of {} KiB is not a multiple of {} KiB", bytes >> 10, unit >> 10));
        }
        if bytes > host::total() {
            let (want, have) = (bytes >> 20, host::total() >> 20);
            return Err(format!("memory of {want} MiB is more than the {have} MiB the host has to give"));
        }
        let shift = hpt_shift(bytes);
        let hpt_bytes = 1u64 << shift;
        let (hpt_at, groups) = mmu::new_table(hpt_bytes)
            .ok_or_else(|| format!("no memory for a page table of {} KiB", hpt_bytes >> 10))?;
        let rev: &[RevGroup] = leak_table(groups.len() as u64, "the reverse map")?;
        let hpt = Hpt::new(groups, rev, features.hpte_format).ok_or("the page table has an odd size")?;
        let pages: &[Page] = leak_table(bytes / unit, "the page states")?;
        let mut slots = Slots::new(table.huge_pages);
        slots
            .add(Slot { base: GuestReal(0), len: bytes, kind: SlotKind::Ram(pages) })
            .map_err(|error| format!("memory of {} KiB: {error:?}", bytes >> 10))?;
        let icps: &'static [Icp] = (0..table.vcpus).map(|_| Icp::default()).collect::<Vec<_>>().leak();
        let sources: &'static [Source] = Box::leak(Box::new([Source::level()]));
        let presences: &'static [Presence] =
            (0..table.vcpus).map(|_| Presence::default()).collect::<Vec<_>>().leak();
        let vrma = SlbV::vrma(PageSize::K64);
        let core: &'static Core = Box::leak(Box::new(Core {
            lpid,
            features: *features,
            hpt,
            slots,
            vrma,
            xics: Xics::new(icps, sources),
            vcpus: presences,
        }));
        mmu::set_partition(lpid, mmu::table_word(hpt_at, hpt_bytes), vrma);
        let find = |name: &String| files(name).ok_or_else(|| format!("{name}: not in the boot archive"));
        let image = Image {
            kernel: find(&table.kernel)?,
            kernel_name: table.kernel.clone(),
            initrd: table
                .initrd
                .as_ref()
                .map(|name| Ok::<_, String>((find(name)?, name.clone())))
                .transpose()?,
            cmdline: table.cmdline.clone(),
        };
        let vcpus = (0..table.vcpus).map(|server| VirtualCpu::new(core, server)).collect();
        Ok(Partition {
            name: table.name.clone(),
            core,
            memory: GuestMemory::new(core),
            vcpus,
            vty: Vty::new(),
            clock: PartitionClock::default(),
            bytes,
            exits: Exits::default(),
            accesses_to_nowhere: 0,
            hpt_bytes,
            hpt_at,
            interrupt_mode: Lpcr::empty(),
            image,
        })
    }

    /// Puts the partition into the state of a machine that was just switched on, with its kernel loaded and its first
    /// vCPU at the kernel's entry. An error is one line for the user.
    pub fn start(&mut self) -> Result<(), String> {
        self.core.mmu().clear();
        // Before the memory goes to somebody else.
        flush_partition(self.core.lpid, self.core.features.partition_table);
        self.memory.discard_all();
        self.core.xics.reset();
        self.update_vty_interrupt();
        self.interrupt_mode = Lpcr::empty();
        for (vcpu, presence) in self.vcpus.iter_mut().zip(self.core.vcpus) {
            vcpu.reset();
            let _ = presence.take_prod();
        }
        let (entry, tree) = self.load()?;
        self.start_vcpu(0, entry, tree.0);
        Ok(())
    }

    /// Copies kernel, initrd, RTAS and the device tree into place; the entry point and the tree's address.
    fn load(&mut self) -> Result<(GuestReal, GuestReal), String> {
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
            self.memory.write(at, data).map_err(|error| format!("loading {name} at {at:#x}: {error:?}"))
        };
        for segment in &plan.segments {
            put(segment.at, &image.kernel[segment.file.clone()])?;
            self.memory.sync_instructions(segment.at, segment.file.len() as u64);
        }
        if let Some((data, _)) = image.initrd {
            put(GuestReal(place.initrd.start), data)?;
        }
        put(place.rtas, &BLOB)?;
        self.memory.sync_instructions(place.rtas, RTAS_BYTES);
        put(place.tree, &tree)?;
        Ok((plan.entry, place.tree))
    }

    fn tree(&self, servers: &[u32], rtas_base: u64, initrd: Option<(u64, u64)>) -> Result<Vec<u8>, String> {
        let features = &self.core.features;
        // SAFETY: PVR can always be read.
        let pvr = unsafe { mfspr::<{ spr::PVR }>() } as u32;
        tree::build(&GuestConfig {
            name: &self.name,
            number: self.core.lpid.0,
            uuid: None,
            generation: features.generation,
            pvr,
            memory_bytes: self.bytes,
            rma_bytes: self.bytes,
            hpt_shift: self.hpt_bytes.trailing_zeros(),
            cpus: servers,
            boot_cpu: 0,
            timebase_hz: TIMEBASE_HZ as u32,
            clock_hz: 4_000_000_000,
            slb_entries: features.slb_entries,
            large_decrementer_bits: None,
            huge_pages: self.core.slots.is_huge(),
            inhibited_64k: true,
            random: features.darn,
            rng_seed: features.darn.then(seed).flatten(),
            cmdline: &self.image.cmdline,
            initrd: initrd.or(self.image.initrd.as_ref().map(|_| (0, 0))),
            rtas_base,
            vtys: &[VtyConfig { unit: FIRST_VTY, source: VTY_SOURCE, level: true }],
        })
        .map_err(|error| format!("partition {}: device tree: {error}", self.name))
    }

    /// Sets a vCPU to an entry point, as PAPR wants it: big endian, translation off.
    pub fn start_vcpu(&mut self, server: u32, entry: GuestReal, r3: u64) {
        let lpcr = self.lpcr();
        let sdr1 = mmu::table_word(self.hpt_at, self.hpt_bytes);
        let Some(vcpu) = self.vcpus.get_mut(server as usize) else { return };
        vcpu.reset();
        let regs = &mut vcpu.regs;
        regs.gpr[3] = r3;
        regs.pc = entry.0;
        regs.msr = (Msr::SF | Msr::ME).bits();
        regs.lpcr = lpcr.bits();
        regs.lpid = u64::from(self.core.lpid.0);
        regs.sdr1 = sdr1;
        regs.dec_expires = timebase() + i32::MAX as u64;
        vcpu.state = State::Runnable;
    }

    /// LPCR of its vCPUs: all storage interrupts come to the hypervisor, external ones too.
    pub fn lpcr(&self) -> Lpcr {
        let mut lpcr = Lpcr::VPM1 | Lpcr::HDICE | Lpcr::PECE_DEC | Lpcr::PECE_OTHER | self.interrupt_mode;
        if self.core.features.partition_table {
            lpcr |= Lpcr::HVICE;
        } else {
            // VRMASD: L and LP of the real mode area's segment, in bits 12 and 15:16.
            let l = (self.core.vrma.0 & power::slb::VSID_L) >> 8;
            let lp = (self.core.vrma.0 & power::slb::VSID_LP) >> 4;
            lpcr |= Lpcr::VPM0 | Lpcr::from_bits_retain((l << 4 | lp) << Lpcr::VRMASD_SHIFT);
        }
        lpcr
    }

    /// Gives all vCPUs, present and future, the interrupt mode that a guest asked for.
    pub fn set_interrupt_mode(&mut self, bits: Lpcr, value: Lpcr) {
        self.interrupt_mode = (self.interrupt_mode & !bits) | (value & bits);
        for vcpu in &mut self.vcpus {
            vcpu.regs.lpcr = vcpu.regs.lpcr & !bits.bits() | (value & bits).bits();
        }
    }

    /// Bytes for the guest's console; how many it had room for.
    pub fn type_in(&mut self, bytes: &[u8]) -> usize {
        let n = self.vty.input.push(bytes);
        self.update_vty_interrupt();
        n
    }

    /// The console's interrupt is up as long as there is input.
    pub fn update_vty_interrupt(&mut self) {
        // The source exists; whom it kicks is seen before the vCPU is entered.
        let _ = match self.vty.input.is_empty() {
            true => self.core.xics.deassert(VTY_SOURCE),
            false => self.core.xics.assert(VTY_SOURCE).map(drop),
        };
    }

    /// The length of its page table.
    pub fn hpt_bytes(&self) -> u64 {
        self.hpt_bytes
    }
}

/// A seed for the guest's random numbers.
fn seed() -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    for word in seed.chunks_exact_mut(8) {
        word.copy_from_slice(&realmode::instructions::darn()?.to_ne_bytes());
    }
    Some(seed)
}
