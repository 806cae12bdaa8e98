//! A virtual CPU as virtual mode has it.

use alloc::boxed::Box;

use papr::vpa::VpaState;
use realmode::instructions::timebase;
use realmode::layout::{Context, Vcpu};
use realmode::partition::{Partition as Core, Presence};

use super::dispatch::Off;
use crate::percpu;

/// What a vCPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing until `start-cpu`.
    Stopped,
    /// It runs, or would if a CPU were free.
    Runnable,
    /// It waits in H_CEDE for an interrupt or a prod.
    Ceded,
}

/// A vCPU: its registers and what virtual mode keeps beside them.
pub struct VirtualCpu {
    /// The registers.
    pub regs: Box<Vcpu>,
    /// What it does.
    pub state: State,
    /// The areas it has registered.
    pub vpa: VpaState,
    /// It is off its CPU.
    pub off: Option<Off>,
    /// How many entries its dispatch trace log has had.
    pub dtl_next: u64,
    core: &'static Core,
}

impl VirtualCpu {
    /// A stopped one.
    pub fn new(core: &'static Core, server: u32) -> VirtualCpu {
        let regs = Box::new(Vcpu::new(core, percpu::boot_cpu(), server));
        VirtualCpu { regs, state: State::Stopped, vpa: VpaState::NEW, off: None, dtl_next: 0, core }
    }

    /// Stops it and forgets its registers.
    pub fn reset(&mut self) {
        let server = self.regs.server;
        *self.regs = Vcpu::new(self.core, percpu::boot_cpu(), server);
        *self.regs.context.get_mut() = Context::INITIAL;
        self.state = State::Stopped;
        self.vpa = VpaState::NEW;
        self.off = None;
        self.dtl_next = 0;
    }

    /// What the other vCPUs know of it.
    pub fn presence(&self) -> &'static Presence {
        &self.core.vcpus[self.regs.server as usize]
    }

    /// Is there a reason to run it now? Ends an H_CEDE if so.
    pub fn wants_cpu(&mut self) -> bool {
        match self.state {
            State::Stopped => false,
            State::Runnable => true,
            State::Ceded => {
                let due = (timebase().wrapping_sub(self.regs.dec_expires) as i64) >= 0;
                let wake = due || self.core.xics.pending(self.regs.server) || self.presence().take_prod();
                if wake {
                    self.state = State::Runnable;
                }
                wake
            }
        }
    }
}
