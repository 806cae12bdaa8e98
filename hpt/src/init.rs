//! H_PAGE_INIT (PAPR 14.5.4.1.7): zeroes or copies a logical page.

use power::hcall::flags as f;
use power::{GuestReal, HostReal, HpteR};

use crate::error::HptError;
use crate::machine::Machine;
use crate::mmu::GuestMmu;
use crate::page::{Page, PageView, Target};

/// The page size of H_PAGE_INIT.
const SIZE: u64 = 4096;

const KNOWN: u64 = f::ICACHE_INVALIDATE | f::ICACHE_SYNCHRONIZE | f::ZERO_PAGE | f::COPY_PAGE | f::PAGE_STATE;

impl GuestMmu<'_> {
    /// H_PAGE_INIT (PAPR 14.5.4.1.7): fills 4 KiB of RAM with zeroes, or with a copy of another 4 KiB (which goes before
    /// zeroes), and synchronizes instruction caches. Sharing and protection are respected: `TooHard` until both pages can be used as asked.
    pub fn page_init<M: Machine>(
        &self,
        m: &M,
        flags: u64,
        to: GuestReal,
        from: GuestReal,
    ) -> Result<(), HptError> {
        if flags & !KNOWN != 0 {
            return Err(HptError::Parameter);
        }
        let copy = flags & f::COPY_PAGE != 0;
        let write = copy || flags & f::ZERO_PAGE != 0;
        let (page, offset) = self.ram(to)?;
        let from = if copy { Some(self.ram(from)?) } else { None };

        let view = page.lock().ok_or(HptError::TooHard)?;
        if !view.is_present() || (write && !view.is_writable()) {
            page.unlock(view);
            return Err(HptError::TooHard);
        }
        let at = HostReal(view.host_bits() | offset);
        let done = match from {
            Some((source, source_offset)) => copy_page(m, page, view, at, source, source_offset),
            None => {
                if write {
                    m.zero(at, SIZE);
                }
                Ok(())
            }
        };
        if done.is_ok() {
            if write {
                page.note_usage(HpteR::R | HpteR::C);
            }
            if flags & (f::ICACHE_INVALIDATE | f::ICACHE_SYNCHRONIZE) != 0 {
                m.icache_sync(at, SIZE);
            }
        }
        page.unlock(view);
        done
    }

    /// The page of an aligned address of RAM, and the offset in it.
    fn ram(&self, real: GuestReal) -> Result<(&Page, u64), HptError> {
        match self.slots.find(real) {
            Some(Target::Ram(page, offset)) if offset & (SIZE - 1) == 0 => Ok((page, offset)),
            _ => Err(HptError::Parameter),
        }
    }
}

/// Copies to a locked page. With it in hand, the source's lock is only tried.
fn copy_page<M: Machine>(
    m: &M,
    page: &Page,
    view: PageView,
    at: HostReal,
    source: &Page,
    offset: u64,
) -> Result<(), HptError> {
    if core::ptr::eq(page, source) {
        m.copy(HostReal(view.host_bits() | offset), at, SIZE);
        return Ok(());
    }
    let seen = source.try_lock().ok_or(HptError::TooHard)?;
    let readable = seen.is_present();
    if readable {
        m.copy(HostReal(seen.host_bits() | offset), at, SIZE);
        source.note_usage(HpteR::R);
    }
    source.unlock(seen);
    if readable { Ok(()) } else { Err(HptError::TooHard) }
}
