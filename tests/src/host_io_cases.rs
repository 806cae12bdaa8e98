//! The cases with the host's own disks, network card and source of random numbers.

use crate::linux_cases::init;
use crate::transcript::{in_order, none_failed};
use crate::{Case, Contents, Endian, HostDisk, Machine, PackedFile, Step, Transcript};
use std::time::Duration;

/// A source of random numbers, where there is nothing else of the host's own. Processors from POWER9 on have their own, and it is not used.
pub(crate) const HOST_RNG: &[&str] = &["virtio-rng-pci,bus=pcie.0,disable-legacy=on,iommu_platform=on"];

/// A partition with disks of the host's.
macro_rules! with_disk {
    ($name:literal, $serial:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nmemory = \"64M\"\nkernel = \"hostdisk\"\n[[partition.disk]]\nhost = \"",
            $serial,
            "\"\n"
        )
    };
}

const LITTLE: &[(&str, PackedFile)] =
    &[("hostdisk", PackedFile::Guest { bin: "hostdisk", endian: Endian::Little })];

/// What the last start has written: the count of starts, a part with eight sectors of zeroes, the last sector.
fn written(disk: &[u8]) -> Result<(), String> {
    let is = |from: usize, bytes: usize, byte: u8| disk[from..from + bytes].iter().all(|it| *it == byte);
    let sector = |n: usize| 512 * n;
    let expected = [
        ("count", disk[sector(8)..sector(8) + 8] == 3u64.to_le_bytes()),
        ("part", is(sector(128), sector(64), 3) && is(sector(200), sector(440), 3)),
        ("zeroed", is(sector(192), sector(8), 0)),
        ("between", is(sector(9), sector(119), 0) && is(sector(640), sector(8191 - 640), 0)),
        ("last", is(sector(8191), 512, 0x77)),
    ];
    match expected.into_iter().find(|(_, good)| !good) {
        None => Ok(()),
        Some((what, _)) => Err(format!("{what} is not in the file")),
    }
}

/// Three starts.
fn kept(t: &Transcript) -> Result<(), String> {
    none_failed(t)?;
    let disk = "disk0: 4M virtio disk \"disk0\" at 0002:01:00.2";
    in_order(t, &[disk, "@ start 1", "@ start 2", "@ start 3", "@ check flush ok", "@ flushed"])
}

const FOUR_MIB: HostDisk = HostDisk { bytes: 4 << 20, contents: Contents::Zeroes(|_| Ok(())) };

fn disk(name: &'static str, manifest: &'static str) -> Case {
    Case { disks: &[FOUR_MIB], ..Case::partitions(name, manifest, LITTLE) }
}

/// Two guests that get addresses from outside and reach it, and random numbers.
const OUTSIDE: &str = init!(
    "modprobe -a virtio_pci virtio_net virtio_rng\n\
     printf '#!/bin/sh\\n[ $1 = bound ] && ip addr add $ip/24 dev $interface && echo $ip > /tmp/ip\\n' > /tmp/bound\n\
     chmod +x /tmp/bound\n\
     ip link set eth0 up\n\
     udhcpc -i eth0 -n -q -s /tmp/bound > /dev/null 2>&1\n\
     check address \"$(cut -d. -f1-3 /tmp/ip)\" 10.0.2\n\
     check outside \"$(ping -c 3 -i 0.2 10.0.2.2 | grep -c 'bytes from')\" 3\n\
     check large \"$(ping -c 3 -i 0.2 -s 1472 10.0.2.2 | grep -c 'bytes from')\" 3\n\
     check random \"$(head -c 3000 /dev/hwrng | wc -c)\" 3000\n\
     check different \"$(head -c 64 /dev/hwrng | md5sum | grep -c \"$(head -c 64 /dev/hwrng | md5sum)\")\" 0\n",
    "echo \"@ done passed=$passed failed=$failed\"\n\
     read now\n\
     poweroff -f\n"
);
const OUTSIDE_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    (
        "outside",
        PackedFile::DriverInitramfs { init: OUTSIDE, drivers: &["virtio_pci", "virtio_net", "virtio_rng"] },
    ),
];
macro_rules! outside {
    ($name:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nmemory = \"192M\"\nkernel = \"debian\"\ninitrd = \"outside\"\ncmdline = \"console=hvc0 quiet\"\nrng = true\n\
             [[partition.net]]\n"
        )
    };
}

/// Both have come to their end.
fn both(t: &Transcript) -> Result<(), String> {
    none_failed(t)?;
    match t.records("done").filter(|done| *done == "passed=5 failed=0").count() {
        2 => Ok(()),
        n => Err(format!("{n} guests came to their end, not 2")),
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case {
            disks: &[HostDisk { contents: Contents::Zeroes(written), ..FOUR_MIB }],
            kill: Some("@ flushed"),
            judge: kept,
            ..disk("hostdisk", with_disk!("guest", "disk0"))
        },
        Case {
            status: 2,
            machines: &[Machine::PowerNv9],
            judge: |t| in_order(t, &["partition guest: disk \"blue\": not there; the host has \"disk0\""]),
            ..disk("hostdisk-elsewhere", with_disk!("guest", "blue"))
        },
        Case {
            machines: &[Machine::PowerNv9],
            judge: |t| in_order(t, &["disk \"disk0\": another partition has it", "net0 ", "disk0 "]),
            script: vec![Step { expect: "partita> ", send: "define guest other\ndevices\nshutdown\n" }],
            net: true,
            ..disk(
                "hostdisk-taken",
                concat!("[hypervisor]\nconsole = \"monitor\"\n", with_disk!("guest", "disk0")),
            )
        },
        Case {
            net: true,
            script: vec![
                Step { expect: "@ done ", send: "\x1dconsole two\nq\n" },
                Step { expect: "@ done ", send: "\x1dconsole one\nq\n" },
            ],
            timeout: Duration::from_secs(120),
            judge: both,
            ..Case::partitions("host-net", concat!(outside!("one"), outside!("two")), OUTSIDE_FILES)
        },
    ]
}
