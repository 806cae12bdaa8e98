//! Which pages it has stored to, for `dirty` of the monitor: each that it says it wrote, by a store in real mode, through translations,
//! or by a call, and none that it only looked at. It waits before and after.
#![no_std]
#![no_main]

use guests::copies::hold;
use guests::insn::{NOP, ld, std};
use guests::mem::{read64, write32, write64};
use guests::space::{self, FREE_SLOT, READ_ONLY, READ_WRITE, Segment, run_virtual};
use guests::{Hcall, Report, Status, println, rtas, status, team};
use power::PageSize::K4;
use power::slb::SegmentSize;

guests::main!(run);

const SEGMENT: Segment =
    Segment { ea: 0x2000_0000, vsid: 0x2b3, size: SegmentSize::M256, base: K4, flags: 0 };
const PAGE: u64 = 0x1_0000;
const BASE: u64 = 0x100_0000;

const fn page(n: u64) -> u64 {
    BASE + n * PAGE
}

/// It has stored to a page.
fn wrote(n: u64) {
    println!("@ wrote {:#x}", page(n));
}

/// The pages from `first` on, a hundred: each kind of access has some of them.
fn touch(t: &mut Report, first: u64, again: bool) {
    // In real mode.
    for n in [first, first + 2, first + 3] {
        write64(page(n) + 0x10 * n, n);
        wrote(n);
    }
    t.is_true("loaded", (4..8).all(|n| read64(page(first + n) + 0xfff8) < 1 << 32));
    // Through translations, of which some had been stored through before.
    for n in first + 10..first + 20 {
        let ea = SEGMENT.ea + n * 0x1000;
        let (stores, read_only) = (n % 2 == 0, n % 5 == 4);
        // Those of the first time are there, and have C.
        let entered = !again || n % 4 == 0;
        let made = entered
            .then(|| SEGMENT.enter(ea, page(n) + 0x2000, K4, if read_only { READ_ONLY } else { READ_WRITE }));
        let code = if stores { std(4, 0, 3) } else { ld(5, 0, 3) };
        t.equal("accessed", run_virtual(&[code], true, ea, n).finished(), !(stores && read_only));
        if stores && !read_only {
            wrote(n);
        }
        // A page that is not mapped any more has been stored to all the same.
        if n % 4 == 0
            && let Some(Ok(index)) = made
        {
            t.equal("removed", status(Hcall::REMOVE, &[0, index, 0]), Status::SUCCESS);
        }
    }
    // By calls: a page is copied, one is zeroed, one gets a doubleword, one what RTAS answers.
    let calls = [
        (first + 30, status(Hcall::PAGE_INIT, &[1 << (63 - 49), page(first + 30), page(first + 40)])),
        (first + 31, status(Hcall::PAGE_INIT, &[1 << (63 - 48), page(first + 31), 0])),
        (first + 32, status(Hcall::LOGICAL_CI_STORE, &[8, page(first + 32), 1])),
    ];
    for (n, answer) in calls {
        t.equal("called", answer, Status::SUCCESS);
        wrote(n);
    }
    t.equal("rtas", status(Hcall::RTAS, &[page(50)]), Status::SUCCESS);
    wrote(50);
}

fn run(t: &mut Report) {
    team::assemble();
    space::standard();
    SEGMENT.install(FREE_SLOT);
    // The program's own pages.
    run_virtual(&[NOP], false, 0, 0);
    let token = rtas::token("get-time-of-day").expect("a token");
    for (n, word) in [token, 0, 8].into_iter().enumerate() {
        write32(page(50) + 4 * n as u64, word.to_be());
    }
    // Pages of which the hypervisor has nothing yet; and, after the reset, such as have been stored to before.
    touch(t, 0, false);
    hold("first");
    touch(t, 100, false);
    hold("second");
    touch(t, 0, true);
    hold("third");
}
