//! The cases in which Linux has all devices of virtio at once, behind DMA windows, and is copied while it uses them; and gives memory back
//! that it has no use for.

use crate::host_io_cases::HOST_RNG;
use crate::linux_cases::{init, quiet};
use crate::linux_memory_cases::{MIB, figures};
use crate::partition_cases::{all_ended_well, step};
use crate::transcript::all_checks_pass;
use crate::{Case, Machine, PackedFile, Transcript};
use std::time::Duration;

const DEVICES: &str = init!(
    "modprobe -a virtio_pci virtio_blk virtio_net virtio_rng virtio_console virtio_balloon\n\
     for driver in blk net rng console balloon; do\n\
       check $driver \"$(ls -d /sys/bus/virtio/drivers/virtio_$driver/virtio* | wc -l)\" 1\n\
     done\n\
     # All but the balloon, which is about real addresses.\n\
     check translated \"$(cut -c34 /sys/bus/virtio/devices/*/features | grep -c 1)\" 4\n\
     check whole-memory \"$(dmesg | grep -c 'create-pe-dma-window.* returned 0 ')\" 1\n\
     within vectors \"$(grep -c virtio /proc/interrupts)\" 12 20\n\
     ip link set eth0 up\n\
     check carrier \"$(cat /sys/class/net/eth0/carrier)\" 1\n\
     echo virtio_rng.0 > /sys/class/misc/hw_random/rng_current\n\
     taken() { awk \"/ virtio[0-9]-$1/ { n += \\$2 } END { print n + 0 }\" /proc/interrupts; }\n\
     work() {\n\
       before=$(taken req) random=$(taken input)\n\
       dd if=/dev/hwrng of=/tmp/data bs=512 count=64 2>/dev/null\n\
       check random-$1 $(stat -c %s /tmp/data) 32768\n\
       within not-zero-$1 $(tr -d '\\0' < /tmp/data | wc -c) 32000 32768\n\
       dd if=/tmp/data of=/dev/vda bs=32k conv=fsync 2>/dev/null\n\
       echo 3 > /proc/sys/vm/drop_caches\n\
       check disk-$1 \"$(dd if=/dev/vda bs=32k count=1 2>/dev/null | md5sum)\" \"$(md5sum < /tmp/data)\"\n\
       within interrupts-$1 $(($(taken req) - before)) 2 100\n\
       within random-interrupts-$1 $(($(taken input) - random)) 10 10000\n\
     }\n\
     work first\n\
     echo '@ ready'; read word\n\
     work second\n\
     work third\n",
    quiet!()
);

const MANIFEST: &str = "\
[[partition]]
name = \"guest\"
memory = \"384M\"
kernel = \"debian\"
initrd = \"initrd\"
cmdline = \"console=hvc0 quiet\"
rng = true
balloon = true
second-console = true
iommu = true
[[partition.disk]]
image = \"disk\"
[[partition.net]]
";

const DRIVERS: &[&str] =
    &["virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "virtio_console", "virtio_balloon"];
const FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("initrd", PackedFile::DriverInitramfs { init: DEVICES, drivers: DRIVERS }),
    ("disk", PackedFile::Disk { sectors: 256 }),
];

/// A newer Linux has another way to find out how large the window is to be.
const WINDOW: &str =
    init!("check whole-memory \"$(dmesg | grep -c 'create-pe-dma-window.* returned 0 ')\" 1\n", quiet!());
const WINDOW_MANIFEST: &str = "\
[[partition]]
name = \"guest\"
memory = \"384M\"
vcpus = 2
kernel = \"debian\"
initrd = \"initrd\"
cmdline = \"console=hvc0 quiet\"
rng = true
iommu = true
";
const WINDOW_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::NewerDebianKernel),
    ("initrd", PackedFile::Initramfs { init: WINDOW, programs: &[] }),
];

/// Fills so many MiB, frees them, idles, and fills them again, with a word from the console before each. Linux only looks for free memory
/// when there is more than 32 blocks of `order`; what that is at first, it says when the driver starts.
const BALLOON: &str = init!(
    "modprobe -a virtio_pci virtio_balloon\n\
     mount -o remount,size=90% /tmp\n\
     sizes=/sys/module/page_reporting/parameters/page_reporting_order\n\
     check reports \"$(dmesg | grep -c 'Free page reporting enabled')\" 1\n\
     check order \"$(cat $sizes)\" 8\n\
     [ -z \"$order\" ] || echo $order > $sizes\n\
     dd if=/dev/urandom of=/piece bs=64k count=64 2>/dev/null\n\
     fill() {\n\
       i=0; while [ $i -lt $((mib / 4)) ]; do cat /piece; i=$((i + 1)); done > /tmp/big\n\
       check size-$1 $(stat -c %s /tmp/big) $((mib << 20))\n\
       check last-$1 \"$(tail -c 4194304 /tmp/big | md5sum)\" \"$(md5sum < /piece)\"\n\
     }\n\
     sleep 5\n\
     echo '@ empty'; read word\n\
     fill first\n\
     echo '@ full'; read word\n\
     rm /tmp/big\n\
     sleep 10\n\
     echo '@ idle'; read word\n\
     fill again\n",
    quiet!()
);

/// A guest that fills so many MiB, and what else is on its command line.
macro_rules! balloon {
    ($memory:literal, $more:literal) => {
        concat!(
            "[[partition]]\nname = \"guest\"\nmemory = \"",
            $memory,
            "\"\nkernel = \"debian\"\ninitrd = \"initrd\"\nballoon = true\ncmdline = \"console=hvc0 quiet ",
            $more,
            "\"\n"
        )
    };
}

const LARGE: &str = balloon!("1G", "mib=500");
const SMALL: &str = balloon!("256M", "mib=100 order=5 init_on_free=1");
const BALLOON_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("initrd", PackedFile::DriverInitramfs { init: BALLOON, drivers: &["virtio_pci", "virtio_balloon"] }),
];

/// The host has most of so many MiB again when the guest has had no use for them for a while: whole blocks of Linux's.
fn came_back(t: &Transcript, mib: u64) -> Result<(), String> {
    all_checks_pass(t)?;
    let free = figures(t, "total", "free");
    let &[empty, full, idle] = &free[..] else { return Err(format!("{} answers, not 3", free.len())) };
    let (taken, back) = (empty.saturating_sub(full) / MIB, idle.saturating_sub(full) / MIB);
    match taken >= mib * 9 / 10 && back >= mib * 4 / 5 {
        true => Ok(()),
        false => Err(format!("{back} of {taken} MiB came back, of {mib} that the guest filled")),
    }
}

fn balloon(name: &'static str, manifest: &'static str, judge: fn(&Transcript) -> Result<(), String>) -> Case {
    const LOOK: &str = "\x1dmemory --json\nmemory guest\nconsole guest\n\n";
    Case {
        timeout: Duration::from_secs(120),
        script: vec![step("@ empty", LOOK), step("@ full", LOOK), step("@ idle", LOOK)],
        judge,
        ..Case::partitions(name, manifest, BALLOON_FILES)
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case {
            machines: &[Machine::PowerNv9],
            judge: all_checks_pass,
            ..Case::partitions("linux-newer-window", WINDOW_MANIFEST, WINDOW_FILES)
        },
        balloon("linux-balloon", LARGE, |t| came_back(t, 500)),
        // Too small for blocks of 16 MiB; and it relies on free memory being zeroes.
        Case {
            machines: &[Machine::PowerNv10],
            ..balloon("linux-balloon-small", SMALL, |t| came_back(t, 100))
        },
        Case {
            timeout: Duration::from_secs(120),
            devices: HOST_RNG,
            script: vec![
                step("@ ready", "\x1dclone guest two\n"),
                step("copied in ", "console guest\n\n"),
                step("@ done", "\x1dconsole two\n\n"),
                step("@ done", ""),
            ],
            judge: |t| all_ended_well(t, 2),
            ..Case::partitions("linux-virtio", MANIFEST, FILES)
        },
    ]
}
