//! The cases in which Linux guests talk to each other and to the world, through virtio's network cards.

use crate::linux_cases::init;
use crate::transcript::all_checks_pass;
use crate::{Case, PackedFile};
use std::time::Duration;

/// Number `me` of `of` guests on one network, each with a file of its own of `mib` MiB. Each fetches what all others have, and says what
/// came of it where all others can read it. The first one reads that, and stays until the others are gone.
const TALK: &str = init!(
    "modprobe -a virtio_pci virtio_net\n\
     check card \"$(cat /sys/class/net/eth0/address)\" \"$(printf '52:54:00:00:%02x:00' $me)\"\n\
     ip addr add 10.9.0.$me/24 dev eth0\n\
     ip link set lo up; ip link set eth0 up\n\
     mkdir /tmp/www; cd /tmp/www\n\
     # A time limit of its own crashes this busybox.\n\
     dd if=/dev/urandom of=data bs=64k count=$((mib * 16)) 2>/dev/null\n\
     md5sum < data > sum\n\
     httpd -h /tmp/www\n\
     peers=$(echo $(seq $of | grep -vx $me))\n\
     get() { timeout 100 wget -q -O - http://10.9.0.$1/$2; }\n\
     until_there() { i=0; until get $1 $2 2>/dev/null || [ $i = 600 ]; do usleep 200000; i=$((i + 1)); done; }\n\
     for peer in $peers; do\n\
       sum=$(until_there $peer sum)\n\
       check ping-$peer \"$(ping -c 5 -i 0.2 10.9.0.$peer | grep -c 'bytes from')\" 5\n\
       check data-$peer \"$(get $peer data | md5sum)\" \"$sum\"\n\
     done\n",
    "# Nothing but Ethernet's minimum, and as much as a frame takes, whole.\n\
     check small \"$(ping -c 3 -i 0.2 -s 0 10.9.0.${peers%% *} | grep -c 'bytes from')\" 3\n\
     check large \"$(ping -c 3 -i 0.2 -s 1472 10.9.0.${peers##* } | grep -c 'bytes from')\" 3\n\
     check fragments \"$(ping -c 3 -i 0.2 -s 9000 10.9.0.${peers##* } | grep -c 'bytes from')\" 3\n\
     check errors \"$(cat /sys/class/net/eth0/statistics/[rt]x_errors | tr '\\n' ' ')\" '0 0 '\n",
    "if [ $me = 1 ]; then\n\
       for peer in $peers; do\n\
         check peer-$peer \"$(until_there $peer done)\" failed=0\n\
         touch over-$peer\n\
         i=0; while ping -c 1 -W 1 10.9.0.$peer > /dev/null && [ $i -lt 100 ]; do usleep 200000; i=$((i + 1)); done\n\
       done\n\
       dmesg | grep -E 'Oops|BUG|WARNING: CPU|Call Trace|soft lockup|rcu.*stall' | head -n 5\n\
       check quiet \"$(dmesg | grep -cE 'Oops|BUG|WARNING: CPU|Call Trace|soft lockup|rcu.*stall')\" 0\n\
       echo \"@ done passed=$passed failed=$failed\"\n\
     else\n\
       echo failed=$failed > done\n\
       until_there 1 over-$me\n\
     fi\n\
     poweroff -f\n"
);

/// What a partition of that number is.
macro_rules! guest {
    ($me:literal, $of:literal, $mib:literal, $memory:literal) => {
        concat!(
            "[[partition]]\nname = \"g",
            $me,
            "\"\nmemory = \"",
            $memory,
            "\"\nkernel = \"debian\"\ninitrd = \"talk\"\ncmdline = \"console=hvc0 quiet me=",
            $me,
            " of=",
            $of,
            " mib=",
            $mib,
            "\"\n[[partition.net]]\n"
        )
    };
}

const TWO: &str = concat!(guest!("1", "2", "20", "256M"), guest!("2", "2", "20", "256M"));
const TWO_LONG: &str = concat!(guest!("1", "2", "200", "768M"), guest!("2", "2", "200", "768M"));
const FOUR: &str = concat!(
    guest!("1", "4", "2", "192M"),
    guest!("2", "4", "2", "192M"),
    guest!("3", "4", "2", "192M"),
    guest!("4", "4", "2", "192M")
);
const FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("talk", PackedFile::DriverInitramfs { init: TALK, drivers: &["virtio_pci", "virtio_net"] }),
];

fn case(name: &'static str, manifest: &'static str) -> Case {
    Case {
        timeout: Duration::from_secs(120),
        judge: all_checks_pass,
        ..Case::partitions(name, manifest, FILES)
    }
}

pub fn cases() -> Vec<Case> {
    vec![
        case("net-two", TWO),
        case("net-four", FOUR),
        Case { timeout: Duration::from_secs(600), long: true, ..case("net-two-long", TWO_LONG) },
    ]
}
