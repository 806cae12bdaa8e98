//! The small calls: what each answers when all is well and when it is not, calls that do not exist, and calls from
//! problem state.
#![no_std]
#![no_main]

use guests::cpu::generation;
use guests::insn::{li, sc};
use guests::mem::{fill, is_filled, read8, read64, write64};
use guests::{Hcall, Report, Status, hcall, platform, println, space, status};
use power::Generation;
use power::hcall::flags;

guests::main!(run);

const PAGE: u64 = 0x200_0000;
const FORGETS: &str = "it forgets a prod when its emulation loop turns before the processor waits";

fn run(t: &mut Report) {
    unknown(t);
    breakpoints(t);
    processor(t);
    random(t);
    page_init(t);
    logical_memory(t);
    terminal(t);
    prod_and_confer(t);
    set_mode(t);
    problem_state(t);
}

fn unknown(t: &mut Report) {
    for number in [0, 1, 5, 6, 7, 0x06, 0x0a, 0x7c, 0x490, 0x1000, 0xefff, 0xf00f, 0xf123] {
        t.equal("unknown", status(Hcall(number), &[]), Status::FUNCTION);
    }
    if !t.differs_on_qemu("unknown-here", "it has those of persistent memory and nested hypervisors") {
        for number in [0x3fc, 0x460, 0x47c, 0x48c] {
            t.equal("unknown-here", status(Hcall(number), &[]), Status::FUNCTION);
        }
    }
    for number in [1 << 16, 1 << 31, 1 << 32, (1 << 32) + 8, 1 << 63, (1 << 63) + 8, u64::MAX, u64::MAX - 3] {
        t.equal("unknown-huge", status(Hcall(number), &[]), Status::FUNCTION);
    }
}

fn breakpoints(t: &mut Report) {
    // Guests take H_PRIVILEGE for a host whose `sc 1` does not work.
    for (call, arguments) in
        [(Hcall::SET_DABR, [0, 0]), (Hcall::SET_DABR, [0x1004, 0]), (Hcall::SET_XDABR, [0x1004, 3])]
    {
        let s = status(call, &arguments);
        println!("@ note {}: {s:?}", call.name().unwrap_or("?"));
        t.is_true("dabr-not-privilege", s != Status::PRIVILEGE);
    }
}

fn processor(t: &mut Report) {
    let generation = generation();
    println!("@ note {}", generation.name());
    let a = hcall(Hcall::GET_CPU_CHARACTERISTICS, &[]);
    t.equal("characteristics", a.status, Status::SUCCESS);
    println!("@ note characteristics {:#x} behaviour {:#x}", a.r4(), a.r5());
    let a = hcall(Hcall::HOME_NODE_ASSOCIATIVITY, &[1, 0]);
    t.is_true("home-node", matches!(a.status, Status::SUCCESS | Status::FUNCTION));
    if !t.differs_on_qemu(
        "home-node-nobody",
        "it says H_P2 where the processor does not exist; others H_PARAMETER",
    ) {
        let s = status(Hcall::HOME_NODE_ASSOCIATIVITY, &[1, 999]);
        t.is_true("home-node-nobody", s != Status::SUCCESS);
    }
    if generation != Generation::Power8 {
        t.equal("proc-table-none", status(Hcall::REGISTER_PROC_TBL, &[0, 0, 0, 0]), Status::SUCCESS);
    } else {
        let s = status(Hcall::REGISTER_PROC_TBL, &[0, 0, 0, 0]);
        t.is_true("proc-table-none", matches!(s, Status::SUCCESS | Status::FUNCTION));
    }
    if !t.differs_on_qemu("proc-table-radix", "it emulates radix guests") {
        let s = status(Hcall::REGISTER_PROC_TBL, &[0x1d, PAGE, 0, 12]);
        t.is_true("proc-table-radix", s != Status::SUCCESS);
    }
}

/// Random numbers, where the processor has them, or the host, as the command line then says. More than are kept at hand, so now and then there
/// are none for a while.
fn random(t: &mut Report) {
    if t.differs_on_qemu("random", "it has no H_RANDOM unless a spapr-rng device is given") {
        return;
    }
    let expected = generation() != Generation::Power8 || platform::says("random");
    let node = platform::tree().find_node("/ibm,platform-facilities/ibm,random-v1");
    t.equal("random-node", node.is_some(), expected);
    if !expected {
        t.equal("random-absent", status(Hcall::RANDOM, &[]), Status::FUNCTION);
        return;
    }
    let draw = || {
        let again = || Some(hcall(Hcall::RANDOM, &[])).filter(|a| a.status != Status::HARDWARE);
        (0..1_000_000).find_map(|_| again()).filter(|a| a.status == Status::SUCCESS).map(|a| a.r4())
    };
    let mut drawn = [(); 300].map(|()| draw());
    t.is_true("random", drawn.iter().all(Option::is_some));
    drawn.sort_unstable();
    t.is_true("random-changes", drawn.windows(2).all(|pair| pair[0] != pair[1]));
}

fn page_init(t: &mut Report) {
    let call = |f, to, from| status(Hcall::PAGE_INIT, &[f, to, from]);
    fill(PAGE, 0x3000, 0xa5);
    t.equal("page-zero", call(flags::ZERO_PAGE, PAGE + 0x1000, 0), Status::SUCCESS);
    t.is_true("page-zero-zeroes", is_filled(PAGE + 0x1000, 0x1000, 0));
    t.is_true("page-zero-before", is_filled(PAGE, 0x1000, 0xa5));
    t.is_true("page-zero-behind", is_filled(PAGE + 0x2000, 0x1000, 0xa5));
    for at in (PAGE..PAGE + 0x1000).step_by(8) {
        write64(at, at);
    }
    t.equal("page-copy", call(flags::COPY_PAGE, PAGE + 0x1000, PAGE), Status::SUCCESS);
    t.is_true("page-copy-copies", (0..0x1000).step_by(8).all(|i| read64(PAGE + 0x1000 + i) == PAGE + i));
    t.equal("page-copy-untouched-source", call(flags::COPY_PAGE, PAGE + 0x1000, 0x700_0000), Status::SUCCESS);
    t.is_true("page-copy-of-zeroes", is_filled(PAGE + 0x1000, 0x1000, 0));
    t.equal("page-nothing", call(0, PAGE, 0), Status::SUCCESS);
    let icache = flags::ICACHE_INVALIDATE | flags::ICACHE_SYNCHRONIZE;
    t.equal("page-icache", call(icache, PAGE, 0), Status::SUCCESS);
    t.equal("page-misaligned", call(flags::ZERO_PAGE, PAGE + 8, 0), Status::PARAMETER);
    t.equal("page-source-misaligned", call(flags::COPY_PAGE, PAGE, PAGE + 0x1008), Status::PARAMETER);
    for outside in [platform::memory(), 1 << 45, !0xfff] {
        t.equal("page-outside", call(flags::ZERO_PAGE, outside, 0), Status::PARAMETER);
        t.equal("page-source-outside", call(flags::COPY_PAGE, PAGE, outside), Status::PARAMETER);
    }
}

fn logical_memory(t: &mut Report) {
    let at = PAGE + 0x100;
    write64(at, u64::from_be_bytes([1, 2, 3, 4, 5, 6, 7, 8]).to_be());
    for (size, want) in [(1, 0x01), (2, 0x0102), (4, 0x0102_0304), (8, 0x0102_0304_0506_0708)] {
        let a = hcall(Hcall::LOGICAL_CI_LOAD, &[size, at]);
        t.equal("ci-load", a.status, Status::SUCCESS);
        // Like a load in the caller's byte order would be on a bus; KVM and QEMU read big endian.
        t.same("ci-load-value", a.r4(), want);
    }
    for (size, mask) in [(1, 0xff), (2, 0xffff), (4, 0xffff_ffff), (8, u64::MAX)] {
        write64(at, 0);
        let value = 0x1122_3344_5566_7788;
        t.equal("ci-store", status(Hcall::LOGICAL_CI_STORE, &[size, at, value]), Status::SUCCESS);
        let got = u64::from_be(read64(at)) >> (64 - 8 * size);
        t.same("ci-store-value", got, value & mask);
        t.same("ci-store-behind", if size < 8 { read8(at + size) } else { 0 }, 0);
    }
    let load = |size, at| status(Hcall::LOGICAL_CI_LOAD, &[size, at]);
    let store = |size, at| status(Hcall::LOGICAL_CI_STORE, &[size, at, 0]);
    for size in [0, 3, 5, 16, u64::MAX] {
        t.equal("ci-load-size", load(size, at), Status::PARAMETER);
        t.equal("ci-store-size", store(size, at), Status::PARAMETER);
    }
    if !t.differs_on_qemu("ci-misaligned", "it does not look at the alignment, nor whether there is anything")
    {
        for (size, at) in [(2, at + 1), (4, at + 2), (8, at + 4), (8, at + 1)] {
            t.equal("ci-load-misaligned", load(size, at), Status::PARAMETER);
            t.equal("ci-store-misaligned", store(size, at), Status::PARAMETER);
        }
        for outside in [platform::memory(), 1 << 45, 0u64.wrapping_sub(8)] {
            t.is_true("ci-load-outside", load(8, outside) != Status::SUCCESS);
            t.is_true("ci-store-outside", store(8, outside) != Status::SUCCESS);
        }
    }
    for call in [Hcall::LOGICAL_ICBI, Hcall::LOGICAL_DCBF] {
        t.equal("logical-cache", status(call, &[PAGE, 0]), Status::SUCCESS);
    }
}

fn terminal(t: &mut Report) {
    let put =
        |vty, len| status(Hcall::PUT_TERM_CHAR, &[vty, len, u64::from_be_bytes(*b"@ text \r"), 0x0a << 56]);
    t.equal("put-nothing", put(0, 0), Status::SUCCESS);
    t.equal("put-by-number", put(0x7100_0000, 9), Status::SUCCESS);
    t.equal("put-too-long", put(0, 17), Status::PARAMETER);
    t.equal("put-negative", put(0, u64::MAX), Status::PARAMETER);
    t.equal("put-no-terminal", put(0x7200_0001, 1), Status::PARAMETER);
    let a = hcall(Hcall::GET_TERM_CHAR, &[0]);
    t.equal("get", a.status, Status::SUCCESS);
    t.same("get-length", a.r4(), 0);
    t.equal("get-no-terminal", status(Hcall::GET_TERM_CHAR, &[0x7200_0001]), Status::PARAMETER);
}

fn prod_and_confer(t: &mut Report) {
    t.equal("prod-self", status(Hcall::PROD, &[0]), Status::SUCCESS);
    if !t.differs_on_qemu("prod-nobody", "it dereferences a null pointer") {
        t.equal("prod-nobody", status(Hcall::PROD, &[77]), Status::PARAMETER);
        t.equal("prod-negative", status(Hcall::PROD, &[u64::MAX]), Status::PARAMETER);
    }
    // A prod is remembered: confer to oneself waits for one, and it is there.
    let start = guests::cpu::timebase();
    guests::cpu::mtspr::<{ power::spr::DEC }>(51_200_000);
    t.equal("confer-self-prodded", status(Hcall::CONFER, &[0, 0]), Status::SUCCESS);
    if !t.differs_on_qemu("confer-self-at-once", FORGETS) {
        t.within("confer-self-at-once", guests::cpu::timebase() - start, 0, 512_000);
    }
    if !t.differs_on_qemu("confer-all", "it leaves r3 as it was") {
        t.equal("confer-all", status(Hcall::CONFER, &[u64::MAX, 0]), Status::SUCCESS);
    }
    t.equal("confer-nobody", status(Hcall::CONFER, &[77, 0]), Status::PARAMETER);
}

fn set_mode(t: &mut Report) {
    let call = |mflags, resource, v1, v2| status(Hcall::SET_MODE, &[mflags, resource, v1, v2]);
    let native = u64::from(cfg!(target_endian = "little"));
    t.equal("mode-endian", call(native, 4, 0, 0), Status::SUCCESS);
    t.equal("mode-endian-flag", call(2, 4, 0, 0), Status::UNSUPPORTED_FLAG_START);
    t.equal("mode-endian-value1", call(native, 4, 1, 0), Status::P3);
    t.equal("mode-endian-value2", call(native, 4, 0, 1), Status::P4);
    t.equal("mode-ail-off", call(0, 3, 0, 0), Status::SUCCESS);
    let ail = call(3, 3, 0, 0);
    let s = call(1, 3, 0, 0);
    t.is_true("mode-ail-1", s != Status::SUCCESS);
    t.equal("mode-ail", ail, Status::SUCCESS);
    t.equal("mode-ail-off-again", call(0, 3, 0, 0), Status::SUCCESS);
    t.equal("mode-ail-value1", call(3, 3, 1, 0), Status::P3);
    t.equal("mode-ail-value2", call(3, 3, 0, 1), Status::P4);
    for resource in [0, 9, 77, u64::MAX] {
        t.equal("mode-no-resource", call(0, resource, 0, 0), Status::P2);
    }
    if !t.differs_on_qemu("mode-breakpoint", "it emulates them") {
        for resource in [1, 2] {
            let s = call(0, resource, 0x1000, 3);
            t.is_true("mode-breakpoint-refused", !matches!(s, Status::SUCCESS | Status::PRIVILEGE));
        }
    }
}

fn problem_state(t: &mut Report) {
    space::standard();
    for number in [Hcall::READ, Hcall::CEDE, Hcall::PUT_TERM_CHAR, Hcall::RTAS, Hcall(0x7c), Hcall(1 << 40)] {
        let mut code = [0; 8];
        let n = guests::insn::load_constant(&mut code, 3, number.0);
        code[n] = sc(1);
        code[n + 1] = li(4, 99);
        let c = space::run_virtual(&code[..n + 2], true, 0, 0);
        t.same("problem-state-vector", c.arrival & 0x1fff, 0xc00);
        t.same("problem-state-continues", c.gpr[4], 99);
        t.equal("problem-state", Status(c.gpr[3].cast_signed()), Status::PRIVILEGE);
    }
}
