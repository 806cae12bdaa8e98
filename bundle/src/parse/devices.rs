//! The devices of a partition: `[[partition.disk]]`, `[[partition.net]]` and `[[partition.device]]`.

use super::table::Table;
use super::{Fault, line_of, word, wrong};
use crate::devices::{DEFAULT_NETWORK, Device, Disk, DiskSource, MAX_DEVICES, MAX_SERIAL, Mac, Net};
use crate::{Partition, PciAddress};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use toml::Spanned;

pub(super) struct RawDevice {
    pci: Spanned<String>,
}

pub(super) struct RawDisk {
    pub(super) image: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    read_only: bool,
    at: usize,
}

pub(super) struct RawNet {
    mac: Option<Spanned<String>>,
    network: Option<Spanned<String>>,
    at: usize,
}

impl RawDevice {
    pub(super) const KEYS: &[&str] = &["pci"];

    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        Ok(Self { pci: table.required("pci")? })
    }
}

impl RawDisk {
    pub(super) const KEYS: &[&str] = &["image", "host", "read-only"];

    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        Ok(Self {
            image: table.text("image")?,
            host: table.text("host")?,
            read_only: table.flag("read-only")?.unwrap_or(false),
            at: table.at,
        })
    }
}

impl RawNet {
    pub(super) const KEYS: &[&str] = &["mac", "network"];

    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        Ok(Self { mac: table.text("mac")?, network: table.text("network")?, at: table.at })
    }
}

/// A partition's devices of the host: of the whole manifest, each only once. `others` are the partitions above it.
pub(super) fn devices(text: &str, written: &[RawDevice], others: &[Partition]) -> Result<Vec<Device>, Fault> {
    let mut devices: Vec<Device> = Vec::with_capacity(written.len());
    for RawDevice { pci } in written {
        let Some(address) = PciAddress::parse(pci.get_ref()) else {
            return Err(wrong("pci", pci, &"not a device's address, as in 0000:01:00.0"));
        };
        let elsewhere = others.iter().flat_map(|other| &other.devices);
        if let Some(other) = elsewhere.chain(&devices).find(|other| other.pci == address) {
            let reason = format!("pci: {address} is given away in line {} already", other.line);
            return Err((pci.span().start, reason));
        }
        devices.push(Device { pci: address, line: line_of(text, pci.span().start) });
    }
    Ok(devices)
}

/// A partition's disks. One of the host is only one partition's, and there once.
pub(super) fn disks(
    text: &str,
    written: &[RawDisk],
    exists: &impl Fn(&str) -> bool,
    others: &[Partition],
) -> Result<Vec<Disk>, Fault> {
    not_too_many("disks", written.iter().map(|disk| disk.at))?;
    let mut disks: Vec<Disk> = Vec::with_capacity(written.len());
    for raw in written {
        let (source, at) = match (&raw.image, &raw.host) {
            (Some(image), None) => {
                let name = image.get_ref();
                if !exists(name) {
                    let reason = format!("image: the archive has no file \"{name}\"");
                    return Err((image.span().start, reason));
                }
                (DiskSource::Image(name.clone()), image.span().start)
            }
            (None, Some(host)) => (DiskSource::Host(serial(host)?), host.span().start),
            (Some(_), Some(host)) => {
                return Err((host.span().start, "host: the disk has an image already".to_string()));
            }
            (None, None) => {
                return Err((raw.at, "disk: give it an image, or a disk of the host".to_string()));
            }
        };
        let known = others.iter().flat_map(|other| &other.disks).chain(&disks);
        if let DiskSource::Host(serial) = &source
            && let Some(other) = known.into_iter().find(|other| other.source == source)
        {
            let reason = format!("host: \"{serial}\" is given away in line {} already", other.line);
            return Err((at, reason));
        }
        disks.push(Disk { source, read_only: raw.read_only, line: line_of(text, at) });
    }
    Ok(disks)
}

/// A partition's network cards, no two of the manifest with the same address.
pub(super) fn nets(text: &str, written: &[RawNet], others: &[Partition]) -> Result<Vec<Net>, Fault> {
    not_too_many("network cards", written.iter().map(|card| card.at))?;
    let mut nets: Vec<Net> = Vec::with_capacity(written.len());
    for (card, raw) in written.iter().enumerate() {
        let (mac, at) = match &raw.mac {
            Some(mac) => (address(mac)?, mac.span().start),
            None => (Mac::derived(others.len(), card), raw.at),
        };
        if let Some(other) = others.iter().flat_map(|other| &other.nets).chain(&nets).find(|o| o.mac == mac) {
            return Err((
                at,
                format!("mac: {mac} is the address of the card in line {} already", other.line),
            ));
        }
        let network = raw.network.as_ref().map(|name| word("network", name)).transpose()?;
        let network = network.unwrap_or_else(|| DEFAULT_NETWORK.to_string());
        nets.push(Net { mac, network, line: line_of(text, at) });
    }
    Ok(nets)
}

fn not_too_many(what: &str, mut places: impl Iterator<Item = usize>) -> Result<(), Fault> {
    let excess = places.nth(MAX_DEVICES);
    excess.map_or(Ok(()), |at| Err((at, format!("a partition can have at most {MAX_DEVICES} {what}"))))
}

fn serial(written: &Spanned<String>) -> Result<String, Fault> {
    let serial = written.get_ref();
    let fine = (1..=MAX_SERIAL).contains(&serial.len()) && serial.bytes().all(|byte| byte.is_ascii_graphic());
    if !fine {
        let reason = format_args!("not a disk's serial number: 1 to {MAX_SERIAL} letters, digits and signs");
        return Err(wrong("host", written, &reason));
    }
    Ok(serial.clone())
}

fn address(written: &Spanned<String>) -> Result<Mac, Fault> {
    match Mac::parse(written.get_ref()) {
        None => Err(wrong("mac", written, &"not a card's address, as in 52:54:00:00:01:00")),
        Some(mac) if mac.is_group() => {
            Err(wrong("mac", written, &"the address of a group: its first byte is odd"))
        }
        Some(Mac([0, 0, 0, 0, 0, 0])) => Err(wrong("mac", written, &"no card has this address")),
        Some(mac) => Ok(mac),
    }
}
