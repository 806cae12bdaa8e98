//! Several virtual processors in one program: starting them, meeting, sleeping and waking each other.
//!
//! All run in real mode with interrupts off, but for [`cede`]: it sleeps in a [`Context`], so that the interrupt that ends
//! it is seen and leads back.

use crate::context::{MAX_CPUS, own_index, prepare_secondary};
use crate::cpu::{TB_HZ, mtspr, timebase};
use crate::insn::sc;
use crate::{Context, Hcall, MSR_REAL, Status, hcall, place_at, platform, println, rtas, run, status};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use power::interrupt::Vector;
use power::spr;

/// Most processors.
pub const MAX: usize = MAX_CPUS;

static SERVERS: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];
static COUNT: AtomicU64 = AtomicU64::new(1);

/// The interrupt source of H_IPI (PAPR: an IPI's XISR).
pub const IPI: u64 = 2;

/// Where each processor has code of its own: a page of 4 KiB each.
const OWN_CODE: u64 = 0x90_0000;

/// Notes which processors there are, and holds back this one's interrupts. Gives how many there are. The first
/// processor calls it before anything else here.
pub fn assemble() -> usize {
    let mut n = 0;
    for (slot, server) in SERVERS.iter().zip(platform::servers()) {
        slot.store(server, SeqCst);
        n += 1;
    }
    COUNT.store(n as u64, SeqCst);
    status(Hcall::CPPR, &[0xff]);
    n
}

/// How many there are.
pub fn count() -> usize {
    COUNT.load(SeqCst) as usize
}

/// A processor's interrupt server number, which is its number for all calls.
pub fn server(index: usize) -> u32 {
    SERVERS[index].load(SeqCst)
}

/// RTAS `start-cpu`; gives its status. The processor begins in `entry(index)`.
pub fn start(index: usize, entry: fn(u64) -> !) -> i32 {
    let (address, r3) = prepare_secondary(index, entry, index as u64);
    rtas::call("start-cpu", &[server(index), address as u32, r3 as u32], &mut [])
}

/// Starts all others. Gives how many could be.
pub fn start_others(entry: fn(u64) -> !) -> usize {
    (1..count()).filter(|&index| start(index, entry) == 0).count()
}

/// RTAS `query-cpu-stopped-state`: 0 stopped, 1 stopping, 2 started, or a status below zero.
pub fn state(index: usize) -> i32 {
    let mut more = [0];
    match rtas::call("query-cpu-stopped-state", &[server(index)], &mut more) {
        0 => more[0].cast_signed(),
        other => other,
    }
}

/// RTAS `stop-self`.
pub fn stop_self() -> ! {
    rtas::call("stop-self", &[], &mut []);
    give_up("stop-self came back")
}

/// Runs code of this processor's own in real mode with interrupts off; r3 and r4 as given.
pub fn own_code(code: &[u32], r3: u64, r4: u64) -> Context {
    let at = OWN_CODE + 0x1000 * own_index() as u64;
    let mut c = Context { nip: place_at(at, code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = r3;
    c.gpr[4] = r4;
    run(&mut c);
    c
}

/// H_CEDE for at most so many ticks. Gives what ended it: [`Vector::SYSTEM_CALL`] if the call came back without an
/// interrupt (a prod), else the interrupt, which is still to be dealt with.
pub fn cede(ticks: u64) -> Vector {
    mtspr::<{ spr::DEC }>(ticks.min(0x7fff_ffff));
    let c = own_code(&[sc(1)], Hcall::CEDE.0, 0);
    mtspr::<{ spr::DEC }>(0x7fff_ffff);
    c.vector()
}

/// H_CEDE for so many ticks. Was it the decrementer that ended it, and not before its time? Where instructions are not counted, QEMU
/// may be late with the interrupt itself: the call is back before.
pub fn doze(ticks: u64) -> bool {
    let start = timebase();
    let ended = cede(ticks);
    timebase() - start >= ticks && matches!(ended, Vector::DECREMENTER | Vector::SYSTEM_CALL)
}

/// H_CEDE until the timebase says so, whatever else happens.
pub fn sleep_until(time: u64) {
    loop {
        let now = timebase();
        if now >= time {
            return;
        }
        if cede(time - now) == Vector::EXTERNAL {
            accept();
        }
    }
}

/// H_PROD.
pub fn prod(index: usize) -> Status {
    status(Hcall::PROD, &[u64::from(server(index))])
}

/// H_IPI with priority 4.
pub fn ipi(index: usize) -> Status {
    status(Hcall::IPI, &[u64::from(server(index)), 4])
}

/// Takes the pending external interrupt, and takes an IPI back; gives the XIRR.
pub fn accept() -> u64 {
    let xirr = hcall(Hcall::XIRR, &[]).r4();
    if xirr & 0xff_ffff == IPI {
        status(Hcall::IPI, &[u64::from(server(own_index())), 0xff]);
    }
    status(Hcall::EOI, &[xirr]);
    xirr
}

/// Spins until it holds; gives the program up after fifteen seconds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let start = timebase();
    while !holds() {
        if timebase() - start > 15 * TB_HZ {
            give_up(what);
        }
        core::hint::spin_loop();
    }
}

/// Ends the program with a failed check.
pub fn give_up(what: &str) -> ! {
    println!("@ check waiting fail for {what}, processor {}", own_index());
    rtas::power_off()
}

/// A place where several processors wait until all have come; it can be used again at once.
pub struct Meeting(AtomicU64);

impl Meeting {
    /// With nobody there.
    pub const fn new() -> Meeting {
        Meeting(AtomicU64::new(0))
    }

    /// Waits until so many have come.
    pub fn wait(&self, members: usize) {
        let members = members as u64;
        let came = self.0.fetch_add(1, SeqCst);
        let all = (came / members + 1) * members;
        until("the others", || self.0.load(SeqCst) >= all);
    }
}

impl Default for Meeting {
    fn default() -> Meeting {
        Meeting::new()
    }
}
