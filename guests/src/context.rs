//! Code under test runs in a [`Context`]: all registers are given, and when an interrupt has come all registers are
//! known again, with what the interrupt said. There is no other way back, so a test sees every interrupt.
#![allow(unsafe_code)] // defines the processor's entry points and starts code at any address

use crate::insn;
use core::mem::offset_of;
use power::interrupt::Vector;
use power::regs::Msr;
use power::spr;

/// The registers of code under test and, afterwards, the interrupt that ended it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// r0 to r31.
    pub gpr: [u64; 32],
    /// Where to start; afterwards SRR0.
    pub nip: u64,
    /// The MSR to start with; afterwards SRR1.
    pub msr: u64,
    /// Condition register.
    pub cr: u64,
    /// Link register.
    pub lr: u64,
    /// Count register.
    pub ctr: u64,
    /// Fixed-point exception register.
    pub xer: u64,
    /// Afterwards: the address at which the interrupt arrived.
    pub arrival: u64,
    /// Afterwards: DAR.
    pub dar: u64,
    /// Afterwards: DSISR.
    pub dsisr: u64,
}

impl Context {
    /// Zeroes.
    pub const ZERO: Context =
        Context { gpr: [0; 32], nip: 0, msr: 0, cr: 0, lr: 0, ctr: 0, xer: 0, arrival: 0, dar: 0, dsisr: 0 };

    /// Which interrupt ended it.
    pub const fn vector(&self) -> Vector {
        Vector(self.arrival & 0x1fff)
    }

    /// It ended at an instruction that says "done": an `sc 0` (see [`crate::code`]).
    pub fn finished(&self) -> bool {
        self.vector() == Vector::SYSTEM_CALL
    }

    /// What an interrupt left in the upper bits of SRR1, without the saved MSR: bits 33:36 and 42:47.
    pub const fn srr1_status(&self) -> u64 {
        self.msr & 0x783f_0000
    }
}

/// One virtual processor's own data; SPRG0 points to it.
#[repr(C)]
pub struct Cpu {
    pub(crate) context: Context,
    host_sp: u64,
    host_pc: u64,
    host_msr: u64,
    panic_pc: u64,
    panic_msr: u64,
    panic_sp: u64,
    toc: u64,
    stack_top: u64,
    entry: u64,
    argument: u64,
}

const STACK_SIZE: usize = 0x10000;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

/// Most virtual processors that a program can use.
pub const MAX_CPUS: usize = 16;

static mut STACK: Stack = Stack([0; STACK_SIZE]);
static mut STACKS: [Stack; MAX_CPUS] = [const { Stack([0; STACK_SIZE]) }; MAX_CPUS];
static mut PANIC_STACKS: [Stack; MAX_CPUS] = [const { Stack([0; STACK_SIZE]) }; MAX_CPUS];
static mut CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        context: Context::ZERO,
        host_sp: 0,
        host_pc: 0,
        host_msr: 0,
        panic_pc: 0,
        panic_msr: 0,
        panic_sp: 0,
        toc: 0,
        stack_top: 0,
        entry: 0,
        argument: 0,
    }
}; MAX_CPUS];

core::arch::global_asm!(
    include_str!("entry.S"),
    stack = sym STACK,
    stack_size = const STACK_SIZE,
    start = sym start,
    secondary = sym secondary,
    lr = const offset_of!(Context, lr),
    arrival = const offset_of!(Context, arrival),
    nip = const offset_of!(Context, nip),
    msr = const offset_of!(Context, msr),
    dar = const offset_of!(Context, dar),
    dsisr = const offset_of!(Context, dsisr),
    cr = const offset_of!(Context, cr),
    ctr = const offset_of!(Context, ctr),
    xer = const offset_of!(Context, xer),
    host_sp = const offset_of!(Cpu, host_sp),
    host_pc = const offset_of!(Cpu, host_pc),
    host_msr = const offset_of!(Cpu, host_msr),
    panic_pc = const offset_of!(Cpu, panic_pc),
    panic_msr = const offset_of!(Cpu, panic_msr),
    panic_sp = const offset_of!(Cpu, panic_sp),
    toc = const offset_of!(Cpu, toc),
    stack_top = const offset_of!(Cpu, stack_top),
);

const _: () = assert!(offset_of!(Cpu, context) == 0 && offset_of!(Context, gpr) == 0);

unsafe extern "C" {
    fn enter_context(cpu: *mut Cpu);
    fn hypercall(registers: *mut [u64; 10]);
    fn secondary_start();
}

unsafe extern "Rust" {
    /// What `main!` defines.
    pub(crate) safe fn guest_main(report: &mut crate::Report);
}

/// The MSR that programs run with: real mode, supervisor, this build's byte order.
pub const MSR_REAL: u64 =
    Msr::SF.bits() | Msr::ME.bits() | if cfg!(target_endian = "little") { Msr::LE.bits() } else { 0 };
/// Supervisor with translation on.
pub const MSR_VIRTUAL: u64 = MSR_REAL | Msr::IR.bits() | Msr::DR.bits();
/// Problem state; the processor adds EE.
pub const MSR_PROBLEM: u64 = MSR_VIRTUAL | Msr::PR.bits();

fn cpu(index: usize, toc: u64) -> *mut Cpu {
    assert!(index < MAX_CPUS);
    // SAFETY: in bounds; no reference to these statics is ever made, only this processor (or the one that has not
    // started yet) uses the element.
    unsafe {
        let cpu = &raw mut CPUS[index];
        (*cpu).toc = toc;
        (*cpu).panic_pc = unexpected as *const () as u64;
        (*cpu).panic_msr = MSR_REAL;
        (*cpu).panic_sp = (&raw const PANIC_STACKS[index]) as u64 + STACK_SIZE as u64 - 128;
        (*cpu).stack_top = (&raw const STACKS[index]) as u64 + STACK_SIZE as u64 - 128;
        cpu
    }
}

fn this_cpu() -> *mut Cpu {
    crate::cpu::mfspr::<{ spr::SPRG0 }>() as *mut Cpu
}

/// Which processor this is: 0 is the one that the program began on, the others are as [`prepare_secondary`] numbered them.
pub fn own_index() -> usize {
    (this_cpu() as usize - (&raw const CPUS) as usize) / size_of::<Cpu>()
}

extern "C" fn start(dtb: u64, toc: u64) -> ! {
    crate::cpu::mtspr::<{ spr::SPRG0 }>(cpu(0, toc) as u64);
    crate::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
    crate::begin(dtb)
}

extern "C" fn secondary(cpu: *mut Cpu) -> ! {
    crate::cpu::mtspr::<{ spr::DEC }>(0x7fff_ffff);
    // SAFETY: `prepare_secondary` wrote these before it told anyone the address.
    let (entry, argument) = unsafe { ((*cpu).entry, (*cpu).argument) };
    // SAFETY: `prepare_secondary` made it from such a function pointer.
    let entry: fn(u64) -> ! = unsafe { core::mem::transmute(entry as usize) };
    entry(argument)
}

extern "C" fn unexpected(cpu: *const Cpu) -> ! {
    // SAFETY: called from the vectors with this processor's own block, which nothing changes now.
    let c = unsafe { &(*cpu).context };
    crate::println!(
        "@ check unexpected-interrupt fail vector={:#x} srr0={:#x} srr1={:#x} dar={:#x} dsisr={:#x} lr={:#x}",
        c.arrival,
        c.nip,
        c.msr,
        c.dar,
        c.dsisr,
        c.lr
    );
    crate::rtas::power_off()
}

/// Readies a processor other than the first; gives the start address and the r3 for RTAS `start-cpu`.
pub fn prepare_secondary(index: usize, entry: fn(u64) -> !, argument: u64) -> (u64, u64) {
    // SAFETY: this processor's own block.
    let toc = unsafe { (*this_cpu()).toc };
    let cpu = cpu(index, toc);
    // SAFETY: that processor is stopped.
    unsafe {
        (*cpu).entry = entry as usize as u64;
        (*cpu).argument = argument;
    }
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    (secondary_start as *const () as u64 & 0xffff_ffff, cpu as u64 & 0xffff_ffff)
}

/// Runs the context until an interrupt comes, and updates it.
///
/// What it may do to the program's own memory is up to its author: nothing else lives in this machine.
pub fn run(context: &mut Context) {
    let cpu = this_cpu();
    // SAFETY: the block is this processor's; enter_context keeps what the ABI wants kept and returns in the state it
    // was called in.
    unsafe {
        (*cpu).context = *context;
        enter_context(cpu);
        *context = (*cpu).context;
    }
}

/// The ten registers r3 to r12 of a hypervisor call: number and arguments before, status and results after.
pub fn hcall_raw(registers: &mut [u64; 10]) {
    // SAFETY: keeps everything that the ABI wants kept, provided that the hypervisor does; what the call does to
    // memory is the test's business.
    unsafe { hypercall(registers) }
}

/// An interrupt of code under test goes to code of its own and does not end it, until this is dropped.
pub struct Diverted {
    vector: Vector,
    before: u32,
}

/// Has an interrupt go on at a real address, which is less than 32 MiB from its vector. It concerns all processors.
pub fn divert(vector: Vector, target: u64) -> Diverted {
    Diverted { vector, before: exchange(vector, insn::b((target - vector.0) as i32)) }
}

impl Drop for Diverted {
    fn drop(&mut self) {
        exchange(self.vector, self.before);
    }
}

/// Puts another instruction where an interrupt arrives.
fn exchange(vector: Vector, instruction: u32) -> u32 {
    let at = vector.0 as *mut u32;
    // SAFETY: the vectors are in this image (entry.S), at real address 0, and no Rust object; a processor that has the interrupt at
    // this very moment executes the one instruction or the other.
    let before = unsafe { at.read_volatile() };
    // SAFETY: likewise.
    unsafe { at.write_volatile(instruction) };
    crate::cpu::sync_code(vector.0);
    before
}

/// Where code for [`run_code`] is put, and its size.
pub const CODE: u64 = 0x80_0000;
const CODE_WORDS: usize = 0x4000;

/// Puts instructions in the code page (followed by `sc`, which ends them) and makes them ready to be fetched.
/// Gives their real address.
pub fn place(code: &[u32]) -> u64 {
    place_at(CODE, code)
}

/// The same at a given real address outside of the program.
pub fn place_at(address: u64, code: &[u32]) -> u64 {
    assert!(code.len() < CODE_WORDS);
    for (i, word) in code.iter().chain(&[insn::sc(0)]).enumerate() {
        let at = address + 4 * i as u64;
        crate::mem::write32(at, *word);
        crate::cpu::sync_code(at);
    }
    address
}

/// Places the code and runs it in real mode with the given r3 and r4.
pub fn run_code(code: &[u32], r3: u64, r4: u64) -> Context {
    let mut c = Context { nip: place(code), msr: MSR_REAL, ..Context::ZERO };
    c.gpr[3] = r3;
    c.gpr[4] = r4;
    run(&mut c);
    c
}
