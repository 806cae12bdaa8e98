//! Access to the partition's memory by real address, on the guest's behalf.

use power::{GuestReal, HostReal, HpteR};

use crate::error::HptError;
use crate::mmu::{GuestMmu, RC};
use crate::page::Target;

impl GuestMmu<'_> {
    /// Hands out where the byte at a real address is, for a load or a store of the guest's that stays within 4 KiB: while it is under way, what
    /// backs the page does not change. `Parameter` if there is no RAM; `TooHard` if the page does not allow it as it is, or is being
    /// changed.
    #[inline(always)]
    pub fn with_bytes<T>(
        &self,
        real: GuestReal,
        store: bool,
        body: impl FnOnce(HostReal) -> T,
    ) -> Result<T, HptError> {
        let Some(Target::Ram(page, offset)) = self.slots.find(real) else { return Err(HptError::Parameter) };
        let view = page.lock().ok_or(HptError::TooHard)?;
        if !view.is_present() || (store && !view.is_writable()) {
            page.unlock(view);
            return Err(HptError::TooHard);
        }
        page.note_usage(if store { RC } else { HpteR::R });
        let result = body(HostReal(view.host_bits() | offset));
        page.unlock(view);
        Ok(result)
    }
}
