//! The cases in which Debian runs from a disk of virtio's: an ext4 file system that is made once for all of them.

use crate::linux_cases::{helpers, init};
use crate::transcript::{all_checks_pass, in_order};
use crate::{Case, Endian, PackedFile, Source, Transcript};
use std::time::Duration;

/// Goes on from the initramfs to Debian's own shell and a script, on the first disk.
macro_rules! on_disk {
    ($($script:expr),*) => {
        init!(
            "modprobe -a virtio_pci virtio_blk crc32c_generic ext4\n\
             mkdir /mnt; mount /dev/vda /mnt || poweroff -f\n\
             mount -t tmpfs tmpfs /mnt/run; umount /tmp\n\
             cat > /mnt/run/script <<'END'\n",
            "export PATH=/usr/sbin:/usr/bin TERM=linux\n",
            helpers!(),
            $($script,)*
            // What it leaves is whole.
            "end() { mount -o remount,ro /; exec busybox $1 -f; }\n\
             finish() { check quiet \"$(dmesg | grep -cE 'Oops|BUG|WARNING: CPU|Call Trace|soft lockup|I/O error|EXT4-fs (error|warning)')\" 0\n\
               echo \"@ done passed=$passed failed=$failed\"; end poweroff; }\n\
             main\n\
             END\n\
             for dir in dev proc sys; do mount -o move /$dir /mnt/$dir; done\n\
             exec switch_root /mnt /bin/bash /run/script\n"
        )
    };
}

/// Writes a file and reboots; then it is still what it was. `mib` is its size.
const WRITE: &str = on_disk!(
    "main() {\n\
       check root \"$(grep -c '^/dev/vda / ext4 rw' /proc/mounts)\" 1\n\
       check shell \"$(readlink /proc/1/exe)\" /usr/bin/bash\n\
       check debian \"$(cut -d. -f1 /etc/debian_version)\" 12\n\
       cd /var/tmp\n\
       if [ ! -e sum ]; then\n\
         dd if=/dev/urandom of=big bs=1M count=$mib conv=fsync 2>/dev/null\n\
         md5sum big > sum\n\
         echo '@ written'\n\
         end reboot\n\
       fi\n\
       check size $(stat -c %s big) $((mib << 20))\n\
       check sum \"$(md5sum big)\" \"$(cat sum)\"\n\
       finish\n\
     }\n"
);

/// One Debian, from an image.
macro_rules! image {
    ($mib:literal) => {
        concat!(
            "[[partition]]\nname = \"guest\"\nmemory = \"384M\"\nkernel = \"debian\"\ninitrd = \"initrd\"\n\
             cmdline = \"console=hvc0 quiet mib=",
            $mib,
            "\"\n[[partition.disk]]\nimage = \"debian.img\"\n"
        )
    };
}

const DRIVERS: &[&str] = &["virtio_pci", "virtio_blk", "ext4", "crc32c_generic"];
const IMAGE_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("initrd", PackedFile::DriverInitramfs { init: WRITE, drivers: DRIVERS }),
    ("debian.img", PackedFile::DebianDisk),
];

/// It has booted twice, and what it wrote at first is there.
fn kept(t: &Transcript) -> Result<(), String> {
    in_order(t, &["@ boot", "@ written", "@ boot", "@ check sum ok"])?;
    // The checks of the first boot have arrived, too.
    let Some(second) = t.text.rfind("@ boot") else { return Err("no boot".into()) };
    all_checks_pass(&Transcript { text: t.text[second..].into(), ended: t.ended })
}

fn case(name: &'static str, manifest: &'static str, files: &'static [(&'static str, PackedFile)]) -> Case {
    Case {
        source: Source::Partitions { manifest, files },
        oracle: false,
        timeout: Duration::from_secs(120),
        judge: kept,
        ..Case::guest(name, "disk", Endian::Little)
    }
}

pub fn cases() -> Vec<Case> {
    vec![case("disk-image", image!("64"), IMAGE_FILES)]
}
