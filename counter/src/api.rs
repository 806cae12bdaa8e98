//! The part of QEMU's plugin interface that is used, as its documentation describes it (docs/devel/tcg-plugins), and the
//! two types of GLib's that it hands over.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;

/// Something of QEMU's that is only ever pointed to.
macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $($(#[$doc])*
        #[repr(C)]
        pub struct $name {
            _private: [u8; 0],
        })*
    };
}

opaque! {
    /// `struct qemu_plugin_tb`: instructions translated together.
    Block
    /// `struct qemu_plugin_insn`.
    Insn
    /// `struct qemu_plugin_scoreboard`: an entry for each CPU.
    Board
    /// `struct qemu_plugin_register`.
    Register
}

/// `qemu_info_t`, for the emulation of a whole machine.
#[repr(C)]
pub struct Info {
    target: *const c_char,
    least_version: c_int,
    version: c_int,
    system: bool,
    cpus: c_int,
    /// The most CPUs that there can be.
    pub max_vcpus: c_int,
}

/// `qemu_plugin_u64`: a counter in each entry of a scoreboard.
#[repr(C)]
#[derive(Clone, Copy)]
struct Counter {
    board: *mut Board,
    offset: usize,
}

/// `GArray` and `GByteArray` begin so.
#[repr(C)]
struct Array {
    data: *mut c_void,
    length: c_uint,
}

/// `qemu_plugin_reg_descriptor`.
#[repr(C)]
struct Description {
    handle: *mut Register,
    name: *const c_char,
    feature: *const c_char,
}

type CpuCallback = extern "C" fn(u64, c_uint);
type TranslateCallback = extern "C" fn(u64, *mut Block);
type EndCallback = extern "C" fn(u64, *mut c_void);
type ExecuteCallback = extern "C" fn(c_uint, *mut c_void);

/// `QEMU_PLUGIN_CB_NO_REGS`, `QEMU_PLUGIN_CB_R_REGS`.
const REGISTERS: [c_int; 2] = [0, 1];
/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD: c_int = 0;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_init_cb(id: u64, callback: CpuCallback);
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, callback: TranslateCallback);
    fn qemu_plugin_register_atexit_cb(id: u64, callback: EndCallback, data: *mut c_void);
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        insn: *mut Insn,
        callback: ExecuteCallback,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        insn: *mut Insn,
        operation: c_int,
        counter: Counter,
        value: u64,
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Insn;
    fn qemu_plugin_insn_data(insn: *const Insn, to: *mut c_void, length: usize) -> usize;
    fn qemu_plugin_insn_vaddr(insn: *const Insn) -> u64;
    fn qemu_plugin_insn_disas(insn: *const Insn) -> *mut c_char;
    fn qemu_plugin_scoreboard_new(size: usize) -> *mut Board;
    fn qemu_plugin_u64_get(counter: Counter, cpu: c_uint) -> u64;
    fn qemu_plugin_get_registers() -> *mut Array;
    fn qemu_plugin_read_register(register: *mut Register, buffer: *mut Array) -> c_int;

    fn g_free(memory: *mut c_void);
    fn g_array_free(array: *mut Array, segment: c_int) -> *mut c_char;
    fn g_byte_array_new() -> *mut Array;
    fn g_byte_array_free(array: *mut Array, segment: c_int) -> *mut u8;
}

/// What QEMU is to call.
pub struct Callbacks {
    /// A CPU has been made; on its thread.
    pub cpu: CpuCallback,
    /// A block has been translated, for the state that a CPU is in; on its thread.
    pub translate: TranslateCallback,
    /// QEMU ends. Nothing is executed any more.
    pub end: EndCallback,
}

/// Tells QEMU.
pub fn register(id: u64, callbacks: Callbacks) {
    // SAFETY: the functions have the types that QEMU calls them with, and are there as long as it runs: the plugin is
    // never unloaded.
    unsafe {
        qemu_plugin_register_vcpu_init_cb(id, callbacks.cpu);
        qemu_plugin_register_vcpu_tb_trans_cb(id, callbacks.translate);
        qemu_plugin_register_atexit_cb(id, callbacks.end, null_mut());
    }
}

/// Counters of each CPU's own.
pub struct Scoreboard(*mut Board);

// SAFETY: QEMU's functions on scoreboards may be called on any thread, and this one is never freed.
unsafe impl Send for Scoreboard {}
// SAFETY: as above.
unsafe impl Sync for Scoreboard {}

impl Scoreboard {
    /// One with so many counters for each CPU, all zero.
    pub fn new(counters: usize) -> Self {
        // SAFETY: QEMU allows it at any time once the plugin is being installed.
        Self(unsafe { qemu_plugin_scoreboard_new(8 * counters) })
    }

    fn counter(&self, number: usize) -> Counter {
        Counter { board: self.0, offset: 8 * number }
    }

    /// The value of a counter of a CPU.
    pub fn read(&self, number: usize, cpu: c_uint) -> u64 {
        // SAFETY: the board has this counter: all numbers are constants below its size. `cpu` is a number of QEMU's, or one
        // below `max_vcpus`.
        unsafe { qemu_plugin_u64_get(self.counter(number), cpu) }
    }
}

/// An instruction of a block that is being translated.
pub struct Instruction(*mut Insn);

/// The instructions of a block.
///
/// # Safety
///
/// `block` is the one of the translation callback that is running, and the instructions do not outlive that.
pub unsafe fn instructions(block: *mut Block) -> impl Iterator<Item = Instruction> {
    // SAFETY: the caller's promise.
    let count = unsafe { qemu_plugin_tb_n_insns(block) };
    // SAFETY: the caller's promise, and the index is below the count.
    (0..count).map(move |index| Instruction(unsafe { qemu_plugin_tb_get_insn(block, index) }))
}

impl Instruction {
    /// Its effective address.
    pub fn address(&self) -> u64 {
        // SAFETY: the instruction is valid: see `instructions`. So for all functions below.
        unsafe { qemu_plugin_insn_vaddr(self.0) }
    }

    /// Itself, as it is in memory read in little endian.
    pub fn word(&self) -> u32 {
        let mut bytes = [0; 4];
        // SAFETY: QEMU writes at most so many bytes there.
        unsafe { qemu_plugin_insn_data(self.0, bytes.as_mut_ptr().cast(), bytes.len()) };
        u32::from_le_bytes(bytes)
    }

    /// Itself as text.
    pub fn disassembly(&self) -> String {
        // SAFETY: QEMU gives a string, or nothing, that is the caller's to free.
        unsafe {
            let text = qemu_plugin_insn_disas(self.0);
            if text.is_null() {
                return String::new();
            }
            let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
            g_free(text.cast());
            copy
        }
    }

    /// Has each execution counted.
    pub fn count(&self, board: &Scoreboard, counter: usize) {
        // SAFETY: the board is never freed, and has this counter.
        unsafe { qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(self.0, ADD, board.counter(counter), 1) }
    }

    /// Has a function called before each execution, which may read registers if it says so.
    pub fn call(&self, function: ExecuteCallback, registers: bool, data: usize) {
        let flags = REGISTERS[usize::from(registers)];
        // SAFETY: the function is there as long as QEMU runs, and takes `data` for a number.
        unsafe { qemu_plugin_register_vcpu_insn_exec_cb(self.0, function, flags, data as *mut c_void) }
    }
}

/// The registers that are read. QEMU has the same ones for all CPUs.
pub struct Registers {
    msr: *mut Register,
    gpr: [*mut Register; 8],
}

// SAFETY: QEMU's handles are numbers that mean the same on every thread.
unsafe impl Send for Registers {}
// SAFETY: as above.
unsafe impl Sync for Registers {}

static FOUND: OnceLock<Registers> = OnceLock::new();

impl Registers {
    /// Finds them. In the callback that a CPU has been made.
    pub fn find() {
        FOUND.get_or_init(|| {
            let mut found = Self { msr: null_mut(), gpr: [null_mut(); 8] };
            // SAFETY: QEMU gives an array of descriptions that is the caller's to free, and whose strings stay.
            unsafe {
                let array = qemu_plugin_get_registers();
                let first = (*array).data.cast::<Description>();
                for index in 0..(*array).length as usize {
                    let description = &*first.add(index);
                    match CStr::from_ptr(description.name).to_bytes() {
                        b"msr" => found.msr = description.handle,
                        [b'r', digit @ b'0'..=b'7'] => {
                            found.gpr[usize::from(digit - b'0')] = description.handle;
                        }
                        _ => {}
                    }
                }
                g_array_free(array, 1);
            }
            found
        });
    }

    /// The current CPU's MSR. While translating.
    pub fn msr() -> u64 {
        let bytes = FOUND.get().map_or([0; 8], |registers| read(registers.msr));
        // QEMU gives registers in the byte order that the processor is in, which the register itself tells: its lowest
        // byte has MSR[LE], and the same bit of its highest one is always 0.
        if bytes[0] & 1 != 0 { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) }
    }

    /// One of the current CPU's r0 to r7, while it runs in little endian. In a callback that may read registers.
    pub fn gpr(number: usize) -> u64 {
        let register = FOUND.get().and_then(|registers| registers.gpr.get(number));
        register.map_or(0, |&register| u64::from_le_bytes(read(register)))
    }
}

/// The bytes of a register of the current CPU.
fn read(register: *mut Register) -> [u8; 8] {
    let mut bytes = [0; 8];
    if register.is_null() {
        return bytes;
    }
    // SAFETY: the handle is QEMU's, callers are in callbacks that may read registers, and the array is used here only.
    unsafe {
        let array = g_byte_array_new();
        let length = qemu_plugin_read_register(register, array);
        if length == 8 && (*array).length == 8 {
            bytes.copy_from_slice(std::slice::from_raw_parts((*array).data.cast(), 8));
        }
        g_byte_array_free(array, 1);
    }
    bytes
}
