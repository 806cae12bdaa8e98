//! The host's own devices: those of `--disk` and `--net` and a source of random numbers, as QEMU is told of them.
//!
//! They are functions of one PCI device, because powernv8 has no more than three places for devices. The first two places, `pcie.0` and
//! `pcie.1`, are left to what the user has QEMU add.

use crate::Failure;
use crate::options::Options;
use bundle::{Disk, DiskSource, Net, SECTOR, check_image};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A device has eight functions; the first two are the source of random numbers and the network card.
pub const MAX_DISKS: usize = 6;

/// The serial number of a disk of `--disk`, counted from 0: what a manifest calls it.
fn serial(number: usize) -> String {
    format!("disk{number}")
}

/// The disks of `--disk`, for a partition that has them all.
pub fn disks(options: &Options) -> Vec<Disk> {
    (0..options.disks.len()).map(|number| Disk::new(DiskSource::Host(serial(number)))).collect()
}

/// The network card of `--net`, for the first partition.
pub fn nets(options: &Options) -> Vec<Net> {
    options.net.then(|| Net::new(0, 0)).into_iter().collect()
}

/// Checks that a file can be a disk of the host, which is written.
pub fn check_disk(path: &Path) -> Result<(), Failure> {
    let fail = |what: &dyn std::fmt::Display| Failure::usage(format!("--disk {}: {what}", path.display()));
    let mut file = File::open(path).map_err(|error| fail(&format_args!("cannot read it: {error}")))?;
    if file.metadata().is_ok_and(|data| data.is_dir()) {
        return Err(fail(&"it is a folder"));
    }
    File::options()
        .append(true)
        .open(path)
        .map_err(|error| fail(&format_args!("cannot write it: {error}")))?;
    // A block device has a size only in this way.
    let bytes =
        file.seek(SeekFrom::End(0)).map_err(|error| fail(&format_args!("cannot tell its size: {error}")))?;
    check_image(bytes).map_err(|reason| {
        let more = bytes.next_multiple_of(SECTOR).max(SECTOR);
        fail(&format_args!("{reason} (truncate -s {more} makes it one)"))
    })
}

/// What QEMU is told of them.
pub fn arguments(options: &Options) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let device = |function: usize, what: &str| {
        // The first function says that there are more.
        let multifunction = if function == 0 { ",multifunction=on" } else { "" };
        let place = format!("bus=pcie.2,addr=0.{function}{multifunction}");
        // DMA by the host bridge's rules, as of any other device.
        ["-device".into(), OsString::from(format!("{what},{place},disable-legacy=on,iommu_platform=on"))]
    };
    arguments.extend(device(0, "virtio-rng-pci"));
    if options.net {
        // Nothing boots from it: QEMU need not find its boot program, a package of its own.
        arguments.extend(["-netdev", "user,id=net0"].map(OsString::from));
        arguments.extend(device(1, "virtio-net-pci,netdev=net0,romfile="));
    }
    for (number, path) in options.disks.iter().enumerate() {
        let name = serial(number);
        let mut drive = OsString::from(format!("id={name},format=raw,if=none,file="));
        drive.push(doubled_commas(path));
        arguments.extend(["-drive".into(), drive]);
        arguments.extend(device(2 + number, &format!("virtio-blk-pci,drive={name},serial={name}")));
    }
    arguments
}

/// A path as QEMU's options have it: a comma is written twice.
pub fn doubled_commas(path: &Path) -> OsString {
    let mut out = OsString::new();
    for (at, part) in path.as_os_str().as_encoded_bytes().split(|&byte| byte == b',').enumerate() {
        if at > 0 {
            out.push(",,");
        }
        out.push(OsStr::from_bytes(part));
    }
    out
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn files_that_cannot_be_disks() {
        let dir = std::env::temp_dir().join(format!("partita-disk-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("disk");
        let checked = |bytes: u64| {
            File::create(&path).unwrap().set_len(bytes).unwrap();
            check_disk(&path).map_err(|failure| failure.message.replace(&format!("{}/", dir.display()), ""))
        };
        assert_eq!(checked(512), Ok(()));
        assert_eq!(checked(3 << 30), Ok(()));
        assert_eq!(checked(0), Err("--disk disk: it is empty (truncate -s 512 makes it one)".into()));
        assert_eq!(
            checked(1000),
            Err("--disk disk: its size is not a multiple of 512 bytes (truncate -s 1024 makes it one)".into())
        );
        assert!(check_disk(&dir).unwrap_err().message.ends_with(": it is a folder"));
        std::fs::remove_dir_all(&dir).unwrap();
        let error = check_disk(&path).unwrap_err();
        assert_eq!(error.status, crate::status::USAGE);
        assert!(error.message.contains(": cannot read it: "), "{error}");
    }

    #[test]
    fn what_qemu_is_told() {
        let options = Options { disks: vec!["a".into(), "b,c".into()], net: true, ..Options::default() };
        let rest = "disable-legacy=on,iommu_platform=on";
        let expected = [
            "-device".into(),
            format!("virtio-rng-pci,bus=pcie.2,addr=0.0,multifunction=on,{rest}"),
            "-netdev".into(),
            "user,id=net0".into(),
            "-device".into(),
            format!("virtio-net-pci,netdev=net0,romfile=,bus=pcie.2,addr=0.1,{rest}"),
            "-drive".into(),
            "id=disk0,format=raw,if=none,file=a".into(),
            "-device".into(),
            format!("virtio-blk-pci,drive=disk0,serial=disk0,bus=pcie.2,addr=0.2,{rest}"),
            "-drive".into(),
            "id=disk1,format=raw,if=none,file=b,,c".into(),
            "-device".into(),
            format!("virtio-blk-pci,drive=disk1,serial=disk1,bus=pcie.2,addr=0.3,{rest}"),
        ];
        assert_eq!(arguments(&options), expected.map(OsString::from));
        assert_eq!(arguments(&Options::default()).len(), 2);
        let names: Vec<_> = disks(&options).into_iter().map(|disk| disk.source).collect();
        assert_eq!(names, ["disk0", "disk1"].map(|name| DiskSource::Host(name.into())));
        assert_eq!((nets(&options).len(), nets(&Options::default()).len()), (1, 0));
    }
}
