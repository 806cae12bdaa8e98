//! DMA windows of a partition's host bridge (LoPAR, "H_PUT_TCE" and its kin): [`phb`] has them; here is what they take from the guest's
//! registers and memory.

use phb::MOST_ENTRIES;
use phb::tce::Error;
use power::{GuestReal, Hcall, Status};

use super::Guest;
use super::hcall::{Outcome, status_of};
use crate::devices::bus::Owner;

/// A list of entries is in one page of this size.
const LIST: u64 = 4096;

/// Carries one of the calls out.
pub fn handle(guest: &mut Guest<'_>, call: Hcall, [number, at, a, b, ..]: [u64; 8]) -> Outcome {
    let partition = guest.partition;
    let Some(devices) = &partition.pci else { return Ok(Status::FUNCTION) };
    let done = match call {
        Hcall::GET_TCE => {
            devices.with(|bridge| bridge.get(number, at)).map(|entry| guest.regs.gpr[4] = entry)
        }
        Hcall::PUT_TCE => devices.with(|bridge| bridge.put(number, at, &[a], &Owner(partition))),
        Hcall::STUFF_TCE => devices.with(|bridge| bridge.stuff(number, at, a, b, &Owner(partition))),
        _ => {
            if !a.is_multiple_of(LIST) || b > MOST_ENTRIES as u64 {
                return Ok(Status::PARAMETER);
            }
            let mut list = [0; MOST_ENTRIES];
            let mut bytes = [0; MOST_ENTRIES * 8];
            let bytes = &mut bytes[..b as usize * 8];
            if let Err(error) = partition.memory().read(GuestReal(a), bytes) {
                return status_of(partition, Err(error));
            }
            for (entry, bytes) in list.iter_mut().zip(bytes.as_chunks().0) {
                *entry = u64::from_be_bytes(*bytes);
            }
            devices.with(|bridge| bridge.put(number, at, &list[..b as usize], &Owner(partition)))
        }
    };
    Ok(match done {
        Ok(()) => Status::SUCCESS,
        Err(Error::Parameter) => Status::PARAMETER,
        Err(Error::NoMemory) => Status::RESOURCE,
    })
}
