//! The RTAS calls about a host bridge (LoPAR, "PCI Configuration", "MSI Option", "Dynamic DMA Windows Option").

use papr::rtas::{PCI_RESULTS, RtasStatus, Service};

use crate::layout::{SECOND_WINDOW, SECOND_WINDOW_BASE, UNIT};
use crate::messages::Kind;
use crate::port::Host;
use crate::tce::Window;
use crate::{CONFIG_BYTES, HostBridge};

/// What a call answers behind its status.
type Results = [u32; PCI_RESULTS];

const NOTHING: Results = [0; PCI_RESULTS];

/// Page sizes of DMA windows, as log2 and as bits of `ibm,query-pe-dma-window`.
const PAGE_SHIFTS: [(u32, u32); 2] = [(16, 2), (24, 4)];

/// What `ibm,change-msi` is asked for.
mod function {
    pub const QUERY: u32 = 0;
    pub const CHANGE: u32 = 1;
    pub const MSI: u32 = 3;
    pub const MSI_X: u32 = 4;
}

impl HostBridge {
    /// Carries out a call. The number of arguments and results has been checked.
    pub fn call(
        &mut self,
        service: Service,
        args: &[u32],
        results: usize,
        host: &dyn Host,
    ) -> (RtasStatus, [u32; PCI_RESULTS]) {
        let mut all = [0; 6];
        all.iter_mut().zip(args).for_each(|(to, from)| *to = *from);
        let [address, b, c, d, e, f] = all;
        let unit = u64::from(b) << 32 | u64::from(c);
        let named = match service {
            // These know one bridge only.
            Service::ReadPciConfig | Service::WritePciConfig | Service::RemoveDmaWindow => true,
            _ => unit == UNIT,
        };
        if !named {
            return (RtasStatus::PARAMETER, NOTHING);
        }
        let plain = |status: RtasStatus| (status, NOTHING);
        match service {
            Service::ReadPciConfig => self.read_config(address, b, host),
            Service::IbmReadPciConfig => self.read_config(address, d, host),
            Service::WritePciConfig => plain(self.write_config(address, b, c, host)),
            Service::IbmWritePciConfig => plain(self.write_config(address, d, e, host)),
            Service::ChangeMsi => self.change_messages(address, d, e, f, host),
            Service::QueryInterruptSource => self.query_source(address, d),
            Service::QueryDmaWindow => self.query_window(results),
            Service::CreateDmaWindow => self.create_window(d, e, host),
            Service::RemoveDmaWindow => plain(self.remove_window(address, host)),
            Service::ResetDmaWindows => {
                self.reset_windows(host);
                plain(RtasStatus::SUCCESS)
            }
            Service::SetEehOption
            | Service::SetSlotReset
            | Service::ReadSlotResetState
            | Service::GetConfigAddrInfo
            | Service::ConfigurePe
            | Service::SlotErrorDetail => self.recover(service, address, d, host),
            _ => plain(RtasStatus::PARAMETER),
        }
    }

    /// The slot of a function's address, and the offset in its configuration space: bits 31:28 and 7:0 are the register, 23:16 the bus, 15:11
    /// the slot, 10:8 the function.
    pub(crate) fn named(&self, address: u32) -> Option<(usize, u16)> {
        let offset = (address >> 20 & 0xf00 | address & 0xff) as u16;
        let (routing, slot) = (address >> 8 & 0xffff, (address >> 11 & 31) as usize);
        (routing == (slot as u32) << 3 && slot < self.slots.len()).then_some((slot, offset))
    }

    /// The same of an access.
    fn accessed(&self, address: u32, bytes: u32) -> Option<(usize, u16)> {
        let (slot, offset) = self.named(address)?;
        let good = matches!(bytes, 1 | 2 | 4) && u32::from(offset).is_multiple_of(bytes);
        (good && usize::from(offset) < CONFIG_BYTES).then_some((slot, offset))
    }

    fn read_config(&mut self, address: u32, bytes: u32, host: &dyn Host) -> (RtasStatus, Results) {
        let read = self.accessed(address, bytes).and_then(|(slot, offset)| {
            self.with(slot, host, |function, port| function.config_read(offset, bytes as usize, port))
        });
        match read {
            Some(value) => (RtasStatus::SUCCESS, [value, 0, 0, 0, 0]),
            None => (RtasStatus::HARDWARE, NOTHING),
        }
    }

    fn write_config(&mut self, address: u32, bytes: u32, value: u32, host: &dyn Host) -> RtasStatus {
        let Some((slot, offset)) = self.accessed(address, bytes) else { return RtasStatus::HARDWARE };
        let more = self
            .with(slot, host, |function, port| function.config_write(offset, bytes as usize, value, port));
        self.slots[slot].more |= more == Some(true);
        self.find_places();
        RtasStatus::SUCCESS
    }

    fn change_messages(
        &mut self,
        address: u32,
        asked: u32,
        count: u32,
        sequence: u32,
        host: &dyn Host,
    ) -> (RtasStatus, Results) {
        let Some((slot, _)) = self.named(address) else { return (RtasStatus::PARAMETER, NOTHING) };
        let kind = match asked {
            function::QUERY => {
                let assigned = self.slots[slot].assigned.len() as u32;
                return (RtasStatus::SUCCESS, [assigned, sequence.wrapping_add(1), 0, 0, 0]);
            }
            function::CHANGE | function::MSI => Kind::Msi,
            function::MSI_X => Kind::MsiX,
            _ => return (RtasStatus::PARAMETER, NOTHING),
        };
        if count == 0 {
            self.unassign(slot);
            return (RtasStatus::SUCCESS, [0, sequence.wrapping_add(1), 0, 0, 0]);
        }
        match self.assign(slot, kind, count, host) {
            Some(assigned) => {
                let kind = if kind == Kind::Msi { 1 } else { 2 };
                (RtasStatus::SUCCESS, [assigned, sequence.wrapping_add(1), kind, 0, 0])
            }
            None => (RtasStatus::HARDWARE, NOTHING),
        }
    }

    fn query_source(&self, address: u32, n: u32) -> (RtasStatus, Results) {
        let Some((slot, _)) = self.named(address) else { return (RtasStatus::PARAMETER, NOTHING) };
        let source = self.slots[slot].assigned.clone().nth(n as usize);
        // 1: it signals by messages.
        source.map_or((RtasStatus::HARDWARE, NOTHING), |source| (RtasStatus::SUCCESS, [source, 1, 0, 0, 0]))
    }

    /// How large a second window may be, as log2: all of the partition's memory.
    fn largest(&self) -> u32 {
        self.memory.next_power_of_two().trailing_zeros()
    }

    /// What is left. The largest block is a number of pages of no size in particular: a guest may want so many of the largest, as it would
    /// where that is more than its memory. So they are counted in these.
    fn query_window(&self, results: usize) -> (RtasStatus, Results) {
        let windows = u32::from(self.windows[1].is_none());
        let block = 1u64 << (self.largest() - PAGE_SHIFTS[1].0);
        let sizes = PAGE_SHIFTS.iter().fold(0, |bits, (_, bit)| bits | bit);
        let answer = match results {
            5 => [windows, (block >> 32) as u32, block as u32, sizes, 0],
            _ => [windows, block.min(u32::MAX.into()) as u32, sizes, 0, 0],
        };
        (RtasStatus::SUCCESS, answer)
    }

    fn create_window(&mut self, page_shift: u32, shift: u32, host: &dyn Host) -> (RtasStatus, Results) {
        if self.windows[1].is_some() {
            return (RtasStatus::HARDWARE, NOTHING);
        }
        let known = PAGE_SHIFTS.iter().any(|(known, _)| *known == page_shift);
        if !known || shift < page_shift || shift > self.largest() {
            return (RtasStatus::PARAMETER, NOTHING);
        }
        let pages = 1 << (shift - page_shift);
        match Window::new(SECOND_WINDOW, SECOND_WINDOW_BASE, page_shift, pages) {
            Ok(window) if host.window(1, Some((page_shift, pages))) => {
                self.windows[1] = Some(window);
                let [high, low] = [SECOND_WINDOW_BASE >> 32, SECOND_WINDOW_BASE].map(|half| half as u32);
                (RtasStatus::SUCCESS, [SECOND_WINDOW, high, low, 0, 0])
            }
            _ => (RtasStatus::HARDWARE, NOTHING),
        }
    }

    fn remove_window(&mut self, number: u32, host: &dyn Host) -> RtasStatus {
        match self.window(number.into()) {
            Ok((n, _)) => {
                self.windows[n] = None;
                host.window(n, None);
                RtasStatus::SUCCESS
            }
            Err(_) => RtasStatus::PARAMETER,
        }
    }
}
