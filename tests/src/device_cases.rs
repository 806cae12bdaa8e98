//! The cases with devices of the host's that partitions have to themselves: QEMU's `edu`, which is there to be tried, and `nvme`, which can be
//! reset. Behind host bridge N they are `000N:01:00.0` on all machines; `pcie.N` is QEMU's name of the bus.

use crate::partition_cases::{all_ended_well, little};
use crate::transcript::in_order;
use crate::{Case, Endian, Machine, PackedFile, Step, Transcript};
use std::time::Duration;

const EDU: &[&str] = &["edu,bus=pcie.0"];

/// One partition with a device: the one at the first host bridge.
macro_rules! one {
    ($rest:literal) => {
        one!("guest", "64M", "edu", $rest, "0000:01:00.0")
    };
    ($name:literal, $memory:literal, $kernel:literal, $rest:literal, $at:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nmemory = \"",
            $memory,
            "\"\nkernel = \"",
            $kernel,
            "\"\n",
            $rest,
            "[[partition.device]]\npci = \"",
            $at,
            "\"\n"
        )
    };
}

/// One without, which lives on until the others have been heard.
macro_rules! beside {
    ($name:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nmemory = \"32M\"\nkernel = \"states\"\ncmdline = \"name=",
            $name,
            "\"\n"
        )
    };
}

const ONE: &str = one!("");
const BYTE: &str = concat!(one!("cmdline = \"byte\"\n"), beside!("n"));
const HUGE: &str = one!("cmdline = \"huge\"\nhuge-pages = true\n");
const LITTLE: &[(&str, PackedFile)] = &[("edu", little("edu"))];
const BIG: &[(&str, PackedFile)] = &[("edu", PackedFile::Guest { bin: "edu", endian: Endian::Big })];
const DMA: &[(&str, PackedFile)] = &[("edu", little("dma"))];
const DMA_BIG: &[(&str, PackedFile)] = &[("edu", PackedFile::Guest { bin: "dma", endian: Endian::Big })];
/// With memory that is no power of two: on QEMU an address behind the translations of a device counts from the first again.
const REACHED: &str = one!("guest", "48M", "edu", "", "0000:01:00.0");
/// Two of these at the same time.
const TWO: &str = concat!(
    beside!("y"),
    "\n",
    one!("one", "48M", "dma", "", "0000:01:00.0"),
    "\n",
    one!("two", "48M", "dma", "", "0001:01:00.0")
);
const TWO_FILES: &[(&str, PackedFile)] = &[("dma", little("dma")), ("states", little("states"))];
const TWO_EDU: &[&str] =
    &["edu,bus=pcie.0,dma_mask=0xffffffffffffffff", "edu,bus=pcie.1,dma_mask=0xffffffffffffffff"];
/// It reaches any address that it is told.
const EDU_WIDE: &[&str] = &["edu,bus=pcie.0,dma_mask=0xffffffffffffffff"];
const RECOVERED: &str = one!("cmdline = \"recover\"\n");
const RESET: &[(&str, PackedFile)] = &[("edu", little("flr"))];

/// Two functions behind a switch, with one interrupt line, and one at another host bridge: each partition has one.
const THREE: &str = concat!(
    beside!("y"),
    "\n",
    one!("one", "64M", "edu", "cmdline = \"lineless\"\n", "0000:04:00.0"),
    "\n",
    one!("two", "64M", "edu", "cmdline = \"lineless\"\n", "0000:03:00.0"),
    "\n",
    one!("three", "64M", "edu", "", "0001:01:00.0")
);
const SWITCH: &[&str] = &[
    "x3130-upstream,bus=pcie.0,id=up",
    "xio3130-downstream,bus=up,id=first,chassis=5,slot=1,addr=1",
    "xio3130-downstream,bus=up,id=second,chassis=5,slot=2,addr=5",
    "edu,bus=first",
    "edu,bus=second",
    "edu,bus=pcie.1",
];

/// Behind a switch, whose ports reset what is behind them.
const BEHIND_SWITCH: &str = "\
[[partition]]
name = \"guest\"
memory = \"64M\"
kernel = \"edu\"
cmdline = \"recover\"
[[partition.device]]
pci = \"0000:03:00.0\"
";
const RESET_SWITCH: &[&str] = &[
    "x3130-upstream,bus=pcie.0,id=up",
    "xio3130-downstream,bus=up,id=first,chassis=5,slot=1",
    "qemu-xhci,bus=first",
];
/// Two functions of one device, both of one partition: they are reset together.
const TOGETHER: &str = "\
[[partition]]
name = \"guest\"
memory = \"64M\"
kernel = \"edu\"
cmdline = \"together\"
[[partition.device]]
pci = \"0000:03:00.0\"
[[partition.device]]
pci = \"0000:03:00.1\"
";
const TOGETHER_SWITCH: &[&str] = &[
    "x3130-upstream,bus=pcie.0,id=up",
    "xio3130-downstream,bus=up,id=first,chassis=5,slot=1",
    "qemu-xhci,bus=first,addr=0.0,multifunction=on",
    "qemu-xhci,bus=first,addr=0.1",
];
/// Two functions of one device, of which nobody is given the second one: but it is the hypervisor's.
const SHARED: &[&str] = &[
    "edu,bus=pcie.0,addr=0.0,multifunction=on",
    "virtio-rng-pci,bus=pcie.0,addr=0.1,disable-legacy=on,iommu_platform=on",
];

/// One that is not started, beside one that lives on.
const TAKEN: &str = concat!(
    "[hypervisor]\nconsole = \"monitor\"\n",
    one!("start = false\ncmdline = \"wait\"\n"),
    beside!("y")
);
const WITH_STATES: &[(&str, PackedFile)] = &[("edu", little("edu")), ("states", little("states"))];

/// From a shell on Linux, by /dev/mem: what the device tree names is the device. The register is big endian here, the kernel little.
const LINUX: &str = crate::linux_cases::init!(
    "device=$(echo /sys/bus/pci/devices/*)\n\
     check ids \"$(cat $device/vendor) $(cat $device/device)\" '0x1234 0x11e8'\n\
     base=$(head -n1 $device/resource | cut -d' ' -f1)\n\
     check identification \"$(devmem $base 32)\" 0xED000001\n\
     liveness=$(printf '0x%x' $((base + 4)))\n\
     for value in 0x12345678 0x00000000 0x89ABCDEF; do\n\
       devmem $liveness 32 $value\n\
       check liveness \"$(devmem $liveness 32)\" \"$(printf '0x%08X' $((~value & 0xffffffff)))\"\n\
     done\n\
     devmem $(printf '0x%x' $((base + 8))) 32 0x05000000\n\
     while [ $(($(devmem $(printf '0x%x' $((base + 0x20))) 32) & 0x01000000)) != 0 ]; do :; done\n\
     check factorial \"$(devmem $(printf '0x%x' $((base + 8))) 32)\" 0x78000000\n",
    crate::linux_cases::quiet!()
);
const LINUX_MANIFEST: &str = one!(
    "linux",
    "384M",
    "debian",
    "initrd = \"initrd\"\ncmdline = \"console=hvc0 quiet port=@port@\"\n",
    "0000:01:00.0"
);
const LINUX_FILES: &[(&str, PackedFile)] =
    &[("debian", PackedFile::DebianKernel), ("initrd", PackedFile::Initramfs { init: LINUX, programs: &[] })];

/// Debian's own driver has a disk of NVM Express: it resets it, gives it queues, has its interrupts, and what is written is there. It brings the disk
/// back after an error; there is none, but Linux is told so. Without messages it has the line.
const NVME: &str = crate::linux_cases::init!(
    "modprobe nvme\n\
     for n in $(seq 100); do [ -b /dev/nvme0n1 ] && break; sleep 0.1; done\n\
     check size \"$(cat /sys/block/nvme0n1/size)\" 32768\n\
     dd if=/dev/urandom of=/tmp/a bs=1M count=16 2>/dev/null\n\
     dd if=/tmp/a of=/dev/nvme0n1 bs=1M conv=fsync 2>/dev/null\n\
     echo 3 > /proc/sys/vm/drop_caches\n\
     dd if=/dev/nvme0n1 of=/tmp/b bs=1M 2>/dev/null\n\
     check written \"$(md5sum < /tmp/b)\" \"$(md5sum < /tmp/a)\"\n\
     interrupts=$(awk '/nvme/ { n += $2 } END { print n }' /proc/interrupts)\n\
     within interrupts $interrupts 20 100000\n\
     check calm \"$(dmesg | grep -cE 'Oops|BUG|WARNING: CPU|Call Trace')\" 0\n\
     mount -t debugfs debugfs /sys/kernel/debug\n\
     check eeh \"$(head -n1 /proc/powerpc/eeh)\" 'EEH Subsystem is enabled'\n\
     echo 0:10000 > /sys/kernel/debug/powerpc/eeh_force_recover\n\
     for n in $(seq 100); do dmesg | grep -q 'EEH: Recovery' && break; sleep 0.2; done\n\
     check recovered \"$(dmesg -c | grep -c 'EEH: Recovery successful')\" 1\n\
     for n in $(seq 100); do [ -b /dev/nvme0n1 ] && break; sleep 0.1; done\n\
     echo 3 > /proc/sys/vm/drop_caches\n\
     dd if=/dev/nvme0n1 of=/tmp/b bs=1M 2>/dev/null\n\
     check after-recovery \"$(md5sum < /tmp/b)\" \"$(md5sum < /tmp/a)\"\n\
     modprobe -r nvme; echo 0 > /sys/bus/pci/devices/0000:00:00.0/msi_bus; modprobe nvme\n\
     for n in $(seq 100); do [ -b /dev/nvme0n1 ] && break; sleep 0.1; done\n\
     dd if=/dev/nvme0n1 of=/tmp/b bs=1M 2>/dev/null\n\
     check by-line \"$(md5sum < /tmp/b)\" \"$(md5sum < /tmp/a)\"\n\
     lines=$(awk '/Level.*nvme/ { n += $2 } END { print n }' /proc/interrupts)\n\
     within lines $lines 20 100000\n",
    crate::linux_cases::quiet!()
);
/// And a network card, which has an interrupt for each direction: through it the guest gets an address, sends frames of full size, and
/// fetches the page that this machine serves.
const E1000E: &str = crate::linux_cases::init!(
    "modprobe e1000e\n\
     for n in $(seq 50); do [ -e /sys/class/net/eth0 ] && break; sleep 0.1; done\n\
     check card \"$(cat /sys/class/net/eth0/device/device)\" 0x10d3\n\
     count() { cat /sys/class/net/eth0/statistics/$1; }\n\
     interrupts() { awk \"/eth0-$1/ { print \\$2 }\" /proc/interrupts; }\n\
     ip link set eth0 up\n\
     for n in $(seq 50); do [ \"$(cat /sys/class/net/eth0/carrier)\" = 1 ] && break; sleep 0.1; done\n\
     check carrier \"$(cat /sys/class/net/eth0/carrier)\" 1\n\
     printf '#!/bin/sh\\n[ $1 = bound ] && ip addr add $ip/24 dev $interface\\n' > /tmp/bound\n\
     chmod +x /tmp/bound\n\
     udhcpc -i eth0 -n -q -s /tmp/bound > /dev/null 2>&1\n\
     check address \"$(ip -4 addr show dev eth0 | grep -c 'inet 10\\.0\\.2\\.')\" 1\n\
     check large \"$(ping -c 3 -i 0.2 -s 1472 10.0.2.2 | grep -c 'bytes from')\" 3\n\
     received=$(count rx_packets); took=$(interrupts rx-0)\n\
     check page \"$(wget -q -O - http://10.0.2.2:$port/ | md5sum)\" \"$(seq 50000 | md5sum)\"\n\
     within received $(($(count rx_packets) - received)) 198 10000\n\
     within receiving $(($(interrupts rx-0) - took)) 5 10000\n\
     within sending $(interrupts tx-0) 5 10000\n\
     check errors \"$(count rx_errors) $(count tx_errors) $(count rx_dropped)\" '0 0 0'\n",
    crate::linux_cases::quiet!()
);
const E1000E_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("initrd", PackedFile::DriverInitramfs { init: E1000E, drivers: &["e1000e"] }),
];
const NVME_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("initrd", PackedFile::DriverInitramfs { init: NVME, drivers: &["nvme"] }),
];

fn case(
    name: &'static str,
    manifest: &'static str,
    files: &'static [(&'static str, PackedFile)],
    devices: &'static [&'static str],
) -> Case {
    Case { devices, ..Case::partitions(name, manifest, files) }
}

fn refused(t: &Transcript) -> Result<(), String> {
    in_order(
        t,
        &[
            "partitions.toml:6: device 0000:01:00.0: not there; the host has: 0001:01:00.0 (1234:11e8), 0002:01:00.0",
        ],
    )
}

fn none(t: &Transcript) -> Result<(), String> {
    in_order(t, &["partitions.toml:6: device 0000:01:00.0: not there; the host has: no PCI device"])
}

fn twice(t: &Transcript) -> Result<(), String> {
    in_order(t, &["@ boot first", "@ boot second", "@ check configuration ok"])?;
    all_ended_well(t, 1)
}

/// Of a function that cannot be reset only its first user has it again.
fn left(t: &Transcript) -> Result<(), String> {
    in_order(
        t,
        &[
            "it cannot be reset, so only its first user is given it",
            "@ done passed",
            "device 0000:01:00.0: guest has left its state in it, and it cannot be reset",
            "@ check identification ok",
            "@ done passed",
        ],
    )?;
    all_ended_well(t, 3)
}

fn two(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 3)
}

fn three(t: &Transcript) -> Result<(), String> {
    in_order(
        t,
        &[
            "device 0000:03:00.0: no interrupt line, which 0000:04:00.0 has as well",
            "device 0000:04:00.0: no interrupt line, which 0000:03:00.0 has as well",
        ],
    )?;
    all_ended_well(t, 4)
}

/// An access that the device takes badly ends the partition, and nothing else.
fn error(t: &Transcript) -> Result<(), String> {
    in_order(t, &["partition guest: machine check interrupt (0x200)"])?;
    all_ended_well(t, 1)
}

/// A partition with a device is neither copied nor kept, and who looks at its memory is told what he does not see. The same table defined again would have a device that a partition has; when that
/// one is undefined, it gets it.
fn taken(t: &Transcript) -> Result<(), String> {
    const REFUSED: &str = "guest has a device that reaches its memory: that can neither be copied nor kept";
    in_order(
        t,
        &[
            REFUSED,
            REFUSED,
            "guest has a device that reaches its memory: what that writes is not seen",
            "0x100000+0x10000 is watched; watches: 1; what its devices do there is not seen",
            "device 0000:01:00.0: another partition has it",
            "running, line",
            "@ check identification ok",
            "@ done passed",
        ],
    )?;
    all_ended_well(t, 2)
}

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        case("device-le", ONE, LITTLE, EDU),
        case("device-be", ONE, BIG, EDU),
        case("device-dma", REACHED, DMA, EDU_WIDE),
        // With the order of locks checked, as the device goes.
        Case { selftest: Some(""), ..case("device-dma-be", REACHED, DMA_BIG, EDU_WIDE) },
        Case {
            judge: two,
            smp: (2, 1),
            mttcg: true,
            script: vec![
                Step { expect: "@ ready y", send: "\x1dconsole one\n" },
                Step { expect: "@ done ", send: "\x1dconsole two\n" },
                Step { expect: "@ done ", send: "\x1dconsole y\nq" },
            ],
            ..case("device-dma-two", TWO, TWO_FILES, TWO_EDU)
        },
        case("device-huge", HUGE, LITTLE, EDU),
        Case { judge: twice, ..case("device-reset", RECOVERED, RESET, &["nvme,serial=x,bus=pcie.0"]) },
        // The firmware takes three seconds for it.
        Case {
            judge: twice,
            mttcg: true,
            ..case("device-reset-port", ONE, RESET, &["qemu-xhci,bus=pcie.0"])
        },
        Case {
            judge: twice,
            machines: &[Machine::PowerNv8, Machine::PowerNv10],
            ..case("device-reset-bus", BEHIND_SWITCH, RESET, RESET_SWITCH)
        },
        Case {
            judge: twice,
            machines: &[Machine::PowerNv9],
            ..case("device-reset-together", TOGETHER, RESET, TOGETHER_SWITCH)
        },
        Case {
            judge: left,
            machines: &[Machine::PowerNv9],
            script: vec![
                Step { expect: "partita> ", send: "start guest\nconsole guest\n" },
                Step { expect: "@ waits", send: "q" },
                Step {
                    expect: "@ done ",
                    send: "\x1dundefine guest\ndefine guest other\nstart other\nundefine other\ndefine guest guest\nstart guest\nconsole guest\n",
                },
                Step { expect: "@ waits", send: "q" },
                Step { expect: "@ done ", send: "\x1dconsole y\nq" },
            ],
            ..case("device-left", TAKEN, WITH_STATES, SHARED)
        },
        Case {
            judge: three,
            machines: &[Machine::PowerNv8, Machine::PowerNv10],
            script: vec![
                Step { expect: "@ ready y", send: "\x1dconsole one\n" },
                Step { expect: "@ done ", send: "\x1dconsole two\n" },
                Step { expect: "@ done ", send: "\x1dconsole three\n" },
                Step { expect: "@ done ", send: "\x1dconsole y\nq" },
            ],
            ..case("device-switch", THREE, WITH_STATES, SWITCH)
        },
        Case {
            judge: error,
            status: 3,
            script: vec![
                Step { expect: "machine check interrupt", send: "\x1dconsole n\n" },
                Step { expect: "@ ready n", send: "q" },
            ],
            ..case("device-error", BYTE, WITH_STATES, EDU)
        },
        Case {
            judge: taken,
            machines: &[Machine::PowerNv9],
            script: vec![
                Step {
                    expect: "partita> ",
                    send: "start guest\nclone guest copy\nsnapshot guest\ndirty guest\nwatch guest 0x100000+64K ro\nstop guest\n",
                },
                Step {
                    expect: "guest stopped",
                    send: "define guest other\nundefine guest\ndefine guest other\nstart other\nconsole other\n",
                },
                Step { expect: "@ waits", send: "\x1dinfo other\nconsole other\nq" },
                Step { expect: "@ done ", send: "\x1dconsole y\nq" },
            ],
            ..case("device-taken", TAKEN, WITH_STATES, EDU)
        },
        Case {
            judge: refused,
            status: 2,
            ..case("device-elsewhere", ONE, LITTLE, &["edu,bus=pcie.1", "nvme,serial=x,bus=pcie.2"])
        },
        Case { judge: none, status: 2, ..case("device-none", ONE, LITTLE, &[]) },
        Case {
            timeout: Duration::from_secs(180),
            drive: 16 << 20,
            ..case("device-nvme", LINUX_MANIFEST, NVME_FILES, &["nvme,serial=x,drive=file,bus=pcie.0"])
        },
        Case {
            timeout: Duration::from_secs(180),
            ..case("device-e1000e", LINUX_MANIFEST, E1000E_FILES, &["e1000e,netdev=user,bus=pcie.0,romfile="])
        },
        Case { timeout: Duration::from_secs(180), ..case("device-linux", LINUX_MANIFEST, LINUX_FILES, EDU) },
    ]
}
