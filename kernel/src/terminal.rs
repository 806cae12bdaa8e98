//! Who has the physical console: a partition, by its first console or its second, or the monitor.
//!
//! A partition's output goes through its own ring. That of the partition at the console is written out as fast as the firmware takes
//! it, and a full ring is H_BUSY for its guest; the others' rings keep what came last, for when somebody attaches. Input goes
//! to who has the console; Ctrl-] leads to the monitor. Only the boot CPU reads, and tells what has become of partitions.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ::monitor::Editor;
use realmode::instructions::timebase;
use realmode::partition::ATTACHED;
use virtio::console::Line;

use crate::console::{self, Screen};
use crate::monitor::{self, Follow};
use crate::partition::{Partition, TIMEBASE_HZ, life};
use crate::sync::{Lock, Rank};
use crate::{epitaph, log, partitions, pci, trace, watch};

/// How often the console is looked at: every 10 ms, or every millisecond while there is input.
const PERIOD: u64 = TIMEBASE_HZ / 100;
const PERIOD_BUSY: u64 = TIMEBASE_HZ / 1000;

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// How much is written at once while others wait for the console.
const PIECE: usize = 256;

/// How much is read ahead of who it is for.
const TYPED: usize = 1024;

/// The monitor's prompt.
const PROMPT: &str = "partita> ";

/// Who is at the console.
enum Attached {
    Monitor,
    Partition(Arc<Partition>),
    /// A partition's second console.
    Second(Arc<Line>),
}

/// The console's state.
struct Terminal {
    attached: Attached,
    typed: VecDeque<u8>,
    editor: Editor,
    /// A command that has not come to its end.
    follow: Option<Follow>,
    /// How many lines the log had when the prompt was last shown.
    seen: u64,
}

static TERMINAL: Lock<Terminal> = Lock::new(
    Rank::Terminal,
    Terminal {
        attached: Attached::Monitor,
        typed: VecDeque::new(),
        editor: Editor::new(PROMPT),
        follow: None,
        seen: 0,
    },
);

/// The LPID of the partition that had the console last, or 0.
static LAST: AtomicU32 = AtomicU32::new(0);
static NEXT_SERVICE: AtomicU64 = AtomicU64::new(0);

/// When the boot CPU has to look at the console next.
pub fn next_service() -> u64 {
    NEXT_SERVICE.load(Ordering::Relaxed)
}

/// The boot CPU is to look at once.
pub fn hasten() {
    NEXT_SERVICE.store(0, Ordering::Relaxed);
}

/// Has the partition the console, or did it have it before the monitor?
pub fn was_attached(partition: &Partition) -> bool {
    LAST.load(Ordering::Relaxed) == partition.core().lpid.0
}

/// The partition will be no more: its number may be another's.
pub fn forget(partition: &Partition) {
    let _ = LAST.compare_exchange(partition.core().lpid.0, 0, Ordering::Relaxed, Ordering::Relaxed);
}

/// Puts bytes on a partition's console.
pub fn put(partition: &Partition, bytes: &[u8]) {
    let mut vty = partition.vty();
    if partition.core().is_attached() {
        vty.output.push(bytes);
    } else {
        vty.output.push_over(bytes);
    }
}

/// Writes out what the partition at the console has put there, as much as the firmware takes now. What is left keeps the
/// partition's own output waiting, and nobody else.
pub fn flush(partition: &Partition) {
    write_out(partition, false);
}

/// The same up to the end of the last line, if there is one: a line of the hypervisor's may come next.
pub fn flush_lines(partition: &Partition) {
    write_out(partition, true);
}

fn write_out(partition: &Partition, lines: bool) {
    if !partition.core().is_attached() {
        return;
    }
    let mut vty = partition.vty();
    let (mut a, mut b) = vty.output.chunks();
    if lines {
        let whole = |piece: &[u8]| piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        match (whole(a), whole(b)) {
            (0, 0) => {}
            (n, 0) => (a, b) = (&a[..n], &[]),
            (_, n) => b = &b[..n],
        }
    }
    if a.is_empty() {
        return;
    }
    let mut n = console::offer(a);
    if n == a.len() && !b.is_empty() {
        n += console::offer(b);
    }
    vty.output.consume(n);
}

/// Writes all of it out, however long that takes: before the hypervisor says something about the partition.
fn drain(partition: &Partition) {
    // What is there now, and no more; piece by piece, so that others get at the console.
    let mut left = if partition.core().is_attached() { partition.vty().output.len() } else { 0 };
    while left != 0 {
        let mut vty = partition.vty();
        let (piece, _) = vty.output.chunks();
        let n = piece.len().min(left).min(PIECE);
        console::raw(&piece[..n]);
        vty.output.consume(n);
        left = if n == 0 { 0 } else { left - n };
    }
}

/// The same of the second console that is shown, if one is.
fn drain_second() {
    if let Attached::Second(line) = &TERMINAL.lock().attached {
        line.show(|piece| {
            console::raw(piece);
            piece.len()
        });
    }
}

/// Gives the console to a partition, at boot.
pub fn start_with(partition: Option<Arc<Partition>>) {
    let mut terminal = TERMINAL.lock();
    match partition {
        Some(partition) => terminal.attach(partition),
        None => terminal.enter_monitor(),
    }
}

/// What the boot CPU does about the console when it is time: it tells what has become of partitions, writes, reads, and carries out what the
/// monitor was told.
#[inline]
pub fn service() {
    if timebase() >= next_service() {
        see_to_it();
    }
}

#[inline(never)] // it would bring its registers to be saved along
fn see_to_it() {
    NEXT_SERVICE.store(timebase() + PERIOD, Ordering::Relaxed);
    let all = partitions::all();
    tell(&all);
    watch::service(&all);
    pci::look();
    // What is typed may be that one of them is to be forgotten, which waits until nobody has it.
    drop(all);
    let mut terminal = TERMINAL.lock();
    match &terminal.attached {
        Attached::Partition(partition) => flush(partition),
        Attached::Second(line) => line.show(console::offer),
        Attached::Monitor => {}
    }
    if terminal.read() {
        NEXT_SERVICE.store(timebase() + PERIOD_BUSY, Ordering::Relaxed);
    }
    terminal.deal_out();
    terminal.show_prompt_again();
}

/// Tells what has become of partitions. The last one's end is the end of the run.
fn tell(all: &[Arc<Partition>]) {
    let mut ended = false;
    for partition in all {
        // Whoever has it for long, starting the partition anew, has more to tell afterwards.
        let Some(mut life) = partition.life.try_lock() else { continue };
        life::go_on_starting(partition, &mut life);
        let Some((news, with_trace)) = life.news.take() else { continue };
        ended |= life.verdict.is_some();
        drop(life);
        drain(partition);
        drain_second();
        news.lines().for_each(|line| log!("{line}"));
        if with_trace {
            trace::dump(Some(partition.core().lpid));
        }
    }
    let alive = |partition: &Arc<Partition>| partition.life.try_lock().is_none_or(|life| life.is_alive());
    let over = ended && !all.iter().any(alive);
    if let Some((status, why)) = over.then(|| worst(all)).flatten() {
        #[cfg(feature = "selftest")]
        crate::selftest::tell();
        epitaph::end(status, format_args!("{why}"));
    }
}

/// The worst exit status that one of these partitions has ended with by itself, and why: the first one's if there are several.
pub fn worst(all: &[Arc<Partition>]) -> Option<(u8, String)> {
    let verdicts = all.iter().filter_map(|partition| partition.life.lock().verdict.clone());
    verdicts.rev().max_by_key(|(status, _)| *status)
}

impl Terminal {
    /// Reads what has been typed; true if there was something.
    fn read(&mut self) -> bool {
        let before = self.typed.len();
        while self.typed.len() < TYPED {
            let mut bytes = [0; 64];
            let n = console::read(&mut bytes);
            if n == 0 {
                break;
            }
            self.typed.extend(&bytes[..n]);
        }
        self.typed.len() != before
    }

    /// Gives what has been typed to who has the console, as much as there is room for.
    fn deal_out(&mut self) {
        loop {
            if let Some(follow) = self.follow.take() {
                self.follow = self.carry_on(follow);
                if self.follow.is_some() {
                    return;
                }
            }
            if self.typed.is_empty() {
                return;
            }
            let gone = match &self.attached {
                Attached::Monitor => {
                    self.give_monitor();
                    true
                }
                Attached::Partition(partition) => {
                    let partition = partition.clone();
                    self.give_guest(|bytes| partition.type_in(bytes))
                }
                Attached::Second(line) => {
                    let line = line.clone();
                    self.give_guest(|bytes| line.type_in(bytes))
                }
            };
            if !gone {
                return;
            }
        }
    }

    /// Types into a guest's console, which answers how much there was room for. False if there is none for the rest.
    fn give_guest(&mut self, type_in: impl FnOnce(&[u8]) -> usize) -> bool {
        let until = self.typed.iter().position(|byte| *byte == ESCAPE);
        let wanted = until.unwrap_or(self.typed.len());
        let bytes = self.typed.make_contiguous();
        let n = type_in(&bytes[..wanted]);
        self.typed.drain(..n);
        if n < wanted {
            return false;
        }
        if until.is_some() {
            self.typed.pop_front();
            self.enter_monitor();
        }
        true
    }

    /// Edits until a line is finished.
    fn give_monitor(&mut self) {
        while let Some(byte) = self.typed.pop_front() {
            if let Some(line) = self.editor.byte(byte, &monitor::completions, &mut Screen) {
                self.follow = Some(monitor::run(&line));
                return;
            }
        }
    }

    /// What comes after a command; `None` when it has come to its end.
    fn carry_on(&mut self, follow: Follow) -> Option<Follow> {
        match follow {
            Follow::Done => {}
            Follow::Attach(partition) => {
                let _ = writeln!(Screen, "the console of {}; Ctrl-] leads back here", partition.name);
                self.attach(partition);
                return None;
            }
            Follow::AttachSecond(partition, line) => {
                let _ = writeln!(Screen, "the second console of {}; Ctrl-] leads back here", partition.name);
                console::fresh_line();
                line.set_shown(true);
                line.show(console::offer);
                self.attached = Attached::Second(line);
                return None;
            }
            Follow::Wait(until) => {
                if !until() {
                    return Some(Follow::Wait(until));
                }
            }
        }
        self.prompt();
        None
    }

    fn prompt(&mut self) {
        console::fresh_line();
        self.editor.redraw(&mut Screen);
        self.seen = console::lines();
    }

    /// The hypervisor has said something meanwhile.
    fn show_prompt_again(&mut self) {
        if matches!(self.attached, Attached::Monitor)
            && self.follow.is_none()
            && self.seen != console::lines()
        {
            self.prompt();
        }
    }

    fn enter_monitor(&mut self) {
        match &self.attached {
            Attached::Partition(partition) => drain(partition),
            Attached::Second(line) => line.set_shown(false),
            Attached::Monitor => {}
        }
        ATTACHED.store(0, Ordering::Relaxed);
        self.attached = Attached::Monitor;
        self.prompt();
    }

    /// Shows the output that was missed, and goes on from there.
    fn attach(&mut self, partition: Arc<Partition>) {
        console::fresh_line();
        ATTACHED.store(partition.core().lpid.0, Ordering::Relaxed);
        LAST.store(partition.core().lpid.0, Ordering::Relaxed);
        drain(&partition);
        self.attached = Attached::Partition(partition);
    }
}
