//! What each CPU does: it runs virtual processors in turn, serves what they are left for, and sleeps when there is nothing to run.
//!
//! A *stay* is the time from when a vCPU gets the CPU until it leaves it for another one, or to wait. Within a stay it is entered and
//! left any number of times.
#![allow(unsafe_code)] // enters guests

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use ::trace::{Processor, Subject, What};
use power::interrupt::Vector;
use power::{CpuFeatures, Hcall, spr};
use realmode::context;
use realmode::host::{self, CPUS, HostCpu, IDLE};
use realmode::instructions::{mtspr, ptesync, timebase};
use realmode::layout::{ExitCode, Vcpu};
use realmode::prepare_stay;
use realmode::world;
use sched::{Arrival, Entry, MAX_CPUS, Phase, Wake};

use crate::devices::work;
use crate::exits::{After, Guest, facility, hcall, storage};
use crate::host as host_devices;
use crate::partition::dispatch::{self, Reason};
use crate::partition::life::{self, Ending};
use crate::partition::{Partition, VirtualCpu, Waits};
use crate::partitions::{self, Task};
use crate::schedule::{self, Next};
use crate::{cpus, epitaph, host_interrupts, idle, log, merge, percpu, terminal, trace};

/// How soon a vCPU is preempted that has woken another one of its partition on the same CPU: 50 µs. It may wait for the other one,
/// but may also still hold a lock that the other one will want.
const HURRY: u64 = 25_600;

/// In the place of a slot: interrupts are held back until then.
const INTERRUPTS: usize = usize::MAX;

/// What is known of each CPU from outside.
pub struct Account {
    /// The vCPU that it runs or ran last.
    pub current: AtomicPtr<Vcpu>,
    /// Ticks that it has spent on vCPUs, in stays that are over.
    pub busy: AtomicU64,
    /// The timebase when the stay that is under way began, or 0.
    since: AtomicU64,
    /// How many stays it has seen.
    pub stays: AtomicU64,
}

/// By CPU number.
pub static ACCOUNTS: [Account; MAX_CPUS] = [const {
    Account {
        current: AtomicPtr::new(core::ptr::null_mut()),
        busy: AtomicU64::new(0),
        since: AtomicU64::new(0),
        stays: AtomicU64::new(0),
    }
}; MAX_CPUS];

impl Account {
    /// Ticks of the stay that is under way; 0 if there is none.
    pub fn stay(&self) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => timebase().saturating_sub(since),
        }
    }
}

/// This CPU.
struct Cpu {
    number: usize,
    features: CpuFeatures,
    /// The slot of the vCPU whose switched registers are in the machine, as they were saved.
    loaded: Option<usize>,
    /// Who ran last.
    last: Option<Processor>,
    /// Who waits for a decrementer: the timebase at which it expires, and the slot.
    sleepers: Vec<(u64, usize)>,
}

/// How a stay ends.
enum Leave {
    /// The time is up, or somebody else is more deserving.
    Preempted,
    /// It gives the rest of its time away; to this server, if there is one.
    Yield(Option<usize>),
    /// This server is to have the CPU before it: it has been given something to do.
    Handover(usize),
    /// It waits for this from now on.
    Wait(Waits),
    /// The partition is closed.
    Closed,
}

/// What every CPU does from the end of the boot on.
pub fn join(features: &CpuFeatures) -> ! {
    let mut cpu =
        Cpu { number: percpu::number(), features: *features, loaded: None, last: None, sleepers: Vec::new() };
    cpu.run()
}

impl Cpu {
    fn run(&mut self) -> ! {
        loop {
            self.receive(None);
            if self.number == cpus::boot() {
                terminal::service();
                host_devices::look();
            }
            let _ = work::serve(None);
            if let Next::Run(entry, until) = schedule::next(self.number) {
                self.stay(entry, until);
                continue;
            }
            // Once more, now that whoever has something to run sees an idle CPU.
            IDLE.set(self.number, true);
            match schedule::next(self.number) {
                Next::Run(entry, until) => {
                    IDLE.set(self.number, false);
                    self.stay(entry, until);
                }
                // Devices have more to do, and nobody else has: at once.
                Next::Idle(_) if work::is_waiting() => IDLE.set(self.number, false),
                Next::Idle(until) => {
                    let until = [until, merge::idle()].into_iter().flatten().min();
                    self.sleep(until);
                }
            }
        }
    }

    /// Takes in what others have woken for this CPU, and whose decrementer has expired; `host`'s ring has been acknowledged before. What comes
    /// after these looks rings anew.
    #[inline(always)]
    fn receive(&mut self, running: Option<&Partition>) -> Received {
        let own = &CPUS[self.number];
        epitaph::stop_if_dying();
        if own.mailbox.is_empty() && !own.look.load(Ordering::Acquire) && self.sleepers.is_empty() {
            return Received { any: false, kin: None };
        }
        self.take_in(own, running)
    }

    #[inline(never)] // it would bring its registers to be saved along
    fn take_in(&mut self, own: &HostCpu, running: Option<&Partition>) -> Received {
        let mut received = Received { any: own.look.swap(false, Ordering::SeqCst), kin: None };
        if received.any
            && let Some(at) = host_interrupts::serve(self.number)
        {
            self.sleepers.push((at, INTERRUPTS));
        }
        while let Some(slot) = own.mailbox.take() {
            let Some(task) = partitions::task(slot) else { continue };
            received.any = true;
            if running.is_some_and(|p| core::ptr::eq(p, &*task.partition)) {
                received.kin = Some(task.server);
            }
            self.welcome(task);
        }
        let now = timebase();
        while let Some(at) = self.sleepers.iter().position(|(expires, _)| *expires <= now) {
            let (expires, slot) = self.sleepers.swap_remove(at);
            if slot == INTERRUPTS {
                host_interrupts::release(self.number);
                continue;
            }
            let Some(task) = partitions::task(slot) else { continue };
            let vcpu = &task.partition.vcpus[task.server];
            // It may have been woken since, and sleep again until another time.
            if vcpu.wakes_at.load(Ordering::SeqCst) == expires
                && matches!(task.partition.presence(vcpu).whereabouts.wake(), Wake::Hand(_))
            {
                received.any = true;
                self.welcome(task);
            }
        }
        received
    }

    /// A task that is ready comes to this CPU.
    fn welcome(&mut self, task: Task) {
        let vcpu = &task.partition.vcpus[task.server];
        vcpu.ready_at.store(timebase(), Ordering::Relaxed);
        let arrival =
            if vcpu.dispatches.load(Ordering::Relaxed) == 0 { Arrival::New } else { Arrival::Woken };
        schedule::enqueue(self.number, schedule::entry(task), arrival);
    }

    /// When this CPU has to be out of a guest, or awake, for its own sake.
    fn next_duty(&self) -> u64 {
        let boot = self.number == cpus::boot();
        let service = if boot { terminal::next_service().min(host_devices::next_look()) } else { u64::MAX };
        let service = if work::is_waiting() { service.min(timebase() + work::PERIOD) } else { service };
        self.sleepers.iter().map(|(expires, _)| *expires).fold(service, u64::min)
    }

    /// Nothing to run: until somebody rings, or there is a duty. The CPU is known to be idle.
    fn sleep(&mut self, until: Option<u64>) {
        let own = &CPUS[self.number];
        host::acknowledge(self.number);
        // Who posts something after this look rings after it, and the ring wakes.
        let wake = until.unwrap_or(u64::MAX).min(self.next_duty());
        let left = wake.saturating_sub(timebase());
        if left > 0 && own.mailbox.is_empty() && !own.look.load(Ordering::SeqCst) {
            // SAFETY: DEC is the hypervisor's while no guest runs.
            unsafe { mtspr::<{ spr::DEC }>(left.min(i32::MAX as u64)) };
            idle::sleep(&self.features);
            if self.features.partition_table {
                // `stop` may lose a vCPU's registers, as it may the general ones.
                self.loaded = None;
            }
        }
        IDLE.set(self.number, false);
        host::acknowledge(self.number);
        host_interrupts::look(self.number);
    }

    /// A vCPU has the CPU until then; and whoever it gives its time to after it.
    fn stay(&mut self, entry: Entry<Task>, until: u64) {
        let mut next = Some((entry, until));
        // Time that was given is not given on: others wait, too.
        let mut given = false;
        while let Some((mut entry, until)) = next.take() {
            let task = entry.task.clone();
            let vcpu = &task.partition.vcpus[task.server];
            let presence = task.partition.presence(vcpu);
            presence.whereabouts.run(self.number);
            let leave = self.occupy(&mut entry, &task, until);
            if let Leave::Yield(Some(server)) | Leave::Handover(server) = leave
                && !core::mem::replace(&mut given, true)
                && let Some(other) = task.partition.core().vcpus.get(server)
                && other.whereabouts.look().0 == Phase::Ready
            {
                next = schedule::take(self.number, other.slot);
            }
            self.part(entry, &task, leave);
        }
    }

    /// From the moment that the vCPU is this CPU's until it is not to run any more. It has been charged then.
    fn occupy(&mut self, entry: &mut Entry<Task>, task: &Task, until: u64) -> Leave {
        let partition = &task.partition;
        let vcpu = &partition.vcpus[task.server];
        let presence = partition.presence(vcpu);
        if partition.core().gate.is_closed() {
            schedule::leave(self.number, entry);
            return Leave::Closed;
        }
        // SAFETY: its phase says that it runs here, so no other CPU touches its registers.
        let regs = unsafe { vcpu.regs() };
        if !wanted(partition, vcpu, regs) {
            schedule::leave(self.number, entry);
            return Leave::Wait(vcpu.waits());
        }
        if vcpu.waits() != Waits::Nothing {
            let _ = presence.take_prod();
            if vcpu.waits() == Waits::Prod {
                partition.unjoined.fetch_add(1, Ordering::SeqCst);
            }
            vcpu.set_waits(Waits::Nothing);
        }
        if partition.core().residency.arrive(self.number, partition.vcpus.len() == 1) {
            realmode::machine::flush_partition(partition.core().lpid, self.features.partition_table);
        }
        // This CPU's first look at the page table comes after its arrival is seen.
        ptesync();
        let slot = presence.slot;
        if self.loaded == Some(slot) && vcpu.was_saved_on(self.number) {
            // SAFETY: they were saved here, and no other vCPU has run here since.
            unsafe { context::thaw(regs.context.get_mut()) };
        } else {
            // SAFETY: what was in the registers was saved when its vCPU left.
            unsafe { context::load(self.features.generation, regs.context.get_mut()) };
        }
        self.loaded = Some(slot);
        let processor = Processor { lpid: partition.core().lpid, vcpu: task.server as u16 };
        if self.last != Some(processor) {
            trace::record(regs, What::Switch { from: self.last, to: Some(processor) });
            self.last = Some(processor);
        }
        dispatch::enter(vcpu, partition.memory(), self.number, regs.pc, regs.msr);
        vcpu.dispatches.fetch_add(1, Ordering::Relaxed);
        let account = &ACCOUNTS[self.number];
        account.current.store(regs, Ordering::Relaxed);
        account.stays.fetch_add(1, Ordering::Relaxed);
        let began = timebase();
        account.since.store(began, Ordering::Relaxed);
        let leave = self.visits(entry, task, regs, until);
        let ran = timebase() - began;
        account.since.store(0, Ordering::Relaxed);
        vcpu.ran.fetch_add(ran, Ordering::Relaxed);
        account.busy.fetch_add(ran, Ordering::Relaxed);
        let reason = if matches!(leave, Leave::Preempted | Leave::Handover(_) | Leave::Closed) {
            Reason::Preempted
        } else {
            Reason::Ceded
        };
        dispatch::leave(vcpu, partition.memory(), reason);
        // SAFETY: the registers are this vCPU's: nobody has used them since they were loaded.
        unsafe { context::save(self.features.generation, regs.context.get_mut()) };
        vcpu.note_saved(self.number);
        terminal::flush(partition);
        leave
    }

    /// Enters the guest again and again, until the vCPU has to leave the CPU.
    fn visits(&mut self, entry: &mut Entry<Task>, task: &Task, regs: &mut Vcpu, mut until: u64) -> Leave {
        let partition = &task.partition;
        let vcpu = &partition.vcpus[task.server];
        // Who is to have the CPU when the time is up.
        let mut heir = None;
        loop {
            let end = until.min(self.next_duty()).min(partition.watches.until());
            #[cfg(feature = "selftest")]
            let end = crate::selftest::slice_end(end);
            let exit = self.enter(partition, regs, end);
            partition.watches.look_back(partition, task.server, regs.pc);
            if regs.slice_end < end {
                // It has given something to do to a vCPU that waits for a CPU.
                until = regs.slice_end;
                heir = Some(regs.hurry_for as usize);
            }
            let (call, left_at) = (Hcall(regs.gpr[3]), regs.left_at);
            let after = handle(exit, Guest { partition, vcpu, regs });
            let took = timebase().wrapping_sub(left_at);
            vcpu.stats.add(Subject::Exit(exit), took);
            if exit == ExitCode::Hcall {
                vcpu.stats.add(Subject::Hcall(call), took);
            }
            let leave = match after {
                After::Continue => None,
                After::Yield(to) => Some(Leave::Yield(to)),
                After::Wait(waits) => Some(Leave::Wait(waits)),
                After::End(ending) => {
                    // Somebody else's end may have come first.
                    let _ = life::end(partition, ending);
                    None
                }
                After::Quiesce(work) => {
                    // If it is about to end anyway, the vCPU asks again should it ever come back.
                    let _ = life::quiesce(partition, work);
                    None
                }
            };
            if let Some(leave) = leave {
                schedule::leave(self.number, entry);
                return leave;
            }
            if partition.core().gate.is_closed() {
                schedule::leave(self.number, entry);
                return Leave::Closed;
            }
            let received = self.receive(Some(partition));
            if self.number == cpus::boot() {
                terminal::service();
                host_devices::look();
            }
            match work::serve(Some(partition)) {
                0 => {}
                others => schedule::excuse(self.number, others),
            }
            if let Some(server) = received.kin {
                until = until.min(timebase() + HURRY);
                heir = Some(server);
            }
            if timebase() >= until {
                if let Some(server) = heir.take() {
                    schedule::leave(self.number, entry);
                    return Leave::Handover(server);
                }
                match schedule::go_on(self.number, entry) {
                    Some(later) => until = later,
                    None => return Leave::Preempted,
                }
            } else if received.any && received.kin.is_none() && schedule::give_way(self.number) {
                schedule::leave(self.number, entry);
                return Leave::Preempted;
            }
        }
    }

    /// One visit of the guest, until then at the latest.
    fn enter(&mut self, partition: &Partition, regs: &mut Vcpu, end: u64) -> ExitCode {
        prepare_stay(regs, self.number, end);
        let own = &CPUS[self.number];
        own.lpid.store(partition.core().lpid.0, Ordering::SeqCst);
        #[cfg(any(debug_assertions, feature = "selftest"))]
        self.assert_shared_core(partition);
        // SAFETY: EE is off as always, HSPRG0 is this CPU's, and the vCPU is no other CPU's. The partition's page table names nothing but
        // its own memory, which is what the hpt crate sees to.
        let exit = unsafe { world::run(regs) };
        own.lpid.store(0, Ordering::SeqCst);
        own.deadline.store(u64::MAX, Ordering::SeqCst);
        partition.exits.count(exit);
        exit
    }

    /// Threads of a core that must share a partition do.
    #[cfg(any(debug_assertions, feature = "selftest"))]
    fn assert_shared_core(&self, partition: &Partition) {
        if !schedule::is_by_core() {
            return;
        }
        let own = &CPUS[self.number];
        let first = own.core.load(Ordering::Relaxed) as usize;
        for sibling in CPUS.iter().skip(first).take(own.threads.load(Ordering::Relaxed) as usize) {
            let lpid = sibling.lpid.load(Ordering::SeqCst);
            assert!(
                lpid == 0 || lpid == partition.core().lpid.0,
                "cpu {} enters partition {} while its core runs partition {lpid}",
                self.number,
                partition.core().lpid.0
            );
        }
    }

    /// The vCPU, which has been charged, leaves the CPU. Nobody touches its registers here any more.
    fn part(&mut self, mut entry: Entry<Task>, task: &Task, leave: Leave) {
        let partition = &task.partition;
        let vcpu = &partition.vcpus[task.server];
        let presence = partition.presence(vcpu);
        partition.pay(task.server);
        entry.vtime = vcpu.vtime.load(Ordering::Relaxed);
        match leave {
            Leave::Preempted | Leave::Handover(_) => {
                presence.whereabouts.ready();
                schedule::enqueue(self.number, entry, Arrival::Preempted);
            }
            Leave::Yield(_) => {
                presence.whereabouts.ready();
                schedule::enqueue(self.number, entry, Arrival::Yielded);
            }
            Leave::Closed => {
                presence.whereabouts.park();
                life::parked(partition);
            }
            Leave::Wait(Waits::Start) => {
                presence.whereabouts.park();
                partition.unjoined.fetch_sub(1, Ordering::SeqCst);
                vcpu.set_waits(Waits::Start);
                life::parked(partition);
            }
            Leave::Wait(waits) => {
                vcpu.set_waits(waits);
                self.put_to_sleep(entry, task, waits);
            }
        }
    }

    /// Blocks the vCPU, unless what it waits for has come meanwhile.
    fn put_to_sleep(&mut self, entry: Entry<Task>, task: &Task, waits: Waits) {
        let partition = &task.partition;
        let vcpu = &partition.vcpus[task.server];
        let presence = partition.presence(vcpu);
        // SAFETY: it still runs here, as far as anybody knows.
        let expires = unsafe { vcpu.regs() }.dec_expires;
        let expires = if waits == Waits::Event { expires } else { u64::MAX };
        self.sleepers.retain(|(_, slot)| *slot != presence.slot);
        if expires != u64::MAX {
            self.sleepers.push((expires, presence.slot));
        }
        vcpu.wakes_at.store(expires, Ordering::SeqCst);
        presence.whereabouts.block();
        let come = reason_to_run(partition, vcpu, waits, expires) || partition.core().gate.is_closed();
        if come && matches!(presence.whereabouts.wake(), Wake::Hand(_)) {
            vcpu.ready_at.store(timebase(), Ordering::Relaxed);
            schedule::enqueue(self.number, entry, Arrival::Woken);
        }
    }
}

/// What has come to a CPU.
struct Received {
    /// Anything.
    any: bool,
    /// A vCPU, by server number, of the partition that runs there.
    kin: Option<usize>,
}

/// Does a vCPU have a reason to run, whatever it was woken for?
fn wanted(partition: &Partition, vcpu: &VirtualCpu, regs: &Vcpu) -> bool {
    reason_to_run(partition, vcpu, vcpu.waits(), regs.dec_expires)
}

/// Has what it waits for come?
fn reason_to_run(partition: &Partition, vcpu: &VirtualCpu, waits: Waits, expires: u64) -> bool {
    let presence = partition.presence(vcpu);
    match waits {
        Waits::Nothing => true,
        Waits::Start => false,
        Waits::Prod => presence.is_prodded(),
        Waits::Event => {
            (timebase().wrapping_sub(expires) as i64) >= 0
                || partition.core().xics.pending(vcpu.server as u32)
                || presence.is_prodded()
        }
    }
}

/// What a guest was left for.
fn handle(exit: ExitCode, mut guest: Guest<'_>) -> After {
    match exit {
        ExitCode::Hcall => hcall::handle(&mut guest),
        ExitCode::Storage => storage::handle(&mut guest),
        ExitCode::Facility => facility::handle(&mut guest),
        ExitCode::Slice | ExitCode::HostInterrupt => After::Continue,
        ExitCode::Yield => After::Yield(usize::try_from(guest.regs.gpr[4]).ok()),
        ExitCode::Cede => After::Wait(Waits::Event),
        ExitCode::MachineCheck | ExitCode::Unexpected => {
            let regs = &guest.regs;
            After::End(Ending::Crash(format!(
                "partition {}: {} interrupt ({:#x}) at {:#x}, msr {:#x}",
                guest.partition.name,
                Vector(regs.vector).name(),
                regs.vector,
                regs.pc,
                regs.msr
            )))
        }
    }
}

/// What ran on this CPU when the hypervisor crashed, and what came before.
pub fn epitaph() {
    let current = ACCOUNTS[percpu::number() % MAX_CPUS].current.load(Ordering::Relaxed);
    // SAFETY: the vCPU that runs here, or ran last. If its partition has been undefined since, the words are stale; they are
    // memory of the hypervisor's, and a torn read of registers is good enough for a crash report.
    if let Some(regs) = unsafe { current.as_ref() } {
        log!(
            "  cpu {} last in vCPU {}: lpid {} pc {:016x} msr {:016x} lr {:016x}",
            percpu::number(),
            regs.server,
            regs.lpid,
            regs.pc,
            regs.msr,
            regs.lr
        );
        log!(
            "  r1 {:016x} r3 {:016x} r4 {:016x} r5 {:016x}",
            regs.gpr[1],
            regs.gpr[3],
            regs.gpr[4],
            regs.gpr[5]
        );
    }
    trace::dump(None);
}
