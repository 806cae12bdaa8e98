//! What a partition's device tree says of its host bridge.

use papr::tree::{BusRange, FunctionConfig, HostBridgeConfig, Memory};

use crate::layout::{HIGH, LINES, LOW, LOW_OFFSET, MESSAGES, UNIT, WINDOW, WINDOW_SHIFT};
use crate::messages::{Kind, most};
use crate::{Host, HostBridge, firmware, offset};

impl HostBridge {
    /// As it is: after [`HostBridge::reset`], what a partition finds when it starts.
    pub fn tree(&mut self, host: &dyn Host) -> HostBridgeConfig {
        let low = LOW.end - LOW.start;
        let ranges = [
            BusRange { wide: false, bus: LOW.start, real: LOW.start + LOW_OFFSET, bytes: low },
            BusRange { wide: true, bus: HIGH.start, real: HIGH.start, bytes: HIGH.end - HIGH.start },
        ];
        let functions = (0..self.functions()).filter_map(|n| {
            self.with(n, host, |function, port| {
                let mut cell = |at, bytes| function.config_read(at, bytes, port);
                let (vendor, device) = (cell(offset::VENDOR, 2), cell(offset::DEVICE, 2));
                let (subsystem_vendor, subsystem) =
                    (cell(offset::SUBSYSTEM_VENDOR, 2), cell(offset::SUBSYSTEM, 2));
                let class = cell(offset::CLASS, 4);
                let pin = cell(offset::INTERRUPT_PIN, 1);
                let messages = (most(function, port, Kind::Msi), most(function, port, Kind::MsiX));
                let memory = firmware::bars(function, port).into_iter().map(|bar| Memory {
                    bar: bar.index.into(),
                    wide: bar.is_wide(),
                    prefetchable: bar.kind & 8 != 0,
                    bus: bar.address,
                    bytes: bar.bytes,
                });
                FunctionConfig {
                    slot: n as u32,
                    vendor,
                    device,
                    subsystem_vendor,
                    subsystem,
                    class: class >> 8,
                    revision: class & 0xff,
                    pin,
                    messages,
                    memory: memory.collect(),
                }
            })
        });
        HostBridgeConfig {
            unit: UNIT,
            ranges: ranges.into(),
            functions: functions.collect(),
            lines: (self.sources, LINES),
            messages: MESSAGES,
            window: (WINDOW, 0, 1 << WINDOW_SHIFT),
        }
    }
}
