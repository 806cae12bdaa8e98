//! Running a guest program under QEMU's own pseries machine, whose hypervisor calls are an independent oracle.
//!
//! The program takes the place of the firmware: its loaded image goes in as `-bios`, at real address 0, and starts at
//! 0x100 with r3 = device tree, as a partition here does.

use crate::{Case, Emulated, Machine, Step};

/// QEMU's arguments for runs that count instructions instead of time: processors take turns, and runs repeat exactly.
pub const ICOUNT: [&str; 4] = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"];
/// QEMU's arguments for processors that run at the same time.
pub const MTTCG: [&str; 2] = ["-accel", "tcg,thread=multi"];

/// The pseries machine, as much like a partition here as it can be made.
pub const MACHINE: &str = "pseries,ic-mode=xics,cap-hpt-max-page-size=64k,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off,usb=off";

/// The ELF64 image (either byte order) as it stands in memory from real address 0, `p_paddr` counting.
/// `None` if it is not such a file.
pub fn flatten(elf: &[u8]) -> Option<Vec<u8>> {
    if elf.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let little = *elf.get(5)? == 1;
    let get = |at: u64, len: usize| -> Option<u64> {
        let bytes = elf.get(usize::try_from(at).ok()?..)?.get(..len)?;
        let fold = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    let (table, size, count) = (get(32, 8)?, get(54, 2)?, get(56, 2)?);
    let mut image = Vec::new();
    for i in 0..count {
        let header = table + i * size;
        let (kind, offset, address, length) =
            (get(header, 4)?, get(header + 8, 8)?, get(header + 24, 8)?, get(header + 32, 8)?);
        if kind != 1 || length == 0 {
            continue;
        }
        let (offset, address, length) =
            (usize::try_from(offset).ok()?, usize::try_from(address).ok()?, usize::try_from(length).ok()?);
        let bytes = elf.get(offset..)?.get(..length)?;
        let end = address.checked_add(length).filter(|&end| end <= 4 << 20)?;
        if image.len() < end {
            image.resize(end, 0);
        }
        image[address..end].copy_from_slice(bytes);
    }
    (!image.is_empty()).then_some(image)
}

/// QEMU's arguments for a case on the pseries machine with one processor model. `flat` is a file with what
/// [`flatten`] made of the program, `elf` the program itself (QEMU wants a kernel when there is a command line; it is
/// loaded above 4 MiB and never entered).
pub fn qemu_args(case: &Case, machine: Machine, flat: &str, elf: &str) -> Vec<String> {
    let machine_type = if case.huge_pages { MACHINE.replace("=64k", "=16M") } else { MACHINE.into() };
    let pace: &[&str] = if case.mttcg { &MTTCG } else { &ICOUNT };
    let machine_args = [
        "-M",
        &machine_type,
        "-cpu",
        machine.cpu(),
        "-smp",
        &case.vcpus.to_string(),
        "-m",
        &format!("{}M", case.guest_memory),
        "-bios",
        flat,
        "-kernel",
        elf,
        "-append",
        case.append,
        "-rtc",
        "base=utc,clock=vm",
        "-nographic",
        "-nodefaults",
        "-serial",
        "mon:stdio",
        "-vga",
        "none",
    ];
    machine_args.iter().chain(pace).map(|&text| text.to_owned()).collect()
}

/// QEMU's arguments for [`Case::emulated`]; the disk's image is in a file.
pub fn emulated_args(emulated: Emulated, disk: &str) -> Vec<String> {
    let iommu = if emulated.iommu { "on" } else { "off" };
    let device = |kind: &str| format!("virtio-{kind}-pci,disable-legacy=on,iommu_platform={iommu}");
    vec![
        "-drive".into(),
        format!("if=none,id=disk,format=raw,cache=unsafe,file={disk}"),
        "-device".into(),
        device("blk") + ",drive=disk",
        "-device".into(),
        device("rng"),
    ]
}

/// QEMU's arguments for a Linux on the pseries machine, with hashed page tables like a partition here. Virtual Open Firmware runs
/// outside of the machine, so its timebase begins with the kernel. When the guest has switched itself off the machine stands still:
/// [`linux_script`] asks it for the time then.
pub fn linux_args(case: &Case, machine: Machine, kernel: &str, initrd: &str) -> Vec<String> {
    let machine_args = [
        "-M",
        &format!("{MACHINE},x-vof=on"),
        "-cpu",
        machine.cpu(),
        "-smp",
        &case.vcpus.to_string(),
        "-m",
        &format!("{}M", case.guest_memory),
        "-kernel",
        kernel,
        "-initrd",
        initrd,
        "-append",
        &format!("{} disable_radix", case.append),
        "-rtc",
        "base=utc,clock=vm",
        "-display",
        "none",
        "-nodefaults",
        "-serial",
        "mon:stdio",
        "-vga",
        "none",
        "-no-reboot",
        "-no-shutdown",
    ];
    machine_args.iter().chain(&ICOUNT).map(|&text| text.to_owned()).collect()
}

/// The step of [`linux_script`] that is to be repeated until the machine has come to its end.
pub const LINUX_INSISTS: usize = 1;

/// What is typed then: Ctrl-A C leads to QEMU's monitor.
pub fn linux_script() -> Vec<Step> {
    [
        ("reboot: Power down", "\x01c"),
        ("(qemu)", "info status\n"),
        ("paused (shutdown)", "info registers\n"),
        (" DECR ", "quit\n"),
    ]
    .map(|(expect, send)| Step { expect, send })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flattens_either_order_and_refuses_the_rest() {
        for little in [true, false] {
            let n = |v: u64, len: usize| {
                let b = v.to_be_bytes();
                let mut b = b[8 - len..].to_vec();
                if little {
                    b.reverse();
                }
                b
            };
            let mut elf = vec![0x7f, b'E', b'L', b'F', 2, if little { 1 } else { 2 }, 1, 0];
            elf.resize(32, 0);
            elf.extend(n(64, 8));
            elf.resize(54, 0);
            elf.extend(n(56, 2));
            elf.extend(n(1, 2));
            elf.resize(64, 0);
            for (v, len) in [(1, 4), (7, 4), (120, 8), (0xc000, 8), (0x10, 8), (3, 8), (100, 8), (8, 8)] {
                elf.extend(n(v, len));
            }
            elf.extend(b"abc");
            let image = flatten(&elf).unwrap();
            assert_eq!(image.len(), 0x13);
            assert_eq!(&image[0x10..], b"abc");
            assert!(flatten(&elf[..122]).is_none());
        }
        assert!(flatten(b"#!/bin/sh\n").is_none());
    }
}
