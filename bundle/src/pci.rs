//! PCI functions as people name them: `0000:01:00.0`.

use core::fmt;

/// A function of a PCI device of the host. Ordered as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// The domain: the host bridge's number.
    pub domain: u16,
    /// The bus below the bridge.
    pub bus: u8,
    /// The device on the bus, 0 to 31.
    pub device: u8,
    /// The function of the device, 0 to 7.
    pub function: u8,
}

impl PciAddress {
    /// Reads `domain:bus:device.function`, in hexadecimal of 4, 2, 2 and 1 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let address = Self {
            domain: hex(domain, 4)?,
            bus: hex(bus, 2)?.try_into().ok()?,
            device: hex(device, 2)?.try_into().ok()?,
            function: hex(function, 1)?.try_into().ok()?,
        };
        (address.device < 32 && address.function < 8).then_some(address)
    }

    /// Bus, device and function as the bus numbers them: 8, 5 and 3 bits.
    pub fn routing_id(self) -> u16 {
        u16::from(self.bus) << 8 | u16::from(self.device) << 3 | u16::from(self.function)
    }
}

/// A number of exactly so many hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u16> {
    let fine = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(text, 16).ok().filter(|_| fine)
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn reads_what_it_prints() {
        for (text, address, routing_id) in [
            ("0000:00:00.0", PciAddress { domain: 0, bus: 0, device: 0, function: 0 }, 0),
            ("0001:02:03.4", PciAddress { domain: 1, bus: 2, device: 3, function: 4 }, 0x021c),
            ("ffff:ff:1f.7", PciAddress { domain: 0xffff, bus: 0xff, device: 31, function: 7 }, 0xffff),
        ] {
            assert_eq!(PciAddress::parse(text), Some(address));
            assert_eq!(PciAddress::parse(&text.to_uppercase()), Some(address));
            assert_eq!(address.to_string(), text);
            assert_eq!(address.routing_id(), routing_id);
        }
    }

    #[test]
    fn nothing_else_is_an_address() {
        for text in [
            "",
            "01:00.0",
            "000:01:00.0",
            "00000:01:00.0",
            "0000:1:00.0",
            "0000:001:00.0",
            "0000:01:0.0",
            "0000:01:00.00",
            "0000:01:00",
            "0000:01:20.0",
            "0000:01:00.8",
            "0000:01:00.g",
            "+000:01:00.0",
            "0000:01:00.0 ",
            "0000:01:00:0",
            "0000:01:00.0.0",
        ] {
            assert_eq!(PciAddress::parse(text), None, "{text}");
        }
    }
}
