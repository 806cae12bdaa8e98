//! A partition's life: started, paused, resumed, and ended, by itself or by the monitor; and made to stand still for a moment,
//! while it is copied, say ([`quiesce`]).
//!
//! Whoever ends or pauses it closes it and wakes all its vCPUs. Each is parked by the CPU that runs it, or that is next to: none enters
//! its guest while the partition is closed. Whoever parks the last one does what is due then ([`settle`]): nothing of the
//! partition runs any more, on any CPU.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use realmode::host;
use realmode::instructions::timebase;

use super::{Partition, Waits};
use crate::sync::Guard;
use crate::{console, cpus, percpu, terminal};

/// How a partition ends, or is interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has switched itself off.
    PowerOff,
    /// It starts anew, because it asked for that.
    Reboot,
    /// It cannot go on. Why, in one line.
    Crash(String),
    /// The monitor stops it.
    Stop,
    /// The monitor starts it anew.
    Reset,
    /// The monitor pauses it.
    Pause,
    /// It stands still for [`Life::work`].
    Quiesce,
}

/// What is done to a partition while none of its vCPUs runs. If the partition ends first, it is dropped.
pub type Work = Box<dyn FnOnce(&Arc<Partition>) + Send>;

/// What a partition does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It has not been started.
    Defined,
    /// It is to run as soon as its devices of the host's have been reset.
    Starting,
    /// It runs.
    Running,
    /// Its vCPUs are on their way out.
    Ending(Ending),
    /// It stands still, and something is done to it.
    Still,
    /// It is paused.
    Paused,
    /// It has ended.
    Stopped,
}

impl Doing {
    /// In a word.
    pub const fn name(&self) -> &'static str {
        match self {
            Doing::Defined => "defined",
            Doing::Starting => "starting",
            Doing::Running => "running",
            Doing::Ending(Ending::Pause) => "pausing",
            Doing::Ending(Ending::Quiesce) | Doing::Still => "standing still",
            Doing::Ending(_) => "stopping",
            Doing::Paused => "paused",
            Doing::Stopped => "stopped",
        }
    }
}

/// What a partition does, and what of it is to be told.
pub struct Life {
    /// What it does.
    pub doing: Doing,
    /// The worst exit status that it has ended with by itself, if it has; and why.
    pub verdict: Option<(u8, String)>,
    /// A line about what has happened, for the console; whether the trace goes with it.
    pub news: Option<(String, bool)>,
    /// The timebase at its last start.
    pub started: u64,
    /// What its vCPUs had run by then, in ticks, and how often they had been left.
    pub before: (u64, u64),
    /// What is to be done while it stands still.
    work: Option<Work>,
    /// How it is to end or be interrupted as soon as that has been done.
    then: Option<Ending>,
}

/// Exit status of a partition that crashed or had to be stopped.
const CRASHED: u8 = 3;

impl Life {
    /// Not begun yet.
    pub const fn new() -> Life {
        Life {
            doing: Doing::Defined,
            verdict: None,
            news: None,
            started: 0,
            before: (0, 0),
            work: None,
            then: None,
        }
    }

    /// Does it run, or would it if it were not paused? The run goes on as long as one does.
    pub const fn is_alive(&self) -> bool {
        !matches!(self.doing, Doing::Defined | Doing::Stopped)
    }
}

/// Starts a partition that does not run. An error is one line for the user.
pub fn start(partition: &Arc<Partition>) -> Result<(), String> {
    let mut life = partition.life.lock();
    if life.is_alive() {
        return Err(format!("{} is {} already", partition.name, life.doing.name()));
    }
    begin(partition, &mut life)
}

fn begin(partition: &Arc<Partition>, life: &mut Life) -> Result<(), String> {
    let ran = partition.vcpus.iter().map(|vcpu| vcpu.ran.load(Ordering::Relaxed));
    life.before = (ran.sum(), partition.exits.total());
    life.doing = Doing::Running;
    life.verdict = None;
    let started = partition.start();
    // It has run from its first instruction on: its kernel is loaded by now.
    life.started = timebase();
    match started {
        Ok(true) => {}
        Ok(false) => life.doing = Doing::Starting,
        Err(why) => {
            partition.core().gate.close();
            partition.clear();
            life.doing = Doing::Stopped;
            return Err(why);
        }
    }
    Ok(())
}

/// Starts a partition whose devices were not ready for it before, if they are now.
pub fn go_on_starting(partition: &Arc<Partition>, life: &mut Life) {
    if life.doing == Doing::Starting
        && partition.devices.are_ready()
        && let Err(why) = begin(partition, life)
    {
        over(partition, life, CRASHED, why);
    }
}

/// Lets a paused partition go on.
pub fn resume(partition: &Arc<Partition>) -> Result<(), String> {
    let life = partition.life.lock();
    if life.doing != Doing::Paused {
        return Err(format!("{} is not paused: it is {}", partition.name, life.doing.name()));
    }
    go_on(partition, life);
    Ok(())
}

/// Lets the vCPUs of a partition go on, all of which are parked.
fn go_on(partition: &Arc<Partition>, mut life: Guard<'_, Life>) {
    // Found before the first of them runs: it may start others, or end.
    let paused: Vec<_> = partition.vcpus.iter().filter(|vcpu| vcpu.waits() != Waits::Start).collect();
    life.doing = Doing::Running;
    if paused.is_empty() {
        // The last one stopped itself while it was being paused.
        drop(life);
        settle(partition);
        return;
    }
    partition.core().gate.open(paused.len());
    if let Some(devices) = &partition.pci {
        devices.go_on();
    }
    paused.into_iter().for_each(|vcpu| partition.release(vcpu));
}

/// Lets a new partition go on from the state that it was given, as if it had been paused there.
pub fn begin_as_copy(partition: &Arc<Partition>) {
    let mut life = partition.life.lock();
    life.started = timebase();
    go_on(partition, life);
}

/// Has something done while no vCPU of a partition runs, and lets it go on: at once if it is paused, and it stays so; if it runs, as soon
/// as every vCPU has been parked, by the CPU that parks the last one. An error, with which the work comes back, says why not; it may be done a
/// little later if the partition is about to stand still for something else.
pub fn quiesce(partition: &Arc<Partition>, work: Work) -> Result<(), Refused> {
    let mut life = partition.life.lock();
    match life.doing {
        Doing::Running => {
            life.work = Some(work);
            close(partition, life, Ending::Quiesce);
            Ok(())
        }
        Doing::Paused => {
            life.doing = Doing::Still;
            drop(life);
            work(partition);
            worked(partition, true);
            Ok(())
        }
        _ => {
            let later = matches!(life.doing, Doing::Still | Doing::Ending(Ending::Quiesce | Ending::Pause));
            let why = format!("{} is {}", partition.name, life.doing.name());
            Err(Refused { why, later, work })
        }
    }
}

/// Keeps a partition from ending and from standing still, for as long as the lock of its life is held. An error, one line for the user, if
/// it stands still just now.
pub fn undisturbed(partition: &Partition) -> Result<Guard<'_, Life>, String> {
    let life = partition.life.lock();
    if life.doing == Doing::Still {
        return Err(in_transit(partition, &life));
    }
    Ok(life)
}

/// The line for the user when something has to wait until a partition stands still no more.
pub fn in_transit(partition: &Partition, life: &Life) -> String {
    format!("{} is {}: try again", partition.name, life.doing.name())
}

/// What is to be done to a partition cannot be done now.
pub struct Refused {
    /// Why, in one line.
    pub why: String,
    /// It may be possible in a moment.
    pub later: bool,
    /// What was to be done.
    pub work: Work,
}

/// What was to be done to a partition while it stood still has been done: it goes on as it was, unless it is to end by now.
fn worked(partition: &Arc<Partition>, was_paused: bool) {
    let mut life = partition.life.lock();
    match life.then.take() {
        Some(ending) => close(partition, life, ending),
        None if was_paused => life.doing = Doing::Paused,
        None => go_on(partition, life),
    }
}

/// Ends or pauses a partition: at once as far as its guest is concerned, and in full as soon as every vCPU has been parked, and what
/// is being done to it while it stands still has been done.
/// Nothing happens if it has ended, or is about to. An error says so.
pub fn end(partition: &Arc<Partition>, ending: Ending) -> Result<(), String> {
    let mut life = partition.life.lock();
    let allowed = match life.doing {
        Doing::Running | Doing::Ending(Ending::Pause | Ending::Quiesce) => true,
        Doing::Paused | Doing::Starting => ending != Ending::Pause,
        Doing::Still if life.then.is_none() => {
            // A guest that has this done to it again and again is to be stopped, too.
            life.then = Some(ending);
            return Ok(());
        }
        Doing::Defined | Doing::Still | Doing::Stopped => false,
        Doing::Ending(_) => false,
    };
    if !allowed {
        return Err(format!("{} is {}", partition.name, life.doing.name()));
    }
    // Whatever was to be done to it while it stood still will not be.
    let dropped = life.work.take();
    close(partition, life, ending);
    drop(dropped);
    Ok(())
}

/// Makes all vCPUs of a partition leave it.
fn close(partition: &Arc<Partition>, mut life: Guard<'_, Life>, ending: Ending) {
    life.doing = Doing::Ending(ending);
    let nobody = partition.core().gate.close();
    drop(life);
    if nobody {
        settle(partition);
        return;
    }
    for presence in partition.core().vcpus {
        let _ = host::wake(percpu::number(), presence);
    }
}

/// A vCPU of the partition has been parked. The last one to be so brings about what is due.
pub fn parked(partition: &Arc<Partition>) {
    if partition.core().gate.leave() {
        settle(partition);
    }
}

/// No vCPU is active. In whose name one was started again meanwhile, it has not come to that.
fn settle(partition: &Arc<Partition>) {
    let mut life = partition.life.lock();
    if partition.core().gate.active() != 0 {
        return;
    }
    let name = &partition.name;
    match life.doing.clone() {
        Doing::Ending(Ending::Pause) => life.doing = Doing::Paused,
        Doing::Ending(Ending::Quiesce) => {
            life.doing = Doing::Still;
            let work = life.work.take();
            drop(life);
            if let Some(work) = work {
                work(partition);
            }
            worked(partition, false);
            return;
        }
        Doing::Ending(Ending::PowerOff) => {
            over(partition, &mut life, 0, format!("partition {name} switched itself off"))
        }
        Doing::Ending(Ending::Crash(why)) => over(partition, &mut life, CRASHED, why),
        Doing::Running => {
            over(
                partition,
                &mut life,
                CRASHED,
                format!("partition {name}: all its vCPUs have stopped themselves"),
            );
        }
        Doing::Ending(Ending::Stop) => {
            stop(partition, &mut life);
            life.news = Some((format!("{name} stopped"), false));
        }
        Doing::Ending(again @ (Ending::Reboot | Ending::Reset)) => {
            let how = if again == Ending::Reboot { "reboots" } else { "is reset" };
            life.news = Some((format!("{name} {how}"), false));
            let began = timebase();
            if let Err(why) = begin(partition, &mut life) {
                over(partition, &mut life, CRASHED, why);
            }
            // Who starts anew again and again does so in its own time.
            partition.charge(0, timebase() - began);
        }
        Doing::Defined | Doing::Starting | Doing::Still | Doing::Paused | Doing::Stopped => {}
    }
    drop(life);
    // The boot CPU tells, and sees whether that was all.
    terminal::hasten();
    host::look(percpu::number(), cpus::boot());
}

fn stop(partition: &Partition, life: &mut Life) {
    partition.core().gate.close();
    partition.clear();
    life.doing = Doing::Stopped;
}

fn over(partition: &Partition, life: &mut Life, status: u8, why: String) {
    stop(partition, life);
    let ran = (timebase() - life.started) / console::TICKS_PER_MICRO;
    let told = format!("{why}\n{} ran for {ran} us; {}", partition.name, partition.exits);
    life.news = Some((told, status != 0));
    life.verdict = Some((status, why));
}
