//! The common configuration structure (section 4.1.4.3): negotiation, status, and the queues' setup.

use core::mem::size_of;

use phb::Bus;

use super::{NO_VECTOR, Setup, Transport, status};
use crate::features::TRANSPORT;

/// Offsets (struct virtio_pci_common_cfg).
mod register {
    pub const OFFERED_HALF: usize = 0;
    pub const OFFERED: usize = 4;
    pub const DRIVER_HALF: usize = 8;
    pub const DRIVER: usize = 12;
    pub const VECTOR: usize = 16;
    pub const QUEUES: usize = 18;
    pub const STATUS: usize = 20;
    pub const GENERATION: usize = 21;
    pub const QUEUE: usize = 22;
    pub const QUEUE_SIZE: usize = 24;
    pub const QUEUE_VECTOR: usize = 26;
    pub const QUEUE_ENABLE: usize = 28;
    pub const QUEUE_NOTIFY: usize = 30;
    pub const DESCRIPTORS: usize = 32;
    pub const AVAILABLE: usize = 40;
    pub const USED: usize = 48;
}

impl Transport {
    fn offered(&self) -> u64 {
        self.device.features() | TRANSPORT | self.needed
    }

    pub(super) fn read_common(&self, offset: usize, to: &mut [u8]) {
        use register::*;
        let mut image = [0; 64];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        let now = &self.negotiation;
        put(OFFERED_HALF, &now.offered_half.to_le_bytes());
        put(OFFERED, &half(self.offered(), now.offered_half).to_le_bytes());
        put(DRIVER_HALF, &now.driver_half.to_le_bytes());
        put(DRIVER, &half(now.accepted, now.driver_half).to_le_bytes());
        put(VECTOR, &now.vector.to_le_bytes());
        put(QUEUES, &(self.queues.len() as u16).to_le_bytes());
        put(STATUS, &[now.status]);
        put(GENERATION, &[self.device.config_changes() as u8]);
        put(QUEUE, &now.queue.to_le_bytes());
        let index = usize::from(now.queue);
        // A queue that is not there has size 0.
        if let (Some(Setup { layout, vector }), Some(queue)) = (self.setup.get(index), self.queues.get(index))
        {
            put(QUEUE_SIZE, &layout.size.to_le_bytes());
            put(QUEUE_VECTOR, &vector.to_le_bytes());
            put(QUEUE_ENABLE, &u16::from(queue.enabled()).to_le_bytes());
            put(QUEUE_NOTIFY, &now.queue.to_le_bytes());
            put(DESCRIPTORS, &layout.descriptors.to_le_bytes());
            put(AVAILABLE, &layout.available.to_le_bytes());
            put(USED, &layout.used.to_le_bytes());
        }
        for (to, from) in to.iter_mut().zip(image.iter().skip(offset)) {
            *to = *from;
        }
    }

    pub(super) fn write_common(&mut self, offset: usize, from: &[u8], bus: &dyn Bus) {
        use register::*;
        if let Some((low, high)) =
            from.split_at_checked(size_of::<u32>()).filter(|(_, high)| !high.is_empty())
        {
            self.write_common(offset, low, bus);
            return self.write_common(offset + size_of::<u32>(), high, bus);
        }
        let mut raw = [0; 4];
        raw[..from.len()].copy_from_slice(from);
        let value = u32::from_le_bytes(raw);
        match (offset, from.len()) {
            (OFFERED_HALF, 4) => self.negotiation.offered_half = value,
            (DRIVER_HALF, 4) => self.negotiation.driver_half = value,
            (DRIVER, 4) => self.accept(value),
            (VECTOR, 2) => self.negotiation.vector = self.vector(value),
            (STATUS, 1) => self.set_status(value as u8, bus),
            (QUEUE, 2) => self.negotiation.queue = value as u16,
            (QUEUE_ENABLE, 2) if value == 1 => self.enable_queue(bus),
            _ => self.set_up_queue(offset, from.len(), value),
        }
    }

    fn accept(&mut self, value: u32) {
        let now = &mut self.negotiation;
        if now.status & status::FEATURES_OK == 0 && now.driver_half < 2 {
            let shift = 32 * now.driver_half;
            now.accepted = now.accepted & !(0xffff_ffff << shift) | u64::from(value) << shift;
        }
    }

    /// A vector that is not there is none.
    fn vector(&self, value: u32) -> u16 {
        if value < self.config.vectors().into() { value as u16 } else { NO_VECTOR }
    }

    /// The driver sets bits of the status one after the other; 0 is a reset (section 3.1.1).
    fn set_status(&mut self, value: u8, bus: &dyn Bus) {
        if value == 0 {
            return self.reset_device(bus);
        }
        let now = &mut self.negotiation;
        let mut new = value & status::DRIVERS & !now.status;
        // Not without what is needed, and not with what was not offered.
        let accepted = now.accepted;
        if accepted & self.needed != self.needed || accepted & !self.offered() != 0 {
            new &= !status::FEATURES_OK;
        }
        let now = &mut self.negotiation;
        if (now.status | new) & status::FEATURES_OK == 0 {
            new &= !status::DRIVER_OK;
        }
        now.status |= new;
        if new & status::DRIVER_OK != 0 {
            self.device.start(accepted);
            // There may be buffers in the queues already, and no notification of them.
            let enabled = self.queues.iter().enumerate().filter(|(_, queue)| queue.enabled());
            self.to_serve = enabled.fold(0, |bits, (index, _)| bits | 1 << index);
        }
    }

    fn set_up_queue(&mut self, offset: usize, bytes: usize, value: u32) {
        use register::*;
        let index = usize::from(self.negotiation.queue);
        let vector = self.vector(value);
        let Some(Setup { layout, vector: queue_vector }) = self.setup.get_mut(index) else { return };
        if (offset, bytes) == (QUEUE_VECTOR, 2) {
            *queue_vector = vector;
        }
        if self.queues[index].enabled() {
            return;
        }
        let size = value as u16;
        match (offset, bytes) {
            (QUEUE_SIZE, 2) if size.is_power_of_two() && size <= self.device.queue_sizes()[index] => {
                layout.size = size;
            }
            (DESCRIPTORS..AVAILABLE, 4) => put_half(&mut layout.descriptors, offset, value),
            (AVAILABLE..USED, 4) => put_half(&mut layout.available, offset, value),
            (USED..=0x34, 4) => put_half(&mut layout.used, offset, value),
            _ => {}
        }
    }

    fn enable_queue(&mut self, bus: &dyn Bus) {
        let index = usize::from(self.negotiation.queue);
        let (Some(setup), Some(queue)) = (self.setup.get(index), self.queues.get_mut(index)) else { return };
        if queue.enabled() || self.negotiation.status & status::FEATURES_OK == 0 {
            return;
        }
        if queue.enable(setup.layout, self.negotiation.accepted).is_err() {
            self.break_down(bus);
        }
    }
}

fn half(of: u64, which: u32) -> u32 {
    if which < 2 { (of >> (32 * which)) as u32 } else { 0 }
}

/// Writes the low or the high word of a register of eight bytes.
fn put_half(to: &mut u64, offset: usize, value: u32) {
    let shift = 8 * (offset & 4);
    *to = *to & !(0xffff_ffff << shift) | u64::from(value) << shift;
}
