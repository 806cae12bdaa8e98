//! The hypercalls about DMA windows: H_PUT_TCE, H_PUT_TCE_INDIRECT, H_STUFF_TCE, H_GET_TCE.

use crate::layout::{FIRST_WINDOW, WINDOW};
use crate::tce::{Error, Window};
use crate::{Host, HostBridge};

/// The most entries of H_PUT_TCE_INDIRECT and H_STUFF_TCE.
pub const MOST_ENTRIES: usize = 512;

impl HostBridge {
    pub(crate) fn window(&mut self, number: u64) -> Result<(usize, &mut Window), Error> {
        let mut windows =
            self.windows.iter_mut().enumerate().filter_map(|(n, window)| Some((n, window.as_mut()?)));
        windows.find(|(_, window)| u64::from(window.number) == number).ok_or(Error::Parameter)
    }

    fn set(
        &mut self,
        number: u64,
        at: u64,
        entries: &mut (impl Iterator<Item = u64> + Clone),
        host: &dyn Host,
    ) -> Result<(), Error> {
        let (n, window) = self.window(number)?;
        window.set(at, entries.clone())?;
        host.map(n, (at - window.base) >> window.page_shift, entries);
        Ok(())
    }

    /// Sets entries of a window, from the one of a bus address on.
    pub fn put(&mut self, number: u64, at: u64, entries: &[u64], host: &dyn Host) -> Result<(), Error> {
        self.set(number, at, &mut entries.iter().copied(), host)
    }

    /// Sets `count` of them alike.
    pub fn stuff(
        &mut self,
        number: u64,
        at: u64,
        entry: u64,
        count: u64,
        host: &dyn Host,
    ) -> Result<(), Error> {
        if count > MOST_ENTRIES as u64 {
            return Err(Error::Parameter);
        }
        self.set(number, at, &mut core::iter::repeat_n(entry, count as usize), host)
    }

    /// The entry of a bus address.
    pub fn get(&mut self, number: u64, at: u64) -> Result<u64, Error> {
        self.window(number)?.1.get(at)
    }

    /// The first window, empty, and no other.
    pub(crate) fn reset_windows(&mut self, host: &dyn Host) {
        let (shift, pages) = FIRST_WINDOW;
        host.window(1, None);
        host.window(0, Some(FIRST_WINDOW));
        // It fails only for want of memory, and then there is none.
        self.windows = [Window::new(WINDOW, 0, shift, pages).ok(), None];
    }
}
