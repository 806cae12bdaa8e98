//! The same benchmark guest on KVM-HV: Debian's Linux in QEMU, instructions counted as for the hypervisor, and Debian's QEMU in it.

use crate::debian::{self, Host};
use crate::options::{Options, Smp};
use crate::qemu::{Event, Machine as Qemu};
use crate::run::{Temporary, qemu_command};
use crate::{Failure, shell, toolchain};
use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::bench::{DEVICES, NETWORK, ONE};
use tests::budgets::{BUDGETS, Budget};
use tests::{Endian, Machine, Transcript, oracle};

/// For an idle machine it takes about a tenth of that.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// A hashed page table of the host's own, as the hypervisor has; the console for nothing but what the guest prints.
const APPEND: &str = "console=hvc0 quiet disable_radix panic=-1";

/// A run of the guest.
struct Guest {
    /// The case whose rows it prints.
    case: &'static str,
    /// The guest's command line.
    append: &'static str,
    /// The devices that QEMU is told of.
    devices: &'static str,
    /// An option of the last one of these, for comparison: the rows are told, and do not count.
    option: &'static str,
}

/// A disk in the host's memory.
const DISK: &str =
    "-drive if=none,id=disk,format=raw,file=/disk -device virtio-blk-pci,disable-legacy=on,drive=disk";
/// Two network cards on a hub of QEMU's.
const CARDS: &str = "-netdev hubport,id=a,hubid=0 -device virtio-net-pci,disable-legacy=on,romfile=,netdev=a \
                     -netdev hubport,id=b,hubid=0 -device virtio-net-pci,disable-legacy=on,romfile=,netdev=b";

/// One after the other.
const RUNS: [Guest; 4] = [
    Guest { case: ONE, append: "", devices: "", option: "" },
    Guest { case: DEVICES, append: "devices", devices: DISK, option: "" },
    Guest { case: DEVICES, append: "devices", devices: DISK, option: ",ioeventfd=off" },
    Guest { case: NETWORK, append: "network", devices: CARDS, option: "" },
];

/// QEMU's arguments for the guest are the oracle's, but for who runs it. The host's console is not QEMU's: it is read by nobody there.
///
/// The host has one processor, and a guest that waits for a device polls. So that it does not do so for the rest of its time slice, QEMU's
/// other threads go before the one of the guest: what is measured is their work, and nothing else.
fn init() -> String {
    let busybox = "/bin/busybox";
    let runs: String = RUNS
        .map(|Guest { append, devices, option, .. }| format!("run \"{append}\" {devices}{option}\n"))
        .concat();
    format!(
        "#!{busybox} sh\n\
         {busybox} mount -t proc proc /proc\n\
         {busybox} mount -t sysfs sysfs /sys\n\
         {busybox} mount -t devtmpfs devtmpfs /dev\n\
         {busybox} insmod /bin/kvm.ko && {busybox} insmod /bin/kvm-hv.ko\n\
         {busybox} dd if=/dev/zero of=/disk bs=64k count=16 2>/dev/null\n\
         {busybox} renice -20 -p $$\n\
         run() {{\n\
         append=$1; shift\n\
         LD_LIBRARY_PATH=/bin /bin/ld64.so.2 /bin/qemu-system-ppc64 -M {} -accel kvm -cpu host -m 512 \
         -bios /bin/bench.flat -kernel /bin/bench.elf -append \"$append\" -name bench,debug-threads=on -display none -nodefaults \
         -serial stdio -vga none -no-reboot \"$@\" </dev/null &\n\
         qemu=$!\n\
         while [ -e /proc/$qemu/comm ] && ! vcpu=$({busybox} grep -l KVM /proc/$qemu/task/*/comm 2>/dev/null); do {busybox} usleep 1000; done\n\
         vcpu=${{vcpu%/comm}}; {busybox} renice 19 -p ${{vcpu##*/}} && wait $qemu\n\
         echo \"{ENDED} $?\"\n\
         }}\n\
         {runs}\
         {busybox} poweroff -f\n",
        oracle::MACHINE
    )
}

/// What follows is QEMU's status.
const ENDED: &str = "@ qemu ended:";

/// Needs no machine: what all runs have in common.
pub struct Kvm {
    host: Host,
    initramfs: Temporary,
}

impl Kvm {
    /// Downloads and builds all that is needed.
    pub fn make() -> Result<Kvm, Failure> {
        toolchain::build_guests()?;
        let host = Host::fetch()?;
        let elf = shell::read(&toolchain::guest("bench", Endian::Little.target()))?;
        let flat =
            oracle::flatten(&elf).ok_or_else(|| Failure::new("the benchmark is not a guest program"))?;
        let mut files = host.files()?;
        files.extend([("bench.elf".into(), elf), ("bench.flat".into(), flat)]);
        let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let initramfs = Temporary::new("kvm-host", &debian::initramfs(&init(), &files, &[])?)?;
        shell::progress(&format!("KVM-HV is that of {}", host.versions));
        Ok(Kvm { host, initramfs })
    }

    /// The rows on one machine.
    pub fn measure(&self, machine: Machine) -> Result<Vec<(&'static str, u64)>, Failure> {
        let options = Options {
            machine,
            smp: Smp { cpus: 1, threads: 1 },
            memory: 4 << 30,
            icount: true,
            ..Options::default()
        };
        let mut command = qemu_command(&options, &self.host.kernel, self.initramfs.path(), false);
        command.args(["-append", APPEND]);
        let begun = Instant::now();
        let (log, place) = (shell::work_dir("log")?, machine.name());
        let file = |extension| log.join(format!("kvm-hv-{place}.{extension}"));
        let errors = File::create(file("err"))
            .map_err(|error| Failure::new(format!("{}: {error}", file("err").display())))?;
        let qemu = Qemu::start(command, Stdio::null(), errors.into())?;
        let (mut console, deadline) = (Vec::new(), begun + LIMIT);
        let ended = loop {
            match qemu.next(Some(deadline)) {
                Event::Output(bytes) => console.extend(bytes),
                Event::End => break true,
                Event::Timeout => break false,
            }
        };
        shell::write(&file("txt"), &console)?;
        shell::progress(&format!("KVM-HV on {place}: {:.1} s", begun.elapsed().as_secs_f64()));
        rows(&Transcript::new(&console, ended)).map_err(|why| {
            Failure::new(format!("KVM-HV on {place}: {why} (console: {})", file("txt").display()))
        })
    }
}

/// Does one of the runs print it?
pub fn is_measured(budget: &Budget) -> bool {
    RUNS.iter().any(|guest| guest.case == budget.case)
}

/// What the guest has printed, of rows that there are. One whose check has failed is not among them: this emulated machine has not all
/// that KVM-HV relies on; the console says more. Nor is one that is nothing but the guest's loop: what is measured here was done at another
/// time there, as H_ENTER makes the page that it names.
fn rows(t: &Transcript) -> Result<Vec<(&'static str, u64)>, String> {
    if !t.ended {
        return Err(format!("the time ran out ({} s)", LIMIT.as_secs()));
    }
    let mut rest = t.text.as_str();
    let mut all = Vec::new();
    for guest in &RUNS {
        let (console, after) = rest.split_once(ENDED).ok_or("the host did not get as far as QEMU's end")?;
        let status = after.lines().next().unwrap_or_default().trim();
        rest = after;
        if status != "0" {
            return Err(format!("QEMU in the host ended with status {status}"));
        }
        let rows = of_guest(guest.case, &Transcript::new(console.as_bytes(), true))?;
        if guest.option.is_empty() {
            all.extend(rows);
        } else {
            let rows: Vec<_> = rows.iter().map(|(row, value)| format!("{row} {value}")).collect();
            shell::progress(&format!("KVM-HV with {}: {}", &guest.option[1..], rows.join(", ")));
        }
    }
    Ok(all)
}

/// The same of one run.
fn of_guest(case: &str, t: &Transcript) -> Result<Vec<(&'static str, u64)>, String> {
    if !t.records("processor").any(|record| record.ends_with("under kvm")) {
        return Err("no guest says that it runs under KVM".into());
    }
    if t.count("@ done passed=") != 1 {
        return Err("the guest did not come to its end".into());
    }
    let value = |row: &str| {
        let record = t.records("bench").find_map(|record| record.strip_prefix(row)?.strip_prefix(' '))?;
        let (value, length) = record.split_once(" loop ")?;
        let (value, length) = (value.parse::<u64>().ok()?, length.parse().ok()?);
        (value > length).then_some(value)
    };
    let rows = BUDGETS.iter().filter(|budget| budget.case == case);
    Ok(rows.filter_map(|budget| Some((budget.row, value(budget.row)?))).collect())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_console_is_read_or_refused() {
        let run = |rows: &str| {
            format!(
                "@ processor POWER9 under kvm\n@ check a ok\n{rows}@ done passed=1 failed=0\n@ qemu ended: 0\n"
            )
        };
        let first = run("@ bench h_read 4528 loop 7\n@ bench first_load 4 loop 4\n@ bench else 2 loop 1\n");
        let good =
            [first, run("@ bench notify 20 loop 3\n"), run("@ bench notify 30 loop 3\n"), run("")].concat();
        let read = |text: &str, ended| rows(&Transcript::new(text.as_bytes(), ended));
        assert_eq!(read(&good, true), Ok(vec![("h_read", 4528), ("notify", 20)]));
        for (text, ended, why) in [
            (good.clone(), false, "the time ran out"),
            (good.trim_end_matches("@ qemu ended: 0\n").into(), true, "did not get as far"),
            (good.replacen("@ done", "@ dead", 1), true, "did not come to its end"),
            ("Kernel panic".into(), true, "did not get as far"),
            (good.replace(": 0", ": 1"), true, "ended with status 1"),
            (good.replace("under kvm", "under qemu"), true, "no guest says"),
        ] {
            let told = read(&text, ended).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
