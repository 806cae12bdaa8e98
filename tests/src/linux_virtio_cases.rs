//! The case in which Linux has all devices of virtio at once, behind DMA windows, and is copied while it uses them.

use crate::host_io_cases::HOST_RNG;
use crate::linux_cases::{init, quiet};
use crate::partition_cases::{all_ended_well, step};
use crate::{Case, PackedFile};
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

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![Case {
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
    }]
}
