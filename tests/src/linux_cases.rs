//! The cases that boot a Debian kernel: to a shell, through work, into a panic and out again.

use crate::partition_cases::all_ended_well;
use crate::transcript::{all_checks_pass, in_order};
use crate::{Case, Endian, Machine, PackedFile, Source, Step, Transcript};
use std::time::Duration;

/// `check NAME GOT WANT`, which prints a record, and its like.
macro_rules! helpers {
    () => {
        "passed=0; failed=0\n\
         good() { passed=$((passed + 1)); echo \"@ check $1 ok\"; }\n\
         bad() { failed=$((failed + 1)); echo \"@ check $1 fail $2\"; }\n\
         check() { if [ \"$2\" = \"$3\" ]; then good $1; else bad $1 \"got=$2 want=$3\"; fi; }\n\
         within() { if [ \"$2\" -ge \"$3\" ] && [ \"$2\" -le \"$4\" ]; then good $1; else bad $1 \"got=$2 want=$3..=$4\"; fi; }\n"
    };
}
pub(crate) use helpers;

/// What every `/init` starts with: the usual file systems, and the helpers.
macro_rules! init {
    ($($rest:expr),*) => {
        concat!(
            "#!/bin/busybox sh\n\
             /bin/busybox mkdir -p /proc /sys /dev /tmp /bin /sbin /usr/bin /usr/sbin /root\n\
             /bin/busybox --install -s\n\
             export PATH=/bin:/sbin:/usr/bin:/usr/sbin\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sysfs /sys\n\
             mount -t devtmpfs devtmpfs /dev 2>/dev/null\n\
             mount -t tmpfs -o size=400M tmpfs /tmp\n",
            $crate::linux_cases::helpers!(),
            "echo '@ boot'\n",
            $($rest),*
        )
    };
}
pub(crate) use init;

/// What they end with: the kernel has not complained, and the count.
macro_rules! quiet {
    () => {
        "dmesg | grep -E 'Oops|BUG|WARNING: CPU|Call Trace|soft lockup|rcu.*stall|Machine check' | head -n 5\n\
         check quiet \"$(dmesg | grep -cE 'Oops|BUG|WARNING: CPU|Call Trace|soft lockup|rcu.*stall|Machine check')\" 0\n\
         echo \"@ done passed=$passed failed=$failed\"\n\
         poweroff -f\n"
    };
}
pub(crate) use quiet;

/// Reads a word from the console and acts on it, for ever.
const ASK: &str = init!(
    "while true; do\n\
       echo 'what now?'\n\
       read word rest\n\
       case \"$word\" in\n\
         reboot) reboot -f ;;\n\
         poweroff) poweroff -f ;;\n\
         panic) echo c > /proc/sysrq-trigger ;;\n\
         halt) halt -f ;;\n\
         sh) sh -c \"$rest\" ;;\n\
       esac\n\
     done\n"
);

/// Work for every part of the hypervisor that Linux leans on.
const WORK: &str = init!(
    "uname -srm\n\
     grep -m1 '^cpu' /proc/cpuinfo\n\
     check mmu \"$(grep -c 'MMU.*Hash' /proc/cpuinfo)\" 1\n\
     check platform \"$(grep -c 'platform.*pSeries' /proc/cpuinfo)\" 1\n\
     within year $(date +%Y) 2024 2100\n",
    // A thousand processes, each a fork and an exec; fewer if the command line says so.
    "processes=${processes:-1000}; files=${files:-75}\n\
     i=0; n=0\n\
     while [ $i -lt $processes ]; do /bin/busybox true && n=$((n + 1)); i=$((i + 1)); done\n\
     check processes $n $processes\n",
    // Three hundred MiB of 512, likewise: each file says which it is and goes on with the same random data.
    "dd if=/dev/urandom of=/chunk bs=64k count=63 2>/dev/null\n\
     want=$(md5sum < /chunk)\n\
     i=0\n\
     while [ $i -lt $files ]; do\n\
       (echo file $i | dd bs=64k conv=sync 2>/dev/null; cat /chunk) > /tmp/f$i || echo cannot write $i\n\
       i=$((i + 1))\n\
     done\n\
     i=0; same=0; size=0\n\
     while [ $i -lt $files ]; do\n\
       read word number < /tmp/f$i\n\
       [ \"$number\" = $i ] && [ \"$(tail -c +65537 /tmp/f$i | md5sum)\" = \"$want\" ] && same=$((same + 1))\n\
       size=$((size + $(stat -c %s /tmp/f$i)))\n\
       i=$((i + 1))\n\
     done\n\
     check memory $same $files\n\
     check memory-size $size $((files * 64 * 65536))\n\
     rm /tmp/f*\n",
    // Signals and pipes.
    "n=0\n\
     trap 'n=$((n + 1))' USR1\n\
     i=0\n\
     while [ $i -lt 1000 ]; do kill -USR1 $$; i=$((i + 1)); done\n\
     check signals $n 1000\n\
     check pipes \"$(dd if=/dev/zero bs=512 count=20000 2>/dev/null | cat | cat | cat | wc -c)\" 10240000\n\
     check sorted \"$(seq 20000 | sort -rn | tail -n 1)\" 1\n\
     i=0\n\
     while [ $i -lt 50 ]; do (echo $i | cat | grep -q \"^$i$\") & i=$((i + 1)); done\n\
     wait\n\
     good children\n",
    // Floating point and vectors survive being scheduled: two computations at once give what one gives.
    "sum() { awk 'BEGIN { for (i = 1; i < 30000; i++) s += 1.25 / i * 3.5; printf \"%.9f\", s }'; }\n\
     alone=$(sum)\n\
     (sum > /tmp/a) & (sum > /tmp/b) & wait\n\
     check floating \"$(cat /tmp/a)$(cat /tmp/b)\" \"$alone$alone\"\n",
    // Five seconds of sleep by the uptime, which counts hundredths, and by the clock.
    "hundredths() { read up idle < /proc/uptime; echo ${up%.*}${up#*.}; }\n\
     before=$(hundredths); clock=$(date +%s)\n\
     sleep 5\n\
     after=$(hundredths)\n\
     within sleep $((after - before)) 490 510\n\
     within sleep-clock $(($(date +%s) - clock)) 4 6\n\
     before=$(hundredths)\n\
     i=0; while [ $i -lt 100 ]; do usleep 10000; i=$((i + 1)); done\n\
     within short-sleeps $(($(hundredths) - before)) 100 250\n",
    "check processors \"$(grep -c ^processor /proc/cpuinfo)\" \"$(sed 's/.*expect_cpus=//; s/ .*//' /proc/cmdline)\"\n",
    quiet!()
);

/// Processors that go and come back, with work on all that there are in between.
const HOTPLUG: &str = init!(
    "online() { cat /sys/devices/system/cpu/online; }\n\
     all=$(online)\n\
     switch() { for cpu in /sys/devices/system/cpu/cpu[1-9]*; do echo $1 > $cpu/online || bad switch $cpu; done; }\n\
     work() {\n\
       j=0\n\
       while [ $j -lt 4 ]; do\n\
         (i=0; while [ $i -lt 40 ]; do /bin/busybox true || exit 1; i=$((i + 1)); done; echo done > /tmp/w$j) &\n\
         j=$((j + 1))\n\
       done\n\
       wait\n\
       cat /tmp/w* | grep -c done\n\
       rm /tmp/w*\n\
     }\n\
     check work \"$(work)\" 4\n\
     round=0\n\
     while [ $round -lt 5 ]; do\n\
       switch 0\n\
       check offline \"$(online)\" 0\n\
       check processors-off \"$(grep -c ^processor /proc/cpuinfo)\" 1\n\
       check work-off \"$(work)\" 4\n\
       switch 1\n\
       check online \"$(online)\" \"$all\"\n\
       check work-on \"$(work)\" 4\n\
       round=$((round + 1))\n\
     done\n",
    quiet!()
);

/// Half of the time is taken away: five seconds of work beside another partition, on one CPU.
const STEAL: &str = init!(
    "steal() { set -- $(grep '^cpu ' /proc/stat); echo $9; }\n\
     echo '@ up'\n\
     read word\n\
     before=$(steal)\n\
     read up idle < /proc/uptime; end=$((${up%.*} + 6))\n\
     while [ ${up%.*} -lt $end ]; do i=0; while [ $i -lt 300 ]; do i=$((i + 1)); done; read up idle < /proc/uptime; done\n\
     within steal $(($(steal) - before)) 200 400\n\
     top -b -n 1 | head -n 4\n",
    quiet!()
);

/// A storm of processes and sums over memory, all at once on all processors, as often as the command line says.
const STORM: &str = init!(
    "value() { sed \"s/.*$1=//; s/ .*//\" /proc/cmdline; }\n\
     cpus=$(value expect_cpus); rounds=$(value rounds)\n\
     check processors \"$(grep -c ^processor /proc/cpuinfo)\" $cpus\n\
     dd if=/dev/urandom of=/tmp/random bs=64k count=64 2>/dev/null\n\
     want=$(md5sum < /tmp/random)\n\
     storm() {\n\
       i=0; sum=0\n\
       while [ $i -lt $rounds ]; do\n\
         sum=$((sum + $(echo $i | sed 's/^/1/' | cut -c 2-)))\n\
         if [ $((i % 20)) = 0 ]; then\n\
           cp /tmp/random /tmp/copy$1\n\
           [ \"$(md5sum < /tmp/copy$1)\" = \"$want\" ] || echo memory: $(cmp -l /tmp/random /tmp/copy$1 2>&1 | sed -n '1,3p;$p') >> /tmp/wrong\n\
         fi\n\
         i=$((i + 1))\n\
       done\n\
       [ $sum = $((rounds * (rounds - 1) / 2)) ] || echo sum $sum >> /tmp/wrong\n\
       echo $1 >> /tmp/ended\n\
     }\n\
     n=0; while [ $n -lt $((2 * cpus)) ]; do storm $n & n=$((n + 1)); done; wait\n\
     check storms \"$(grep -c . /tmp/ended)\" $((2 * cpus))\n\
     check storms-right \"$(cat /tmp/wrong 2>/dev/null)\" ''\n\
     echo \"@ idle $(value name)\"\n\
     read word\n\
     check word \"$word\" \"on $(value name)\"\n",
    quiet!()
);

/// A program that knows what must be in every page it has.
const STRESS: &str = init!(
    "stress $(sed 's/.*seconds=//; s/ .*//' /proc/cmdline) > /tmp/out; status=$?\n\
     cat /tmp/out\n\
     check stress $status 0\n\
     check stress-ok \"$(grep -c '^stress: ok' /tmp/out)\" 1\n",
    quiet!()
);

const CONSOLE: &str = "console=hvc0 quiet";

const STORM_FILES: &[(&str, PackedFile)] =
    &[("debian", PackedFile::DebianKernel), ("storm", PackedFile::Initramfs { init: STORM, programs: &[] })];
/// Seven vCPUs in all.
const THREE: &str = "\
[[partition]]
name = \"one\"
memory = \"256M\"
kernel = \"debian\"
initrd = \"storm\"
cmdline = \"console=hvc0 quiet name=one rounds=60 expect_cpus=1\"

[[partition]]
name = \"two\"
memory = \"256M\"
vcpus = 2
kernel = \"debian\"
initrd = \"storm\"
cmdline = \"console=hvc0 quiet name=two rounds=40 expect_cpus=2\"

[[partition]]
name = \"four\"
memory = \"384M\"
vcpus = 4
kernel = \"debian\"
initrd = \"storm\"
cmdline = \"console=hvc0 quiet name=four rounds=20 expect_cpus=4\"
";

const STEAL_FILES: &[(&str, PackedFile)] = &[
    ("debian", PackedFile::DebianKernel),
    ("steal", PackedFile::Initramfs { init: STEAL, programs: &[] }),
    ("states", PackedFile::Guest { bin: "states", endian: Endian::Little }),
];
/// A Linux beside a program that takes all it can get, once the Linux is up.
const BUSY_NEIGHBOUR: &str = "\
[[partition]]
name = \"linux\"
memory = \"512M\"
kernel = \"debian\"
initrd = \"steal\"
cmdline = \"console=hvc0 quiet\"

[[partition]]
name = \"busy\"
memory = \"64M\"
vcpus = 2
start = false
kernel = \"states\"
cmdline = \"name=busy state=running\"
";

fn case(name: &'static str, init: &'static str, judge: fn(&Transcript) -> Result<(), String>) -> Case {
    Case {
        source: Source::Linux { init, programs: &[] },
        oracle: false,
        timeout: Duration::from_secs(180),
        guest_memory: 512,
        append: CONSOLE,
        judge,
        ..Case::guest(name, "", Endian::Little)
    }
}

/// Partitions of a manifest.
fn partitions(
    name: &'static str,
    manifest: &'static str,
    files: &'static [(&'static str, PackedFile)],
    judge: fn(&Transcript) -> Result<(), String>,
) -> Case {
    let source = Source::Partitions { manifest, files };
    Case { source, timeout: Duration::from_secs(400), ..case(name, "", judge) }
}

/// Three Debian guests at once.
fn three(name: &'static str, machines: &'static [Machine], smp: (u32, u32)) -> Case {
    Case { smp, machines, script: switch_consoles(), ..partitions(name, THREE, STORM_FILES, three_worked) }
}

fn say(answers: &[&'static str]) -> Vec<Step> {
    answers.iter().map(|&send| Step { expect: "what now?", send }).collect()
}

fn shell(t: &Transcript) -> Result<(), String> {
    in_order(t, &["@ boot", "sum is 42", "from pipe", "hvc0", "Power"])
}

/// Goes round the consoles: each answers at its own, and what the others have said meanwhile is there.
fn switch_consoles() -> Vec<Step> {
    vec![
        Step { expect: "@ boot", send: "\x1dlist\nconsole two\n" },
        Step { expect: "@ idle two", send: "\x1dconsole four\n" },
        Step { expect: "@ idle four", send: "\x1dconsole one\n" },
        Step { expect: "@ idle one", send: "on one\n" },
        Step { expect: "partition one switched itself off", send: "\x1dconsole two\non two\n" },
        Step { expect: "partition two switched itself off", send: "\x1dconsole four\non four\n" },
    ]
}

fn three_worked(t: &Transcript) -> Result<(), String> {
    all_ended_well(t, 3)?;
    in_order(t, &["@ boot", "@ idle two", "@ idle four", "@ idle one"])
}

fn twice(t: &Transcript) -> Result<(), String> {
    if t.count("@ boot") == 2 { Ok(()) } else { Err(format!("{} boots, not 2", t.count("@ boot"))) }
}

fn panicked(t: &Transcript) -> Result<(), String> {
    in_order(t, &["@ boot", "sysrq triggered crash"])
}

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case {
            script: say(&[
                "sh echo sum is $((6 * 7))\n",
                "sh echo epip morf | rev\n",
                "sh cat /sys/class/tty/console/active\n",
                "poweroff\n",
            ]),
            append: "console=hvc0",
            ..case("linux-shell", ASK, shell)
        },
        Case {
            append: "console=hvc0 quiet expect_cpus=1",
            timeout: Duration::from_secs(300),
            ..case("linux-work", WORK, all_checks_pass)
        },
        Case {
            // Two processors that wait for each other take turns on one: slow, where instructions are counted.
            append: "console=hvc0 quiet expect_cpus=2 processes=300 files=30",
            timeout: Duration::from_secs(400),
            vcpus: 2,
            ..case("linux-work-smp", WORK, all_checks_pass)
        },
        Case {
            append: "console=hvc0 quiet expect_cpus=1 processes=200",
            timeout: Duration::from_secs(300),
            huge_pages: true,
            ..case("linux-work-huge", WORK, all_checks_pass)
        },
        Case {
            vcpus: 2,
            smp: (2, 1),
            machines: &[Machine::PowerNv9],
            ..case("linux-hotplug", HOTPLUG, all_checks_pass)
        },
        Case {
            vcpus: 4,
            smp: (2, 2),
            machines: &[Machine::PowerNv8],
            ..case("linux-hotplug-threads", HOTPLUG, all_checks_pass)
        },
        Case {
            script: vec![
                Step { expect: "@ up", send: "\x1dstart busy\nconsole linux\n\n" },
                Step { expect: "@ done", send: "\x1dshutdown\n" },
            ],
            machines: &[Machine::PowerNv10],
            ..partitions("linux-steal", BUSY_NEIGHBOUR, STEAL_FILES, all_checks_pass)
        },
        // Cores and threads, two and four of them, in turns and at the same time.
        three("linux-three", &[Machine::PowerNv9], (2, 1)),
        three("linux-three-threads", &[Machine::PowerNv8], (2, 2)),
        three("linux-three-four", &[Machine::PowerNv10], (4, 1)),
        Case { mttcg: true, ..three("linux-three-for-real", &[Machine::PowerNv9], (4, 4)) },
        Case {
            vcpus: 4,
            smp: (4, 1),
            mttcg: true,
            append: "console=hvc0 quiet seconds=20",
            timeout: Duration::from_secs(240),
            source: Source::Linux { init: STRESS, programs: &["stress"] },
            ..case("linux-stress", STRESS, all_checks_pass)
        },
        Case { script: say(&["reboot\n", "poweroff\n"]), ..case("linux-reboot", ASK, twice) },
        Case { script: say(&["panic\n"]), status: 3, ..case("linux-panic", ASK, panicked) },
    ]
}
