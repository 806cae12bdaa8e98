//! The bus as one function sees it: memory through its DMA windows, interrupts as sources.

use core::cell::Cell;
use core::ops::Range;

use crate::layout::{LINES, MESSAGES, MESSAGES_AT};
use crate::tce::Window;
use crate::{Bus, DmaError};

/// What a host bridge needs of the hypervisor, on behalf of its partition.
pub trait Host {
    /// Reads memory from a real address of the partition on. Up to eight aligned bytes are read at once.
    fn read(&self, real: u64, to: &mut [u8]) -> Result<(), DmaError>;

    /// Writes memory, likewise.
    fn write(&self, real: u64, from: &[u8]) -> Result<(), DmaError>;

    /// Takes the memory behind a range of the partition's real addresses away, whole units of what backs it: it reads as zeroes from then on.
    fn discard(&self, _real: u64, _bytes: u64) {}

    /// A DMA window is there from now on, without entries: the log2 of its pages' size, and how many; or none is. False if that cannot be. Who
    /// has functions that reach memory without being asked for it here keeps track of it.
    fn window(&self, _window: usize, _shape: Option<(u32, u64)>) -> bool {
        true
    }

    /// Entries of a window have been set, from this page on: real addresses, and rights in the two lowest bits. What is not memory leads nowhere.
    fn map(&self, _window: usize, _page: u64, _entries: &mut dyn Iterator<Item = u64>) {}

    /// Signals a source that signals by messages.
    fn message(&self, source: u32);

    /// Raises or lowers the line of a source that signals by its level.
    fn line(&self, source: u32, up: bool);
}

/// The interrupt lines: which slots hold each of them up.
pub(crate) type Lines = [Cell<u32>; LINES as usize];

/// A function's view.
pub(crate) struct Port<'a> {
    pub host: &'a dyn Host,
    pub slot: usize,
    /// The DMA windows, if it is behind them; otherwise it has the partition's memory at its real addresses.
    pub windows: Option<&'a [Option<Window>; 2]>,
    pub lines: &'a Lines,
    /// The first of the bridge's sources.
    pub sources: u32,
}

impl Port<'_> {
    /// Goes over a range of bus addresses behind DMA windows, in pieces that lie together: the real address and length of each.
    #[inline(never)]
    fn each(
        windows: &[Option<Window>; 2],
        mut at: u64,
        len: usize,
        write: bool,
        mut work: impl FnMut(u64, Range<usize>) -> Result<(), DmaError>,
    ) -> Result<(), DmaError> {
        let mut done = 0;
        while done < len {
            let found = windows.iter().flatten().find_map(|window| window.translate(at, write).ok());
            let (real, together) = found.ok_or(DmaError)?;
            let n = together.min((len - done) as u64) as usize;
            work(real, done..done + n)?;
            done += n;
            at = at.wrapping_add(n as u64);
        }
        Ok(())
    }
}

impl Bus for Port<'_> {
    fn read(&self, at: u64, to: &mut [u8]) -> Result<(), DmaError> {
        let Some(windows) = self.windows else { return self.host.read(at, to) };
        Self::each(windows, at, to.len(), false, |real, piece| self.host.read(real, &mut to[piece]))
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<(), DmaError> {
        let Some(windows) = self.windows else { return self.host.write(at, from) };
        Self::each(windows, at, from.len(), true, |real, piece| self.host.write(real, &from[piece]))
    }

    fn discard(&self, real: u64, bytes: u64) {
        if self.windows.is_none() {
            self.host.discard(real, bytes);
        }
    }

    fn message(&self, address: u64, data: u32) {
        let first = self.sources + LINES;
        // Anything else is a store to where nothing is.
        if address == MESSAGES_AT && (first..first + MESSAGES).contains(&data) {
            self.host.message(data);
        }
    }

    fn line(&self, up: bool) {
        let line = self.slot % self.lines.len();
        let before = self.lines[line].get();
        let mine = 1 << (self.slot % 32);
        let after = if up { before | mine } else { before & !mine };
        self.lines[line].set(after);
        if (before == 0) != (after == 0) {
            self.host.line(self.sources + line as u32, up);
        }
    }
}
