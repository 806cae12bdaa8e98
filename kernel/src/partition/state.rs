//! Everything of a partition's state but its memory and page table, taken from one that stands still: for a copy of it, or to be
//! put back later.
//!
//! Time is not part of it: clocks and timebase go on, and a decrementer whose time has passed meanwhile expires at once. Nor is what
//! the guest has written to its console.
#![allow(unsafe_code)] // reaches the registers of vCPUs that nobody runs

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use papr::rtas::PartitionClock;
use papr::vty::Ring;
use papr::xics::{Icp, Source, Xics};
use phb::HostBridge;
use realmode::layout::Vcpu;

use super::dispatch::Areas;
use super::{Partition, VirtualCpu, Waits};

/// The state of a partition.
pub struct State {
    vcpus: Vec<VcpuState>,
    icps: Box<[Icp]>,
    sources: Box<[Source]>,
    input: Ring,
    clock: PartitionClock,
    interrupt_mode: u64,
    unjoined: usize,
    devices: Option<HostBridge>,
}

struct VcpuState {
    regs: Vcpu,
    waits: Waits,
    prodded: bool,
    areas: Areas,
}

// SAFETY: the pointers in the registers are never followed: they are storage, and belong to no vCPU.
unsafe impl Send for State {}

impl State {
    /// How much memory that of a partition takes, in bytes, give or take some objects.
    pub fn bytes(partition: &Partition) -> u64 {
        (partition.vcpus.len() * size_of::<VcpuState>()) as u64
    }

    /// Of a partition none of whose vCPUs is active; the caller is who has made it stand still. An error is one line for the user.
    pub fn of(partition: &Partition) -> Result<State, String> {
        let core = partition.core();
        let devices = partition.pci.as_ref().map(|devices| devices.state(partition)).transpose()?;
        let mut vcpus = Vec::new();
        vcpus
            .try_reserve_exact(partition.vcpus.len())
            .map_err(|_| format!("{}: no memory for its state", partition.name))?;
        vcpus.extend(partition.vcpus.iter().map(|vcpu| VcpuState::of(partition, vcpu)));
        let icps: Box<[Icp]> = (0..core.xics.servers()).map(|_| Icp::default()).collect();
        let sources = super::new_sources(devices.is_some());
        // Under one lock: what is typed meanwhile raises the console's interrupt under it.
        let vty = partition.vty();
        Xics::new(&icps, &sources).copy_from(&core.xics);
        let input = vty.input.clone();
        drop(vty);
        let clock = *partition.clock.lock();
        Ok(State {
            vcpus,
            icps,
            sources,
            input,
            clock,
            interrupt_mode: core.interrupt_mode.load(Ordering::SeqCst),
            unjoined: partition.unjoined.load(Ordering::SeqCst),
            devices,
        })
    }

    /// Gives it to a partition of the same shape, none of whose vCPUs is active: the one that it was taken from, or a copy.
    pub fn give(&mut self, to: &Partition) {
        let core = to.core();
        let mut vty = to.vty();
        core.xics.copy_from(&Xics::new(&self.icps, &self.sources));
        vty.input.clone_from(&self.input);
        drop(vty);
        // It may be given several times. What could be copied once can be again.
        if let (Some(devices), Some(Ok(state))) = (&to.pci, self.devices.as_ref().map(HostBridge::copy)) {
            devices.give(state);
        }
        // Something may have been typed whose interrupt was not raised yet.
        to.update_vty_interrupt();
        *to.clock.lock() = self.clock;
        core.interrupt_mode.store(self.interrupt_mode, Ordering::SeqCst);
        to.unjoined.store(self.unjoined, Ordering::SeqCst);
        for (state, vcpu) in self.vcpus.iter_mut().zip(&to.vcpus) {
            state.give(to, vcpu);
        }
    }

    /// The registers of a vCPU.
    pub fn regs(&mut self, server: usize) -> Option<&mut Vcpu> {
        Some(&mut self.vcpus.get_mut(server)?.regs)
    }
}

impl VcpuState {
    fn of(partition: &Partition, vcpu: &VirtualCpu) -> VcpuState {
        // SAFETY: the vCPU is parked, and who has made the partition stand still is the only one to touch it.
        let own = unsafe { vcpu.regs() };
        let mut regs = Vcpu::new(partition.core(), own.icp, vcpu.server as u32, vcpu.stats);
        regs.take_state(own);
        VcpuState {
            regs,
            waits: vcpu.waits(),
            prodded: partition.presence(vcpu).is_prodded(),
            areas: vcpu.areas.lock().clone(),
        }
    }

    fn give(&mut self, to: &Partition, vcpu: &VirtualCpu) {
        // SAFETY: as above.
        let regs = unsafe {
            vcpu.reset();
            vcpu.regs()
        };
        regs.take_state(&mut self.regs);
        to.prepare(regs);
        *vcpu.areas.lock() = self.areas.clone();
        vcpu.set_waits(self.waits);
        let presence = to.presence(vcpu);
        let _ = presence.take_prod();
        if self.prodded {
            presence.prod();
        }
    }
}
