//! Makes a partition's devices, as its table in the manifest says.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use bundle::DiskSource;
use frames::FRAME;
use phb::{Doorbell, HostBridge};
use power::Lpid;
use switch::{Mac, Port, Sources};
use virtio::balloon::BalloonDevice;
use virtio::blk::{Blk, Overlay};
use virtio::console::Console;
use virtio::net::Card;
use virtio::rng::Rng;
use virtio::{Device, Transport};

use super::disk::DiskBlock;
use super::passed::Passed;
use super::work::Bell;
use super::{Devices, FIRST};
use crate::{entropy, host, log, network, pci};

/// The devices that a partition's table names; none if it names none. For a copy of a partition, whose devices will be those of the other's,
/// they are not made (`copy`). An error is one line for the user.
pub fn define(
    lpid: Lpid,
    table: &bundle::Partition,
    copy: bool,
    passed: &pci::Claim,
    files: impl Fn(&str) -> Option<&'static [u8]>,
) -> Result<Option<Devices>, String> {
    if !table.has_emulated() && passed.is_empty() {
        return Ok(None);
    }
    let mut bridge = HostBridge::new(FIRST, table.memory);
    // The first slots.
    for device in passed.each() {
        let _ = bridge.add(Box::new(Passed::new(device, lpid)), true);
    }
    let bell = Arc::new(Bell::new(lpid));
    let mut add = |device: Box<dyn Device>, translated: bool| {
        let transport = Transport::new(device);
        let transport = if translated { transport } else { transport.untranslated() };
        // There are fewer kinds of devices, and fewer of each, than slots.
        let _ = bridge.add(Box::new(transport), translated);
    };
    if !copy {
        for (n, disk) in table.disks.iter().enumerate() {
            let name = match &disk.source {
                DiskSource::Image(name) => name,
                DiskSource::Host(serial) => {
                    let disk = host::claim_disk(serial, disk.read_only)?;
                    add(Box::new(Blk::new(disk)), table.iommu);
                    continue;
                }
            };
            let image = files(name).ok_or_else(|| format!("{name}: not in the boot archive"))?;
            // All of it may be written.
            let blocks = image.len().div_ceil(FRAME as usize);
            let id = format!("{}-{n}", table.name);
            let overlay = Overlay::<DiskBlock>::new(image, blocks, disk.read_only, &id);
            add(Box::new(Blk::new(Box::new(overlay))), table.iommu);
        }
        for net in &table.nets {
            let port = Port::new(&network::named(&net.network), Sources::Own(Mac(net.mac.0)));
            add(Box::new(Card::new(port)), table.iommu);
        }
        if table.rng {
            if entropy::is_there() {
                add(Box::new(Rng::new(Box::new(entropy::Source::default()))), table.iommu);
            } else {
                log!(
                    "partition {}: the host has no source of random numbers, so neither has this",
                    table.name
                );
            }
        }
        if table.balloon && !passed.is_empty() {
            log!("partition {}: its devices reach all its memory, so it has no balloon", table.name);
        } else if table.balloon {
            // It is about real addresses.
            let unit = if table.huge_pages { 16 << 20 } else { FRAME };
            add(Box::new(BalloonDevice::new(table.memory, unit)), false);
        }
        if table.second_console {
            add(Box::new(Console::new()), table.iommu);
        }
    }
    let doorbell: Arc<dyn Doorbell> = bell.clone();
    bridge.attach(&doorbell);
    Ok(Some(Devices::new(bridge, bell)))
}
