//! The boot archive: what the hypervisor is given to run, in one file.
//!
//! It is a cpio archive in the "newc" format (the one Linux uses for its initramfs), uncompressed, which holds a manifest named
//! [`MANIFEST`] and the files that the manifest names: kernels, their initrds, and images of disks. The build machine writes it
//! ([`cpio::Writer`]), firmware loads it as the hypervisor's initrd, and the hypervisor reads it in place ([`Bundle::open`]).
//!
//! Nothing in an archive is trusted: every field is checked before use, and every error says in one line what is wrong and where.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;

pub mod cpio;
mod devices;
mod manifest;
mod parse;
mod pci;
mod size;
pub mod tables;

pub use devices::{
    DEFAULT_NETWORK, Device, Disk, DiskSource, MAX_DEVICES, MAX_SERIAL, Mac, Net, SECTOR, check_image,
};
pub use manifest::{
    DEFAULT_WEIGHT, Hypervisor, Lines, MAX_CMDLINE, MAX_MEMORY, MAX_VCPUS, MAX_WEIGHT, MEMORY_GRANULE,
    MIN_MEMORY, MIN_RESERVE, MONITOR, Manifest, ManifestError, Partition,
};
pub use pci::PciAddress;
pub use size::{Size, SizeError, parse_size};

/// The manifest's name inside the archive.
pub const MANIFEST: &str = "partitions.toml";

/// An archive that has been read and checked: the manifest is valid and every file it names is there.
#[derive(Debug)]
pub struct Bundle<'a> {
    manifest: Manifest,
    files: Vec<cpio::Entry<'a>>,
}

/// Why an archive cannot be used. `Display` gives one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleError {
    /// The bytes are not a readable archive.
    Archive(cpio::Error),
    /// The archive holds no manifest.
    NoManifest,
    /// The manifest is not UTF-8; the line of the first bad byte.
    ManifestEncoding(usize),
    /// The manifest is there and says something that cannot be used.
    Manifest(ManifestError),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(error) => write!(f, "boot archive: {error}"),
            Self::NoManifest => write!(f, "boot archive: it has no file named {MANIFEST}"),
            Self::ManifestEncoding(line) => write!(f, "{MANIFEST}:{line}: not UTF-8 text"),
            Self::Manifest(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for BundleError {}

impl<'a> Bundle<'a> {
    /// Reads a whole archive. File contents stay where they are: [`Bundle::file`] returns slices of `archive`.
    pub fn open(archive: &'a [u8]) -> Result<Self, BundleError> {
        let files =
            cpio::Reader::new(archive).collect::<Result<Vec<_>, _>>().map_err(BundleError::Archive)?;
        let bytes = lookup(&files, MANIFEST).ok_or(BundleError::NoManifest)?;
        let text = core::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            BundleError::ManifestEncoding(1 + before.iter().filter(|&&byte| byte == b'\n').count())
        })?;
        let manifest = Manifest::parse(MANIFEST, text, |name| lookup(&files, name).is_some())
            .map_err(BundleError::Manifest)?;
        let bundle = Self { manifest, files };
        bundle.check_images()?;
        Ok(bundle)
    }

    /// Checks what the files must be like that disks are made of.
    fn check_images(&self) -> Result<(), BundleError> {
        for disk in self.manifest.partitions.iter().flat_map(|partition| &partition.disks) {
            if let DiskSource::Image(name) = &disk.source
                && let Err(reason) = check_image(self.file(name).map_or(0, <[u8]>::len) as u64)
            {
                return Err(BundleError::Manifest(ManifestError {
                    file: MANIFEST.into(),
                    line: disk.line,
                    reason: alloc::format!("image: {name}: {reason}"),
                }));
            }
        }
        Ok(())
    }

    /// What is to be run.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The contents of a file that the manifest names. A leading `/` or `./` on either side does not matter.
    pub fn file(&self, name: &str) -> Option<&'a [u8]> {
        lookup(&self.files, name)
    }
}

fn lookup<'a>(files: &[cpio::Entry<'a>], name: &str) -> Option<&'a [u8]> {
    // As with an initramfs, a later entry of the same name replaces an earlier one.
    files
        .iter()
        .rev()
        .find(|entry| entry.is_file() && plain(entry.name) == plain(name))
        .map(|entry| entry.data)
}

fn plain(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./").or_else(|| name.strip_prefix('/')) {
        name = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;
    use std::string::ToString;
    use std::vec;

    fn archive(manifest: &[u8]) -> Vec<u8> {
        let mut writer = cpio::Writer::new();
        writer.file(MANIFEST, 0o644, manifest).unwrap();
        writer.file("./vmlinux", 0o644, b"kernel bytes").unwrap();
        writer.finish()
    }

    const GOOD: &str = "[[partition]]\nname = \"a\"\nmemory = \"64M\"\nkernel = \"/vmlinux\"\n";

    #[test]
    fn opens_in_place() {
        let bytes = archive(GOOD.as_bytes());
        let bundle = Bundle::open(&bytes).unwrap();
        assert_eq!(bundle.manifest().partitions.len(), 1);
        let kernel = bundle.file(&bundle.manifest().partitions[0].kernel).unwrap();
        assert_eq!(kernel, b"kernel bytes");
        assert!(bytes.as_ptr_range().contains(&kernel.as_ptr()));
        assert!(bundle.file("nothing").is_none());
    }

    #[test]
    fn says_what_is_missing() {
        let empty = cpio::Writer::new().finish();
        assert_eq!(
            Bundle::open(&empty).unwrap_err().to_string(),
            "boot archive: it has no file named partitions.toml"
        );
        let bytes = archive(b"# \xc3\xa9t\xc3\xa9\n\xff\n");
        assert_eq!(Bundle::open(&bytes).unwrap_err().to_string(), "partitions.toml:2: not UTF-8 text");
        let bytes = archive(GOOD.replace("vmlinux", "vmlinuz").as_bytes());
        assert_eq!(
            Bundle::open(&bytes).unwrap_err().to_string(),
            "partitions.toml:4: kernel: the archive has no file \"/vmlinuz\""
        );
    }

    #[test]
    fn images_are_whole_sectors() {
        let manifest = format!("{GOOD}[[partition.disk]]\nimage = \"root.img\"\n");
        let open = |image: &[u8]| {
            let mut writer = cpio::Writer::new();
            writer.file(MANIFEST, 0o644, manifest.as_bytes()).unwrap();
            writer.file("vmlinux", 0o644, b"kernel bytes").unwrap();
            writer.file("root.img", 0o644, image).unwrap();
            Bundle::open(&writer.finish()).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(open(&[1; 1024]), Ok(()));
        assert_eq!(open(b"").unwrap_err(), "partitions.toml:6: image: root.img: it is empty");
        let error = open(&[1; 1000]).unwrap_err();
        assert_eq!(error, "partitions.toml:6: image: root.img: its size is not a multiple of 512 bytes");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = archive(GOOD.as_bytes());
        // Padding after the trailer's name carries nothing, so a file that ends inside it is whole.
        let end = bytes.windows(10).position(|window| window == b"TRAILER!!!").unwrap() + 11;
        for length in 0..end {
            let error = Bundle::open(&bytes[..length]).unwrap_err();
            assert!(matches!(error, BundleError::Archive(_)), "{length}: {error}");
            assert!(!error.to_string().contains('\n'));
        }
        assert!(Bundle::open(&bytes[..end]).is_ok());
    }

    #[test]
    fn any_byte_changed_never_panics() {
        let bytes = archive(GOOD.as_bytes());
        for at in 0..bytes.len() {
            for value in [0, b'0', b'9', b'f', b'F', b'/', 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Err(error) = Bundle::open(&changed) {
                    assert!(!format!("{error}").contains('\n'), "{error}");
                }
            }
        }
        let _ = Bundle::open(&vec![0xff; 4096]);
    }
}
