//! The flattened device tree that a partition starts with (LoPAR, "Device Tree" appendices; IEEE 1275; what Linux 6.1 to
//! 6.12 and FreeBSD read of it).
//!
//! What is in here is a promise: page sizes that H_ENTER takes, calls that exist, and nothing else. There is no
//! `ibm,architecture-vec-5`, so a guest uses the hashed page table and XICS; no bit of TM, radix or copy-paste is set.

mod cpu;
mod pci;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use power::Generation;
use vm_fdt::{FdtReserveEntry, FdtWriter};

use crate::elf::RTAS_BYTES;
use crate::identity::{self, IdentityPage};
use crate::rtas::Service;

pub use pci::{BusRange, FunctionConfig, HostBridgeConfig, Memory};

/// The `phandle` of the interrupt controller.
const XICS_PHANDLE: u32 = 0x1111;
/// The unit address of the first console.
pub const FIRST_VTY: u32 = 0x7100_0000;

/// Function sets of hypervisor calls that a partition is told of (LoPAR, "hypertas" function sets): the calls behind
/// each must exist.
///
/// - `hcall-pft`: H_ENTER, H_REMOVE, H_PROTECT, H_READ, H_CLEAR_MOD, H_CLEAR_REF; `hcall-bulk`: H_BULK_REMOVE
/// - `hcall-term`: H_GET_TERM_CHAR, H_PUT_TERM_CHAR; `hcall-dabr`: H_SET_DABR; `hcall-sprg0`: H_SET_SPRG0
/// - `hcall-interrupt`: H_XIRR, H_CPPR, H_EOI, H_IPI, H_IPOLL; `hcall-copy`: H_PAGE_INIT
/// - `hcall-splpar`: H_REGISTER_VPA, H_CEDE, H_CONFER, H_PROD; `hcall-join`: H_JOIN; `hcall-set-mode`: H_SET_MODE
/// - `hcall-debug`: H_LOGICAL_CI_LOAD and its kin
///
/// H_RANDOM has no name here but a node: see [`GuestConfig::random`]. `hcall-hpt-resize` is for [`GuestConfig::hpt_resize`]; what
/// [`HYPERTAS_PCI`] has, for [`GuestConfig::pci`].
pub const HYPERTAS: &[&str] = &[
    "hcall-pft",
    "hcall-term",
    "hcall-dabr",
    "hcall-interrupt",
    "hcall-splpar",
    "hcall-join",
    "hcall-bulk",
    "hcall-set-mode",
    "hcall-sprg0",
    "hcall-copy",
    "hcall-debug",
];

/// H_GET_TCE, H_PUT_TCE; H_PUT_TCE_INDIRECT, H_STUFF_TCE.
pub const HYPERTAS_PCI: &[&str] = &["hcall-tce", "hcall-multi-tce"];

/// A console of the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VtyConfig {
    /// Its unit address, by which H_PUT_TERM_CHAR and H_GET_TERM_CHAR name it; [`FIRST_VTY`] for the first.
    pub unit: u32,
    /// The interrupt source of its input.
    pub source: u32,
    /// The source signals by level and not by messages.
    pub level: bool,
}

/// What to tell a partition about itself.
#[derive(Clone, Debug)]
pub struct GuestConfig<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number: the LPID will do.
    pub number: u32,
    /// Its identity.
    pub uuid: Option<[u8; 16]>,
    /// The processor's generation.
    pub generation: Generation,
    /// The processor's version, as `mfpvr` reads it.
    pub pvr: u32,
    /// Its memory in bytes, from real address 0.
    pub memory_bytes: u64,
    /// How much of the memory is in the first block, the real mode area.
    pub rma_bytes: u64,
    /// log2 of the length of its hashed page table in bytes.
    pub hpt_shift: u32,
    /// The interrupt server number of each virtual processor, ascending. One thread to a core.
    pub cpus: &'a [u32],
    /// Which of them starts.
    pub boot_cpu: u32,
    /// The timebase's frequency in Hz.
    pub timebase_hz: u32,
    /// The processor's frequency in Hz, for the curious.
    pub clock_hz: u32,
    /// Entries of the SLB.
    pub slb_entries: u32,
    /// The length of the decrementer in bits, if LPCR\[LD\] is set for the partition.
    pub large_decrementer_bits: Option<u32>,
    /// 16 MiB pages may be entered, as such and with smaller base page sizes.
    pub huge_pages: bool,
    /// 64 KiB pages may be cache-inhibited.
    pub inhibited_64k: bool,
    /// H_RANDOM exists.
    pub random: bool,
    /// H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT exist.
    pub hpt_resize: bool,
    /// Where it sees that it has been cloned or put back.
    pub identity: Option<IdentityPage>,
    /// Seed of the guest's random numbers; should be fresh.
    pub rng_seed: Option<[u8; 32]>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The initrd's addresses, first byte and the one behind the last.
    pub initrd: Option<(u64, u64)>,
    /// Where [`crate::rtas::BLOB`] is, in [`RTAS_BYTES`] of reserved memory.
    pub rtas_base: u64,
    /// Its consoles; the first is the kernel's.
    pub vtys: &'a [VtyConfig],
    /// Its PCI host bridge.
    pub pci: Option<&'a HostBridgeConfig>,
}

/// Why there is no tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The name, or the command line, has a NUL in it.
    Nul(&'static str),
    /// No processors, or the boot processor is not among them.
    Cpus,
    /// No memory, or sizes that are not of whole 64 KiB, or a real mode area larger than the memory.
    Memory,
    /// Something does not lie within the memory.
    Outside(&'static str),
    /// The identity page is within the memory, or not a page of 64 KiB.
    IdentityPage,
    /// The writer refused.
    Writer(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Nul(what) => write!(f, "the {what} has a NUL character in it"),
            Error::Cpus => write!(f, "no processors, or the boot processor is not one of them"),
            Error::Memory => {
                write!(f, "memory and real mode area must be whole 64 KiB pages, the latter no larger")
            }
            Error::Outside(what) => write!(f, "the {what} does not lie within the first block of memory"),
            Error::IdentityPage => write!(f, "the identity page must be a 64 KiB page beyond the memory"),
            Error::Writer(message) => write!(f, "device tree: {message}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<vm_fdt::Error> for Error {
    fn from(error: vm_fdt::Error) -> Error {
        Error::Writer(error.to_string())
    }
}

/// Build the tree. Its length does not depend on any address in the configuration, so that it may be built once
/// for the length, placed, and built again.
pub fn build(c: &GuestConfig) -> Result<Vec<u8>, Error> {
    check(c)?;
    let mut reserved = alloc::vec![FdtReserveEntry::new(c.rtas_base, RTAS_BYTES)?];
    if let Some((start, end)) = c.initrd
        && start < end
    {
        reserved.push(FdtReserveEntry::new(start, end - start)?);
    }
    let mut w = FdtWriter::new_with_mem_reserv(&reserved)?;
    w.set_boot_cpuid_phys(c.boot_cpu);
    let root = w.begin_node("")?;
    w.property_string("device_type", "chrp")?;
    w.property_string("compatible", "IBM,pSeries")?;
    w.property_string("model", "Partita pSeries partition")?;
    w.property_string("ibm,partition-name", c.name)?;
    w.property_u32("ibm,partition-no", c.number)?;
    if let Some(uuid) = c.uuid {
        let text = hyphenated(uuid);
        w.property_string("vm,uuid", &text)?;
        w.property_string("system-id", &text)?;
    }
    w.property_u32("#address-cells", 2)?;
    w.property_u32("#size-cells", 2)?;
    chosen(&mut w, c)?;
    memory(&mut w, c)?;
    cpus(&mut w, c)?;
    interrupt_controller(&mut w, c)?;
    vdevice(&mut w, c)?;
    if let Some(bridge) = c.pci {
        pci::host_bridge(&mut w, bridge)?;
    }
    if c.random {
        platform_facilities(&mut w)?;
    }
    if let Some(page) = c.identity {
        identity(&mut w, page)?;
    }
    rtas(&mut w, c)?;
    w.end_node(root)?;
    let mut tree = w.finish()?;
    if c.pci.is_some() {
        lengthen_last_name(&mut tree, &LONG_NAME[LONGEST_NAME..]);
    }
    Ok(tree)
}

/// What the writer takes for a property's name.
const LONGEST_NAME: usize = 31;
/// The one name that is longer than the standard allows.
const LONG_NAME: &str = Service::QueryInterruptSource.name();

/// Adds to the name of a property that has come last, in the header's length of the tree and of its names, too: these are at the end.
fn lengthen_last_name(tree: &mut Vec<u8>, by: &str) {
    tree.pop();
    tree.extend_from_slice(by.as_bytes());
    tree.push(0);
    for field in [4, 32] {
        if let Some(cell) = tree.get_mut(field..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *cell = (u32::from_be_bytes(*cell) + by.len() as u32).to_be_bytes();
        }
    }
}

fn check(c: &GuestConfig) -> Result<(), Error> {
    const PAGE: u64 = 1 << 16;
    if c.name.contains('\0') {
        return Err(Error::Nul("partition's name"));
    }
    if c.cmdline.contains('\0') {
        return Err(Error::Nul("command line"));
    }
    if !c.cpus.contains(&c.boot_cpu) {
        return Err(Error::Cpus);
    }
    let whole = c.memory_bytes.is_multiple_of(PAGE) && c.rma_bytes.is_multiple_of(PAGE);
    if !whole || c.rma_bytes == 0 || c.rma_bytes > c.memory_bytes {
        return Err(Error::Memory);
    }
    let within = |start: u64, end: u64| start <= end && end <= c.rma_bytes;
    if !within(c.rtas_base, c.rtas_base.saturating_add(RTAS_BYTES)) || c.rtas_base >> 32 != 0 {
        return Err(Error::Outside("RTAS area"));
    }
    if c.initrd.is_some_and(|(start, end)| !within(start, end)) {
        return Err(Error::Outside("initrd"));
    }
    if let Some(IdentityPage { base, .. }) = c.identity {
        let apart = base >= c.memory_bytes && base.checked_add(identity::PAGE_BYTES).is_some();
        if !apart || !base.is_multiple_of(PAGE) {
            return Err(Error::IdentityPage);
        }
    }
    Ok(())
}

fn hyphenated(uuid: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(uuid));
    let mut text = String::new();
    for (i, digit) in hex.chars().enumerate() {
        if matches!(i, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

fn chosen(w: &mut FdtWriter, c: &GuestConfig) -> Result<(), Error> {
    let node = w.begin_node("chosen")?;
    w.property_string("bootargs", c.cmdline)?;
    if let Some((start, end)) = c.initrd {
        w.property_u64("linux,initrd-start", start)?;
        w.property_u64("linux,initrd-end", end)?;
    }
    if let Some(vty) = c.vtys.first() {
        let path = format!("/vdevice/vty@{:x}", vty.unit);
        w.property_string("stdout-path", &path)?;
        w.property_string("linux,stdout-path", &path)?;
    }
    if let Some(seed) = c.rng_seed {
        w.property("rng-seed", &seed)?;
    }
    Ok(w.end_node(node)?)
}

/// The first block is the real mode area (LoPAR, "Memory Node").
fn memory(w: &mut FdtWriter, c: &GuestConfig) -> Result<(), Error> {
    for (start, bytes) in [(0, c.rma_bytes), (c.rma_bytes, c.memory_bytes - c.rma_bytes)] {
        if bytes == 0 {
            continue;
        }
        let node = w.begin_node(&format!("memory@{start:x}"))?;
        w.property_string("device_type", "memory")?;
        w.property_array_u64("reg", &[start, bytes])?;
        w.end_node(node)?;
    }
    Ok(())
}

fn cpus(w: &mut FdtWriter, c: &GuestConfig) -> Result<(), Error> {
    let node = w.begin_node("cpus")?;
    w.property_u32("#address-cells", 1)?;
    w.property_u32("#size-cells", 0)?;
    for server in c.cpus {
        cpu::node(w, c, *server)?;
    }
    Ok(w.end_node(node)?)
}

/// LoPAR, "Interrupt Presentation Controller".
fn interrupt_controller(w: &mut FdtWriter, c: &GuestConfig) -> Result<(), Error> {
    let servers = c.cpus.iter().max().map_or(0, |n| n.saturating_add(1));
    let node = w.begin_node("interrupt-controller@0")?;
    w.property_string("device_type", "PowerPC-External-Interrupt-Presentation")?;
    w.property_string("compatible", "IBM,ppc-xicp")?;
    w.property_array_u64("reg", &[0, 0])?;
    w.property_null("interrupt-controller")?;
    w.property_u32("#address-cells", 0)?;
    w.property_u32("#interrupt-cells", 2)?;
    w.property_array_u32("ibm,interrupt-server-ranges", &[0, servers])?;
    w.property_u32("linux,phandle", XICS_PHANDLE)?;
    w.property_phandle(XICS_PHANDLE)?;
    Ok(w.end_node(node)?)
}

fn vdevice(w: &mut FdtWriter, c: &GuestConfig) -> Result<(), Error> {
    let node = w.begin_node("vdevice")?;
    w.property_string("device_type", "vdevice")?;
    w.property_string("compatible", "IBM,vdevice")?;
    w.property_u32("#address-cells", 1)?;
    w.property_u32("#size-cells", 0)?;
    w.property_u32("#interrupt-cells", 2)?;
    w.property_null("interrupt-controller")?;
    for vty in c.vtys {
        let node = w.begin_node(&format!("vty@{:x}", vty.unit))?;
        w.property_string("device_type", "serial")?;
        w.property_string("compatible", "hvterm1")?;
        w.property_u32("reg", vty.unit)?;
        w.property_array_u32("interrupts", &[vty.source, vty.level.into()])?;
        w.end_node(node)?;
    }
    Ok(w.end_node(node)?)
}

/// In what memory would grow, in bytes, if it did.
const MEMORY_BLOCK: u32 = 256 << 20;

fn rtas(w: &mut FdtWriter, c: &GuestConfig) -> Result<(), Error> {
    let base = c.rtas_base as u32;
    let node = w.begin_node("rtas")?;
    let resize = c.hpt_resize.then_some("hcall-hpt-resize");
    let pci = c.pci.map_or(&[][..], |_| HYPERTAS_PCI).iter().copied();
    let functions = HYPERTAS.iter().copied().chain(resize).chain(pci).map(String::from).collect();
    w.property_string_list("ibm,hypertas-functions", functions)?;
    w.property_u32("linux,rtas-base", base)?;
    w.property_u32("linux,rtas-entry", base)?;
    w.property_u32("rtas-size", RTAS_BYTES as u32)?;
    w.property_u32("rtas-version", 1)?;
    // The end of memory, what it may grow by, and the processors: newer Linuxes make DMA windows for as much memory as this says.
    let [high, low] = [c.memory_bytes >> 32, c.memory_bytes].map(|half| half as u32);
    w.property_array_u32("ibm,lrdr-capacity", &[high, low, 0, MEMORY_BLOCK, c.cpus.len() as u32])?;
    w.property_u32("rtas-error-log-max", 2048)?;
    w.property_u32("rtas-event-scan-rate", 1)?;
    // ibm,os-term returns.
    w.property_null("ibm,extended-os-term")?;
    let long = Service::QueryInterruptSource;
    let told = |service: &&Service| **service != long && (c.pci.is_some() || !service.is_pci());
    for service in Service::ALL.iter().filter(told) {
        w.property_u32(service.name(), service.token())?;
    }
    if c.pci.is_some() {
        // The last name of all.
        w.property_u32(&LONG_NAME[..LONGEST_NAME], long.token())?;
    }
    Ok(w.end_node(node)?)
}

/// Where Linux looks for H_RANDOM.
fn platform_facilities(w: &mut FdtWriter) -> Result<(), Error> {
    let node = w.begin_node("ibm,platform-facilities")?;
    w.property_string("device_type", "ibm,platform-facilities")?;
    w.property_string("compatible", "ibm,platform-facilities")?;
    w.property_u32("#address-cells", 1)?;
    w.property_u32("#size-cells", 0)?;
    let random = w.begin_node("ibm,random-v1")?;
    w.property_string("device_type", "ibm,random-v1")?;
    w.property_string("compatible", "ibm,random")?;
    w.property_u32("reg", 0)?;
    w.end_node(random)?;
    Ok(w.end_node(node)?)
}

/// The identity page (the devicetree binding `microsoft,vmgenid`). Linux makes platform devices only of what is below few nodes of
/// a pseries tree; one whose `device_type` is that of persistent memory is among them, whatever its children are
/// (`arch/powerpc/platforms/pseries/pmem.c`).
fn identity(w: &mut FdtWriter, page: IdentityPage) -> Result<(), Error> {
    let parent = w.begin_node("identity")?;
    w.property_string("device_type", "ibm,persistent-memory")?;
    w.property_u32("#address-cells", 2)?;
    w.property_u32("#size-cells", 2)?;
    w.property_null("ranges")?;
    let node = w.begin_node(&format!("vmgenid@{:x}", page.base))?;
    w.property_string("compatible", "microsoft,vmgenid")?;
    w.property_array_u64("reg", &[page.base, identity::PAGE_BYTES])?;
    w.property_u32("interrupt-parent", XICS_PHANDLE)?;
    // Signalled by messages.
    w.property_array_u32("interrupts", &[page.source, 0])?;
    w.end_node(node)?;
    Ok(w.end_node(parent)?)
}

#[cfg(test)]
mod tests;
