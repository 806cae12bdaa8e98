//! The QEMU plugin that counts instructions: it reports each instruction of the hypervisor's to [`profile::Cpu`], and leaves the
//! rest to counters that QEMU compiles into the code.
//!
//! `-plugin libcounter.so,image=ELF,out=FILE`. At the end of the run FILE is [`profile::Counts`].
//!
//! Whose instruction one is is seen when QEMU translates it: a guest's with MSR[HV] = 0; otherwise the hypervisor's if the image
//! has that word at that address; otherwise firmware's. QEMU translates anew for another MSR[HV].
#![allow(unsafe_code)] // QEMU is a program in C

mod api;

use api::{Registers, Scoreboard};
use power::hcall::Hcall;
use profile::{Console, Counts, Cpu, Image, Outside, Probe};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The plugin's own state. It lives as long as QEMU.
struct Plugin {
    image: Image,
    out: PathBuf,
    board: Scoreboard,
    cpus: Vec<Mutex<Option<Cpu>>>,
    console: Mutex<Console>,
    /// Disassembly of what has been translated.
    text: Mutex<BTreeMap<u32, String>>,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// What the counters of a CPU are for: places in its entry of the scoreboard.
const FIRMWARE: usize = 0;
const PRIVILEGED: usize = 1;
const PROBLEM: usize = 2;
const FAULTED: usize = 3;
const COUNTERS: usize = 4;

const MSR_HV: u64 = 1 << 60;
const MSR_PR: u64 = 1 << 14;

/// Where a guest takes interrupts that end an instruction before it is done and that do not come by the hypervisor: data
/// segment and alignment, with translation off and on.
const GUEST_FAULTS: [u64; 4] = [0x380, 0x600, 0xc000_0000_0000_4380, 0xc000_0000_0000_4600];

/// What QEMU looks for: the version of its plugin interface that this is for, from QEMU 9.1 on.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 3;

/// What QEMU calls when it has loaded the plugin. Anything but 0 refuses to work; QEMU then ends.
///
/// # Safety
///
/// QEMU calls it once, on the thread that starts everything, with `count` strings at `arguments`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const api::Info,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: `info` is QEMU's and valid for the call; it is only read.
    let cpus = unsafe { (*info).max_vcpus };
    let arguments = (0..usize::try_from(count).unwrap_or(0)).map(|index| {
        // SAFETY: QEMU passes `count` strings, which stay as long as the plugin.
        unsafe { CStr::from_ptr(*arguments.add(index)) }.to_string_lossy().into_owned()
    });
    let prepared = prepare(arguments, usize::try_from(cpus).unwrap_or(0));
    match prepared.and_then(|plugin| PLUGIN.set(plugin).map_err(|_| "loaded twice".into())) {
        Ok(()) => {
            api::register(id, api::Callbacks { cpu: started, translate, end });
            0
        }
        Err(why) => {
            eprintln!("partita: the counting plugin: {why}");
            1
        }
    }
}

fn prepare(arguments: impl Iterator<Item = String>, cpus: usize) -> Result<Plugin, String> {
    let (mut image, mut out) = (None, None);
    for argument in arguments {
        match argument.split_once('=') {
            Some(("image", path)) => image = Some(path.to_owned()),
            Some(("out", path)) => out = Some(PathBuf::from(path)),
            _ => return Err(format!("what is '{argument}'?")),
        }
    }
    let path = image.ok_or("image=FILE is missing")?;
    let file = std::fs::read(&path).map_err(|error| format!("{path}: cannot read it: {error}"))?;
    let image = Image::read(&file).map_err(|error| format!("{path}: {error}"))?;
    Ok(Plugin {
        cpus: (0..cpus).map(|_| Mutex::new(Some(Cpu::new(&image)))).collect(),
        image,
        console: Mutex::default(),
        out: out.ok_or("out=FILE is missing")?,
        board: Scoreboard::new(COUNTERS),
        text: Mutex::default(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A CPU has been made.
extern "C" fn started(_id: u64, _cpu: c_uint) {
    Registers::find();
}

/// QEMU has translated a stretch of instructions, for the current state of a CPU.
extern "C" fn translate(_id: u64, block: *mut api::Block) {
    let Some(plugin) = PLUGIN.get() else { return };
    let msr = Registers::msr();
    // SAFETY: the block is valid for the call, and here is the only use of it.
    for (index, instruction) in unsafe { api::instructions(block) }.enumerate() {
        let address = instruction.address();
        let count = |counter| instruction.count(&plugin.board, counter);
        if msr & MSR_HV == 0 {
            count(if msr & MSR_PR == 0 { PRIVILEGED } else { PROBLEM });
            if index == 0 && msr & MSR_PR == 0 && GUEST_FAULTS.contains(&address) {
                count(FAULTED);
            }
        } else if let Some(at) = plugin.image.find(address, instruction.word()) {
            lock(&plugin.text).entry(at).or_insert_with(|| instruction.disassembly());
            // What a hypercall wants is in registers.
            if Image::vector(at) == Some(0xc00) {
                instruction.call(called, true, at as usize);
            } else {
                instruction.call(executed, false, at as usize);
            }
        } else {
            count(FIRMWARE);
        }
    }
}

/// A CPU is about to execute an instruction of the hypervisor's.
extern "C" fn executed(cpu: c_uint, at: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    if let Some(state) = plugin.cpus.get(cpu as usize)
        && let Some(state) = &mut *lock(state)
    {
        state.step(&plugin.image, at as usize as u32, &mut Asked { plugin, cpu });
    }
}

/// A CPU is about to execute the first instruction of the hypervisor's for a hypercall.
extern "C" fn called(cpu: c_uint, at: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    if Registers::gpr(3) == Hcall::PUT_TERM_CHAR.0 {
        let (length, characters) = (Registers::gpr(5), [Registers::gpr(6), Registers::gpr(7)]);
        let row = lock(&plugin.console).put(length, characters);
        if let Some(row) = row {
            for (cpu, state) in (0..).zip(&plugin.cpus) {
                if let Some(state) = &mut *lock(state) {
                    state.end_section(&plugin.image, &row, &mut Asked { plugin, cpu });
                }
            }
        }
    }
    executed(cpu, at);
}

/// QEMU ends.
extern "C" fn end(_id: u64, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let mut sum = Counts::default();
    for (cpu, state) in (0..).zip(&plugin.cpus) {
        if let Some(state) = lock(state).take() {
            sum.add(&state.finish(&plugin.image, &mut Asked { plugin, cpu }));
        }
    }
    sum.text = std::mem::take(&mut *lock(&plugin.text));
    if let Err(error) = std::fs::write(&plugin.out, sum.to_text()) {
        eprintln!("partita: {}: cannot write it: {error}", plugin.out.display());
    }
}

/// A CPU that answers questions.
struct Asked {
    plugin: &'static Plugin,
    cpu: c_uint,
}

impl Probe for Asked {
    fn outside(&mut self) -> Outside {
        let read = |counter| self.plugin.board.read(counter, self.cpu);
        Outside {
            firmware: read(FIRMWARE),
            privileged: read(PRIVILEGED),
            problem: read(PROBLEM),
            faulted: read(FAULTED),
        }
    }

    fn hypercall(&mut self) -> u64 {
        Registers::gpr(3)
    }
}
