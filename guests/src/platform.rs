//! What the device tree says.
#![allow(unsafe_code)] // keeps a copy of the tree in a static

use fdt::Fdt;
use power::hpte::{PageSize, encode_page_sizes};

const LIMIT: usize = 256 << 10;

#[repr(align(8))]
struct Copy([u8; LIMIT]);

static mut TREE: Copy = Copy([0; LIMIT]);
static mut PARSED: Option<Fdt<'static>> = None;

/// Copies the tree out of the way of the tests. Once, before anything else.
pub(crate) fn keep(dtb: u64) {
    let source = dtb as *const u8;
    // SAFETY: the hypervisor's tree starts with a header; the size in it is its own.
    let size = u32::from_be_bytes(unsafe { source.add(4).cast::<[u8; 4]>().read_unaligned() }) as usize;
    // SAFETY: runs once, before any reference is made; size is checked.
    unsafe { core::ptr::copy_nonoverlapping(source, (&raw mut TREE).cast(), size.min(LIMIT)) };
    let kept = &raw const TREE;
    // SAFETY: from here on the bytes do not change.
    let bytes: &'static [u8] = unsafe { &(*kept).0 };
    // SAFETY: nothing reads it yet.
    unsafe { PARSED = Fdt::new(bytes).ok() };
}

/// The device tree.
pub fn tree() -> &'static Fdt<'static> {
    let parsed = &raw const PARSED;
    // SAFETY: only `keep` writes it, before.
    unsafe { (*parsed).as_ref() }.expect("a flat device tree")
}

/// A property of a node, as big endian cells; `None` if there is no such.
pub fn cell(path: &str, property: &str, index: usize) -> Option<u32> {
    let node = tree().find_node(path)?;
    let value = node.property(property)?.value;
    Some(u32::from_be_bytes(value.get(4 * index..4 * index + 4)?.try_into().ok()?))
}

/// Bytes of a property of the first cpu node.
pub fn cpu_property(name: &str) -> Option<&'static [u8]> {
    let cpus = tree().find_node("/cpus")?;
    let cpu = cpus.children().find(|n| n.name.contains('@') && n.property("ibm,pft-size").is_some())?;
    cpu.properties().find(|p| p.name == name).map(|p| p.value)
}

/// Bytes of real memory, which starts at 0.
pub fn memory() -> u64 {
    let mut end = 0;
    for node in tree().find_all_nodes("/memory") {
        let Some(reg) = node.property("reg") else { continue };
        for entry in reg.value.chunks_exact(16) {
            let n = |b: &[u8]| u64::from_be_bytes(b.try_into().expect("eight bytes"));
            end = end.max(n(&entry[..8]) + n(&entry[8..]));
        }
    }
    end
}

/// log2 of the hashed page table's bytes.
pub fn hpt_shift() -> u32 {
    let value = cpu_property("ibm,pft-size").expect("ibm,pft-size");
    u32::from_be_bytes(value[4..8].try_into().expect("two cells"))
}

/// Entries in the hashed page table.
pub fn hpt_entries() -> u64 {
    1 << (hpt_shift() - 4)
}

/// Does `ibm,segment-page-sizes` have this pair of base and actual page size?
pub fn advertised(base: PageSize, actual: PageSize) -> bool {
    let (_, lp) = encode_page_sizes(base, actual).expect("a pair");
    let encoding = (lp >> 12) as u32;
    let bytes = cpu_property("ibm,segment-page-sizes").unwrap_or(&[]);
    let cell =
        |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| u32::from_be_bytes(b.try_into().expect("a cell")));
    let mut i = 0;
    while let (Some(shift), Some(count)) = (cell(i), cell(i + 2)) {
        for n in 0..count as usize {
            let pair = (cell(i + 3 + 2 * n), cell(i + 4 + 2 * n));
            if shift == base.shift() && pair == (Some(actual.shift()), Some(encoding)) {
                return true;
            }
        }
        i += 3 + 2 * count as usize;
    }
    false
}

/// The interrupt server numbers of the processors, in the order of the tree.
pub fn servers() -> impl Iterator<Item = u32> {
    let cpus = tree().find_node("/cpus");
    let mut found = [None; 16];
    let mut n = 0;
    if let Some(cpus) = cpus {
        for cpu in cpus.children() {
            if let Some(p) = cpu.property("ibm,ppc-interrupt-server#s") {
                for word in p.value.chunks_exact(4) {
                    if n < found.len() {
                        found[n] = Some(u32::from_be_bytes(word.try_into().expect("a cell")));
                        n += 1;
                    }
                }
            }
        }
    }
    found.into_iter().flatten()
}

/// The command line.
pub fn bootargs() -> &'static str {
    let value = tree()
        .find_node("/chosen")
        .and_then(|n| n.properties().find(|p| p.name == "bootargs").map(|p| p.value));
    value.and_then(|v| core::str::from_utf8(v).ok()).map_or("", |s| s.trim_end_matches('\0'))
}

/// The value of a word `NAME=VALUE` of the command line.
pub fn argument(name: &str) -> Option<&'static str> {
    bootargs().split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The same as a decimal number; `default` if there is no such word.
pub fn number(name: &str, default: u64) -> u64 {
    argument(name).and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Is this one of the words of the command line?
pub fn says(word: &str) -> bool {
    bootargs().split(' ').any(|other| other == word)
}

/// Running under KVM.
pub fn is_kvm() -> bool {
    let node = tree().find_node("/hypervisor");
    node.and_then(|n| n.property("compatible")).is_some_and(|p| p.value == b"linux,kvm\0")
}

/// Running under QEMU's own pseries machine, the oracle.
pub fn is_qemu() -> bool {
    !is_kvm() && has_qemu_marks()
}

fn has_qemu_marks() -> bool {
    tree().find_node("/").is_some_and(|n| n.property("qemu,graphic-width").is_some())
        || tree().find_node("/chosen").is_some_and(|n| n.property("qemu,graphic-width").is_some())
}
