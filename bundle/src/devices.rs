//! A partition's devices: disks and network cards that the hypervisor makes, and devices of the host that it has to itself.

use crate::PciAddress;
use crate::manifest::{line, quoted};
use alloc::string::{String, ToString};
use core::fmt;

/// The most disks, and the most network cards, of a partition.
pub const MAX_DEVICES: usize = 8;
/// A disk is a whole number of sectors of this size.
pub const SECTOR: u64 = 512;
/// The longest serial number of a disk in bytes (Virtio 1.2, 5.2.6.1).
pub const MAX_SERIAL: usize = 20;
/// The network of a card that names none. If the host has a network card, it is a port of this one.
pub const DEFAULT_NETWORK: &str = "lan";

/// One `[[partition.device]]`.
#[derive(Debug, Clone, Copy, Eq)]
pub struct Device {
    /// The device.
    pub pci: PciAddress,
    /// The manifest's line, as in [`crate::Lines`]: it does not count in comparisons.
    pub line: usize,
}

/// One `[[partition.disk]]`.
#[derive(Debug, Clone, Eq)]
pub struct Disk {
    /// Where its contents come from.
    pub source: DiskSource,
    /// Whether the guest can only read it.
    pub read_only: bool,
    /// The manifest's line, as in [`crate::Lines`]: it does not count in comparisons.
    pub line: usize,
}

/// What is behind a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// A file of the archive, by its name; what is written is kept in memory and goes with the partition.
    Image(String),
    /// A disk of the host, by its serial number.
    Host(String),
}

/// One `[[partition.net]]`.
#[derive(Debug, Clone, Eq)]
pub struct Net {
    /// The card's address; of the whole manifest, each only once.
    pub mac: Mac,
    /// The network it is on.
    pub network: String,
    /// The manifest's line, as in [`crate::Lines`]: it does not count in comparisons.
    pub line: usize,
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.pci == other.pci
    }
}

impl PartialEq for Disk {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, self.read_only) == (&other.source, other.read_only)
    }
}

impl PartialEq for Net {
    fn eq(&self, other: &Self) -> bool {
        (self.mac, &self.network) == (other.mac, &other.network)
    }
}

impl Disk {
    /// A disk that can be written.
    pub fn new(source: DiskSource) -> Self {
        Self { source, read_only: false, line: 0 }
    }

    pub(crate) fn to_toml(&self, text: &mut String) {
        text.push_str("[[partition.disk]]\n");
        match &self.source {
            DiskSource::Image(file) => line(text, "image", quoted(file)),
            DiskSource::Host(serial) => line(text, "host", quoted(serial)),
        }
        if self.read_only {
            line(text, "read-only", "true");
        }
    }
}

impl Net {
    /// The card of that number of the partition of that number, both from 0, with nothing said about it.
    pub fn new(partition: usize, card: usize) -> Self {
        Self { mac: Mac::derived(partition, card), network: DEFAULT_NETWORK.to_string(), line: 0 }
    }

    pub(crate) fn to_toml(&self, text: &mut String) {
        text.push_str("[[partition.net]]\n");
        line(text, "mac", quoted(&self.mac.to_string()));
        if self.network != DEFAULT_NETWORK {
            line(text, "network", quoted(&self.network));
        }
    }
}

/// Whether a file of so many bytes can be a disk. If not: why.
pub fn check_image(bytes: u64) -> Result<(), &'static str> {
    match bytes {
        0 => Err("it is empty"),
        _ if !bytes.is_multiple_of(SECTOR) => Err("its size is not a multiple of 512 bytes"),
        _ => Ok(()),
    }
}

/// An Ethernet address, in the order of the wire. Bit 0 (of value 1) of the first byte marks those of groups, which no card has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of a card that is given none: 52:54:00, the partition's number from 1 in two bytes, the card's from 0.
    pub fn derived(partition: usize, card: usize) -> Self {
        let [.., high, low] = (partition + 1).to_be_bytes();
        Self([0x52, 0x54, 0, high, low, card as u8])
    }

    /// Reads six numbers of two hexadecimal digits with colons between them.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next()?;
            let fine = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16).ok().filter(|_| fine)?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }

    /// Whether it is a group's: broadcast or multicast.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn addresses() {
        let mac = Mac([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        assert_eq!(Mac::parse("52:54:00:aB:Cd:EF"), Some(mac));
        assert!(!mac.is_group());
        assert!(Mac::parse("ff:ff:ff:ff:ff:ff").unwrap().is_group());
        assert!(Mac::parse("01:00:5e:00:00:01").unwrap().is_group());
        assert_eq!(Mac::derived(0, 0).to_string(), "52:54:00:00:01:00");
        assert_eq!(Mac::derived(0x1ff, 7).to_string(), "52:54:00:02:00:07");
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:ef:",
            "52:54:00:ab:cd:ef:01",
            "52:54:00:ab:cd:+f",
            "52:54:0:ab:cd:ef",
            "52-54-00-ab-cd-ef",
            "525400abcdef",
            "52:54:00:ab:cd:eg",
            " 52:54:00:ab:cd:ef",
        ] {
            assert_eq!(Mac::parse(text), None, "{text}");
        }
    }

    #[test]
    fn images() {
        assert!(check_image(512).is_ok());
        assert!(check_image(3 << 40).is_ok());
        for bytes in [0, 1, 511, 513, (1 << 30) + 1] {
            assert!(check_image(bytes).is_err(), "{bytes}");
        }
    }
}
