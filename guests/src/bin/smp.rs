//! Two virtual processors: start, stop, IPIs between them, H_PROD and H_CONFER, and one page table for both.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guests::context::prepare_secondary;
use guests::cpu::{TB_HZ, mtspr, timebase};
use guests::insn::{B_SELF, mtmsrd_ee, sc};
use guests::{
    Context, Hcall, MSR_REAL, Report, Status, hcall, place_at, platform, rtas, run as run_context, status,
    units,
};
use power::interrupt::Vector;
use power::regs::Msr;
use power::spr;

guests::main!(run);

/// What the first processor wants of the second.
static WANT: AtomicU64 = AtomicU64::new(0);
/// What the second has done, and what it saw.
static DONE: AtomicU64 = AtomicU64::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);
static SLOW: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

const CODE2: u64 = 0x90_0000;
const IPI: u64 = 2;

const ECHO: u64 = 1;
const IPI_SPIN: u64 = 2;
const IPI_CEDE: u64 = 3;
const CEDE: u64 = 4;
const CONFER: u64 = 5;
const IPI_BACK: u64 = 6;
const COUNT: u64 = 7;
const READ_HPT: u64 = 8;
const STOP: u64 = 9;
const UNITS: u64 = 10;
const SPRS: u64 = 11;

fn second(argument: u64) -> ! {
    SEEN.store(argument, SeqCst);
    status(Hcall::CPPR, &[0xff]);
    DONE.store(100, SeqCst);
    let mut last = 0;
    loop {
        let want = WANT.load(SeqCst);
        if want == last {
            core::hint::spin_loop();
            continue;
        }
        last = want;
        let start = timebase();
        let seen = act(want & 0xff);
        SLOW.store(timebase() - start, SeqCst);
        SEEN.store(seen, SeqCst);
        DONE.store(want, SeqCst);
    }
}

fn act(what: u64) -> u64 {
    let wait = |code: &[u32], number: u64| {
        let mut c = Context { nip: place_at(CODE2, code), msr: MSR_REAL, ..Context::ZERO };
        c.gpr[3] = number;
        c.gpr[4] = Msr::EE.bits();
        mtspr::<{ spr::DEC }>(5 * TB_HZ / 2);
        DONE.store(1, SeqCst);
        run_context(&mut c);
        let x = if c.vector() == Vector::EXTERNAL { accept() } else { 0 };
        c.vector().0 << 32 | x
    };
    match what {
        IPI_SPIN => wait(&[mtmsrd_ee(4), B_SELF], 0),
        IPI_CEDE => wait(&[sc(1), B_SELF], Hcall::CEDE.0),
        CEDE => wait(&[sc(1)], Hcall::CEDE.0),
        CONFER => {
            DONE.store(1, SeqCst);
            // Until the first processor, the only other one, has had a turn.
            let mut turns = 0;
            while WANT.load(SeqCst) & 0xff == CONFER && turns < 1_000_000 {
                status(Hcall::CONFER, &[u64::MAX, 0]);
                turns += 1;
            }
            turns
        }
        IPI_BACK => status(Hcall::IPI, &[0, 4]).0.cast_unsigned(),
        COUNT => {
            DONE.store(1, SeqCst);
            let mut n = 0;
            while WANT.load(SeqCst) & 0xff == COUNT {
                n += 1;
            }
            n
        }
        READ_HPT => {
            DONE.store(1, SeqCst);
            let mut n = 0;
            while WANT.load(SeqCst) & 0xff == READ_HPT {
                hcall(Hcall::READ, &[power::hcall::flags::READ_4, n & 0xfff]);
                n += 4;
            }
            n
        }
        UNITS => {
            DONE.store(1, SeqCst);
            let mut lost = 0;
            while WANT.load(SeqCst) & 0xff == UNITS {
                lost += units::across(CODE2, CODE2 + 0x1_0000, 3, &units::SPIN, |c| c.gpr[22] = 5000);
                LOST.store(lost, SeqCst);
            }
            lost
        }
        SPRS => sprs(),
        STOP => {
            DONE.store(200, SeqCst);
            rtas::call("stop-self", &[], &mut []);
            u64::MAX
        }
        _ => what,
    }
}

/// Registers that each processor has for itself, folded into a number.
fn sprs() -> u64 {
    use guests::cpu::mfspr;
    let values = [
        mfspr::<{ spr::DSCR }>(),
        mfspr::<{ spr::TAR }>(),
        mfspr::<{ spr::AMR }>(),
        mfspr::<{ spr::SPRG3 }>(),
        mfspr::<{ spr::EBBHR }>(),
        mfspr::<{ spr::IAMR }>(),
        mfspr::<{ spr::PIDR }>(),
        mfspr::<{ spr::TACR }>(),
        mfspr::<{ spr::WORT }>(),
    ];
    values.iter().fold(0, |sum, value| sum.rotate_left(7) ^ value)
}

fn set_sprs(value: u64) {
    mtspr::<{ spr::DSCR }>(value);
    mtspr::<{ spr::TAR }>(value << 4);
    mtspr::<{ spr::AMR }>(value << 40);
    mtspr::<{ spr::SPRG3 }>(value << 8);
    mtspr::<{ spr::EBBHR }>(value << 12);
    mtspr::<{ spr::IAMR }>(value << 40 & 0x5555_5555_5555_5555);
    mtspr::<{ spr::PIDR }>(value & 0xff);
    mtspr::<{ spr::TACR }>(value << 16);
    mtspr::<{ spr::WORT }>(value & 0xff);
}

fn accept() -> u64 {
    let x = hcall(Hcall::XIRR, &[]).r4();
    status(Hcall::IPI, &[u64::from(own_server()), 0xff]);
    status(Hcall::EOI, &[x]);
    x
}

fn own_server() -> u32 {
    // The first processor's block has the lower address.
    let own = guests::cpu::mfspr::<{ spr::SPRG0 }>();
    platform::servers().nth(usize::from(own != FIRST.load(SeqCst))).unwrap_or(0)
}

static FIRST: AtomicU64 = AtomicU64::new(0);

fn until(done: u64) -> bool {
    let start = timebase();
    while DONE.load(SeqCst) != done {
        if timebase() - start > 4 * TB_HZ {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Asks the second processor for something; each request differs from the one before.
fn ask(what: u64) -> u64 {
    let request = ((WANT.load(SeqCst) >> 8) + 1) << 8 | what;
    WANT.store(request, SeqCst);
    request
}

fn state(server: u32) -> i32 {
    let mut more = [0];
    match rtas::call("query-cpu-stopped-state", &[server], &mut more) {
        0 => more[0].cast_signed(),
        other => other,
    }
}

fn start(t: &mut Report, server: u32, argument: u64) -> bool {
    DONE.store(0, SeqCst);
    let (address, r3) = prepare_secondary(1, second, argument);
    t.equal("start", rtas::call("start-cpu", &[server, address as u32, r3 as u32], &mut []), 0);
    let up = until(100);
    t.is_true("started", up);
    up
}

fn run(t: &mut Report) {
    FIRST.store(guests::cpu::mfspr::<{ spr::SPRG0 }>(), SeqCst);
    let Some(server) = platform::servers().nth(1) else {
        t.is_true("two-processors", false);
        return;
    };
    let server64 = u64::from(server);
    t.equal("state-own", state(0), 2);
    t.equal("state-stopped", state(server), 0);
    t.equal("state-nobody", state(77), -3);
    t.equal("start-nobody", rtas::call("start-cpu", &[77, 0x100, 0], &mut []), -3);
    t.is_true("start-self", rtas::call("start-cpu", &[0, 0x100, 0], &mut []) != 0);
    if !start(t, server, 0x1234) {
        return;
    }
    t.same("argument", SEEN.load(SeqCst), 0x1234);
    t.equal("state-started", state(server), 2);
    t.is_true("start-twice", rtas::call("start-cpu", &[server, 0x100, 0], &mut []) != 0);

    for _ in 0..20 {
        let request = ask(ECHO);
        t.is_true("echo", until(request));
    }
    status(Hcall::CPPR, &[0xff]);
    for _ in 0..5 {
        for what in [IPI_SPIN, IPI_CEDE] {
            let request = ask(what);
            t.is_true("waits", until(1));
            guests::cpu::delay(TB_HZ / 500);
            t.equal("ipi", status(Hcall::IPI, &[server64, 4]), Status::SUCCESS);
            t.is_true("ipi-came", until(request));
            t.same("ipi-was", SEEN.load(SeqCst), Vector::EXTERNAL.0 << 32 | 0xff00_0000 | IPI);
            t.within("ipi-soon", SLOW.load(SeqCst), TB_HZ / 1000, TB_HZ);
        }
    }
    for _ in 0..5 {
        let request = ask(CEDE);
        t.is_true("cedes", until(1));
        guests::cpu::delay(TB_HZ / 500);
        t.equal("prod", status(Hcall::PROD, &[server64]), Status::SUCCESS);
        t.is_true("prod-came", until(request));
        // No interrupt: H_CEDE came back, and the code ended.
        t.same("prod-was", SEEN.load(SeqCst), Vector::SYSTEM_CALL.0 << 32);
        t.within("prod-soon", SLOW.load(SeqCst), 0, TB_HZ);
    }
    // The other way round: the first one waits with H_CEDE, the second sends.
    for _ in 0..5 {
        let mut c = Context { nip: guests::place(&[sc(1), B_SELF]), msr: MSR_REAL, ..Context::ZERO };
        c.gpr[3] = Hcall::CEDE.0;
        mtspr::<{ spr::DEC }>(2 * TB_HZ);
        let request = ask(IPI_BACK);
        run_context(&mut c);
        t.same("ipi-back", c.vector().0, Vector::EXTERNAL.0);
        t.same("ipi-back-source", accept(), 0xff00_0000 | IPI);
        t.is_true("ipi-back-done", until(request));
        t.same("ipi-back-status", SEEN.load(SeqCst), 0);
    }
    // While the second spins, confers or calls without end, the first gets on.
    for what in [COUNT, CONFER, READ_HPT] {
        ask(what);
        t.is_true("busy", until(1));
        guests::cpu::delay(TB_HZ / 20);
        let s = guests::space::Segment {
            ea: 0,
            vsid: 0x99,
            size: power::slb::SegmentSize::M256,
            base: power::PageSize::K4,
            flags: 0,
        };
        for n in 0..200 {
            let index = s.enter(n * 0x1000, 0x200_0000, power::PageSize::K4, guests::space::READ_WRITE);
            let gone = index.map(|i| status(Hcall::REMOVE, &[0, i, 0]));
            if gone != Ok(Status::SUCCESS) {
                t.equal("beside", gone, Ok(Status::SUCCESS));
            }
        }
        let request = ask(ECHO);
        t.is_true("busy-ended", until(request));
    }
    confer(t, server64);
    apart(t);
    // Stopped and started again.
    for argument in [7, 8] {
        ask(STOP);
        t.is_true("stopping", until(200));
        let begin = timebase();
        while state(server) != 0 && timebase() - begin < TB_HZ {}
        t.equal("stopped", state(server), 0);
        WANT.store(0, SeqCst);
        if !start(t, server, argument) {
            return;
        }
        t.same("argument-again", SEEN.load(SeqCst), argument);
    }
}

/// H_CONFER to oneself waits for a prod.
fn confer(t: &mut Report, server: u64) {
    let request = ask(ECHO);
    t.is_true("confer-echo", until(request));
    t.equal("confer-to", status(Hcall::CONFER, &[server, 0]), Status::SUCCESS);
    t.equal("confer-to-odd", status(Hcall::CONFER, &[server, 1]), Status::SUCCESS);
}

/// What one processor has in its registers is nothing to the other, whoever runs where and when.
fn apart(t: &mut Report) {
    let request = ask(SPRS);
    t.is_true("registers-read", until(request));
    let theirs = SEEN.load(SeqCst);
    set_sprs(5);
    let own = sprs();
    t.is_true("registers-set", own != theirs);
    ask(UNITS);
    t.is_true("units-busy", until(1));
    let mut lost = 0;
    for round in 0..200 {
        lost += units::across(guests::CODE, guests::space::DATA, 5, &units::SPIN, |c| c.gpr[22] = 20 * round);
    }
    t.same("units-own", lost, 0);
    let lost = units::across(guests::CODE, guests::space::DATA, 5, &units::SPIN, |c| c.gpr[22] = TB_HZ / 10);
    t.same("units-long", lost, 0);
    t.same("registers-own", sprs(), own);
    let request = ask(SPRS);
    t.is_true("units-ended", until(request));
    t.same("registers-theirs", SEEN.load(SeqCst), theirs);
    ask(UNITS);
    t.is_true("units-again", until(1));
    guests::cpu::delay(TB_HZ / 50);
    let request = ask(ECHO);
    t.is_true("units-over", until(request));
    t.same("units-theirs", LOST.load(SeqCst), 0);
    set_sprs(0);
}
