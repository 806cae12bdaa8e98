//! The cases that boot a Debian kernel: to a shell, through work, into a panic and out again.

use crate::transcript::{all_checks_pass, in_order};
use crate::{Case, Endian, Source, Step, Transcript};
use std::time::Duration;

/// What every `/init` starts with: the usual file systems, and `check NAME GOT WANT`, which prints a record.
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
             mount -t tmpfs -o size=400M tmpfs /tmp\n\
             passed=0; failed=0\n\
             good() { passed=$((passed + 1)); echo \"@ check $1 ok\"; }\n\
             bad() { failed=$((failed + 1)); echo \"@ check $1 fail $2\"; }\n\
             check() { if [ \"$2\" = \"$3\" ]; then good $1; else bad $1 \"got=$2 want=$3\"; fi; }\n\
             within() { if [ \"$2\" -ge \"$3\" ] && [ \"$2\" -le \"$4\" ]; then good $1; else bad $1 \"got=$2 want=$3..=$4\"; fi; }\n\
             echo '@ boot'\n",
            $($rest),*
        )
    };
}

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
    // A thousand processes, each a fork and an exec.
    "i=0; n=0\n\
     while [ $i -lt 1000 ]; do /bin/busybox true && n=$((n + 1)); i=$((i + 1)); done\n\
     check processes $n 1000\n",
    // Three hundred MiB of 512: each file says which it is and goes on with the same random data.
    "dd if=/dev/urandom of=/chunk bs=64k count=63 2>/dev/null\n\
     want=$(md5sum < /chunk)\n\
     i=0\n\
     while [ $i -lt 75 ]; do\n\
       (echo file $i | dd bs=64k conv=sync 2>/dev/null; cat /chunk) > /tmp/f$i || echo cannot write $i\n\
       i=$((i + 1))\n\
     done\n\
     i=0; same=0; size=0\n\
     while [ $i -lt 75 ]; do\n\
       read word number < /tmp/f$i\n\
       [ \"$number\" = $i ] && [ \"$(tail -c +65537 /tmp/f$i | md5sum)\" = \"$want\" ] && same=$((same + 1))\n\
       size=$((size + $(stat -c %s /tmp/f$i)))\n\
       i=$((i + 1))\n\
     done\n\
     check memory $same 75\n\
     check memory-size $size $((75 * 64 * 65536))\n\
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
    "dmesg | grep -E 'Oops|BUG|WARNING: CPU|Call Trace|soft lockup|rcu.*stall|Machine check' | head -n 5\n\
     check quiet \"$(dmesg | grep -cE 'Oops|BUG|WARNING: CPU|Call Trace|soft lockup|rcu.*stall|Machine check')\" 0\n\
     check processors \"$(grep -c ^processor /proc/cpuinfo)\" \"$(sed 's/.*expect_cpus=//; s/ .*//' /proc/cmdline)\"\n\
     echo \"@ done passed=$passed failed=$failed\"\n\
     poweroff -f\n"
);

const CONSOLE: &str = "console=hvc0 quiet";

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

fn say(answers: &[&'static str]) -> Vec<Step> {
    answers.iter().map(|&send| Step { expect: "what now?", send }).collect()
}

fn shell(t: &Transcript) -> Result<(), String> {
    in_order(t, &["@ boot", "sum is 42", "from pipe", "hvc0", "Power"])
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
            append: "console=hvc0 quiet expect_cpus=2",
            timeout: Duration::from_secs(400),
            vcpus: 2,
            ..case("linux-work-smp", WORK, all_checks_pass)
        },
        Case {
            append: "console=hvc0 quiet expect_cpus=1",
            timeout: Duration::from_secs(300),
            huge_pages: true,
            ..case("linux-work-huge", WORK, all_checks_pass)
        },
        Case { script: say(&["reboot\n", "poweroff\n"]), ..case("linux-reboot", ASK, twice) },
        Case { script: say(&["panic\n"]), status: 3, ..case("linux-panic", ASK, panicked) },
    ]
}
