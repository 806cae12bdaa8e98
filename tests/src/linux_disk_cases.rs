//! The cases in which Debian runs from a disk of virtio's: an ext4 file system that is made once for all of them.

use crate::linux_cases::{helpers, init};
use crate::transcript::{all_checks_pass, in_order, none_failed};
use crate::{Case, Contents, HostDisk, PackedFile, Transcript};
use std::time::Duration;

/// Goes on from the initramfs to Debian's own shell and a script, on the first disk.
macro_rules! on_disk {
    ($($script:expr),*) => {
        init!(
            "modprobe -a virtio_pci virtio_blk virtio_net virtio_rng crc32c_generic ext4\n\
             mkdir /mnt; mount /dev/vda /mnt || poweroff -f\n\
             mount -t tmpfs tmpfs /mnt/run; umount /tmp\n\
             cat > /mnt/run/script <<'END'\n",
            "export PATH=/usr/sbin:/usr/bin TERM=linux\n",
            helpers!(),
            "debian() {\n\
               check root \"$(grep -c '^/dev/vda / ext4 rw' /proc/mounts)\" 1\n\
               check shell \"$(readlink /proc/1/exe)\" /usr/bin/bash\n\
               check debian \"$(cut -d. -f1 /etc/debian_version)\" 12\n\
             }\n",
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
       debian\n\
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

/// Writes a file of `mib` MiB, and others without end until the machine is killed. Then the first one is there, and the file system is
/// whole; so it is after another file and a reboot. Meanwhile it reads what this machine serves.
const KILLED: &str = on_disk!(
    "main() {\n\
       debian\n\
       cd /var/tmp\n\
       if [ ! -e kept.sum ]; then\n\
         dd if=/dev/urandom of=kept bs=1M count=$mib conv=fsync 2>/dev/null\n\
         md5sum kept > kept.sum\n\
         sync kept.sum .\n\
         n=0\n\
         while :; do dd if=kept of=more.$((n % 3)) bs=64k count=48 conv=fsync 2>/dev/null; n=$((n + 1)); echo \"@ more $n\"; done\n\
       fi\n\
       if [ ! -e second.sum ]; then\n\
         check journal \"$(dmesg | grep -c 'EXT4-fs (vda): recovery complete')\" 1\n\
         check size $(stat -c %s kept) $((mib << 20))\n\
         check kept \"$(md5sum kept)\" \"$(cat kept.sum)\"\n\
         check random \"$(head -c 1000 /dev/hwrng | wc -c)\" 1000\n\
         busybox udhcpc -q -n -i eth0 > /dev/null 2>&1\n\
         check address \"$(ip -4 -o addr show eth0 | grep -c 'inet 10\\.0\\.2\\.')\" 1\n\
         check page \"$(wget -q -O - http://10.0.2.2:$port/ | md5sum)\" \"$(seq 50000 | md5sum)\"\n\
         dd if=/dev/urandom of=second bs=1M count=8 2>/dev/null\n\
         md5sum second > second.sum\n\
         echo '@ written'\n\
         end reboot\n\
       fi\n\
       check second \"$(md5sum second)\" \"$(cat second.sum)\"\n\
       check still \"$(md5sum kept)\" \"$(cat kept.sum)\"\n\
       finish\n\
     }\n"
);

/// One Debian with that disk.
macro_rules! guest {
    ($disk:literal, $more:literal) => {
        concat!(
            "[[partition]]\nname = \"guest\"\nmemory = \"384M\"\nkernel = \"debian\"\ninitrd = \"initrd\"\n\
             cmdline = \"console=hvc0 quiet port=@port@ mib=",
            $more,
            "[[partition.disk]]\n",
            $disk
        )
    };
}

const DRIVERS: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "ext4", "crc32c_generic"];
const IMAGE: &str = guest!("image = \"debian.img\"\n", "64\"\n");
const IMAGE_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("initrd", PackedFile::DriverInitramfs { init: WRITE, drivers: DRIVERS }),
    ("debian.img", PackedFile::DebianDisk),
];
const HOST: &str = guest!("host = \"disk0\"\n[[partition.net]]\n", "16\"\nrng = true\n");
const HOST_LONG: &str = guest!("host = \"disk0\"\n[[partition.net]]\n", "1024\"\nrng = true\n");
const HOST_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("initrd", PackedFile::DriverInitramfs { init: KILLED, drivers: DRIVERS }),
];

/// All checks of each boot are good, and the last one has come to its end.
fn good(t: &Transcript) -> Result<(), String> {
    none_failed(t)?;
    let Some(last) = t.text.rfind("@ boot") else { return Err("no boot".into()) };
    all_checks_pass(&Transcript { text: t.text[last..].into(), ended: t.ended })
}

/// It has booted twice, and what it wrote at first is there.
fn kept(t: &Transcript) -> Result<(), String> {
    in_order(t, &["@ boot", "@ written", "@ boot", "@ check sum ok"])?;
    good(t)
}

/// It was killed, and has booted twice since.
fn survived(t: &Transcript) -> Result<(), String> {
    let wanted = [
        "@ boot",
        "@ more 3",
        "@ boot",
        "@ check kept ok",
        "@ check page ok",
        "@ written",
        "@ boot",
        "@ check still ok",
    ];
    in_order(t, &wanted)?;
    good(t)
}

fn case(name: &'static str, manifest: &'static str, files: &'static [(&'static str, PackedFile)]) -> Case {
    Case { timeout: Duration::from_secs(120), judge: kept, ..Case::partitions(name, manifest, files) }
}

/// On a disk of the host. What is outside of QEMU takes real time.
fn host(name: &'static str, manifest: &'static str) -> Case {
    Case {
        disks: &[HostDisk { bytes: 512 << 20, contents: Contents::Debian }],
        net: true,
        kill: Some("@ more 3"),
        again: true,
        mttcg: true,
        judge: survived,
        ..case(name, manifest, HOST_FILES)
    }
}

pub fn cases() -> Vec<Case> {
    vec![
        case("disk-image", IMAGE, IMAGE_FILES),
        host("disk-killed", HOST),
        Case {
            disks: &[HostDisk { bytes: 3 << 30, contents: Contents::Debian }],
            timeout: Duration::from_secs(900),
            long: true,
            ..host("disk-gigabyte", HOST_LONG)
        },
    ]
}
