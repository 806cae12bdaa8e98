//! The hypercalls about DMA windows: H_PUT_TCE, H_PUT_TCE_INDIRECT, H_STUFF_TCE, H_GET_TCE.

use crate::HostBridge;
use crate::layout::{WINDOW, WINDOW_SHIFT};
use crate::tce::{Error, Window};

/// The most entries of H_PUT_TCE_INDIRECT and H_STUFF_TCE.
pub const MOST_ENTRIES: usize = 512;

impl HostBridge {
    fn window(&mut self, number: u64) -> Result<&mut Window, Error> {
        let mut windows = self.windows.iter_mut().flatten();
        windows.find(|window| u64::from(window.number) == number).ok_or(Error::Parameter)
    }

    /// Sets entries of a window, from the one of a bus address on.
    pub fn put(&mut self, number: u64, at: u64, entries: &[u64]) -> Result<(), Error> {
        self.window(number)?.set(at, entries.iter().copied())
    }

    /// Sets `count` of them alike.
    pub fn stuff(&mut self, number: u64, at: u64, entry: u64, count: u64) -> Result<(), Error> {
        if count > MOST_ENTRIES as u64 {
            return Err(Error::Parameter);
        }
        self.window(number)?.set(at, core::iter::repeat_n(entry, count as usize))
    }

    /// The entry of a bus address.
    pub fn get(&mut self, number: u64, at: u64) -> Result<u64, Error> {
        self.window(number)?.get(at)
    }

    /// The first window, empty, and no other.
    pub(crate) fn reset_windows(&mut self) {
        let pages = 1 << (WINDOW_SHIFT - 12);
        // It fails only for want of memory, and then there is none.
        self.windows = [Window::new(WINDOW, 0, 12, pages).ok(), None];
    }
}
